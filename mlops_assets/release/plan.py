"""How traffic is shared between versions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_assets.ledger.canonical import Digest

ROUTED, RULE, ASKED = "routed", "rule", "asked"
"""Why a version answered: the weights drew it, a rule sent the request to it, or the client asked for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Requests whose ``input`` is one of ``values`` are answered by ``version``: testers, a region, one customer."""

    input: str
    values: tuple[Any, ...]
    version: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPlan:
    """Percent of entities answered by each model digest (sums to 100, or empty when nothing is live).

    ``mirrors`` are digests that score every request as well, off the request path, without answering it.
    ``features`` is the snapshot of events from which serving features are computed: it moves with the traffic.
    ``champion`` is the version that is trusted, and answers where another fails; every other one is kept apart from it.
    ``rules`` send some entities to a version whatever the weights say, the first that fits; ``rules`` and ``mirrors``
    may name versions without weight.
    """

    weights: Mapping[Digest, int]
    mirrors: tuple[Digest, ...] = ()
    features: Digest | None = None
    champion: Digest | None = None
    rules: tuple[Rule, ...] = ()

    @property
    def versions(self) -> tuple[Digest, ...]:
        """All versions that must be ready for it."""
        named = (*self.weights, *self.mirrors, *(rule.version for rule in self.rules))
        return tuple(dict.fromkeys((*named, self.champion) if self.champion else named))

    def faults(self) -> list[str]:
        """Return what is wrong with it, one sentence each."""
        found = []
        if self.weights and sum(self.weights.values()) != 100:
            found.append(f"weights must sum to 100, found {dict(self.weights)}")
        if any(not 0 <= weight <= 100 for weight in self.weights.values()):
            found.append(f"weights must lie between 0 and 100, found {dict(self.weights)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON value."""
        return {
            "weights": dict(self.weights),
            "mirrors": list(self.mirrors),
            "features": self.features,
            "champion": self.champion,
            "rules": [
                {"input": rule.input, "values": list(rule.values), "version": rule.version} for rule in self.rules
            ],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TrafficPlan":
        """Read back what ``to_json`` wrote."""
        return cls(
            weights=dict(value["weights"]),
            mirrors=tuple(value["mirrors"]),
            features=value["features"],
            champion=value.get("champion"),
            rules=tuple(
                Rule(input=rule["input"], values=tuple(rule["values"]), version=rule["version"])
                for rule in value.get("rules", ())
            ),
        )

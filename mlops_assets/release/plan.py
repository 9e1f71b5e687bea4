"""How traffic is shared between versions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_assets.ledger.canonical import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPlan:
    """Percent of entities answered by each model digest (sums to 100, or empty when nothing is live).

    ``mirrors`` are digests that score every request as well, off the request path, without answering it.
    ``features`` is the snapshot of events from which serving features are computed: it moves with the traffic.
    """

    weights: Mapping[Digest, int]
    mirrors: tuple[Digest, ...] = ()
    features: Digest | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as a JSON value."""
        return {"weights": dict(self.weights), "mirrors": list(self.mirrors), "features": self.features}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TrafficPlan":
        """Read back what ``to_json`` wrote."""
        return cls(weights=dict(value["weights"]), mirrors=tuple(value["mirrors"]), features=value["features"])

"""How a candidate is trained: the function, its parameters, its seed, its split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from mlops_assets.ledger.canonical import Digest, canonical_json, digest_of
from mlops_assets.training.resolve import find_path_fault


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSplit:
    """The last ``golden`` of a dataset, by event time, is the golden set; all that is older is for training.

    With ``renewal="with_data"`` it is cut anew from each snapshot, with ``"by_hand"`` the first one stays until
    somebody renews it (``<product>_renew_golden``), and rows newer than it wait.
    """

    golden: timedelta
    renewal: Literal["with_data", "by_hand"] = "with_data"

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        golden: Any = self.golden
        if not isinstance(golden, timedelta):
            return [f"golden is {golden!r} without unit; write timedelta(days=30) or the like"]
        found = [] if golden > timedelta(0) else [f"golden must be positive, found {golden}"]
        if self.renewal not in {"with_data", "by_hand"}:
            found.append(f"renewal is {self.renewal!r}, must be 'with_data' or 'by_hand'")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """``trainer`` and ``loader`` are import paths, ``package.module:function``.

    ``trainer(frame, *, features, label, params, seed, progress) -> Model`` gets the training rows as a Polars frame
    and calls ``progress(step, metrics)`` as it goes; ``loader(directory) -> Model`` reads what the model saved.
    """

    name: str
    trainer: str
    loader: str
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    timeout: timedelta = timedelta(minutes=30)

    @property
    def digest(self) -> Digest:
        """The digest of all that decides the outcome."""
        return digest_of(self._decisive())

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each, all naming the recipe."""
        found = [] if self.name else ["name is empty"]
        for part, path in (("trainer", self.trainer), ("loader", self.loader)):
            fault = find_path_fault(path)
            found += [f"{part} {fault}"] if fault else []
        found += self._timeout_faults()
        try:
            canonical_json(dict(self.params))
        except (TypeError, ValueError) as error:
            found.append(f"params must be JSON values, because they name the model: {error}")
        return [f"recipe {self.name!r}: {fault}" for fault in found]

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as a JSON value; ``from_json`` reads it back."""
        return {**self._decisive(), "name": self.name, "timeout_seconds": self.timeout.total_seconds()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Recipe":
        """Read back what ``to_json`` wrote."""
        return cls(
            name=value["name"],
            trainer=value["trainer"],
            loader=value["loader"],
            params=dict(value["params"]),
            seed=value["seed"],
            timeout=timedelta(seconds=value["timeout_seconds"]),
        )

    def _decisive(self) -> dict[str, Any]:
        return {"trainer": self.trainer, "loader": self.loader, "params": dict(self.params), "seed": self.seed}

    def _timeout_faults(self) -> list[str]:
        timeout: Any = self.timeout
        if not isinstance(timeout, timedelta):
            return [f"timeout is {timeout!r} without unit; write timedelta(minutes=30) or the like"]
        return [] if timeout > timedelta(0) else [f"timeout must be positive, found {timeout}"]

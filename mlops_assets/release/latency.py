"""How long each version took to answer, as the rollout went on: quantiles with bounds that hold at every look.

It is shown and decides nothing; what must hold is a guardrail (``guardrails.py``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.quantiles import Point, quantile_sequence

LOOKS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySequence:
    """A quantile of one version's latency in seconds: (answers, low, estimate, high), ``None`` where not yet known."""

    version: str
    quantile: float
    points: tuple[Point, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON value."""
        return {"version": self.version, "quantile": self.quantile, "points": [list(point) for point in self.points]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "LatencySequence":
        """Read back what ``to_json`` wrote."""
        points = tuple((n, low, middle, high) for n, low, middle, high in value["points"])
        return cls(version=value["version"], quantile=value["quantile"], points=points)


def latency_sequences(
    answers: pl.DataFrame, quantiles: Sequence[float], alpha: float, *, candidate: Digest, champion: Digest
) -> tuple[LatencySequence, ...]:
    """Return each quantile of both versions' ``answers``, at up to ``LOOKS`` numbers of them; none where none are."""
    found = []
    if "latency_seconds" not in answers.columns:
        return ()
    timed = answers.filter(pl.col("latency_seconds").is_finite())
    for name, version in (("candidate", candidate), ("champion", champion)):
        own = timed.filter(pl.col("version") == version)["latency_seconds"].to_numpy()
        at = np.unique(np.geomspace(1, max(len(own), 1), LOOKS).round().astype(int)).tolist()
        for quantile in quantiles if len(own) else ():
            points = quantile_sequence(own, quantile, alpha, at=at)
            rounded = tuple((n, _rounded(low), round(middle, 6), _rounded(high)) for n, low, middle, high in points)
            found.append(LatencySequence(version=name, quantile=quantile, points=rounded))
    return tuple(found)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)

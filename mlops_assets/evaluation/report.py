"""What an evaluation found: candidate and champion on the same golden rows, with intervals.

Belongs here: the numbers, how they are written and read, and the one-sided bounds a gate asks for. Not here: how they
are computed (``comparison.py``) or what they are good enough for (``gates/``).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from mlops_assets.ledger.canonical import Digest, digest_of

_LOWER_HALF = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4)
LEVELS: tuple[float, ...] = (*_LOWER_HALF, 0.5, *(round(1 - level, 4) for level in reversed(_LOWER_HALF)))
"""The probabilities at which a comparison keeps the quantiles of its studentized bootstrap distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its interval at the report's confidence."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Candidate minus champion, signed so that positive is better whatever the metric's direction.

    ``p_value`` is one-sided, for "the candidate is not better"; ``standard_error`` is of the difference, clustered.
    ``pivots`` are the quantiles at ``LEVELS`` of (bootstrap gain - gain) / bootstrap standard error, from which a gate
    takes the bound at its own alpha; without them the normal distribution stands in.
    """

    gain: float
    low: float
    high: float
    p_value: float
    standard_error: float
    pivots: tuple[float, ...] = ()

    def lower(self, alpha: float) -> float:
        """Return the one-sided lower bound: the true gain lies below it with probability ``alpha`` at most."""
        return self.gain - self._pivot(1 - alpha) * self.standard_error

    def upper(self, alpha: float) -> float:
        """Return the one-sided upper bound: the true gain lies above it with probability ``alpha`` at most."""
        return self.gain - self._pivot(alpha) * self.standard_error

    def p_beyond(self, gain: float) -> float:
        """Return the one-sided p-value of "the true gain is ``gain`` at most": below alpha where ``lower`` is above."""
        if not self.standard_error:
            return 0.0 if self.gain > gain else 1.0
        reached = (self.gain - gain) / self.standard_error
        if not self.pivots:
            return float(ndtr(-reached))
        scores = ndtri(np.array(LEVELS))
        if reached > self.pivots[-1] or reached < self.pivots[0]:
            outermost = self.pivots[-1 if reached > 0 else 0]
            return float(ndtr(-abs(scores[-1]) * reached / abs(outermost)) if outermost else reached < 0)
        return float(ndtr(-np.interp(reached, self.pivots, scores)))

    def _pivot(self, probability: float) -> float:
        """Return the pivot's quantile, read between ``LEVELS`` on the scale where a normal pivot is a straight line."""
        score = float(ndtri(probability))
        if not self.pivots:
            return score
        scores = ndtri(np.array(LEVELS))
        if abs(score) > scores[-1]:  # beyond the grid: the outermost pivot, stretched as a normal tail would be
            return score / float(scores[-1]) * abs(self.pivots[-1] if score > 0 else self.pivots[0])
        return float(np.interp(score, scores, self.pivots))


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """All a gate may look at. Metrics map a name to an estimate; a metric that could not be computed is absent.

    ``rows`` and ``clusters`` are the golden set's size: ``clusters`` counts the entities whose rows belong together.
    ``measured`` has what gates had measured, as JSON values by the gate's name.
    """

    product: str
    candidate: Digest
    golden: Digest
    rows: int
    clusters: int
    confidence: float = 0.95
    champion: Digest | None = None
    candidate_metrics: Mapping[str, Estimate] = field(default_factory=dict)
    champion_metrics: Mapping[str, Estimate] = field(default_factory=dict)
    comparisons: Mapping[str, Comparison] = field(default_factory=dict)
    measured: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def digest(self) -> Digest:
        """The digest of ``to_json()``: what a judgement, a release and the ledger point at."""
        return digest_of(self.to_json())

    def gain(self, metric: str) -> float | None:
        """Return how much better the candidate is than the champion, or ``None`` when either lacks the metric."""
        found = self.comparisons.get(metric)
        return None if found is None else found.gain

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON value; ``from_json`` reads it back."""
        value = asdict(self)
        for comparison in value["comparisons"].values():
            comparison["pivots"] = list(comparison["pivots"])
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "EvaluationReport":
        """Read back what ``to_json`` wrote; ``TypeError`` or ``KeyError`` on anything else."""
        facts = dict(value)
        for name in ("candidate_metrics", "champion_metrics"):
            facts[name] = {metric: Estimate(**numbers) for metric, numbers in value[name].items()}
        facts["comparisons"] = {
            metric: Comparison(**{**numbers, "pivots": tuple(numbers["pivots"])})
            for metric, numbers in value["comparisons"].items()
        }
        return cls(**facts)

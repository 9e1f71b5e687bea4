"""How good a model is and how much better than another, on the same rows, with intervals that respect clusters.

Rows of one entity are not independent, so entities are what is resampled. Both models' scores ride on the same weights:
the comparison is paired. The seed is a digest of the inputs, so the same inputs give the same report.

Belongs here: estimates and comparisons. Not here: what a metric is (``metrics.py``), how resampling works
(``bootstrap.py``).
"""

import hashlib

import numpy as np
import numpy.typing as npt

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.bootstrap import Bootstrapped, ClusterStatistic, bootstrap
from mlops_assets.evaluation.metrics import Clusters, Floats, Metric
from mlops_assets.evaluation.report import LEVELS, Comparison, Estimate

RESAMPLES = 9_999
"""With 9,999 every alpha of four decimals is an exact order statistic, and the smallest p-value is 0.0001."""


def estimate(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    clusters: npt.ArrayLike,
    metric: Metric,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int | None = None,
) -> Estimate | None:
    """Return ``metric`` with its two-sided interval, or ``None`` where it is undefined or has fewer than two clusters.

    ``scores``, ``labels`` and ``clusters`` hold one value per row; ``EvaluationError`` on NaN or unequal lengths.
    """
    (first,), truth, groups = _checked([scores], labels, clusters)
    table = _contributions(metric, first, truth, groups)
    if table is None:
        return None
    statistic = ClusterStatistic(table, (1.0,), metric.root)
    found = bootstrap(statistic, resamples=resamples, seed=_seed(metric, [first], truth, groups, seed))
    low, high = _interval(found, (1 - confidence) / 2)
    if not found.standard_error:
        low, high = _interval_without_spread(found, metric, (1 - confidence) / 2)
    low, high = max(low, metric.lowest), min(high, metric.highest)
    return Estimate(value=_rounded(found.value), low=_rounded(low), high=_rounded(high))


def compare(
    candidate_scores: npt.ArrayLike,
    champion_scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    clusters: npt.ArrayLike,
    metric: Metric,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int | None = None,
) -> Comparison | None:
    """Return how much better the candidate is than the champion, or ``None`` where ``estimate`` would be ``None``.

    Exchanging the models changes the sign of the gain and mirrors its interval. ``EvaluationError`` as ``estimate``.
    """
    (first, second), truth, groups = _checked([candidate_scores, champion_scores], labels, clusters)
    ours, theirs = (_contributions(metric, scores, truth, groups) for scores in (first, second))
    if ours is None or theirs is None:
        return None
    statistic = _difference(ours, theirs, metric)
    found = bootstrap(statistic, resamples=resamples, seed=_seed(metric, [first, second], truth, groups, seed))
    low, high = _interval(found, (1 - confidence) / 2)
    return Comparison(
        gain=_rounded(found.value),
        low=_rounded(low),
        high=_rounded(high),
        p_value=_rounded(found.p_value()),
        standard_error=_rounded(found.standard_error),
        pivots=tuple(_rounded(found.pivot(level)) for level in LEVELS),
    )


def _difference(ours: Floats, theirs: Floats, metric: Metric) -> ClusterStatistic:
    """Return the gain as a statistic; over equal denominators a difference of ratios is the ratio of differences."""
    sign = 1.0 if metric.higher_is_better else -1.0
    if not metric.root and np.array_equal(ours[:, 1], theirs[:, 1]):
        return ClusterStatistic(np.column_stack([ours[:, 0] - theirs[:, 0], ours[:, 1]]), (sign,))
    return ClusterStatistic(np.column_stack([ours, theirs]), (sign, -sign), metric.root)


def _contributions(metric: Metric, scores: Floats, labels: Floats, clusters: Clusters) -> Floats | None:
    """Return the contributions of the clusters that have any, or ``None`` with fewer than two of them."""
    table = metric.contributions(scores, labels, clusters)
    if table is None:
        return None
    table = table[table[:, 1] > 0]
    return table if len(table) > 1 else None


def _interval(found: Bootstrapped, tail: float) -> tuple[float, float]:
    error = found.standard_error
    return found.value - found.pivot(1 - tail) * error, found.value - found.pivot(tail) * error


def _interval_without_spread(found: Bootstrapped, metric: Metric, tail: float) -> tuple[float, float]:
    """Return an interval when all clusters agree, which is no proof that the next one would.

    If clusters all equal a bound of the metric, a share of at least ``tail ** (1 / n)`` of all clusters does so, or
    seeing ``n`` of them in a row had a probability below ``tail`` (the rule of three, made exact).
    """
    doubt = (1 - tail ** (1 / found.clusters)) * (metric.highest - metric.lowest)
    if not np.isfinite(doubt):
        return found.value, found.value
    return found.value - doubt, found.value + doubt


def _checked(
    scores: list[npt.ArrayLike], labels: npt.ArrayLike, clusters: npt.ArrayLike
) -> tuple[list[Floats], Floats, Clusters]:
    """Return the inputs as arrays, or raise ``EvaluationError`` saying what is wrong with them."""
    truth = np.asarray(labels, dtype=np.float64)
    found = [np.asarray(values, dtype=np.float64) for values in scores]
    groups = np.asarray(clusters)
    for name, values in (*(("scores", values) for values in found), ("labels", truth), ("clusters", groups)):
        if values.shape != truth.shape or values.ndim != 1:
            raise EvaluationError(
                f"{name} have the shape {values.shape}, labels {truth.shape}: needs one value per row"
            )
    for name, values in (*(("scores", values) for values in found), ("labels", truth)):
        broken = int(np.count_nonzero(~np.isfinite(values)))
        if broken:
            raise EvaluationError(f"{broken} of {len(values)} {name} are NaN or infinite")
    if not len(truth):
        raise EvaluationError("there are no rows to score")
    return found, truth, Clusters.of(groups)


def _seed(metric: Metric, scores: list[Floats], labels: Floats, clusters: Clusters, seed: int | None) -> int:
    """Return the given seed, or one made of the inputs, the same whichever of two models comes first."""
    if seed is not None:
        return seed
    parts = sorted(hashlib.sha256(np.ascontiguousarray(values).tobytes()).digest() for values in scores)
    parts += [np.ascontiguousarray(labels).tobytes(), clusters.codes.tobytes(), metric.name.encode()]
    return int.from_bytes(hashlib.sha256(b"".join(parts)).digest()[:16], "big")


def _rounded(value: float) -> float:
    """Return ``value`` to ten significant digits: sums differ in the last bits between machines, digests must not."""
    return float(f"{value:.10g}")

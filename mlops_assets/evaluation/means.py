"""Means and shares of rows with bounds that respect clusters.

The bootstrap knows nothing of what it has not seen: with a handful of hits its studentized bounds are useless. So the
share of a rare event is bounded by its clusters: how many have a hit at all is binomial (Clopper and Pearson,
Biometrika 26, 1934), and so many clusters hold at most what as many of the largest do.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from mlops_assets.evaluation.comparison import RESAMPLES, estimate
from mlops_assets.evaluation.metrics import Clusters, Floats, Metric
from mlops_assets.evaluation.report import Estimate

RARE = 15
"""Clusters with a hit: below that, the binomial speaks. By simulation, the bootstrap keeps its promise from here on."""


def bounded_mean(
    values: npt.ArrayLike,
    clusters: npt.ArrayLike,
    *,
    alpha: float,
    lowest: float = -np.inf,
    highest: float = np.inf,
    resamples: int = RESAMPLES,
) -> Estimate | None:
    """Return the mean of ``values`` with bounds that each err at rate ``alpha`` at most.

    ``lowest`` and ``highest`` are what a value can be. ``None`` with fewer than two clusters.
    """
    found = np.asarray(values, dtype=np.float64)
    metric = Metric(name="mean", higher_is_better=True, contributions=_totals, lowest=lowest, highest=highest)
    return estimate(found, found, clusters, metric, confidence=1 - 2 * alpha, resamples=resamples)


def bounded_share(hits: npt.ArrayLike, clusters: npt.ArrayLike, *, alpha: float) -> Estimate | None:
    """Return the share of rows that are hits, with bounds that each err at rate ``alpha`` at most.

    ``None`` with fewer than two clusters.
    """
    found, of = np.asarray(hits, dtype=bool), Clusters.of(clusters)
    if of.count < 2:
        return None
    with_hit = int((of.total(found) > 0).sum())
    with_miss = int((of.total(~found) > 0).sum())
    if min(with_hit, with_miss) >= RARE:
        return bounded_mean(found, clusters, alpha=alpha, lowest=0.0, highest=1.0)
    if with_miss < with_hit:
        mirrored = bounded_share(~found, clusters, alpha=alpha)
        return mirrored and replace(mirrored, value=1 - mirrored.value, low=1 - mirrored.high, high=1 - mirrored.low)
    sizes, value = np.sort(of.total(np.ones(len(found))))[::-1], float(found.mean())
    most = float(betaincinv(with_hit + 1, of.count - with_hit, 1 - alpha)) if with_hit < of.count else 1.0
    least = float(betaincinv(with_hit, of.count - with_hit + 1, alpha)) if with_hit else 0.0
    high = float(sizes[: int(np.ceil(most * of.count))].sum() / len(found))
    low = least * of.count / len(found)  # a cluster with a hit has one at least
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def _totals(scores: Floats, _: Floats, clusters: Clusters) -> Floats:
    return np.column_stack([clusters.total(scores), clusters.total(np.ones(len(scores)))])

"""Bounds on a quantile that hold at every look, for latency.

Howard and Ramdas (2022), "Sequential estimation of quantiles with applications to A/B testing and best-arm
identification", Bernoulli 28(3), theorem 1 with its beta-binomial mixture: how many of ``n`` observations lie at or
below the quantile is a count of a known chance, so the mixture bounds it at all times at once, and order statistics
bound the quantile. Nothing is assumed of the distribution; ties are fine. Observations must be independent and alike.
"""

import math
from collections.abc import Sequence

import numpy as np

from mlops_assets.release.betting import Floats
from mlops_assets.release.sample_ratio import Counts, log_mixture

Point = tuple[int, float | None, float, float | None]


def strength_for(trials: int, alpha: float) -> float:
    """Return the weight of the mixture whose bounds are nearly the tightest after ``trials`` observations."""
    evidence = 2 * math.log(1 / alpha)
    return max(trials / (evidence + math.log(1 + evidence)) - 1, 1.0)


def count_bounds(trials: Counts, chance: float, alpha: float, strength: float) -> tuple[Counts, Counts]:
    """Return the fewest and the most hits among ``trials`` that do not speak against ``chance``, at all times at once.

    The e-value is a mixture of exponentials in the count, so it is convex, and each side is searched by halving.
    """
    middle = np.floor(trials * chance).astype(int)
    fewest = _fewest_kept(middle, trials, chance, alpha, strength)
    return fewest, trials - _fewest_kept(trials - middle, trials, 1 - chance, alpha, strength)


def _fewest_kept(kept: Counts, trials: Counts, chance: float, alpha: float, strength: float) -> Counts:
    """Return the smallest count that is not ruled out; the expected one, ``kept``, never is."""
    low, high = np.zeros_like(kept), kept
    while (low < high).any():
        middle = (low + high) // 2
        out = log_mixture(middle, trials, chance, strength) >= math.log(1 / alpha)
        low, high = np.where(out, np.minimum(middle + 1, high), low), np.where(out, high, middle)
    return low


def quantile_sequence(
    values: Floats, quantile: float, alpha: float, *, at: Sequence[int] | None = None, tuned_for: int = 1000
) -> list[Point]:
    """Return (n, low, estimate, high) after the first ``n`` of ``values``, for each ``n`` of ``at``; by default each.

    All bounds hold together with probability ``1 - alpha``; one that is not known yet is ``None``.
    """
    counts = np.asarray(at if at is not None else range(1, len(values) + 1), dtype=int)
    fewest, most = count_bounds(counts, quantile, alpha, strength_for(tuned_for, alpha))
    points: list[Point] = []
    for n, few, many in zip(counts, fewest, most, strict=True):
        places = [max(few - 1, 0), max(math.ceil(quantile * n) - 1, 0), min(many, n - 1)]
        low, estimate, high = (float(x) for x in np.partition(values[:n], sorted(set(places)))[places])
        points.append((int(n), low if few > 0 else None, estimate, high if many < n else None))
    return points

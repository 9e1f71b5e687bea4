"""Whether one column of a window is distributed as in the reference, and by how much it moved.

Belongs here: the tests of one column. Not here: which columns to test, the correction for testing many, and what
counts as drift (``drift.py``).

Two effects are used because neither depends on how many rows each side has: the Kolmogorov–Smirnov distance (the
largest difference of the two distribution functions) and total variation (the share of rows that would have to change
level). Cramér's V is not: with a reference a hundred times the window it stays near zero whatever happened.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

GRID = 48
DRAWS = 10_000
MIN_EXPECTED = 5.0
EXACT_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One test of one column: its statistic, its p-value for "nothing moved", and how far it moved (0 to 1)."""

    test: str
    statistic: float
    p_value: float
    effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One side of a comparison: the values without nulls, and the entity code of each row (``None``: all differ)."""

    values: pl.Series
    clusters: Codes | None = None

    @property
    def effective_clusters(self) -> float:
        """Return Kish's effective number of entities: equal shares count whole, a dominating entity counts for one."""
        if self.clusters is None:
            return float(len(self.values))
        sizes = np.bincount(self.clusters).astype(np.float64)
        return float(sizes.sum() ** 2 / np.square(sizes).sum()) if len(self.clusters) else 0.0


def numeric_shift(reference: Sample, current: Sample) -> Shift:
    """Return the two-sample Kolmogorov–Smirnov test; with clusters, its cluster-robust form."""
    from scipy import stats  # here, since it takes seconds that a code location's load need not spend

    left, right = (side.values.to_numpy().astype(np.float64) for side in (reference, current))
    method = "exact" if len(left) * len(right) <= EXACT_LIMIT else "asymp"
    found = stats.ks_2samp(left, right, method=method if reference.clusters is None else "asymp")
    distance = float(found.statistic)
    if reference.clusters is None or current.clusters is None:
        return Shift(test="ks", statistic=distance, p_value=float(found.pvalue), effect=distance)
    grid = _grid(left, right)
    bins = (np.searchsorted(grid, left), np.searchsorted(grid, right))
    process = _ClusteredDifference.of(reference.clusters, current.clusters, *bins, levels=len(grid) + 1, cumulate=True)
    p_value = process.p_value(lambda difference: np.abs(difference).max(axis=-1))
    return Shift(test="ks_clustered", statistic=distance, p_value=p_value, effect=distance)


def categorical_shift(reference: Sample, current: Sample) -> Shift:
    """Return Pearson's chi-square test over levels, rare ones pooled; with clusters, its cluster-robust form."""
    from scipy import stats  # here, since it takes seconds that a code location's load need not spend

    left, right, levels = _pooled_codes(reference.values, current.values)
    clustered = reference.clusters is not None and current.clusters is not None
    test = "chi2_clustered" if clustered else "chi2"
    table = np.stack([np.bincount(codes, minlength=levels) for codes in (left, right)]).astype(np.float64)
    if levels < 2:
        return Shift(test=test, statistic=0.0, p_value=1.0, effect=0.0)
    shares = table / table.sum(axis=1, keepdims=True)
    effect = float(np.abs(shares[0] - shares[1]).sum() / 2)
    statistic, p_value = stats.chi2_contingency(table, correction=False)[:2]
    if reference.clusters is not None and current.clusters is not None:
        pooled = table.sum(axis=0) / table.sum()
        process = _ClusteredDifference.of(
            reference.clusters, current.clusters, left, right, levels=levels, cumulate=False
        )
        p_value = process.p_value(lambda difference: (np.square(difference) / pooled).sum(axis=-1))
    return Shift(test=test, statistic=float(statistic), p_value=float(p_value), effect=effect)


def null_shift(reference: Sample, current: Sample) -> Shift:
    """Return the test of the share of nulls, from samples whose values say whether the row is null."""
    found = categorical_shift(reference, current)
    test = found.test.replace("chi2", "null_share")
    return Shift(test=test, statistic=found.statistic, p_value=found.p_value, effect=found.effect)


def cluster_codes(reference: pl.Series, current: pl.Series) -> tuple[Codes, Codes]:
    """Return one integer per row on each side; equal entities have equal codes, on both sides."""
    both = pl.concat([reference.cast(pl.String), current.cast(pl.String)])
    codes = both.rank("dense").fill_null(0).cast(pl.Int64).to_numpy()
    return codes[: len(reference)], codes[len(reference) :]


def _grid(left: Floats, right: Floats) -> Floats:
    """Return the cut points at which the distribution functions are compared: quantiles of both sides."""
    steps = np.arange(1, GRID // 2 + 1) / (GRID // 2 + 1)
    points = [np.asarray(np.quantile(side, steps, method="lower"), dtype=np.float64) for side in (left, right)]
    cuts: Floats = np.unique(np.concatenate(points))
    return cuts


def _pooled_codes(reference: pl.Series, current: pl.Series) -> tuple[Codes, Codes, int]:
    """Return level codes of both sides and their number; levels expected too rarely on a side become one level."""
    both = pl.concat([reference.cast(pl.String), current.cast(pl.String)])
    codes = (both.rank("dense") - 1).cast(pl.Int64).to_numpy()
    counts = np.bincount(codes)
    needed = MIN_EXPECTED * len(both) / max(1, min(len(reference), len(current)))
    order = np.argsort(-counts, kind="stable")
    kept = int((counts >= needed).sum())
    if kept < len(counts) and counts[order[kept:]].sum() < needed:
        kept = max(0, kept - 1)
    recode = np.full(len(counts), kept, dtype=np.int64)
    recode[order[:kept]] = np.arange(kept)
    codes = recode[codes]
    return codes[: len(reference)], codes[len(reference) :], kept + (1 if kept < len(counts) else 0)


@dataclass(frozen=True, slots=True)
class _ClusteredDifference:
    """Difference of two empirical distributions and the covariance that clusters give it when nothing moved.

    Rows of one entity depend on each other, so the entity is the unit: each one's influence on the difference of the
    two ratio estimates is summed, and an entity seen on both sides counts in both. The null distribution of any
    functional of the difference is then drawn from the Gaussian with the covariance of these influences (the
    multiplier central limit theorem; van der Vaart and Wellner 1996, chapter 2.9). For the quadratic form this is the
    chi-square with the correction of Rao and Scott (1984). Draws are widened to a multivariate t with as many degrees
    of freedom as there are effective entities on the smaller side, less one, because few clusters understate their
    variance. The generator is seeded: the same data give the same p-value.
    """

    observed: Floats
    covariance: Floats
    freedom: float

    @classmethod
    def of(
        cls, left_clusters: Codes, right_clusters: Codes, left: Codes, right: Codes, *, levels: int, cumulate: bool
    ) -> "_ClusteredDifference":
        clusters = int(max(left_clusters.max(), right_clusters.max())) + 1
        sides = [
            _influence(codes, bins, clusters=clusters, levels=levels, cumulate=cumulate)
            for codes, bins in ((left_clusters, left), (right_clusters, right))
        ]
        influence = sides[0][1] - sides[1][1]
        freedom = min(side[2] for side in sides) - 1.0
        return cls(sides[0][0] - sides[1][0], influence.T @ influence, freedom)

    def p_value(self, statistic: Callable[[Floats], Floats]) -> float:
        """Return the share of draws whose statistic is at least the observed one."""
        values, vectors = np.linalg.eigh(self.covariance)
        keep = values > values.max() * 1e-10
        if not keep.any():
            return 1.0 if np.allclose(self.observed, 0.0) else 1.0 / (DRAWS + 1)
        rng = np.random.default_rng(0)
        root = vectors[:, keep] * np.sqrt(values[keep])
        scale = np.sqrt(self.freedom / rng.chisquare(self.freedom, size=(DRAWS, 1)))
        drawn = statistic(scale * (rng.standard_normal((DRAWS, root.shape[1])) @ root.T))
        return float((1 + (drawn >= statistic(self.observed) * (1 - 1e-12)).sum()) / (DRAWS + 1))


def _influence(
    clusters_of: Codes, bins: Codes, *, clusters: int, levels: int, cumulate: bool
) -> tuple[Floats, Floats, float]:
    """Return the estimated shares, each cluster's influence on them, and the effective number of clusters."""
    counts = np.bincount(clusters_of * levels + bins, minlength=clusters * levels).reshape(clusters, levels)
    sizes = counts.sum(axis=1).astype(np.float64)
    sums = (np.cumsum(counts, axis=1)[:, :-1] if cumulate else counts).astype(np.float64)
    total = sizes.sum()
    shares = sums.sum(axis=0) / total
    effective = float(total**2 / np.square(sizes).sum())
    # What leaving the cluster out would change (the jackknife), which, unlike the plain residual, does not flatter
    # an estimate that one large cluster pulls towards itself.
    influence = (sums - np.outer(sizes, shares)) / np.maximum(total - sizes, 1.0)[:, None]
    return shares, influence, effective

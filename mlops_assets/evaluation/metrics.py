"""Metrics, each written as what every cluster contributes, so that clusters can be resampled without scoring again.

Every metric is ``g(sum of numerators / sum of denominators)`` over clusters (the entities whose rows belong together),
with ``g`` the identity or the square root. A mean over rows contributes its sum and its count; a value per entity
contributes that value and 1; the area under the ROC curve, a statistic of pairs, contributes pseudo-values.

Belongs here: what a metric is and which ship with the library. Not here: intervals and comparisons.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.errors import EvaluationError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Which cluster each row belongs to: ``codes`` are ``0 … count - 1``, one per row, every code used."""

    codes: npt.NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, values: npt.ArrayLike) -> "Clusters":
        """Return the clusters that ``values``, one per row and all of one type, stand for."""
        kinds, codes = np.unique(np.asarray(values), return_inverse=True)
        return cls(codes.reshape(-1).astype(np.int64), len(kinds))

    def total(self, values: npt.ArrayLike, where: npt.NDArray[np.bool_] | None = None) -> Floats:
        """Return the sum of ``values`` (one per row, or per row that ``where`` selects) in each cluster."""
        codes = self.codes if where is None else self.codes[where]
        return _bincount(codes, np.asarray(values, dtype=np.float64), self.count)


Contributions = Callable[[Floats, Floats, Clusters], Floats | None]
"""``(scores, labels, clusters)`` → array [clusters, 2] of numerators and denominators, or ``None`` where undefined.

A cluster that has nothing to say has denominator 0 and is left out. Raises ``EvaluationError`` on impossible values.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A number that says how good scores are. ``root`` takes the square root of the ratio of sums.

    ``lowest`` and ``highest`` bound what the metric can be; intervals never leave them.
    """

    name: str
    higher_is_better: bool
    contributions: Contributions
    root: bool = False
    lowest: float = -np.inf
    highest: float = np.inf

    @property
    def is_row_mean(self) -> bool:
        """Whether it is a mean over rows, so that each row has a value of its own."""
        return isinstance(self.contributions, partial) and self.contributions.func is _row_mean and not self.root

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        if not self.name.isidentifier():
            found.append(f"metric {self.name!r}: name must be letters, digits and underscores, no digit first")
        if not self.lowest < self.highest:
            found.append(f"metric {self.name!r}: lowest is {self.lowest}, must be below highest, {self.highest}")
        return found

    def value(
        self, scores: npt.ArrayLike, labels: npt.ArrayLike, clusters: npt.ArrayLike | None = None
    ) -> float | None:
        """Return the metric, or ``None`` where it is undefined (one class, no rows); without clusters a row is one."""
        scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.float64)
        found = Clusters.of(np.arange(len(labels)) if clusters is None else clusters)
        table = self.contributions(scores, labels, found) if len(labels) else None
        if table is None or not table[:, 1].sum():
            return None
        ratio = table[:, 0].sum() / table[:, 1].sum()
        return float(np.sqrt(ratio) if self.root else ratio)


def brier() -> Metric:
    """Return the Brier score: the mean squared difference of probability and outcome, from 0 (best) to 1."""
    squared = partial(_row_mean, _squared_error, probabilities=True)
    return Metric(name="brier", higher_is_better=False, contributions=squared, lowest=0.0, highest=1.0)


def log_loss() -> Metric:
    """Return the mean negative log-likelihood; a probability of 0 or 1 counts as one step of a float away from it."""
    loss = partial(_row_mean, _negative_log_likelihood, probabilities=True)
    return Metric(name="log_loss", higher_is_better=False, contributions=loss, lowest=0.0)


def accuracy(threshold: float = 0.5) -> Metric:
    """Return the share of rows whose score is on the label's side of ``threshold``; a score on it counts as 1."""
    right = partial(_row_mean, partial(_is_right, threshold=threshold), binary=True)
    return Metric(name="accuracy", higher_is_better=True, contributions=right, lowest=0.0, highest=1.0)


def rmse() -> Metric:
    """Return the root of the mean squared error."""
    squared = partial(_row_mean, _squared_error)
    return Metric(name="rmse", higher_is_better=False, contributions=squared, root=True, lowest=0.0)


def mean_absolute_error() -> Metric:
    """Return the mean absolute error."""
    return Metric(
        name="mean_absolute_error",
        higher_is_better=False,
        contributions=partial(_row_mean, _absolute_error),
        lowest=0.0,
    )


def pinball(quantile: float) -> Metric:
    """Return the mean pinball loss of scores that estimate the ``quantile`` of the label, 0 < ``quantile`` < 1.

    After Koenker and Bassett, "Regression Quantiles", Econometrica 46 (1978).
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile is {quantile}, must lie between 0 and 1")
    return Metric(
        name=f"pinball_{quantile * 100:g}".replace(".", "_"),
        higher_is_better=False,
        contributions=partial(_row_mean, partial(_tilted_error, quantile=quantile)),
        lowest=0.0,
    )


def expected_cost(
    *,
    false_positive: float,
    false_negative: float,
    true_positive: float = 0.0,
    true_negative: float = 0.0,
    threshold: float = 0.5,
) -> Metric:
    """Return the mean cost of a row when a score of at least ``threshold`` counts as 1; gains are negative costs."""
    costs = ((true_negative, false_positive), (false_negative, true_positive))
    found = np.asarray(costs, dtype=np.float64)
    if not np.isfinite(found).all() or not np.isfinite(threshold):
        raise ValueError(f"costs and threshold must be finite, found {costs} and {threshold}")
    if false_positive <= true_negative or false_negative <= true_positive:
        raise ValueError(f"a mistake must cost more than being right, found {costs}")
    cost = partial(_row_mean, partial(_cost, costs=found, threshold=threshold), binary=True)
    return Metric(
        name="expected_cost",
        higher_is_better=False,
        contributions=cost,
        lowest=float(found.min()),
        highest=float(found.max()),
    )


def roc_auc() -> Metric:
    """Return the area under the ROC curve, ties counted half; undefined with one class.

    A cluster's contribution is its jackknife pseudo-value, the area's change when the cluster leaves: to first order
    the structural components of Obuchowski, "Nonparametric analysis of clustered ROC curve data", Biometrics 53
    (1997), the clustered form of DeLong et al. (1988), and slightly wider where few clusters hold most pairs.
    """
    return Metric(name="roc_auc", higher_is_better=True, contributions=_auc_by_cluster, lowest=0.0, highest=1.0)


def ndcg_at(k: int) -> Metric:
    """Return normalised discounted cumulative gain at ``k``, averaged over the clusters that hold two labels or more.

    Equal scores share their discounts evenly (McSherry and Najork 2008), so the order of rows never counts.
    """
    ranked = partial(_ndcg_by_cluster, k=k)
    return Metric(name=f"ndcg_at_{k}", higher_is_better=True, contributions=ranked, lowest=0.0, highest=1.0)


def _row_mean(
    loss: Callable[[Floats, Floats], Any],
    scores: Floats,
    labels: Floats,
    clusters: Clusters,
    *,
    probabilities: bool = False,
    binary: bool = False,
) -> Floats:
    """Return the sum of ``loss`` and the count of rows in each cluster."""
    if probabilities or binary:
        require_binary(labels)
    outside = int(np.count_nonzero((scores < 0) | (scores > 1))) if probabilities else 0
    if outside:
        raise EvaluationError(f"{outside} of {len(scores)} scores are no probabilities: they lie outside 0 … 1")
    return np.column_stack([clusters.total(loss(scores, labels)), clusters.total(np.ones(len(scores)))])


def _squared_error(scores: Floats, labels: Floats) -> Floats:
    return np.asarray(np.square(scores - labels))


def _absolute_error(scores: Floats, labels: Floats) -> Floats:
    return np.asarray(np.abs(scores - labels))


def _tilted_error(scores: Floats, labels: Floats, *, quantile: float) -> Floats:
    short = labels - scores
    return np.asarray(np.maximum(quantile * short, (quantile - 1) * short))


def _cost(scores: Floats, labels: Floats, *, costs: Floats, threshold: float) -> Floats:
    return np.asarray(costs[(labels > 0).astype(np.int64), (scores >= threshold).astype(np.int64)])


def _negative_log_likelihood(scores: Floats, labels: Floats) -> Floats:
    step = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(np.where(labels > 0, scores, 1 - scores), step, 1 - step)))


def _is_right(scores: Floats, labels: Floats, *, threshold: float) -> npt.NDArray[np.bool_]:
    return np.asarray((scores >= threshold) == (labels > 0))


def require_binary(labels: Floats) -> None:
    """Raise ``EvaluationError`` for labels other than 0 and 1."""
    if not np.isin(labels, (0.0, 1.0)).all():
        strange = np.setdiff1d(labels, (0.0, 1.0))[:3].tolist()
        raise EvaluationError(f"labels must be 0 or 1 for this metric, found {strange}")


def _mean_ranks(values: Floats) -> Floats:
    return pl.Series(values).rank("average").to_numpy()


def _auc_by_cluster(scores: Floats, labels: Floats, clusters: Clusters) -> Floats | None:
    require_binary(labels)
    positive = labels > 0
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    ranks = _mean_ranks(scores)
    wins = (ranks[positive] - _mean_ranks(scores[positive])) / negatives
    losses = 1 - (ranks[~positive] - _mean_ranks(scores[~positive])) / positives
    area = float(wins.mean())
    of_positives = clusters.total(wins, positive) * negatives
    of_negatives = clusters.total(losses, ~positive) * positives
    left = area * positives * negatives - of_positives - of_negatives + _wins_within(scores, positive, clusters)
    pairs = (positives - clusters.total(positive)) * (negatives - clusters.total(~positive))
    without = np.divide(left, pairs, out=np.full(clusters.count, area), where=pairs > 0)
    pseudo = area + (clusters.count - 1) * (without.mean() - without)
    return np.column_stack([pseudo, np.ones(clusters.count)])


def _wins_within(scores: Floats, positive: npt.NDArray[np.bool_], clusters: Clusters) -> Floats:
    """Return, for each cluster, the pairs of its own rows where the positive scores higher; ties count half."""
    order = np.lexsort((positive, scores, clusters.codes))
    codes, is_positive = clusters.codes[order], positive[order]
    seen = np.cumsum(~is_positive)  # negatives up to and with this row; of equal scores, negatives come first
    before = seen - clusters.total(~positive).cumsum()[codes] + clusters.total(~positive)[codes]
    key = np.append(True, (codes[1:] != codes[:-1]) | (np.diff(scores[order]) != 0))
    tied = np.bincount(np.cumsum(key) - 1, ~is_positive)[np.cumsum(key) - 1]
    return _bincount(codes, np.where(is_positive, before - tied / 2, 0.0), clusters.count)


def _ndcg_by_cluster(scores: Floats, labels: Floats, clusters: Clusters, *, k: int) -> Floats:
    if (labels < 0).any():
        raise EvaluationError(f"{int((labels < 0).sum())} labels are negative; a gain at a rank must be 0 or more")
    order = np.lexsort((-scores, clusters.codes))
    gained = _discounted(labels[order], scores[order], clusters.codes[order], clusters.count, k)
    best = np.lexsort((-labels, clusters.codes))
    ideal = _discounted(labels[best], labels[best], clusters.codes[best], clusters.count, k)
    has_two = np.maximum.reduceat(labels[best], starts_of(clusters.codes[best])) > np.minimum.reduceat(
        labels[best], starts_of(clusters.codes[best])
    )
    share = np.divide(gained, ideal, out=np.zeros(clusters.count), where=has_two)
    return np.column_stack([share, has_two.astype(np.float64)])


def _discounted(gains: Floats, keys: Floats, codes: npt.NDArray[np.int64], count: int, k: int) -> Floats:
    """Return each cluster's discounted gain; rows come sorted by cluster, then by key, and equal keys share alike."""
    starts = starts_of(codes)
    rank = np.arange(len(codes)) - np.repeat(starts, np.diff(np.append(starts, len(codes))))
    discount = np.where(rank < k, 1 / np.log2(rank + 2.0), 0.0)
    is_new = np.ones(len(codes), dtype=bool)
    is_new[1:] = (codes[1:] != codes[:-1]) | (keys[1:] != keys[:-1])
    tie = np.cumsum(is_new) - 1
    shared = np.bincount(tie, discount) / np.bincount(tie)
    return _bincount(codes, gains * shared[tie], count)


def starts_of(codes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return where each cluster begins among sorted codes."""
    return np.flatnonzero(is_new_key(codes))


def is_new_key(keys: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return where a value differs from the one before it; the first does."""
    return np.append(np.ones(min(len(keys), 1), bool), keys[1:] != keys[:-1])


def _bincount(codes: npt.NDArray[np.int64], weights: Floats, count: int) -> Floats:
    return np.bincount(codes, weights, minlength=count).astype(np.float64)

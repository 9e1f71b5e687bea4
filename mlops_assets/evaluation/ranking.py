"""Metrics of rankings beside the area under the ROC curve: average precision, over all rows and within entities.

Belongs here: statistics of the order of scores. Not here: what a metric is, and means over rows (``metrics.py``).
"""

from functools import partial

import numpy as np

from mlops_assets.evaluation.metrics import Clusters, Floats, Metric, is_new_key, require_binary, starts_of


def average_precision() -> Metric:
    """Return average precision, the area under the precision-recall curve as steps; undefined without a positive.

    Rows of equal score enter together, as in scikit-learn. A cluster's contribution is its infinitesimal jackknife
    pseudo-value: the derivative of the area by the weight of its rows (Efron, "The Jackknife, the Bootstrap and Other
    Resampling Plans", SIAM 1982, ch. 6).
    """
    return Metric(
        name="average_precision",
        higher_is_better=True,
        contributions=_average_precision_by_cluster,
        lowest=0.0,
        highest=1.0,
    )


def map_at(k: int) -> Metric:
    """Return mean average precision at ``k`` over the clusters that hold a positive.

    A cluster's value is the mean, over its positives but ``k`` at most, of the precision at each that ranks within
    ``k``. Of equal scores it is the expectation over their orders (McSherry and Najork, "Computing Information
    Retrieval Performance Measures Efficiently in the Presence of Tied Scores", ECIR 2008).
    """
    if k < 1:
        raise ValueError(f"k is {k}, must be at least 1")
    ranked = partial(_average_precision_within, k=k)
    return Metric(name=f"map_at_{k}", higher_is_better=True, contributions=ranked, lowest=0.0, highest=1.0)


def _average_precision_by_cluster(scores: Floats, labels: Floats, clusters: Clusters) -> Floats | None:
    require_binary(labels)
    positives = float(labels.sum())
    if not positives:
        return None
    order = np.argsort(-scores, kind="stable")
    truth = labels[order]
    is_new = is_new_key(scores[order])
    tie = np.cumsum(is_new) - 1
    last = np.append(np.flatnonzero(is_new)[1:], len(truth)) - 1
    rows, hits = last + 1.0, np.cumsum(truth)[last]  # at each distinct score, those that score at least so much
    found = np.bincount(tie, truth)
    precision = hits / rows
    area = float((found * precision).sum() / positives)
    # A row changes the precision at its own score and at every lower one, by (label - precision) / rows.
    first_part = np.cumsum((found / rows)[::-1])[::-1]
    second_part = np.cumsum((found * precision / rows)[::-1])[::-1]
    derivative = truth * (precision[tie] - area) + truth * first_part[tie] - second_part[tie]
    by_row = np.empty(len(truth))
    by_row[order] = derivative / positives
    pseudo = area + clusters.count * clusters.total(by_row)
    return np.column_stack([pseudo, np.ones(clusters.count)])


def _average_precision_within(scores: Floats, labels: Floats, clusters: Clusters, *, k: int) -> Floats:
    require_binary(labels)
    order = np.lexsort((-scores, clusters.codes))
    codes, truth = clusters.codes[order], labels[order]
    starts = starts_of(codes)
    rank = np.arange(len(codes)) - starts[codes] + 1.0
    is_new = is_new_key(scores[order]) | is_new_key(codes)
    tie = np.cumsum(is_new) - 1
    first = np.flatnonzero(is_new)
    size, relevant = np.bincount(tie).astype(np.float64), np.bincount(tie, truth)
    cumulated = np.concatenate([[0.0], np.cumsum(truth)])
    before = cumulated[first] - cumulated[starts[codes[first]]]
    others = np.divide(relevant - 1, size - 1, out=np.zeros(len(size)), where=size > 1)
    place = rank - rank[first][tie]  # within the tie, from 0
    precision = (before[tie] + place * others[tie] + 1) / rank
    expected = np.where(rank <= k, (relevant / size)[tie] * precision, 0.0)
    positives = np.bincount(codes, truth, clusters.count)
    gained = np.bincount(codes, expected, clusters.count)
    value = np.divide(gained, np.minimum(positives, k), out=np.zeros(clusters.count), where=positives > 0)
    return np.column_stack([value, (positives > 0).astype(np.float64)])

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.metrics import (
    Clusters,
    Metric,
    accuracy,
    brier,
    expected_cost,
    log_loss,
    mean_absolute_error,
    ndcg_at,
    pinball,
    rmse,
    roc_auc,
)
from mlops_assets.evaluation.ranking import average_precision, map_at

SCORES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans(), st.integers(0, 5)),
    min_size=2,
    max_size=60,
)
REFERENCES = [
    (brier(), lambda y, s: sk.brier_score_loss(y, s, labels=[0, 1]) if len(set(y)) == 1 else sk.brier_score_loss(y, s)),
    (log_loss(), lambda y, s: sk.log_loss(y, s, labels=[0, 1])),
    (accuracy(), lambda y, s: sk.accuracy_score(y, s >= 0.5)),
    (rmse(), sk.root_mean_squared_error),
    (mean_absolute_error(), sk.mean_absolute_error),
    (pinball(0.9), lambda y, s: sk.mean_pinball_loss(y, s, alpha=0.9)),
    (
        expected_cost(false_positive=1, false_negative=20, true_positive=0.5, threshold=0.25),
        lambda y, s: np.mean([((0, 1), (20, 0.5))[int(a)][int(b >= 0.25)] for a, b in zip(y, s, strict=True)]),
    ),
]


@pytest.mark.parametrize(("metric", "reference"), REFERENCES, ids=lambda value: getattr(value, "name", ""))
@settings(max_examples=25)
@given(rows=SCORES)
def test_a_mean_over_rows_is_what_scikit_learn_says(metric, reference, rows):
    scores, labels, clusters = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    assert metric.value(scores, labels, clusters) == pytest.approx(reference(labels, scores), abs=1e-12)


@settings(max_examples=50)
@given(rows=SCORES)
def test_roc_auc_is_what_scikit_learn_says_or_absent_with_one_class(rows):
    scores, labels, clusters = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = roc_auc().value(scores, labels, clusters)
    if len(set(labels)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)


def test_the_pseudo_values_of_roc_auc_are_those_of_leaving_each_cluster_out():
    generator = np.random.default_rng(3)
    clusters, scores = generator.integers(0, 12, 300), generator.integers(0, 9, 300) / 9
    labels = (generator.random(300) < scores).astype(float)
    without = np.array([sk.roc_auc_score(labels[clusters != c], scores[clusters != c]) for c in range(12)])
    pseudo = sk.roc_auc_score(labels, scores) + 11 * (without.mean() - without)
    table = roc_auc().contributions(scores, labels, Clusters.of(clusters))
    np.testing.assert_allclose(table[:, 0], pseudo, atol=1e-12)


@settings(max_examples=50)
@given(rows=SCORES, k=st.sampled_from([1, 3, 10]))
def test_ndcg_is_the_mean_of_scikit_learns_over_entities_with_two_labels(rows, k):
    scores, labels, clusters = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    groups = [clusters == each for each in np.unique(clusters)]
    expected = [
        sk.ndcg_score(labels[group][None], scores[group][None], k=k) for group in groups if len(set(labels[group])) > 1
    ]
    found = ndcg_at(k).value(scores, labels, clusters)
    assert found == (pytest.approx(np.mean(expected), abs=1e-12) if expected else None)


def test_ndcg_counts_graded_relevance_and_refuses_negative_gains():
    labels, scores = np.array([3.0, 0.0, 2.0, 1.0]), np.array([0.1, 0.9, 0.5, 0.5])
    found = ndcg_at(3).value(scores, labels, np.zeros(4))
    assert found == pytest.approx(sk.ndcg_score(labels[None], scores[None], k=3))
    with pytest.raises(EvaluationError, match="1 labels are negative"):
        ndcg_at(3).value(scores, labels - 1, np.zeros(4))


def test_a_score_that_is_no_probability_is_refused_by_count():
    with pytest.raises(EvaluationError, match="2 of 3 scores are no probabilities"):
        brier().value([0.5, 1.5, -0.1], [0, 1, 1])


def test_a_label_that_is_neither_0_nor_1_is_refused_by_name():
    with pytest.raises(EvaluationError, match=r"found \[2\.0\]"):
        roc_auc().value([0.5, 0.2, 0.1], [0, 1, 2])


def test_no_rows_give_no_metric():
    assert brier().value([], []) is None


def test_a_metric_of_ones_own_needs_a_fit_name_and_bounds_that_are_bounds():
    wrong = Metric(name="my metric", higher_is_better=True, contributions=brier().contributions, lowest=1, highest=0)
    assert len(wrong.faults()) == 2
    assert not ndcg_at(10).faults()


@settings(max_examples=50)
@given(rows=SCORES)
def test_average_precision_is_what_scikit_learn_says_or_absent_without_a_positive(rows):
    scores, labels, clusters = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    found = average_precision().value(scores, labels, clusters)
    assert found == (pytest.approx(sk.average_precision_score(labels, scores), abs=1e-12) if labels.any() else None)


def test_a_cluster_contributes_to_average_precision_what_a_little_more_weight_of_it_changes():
    generator = np.random.default_rng(3)
    clusters, scores = generator.integers(0, 12, 300), generator.integers(0, 9, 300) / 9
    labels = (generator.random(300) < scores).astype(float)
    whole, step = sk.average_precision_score(labels, scores), 1e-6
    heavier = [sk.average_precision_score(labels, scores, sample_weight=1 + step * (clusters == c)) for c in range(12)]
    expected = whole + 12 * (np.array(heavier) - whole) / step
    table = average_precision().contributions(scores, labels, Clusters.of(clusters))
    np.testing.assert_allclose(table[:, 0], expected, atol=1e-4)
    assert table[:, 0].mean() == pytest.approx(whole, abs=1e-12)


def average_precision_by_hand(labels, k):
    found = [labels[: place + 1].sum() / (place + 1) for place in range(min(k, len(labels))) if labels[place]]
    return sum(found) / min(labels.sum(), k)


@settings(max_examples=25)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.booleans(), st.integers(0, 2)), min_size=1, max_size=12
    ),
    k=st.sampled_from([1, 2, 10]),
)
def test_map_is_the_mean_over_entities_and_over_all_orders_of_equal_scores(rows, k):
    scores, labels, clusters = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    expected = []
    for each in np.unique(clusters):
        own, truth = scores[clusters == each][:6], labels[clusters == each][:6]
        if truth.any():
            orders = [list(order) for order in permutations(range(len(own))) if (np.diff(own[list(order)]) <= 0).all()]
            expected.append(np.mean([average_precision_by_hand(truth[order], k) for order in orders]))
    kept = np.concatenate([np.flatnonzero(clusters == each)[:6] for each in np.unique(clusters)])
    found = map_at(k).value(scores[kept], labels[kept], clusters[kept])
    assert found == (pytest.approx(np.mean(expected), abs=1e-12) if expected else None)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pinball(1.0), "quantile is 1.0"),
        (lambda: map_at(0), "k is 0"),
        (lambda: expected_cost(false_positive=0, false_negative=5), "a mistake must cost more"),
        (lambda: expected_cost(false_positive=float("nan"), false_negative=5), "must be finite"),
    ],
)
def test_a_metric_that_means_nothing_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_the_name_of_a_metric_is_fit_for_a_gate():
    assert [pinball(0.5).name, pinball(0.975).name, map_at(10).name] == ["pinball_50", "pinball_97_5", "map_at_10"]
    assert not [fault for metric in (pinball(0.975), map_at(10), average_precision()) for fault in metric.faults()]

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.comparison import compare, estimate
from mlops_assets.evaluation.metrics import accuracy, brier, log_loss, mean_absolute_error, ndcg_at, rmse, roc_auc
from mlops_assets.evaluation.report import LEVELS

METRICS = [brier(), log_loss(), accuracy(), roc_auc(), ndcg_at(10), rmse(), mean_absolute_error()]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), clusters=st.sampled_from([3, 12, 40]))
@example(seed=2114, clusters=3)  # resamples of one cluster over and over, whose spread is rounding
def test_exchanging_the_models_mirrors_the_comparison(metric, seed, clusters, drawn):
    data = drawn(np.random.default_rng(seed), clusters=clusters)
    one = compare(data.ours, data.theirs, data.labels, data.clusters, metric, resamples=199)
    other = compare(data.theirs, data.ours, data.labels, data.clusters, metric, resamples=199)
    assert (one is None) == (other is None)
    if one is not None:
        assert one.gain == pytest.approx(-other.gain, abs=1e-9)
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low), rel=1e-6, abs=1e-9)
        assert one.standard_error == pytest.approx(other.standard_error, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_the_gain_is_the_difference_of_the_metrics_and_positive_is_better(metric, drawn):
    data = drawn(np.random.default_rng(1), better=0.5)
    found = compare(data.ours, data.theirs, data.labels, data.clusters, metric)
    ours, theirs = (metric.value(scores, data.labels, data.clusters) for scores in (data.ours, data.theirs))
    sign = 1 if metric.higher_is_better else -1
    assert found.gain == pytest.approx(sign * (ours - theirs), abs=1e-9)
    assert found.low < found.gain < found.high


@pytest.mark.parametrize(
    "metric", [each for each in METRICS if each.name != "ndcg_at_10"], ids=lambda metric: metric.name
)
def test_the_standard_error_is_that_of_leaving_each_cluster_out(metric, drawn):
    data = drawn(np.random.default_rng(2), clusters=30)
    found = compare(data.ours, data.theirs, data.labels, data.clusters, metric, resamples=99)
    left = []
    for cluster in range(30):
        kept = data.clusters != cluster
        values = [metric.value(scores[kept], data.labels[kept]) for scores in (data.ours, data.theirs)]
        left.append(values[0] - values[1])
    expected = np.sqrt(29 / 30 * np.square(np.array(left) - np.mean(left)).sum())
    assert found.standard_error == pytest.approx(expected, rel=1e-6)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), clusters=st.sampled_from([4, 15, 60]), alpha=st.sampled_from(LEVELS[3:9]))
def test_the_p_value_is_at_most_alpha_exactly_when_the_bound_at_alpha_is_above_zero(seed, clusters, alpha, drawn):
    data = drawn(np.random.default_rng(seed), clusters=clusters, better=0.4)
    found = compare(data.ours, data.theirs, data.labels, data.clusters, brier(), resamples=1999)
    assert (found.p_value <= alpha) == (found.lower(alpha) > 0)


def test_the_two_sided_interval_is_made_of_the_two_one_sided_bounds(drawn):
    data = drawn(np.random.default_rng(5))
    found = compare(data.ours, data.theirs, data.labels, data.clusters, brier(), confidence=0.9)
    assert (found.low, found.high) == pytest.approx((found.lower(0.05), found.upper(0.05)), rel=1e-8)


def test_the_same_inputs_give_the_same_numbers_and_other_inputs_another_seed(drawn):
    data = drawn(np.random.default_rng(7))
    arguments = (data.ours, data.theirs, data.labels, data.clusters)
    assert compare(*arguments, brier()) == compare(*arguments, brier())
    assert compare(*arguments, brier(), seed=1).pivots != compare(*arguments, brier(), seed=2).pivots


def test_a_model_compared_with_itself_gains_exactly_nothing(drawn):
    data = drawn(np.random.default_rng(8))
    found = compare(data.ours, data.ours, data.labels, data.clusters, roc_auc())
    assert (found.gain, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_one_class_or_one_cluster_leaves_the_metric_out_without_an_error(drawn):
    data = drawn(np.random.default_rng(9))
    assert estimate(data.ours, np.ones_like(data.labels), data.clusters, roc_auc()) is None
    assert estimate(data.ours, np.ones_like(data.labels), data.clusters, ndcg_at(10)) is None
    assert compare(data.ours, data.theirs, data.labels, np.zeros_like(data.clusters), brier()) is None


def test_scores_that_are_nan_are_counted_in_the_error(drawn):
    data = drawn(np.random.default_rng(10))
    data.ours[:3] = np.nan
    with pytest.raises(EvaluationError, match=f"3 of {len(data.ours)} scores are NaN or infinite"):
        compare(data.ours, data.theirs, data.labels, data.clusters, brier())


def test_arrays_of_unequal_length_and_no_rows_are_refused():
    with pytest.raises(EvaluationError, match="one value per row"):
        estimate([0.1, 0.2], [1.0], [1], brier())
    with pytest.raises(EvaluationError, match="no rows"):
        estimate([], [], [], brier())


def test_clusters_that_all_agree_are_no_proof_that_the_next_one_would():
    labels, clusters = np.tile([0.0, 1.0], 10), np.repeat(np.arange(10), 2)
    found = estimate(labels, labels, clusters, accuracy())
    assert found.value == found.high == 1
    assert found.low == pytest.approx(0.025**0.1)


def test_an_interval_never_leaves_what_the_metric_can_be(drawn):
    data = drawn(np.random.default_rng(11), clusters=3)
    for metric in (accuracy(), brier(), roc_auc()):
        found = estimate(data.ours, data.labels, data.clusters, metric)
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_text_may_name_a_cluster():
    labels, scores = np.tile([0.0, 1.0, 1.0], 8), np.linspace(0, 1, 24)
    numbers = np.repeat(np.arange(8), 3)
    named = np.array([f"user {number}" for number in numbers])
    assert estimate(scores, labels, named, brier()) == estimate(scores, labels, numbers, brier())

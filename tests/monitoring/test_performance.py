from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.metrics import brier, roc_auc
from mlops_assets.evaluation.report import Estimate, EvaluationReport
from mlops_assets.monitoring.expectation import expected_of, find_report
from mlops_assets.monitoring.performance import LivePerformance, PerformanceReport, judge_performance, matured
from mlops_assets.monitoring.windows import Window

PROMISE = LivePerformance(metric=brier(), tolerance=0.01)
# The scores of make_traffic are calibrated and uniform on [0.05, 0.95]: their Brier score is E[p(1-p)].
TRUE_BRIER = 0.25 - 0.9**2 / 12


def exactly(value):
    return Estimate(value=value, low=value, high=value)


def judge(rows, promise=PROMISE, expected=exactly(TRUE_BRIER)):  # noqa: B008 - frozen
    return judge_performance(rows, promise, window="p:1", version="sha256:a", expected=expected)


def test_a_champion_as_good_as_expected_seldom_falls(make_traffic):
    fell = sum(
        judge(make_traffic(600, seed=seed), LivePerformance(metric=brier(), tolerance=0.0)).fell for seed in range(100)
    )
    assert fell <= 9  # two-sided 95 %: 2.5 of 100 expected, more than 9 once in 2,000 times


def test_a_champion_that_became_blind_fell(make_traffic):
    rows = make_traffic(600).with_columns(pl.col("score").shuffle(seed=1))
    report = judge(rows)
    assert report.fell
    assert report.gap.high < -PROMISE.tolerance


def test_a_loss_within_the_tolerance_is_no_fall(make_traffic):
    rows = make_traffic(600).with_columns(pl.col("score").shuffle(seed=1))
    assert not judge(rows, LivePerformance(metric=brier(), tolerance=0.5)).fell


def test_a_metric_that_is_to_be_high_falls_when_it_is_low(make_traffic):
    promise = LivePerformance(metric=roc_auc(), tolerance=0.02)
    rows = make_traffic(600)
    good = judge(rows, promise, exactly(0.80))
    blind = judge(rows.with_columns(pl.col("score").shuffle(seed=1)), promise, exactly(0.80))
    assert (good.fell, blind.fell) == (False, True)
    assert blind.gap.value < 0


@pytest.mark.parametrize(("loss", "fell"), [(0.0999, False), (0.1, False), (0.1001, True)])
def test_a_loss_of_exactly_the_tolerance_is_no_fall(loss, fell):
    gap = Estimate(value=-0.2, low=-0.3, high=-loss)
    facts = {"window": "p:1", "version": "v", "metric": "m", "rows": 1, "clusters": 1, "expected": exactly(0.0)}
    assert PerformanceReport(**facts, tolerance=0.1, live=exactly(0.0), gap=gap).fell is fell


def test_an_uncertain_expectation_makes_the_interval_of_the_gap_wider(make_traffic):
    rows = make_traffic(600)
    sure = judge(rows).gap
    unsure = judge(rows, expected=Estimate(value=TRUE_BRIER, low=TRUE_BRIER - 0.05, high=TRUE_BRIER + 0.05)).gap
    assert unsure.low < sure.low < sure.high < unsure.high


@pytest.mark.parametrize(("rows", "too_small"), [(99, True), (100, False)])
def test_too_few_rows_say_nothing(make_traffic, rows, too_small):
    assert judge(make_traffic(rows)).too_small is too_small


def test_too_few_entities_say_nothing_however_many_rows(make_traffic):
    report = judge(make_traffic(2000, entities=19).with_columns(score=pl.lit(0.99)))
    assert report.too_small
    assert not report.fell


def test_a_window_without_any_outcome_says_nothing(make_traffic):
    window = Window(product="p", number=1, size=500)
    pending = make_traffic(500).with_columns(pl.lit(None, pl.Float64).alias("outcome"))
    assert judge(matured(pending, window, version="sha256:a")).too_small


def test_a_metric_that_is_undefined_says_nothing(make_traffic):
    one_class = make_traffic(500).with_columns(pl.lit(1.0).alias("outcome"))
    assert judge(one_class, LivePerformance(metric=roc_auc(), tolerance=0.1)).too_small


def test_the_label_is_computed_from_the_outcome(make_traffic):
    rows = make_traffic(600)
    stars = rows.with_columns(pl.when(pl.col("outcome") == 1).then(4.5).otherwise(2.0).alias("outcome"))
    liked = LivePerformance(metric=brier(), tolerance=0.01, label="outcome >= 4")
    assert judge(stars, liked).live == judge(rows).live


def test_a_label_that_is_null_for_an_outcome_is_an_error(make_traffic):
    with pytest.raises(EvaluationError, match="is null for"):
        judge(make_traffic(300), LivePerformance(metric=brier(), tolerance=0.1, label="NULLIF(outcome, 1)"))


def test_only_the_champions_predictions_up_to_the_windows_end_count(make_traffic):
    log = pl.concat([make_traffic(300), make_traffic(300, seed=1, version="sha256:b"), make_traffic(300, seed=2)])
    rows = matured(log, Window(product="p", number=3, size=200), version="sha256:a")
    assert rows["id"].to_list() == [f"0-{n}" for n in range(100, 300)]


def test_a_prediction_whose_outcome_is_unknown_does_not_count(make_traffic):
    log = make_traffic(200).with_columns(pl.when(pl.int_range(pl.len()) % 2 == 0).then(pl.col("outcome")))
    assert matured(log, Window(product="p", number=1, size=200), version="sha256:a").height == 100


def test_a_prediction_counts_from_exactly_the_declared_age(make_traffic):
    window = Window(product="p", number=1, size=200)
    rows = matured(make_traffic(200), window, version="sha256:a", maturity=timedelta(seconds=160))
    assert rows["id"][-1] == "0-99"  # the newest stamp is the last outcome's: 199 + 60 s


def test_a_report_survives_json(make_traffic):
    for rows in (make_traffic(600), make_traffic(50)):
        report = judge(rows)
        assert PerformanceReport.from_json(report.to_json()).digest == report.digest


def test_the_expectation_is_that_of_the_champions_newest_evaluation():
    def metadata(candidate, value):
        report = EvaluationReport(
            product="p",
            candidate=candidate,
            golden="g",
            rows=9,
            clusters=3,
            candidate_metrics={"brier": exactly(value)},
        )
        return {"digest": report.digest, "report": report.to_json()}

    evaluations = [metadata("other", 0.1), {}, metadata("champion", 0.2), metadata("champion", 0.3)]
    assert expected_of(find_report("champion", evaluations), "brier") == exactly(0.2)
    assert expected_of(find_report("champion", evaluations), "roc_auc") is None
    assert expected_of(find_report("nobody", evaluations), "brier") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tolerance": -0.1}, "tolerance is -0.1"),
        ({"tolerance": np.nan}, "tolerance is nan"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"min_clusters": 4}, "min_clusters 4"),
        ({"maturity": timedelta(seconds=-1)}, "must not be negative"),
        ({"label": "outcome >="}, "no Polars SQL expression"),
        ({"label": "rating >= 4"}, "reads ['rating']"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(change, says):
    (fault,) = LivePerformance(**{"metric": brier(), "tolerance": 0.1} | change).faults()
    assert says in fault

import json

import numpy as np
import polars as pl
import pytest

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.evaluate import evaluate
from mlops_assets.evaluation.metrics import brier, roc_auc
from mlops_assets.evaluation.report import Comparison, EvaluationReport
from mlops_assets.ledger.canonical import canonical_json


def golden(rows: int = 600, *, labels: str = "both") -> pl.DataFrame:
    generator = np.random.default_rng(0)
    x = generator.normal(0, 1, rows)
    liked = generator.random(rows) < 1 / (1 + np.exp(-2 * x))
    frame = pl.DataFrame({"x": x, "liked": liked, "user": [f"u{n % 40}" for n in range(rows)]})
    return frame if labels == "both" else frame.with_columns(liked=pl.lit(value=True))


@pytest.fixture
def ask(linear):
    weak = linear(slope=0.2)

    def evaluated(frame, *, candidate=None, champion=weak, **changes):
        arguments = {"label": "liked", "cluster": "user", "metrics": (brier(), roc_auc()), "resamples": 499}
        return evaluate(
            "films",
            candidate=("sha256:aa", candidate or linear(slope=2.0)),
            champion=None if champion is None else ("sha256:bb", champion),
            golden=frame,
            golden_digest="sha256:cc",
            **{**arguments, **changes},
        )

    return evaluated


def test_candidate_and_champion_are_measured_and_compared_on_the_same_rows(ask):
    report = ask(golden())
    assert (report.rows, report.clusters, report.champion) == (600, 40, "sha256:bb")
    assert set(report.candidate_metrics) == set(report.champion_metrics) == set(report.comparisons)
    assert report.gain("brier") > 0.02
    assert report.comparisons["brier"].p_value == 1 / 500
    assert report.gain("rmse") is None


def test_without_a_champion_there_is_nothing_compared(ask):
    report = ask(golden(), champion=None)
    assert report.champion is None
    assert not report.champion_metrics
    assert not report.comparisons
    assert set(report.candidate_metrics) == {"brier", "roc_auc"}


def test_a_metric_that_one_class_leaves_undefined_is_absent_and_the_others_stay(ask):
    report = ask(golden(labels="one"))
    assert set(report.candidate_metrics) == set(report.comparisons) == {"brier"}


def test_a_report_comes_back_from_json_the_same_with_the_same_digest(ask):
    report = ask(golden())
    again = EvaluationReport.from_json(json.loads(canonical_json(report.to_json())))
    assert again == report
    assert again.digest == report.digest


def test_the_same_models_and_rows_give_the_same_digest(ask):
    assert ask(golden()).digest == ask(golden()).digest


def test_a_champion_that_cannot_score_is_an_error_and_not_the_lack_of_one(ask, linear):
    with pytest.raises(EvaluationError, match="films: the champion sha256:bb cannot score"):
        ask(golden(), champion=linear(features=("y",)))


def test_scores_that_are_nan_are_counted(ask, linear):
    frame = golden().with_columns(x=pl.when(pl.int_range(pl.len()) < 7).then(float("nan")).otherwise("x"))
    with pytest.raises(EvaluationError, match="7 of 600 scores of the candidate sha256:aa are NaN"):
        ask(frame)


def test_scores_of_another_length_are_refused(ask, linear):
    class Short(linear):
        def predict(self, frame):
            return super().predict(frame)[:-1]

    with pytest.raises(EvaluationError, match=r"shape \(599,\) for 600 rows"):
        ask(golden(), candidate=Short())


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (golden().clear(), "has no rows"),
        (golden().drop("user"), "lacks the cluster column 'user'"),
        (golden().drop("liked"), "lacks the label column 'liked'"),
        (golden().with_columns(liked=pl.when(pl.col("x") > 2).then(None).otherwise("liked")), "have no label"),
    ],
)
def test_a_golden_set_that_cannot_be_scored_says_why(frame, said, ask):
    with pytest.raises(EvaluationError, match=said):
        ask(frame)


def test_without_pivots_the_bounds_are_those_of_the_normal_distribution():
    found = Comparison(gain=1.0, low=0, high=2, p_value=0.01, standard_error=0.5)
    assert found.lower(0.05) == pytest.approx(1 - 1.6448536 * 0.5)
    assert found.upper(0.05) == pytest.approx(1 + 1.6448536 * 0.5)

import numpy as np
import polars as pl
import pytest

from mlops_assets.data.plot import inline_png
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.explain import explain
from mlops_assets.evaluation.metrics import brier, roc_auc
from mlops_assets.evaluation.plots import plot_explanation, plot_metrics
from mlops_assets.evaluation.report import Comparison, Estimate, EvaluationReport
from mlops_assets.training.lightgbm import train_classifier


def rows(count: int = 1200) -> pl.DataFrame:
    generator = np.random.default_rng(0)
    frame = pl.DataFrame({name: generator.normal(0, 1, count) for name in ("strong", "weak", "noise")})
    odds = 3 * frame["strong"] + frame["weak"]
    return frame.with_columns(
        liked=pl.Series(generator.random(count) < 1 / (1 + np.exp(-odds.to_numpy()))),
        weak=pl.when(pl.int_range(pl.len()) % 9 == 0).then(None).otherwise("weak"),
    )


def test_a_real_model_is_explained_by_shap_values_that_rank_its_features():
    model = train_classifier(
        rows(),
        features=("noise", "strong", "weak"),
        label="liked",
        params={"num_boost_round": 30},
        seed=1,
        progress=lambda step, metrics: None,
    )
    found = explain(model, rows(), label="liked", metric=brier(), rows=300)
    assert found.method == "shap"
    assert found.features[0] == "strong"
    assert found.contributions.shape == found.values.shape == (300, 3)
    np.testing.assert_allclose(np.abs(found.contributions).mean(axis=0), found.importance)
    assert inline_png(plot_explanation(found)).startswith("![plot](data:image/png;base64,")


def test_a_model_that_cannot_explain_itself_is_explained_by_permutation(linear):
    model = linear(features=("strong", "noise"), slope=1.0)
    frame = rows().with_columns(noise=pl.lit(0.0))
    found = explain(model, frame, label="liked", metric=roc_auc())
    assert (found.method, found.metric) == ("permutation", "roc_auc")
    assert found.features == ("strong", "noise")
    assert found.importance[0] > 0.2
    assert found.importance[1] == 0
    assert explain(model, frame, label="liked", metric=roc_auc()).importance == found.importance
    assert inline_png(plot_explanation(found))


def test_permutation_without_a_defined_metric_is_an_error(linear):
    frame = rows().with_columns(liked=pl.lit(value=True))
    with pytest.raises(EvaluationError, match="roc_auc is undefined"):
        explain(linear(features=("strong",)), frame, label="liked", metric=roc_auc())


def test_contributions_of_another_shape_are_refused(linear):
    class Odd(linear):
        def contributions(self, frame):
            return np.zeros((frame.height, 1))

    with pytest.raises(EvaluationError, match="one column per feature and the mean"):
        explain(Odd(features=("strong",)), rows(), label="liked", metric=brier())


@pytest.mark.parametrize("metrics", [{}, {"brier": Estimate(value=0.2, low=0.1, high=0.3)}])
@pytest.mark.parametrize("champion", [None, "sha256:bb"])
def test_a_forest_plot_is_drawn_with_and_without_champion_or_metrics(metrics, champion):
    gain = Comparison(gain=0.01, low=0.0, high=0.02, p_value=0.02, standard_error=0.005)
    report = EvaluationReport(
        product="films",
        candidate="sha256:aa",
        golden="sha256:cc",
        rows=10,
        clusters=5,
        champion=champion,
        candidate_metrics=metrics,
        champion_metrics=metrics if champion else {},
        comparisons=dict.fromkeys(metrics, gain) if champion else {},
    )
    assert len(inline_png(plot_metrics(report))) > 1000

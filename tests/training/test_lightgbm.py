import numpy as np
import polars as pl
import pytest

from mlops_assets.errors import EvaluationError, TrainingFailed
from mlops_assets.training.lightgbm import load_lightgbm, train_classifier


@pytest.fixture
def fit(rows, recipe):
    def fitting(frame=rows, *, features=("a", "b"), seed=1, progress=lambda step, metrics: None, **params):
        return train_classifier(
            frame, features=features, label="label", params={**recipe.params, **params}, seed=seed, progress=progress
        )

    return fitting


def test_a_saved_model_predicts_the_same_to_the_bit(fit, rows, tmp_path):
    model = fit()
    model.save(tmp_path)
    loaded = load_lightgbm(tmp_path)
    assert loaded.features == ("a", "b")
    np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
    assert np.mean((model.predict(rows) > 0.5) == rows["label"].to_numpy()) > 0.95


def test_one_row_scores_as_it_does_among_many(fit, rows):
    many = pl.concat([rows] * 5)
    scores = fit().predict(many)
    assert len(scores) >= 1000
    np.testing.assert_array_equal(scores[:20], np.concatenate([fit().predict(rows[i]) for i in range(20)]))


def test_a_null_is_a_missing_value_and_the_matrix_way_agrees(fit, rows):
    model = fit()
    missing = pl.DataFrame({"b": [None], "a": [0.4]}, schema={"b": pl.Float64, "a": pl.Float64})
    assert model.predict(missing)[0] == model.predict_matrix(np.array([[0.4, np.nan]]))[0]


def test_no_row_has_no_score(fit, rows):
    assert fit().predict(rows.clear()).shape == (0,)


def test_an_absent_column_is_named(fit, rows):
    with pytest.raises(EvaluationError, match=r"\['b'\]"):
        fit().predict(rows.drop("b"))


def test_contributions_sum_to_the_raw_score(fit, rows):
    model = fit()
    raw = model.booster.predict(rows.select("a", "b").to_numpy(), raw_score=True)
    contributions = model.contributions(rows)
    assert contributions.shape == (300, 3)
    np.testing.assert_allclose(contributions.sum(axis=1), raw)
    assert model.importance()["a"] > model.importance()["b"]


def test_progress_is_told_each_n_rounds_and_at_the_end(fit):
    told = []
    fit(progress=lambda step, metrics: told.append((step, metrics["train_binary_logloss"])))
    assert [step for step, _ in told] == [5, 10, 12]
    assert told[0][1] > told[-1][1]


def test_another_seed_gives_another_model(fit):
    one, two, again = (fit(seed=seed).booster.model_to_string() for seed in (1, 2, 1))
    assert one == again
    assert one != two


@pytest.mark.parametrize("change", [{"num_boost_round": 0}, {"objective": "no_such_objective"}, {"num_leaves": -3}])
def test_what_lightgbm_refuses_is_a_failed_training(fit, change):
    with pytest.raises(TrainingFailed):
        fit(**change)


@pytest.mark.parametrize("name", ["a b", "a:b", "a{b"])
def test_a_name_that_lightgbm_would_change_is_refused(fit, rows, name):
    with pytest.raises(TrainingFailed, match="name"):
        fit(rows.rename({"a": name}), features=(name, "b"))

"""A wrong declaration is found at load, with all of its faults."""

from dataclasses import replace
from datetime import timedelta

import pytest

from mlops_assets.features.view import Aggregate, FeatureView, RequestFeature

MEAN = Aggregate(name="mean", function="mean", column="rating", window=timedelta(hours=1))
VIEW = FeatureView(name="taste", source="shop", entity="user", event_time="time", features=(MEAN,))


def test_a_right_declaration_has_no_faults():
    assert VIEW.faults() == []
    assert VIEW.feature_names == ("mean",)


@pytest.mark.parametrize("window", [3600, 1.5])
def test_a_window_without_unit_is_named_with_its_view_and_feature(window):
    (fault,) = replace(VIEW, features=(replace(MEAN, window=window),)).faults()
    assert "without unit" in fault
    assert "'taste'" in fault
    assert "'mean'" in fault


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": timedelta(0)}, "not positive"),
        ({"window": timedelta(hours=-1)}, "not positive"),
        ({"function": "median"}, "unknown function 'median'"),
        ({"name": ""}, "empty name"),
        ({"column": ""}, "names no column"),
        ({"empty": float("nan")}, "not a finite number"),
        ({"name": "user"}, "entity or event_time"),
    ],
)
def test_a_wrong_aggregate_is_a_fault(change, words):
    (fault,) = replace(VIEW, features=(replace(MEAN, **change),)).faults()
    assert words in fault


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "letters, digits"),
        ({"name": "a/b"}, "letters, digits"),
        ({"source": ""}, "source is empty"),
        ({"entity": "time"}, "same column"),
        ({"features": ()}, "no features"),
        ({"features": [MEAN]}, "not a tuple"),
        ({"features": (MEAN, MEAN)}, "more than once"),
    ],
)
def test_a_wrong_view_is_a_fault(change, words):
    (fault,) = replace(VIEW, **change).faults()
    assert words in fault


def test_all_faults_are_found_at_once():
    wrong = replace(VIEW, source="", features=(replace(MEAN, window=5), replace(MEAN, function="median")))
    assert len(wrong.faults()) == 4


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("year -", "no Polars SQL"),
        ("AVG(year)", "one row"),
        ("SUM(year) OVER (PARTITION BY genre)", "one row"),
        ("COUNT(*)", "one row"),
        ("SUM(year)", "one row"),
        ("CASE WHEN year > AVG(year) THEN 1 ELSE 0 END", "one row"),
        ("RANK() OVER (ORDER BY year)", "one row"),
        ("LAG(year) OVER (ORDER BY year)", "one row"),
        ("STRING_AGG(genre, ',')", "one row"),
        ("1", "one row"),
    ],
)
def test_a_request_feature_sees_one_row_only(expression, words):
    (fault,) = RequestFeature(name="age", expression=expression).faults()
    assert words in fault
    assert "'age'" in fault


def test_the_digest_follows_the_meaning_and_not_the_words_around_it():
    assert VIEW.digest == replace(VIEW, description="x", owner="team:y").digest
    changes = [{"window": None}, {"window": timedelta(hours=2)}, {"empty": 0.0}, {"function": "sum"}, {"column": "z"}]
    others = {replace(VIEW, features=(replace(MEAN, **change),)).digest for change in changes}
    assert len(others | {VIEW.digest}) == len(changes) + 1

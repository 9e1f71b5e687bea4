"""A training set loses no row, doubles none, moves none, and splits by time alone."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import FeatureError
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import Aggregate, FeatureView, RequestFeature
from mlops_assets.training.recipe import TimeSplit
from mlops_assets.training.training_set import LabelExpression, TrainingSet, build_training_set

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
LIKED = LabelExpression(name="liked", expression="CAST(rating >= 4 AS DOUBLE)")
HALF = RequestFeature(name="half", expression="rating / 2")


def a_view(entity):
    features = (
        Aggregate(name=f"{entity}_count", function="count", column="rating"),
        Aggregate(name=f"{entity}_mean", function="mean", column="rating", window=2 * DAY),
    )
    return FeatureView(name=f"{entity}_view", source="shop", entity=entity, event_time="time", features=features)


USER, FILM = a_view("user"), a_view("film")


def a_dataset(rows):
    schema = {
        "row": pl.Int64,
        "user": pl.Int64,
        "film": pl.String,
        "time": pl.Datetime("us", "UTC"),
        "rating": pl.Float64,
    }
    return pl.DataFrame([(n, *row) for n, row in enumerate(rows)], schema=schema, orient="row")


def tables_of(dataset):
    tables = {}
    for view in (USER, FILM):
        spine = dataset.select(view.entity, "time").unique()
        tables[view] = pl.concat([spine, PolarsEngine().features_at(view, dataset, spine)], how="horizontal")
    return tables


def built(dataset, tables, features=(HALF,), label=LIKED, days=2):
    split = TimeSplit(golden=days * DAY)
    return build_training_set(dataset, tables, features, split=split, event_time="time", label=label, entity="user")


rows = st.tuples(
    st.integers(0, 3),
    st.sampled_from("abc"),
    st.integers(0, 6).map(lambda day: START + day * DAY),
    st.integers(1, 5).map(float),
)
SIX = [(1, "a", START + day * DAY, 5.0 if day % 2 else 1.0) for day in range(6)]


@given(st.lists(rows, min_size=1, max_size=30), st.integers(1, 8))
@settings(max_examples=60)
def test_every_row_is_there_once_in_order_with_its_own_features(rows, days):
    dataset = a_dataset(rows)
    parts = built(dataset, tables_of(dataset), days=days)
    for part in (parts.train, parts.golden):
        assert part["row"].is_sorted()
        assert part.select(dataset.columns).equals(dataset[part["row"].to_list()])
        for view in (USER, FILM):
            own = PolarsEngine().features_at(view, dataset, part.select(view.entity, "time"))
            assert part.select(view.feature_names).equals(own)
        assert part["liked"].to_list() == [float(rating >= 4) for rating in part["rating"]]
        assert part["half"].to_list() == [rating / 2 for rating in part["rating"]]
    assert sorted([*parts.train["row"], *parts.golden["row"]]) == list(range(len(rows)))
    last = dataset["time"].max()
    assert all(time > last - days * DAY for time in parts.golden["time"])
    assert all(time <= last - days * DAY for time in parts.train["time"])


def test_a_row_without_features_is_refused_with_an_example():
    dataset = a_dataset(SIX)
    tables = tables_of(dataset)
    with pytest.raises(FeatureError, match="'user_view' has no features for 1 of 6 rows"):
        built(dataset, {**tables, USER: tables[USER].filter(pl.col("time") != START)})


def test_a_table_with_a_key_twice_is_refused():
    dataset = a_dataset(SIX)
    tables = tables_of(dataset)
    with pytest.raises(FeatureError, match="'film_view' holds 1 keys more than once"):
        built(dataset, {**tables, FILM: pl.concat([tables[FILM], tables[FILM].head(1)])})


def test_keys_of_other_types_and_missing_columns_are_refused():
    dataset = a_dataset(SIX)
    tables = tables_of(dataset)
    with pytest.raises(FeatureError, match="must be of one type"):
        built(dataset, {USER: tables[USER].with_columns(pl.col("user").cast(pl.String))})
    with pytest.raises(FeatureError, match=r"lacks \['user_mean'\]"):
        built(dataset, {USER: tables[USER].drop("user_mean")})
    with pytest.raises(FeatureError, match="lacks 'user'"):
        built(dataset.drop("user"), {})


@pytest.mark.parametrize("name", ["rating", "user_count", "liked"])
def test_a_name_taken_twice_is_refused(name):
    dataset = a_dataset(SIX)
    with pytest.raises(FeatureError, match=name):
        built(dataset, tables_of(dataset), features=(RequestFeature(name=name, expression="rating"),))


def test_a_null_feature_is_kept_and_is_not_a_missing_row():
    parts = built(a_dataset(SIX), tables_of(a_dataset(SIX)))
    assert parts.train["user_mean"].to_list()[0] is None
    assert parts.train.height + parts.golden.height == 6


def test_a_label_of_one_class_is_a_fault_with_counts():
    parts = built(a_dataset(SIX), {}, label=LabelExpression(name="liked", expression="rating >= 0"))
    assert [fault.split(":")[0] for fault in parts.faults("liked")] == ["train", "golden"]
    assert "{1.0: 4}" in parts.faults("liked")[0]


def test_a_label_with_nulls_or_none_at_all_is_a_fault():
    frame = pl.DataFrame({"liked": [1.0, 0.0, None]})
    assert "null in 1 of 3" in faults_of(frame, "liked")
    assert "no rows" in faults_of(frame.clear(), "liked")
    assert "no label column" in faults_of(frame, "loved")
    assert not faults_of(frame.head(2), "liked")


def faults_of(frame, label):
    return "; ".join(TrainingSet(train=frame, golden=frame).faults(label))


def test_a_label_declared_wrongly_is_a_fault():
    assert LIKED.faults() == []
    assert len(LabelExpression(name="", expression="AVG(rating)").faults()) == 2

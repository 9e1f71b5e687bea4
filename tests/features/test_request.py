"""A request's features are those that training would have computed of the same row."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import FeatureError, InvalidDefinition
from mlops_assets.features.request import RequestFeatures
from mlops_assets.features.view import RequestFeature

SCHEMA = {"genres": pl.String(), "year": pl.Float64(), "votes": pl.Int64(), "time": pl.Datetime("us", "Asia/Tokyo")}
IN_PYTHON = {
    "drama": "genres LIKE '%Drama%'",
    "first_drama": "genres LIKE 'Drama%'",
    "last_drama": "genres LIKE '%Drama'",
    "age": "EXTRACT(YEAR FROM time) - year",
    "hour": "EXTRACT(HOUR FROM time)",
    "recent": "year >= 2000",
    "old": "CAST(year < 1950 AS DOUBLE)",
    "plain": "year",
    "many": "votes > 10",
    "is_it": "genres = 'Drama'",
}
IN_POLARS = {
    "per_vote": "year / votes",
    "log": "LN(votes)",
    "letters": "LENGTH(genres)",
    "unknown": "year IS NULL",
    "case": "CASE WHEN votes > 10 THEN 1 ELSE 0 END",
    "both": "year > 1990 AND votes > 3",
    "sum": "votes + 1",
    "filled": "COALESCE(year, 0)",
}
FEATURES = RequestFeatures(
    [RequestFeature(name=name, expression=text) for name, text in {**IN_PYTHON, **IN_POLARS}.items()], SCHEMA
)
rows = st.fixed_dictionaries(
    {
        "genres": st.none()
        | st.sampled_from(["Drama", "Drama|Comedy", "Crime|Drama", "", "drama"])
        | st.text(max_size=9),
        "year": st.none() | st.sampled_from([1950.0, 2000.0, -0.0]) | st.floats(-1e300, 1e300),
        "votes": st.none() | st.integers(-20, 20) | st.integers(-(2**63) + 1, 2**63 - 1),
        "time": st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    }
)


@given(st.lists(rows, min_size=1, max_size=5))
@settings(max_examples=150)
def test_a_request_has_the_features_of_its_row_in_training(requests):
    frame = pl.DataFrame(requests, schema=SCHEMA, orient="row")
    assert [FEATURES.on_request(request) for request in requests] == FEATURES.on_frame(frame).rows(named=True)


def test_what_python_does_alike_needs_no_frame():
    assert FEATURES.compiled == tuple(IN_PYTHON)
    assert FEATURES.names == (*IN_PYTHON, *IN_POLARS)
    assert FEATURES.columns == tuple(sorted(SCHEMA))


def test_what_is_infinite_or_undefined_is_null():
    schema = {"a": pl.Float64(), "b": pl.Float64()}
    ratio = RequestFeatures([RequestFeature(name="ratio", expression="a / b")], schema)
    difference = RequestFeatures([RequestFeature(name="difference", expression="a - b")], schema)
    assert ratio.on_request({"a": 1.0, "b": 0.0}) == {"ratio": None}
    assert difference.on_request({"a": 1.7e308, "b": -1.7e308}) == {"difference": None}


def test_a_time_may_be_text_and_without_zone_is_utc():
    hour = RequestFeatures([RequestFeature(name="hour", expression="EXTRACT(HOUR FROM time)")], SCHEMA)
    assert hour.on_request({"time": "2024-01-01T01:00:00"}) == {"hour": 10.0}
    assert hour.on_request({"time": "2024-01-01T01:00:00+01:00"}) == {"hour": 9.0}
    assert hour.on_request({"time": datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=20)}) == {"hour": 5.0}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("year", "1990"),
        ("year", True),
        ("year", float("nan")),
        ("year", 10**400),
        ("votes", 1.5),
        ("votes", 2**63),
        ("genres", 7),
        ("time", "yesterday"),
        ("time", 5),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(column, value):
    row = {"genres": "Drama", "year": 1990.0, "votes": 3, "time": datetime(2024, 1, 1)}
    with pytest.raises(FeatureError, match=column):
        FEATURES.on_request({**row, column: value})


def test_an_absent_column_is_refused_and_a_null_one_is_not():
    with pytest.raises(FeatureError, match="lacks 'genres'"):
        FEATURES.on_request({"year": None, "votes": None, "time": None})
    with pytest.raises(FeatureError, match=r"'time' as Datetime.*, the frame has None"):
        FEATURES.on_frame(pl.DataFrame({"genres": ["a"], "year": [1]}))


def test_a_declaration_that_does_not_fit_the_columns_is_refused():
    with pytest.raises(FeatureError, match=r"'x' reads \['director'\]"):
        RequestFeatures([RequestFeature(name="x", expression="director = 'a'")], SCHEMA)
    with pytest.raises(FeatureError, match="does not fit"):
        RequestFeatures([RequestFeature(name="x", expression="EXTRACT(YEAR FROM votes)")], SCHEMA)
    with pytest.raises(InvalidDefinition) as refused:
        RequestFeatures(
            [RequestFeature(name="x", expression="AVG(year)"), RequestFeature(name="x", expression="(")], SCHEMA
        )
    assert len(refused.value.faults) == 3


def test_no_request_features_are_fine():
    none = RequestFeatures([], SCHEMA)
    assert none.on_request({}) == {}
    assert none.on_frame(pl.DataFrame({"a": [1]})).width == 0

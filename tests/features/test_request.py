"""A request's features are those that training would have computed of the same row."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import FeatureError, InvalidDefinition
from mlops_assets.features.columns import DTYPES
from mlops_assets.features.request import RequestFeatures
from mlops_assets.features.view import RequestFeature

SCHEMA = {
    "genres": pl.String(),
    "year": pl.Float64(),
    "votes": pl.Int64(),
    "adult": pl.Boolean(),
    "time": pl.Datetime("us", "Asia/Tokyo"),
    "seen": pl.Datetime("us"),
    "day": pl.Date(),
}
EXPRESSIONS = {
    "double": (
        *("genres LIKE '%Drama%'", "genres LIKE 'Drama%'", "genres LIKE '%Drama'", "genres = 'Drama'", "adult", "year"),
        *("EXTRACT(YEAR FROM time) - year", "EXTRACT(HOUR FROM time)", "CAST(year < 1950 AS DOUBLE)", "votes > 10"),
        *("year / votes", "LN(votes)", "LOG10(year)", "LENGTH(genres)", "year IS NULL", "year > 1990 AND votes > 3"),
        *("CASE WHEN votes > 10 THEN 1 ELSE 0.5 END", "votes + 1", "COALESCE(year, 0)", "EXP(year)", "SQRT(year)"),
        *(
            "POWER(year, 2)",
            "POWER(2, votes)",
            "FLOOR(year)",
            "CEIL(year)",
            "ROUND(year, 2)",
            "SIGN(year)",
            "ABS(year)",
        ),
        *("GREATEST(year, votes, 3)", "LEAST(year, votes)", "SIN(6.25 * EXTRACT(HOUR FROM time) / 24)", "COS(year)"),
        *("(EXTRACT(EPOCH FROM time) - EXTRACT(EPOCH FROM seen)) / 86400", "EXTRACT(EPOCH FROM day)", "-year"),
        *("CASE WHEN EXTRACT(DOW FROM time) = 0 THEN year END", "CAST(votes AS BIGINT)", "LOG1P(year)"),
    ),
    "integer": (
        *("votes", "votes + 1", "votes * votes - 7", "ABS(votes - 3)", "adult", "votes > 10", "LENGTH(genres)"),
        *("CASE WHEN adult THEN votes ELSE 18 END", "COALESCE(votes, LENGTH(genres), 0)", "CAST(adult AS BIGINT)"),
        *("EXTRACT(YEAR FROM day)", "EXTRACT(QUARTER FROM time)", "EXTRACT(MONTH FROM time)", "EXTRACT(DOW FROM time)"),
        *("EXTRACT(WEEK FROM time)", "EXTRACT(DAY FROM seen)", "EXTRACT(ISODOW FROM time)", "EXTRACT(DOY FROM seen)"),
        *("EXTRACT(HOUR FROM time) * 60 + EXTRACT(MINUTE FROM time)", "EXTRACT(SECOND FROM seen)", "FLOOR(year / 10)"),
        *("ROUND(year)", "CEIL(year)", "SIGN(votes)", "EXTRACT(HOUR FROM day)", "0 - votes", "ABS(votes)"),
    ),
    "boolean": (
        *("adult", "NOT adult OR votes > 10", "genres LIKE '%Drama%'", "year IS NULL", "COALESCE(adult, FALSE)"),
        *("CAST(time AS TIMESTAMP) > seen", "seen = TIMESTAMP '2000-01-01 00:00:00'", "LENGTH(genres) > 5"),
        *("EXTRACT(HOUR FROM time) = EXTRACT(HOUR FROM seen)", "CAST(day AS TIMESTAMP) <= time"),
    ),
    "string": (
        *("genres", "CASE WHEN adult THEN 'adult' ELSE genres END", "COALESCE(genres, 'none')"),
        *("UPPER(genres)", "LOWER(genres)", "genres || '-' || LOWER(genres)"),
    ),
    "time": ("time", "seen", "day", "COALESCE(time, seen)", "CASE WHEN adult THEN seen ELSE time END"),
}
DECLARED = [
    RequestFeature(name=f"{type}: {text}", expression=text, type=type)
    for type, texts in EXPRESSIONS.items()
    for text in texts
]
FEATURES = RequestFeatures(DECLARED, SCHEMA)
moments = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
rows = st.fixed_dictionaries(
    {
        "genres": st.none()
        | st.sampled_from(["Drama", "Drama|Comedy", "Crime|Drama", "", "drama", "ß\u0130\u01c6 \U0001f600"])
        | st.text(max_size=9),
        "year": st.none() | st.sampled_from([1950.0, 2000.0, -0.0, 2.5, -0.5]) | st.floats(-1e300, 1e300),
        "votes": st.none()
        | st.integers(-20, 20)
        | st.sampled_from([2**53, 2**53 - 1, 2**53 + 1, 94906265, 94906266, -(2**63)])
        | st.integers(-(2**63), 2**63 - 1),
        "adult": st.none() | st.booleans(),
        "time": st.none() | moments.map(lambda moment: moment.replace(tzinfo=UTC)),
        "seen": st.none() | moments | st.just(datetime(2000, 1, 1)),
        "day": st.none() | st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    }
)


@given(st.lists(rows, min_size=1, max_size=4))
@settings(max_examples=80)
def test_a_request_has_the_features_of_its_row_in_training_in_value_and_type(requests):
    frame = pl.DataFrame(requests, schema=SCHEMA, orient="row")
    trained = FEATURES.on_frame(frame)
    served = [FEATURES.on_request(request) for request in requests]
    assert trained.schema == pl.Schema({feature.name: DTYPES[feature.type] for feature in DECLARED})
    assert served == trained.rows(named=True)
    assert pl.DataFrame(served, schema=trained.schema, strict=True).equals(trained)
    assert [[repr(value) for value in row.values() if isinstance(value, float)] for row in served] == [
        [repr(value) for value in row if isinstance(value, float)] for row in trained.iter_rows()
    ]


AS_POLARS_SAYS = [
    *("LN(year)", "LOG10(year)", "EXP(year)", "SQRT(year)", "POWER(year, 2)", "FLOOR(year)", "CEIL(year)"),
    *("ROUND(year)", "ROUND(year, 2)", "SIGN(year)", "SIN(year)", "COS(year)", "GREATEST(year, votes)", "LOG1P(year)"),
    *(
        "EXTRACT(DOW FROM time)",
        "EXTRACT(DOY FROM time)",
        "EXTRACT(EPOCH FROM time)",
        "UPPER(genres)",
        "LENGTH(genres)",
    ),
]


@pytest.mark.parametrize("text", AS_POLARS_SAYS)
def test_a_function_means_what_polars_means_by_it(text):
    type = "string" if text.startswith("UPPER") else "double"
    values = {
        "genres": ["Drama", "ß", None],
        "year": [0.125, 2.5, 199.5],
        "votes": [1, 2, None],
        "time": [datetime(1969, 12, 28, 16, 30, 0, 250000), datetime(2024, 2, 29), datetime(2023, 12, 31, 23)],
    }
    frame = pl.DataFrame(values).with_columns(pl.col("time").dt.replace_time_zone("Asia/Tokyo"))
    found = RequestFeatures([RequestFeature(name="x", expression=text, type=type)], SCHEMA).on_frame(frame)
    assert found["x"].equals(frame.select(pl.sql_expr(text).cast(DTYPES[type]).alias("x"))["x"])


def test_integers_are_exact_or_null_and_never_rounded():
    declared = {"next": "votes + 1", "square": "votes * votes", "same": "votes", "kept": "COALESCE(votes, 0)"}
    features = RequestFeatures(
        [RequestFeature(name=name, expression=text, type="integer") for name, text in declared.items()], SCHEMA
    )
    big = 2**62 + 1
    assert features.on_request({"votes": big}) == {"next": None, "square": None, "same": big, "kept": big}
    assert features.on_request({"votes": 2**53 - 1})["next"] is None
    assert features.on_request({"votes": 2**53 - 2})["next"] == 2**53 - 1
    assert features.on_request({"votes": 94906265})["square"] == 94906265**2


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


def test_a_time_comes_back_in_utc_and_a_date_as_its_midnight():
    texts = {"time": "time", "day": "day", "latest": "COALESCE(seen, time)"}
    times = RequestFeatures([RequestFeature(name=n, expression=t, type="time") for n, t in texts.items()], SCHEMA)
    found = times.on_request({"time": "2024-01-01T09:00:00+09:00", "day": "2024-01-02", "seen": None})
    assert found == {
        name: datetime(2024, 1, day, tzinfo=UTC) for name, day in {"time": 1, "day": 2, "latest": 1}.items()
    }
    assert {str(value.tzinfo) for value in found.values()} == {"UTC"}


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
    row = {**dict.fromkeys(SCHEMA), "genres": "Drama", "year": 1990.0, "votes": 3, "time": datetime(2024, 1, 1)}
    with pytest.raises(FeatureError, match=column):
        FEATURES.on_request({**row, column: value})


def test_an_absent_column_is_refused_and_a_null_one_is_not():
    with pytest.raises(FeatureError, match="lacks 'genres'"):
        FEATURES.on_request({name: None for name in SCHEMA if name != "genres"})
    with pytest.raises(FeatureError, match=r"'time' as Datetime.*, the frame has None"):
        FEATURES.on_frame(pl.DataFrame(schema=SCHEMA).drop("time"))


@pytest.mark.parametrize(
    ("type", "expression", "reason"),
    [
        ("integer", "year / 10", "a double stands where an integer is needed; a double may have a fraction"),
        ("integer", "votes + 0.5", "a double stands where an integer is needed"),
        ("integer", "genres || 'x'", "a string stands where an integer is needed"),
        ("boolean", "votes + 1", "a double stands where a boolean is needed"),
        ("boolean", "LENGTH(genres)", "an integer stands where a boolean is needed"),
        ("string", "year > 2000", "a boolean stands where a string is needed"),
        ("string", "CASE WHEN adult THEN 1 ELSE 0 END", "a double stands where a string is needed"),
        ("time", "EXTRACT(YEAR FROM time)", "an integer stands where a time is needed"),
        ("double", "UPPER(genres)", "a string stands where a double is needed"),
        ("double", "EXTRACT(HOUR FROM COALESCE(time, seen))", "reads the parts of a column"),
        ("double", "LENGTH(genres) + genres = 3", "several types"),
        ("double", "SUBSTR(genres, 1, 2) = 'Dr'", "not every engine computes Slice exactly"),
        ("decimal", "year", "unknown type 'decimal'"),
    ],
)
def test_an_expression_that_does_not_give_the_declared_type_is_refused_with_the_reason(type, expression, reason):
    (fault,) = RequestFeature(name="x", expression=expression, type=type).faults()
    assert fault.startswith("request feature 'x'")
    assert type in fault
    assert reason in fault


def test_a_declaration_that_does_not_fit_the_columns_is_refused():
    def refused(text, type="double"):
        with pytest.raises(FeatureError) as error:
            RequestFeatures([RequestFeature(name="x", expression=text, type=type)], SCHEMA)
        return str(error.value)

    assert "'x' reads ['director']" in refused("director = 'a'")
    assert "'x' (double): 'EXTRACT(YEAR FROM votes)' does not fit: column 'votes' must hold times, it is Int64" in (
        refused("EXTRACT(YEAR FROM votes)")
    )
    assert "column 'year' must hold integers, it is Float64" in refused("year", "integer")
    assert "column 'genres' must hold numbers" in refused("genres")
    with pytest.raises(InvalidDefinition) as invalid:
        RequestFeatures(
            [RequestFeature(name="x", expression="AVG(year)"), RequestFeature(name="x", expression="(")], SCHEMA
        )
    assert len(invalid.value.faults) == 3


def test_no_request_features_are_fine():
    none = RequestFeatures([], SCHEMA)
    assert none.on_request({}) == {}
    assert none.on_frame(pl.DataFrame({"a": [1]})).width == 0

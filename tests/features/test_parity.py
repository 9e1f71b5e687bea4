"""One meaning in every engine: batch and online equal the reference to the last bit, and nothing sees the future."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.features import windows
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.reference import reference_features
from mlops_assets.features.view import Aggregate, FeatureView

START = datetime(2024, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
TICK = timedelta(microseconds=1)
FUNCTIONS = ("count", "sum", "mean", "min", "max", "std", "last")
VIEW = FeatureView(
    name="user_taste",
    source="shop",
    entity="user",
    event_time="time",
    features=tuple(
        Aggregate(name=f"{function}_{column}_{label}", function=function, column=column, window=window, empty=empty)
        for function in FUNCTIONS
        for column, label, window, empty in (
            ("amount", "all", None, None),
            ("amount", "hour", HOUR, None),
            ("rating", "2h", 2 * HOUR, -1.0),
        )
    ),
)
KEYS = {"user": pl.Int64, "time": pl.Datetime("us", "UTC")}
SCHEMA = {"id": pl.Int64, **KEYS, "amount": pl.Float64, "rating": pl.Float64}

users = st.integers(0, 2)
# Quarter hours, so that ties and windows' edges are hit, and one microsecond to either side of them.
moments = st.builds(
    lambda quarter, jitter: START + quarter * HOUR / 4 + jitter * TICK,
    st.integers(0, 14),
    st.sampled_from([0, 0, 0, -1, 1]),
)
cents = st.integers(-10_000, 10_000).map(lambda value: value / 100)
awkward = st.sampled_from([1e16, -1e16, 1.0, 1e-16, 2.0**-53, 0.1, -0.0, 1e-80, 1e80, 3e-320, 1e16 + 2])
amounts = st.none() | cents | awkward | st.floats(-1e12, 1e12) | st.floats(-(2.0**299), 2.0**299)
ratings = st.none() | st.integers(1, 10).map(lambda value: value / 2)
questions = st.lists(st.tuples(st.integers(0, 3), moments), max_size=12)


@st.composite
def histories(draw, max_size=25):
    rows = draw(st.lists(st.tuples(users, moments, amounts, ratings), max_size=max_size))
    names = ("user", "time", "amount", "rating")
    return [{"id": number, **dict(zip(names, row, strict=True))} for number, row in enumerate(rows)]


def as_events(rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def as_spine(asked):
    return pl.DataFrame(asked, schema=KEYS, orient="row")


def in_batch(rows, asked):
    return PolarsEngine().features_at(VIEW, as_events(rows), as_spine(asked)).rows(named=True)


def assert_batch_equals_reference(rows, asked):
    assert in_batch(rows, asked) == reference_features(VIEW, rows, asked)


@given(histories(), questions)
@settings(max_examples=150)
def test_the_batch_engine_equals_the_reference_to_the_last_bit(rows, asked):
    assert_batch_equals_reference(rows, asked)


@given(histories(), questions, st.data())
@settings(max_examples=150)
def test_the_online_engine_equals_both_whatever_the_order_of_arrival(rows, asked, data):
    online = OnlineFeatures([VIEW], event_key=("id",))
    arrivals = data.draw(st.permutations(rows))
    many = data.draw(st.integers(0, len(arrivals)))
    assert online.bootstrap(as_events(arrivals[:many])) == many
    assert all(online.add(event) for event in arrivals[many:])
    again = data.draw(st.lists(st.sampled_from(rows))) if rows else []
    assert not any(online.add({**event, "amount": 77.0}) for event in again)  # the first of a key counts
    answers = [online.features({"user": who}, when) for who, when in asked]
    assert answers == in_batch(rows, asked) == reference_features(VIEW, rows, asked)


@given(histories(), histories(max_size=8), st.integers(0, 3), moments)
@settings(max_examples=150)
def test_nothing_that_happens_at_or_after_a_moment_changes_its_features(rows, later, who, now):
    past = [row for row in rows if row["time"] < now]
    future = [{**row, "id": 1000 + row["id"], "time": max(row["time"], now)} for row in later]
    assert in_batch(past, [(who, now)]) == in_batch([*future, *past], [(who, now)])
    online = OnlineFeatures([VIEW], event_key=("id",))
    online.bootstrap(as_events(past))
    before = online.features({"user": who}, now)
    online.bootstrap(as_events(future))
    assert online.features({"user": who}, now) == before


@given(histories(), questions, st.data())
@settings(max_examples=60)
def test_each_row_of_the_spine_is_answered_in_its_place(rows, asked, data):
    order = data.draw(st.permutations(range(len(asked))))
    straight, shuffled = in_batch(rows, asked), in_batch(rows, [asked[place] for place in order])
    assert len(straight) == len(asked)
    assert shuffled == [straight[place] for place in order]


@pytest.mark.parametrize(
    ("offset", "seen"), [(0, 0), (-1, 1), (1, 0), (-HOUR // TICK, 1), (-HOUR // TICK - 1, 0), (-HOUR // TICK + 1, 1)]
)
def test_a_window_holds_its_start_and_not_its_end(offset, seen):
    event = {"id": 1, "user": 1, "time": START + offset * TICK, "amount": 5.0, "rating": None}
    online = OnlineFeatures([VIEW], event_key=("id",))
    online.add(event)
    for answer in (in_batch([event], [(1, START)])[0], online.features({"user": 1}, START)):
        assert answer["count_amount_hour"] == seen
        assert answer["last_amount_hour"] == (5.0 if seen else None)


@pytest.mark.parametrize(("mutation", "event_time"), [(+1, START), (-1, START - TICK), (+1, START - HOUR)])
def test_an_engine_that_is_off_by_one_at_an_edge_is_caught(monkeypatch, mutation, event_time):
    """``<=`` for ``<`` at the end or the start of a window: the parity test must not agree with it."""
    search = windows._first_at_or_after
    planted = lambda times, low, high, wanted: search(times, low, high, wanted + mutation)  # noqa: E731
    event = {"id": 1, "user": 1, "time": event_time, "amount": 5.0, "rating": 3.0}
    assert_batch_equals_reference([event], [(1, START)])
    monkeypatch.setattr(windows, "_first_at_or_after", planted)
    with pytest.raises(AssertionError):
        assert_batch_equals_reference([event], [(1, START)])


def test_sums_are_exact_where_running_sums_are_not():
    values = [1e16, 1.0, -1e16, 0.1]
    rows = [
        {"id": n, "user": 1, "time": START + n * TICK, "amount": value, "rating": None}
        for n, value in enumerate(values)
    ]
    assert sum(values) == 0.1
    assert in_batch(rows, [(1, START + HOUR)])[0]["sum_amount_all"] == 1.1


def test_equal_values_deviate_by_exactly_nothing():
    rows = [{"id": n, "user": 1, "time": START + n * TICK, "amount": 0.1, "rating": None} for n in range(10)]
    assert in_batch(rows, [(1, START + HOUR / 2)])[0]["std_amount_hour"] == 0.0


def test_of_several_events_at_the_latest_moment_the_last_is_the_greatest_in_any_order():
    rows = [
        {"id": n, "user": 1, "time": START, "amount": value, "rating": None} for n, value in enumerate((2.0, 9.0, 4.0))
    ]
    for order in (rows, rows[::-1]):
        assert in_batch(order, [(1, START + TICK)])[0]["last_amount_all"] == 9.0


def test_a_time_without_zone_is_utc_and_other_zones_are_the_same_instants():
    rows = [{"id": 1, "user": 1, "time": START, "amount": 5.0, "rating": None}]
    events = as_events(rows)
    asked = pl.DataFrame({"user": [1], "time": [START + HOUR]}, schema=KEYS)
    naive = events.with_columns(pl.col("time").dt.replace_time_zone(None))
    tokyo = events.with_columns(pl.col("time").dt.convert_time_zone("Asia/Tokyo"))
    expected = PolarsEngine().features_at(VIEW, events, asked)
    assert expected["count_amount_hour"].to_list() == [1.0]
    assert PolarsEngine().features_at(VIEW, naive, asked).equals(expected)
    assert PolarsEngine().features_at(VIEW, tokyo, asked).equals(expected)

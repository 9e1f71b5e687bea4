"""A table made in parts, of which only what changed is made again, is the table made whole."""

import re
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from feature_cases import QUARTER, SCHEMA, START, TICK, events, views
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_engine import ReferenceEngine

from mlops_assets.errors import FeatureError
from mlops_assets.features.engine import feature_table
from mlops_assets.features.incremental import compute_slices, inputs_by_slice, lookback, slices_of
from mlops_assets.features.materialization import WHOLE, Materialization, Slice, TimePartitions
from mlops_assets.features.meaning import instant
from mlops_assets.features.view import Aggregate, FeatureView

HOUR = 4 * QUARTER
SLICES = [
    Slice(key=str(n), start=instant(START + (n - 1) * HOUR, ""), end=instant(START + n * HOUR, "")) for n in range(6)
]
"""Six hours that hold all moments of the cases."""

COUNT = Aggregate(name="n", function="count", window=HOUR)
HOURLY = FeatureView(name="v", source="shop", entity="user", event_time="time", features=(COUNT,))


def frame(rows):
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


class Kept:
    """What a store would hold: the slices' tables and what they were computed from."""

    def __init__(self, view):
        self.view, self.tables, self.inputs, self.engine = view, {}, {}, ReferenceEngine()

    def refresh(self, rows):
        """Bring all slices up to date and return the keys of those that were computed."""
        wanted = inputs_by_slice(self.view, rows, SLICES)
        stale = [part for part in SLICES if self.inputs.get(part.key) != wanted[part.key]]
        for part, table in compute_slices(self.view, rows, stale, self.engine):
            self.tables[part.key], self.inputs[part.key] = table, wanted[part.key]
        return [part.key for part in stale]

    def whole(self):
        return pl.concat(self.tables.values()).sort(self.view.entity, self.view.event_time)


@st.composite
def changed(draw, rows):
    """Return rows after one change of the source: some appended, late or not, some corrected, some gone."""
    new = [{**row, "id": 1000 + row["id"]} for row in draw(events(max_size=4))]
    kept = [row for row in rows if draw(st.integers(0, 6)) != 0]
    corrected = [{**row, "amount": 7.25} if draw(st.integers(0, 6)) == 0 else row for row in kept]
    ids = {row["id"] for row in corrected}
    return draw(st.permutations([*corrected, *(row for row in new if row["id"] not in ids)]))


@given(views(most=3), st.data())
@settings(max_examples=40)
def test_whatever_changes_at_the_source_the_parts_are_the_whole(view, data):
    kept, rows = Kept(view), data.draw(events(max_size=12))
    for _ in range(3):
        kept.refresh(frame(rows))
        assert kept.whole().equals(feature_table(view, frame(rows), ReferenceEngine()))
        assert kept.refresh(frame(rows[::-1])) == []
        rows = data.draw(changed(rows))


def test_one_slice_of_all_is_the_whole_table():
    rows = frame([event(1, START), event(2, START + TICK)])
    ((_, table),) = compute_slices(HOURLY, rows, [WHOLE], ReferenceEngine())
    assert table.equals(feature_table(HOURLY, rows, ReferenceEngine()))


def event(id, when, **values):
    return {**dict.fromkeys(SCHEMA), "id": id, "user": "ann", "time": when, "known": when, **values}


@pytest.mark.parametrize(
    ("when", "stale"),
    [
        (START, ["1", "2"]),
        (START + TICK, ["1", "2"]),
        (START - TICK, ["0", "1"]),
        (START + 2 * HOUR, ["3", "4"]),
        (START + 4 * HOUR, ["5"]),
    ],
)
def test_a_late_event_makes_stale_the_slice_it_is_in_and_those_whose_window_reaches_it(when, stale):
    kept = Kept(HOURLY)
    rows = [event(n, START + n * QUARTER) for n in range(16)]
    kept.refresh(frame(rows))
    assert kept.refresh(frame([*rows, event(99, when)])) == stale


def test_an_event_of_all_time_makes_stale_all_that_is_later():
    view = FeatureView(
        name="v",
        source="shop",
        entity="user",
        event_time="time",
        features=(COUNT, Aggregate(name="all", function="count")),
    )
    kept = Kept(view)
    kept.refresh(frame([event(1, START)]))
    assert kept.refresh(frame([event(1, START), event(2, START + HOUR)])) == ["2", "3", "4", "5"]


def test_a_column_that_the_view_does_not_read_makes_nothing_stale():
    kept = Kept(HOURLY)
    kept.refresh(frame([event(1, START)]))
    assert kept.refresh(frame([event(1, START, amount=3.0, known=START + HOUR)])) == []


def test_an_event_delivered_twice_is_not_the_same_as_once():
    kept = Kept(HOURLY)
    kept.refresh(frame([event(1, START)]))
    assert kept.refresh(frame([event(1, START)] * 2)) == ["1", "2"]
    assert kept.refresh(frame([event(1, START)] * 3)) == ["1", "2"]


def test_neighbours_are_asked_for_together_and_others_apart():
    rows = frame([event(n, START + n * HOUR) for n in range(4)])
    engine = ReferenceEngine()
    keys = [part.key for part, _ in compute_slices(HOURLY, rows, [SLICES[4], SLICES[1], SLICES[2]], engine)]
    assert keys == ["1", "2", "4"]
    assert engine.calls == [2, 1]


def test_the_time_to_live_reaches_back_like_a_window():
    view = FeatureView(
        name="v", source="s", entity="user", event_time="time", features=(COUNT,), time_to_live=timedelta(days=2)
    )
    assert (lookback(view), lookback(HOURLY)) == (timedelta(days=2) // TICK, HOUR // TICK)


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (lambda rows: rows.drop("user"), "'user' is missing"),
        (lambda rows: rows.with_columns(time=pl.lit("noon")), "must hold times, found String"),
        (lambda rows: rows.with_columns(time=pl.lit(None, rows.schema["time"])), "is null in 1 events"),
    ],
)
def test_events_that_have_no_place_in_time_are_refused(broken, fault):
    with pytest.raises(FeatureError, match=fault):
        inputs_by_slice(HOURLY, broken(frame([event(1, START)])), SLICES)


@pytest.mark.parametrize(
    ("every", "start", "keys"),
    [
        ("day", date(2024, 2, 28), ["2024-02-28", "2024-02-29", "2024-03-01"]),
        ("month", date(2023, 12, 1), ["2023-12", "2024-01", "2024-02", "2024-03"]),
        ("year", date(2023, 1, 1), ["2023", "2024"]),
    ],
)
def test_partitions_follow_each_other_without_gap_or_overlap(every, start, keys):
    partitions = TimePartitions(every=every, start=start)
    slices = partitions.slices(instant(datetime(2024, 3, 1, tzinfo=UTC), ""))
    assert [part.key for part in slices] == keys
    assert slices == [partitions.slice_of(key) for key in keys]
    assert all(before.end == part.start for before, part in zip(slices, slices[1:], strict=False))
    assert partitions.slices(slices[0].start - 1) == []


def test_there_are_partitions_up_to_the_newest_event_even_where_nothing_happened():
    rows = frame([event(1, datetime(2024, 3, 9, tzinfo=UTC))])
    partitions = TimePartitions(every="month", start=date(2024, 1, 1))
    assert [part.key for part in slices_of(HOURLY, partitions, rows)] == ["2024-01", "2024-02", "2024-03"]
    assert slices_of(HOURLY, partitions, rows.clear()) == []


@pytest.mark.parametrize(
    ("declared", "fault"),
    [
        (TimePartitions(every="week", start=date(2024, 1, 1)), "every is 'week'"),
        (TimePartitions(every="month", start=date(2024, 1, 2)), "not the first day of a month"),
        (TimePartitions(every="day", start="2024-01-01"), r"write date\(2024"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(declared, fault):
    (found,) = Materialization(partitions=declared).faults()
    assert re.search(fault, found)
    assert Materialization(fresh_within=timedelta(0)).faults()
    assert not Materialization(partitions=TimePartitions(every="year", start=date(2024, 1, 1))).faults()

"""Ten million events: all of one entity, online; one of each entity, in batch."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from feature_cases import differences, rows_of

from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.state import MemoryStore
from mlops_assets.features.view import Aggregate, FeatureView

MOST = 10_000_000
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY, YEAR = timedelta(days=1), timedelta(days=360)
TICK = timedelta(microseconds=1)
VIEW = FeatureView(
    name="visits",
    source="shop",
    entity="user",
    event_time="time",
    event_key=("id",),
    features=(
        Aggregate(name="visits", function="count"),
        Aggregate(name="of_day", function="count", window=DAY),
        Aggregate(name="spent", function="sum", column="amount", window=DAY),
        Aggregate(name="mean", function="mean", column="amount", window=90 * DAY),
        Aggregate(name="spread", function="std", column="amount", window=DAY),
        Aggregate(name="most", function="max", column="amount", window=7 * DAY),
        Aggregate(name="last", function="last", column="amount"),
    ),
)
UNKEYED = replace(VIEW, event_key=())
"""For batch, where it costs to look for events that were delivered again; here there are none."""


class Counting(MemoryStore):
    """A store in memory that counts the tiles of each call, and that no reader may remember."""

    def __init__(self):
        super().__init__()
        self.tiles = 0

    def read(self, wanted):
        self.tiles += sum(len(fields) for _, fields in wanted)
        return super().read(wanted)

    def write(self, entity, version, records):
        self.tiles += len(records)
        return super().write(entity, version, records)

    def generation(self):
        return None

    def counted(self, call):
        """Return what a call returns, and the tiles that it read and wrote."""
        self.tiles = 0
        return call(), self.tiles


def of_one_entity(events):
    """Return events of one user, spread over a year."""
    step = YEAR // TICK // events
    return pl.select(id=pl.int_range(events), user=pl.lit("ann")).with_columns(
        time=START + pl.duration(microseconds=pl.col("id") * step), amount=(pl.col("id") * 7919 % 10_007) / 128
    )


def in_batch(frame, moments):
    spine = pl.DataFrame(
        {"user": ["ann"] * len(moments), "time": moments}, schema_overrides={"time": frame["time"].dtype}
    )
    return rows_of(PolarsEngine().features_at(UNKEYED, frame, spine))


@pytest.mark.parametrize(("events", "most"), [(20_000, 40), pytest.param(MOST, 120, marks=pytest.mark.services)])
def test_an_entity_of_so_many_events_takes_a_number_of_tiles_and_not_of_events(events, most):
    frame = of_one_entity(events)
    late = frame[events // 2 :].sample(100, seed=1)
    late = late.with_columns(id=events + pl.int_range(100), time=pl.col("time") + TICK)
    moments = [START + n * YEAR / 12 + n * TICK for n in range(14)]
    meant = in_batch(pl.concat([frame, late]), moments)
    store = Counting()
    online = OnlineFeatures([VIEW], store=store)
    assert online.bootstrap(frame) == events

    def ask(moments):
        asked = [store.counted(lambda at=at: online.features({"user": "ann"}, at)) for at in moments]
        assert max(tiles for _, tiles in asked) <= most
        return [values for values, _ in asked]

    assert not differences(ask(moments[:6]), meant[:6])
    added = [store.counted(lambda row=row: online.add(row)) for row in late.iter_rows(named=True)]
    assert all(is_new for is_new, _ in added)
    assert max(tiles for _, tiles in added) <= most / 2
    assert not differences(ask(moments), meant)


@pytest.mark.parametrize("entities", [20_000, pytest.param(MOST, marks=pytest.mark.services)])
def test_so_many_entities_of_one_event_are_what_a_group_by_says(entities):
    frame = pl.select(user=pl.int_range(entities)).with_columns(
        time=START + pl.duration(seconds=pl.col("user") * 7919 % (7 * 86_400)),
        amount=pl.when(pl.col("user") % 11 != 0).then((pl.col("user") * 7919 % 10_007) / 128),
    )
    frame = frame.sample(fraction=1.0, shuffle=True, seed=1)
    now = START + 7 * DAY
    found = PolarsEngine().features_at(UNKEYED, frame, frame.select("user", time=pl.lit(now)))
    amount, is_of_day = pl.col("amount"), pl.col("time") >= now - DAY
    by_hand = frame.group_by("user", maintain_order=True).agg(
        visits=pl.len().cast(pl.Int64),
        of_day=is_of_day.sum().cast(pl.Int64),
        spent=amount.filter(is_of_day).sum(),
        mean=amount.mean(),
        spread=amount.filter(is_of_day).std(ddof=0),
        most=amount.max(),
        last=amount.drop_nulls().last(),
    )
    assert found.equals(by_hand.drop("user"))

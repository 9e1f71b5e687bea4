"""A column that has another type in a later snapshot: equal features where that means nothing, else a named refusal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import dagster as dg
import polars as pl
import pytest
import small_views
from feature_cases import differences

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.errors import FeatureError
from mlops_assets.features.materialization import Materialization
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.reference import reference_features
from mlops_assets.features.state import FileStore
from mlops_assets.features.view import Aggregate, FeatureView

START = datetime(2024, 3, 30, 22, tzinfo=UTC)
HOUR = timedelta(hours=1)
VIEW = FeatureView(
    name="spending",
    source="shop",
    entity="user",
    event_time="time",
    known_time="known",
    event_key=("id",),
    features=(
        Aggregate(name="total", function="sum", column="amount", window=3 * HOUR),
        Aggregate(name="spread", function="std", column="amount"),
        Aggregate(name="stars", function="sum", column="stars", type="integer"),
        Aggregate(name="paid", function="last", column="paid", type="boolean"),
        Aggregate(name="shops", function="last_k", column="shop", type="string", k=3),
        Aggregate(name="due", function="max", column="due", type="time", where="paid"),
        Aggregate(name="notes", function="count", column="note"),
    ),
)


def snapshot(rows):
    """Return events of two users, one every half hour."""
    numbers = range(rows)
    times = [START + n * HOUR / 2 for n in numbers]
    return pl.DataFrame(
        {
            "id": numbers,
            "user": [n % 2 for n in numbers],
            "time": times,
            "known": [time + HOUR / 2 for time in times],
            "amount": [n * n % 7 for n in numbers],
            "stars": [2**53 + 2 * n for n in numbers],
            "paid": [n % 3 == 0 for n in numbers],
            "shop": [f"shop {n % 4}" for n in numbers],
            "due": times,
            "note": [None if n % 4 else n for n in numbers],
        },
        schema_overrides={name: pl.Datetime("us", "UTC") for name in ("time", "known", "due")},
    )


BEFORE, AFTER = snapshot(8), snapshot(14)
ASKED = [(user, START + n * HOUR) for n in range(9) for user in (0, 1)]
ZONES = {"ms": pl.Datetime("ms", "UTC"), "ns": pl.Datetime("ns", "UTC"), "there": pl.Datetime("us", "Europe/Berlin")}

HARMLESS = {
    "a number to a double": {"amount": pl.col("amount").cast(pl.Float64)},
    "a number to a smaller one": {"amount": pl.col("amount").cast(pl.Int8)},
    "a number to a decimal": {"amount": pl.col("amount").cast(pl.Decimal(10, 2))},
    "an integer to an unsigned one": {"stars": pl.col("stars").cast(pl.UInt64)},
    "a number that is only counted to a double": {"note": pl.col("note").cast(pl.Float64)},
    "a key to a double": {"id": pl.col("id").cast(pl.Float64)},
    "text to a category": {"shop": pl.col("shop").cast(pl.Categorical)},
    "times to milliseconds": {name: pl.col(name).cast(ZONES["ms"]) for name in ("time", "known", "due")},
    "times to nanoseconds": {name: pl.col(name).cast(ZONES["ns"]) for name in ("time", "known", "due")},
    "times to another zone": {name: pl.col(name).cast(ZONES["there"]) for name in ("time", "known", "due")},
    "times to no zone": {name: pl.col(name).dt.replace_time_zone(None) for name in ("time", "known", "due")},
}
REFUSED = {
    "a number to text": ({"amount": pl.col("amount").cast(pl.String)}, "'amount' must hold"),
    "an integer to a double": ({"stars": pl.col("stars").cast(pl.Float64)}, "'stars' must hold"),
    "a boolean to a number": ({"paid": pl.col("paid").cast(pl.Int64)}, "'paid'"),
    "text to a number": ({"shop": pl.col("id")}, "'shop' must hold"),
    "a time to text": ({"time": pl.col("time").dt.to_string()}, "'time' must be a"),
    "a time to a number": ({"known": pl.col("known").dt.epoch()}, "'known' must be a"),
    "an aggregated time to text": ({"due": pl.col("due").dt.to_string()}, "'due' must be a datetime"),
}
REFUSED_BESIDE = {
    "an entity to text": ({"user": pl.col("user").cast(pl.String)}, "'user' holds int, found the str '0'"),
    "an entity to a double": ({"user": pl.col("user").cast(pl.Float64)}, "'user' holds int, found the float 0.0"),
    "a key to text": ({"id": pl.col("id").cast(pl.String)}, "'id' holds numbers, found the str '0'"),
    "a key to a time": ({"id": pl.col("time")}, "'id' holds numbers, found the datetime"),
    "a column that is counted to text": (
        {"note": pl.col("note").cast(pl.String)},
        r"two different events of 0 have the key \(0\.0,\); they differ in 'note' \(0\.0, then '0'\)",
    ),
}
"""These are well by themselves, and are refused where events of the other type are already."""


def faults(online, events):
    found = [online.features({"user": user}, when) for user, when in ASKED]
    return differences(found, reference_features(VIEW, events.rows(named=True), ASKED))


def in_batch(events, view=VIEW):
    spine = pl.DataFrame(ASKED, schema={"user": pl.Int64, "time": pl.Datetime("us", "UTC")}, orient="row")
    return PolarsEngine().features_at(view, events, spine.cast({"time": events.schema["time"]})).rows(named=True)


@pytest.fixture
def online(tmp_path):
    """Return an engine that has the first snapshot, in a file."""
    engine = OnlineFeatures([VIEW], store=FileStore(tmp_path / "features.sqlite"))
    engine.bootstrap(BEFORE)
    return engine


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
@pytest.mark.parametrize("way", ["there", "back"])
def test_where_a_type_means_nothing_features_are_equal_and_no_event_counts_twice(tmp_path, change, way):
    first, second = (BEFORE, AFTER.with_columns(**change)) if way == "there" else (BEFORE.with_columns(**change), AFTER)
    online = OnlineFeatures([VIEW], store=FileStore(tmp_path / "features.sqlite"))
    assert (online.bootstrap(first), online.bootstrap(second)) == (8, 6)
    assert not faults(online, AFTER)
    assert not any(online.add(row) for row in second.rows(named=True))
    assert not faults(online, AFTER)
    assert not differences(in_batch(second), in_batch(AFTER))


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_where_it_changes_the_meaning_it_is_refused_naming_view_and_column(online, change, words):
    changed = AFTER.with_columns(**change)
    with pytest.raises(FeatureError, match=f"feature view 'spending': column {words}"):
        online.bootstrap(changed)
    with pytest.raises(FeatureError, match=f"feature view 'spending': column {words}"):
        online.add(changed.row(9, named=True))
    assert not faults(online, BEFORE)
    if "time" not in change:
        with pytest.raises(FeatureError, match=r"feature view 'spending': column '\w+'.* (must hold|must be)"):
            in_batch(changed)
    assert online.bootstrap(AFTER) == 6  # the type is corrected: nothing was lost
    assert not faults(online, AFTER)


@pytest.mark.parametrize(("change", "words"), REFUSED_BESIDE.values(), ids=REFUSED_BESIDE)
def test_what_would_count_all_events_a_second_time_is_refused(online, change, words):
    changed = AFTER.with_columns(**change)
    with pytest.raises(FeatureError, match=f"feature view 'spending': .*{words}"):
        online.bootstrap(changed)
    with pytest.raises(FeatureError, match="feature view 'spending': "):
        online.add(changed.row(0, named=True))
    assert not faults(online, BEFORE)
    assert online.bootstrap(AFTER) == 6
    assert not faults(online, AFTER)


def test_a_decimal_is_the_event_that_it_was_whatever_its_digits(online):
    cents = BEFORE.with_columns(amount=pl.col("amount") + 0.25)
    for column in (cents["amount"].cast(pl.Decimal(10, 2)), cents["amount"].cast(pl.Decimal(12, 4)), cents["amount"]):
        other = OnlineFeatures([VIEW])
        assert other.bootstrap(cents) == 8
        assert other.bootstrap(cents.with_columns(column)) == 0
    row = BEFORE.row(0, named=True) | {"id": 99, "amount": Decimal("0.10")}
    assert online.add(row)
    assert not online.add(row | {"amount": Decimal("0.1")})


@pytest.mark.parametrize("kept", [Materialization(), small_views.BY_MONTH], ids=["whole", "by month"])
def test_a_table_that_was_materialized_outlives_a_snapshot_of_another_type(tmp_path, kept):
    events, key = small_views.orders(), small_views.KEY
    view = replace(small_views.HABITS, event_key=("user", "time"))
    with dg.DagsterInstance.ephemeral() as instance:
        small_views.materialize(tmp_path, instance, events, view, kept)
        made = small_views.known_parts(instance, key)
        changed = events.with_columns(pl.col("amount").cast(pl.String))
        with pytest.raises(FeatureError, match=r"'habits': column 'amount' must hold numbers, it is String"):
            small_views.materialize(tmp_path, instance, changed, view, kept)
        assert small_views.known_parts(instance, key) == made
        tables = [LocalSnapshots(tmp_path / "snapshots").read(part.digest) for part in made.values()]
        small_views.materialize(tmp_path, instance, events.cast({"amount": pl.Int64}), view, kept)
        after = small_views.known_parts(instance, key)
    assert len(tables) == len(made) > 0
    assert {name: part.digest for name, part in after.items()} == {name: part.digest for name, part in made.items()}

"""What an engine cannot compute as declared is refused, by name, and leaves nothing half done."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest

from mlops_assets.errors import FeatureError, InvalidDefinition
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import Aggregate, FeatureView

START = datetime(2024, 1, 1, tzinfo=UTC)
TOTAL = Aggregate(name="total", function="sum", column="amount")
VIEW = FeatureView(name="spending", source="shop", entity="user", event_time="time", features=(TOTAL,))
EVENTS = pl.DataFrame({"id": [1, 2], "user": [1, 1], "time": [START, START], "amount": [2.0, 3.0]})
SPINE = pl.DataFrame({"user": [1], "time": [START + timedelta(hours=1)]})


def computed(events, spine=SPINE, view=VIEW):
    return PolarsEngine().features_at(view, events, spine)["total"].to_list()


def an_online_engine():
    return OnlineFeatures([VIEW], event_key=("id",))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_a_number_that_is_none_is_refused_naming_view_and_column(bad):
    with pytest.raises(FeatureError, match=r"'spending'.*'amount'"):
        computed(EVENTS.with_columns(amount=pl.Series([1.0, bad])))
    online = an_online_engine()
    event = {"id": 1, "user": 1, "time": START, "amount": bad}
    with pytest.raises(FeatureError, match=r"'spending'.*'amount'"):
        online.add(event)
    assert online.add({**event, "amount": 2.0})  # nothing of the refused event remains, not even its key


@pytest.mark.parametrize("column", ["user", "time", "amount"])
def test_a_missing_column_is_named(column):
    with pytest.raises(FeatureError, match=f"'{column}'"):
        computed(EVENTS.drop(column))
    with pytest.raises(FeatureError, match=f"'{column}'"):
        an_online_engine().bootstrap(EVENTS.drop(column))
    with pytest.raises(FeatureError, match=f"'{column}'"):
        an_online_engine().add(EVENTS.drop(column).row(0, named=True))


@pytest.mark.parametrize("column", ["user", "time"])
def test_a_null_key_is_refused(column):
    holed = EVENTS.with_columns(pl.when(pl.col("id") > 1).then(pl.col(column)).alias(column))
    with pytest.raises(FeatureError, match="null in 1 rows of the events"):
        computed(holed)
    with pytest.raises(FeatureError, match=column):
        an_online_engine().bootstrap(holed)
    with pytest.raises(FeatureError, match="null in 1 rows of the spine"):
        computed(EVENTS, SPINE.with_columns(pl.lit(None, SPINE.schema[column]).alias(column)))


def test_text_and_numbers_that_look_like_times_are_refused():
    with pytest.raises(FeatureError, match="'amount' must hold numbers, it is String"):
        computed(EVENTS.with_columns(amount=pl.lit("2")))
    with pytest.raises(FeatureError, match="'time' must be a Datetime"):
        computed(EVENTS.with_columns(pl.col("time").dt.epoch()))
    with pytest.raises(FeatureError, match="must be a datetime"):
        an_online_engine().add({"id": 1, "user": 1, "time": 5, "amount": 2.0})


def test_a_user_by_number_is_not_the_user_by_text():
    with pytest.raises(FeatureError, match="cast one"):
        computed(EVENTS, SPINE.with_columns(pl.col("user").cast(pl.String)))
    online = an_online_engine()
    assert online.features({"user": "1"}, START) == {"total": 0.0}  # no event yet, so no type yet
    online.bootstrap(EVENTS)
    with pytest.raises(FeatureError, match="holds int, found the str"):
        online.features({"user": "1"}, START)


def test_a_request_without_its_entity_is_refused():
    with pytest.raises(FeatureError, match="'user'"):
        an_online_engine().features({"film": 1}, START)


def test_a_bad_event_among_many_stops_them_all():
    online = an_online_engine()
    with pytest.raises(FeatureError):
        online.bootstrap(EVENTS.with_columns(amount=pl.Series([1.0, float("nan")])))
    assert online.features({"user": 1}, START + timedelta(hours=1)) == {"total": 0.0}


def test_faulty_views_are_refused_with_every_fault():
    view = FeatureView(name="other", source="bank", entity="user", event_time="time", features=(TOTAL,))
    with pytest.raises(InvalidDefinition) as refused:
        OnlineFeatures([VIEW, view], event_key=())
    assert len(refused.value.faults) == 4


def test_no_events_and_no_questions_are_fine():
    assert computed(EVENTS.clear()) == [0.0]
    assert computed(EVENTS, SPINE.clear()) == []
    assert computed(EVENTS.with_columns(amount=pl.lit(None, pl.Float64))) == [0.0]
    assert an_online_engine().bootstrap(EVENTS.clear()) == 0


@pytest.mark.parametrize("dtype", [pl.Int32, pl.Float32, pl.Decimal(10, 2), pl.Boolean, pl.Null])
def test_any_numeric_column_will_do(dtype):
    events = EVENTS.with_columns(amount=pl.lit(None) if dtype == pl.Null else pl.lit(1).cast(dtype))
    expected = 0.0 if dtype == pl.Null else 2.0
    assert computed(events) == [expected]
    online = an_online_engine()
    online.bootstrap(events)
    assert online.features({"user": 1}, START + timedelta(hours=1)) == {"total": expected}
    assert online.add({"id": 9, "user": 1, "time": date(2024, 1, 1), "amount": Decimal("0.5")})


def test_count_needs_no_numbers():
    count = Aggregate(name="total", function="count", column="note")
    view = FeatureView(name="notes", source="shop", entity="user", event_time="time", features=(count,))
    events = EVENTS.with_columns(note=pl.Series(["a", None]))
    online = OnlineFeatures([view], event_key=("id",))
    online.bootstrap(events)
    assert computed(events, view=view) == [1.0]
    assert online.features({"user": 1}, START + timedelta(hours=1)) == {"total": 1.0}


def a_view(type="double", function="last", **options):
    feature = Aggregate(name="total", function=function, column="amount", type=type, **options)
    return FeatureView(name="spending", source="shop", entity="user", event_time="time", features=(feature,))


@pytest.mark.parametrize(
    ("type", "dtype"),
    [("integer", pl.Float64), ("boolean", pl.Int64), ("string", pl.Int64), ("time", pl.Int64), ("double", pl.Date)],
)
def test_a_column_of_another_type_than_declared_is_refused_saying_what_to_do(type, dtype):
    events = EVENTS.with_columns(pl.lit(1).cast(dtype).alias("amount"))
    with pytest.raises(FeatureError, match=r"'spending'.*'amount' must hold .* cast it in the data contract"):
        computed(events, view=a_view(type))


def test_a_decimal_is_its_nearest_double_and_a_longer_one_is_refused():
    events = EVENTS.with_columns(amount=pl.Series([Decimal("0.1"), Decimal("0.2")], dtype=pl.Decimal(15, 2)))
    assert computed(events) == [0.1 + 0.2]
    with pytest.raises(FeatureError, match=r"'amount' is Decimal.*cast it to Float64"):
        computed(events.with_columns(pl.col("amount").cast(pl.Decimal(16, 2))))


@pytest.mark.parametrize("where", ["amount > 1", "amount = 'a'", "amount"])
def test_a_filter_does_not_read_a_column_as_what_it_is_not(where):
    dtype = pl.String if where == "amount > 1" else pl.Int64
    with pytest.raises(FeatureError, match=r"'amount', in .*must hold"):
        computed(EVENTS.with_columns(pl.col("amount").cast(dtype)), view=a_view(function="count", where=where))


def test_an_integer_beyond_64_bits_is_refused():
    events = EVENTS.with_columns(amount=pl.lit(2**63, pl.UInt64))
    with pytest.raises(FeatureError, match=r"'amount' holds integers that 64 bits cannot hold"):
        computed(events, view=a_view("integer"))


@pytest.mark.parametrize("column", ["known", "id"])
def test_a_null_knowledge_time_or_key_is_refused(column):
    view = FeatureView(
        name="spending",
        source="shop",
        entity="user",
        event_time="time",
        known_time="known",
        event_key=("id",),
        features=(TOTAL,),
    )
    events = EVENTS.with_columns(known="time").with_columns(pl.when(pl.col("id") > 1).then(pl.col(column)))
    with pytest.raises(FeatureError, match=f"'{column}' is null in 1 rows of the events"):
        computed(events, view=view)

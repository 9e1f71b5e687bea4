"""Declarations and event histories, drawn by hypothesis: what every engine is driven with against the reference.

Moments lie on quarter hours and one microsecond beside them, windows are whole quarters, so that edges and ties are
hit all the time. Values hold what breaks arithmetic: cancelling sums, tiny and large numbers, -0.0, integers near the
end of 64 bits, text beyond the basic plane.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mlops_assets.features.event_expression import EventExpression
from mlops_assets.features.view import Aggregate, FeatureView, Ratio

START = datetime(2024, 3, 30, 22, tzinfo=UTC)  # clocks in Europe change in this night
QUARTER = timedelta(minutes=15)
TICK = timedelta(microseconds=1)
SCHEMA = {
    "id": pl.Int64,
    "user": pl.String,
    "time": pl.Datetime("us", "UTC"),
    "known": pl.Datetime("us", "UTC"),
    "amount": pl.Float64,
    "stars": pl.Int64,
    "paid": pl.Boolean,
    "shop": pl.String,
    "due": pl.Datetime("us", "UTC"),
}
SPINE = {"user": pl.String, "time": pl.Datetime("us", "UTC")}
COLUMNS = {"double": "amount", "integer": "stars", "boolean": "paid", "string": "shop", "time": "due"}
NET = EventExpression(name="net", expression="CASE WHEN paid THEN amount / stars ELSE amount - 1 END")
CONDITIONS = (
    "paid",
    "shop = 'a'",
    "shop LIKE 'a%' OR stars > 2",
    "NOT paid AND amount IS NOT NULL",
    "amount * 2 >= net",
)

Row = dict[str, Any]

users = st.sampled_from(["ann", "bob", "čeněk"])
moments = st.builds(
    lambda quarters, ticks: START + quarters * QUARTER + ticks * TICK,
    st.integers(0, 14),
    st.sampled_from([0, 0, 0, -1, 1]),
)
_cents = st.integers(-10_000, 10_000).map(lambda value: value / 100)
_awkward = st.sampled_from([1e16, -1e16, 1.0, 1e-16, 2.0**-53, 0.1, -0.0, 1e-80, 1e80, 3e-320, 1e16 + 2])
amounts = st.none() | _cents | _awkward | st.floats(-1e12, 1e12) | st.floats(-(2.0**200), 2.0**200)
stars = st.none() | st.integers(-3, 5) | st.sampled_from([2**62, 2**63 - 1, -(2**63), -(2**62)])
shops = st.none() | st.sampled_from(["a", "ab", "B", "", "ä", "\ue000", "\U0001f600", "100%_'"])
delays = st.sampled_from([timedelta(0), timedelta(0), TICK, QUARTER, 5 * QUARTER, -QUARTER])


@dataclass(frozen=True)
class Case:
    """One view, the events it is computed from and the moments it is asked about."""

    view: FeatureView
    events: list[Row]
    asked: list[tuple[str, datetime]]

    def frame(self) -> pl.DataFrame:
        """Return the events as a frame."""
        return pl.DataFrame(self.events, schema=SCHEMA, orient="row")

    def spine(self) -> pl.DataFrame:
        """Return the questions as a frame."""
        return pl.DataFrame(self.asked, schema=SPINE, orient="row")


@st.composite
def events(draw: st.DrawFn, max_size: int = 25) -> list[Row]:
    """Return events with ids of their own, in any order."""
    drawn = draw(st.lists(st.tuples(users, moments, delays, amounts, stars, shops), max_size=max_size))
    flags = draw(st.lists(st.tuples(st.none() | st.booleans(), st.none() | moments), min_size=max_size))
    return [
        dict(zip(SCHEMA, (number, who, when, when + delay, amount, star, paid, shop, due), strict=True))
        for number, ((who, when, delay, amount, star, shop), (paid, due)) in enumerate(zip(drawn, flags, strict=False))
    ]


@st.composite
def aggregates(draw: st.DrawFn, name: str) -> Aggregate:
    """Return one aggregate of any function, type, window, filter and empty value."""
    function = draw(
        st.sampled_from(("count", "distinct_count", "sum", "mean", "min", "max", "std", "first", "last", "last_k"))
        | st.just("time_since")
    )
    types = {"sum": 2, "mean": 2, "std": 2, "min": 3, "max": 3}
    order = ("double", "integer", "time", "boolean", "string")
    type = draw(st.sampled_from(order[: types.get(function, 5)]))
    column: str | None = draw(st.sampled_from(["net", "amount"])) if type == "double" else COLUMNS[type]
    if function in {"count", "time_since"} and draw(st.booleans()):
        column, type = None, "double"
    window = draw(st.none() | st.integers(1, 12).map(lambda quarters: quarters * QUARTER) | st.just(365 * 96 * QUARTER))
    where = draw(st.none() | st.sampled_from(CONDITIONS))
    result = "integer" if "count" in function else "double" if function in {"mean", "std", "time_since"} else type
    empties = {"double": -1.5, "integer": 7, "boolean": True, "string": "none", "time": START}
    empty = draw(st.sampled_from([None, empties[result]])) if function != "last_k" else None
    k = draw(st.integers(1, 4)) if function == "last_k" else None
    return Aggregate(
        name=name, function=function, column=column, window=window, empty=empty, type=type, where=where, k=k
    )


@st.composite
def views(draw: st.DrawFn, most: int = 6) -> FeatureView:
    """Return a view of some aggregates and a ratio of two of them, with any of its options."""
    features: list[Aggregate | Ratio] = [draw(aggregates(f"f{place}")) for place in range(draw(st.integers(1, most)))]
    numeric = [f.name for f in features if f.result_type in {"double", "integer"} and not f.is_list]
    if numeric:
        pair = draw(st.tuples(st.sampled_from(numeric), st.sampled_from(numeric)))
        features.append(
            Ratio(name="ratio", numerator=pair[0], denominator=pair[1], empty=draw(st.none() | st.just(-1.0)))
        )
    return FeatureView(
        name="drawn",
        source="shop",
        entity="user",
        event_time="time",
        known_time=draw(st.sampled_from([None, "known"])),
        event_key=draw(st.sampled_from([(), ("id",)])),
        columns=(NET,),
        time_to_live=draw(st.none() | st.none() | st.integers(1, 8).map(lambda quarters: quarters * QUARTER)),
        features=tuple(features),
    )


@st.composite
def cases(draw: st.DrawFn, max_size: int = 25) -> Case:
    """Return a case; where the view has a key, some events are delivered again, known at another time."""
    view, rows = draw(views()), draw(events(max_size))
    if view.event_key and rows:
        again = draw(st.lists(st.tuples(st.sampled_from(rows), delays), max_size=4))
        rows = draw(st.permutations([*rows, *({**row, "known": row["known"] + late} for row, late in again)]))
    asked = draw(st.lists(st.tuples(users | st.just("nobody"), moments), max_size=12))
    return Case(view, rows, asked)


def every_feature() -> tuple[Aggregate | Ratio, ...]:
    """Return features of every function on every type it takes, over all time and windows, filtered and not."""
    types = {"sum": 2, "mean": 2, "std": 2, "min": 3, "max": 3}
    order = ("double", "integer", "time", "boolean", "string")
    functions = ("count", "distinct_count", "sum", "mean", "min", "max", "std", "first", "last", "last_k", "time_since")
    features = [
        Aggregate(
            name=f"{function}_{type}_{label}",
            function=function,
            column=COLUMNS[type],
            type=type,
            window=window,
            where=where,
            k=3 if function == "last_k" else None,
        )
        for function in functions
        for type in order[: types.get(function, 5)]
        for label, window, where in (("all", None, None), ("hour", 4 * QUARTER, None), ("paid", 8 * QUARTER, "paid"))
    ]
    ratio = Ratio(name="ratio", numerator="sum_double_hour", denominator="sum_double_all", empty=0.0)
    return (*features, ratio)


EVERYTHING = FeatureView(
    name="everything",
    source="shop",
    entity="user",
    event_time="time",
    known_time="known",
    event_key=("id",),
    time_to_live=10 * QUARTER,
    features=every_feature(),
)


def rows_of(frame: pl.DataFrame) -> list[Mapping[str, Any]]:
    """Return a frame's rows by name."""
    return frame.rows(named=True)


def differences(found: Sequence[Mapping[str, Any]], meant: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return where two answers differ, in value or in type, one line each; NaN equals nothing."""
    if len(found) != len(meant):
        return [f"{len(found)} rows, not {len(meant)}"]
    return [
        f"row {place}, {name}: {row[name]!r}, not {value!r}"
        for place, (row, right) in enumerate(zip(found, meant, strict=True))
        for name, value in right.items()
        if row[name] != value or type(row[name]) is not type(value)
    ]


WORDS = ["a,b", 'say "x"', "\\", "line\nbreak", "", " ", "\ue000", "\U0001f600", "😀a"]


def drawn(strategy: st.SearchStrategy[Any], most: int) -> list[Any]:
    """Return values of a strategy, the same in every run."""
    values: list[Any] = []

    @settings(
        max_examples=most,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def take(value: Any) -> None:
        values.append(value)

    take()
    return values


def history() -> list[dict[str, Any]]:
    """Return some drawn histories as one, with every edge at ``START``, and events delivered again, last of all."""
    longest = sorted(drawn(events(25), 60), key=len)[-6:]
    rows = [{**row, "id": number} for number, row in enumerate(row for rows in longest for row in rows)]
    again = [{**row, "known": row["known"] + late} for row in rows[::5] for late in (QUARTER, -5 * QUARTER)]
    moments_of = [(START, START - QUARTER * (place % 2)) for place in range(len(WORDS))]  # ties at a moment asked about
    moments_of += [(START - QUARTER, START), (START - 4 * QUARTER, START - 4 * QUARTER)]  # known then, a window's start
    edges = [
        dict(zip(SCHEMA, (1000 + place, "ann", *times, 1.0, place % 3, True, word, START), strict=True))
        for place, (times, word) in enumerate(zip(moments_of, [*WORDS, "known", "start"], strict=True))
    ]
    return [*rows[1::2], *edges, *rows[::2], *again]

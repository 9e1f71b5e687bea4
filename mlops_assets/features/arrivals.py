"""From what arrives, one event or a frame of many, to the checked events that the online engine puts away.

Both ways give the same: an event that comes in a frame and again by itself is one event.
"""

import math
from ast import literal_eval
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Any

import polars as pl

from mlops_assets.errors import FeatureError
from mlops_assets.features.event_expression import condition, parse, to_polars
from mlops_assets.features.meaning import LARGEST, SMALLEST, instant, read_value, required, where
from mlops_assets.features.parts import Measure, Measures
from mlops_assets.features.tiles import Event, Leaf
from mlops_assets.features.view import FeatureView

_WHOLE = 2**53
"""From here on every double is a whole number, and not every whole number is a double."""


class Arrivals:
    """Checks a view's events. Raises ``FeatureError`` naming the column for whatever is refused."""

    def __init__(self, view: FeatureView, measures: Measures) -> None:
        self._view, self._measures = view, measures
        same = {view.event_time, view.known_time, view.entity, *view.event_key}  # as the key is, or compared by itself
        self._marked = [name for name in view.inputs if name not in same]

    def event(self, row: Mapping[str, Any]) -> tuple[Any, Event]:
        """Return an event's entity and the event."""
        view, what = self._view, f"an event of feature view {self._view.name!r}"
        entity = required(row, view.entity, what)
        then = instant(required(row, view.event_time, what), where(view, view.event_time))
        known = then
        if view.known_time is not None:
            known = instant(required(row, view.known_time, what), where(view, view.known_time))
        key = [required(row, column, "the event's key") for column in view.event_key]
        values = self._measures.of_event(row)
        mark = (then, *(_plain(row[name]) for name in self._marked))
        return entity, Event(then, known, repr(tuple(map(_plain, key))), repr(mark), values)

    def histories(self, frame: pl.DataFrame) -> Iterator[tuple[Any, Leaf]]:
        """Yield each entity with all of its events in one leaf of any size, each event once."""
        view = self._view
        if missing := sorted(set(view.inputs) - set(frame.columns)):
            raise FeatureError(f"the events of feature view {view.name!r} lack {missing}; they have {frame.columns}")
        for column in {view.entity, view.event_time, view.known_time or view.entity, *view.event_key}:
            if nulls := frame[column].null_count():
                raise FeatureError(f"{where(view, column)} is null in {nulls} events; quarantine them")
        frame = frame.select(view.inputs).sort(view.entity, view.event_time)
        times = self._instants(frame, view.event_time)
        known = times if view.known_time is None else self._instants(frame, view.known_time)
        marks = [repr(mark) for mark in zip(times, *(_plain_list(frame[name]) for name in self._marked), strict=True)]
        keys = [repr(key) for key in zip(*(_plain_list(frame[name]) for name in view.event_key), strict=True)]
        columns = [self._values(frame, measure) for measure in self._measures.measures]
        lengths = frame[view.entity].rle().struct.field("len").cum_sum().to_list()
        entities = frame[view.entity].to_list()
        for start, end in pairwise([0, *lengths]):
            leaf = Leaf(
                tuple(times[start:end]),
                None if known is times or known[start:end] == times[start:end] else tuple(known[start:end]),
                tuple(keys[start:end]),
                tuple(marks[start:end]),
                tuple(tuple(column[start:end]) for column in columns),
            )
            is_once = len(set(leaf.keys)) == end - start
            yield entities[start], leaf if is_once else self._once_each(entities[start], leaf)

    def _once_each(self, entity: Any, leaf: Leaf) -> Leaf:
        """Return the leaf with one event of each key, known when it was first known."""
        first: dict[str, int] = {}
        known = list(leaf.known or leaf.times)
        for place, key in enumerate(leaf.keys):
            other = first.setdefault(key, place)
            if leaf.marks[other] != leaf.marks[place]:
                raise self.conflict(entity, key, leaf.marks[other], leaf.marks[place])
            known[other] = min(known[other], known[place])
        kept = list(first.values())
        return Leaf(
            tuple(leaf.times[place] for place in kept),
            None if leaf.known is None else tuple(known[place] for place in kept),
            tuple(leaf.keys[place] for place in kept),
            tuple(leaf.marks[place] for place in kept),
            tuple(tuple(column[place] for place in kept) for column in leaf.columns),
        )

    def conflict(self, entity: Any, key: str, before: str, after: str) -> FeatureError:
        """Return the error for two events that have one key, by their marks."""
        names = [self._view.event_time, *self._marked]
        pairs = zip(names, literal_eval(before), literal_eval(after), strict=True)
        differ = ", ".join(f"{name!r} ({was!r}, then {value!r})" for name, was, value in pairs if was != value)
        return FeatureError(
            f"feature view {self._view.name!r}: two different events of {entity!r} have the key {key}; "
            f"they differ in {differ}; the first counts"
        )

    def _instants(self, frame: pl.DataFrame, column: str) -> list[int]:
        dtype = frame.schema[column]
        if not isinstance(dtype, pl.Datetime | pl.Date):
            raise FeatureError(f"{where(self._view, column)} must be a Datetime or a Date, it is {dtype}")
        return frame[column].dt.epoch("us").to_list()

    def _values(self, frame: pl.DataFrame, measure: Measure) -> list[Any]:
        view = self._view
        computed = {column.name: to_polars(parse(column.expression)).alias(column.name) for column in view.columns}
        try:
            full = frame.with_columns(computed.values())
            series = pl.repeat(True, full.height, eager=True) if measure.column is None else full[measure.column]
            kept = None if measure.where is None else full.select(to_polars(condition(measure.where))).to_series()
        except pl.exceptions.PolarsError as error:
            raise FeatureError(f"feature view {view.name!r}: an expression does not fit the events: {error}") from None
        if measure.type is None:
            values = [True if there else None for there in series.is_not_null().to_list()]
        else:
            values = _held(series, measure, where(view, str(measure.column)))
        if kept is None:
            return values
        return [value if is_kept else None for value, is_kept in zip(values, kept.to_list(), strict=True)]


def _held(series: pl.Series, measure: Measure, what: str) -> list[Any]:
    """Return the values as they are held; floats are checked all at once."""
    if measure.type == "double" and series.dtype.is_float() and bool((series.abs() < LARGEST).all()):
        doubles = series.cast(pl.Float64)
        return _with_one_zero(doubles, doubles.abs() < SMALLEST)
    assert measure.type is not None
    return [read_value(value, measure.type, what) for value in series.to_list()]


def _with_one_zero(doubles: pl.Series, are_zero: pl.Series) -> list[Any]:
    return pl.select(pl.when(are_zero).then(0.0).otherwise(doubles)).to_series().to_list()


def _plain(part: Any) -> Any:
    """Return a value as it is compared, and as its ``repr`` can be read: numbers are equal whatever their type."""
    if isinstance(part, Decimal):
        part = float(part) if float(part) == part else str(part.normalize())
    if isinstance(part, float | int):
        if abs(part) < _WHOLE:
            return float(part) + 0.0
        return int(part) if math.isfinite(part) else str(part)
    if isinstance(part, date):
        return instant(part, "a time")
    return part if part is None else str(part)


def _plain_list(series: pl.Series) -> Sequence[Any]:
    if series.dtype == pl.String:
        return series.to_list()
    if series.dtype.is_integer() or series.dtype.is_float() or series.dtype == pl.Boolean:
        doubles = series.cast(pl.Float64)
        if bool((doubles.abs() < _WHOLE).all()):
            return _with_one_zero(doubles, doubles == 0.0)
    if isinstance(series.dtype, pl.Datetime | pl.Date):
        return series.dt.epoch("us").to_list()
    return [_plain(value) for value in series.to_list()]

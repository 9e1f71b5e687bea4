"""The meaning of a feature view, written to be read: slow, obvious, in exact fractions. Engines are tested against it.

Belongs here: nothing clever. It shares only the rules of ``meaning.py`` with the engines, none of their code.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from mlops_assets.errors import FeatureError
from mlops_assets.features.event_expression import condition, parse, to_python
from mlops_assets.features.meaning import (
    empty_value,
    instant,
    integer_sum,
    ratio_value,
    read_as,
    read_value,
    reads_values,
    required,
    seconds_since,
    time_to_live_microseconds,
    value_of,
    where,
    window_microseconds,
)
from mlops_assets.features.view import Aggregate, FeatureView


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """One event: who, when it happened and became known (instants), and its columns with the computed ones."""

    entity: Any
    then: int
    known: int
    row: Mapping[str, Any]


def reference_features(
    view: FeatureView, events: Sequence[Mapping[str, Any]], at: Iterable[tuple[Any, datetime]]
) -> list[dict[str, Any]]:
    """Return the features of each (entity, time) of ``at``, looking at every event each time.

    >>> from datetime import timedelta
    >>> count = Aggregate(name="n", function="count", column="x", window=timedelta(days=1))
    >>> view = FeatureView(name="v", source="p", entity="user", event_time="time", features=(count,))
    >>> monday, tuesday = datetime(2024, 1, 1), datetime(2024, 1, 2)
    >>> events = [{"user": 1, "time": monday, "x": 5.0}, {"user": 1, "time": tuesday, "x": 7.0}]
    >>> reference_features(view, events, [(1, monday), (1, tuesday)])
    [{'n': 0}, {'n': 1}]
    """
    known = _once_each(view, [_event(view, row) for row in events])
    return [_features(view, known, who, instant(when, "at")) for who, when in at]


def _event(view: FeatureView, row: Mapping[str, Any]) -> _Event:
    what = f"an event of feature view {view.name!r}"
    then = instant(required(row, view.event_time, what), where(view, view.event_time))
    known = then
    if view.known_time is not None:
        known = instant(required(row, view.known_time, what), where(view, view.known_time))
    full = {**row, **{column.name: to_python(parse(column.expression))(row) for column in view.columns}}
    for feature in view.aggregates:
        if feature.column is not None and reads_values(feature):
            read_value(full[feature.column], read_as(feature), where(view, feature.column))
    return _Event(entity=required(row, view.entity, what), then=then, known=known, row=full)


def _once_each(view: FeatureView, events: Sequence[_Event]) -> list[_Event]:
    """Return the events, those of one key as one, known when it was first known; they must be equal otherwise."""
    if not view.event_key:
        return list(events)
    once: dict[tuple[Any, ...], _Event] = {}
    read = [name for name in view.inputs if name not in {view.known_time, view.event_time}]
    for event in events:
        key = (event.entity, *(required(event.row, column, "the event's key") for column in view.event_key))
        other = once.setdefault(key, event)
        if other.then != event.then or any(other.row[name] != event.row[name] for name in read):
            raise FeatureError(f"feature view {view.name!r}: two different events have the key {key}")
        if event.known < other.known:
            once[key] = event
    return list(once.values())


def _features(view: FeatureView, events: Sequence[_Event], who: Any, now: int) -> dict[str, Any]:
    seen = [event for event in events if event.entity == who and event.then < now and event.known < now]
    if view.known_time is None:
        seen = [event for event in events if event.entity == who and event.then < now]
    lives = time_to_live_microseconds(view)
    if lives is not None and not any(event.then >= now - lives for event in seen):
        seen = []
    values = {feature.name: _value(feature, seen, now) for feature in view.aggregates}
    values |= {ratio.name: ratio_value(ratio, values) for ratio in view.ratios}
    return {name: values[name] for name in view.feature_names}


def _value(feature: Aggregate, seen: Sequence[_Event], now: int) -> Any:
    window = window_microseconds(feature)
    inside = [event for event in seen if window is None or event.then >= now - window]
    if feature.where is not None:
        holds = to_python(condition(feature.where))
        inside = [event for event in inside if holds(event.row) is True]
    pairs: list[tuple[int, Any]] = []
    for event in inside:
        held: Any = True
        if feature.column is not None:
            held = event.row[feature.column]
            held = read_value(held, read_as(feature), feature.column) if reads_values(feature) else held
        if held is not None:
            pairs.append((event.then, held))
    return _aggregate(feature, pairs, now) if pairs else empty_value(feature)


def _aggregate(feature: Aggregate, pairs: list[tuple[int, Any]], now: int) -> Any:
    """Return the aggregate of (instant, value) pairs, of which there is at least one."""
    functions: dict[str, Callable[[], Any]] = {
        "count": lambda: len(pairs),
        "distinct_count": lambda: len({value for _, value in pairs}),
        "sum": lambda: _sum(feature, [value for _, value in pairs]),
        "mean": lambda: _sum(feature, [value for _, value in pairs], type="double") / len(pairs),
        "min": lambda: value_of(min(value for _, value in pairs), feature.type),
        "max": lambda: value_of(max(value for _, value in pairs), feature.type),
        "std": lambda: _deviation([Fraction(value) for _, value in pairs]),
        "first": lambda: value_of(min(pairs)[1], feature.type),
        "last": lambda: value_of(max(pairs)[1], feature.type),
        "last_k": lambda: [value_of(value, feature.type) for _, value in sorted(pairs, reverse=True)[: feature.k]],
        "time_since": lambda: seconds_since(max(then for then, _ in pairs), now),
    }
    return functions[feature.function]()


def _sum(feature: Aggregate, values: list[Any], type: str | None = None) -> Any:
    if (type or feature.type) == "integer":
        return integer_sum(sum(values))
    return float(sum(Fraction(value) for value in values))


def _deviation(values: list[Fraction]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))

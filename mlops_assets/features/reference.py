"""The meaning of a feature view, written to be read: slow, obvious, in exact fractions. Engines are tested against it.

Belongs here: nothing clever. It shares only the rules of ``meaning.py`` with the engines, none of their code.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any

from mlops_assets.features.meaning import empty_value, instant, number, window_microseconds
from mlops_assets.features.view import Aggregate, FeatureView


def reference_features(
    view: FeatureView, events: Sequence[Mapping[str, Any]], at: Iterable[tuple[Any, datetime]]
) -> list[dict[str, float | None]]:
    """Return the features of each (entity, time) of ``at``, looking at every event each time.

    >>> from datetime import timedelta
    >>> count = Aggregate(name="n", function="count", column="x", window=timedelta(days=1))
    >>> view = FeatureView(name="v", source="p", entity="user", event_time="time", features=(count,))
    >>> monday, tuesday = datetime(2024, 1, 1), datetime(2024, 1, 2)
    >>> events = [{"user": 1, "time": monday, "x": 5.0}, {"user": 1, "time": tuesday, "x": 7.0}]
    >>> reference_features(view, events, [(1, monday), (1, tuesday)])
    [{'n': 0.0}, {'n': 1.0}]
    """
    return [{feature.name: _value(view, feature, events, who, when) for feature in view.features} for who, when in at]


def _value(
    view: FeatureView, feature: Aggregate, events: Sequence[Mapping[str, Any]], who: Any, when: datetime
) -> float | None:
    now, window = instant(when, "at"), window_microseconds(feature)
    seen = []
    for event in events:
        then = instant(event[view.event_time], view.event_time)
        is_seen = event[view.entity] == who and then < now and (window is None or now - window <= then)
        if is_seen and event[feature.column] is not None:
            value = 1.0 if feature.function == "count" else number(event[feature.column], feature.column)
            assert value is not None
            seen.append((then, value))
    return _aggregate(feature.function, seen) if seen else empty_value(feature)


def _aggregate(function: str, seen: list[tuple[int, float]]) -> float:
    """Return the aggregate of (time, value) pairs, of which there is at least one."""
    values = [Fraction(value) for _, value in seen]
    mean = sum(values) / len(values)
    results = {
        "count": float(len(values)),
        "sum": float(sum(values)),
        "mean": float(sum(values)) / len(values),
        "min": float(min(values)),
        "max": float(max(values)),
        "std": math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)),
        "last": max(seen)[1],
    }
    return results[function]

"""The online engine: the same features, kept in memory and read at any moment in microseconds.

Per entity and column it keeps the times and values that are not null, sorted, with exact prefix sums in Python
integers; a window is two binary searches. Equal to the batch engine bit for bit, because both follow ``meaning.py``.

Costs: a read is O(log n) per feature, except a windowed ``min`` or ``max``, which looks at the window's values. An
event newer than all others of its entity is O(1) to add; a late one moves that entity's newer events. Each remembered
event costs its key and about 150 bytes per column. State is one process's: after a restart, ``bootstrap`` again.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from mlops_assets.errors import FeatureError, InvalidDefinition
from mlops_assets.features.history import History, evaluator
from mlops_assets.features.meaning import empty_value, instant, number, required, where, window_microseconds
from mlops_assets.features.view import FeatureView


class OnlineFeatures:
    """The features of views over one stream of events, each event counted once.

    ``event_key`` names the columns that identify an event: of several events with one key the first counts. Raises
    ``InvalidDefinition`` if the views are at fault, have different sources, or share a feature's name.
    """

    def __init__(self, views: Iterable[FeatureView], *, event_key: tuple[str, ...]) -> None:
        declared = tuple(views)
        if faults := _faults(declared, event_key):
            raise InvalidDefinition(faults)
        self._views = tuple(_ViewState(view) for view in declared)
        self._event_key = event_key
        self._seen: set[tuple[Any, ...]] = set()

    def bootstrap(self, events: pl.DataFrame) -> int:
        """Add many events at once, in any order, and return how many were new.

        All are checked before any is added; ``FeatureError`` as in ``add``.
        """
        needed = {*self._event_key}.union(*(state.columns for state in self._views))
        if missing := needed - set(events.columns):
            raise FeatureError(f"the events lack {sorted(missing)}; they have {events.columns}")
        parsed = [self._parsed(event) for event in events.select(sorted(needed)).iter_rows(named=True)]
        parsed.sort(key=lambda item: min(then for _, _, then, _ in item[1]))
        return sum(self._put(key, changes) for key, changes in parsed)

    def add(self, event: Mapping[str, Any]) -> bool:
        """Add an event, however late; return whether it was new (``False``: its key was seen, nothing changed).

        Raises ``FeatureError``, and changes nothing, when a key, entity or time is missing or null, a column is
        missing, or a number is NaN, infinite or out of range.
        """
        return self._put(*self._parsed(event))

    def features(self, entities: Mapping[str, Any], at: datetime) -> dict[str, float | None]:
        """Return all features of all views at a moment: of the entities given by column, seeing only events before it.

        An entity without events has empty windows. Raises ``FeatureError`` when an entity is missing, null, or of
        another type than the events' (42 and "42" are not the same user).
        """
        now = instant(at, "at")
        found: dict[str, float | None] = {}
        for state in self._views:
            state.read(entities, now, found)
        return found

    def _parsed(self, event: Mapping[str, Any]) -> tuple[tuple[Any, ...], list["_Change"]]:
        key = tuple(required(event, column, "the event's key") for column in self._event_key)
        return key, [state.parsed(event) for state in self._views]

    def _put(self, key: tuple[Any, ...], changes: Sequence["_Change"]) -> bool:
        if key in self._seen:
            return False
        self._seen.add(key)
        for state, entity, then, values in changes:
            state.put(entity, then, values)
        return True


class _ViewState:
    """One view's histories, by entity and column."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        self._read = {
            column: any(f.column == column and f.function != "count" for f in view.features)
            for column in dict.fromkeys(feature.column for feature in view.features)
        }
        self.columns = {view.entity, view.event_time, *self._read}
        places = {column: place for place, column in enumerate(self._read)}
        self._plan = [
            (f.name, places[f.column], evaluator(f.function), window_microseconds(f), empty_value(f))
            for f in view.features
        ]
        self._empty = {feature.name: empty_value(feature) for feature in view.features}
        self._histories: dict[Any, list[History]] = {}
        self._type: type | None = None

    def parsed(self, event: Mapping[str, Any]) -> "_Change":
        """Return the checked change that the event makes here."""
        entity = self._entity(event)
        moment = required(event, self.view.event_time, f"an event of feature view {self.view.name!r}")
        return self, entity, instant(moment, where(self.view, self.view.event_time)), self._values(event)

    def put(self, entity: Any, then: int, values: Sequence[float | None]) -> None:
        """Make a checked change."""
        histories = self._histories.get(entity)
        if histories is None:
            self._type = type(entity)
            histories = self._histories[entity] = [History() for _ in self._read]
        for history, value in zip(histories, values, strict=True):
            if value is not None:
                history.insert(then, value)

    def read(self, entities: Mapping[str, Any], now: int, found: dict[str, float | None]) -> None:
        """Put the view's features at ``now`` into ``found``."""
        histories = self._histories.get(self._entity(entities))
        if histories is None:
            found.update(self._empty)
            return
        ends = [bisect_left(history.times, now) for history in histories]
        for name, place, function, window, empty in self._plan:
            history, end = histories[place], ends[place]
            start = 0 if window is None else bisect_left(history.times, now - window, 0, end)
            found[name] = function(history, start, end) if start < end else empty

    def _entity(self, row: Mapping[str, Any]) -> Any:
        entity = required(row, self.view.entity, f"feature view {self.view.name!r}")
        if self._type is not None and type(entity) is not self._type:
            raise FeatureError(
                f"{where(self.view, self.view.entity)} holds {self._type.__name__}, "
                f"found the {type(entity).__name__} {entity!r}"
            )
        return entity

    def _values(self, event: Mapping[str, Any]) -> list[float | None]:
        values: list[float | None] = []
        for column, is_read in self._read.items():
            if column not in event:
                raise FeatureError(f"{where(self.view, column)} is missing from the event, which has {sorted(event)}")
            value = event[column]
            counted = None if value is None else 1.0
            values.append(number(value, where(self.view, column)) if is_read else counted)
        return values


_Change = tuple[_ViewState, Any, int, Sequence[float | None]]


def _faults(views: Sequence[FeatureView], event_key: tuple[str, ...]) -> list[str]:
    found = [fault for view in views for fault in view.faults()]
    if not event_key:
        found.append("online features: event_key is empty; name the columns that identify an event")
    if len({view.source for view in views}) > 1:
        sources = {view.name: view.source for view in views}
        found.append(
            f"online features: the views have different sources, {sources}; keep one OnlineFeatures per source"
        )
    names = [name for view in views for name in view.feature_names]
    for name in sorted({name for name in names if names.count(name) > 1}):
        found.append(f"online features: more than one view has a feature named {name!r}")
    return found

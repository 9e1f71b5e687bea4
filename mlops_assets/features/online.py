"""The online engine: state per entity, changed by events, read at any moment; the same features as in batch.

An entity's events are a tree of tiles (``tiles.py``) whose arithmetic is exact (``parts.py``), in a store
(``state.py``) that may be this process's memory, a durable file or Redis. A read asks for an entity's root; a small
entity has nothing else. Of a large one it then asks at once for all tiles that its windows may touch. A write changes
the tiles on one path, whole or not at all; of two writers to one entity the later reads again. An event that is
delivered again changes nothing.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from threading import RLock
from typing import Any

import polars as pl

from mlops_assets.errors import FeaturesAbsent, InvalidDefinition, ServiceUnavailable
from mlops_assets.features.arrivals import Arrivals
from mlops_assets.features.held_types import HeldTypes
from mlops_assets.features.meaning import (
    empty_value,
    instant,
    ratio_value,
    required,
    time_to_live_microseconds,
    value_of,
    window_microseconds,
)
from mlops_assets.features.newest import NewestEvent
from mlops_assets.features.parts import Measures, Piece
from mlops_assets.features.state import MemoryStore, StateStore
from mlops_assets.features.tiles import (
    ROOT,
    Event,
    Leaf,
    Record,
    Window,
    built,
    events_of,
    inserted,
    missing_for_insert,
    recalled,
    window_of,
)
from mlops_assets.features.view import FeatureView
from mlops_assets.ledger.canonical import Digest, digest_of

Row = Mapping[str, Any]
_Tiles = dict[str, Record | None]

MOST_CACHED = 50_000
"""Entities whose tiles are kept decoded, where nobody else can change them unseen."""
_ATTEMPTS = 100
_BATCH = 1000


class OnlineFeatures:
    """The features of views over one stream of events, each event counted once, kept in ``store`` (memory).

    ``event_key`` names the columns that identify an event, for views that declare none. ``on_absent`` is told the name
    of the view at every read of an entity that is absent from it. Raises ``InvalidDefinition`` if the views are at
    fault, have different sources, or share a feature's name.
    """

    def __init__(
        self,
        views: Iterable[FeatureView],
        *,
        event_key: tuple[str, ...] = (),
        store: StateStore | None = None,
        on_absent: Callable[[str], None] = lambda _view: None,
    ) -> None:
        declared = tuple(
            view if view.event_key or not event_key else replace(view, event_key=event_key) for view in views
        )
        if faults := _faults(declared):
            raise InvalidDefinition(faults)
        kept = MemoryStore() if store is None else store
        self.views = declared
        self._views = tuple(_ViewState(view, kept, on_absent) for view in declared)

    @property
    def definitions(self) -> Digest:
        """The digest of all that decides the features."""
        return digest_of({view.name: view.digest for view in self.views})

    def bootstrap(self, events: pl.DataFrame) -> int:
        """Add many events at once, in any order, and return how many were new.

        All are checked before any is added; ``FeatureError`` as in ``add``.
        """
        histories = [state.histories(events) for state in self._views]
        counts = [state.put_many(*found) for state, found in zip(self._views, histories, strict=True)]
        return max(counts, default=0)

    def add(self, event: Row) -> bool:
        """Add an event, however late; return whether it was new (``False``: it was delivered again).

        Raises ``FeatureError``, and changes nothing, when a key, entity or time is missing or null, a column is
        missing, a value is refused, or another event has its key; ``ServiceUnavailable`` when the store is.
        """
        checked = [state.checked(event) for state in self._views]
        are_new = [state.put(*change) for state, change in zip(self._views, checked, strict=True)]
        return any(are_new)

    def features(self, entities: Row, at: datetime) -> dict[str, Any]:
        """Return all features of all views at a moment: of the entities given by column, seeing only events before it.

        Raises ``FeatureError`` when an entity is missing, null, or of another type than the events' (42 and "42" are
        not the same user), and ``FeaturesAbsent`` when an entity is absent and its view refuses that.
        """
        return self.features_of([entities], at)[0]

    def features_of(self, rows: Sequence[Row], at: datetime) -> list[dict[str, Any]]:
        """Return the features of several rows at one moment, read together."""
        now = instant(at, "at")
        found: list[dict[str, Any]] = [{} for _ in rows]
        for state in self._views:
            for values, row in zip(found, state.read(rows, now), strict=True):
                values.update(row)
        return found

    def absent(self, entities: Row, at: datetime) -> tuple[str, ...]:
        """Return the names of the views whose entity is absent at a moment: unknown, or past its time to live."""
        now = instant(at, "at")
        return tuple(state.view.name for state in self._views if state.is_absent(entities, now))

    def newest_events(self) -> dict[str, datetime | None]:
        """Return when the newest event of each view happened, by the view's name; ``None`` if it holds none.

        Of a store that others write to, it may be a second too old.
        """
        return {state.view.name: value_of(state.newest.find(), "time") for state in self._views}


class _ViewState:
    """One view's entities in a store."""

    def __init__(self, view: FeatureView, store: StateStore, on_absent: Callable[[str], None]) -> None:
        self.view = view
        self._store = store
        self._on_absent = on_absent
        self._measures = Measures(view)
        self.arrivals = Arrivals(view, self._measures)
        self._lock = RLock()
        self._prefix = f"{view.name}:{view.digest.removeprefix('sha256:')[:16]}:"
        self.newest = NewestEvent(store, self._prefix + "\0newest")
        self._cache: OrderedDict[str, _Tiles] = OrderedDict()
        self._generation = store.generation()
        self._types = HeldTypes(view, store, self._prefix + "\0type")
        lives = time_to_live_microseconds(view)
        self._windows = list(dict.fromkeys([*([lives] if lives else []), *map(window_microseconds, view.aggregates)]))
        self._lives = lives is not None
        self._steps: dict[tuple[int, int], list[tuple[str, Callable[[Piece, int], Any]]]] = {}
        for f in view.aggregates:
            place = (self._windows.index(window_microseconds(f)), self._measures.places[f.name])
            self._steps.setdefault(place, []).append((f.name, self._measures.finisher(f)))
        self._names, self._ratios = view.feature_names, view.ratios
        self._empty = {feature.name: empty_value(feature) for feature in view.aggregates}

    def checked(self, row: Row) -> tuple[Any, Event, Sequence[Any]]:
        """Return the row's entity, its event, and what its types are taken from."""
        entity, event = self.arrivals.event(row)
        typed = [entity, *(row[column] for column in self.view.event_key)]
        self._types.refuse_others(typed)
        return entity, event, typed

    def histories(self, events: pl.DataFrame) -> tuple[list[tuple[Any, Leaf]], Sequence[Any]]:
        """Return each entity's events, and what their types are taken from: in a column they are all the same."""
        found = list(self.arrivals.histories(events))
        typed = events.select(pl.col(self.view.entity).alias("\0"), *self.view.event_key).row(0) if found else ()
        if found:
            self._types.refuse_others(typed)
        return found, typed

    def _entity_key(self, entity: Any) -> str:
        return f"{self._prefix}{entity}"

    def _remember_types(self, typed: Sequence[Any]) -> None:
        if self._types.remember(typed):
            self._count_write()

    def put(self, entity: Any, event: Event, typed: Sequence[Any]) -> bool:
        """Put an event away; return whether it was new."""
        self._remember_types(typed)
        is_new = self._put(entity, event)
        self._note(event.then)
        return is_new

    def _note(self, then: int) -> None:
        if self.newest.tell(then):
            self._count_write()

    def _put(self, entity: Any, event: Event) -> bool:
        key = self._entity_key(entity)
        with self._lock:
            for _ in range(_ATTEMPTS):
                tiles = self._tiles([key])[0]
                is_whole = True
                while is_whole and (missing := missing_for_insert(tiles, event)):
                    is_whole = self._fetch([(key, tiles, missing)])
                if is_whole:
                    changed, is_new = self._changed(tiles, entity, event)
                    if not changed or self._write(key, tiles, changed):
                        return is_new
                self._cache.pop(key, None)  # somebody wrote in between: read again from the root
        raise ServiceUnavailable(f"feature view {self.view.name!r}: entity {entity!r} is being changed all the time")

    def _changed(self, tiles: _Tiles, entity: Any, event: Event) -> tuple[dict[str, Record], bool]:
        """Return the tiles that the event changes, and whether it is new."""
        try:
            again = recalled(tiles, event)
        except ValueError as marks:
            raise self.arrivals.conflict(entity, event.key, *marks.args) from None
        return (inserted(self._measures, tiles, event), True) if again is None else (again, False)

    def _write(self, key: str, tiles: _Tiles, changed: dict[str, Record]) -> bool:
        root = tiles.get(ROOT)
        if not self._store.write(key, root.version if root else 0, changed):
            return False
        self._count_write()
        tiles.update(changed)
        return True

    def _count_write(self) -> None:
        if self._generation is not None:
            self._generation += 1

    def put_many(self, entities: Sequence[tuple[Any, Leaf]], typed: Sequence[Any]) -> int:
        """Put away all events of entities, those of new ones in one go; return how many events were new."""
        if entities:
            self._remember_types(typed)
        count, batch = 0, dict[str, tuple[Any, Leaf]]()
        newest: int | None = None
        for entity, leaf in entities:
            newest = leaf.times[-1] if newest is None else max(newest, leaf.times[-1])
            batch[self._entity_key(entity)] = (entity, leaf)
            if len(batch) == _BATCH:
                count += self._put_new(batch)
                batch = {}
        count += self._put_new(batch)
        if newest is not None:
            self._note(newest)
        return count

    def _put_new(self, batch: Mapping[str, tuple[Any, Leaf]]) -> int:
        trees = {key: built(self._measures, leaf) for key, (_, leaf) in batch.items()}
        existing = set(self._store.write_new(trees))
        if len(existing) < len(batch):
            self._count_write()
        count = 0
        for key, (entity, leaf) in batch.items():
            if key in existing:
                count += sum(self._put(entity, event) for event in events_of(leaf))
            else:
                self._cache.pop(key, None)
                count += len(leaf.times)
        return count

    def read(self, rows: Sequence[Row], now: int) -> list[dict[str, Any]]:
        """Return the view's features of each row's entity at ``now``."""
        windows = self._windows_of(rows, now, self._windows)
        return [self._values(row, own, now) for row, own in zip(rows, windows, strict=True)]

    def is_absent(self, row: Row, now: int) -> bool:
        """Return whether the entity has no event that still lives."""
        window = self._windows[0] if self._lives else None
        return self._windows_of([row], now, [window])[0][0].is_empty

    def _windows_of(self, rows: Sequence[Row], now: int, wanted: Sequence[int | None]) -> list[list[Window]]:
        what = f"feature view {self.view.name!r}"
        entities = [required(row, self.view.entity, what) for row in rows]
        for entity in entities:
            self._types.refuse_others((entity,))
        keys = list(map(self._entity_key, entities))
        starts = [None if window is None else now - window for window in wanted]
        with self._lock:
            for _ in range(_ATTEMPTS):
                tiles = self._tiles(keys)
                while True:
                    windows = [[window_of(own, start, now) for start in starts] for own in tiles]
                    missing = [set().union(*(window.missing for window in own)) for own in windows]
                    wants = [item for item in zip(keys, tiles, missing, strict=True) if item[2]]
                    if not wants:
                        return windows
                    if not self._fetch(wants):
                        break  # somebody wrote in between: read again from the root
        raise ServiceUnavailable(f"{what}: an entity is being changed all the time")

    def _tiles(self, keys: Sequence[str]) -> list[_Tiles]:
        """Return what is cached of entities, where that can be trusted; else nothing."""
        generation = self._store.generation()
        if generation is None:
            return [{} for _ in keys]
        if generation != self._generation:
            self._cache.clear()
            self._generation = generation
        found = [self._cache.setdefault(key, {}) for key in keys]
        for key in keys:
            self._cache.move_to_end(key)
        while len(self._cache) > max(MOST_CACHED, len(keys)):
            self._cache.popitem(last=False)
        return found

    def _fetch(self, wants: Sequence[tuple[str, _Tiles, set[str]]]) -> bool:
        """Read fields; return whether each entity is still at the version of its root."""
        asked = [(key, [ROOT, *sorted(fields - {ROOT})]) for key, _, fields in wants]
        for (key, tiles, _), (_, fields), records in zip(wants, asked, self._store.read(asked), strict=True):
            read = dict(zip(fields, records, strict=True))
            before, after = tiles.get(ROOT), read[ROOT]
            if before is not None and (after is None or before.version != after.version):
                self._cache.pop(key, None)
                return False
            tiles.update(read)
        return True

    def _values(self, row: Row, windows: Sequence[Window], now: int) -> dict[str, Any]:
        is_absent = windows[0].is_empty if self._lives else all(window.is_empty for window in windows)
        if is_absent:
            self._on_absent(self.view.name)
        if is_absent and self.view.absent == "refuse":
            text = f"{self.view.entity} {row[self.view.entity]!r} has no event" + (" that lives" if self._lives else "")
            raise FeaturesAbsent(f"feature view {self.view.name!r}: {text}, and the view refuses that")
        values = dict(self._empty) if is_absent else self._aggregated(windows, now)
        for ratio in self._ratios:
            values[ratio.name] = ratio_value(ratio, values)
        return {name: values[name] for name in self._names}

    def _aggregated(self, windows: Sequence[Window], now: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for (window, measure), features in self._steps.items():
            piece = windows[window].piece(measure)
            for name, value in features:
                values[name] = value(piece, now)
        return values


def _faults(views: Sequence[FeatureView]) -> list[str]:
    found = [fault for view in views for fault in view.faults()]
    found += [
        f"online features: feature view {view.name!r} has no event_key; name the columns that identify an event, "
        "or an event that is delivered again would count twice"
        for view in views
        if not view.event_key
    ]
    if len({view.source for view in views}) > 1:
        sources = {view.name: view.source for view in views}
        found.append(
            f"online features: the views have different sources, {sources}; keep one OnlineFeatures per source"
        )
    names = [name for view in views for name in view.feature_names]
    for name in sorted({name for name in names if names.count(name) > 1}):
        found.append(f"online features: more than one view has a feature named {name!r}")
    return found

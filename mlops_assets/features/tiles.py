"""One entity's events as a tree of time tiles: a window reads a number of tiles, whatever the number of events in it.

A tile covers a power of two of microseconds. It is a *leaf* and holds its events, sorted, until there are more than
``LEAF``; then its events move into four smaller tiles and it keeps only what ``parts.py`` remembers of them. The root
covers all time; its children cover 4.5 years each. So a small entity is one record, and an entity with n events has
about log4(n / ``LEAF``) tiles on a path. A window takes whole tiles, and along its start the path down to one leaf.

A tile lies under a field named by its size and place, so that a reader can ask for all that it may need at once.

Belongs here: the shape of the tree, pure functions over records. Not here: where records are kept (``state.py``).
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlops_assets.features.parts import Measures, Piece, State

LEAF = 128
"""A leaf holds at most so many events, unless it is as small as tiles get."""
ROOT = "r"
_WIDEST = 47  # log2 of the microseconds of the root's children
_NARROWEST = 11
_STEP = 2

Columns = tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """Events sorted by time: instants, when each was known (``None``: at once), keys, marks, a column per measure."""

    times: tuple[int, ...] = ()
    known: tuple[int, ...] | None = None
    keys: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    columns: Columns = ()
    version: int = 0


@dataclass(frozen=True, slots=True)
class Inner:
    """What a split tile remembers: first and last instant, the latest moment of becoming known, its parts' states.

    The root has also the places of its children, and the log2 size of the smallest tile below it.
    """

    first: int
    last: int
    known: int
    states: Sequence[Sequence[State] | None]
    children: tuple[int, ...] = ()
    deepest: int = _WIDEST
    version: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """The mark of the event that has a key; kept by key where the root is no leaf."""

    mark: str
    version: int = 0


Record = Leaf | Inner | Seen
Tiles = Mapping[str, Record | None]
"""Records by field; ``None`` is known not to exist, an absent one was not read yet."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of an entity, ready to be put away; ``mark`` is equal for equal events of one key."""

    then: int
    known: int
    key: str
    mark: str
    values: Sequence[Any]


def events_of(leaf: Leaf) -> Iterator[Event]:
    """Yield a leaf's events."""
    known = leaf.known or leaf.times
    for place, then in enumerate(leaf.times):
        values = [column[place] for column in leaf.columns]
        yield Event(then, known[place], leaf.keys[place], leaf.marks[place], values)


def field_of(size: int, then: int) -> str:
    """Return the field of the tile of 2^``size`` microseconds that covers an instant.

    >>> field_of(47, 0), field_of(11, 5000)
    ('47:0', '11:2')
    """
    return f"{size}:{then >> size}"


def encoded(tile: Record) -> bytes:
    """Return the record's bytes."""
    if isinstance(tile, Leaf):
        body: list[Any] = [0, tile.version, tile.times, tile.known, tile.keys, tile.marks, tile.columns]
    elif isinstance(tile, Inner):
        body = [1, tile.version, tile.first, tile.last, tile.known, tile.states, tile.children, tile.deepest]
    else:
        body = [2, tile.version, tile.mark]
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()


def decoded(record: bytes) -> Record:
    """Return the record that ``encoded`` wrote."""
    kind, version, *body = json.loads(record)
    if kind == 0:
        times, known, keys, marks, columns = body
        known = None if known is None else tuple(known)
        return Leaf(tuple(times), known, tuple(keys), tuple(marks), tuple(map(tuple, columns)), version)
    if kind == 1:
        first, last, latest, states, children, deepest = body
        return Inner(first, last, latest, states, tuple(children), deepest, version)
    return Seen(body[0], version)


def missing_for_insert(tiles: Tiles, event: Event) -> set[str]:
    """Return the fields that must be read before ``event`` can be put away."""
    root = tiles.get(ROOT)
    if ROOT not in tiles:
        return {ROOT}
    if not isinstance(root, Inner):
        return set()
    path = [field_of(size, event.then) for size in range(_WIDEST, root.deepest - 1, -_STEP)]
    return {field for field in (*path, f"k{event.key}") if field not in tiles}


def recalled(tiles: Tiles, event: Event) -> dict[str, Record] | None:
    """Return the records that change when an event is delivered again (none, unless it was known earlier).

    ``None`` if its key is new; ``ValueError`` of both marks, that in the tree first, if another event has its key.
    """
    root = tiles.get(ROOT)
    field, size = ROOT, _WIDEST
    if isinstance(root, Inner):
        seen = tiles[f"k{event.key}"]
        if seen is None:
            return None
        if isinstance(seen, Seen) and seen.mark != event.mark:
            raise ValueError(seen.mark, event.mark)
        while isinstance(tiles[field], Inner):
            field, size = field_of(size, event.then), size - _STEP
    leaf = tiles[field]
    if not isinstance(leaf, Leaf) or event.key not in leaf.keys:
        return None
    place = leaf.keys.index(event.key)
    if leaf.marks[place] != event.mark:
        raise ValueError(leaf.marks[place], event.mark)
    known = leaf.known or leaf.times
    if known[place] <= event.known:
        return {}
    earlier = replace(leaf, known=(*known[:place], event.known, *known[place + 1 :]))
    changed: dict[str, Record] = {} if root is None else {ROOT: root}
    return _rooted(root, {**changed, field: earlier}, _WIDEST)


def inserted(measures: Measures, tiles: Tiles, event: Event) -> dict[str, Record]:
    """Return the records that change when ``event`` is put away; all of ``missing_for_insert`` must be known."""
    field, size, changed = ROOT, _WIDEST + _STEP, dict[str, Record]()
    deepest = size
    while isinstance(tile := tiles.get(field), Inner):
        changed[field] = replace(
            tile,
            first=min(tile.first, event.then),
            last=max(tile.last, event.then),
            known=max(tile.known, event.known),
            states=measures.grown(tile.states, event.then, event.values),
            children=_with(tile.children, event.then >> _WIDEST) if field == ROOT else (),
        )
        size -= _STEP
        deepest, field = size, field_of(size, event.then)
    leaf = tile if isinstance(tile, Leaf) else Leaf(columns=((),) * len(measures.measures))
    full = _with_event(leaf, event)
    changed |= _built(measures, field, size, full)
    deepest = min([deepest, *map(_size_of, changed)])
    if isinstance(changed[ROOT], Inner):
        new = full if field == ROOT else Leaf(keys=(event.key,), marks=(event.mark,))
        changed |= _seen(new)
    return _rooted(tiles.get(ROOT), changed, deepest)


def _size_of(field: str) -> int:
    return _WIDEST if field == ROOT else int(field.partition(":")[0])


def _seen(leaf: Leaf) -> dict[str, Record]:
    return {f"k{key}": Seen(mark) for key, mark in zip(leaf.keys, leaf.marks, strict=True)}


def _rooted(before: Record | None, changed: dict[str, Record], deepest: int) -> dict[str, Record]:
    """Give the root its next version, and tell it how deep the tree is now."""
    root = changed[ROOT]
    version = before.version + 1 if before else 1
    if isinstance(root, Inner):
        known = before.deepest if isinstance(before, Inner) else _WIDEST
        changed[ROOT] = replace(root, version=version, deepest=min(known, deepest))
    else:
        changed[ROOT] = replace(root, version=version)
    return changed


def _with(children: tuple[int, ...], place: int) -> tuple[int, ...]:
    return children if place in children else tuple(sorted((*children, place)))


def _with_event(leaf: Leaf, event: Event) -> Leaf:
    place = bisect_right(leaf.times, event.then)

    def put(row: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
        return (*row[:place], value, *row[place:])

    known = leaf.times if leaf.known is None and event.known != event.then else leaf.known
    return Leaf(
        put(leaf.times, event.then),
        None if known is None else put(known, event.known),
        put(leaf.keys, event.key),
        put(leaf.marks, event.mark),
        tuple(put(column, value) for column, value in zip(leaf.columns, event.values, strict=True)),
        leaf.version,
    )


def built(measures: Measures, leaf: Leaf) -> dict[str, Record]:
    """Return the whole tree of an entity's events, given as one leaf of any size."""
    changed = _built(measures, ROOT, _WIDEST + _STEP, leaf)
    deepest = min(map(_size_of, changed))
    if isinstance(changed[ROOT], Inner):
        changed |= _seen(leaf)
    return _rooted(None, changed, deepest)


def _built(measures: Measures, field: str, size: int, leaf: Leaf) -> dict[str, Record]:
    """Return the records of a tile of 2^``size`` microseconds: itself, and what it is split into."""
    smaller = size - _STEP
    if len(leaf.times) <= LEAF or smaller < _NARROWEST:
        return {field: leaf}
    changed: dict[str, Record] = {}
    summaries = []
    for start, end in _runs(leaf.times, smaller):
        name = field_of(smaller, leaf.times[start])
        below = _built(measures, name, smaller, _slice(leaf, start, end))
        tile = below[name]
        assert not isinstance(tile, Seen)
        summaries.append(tile.states if isinstance(tile, Inner) else measures.summed(tile.times, tile.columns))
        changed |= below
    children = tuple(dict.fromkeys(then >> _WIDEST for then in leaf.times)) if field == ROOT else ()
    known = max(leaf.known or leaf.times)
    changed[field] = Inner(leaf.times[0], leaf.times[-1], known, measures.merged(summaries), children)
    return changed


def _runs(times: Sequence[int], size: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of the events that share a tile of 2^``size`` microseconds."""
    start = 0
    while start < len(times):
        end = bisect_left(times, ((times[start] >> size) + 1) << size, start)
        yield start, end
        start = end


def _slice(leaf: Leaf, start: int, end: int) -> Leaf:
    return Leaf(
        leaf.times[start:end],
        None if leaf.known is None else leaf.known[start:end],
        leaf.keys[start:end],
        leaf.marks[start:end],
        tuple(column[start:end] for column in leaf.columns),
    )


@dataclass(slots=True)
class Window:
    """What ``[start, now)`` holds: whole tiles, and events of leaves as (leaf, first, end); ``missing`` is unread."""

    start: int | None
    now: int
    tiles: list[Inner]
    slices: list[tuple[Leaf, Sequence[int] | range]]
    missing: set[str]

    @property
    def is_empty(self) -> bool:
        """Whether no event is in it."""
        return not self.tiles and not self.slices

    def piece(self, place: int) -> Piece:
        """Return what it holds of one measure."""
        states = [state for tile in self.tiles if (state := tile.states[place]) is not None]
        if not self.slices:
            return Piece(states, (), ())
        times: Sequence[int] = ()
        values: Sequence[Any] = ()
        for leaf, places in self.slices:
            if isinstance(places, range):
                some_times, some = (
                    leaf.times[places.start : places.stop],
                    leaf.columns[place][places.start : places.stop],
                )
            else:
                some_times, some = (tuple(row[at] for at in places) for row in (leaf.times, leaf.columns[place]))
            if None in some:
                some_times = tuple(then for then, value in zip(some_times, some, strict=True) if value is not None)
                some = tuple(value for value in some if value is not None)
            times, values = (*times, *some_times), (*values, *some)
        return Piece(states, times, values)


def window_of(tiles: Tiles, start: int | None, now: int) -> Window:
    """Return what is known of the events with ``start <= time < now`` (``None``: of all time) that are known by now."""
    window = Window(start, now, [], [], set())
    if ROOT not in tiles:
        window.missing.add(ROOT)
        return window
    root = tiles[ROOT]
    _visit(tiles, window, root, _WIDEST + _STEP, root.deepest if isinstance(root, Inner) else _WIDEST)
    return window


def _visit(tiles: Tiles, window: Window, tile: Record | None, size: int, deepest: int) -> None:
    if isinstance(tile, Leaf):
        if found := _inside(tile, window):
            window.slices.append((tile, found))
        return
    if (
        not isinstance(tile, Inner)
        or tile.first >= window.now
        or (window.start is not None and tile.last < window.start)
    ):
        return
    starts_inside = window.start is None or tile.first >= window.start
    if starts_inside and tile.last < window.now and tile.known < window.now:
        window.tiles.append(tile)
        return
    smaller = size - _STEP
    for place in _places(tile, window, smaller):
        field = f"{smaller}:{place}"
        if field in tiles:
            _visit(tiles, window, tiles[field], smaller, deepest)
        else:
            window.missing.add(field)
            _foresee(window, place, smaller, deepest)


def _places(tile: Inner, window: Window, size: int) -> Sequence[int]:
    """Return the places of the tile's children that the window may touch."""
    last = min(tile.last, window.now - 1) >> size
    first = (tile.first if window.start is None else max(tile.first, window.start)) >> size
    return [place for place in tile.children if first <= place <= last] if tile.children else range(first, last + 1)


def _foresee(window: Window, place: int, size: int, deepest: int) -> None:
    """Ask at once for what lies below an unread tile in which the window starts."""
    if window.start is None or window.start >> size != place:
        return
    for smaller in range(size - _STEP, deepest - 1, -_STEP):
        first = window.start >> smaller
        end = min(((first >> _STEP) + 1) << _STEP, ((window.now - 1) >> smaller) + 1)
        window.missing.update(f"{smaller}:{child}" for child in range(first, end))


def _inside(leaf: Leaf, window: Window) -> Sequence[int]:
    """Return the places of the leaf's events that the window sees."""
    first = 0 if window.start is None else bisect_left(leaf.times, window.start)
    places: Sequence[int] = range(first, bisect_left(leaf.times, window.now, first))
    if leaf.known is not None:
        places = [place for place in places if leaf.known[place] < window.now]
    return places

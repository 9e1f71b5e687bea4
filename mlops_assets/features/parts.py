"""What a tile remembers of the values in it, and how features come from tiles and single values together, exactly.

A *measure* is one stream of values that features read: a column, as a type, of the events that a filter lets through.
A tile keeps for each measure the *parts* its features need; each part is a monoid, so any set of tiles can be put
together. A sum of doubles is kept as the doubles that add up to it without error (Shewchuk, Discrete and Computational
Geometry 18, 1997), so that ``math.fsum`` over tiles and single values rounds once, like the batch engine.

Belongs here: measures, parts and their arithmetic. Not here: which tiles and values a window holds (``tiles.py``).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from heapq import nlargest
from itertools import chain
from math import fsum, ldexp
from typing import Any

from mlops_assets.errors import FeatureError
from mlops_assets.features.event_expression import condition, parse, to_python
from mlops_assets.features.meaning import (
    empty_value,
    integer_sum,
    nearest_variance,
    read_as,
    read_value,
    reads_values,
    seconds_since,
    standard_deviation,
    value_of,
    where,
)
from mlops_assets.features.view import Aggregate, FeatureView, ValueType

_PARTS: dict[str, tuple[str, ...]] = {
    "sum": ("sum",),
    "mean": ("sum",),
    "std": ("sum", "squares"),
    "min": ("least",),
    "max": ("greatest",),
    "first": ("first",),
    "last": ("last",),
    "time_since": ("last",),
    "last_k": ("latest",),
    "distinct_count": ("distinct",),
}

State = Any
"""What a tile keeps of one part; JSON can hold it."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The values of ``column`` read as ``type`` (``None``: only whether they are there) where ``where`` is true."""

    column: str | None
    type: ValueType | None
    where: str | None


@dataclass(slots=True)
class Piece:
    """What a window holds of one measure: the states of whole tiles, and single values sorted by time."""

    tiles: Sequence[Sequence[State]]
    times: Sequence[int]
    values: Sequence[Any]
    total: float | None = None  # the sum, once a feature has asked for it


class Measures:
    """The measures of a view, the parts each needs, and the values that one event gives them."""

    def __init__(self, view: FeatureView) -> None:
        self._view = view
        wanted: dict[Measure, dict[str, None]] = {}
        for feature in sorted(view.aggregates, key=lambda feature: not reads_values(feature)):
            measure = _measure_of(feature, wanted)
            wanted.setdefault(measure, {"count": None}).update(dict.fromkeys(_part_names(feature)))
        self.measures = tuple(wanted)
        self.parts = tuple(tuple(parts) for parts in wanted.values())
        self.places = {f.name: self.measures.index(_measure_of(f, wanted)) for f in view.aggregates}
        self._computed = {column.name: to_python(parse(column.expression)) for column in view.columns}
        self._checks = {
            (f.column, read_as(f)): where(view, f.column) for f in view.aggregates if f.column and reads_values(f)
        }
        self._conditions = {m.where: to_python(condition(m.where)) for m in self.measures if m.where is not None}

    def of_event(self, event: Mapping[str, Any]) -> list[Any]:
        """Return the event's value for each measure, ``None`` where it has none; ``FeatureError`` if one is refused."""
        row = event
        if missing := [name for name in self._view.inputs if name not in event]:
            raise FeatureError(f"{where(self._view, missing[0])} is missing from the event, which has {sorted(event)}")
        try:
            if self._computed:
                row = {**event, **{name: compute(event) for name, compute in self._computed.items()}}
            holds = {text: program(row) is True for text, program in self._conditions.items()}
        except (TypeError, ValueError) as error:
            raise FeatureError(
                f"feature view {self._view.name!r}: an expression does not fit the event: {error}"
            ) from None
        read = {key: read_value(row[key[0]], key[1], what) for key, what in self._checks.items()}
        return [self._value(measure, row, read, holds) for measure in self.measures]

    @staticmethod
    def _value(measure: Measure, row: Mapping[str, Any], read: Mapping[Any, Any], holds: Mapping[str, bool]) -> Any:
        if measure.where is not None and not holds[measure.where]:
            return None
        if measure.column is None:
            return True
        if measure.type is None:
            return None if row[measure.column] is None else True
        return read[measure.column, measure.type]

    def grown(self, states: Sequence[Sequence[State] | None], then: int, values: Sequence[Any]) -> list[Any]:
        """Return a tile's states with one event more."""
        return [
            state if value is None else self._merged(place, state, self._lifted(place, then, value))
            for place, (state, value) in enumerate(zip(states, values, strict=True))
        ]

    def merged(self, tiles: Sequence[Sequence[Sequence[State] | None]]) -> list[Any]:
        """Return the states of several tiles put together."""
        result: list[Any] = [None] * len(self.measures)
        for tile in tiles:
            result = [
                before if state is None else self._merged(place, before, state)
                for place, (before, state) in enumerate(zip(result, tile, strict=True))
            ]
        return result

    def summed(self, times: Sequence[int], columns: Sequence[Sequence[Any]]) -> list[Any]:
        """Return the states of a tile that holds these events, given as a column of values for each measure."""
        result: list[Any] = []
        for place, column in enumerate(columns):
            some, values = times, column
            if None in column:
                some = [then for then, value in zip(times, column, strict=True) if value is not None]
                values = [value for value in column if value is not None]
            result.append([_SUMMED[part](some, values) for part in self.parts[place]] if values else None)
        return result

    def _lifted(self, place: int, then: int, value: Any) -> list[State]:
        return [_LIFT[part](then, value) for part in self.parts[place]]

    def _merged(self, place: int, left: Sequence[State] | None, right: Sequence[State]) -> Sequence[State]:
        if left is None:
            return right
        return [_MERGE[part](a, b) for part, a, b in zip(self.parts[place], left, right, strict=True)]

    def finisher(self, feature: Aggregate) -> Callable[[Piece, int], Any]:
        """Return the function from what a window holds, and now, to the feature's value."""
        parts = self.parts[self.places[feature.name]]
        names = ("count",) if feature.function == "count" else _part_names(feature)
        finish, places = _FINISH[feature.function], [parts.index(name) for name in names]
        empty = empty_value(feature)

        def value(piece: Piece, now: int) -> Any:
            if not piece.values and not piece.tiles:
                return list(empty) if feature.is_list else empty
            return finish(feature, piece, places, now)

        return value


def _measure_of(feature: Aggregate, known: Mapping[Measure, Any]) -> Measure:
    """Return the feature's measure; one that only needs to know what is there shares another's values."""
    if reads_values(feature):
        return Measure(feature.column, read_as(feature), feature.where)
    sharing = (m for m in known if (m.column, m.where) == (feature.column, feature.where))
    return next(sharing, Measure(feature.column, None, feature.where))


def _part_names(feature: Aggregate) -> tuple[str, ...]:
    if feature.function == "last_k":
        return (f"latest:{feature.k}",)
    if feature.function == "sum" and feature.type == "integer":
        return ("total",)
    return _PARTS.get(feature.function, ())


class _ByName(dict[str, Any]):
    """Parts by name; ``latest:k`` is made for its k."""

    def __init__(self, parts: Mapping[str, Any], latest: Callable[[int], Any]) -> None:
        super().__init__(parts)
        self._latest = latest

    def __missing__(self, name: str) -> Any:
        self[name] = self._latest(int(name.removeprefix("latest:")))
        return self[name]


def exact_sum(doubles: Iterable[float]) -> list[float]:
    """Return doubles that add up to the same without error, of which none can be left out.

    >>> exact_sum([1e16, 1.0, -1e16])
    [1.0]
    """
    rest, partials = list(doubles), list[float]()
    while total := fsum(rest):  # each is at most half a unit in the last place of the one before
        partials.append(total)
        rest.append(-total)
    return partials


def _square(value: float) -> list[int]:
    """Return the square as [integer, exponent]: integer times 4^exponent."""
    numerator, denominator = float(value).as_integer_ratio()
    return [numerator * numerator, 1 - denominator.bit_length()]


def _add_squares(left: Sequence[int], right: Sequence[int]) -> list[int]:
    exponent = min(left[1], right[1])
    return [(left[0] << 2 * (left[1] - exponent)) + (right[0] << 2 * (right[1] - exponent)), exponent]


def _distinct(left: Sequence[Any], right: Sequence[Any]) -> list[Any]:
    return list({*left, *right})


_LIFT: dict[str, Callable[[int, Any], State]] = _ByName(
    {
        "count": lambda _then, _value: 1,
        "sum": lambda _then, value: [value] if value else [],
        "total": lambda _then, value: value,
        "squares": lambda _then, value: _square(value),
        "least": lambda _then, value: value,
        "greatest": lambda _then, value: value,
        "first": lambda then, value: [then, value],
        "last": lambda then, value: [then, value],
        "distinct": lambda _then, value: [value],
    },
    lambda _k: lambda then, value: [[then, value]],
)
_MERGE: dict[str, Callable[[State, State], State]] = _ByName(
    {
        "count": lambda left, right: left + right,
        "sum": lambda left, right: exact_sum(chain(left, right)),
        "total": lambda left, right: left + right,
        "squares": _add_squares,
        "least": min,
        "greatest": max,
        "first": min,
        "last": max,
        "distinct": _distinct,
    },
    lambda k: lambda left, right: sorted(chain(left, right), reverse=True)[:k],
)

_SUMMED: dict[str, Callable[[Sequence[int], Sequence[Any]], State]] = _ByName(
    {
        "count": lambda _times, values: len(values),
        "sum": lambda _times, values: exact_sum(values),
        "total": lambda _times, values: sum(values),
        "squares": lambda _times, values: reduce(_add_squares, map(_square, values)),
        "least": lambda _times, values: min(values),
        "greatest": lambda _times, values: max(values),
        "first": lambda times, values: list(min(zip(times, values, strict=True))),
        "last": lambda times, values: list(max(zip(times, values, strict=True))),
        "distinct": lambda _times, values: list(set(values)),
    },
    lambda k: lambda times, values: [list(pair) for pair in nlargest(k, zip(times, values, strict=True))],
)
"""The state of many values at once: that of merging each after the other, in less time."""

_Finish = Callable[[Aggregate, Piece, Sequence[int], int], Any]


def _count(_feature: Aggregate, piece: Piece, places: Sequence[int], _now: int) -> int:
    return len(piece.values) + int(sum(tile[places[0]] for tile in piece.tiles))


def _double_sum(piece: Piece, place: int) -> float:
    if piece.total is None:
        parts = chain(piece.values, *(tile[place] for tile in piece.tiles)) if piece.tiles else piece.values
        piece.total = fsum(parts) + 0.0
    return piece.total


def _sum(feature: Aggregate, piece: Piece, places: Sequence[int], _now: int) -> Any:
    if feature.type == "integer":
        return integer_sum(sum(piece.values) + sum(tile[places[0]] for tile in piece.tiles))
    return _double_sum(piece, places[0])


def _mean(_feature: Aggregate, piece: Piece, places: Sequence[int], _now: int) -> float:
    count = len(piece.values)
    if piece.tiles:
        count += sum(tile[0] for tile in piece.tiles)
    return _double_sum(piece, places[0]) / count


def _std(_feature: Aggregate, piece: Piece, places: Sequence[int], _now: int) -> float:
    count = len(piece.values) + sum(tile[0] for tile in piece.tiles)
    ratios = [value.as_integer_ratio() for value in piece.values]
    finest = max((denominator for _, denominator in ratios), default=1).bit_length() - 1
    exponent = min(-finest, *(tile[places[1]][1] for tile in piece.tiles), 0)
    unit = 1 << -exponent
    integers = [numerator * (unit // denominator) for numerator, denominator in ratios]
    total, squares = sum(integers), sum(integer * integer for integer in integers)
    for tile in piece.tiles:
        total += sum(int(ldexp(partial, -exponent)) for partial in tile[places[0]])
        square, its = tile[places[1]]
        squares += square << 2 * (its - exponent)
    return standard_deviation(nearest_variance(count, total, squares, exponent))


def _extreme(feature: Aggregate, piece: Piece, places: Sequence[int], _now: int) -> Any:
    pick = min if feature.function == "min" else max
    if not piece.tiles:
        return value_of(pick(piece.values), feature.type)
    return value_of(pick(chain(piece.values, (tile[places[0]] for tile in piece.tiles))), feature.type)


def _pairs(piece: Piece, *, latest: bool) -> Iterable[tuple[int, Any]]:
    """Yield the single values that tie for the latest or earliest time, with their time."""
    if not piece.values:
        return
    time = piece.times[-1 if latest else 0]
    order = range(len(piece.times) - 1, -1, -1) if latest else range(len(piece.times))
    for place in order:
        if piece.times[place] != time:
            return
        yield time, piece.values[place]


def _is_alone(times: Sequence[int], *, is_latest: bool) -> bool:
    return times[-1] != times[-2] if is_latest else times[0] != times[1]


def _edge(feature: Aggregate, piece: Piece, places: Sequence[int], _now: int) -> Any:
    is_latest = feature.function == "last"
    if not piece.tiles and (len(piece.times) == 1 or _is_alone(piece.times, is_latest=is_latest)):
        return value_of(piece.values[-1 if is_latest else 0], feature.type)
    pairs = chain(_pairs(piece, latest=is_latest), (tuple(tile[places[0]]) for tile in piece.tiles))
    return value_of((max if is_latest else min)(pairs)[1], feature.type)


def _latest(feature: Aggregate, piece: Piece, places: Sequence[int], _now: int) -> list[Any]:
    single = zip(piece.times, piece.values, strict=True)
    pairs = chain(single, (tuple(pair) for tile in piece.tiles for pair in tile[places[0]]))
    return [value_of(value, feature.type) for _, value in sorted(pairs, reverse=True)[: feature.k]]


def _distinct_count(_feature: Aggregate, piece: Piece, places: Sequence[int], _now: int) -> int:
    return len(set(piece.values).union(*(tile[places[0]] for tile in piece.tiles)))


def _time_since(_feature: Aggregate, piece: Piece, places: Sequence[int], now: int) -> float:
    latest = max(chain(piece.times[-1:], (tile[places[0]][0] for tile in piece.tiles)))
    return seconds_since(latest, now)


_FINISH: dict[str, _Finish] = {
    "count": _count,
    "sum": _sum,
    "mean": _mean,
    "std": _std,
    "min": _extreme,
    "max": _extreme,
    "first": _edge,
    "last": _edge,
    "last_k": _latest,
    "distinct_count": _distinct_count,
    "time_since": _time_since,
}

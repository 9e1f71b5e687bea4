"""The declaration of features: one definition that every engine compiles.

``docs/feature_meaning.md`` says what each word means, ``meaning.py`` holds the rules that engines share, and
``reference.py`` computes them slowly and obviously; every engine is tested against it.

Belongs here: what is declared, and what is wrong with a declaration. Not here: anything that reads data.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from mlops_assets.features.event_expression import EventExpression, event_expression_fault
from mlops_assets.features.request_expression import request_expression_fault
from mlops_assets.ledger.canonical import Digest, digest_of

AggregateName = Literal[
    "count", "distinct_count", "sum", "mean", "min", "max", "std", "first", "last", "last_k", "time_since"
]
FUNCTIONS: tuple[str, ...] = get_args(AggregateName)
ValueType = Literal["double", "integer", "boolean", "string", "time"]
VALUE_TYPES: tuple[str, ...] = get_args(ValueType)
Absent = Literal["default", "refuse"]

MOST_LAST = 1000
"""``last_k`` keeps at most so many values."""

_ASSET_NAME = re.compile(r"[A-Za-z0-9_]+")
_TYPES_OF: dict[str, tuple[str, ...]] = {
    "sum": ("double", "integer"),
    "mean": ("double", "integer"),
    "std": ("double", "integer"),
    "min": ("double", "integer", "time"),
    "max": ("double", "integer", "time"),
}
_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "double": (int, float),
    "integer": int,
    "boolean": bool,
    "string": str,
    "time": datetime,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """``function`` of ``column`` over the events of the last ``window`` (``None``: of all time).

    ``where`` keeps only the events for which an expression over one event's columns is true (not false, not null).
    ``type`` is how the column's values are read. ``empty`` is the value when the window holds no non-null value;
    ``None`` means null, and 0 for the counts and ``sum``.

    ``std`` is the standard deviation of the population (divided by n). ``last`` is the value of the latest event, of
    several at that time the greatest; ``first`` that of the earliest, of several the least; ``last_k`` the ``k`` latest
    by (time, value), newest first. ``time_since`` is the seconds since the latest event, ``column`` or not null, and
    needs no column; nor does ``count``, which then counts events.
    """

    name: str
    function: AggregateName
    column: str | None = None
    window: timedelta | None = None
    empty: float | int | bool | str | datetime | None = None
    type: ValueType = "double"
    where: str | None = None
    k: int | None = None
    description: str = ""

    @property
    def result_type(self) -> ValueType:
        """The type of the feature's values; for ``last_k``, of the values in its lists."""
        if self.function in {"count", "distinct_count"}:
            return "integer"
        return "double" if self.function in {"mean", "std", "time_since"} else self.type

    @property
    def is_list(self) -> bool:
        """Whether each value is a list."""
        return self.function == "last_k"

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        what = f"feature {self.name!r}"
        if not self.name:
            found.append(f"a feature ({self.function} of {self.column!r}) has an empty name")
        if self.function not in FUNCTIONS:
            return [*found, f"{what} has the unknown function {self.function!r}; known: {list(FUNCTIONS)}"]
        if not self.column and (self.column == "" or self.function not in {"count", "time_since"}):
            found.append(f"{what} names no column")
        if self.type not in VALUE_TYPES:
            found.append(f"{what} has the unknown type {self.type!r}; known: {list(VALUE_TYPES)}")
        elif self.type not in _TYPES_OF.get(self.function, VALUE_TYPES):
            known = _TYPES_OF[self.function]
            found.append(f"{what}: {self.function} of {self.type} values has no meaning; it takes {list(known)}")
        if self.where is not None and (fault := event_expression_fault(self.where, wanted="boolean")):
            found.append(f"{what}: where: {fault}")
        return found + self._k_faults() + self._empty_faults() + window_faults(self.window, what, "the window")

    def _k_faults(self) -> list[str]:
        k: Any = self.k
        if self.function != "last_k":
            return [] if k is None else [f"feature {self.name!r} has k={k!r}, which only last_k has"]
        if isinstance(k, int) and not isinstance(k, bool) and 1 <= k <= MOST_LAST:
            return []
        return [f"feature {self.name!r} needs k between 1 and {MOST_LAST}, found {k!r}"]

    def _empty_faults(self) -> list[str]:
        if self.empty is None:
            return []
        if self.is_list:
            return [f"feature {self.name!r} has empty={self.empty!r}; an empty last_k is an empty list"]
        if self.type not in VALUE_TYPES:
            return []
        if self.result_type == "double" and not _is_finite_number(self.empty):
            return [f"feature {self.name!r} has empty={self.empty!r}, which is not a finite number"]
        is_boolean = isinstance(self.empty, bool)
        fits = isinstance(self.empty, _PYTHON_TYPES[self.result_type]) and is_boolean == (self.result_type == "boolean")
        return [] if fits else [f"feature {self.name!r} has empty={self.empty!r}, which is no {self.result_type}"]

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as a JSON value; durations in whole microseconds."""
        empty = float(self.empty) if self.result_type == "double" and self.empty is not None else self.empty  # type: ignore[arg-type]
        return {
            "name": self.name,
            "function": self.function,
            "column": self.column,
            "window_microseconds": _microseconds(self.window),
            "empty": empty.isoformat() if isinstance(empty, datetime) else empty,
            "type": self.type,
            "where": self.where,
            "k": self.k,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """One aggregate of the view divided by another; ``empty`` where either is null or the denominator is 0."""

    name: str
    numerator: str
    denominator: str
    empty: float | None = None
    description: str = ""

    @property
    def result_type(self) -> ValueType:
        """A ratio is a double."""
        return "double"

    @property
    def is_list(self) -> bool:
        """A ratio is one value."""
        return False

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration by itself, one sentence each."""
        found = [] if self.name else [f"a ratio ({self.numerator} / {self.denominator}) has an empty name"]
        if self.empty is not None and not _is_finite_number(self.empty):
            found.append(f"feature {self.name!r} has empty={self.empty!r}, which is not a finite number")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as a JSON value."""
        empty = None if self.empty is None else float(self.empty)
        return {"name": self.name, "numerator": self.numerator, "denominator": self.denominator, "empty": empty}


Feature = Aggregate | Ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureView:
    """Features of one entity, computed from the events of one dataset.

    ``source`` is the product whose dataset holds the events, ``entity`` the column that names the entity,
    ``event_time`` the column that says when the event happened and ``known_time`` the one that says when it became
    known (``None``: at once). ``event_key`` names the columns that identify an event of an entity: events of one key
    are one event, delivered again (empty: every row is an event). ``columns`` are computed from one event's columns
    and may be aggregated like any other.

    With ``time_to_live``, an entity without an event of at most that age is absent: all its features are empty.
    ``absent`` says what serving does with an entity that is absent: ``default`` answers with the empty values,
    ``refuse`` refuses the request.
    """

    name: str
    source: str
    entity: str
    event_time: str
    features: tuple[Feature, ...]
    known_time: str | None = None
    event_key: tuple[str, ...] = ()
    columns: tuple[EventExpression, ...] = ()
    time_to_live: timedelta | None = None
    absent: Absent = "default"
    description: str = ""
    owner: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in the order of their declaration."""
        return tuple(feature.name for feature in self.features)

    @property
    def aggregates(self) -> tuple[Aggregate, ...]:
        """The features that are aggregates."""
        return tuple(feature for feature in self.features if isinstance(feature, Aggregate))

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """The features that are ratios of others."""
        return tuple(feature for feature in self.features if isinstance(feature, Ratio))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns of an event that the view reads, each once: entity, times, key, then what features read."""
        computed = {column.name: column for column in self.columns}
        read = [self.entity, self.event_time, *([self.known_time] if self.known_time else []), *self.event_key]
        for feature in self.aggregates:
            read += [] if feature.column is None or feature.column in computed else [feature.column]
            read += EventExpression(name="where", expression=feature.where).inputs if feature.where else []
        read += [name for column in self.columns for name in column.inputs]
        return tuple(name for name in dict.fromkeys(read) if name not in computed)

    @property
    def digest(self) -> Digest:
        """The digest of all that decides the values; a new description or owner does not change it."""
        return digest_of(
            {
                "name": self.name,
                "source": self.source,
                "entity": self.entity,
                "event_time": self.event_time,
                "known_time": self.known_time,
                "event_key": list(self.event_key),
                "columns": [column.to_json() for column in self.columns],
                "time_to_live_microseconds": _microseconds(self.time_to_live),
                "features": [feature.to_json() for feature in self.features],
            }
        )

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each, all naming the view."""
        found = self._naming_faults() + window_faults(self.time_to_live, "the view", "time_to_live")
        features: object = self.features
        if not isinstance(features, tuple):
            found.append(f"features is a {type(features).__name__}, not a tuple")
        if not self.features:
            found.append("declares no features")
        for part in (*self.features, *self.columns):
            found.extend(part.faults())
        for name in _repeated((*self.feature_names, *(column.name for column in self.columns))):
            found.append(f"feature {name!r} is declared more than once")
        taken = {self.entity, self.event_time, self.known_time or self.entity}
        for name in sorted(taken & set(self.feature_names)):
            found.append(f"feature {name!r} has the name of the entity or event_time column")
        found += [fault for ratio in self.ratios for fault in self._ratio_faults(ratio)]
        return [f"feature view {self.name!r}: {fault}" for fault in found]

    def _naming_faults(self) -> list[str]:
        found = [f"{field} is empty" for field in ("source", "entity", "event_time") if not getattr(self, field)]
        if not _ASSET_NAME.fullmatch(self.name):
            found.append("name must be letters, digits and underscores, because it names an asset")
        if self.entity and self.entity == self.event_time:
            found.append(f"entity and event_time are the same column, {self.entity!r}")
        if self.known_time is not None and self.known_time in {"", self.entity, self.event_time}:
            found.append(f"known_time is {self.known_time!r}; it must be a column of its own, or None")
        if self.absent not in get_args(Absent):
            found.append(f"absent is {self.absent!r}; it must be one of {list(get_args(Absent))}")
        if not isinstance(self.event_key, tuple) or not all(self.event_key):
            found.append(f"event_key must be a tuple of columns, found {self.event_key!r}")
        return found

    def _ratio_faults(self, ratio: Ratio) -> list[str]:
        known = {f.name: f for f in self.aggregates if f.result_type in {"double", "integer"} and not f.is_list}
        return [
            f"feature {ratio.name!r}: {role} {name!r} is no numeric aggregate of the view; those are {sorted(known)}"
            for role, name in (("numerator", ratio.numerator), ("denominator", ratio.denominator))
            if name not in known
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFeature:
    """A feature that only the row or the request knows: ``expression`` is a Polars SQL expression over its columns.

    The expression sees one row and nothing else: an aggregate or a window function is a fault. Its result has ``type``;
    a condition may also be a number, 1 or 0. ``request_expression.py`` says what it may hold.
    """

    name: str
    expression: str
    type: ValueType = "double"

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if self.name else [f"a request feature ({self.expression}) has an empty name"]
        what = f"request feature {self.name!r}"
        if self.type not in VALUE_TYPES:
            return [*found, f"{what} has the unknown type {self.type!r}; known: {list(VALUE_TYPES)}"]
        fault = request_expression_fault(self.expression, self.type)
        return found if fault is None else [*found, f"{what} ({self.type}): {fault}"]


def window_faults(window: Any, what: str, role: str) -> list[str]:
    """Return what is wrong with a duration that may be ``None``."""
    if window is None:
        return []
    if not isinstance(window, timedelta):
        return [f"{what} has {role} {window!r} without unit; write timedelta(hours=1) or the like"]
    if window <= timedelta(0):
        return [f"{what} has {role} {window}, which is not positive"]
    return []


def _microseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(microseconds=1)


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _is_finite_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def spoken(duration: timedelta) -> str:
    """Return a duration as people say it.

    >>> spoken(timedelta(days=365)), spoken(timedelta(minutes=90))
    ('365 days', '1:30:00')
    """
    days, rest = divmod(duration, timedelta(days=1))
    return str(duration) if rest else f"{days} day{'' if days == 1 else 's'}"

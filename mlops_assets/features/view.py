"""The declaration of features: one definition that every engine compiles.

Meaning, the same in every engine: the feature of an entity at time ``t`` sees the events of that entity with
``t - window <= event time < t``. An event at ``t`` itself is not seen, nor is any later one. Nulls in the aggregated
column are not counted. An empty window gives the feature's ``empty`` value. ``meaning.py`` says what a number, an
instant and each function are, to the last bit.

Belongs here: what is declared, and what is wrong with a declaration. Not here: anything that reads data.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, get_args

from mlops_assets.features.expression import row_expression_fault
from mlops_assets.ledger.canonical import Digest, digest_of

AggregateName = Literal["count", "sum", "mean", "min", "max", "std", "last"]
FUNCTIONS: tuple[str, ...] = get_args(AggregateName)

_ASSET_NAME = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """``function`` of ``column`` over the events of the last ``window`` (``None``: of all time).

    ``empty`` is the value when the window holds no non-null value; ``None`` means null, and 0 for ``count`` and
    ``sum``. ``std`` is the standard deviation of the population (divided by n); ``last`` is the value of the latest
    event, and of several at the same latest time the greatest.
    """

    name: str
    function: AggregateName
    column: str
    window: timedelta | None = None
    empty: float | None = None

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = []
        if not self.name:
            found.append(f"a feature ({self.function} of {self.column!r}) has an empty name")
        if not self.column:
            found.append(f"feature {self.name!r} names no column")
        if self.function not in FUNCTIONS:
            found.append(f"feature {self.name!r} has the unknown function {self.function!r}; known: {list(FUNCTIONS)}")
        if self.empty is not None and not _is_finite_number(self.empty):
            found.append(f"feature {self.name!r} has empty={self.empty!r}, which is not a finite number")
        return found + self._window_faults()

    def _window_faults(self) -> list[str]:
        window: Any = self.window
        if window is None:
            return []
        if not isinstance(window, timedelta):
            return [
                f"feature {self.name!r} has the window {window!r} without unit; write timedelta(hours=1) or the like"
            ]
        if window <= timedelta(0):
            return [f"feature {self.name!r} has the window {window}, which is not positive"]
        return []

    def to_json(self) -> dict[str, Any]:
        """Return the declaration as a JSON value; the window in whole microseconds."""
        window = None if self.window is None else self.window // timedelta(microseconds=1)
        empty = None if self.empty is None else float(self.empty)
        return {
            "name": self.name,
            "function": self.function,
            "column": self.column,
            "window_microseconds": window,
            "empty": empty,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureView:
    """Windowed aggregates of one entity, computed from the events of one dataset.

    ``source`` is the product whose dataset holds the events, ``entity`` the column that names the entity, and
    ``event_time`` the column that says when the event happened.
    """

    name: str
    source: str
    entity: str
    event_time: str
    features: tuple[Aggregate, ...]
    description: str = ""
    owner: str | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the features, in the order of their declaration."""
        return tuple(feature.name for feature in self.features)

    @property
    def digest(self) -> Digest:
        """The digest of all that decides the values; a new description or owner does not change it."""
        return digest_of(
            {
                "name": self.name,
                "source": self.source,
                "entity": self.entity,
                "event_time": self.event_time,
                "features": [feature.to_json() for feature in self.features],
            }
        )

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each, all naming the view."""
        found = self._naming_faults()
        features: object = self.features
        if not isinstance(features, tuple):
            found.append(f"features is a {type(features).__name__}, not a tuple")
        if not self.features:
            found.append("declares no features")
        for feature in self.features:
            found.extend(feature.faults())
        for name in _repeated(self.feature_names):
            found.append(f"feature {name!r} is declared more than once")
        for name in {self.entity, self.event_time} & set(self.feature_names):
            found.append(f"feature {name!r} has the name of the entity or event_time column")
        return [f"feature view {self.name!r}: {fault}" for fault in found]

    def _naming_faults(self) -> list[str]:
        found = [f"{field} is empty" for field in ("source", "entity", "event_time") if not getattr(self, field)]
        if not _ASSET_NAME.fullmatch(self.name):
            found.append("name must be letters, digits and underscores, because it names an asset")
        if self.entity and self.entity == self.event_time:
            found.append(f"entity and event_time are the same column, {self.entity!r}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFeature:
    """A feature that only the row or the request knows: ``expression`` is a Polars SQL expression over its columns.

    The expression sees one row and nothing else: an aggregate or a window function is a fault.
    """

    name: str
    expression: str

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if self.name else [f"a request feature ({self.expression}) has an empty name"]
        fault = row_expression_fault(self.expression)
        return found if fault is None else [*found, f"request feature {self.name!r}: {fault}"]


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

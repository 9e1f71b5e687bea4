"""How a view's table is kept: whole, or in parts by time; and how fresh it must be.

Belongs here: the declaration, and which part of the table an instant falls into. Not here: what is in a part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args

from mlops_assets.features.meaning import instant
from mlops_assets.features.view import window_faults

Every = Literal["day", "month", "year"]
FORMATS: dict[Every, str] = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The rows of a table with an event time in [``start``, ``end``), both instants; ``None`` is no bound."""

    key: str
    start: int | None = None
    end: int | None = None


WHOLE = Slice(key="")
"""The one slice of a table that is kept whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePartitions:
    """Parts of a ``day``, ``month`` or ``year`` in UTC, from ``start`` on; each is named by its first moment.

    Events before ``start`` count in later windows, but the table has no rows for them.
    """

    every: Every
    start: date

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        every: Any = self.every
        if every not in get_args(Every):
            return [f"partitions: every is {every!r}; it must be one of {list(get_args(Every))}"]
        if type(self.start) is not date:
            return [f"partitions: start is {self.start!r}; write date(2024, 1, 1) or the like"]
        if self._first(self.start) != self.start:
            return [f"partitions: start is {self.start}, which is not the first day of a {every}"]
        return []

    def slice_of(self, key: str) -> Slice:
        """Return the slice that ``key`` names.

        >>> TimePartitions(every="month", start=date(2024, 1, 1)).slice_of("2024-02").key
        '2024-02'
        """
        first = datetime.strptime(key, FORMATS[self.every]).date()
        return Slice(key=key, start=_midnight(first), end=_midnight(self._next(first)))

    def slices(self, until: int) -> list[Slice]:
        """Return all slices, none left out, up to the one that holds the instant ``until``; none if it is before."""
        first, found = self.start, []
        while _midnight(first) <= until:
            found.append(self.slice_of(first.strftime(FORMATS[self.every])))
            first = self._next(first)
        return found

    def _first(self, day: date) -> date:
        if self.every == "day":
            return day
        return day.replace(day=1) if self.every == "month" else day.replace(month=1, day=1)

    def _next(self, first: date) -> date:
        return self._first(first + timedelta(days={"day": 1, "month": 31, "year": 366}[self.every]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Materialization:
    """How a product's own views are kept. ``partitions`` (``None``: whole) are those of all of them.

    ``fresh_within`` is the greatest age of the newest event in a table, and of its last materialization, that needs no
    attention (``None``: any).
    """

    partitions: TimePartitions | None = None
    fresh_within: timedelta | None = None

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = self.partitions.faults() if self.partitions else []
        return found + window_faults(self.fresh_within, "the materialization", "fresh_within")


def spoken_keys(keys: Sequence[str], most: int = 5) -> str:
    """Return some keys in words.

    >>> spoken_keys(["2024-01", "2024-02", "2024-03"], most=2)
    '2024-01, 2024-02 and 1 more'
    """
    rest = len(keys) - most
    return ", ".join(keys[:most]) + (f" and {rest} more" if rest > 0 else "")


def _midnight(day: date) -> int:
    return instant(datetime(day.year, day.month, day.day, tzinfo=UTC), "start")

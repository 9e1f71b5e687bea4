"""The values that features aggregate: one column of the events, read as one type, under one filter.

Belongs here: each aggregate over ranges of positions, in numbers. Not here: who sees which range, and types of results.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlops_assets.features.columns import Mask, Values
from mlops_assets.features.distinct import DistinctCounts, distinct_counts_of
from mlops_assets.features.exact import (
    Deviations,
    ExactPrefixes,
    IntegerPrefixes,
    Integers,
    deviations_of,
    integer_prefixes_of,
    prefixes_of,
)
from mlops_assets.features.extremes import Extremes, extremes_of
from mlops_assets.features.view import Aggregate
from mlops_assets.features.windows import ColumnKey, Timeline, column_key

SourceKey = tuple[ColumnKey | None, str | None]
Answer = tuple[Values, Mask | None]
"""Values, and which of them are not null (None: all)."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges ``[start, end)`` of a source's values for a block of the spine, whose instants are ``now``.

    ``first`` is where the values of the row's entity start. None is empty but where ``is_empty``, whose answer is
    arbitrary. ``digits`` keeps what sums, means and deviations share.
    """

    now: Integers
    first: Integers
    start: Integers
    end: Integers
    count: Integers
    is_empty: Mask
    digits: dict[str, list[Integers]] = field(default_factory=dict)


class Source:
    """The values of a column that are there and pass a filter, and what was made of them to answer for ranges."""

    def __init__(self, timeline: Timeline, key: SourceKey) -> None:
        column, text = key
        held = None if column is None else timeline.columns[column]
        mask = None if text is None else timeline.filters[text]
        if held is not None and held.present is not None:
            mask = held.present if mask is None else mask & held.present
        self.type = None if column is None else column[1]
        self.categories = None if held is None else held.categories
        self._timeline = timeline
        self._mask = mask
        self._position = None if mask is None else _positions(mask)
        self._values = None if held is None or self.type is None else self._kept(held.values)

    def ranges(self, now: Integers, first: Integers, start: Integers, end: Integers) -> Ranges:
        """Return the ranges of this source's values within ranges of events."""
        if self._position is not None:
            first, start, end = (self._position.take(place).astype(np.int64) for place in (first, start, end))
        count = end - start
        is_empty = count == 0
        if is_empty.any():
            last = max(self.size - 1, 0)
            start = np.minimum(start, last)
            end = np.maximum(end, start + 1)
        return Ranges(now, first, start, end, count, is_empty)

    @cached_property
    def size(self) -> int:
        """The number of values."""
        return len(self._timeline.times) if self._position is None else int(self._position[-1])

    def prepare(self, function: str) -> None:
        """Make what ``function`` needs, once; afterwards threads may ask at the same time."""
        if not self.size:
            return
        needs: dict[str, tuple[str, ...]] = {
            "sum": ("_integer_sums",) if self.type == "integer" else ("_sums",),
            "mean": ("_sums",),
            "std": ("_sums", "_deviations"),
            "min": ("_least",),
            "max": ("_greatest",),
            "distinct_count": ("_distinct",),
            "first": ("_ordered",),
            "last": ("_ordered",),
            "last_k": ("_ordered",),
            "time_since": ("_times",),
        }
        for name in needs.get(function, ()):
            getattr(self, name)

    def answer(self, function: str, ranges: Ranges) -> Answer:
        """Return the function over the ranges; a time and a string as its number."""
        if not self.size:
            return np.zeros(len(ranges.count), np.int64), None
        answers: dict[str, Callable[[Ranges], Values]] = {
            "count": lambda asked: asked.count,
            "distinct_count": lambda asked: self._distinct.of(asked.first, asked.start, asked.end),
            "mean": lambda asked: self._totals(asked) / (asked.end - asked.start),
            "std": lambda asked: self._deviations.of(self._digits(asked), asked.start, asked.end),
            "min": lambda asked: self._least.of(asked.start, asked.end),
            "max": lambda asked: self._greatest.of(asked.start, asked.end),
            "first": lambda asked: self._ordered.take(asked.start),
            "last": lambda asked: self._ordered.take(asked.end - 1),
            "time_since": lambda asked: (asked.now - self._times.take(asked.end - 1)) / 1e6,
        }
        if function == "sum":
            is_integer = self.type == "integer"
            return self._integer_sums.sums(ranges.start, ranges.end) if is_integer else (self._totals(ranges), None)
        return answers[function](ranges), None

    def latest(self, ranges: Ranges, most: int) -> tuple[Integers, Values]:
        """Return how many values ``last_k`` gives for each range, and all of them, one range after the other."""
        counts = np.minimum(ranges.count, most)
        if not self.size:
            return counts, np.zeros(0, np.int64)
        offset = np.cumsum(counts) - counts
        back = np.arange(int(counts.sum())) - np.repeat(offset, counts)
        return counts, self._ordered.take(np.repeat(ranges.end - 1, counts) - back)

    def _digits(self, ranges: Ranges) -> list[Integers]:
        if "sum" not in ranges.digits:
            ranges.digits["sum"] = self._sums.digits(ranges.start, ranges.end)
        return ranges.digits["sum"]

    def _totals(self, ranges: Ranges) -> Values:
        return self._sums.sums(self._digits(ranges))

    def _kept(self, values: Values) -> Values:
        return values if self._mask is None else values[self._mask]

    @property
    def values(self) -> Values:
        """The values, sorted by entity and time."""
        if self._values is None:
            raise AssertionError("only the nulls of this column are read")
        return self._values

    @cached_property
    def _sums(self) -> ExactPrefixes:
        return prefixes_of(self.values, self._timeline.longest)

    @cached_property
    def _integer_sums(self) -> IntegerPrefixes:
        return integer_prefixes_of(self.values, self._timeline.longest)

    @cached_property
    def _deviations(self) -> Deviations:
        return deviations_of(self.values, self._sums, self._timeline.longest)

    @cached_property
    def _least(self) -> Extremes:
        return extremes_of(self.values, np.minimum, self._timeline.longest)

    @cached_property
    def _greatest(self) -> Extremes:
        return extremes_of(self.values, np.maximum, self._timeline.longest)

    @cached_property
    def _distinct(self) -> DistinctCounts:
        return distinct_counts_of(self.values, self._kept(self._timeline.group))

    @cached_property
    def _times(self) -> Integers:
        return self._kept(self._timeline.times)

    @cached_property
    def _ordered(self) -> Values:
        """The values, of one entity and time from the least to the greatest."""
        run = self._kept(self._timeline.run)
        is_tied = np.zeros(len(run), bool)
        is_tied[1:] = run[1:] == run[:-1]
        is_tied[:-1] |= is_tied[1:]
        tied = np.flatnonzero(is_tied)
        if not len(tied):
            return self.values
        ordered = self.values.copy()
        ordered[tied] = ordered[tied][np.lexsort((ordered[tied], run[tied]))]
        return ordered


def _positions(mask: Mask) -> npt.NDArray[np.int32]:
    """Return the number of kept events before each, and before the end."""
    positions = np.zeros(len(mask) + 1, np.int32)
    np.cumsum(mask, dtype=np.int32, out=positions[1:])
    return positions


def source_key(feature: Aggregate) -> SourceKey:
    """Return which source the feature aggregates."""
    return column_key(feature), feature.where

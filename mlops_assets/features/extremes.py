"""Least and greatest values of ranges of positions, vectorised, exact for doubles and 64-bit integers alike.

A range is covered by two overlapping blocks of the greatest power of two that fits (a sparse table). The table is made
for the part of the column that a block of questions touches, which stays in the processor's cache; only ranges of a
thousand events and more need something that covers the whole column: spans of 512 and a table over every 512th.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops_assets.features.columns import Values
from mlops_assets.features.exact import Integers

Pick = Callable[[Any, Any], Any]

_SPAN_LEVEL = 9
_SPAN = 1 << _SPAN_LEVEL
_LONG = 2 * _SPAN
_LEVELS = np.frexp(np.arange(_LONG, dtype=np.float64))[1].clip(1).astype(np.int64) - 1
_SPARSE = 8


@dataclass(frozen=True, slots=True)
class Extremes:
    """The extremes of a column; ``pick`` is ``np.minimum`` or ``np.maximum``."""

    values: Values
    pick: Any
    spans: Values
    coarse: list[Values]

    def of(self, start: Integers, end: Integers) -> Values:
        """Return the extremes of ``[start, end)``, none of them empty."""
        length = end - start
        is_long = length >= _LONG
        if not is_long.any():
            return self._short(start, end)
        results = np.empty(len(start), self.values.dtype)
        results[is_long] = self._long(start[is_long], end[is_long])
        short = ~is_long
        if short.any():
            results[short] = self._short(start[short], end[short])
        return results

    def _short(self, start: Integers, end: Integers) -> Values:
        low, high = int(start.min()), int(end.max())
        if high - low > _SPARSE * len(start):
            return self._one_by_one(start, end)
        level = _LEVELS.take(end - start)
        table = _table(self.values[low:high], self.pick, int(level.max()) + 1)
        rows = level * (high - low) - low
        flat = table.ravel()
        return self.pick(flat.take(rows + start), flat.take(rows + end - (1 << level)))  # type: ignore[no-any-return]

    def _one_by_one(self, start: Integers, end: Integers) -> Values:
        """For few and far ranges, of which a table would be mostly unused."""
        bounds = np.column_stack((start, end - 1)).ravel()
        return self.pick(self.pick.reduceat(self.values, bounds)[::2], self.values[end - 1])  # type: ignore[no-any-return]

    def _long(self, start: Integers, end: Integers) -> Values:
        """Return the pick of the first and last 512 values and of the aligned 512s between them."""
        found = self.pick(self.spans[start], self.spans[end - _SPAN])
        low, high = -(-start >> _SPAN_LEVEL), end >> _SPAN_LEVEL
        levels = np.frexp((high - low).astype(np.float64))[1] - 1
        for level in np.unique(levels):
            rows = np.flatnonzero(levels == level)
            table = self.coarse[level]
            middle = self.pick(table[low[rows]], table[high[rows] - (1 << int(level))])
            found[rows] = self.pick(found[rows], middle)
        return found  # type: ignore[no-any-return]


def extremes_of(values: Values, pick: Any, longest: int) -> Extremes:
    """Return what answers for the extremes of ranges of ``values``, none longer than ``longest``."""
    if longest < _LONG or len(values) < _LONG:
        return Extremes(values, pick, values[:0], [])
    spans = values
    for level in range(_SPAN_LEVEL):
        spans = pick(spans[: -(1 << level)], spans[1 << level :])
    coarse = [spans[::_SPAN]]
    while len(coarse[-1]) > (half := 1 << (len(coarse) - 1)):
        coarse.append(pick(coarse[-1][:-half], coarse[-1][half:]))
    return Extremes(values, pick, spans, coarse)


def _table(values: Values, pick: Pick, levels: int) -> Values:
    table = np.empty((levels, len(values)), values.dtype)
    table[0] = values
    for level in range(1, levels):
        half = 1 << (level - 1)
        wide = len(values) - 2 * half + 1
        table[level, :wide] = pick(table[level - 1, :wide], table[level - 1, half : half + wide])
    return table

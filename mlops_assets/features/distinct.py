"""How many different values a range of positions holds, vectorised and exact.

A value of a range is new where its previous occurrence lies before the range, so the count is that of the positions
whose previous occurrence is before the start. A wavelet matrix (Claude, Navarro and Ordóñez, Information Systems 47,
2015) counts them in as many steps as the positions of an entity have bits, whatever the length of the range.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.features.columns import Values
from mlops_assets.features.exact import Integers

Bytes = npt.NDArray[np.uint8]
_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.int64)
_BELOW = np.array([(1 << bit) - 1 for bit in range(8)], np.uint8)
_FEW = 16


@dataclass(frozen=True, slots=True)
class _Level:
    """One bit of every number, packed; ``before`` counts the ones before each byte, ``zeros`` all the zeros."""

    bits: Bytes
    before: npt.NDArray[np.int32]
    zeros: int

    def ones(self, end: Integers) -> Integers:
        """Return how many of the first ``end`` bits are set."""
        byte = end >> 3
        rest = self.bits.take(byte) & _BELOW.take(end & 7)
        return self.before.take(byte) + _ONES.take(rest)


@dataclass(frozen=True, slots=True)
class DistinctCounts:
    """``previous`` is each event's previous occurrence, 1 for its entity's first event, 0 where there is none."""

    previous: Integers
    firsts: Integers
    levels: list[_Level]

    def of(self, first: Integers, start: Integers, end: Integers) -> Integers:
        """Return the counts of ``[start, end)`` of entities whose first events are at ``first``."""
        if (start == first).all():
            return self.firsts.take(end) - self.firsts.take(start)
        bound = start - first + 1
        return self._few(start, end, bound) if (end - start).max() <= _FEW else self._many(start, end, bound)

    def _few(self, start: Integers, end: Integers, bound: Integers) -> Integers:
        counts = np.zeros(len(start), np.int64)
        for offset in range(int((end - start).max(initial=0))):
            place = start + offset
            counts += (self.previous.take(place, mode="clip") < bound) & (place < end)
        return counts

    def _many(self, start: Integers, end: Integers, bound: Integers) -> Integers:
        """Descend bit by bit, counting what is smaller than ``bound`` where its bit is 1 and theirs is 0."""
        counts = np.zeros(len(start), np.int64)
        for place, level in enumerate(self.levels):
            is_one = (bound >> (len(self.levels) - 1 - place)) & 1
            ones_start, ones_end = level.ones(start), level.ones(end)
            zeros_start, zeros_end = start - ones_start, end - ones_end
            counts += is_one * (zeros_end - zeros_start)
            start = zeros_start + is_one * (level.zeros + ones_start - zeros_start)
            end = zeros_end + is_one * (level.zeros + ones_end - zeros_end)
        return counts


def distinct_counts_of(values: Values, groups: Integers) -> DistinctCounts:
    """Return what counts the different ``values`` of ranges; ``groups`` numbers the entities, rising from 0."""
    table = pl.DataFrame({"group": groups, "value": values, "place": np.arange(len(values))})
    last = pl.col("place").shift(1).over("group", "value")
    before = table.select(last.fill_null(-1)).to_series().to_numpy()
    changes = np.flatnonzero(np.diff(groups, prepend=-1))
    entity_first = np.repeat(changes, np.diff(changes, append=len(groups)))
    previous = np.where(before < 0, 0, before - entity_first + 1)
    firsts = np.concatenate(([0], np.cumsum(previous == 0)))
    longest = int(np.diff(changes, append=len(groups)).max(initial=0))
    return DistinctCounts(previous, firsts, _levels(previous, (longest + 1).bit_length()))


def _levels(numbers: Integers, bits: int) -> list[_Level]:
    levels = []
    for bit in reversed(range(bits)):
        is_one = (numbers >> bit) & 1 == 1
        packed = np.append(np.packbits(is_one, bitorder="little"), np.uint8(0))
        before = np.zeros(len(packed), np.int32)
        np.cumsum(_ONES.take(packed[:-1]), out=before[1:], dtype=np.int32)
        levels.append(_Level(packed, before, int(len(numbers) - is_one.sum())))
        numbers = np.concatenate((numbers[~is_one], numbers[is_one]))
    return levels

"""The latest of several rows that was known at a moment, found for many moments at once."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from mlops_assets.features.exact import Integers


class LatestKnown:
    """Rows in their order of time, each known since the instant ``known``."""

    def __init__(self, known: Integers) -> None:
        self._known = known
        self.tree  # made now, because threads ask  # noqa: B018

    @cached_property
    def tree(self) -> list[Integers]:
        """The least instants of 1, 2, 4, … rows, aligned; the last has one block or none."""
        levels = [self._known]
        while len(levels[-1]) > 1:
            pairs = levels[-1][: len(levels[-1]) // 2 * 2].reshape(-1, 2)
            levels.append(np.minimum(pairs[:, 0], pairs[:, 1]))
        return levels

    def before(self, first: Integers, end: Integers, now: Integers) -> Integers:
        """Return the last position of each ``[first, end)`` known before ``now``; less than ``first`` if none is."""
        place = end - 1
        if not len(self._known):
            return place
        is_late = (place >= first) & (self._known.take(place) >= now)
        rows = np.flatnonzero(is_late)
        if len(rows):
            place[rows] = self._search(end[rows], now[rows])
        return place

    def _search(self, end: Integers, now: Integers) -> Integers:
        """Return the last position before ``end`` known before ``now``, -1 if none is.

        The rows before ``end`` are one block for each bit of ``end``. The first block from the end that holds a row
        known in time is halved until that row is left.
        """
        block, level = self._climb(end, now)
        for height in range(int(level.max(initial=0)), 0, -1):
            rows = np.flatnonzero(level >= height)
            right = 2 * block[rows] + 1
            block[rows] = right - (self.tree[height - 1].take(right) >= now[rows])
        return block

    def _climb(self, end: Integers, now: Integers) -> tuple[Integers, npt.NDArray[np.int64]]:
        block, level = np.full(len(end), -1), np.zeros(len(end), np.int64)
        open_rows = np.arange(len(end))
        for height, least in enumerate(self.tree):
            last = (end[open_rows] >> height) - 1
            is_block = (end[open_rows] >> height) & 1 == 1
            is_found = is_block & (least.take(last) < now[open_rows])
            rows = open_rows[is_found]
            block[rows], level[rows] = last[is_found], height
            open_rows = open_rows[~is_found]
            if not len(open_rows):
                break
        return block, level

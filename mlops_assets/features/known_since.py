"""Knowledge time in the batch engine: which of the events that happened were known, when these are one range.

Events usually become known in the order in which they happened: a stream is minutes late, a nightly load hours. Then
what was known before a moment is a range of positions, and is answered like any other; the few rows that see a gap, an
event unknown before one that is known, are left to be computed from a list of what each of them knew.
"""

import numpy as np
import polars as pl

from mlops_assets.features.columns import Mask
from mlops_assets.features.exact import Integers
from mlops_assets.features.extremes import extremes_of
from mlops_assets.features.windows import Rows, Timeline, first_at_or_after


class KnownSince:
    """What answers which events were known; the timeline must have a known time."""

    def __init__(self, timeline: Timeline) -> None:
        known = timeline.known
        assert known is not None
        self._least = extremes_of(known, np.minimum, timeline.longest)
        self._greatest = extremes_of(known, np.maximum, timeline.longest)
        self._run = timeline.run
        frame = pl.DataFrame({"entity": timeline.group, "known": known})
        self._reached = frame.select(pl.col("known").cum_max().over("entity")).to_series().to_numpy()

    def seen(self, happened: Rows, low: Integers) -> tuple[Rows, Mask]:
        """Return the rows without the last events that were not known, and which of them see a gap before these.

        ``low`` is where the first event lies that can matter to each row.
        """
        stop, is_gap = happened.stop.copy(), np.zeros(len(low), bool)
        rows = np.flatnonzero(low < stop)
        rows = rows[self._greatest.of(low[rows], stop[rows]) >= happened.now[rows]] if len(rows) else rows
        if not len(rows):
            return happened, is_gap
        end, now = stop[rows], happened.now[rows]
        cut = first_at_or_after(self._reached, low[rows], end, now)
        is_cut_tie = (cut > low[rows]) & (
            self._run.take(cut - 1) == self._run.take(np.minimum(cut, len(self._run) - 1))
        )
        later = np.minimum(cut, end - 1)  # where nothing is cut, the last event was known
        is_gap[rows] = is_cut_tie | (self._least.of(later, end) < now)
        stop[rows] = cut
        return Rows(happened.now, happened.first, stop), is_gap

"""The batch engine: any number of events and moments at once, on one machine.

One sort by entity and time; then every window is a range of positions found by binary search, counts are differences,
sums and deviations come from exact prefix sums, extremes from sparse tables. Time is O((n + m) log n) for n events and
m moments, whatever the windows; memory that of the columns read, a few numbers per event for each of them, and the
answers. The spine is answered in blocks that stay in the processor's cache, on all its cores.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.features.answers import Answers
from mlops_assets.features.columns import Mask
from mlops_assets.features.event_table import Frame, entity_of, instants_of, refuse_nulls, require, schema_of
from mlops_assets.features.exact import Integers
from mlops_assets.features.known_since import KnownSince
from mlops_assets.features.meaning import time_to_live_microseconds, window_microseconds
from mlops_assets.features.sources import Ranges, Source, SourceKey, source_key
from mlops_assets.features.view import Aggregate, FeatureView
from mlops_assets.features.windows import Rows, Timeline, build_timeline, check_entity, first_at_or_after, places

ROWS = 1 << 20
"""A spine is answered at most so many rows at a time."""

_BLOCK = 1 << 15
_NUMBERS = 1 << 25
_PAIRS = 1 << 21


class PolarsEngine:
    """A ``FeatureEngine`` over Polars frames; ``engine.py`` says what it returns and raises."""

    def features_at(self, view: FeatureView, events: Frame, spine: Frame) -> pl.DataFrame:
        """Return one column per feature, of its type, one row per row of ``spine``, in its order."""
        require(view, schema_of(spine), "the spine", [view.entity, view.event_time])
        prepared = prepare(view, events, spine)
        asked = spine.lazy().select(view.entity, view.event_time).collect()
        rows = prepared.rows
        blocks = [prepared.features(asked.slice(place, rows)) for place in range(0, max(asked.height, 1), rows)]
        return pl.concat(blocks, rechunk=False)


def prepare(view: FeatureView, events: Frame, spine: Frame | None = None) -> "PreparedView":
    """Return the view over ``events``, ready to be asked; ``FeatureError`` as ``features_at`` raises it."""
    if spine is not None:
        require(view, schema_of(events), "the events", [view.entity])
        check_entity(view, events, spine)
    return PreparedView(view, build_timeline(view, events))


class PreparedView:
    """A view over a timeline, with what answers for any spine."""

    def __init__(self, view: FeatureView, timeline: Timeline) -> None:
        self.view = view
        self.timeline = timeline
        self.rows = max(min(ROWS, _NUMBERS // len(view.features)), _BLOCK)
        self._sources = {key: Source(timeline, key) for key in dict.fromkeys(map(source_key, view.aggregates))}
        tasks = dict.fromkeys((source_key(feature), feature.function) for feature in view.aggregates)
        on_all_cores(lambda task: self._sources[task[0]].prepare(task[1]), list(tasks))
        windows = dict.fromkeys(window_microseconds(feature) for feature in view.aggregates)
        self._windows = sorted(windows, key=lambda window: -(1 << 63) if window is None else -window)
        self._lives = time_to_live_microseconds(view)
        self._known = None if timeline.known is None else KnownSince(timeline)

    def features(self, asked: pl.DataFrame) -> pl.DataFrame:
        """Return the features of each row of ``asked``, which has the view's entity and event_time."""
        view, schema = self.view, asked.schema
        refuse_nulls(view, asked, "the spine", [view.entity, view.event_time])
        now = asked.select(instants_of(view, schema, view.event_time)).to_series().to_numpy()
        rows = Rows(now, *places(self.timeline, asked.select(entity_of(view, schema)).to_series()))
        if rows.is_sorted():
            return self.answered(rows)
        order = rows.order()
        inverse = np.empty(len(order), np.int64)
        inverse[order] = np.arange(len(order))
        return self.answered(rows.take(order))[inverse]

    def answered(self, rows: Rows) -> pl.DataFrame:
        """Return the features of rows that are sorted by entity and time."""
        answers = Answers(self.view, len(rows.now))
        blocks = [slice(place, place + _BLOCK) for place in range(0, len(rows.now), _BLOCK)]
        lates = on_all_cores(lambda block: self._answer(answers, block, rows.take(block)), blocks)
        frame = answers.frame({feature.name: self._source(feature) for feature in self.view.aggregates})
        late = np.concatenate([np.zeros(0, bool), *lates])
        return self._corrected(frame, rows, late) if late.any() else frame

    def _answer(self, answers: Answers, block: slice, rows: Rows) -> Mask:
        """Write the answers of a block; return which rows' events were not all known, whose answers are wrong."""
        happened = self._happened(rows)
        seen, late = happened, np.zeros(len(rows.now), bool)
        if self._known is not None:
            seen, late = self._known.seen(happened, self._reach(happened))
        seen, starts = self._windows_of(seen)
        ranges: dict[tuple[SourceKey, int | None], Ranges] = {}
        for feature in self.view.aggregates:
            key = source_key(feature), window_microseconds(feature)
            if key not in ranges:
                ranges[key] = self._source(feature).ranges(rows.now, seen.first, starts[key[1]], seen.stop)
            answers.write(feature, block, self._source(feature), ranges[key])
        for ratio in self.view.ratios:
            answers.write_ratio(ratio, block)
        return late

    def _source(self, feature: Aggregate) -> Source:
        return self._sources[source_key(feature)]

    def _happened(self, rows: Rows) -> Rows:
        """Return the rows with the events that happened before."""
        return Rows(rows.now, rows.first, first_at_or_after(self.timeline.times, rows.first, rows.stop, rows.now))

    def _windows_of(self, seen: Rows) -> tuple[Rows, dict[int | None, Integers]]:
        """Return the rows, without events where the newest is too old, and where each window starts among them."""
        times, first, end = self.timeline.times, seen.first, seen.stop
        if self._lives is not None and len(times):
            is_absent = times.take(np.maximum(end - 1, 0)) < seen.now - self._lives
            first = np.where(is_absent, end, first)
        starts, low = {}, first
        for window in self._windows:
            low = first if window is None else first_at_or_after(times, low, end, seen.now - window)
            starts[window] = low
        return Rows(seen.now, first, end), starts

    def _reach(self, seen: Rows) -> Integers:
        """Return where the first event lies that can matter: in the widest window, or for the time to live."""
        if self._windows[:1] == [None]:
            return seen.first
        reach = max([*self._windows, self._lives or 0])  # type: ignore[type-var]
        return first_at_or_after(self.timeline.times, seen.first, seen.stop, seen.now - reach)  # type: ignore[operator]

    def _corrected(self, frame: pl.DataFrame, rows: Rows, late: Mask) -> pl.DataFrame:
        """Return the answers with those of ``late`` rows computed from the events each of them knew, and no others."""
        places = np.flatnonzero(late)
        seen = self._happened(rows.take(places))
        low = self._reach(seen)
        again = [self._known_only(seen.take(part), low[part]) for part in _parts(seen.stop - low)]
        index = np.arange(len(late))
        index[places] = len(late) + np.arange(len(places))
        return pl.concat([frame, *again])[index]

    def _known_only(self, seen: Rows, low: Integers) -> pl.DataFrame:
        counts = seen.stop - low
        owner = np.repeat(np.arange(len(counts)), counts)
        places = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
        known = self.timeline.known
        was_known = known[places] < seen.now[owner]  # type: ignore[index]
        kept = np.bincount(owner[was_known], minlength=len(counts))
        timeline = self.timeline.take(places[was_known], kept)
        stop = np.cumsum(kept)
        return PreparedView(self.view, timeline).answered(Rows(seen.now, stop - kept, stop))


def _parts(counts: Integers) -> Iterator[slice]:
    """Yield slices of the rows that have at most ``_PAIRS`` events together, or are one row."""
    ends = np.cumsum(counts)
    place = 0
    while place < len(counts):
        before = ends[place - 1] if place else 0
        stop = max(int(np.searchsorted(ends, before + _PAIRS, side="right")), place + 1)
        yield slice(place, stop)
        place = stop


def on_all_cores(work: Callable[[Any], Any], tasks: Sequence[Any]) -> list[Any]:
    """Return ``work`` of each task, computed on as many threads as Polars uses."""
    if len(tasks) < 2:
        return [work(task) for task in tasks]
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        return list(pool.map(work, tasks))

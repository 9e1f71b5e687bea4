"""What a slice of a view's table is computed from, named by digest, and its computation; equal to that of the whole.

A slice reads the events that can influence it: those before its end and not older than the longest window before its
start. Their name tells whether the slice is what it was. Two names of the same rows in another order are equal; a row
is told apart by two 64-bit hashes, enough to notice a change, while the content of a table is named by its bytes.

Belongs here: pure functions over frames. Not here: what was made before and where it is kept.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.errors import FeatureError
from mlops_assets.features.engine import FeatureEngine
from mlops_assets.features.materialization import Slice, TimePartitions
from mlops_assets.features.meaning import time_to_live_microseconds, where, window_microseconds
from mlops_assets.features.view import FeatureView
from mlops_assets.ledger.canonical import Digest, digest_of

MEANING = 1
"""Raise it when an engine's values change for the same declaration: every table is then computed again."""


def lookback(view: FeatureView) -> int | None:
    """Return how many microseconds before its own time a row can be influenced; ``None`` for without end."""
    windows = [window_microseconds(feature) for feature in view.aggregates]
    known = [window for window in windows if window is not None]
    return None if len(known) < len(windows) else max([*known, time_to_live_microseconds(view) or 0])


def instants(view: FeatureView, events: pl.DataFrame) -> pl.Series:
    """Return the events' times as instants; ``FeatureError`` if columns are missing or a time is null or no time."""
    for column in view.inputs:
        if column not in events.columns:
            raise FeatureError(f"{where(view, column)} is missing from the events, which have {events.columns}")
    times = events[view.event_time]
    if not (times.dtype == pl.Date or isinstance(times.dtype, pl.Datetime)):
        raise FeatureError(f"{where(view, view.event_time)} must hold times, found {times.dtype}")
    if nulls := times.null_count():
        raise FeatureError(f"{where(view, view.event_time)} is null in {nulls} events; quarantine them")
    return times.dt.epoch("us")


def slices_of(view: FeatureView, partitions: TimePartitions, events: pl.DataFrame) -> list[Slice]:
    """Return the slices of the table of ``events``, from the partitions' start to the newest event, none left out."""
    newest = instants(view, events).max()
    return partitions.slices(newest) if isinstance(newest, int) else []


def inputs_by_slice(view: FeatureView, events: pl.DataFrame, slices: Sequence[Slice]) -> dict[str, Digest]:
    """Return the name of what each slice is computed from: the definition and the events that can influence it."""
    then, names = _row_names(view, events)
    back = lookback(view)
    common = {
        "view": view.digest,
        "meaning": MEANING,
        "schema": {column: str(events.schema[column]) for column in view.inputs},
        "hashing": pl.__version__,  # the hashes of rows are stable within a version only
    }
    prefix, reached = hashlib.sha256(), 0  # of all rows so far: without end, a slice's rows are a prefix
    found = {}
    for part in sorted(slices, key=lambda part: -1 if part.end is None else part.end):
        end = len(then) if part.end is None else int(np.searchsorted(then, part.end))
        if back is None or part.start is None:
            end = max(end, reached)
            prefix.update(names[reached:end].tobytes())
            reached, rows = end, prefix.hexdigest()
        else:
            start = int(np.searchsorted(then, part.start - back))
            rows = hashlib.sha256(names[start:end].tobytes()).hexdigest()
        found[part.key] = digest_of({**common, "rows": rows})
    return found


def compute_slices(
    view: FeatureView, events: pl.DataFrame, slices: Sequence[Slice], engine: FeatureEngine
) -> Iterator[tuple[Slice, pl.DataFrame]]:
    """Yield the table of each slice: entity, event_time and the features at each distinct pair of them, sorted.

    Neighbouring slices are computed together. Raises what ``engine`` raises.
    """
    then, keys, back = instants(view, events), [view.entity, view.event_time], lookback(view)
    for group in _neighbours(slices):
        start, end = group[0].start, group[-1].end
        oldest = None if start is None or back is None else start - back
        is_seen = _within(then, oldest, end)
        seen, seen_then = events.filter(is_seen), then.filter(is_seen)
        spine = seen.filter(_within(seen_then, start, end)).select(keys).unique().sort(keys)
        table = pl.concat([spine, engine.features_at(view, seen, spine)], how="horizontal")
        moments = table[view.event_time].dt.epoch("us")
        for part in group:
            yield part, table.filter(_within(moments, part.start, part.end))


def _row_names(view: FeatureView, events: pl.DataFrame) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the rows' instants and hashes, both sorted by instant and hash."""
    then = instants(view, events)
    read = events.select(
        pl.col(column).cast(pl.String) if isinstance(events.schema[column], pl.Categorical | pl.Enum) else column
        for column in sorted(view.inputs)
    )
    rows = pl.DataFrame({"then": then, "one": read.hash_rows(seed=1), "other": read.hash_rows(seed=2)}).sort(
        "then", "one", "other"
    )
    return rows["then"].to_numpy(), rows.select("one", "other").to_numpy(order="c")


def _neighbours(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return the slices in order, those together that follow each other without a gap."""
    ordered = sorted(slices, key=lambda part: -1 if part.start is None else part.start)
    if not ordered:
        return []
    groups = [[ordered[0]]]
    for before, part in pairwise(ordered):
        if part.start == before.end:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _within(then: pl.Series, start: int | None, end: int | None) -> pl.Series:
    """Return where ``start`` <= ``then`` < ``end``."""
    inside = pl.repeat(True, len(then), eager=True)
    if start is not None:
        inside &= then >= start
    return inside if end is None else inside & (then < end)

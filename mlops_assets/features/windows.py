"""Which events each row of a spine sees: events sorted by entity and time, and ranges of positions among them.

Belongs here: sorting, searching, and what can be asked of ranges of positions. Not here: the aggregates' meaning.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.errors import FeatureError
from mlops_assets.features.exact import Doubles, Integers, in_blocks
from mlops_assets.features.meaning import LARGEST, SMALLEST, where
from mlops_assets.features.view import FeatureView


@dataclass(frozen=True, slots=True)
class Timeline:
    """Events sorted by entity and time, and the spine placed among them.

    Row i of the spine sees of all time the positions ``[first[i], end[i])``; ``times`` are the events' instants and
    ``now`` the spine's. ``run`` numbers the ties: equal entity and time, equal number.
    """

    events: pl.DataFrame
    times: Integers
    run: Integers
    now: Integers
    first: Integers
    end: Integers

    def start(self, window: int | None) -> Integers:
        """Return the first position inside a window of so many microseconds (``None``: of all time)."""
        if window is None:
            return self.first
        return _first_at_or_after(self.times, self.first, self.end, self.now - window)


def build_timeline(view: FeatureView, events: pl.DataFrame, spine: pl.DataFrame) -> Timeline:
    """Return the timeline; ``FeatureError`` for a missing column, a wrong type, or a null entity or time."""
    columns = list(dict.fromkeys(feature.column for feature in view.features))
    for frame, what, needed in ((events, "the events", columns), (spine, "the spine", [])):
        _require(view, frame, what, [view.entity, view.event_time, *needed])
    if events.schema[view.entity] != spine.schema[view.entity]:
        types = f"{events.schema[view.entity]} in the events and {spine.schema[view.entity]} in the spine"
        raise FeatureError(f"{where(view, view.entity)} is {types}; cast one of them")
    kept = events.select(pl.col(view.entity).alias("entity"), _instants(view, events).alias("now"), *_renamed(columns))
    kept = kept.sort("entity", "now")
    times = kept["now"].to_numpy()
    groups = kept["entity"].rle().struct.unnest()
    lengths = groups["len"].cast(pl.Int64)
    table = pl.DataFrame(
        {"entity": groups["value"], "first": lengths.cum_sum() - lengths, "stop": lengths.cum_sum()},
        schema={"entity": events.schema[view.entity], "first": pl.Int64, "stop": pl.Int64},
    )
    asked = spine.select(pl.col(view.entity).alias("entity"), _instants(view, spine).alias("now"))
    asked = asked.join(table, on="entity", how="left", maintain_order="left").fill_null(0)
    now, first, stop = (asked[name].to_numpy() for name in ("now", "first", "stop"))
    is_new = np.ones(len(times), bool)
    is_new[1:] = times[1:] != times[:-1]
    is_new[table["first"].to_numpy()] = True
    run = np.cumsum(is_new, dtype=np.int64)
    return Timeline(kept, times, run, now, first, _first_at_or_after(times, first, stop, now))


def numbers(view: FeatureView, column: str, values: pl.Series) -> Doubles:
    """Return a column without nulls as doubles by the rules of ``meaning.number``; ``FeatureError`` on others."""
    if not (values.dtype.is_numeric() or values.dtype in {pl.Boolean, pl.Null}):
        raise FeatureError(f"{where(view, column)} must hold numbers, it is {values.dtype}")
    doubles = values.cast(pl.Float64).to_numpy() + 0.0  # -0.0 becomes 0.0
    sizes = np.abs(doubles)
    refused = np.flatnonzero(~(sizes < LARGEST))  # NaN is not less than anything
    if len(refused):
        example = float(doubles[refused[0]])
        raise FeatureError(
            f"{where(view, column)} holds {len(refused)} values such as {example!r}; clean them in the data contract: "
            "a feature takes finite numbers below 2^300"
        )
    doubles[sizes < SMALLEST] = 0.0
    return doubles


def range_extremes(
    values: Doubles, start: Integers, end: Integers, pick: Callable[[Doubles, Doubles], Doubles]
) -> Doubles:
    """Return ``pick`` (``np.minimum`` or ``np.maximum``) over ``[start, end)``, none of them empty.

    A sparse table, one level at a time: a range is covered by two blocks of the greatest power of two that fits.
    """
    results = np.empty(len(start))
    levels = np.frexp((end - start).astype(np.float64))[1] - 1
    table = values
    for level in range(int(levels.max(initial=-1)) + 1):
        block = 1 << level
        if level:
            table = pick(table[: -(block // 2)], table[block // 2 :])
        rows = np.flatnonzero(levels == level)
        results[rows] = pick(table[start[rows]], table[end[rows] - block])
    return results


def last_of_ties(values: Doubles, run: Integers) -> Doubles:
    """Return for each position the greatest value of its tie."""
    if not len(values):
        return values
    starts = np.flatnonzero(np.diff(run, prepend=run[0] - 1))
    return np.repeat(np.maximum.reduceat(values, starts), np.diff(starts, append=len(values)))


def are_constant(values: Doubles, start: Integers, end: Integers) -> npt.NDArray[np.bool_]:
    """Return whether all values of ``[start, end)``, none of them empty, are equal."""
    changes = np.cumsum(np.diff(values, prepend=values[:1]) != 0.0)
    equal: npt.NDArray[np.bool_] = changes[start] == changes[end - 1]
    return equal


def _first_at_or_after(times: Integers, low: Integers, high: Integers, wanted: Integers) -> Integers:
    """Return the first position of each ``[low, high)`` whose time is at least ``wanted``, else ``high``."""
    if not len(times):
        return low
    return in_blocks(lambda *block: _search(times, *block), low, high, wanted)


def _search(times: Integers, low: Integers, high: Integers, wanted: Integers) -> Integers:
    width = high - low
    for _ in range(int(width.max(initial=0)).bit_length()):
        half = width >> 1
        middle = low + half
        is_before = (times.take(middle, mode="clip") < wanted) & (width > 0)
        low = np.where(is_before, middle + 1, low)
        width = np.where(is_before, width - half - 1, half)
    return low


def _require(view: FeatureView, frame: pl.DataFrame, what: str, columns: list[str]) -> None:
    for column in columns:
        if column not in frame.columns:
            raise FeatureError(f"{where(view, column)} is missing from {what}, which have {frame.columns}")
    for column in (view.entity, view.event_time):
        if nulls := frame[column].null_count():
            raise FeatureError(f"{where(view, column)} is null in {nulls} rows of {what}; quarantine them")


def _instants(view: FeatureView, frame: pl.DataFrame) -> pl.Expr:
    dtype = frame.schema[view.event_time]
    if not isinstance(dtype, pl.Datetime | pl.Date):
        raise FeatureError(f"{where(view, view.event_time)} must be a Datetime or a Date, it is {dtype}")
    return pl.col(view.event_time).dt.epoch("us")


def _renamed(columns: list[str]) -> list[pl.Expr]:
    return [pl.col(column).alias(f"column_{column}") for column in columns]

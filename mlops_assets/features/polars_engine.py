"""The batch engine: any number of events and moments at once, on one machine.

One sort by entity and time; then every window is a range of positions found by binary search, counts are differences,
sums and deviations come from exact prefix sums, extremes from a sparse table. Time is O((n + m) log n) for n events and
m moments, whatever the windows; memory a few times that of the columns read.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from mlops_assets.features.exact import (
    Doubles,
    ExactPrefixes,
    Integers,
    population_variances,
    prefixes_of,
    prefixes_of_squares,
)
from mlops_assets.features.meaning import empty_value, window_microseconds
from mlops_assets.features.view import Aggregate, FeatureView
from mlops_assets.features.windows import (
    Timeline,
    are_constant,
    build_timeline,
    last_of_ties,
    numbers,
    range_extremes,
)


class PolarsEngine:
    """A ``FeatureEngine`` over Polars frames; ``engine.py`` says what it returns and raises."""

    def features_at(self, view: FeatureView, events: pl.DataFrame, spine: pl.DataFrame) -> pl.DataFrame:
        """Return one Float64 column per feature, one row per row of ``spine``, in its order."""
        timeline = build_timeline(view, events, spine)
        starts: dict[int | None, Integers] = {}
        columns: dict[str, pl.Series] = {}
        for column in dict.fromkeys(feature.column for feature in view.features):
            features = [feature for feature in view.features if feature.column == column]
            prepared = _Column(view, column, timeline, is_read=any(f.function != "count" for f in features))
            for feature in features:
                window = window_microseconds(feature)
                if window not in starts:
                    starts[window] = timeline.start(window)
                columns[feature.name] = prepared.feature(feature, starts[window], timeline.end)
        return pl.DataFrame([columns[name] for name in view.feature_names])


class _Column:
    """The values of one column that are not null, and what was already made of them."""

    def __init__(self, view: FeatureView, column: str, timeline: Timeline, *, is_read: bool) -> None:
        series = timeline.events[f"column_{column}"]
        self._position: Integers | None = None  # of an event among those that are not null; None if all are
        run = timeline.run
        if series.null_count():
            present = series.is_not_null().to_numpy()
            self._position = np.concatenate(([0], np.cumsum(present, dtype=np.int64)))
            series, run = series.drop_nulls(), run[present]
        self._values = numbers(view, column, series) if is_read else np.empty(0)
        self._run = run
        self._sums: ExactPrefixes | None = None
        self._squares: ExactPrefixes | None = None

    def feature(self, feature: Aggregate, start: Integers, end: Integers) -> pl.Series:
        """Return the feature over the events ``[start, end)``."""
        if self._position is not None:
            start, end = self._position[start], self._position[end]
        is_empty = start == end
        results = np.zeros(len(start))
        rows = np.flatnonzero(~is_empty)
        if len(rows) == len(start):
            results = self._function(feature.function)(start, end)
        elif len(rows):
            results[rows] = self._function(feature.function)(start[rows], end[rows])
        filled = empty_value(feature)
        if filled is not None:
            results[is_empty] = filled
            return pl.Series(feature.name, results)
        return pl.select(pl.when(~pl.Series(is_empty)).then(pl.Series(results)).alias(feature.name)).to_series()

    def _function(self, name: str) -> Callable[[Integers, Integers], Doubles]:
        functions: dict[str, Callable[[Integers, Integers], Doubles]] = {
            "count": lambda start, end: (end - start).astype(np.float64),
            "sum": lambda start, end: self._prefixes().sums(start, end),
            "mean": lambda start, end: self._prefixes().sums(start, end) / (end - start),
            "min": lambda start, end: range_extremes(self._values, start, end, np.minimum),
            "max": lambda start, end: range_extremes(self._values, start, end, np.maximum),
            "std": self._deviations,
            "last": lambda _start, end: last_of_ties(self._values, self._run)[end - 1],
        }
        return functions[name]

    def _prefixes(self) -> ExactPrefixes:
        if self._sums is None:
            self._sums = prefixes_of(self._values)
        return self._sums

    def _deviations(self, start: Integers, end: Integers) -> Doubles:
        if self._squares is None:
            self._squares = prefixes_of_squares(self._values)
        results = np.zeros(len(start))
        rows = np.flatnonzero(~are_constant(self._values, start, end))  # equal values are common and need no arithmetic
        if len(rows):
            results[rows] = np.sqrt(population_variances(self._prefixes(), self._squares, start[rows], end[rows]))
        return results

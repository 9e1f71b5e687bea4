"""The answers for rows of a spine: written block by block in numbers, given as columns of the declared types."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from mlops_assets.features.columns import DTYPES, Mask, Values, give
from mlops_assets.features.exact import Integers
from mlops_assets.features.meaning import empty_value, instant
from mlops_assets.features.sources import Ranges, Source
from mlops_assets.features.view import Aggregate, Feature, FeatureView, Ratio


class Answers:
    """Room for the answers of so many rows; threads may write different blocks at the same time."""

    def __init__(self, view: FeatureView, rows: int) -> None:
        self._view = view
        self._values: dict[str, Values] = {}
        self._present: dict[str, Mask] = {}
        self._lists: dict[str, dict[int, tuple[Integers, Values]]] = {}
        self._empty = {feature.name: _empty_number(feature) for feature in view.features}
        for feature in view.features:
            if feature.is_list:
                self._lists[feature.name] = {}
            else:
                self._values[feature.name] = np.empty(rows, _number_type(feature))
                self._present[feature.name] = np.ones(rows, bool)

    def write(self, feature: Aggregate, block: slice, source: Source, ranges: Ranges) -> None:
        """Write the feature of a block of rows: its empty value where the range is empty."""
        if feature.k is not None:
            self._lists[feature.name][block.start] = source.latest(ranges, feature.k)
            return
        values, present = self._values[feature.name][block], self._present[feature.name][block]
        values[:], fits = source.answer(feature.function, ranges)
        if fits is not None:
            present[:] = fits
        if not ranges.is_empty.any():
            return
        empty = self._empty[feature.name]
        if empty is None:
            present[ranges.is_empty] = False
        else:
            values[ranges.is_empty] = empty

    def write_ratio(self, ratio: Ratio, block: slice) -> None:
        """Write a ratio of a block of rows, whose features are written."""
        above, below = (self._values[name][block].astype(np.float64) for name in (ratio.numerator, ratio.denominator))
        is_known = self._present[ratio.numerator][block] & self._present[ratio.denominator][block] & (below != 0.0)
        values = self._values[ratio.name][block]
        with np.errstate(over="ignore"):
            np.divide(above, below, out=values, where=is_known)
        empty = self._empty[ratio.name]
        if empty is None:
            self._present[ratio.name][block] = is_known
        else:
            values[~is_known] = empty

    def frame(self, sources: Mapping[str, Source]) -> pl.DataFrame:
        """Return what was written, each feature a column of its type; the answers are used up."""
        return pl.DataFrame([self._column(feature, sources.get(feature.name)) for feature in self._view.features])

    def _column(self, feature: Feature, source: Source | None) -> pl.Series:
        categories = None if source is None else source.categories
        name, type = feature.name, feature.result_type
        if feature.is_list:
            parts = [part for _, part in sorted(self._lists.pop(name).items())]
            return _lists(feature, parts, categories)
        column = give(name, type, self._values.pop(name), self._present.pop(name), categories)
        return column.fill_null(empty_value(feature)) if type == "string" and feature.empty is not None else column


def feature_dtype(feature: Feature) -> pl.DataType:
    """Return the type of a feature's column."""
    inner = DTYPES[feature.result_type]
    return pl.List(inner) if feature.is_list else inner


def _lists(feature: Feature, parts: list[tuple[Integers, Values]], categories: pl.Series | None) -> pl.Series:
    counts, values = (
        np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)]),
        np.concatenate([part[1] for part in parts]) if parts else np.zeros(0, np.int64),
    )
    offsets = np.concatenate(([0], np.cumsum(counts)))
    inner = give("", feature.result_type, values, None, categories)
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), inner.to_arrow())
    return pl.Series(feature.name, lists).cast(feature_dtype(feature))


def _number_type(feature: Feature) -> Any:
    return np.float64 if feature.result_type == "double" else np.int64


def _empty_number(feature: Feature) -> float | int | None:
    """Return the empty value as a number; None if it is null or text."""
    value = empty_value(feature)
    if value is None or isinstance(value, str | list):
        return None
    if feature.result_type == "time":
        return instant(value, "empty")
    return value  # type: ignore[no-any-return]

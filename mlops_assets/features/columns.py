"""A column as a batch engine holds it, and as it is given back: numbers in numpy, whatever the type.

A double is a float64; an integer and a time (its instant) an int64; a boolean and a string the int64 number of its
value in the order of values, so that greater, least and equal mean the same of numbers as of values.

Belongs here: which frame column fits which declared type, and the two ways between frames and numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mlops_assets.errors import FeatureError
from mlops_assets.features.exact import Doubles, Integers
from mlops_assets.features.meaning import LARGEST, SMALLEST, where
from mlops_assets.features.view import FeatureView, ValueType

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]

DTYPES: dict[ValueType, pl.DataType] = {
    "double": pl.Float64(),
    "integer": pl.Int64(),
    "boolean": pl.Boolean(),
    "string": pl.String(),
    "time": pl.Datetime("us", "UTC"),
}
EXACT_DECIMAL = 15
"""A decimal of so many digits is read as the nearest double; of a longer one the engine could be a digit off."""

_WORDS: dict[ValueType, str] = {
    "double": "numbers",
    "integer": "integers",
    "boolean": "booleans",
    "string": "text",
    "time": "times",
}


@dataclass(frozen=True, slots=True)
class Held:
    """A column of events; ``values`` of an event without one are arbitrary, ``present`` is None where all have one."""

    values: Values
    present: Mask | None
    categories: pl.Series | None = None

    def take(self, places: Integers) -> "Held":
        """Return the column of the events at ``places``."""
        return Held(self.values[places], None if self.present is None else self.present[places], self.categories)


def is_text(dtype: pl.DataType) -> bool:
    """Return whether the values are text: a category is its text."""
    return dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum)


def type_fault(dtype: pl.DataType, type: ValueType) -> str | None:
    """Return why a column of ``dtype`` cannot be read as ``type``, ``None`` if it can."""
    is_decimal = isinstance(dtype, pl.Decimal)
    fits = {
        "double": dtype.is_numeric() or dtype == pl.Boolean,
        "integer": dtype.is_integer() or dtype == pl.Boolean,
        "boolean": dtype == pl.Boolean,
        "string": is_text(dtype),
        "time": isinstance(dtype, pl.Datetime | pl.Date),
    }
    if dtype != pl.Null and not fits[type]:
        return f"must hold {_WORDS[type]}, it is {dtype}; cast it in the data contract, or declare its type"
    if is_decimal and (dtype.precision or 38) > EXACT_DECIMAL:  # type: ignore[attr-defined]
        return (
            f"is {dtype}; a decimal of more than {EXACT_DECIMAL} digits has no sure nearest double: "
            f"cast it to Float64, or to a Decimal of at most {EXACT_DECIMAL} digits"
        )
    return None


def hold(view: FeatureView, column: str, series: pl.Series, type: ValueType) -> Held:
    """Return a column as numbers; ``FeatureError`` naming view and column if its type or a value is refused."""
    what = where(view, column)
    if fault := type_fault(series.dtype, type):
        raise FeatureError(f"{what} {fault}")
    present = series.is_not_null().to_numpy() if series.null_count() else None
    if type == "string":
        codes, categories = _codes(series)
        return Held(codes, present, categories)
    if type == "double":
        return Held(_doubles(what, series), present)
    if type == "time":
        numbers = series.cast(pl.Datetime("us")) if series.dtype == pl.Null else series
        return Held(_filled(numbers.dt.epoch("us")), present)
    try:
        return Held(_filled(series.cast(pl.Int64)), present)
    except pl.exceptions.InvalidOperationError as error:
        raise FeatureError(f"{what} holds integers that 64 bits cannot hold; declare it a double ({error})") from error


def give(name: str, type: ValueType, values: Values, present: Mask | None, categories: pl.Series | None) -> pl.Series:
    """Return numbers as a column of the declared type, null where not ``present``; the opposite of ``hold``."""
    mask = None if present is None or present.all() else ~present
    if type == "boolean":
        values = values.astype(np.bool_)
    series = pl.Series(name, pa.array(values, mask=mask))
    if type == "time":
        return series.cast(DTYPES["time"])
    if type != "string":
        return series
    if categories is None or not len(categories):
        return pl.Series(name, [None] * len(values), dtype=pl.String)
    return categories.gather(series).alias(name)


def _codes(series: pl.Series) -> tuple[Integers, pl.Series]:
    """Return each text's number in the order of code points, which is that of the bytes Polars sorts by."""
    texts = series.cast(pl.String)
    categories = texts.drop_nulls().unique().sort()
    if not len(categories):
        return np.zeros(len(series), np.int64), categories
    return _filled(texts.cast(pl.Enum(categories)).to_physical().cast(pl.Int64)), categories


def _doubles(what: str, series: pl.Series) -> Doubles:
    doubles: Doubles = _filled(series.cast(pl.Float64)) + 0.0  # -0.0 becomes 0.0
    sizes = np.abs(doubles)
    if not sizes.max(initial=0.0) < LARGEST:  # NaN is not less than anything
        refused = np.flatnonzero(~(sizes < LARGEST))
        example = float(doubles[refused[0]])
        raise FeatureError(
            f"{what} holds {len(refused)} values such as {example!r}; clean them in the data contract: "
            "a feature takes finite numbers below 2^300"
        )
    doubles[sizes < SMALLEST] = 0.0
    return doubles


def _filled(series: pl.Series) -> Values:
    return (series.fill_null(0) if series.null_count() else series).to_numpy()

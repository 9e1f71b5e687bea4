"""Features of one row or one request: Polars SQL expressions, on frames for training and on single rows for serving.

A frame is evaluated by Polars. A single row is too, unless every step of the expression is one that ``row_program.py``
can do in Python with the same result: then it takes about a microsecond instead of some 200 (building a one-row frame
and selecting from it; all such expressions share one frame). ``compiled`` says which are which.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from mlops_assets.errors import FeatureError, InvalidDefinition
from mlops_assets.features.row_program import compile_row_program
from mlops_assets.features.view import RequestFeature


class RequestFeatures:
    """Request features compiled for columns of a known schema (that of the dataset they were trained on).

    Every feature is a Float64 or null; an infinite or undefined result is null. Raises ``InvalidDefinition`` for
    faulty declarations and ``FeatureError`` when an expression reads an unknown column or does not fit its type.
    """

    def __init__(self, features: Sequence[RequestFeature], schema: Mapping[str, pl.DataType]) -> None:
        self.names = tuple(feature.name for feature in features)
        _refuse_faults(features)
        parsed = {feature.name: pl.sql_expr(feature.expression) for feature in features}
        self.columns = tuple(sorted({column for expr in parsed.values() for column in expr.meta.root_names()}))
        for feature in features:
            _require_columns(feature, parsed[feature.name].meta.root_names(), schema)
        self._schema = {column: schema[column] for column in self.columns}
        self._expressions = {name: _as_double(expr, name) for name, expr in parsed.items()}
        self._try_types(features)
        programs = {name: compile_row_program(expr, self._schema) for name, expr in parsed.items()}
        self._programs = {name: program for name, program in programs.items() if program is not None}
        self._others = [expr for name, expr in self._expressions.items() if name not in self._programs]
        self._coercers = {column: coercer(column, dtype) for column, dtype in self._schema.items()}

    @property
    def compiled(self) -> tuple[str, ...]:
        """The features that a single row needs no Polars for."""
        return tuple(self._programs)

    def on_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return one Float64 column per feature; ``FeatureError`` if a column is missing or of another type."""
        for column, dtype in self._schema.items():
            found = frame.schema.get(column)
            if found != dtype:
                raise FeatureError(f"request features read column {column!r} as {dtype}, the frame has {found}")
        return frame.select(self._expressions.values())

    def on_request(self, row: Mapping[str, Any]) -> dict[str, float | None]:
        """Return the features of one row, equal to ``on_frame`` of it.

        ``FeatureError`` if a column is absent (``None`` says "unknown") or its value is not of the column's type; a
        datetime may be given in ISO 8601.
        """
        values = {}
        for column, coerce in self._coercers.items():
            if column not in row:
                raise FeatureError(f"the request lacks {column!r}; request features read {list(self.columns)}")
            value = row[column]
            values[column] = None if value is None else coerce(value)
        results: dict[str, float | None] = {}
        if self._others:
            frame = pl.DataFrame({column: [value] for column, value in values.items()}, schema=self._schema)
            results = frame.select(self._others).row(0, named=True)
        return {
            name: _finite(self._programs[name](values)) if name in self._programs else results[name]
            for name in self.names
        }

    def _try_types(self, features: Sequence[RequestFeature]) -> None:
        empty = pl.DataFrame(schema=self._schema)
        for feature in features:
            try:
                empty.select(self._expressions[feature.name])
            except pl.exceptions.PolarsError as error:
                raise FeatureError(
                    f"request feature {feature.name!r}: {feature.expression!r} does not fit the columns "
                    f"{self._schema}: {error}"
                ) from error


def coercer(column: str, dtype: pl.DataType) -> Callable[[Any], Any]:
    """Return the function that makes a request's value fit ``dtype``; it raises ``FeatureError`` if it cannot."""
    kinds: tuple[tuple[Callable[[], bool], type | tuple[type, ...]], ...] = (
        (dtype.is_float, (int, float)),
        (dtype.is_integer, int),
        (lambda: dtype == pl.Boolean, bool),
        (lambda: dtype == pl.String, str),
        (lambda: isinstance(dtype, pl.Datetime), (datetime, str)),
    )
    wanted: Any = next((types for is_it, types in kinds if is_it()), object)
    largest = 2**63 - 1 if dtype.is_integer() else sys.float_info.max

    def coerce(value: Any) -> Any:
        is_fit = isinstance(value, wanted) and not (isinstance(value, bool) and dtype.is_numeric())
        if not is_fit or (dtype.is_numeric() and not -largest <= value <= largest):  # NaN lies between nothing
            raise FeatureError(f"the request's {column!r} must be {dtype}, found {value!r}")
        if dtype.is_float():
            return float(value)
        return _moment(column, dtype, value) if isinstance(dtype, pl.Datetime) else value

    return coerce


def _moment(column: str, dtype: pl.Datetime, value: datetime | str) -> datetime:
    """Return the value in the column's zone; what has no zone is UTC, as for events."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise FeatureError(f"the request's {column!r} must be a time in ISO 8601, found {value!r}") from None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if dtype.time_zone is None:
        return aware.astimezone(UTC).replace(tzinfo=None)
    return aware.astimezone(ZoneInfo(dtype.time_zone))


def _as_double(expression: pl.Expr, name: str) -> pl.Expr:
    double = expression.cast(pl.Float64)
    return pl.when(double.is_finite()).then(double).alias(name)


def _finite(value: float | None) -> float | None:
    if value is None:
        return None
    double = float(value)
    return double if math.isfinite(double) else None


def _refuse_faults(features: Sequence[RequestFeature]) -> None:
    faults = [fault for feature in features for fault in feature.faults()]
    names = [feature.name for feature in features]
    faults += [f"request feature {name!r} is declared more than once" for name in set(names) if names.count(name) > 1]
    if faults:
        raise InvalidDefinition(faults)


def _require_columns(feature: RequestFeature, columns: Sequence[str], schema: Mapping[str, pl.DataType]) -> None:
    if unknown := sorted(set(columns) - set(schema)):
        raise FeatureError(f"request feature {feature.name!r} reads {unknown}; the columns are {sorted(schema)}")

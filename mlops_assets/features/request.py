"""Features of one row or one request: on frames for training and on single rows for serving, the same in both.

A frame is evaluated by Polars and a row by Python, from one tree of steps (``expression.py``): a row takes about a
microsecond a feature, unless it calls a function that only Polars computes to the last bit.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from mlops_assets.errors import FeatureError, InvalidDefinition
from mlops_assets.features.columns import DTYPES, is_text, type_fault
from mlops_assets.features.event_expression import to_polars, to_python
from mlops_assets.features.expression import Node, walk
from mlops_assets.features.request_expression import kind_of_request, parse_request
from mlops_assets.features.row_functions import Kind
from mlops_assets.features.view import RequestFeature, ValueType

_READ_AS: dict[Kind, ValueType] = {"local": "time"}


def derived_features(derived: Mapping[str, str]) -> tuple[RequestFeature, ...]:
    """Return columns that a dataset derives from each row, by name, as features of the type their expression has."""
    kinds: Mapping[str, Any] = {name: kind_of_request(text) for name, text in derived.items()}
    return tuple(RequestFeature(name=name, expression=text, type=kinds[name]) for name, text in derived.items())


def row_expressions(features: Sequence[RequestFeature]) -> list[pl.Expr]:
    """Return each sound feature as a Polars column of its name and type, over a frame that has what it reads."""
    return [_in_frame(feature) for feature in features]


class RequestFeatures:
    """Request features compiled for columns of a known schema (that of the dataset they were trained on).

    Every feature has its declared type or is null, as is a number that is infinite or undefined. Raises
    ``InvalidDefinition`` for faulty declarations and ``FeatureError`` when an expression reads an unknown column, or
    one of a type that does not fit.
    """

    def __init__(self, features: Sequence[RequestFeature], schema: Mapping[str, pl.DataType]) -> None:
        self.names = tuple(feature.name for feature in features)
        _refuse_faults(features)
        parsed = {feature.name: parse_request(feature.expression, feature.type) for feature in features}
        self.columns = tuple(sorted({name for node in parsed.values() for name, _ in _columns(node)}))
        for feature in features:
            _require_columns(feature, schema)
        if faults := schema_faults(features, schema):
            raise FeatureError("; ".join(faults))
        self.dtypes = {feature.name: DTYPES[feature.type] for feature in features}
        self._schema = {column: schema[column] for column in self.columns}
        self._expressions = row_expressions(features)
        self._programs = {name: to_python(node) for name, node in parsed.items()}
        self._doubles = [feature.name for feature in features if feature.type == "double"]
        self._coercers = {column: coercer(column, dtype) for column, dtype in self._schema.items()}

    def on_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return one column per feature, of its type; ``FeatureError`` if a column is missing or of another type."""
        for column, dtype in self._schema.items():
            found = frame.schema.get(column)
            if found != dtype:
                raise FeatureError(f"request features read column {column!r} as {dtype}, the frame has {found}")
        dates = [column for column, dtype in self._schema.items() if dtype == pl.Date]
        try:
            return frame.with_columns(pl.col(dates).cast(pl.Datetime("us"))).select(self._expressions)
        except pl.exceptions.PolarsError as error:
            raise FeatureError(f"request features {list(self.names)}: {error}") from error

    def on_request(self, row: Mapping[str, Any]) -> dict[str, Any]:
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
        found = {name: program(values) for name, program in self._programs.items()}
        for name in self._doubles:
            found[name] = None if found[name] is None else found[name] + 0.0
        return found


def schema_faults(features: Sequence[RequestFeature], schema: Mapping[str, pl.DataType]) -> list[str]:
    """Return which columns of the schema are not of the type as which a sound feature reads them, one sentence each."""
    found: dict[str, None] = {}
    for feature in features:
        for column, kind in _columns(parse_request(feature.expression, feature.type)):
            if kind == "any" or column not in schema:
                continue
            if fault := type_fault(schema[column], _READ_AS.get(kind, kind)):  # type: ignore[arg-type]
                what = f"request feature {feature.name!r} ({feature.type}): {feature.expression!r} does not fit"
                found[f"{what}: column {column!r} {fault}"] = None
    return list(found)


def _in_frame(feature: RequestFeature) -> pl.Expr:
    """Return the feature said to Polars; -0.0 is 0.0, because Polars reckons 0 - 0 to be one or the other."""
    found = to_polars(parse_request(feature.expression, feature.type)).cast(DTYPES[feature.type])
    if feature.type == "double":
        found = pl.when(found == 0.0).then(0.0).otherwise(found)
    return found.alias(feature.name)


def _columns(node: Node) -> list[tuple[str, Kind]]:
    """Return the columns that the steps read, each with the kind it is read as."""
    return [(step.value, step.kind) for step in walk(node) if step.form == "column"]


def coercer(column: str, dtype: pl.DataType) -> Callable[[Any], Any]:
    """Return the function that makes a request's value fit ``dtype``; it raises ``FeatureError`` if it cannot."""
    kinds: tuple[tuple[Callable[[], bool], type | tuple[type, ...]], ...] = (
        (dtype.is_float, (int, float)),
        (dtype.is_integer, int),
        (lambda: dtype == pl.Boolean, bool),
        (lambda: is_text(dtype), str),
        (lambda: isinstance(dtype, pl.Datetime), (datetime, str)),
        (lambda: dtype == pl.Date, (date, str)),
    )
    wanted: Any = next((types for is_it, types in kinds if is_it()), object)
    least, largest = (-(2**63), 2**63 - 1) if dtype.is_integer() else (-sys.float_info.max, sys.float_info.max)

    def coerce(value: Any) -> Any:
        is_fit = isinstance(value, wanted) and not (isinstance(value, bool) and dtype.is_numeric())
        if not is_fit or (dtype.is_numeric() and not least <= value <= largest):  # NaN lies between nothing
            raise FeatureError(f"the request's {column!r} must be {dtype}, found {value!r}")
        if dtype.is_float():
            return float(value)
        if dtype == pl.Date:
            return _moment(column, pl.Datetime("us"), str(value)[:10])  # a date is its midnight
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


def _refuse_faults(features: Sequence[RequestFeature]) -> None:
    faults = [fault for feature in features for fault in feature.faults()]
    names = [feature.name for feature in features]
    faults += [f"request feature {name!r} is declared more than once" for name in set(names) if names.count(name) > 1]
    if faults:
        raise InvalidDefinition(faults)


def _require_columns(feature: RequestFeature, schema: Mapping[str, pl.DataType]) -> None:
    columns = dict(_columns(parse_request(feature.expression, feature.type)))
    if unknown := sorted(set(columns) - set(schema)):
        raise FeatureError(f"request feature {feature.name!r} reads {unknown}; the columns are {sorted(schema)}")

"""Rows from and to JSON of the Open Inference Protocol v2. What is wrong with a request is said, with status 400."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mlops_assets.errors import RequestRefused
from mlops_assets.serving.served import ServedProduct

MAX_ROWS = 10_000


def parse_json(body: bytes) -> Any:
    """Return the JSON value of ``body``; NaN and infinities are not JSON."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(f"the body is not JSON: {error}") from error


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number; send null for an unknown value")


def parse_rows(body: Any, served: ServedProduct) -> list[dict[str, Any]]:
    """Return one mapping per row of an inference request: every declared input, each of its declared type."""
    if not isinstance(body, dict) or not isinstance(body.get("inputs"), list):
        raise RequestRefused('the body must be an object with a list "inputs"')
    columns: dict[str, list[Any]] = {}
    for tensor in body["inputs"]:
        name, values = _column(tensor, served)
        if name in columns:
            raise RequestRefused(f"input {name!r} is there twice")
        columns[name] = values
    missing = [name for name in served.inputs if name not in columns]
    if missing:
        raise RequestRefused(f"inputs {missing} are missing; {served.name} takes {list(served.inputs)}")
    counts = {name: len(values) for name, values in columns.items()}
    if len(set(counts.values())) != 1:
        raise RequestRefused(f"inputs must have the same number of rows, found {counts}")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(tensor: Any, served: ServedProduct) -> tuple[str, list[Any]]:
    if not isinstance(tensor, dict) or not {"name", "shape", "datatype", "data"} <= set(tensor):
        raise RequestRefused('every input needs "name", "shape", "datatype" and "data"')
    name, datatype, data, shape = tensor["name"], tensor["datatype"], tensor["data"], tensor["shape"]
    if not isinstance(name, str) or name not in served.inputs:
        raise RequestRefused(f"unknown input {name!r}; {served.name} takes {list(served.inputs)}")
    if datatype != served.inputs[name]:
        raise RequestRefused(f"input {name!r} must have the datatype {served.inputs[name]}, found {datatype!r}")
    if not isinstance(data, list) or not 1 <= len(data) <= MAX_ROWS:
        raise RequestRefused(f"input {name!r}: data must be a list of 1 to {MAX_ROWS} values")
    if shape not in ([len(data)], [len(data), 1]):
        raise RequestRefused(f"input {name!r}: shape {shape!r} does not fit {len(data)} values")
    return name, [_value(name, datatype, value, served) for value in data]


def _value(name: str, datatype: str, value: Any, served: ServedProduct) -> Any:
    if value is None:
        if name in served.required:
            raise RequestRefused(f"input {name!r} must not be null")
        return None
    if not _FITS[datatype](value):
        raise RequestRefused(f"input {name!r}: {value!r} is no {datatype}")
    return _moment(name, value) if isinstance(served.schema[name], pl.Datetime) else value


def _moment(name: str, value: Any) -> datetime:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else datetime.fromtimestamp(value / 1e6, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise RequestRefused(f"input {name!r}: {value!r} is no ISO 8601 time or microseconds since 1970") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "INT64": _is_integer,
    "FP64": lambda value: _is_integer(value) or (isinstance(value, float) and math.isfinite(value)),
    "BYTES": lambda value: isinstance(value, str),
    "BOOL": lambda value: isinstance(value, bool),
}
DATATYPES = frozenset(_FITS)
"""The datatypes an input may be declared with."""

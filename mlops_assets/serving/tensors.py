"""Rows from and to requests of the Open Inference Protocol v2. What is wrong with a request is said, with status 400.

A request is JSON, or JSON followed by the binary data of some of its tensors, as the protocol's binary tensor extension
has it: ``Inference-Header-Content-Length`` says where the JSON ends, ``binary_data_size`` of a tensor how many bytes
are its own. Numbers are little-endian; a text is its length in four bytes and its UTF-8.
"""

import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import polars as pl

from mlops_assets.errors import RequestRefused
from mlops_assets.serving.served import ServedProduct

MAX_ROWS = 10_000


def parse_json(body: bytes) -> Any:
    """Return the JSON value of ``body``; NaN and infinities are not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRefused(f"the body is not JSON: {error}; send null for an unknown value") from error


def parse_request(body: bytes, json_bytes: str | None) -> Any:
    """Return the request, the data of its binary tensors in their places; ``json_bytes`` is the header's value."""
    if json_bytes is None:
        return parse_json(body)
    if not json_bytes.isascii() or not json_bytes.isdigit() or not 0 < int(json_bytes) <= len(body):
        raise RequestRefused(f"Inference-Header-Content-Length is {json_bytes!r}, the body has {len(body)} bytes")
    end = int(json_bytes)
    request, rest = parse_json(body[:end]), memoryview(body)[end:]
    for tensor in request.get("inputs", ()) if isinstance(request, dict) else ():
        rest = _take_binary(tensor, rest)
    if rest:
        raise RequestRefused(f"{len(rest)} bytes after the last binary tensor belong to none")
    return request


def _take_binary(tensor: Any, rest: memoryview) -> memoryview:
    """Give a tensor its data if that is binary; return the bytes that follow."""
    parameters = tensor.get("parameters") if isinstance(tensor, dict) else None
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return rest
    name = tensor.get("name")
    if not _is_integer(size) or not 0 <= size <= len(rest) or "data" in tensor:
        raise RequestRefused(f"input {name!r}: binary_data_size is {size!r}, {len(rest)} bytes are left")
    unpack = _UNPACK.get(tensor.get("datatype")) if isinstance(tensor.get("datatype"), str) else None
    if unpack is None:
        raise RequestRefused(f"input {name!r}: no binary data of the datatype {tensor.get('datatype')!r}")
    try:
        tensor["data"] = unpack(bytes(rest[:size]))
    except (ValueError, struct.error) as error:
        raise RequestRefused(f"input {name!r}: its {size} bytes are no {tensor['datatype']}: {error}") from error
    return rest[size:]


def _texts(content: bytes) -> list[str]:
    found, place = [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<I", content, place)
        text = content[place + 4 : place + 4 + length]
        if len(text) < length:
            raise ValueError("a text is cut off")
        found.append(text.decode())
        place += 4 + length
    return found


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
    if not isinstance(tensor, dict) or not {"name", "shape", "datatype", "data"} <= tensor.keys():
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
_UNPACK: Mapping[Any, Callable[[bytes], list[Any]]] = {
    "INT64": lambda content: np.frombuffer(content, "<i8").tolist(),
    "FP64": lambda content: np.frombuffer(content, "<f8").tolist(),
    "BOOL": lambda content: [bool(byte) for byte in content],
    "BYTES": _texts,
}
DATATYPES = frozenset(_FITS)
"""The datatypes an input may be declared with."""


def wants_binary(body: Any) -> bool:
    """Return whether the client asks for its scores as binary data."""
    outputs = body.get("outputs")
    asked = [outputs[0]] if isinstance(outputs, list) and outputs else []
    said = [one.get("parameters") for one in asked if isinstance(one, dict)]
    parameters = body.get("parameters")
    whole = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    return whole or any(isinstance(one, dict) and one.get("binary_data") is True for one in said)


def as_binary(scores: list[float]) -> bytes:
    """Return scores as FP64 tensor data."""
    return np.asarray(scores, "<f8").tobytes()

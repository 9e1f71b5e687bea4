"""Bytes into a frame, or a sentence that says which file and column are wrong.

Belongs here: formats, truncation, declared types. Not here: where the bytes come from.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

import polars as pl

from mlops_assets.errors import SourceUnreadable

FORMATS = (".parquet", ".csv", ".ndjson")
Schema = Mapping[str, pl.DataType | type[pl.DataType]]


def parse_files(source: str, contents: Mapping[str, bytes], schema: Schema | None = None) -> pl.DataFrame:
    """Return all rows of the files, in the order of their names, with the declared columns as ``schema`` says.

    A declared type is reached without loss, or refused: text that is no number, 1.5 where integers are declared.
    ``SourceUnreadable`` names the file and the column.
    """
    suffixes = {PurePosixPath(name).suffix for name in contents}
    if len(suffixes) > 1 or not suffixes <= set(FORMATS):
        raise SourceUnreadable(
            f"{source}: its files end in {sorted(suffixes)}; deliver files of one format out of {', '.join(FORMATS)}"
        )
    frames = {name: _parse(f"{source}: {name}", content, schema or {}) for name, content in sorted(contents.items())}
    return _together(source, frames)


def _parse(where: str, content: bytes, schema: Schema) -> pl.DataFrame:
    if not content.strip():
        raise SourceUnreadable(f"{where} is empty; deliver it again")
    readers: dict[str, Callable[[str, bytes, Schema], pl.DataFrame]] = {
        ".parquet": _read_parquet,
        ".csv": _read_csv,
        ".ndjson": _read_ndjson,
    }
    try:
        frame = readers[PurePosixPath(where).suffix](where, content, schema)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeDecodeError) as error:
        reason = str(error).strip().partition("\n\n")[0]
        raise SourceUnreadable(f"{where} cannot be read ({reason}); is it truncated? Deliver it again") from error
    if not frame.height:
        raise SourceUnreadable(f"{where} has no rows; deliver it again")
    return _typed(where, frame, schema)


def _read_parquet(_: str, content: bytes, __: Schema) -> pl.DataFrame:
    return pl.read_parquet(io.BytesIO(content))


def _read_csv(where: str, content: bytes, schema: Schema) -> pl.DataFrame:
    """Read declared columns as text, so that no guess comes before the declaration; times are parsed by Polars."""
    if not content.endswith(b"\n"):
        raise SourceUnreadable(f"{where}: its last line does not end: truncated? Deliver it again, ended by a newline")
    header = pl.read_csv(content, n_rows=0, infer_schema=False).columns
    as_text = {name: pl.String for name, dtype in schema.items() if name in header and not dtype.is_temporal()}
    frame = pl.read_csv(content, try_parse_dates=True, infer_schema_length=None, schema_overrides=as_text)
    last = content[:-1].rpartition(b"\n")[2]
    if b'"' not in last and last.count(b",") != len(header) - 1 and b'"' not in content[-65_536:]:
        found = last.count(b",") + 1
        raise SourceUnreadable(
            f"{where}: its last line has {found} of {len(header)} fields: truncated? Deliver it again"
        )
    return frame


def _read_ndjson(_: str, content: bytes, __: Schema) -> pl.DataFrame:
    return pl.read_ndjson(io.BytesIO(content), infer_schema_length=None)


def _typed(where: str, frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise SourceUnreadable(f"{where}: columns {missing} are missing; found {frame.columns}")
    return frame.with_columns(_converted(where, frame[name], dtype) for name, dtype in schema.items())


def _converted(where: str, column: pl.Series, wanted: pl.DataType | type[pl.DataType]) -> pl.Series:
    if column.dtype == wanted:
        return column
    what = f"{where}: column {column.name!r} is {column.dtype}, declared {wanted}"
    try:
        converted, lost = _cast(column, wanted)
    except pl.exceptions.PolarsError as error:
        raise SourceUnreadable(f"{what}: {error}; mend the file or the declared schema") from error
    if lost.any():
        row = lost.arg_max() or 0
        raise SourceUnreadable(
            f"{what}: {lost.sum()} values do not fit, the first is {column[row]!r} in row {row + 1}; "
            "mend the file or the declared schema"
        )
    return converted


def _cast(column: pl.Series, wanted: pl.DataType | type[pl.DataType]) -> tuple[pl.Series, pl.Series]:
    """Return the column as ``wanted``, and for each value whether that lost something."""
    if column.dtype == pl.String:
        converted = _from_text(column, wanted)
        return converted, column.is_not_null() & converted.is_null()
    converted = column.cast(wanted, strict=False)
    gone = column.is_not_null() & converted.is_null()
    if column.dtype.is_float() and wanted.is_float():
        return converted, gone
    return converted, gone | (converted.cast(column.dtype, strict=False) != column).fill_null(False)


def _from_text(column: pl.Series, wanted: pl.DataType | type[pl.DataType]) -> pl.Series:
    """Return text read as ``wanted``, null where it cannot be; a time without a zone is in the declared one."""
    if wanted == pl.Boolean:
        said = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
        return column.replace_strict(said, default=None, return_dtype=pl.Boolean)
    if wanted == pl.Datetime:
        dtype = wanted if isinstance(wanted, pl.Datetime) else pl.Datetime()
        return column.str.to_datetime(time_unit=dtype.time_unit, time_zone=dtype.time_zone, strict=False)
    if wanted == pl.Date:
        return column.str.to_date(strict=False)
    return column.cast(wanted, strict=False)


def _together(source: str, frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    first_name, first = next(iter(frames.items()))
    for name, frame in frames.items():
        if frame.columns != first.columns:
            raise SourceUnreadable(f"{source}: {name} has the columns {frame.columns}, {first_name} {first.columns}")
        for column, dtype in frame.schema.items():
            other = first.schema[column]
            if dtype != other and not (dtype.is_numeric() and other.is_numeric()) and pl.Null not in (dtype, other):
                raise SourceUnreadable(
                    f"{source}: column {column!r} is {dtype} in {name} but {other} in {first_name}; "
                    "mend the file, or declare the source's schema"
                )
    try:
        return pl.concat(frames.values(), how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise SourceUnreadable(f"{source}: its files do not have the same columns and types: {error}") from error

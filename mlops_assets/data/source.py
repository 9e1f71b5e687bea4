"""Where data comes from: something with a version that can be read at that version.

Belongs here: the protocol, the parsing of bytes into a frame, and the local file source. A source on another system is
an adapter.
"""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from mlops_assets.errors import SourceChanged, SourceMissing, SourceUnreadable
from mlops_assets.ledger.canonical import digest_of, digest_of_bytes

FORMATS = (".parquet", ".csv", ".ndjson")


class DatasetSource(Protocol):
    """A place data arrives at. Its version changes if and only if its content does."""

    @property
    def name(self) -> str:
        """The source's address, for messages and metadata."""

    def version(self) -> str:
        """Return the version of what is there now; ``SourceMissing`` if nothing is."""

    def size_bytes(self) -> int:
        """Return how much is there now, for policies that wait until enough has come."""

    def read(self, version: str) -> pl.DataFrame:
        """Return the content of exactly ``version``.

        Raises ``SourceChanged`` if what was read is not that version, and ``SourceUnreadable`` if the bytes are empty,
        truncated or of another type.
        """


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file, or a folder of files of one format (.parquet, .csv or .ndjson), read in the order of their names.

    Hidden files are not part of it, so a writer may write ``.name`` and rename it. The version is the digest of names
    and contents, and a read returns the very bytes that it verified.
    """

    path: Path
    schema: Mapping[str, pl.DataType | type[pl.DataType]] | None = None

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def version(self) -> str:
        """Return the digest of all names and contents; ``SourceMissing``."""
        return _version_of(dict(self._contents()))

    def size_bytes(self) -> int:
        """Return the sum of the files' sizes; ``SourceMissing``."""
        return sum(file.stat().st_size for file in self._files())

    def read(self, version: str) -> pl.DataFrame:
        """Return the rows of ``version``; see ``DatasetSource.read``."""
        contents = dict(self._contents())
        found = _version_of(contents)
        if found != version:
            raise SourceChanged(f"{self.name}: asked for version {version}, found {found}; take the new version")
        return parse_files(self.name, contents, self.schema)

    def _contents(self) -> list[tuple[str, bytes]]:
        try:
            return [(file.name, file.read_bytes()) for file in self._files()]
        except FileNotFoundError as error:
            raise SourceChanged(f"{self.name}: {error.filename} went away while it was read; try again") from error

    def _files(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        files = sorted(f for f in self.path.glob("*") if f.is_file() and not f.name.startswith("."))
        if not files:
            raise SourceMissing(f"{self.name}: no file is there; deliver one of {', '.join(FORMATS)}")
        return files


def parse_files(
    source: str, contents: Mapping[str, bytes], schema: Mapping[str, pl.DataType | type[pl.DataType]] | None = None
) -> pl.DataFrame:
    """Return all rows of the files, in the order of their names; ``SourceUnreadable`` names the file that is wrong."""
    frames = [_parse(f"{source}: {name}", name, content) for name, content in sorted(contents.items())]
    try:
        frame = pl.concat(frames)
    except pl.exceptions.PolarsError as error:
        raise SourceUnreadable(f"{source}: its files do not have the same columns and types: {error}") from error
    return frame if schema is None else _typed(source, frame, schema)


def _parse(where: str, name: str, content: bytes) -> pl.DataFrame:
    if not content:
        raise SourceUnreadable(f"{where} is empty; deliver it again")
    readers: dict[str, Callable[[io.BytesIO], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".csv": _read_csv,
        ".ndjson": pl.read_ndjson,
    }
    reader = readers.get(Path(name).suffix)
    if reader is None:
        raise SourceUnreadable(f"{where} is of no known type; known: {', '.join(FORMATS)}")
    try:
        frame = reader(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SourceUnreadable(f"{where} cannot be read, is it truncated? {error}") from error
    if not frame.height:
        raise SourceUnreadable(f"{where} has no rows; deliver it again")
    return frame


def _read_csv(content: io.BytesIO) -> pl.DataFrame:
    data = content.getvalue()
    if not data.endswith(b"\n"):
        raise pl.exceptions.ComputeError("the last line has no end")
    return pl.read_csv(data, try_parse_dates=True, infer_schema_length=None)


def _typed(source: str, frame: pl.DataFrame, schema: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    missing = [name for name in schema if name not in frame.columns]
    if missing:
        raise SourceUnreadable(f"{source}: columns {missing} are missing; found {frame.columns}")
    for name, wanted in schema.items():
        try:
            frame = frame.with_columns(pl.col(name).cast(wanted))
        except pl.exceptions.PolarsError as error:
            raise SourceUnreadable(
                f"{source}: column {name!r} is {frame.schema[name]}, not {wanted}: {error}"
            ) from error
    return frame


def _version_of(contents: Mapping[str, bytes]) -> str:
    return digest_of({name: digest_of_bytes(content) for name, content in contents.items()})

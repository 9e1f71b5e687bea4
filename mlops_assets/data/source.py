"""Where data comes from: something with a version that can be read at that version.

Belongs here: the protocol and the local file source. A source on another system is an adapter; how bytes become a
frame stands in ``parsing.py``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from mlops_assets.data.parsing import FORMATS, Schema, parse_files
from mlops_assets.errors import SourceChanged, SourceMissing, SourceUnreadable
from mlops_assets.ledger.canonical import digest_of, digest_of_bytes, digest_of_file


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

    What begins with a dot or an underscore, at any depth, is not part of it, so a writer may write ``.name`` and rename
    it. The version is the digest of relative names and contents. A read hashes the very bytes that it parses: what it
    returns is that version, even if the files change meanwhile. ``schema`` declares the types of columns.
    """

    path: Path
    schema: Schema | None = None

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def version(self) -> str:
        """Return the digest of all names and contents; ``SourceMissing``, ``SourceChanged`` if it moves meanwhile."""
        with _reading(self.name):
            before = self._signature()
            version = digest_of({name: digest_of_file(path) for name, path in self._files().items()})
            if self._signature() != before:
                raise SourceChanged(f"{self.name} changed while its version was taken; try again when it is at rest")
            return version

    def size_bytes(self) -> int:
        """Return the sum of the files' sizes; ``SourceMissing``."""
        with _reading(self.name):
            return sum(path.stat().st_size for path in self._files().values())

    def read(self, version: str) -> pl.DataFrame:
        """Return the rows of ``version``; see ``DatasetSource.read``."""
        with _reading(self.name):
            contents = {name: path.read_bytes() for name, path in self._files().items()}
        found = digest_of({name: digest_of_bytes(content) for name, content in contents.items()})
        if found != version:
            raise SourceChanged(f"{self.name}: asked for version {version}, found {found}; take the new version")
        return parse_files(self.name, contents, self.schema)

    def _files(self) -> dict[str, Path]:
        """Return the files by their relative names; by sorted names, so that all versions agree on the order."""
        if self.path.is_file():
            return {self.path.name: self.path}
        found = {path.relative_to(self.path): path for path in self.path.rglob("*") if path.is_file()}
        files = {name.as_posix(): path for name, path in found.items() if not any(map(is_hidden, name.parts))}
        if not files:
            raise SourceMissing(f"{self.name}: no file is there; deliver one of {', '.join(FORMATS)}")
        return dict(sorted(files.items()))

    def _signature(self) -> list[tuple[str, int, int, int]]:
        facts = ((name, path.stat()) for name, path in self._files().items())
        return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in facts]


def is_hidden(part: str) -> bool:
    """Return whether a file or folder of this name is not part of a source.

    >>> is_hidden(".ratings.csv"), is_hidden("_SUCCESS"), is_hidden("ratings.csv")
    (True, True, False)
    """
    return part.startswith((".", "_"))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SourceChanged(f"{name}: {error.filename} went away while it was read; try again") from error
    except OSError as error:
        raise SourceUnreadable(f"{name} cannot be read: {error}; mend its permissions or its disk") from error

"""Snapshots in a folder: each its own directory, which appears whole by one rename.

Layout: ``<root>/<hex digest>/data.parquet`` and ``manifest.json``; what is unfinished lies in ``<root>/.unfinished``.
"""

import os
import shutil
import time
import uuid
from pathlib import Path

import polars as pl

from mlops_assets.data.manifest import manifest_of, parquet_bytes, parsed, snapshot_of, verified
from mlops_assets.data.snapshot import Snapshot
from mlops_assets.errors import DataError, SnapshotMissing
from mlops_assets.ledger.canonical import Digest

ABANDONED_SECONDS = 24 * 3600


class LocalSnapshots:
    """A snapshot store below ``root``. Safe for many writers: the same content ends up in the same place once."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def write(self, frame: pl.DataFrame) -> Snapshot:
        """Store ``frame``; ``DataError`` when the disk refuses, in which case nothing is visible."""
        data = parquet_bytes(frame)
        manifest = manifest_of(frame, data)
        snapshot = snapshot_of(manifest)
        final = self._place(snapshot.digest)
        if not final.exists():
            self.sweep()
            self._publish(final, {"data.parquet": data, "manifest.json": manifest})
        return snapshot

    def read(self, digest: Digest) -> pl.DataFrame:
        """Return the verified rows; ``SnapshotMissing`` or ``SnapshotCorrupt``."""
        manifest = self._manifest(digest)
        try:
            data = (self._place(digest) / "data.parquet").read_bytes()
        except FileNotFoundError as error:
            raise SnapshotMissing(f"snapshot {digest} has lost its file {error.filename}; restore it") from error
        return verified(digest, manifest, data)

    def describe(self, digest: Digest) -> Snapshot:
        """Return the manifest's facts; ``SnapshotMissing`` or ``SnapshotCorrupt``."""
        return parsed(digest, self._manifest(digest))

    def _manifest(self, digest: Digest) -> bytes:
        try:
            return (self._place(digest) / "manifest.json").read_bytes()
        except FileNotFoundError as error:
            raise SnapshotMissing(
                f"no snapshot {digest} in {self._root}; materialize the asset that makes it"
            ) from error

    def _place(self, digest: Digest) -> Path:
        return self._root / digest.removeprefix("sha256:")

    def _publish(self, final: Path, files: dict[str, bytes]) -> None:
        unfinished = self._root / ".unfinished" / uuid.uuid4().hex
        try:
            unfinished.mkdir(parents=True)
            for name, content in files.items():
                _write_durably(unfinished / name, content)
            _sync(unfinished)
            os.rename(unfinished, final)  # noqa: PTH104 - Path.rename would hide that the target may exist already
            _sync(self._root)
        except OSError as error:
            # Another writer of the same content came first: its snapshot is this one.
            if not (final / "manifest.json").exists():
                raise DataError(f"snapshot {final.name} was not stored: {error}; nothing of it is visible") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed writers left behind a day or more ago; every write does it too."""
        now = time.time()
        for left in (self._root / ".unfinished").glob("*"):
            if now - left.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

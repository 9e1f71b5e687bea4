"""What makes a snapshot itself: the bytes of its table, the manifest that names them, the digest of the manifest.

Belongs here: the format, its verification, and the store over any place that keeps named bytes. Not here: such places.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import polars as pl

from mlops_assets.data.snapshot import Snapshot
from mlops_assets.errors import DataError, SnapshotCorrupt, SnapshotMissing
from mlops_assets.ledger.canonical import Digest, canonical_json, digest_of_bytes, digest_of_file

DATA, MANIFEST = "data.parquet", "manifest.json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def write_table(frame: pl.DataFrame, folder: Path) -> Snapshot:
    """Write table and manifest into ``folder`` and return the snapshot; equal frames give equal bytes.

    Polars lays a table out by the chunks it has in memory, so they are made one. The bytes, and with them the digest,
    may differ between versions of Polars, which is why the environment is part of a model's provenance.
    """
    table = folder / DATA
    frame.rechunk().write_parquet(table, compression="zstd", compression_level=1)
    manifest = canonical_json(
        {
            "format": 1,
            "rows": frame.height,
            "schema": {name: str(dtype) for name, dtype in frame.schema.items()},
            "files": {DATA: {"digest": digest_of_file(table), "size_bytes": table.stat().st_size}},
        }
    )
    (folder / MANIFEST).write_bytes(manifest)
    return _snapshot_of(manifest)


def _snapshot_of(manifest: bytes) -> Snapshot:
    facts: Mapping[str, Any] = json.loads(manifest)
    return Snapshot(
        digest=digest_of_bytes(manifest),
        rows=facts["rows"],
        schema=facts["schema"],
        size_bytes=sum(file["size_bytes"] for file in facts["files"].values()),
    )


class VerifiedSnapshots(ABC):
    """A ``SnapshotStore`` over a place that keeps files by digest; a subclass is the place.

    Every read is verified: the manifest by the digest, the table by the manifest. Storing what is there already checks
    that it is intact, and replaces it if it is not, so materializing an asset again mends its snapshot.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The place's address, for messages."""

    @abstractmethod
    def _workplace(self) -> AbstractContextManager[Path]:
        """Return a new folder to write in, which is gone afterwards."""

    @abstractmethod
    def _publish(self, folder: Path, digest: Digest) -> None:
        """Make the files in ``folder`` visible under ``digest``, all or none; another writer may have been first."""

    @abstractmethod
    def _load(self, digest: Digest, file: str) -> bytes | None:
        """Return the bytes of a published file, None if there is none."""

    def write(self, frame: pl.DataFrame) -> Snapshot:
        """Store ``frame``; ``DataError`` when the place refuses, in which case nothing of it is visible."""
        try:
            with self._workplace() as folder:
                snapshot = write_table(frame, folder)
                if not self.is_intact(snapshot.digest):
                    self._publish(folder, snapshot.digest)
                return snapshot
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"a snapshot of {frame.height} rows was not stored in {self.name}: {error}; nothing of it is visible. "
                "Make room, or mend the store, and materialize again"
            ) from error

    def read(self, digest: Digest) -> pl.DataFrame:
        """Return the verified rows; ``SnapshotMissing`` or ``SnapshotCorrupt``."""
        return pl.read_parquet(self._verified(digest))

    def describe(self, digest: Digest) -> Snapshot:
        """Return the verified manifest's facts; ``SnapshotMissing`` or ``SnapshotCorrupt``."""
        return _snapshot_of(self._manifest(digest))

    def is_intact(self, digest: Digest) -> bool:
        """Return whether the snapshot is there and its bytes are those that ``digest`` names."""
        try:
            self._verified(digest)
        except (SnapshotMissing, SnapshotCorrupt):
            return False
        return True

    def _manifest(self, digest: Digest) -> bytes:
        manifest = self._load(digest, MANIFEST) if _DIGEST.fullmatch(digest) else None
        if manifest is None:
            raise SnapshotMissing(f"no snapshot {digest} in {self.name}; materialize the asset that makes it")
        if digest_of_bytes(manifest) != digest:
            raise self._corrupt(digest, MANIFEST, "was changed")
        return manifest

    def _verified(self, digest: Digest) -> bytes:
        expected = json.loads(self._manifest(digest))["files"][DATA]["digest"]
        data = self._load(digest, DATA)
        if data is None:
            raise self._corrupt(digest, DATA, "is gone")
        if digest_of_bytes(data) != expected:
            raise self._corrupt(digest, DATA, "was changed")
        return data

    def _corrupt(self, digest: Digest, file: str, what: str) -> SnapshotCorrupt:
        return SnapshotCorrupt(
            f"{self.name}: {file} of snapshot {digest} {what} after it was written; "
            "restore it, or materialize again the asset that makes it"
        )

"""What makes a snapshot itself: the bytes of its table, the manifest that names them, the digest of the manifest.

Belongs here: the format, its verification, and the store over any place that keeps named bytes. Not here: such places.
"""

import json
from abc import ABC, abstractmethod
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from mlops_assets.data.snapshot import Snapshot
from mlops_assets.errors import DataError, SnapshotCorrupt, SnapshotMissing
from mlops_assets.ledger.canonical import Digest, canonical_json, digest_of_bytes, digest_of_file

DATA, MANIFEST = "data.parquet", "manifest.json"


class ContentAddressed(ABC):
    """A ``SnapshotStore`` over a place that keeps bytes under ``<digest>/<file>``; subclasses are the place.

    A snapshot exists once its manifest does, which a place makes visible last.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The place, for messages."""

    @abstractmethod
    def _load(self, digest: Digest, file: str) -> bytes | None:
        """Return a file's bytes, None if it isn't there."""

    @abstractmethod
    def _publish(self, digest: Digest, folder: Path) -> None:
        """Make the two files in ``folder`` visible together. Another writer of the same may have come first."""

    @abstractmethod
    def _workplace(self) -> TemporaryDirectory[str] | "Workplace":
        """Return a context manager over a fresh folder to write in."""

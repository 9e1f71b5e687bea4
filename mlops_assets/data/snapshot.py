"""Immutable data, named by digest.

Belongs here: the snapshot's manifest and the store's protocol. Implementations: ``local.py`` here, S3 in adapters.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from mlops_assets.ledger.canonical import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a manifest says of a snapshot. ``digest`` is the digest of the manifest, which holds those of the files."""

    digest: Digest
    rows: int
    schema: Mapping[str, str]
    size_bytes: int


class SnapshotStore(Protocol):
    """Content-addressed tables. A snapshot is there whole or not at all; the same content has the same digest."""

    def write(self, frame: pl.DataFrame) -> Snapshot:
        """Store ``frame`` and return its snapshot; storing the same content again is free and changes nothing."""

    def read(self, digest: Digest) -> pl.DataFrame:
        """Return the verified content; ``SnapshotMissing`` or ``SnapshotCorrupt``."""

    def describe(self, digest: Digest) -> Snapshot:
        """Return the manifest's facts without reading the data; ``SnapshotMissing``."""

"""What makes a snapshot itself: the bytes of its table, the manifest that names them, the digest of the manifest.

Belongs here: the format and its verification. Not here: where the bytes are kept.
"""

import io
import json

import polars as pl

from mlops_assets.data.snapshot import Snapshot
from mlops_assets.errors import SnapshotCorrupt
from mlops_assets.ledger.canonical import Digest, canonical_json, digest_of_bytes


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """Return the table as Parquet: equal frames give equal bytes."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", compression_level=1, statistics=True)
    return buffer.getvalue()


def manifest_of(frame: pl.DataFrame, data: bytes) -> bytes:
    """Return the manifest of ``frame``, stored as ``data``."""
    schema = {name: str(dtype) for name, dtype in frame.schema.items()}
    return canonical_json(
        {"rows": frame.height, "schema": schema, "data": digest_of_bytes(data), "size_bytes": len(data), "format": 1}
    )


def snapshot_of(manifest: bytes) -> Snapshot:
    """Return what ``manifest`` says."""
    facts = json.loads(manifest)
    return Snapshot(
        digest=digest_of_bytes(manifest), rows=facts["rows"], schema=facts["schema"], size_bytes=facts["size_bytes"]
    )


def parsed(digest: Digest, manifest: bytes) -> Snapshot:
    """Return what ``manifest`` says; ``SnapshotCorrupt`` if it is not the one that ``digest`` names."""
    if digest_of_bytes(manifest) != digest:
        raise SnapshotCorrupt(f"the manifest of snapshot {digest} was changed; restore it, or materialize it again")
    return snapshot_of(manifest)


def verified(digest: Digest, manifest: bytes, data: bytes) -> pl.DataFrame:
    """Return the rows of ``data``; ``SnapshotCorrupt`` if manifest or data are not what ``digest`` names."""
    parsed(digest, manifest)
    if digest_of_bytes(data) != json.loads(manifest)["data"]:
        raise SnapshotCorrupt(f"the data of snapshot {digest} was changed; restore it, or materialize it again")
    return pl.read_parquet(io.BytesIO(data))

"""Content-addressed snapshots of five million rows against Polars writing and reading the same Parquet file."""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from benchmarks._turns import medians
from benchmarks.features import make_events
from mlops_assets.data.local import LocalSnapshots

ROWS, TURNS = 5_000_000, 7


def snapshot_write() -> dict[str, Any]:
    """Return seconds to store a frame that is new to the store, against ``write_parquet`` with the same options.

    Ours also hashes the file, flushes it to the disk and publishes it by one rename; ``baseline_flushed`` is Polars
    with the same flush, and without it Polars leaves the file to the page cache. The ratio is baseline / ours: below 1
    is slower.
    """
    frame = make_events(ROWS, 100_000).rechunk()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        ours, plain, flushed = medians(
            TURNS,
            lambda: _write_snapshot(frame, place),
            lambda: _write_plain(frame, place / "plain.parquet"),
            lambda: _write_flushed(frame, place / "plain.parquet"),
        )
    return {
        "name": "spine.snapshot_write",
        "value": ours,
        "unit": "seconds",
        "baseline": plain,
        "ratio": plain / ours,
        "details": {"rows": ROWS, "baseline_flushed": flushed, "ratio_flushed": flushed / ours},
    }


def snapshot_read() -> dict[str, Any]:
    """Return seconds to read a snapshot, against ``read_parquet`` of the same file; the page cache is warm.

    Ours hashes every byte before it parses any. The ratio is baseline / ours: below 1 is slower.
    """
    with TemporaryDirectory() as folder:
        store = LocalSnapshots(Path(folder))
        digest = store.write(make_events(ROWS, 100_000)).digest
        (file,) = Path(folder).glob("*/data.parquet")
        ours, plain = medians(TURNS, lambda: store.read(digest), lambda: pl.read_parquet(file))
        size = file.stat().st_size
    return {
        "name": "spine.snapshot_read",
        "value": ours,
        "unit": "seconds",
        "baseline": plain,
        "ratio": plain / ours,
        "details": {"rows": ROWS, "file_bytes": size},
    }


def _write_snapshot(frame: pl.DataFrame, place: Path) -> None:
    """Store ``frame`` in a new store, because one that has it already has less to do."""
    root = place / "snapshots"
    shutil.rmtree(root, ignore_errors=True)
    LocalSnapshots(root).write(frame)


def _write_plain(frame: pl.DataFrame, file: Path) -> None:
    file.unlink(missing_ok=True)
    frame.write_parquet(file, compression="zstd", compression_level=1)


def _write_flushed(frame: pl.DataFrame, file: Path) -> None:
    _write_plain(frame, file)
    with file.open("rb") as written:
        os.fsync(written.fileno())


FIGURES = [snapshot_write, snapshot_read]

"""The prediction log: lines of JSON in segment files, one segment per server start.

A line is written by the time its request is acknowledged, so it outlives the process that wrote it. What a crash cut
off is the end of a line that nobody was told of, and is not read. See ``prediction.py`` for the kinds of record.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import polars as pl

from mlops_assets.errors import RequestRefused

_TIME = pl.Datetime("us", "UTC")
_TOLD_BEFORE = "told_before"  # of a prediction: the outcomes that stand before it in the log
_PLAIN = {
    "id": pl.String,
    "at": _TIME,
    "version": pl.String,
    "entity": pl.String,
    "score": pl.Float64,
    "latency_seconds": pl.Float64,
}


class LogWriter:
    """Appends whole lines to a segment of its own. ``RequestRefused`` (503) when the disk takes no more."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / f"{time.time_ns():020d}-{os.getpid()}.jsonl"
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = 0
        self._writing = Lock()  # answers are logged by the event loop, mirrors by a thread

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write the records, all or none."""
        lines = b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)
        with self._writing:
            try:
                written = os.write(self._file, lines)
            except OSError as error:
                raise RequestRefused(f"the prediction log cannot be written: {error}; free space", 503) from error
            if written < len(lines):
                os.ftruncate(self._file, self._size)
                raise RequestRefused("the prediction log's disk is full; free space", 503)
            self._size += written

    def close(self) -> None:
        """Close the segment."""
        os.close(self._file)


class FilePredictionLog:
    """Reads what servers logged below ``root``, remembering what it has read. Implements ``PredictionLog``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._products: dict[str, _Read] = {}
        self._lock = Lock()

    def writer(self, product: str) -> LogWriter:
        """Return a writer with a new segment."""
        return LogWriter(self._root / product)

    def records(self, product: str) -> "Mapping[str, list[dict[str, Any]]]":
        """Return all records so far by kind, in the order of the segments."""
        with self._lock:
            read = self._products.setdefault(product, _Read(self._root / product))
            read.refresh()
            return read.kinds

    def count(self, product: str) -> int:
        """Return how many predictions were acknowledged."""
        return len(self.records(product)["prediction"])

    def predictions(self, product: str) -> pl.DataFrame:
        """Return one row per prediction with its outcome where known; see ``PredictionLog.predictions``."""
        kinds = self.records(product)
        outcomes: dict[str, dict[str, Any]] = {}
        for record in kinds["outcome"]:
            outcomes.setdefault(record["id"], record)
        rows = list(kinds["prediction"])
        orders = {id: place for place, id in enumerate(outcomes)}
        known = [outcomes.get(row["id"], {}) for row in rows]
        frame = pl.DataFrame({name: [row[name] for row in rows] for name in _PLAIN}, schema=_read_schema())
        frame = frame.with_columns(
            pl.Series("outcome", [found.get("value") for found in known], pl.Float64),
            pl.Series("outcome_at", [found.get("at") for found in known], pl.Int64).cast(_TIME),
            pl.Series("outcome_order", [orders.get(row["id"]) for row in rows], pl.Int64),
            pl.Series("snapshot", [row.get("snapshot") for row in rows], pl.String),
            pl.Series("definitions", [row.get("definitions") for row in rows], pl.String),
            pl.Series("told", [_told(row) for row in rows], pl.Int64),
        )
        frame = frame.with_columns(pl.col("at").cast(_TIME))
        return frame.with_columns(_structs("inputs", rows), _structs("features", rows))

    def mirrors(self, product: str) -> pl.DataFrame:
        """Return ``id``, ``version``, ``score`` of every mirrored request."""
        records = self.records(product)["mirror"]
        schema = {"id": pl.String, "version": pl.String, "score": pl.Float64}
        return pl.DataFrame({name: [record[name] for record in records] for name in schema}, schema=schema)


class _Read:
    """What has been read of one product's segments."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kinds: dict[str, list[dict[str, Any]]] = {"prediction": [], "mirror": [], "outcome": []}
        self._offsets: dict[Path, int] = {}
        self._outcomes: set[str] = set()

    def refresh(self) -> None:
        """Read whole lines that have come since the last time."""
        for path in sorted(self.directory.glob("*.jsonl")):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            for line in whole.splitlines():
                record = json.loads(line)
                if record["kind"] == "outcome":
                    self._outcomes.add(record["id"])
                elif record["kind"] == "prediction":
                    record[_TOLD_BEFORE] = len(self._outcomes)
                self.kinds[record["kind"]].append(record)


def _told(row: Mapping[str, Any]) -> int | None:
    """Return how many outcomes the server knew; None if they are not those that stand before the prediction.

    That is so in a log of before this was recorded, or of several servers at a time.
    """
    told: int | None = row.get("told")
    return told if told == row[_TOLD_BEFORE] else None


def _read_schema() -> dict[str, Any]:
    return {**_PLAIN, "at": pl.Int64}


def _structs(name: str, rows: list[dict[str, Any]]) -> pl.Series:
    """Return a struct column of the rows' mapping called ``name``; no rows give a struct without fields."""
    if not rows:
        return pl.Series(name, [], pl.Struct([]))
    columns = pl.DataFrame([row[name] for row in rows], infer_schema_length=None)
    return columns.to_struct(name)

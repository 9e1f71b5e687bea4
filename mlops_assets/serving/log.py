"""The prediction log: what servers write below one folder, and what monitoring, analysis and training read of it.

.. code-block:: text

    <root>/<product>/predictions/<segment>.jsonl             answers, in the one order of all workers
    <root>/<product>/predictions/compacted/date=…/<segment>.parquet      the same, later (``compaction.py``)
    <root>/<product>/mirrors/<segment>.jsonl                 what other versions would have answered
    <root>/<product>/outcomes.sqlite                         what became of predictions

See ``prediction.py`` for what a prediction says. The id of a prediction is its trace id and the place of its line, so
that a server finds what it answered without remembering it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import Any

import orjson
import polars as pl

from mlops_assets.errors import RequestRefused
from mlops_assets.serving.outcomes import OutcomeBook
from mlops_assets.serving.reading import MIRRORS, PREDICTIONS, LogFolder
from mlops_assets.serving.segments import SegmentWriter


class Durability(StrEnum):
    """What an acknowledged prediction outlives: its process, or a loss of power as well (one disk write more)."""

    PROCESS = "process"
    POWER = "power"


class LogWriter:
    """What one worker writes of one product. ``RequestRefused`` (503) when the disk takes no more."""

    def __init__(self, directory: Path, *, durability: Durability = Durability.PROCESS) -> None:
        self.durability = durability
        self._predictions = SegmentWriter(directory / PREDICTIONS)
        self._mirrors = SegmentWriter(directory / MIRRORS)
        self._mirroring = Lock()  # mirrors are written by threads
        self._waiting: asyncio.Future[None] | None = None
        self._flushing: asyncio.Task[None] | None = None

    def append(self, records: Sequence[Mapping[str, Any]], now: datetime) -> list[str]:
        """Write predictions, all or none, and return their ids: ``trace`` of each with the place of its line."""
        places = self._predictions.append([orjson.dumps(record) for record in records], now)
        return [f"{record['trace']}-{place}" for record, place in zip(records, places, strict=True)]

    def mirror(self, records: Sequence[Mapping[str, Any]], now: datetime) -> None:
        """Write what other versions would have answered: ``id``, ``version``, ``score``."""
        with self._mirroring:
            self._mirrors.append([orjson.dumps(record) for record in records], now)

    def roll(self, now: datetime) -> None:
        """Let go of segments of an hour that has passed, also when nobody asks for anything."""
        self._predictions.roll(now)
        with self._mirroring:
            self._mirrors.roll(now)

    async def acknowledge(self) -> None:
        """Return when what was appended before is as durable as declared; many requests share one disk write."""
        if self.durability is Durability.PROCESS:
            return
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        waiting = self._waiting
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await asyncio.shield(waiting)

    async def _flush(self) -> None:
        while self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            try:
                await asyncio.to_thread(self._predictions.flush)
            except OSError as error:
                waiting.set_exception(RequestRefused(f"the prediction log cannot be flushed: {error}", 503))
            else:
                waiting.set_result(None)

    def close(self) -> None:
        """Let go of all files."""
        self._predictions.close()
        self._mirrors.close()


class FilePredictionLog:
    """The log below ``root``: gives writers, and reads what all writers wrote. Implements ``PredictionLog``."""

    def __init__(self, root: Path, *, durability: Durability = Durability.PROCESS) -> None:
        self.root = root
        self.durability = durability
        self._folders: dict[str, LogFolder] = {}
        self._lock = Lock()

    def writer(self, product: str) -> LogWriter:
        """Return what a worker writes predictions with."""
        return LogWriter(self.root / product, durability=self.durability)

    def outcomes(self, product: str) -> OutcomeBook:
        """Return the outcomes, to read and to tell."""
        path = self.root / product / "outcomes.sqlite"
        return OutcomeBook(path, outlives_power=self.durability is Durability.POWER)

    def find(self, product: str, id: str) -> dict[str, Any] | None:
        """Return what was logged of the prediction ``id``, ``None`` when none was answered under that name."""
        return self._folder(product).find(id)

    def count(self, product: str) -> int:
        """Return how many predictions were acknowledged."""
        with self._lock:
            return self._folder(product).read_predictions().height

    def predictions(self, product: str) -> pl.DataFrame:
        """Return one row per prediction with its outcome where known; see ``PredictionLog.predictions``."""
        with self._lock:
            return self._folder(product).with_outcomes()

    def mirrors(self, product: str) -> pl.DataFrame:
        """Return ``id``, ``version``, ``score`` of every mirrored request."""
        with self._lock:
            return self._folder(product).read_mirrors()

    def _folder(self, product: str) -> LogFolder:
        return self._folders.setdefault(product, LogFolder(self.root / product))

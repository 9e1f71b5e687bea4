"""Mirrors: what the other versions would have answered, found out after the answer was given.

One task works through a bounded queue. A mirror that fails, hangs or comes too late fails nobody; what the queue does
not hold is not mirrored, and counted.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import polars as pl

from mlops_assets.errors import RequestRefused
from mlops_assets.ledger.canonical import Digest
from mlops_assets.serving.log import LogWriter
from mlops_assets.serving.ready import Live
from mlops_assets.serving.scoring import Score, score_of
from mlops_assets.serving.versions import Version

_LOG = logging.getLogger(__name__)
MIRROR_SECONDS = 1.0
Mirrored = tuple[str, Digest, Mapping[str, Any]]
"""The id of a prediction, who answered, and the row with its features."""


class Mirroring:
    """Scores answered rows by the versions that the plan mirrors, and logs the scores."""

    def __init__(
        self, writer: LogWriter, now: Callable[[], datetime], *, limit: int, dtypes: Mapping[str, pl.DataType]
    ) -> None:
        self.on_dropped: Callable[[], None] = lambda: None
        self._writer = writer
        self._now = now
        self._dtypes = dtypes
        self._queue: asyncio.Queue[tuple[Live, Sequence[Mirrored]]] = asyncio.Queue(limit)
        self._working: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mirrors")
        self._scores: dict[Digest, Score] = {}  # of versions in this process, for the thread alone

    def offer(self, live: Live, answers: Sequence[Mirrored]) -> None:
        """Have the answers mirrored when there is time."""
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        try:
            self._queue.put_nowait((live, answers))
        except asyncio.QueueFull:
            self.on_dropped()

    async def stop(self) -> None:
        """Give up what waits."""
        if self._working is not None:
            self._working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._working
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            live, answers = await self._queue.get()
            try:
                records = [record for one in answers async for record in self._mirror(live, one)]
                if records:
                    await loop.run_in_executor(self._thread, self._writer.mirror, records, self._now())
            except RequestRefused as refused:  # the disk is full; answers say so too
                _LOG.error("mirrors are not logged: %s", refused)

    async def _mirror(self, live: Live, mirrored: Mirrored) -> Any:
        id, answered_by, row = mirrored
        for digest in live.plan.mirrors:
            if digest == answered_by or digest not in live.versions:
                continue
            yield {"id": id, "version": digest, "score": await self._score(live.versions[digest], row)}

    async def _score(self, version: Version, row: Mapping[str, Any]) -> float | None:
        """Return the score, ``None`` when the version fails to give one: that is logged as well."""
        try:
            if version.apart is not None:
                read = {name: row[name] for name in version.features}
                score = await version.apart.score(read, MIRROR_SECONDS)
            else:
                score = await asyncio.get_running_loop().run_in_executor(self._thread, self._score_here, version, row)
        except Exception as error:  # a mirrored model may fail in any way, and nobody asked it
            _LOG.warning("a mirror failed: %s: %s", type(error).__name__, error)
            return None
        return score if math.isfinite(score) else None

    def _score_here(self, version: Version, row: Mapping[str, Any]) -> float:
        assert version.model is not None
        if version.digest not in self._scores:
            self._scores = {version.digest: score_of(version.model, self._dtypes)} | dict(
                list(self._scores.items())[:3]
            )
        return self._scores[version.digest](row)

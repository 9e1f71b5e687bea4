"""One served product in one worker: answers, mirrors, outcomes, and the switch from plan to plan.

All that answers hangs on one reference, ``live``, which a new plan replaces at once: a request works with the one it
began with. Whatever takes long (fetching a model, reading a snapshot) happens before, off the request's path.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import MlopsError, RequestRefused, ServiceUnavailable
from mlops_assets.features.online_stores import MemoryStores, OnlineStores
from mlops_assets.features.request import RequestFeatures
from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.answering import Answering, Scored, microseconds
from mlops_assets.serving.board import PlanBoard
from mlops_assets.serving.explaining import explain
from mlops_assets.serving.log import Durability, FilePredictionLog
from mlops_assets.serving.mirroring import Mirroring
from mlops_assets.serving.ready import Live, Preparation, dtypes_of
from mlops_assets.serving.served import ServedProduct
from mlops_assets.serving.settings import Settings
from mlops_assets.training.registry import ModelRegistry

_LOG = logging.getLogger(__name__)
FOLLOW_SECONDS = 0.02
ROLL_SECONDS = 10.0
GRACE_SECONDS = 5.0  # a version taken away may still be answering


@dataclass(frozen=True, slots=True)
class Answer:
    """One row's answer under its id."""

    id: str
    scored: Scored


class ProductRuntime:
    """Answers requests for one product and remembers their outcomes. Belongs to one event loop, once started."""

    def __init__(
        self,
        served: ServedProduct,
        *,
        snapshots: SnapshotStore,
        registry: ModelRegistry,
        log: FilePredictionLog,
        state_dir: Path,
        online: OnlineStores | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        settings: Settings | None = None,
    ) -> None:
        self.served = served
        self.live = Live(plan=TrafficPlan(weights={}))
        self.settings = settings or Settings()
        request_features = RequestFeatures(served.request_features, dict(served.schema))
        self.dtypes = dtypes_of(served, request_features)
        self.preparation = Preparation(
            served, snapshots=snapshots, registry=registry, log=log, online=online or MemoryStores(),
            folder=state_dir / "models", dtypes=self.dtypes,
        )  # fmt: skip
        self.log = log
        self._now = now
        self.answering = Answering(
            served, self.dtypes, request_features, version_seconds=self.settings.version_deadline.total_seconds()
        )
        self._writer = log.writer(served.name)
        self._book = log.outcomes(served.name)
        self.mirroring = Mirroring(self._writer, now, limit=self.settings.mirrors_waiting, dtypes=self.dtypes)
        self._board = PlanBoard(state_dir / served.name)
        self._ready: dict[int, Live] = {}
        self._said = 0
        self._changing = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve the plan that was applied last, if any, and follow the board from now on."""
        self._board.join()
        try:
            await self._follow_once()
        finally:
            self._following = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Let go of everything."""
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        self._board.leave()
        await self.mirroring.stop()
        for version in self.live.versions.values():
            version.close()
        self._writer.close()
        self._book.close()

    async def _follow(self) -> None:
        """Make ready what is proposed to all workers, and switch with them; let go of segments in time."""
        rolled = time.monotonic()
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self._follow_once()
                if time.monotonic() - rolled > ROLL_SECONDS:
                    rolled = time.monotonic()
                    self._writer.roll(self._now())
            except (MlopsError, OSError) as error:
                _LOG.error("%s: %s", self.served.name, error)
                await asyncio.sleep(1)

    async def _follow_once(self) -> None:
        if self._board.proposed > max(self._said, self._board.applied):
            async with self._changing:
                await self._prepare_proposed()
        if self._board.applied != self.live.number and not self._switch():
            applied = await asyncio.to_thread(self._board.read_applied)  # this worker has just begun
            if applied is not None:
                self._ready[applied.number] = await self._made_ready(applied.plan, applied.number)
                self._switch()

    async def _prepare_proposed(self) -> None:
        """Make the newest proposal ready and say so, or say why it cannot be."""
        proposed = await asyncio.to_thread(self._board.read_proposed)
        if proposed is None or proposed.number <= self._said:
            return
        self._said = proposed.number
        trouble = None
        try:
            self._ready = {proposed.number: await self._made_ready(proposed.plan, proposed.number)}
        except Exception as error:  # whatever it is, the worker that asked must hear of it
            trouble = str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"
        await asyncio.to_thread(self._board.say, proposed.number, trouble=trouble)

    async def _made_ready(self, plan: TrafficPlan, number: int) -> Live:
        return await self.preparation.make_ready(plan, number, self.live, isolate=self.settings.isolate)

    async def apply(self, plan: TrafficPlan) -> None:
        """Have all workers make ``plan`` ready, then switch to it at once.

        What any of them cannot load raises ``ServiceUnavailable``, and the plan before goes on everywhere.
        """
        if plan == self.live.plan and self._board.proposed == self._board.applied == self.live.number:
            return
        number = await asyncio.to_thread(self._board.propose, plan)
        until = time.monotonic() + self.settings.plan_deadline.total_seconds()
        while True:
            async with self._changing:
                await self._prepare_proposed()
            try:
                if await asyncio.to_thread(self._board.switch, number):
                    break
            except MlopsError as error:
                raise ServiceUnavailable(f"{self.served.name}: the plan was not applied: {error}") from error
            if time.monotonic() > until:
                raise ServiceUnavailable(f"{self.served.name}: the plan was not applied: a worker does not answer")
            await asyncio.sleep(FOLLOW_SECONDS / 4)
        self._switch()

    def _switch(self) -> bool:
        """Answer by the plan that all workers switched to, if it is ready here; return whether it is."""
        live = self._ready.pop(self._board.applied, None)
        if live is None:
            return self._board.applied == self.live.number
        gone = [v for digest, v in self.live.versions.items() if live.versions.get(digest) is not v]
        self.live = live
        for version in gone:
            asyncio.get_running_loop().call_later(GRACE_SECONDS, version.close)
        return True

    def newest_events(self) -> Mapping[str, datetime | None]:
        """Return when the newest event that each view holds happened; nothing before a plan was applied."""
        told = self.live.told
        return {} if told is None else told.features.newest_events()

    async def answer(
        self, rows: Sequence[Mapping[str, Any]], *, until: float, trace: str | None = None, asked: Digest | None = None
    ) -> list[Answer]:
        """Answer rows, each by its entity's version or the one ``asked`` for, all on record before this returns.

        ``RequestRefused`` (504) when that is not done by ``until``, on ``time.perf_counter``.
        """
        began = time.perf_counter()
        if self._board.applied != self.live.number:
            self._switch()
        live = self.live
        if not live.plan.weights or live.told is None:
            raise RequestRefused(f"{self.served.name}: no version is live yet", 503)
        if asked is not None and asked not in live.versions:
            raise RequestRefused(f"{self.served.name}: version {asked!r} is not live; live: {list(live.versions)}", 404)
        live.told.catch_up(self._book)
        scored = await self.answering.score(live, rows, asked=asked, until=until)
        seconds, at, trace = (time.perf_counter() - began) / len(rows), self._now(), trace or uuid.uuid4().hex
        ids = self._writer.append(
            [self.answering.record(live, one, trace=trace, at=at, seconds=seconds) for one in scored], at
        )
        await self._writer.acknowledge()
        if live.plan.mirrors:
            self.mirroring.offer(live, [(id, one.version, one.row) for id, one in zip(ids, scored, strict=True)])
        return [Answer(id, one) for id, one in zip(ids, scored, strict=True)]

    async def tell(self, id: str, value: float) -> bool:
        """Remember an outcome; return whether it is new. Unknown predictions are 404, another outcome is 409."""
        found = self.log.find(self.served.name, id)
        if found is None:
            raise RequestRefused(f"no prediction {id!r} was answered by {self.served.name}", 404)
        new = await self._written(self._book.tell, id, value, inputs=found["inputs"])
        if self.live.told is not None:
            self.live.told.try_to_catch_up(self._book)
        return new

    async def correct(self, id: str, value: float, why: str) -> bool:
        """Remember that an outcome is another; return whether that is new. 404 for one that was never told."""
        return await self._written(self._book.correct, id, value, why=why)

    async def explain(self, id: str) -> dict[str, Any]:
        """Return what moved the score of a logged prediction; see ``explaining.py``. 404 for an unknown one."""
        record = await asyncio.to_thread(self.log.find, self.served.name, id)
        if record is None:
            raise RequestRefused(f"no prediction {id!r} was answered by {self.served.name}", 404)
        return await asyncio.to_thread(self._explained, id, record)

    def _explained(self, id: str, record: dict[str, Any]) -> dict[str, Any]:
        live = self.live.versions.get(record["version"])
        model = live.model if live and live.model else self.preparation.load_model(record["version"])
        return explain(id, record, model, self.dtypes)

    async def _written(self, write: Callable[..., bool], id: str, value: float, **more: Any) -> bool:
        at = microseconds(self._now())
        if self.log.durability is Durability.PROCESS:
            return write(id, value, at=at, **more)
        return await asyncio.to_thread(lambda: write(id, value, at=at, **more))  # it waits for the disk

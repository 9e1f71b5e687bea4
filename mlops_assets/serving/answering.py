"""Rows to scores: features, the version that answers, the fallback when it cannot, and the record of it all."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from mlops_assets.errors import EvaluationError, FeatureError, RequestRefused
from mlops_assets.features.request import RequestFeatures
from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.plan import ASKED
from mlops_assets.serving.ready import Live
from mlops_assets.serving.routing import route
from mlops_assets.serving.served import ServedProduct
from mlops_assets.serving.versions import Version, batch_of

AT_A_TIME = 64
"""Rows of one request that are scored before other requests have their turn."""
WORTH_A_BATCH = 8
"""From so many rows on, one call of the model is quicker than one for each row."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One row's answer: why and by whom, what the model was told, and how many outcomes the features knew."""

    version: Digest
    arm: str
    failed_version: Digest | None
    score: float
    row: Mapping[str, Any]
    told: int


class Answering:
    """Scores rows of one product by what is live. ``on_failure`` is called with a version that could not answer."""

    def __init__(
        self,
        served: ServedProduct,
        dtypes: Mapping[str, pl.DataType],
        request_features: RequestFeatures,
        *,
        version_seconds: float,
    ) -> None:
        self.on_failure: Callable[[Digest], None] = lambda _version: None
        self._served = served
        self._dtypes = dtypes
        self._request_features = request_features
        views = (name for view in served.views for name in view.feature_names)
        self._feature_names = (*views, *request_features.names)
        self._definitions = served.definitions
        self._version_seconds = version_seconds

    async def score(
        self, live: Live, rows: Sequence[Mapping[str, Any]], *, asked: Digest | None, until: float
    ) -> list[Scored]:
        """Return the answers to rows, in order. ``RequestRefused`` (504) past ``until``, on ``time.perf_counter``."""
        found: list[Scored] = []
        for start in range(0, len(rows), AT_A_TIME):
            if start:
                await asyncio.sleep(0)
            if time.perf_counter() > until:
                raise RequestRefused(f"{self._served.name}: the deadline passed after {start} of {len(rows)} rows", 504)
            part = [self.with_features(live, row) for row in rows[start : start + AT_A_TIME]]
            found += await self._score_part(live, part, asked, until)
        return found

    async def _score_part(
        self, live: Live, rows: list[dict[str, Any]], asked: Digest | None, until: float
    ) -> list[Scored]:
        assert live.told is not None
        told, name = live.told.place, self._served.name
        chosen = [
            (asked, ASKED) if asked else route(row, str(row[self._served.entity]), live.plan, salt=name) for row in rows
        ]
        versions = {digest: live.versions[digest] for digest, _ in chosen}
        if len(rows) >= WORTH_A_BATCH and len(versions) == 1 and next(iter(versions.values())).model is not None:
            [version] = versions.values()
            batch = batch_of(version, rows, self._dtypes)
            scores: list[tuple[float, Digest | None]] = [(_finite(name, version, score), None) for score in batch]
        else:
            scores = [
                await self._one(live, versions[digest], row, until)
                for (digest, _), row in zip(chosen, rows, strict=True)
            ]
        return [
            Scored(live.plan.champion if failed and live.plan.champion else digest, arm, failed, score, row, told)
            for (digest, arm), row, (score, failed) in zip(chosen, rows, scores, strict=True)
        ]

    async def _one(
        self, live: Live, version: Version, row: Mapping[str, Any], until: float
    ) -> tuple[float, Digest | None]:
        """Return the score of a row, and the version that should have given it but for the champion."""
        if version.here is not None:
            return _finite(self._served.name, version, version.here(row)), None
        assert version.apart is not None
        seconds = min(self._version_seconds, max(until - time.perf_counter(), 0.0))
        try:
            read = {name: row[name] for name in version.features}
            return _finite(self._served.name, version, await version.apart.score(read, seconds)), None
        except (EvaluationError, RequestRefused):
            self.on_failure(version.digest)
            champion = live.versions[live.plan.champion or ""]
            assert champion.here is not None
            return _finite(self._served.name, champion, champion.here(row)), version.digest

    def with_features(self, live: Live, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row with all features. ``RequestRefused`` when one is absent that its view does not do without."""
        assert live.told is not None
        try:
            found = live.told.features.features(row, row[self._served.event_time])
            return {**row, **found, **self._request_features.on_request(row)}
        except FeatureError as error:
            raise RequestRefused(f"{self._served.name}: {error}") from error

    def record(self, live: Live, scored: Scored, *, trace: str, at: datetime, seconds: float) -> dict[str, Any]:
        """Return what the log keeps of an answer; see ``prediction.py``."""
        row = scored.row
        features = {name: row[name] for name in self._feature_names}
        record = {
            "trace": trace,
            "at": microseconds(at),
            "version": scored.version,
            "arm": scored.arm,
            "entity": str(row[self._served.entity]),
            "inputs": {name: row[name] for name in self._served.inputs},
            "features": features,
            "snapshot": live.plan.features,
            "told": scored.told,
            "definitions": self._definitions,
            "score": scored.score,
            "latency_seconds": seconds,
        }
        if scored.failed_version:
            record["failed_version"] = scored.failed_version
        if odd := {f"features.{name}": _odd_text(value) for name, value in features.items() if _is_odd(value)}:
            record["odd"] = odd
        return record


def _finite(product: str, version: Version, score: float) -> float:
    if not math.isfinite(score):
        raise RequestRefused(f"{product}: version {version.digest} gives {score}, which is no answer", 500)
    return score


def _is_odd(value: Any) -> bool:
    if isinstance(value, list):
        return any(_is_odd(item) for item in value)
    return isinstance(value, float) and not math.isfinite(value)


def _odd_text(value: Any) -> Any:
    return [None if item is None else repr(item) for item in value] if isinstance(value, list) else repr(value)


def microseconds(at: datetime) -> int:
    """Return the microseconds since 1970."""
    return int(at.timestamp()) * 1_000_000 + at.microsecond

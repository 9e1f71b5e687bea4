"""One served product: the models that are loaded, the features they see, the plan that shares traffic between them.

All of it hangs on one reference, ``Live``, which a new plan replaces at once: a request works with the one it began
with. Whatever takes long (fetching a model, reading a snapshot) happens before, in a thread.
"""

import asyncio
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import EvaluationError, FeatureError, MlopsError, RequestRefused
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.request import RequestFeatures
from mlops_assets.features.view import RequestFeature
from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.serving.routing import version_for
from mlops_assets.serving.served import ServedProduct
from mlops_assets.training.model import Model
from mlops_assets.training.package import load_model
from mlops_assets.training.registry import ModelRegistry

_LOG = logging.getLogger(__name__)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What answers now."""

    plan: TrafficPlan
    models: Mapping[Digest, Model] = field(default_factory=dict)
    features: OnlineFeatures | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One row's answer, and what its mirrors need."""

    id: str
    version: Digest
    score: float
    row: Mapping[str, Any]


class ProductRuntime:
    """Answers requests for one product and remembers their outcomes."""

    def __init__(
        self,
        served: ServedProduct,
        *,
        snapshots: SnapshotStore,
        registry: ModelRegistry,
        log: FilePredictionLog,
        state_dir: Path,
    ) -> None:
        self.served = served
        self.live = Live(plan=TrafficPlan(weights={}))
        self.on_absent: Callable[[str], None] = lambda _view: None
        self.on_refused_event: Callable[[], None] = lambda: None
        self._snapshots = snapshots
        self._registry = registry
        self._state_dir = state_dir
        self._request_features = RequestFeatures(served.request_features, dict(served.schema))
        derived = [RequestFeature(name=name, expression=text) for name, text in served.derived.items()]
        self._derived = RequestFeatures(derived, dict(served.schema))
        self._definitions = served.definitions
        self._recall(log)
        self._writer = log.writer(served.name)
        self._changing = asyncio.Lock()

    def _recall(self, log: FilePredictionLog) -> None:
        """Read back what an earlier server acknowledged: predictions, their outcomes, the events they made."""
        records = log.records(self.served.name)
        self._inputs = {record["id"]: record["inputs"] for record in records["prediction"]}
        self._outcomes: dict[str, float] = {}
        self._events: list[Mapping[str, Any]] = []
        for record in records["outcome"]:
            if record["id"] in self._inputs and record["id"] not in self._outcomes:
                self._outcomes[record["id"]] = record["value"]
                self._events.append(self._event(self._inputs[record["id"]], record["value"]))

    @property
    def _plan_file(self) -> Path:
        return self._state_dir / f"{self.served.name}.plan.json"

    async def restore(self) -> None:
        """Serve the plan that was applied last, if any."""
        if self._plan_file.exists():
            await self.apply(TrafficPlan.from_json(json.loads(self._plan_file.read_bytes())))

    async def apply(self, plan: TrafficPlan) -> None:
        """Make all that ``plan`` names ready, remember the plan, then switch to it at once.

        What cannot be loaded raises, and the plan before goes on.
        """
        async with self._changing:
            if plan == self.live.plan:
                return
            before = self.live
            models = await asyncio.to_thread(self._load_all, plan, before.models)
            features = before.features
            known = len(self._events)
            if plan.features != before.plan.features or features is None:
                features = await asyncio.to_thread(self._build_features, plan.features, self._events[:known])
                for event in self._events[known:]:
                    self._learn(features, event)
            _write_durably(self._plan_file, json.dumps(plan.to_json()).encode())
            self.live = Live(plan=plan, models=models, features=features)

    def _load_all(self, plan: TrafficPlan, loaded: Mapping[Digest, Model]) -> dict[Digest, Model]:
        return {d: loaded.get(d) or self._load(d) for d in dict.fromkeys((*plan.weights, *plan.mirrors))}

    def _load(self, digest: Digest) -> Model:
        """Fetch a model, verified by its digest, and let it answer an empty row before anybody asks it."""
        folder = self._state_dir / "models"
        folder.mkdir(parents=True, exist_ok=True)
        model = load_model(self._registry.fetch(self.served.name, digest, folder))
        row = dict.fromkeys((*self.served.inputs, *self._feature_names()))
        found = self._score(model, row)
        if not np.isfinite(found):
            raise EvaluationError(
                f"{self.served.name}: model {digest} answers {found} to an empty row; it is not served"
            )
        return model

    def _feature_names(self) -> tuple[str, ...]:
        return (*(name for view in self.served.views for name in view.feature_names), *self._request_features.names)

    def _build_features(self, snapshot: Digest | None, events: Sequence[Mapping[str, Any]]) -> OnlineFeatures:
        features = OnlineFeatures(self.served.views, event_key=self.served.event_key, on_absent=self.on_absent)
        if snapshot is not None:
            features.bootstrap(self._snapshots.read(snapshot))
        for event in events:
            self._learn(features, event)
        return features

    def _learn(self, features: OnlineFeatures, event: Mapping[str, Any]) -> None:
        """Tell the features an event; one that they refuse must not keep others, or requests, waiting."""
        try:
            features.add(event)
        except FeatureError as error:
            _LOG.warning("%s: an event is not counted: %s", self.served.name, error)
            self.on_refused_event()

    def answer(self, rows: Sequence[Mapping[str, Any]], *, trace: str | None = None) -> list[Answer]:
        """Answer rows, each by its entity's version, all logged before this returns."""
        began = time.perf_counter()
        live = self.live
        if not live.plan.weights or live.features is None:
            raise RequestRefused(f"{self.served.name}: no version is live yet", 503)
        answers = [self._answer(live, row, trace if len(rows) == 1 else None) for row in rows]
        seconds = (time.perf_counter() - began) / len(rows)
        at = _microseconds(datetime.now(UTC))
        self._writer.append(self._record(answer, at, seconds) for answer in answers)
        for answer in answers:
            self._inputs[answer.id] = _inputs_of(answer.row, self.served)
        return answers

    def _answer(self, live: Live, row: Mapping[str, Any], trace: str | None) -> Answer:
        full = self._with_features(live, row)
        entity = str(row[self.served.entity])
        version = version_for(entity, live.plan, salt=self.served.name)
        score = self._score(live.models[version], full)
        id = f"{trace}-{uuid.uuid4().hex[:8]}" if trace else uuid.uuid4().hex
        return Answer(id=id, version=version, score=score, row=full)

    def _with_features(self, live: Live, row: Mapping[str, Any]) -> dict[str, Any]:
        assert live.features is not None
        try:
            found = live.features.features(row, row[self.served.event_time])
            return {**row, **found, **self._request_features.on_request(row)}
        except FeatureError as error:
            raise RequestRefused(f"{self.served.name}: {error}") from error

    @staticmethod
    def _score(model: Model, row: Mapping[str, Any]) -> float:
        quick = getattr(model, "predict_matrix", None)
        if quick is None:
            return float(model.predict(pl.DataFrame({name: [row[name]] for name in model.features}))[0])
        values = [np.nan if row[name] is None else row[name] for name in model.features]
        return float(quick(np.array([values], dtype=np.float64))[0])

    def _record(self, answer: Answer, at: int, seconds: float) -> dict[str, Any]:
        inputs = _inputs_of(answer.row, self.served)
        return {
            "kind": "prediction",
            "id": answer.id,
            "at": at,
            "product": self.served.name,
            "version": answer.version,
            "entity": str(answer.row[self.served.entity]),
            "inputs": inputs,
            "features": {name: _json_value(answer.row[name]) for name in self._feature_names()},
            "snapshot": self.live.plan.features,
            "told": len(self._events),
            "definitions": self._definitions,
            "score": answer.score,
            "latency_seconds": seconds,
        }

    def mirror(self, answers: Sequence[Answer]) -> None:
        """Score answered rows by the other versions that the plan mirrors; what fails here fails nobody."""
        live = self.live
        records = []
        try:
            for answer in answers:
                for digest in live.plan.mirrors:
                    if digest != answer.version and digest in live.models:
                        score = self._score(live.models[digest], answer.row)
                        records.append({"kind": "mirror", "id": answer.id, "version": digest, "score": score})
            if records:
                self._writer.append(records)
        except Exception:  # a mirrored model may fail in any way, and nobody asked it
            _LOG.exception("%s: a mirror failed", self.served.name)

    def tell(self, id: str, value: float) -> bool:
        """Remember an outcome; return whether it is new. Unknown predictions are 404, another outcome is 409."""
        if id not in self._inputs:
            raise RequestRefused(f"no prediction {id!r} was answered by {self.served.name}", 404)
        if id in self._outcomes:
            if self._outcomes[id] == value:
                return False
            raise RequestRefused(f"prediction {id!r} has the outcome {self._outcomes[id]} already", 409)
        event = self._event(self._inputs[id], value)
        at = _microseconds(datetime.now(UTC))
        self._writer.append([{"kind": "outcome", "id": id, "at": at, "value": value}])
        self._outcomes[id] = value
        self._events.append(event)
        if self.live.features is not None:
            self._learn(self.live.features, event)
        return True

    def _event(self, inputs: Mapping[str, Any], value: float) -> dict[str, Any]:
        event = {**_parsed_times(inputs, self.served), self.served.outcome: value}
        return {**event, **self._derived.on_request(event)}


def _inputs_of(row: Mapping[str, Any], served: ServedProduct) -> dict[str, Any]:
    """Return the row's inputs as JSON values."""
    return {name: _json_value(row[name]) for name in served.inputs}


def _json_value(value: Any) -> Any:
    """Return a time, also in a list, as text in ISO 8601, and any other value as it is."""
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _parsed_times(inputs: Mapping[str, Any], served: ServedProduct) -> dict[str, Any]:
    return {
        name: datetime.fromisoformat(value) if isinstance(served.schema[name], pl.Datetime) and value else value
        for name, value in inputs.items()
    }


def _microseconds(at: datetime) -> int:
    delta = at - EPOCH
    return (delta.days * 86400 + delta.seconds) * 1_000_000 + delta.microseconds


def _write_durably(path: Path, content: bytes) -> None:
    """Replace a file at once: a crash leaves the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise MlopsError(f"{path} cannot be written: {error}; free space") from error
    finally:
        unfinished.unlink(missing_ok=True)

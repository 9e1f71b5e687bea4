"""What is made ready for a traffic plan: its versions, and the features that they see."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.features.answers import feature_dtype
from mlops_assets.features.filling import fill
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.online_stores import OnlineStores
from mlops_assets.features.request import RequestFeatures
from mlops_assets.ledger.canonical import Digest
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.serving.served import ServedProduct
from mlops_assets.serving.told import ToldFeatures
from mlops_assets.serving.versions import Version, VersionLoader
from mlops_assets.training.model import Model
from mlops_assets.training.package import load_model, read_package
from mlops_assets.training.registry import ModelRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A plan with all it needs. ``number`` is the plan's on the board."""

    plan: TrafficPlan
    number: int = 0
    versions: Mapping[Digest, Version] = field(default_factory=dict)
    told: ToldFeatures | None = None


def dtypes_of(served: ServedProduct, request_features: RequestFeatures) -> dict[str, pl.DataType]:
    """Return the type of each column that a model may read."""
    inputs = {name: served.schema[name] for name in served.inputs}
    views = {feature.name: feature_dtype(feature) for view in served.views for feature in view.features}
    return {**inputs, **request_features.dtypes, **views}


class Preparation:
    """Makes plans of one product ready, taking over what the plan before has ready already."""

    def __init__(
        self,
        served: ServedProduct,
        *,
        snapshots: SnapshotStore,
        registry: ModelRegistry,
        log: FilePredictionLog,
        online: OnlineStores,
        folder: Path,
        dtypes: Mapping[str, pl.DataType],
    ) -> None:
        self.on_absent: Callable[[str], None] = lambda _view: None
        self.on_refused_event: Callable[[], None] = lambda: None
        self._served = served
        self._snapshots = snapshots
        self._log = log
        self._online = online
        self._loader = VersionLoader(served.name, registry=registry, folder=folder, dtypes=dtypes)

    async def make_ready(self, plan: TrafficPlan, number: int, before: Live, *, isolate: bool) -> Live:
        """Return ``plan`` ready to answer. What was started for it is ended again when any of it cannot be had."""
        versions: dict[Digest, Version] = {}
        try:
            for digest in plan.versions:
                apart = isolate and plan.champion is not None and digest != plan.champion
                known = before.versions.get(digest)
                fits = known is not None and (known.apart is not None) == apart
                versions[digest] = known if fits and known else await self._load(digest, apart=apart)
            told = before.told
            if told is None or plan.features != before.plan.features:
                told = await asyncio.to_thread(self._build_features, plan.features)
        except BaseException:
            for digest, version in versions.items():
                if version is not before.versions.get(digest):
                    version.close()
            raise
        return Live(plan=plan, number=number, versions=versions, told=told)

    def load_model(self, digest: Digest) -> Model:
        """Return the model of a version, to look at and not to serve. Blocks."""
        return load_model(self._loader.fetch(digest))

    async def _load(self, digest: Digest, *, apart: bool) -> Version:
        if not apart:
            return await asyncio.to_thread(self._loader.load_here, digest)
        directory = await asyncio.to_thread(self._loader.fetch, digest)
        return await self._loader.load_apart(digest, directory, read_package(directory).features)

    def _build_features(self, snapshot: Digest | None) -> ToldFeatures:
        served = self._served
        store = self._online.open(served.name, snapshot)
        features = OnlineFeatures(served.views, event_key=served.event_key, store=store, on_absent=self.on_absent)
        if snapshot is not None:
            fill(features, store, snapshot, lambda: self._snapshots.read(snapshot))
        told = ToldFeatures(features, served, on_refused=self.on_refused_event)
        book = self._log.outcomes(served.name)
        try:
            told.catch_up(book)
        finally:
            book.close()
        told.forget_version()  # of a book that is closed; the next one is asked again
        return told

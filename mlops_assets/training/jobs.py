"""The job that makes a registered model again: ``<product>_reproduce``."""

from collections.abc import Sequence
from dataclasses import asdict

import dagster as dg
from pydantic import Field

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import NotReproduced, TrainingFailed
from mlops_assets.features.view import FeatureView, RequestFeature
from mlops_assets.ledger.entry import Kind, Ledger
from mlops_assets.training.backend import TrainingBackend
from mlops_assets.training.golden import pinned_golden, with_pinned
from mlops_assets.training.job import TrainingJob
from mlops_assets.training.provenance import environment_digest
from mlops_assets.training.recipe import Recipe, TimeSplit
from mlops_assets.training.registry import ModelRegistry
from mlops_assets.training.reproduce import Stage, differences, find_recipe, find_registration, make_tables_again
from mlops_assets.training.training_set import assemble, training_set_digest


class ReproduceConfig(dg.Config):
    """Which model to make again."""

    candidate: str | None = Field(default=None, description="The digest of a registered model; the champion's if none.")


def build_reproduce_job(
    product: str,
    *,
    views: Sequence[FeatureView],
    request_features: Sequence[RequestFeature],
    recipes: Sequence[Recipe],
    label: str,
    entity: str,
    event_time: str,
    split: TimeSplit,
) -> dg.JobDefinition:
    """Return the job: from the recorded dataset, features, training set and model are made again and compared.

    What came of it is an entry of the ledger. Raises ``NotReproduced`` when anything came out another, naming the first
    stage that did.
    """
    features = (*(name for view in views for name in view.feature_names), *(f.name for f in request_features))

    @dg.op(name=f"{product}_make_again", description="Make a registered model again from its recorded dataset.")
    def make_again(
        context: dg.OpExecutionContext,
        config: ReproduceConfig,
        snapshots: dg.ResourceParam[SnapshotStore],
        training: dg.ResourceParam[TrainingBackend],
        registry: dg.ResourceParam[ModelRegistry],
        ledger: dg.ResourceParam[Ledger],
    ) -> None:
        registered_by = find_registration(ledger.entries(product), product, config.candidate)
        registration = registered_by.body
        candidate = registration["candidate"]
        registered = registry.find(product, candidate)
        if registered is None:
            raise NotReproduced(f"{product}: the registry has no model {candidate}; it cannot say how it was trained")
        recipe = find_recipe(recipes, product, registration["recipe"], registered.facts)
        rows = snapshots.read(registration["snapshot"])
        tables, stages = make_tables_again(product, views, rows, registered.facts, snapshots)
        parts = assemble(
            product, rows, tables, request_features, split=split, event_time=event_time, label=label, entity=entity
        )
        before = [entry for entry in ledger.entries(product) if entry.sequence < registered_by.sequence]
        parts = with_pinned(product, parts, before, snapshots, split, event_time)
        train, golden = snapshots.write(parts.train).digest, snapshots.write(parts.golden).digest
        made = training_set_digest(train, golden)
        stages.append(Stage(stage="training_set", recorded=registration["training_set"], found=made))
        job = TrainingJob(product=product, recipe=recipe, features=features, label=label, training_set=train)
        with training.train(context, job, snapshots) as trained:
            stages.append(Stage(stage="model", recorded=candidate, found=trained.digest))
        environment = {"recorded": registered.facts.get("environment", "unknown"), "found": environment_digest()}
        different = differences(product, stages, environment)
        body = {
            "candidate": candidate,
            "equal": different is None,
            "stages": [asdict(stage) for stage in stages],
            "environment": environment,
            "run_id": context.run.run_id,
        }
        entry = ledger.append(product, Kind.REPRODUCED, body, actor=f"dagster run {context.run.run_id}")
        context.log_event(
            dg.AssetObservation(
                [product, "candidate"],
                metadata={"reproduced": different is None, "stages": dg.MetadataValue.md(_table(stages))},
            )
        )
        if different:
            raise NotReproduced(different)
        context.log.info(f"{candidate} came out the same, in all of {len(stages)} stages; entry {entry.sequence}")

    @dg.job(name=f"{product}_reproduce", description="Make the champion again from its recorded inputs, and compare.")
    def reproduce() -> None:
        make_again()

    return reproduce


class RenewalConfig(dg.Config):
    """Who renews the golden set, and why."""

    by: str
    why: str


def build_renew_golden_job(product: str) -> dg.JobDefinition:
    """Return the job ``<product>_renew_golden``: the next training set cuts a golden set anew, and pins that.

    Raises ``TrainingFailed`` when nobody says who wants it and why, or nothing is pinned.
    """

    @dg.op(name=f"{product}_unpin", description="Record that the golden set is to be cut anew, by whom and why.")
    def unpin(context: dg.OpExecutionContext, config: RenewalConfig, ledger: dg.ResourceParam[Ledger]) -> None:
        if not config.by.strip() or not config.why.strip():
            raise TrainingFailed(f"{product}: a renewal is recorded with who wants it and why; set by and why")
        entries = ledger.entries(product)
        pinned = pinned_golden(entries)
        if pinned is None:
            raise TrainingFailed(f"{product}: no golden set is pinned; run {product}_train")
        body = {"golden": pinned, "by": config.by, "why": config.why}
        last = entries[-1].sequence
        entry = ledger.append(product, Kind.GOLDEN_RENEWED, body, actor=config.by, expected=last)
        context.log.info(f"{pinned} is released in entry {entry.sequence}; {product}_train cuts a new one")

    @dg.job(name=f"{product}_renew_golden", description="Let the next training set cut a new golden set.")
    def renew_golden() -> None:
        unpin()

    return renew_golden


def _table(stages: Sequence[Stage]) -> str:
    lines = ["| stage | recorded | made again | |", "| --- | --- | --- | --- |"]
    lines += [f"| {s.stage} | `{s.recorded}` | `{s.found}` | {'✓' if s.is_equal else '✗'} |" for s in stages]
    return "\n".join(lines)

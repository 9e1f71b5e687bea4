"""The assets ``training_set`` and ``candidate`` of a product.

Belongs here: reading what was consumed, calling what computes, recording what came of it, by digest. What a training
set is stands in ``training_set.py``; how a model is trained is the recipe's and the backend's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from mlops_assets.data.assets import Consumed, consumed
from mlops_assets.data.plot import inline_png
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import FeatureError, TrainingFailed
from mlops_assets.features.assets import read_features
from mlops_assets.features.materialization import TimePartitions
from mlops_assets.features.view import FeatureView, RequestFeature, spoken
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Entry, Kind, Ledger
from mlops_assets.training.backend import TrainedCandidate, TrainingBackend
from mlops_assets.training.golden import golden_entry, refuse_overlap, with_pinned
from mlops_assets.training.job import TrainingJob
from mlops_assets.training.provenance import find_provenance
from mlops_assets.training.recipe import Recipe, TimeSplit
from mlops_assets.training.registry import ModelRegistry, RegisteredModel
from mlops_assets.training.training_set import TrainingSet, assemble, training_set_digest


def build_training_set_asset(  # noqa: PLR0913 - a training set is made of that many things
    product: str,
    *,
    views: Sequence[FeatureView],
    request_features: Sequence[RequestFeature],
    label: str,
    entity: str,
    event_time: str,
    event_key: Sequence[str],
    split: TimeSplit,
    partitions: Mapping[str, TimePartitions] | None = None,
    owners: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """Return the asset ``[product, training_set]``: two snapshots, ``train`` and ``golden``, and one digest of both.

    ``label`` is a column of the dataset; ``partitions`` are those of the views that are kept in parts, by name. Needs
    the resources ``snapshots`` and ``ledger``, which gets an entry for each new golden set. Raises ``FeatureError``
    when a view was computed from another dataset than the one consumed, and ``TrainingFailed`` when nothing can be
    learned from the rows, or one of the events, by ``event_key``, is in both parts.
    """
    dataset_key = dg.AssetKey([product, "dataset"])
    view_keys = {view: dg.AssetKey(["features", view.name]) for view in views}

    @dg.asset(
        key=[product, "training_set"],
        deps=[dataset_key, *view_keys.values()],
        group_name=product,
        kinds={"polars", "parquet"},
        tags={"stage": "training"},
        owners=list(owners),
        description="Rows of the dataset beside the features each had at its moment; golden: "
        f"the last {spoken(split.golden)}.",
    )
    def training_set(
        context: dg.AssetExecutionContext,
        snapshots: dg.ResourceParam[SnapshotStore],
        ledger: dg.ResourceParam[Ledger],
    ) -> dg.MaterializeResult[Any]:
        dataset = consumed(context, dataset_key)
        rows = snapshots.read(dataset.digest)
        kept = partitions or {}
        _refuse_other_dataset(
            product, dataset, {v: consumed(context, k) for v, k in view_keys.items() if v.name not in kept}
        )
        tables = {
            view: read_features(context, view, kept.get(view.name), snapshots, rows if view.source == product else None)
            for view in views
        }
        parts = assemble(
            product,
            rows,
            {view: table.frame for view, table in tables.items()},
            request_features,
            split=split,
            event_time=event_time,
            label=label,
            entity=entity,
        )
        entries = ledger.entries(product)
        parts = with_pinned(product, parts, entries, snapshots, split, event_time)
        refuse_overlap(product, parts, event_key)
        golden = snapshots.write(parts.golden).digest
        run_id = context.run.run_id
        body = golden_entry(
            parts, golden, entries, snapshots, event_key=event_key, event_time=event_time, run_id=run_id
        )
        if body is not None:
            ledger.append(product, Kind.GOLDEN_PINNED, body, actor=f"dagster run {run_id}")
            context.log.info(f"{product}: golden set {golden} is version {body['version']}: {body['why']}")
        inputs = {dataset_key.to_user_string(): dataset.digest}
        inputs |= {view_keys[view].to_user_string(): table.digest for view, table in tables.items()}
        return _training_set_result(parts, snapshots, inputs, label=label, event_time=event_time)

    return training_set


def build_candidate_asset(
    product: str,
    *,
    recipes: Sequence[Recipe],
    features: Sequence[str],
    label: str,
    owners: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """Return the asset ``[product, candidate]``: trained in a process of its own, registered, entered in the ledger.

    The run's config chooses the recipe by name; without one, the first is used. Every step is idempotent by digest, so
    a run that died anywhere is repaired by running it again: the model gets its one version, and the ledger its entry.
    """
    training_set_key = dg.AssetKey([product, "training_set"])
    known = {recipe.name: recipe for recipe in recipes}

    class CandidateConfig(dg.Config):
        recipe: str = Field(default=recipes[0].name, description=f"How to train: one of {', '.join(known)}.")

    @dg.asset(
        key=[product, "candidate"],
        deps=[training_set_key],
        group_name=product,
        kinds={"python", "mlflow"},
        tags={"stage": "training"},
        owners=list(owners),
        description="A model version by digest, trained in a separate process and kept in the registry.",
    )
    def candidate(
        context: dg.AssetExecutionContext,
        config: CandidateConfig,
        snapshots: dg.ResourceParam[SnapshotStore],
        training: dg.ResourceParam[TrainingBackend],
        registry: dg.ResourceParam[ModelRegistry],
        ledger: dg.ResourceParam[Ledger],
    ) -> dg.MaterializeResult[Any]:
        recipe = _chosen(product, known, config.recipe)
        read = consumed(context, training_set_key)
        inputs = {training_set_key.to_user_string(): read.digest, **read.metadata["inputs"]}
        job = TrainingJob(
            product=product, recipe=recipe, features=tuple(features), label=label, training_set=read.metadata["train"]
        )
        with training.train(context, job, snapshots) as trained:
            registered = _register(context, registry, job, trained, inputs)
        dataset = inputs[f"{product}/dataset"]
        body = {
            "candidate": trained.digest,
            "version": registered.version,
            "snapshot": dataset,
            "training_set": read.digest,
            "recipe": recipe.name,
            "features": dataset,  # serving features are computed from the same events
            "run_id": context.run.run_id,
        }
        record_once(ledger, product, Kind.CANDIDATE_REGISTERED, body, actor=f"dagster run {context.run.run_id}")
        return _candidate_result(recipe, trained, registered, inputs)

    return candidate


def record_once(ledger: Ledger, product: str, kind: Kind, body: Mapping[str, Any], *, actor: str) -> Entry:
    """Append the entry unless the product has one of that kind with an equal body; return the one there is."""
    for entry in ledger.entries(product):
        if entry.kind is kind and dict(entry.body) == dict(body):
            return entry
    return ledger.append(product, kind, body, actor=actor)


def _chosen(product: str, known: Mapping[str, Recipe], name: str) -> Recipe:
    if name not in known:
        raise TrainingFailed(f"{product}: there is no recipe {name!r}; the config can choose one of {list(known)}")
    return known[name]


def _register(
    context: dg.AssetExecutionContext,
    registry: ModelRegistry,
    job: TrainingJob,
    trained: TrainedCandidate,
    inputs: Mapping[str, Digest],
) -> RegisteredModel:
    provenance = find_provenance(inputs)
    facts = {
        "dagster_run_id": context.run.run_id,
        "dagster_job": context.run.job_name,
        "recipe": job.recipe.name,
        "recipe_digest": job.recipe.digest,
        "train": job.training_set,
        "git_commit": provenance.commit,
        "environment": provenance.environment,
        **{f"input.{key}": digest for key, digest in provenance.inputs.items()},
    }
    params = {**job.recipe.params, "seed": job.recipe.seed, "trainer": job.recipe.trainer}
    return registry.register(
        job.product, trained.directory, digest=trained.digest, params=params, metrics=trained.metrics, facts=facts
    )


def _candidate_result(
    recipe: Recipe, trained: TrainedCandidate, registered: RegisteredModel, inputs: Mapping[str, Digest]
) -> dg.MaterializeResult[Any]:
    is_link = registered.run_url.startswith(("http://", "https://"))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(trained.digest),
        metadata={
            "digest": trained.digest,
            "inputs": dg.MetadataValue.json(dict(inputs)),
            "version": registered.version,
            "registry_run": dg.MetadataValue.url(registered.run_url) if is_link else registered.run_url,
            "recipe": recipe.name,
            "recipe_digest": recipe.digest,
            "params": dg.MetadataValue.json(dict(recipe.params)),
            "seconds": trained.seconds,
            **{f"metric/{name}": float(value) for name, value in trained.metrics.items()},
        },
    )


def _training_set_result(
    parts: TrainingSet, snapshots: SnapshotStore, inputs: Mapping[str, Digest], *, label: str, event_time: str
) -> dg.MaterializeResult[Any]:
    train, golden = snapshots.write(parts.train).digest, snapshots.write(parts.golden).digest
    digest = training_set_digest(train, golden)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(digest),
        metadata={
            "digest": digest,
            "train": train,
            "golden": golden,
            "inputs": dg.MetadataValue.json(dict(inputs)),
            "dagster/row_count": parts.train.height + parts.golden.height,
            "train_rows": parts.train.height,
            "golden_rows": parts.golden.height,
            "train_label_mean": _mean(parts.train, label),
            "golden_label_mean": _mean(parts.golden, label),
            "golden_from": str(parts.golden[event_time].min()),
            "rows_over_time": dg.MetadataValue.md(_rows_over_time(parts, event_time)),
        },
    )


def _rows_over_time(parts: TrainingSet, event_time: str) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2))
    axes = figure.add_subplot()
    times = [parts.train[event_time].to_list(), parts.golden[event_time].to_list()]
    axes.hist(times, bins=60, stacked=True, label=["train", "golden"], color=["#4f46e5", "#d97706"])
    axes.set_ylabel("rows")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return inline_png(figure)


def _mean(frame: pl.DataFrame, label: str) -> float:
    return float(frame.select(pl.col(label).mean()).item())


def _refuse_other_dataset(product: str, dataset: Consumed, tables: Mapping[FeatureView, Consumed]) -> None:
    """Refuse views of another state of the dataset: rows and features must speak of the same events."""
    for view, table in tables.items():
        computed_from = table.metadata["inputs"].get(f"{view.source}/dataset")
        if view.source == product and computed_from != dataset.digest:
            raise FeatureError(
                f"{product}: feature view {view.name!r} was computed from the dataset {computed_from}, but the dataset "
                f"is now {dataset.digest}; materialize features/{view.name} again"
            )

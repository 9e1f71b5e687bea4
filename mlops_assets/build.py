"""The composition: products and a platform in, Dagster definitions out.

Belongs here: what is connected to what. Not here: how anything is done.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from mlops_assets.data.assets import build_dataset, build_raw
from mlops_assets.data.sensors import build_new_data_sensor
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.data.source import DatasetSource
from mlops_assets.delivery.assets import build_delivery_asset
from mlops_assets.errors import InvalidDefinition
from mlops_assets.evaluation.assets import Retrain, build_evaluation_asset, build_model_card_asset
from mlops_assets.evaluation.card import CardFacts
from mlops_assets.evaluation.jobs import build_backtest_job
from mlops_assets.features.assets import build_feature_asset
from mlops_assets.features.catalogue import users_of
from mlops_assets.features.checks import build_freshness_check
from mlops_assets.features.jobs import build_materialize_job
from mlops_assets.features.materialization import TimePartitions
from mlops_assets.features.online_stores import MemoryStores, OnlineStores
from mlops_assets.features.request import derived_features, row_expressions
from mlops_assets.features.view import FeatureView
from mlops_assets.gates.checks import build_gate_checks, build_power_check
from mlops_assets.gates.gate import MeasuringGate
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Ledger
from mlops_assets.monitoring.assets import build_drift_asset, build_performance_asset, build_predictions_asset
from mlops_assets.monitoring.checks import build_parity_check
from mlops_assets.product import ModelProduct, find_shared_faults
from mlops_assets.release.assets import build_deployment_asset, build_release_asset
from mlops_assets.release.jobs import build_release_jobs, build_replay_job, build_simulate_policy_job
from mlops_assets.release.sensors import build_approval_sensor, build_rollout_sensor
from mlops_assets.release.target import ServingTarget
from mlops_assets.retraining.sensors import build_drift_sensor, build_performance_sensor, build_proposals_sensor
from mlops_assets.serving.assets import build_online_features_asset
from mlops_assets.serving.prediction import PredictionLog
from mlops_assets.training.assets import build_candidate_asset, build_training_set_asset
from mlops_assets.training.backend import TrainingBackend
from mlops_assets.training.jobs import build_renew_golden_job, build_reproduce_job
from mlops_assets.training.registry import ModelRegistry
from mlops_assets.training.retrain import train_again

TRAINING_STAGES = ("dataset", "quarantine", "training_set", "candidate", "evaluation", "model_card")
MONITORING_STAGES = ("predictions", "drift", "performance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """Where everything runs and is kept. ``sources`` binds the names that products give their data.

    ``online`` is where prediction servers keep features; those that processes share are filled by an asset as well.
    """

    sources: Mapping[str, DatasetSource]
    ledger: Ledger
    snapshots: SnapshotStore
    registry: ModelRegistry
    training: TrainingBackend
    serving: ServingTarget
    predictions: PredictionLog
    online: OnlineStores = field(default_factory=MemoryStores)

    def resources(self) -> dict[str, Any]:
        """Return Dagster's resources by the keys that assets and sensors ask for."""
        names = ("ledger", "snapshots", "registry", "training", "serving", "predictions", "online")
        return {name: getattr(self, name) for name in names}


def build_definitions(products: Sequence[ModelProduct], platform: Platform) -> dg.Definitions:
    """Return the definitions of a code location. ``InvalidDefinition`` names every fault between products at once."""
    faults = find_shared_faults(products)
    known = sorted(platform.sources)
    faults += [
        f"product {product.name!r}: source: the platform binds no {product.source!r}; it binds {known}"
        for product in products
        if product.source not in platform.sources
    ]
    if faults:
        raise InvalidDefinition(faults)
    kept = {product.name: product.materialization.partitions for product in products}
    views = {view.name: view for product in products for view in product.views}
    partitions = {name: parts for name, view in views.items() if (parts := kept[view.source]) is not None}
    fills = platform.online.are_shared
    return dg.Definitions(
        assets=[
            *(
                asset
                for product in products
                for asset in build_assets(product, platform.sources[product.source], partitions)
            ),
            *(asset for view in views.values() for asset in build_view(view, products)),
            *(build_online_features_asset(product.served, owners=[product.owner]) for product in products if fills),
            build_delivery_asset([product.name for product in products]),
        ],
        asset_checks=[check for product in products for check in build_checks(product)],
        jobs=[job for product in products for job in build_jobs(product, fills=fills)],
        sensors=[sensor for product in products for sensor in build_sensors(product, platform)],
        resources=platform.resources(),
        executor=dg.in_process_executor,
    )


def build_checks(product: ModelProduct) -> list[dg.AssetChecksDefinition]:
    """Return the gates as checks of the evaluation, and what they need as a check of the training set."""
    errors = product.profile.errors
    return [
        build_power_check(product.name, product.gates, cluster=product.entity, errors=errors),
        build_gate_checks(
            product.name,
            product.gates,
            errors=errors,
            policy=product.policy.to_json(),
            views=product.view_digests,
        ),
    ]


def build_view(view: FeatureView, products: Sequence[ModelProduct]) -> list[dg.AssetsDefinition]:
    """Return the asset of a view and its checks, kept as the product says whose events it reads."""
    kept = next(product.materialization for product in products if product.name == view.source)
    users = users_of(products)[view.name]
    serving = [product.served for product in products if product.name in users]
    return [
        build_feature_asset(view, materialization=kept, used_by=users),
        build_freshness_check(view, within=kept.fresh_within),
        build_parity_check(view, serving),
    ]


def build_assets(
    product: ModelProduct, source: DatasetSource, partitions: Mapping[str, TimePartitions] | None = None
) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """Return the assets of one product, from source to monitoring; ``partitions`` are those of views, by name."""
    name, owners = product.name, [product.owner]
    facts = CardFacts(owner=product.owner, description=product.description, features=product.features)
    return [
        build_raw(name, source, owners=owners),
        build_dataset(
            name,
            source,
            product.contract,
            event_time=product.event_time,
            derived=row_expressions(derived_features(product.derived)),
            owners=owners,
        ),
        build_training_set_asset(
            name,
            views=product.views,
            request_features=product.request_features,
            label=product.label,
            entity=product.entity,
            event_time=product.event_time,
            event_key=product.event_key,
            split=product.split,
            partitions=partitions,
            owners=owners,
        ),
        build_candidate_asset(
            name, recipes=product.recipes, features=product.features, label=product.label, owners=owners
        ),
        build_evaluation_asset(
            name,
            metrics=product.metrics,
            label=product.label,
            cluster=product.entity,
            measurements=[gate for gate in product.gates if isinstance(gate, MeasuringGate)],
            retrain=_retrain(product),
            served=product.served,
            owners=owners,
        ),
        build_model_card_asset(name, metrics=product.metrics, label=product.label, facts=facts, owners=owners),
        build_release_asset(
            name,
            product.gates,
            product.profile.strategy,
            approvals_needed=product.profile.approvals,
            errors=product.profile.errors,
            views=product.view_digests,
            owners=owners,
        ),
        build_deployment_asset(name, product.profile.strategy, product.analysis, owners=owners),
        build_predictions_asset(name, window_size=product.monitoring_window, owners=owners),
        build_drift_asset(
            name, detector=product.detector, columns=product.features, entity=product.entity, owners=owners
        ),
        build_performance_asset(name, product.performance, window_size=product.monitoring_window, owners=owners),
    ]


def _retrain(product: ModelProduct) -> Retrain:
    """Return what trains a candidate of the product again, with the platform's own backend."""

    def retrain(
        context: dg.AssetExecutionContext,
        candidate: Digest,
        registry: ModelRegistry,
        snapshots: SnapshotStore,
        training: TrainingBackend,
    ) -> Digest:
        return train_again(
            context,
            product.name,
            candidate,
            recipes=product.recipes,
            features=product.features,
            label=product.label,
            registry=registry,
            snapshots=snapshots,
            training=training,
        )

    return retrain


def build_jobs(product: ModelProduct, *, fills: bool = False) -> list[Any]:
    """Return the jobs of one product by the names people launch them with; training ``fills`` the online store too."""
    name = product.name
    own = [view for view in product.views if view.source == name]
    views = dg.AssetSelection.assets(*(dg.AssetKey(["features", view.name]) for view in own))
    stages = (*TRAINING_STAGES, "online_features") if fills else TRAINING_STAGES
    training = dg.AssetSelection.assets(*(dg.AssetKey([name, stage]) for stage in stages))
    monitoring = dg.AssetSelection.assets(*(dg.AssetKey([name, stage]) for stage in MONITORING_STAGES))
    checks = dg.AssetSelection.checks_for_assets(*(dg.AssetKey(["features", view.name]) for view in own))
    partitions = product.materialization.partitions
    return [
        dg.define_asset_job(
            f"{name}_train",
            selection=training | views.without_checks(),
            description="From the source to a judged candidate and its model card.",
        ),
        dg.define_asset_job(
            f"{name}_monitor",
            selection=monitoring | checks,
            description="Look at a window of predictions for drift and loss, and at parity and freshness of features.",
        ),
        *([build_materialize_job(name, own, partitions)] if partitions and own else []),
        *build_release_jobs(name),
        build_replay_job(name),
        build_simulate_policy_job(name, product.policy),
        *([build_renew_golden_job(name)] if product.split.renewal == "by_hand" else []),
        build_reproduce_job(
            name,
            views=product.views,
            request_features=product.request_features,
            recipes=product.recipes,
            label=product.label,
            entity=product.entity,
            event_time=product.event_time,
            split=product.split,
        ),
        build_backtest_job(
            name,
            recipes=product.recipes,
            features=product.features,
            metrics=product.metrics,
            label=product.label,
            cluster=product.entity,
            event_time=product.event_time,
            split=product.split,
        ),
    ]


def build_sensors(product: ModelProduct, platform: Platform) -> Iterable[dg.SensorDefinition]:
    """Yield the sensors of one product, all on by default."""
    name, policy = product.name, product.profile.retraining
    seconds = int(product.sensor_interval.total_seconds())
    if policy.on_new_data:
        source = platform.sources[product.source]
        growth = policy.minimum_growth
        yield build_new_data_sensor(name, source, minimum_growth=growth, interval_seconds=seconds)
    yield build_proposals_sensor(name, interval_seconds=seconds)
    yield build_performance_sensor(name, window_size=product.monitoring_window, limit=1, interval_seconds=2 * seconds)
    yield build_drift_sensor(name, policy, interval_seconds=seconds)
    approvals = product.profile.approvals
    yield build_approval_sensor(name, approvals_needed=approvals, interval_seconds=seconds)
    yield build_rollout_sensor(name, product.analysis, interval_seconds=seconds)

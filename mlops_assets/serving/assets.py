"""The asset ``online_features`` of a product: the store that its prediction servers share, filled ahead of time.

Without it a server fills the store when it switches to a snapshot. With it that is done by then, and the server has
only to add the events that it was told.
"""

import time
from collections.abc import Sequence
from typing import Any

import dagster as dg

from mlops_assets.data.assets import consumed
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.features.filling import fill, version_of
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.online_stores import OnlineStores
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Ledger
from mlops_assets.ledger.state import ProductState, fold
from mlops_assets.serving.served import ServedProduct


def build_online_features_asset(served: ServedProduct, *, owners: Sequence[str] = ()) -> dg.AssetsDefinition:
    """Return the asset ``[product, online_features]``: the dataset's events in the store of its snapshot.

    A store that has them already is left as it is. Stores of snapshots that are neither this one nor one that traffic
    goes to, or may return to, are dropped. Needs the resources ``snapshots``, ``online`` and ``ledger``. Raises
    ``FeatureError`` when an event is refused, ``ServiceUnavailable`` when the store does not answer.
    """
    product, dataset = served.name, dg.AssetKey([served.name, "dataset"])

    @dg.asset(
        key=[product, "online_features"],
        deps=[dataset],
        group_name=product,
        tags={"stage": "serving"},
        kinds={"polars"},
        owners=list(owners),
        code_version=served.definitions,
        description="The events of the dataset, where prediction servers read features: "
        + ", ".join(view.name for view in served.views),
    )
    def online_features(
        context: dg.AssetExecutionContext,
        snapshots: dg.ResourceParam[SnapshotStore],
        online: dg.ResourceParam[OnlineStores],
        ledger: dg.ResourceParam[Ledger],
    ) -> dg.MaterializeResult[Any]:
        snapshot = consumed(context, dataset).digest
        began = time.perf_counter()
        store = online.open(product, snapshot)
        features = OnlineFeatures(served.views, event_key=served.event_key, store=store)
        filling = fill(features, store, snapshot, lambda: snapshots.read(snapshot))
        dropped = online.drop_others(product, {snapshot, *snapshots_in_use(fold(ledger.entries(product)))})
        return dg.MaterializeResult(
            data_version=dg.DataVersion(version_of(features, snapshot)),
            metadata={
                "inputs": dg.MetadataValue.json({dataset.to_user_string(): snapshot}),
                "definition": features.definitions,
                "store": online.name,
                "events": filling.filled.events,
                "events_added": filling.new,
                "entities": dg.MetadataValue.json(dict(filling.filled.entities)),
                "was_full": filling.was_full,
                "stores_dropped": dropped,
                "seconds": time.perf_counter() - began,
            },
        )

    return online_features


def snapshots_in_use(state: ProductState) -> set[Digest]:
    """Return the snapshots whose features are served or may be by the next step or rollback."""
    live = [state.champion, *state.earlier_champions[-1:], state.running.candidate if state.running else None]
    return {model.features for model in live if model is not None and model.features is not None}

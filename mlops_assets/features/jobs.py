"""The job that materializes a product's own views, one partition a run: for backfills."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from mlops_assets.features.materialization import TimePartitions
from mlops_assets.features.view import FeatureView


def build_materialize_job(product: str, views: Sequence[FeatureView], partitions: TimePartitions) -> Any:
    """Return ``<product>_materialize``, partitioned as the views are."""
    return dg.define_asset_job(
        f"{product}_materialize",
        selection=dg.AssetSelection.assets(*(dg.AssetKey(["features", view.name]) for view in views)).without_checks(),
        description=f"Compute the {partitions.every}s of {product}'s feature views that are not what they should be.",
    )

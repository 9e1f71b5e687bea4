"""A whole small chain, dataset to candidate, that tests and a process of their own can run."""

import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.adapters.subprocess_training import SubprocessTraining
from mlops_assets.data.local import LocalSnapshots
from mlops_assets.features.assets import build_feature_asset
from mlops_assets.features.view import Aggregate, FeatureView, RequestFeature
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.training.assets import build_candidate_asset, build_training_set_asset
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.recipe import Recipe, TimeSplit

VIEW = FeatureView(
    name="habits",
    source="shop",
    entity="user",
    event_time="at",
    features=(
        Aggregate(name="visits", function="count", column="price"),
        Aggregate(name="liked_share", function="mean", column="liked"),
    ),
)
LIGHTGBM = {
    "trainer": "mlops_assets.training.lightgbm:train_classifier",
    "loader": "mlops_assets.training.lightgbm:load_lightgbm",
}
PARAMS = {"num_boost_round": 8, "num_leaves": 4, "min_data_in_leaf": 5}
RECIPES = (
    Recipe(name="trees", params=PARAMS, **LIGHTGBM),
    Recipe(name="broken", trainer="odd_trainers:raise_error", loader="odd_trainers:load_constant"),
    Recipe(name="random", trainer="odd_trainers:train_by_chance", loader="odd_trainers:load_constant"),
    Recipe(name="constant", trainer="odd_trainers:train_constant", loader="odd_trainers:load_constant"),
)
REQUEST = (RequestFeature(name="price_squared", expression="price * price"),)
SPLIT = TimeSplit(golden=timedelta(days=10))


def dataset_rows(seed=0, rows=400):
    random = np.random.default_rng(seed)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    user = random.integers(0, 25, rows)
    return pl.DataFrame(
        {
            "user": user,
            "at": pl.Series([start + timedelta(hours=3 * i) for i in range(rows)], dtype=pl.Datetime("us", "UTC")),
            "price": random.normal(size=rows),
            "liked": (random.random(rows) < np.where(user % 2, 0.8, 0.2)).astype(float),
        }
    )


def dataset_asset(rows):
    @dg.asset(key=["shop", "dataset"])
    def dataset(snapshots: dg.ResourceParam[LocalSnapshots]) -> dg.MaterializeResult:
        written = snapshots.write(rows)
        return dg.MaterializeResult(metadata={"digest": written.digest, "inputs": dg.MetadataValue.json({})})

    return dataset


def assets(rows, split=SPLIT):
    return [
        dataset_asset(rows),
        build_feature_asset(VIEW),
        build_training_set_asset(
            "shop",
            views=(VIEW,),
            request_features=REQUEST,
            label="liked",
            entity="user",
            event_time="at",
            event_key=("user", "at"),
            split=split,
        ),
        build_candidate_asset("shop", recipes=RECIPES, features=(*VIEW.feature_names, "price_squared"), label="liked"),
    ]


def resources(home, **changes):
    return {
        "snapshots": LocalSnapshots(home / "snapshots"),
        "training": SubprocessTraining(home / "training"),
        "registry": DirectoryRegistry(home / "registry"),
        "ledger": SqlLedger(f"sqlite:///{home / 'ledger.db'}"),
    } | changes


class DyingLedger:
    """Dies when it is to record a candidate."""

    def entries(self, product=None, *, after=0):
        return []

    def append(self, product, kind, *_, **__):
        if kind is Kind.CANDIDATE_REGISTERED:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    dg.materialize(
        assets(dataset_rows()),
        resources=resources(Path(sys.argv[1]), ledger=DyingLedger()),
        run_config={"ops": {"shop__candidate": {"config": {"recipe": "constant"}}}},
    )

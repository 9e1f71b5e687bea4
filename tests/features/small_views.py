"""A small view, its events by month, and its materialization by Dagster in this process or another.

``python small_views.py <home> [<writes>]`` brings all months of ``<home>`` up to date; with ``<writes>``, it is killed
(kill -9) as it begins to store that snapshot.
"""

import os
import signal
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.features.assets import build_feature_asset, known_parts
from mlops_assets.features.materialization import Materialization, TimePartitions
from mlops_assets.features.view import Aggregate, FeatureView

MONTHS = TimePartitions(every="month", start=date(2024, 1, 1))
BY_MONTH = Materialization(partitions=MONTHS)
KEY = dg.AssetKey(["features", "habits"])
HABITS = FeatureView(
    name="habits",
    source="shop",
    entity="user",
    event_time="time",
    features=(
        Aggregate(name="orders", function="count", window=timedelta(days=40)),
        Aggregate(name="mean", function="mean", column="amount", window=timedelta(days=10)),
    ),
)


def orders(months=4, step=timedelta(days=3)):
    """Return orders of two users, one every three days."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = [start + n * step for n in range(months * 10)]
    return pl.DataFrame(
        {"user": [n % 2 for n in range(len(times))], "time": times, "amount": [float(n) for n in range(len(times))]},
        schema={"user": pl.Int64, "time": pl.Datetime("us", "UTC"), "amount": pl.Float64},
    )


@dg.asset(key=["shop", "dataset"])
def dataset():
    """Delivered, not made."""


def deliver(home, instance, events):
    """Store events as the dataset, and say so."""
    digest = LocalSnapshots(home / "snapshots").write(events).digest
    tags = {"dagster/data_version": digest}
    instance.report_runless_asset_event(dg.AssetMaterialization(dataset.key, metadata={"digest": digest}, tags=tags))


def materialize(home, instance, events=None, view=HABITS, kept=BY_MONTH, engine=None, partition=None, **run):
    """Materialize the view, of ``events`` if they are given, and return the run's result."""
    if events is not None:
        deliver(home, instance, events)
    asset = build_feature_asset(view, engine, materialization=kept)
    return dg.materialize(
        [asset, dataset],
        selection=dg.AssetSelection.assets(asset.key),
        resources={"snapshots": run.pop("snapshots", None) or LocalSnapshots(home / "snapshots")},
        instance=instance,
        partition_key=partition,
        **run,
    )


def records(result):
    """Return what a run recorded of the view: by partition, metadata as plain values and the data version."""
    made = result.asset_materializations_for_node("features__habits")
    return {
        event.partition: {name: value.value for name, value in event.metadata.items()}
        | {"version": event.tags["dagster/data_version"]}
        for event in made
    }


def parts_of(instance):
    """Return the partitions as they were materialized last."""
    return {key: part for key, part in known_parts(instance, KEY).items() if key}


class KilledWriter(LocalSnapshots):
    """Its process is killed at a write."""

    left = 0

    def write(self, frame):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write(frame)


def main(home, writes=0):
    snapshots = KilledWriter(home / "snapshots")
    snapshots.left = writes
    with instance_at(home) as instance:
        materialize(home, instance, snapshots=snapshots)


def instance_at(home):
    """Return the instance whose record is below ``home``."""
    (home / "dagster").mkdir(exist_ok=True)
    return dg.DagsterInstance.local_temp(str(home / "dagster"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))

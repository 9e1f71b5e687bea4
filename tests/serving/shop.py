"""A small product to serve: people rate things, and a model says who will like what."""

import asyncio
import json
import os
import sqlite3
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.features.view import Aggregate, FeatureView, RequestFeature
from mlops_assets.serving.app import build_app
from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.serving.runtime import ProductRuntime
from mlops_assets.serving.segments import read_lines
from mlops_assets.serving.served import ServedProduct
from mlops_assets.serving.server import serve
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.lightgbm import train_classifier
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import Package, save_package

START = datetime(2024, 1, 1, tzinfo=UTC)

TASTE = FeatureView(
    name="taste",
    source="shop",
    entity="person",
    event_time="at",
    features=(
        Aggregate(name="ratings", function="count", column="rating"),
        Aggregate(name="mean_rating", function="mean", column="rating"),
        Aggregate(name="liked_share", function="mean", column="liked", window=timedelta(days=7)),
    ),
)

SHOP = ServedProduct(
    name="shop",
    entity="person",
    event_time="at",
    event_key=("person", "at"),
    outcome="rating",
    inputs={"person": "INT64", "at": "BYTES", "price": "FP64"},
    schema={
        "person": pl.Int64(),
        "at": pl.Datetime("us", "UTC"),
        "price": pl.Float64(),
        "rating": pl.Float64(),
    },
    views=(TASTE,),
    request_features=(RequestFeature(name="price_tens", expression="price / 10"),),
    derived={"liked": "CAST(rating >= 4 AS DOUBLE)"},
)
FEATURES = ("ratings", "mean_rating", "liked_share", "price_tens")


def history(rows=200, seed=0):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "person": rng.integers(1, 20, rows),
            "at": [
                START + timedelta(minutes=int(minute)) for minute in np.sort(rng.choice(20_000, rows, replace=False))
            ],
            "price": rng.uniform(1, 100, rows),
            "rating": rng.integers(1, 11, rows) / 2,
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    ).with_columns(liked=pl.sql_expr(SHOP.derived["liked"]))


def register_model(root: Path, seed: int) -> str:
    """Train a model, register it below ``root``, and return its digest."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame({name: rng.normal(size=300) for name in FEATURES}).with_columns(
        label=pl.Series((rng.random(300) < 0.5).astype(float))
    )
    model = train_classifier(
        frame,
        features=FEATURES,
        label="label",
        params={"objective": "binary", "num_boost_round": 5, "num_threads": 1},
        seed=seed,
        progress=lambda step, metrics: None,
    )
    return register(root, model, "mlops_assets.training.lightgbm:load_lightgbm")


def register(root: Path, model, loader: str) -> str:
    """Register a model that is made by hand, and return its digest."""
    directory = root / "made" / uuid.uuid4().hex
    save_package(model, Package(loader=loader, features=tuple(model.features)), directory)
    digest = digest_of_directory(directory)
    DirectoryRegistry(root / "registry").register("shop", directory, digest=digest, params={}, metrics={}, facts={})
    return digest


def app(root: Path, **options):
    return build_app(
        [SHOP],
        snapshots=LocalSnapshots(root / "snapshots"),
        registry=DirectoryRegistry(root / "registry"),
        log=FilePredictionLog(root / "log"),
        state_dir=root / "state",
        **options,
    )


def app_of_a_worker():
    """Return the application of one of several workers, which are told in the environment where they serve."""
    return app(Path(os.environ["SHOP_ROOT"]))


class Here:
    """A product's runtime in this process, whose event loop runs while it is asked something."""

    def __init__(self, root: Path, *, served=SHOP, models: Path | None = None, **options):
        self.root = root
        self.loop = asyncio.new_event_loop()
        self.runtime = ProductRuntime(
            served,
            snapshots=LocalSnapshots(root / "snapshots"),
            registry=DirectoryRegistry((models or root) / "registry"),
            log=FilePredictionLog(root / "log"),
            state_dir=root / "state",
            **options,
        )
        self.run(self.runtime.start())

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def apply(self, plan):
        self.run(self.runtime.apply(plan))

    def answer(self, rows, **more):
        return self.run(self.runtime.answer(rows, until=time.perf_counter() + 60, **more))

    def tell(self, id, value):
        return self.run(self.runtime.tell(id, value))

    def rest(self):
        """Let what runs beside the requests go on."""
        self.run(asyncio.sleep(0.05))

    def told(self):
        """Return the events that were told, in their order."""
        return [
            self.runtime.live.told.event(outcome)
            for outcome in FilePredictionLog(self.root / "log").outcomes("shop").after(0)
        ]

    def stop(self):
        self.run(self.runtime.stop())
        self.loop.close()


def rewrite_log(root: Path, change) -> None:
    """Let ``change`` lie about the predictions of the shop that are on disk; their outcomes stay theirs."""
    [path] = (root / "log" / "shop" / "predictions").glob("*.jsonl")
    old = [(line.locator, json.loads(line.content)) for line in read_lines(path)[0]]
    for _, record in old:
        change(record)
    path.write_text("".join(f"\n{json.dumps(record)}\n" for _, record in old))
    moved = [
        (f"{record['trace']}-{locator}", line.locator)
        for (locator, record), line in zip(old, read_lines(path)[0], strict=True)
    ]
    with sqlite3.connect(root / "log" / "shop" / "outcomes.sqlite") as database:
        for id, place in moved:
            new = f"moved-{id.partition('-')[0]}-{place}"
            database.execute("UPDATE outcomes SET id = ? WHERE id = ?", (new, id))
        database.execute("UPDATE outcomes SET id = substr(id, 7)")


def request(person, at, price=10.0):
    columns = {"person": ("INT64", person), "at": ("BYTES", at.isoformat()), "price": ("FP64", price)}
    return {
        "inputs": [
            {"name": name, "shape": [1], "datatype": datatype, "data": [value]}
            for name, (datatype, value) in columns.items()
        ]
    }


def run(root: Path, port: int, options: dict) -> None:
    """Serve what is below ``root`` until told to end."""
    serve(app(root, **options), port=port)


if __name__ == "__main__":
    serve("shop:app_of_a_worker", port=int(sys.argv[1]), workers=int(sys.argv[2]))

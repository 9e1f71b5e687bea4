"""The smallest product that has every stage, for tests that run it whole; importable as a code location.

``film_platform(home)`` keeps all it has below a folder. As a code location (``films:defs``), that folder is the
environment variable ``FILMS_HOME``; a test that starts a process on it sets the variable.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandera.polars as pa
import polars as pl

from mlops_assets.adapters.subprocess_training import SubprocessTraining
from mlops_assets.build import Platform, build_definitions
from mlops_assets.data.contract import DataContract
from mlops_assets.data.local import LocalSnapshots
from mlops_assets.data.source import FileSource
from mlops_assets.evaluation.metrics import brier, roc_auc
from mlops_assets.features.view import Aggregate, FeatureView, RequestFeature
from mlops_assets.gates.at_least import AtLeast
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.monitoring.performance import LivePerformance
from mlops_assets.product import ModelProduct, velocity
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.target import FakeServing
from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.recipe import Recipe, TimeSplit

BY_TASTE = {"trainer": "film_models:train_by_taste", "loader": "film_models:load_by_taste"}
TASTE = FeatureView(
    name="taste",
    source="films",
    entity="person",
    event_time="at",
    description="What a person's ratings so far say about their taste.",
    owner="team:films",
    features=(
        Aggregate(name="ratings", function="count", column="liked"),
        Aggregate(name="liked_share", function="mean", column="liked"),
    ),
)
FILMS = ModelProduct(
    name="films",
    owner="team:films",
    description="The probability that a person likes a film.",
    profile=velocity(),
    source="ratings",
    contract=DataContract(
        schema=pa.DataFrameSchema(
            {
                "person": pa.Column(pl.Int64, pa.Check.gt(0)),
                "at": pa.Column(pl.Datetime("us", "UTC")),
                "minutes": pa.Column(pl.Float64, pa.Check.gt(0)),
                "rating": pa.Column(pl.Float64, pa.Check.in_range(0.5, 5.0)),
            }
        ),
        tolerance=0.05,
    ),
    entity="person",
    event_time="at",
    event_key=("person", "at"),
    outcome="rating",
    derived={"liked": "CAST(rating >= 4 AS DOUBLE)"},
    label="liked",
    inputs={"person": "INT64", "at": "BYTES", "minutes": "FP64"},
    views=(TASTE,),
    request_features=(RequestFeature(name="hours", expression="minutes / 60"),),
    recipes=(
        Recipe(name="by_taste", params={"caution": 0.3}, **BY_TASTE),
        Recipe(name="clueless", params={"caution": 1.0}, **BY_TASTE),
    ),
    split=TimeSplit(golden=timedelta(days=20)),
    metrics=(brier(), roc_auc()),
    gates=(AtLeast(metric="roc_auc", floor=0.6), Superior(metric="brier", minimum_effect=0.05)),
    analysis=LiveAnalysis(metric="brier", label="outcome >= 4"),
    performance=LivePerformance(metric=brier(), label="outcome >= 4", tolerance=0.02),
)
"""The recipe ``clueless`` trains a model that says 0.5 to everything, which the first gate stops."""


def film_ratings(rows: int = 600) -> pl.DataFrame:
    """Return ratings, one every three hours; of forty people, every other one likes most films."""
    random = np.random.default_rng(0)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    person = random.integers(1, 41, rows)
    return pl.DataFrame(
        {
            "person": person,
            "at": pl.Series([start + timedelta(hours=3 * n) for n in range(rows)], dtype=pl.Datetime("us", "UTC")),
            "minutes": random.uniform(80, 180, rows),
            "rating": np.where(random.random(rows) < np.where(person % 2, 0.9, 0.1), 4.5, 2.0),
        }
    )


def deliver(home: Path, ratings: pl.DataFrame | None = None) -> None:
    """Put ratings at the product's source."""
    (home / "source").mkdir(parents=True, exist_ok=True)
    (film_ratings() if ratings is None else ratings).write_parquet(home / "source" / "ratings.parquet")


def film_platform(home: Path) -> Platform:
    """Return a platform of files below ``home``; what it serves is in memory."""
    return Platform(
        sources={"ratings": FileSource(home / "source" / "ratings.parquet")},
        ledger=SqlLedger(f"sqlite:///{home / 'ledger.db'}"),
        snapshots=LocalSnapshots(home / "snapshots"),
        registry=DirectoryRegistry(home / "models"),
        training=SubprocessTraining(home / "training"),
        serving=FakeServing(),
        predictions=FilePredictionLog(home / "predictions"),
    )


def film_definitions(home: Path, **parts: object) -> dg.Definitions:
    """Return the product's definitions; ``parts`` replace those of the platform."""
    from dataclasses import replace

    return build_definitions([FILMS], replace(film_platform(home), **parts))


if "FILMS_HOME" in os.environ:
    defs = film_definitions(Path(os.environ["FILMS_HOME"]))

import os
import sys
import time
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from mlops_assets.adapters.subprocess_training import SubprocessTraining
from mlops_assets.data.local import LocalSnapshots
from mlops_assets.training.job import TrainingJob
from mlops_assets.training.recipe import Recipe

LOADER = "mlops_assets.training.lightgbm:load_lightgbm"


sys.path.insert(0, str(Path(__file__).parent))  # the training process imports the odd trainers by name


@pytest.fixture
def rows():
    """Return 300 rows in which the label follows ``a``."""
    random = np.random.default_rng(7)
    a, b = random.normal(size=300), random.normal(size=300)
    frame = pl.DataFrame({"a": a, "b": b, "user": np.arange(300) % 20})
    return frame.with_columns(
        label=(pl.col("a") > 0).cast(pl.Float64),
        b=pl.when(pl.col("user") > 0).then("b"),  # some nulls
    )


@pytest.fixture
def recipe():
    return Recipe(
        name="trees",
        trainer="mlops_assets.training.lightgbm:train_classifier",
        loader=LOADER,
        params={
            "num_boost_round": 12,
            "progress_every": 5,
            "num_leaves": 4,
            "min_data_in_leaf": 5,
            "bagging_fraction": 0.5,
            "bagging_freq": 1,
        },
        seed=3,
    )


@pytest.fixture
def snapshots(tmp_path):
    return LocalSnapshots(tmp_path / "snapshots")


@pytest.fixture
def train(tmp_path, snapshots):
    """Train ``recipe`` on ``rows`` in a real process under a real run; return what ``look`` makes of the candidate."""
    backend = SubprocessTraining(tmp_path / "training")

    def training(recipe, rows, *, look=lambda trained: trained, features=("a", "b"), label="label", instance=None):
        job = TrainingJob(
            product="shop",
            recipe=recipe,
            features=features,
            label=label,
            training_set=snapshots.write(rows).digest,
        )
        seen = []

        @dg.asset
        def trained_model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            with backend.train(context, job, snapshots) as trained:
                seen.append(look(trained))
            return dg.MaterializeResult()

        dg.materialize([trained_model], instance=instance)
        return seen[0]

    training.workdir = tmp_path / "training"
    return training


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(claim, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        os.sched_yield()
        time.sleep(0.02)


@pytest.fixture
def until():
    return wait_until


@pytest.fixture
def running():
    return is_running

"""Computes cases with ``SparkEngine``; a script, so that each kind of session has a process of its own.

``spark_runner.py URL FOLDER`` reads ``jobs.pickle``, a list of (view, events, spine, fault), from the folder and writes
``answers.pickle``: a frame, or the words of a ``FeatureError``, for each. ``URL`` is a Spark master's or, with ``sc://``,
that of a Spark Connect server. Each bucket that a worker begins leaves a file ``begun-…`` in the folder.
"""

import os
import pickle
import sys
import time
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl

from mlops_assets.adapters import spark_features
from mlops_assets.adapters.spark_features import SparkEngine
from mlops_assets.errors import FeatureError
from mlops_assets.features.sources import Source

SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.sql.shuffle.partitions": "4",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.session.timeZone": "Europe/Prague",
    "spark.executor.memory": "600m",
    "spark.cores.max": "2",
    "spark.executor.cores": "1",
}
KERNEL = spark_features._kernel


def session(url):
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.remote(url) if url.startswith("sc://") else SparkSession.builder.master(url)
    for name, value in SETTINGS.items():
        if not url.startswith("sc://") or name.startswith("spark.sql.session"):
            builder = builder.config(name, value)
    return builder.getOrCreate()


def broken(view, fault):
    """Return the kernel of a view with a fault."""
    if fault == "bound":
        features = tuple(replace(f, window=f.window and f.window - timedelta(microseconds=1)) for f in view.features)
        return KERNEL(replace(view, features=features))
    compute = KERNEL(view)

    def with_fault(events, spine):
        frame = pl.DataFrame(events)
        if fault == "late":
            frame = frame.filter(pl.col("known") <= pl.col("time"))
        elif fault == "nulls":
            frame = frame.with_columns(pl.col("amount").fill_null(0.0))
        kept = Source._ordered
        if fault == "ties":
            Source._ordered = property(lambda source: source.values)
        try:
            return compute(frame.to_arrow().cast(events.schema), spine)
        finally:
            Source._ordered = kept

    return with_fault


def slow(view, folder):
    """Return the kernel of a view, which leaves a file when it begins and then takes its time."""
    compute = KERNEL(view)

    def slowly(events, spine):
        (Path(folder) / f"begun-{uuid.uuid4()}").touch()
        time.sleep(0.5)
        return compute(events, spine)

    return slowly


def main(url, folder):
    os.environ["PYSPARK_PYTHON"] = sys.executable
    engine = SparkEngine(session(url), buckets=12)
    answers = []
    for view, events, spine, fault in pickle.loads((Path(folder) / "jobs.pickle").read_bytes()):
        made = {None: KERNEL, "slow": lambda view: slow(view, folder)}.get(
            fault, lambda view, fault=fault: broken(view, fault)
        )
        spark_features._kernel = made
        try:
            answers.append(engine.features_at(view, events, spine))
        except FeatureError as error:
            answers.append(str(error))
    (Path(folder) / "answers.pickle").write_bytes(pickle.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])

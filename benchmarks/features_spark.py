"""Features on Spark, beside the same windows hand-written in PySpark, in one local session."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.features_batch import VIEW, WINDOWS, make_events
from mlops_assets.adapters.spark_features import features_on_spark

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

EVENTS, ENTITIES = 3_000_000, 60_000
SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "6g",
    "spark.sql.shuffle.partitions": "16",
    "spark.sql.session.timeZone": "UTC",
}


def _session() -> "SparkSession":
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = SparkSession.builder.master("local[2]")
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def by_engine(events: "DataFrame") -> "DataFrame":
    """Return the features at each event, computed from the declaration."""
    return features_on_spark(VIEW, events, events.select("user", "time"))


def by_hand(events: "DataFrame") -> "DataFrame":
    """Return the same as one would write it in PySpark."""
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    with_instants = events.withColumn("instant", f.unix_micros("time"))
    ordered = Window.partitionBy("user").orderBy("instant")
    functions = {"count": f.count, "sum": f.sum, "mean": f.mean, "min": f.min, "max": f.max}
    return with_instants.select(
        "user",
        "time",
        *(
            function("amount")
            .over(ordered.rangeBetween(-int(length.total_seconds() * 1e6), -1))
            .alias(f"{name}_{label}")
            for label, length in WINDOWS.items()
            for name, function in functions.items()
        ),
    )


def features_on_spark_3m() -> dict[str, Any]:
    """Seconds to read three million events, compute twenty features at each and write them; above 1 is faster."""
    session = _session()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            make_events(EVENTS, ENTITIES).write_parquet(path / "events.parquet")
            warm = session.read.parquet(str(path / "events.parquet")).limit(1000)
            for compute in (by_engine, by_hand):
                compute(warm).write.parquet(str(path / f"warm-{compute.__name__}"))
            ours = _seconds(session, path, by_engine)
            hand = _seconds(session, path, by_hand)
            sums = [_sums(session, path, compute) for compute in (by_engine, by_hand)]
    finally:
        session.stop()
    if not np.allclose(*sums, rtol=1e-6):
        raise AssertionError(f"the baseline disagrees: {sums}")
    return {
        "name": "features.spark_vs_handwritten",
        "value": ours,
        "unit": "seconds",
        "baseline": hand,
        "ratio": hand / ours,
    }


def _seconds(session: "SparkSession", path: Path, compute: Callable[["DataFrame"], "DataFrame"]) -> float:
    events = session.read.parquet(str(path / "events.parquet"))
    began = perf_counter()
    compute(events).write.parquet(str(path / compute.__name__))
    return perf_counter() - began


def _sums(session: "SparkSession", path: Path, compute: Callable[["DataFrame"], "DataFrame"]) -> list[float]:
    from pyspark.sql import functions as f

    table = session.read.parquet(str(path / compute.__name__))
    return list(table.select(*(f.sum(name).cast("double") for name in VIEW.feature_names)).first() or ())


features_on_spark_3m.group = "features"  # type: ignore[attr-defined]
FIGURES = [features_on_spark_3m]

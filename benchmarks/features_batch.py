"""Batch features: twenty windows at each of ten million events, beside hand-written Polars and DuckDB.

Each engine runs in a process of its own, so that its peak memory is its own; it reads one Parquet file and holds the
whole answer in memory.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import Aggregate, AggregateName, FeatureView

EVENTS, ENTITIES = 10_000_000, 200_000
START = datetime(2024, 1, 1, tzinfo=UTC)
WINDOWS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}
FUNCTIONS: tuple[AggregateName, ...] = ("count", "sum", "mean", "min", "max")
VIEW = FeatureView(
    name="spending",
    source="bench",
    entity="user",
    event_time="time",
    features=tuple(
        Aggregate(
            name=f"{function}_{label}",
            function=function,
            column=None if function == "count" else "amount",
            window=window,
        )
        for label, window in WINDOWS.items()
        for function in FUNCTIONS
    ),
)


def make_events(events: int, entities: int) -> pl.DataFrame:
    """Return events of 90 days in random order; amounts are in cents."""
    random = np.random.default_rng(7)
    columns = {
        "user": random.integers(0, entities, events),
        "time": random.integers(0, 90 * 86_400_000_000, events) + int(START.timestamp() * 1_000_000),
        "amount": random.lognormal(3, 1, events).round(2),
    }
    return pl.DataFrame(columns).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))


def by_engine(path: str) -> pl.DataFrame:
    """Return the features at each event, computed from the declaration."""
    events = pl.scan_parquet(path)
    spine = events.select("user", "time").sort("user", "time").collect()
    return spine.hstack(PolarsEngine().features_at(VIEW, events, spine))


def by_hand(path: str) -> pl.DataFrame:
    """Return the same as one would write it in Polars."""
    features: list[pl.Expr] = []
    for label, window in WINDOWS.items():
        rolling: dict[str, Any] = {"by": "time", "closed": "left", "window_size": window}
        amount = pl.col("amount")
        features += [
            pl.col("one").rolling_sum_by(**rolling).over("user").fill_null(0).alias(f"count_{label}"),
            amount.rolling_sum_by(**rolling).over("user").fill_null(0.0).alias(f"sum_{label}"),
            amount.rolling_mean_by(**rolling).over("user").alias(f"mean_{label}"),
            amount.rolling_min_by(**rolling).over("user").alias(f"min_{label}"),
            amount.rolling_max_by(**rolling).over("user").alias(f"max_{label}"),
        ]
    ordered = pl.scan_parquet(path).sort("user", "time").with_columns(pl.lit(1).alias("one"))
    return ordered.select("user", "time", *features).collect()


def by_duckdb(path: str) -> pl.DataFrame:
    """Return the same as one would write it in SQL for DuckDB, one named window for each length."""
    import duckdb

    columns = ", ".join(
        f"{f'count(*) OVER {label}' if name == 'count' else f'{name}(amount) OVER {label}'} AS {name}_{label}"
        for label in WINDOWS
        for name in ("count", "sum", "avg", "min", "max")
    )
    windows = ", ".join(
        f"{label} AS (PARTITION BY user_ ORDER BY time RANGE BETWEEN INTERVAL {int(window.total_seconds())} SECOND "
        "PRECEDING AND INTERVAL 1 MICROSECOND PRECEDING)"
        for label, window in WINDOWS.items()
    )
    source = f"(SELECT user AS user_, time::TIMESTAMP AS time, amount FROM read_parquet('{path}'))"
    connection = duckdb.connect(config={"threads": 2})
    table = connection.sql(f"SELECT user_ AS user, time, {columns} FROM {source} WINDOW {windows}").to_arrow_table()
    return pl.DataFrame(table)


ENGINES: dict[str, Callable[[str], pl.DataFrame]] = {"engine": by_engine, "hand": by_hand, "duckdb": by_duckdb}


def measure(name: str, path: str) -> None:
    """Print seconds, the peak of memory beyond that at the start, and the answer's size, in bytes; and its sums."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    started = perf_counter()
    table = ENGINES[name](path)
    seconds = perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    sums = [table[:, place].sum() for place in range(2, table.width)]
    print(json.dumps({"seconds": seconds, "peak": peak, "size": table.estimated_size(), "sums": sums}))


def features_of_10m_events() -> list[dict[str, Any]]:
    """Seconds, and peak memory over the answer's size; a ratio above 1 says that ours is the better."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        make_events(EVENTS, ENTITIES).write_parquet(path)
        found = {name: _measured(name, path) for name in ENGINES}
    ours = found["engine"]
    for name in ("hand", "duckdb"):
        if not np.allclose(found[name]["sums"], ours["sums"], rtol=1e-6):
            raise AssertionError(f"{name} disagrees: {found[name]['sums']}, not {ours['sums']}")
    lines = [
        _line(f"features.batch_vs_{label}", "seconds", ours["seconds"], found[name]["seconds"])
        for label, name in (("handwritten", "hand"), ("duckdb", "duckdb"))
    ]
    memory = {name: of["peak"] / of["size"] for name, of in found.items()}
    return [*lines, _line("features.batch_peak_memory", "of the output", memory["engine"], memory["hand"])]


def _measured(name: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", f"from benchmarks.features_batch import measure; measure({name!r}, {str(path)!r})"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    return json.loads(said.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def _line(name: str, unit: str, value: float, baseline: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": baseline / value}


features_of_10m_events.group = "features"  # type: ignore[attr-defined]
FIGURES = [features_of_10m_events]

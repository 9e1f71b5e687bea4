"""Point-in-time joins: five views to a spine, beside Polars by hand and Feast's offline retrieval."""

import json
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from benchmarks._feast import feast_python
from mlops_assets.features.point_in_time import FeatureTable, join_point_in_time

ROWS, ENTITIES, CHANGES, VIEWS, FEATURES = 10_000_000, 200_000, 1_000_000, 5, 4
FEAST_ROWS = 1_000_000
"""Feast is asked about fewer rows of the same tables, since ten million would take it twelve minutes; a tenth of them
takes it a tenth of the time. Ours grow faster with the spine, as the tables are sorted once.

Only about rows for which every view has a value: it leaves out the others, of which ours has nulls.
"""

START = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)


def make_tables(random: np.random.Generator) -> list[pl.DataFrame]:
    """Return five tables of a million changes of four features over 90 days."""
    return [
        pl.DataFrame(
            {"user": random.integers(0, ENTITIES, CHANGES), "time": _times(random, CHANGES)}
            | {f"v{number}_f{place}": random.normal(size=CHANGES) for place in range(FEATURES)}
        )
        for number in range(VIEWS)
    ]


def _times(random: np.random.Generator, number: int) -> pl.Series:
    return pl.Series(random.integers(0, 90 * 86_400_000_000, number) + START).cast(pl.Datetime("us", "UTC"))


def _declared(tables: list[pl.DataFrame]) -> list[FeatureTable]:
    return [
        FeatureTable(
            name=f"v{number}", rows=table, entity=("user",), event_time="time", features=tuple(table.columns[2:])
        )
        for number, table in enumerate(tables)
    ]


def _ours(spine: pl.DataFrame, tables: list[pl.DataFrame]) -> tuple[float, float]:
    began, total = perf_counter(), 0.0
    for block in join_point_in_time(spine, _declared(tables), time="at"):
        total += block["v0_f0"].sum()
    return perf_counter() - began, total


def _by_hand(spine: pl.DataFrame, tables: list[pl.DataFrame]) -> tuple[float, float]:
    began = perf_counter()
    joined = spine.with_row_index("row").sort("at")
    for number, table in enumerate(tables):
        joined = joined.join_asof(
            table.sort("time").rename({"time": f"time {number}"}),
            left_on="at",
            right_on=f"time {number}",
            by="user",
            allow_exact_matches=False,
            check_sortedness=False,
        )
    joined = joined.sort("row")
    return perf_counter() - began, joined["v0_f0"].sum()


def _by_feast(spine: pl.DataFrame, tables: list[pl.DataFrame]) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        spine.rename({"at": "event_timestamp"}).write_parquet(Path(folder) / "spine.parquet")
        for number, table in enumerate(tables):
            table.rename({"time": "event_timestamp"}).write_parquet(Path(folder) / f"view{number}.parquet")
        script = Path(__file__).with_name("_feast_offline.py")
        command = [feast_python(), script, folder, str(VIEWS), str(FEATURES)]
        said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    if said["rows"] != spine.height:
        raise AssertionError(f"Feast gave {said['rows']} rows for {spine.height}")
    return said["seconds"], said["sum"]


def point_in_time() -> list[dict[str, Any]]:
    """Rows of the spine joined to five views per second, beside a join by hand, and beside Feast."""
    random = np.random.default_rng(1)
    tables = make_tables(random)
    spine = pl.DataFrame({"user": random.integers(0, ENTITIES, ROWS), "at": _times(random, ROWS)})
    ours, total = _ours(spine, tables)
    hand, hand_total = _by_hand(spine, tables)
    joined = pl.concat(join_point_in_time(spine.head(3 * FEAST_ROWS), _declared(tables), time="at"))
    few = joined.drop_nulls().select("user", "at").head(FEAST_ROWS)
    few_ours, few_total = _ours(few, tables)
    feast, feast_total = _by_feast(few, tables)
    for name, found, meant in (("by hand", hand_total, total), ("Feast", feast_total, few_total)):
        if not np.isclose(found, meant):
            raise AssertionError(f"{name} disagrees: {found}, not {meant}")
    return [
        _line("features.pit_rows_per_second", ROWS / ours, ROWS / hand),
        _line("features.pit_vs_feast", ROWS / ours, few.height / feast),
        _line("features.pit_vs_feast_same_rows", few.height / few_ours, few.height / feast),
    ]


def _line(name: str, value: float, baseline: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "rows/s", "baseline": baseline, "ratio": value / baseline}


point_in_time.group = "features"  # type: ignore[attr-defined]
FIGURES = [point_in_time]

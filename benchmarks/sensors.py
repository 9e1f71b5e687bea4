"""What a tick of the sensors costs as products are added: one ledger, one sensor a concern and product."""

import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.retraining.policy import RetrainingPolicy
from mlops_assets.retraining.sensors import build_drift_sensor, build_performance_sensor, build_proposals_sensor

SIZES = (1, 100, 1000)
ENTRIES_PER_PRODUCT = 10
WINDOW = 1000


class _Log:
    """A prediction log with one full window for every product."""

    def count(self, product: str) -> int:  # noqa: ARG002 - the protocol's argument
        return WINDOW

    def predictions(self, product: str) -> pl.DataFrame:
        raise NotImplementedError(f"the sensors of {product} must not read rows")

    def mirrors(self, product: str) -> pl.DataFrame:
        raise NotImplementedError(f"the sensors of {product} must not read rows")


def _filled_ledger(path: Path, products: list[str]) -> SqlLedger:
    """Return a ledger in which every product has entries, a cause to retrain and a proposal."""
    ledger = SqlLedger(f"sqlite:///{path}")
    for number in range(ENTRIES_PER_PRODUCT):
        for product in products:
            body: dict[str, Any] = {"candidate": f"sha256:{number}", "by": "someone", "why": "benchmark"}
            kind = Kind.APPROVED
            if number == ENTRIES_PER_PRODUCT - 2:
                kind, body = Kind.DRIFT_FOUND, {"window": f"{product}:1", "columns": ["x"], "report": "sha256:r"}
            if number == ENTRIES_PER_PRODUCT - 1:
                kind, body = Kind.RECIPE_PROPOSED, {"recipe": "ranker", "why": "benchmark"}
            ledger.append(product, kind, body, actor="benchmark")
    return ledger


def _tick(sensors: list[dg.SensorDefinition], cursors: dict[str, str | None], resources: dict[str, Any]) -> int:
    """Evaluate each sensor once, keep its cursor, and return how many runs were asked for."""
    runs = 0
    for sensor in sensors:
        wanted = {name: resources[name] for name in sensor.required_resource_keys}
        with dg.build_sensor_context(_INSTANCE, cursor=cursors.get(sensor.name), resources=wanted) as context:
            data = sensor.evaluate_tick(context)
        cursors[sensor.name] = data.cursor
        runs += len(data.run_requests or ())
    return runs


def _seconds(products: list[str], resources: dict[str, Any]) -> tuple[float, float]:
    """Return seconds of the tick in which every product has something new, and of the quiet one after it."""
    policy = RetrainingPolicy(cooldown=timedelta(hours=1))
    sensors = [
        sensor
        for product in products
        for sensor in (
            build_performance_sensor(product, window_size=WINDOW),
            build_drift_sensor(product, policy),
            build_proposals_sensor(product),
        )
    ]
    cursors: dict[str, str | None] = {}
    took = []
    # The first tick launches, the second sees what the first one recorded, the third finds nothing new.
    for launched in (3 * len(products), 0, 0):
        begin = time.perf_counter()
        runs = _tick(sensors, cursors, resources)
        took.append(time.perf_counter() - begin)
        if runs != launched:
            raise RuntimeError(f"{len(products)} products asked for {runs} runs, expected {launched}")
    return took[0], took[2]


def sensor_tick_1000_products() -> dict[str, Any]:
    """Return seconds of one busy tick of all sensors of 1,000 products; the baseline is 1,000 times one product's.

    The ratio is baseline / ours: 1 is linear in the number of products.
    """
    busy: dict[int, float] = {}
    quiet: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            products = [f"p{number}" for number in range(size)]
            ledger = _filled_ledger(Path(folder) / f"ledger-{size}.db", products)
            resources = {"ledger": ledger, "predictions": _Log()}
            if size == 1:  # the first tick of a process also pays for imports and the connection
                _seconds(products, resources | {"ledger": _filled_ledger(Path(folder) / "warm.db", products)})
            busy[size], quiet[size] = _seconds(products, resources)
    baseline = busy[1] * 1000
    return {
        "name": "spine.sensor_tick_1000_products_seconds",
        "value": busy[1000],
        "unit": "s",
        "baseline": baseline,
        "ratio": baseline / busy[1000],
        "details": {
            "busy_seconds": {str(size): seconds for size, seconds in busy.items()},
            "quiet_seconds": {str(size): seconds for size, seconds in quiet.items()},
            "sensors_per_product": 3,
            "ledger_entries": ENTRIES_PER_PRODUCT * 1000,
        },
    }


_INSTANCE = dg.DagsterInstance.ephemeral()
FIGURES: list[Callable[[], dict[str, Any]]] = [sensor_tick_1000_products]

"""Features: point-in-time windows over five million events, and a read of the online engine."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import Aggregate, AggregateName, FeatureView

EVENTS, ENTITIES = 5_000_000, 100_000
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY, WEEK = timedelta(days=1), timedelta(days=7)


def _feature(name: str, function: AggregateName, window: timedelta | None) -> Aggregate:
    return Aggregate(name=name, function=function, column="amount", window=window)


VIEW = FeatureView(
    name="spending",
    source="bench",
    entity="user",
    event_time="time",
    features=(
        _feature("count_day", "count", DAY),
        _feature("sum_day", "sum", DAY),
        _feature("mean_day", "mean", DAY),
        _feature("count_week", "count", WEEK),
        _feature("sum_week", "sum", WEEK),
        _feature("mean_week", "mean", WEEK),
        _feature("std_week", "std", WEEK),
        _feature("max_week", "max", WEEK),
    ),
)


def make_events(events: int, entities: int) -> pl.DataFrame:
    """Return events of 90 days in random order; amounts are in cents."""
    random = np.random.default_rng(7)
    return pl.DataFrame(
        {
            "user": random.integers(0, entities, events),
            "time": random.integers(0, 90 * 86_400_000_000, events) + int(START.timestamp() * 1_000_000),
            "amount": random.lognormal(3, 1, events).round(2),
        }
    ).with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))


def by_hand(events: pl.DataFrame) -> pl.DataFrame:
    """Return the same features at each event, as one would write them in Polars."""
    rolling: dict[str, Any] = {"by": "time", "closed": "left"}
    amount, one = pl.col("amount"), pl.lit(1.0)
    day, week = {**rolling, "window_size": "1d"}, {**rolling, "window_size": "7d"}
    ordered = events.sort("user", "time").with_columns(one.alias("one"))
    return ordered.select(
        "user",
        "time",
        pl.col("one").rolling_sum_by(**day).over("user").fill_null(0).alias("count_day"),
        amount.rolling_sum_by(**day).over("user").fill_null(0).alias("sum_day"),
        amount.rolling_mean_by(**day).over("user").alias("mean_day"),
        pl.col("one").rolling_sum_by(**week).over("user").fill_null(0).alias("count_week"),
        amount.rolling_sum_by(**week).over("user").fill_null(0).alias("sum_week"),
        amount.rolling_mean_by(**week).over("user").alias("mean_week"),
        amount.rolling_std_by(**week, ddof=0).over("user").alias("std_week"),
        amount.rolling_max_by(**week).over("user").alias("max_week"),
    )


def features_5m_events() -> dict[str, Any]:
    """Seconds for eight windowed features at five million events; the ratio is baseline / ours (above 1 is faster)."""
    events = make_events(EVENTS, ENTITIES)
    spine = events.select("user", "time").sort("user", "time")
    ours, table = _seconds(lambda: PolarsEngine().features_at(VIEW, events, spine))
    baseline, hand = _seconds(lambda: by_hand(events))
    for name in VIEW.feature_names:
        if not np.allclose(table[name].to_numpy(), hand[name].to_numpy(), rtol=1e-6, atol=1e-3, equal_nan=True):
            raise AssertionError(f"the baseline disagrees on {name}")
    return {
        "name": "spine.features_5m_events",
        "value": ours,
        "unit": "seconds",
        "baseline": baseline,
        "ratio": baseline / ours,
    }


def online_read() -> dict[str, Any]:
    """Microseconds to read eight features online; the baseline is the batch engine asked for one row."""
    events = make_events(20_000, 400).with_row_index("id")
    online = OnlineFeatures([VIEW], event_key=("id",))
    online.bootstrap(events)
    now = START + timedelta(days=60)
    entities = [{"user": user} for user in range(400)] * 25
    ours, _ = _seconds(lambda: [online.features(entity, now) for entity in entities])
    spine = pl.DataFrame({"user": [5], "time": [now]})
    baseline, _ = _seconds(lambda: PolarsEngine().features_at(VIEW, events, spine))
    microseconds = ours / len(entities) * 1e6
    return {
        "name": "features.online_read",
        "value": microseconds,
        "unit": "microseconds",
        "baseline": baseline * 1e6,
        "ratio": baseline * 1e6 / microseconds,
    }


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    started = perf_counter()
    result = work()
    return perf_counter() - started, result


FIGURES = [features_5m_events, online_read]

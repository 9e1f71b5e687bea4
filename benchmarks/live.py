"""What a look at live traffic costs, and how many entities it takes to decide."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from benchmarks._turns import medians
from mlops_assets.gates.gate import Verdict
from mlops_assets.release.betting import confidence_sequence, log_capital_above, log_capital_below
from mlops_assets.release.live import LiveAnalysis

Line = dict[str, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]

EVENTS, STREAMS, UNITS, POWER = 10_000, 2000, 60, 0.8
ALPHA, EFFECT, SPREAD = 0.05, 0.01, 0.06
ANALYSIS = LiveAnalysis(metric="squared_error", alpha=ALPHA, outcomes_per_unit=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Log:
    """Requests a second apart, each of an entity of its own, scored by both versions, all outcomes known."""

    def __init__(self, count: int) -> None:
        generator = np.random.default_rng(0)
        old, new = generator.uniform(0.3, 0.7, (2, count))
        own, ids = generator.random(count) < 0.25, [f"{n:06}" for n in range(count)]
        at = pl.Series([START + timedelta(seconds=n) for n in range(count)], dtype=pl.Datetime("us", "UTC"))
        self._answers = pl.DataFrame(
            {
                "id": ids,
                "at": at,
                "version": np.where(own, "new", "old"),
                "entity": ids,
                "score": np.where(own, new, old),
                "outcome": generator.integers(0, 2, count).astype(float),
                "outcome_at": at,
                "outcome_order": np.arange(count),
                "latency_seconds": generator.exponential(0.01, count),
            }
        )
        other = {"id": ids, "version": np.where(own, "old", "new"), "score": np.where(own, old, new)}
        self._mirrors = pl.DataFrame(other)

    def predictions(self, product: str) -> pl.DataFrame:  # noqa: ARG002 - there is one product
        """Return the answers."""
        return self._answers

    def mirrors(self, product: str) -> pl.DataFrame:  # noqa: ARG002 - there is one product
        """Return the mirrors."""
        return self._mirrors


def live_update() -> Line:
    """Return microseconds per event of a whole look over 10,000 of them: reading, pairing, bets, bounds, latencies.

    The baseline is the confidence sequence alone, computed over the whole grid at once in plain numpy, which must give
    the same bounds; packages for it are written in C++ and need a compiler and Boost.
    """
    log, now = Log(EVENTS), START + timedelta(days=1)
    both = {"candidate": "new", "champion": "old"}
    look = partial(ANALYSIS.analyse, log, "p", **both, since=START, step_began=START, now=now)
    gains = np.array(look().gains)
    took, baseline = medians(3, look, lambda: _plain_bounds(gains))
    np.testing.assert_allclose(_plain_bounds(gains), [bound[-1] for bound in confidence_sequence(gains, ALPHA)])
    return {
        "name": "gates.live_update_us",
        "value": 1e6 * took / EVENTS,
        "unit": "microseconds",
        "baseline": 1e6 * baseline / EVENTS,
        "ratio": baseline / took,
    }


def _plain_bounds(values: Floats) -> tuple[float, float]:
    grid = np.linspace(-1 + 1e-9, 1 - 1e-9, 401)
    up, down = log_capital_above(values[np.newaxis], grid), log_capital_below(values[np.newaxis], grid)
    hedged = np.maximum.accumulate(np.logaddexp(up, down) - np.log(2), axis=1)[:, -1]
    kept = np.flatnonzero(hedged < np.log(1 / ALPHA))
    step = grid[1] - grid[0]
    return max(grid[kept[0]] - step, -1.0), min(grid[kept[-1]] + step, 1.0)


def live_power() -> list[Line]:
    """Return how often a candidate better by 0.01 (entities differ by 0.06) passes within 60 entities, and when.

    It is promised in four of five. The median number of entities stands beside that of a test of fixed size with the
    same power and alpha, which may be looked at only once.
    """
    analysis = LiveAnalysis(alpha=ALPHA, minimum_units=1)
    noise = np.random.default_rng(1).uniform(-1, 1, (STREAMS, UNITS)) * SPREAD * 3**0.5
    found = [analysis.judge(EFFECT + stream) for stream in noise]
    passed = [verdict.decided_at for verdict in found if verdict.verdict is Verdict.PASSED]
    share, median = len(passed) / STREAMS, float(np.median([n for n in passed if n is not None]))
    fixed = ((1.645 + 0.842) * SPREAD / (EFFECT + analysis.margin)) ** 2
    return [
        {"name": "gates.live_power", "value": share, "unit": "share", "baseline": POWER, "ratio": share / POWER},
        {
            "name": "gates.live_units_to_decide",
            "value": median,
            "unit": "entities",
            "baseline": round(fixed, 1),
            "ratio": fixed / median,
        },
    ]


FIGURES = [live_update, live_power]
for _figure in FIGURES:
    _figure.group = "gates"  # type: ignore[attr-defined]

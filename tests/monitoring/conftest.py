from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest


@dataclass
class FrameLog:
    """A prediction log that is a frame."""

    frame: pl.DataFrame

    def predictions(self, product: str) -> pl.DataFrame:
        return self.frame

    def mirrors(self, product: str) -> pl.DataFrame:
        return pl.DataFrame(schema={"id": pl.String, "version": pl.String, "score": pl.Float64})


START = datetime(2026, 1, 1, tzinfo=UTC)


def traffic(count: int, *, seed: int = 0, version: str = "sha256:a", shift: float = 0.0, entities: int = 100):
    """Return ``count`` predictions whose scores are calibrated probabilities of their outcomes."""
    rng = np.random.default_rng(seed)
    score = rng.uniform(0.05, 0.95, count)
    at = [START + timedelta(seconds=n) for n in range(count)]
    return pl.DataFrame(
        {
            "id": [f"{seed}-{n}" for n in range(count)],
            "at": at,
            "version": [version] * count,
            "entity": [str(n) for n in rng.integers(0, entities, count)],
            "score": score,
            "latency_seconds": [0.001] * count,
            "outcome": (rng.uniform(size=count) < score).astype(float),
            "outcome_at": [moment + timedelta(minutes=1) for moment in at],
            "inputs": [{"country": c} for c in rng.choice(["de", "fr", "it"], count)],
            "features": [{"age": a, "income": i} for a, i in rng.normal([shift, 0], 1, (count, 2))],
        },
        schema_overrides={"at": pl.Datetime("us", "UTC"), "outcome_at": pl.Datetime("us", "UTC")},
    )


@pytest.fixture
def make_traffic() -> Callable[..., pl.DataFrame]:
    return traffic


@pytest.fixture
def frame_log() -> type[FrameLog]:
    return FrameLog

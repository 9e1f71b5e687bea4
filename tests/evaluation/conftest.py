from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest


@dataclass(frozen=True)
class Linear:
    """A model that adds up its features and squeezes the sum into 0 … 1."""

    features: tuple[str, ...] = ("x",)
    slope: float = 1.0

    def predict(self, frame: pl.DataFrame) -> np.ndarray:
        total = frame.select(pl.sum_horizontal(self.features)).to_series().to_numpy()
        return 1 / (1 + np.exp(-self.slope * total))

    def save(self, directory: Path) -> None:
        (directory / "slope.txt").write_text(repr(self.slope))


@dataclass(frozen=True)
class Clustered:
    ours: np.ndarray
    theirs: np.ndarray
    labels: np.ndarray
    clusters: np.ndarray


def draw(generator: np.random.Generator, *, clusters: int = 100, better: float = 0.0, own: float = 0.6) -> Clustered:
    """Two models that err alike, each in its own way for each of ``clusters`` entities of uneven size.

    ``better`` between 0 and 1 takes that share of the error from the first model; ``own`` is how much of an error all
    rows of an entity share.
    """
    sizes = np.maximum(2, generator.lognormal(2.5, 1, clusters).astype(int))
    of = np.repeat(np.arange(clusters), sizes)
    truth = generator.normal(0, 1, clusters)[of] + generator.normal(0, 1, len(of))
    labels = (generator.random(len(of)) < 1 / (1 + np.exp(-truth))).astype(float)
    errors = [generator.normal(0, own, clusters)[of] + generator.normal(0, 0.3, len(of)) for _ in range(2)]
    ours, theirs = (1 / (1 + np.exp(-(truth + error))) for error in ((1 - better) * errors[0], errors[1]))
    return Clustered(ours, theirs, labels, of)


@pytest.fixture(scope="session")
def linear() -> type[Linear]:
    return Linear


@pytest.fixture(scope="session")
def drawn():
    return draw

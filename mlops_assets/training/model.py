"""What training yields: a model that predicts, a directory that holds it, a digest that names it."""

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.ledger.canonical import Digest, digest_of, digest_of_file

Scores = npt.NDArray[np.float64]


class Model(Protocol):
    """A trained model. ``features`` are the columns it reads, in order."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns the model reads."""

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return one float64 score per row of ``frame``, which has at least the model's features."""

    def save(self, directory: Path) -> None:
        """Write files into ``directory``; equal models write equal bytes, and no pickles."""


def digest_of_directory(directory: Path) -> Digest:
    """Return the digest of all files below ``directory``, by relative name and content."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return digest_of({path.relative_to(directory).as_posix(): digest_of_file(path) for path in files})

"""Gradient-boosted trees by LightGBM: a trainer, a model, a loader.

Deterministic to the byte: the same rows, parameters and seed write the same ``model.txt``, on any machine with the
same LightGBM. The file embeds its parameters, so another ``num_threads`` changes the digest, though not the trees.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mlops_assets.errors import EvaluationError, TrainingFailed
from mlops_assets.training.lightgbm_row import row_scorer
from mlops_assets.training.model import Scores

if TYPE_CHECKING:
    import lightgbm

MODEL_FILE = "model.txt"
MANY_ROWS = 1000
"""From this many rows on, predicting pays for the threads it starts."""

Matrix = npt.NDArray[np.float64]
Progress = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class LightGBMModel:
    """A booster and the columns it reads, in order."""

    booster: "lightgbm.Booster"
    features: tuple[str, ...]

    def predict(self, frame: pl.DataFrame) -> Scores:
        """Return one float64 score per row; nulls are missing values. ``EvaluationError`` names absent columns."""
        return self.predict_matrix(_matrix(frame, self.features))

    def predict_matrix(self, matrix: Matrix) -> Scores:
        """Return the scores of a float64 matrix [rows, features], NaN where a value is missing: the quick way."""
        threads = 0 if len(matrix) >= MANY_ROWS else 1
        scores = self.booster.predict(matrix, num_threads=threads)
        return np.asarray(scores, dtype=np.float64)

    def row_scorer(self) -> Callable[[Sequence[float]], float]:
        """Return a scorer of single rows, many times as quick as ``predict``; one object is for one thread."""
        return row_scorer(self.booster, len(self.features))

    def contributions(self, frame: pl.DataFrame) -> Matrix:
        """Return SHAP values [rows, features + 1] in the units of the raw score; the last column is the mean.

        Computed by Tree SHAP (Lundberg et al., "From local explanations to global understanding with explainable AI
        for trees", Nature Machine Intelligence 2, 2020). Each row sums to the model's raw score.
        """
        values = self.booster.predict(_matrix(frame, self.features), pred_contrib=True)
        return np.asarray(values, dtype=np.float64)

    def importance(self) -> dict[str, float]:
        """Return the total gain of the splits on each feature."""
        gains = self.booster.feature_importance(importance_type="gain")
        return dict(zip(self.features, map(float, gains), strict=True))

    def save(self, directory: Path) -> None:
        """Write ``model.txt`` into ``directory``."""
        (directory / MODEL_FILE).write_text(self.booster.model_to_string(), encoding="utf-8")


def train_classifier(
    frame: pl.DataFrame,
    *,
    features: Sequence[str],
    label: str,
    params: Mapping[str, Any],
    seed: int,
    progress: Progress,
) -> LightGBMModel:
    """Return a booster trained on all rows of ``frame``; with the default objective, a pointwise ranker.

    ``params`` are LightGBM's own, with ``num_boost_round`` (default 100) and ``progress_every`` (rounds between two
    calls of ``progress`` with the training metrics, default 25) beside them; ``objective`` defaults to ``binary`` and
    ``num_threads`` to 1. Raises ``TrainingFailed`` with LightGBM's words when it refuses.
    """
    _import_without_pandas()
    import lightgbm

    own = dict(params)
    rounds, every = int(own.pop("num_boost_round", 100)), int(own.pop("progress_every", 25))
    if rounds < 1 or every < 1:
        raise TrainingFailed(f"num_boost_round and progress_every must be at least 1, found {rounds} and {every}")
    try:
        data = lightgbm.Dataset(
            _matrix(frame, features), label=frame[label].cast(pl.Float64).to_numpy(), feature_name=list(features)
        )
        booster = lightgbm.Booster(params=_deterministic(own, seed), train_set=data)
        _boost(booster, rounds, every, progress)
    except lightgbm.basic.LightGBMError as error:
        raise TrainingFailed(f"LightGBM refused: {error}") from error
    return _readable(booster, features)


def load_lightgbm(directory: Path) -> LightGBMModel:
    """Return the model that ``save`` wrote into ``directory``."""
    import lightgbm

    text = (directory / MODEL_FILE).read_text(encoding="utf-8")
    booster = lightgbm.Booster(model_str=text)
    return LightGBMModel(booster, tuple(booster.feature_name()))


def _import_without_pandas() -> None:
    """Import LightGBM without the pandas and scikit-learn it looks for: they take six times as long as itself.

    Only in a process that Dagster Pipes started, which trains one recipe on Polars and ends; and not where one of the
    three is imported already.
    """
    optional = ("pandas", "sklearn")
    if "DAGSTER_PIPES_CONTEXT" not in os.environ or any(name in sys.modules for name in ("lightgbm", *optional)):
        return
    sys.modules.update(dict.fromkeys(optional))  # type: ignore[arg-type]  # importing one now raises ImportError
    try:
        import lightgbm  # noqa: F401
    finally:
        for name in optional:
            del sys.modules[name]


def _deterministic(params: Mapping[str, Any], seed: int) -> dict[str, Any]:
    defaults = {"objective": "binary", "num_threads": 1, "verbosity": -1}
    forced = {"deterministic": True, "force_row_wise": True, "seed": seed}
    return {**defaults, **params, **forced}


def _boost(booster: "lightgbm.Booster", rounds: int, every: int, progress: Progress) -> None:
    """Add trees until ``rounds`` or until no split helps. The metrics are computed only when they are told."""
    for number in range(1, rounds + 1):
        finished = booster.update()
        if finished or number == rounds or number % every == 0:
            progress(number, {f"train_{result[1]}": float(result[2]) for result in booster.eval_train()})
        if finished:
            break


def _readable(booster: "lightgbm.Booster", features: Sequence[str]) -> LightGBMModel:
    """Return the booster as it will be read back, without its training data; refuse names LightGBM cannot keep."""
    import lightgbm

    model = LightGBMModel(lightgbm.Booster(model_str=booster.model_to_string()), tuple(features))
    kept = tuple(model.booster.feature_name())
    if kept != model.features:
        changed = [name for name, other in zip(features, kept, strict=True) if name != other]
        raise TrainingFailed(f"LightGBM cannot keep the feature names {changed}; use letters, digits and underscores")
    return model


def _matrix(frame: pl.DataFrame, features: Sequence[str]) -> Matrix:
    """Return the features as float64 [rows, features], row after row as LightGBM reads them."""
    absent = [name for name in features if name not in frame.columns]
    if absent:
        raise EvaluationError(f"the model reads {absent}, which the frame does not have; it has {frame.columns}")
    numbers = frame.select(pl.col(list(features)).cast(pl.Float64))
    return np.ascontiguousarray(numbers.to_numpy(), dtype=np.float64)

"""What a model looks at: SHAP values where it can give them, permutation importance where it cannot.

Belongs here: the numbers. Not here: their picture (``plots.py``).
"""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.metrics import Floats, Metric
from mlops_assets.training.model import Model

ROWS = 500
"""Rows explained: enough for the picture and for the mean of each feature, whatever the size of the golden set."""

REPEATS = 5


@runtime_checkable
class Explains(Protocol):
    """A model that can say what each feature contributed."""

    def contributions(self, frame: pl.DataFrame) -> Floats:
        """Return SHAP values [rows, features + 1]; the last column is the mean score."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Explanation:
    """How much each feature counts, most first.

    By ``shap``, ``importance`` is the mean absolute contribution to the raw score; by ``permutation``, how much worse
    ``metric`` becomes when the feature is shuffled. ``contributions`` and ``values`` (NaN: null or no number) have
    shape [rows, features] in the order of ``features``; only ``shap`` has them.
    """

    method: Literal["shap", "permutation"]
    features: tuple[str, ...]
    importance: tuple[float, ...]
    metric: str | None = None
    contributions: Floats | None = None
    values: Floats | None = None

    def to_json(self) -> dict[str, object]:
        """Return method and importance as a JSON value, to six significant digits."""
        shares = zip(self.features, self.importance, strict=True)
        return {
            "method": self.method,
            "metric": self.metric,
            "importance": {feature: float(f"{value:.6g}") for feature, value in shares},
        }


def explain(model: Model, golden: pl.DataFrame, *, label: str, metric: Metric, rows: int = ROWS) -> Explanation:
    """Return the explanation of ``model`` on ``rows`` golden rows, evenly spread; the same rows every time.

    Raises ``EvaluationError`` when contributions have the wrong shape, or ``metric`` is undefined on those rows and the
    model cannot explain itself.
    """
    step = max(1, golden.height // rows)
    sample = golden.gather_every(step).head(rows)
    if isinstance(model, Explains):
        return _by_shap(model, sample, tuple(model.features))
    return _by_permutation(model, sample, label, metric)


def _by_shap(model: Explains, sample: pl.DataFrame, features: tuple[str, ...]) -> Explanation:
    found = np.asarray(model.contributions(sample), dtype=np.float64)
    if found.shape != (sample.height, len(features) + 1):
        raise EvaluationError(
            f"contributions have the shape {found.shape}, needs {(sample.height, len(features) + 1)}: "
            "one column per feature and the mean"
        )
    contributions = found[:, :-1]
    importance = np.abs(contributions).mean(axis=0)
    order = np.argsort(-importance, kind="stable")
    values = sample.select(pl.col(list(features)).cast(pl.Float64, strict=False)).to_numpy()
    return Explanation(
        method="shap",
        features=tuple(features[place] for place in order),
        importance=tuple(map(float, importance[order])),
        contributions=contributions[:, order],
        values=values[:, order],
    )


def _by_permutation(model: Model, sample: pl.DataFrame, label: str, metric: Metric) -> Explanation:
    """Shuffle each feature in turn (Breiman 2001, "Random forests"; Fisher, Rudin and Dominici 2019)."""
    labels = sample[label].cast(pl.Float64).to_numpy()
    whole = metric.value(model.predict(sample), labels)
    if whole is None:
        raise EvaluationError(f"{metric.name} is undefined on the {sample.height} explained rows: widen the golden set")
    sign = -1.0 if metric.higher_is_better else 1.0
    generator = np.random.default_rng(0)
    orders = [generator.permutation(sample.height) for _ in range(REPEATS)]
    worse = {}
    for feature in model.features:
        shuffled = [model.predict(sample.with_columns(sample[feature].gather(order))) for order in orders]
        found = [metric.value(scores, labels) for scores in shuffled]
        worse[feature] = float(np.mean([sign * (value - whole) for value in found if value is not None]))
    ranked = sorted(worse, key=lambda feature: -worse[feature])
    return Explanation(
        method="permutation",
        features=tuple(ranked),
        importance=tuple(worse[feature] for feature in ranked),
        metric=metric.name,
    )

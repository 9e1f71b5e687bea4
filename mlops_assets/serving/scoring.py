"""Scoring one row at a time, as a request needs it: the quick way where a model has one.

A model that has ``row_scorer`` is asked without building a frame; it must give exactly what ``predict`` gives of the
same row in a batch. Any other model is given a frame of one row.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import polars as pl

from mlops_assets.training.model import Model

RowScorer = Callable[[Sequence[float]], float]
"""Gives the score of one row: the model's features in order, NaN where a value is missing."""

Score = Callable[[Mapping[str, Any]], float]
"""Gives the score of a row by column name."""


@runtime_checkable
class ScoresRows(Protocol):
    """A model with a quick way for one row of numbers."""

    def row_scorer(self) -> RowScorer:
        """Return a scorer with memory of its own; one object is for one thread."""


def score_of(model: Model, dtypes: Mapping[str, pl.DataType]) -> Score:
    """Return how ``model`` scores one row whose columns have the types ``dtypes``; for one thread."""
    names = tuple(model.features)
    numeric = all(dtypes[name].is_numeric() or dtypes[name] == pl.Boolean for name in names)
    if numeric and isinstance(model, ScoresRows):
        quick = model.row_scorer()
        return lambda row: quick([math.nan if (value := row[name]) is None else value for name in names])
    schema = {name: dtypes[name] for name in names}  # what it was trained on, also of a null

    def score(row: Mapping[str, Any]) -> float:
        frame = pl.DataFrame({name: [row[name]] for name in names}, schema=schema)
        return float(np.asarray(model.predict(frame))[0])

    return score

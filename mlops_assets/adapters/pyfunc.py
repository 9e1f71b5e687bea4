"""What MLflow loads a model's directory with: ``loader_module="mlops_assets.adapters.pyfunc"``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from mlops_assets.training.model import Model, Scores
from mlops_assets.training.package import load_model

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class PyfuncModel:
    """A model of this library behind MLflow's interface: pandas in, scores out."""

    model: Model

    def predict(self, model_input: "pd.DataFrame", params: dict[str, Any] | None = None) -> Scores:  # noqa: ARG002
        """Return one score per row; ``params`` is MLflow's, and has no meaning here."""
        columns = {name: model_input[name].to_numpy() for name in self.model.features}
        return np.asarray(self.model.predict(pl.DataFrame(columns)), dtype=np.float64)


def _load_pyfunc(path: str) -> PyfuncModel:
    """Return the model in the directory ``path``; the name is MLflow's."""
    return PyfuncModel(load_model(Path(path)))

"""What a measurement may use: the models, rows and scores of one evaluation, and what else it may ask for.

Belongs here: the bench, and taking measurements so that one that fails spoils no other. Not here: what is measured (a
gate says that) or what it is good enough for.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.metrics import Floats, Metric
from mlops_assets.ledger.canonical import Digest
from mlops_assets.training.model import Model


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredModel:
    """A model with its scores of the golden rows, one each; ``directory`` holds its package, if it has one."""

    digest: Digest
    model: Model
    scores: Floats
    directory: Path | None = None


def _unavailable() -> Any:
    raise EvaluationError("this evaluation was not given what the measurement asks for")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Workbench:
    """One evaluation. ``labels`` and ``clusters`` (the entity) have one value per row of ``golden``.

    ``golden`` has the dataset's columns, the features and the label. ``served`` is what a prediction server must know
    of the product (``ServedProduct``), or ``None``. ``train`` returns the training rows, ``retrain`` trains again as
    recorded and returns the digest that came out; each raises ``EvaluationError`` when it cannot.
    """

    product: str
    candidate: ScoredModel
    champion: ScoredModel | None
    golden: pl.DataFrame
    label: str
    cluster: str
    labels: Floats
    clusters: Floats
    metrics: Mapping[str, Metric]
    confidence: float = 0.95
    served: Any = None
    train: Callable[[], pl.DataFrame] = _unavailable
    retrain: Callable[[], Digest] = _unavailable


class Measurement(Protocol):
    """Something to be measured in an evaluation; ``name`` is its key in the report."""

    @property
    def name(self) -> str:
        """The key of the measurement in the report."""

    def measure(self, bench: Workbench) -> Mapping[str, Any]:
        """Return what was found, as JSON values."""


def take_measurements(bench: Workbench, measurements: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    """Return what each found; one that raises, or finds what JSON cannot hold, leaves ``{"error": …}``."""
    return {measurement.name: _measured(bench, measurement) for measurement in measurements}


def _measured(bench: Workbench, measurement: Measurement) -> dict[str, Any]:
    try:
        found = dict(measurement.measure(bench))
        loaded: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
        return loaded
    except Exception as error:  # a gate of a team may raise anything; it blocks, and the others are measured still
        return {"error": f"{type(error).__name__}: {error}"}

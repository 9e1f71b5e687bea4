"""Scoring candidate and champion on the same golden rows: models and rows in, report out, nothing else read."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.comparison import RESAMPLES, compare, estimate
from mlops_assets.evaluation.metrics import Floats, Metric
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.ledger.canonical import Digest
from mlops_assets.training.model import Model

NamedModel = tuple[Digest, Model]


def evaluate(  # noqa: PLR0913 - all that a report depends on, named
    product: str,
    *,
    candidate: NamedModel,
    champion: NamedModel | None,
    golden: pl.DataFrame,
    golden_digest: Digest,
    label: str,
    cluster: str,
    metrics: Sequence[Metric],
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> EvaluationReport:
    """Return the report of ``candidate``, against ``champion`` if there is one.

    ``golden`` has the models' features, a numeric ``label`` and the entity column ``cluster``. A metric that is
    undefined on it (one class, one cluster) is absent from the report. Raises ``EvaluationError`` when the golden set
    is empty, lacks or leaves out a label or cluster, or a model cannot score it, the champion included: a champion
    that cannot be scored is not the same as none.
    """
    labels, clusters = _checked(product, golden, label, cluster)
    ours = score(product, "candidate", candidate, golden)
    theirs = None if champion is None else score(product, "champion", champion, golden)
    compared = (
        {}
        if theirs is None
        else {
            metric.name: compare(ours, theirs, labels, clusters, metric, confidence=confidence, resamples=resamples)
            for metric in metrics
        }
    )
    candidate_metrics, champion_metrics = (
        {
            metric.name: estimate(scores, labels, clusters, metric, confidence=confidence, resamples=resamples)
            for metric in metrics
            if scores is not None
        }
        for scores in (ours, theirs)
    )
    return EvaluationReport(
        product=product,
        candidate=candidate[0],
        champion=None if champion is None else champion[0],
        golden=golden_digest,
        rows=golden.height,
        clusters=len(set(clusters.tolist())),
        confidence=confidence,
        candidate_metrics={name: found for name, found in candidate_metrics.items() if found is not None},
        champion_metrics={name: found for name, found in champion_metrics.items() if found is not None},
        comparisons={name: found for name, found in compared.items() if found is not None},
    )


def score(product: str, role: str, model: NamedModel, frame: pl.DataFrame) -> Floats:
    """Return one finite score per row; ``EvaluationError`` names the model and what it returned instead."""
    digest, scorer = model
    try:
        scores = np.asarray(scorer.predict(frame), dtype=np.float64)
    except Exception as error:
        raise EvaluationError(f"{product}: the {role} {digest} cannot score the golden set: {error}") from error
    if scores.shape != (frame.height,):
        raise EvaluationError(
            f"{product}: the {role} {digest} returned scores of shape {scores.shape} for {frame.height} rows"
        )
    broken = int(np.count_nonzero(~np.isfinite(scores)))
    if broken:
        raise EvaluationError(
            f"{product}: {broken} of {frame.height} scores of the {role} {digest} are NaN or infinite; train it again"
        )
    return scores


def _checked(product: str, golden: pl.DataFrame, label: str, cluster: str) -> tuple[Floats, Floats]:
    """Return labels and cluster codes of the golden rows."""
    if golden.is_empty():
        raise EvaluationError(f"{product}: the golden set has no rows; widen the split")
    for role, name in (("label", label), ("cluster", cluster)):
        if name not in golden.columns:
            raise EvaluationError(
                f"{product}: the golden set lacks the {role} column {name!r}; it has {golden.columns}"
            )
        absent = golden[name].null_count()
        if absent:
            raise EvaluationError(f"{product}: {absent} of {golden.height} golden rows have no {role} in {name!r}")
    labels = golden[label].cast(pl.Float64).to_numpy()
    return labels, golden[cluster].rank("dense").to_numpy().astype("float64")

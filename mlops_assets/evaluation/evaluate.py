"""Scoring candidate and champion on the same golden rows: models and rows in, report out, nothing else read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.comparison import RESAMPLES, compare, estimate
from mlops_assets.evaluation.metrics import Floats, Metric
from mlops_assets.evaluation.report import Comparison, Estimate, EvaluationReport
from mlops_assets.evaluation.workbench import Measurement, ScoredModel, Workbench, take_measurements
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
    measurements: Sequence[Measurement] = (),
    aids: Mapping[str, Any] | None = None,
) -> EvaluationReport:
    """Return the report of ``candidate``, against ``champion`` if there is one.

    ``golden`` has the models' features, a numeric ``label`` and the entity column ``cluster``. A metric that is
    undefined on it (one class, one cluster) is absent from the report. ``measurements`` are taken on a ``Workbench``
    that has ``aids`` too (``train``, ``retrain``, ``directory``, ``served``). Raises ``EvaluationError`` when the
    golden set is empty, lacks or leaves out a label or cluster, or a model cannot score it, the champion included: one
    that cannot be scored is not the same as none.
    """
    labels, clusters = _checked(product, golden, label, cluster)
    known = dict(aids or {})
    bench = Workbench(
        product=product,
        candidate=_scored(product, "candidate", candidate, golden, known.pop("directory", None)),
        champion=None if champion is None else _scored(product, "champion", champion, golden),
        golden=golden,
        label=label,
        cluster=cluster,
        labels=labels,
        clusters=clusters,
        metrics={metric.name: metric for metric in metrics},
        confidence=confidence,
        **known,
    )
    return EvaluationReport(
        product=product,
        candidate=bench.candidate.digest,
        champion=bench.champion.digest if bench.champion else None,
        golden=golden_digest,
        rows=golden.height,
        clusters=len(set(clusters.tolist())),
        confidence=confidence,
        candidate_metrics=_estimates(bench, bench.candidate, resamples),
        champion_metrics=_estimates(bench, bench.champion, resamples),
        comparisons=_comparisons(bench, resamples),
        measured=take_measurements(bench, measurements),
    )


def _scored(
    product: str, role: str, named: NamedModel, golden: pl.DataFrame, directory: Path | None = None
) -> ScoredModel:
    scores = score(product, role, named, golden)
    return ScoredModel(digest=named[0], model=named[1], scores=scores, directory=directory)


def _estimates(bench: Workbench, model: ScoredModel | None, resamples: int) -> dict[str, Estimate]:
    if model is None:
        return {}
    found = {
        name: estimate(
            model.scores, bench.labels, bench.clusters, metric, confidence=bench.confidence, resamples=resamples
        )
        for name, metric in bench.metrics.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _comparisons(bench: Workbench, resamples: int) -> dict[str, Comparison]:
    if bench.champion is None:
        return {}
    ours, theirs, against = bench.candidate.scores, bench.champion.scores, (bench.labels, bench.clusters)
    found = {
        name: compare(ours, theirs, *against, metric, confidence=bench.confidence, resamples=resamples)
        for name, metric in bench.metrics.items()
    }
    return {name: value for name, value in found.items() if value is not None}


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

"""The evaluation of a candidate as an asset, and its model card.

The evaluation binds to what its run consumed: the candidate and the golden set by digest, the champion by the ledger.
The report itself is in the materialization's metadata, under ``report``; its digest is the data version.
"""

import base64
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.data.assets import Consumed, consumed
from mlops_assets.data.plot import inline_png
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import EvaluationError, MlopsError, ServiceUnavailable
from mlops_assets.evaluation.card import CardFacts, model_card, render_card
from mlops_assets.evaluation.evaluate import NamedModel, evaluate
from mlops_assets.evaluation.explain import explain
from mlops_assets.evaluation.metrics import Metric
from mlops_assets.evaluation.plots import plot_explanation, plot_metrics
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.evaluation.workbench import Measurement
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.ledger.entry import Kind, Ledger
from mlops_assets.ledger.state import fold
from mlops_assets.training.backend import TrainingBackend
from mlops_assets.training.model import Model
from mlops_assets.training.package import load_model
from mlops_assets.training.registry import ModelRegistry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAGE = {"stage": "evaluation"}

Retrain = Callable[[dg.AssetExecutionContext, Digest, ModelRegistry, SnapshotStore, TrainingBackend], Digest]
"""Trains a registered candidate again within a run and returns the digest that came out."""


def build_evaluation_asset(  # noqa: PLR0913 - an evaluation takes all that gates may want measured
    product: str,
    *,
    metrics: Sequence[Metric],
    label: str,
    cluster: str,
    confidence: float = 0.95,
    measurements: Sequence[Measurement] = (),
    retrain: Retrain | None = None,
    served: Any = None,
    owners: Sequence[str] | None = None,
) -> dg.AssetsDefinition:
    """Return the asset ``[product, evaluation]``: candidate and champion on the same golden rows, with intervals.

    ``measurements`` are what gates want measured beside the metrics; ``retrain`` trains a digest again for them,
    ``served`` is what a prediction server must know of the product. Needs
    the resources ``registry``, ``snapshots``, ``ledger`` and ``training``. Raises ``EvaluationError`` when a model
    cannot be loaded or scored; a champion that cannot be loaded is an error, never "no champion".
    """
    candidate_key, training_key = dg.AssetKey([product, "candidate"]), dg.AssetKey([product, "training_set"])

    @dg.asset(
        key=[product, "evaluation"],
        deps=[candidate_key, training_key],
        group_name=product,
        tags=STAGE,
        kinds={"numpy"},
        owners=owners,
        description=f"The candidate of {product} and its champion on the same golden rows: "
        + ", ".join(metric.name for metric in metrics),
    )
    def evaluation_asset(
        context: dg.AssetExecutionContext,
        registry: dg.ResourceParam[ModelRegistry],
        snapshots: dg.ResourceParam[SnapshotStore],
        ledger: dg.ResourceParam[Ledger],
        training: dg.ResourceParam[TrainingBackend],
    ) -> dg.MaterializeResult[Any]:
        candidate, rows = consumed(context, candidate_key), consumed(context, training_key)
        golden_digest = golden_of(product, rows)
        train_digest = _plain(rows.metadata.get("train"))
        live = fold(ledger.entries(product)).champion
        with tempfile.TemporaryDirectory() as scratch:
            directory, model = _fetch(registry, product, "candidate", candidate.digest, Path(scratch))
            aids: dict[str, Any] = {"directory": directory, "served": served}
            aids["train"] = lambda: snapshots.read(train_digest)
            if retrain is not None:
                aids["retrain"] = lambda: retrain(context, candidate.digest, registry, snapshots, training)
            report = evaluate(
                product,
                candidate=(candidate.digest, model),
                champion=None if live is None else _load(registry, product, "champion", live.digest, Path(scratch)),
                golden=snapshots.read(golden_digest),
                golden_digest=golden_digest,
                label=label,
                cluster=cluster,
                metrics=metrics,
                confidence=confidence,
                measurements=measurements,
                aids=aids,
            )
        inputs = {candidate_key.to_user_string(): candidate.digest, training_key.to_user_string(): rows.digest}
        inputs |= {"golden": golden_digest} | ({} if live is None else {"champion": live.digest})
        return dg.MaterializeResult(
            data_version=dg.DataVersion(report.digest), metadata=_evaluation_metadata(report, inputs)
        )

    return evaluation_asset


def build_model_card_asset(
    product: str,
    *,
    metrics: Sequence[Metric],
    label: str,
    facts: CardFacts | None = None,
    owners: Sequence[str] | None = None,
) -> dg.AssetsDefinition:
    """Return the asset ``[product, model_card]``: the CycloneDX card of the evaluated candidate, with a SHAP summary.

    A failed gate blocks it in its run; in a run of its own it states the verdict that the ledger holds. ``facts`` are
    what the team says (use, limits, task); data digests and provenance are filled in. Needs the resources ``registry``,
    ``snapshots`` and ``ledger``; raises ``EvaluationError`` for a report that nobody judged.
    """
    evaluation_key = dg.AssetKey([product, "evaluation"])

    @dg.asset(
        key=[product, "model_card"],
        deps=[evaluation_key],
        group_name=product,
        tags=STAGE,
        kinds={"cyclonedx"},
        owners=owners,
        description=f"What one should know of the candidate of {product}: use, data, metrics, gates, what it looks at.",
    )
    def model_card_asset(
        context: dg.AssetExecutionContext,
        registry: dg.ResourceParam[ModelRegistry],
        snapshots: dg.ResourceParam[SnapshotStore],
        ledger: dg.ResourceParam[Ledger],
    ) -> dg.MaterializeResult[Any]:
        found = consumed(context, evaluation_key)
        report = EvaluationReport.from_json(_plain(found.metadata["report"]))
        judgements = judgements_of(ledger, report)
        with tempfile.TemporaryDirectory() as scratch:
            _, model = _load(registry, product, "candidate", report.candidate, Path(scratch))
            golden = snapshots.read(report.golden)
            explanation = explain(model, golden, label=label, metric=metrics[0])
        summary, forest = plot_explanation(explanation), plot_metrics(report)
        card = model_card(
            report,
            _complete(facts or CardFacts(), report, registry, tuple(model.features), found),
            judgements=judgements,
            explanation=explanation.to_json(),
            pictures={"Metrics": _png(forest), "What the model looks at": _png(summary)},
        )
        digest = digest_of(card)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(digest),
            metadata={
                "digest": digest,
                "inputs": dg.MetadataValue.json({evaluation_key.to_user_string(): found.digest}),
                "candidate": report.candidate,
                "card": dg.MetadataValue.json(card),
                "html": dg.MetadataValue.text(render_card(card)),
                "explanation": dg.MetadataValue.json(explanation.to_json()),
                "what_it_looks_at": dg.MetadataValue.md(inline_png(summary)),
                "gates": dg.MetadataValue.md(_gates_table(judgements)),
            },
        )

    return model_card_asset


def golden_of(product: str, training: Consumed) -> Digest:
    """Return the digest of the golden set that a training set names in its metadata."""
    if "golden" not in training.metadata:
        raise EvaluationError(
            f"{product}: the training set of run {training.run_id} names no golden set; materialize it again"
        )
    return str(_plain(training.metadata["golden"]))


def judgements_of(ledger: Ledger, report: EvaluationReport) -> Sequence[Mapping[str, Any]]:
    """Return the newest recorded judgements of exactly this report."""
    for entry in reversed(ledger.entries(report.product)):
        if entry.kind is Kind.JUDGED and entry.body["report"] == report.digest:
            judgements: Sequence[Mapping[str, Any]] = entry.body["judgements"]
            return judgements
    raise EvaluationError(
        f"{report.product}: report {report.digest} of candidate {report.candidate} was never judged; "
        "run its gates before its card"
    )


def _load(registry: ModelRegistry, product: str, role: str, digest: Digest, scratch: Path) -> NamedModel:
    return digest, _fetch(registry, product, role, digest, scratch)[1]


def _fetch(registry: ModelRegistry, product: str, role: str, digest: Digest, scratch: Path) -> tuple[Path, Model]:
    """Return the package and the model by digest; ``ServiceUnavailable`` stays what it is: the run may be retried."""
    try:
        directory = registry.fetch(product, digest, scratch / role)
        return directory, load_model(directory)
    except (EvaluationError, ServiceUnavailable):
        raise
    except (MlopsError, OSError, LookupError) as error:
        raise EvaluationError(f"{product}: the {role} {digest} cannot be loaded from the registry: {error}") from error


def _complete(
    facts: CardFacts, report: EvaluationReport, registry: ModelRegistry, features: tuple[str, ...], found: Consumed
) -> CardFacts:
    """Return the team's facts with data digests and provenance."""
    registered = registry.find(report.product, report.candidate)
    known = {} if registered is None else {**registered.facts, "registry version": registered.version}
    data = _data_of(known)
    provenance = {name: value for name, value in known.items() if name.removeprefix("input.") not in data}
    return CardFacts(
        owner=facts.owner,
        description=facts.description,
        intended_use=facts.intended_use,
        limitations=facts.limitations,
        task=facts.task,
        features=facts.features or features,
        data={**facts.data, "golden set": report.golden, **data},
        provenance={**facts.provenance, **provenance, "evaluation run": found.run_id},
    )


def _data_of(facts: Mapping[str, str]) -> dict[str, Digest]:
    """Return the digests of the data behind a model, from what its registration says (``input.<asset>``)."""
    return {name.removeprefix("input."): value for name, value in facts.items() if name.startswith("input.")}


def _evaluation_metadata(report: EvaluationReport, inputs: Mapping[str, Digest]) -> dict[str, Any]:
    series: dict[str, Any] = {}
    for role, metrics in (("candidate", report.candidate_metrics), ("champion", report.champion_metrics)):
        series |= {f"{role}_{name}": found.value for name, found in metrics.items()}
    for name, gain in report.comparisons.items():
        series |= {f"gain_{name}": gain.gain, f"p_value_{name}": gain.p_value}
    return {
        "digest": report.digest,
        "inputs": dg.MetadataValue.json(dict(inputs)),
        "candidate": report.candidate,
        "champion": report.champion or "none",
        "golden": report.golden,
        "golden_rows": report.rows,
        "golden_clusters": report.clusters,
        "metrics": dg.MetadataValue.md(_metrics_table(report)),
        "intervals": dg.MetadataValue.md(inline_png(plot_metrics(report))),
        **series,
        "report": dg.MetadataValue.json(report.to_json()),
    }


def _metrics_table(report: EvaluationReport) -> str:
    lines = ["| metric | candidate | champion | gain | p |", "| --- | --- | --- | --- | --- |"]
    for name, ours in sorted(report.candidate_metrics.items()):
        theirs, gain = report.champion_metrics.get(name), report.comparisons.get(name)
        cells = [f"{x.value:.4g} ({x.low:.4g} … {x.high:.4g})" if x else "-" for x in (ours, theirs)]
        cells.append(f"{gain.gain:+.4g} ({gain.low:+.4g} … {gain.high:+.4g})" if gain else "-")
        cells.append(f"{gain.p_value:.2g}" if gain else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gates_table(judgements: Sequence[Mapping[str, Any]]) -> str:
    rows = [f"| {said['gate']} | {said['verdict']} | {said['reason']} |" for said in judgements]
    return "\n".join(["| gate | verdict | reason |", "| --- | --- | --- |", *rows])


def _png(figure: "Figure") -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, dg.MetadataValue) else value

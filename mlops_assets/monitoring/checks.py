"""The check ``parity`` of a feature view: what was served, replayed in batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.features.engine import FeatureEngine
from mlops_assets.features.parity import ParityReport, merged
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import FeatureView
from mlops_assets.ledger.entry import Ledger
from mlops_assets.monitoring.record import record_parity
from mlops_assets.monitoring.replayed import MOST_REPLAYED, replay_predictions
from mlops_assets.serving.prediction import PredictionLog
from mlops_assets.serving.served import ServedProduct


def build_parity_check(
    view: FeatureView,
    products: Sequence[ServedProduct],
    engine: FeatureEngine | None = None,
    *,
    most: int = MOST_REPLAYED,
    blocking: bool = False,
) -> dg.AssetChecksDefinition:
    """Return the check ``parity`` on ``features/<view.name>``: passed if no value served by ``products`` differs.

    It replays the newest ``most`` predictions of each product, and records each product's report in the ledger, where
    the gate ``ParityHolds`` finds it. Where nothing was served that can be replayed, it passes and says so;
    ``ParityReport.is_evidence`` tells a gate. Needs the resources ``predictions``, ``snapshots`` and ``ledger``.
    """

    @dg.asset_check(
        asset=dg.AssetKey(["features", view.name]),
        name="parity",
        blocking=blocking,
        description="The values that were served, replayed, are those that batch computes, to the last bit.",
    )
    def parity(
        context: dg.AssetCheckExecutionContext,
        predictions: dg.ResourceParam[PredictionLog],
        snapshots: dg.ResourceParam[SnapshotStore],
        ledger: dg.ResourceParam[Ledger],
    ) -> dg.AssetCheckResult:
        computing = engine or PolarsEngine()
        reports = {
            served.name: replay_predictions(
                view, served, predictions.predictions(served.name), snapshots, computing, most=most
            )
            for served in products
        }
        for product, found in reports.items():
            record_parity(ledger, product, view, found, run_id=context.run.run_id)
        report = merged(list(reports.values()), view)
        return dg.AssetCheckResult(
            passed=report.agrees,
            severity=dg.AssetCheckSeverity.ERROR,
            description=report.summary,
            metadata=_metadata(report, reports),
        )

    return parity


def _metadata(report: ParityReport, reports: Mapping[str, ParityReport]) -> dict[str, Any]:
    return {
        "replayed": report.replayed,
        "differences": report.differences,
        "by_product": dg.MetadataValue.json({product: part.replayed for product, part in reports.items()}),
        "skipped": dg.MetadataValue.json(dict(report.skipped)),
        "values": dg.MetadataValue.md(_table(report)),
        "report": dg.MetadataValue.json(report.to_json()),
        "digests": dg.MetadataValue.json({product: part.digest for product, part in reports.items()}),
    }


def _table(report: ParityReport) -> str:
    lines = ["| feature | compared | other | missing | extra | examples |", "| --- | --- | --- | --- | --- | --- |"]
    for feature in report.features:
        examples = "<br>".join(feature.examples).replace("|", "\\|")
        counts = f"{feature.compared} | {feature.mismatches} | {feature.missing} | {feature.extra}"
        lines.append(f"| `{feature.name}` | {counts} | {examples} |")
    return "\n".join(lines)

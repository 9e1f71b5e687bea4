"""The assets that look back at what was served: predictions, drift, performance.

They run together in ``<product>_monitor``. Only the predictions asset is told the window; the others read it from what
it produced, so that all three speak of the same rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from mlops_assets.data.assets import Consumed, consumed
from mlops_assets.data.plot import inline_png
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import DataError, MlopsError
from mlops_assets.ledger.canonical import Digest
from mlops_assets.ledger.entry import Kind, Ledger
from mlops_assets.monitoring.drift import DriftDetector, DriftReport
from mlops_assets.monitoring.expectation import expected_of, find_champion, find_report
from mlops_assets.monitoring.performance import LivePerformance, PerformanceReport, judge_performance, matured
from mlops_assets.monitoring.plots import plot_drift, plot_traffic
from mlops_assets.monitoring.record import record_once
from mlops_assets.monitoring.windows import Window, full_windows, parse_window
from mlops_assets.serving.prediction import PredictionLog

STAGE = {"stage": "monitoring"}


class WindowConfig(dg.Config):
    """Which window of predictions a monitoring run looks at."""

    window: str | None = Field(
        default=None, description="The window's id, '<product>:<number>'; the newest full window when it is left out."
    )


def build_predictions_asset(
    product: str, *, window_size: int, owners: Sequence[str] | None = None
) -> dg.AssetsDefinition:
    """Return the asset ``[product, predictions]``: the snapshot of one window of the prediction log.

    Inputs and features are columns of their own, ``inputs.<name>`` and ``features.<name>``.
    """

    @dg.asset(
        key=[product, "predictions"],
        deps=[[product, "deployment"]],
        group_name=product,
        tags=STAGE,
        kinds={"polars", "parquet"},
        owners=owners,
        description=f"{window_size} consecutive predictions of {product}, as they were answered, with known outcomes.",
    )
    def predictions_asset(
        config: WindowConfig, predictions: dg.ResourceParam[PredictionLog], snapshots: dg.ResourceParam[SnapshotStore]
    ) -> dg.MaterializeResult[Any]:
        log = predictions.predictions(product)
        window = _window(product, config.window, window_size, log.height)
        rows = flattened(window.rows(log))
        written = snapshots.write(rows)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(written.digest),
            metadata={
                "digest": written.digest,
                "inputs": dg.MetadataValue.json({}),
                "window": window.id,
                "dagster/row_count": rows.height,
                "outcomes_known": rows["outcome"].count(),
                "versions": _table(rows.group_by("version").len("predictions").sort("version")),
                "traffic": dg.MetadataValue.md(inline_png(plot_traffic(rows))),
            },
        )

    return predictions_asset


def build_drift_asset(
    product: str,
    *,
    detector: DriftDetector,
    columns: Sequence[str],
    entity: str | None = None,
    owners: Sequence[str] | None = None,
) -> dg.AssetsDefinition:
    """Return the asset ``[product, drift]``: the window's features and inputs against the newest training rows.

    ``columns`` are features or inputs that the training set has as well; ``entity`` is the column of the training set
    that names whose rows belong together. Drift is recorded in the ledger once a window.
    """

    @dg.asset(
        key=[product, "drift"],
        deps=[[product, "predictions"], [product, "training_set"]],
        group_name=product,
        tags=STAGE,
        kinds={"scipy"},
        owners=owners,
        description=f"Which of {len(columns)} columns of {product} moved away from the rows it was trained on.",
    )
    def drift_asset(
        context: dg.AssetExecutionContext,
        snapshots: dg.ResourceParam[SnapshotStore],
        ledger: dg.ResourceParam[Ledger],
    ) -> dg.MaterializeResult[Any]:
        window = consumed(context, dg.AssetKey([product, "predictions"]))
        training = consumed(context, dg.AssetKey([product, "training_set"]))
        train_digest = str(training.metadata.get("train", training.digest))
        report = detector.detect(
            _reference(product, snapshots.read(train_digest), columns, entity),
            live_columns(snapshots.read(window.digest), columns, entity),
            window=str(window.metadata["window"]),
            reference_digest=train_digest,
            cluster=entity,
        )
        if report.drifted_columns:
            record_once(ledger, product, Kind.DRIFT_FOUND, _drift_body(report))
        context.log.info(_drift_line(report))
        inputs = {f"{product}/predictions": window.digest, f"{product}/training_set": train_digest}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(report.digest), metadata=_drift_metadata(report, inputs)
        )

    return drift_asset


def build_performance_asset(
    product: str, promise: LivePerformance, *, window_size: int, owners: Sequence[str] | None = None
) -> dg.AssetsDefinition:
    """Return the asset ``[product, performance]``: the champion's live metric against its evaluation.

    It judges the champion's last ``window_size`` matured predictions up to the window's end. A fall is recorded in the
    ledger once a window. Without a champion, or an expectation of it, there is nothing to compare and it says so.
    """

    @dg.asset(
        key=[product, "performance"],
        deps=[[product, "predictions"]],
        group_name=product,
        tags=STAGE,
        kinds={"scipy"},
        owners=owners,
        description=f"Live {promise.metric.name} of {product}'s champion, from predictions whose outcome is known.",
    )
    def performance_asset(
        context: dg.AssetExecutionContext,
        predictions: dg.ResourceParam[PredictionLog],
        snapshots: dg.ResourceParam[SnapshotStore],
        ledger: dg.ResourceParam[Ledger],
    ) -> dg.MaterializeResult[Any]:
        seen = consumed(context, dg.AssetKey([product, "predictions"]))
        window = parse_window(product, str(seen.metadata["window"]), window_size)
        champion = find_champion(ledger.entries(product))
        if champion is None:
            return _nothing_to_compare(window, seen, f"{product} has no champion yet")
        report_of_champion = find_report(champion, _evaluations(context.instance, product))
        expected = expected_of(report_of_champion, promise.metric.name)
        if expected is None:
            return _nothing_to_compare(window, seen, f"no evaluation of {champion} holds {promise.metric.name}")
        rows = matured(predictions.predictions(product), window, version=champion, maturity=promise.maturity)
        written = snapshots.write(flattened(rows))
        report = judge_performance(rows, promise, window=window.id, version=champion, expected=expected)
        if report.fell:
            body = {"window": window.id, "metric": report.metric, "report": report.digest, "version": champion}
            record_once(ledger, product, Kind.PERFORMANCE_FELL, body)
        inputs = {f"{product}/predictions": seen.digest, "matured": written.digest}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(report.digest), metadata=_performance_metadata(report, inputs)
        )

    return performance_asset


def flattened(predictions: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the log with ``inputs`` and ``features`` unfolded into ``inputs.<name>``, ``features.<name>``.

    The same rows have the same columns whatever other rows of the log carried: fields that are null throughout go.
    """
    structs = [name for name in ("inputs", "features") if isinstance(predictions.schema.get(name), pl.Struct)]
    frame = predictions.drop("inputs", "features", strict=False)
    for struct in structs:
        fields = predictions[struct].struct.unnest()
        present = [name for name in fields.columns if fields[name].null_count() < fields.height]
        frame = frame.with_columns(fields[name].alias(f"{struct}.{name}") for name in sorted(present))
    return frame


def live_columns(rows: pl.DataFrame, columns: Sequence[str], entity: str | None) -> pl.DataFrame:
    """Return ``columns`` of flattened rows by their own names, a feature before an input; null where neither is."""
    chosen = []
    for name in columns:
        source = next((f"{part}.{name}" for part in ("features", "inputs") if f"{part}.{name}" in rows.columns), None)
        chosen.append(pl.lit(None).alias(name) if source is None else pl.col(source).alias(name))
    if entity is not None:
        chosen.append(pl.col("entity").alias(entity))
    return rows.select(pl.int_range(pl.len()).alias("__row"), *chosen).drop("__row")


def _window(product: str, named: str | None, size: int, count: int) -> Window:
    if named is not None:
        return parse_window(product, named, size)
    newest = full_windows(count, size)
    if newest == 0:
        raise MlopsError(f"{product}: no window is full yet, {count} of {size} predictions; serve more traffic first")
    return Window(product=product, number=newest, size=size)


def _reference(product: str, train: pl.DataFrame, columns: Sequence[str], entity: str | None) -> pl.DataFrame:
    wanted = [*columns, *([entity] if entity is not None and entity not in columns else [])]
    missing = [name for name in wanted if name not in train.columns]
    if missing:
        raise DataError(f"{product}: drift is to compare {missing}, which the training set lacks: {train.columns}")
    return train.select(wanted)


def _evaluations(instance: dg.DagsterInstance, product: str) -> Iterator[dict[str, Any]]:
    """Yield the metadata of the product's evaluations as plain values, newest first."""
    cursor: str | None = None
    while True:
        found = instance.fetch_materializations(dg.AssetKey([product, "evaluation"]), limit=50, cursor=cursor)
        for record in found.records:
            event = record.asset_materialization
            yield {key: value.value for key, value in event.metadata.items()} if event else {}
        if not found.has_more:
            return
        cursor = found.cursor


def _drift_body(report: DriftReport) -> dict[str, Any]:
    measured = [
        {name: column[name] for name in ("name", "effect", "threshold", "drifted")}
        for column in report.to_json()["columns"]
    ]
    return {
        "window": report.window,
        "columns": list(report.drifted_columns),
        "report": report.digest,
        "reference": report.reference,
        "effects": {column["name"]: column["effect"] for column in measured if column["drifted"]},
        "measured": measured,
    }


def _drift_line(report: DriftReport) -> str:
    if report.too_small:
        return f"{report.window}: too few rows or entities to say anything ({report.rows} rows)"
    return f"{report.window}: drifted columns: {', '.join(report.drifted_columns) or 'none'}"


def _drift_metadata(report: DriftReport, inputs: Mapping[str, Digest]) -> dict[str, Any]:
    value = report.to_json()
    return {
        "digest": report.digest,
        "inputs": dg.MetadataValue.json(dict(inputs)),
        "window": report.window,
        "dagster/row_count": report.rows,
        "score": value["score"],
        "drifted_columns": dg.MetadataValue.json(list(report.drifted_columns)),
        "says": _drift_line(report),
        "columns": _table(pl.DataFrame(value["columns"])),
        "report": dg.MetadataValue.json(value),
        "effects": dg.MetadataValue.md(inline_png(plot_drift(report))),
    }


def _performance_metadata(report: PerformanceReport, inputs: Mapping[str, Digest]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "digest": report.digest,
        "inputs": dg.MetadataValue.json(dict(inputs)),
        "window": report.window,
        "version": report.version,
        "dagster/row_count": report.rows,
        "clusters": report.clusters,
        "fell": report.fell,
        "too_small": report.too_small,
        "report": dg.MetadataValue.json(report.to_json()),
    }
    if report.live is not None:
        found |= {report.metric: report.live.value, "low": report.live.low, "high": report.live.high}
    return found | {"expected": report.expected.value}


def _nothing_to_compare(window: Window, seen: Consumed, reason: str) -> dg.MaterializeResult[Any]:
    return dg.MaterializeResult(
        data_version=dg.DataVersion(seen.digest),
        metadata={
            "digest": seen.digest,
            "inputs": dg.MetadataValue.json({f"{window.product}/predictions": seen.digest}),
            "window": window.id,
            "fell": False,
            "too_small": True,
            "says": reason,
        },
    )


def _table(frame: pl.DataFrame) -> dg.TableMetadataValue:
    kinds = {pl.String: "string", pl.Boolean: "bool"}
    schema = dg.TableSchema(
        [
            dg.TableColumn(name, "float" if dtype.is_float() else kinds.get(type(dtype), "int"))
            for name, dtype in frame.schema.items()
        ]
    )
    return dg.MetadataValue.table([dg.TableRecord(row) for row in frame.to_dicts()], schema=schema)

"""The first assets of a product: ``raw`` as observed, ``dataset`` as validated, ``quarantine`` as set aside.

Belongs here too: ``consumed``, by which every later asset finds the digest of what it reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from mlops_assets.data.contract import DataContract, Validated, validate
from mlops_assets.data.plot import inline_png
from mlops_assets.data.snapshot import Snapshot, SnapshotStore
from mlops_assets.data.source import DatasetSource
from mlops_assets.errors import DataError, SnapshotMissing, SourceChanged

SOURCE_VERSION_TAG = "mlops/source_version"
LOOK_BACK = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """What a run reads of an upstream asset: the digest it had, its metadata as plain values, the run that made it."""

    digest: str
    metadata: Mapping[str, Any]
    run_id: str


def consumed(context: Any, key: dg.AssetKey) -> Consumed:
    """Return the materialization of ``key`` by this run if there is one, else its latest.

    ``context`` has ``instance`` and, in a run, ``run``. ``SnapshotMissing`` when there is none.
    """
    run_id = None if isinstance(context, dg.SensorEvaluationContext) else context.run.run_id
    records = context.instance.fetch_materializations(key, limit=LOOK_BACK).records
    if not records:
        raise SnapshotMissing(f"asset {key.to_user_string()} was never materialized; materialize it first")
    record = next((record for record in records if record.run_id == run_id), records[0])
    metadata = {name: value.value for name, value in record.asset_materialization.metadata.items()}
    if "digest" not in metadata:
        raise SnapshotMissing(f"the materialization of {key.to_user_string()} carries no digest; materialize it again")
    return Consumed(digest=metadata["digest"], metadata=metadata, run_id=record.run_id)


def build_raw(product: str, source: DatasetSource, *, owners: Sequence[str] = ()) -> dg.SourceAsset:
    """Return the observable source asset ``[product, raw]``; its data version is the source's."""

    @dg.observable_source_asset(
        key=[product, "raw"],
        group_name=product,
        description=f"What is at {source.name} now, by version.",
        tags={"stage": "data"},
        metadata={"source": source.name, "owners": ", ".join(owners)},
    )
    def raw() -> dg.DataVersion:
        return dg.DataVersion(source.version())

    return raw


def build_dataset(
    product: str,
    source: DatasetSource,
    contract: DataContract,
    *,
    event_time: str,
    derived: Mapping[str, str] | None = None,
    owners: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """Return the assets ``[product, dataset]`` and ``[product, quarantine]``, snapshots both.

    Reads the version that the run's tag names; if the source has moved on since, the newest one, and says so. A source
    that changes while it is read is read once more, then ``SourceChanged``.
    """
    common: dict[str, Any] = {
        "group_name": product,
        "tags": {"stage": "data"},
        "owners": list(owners),
        "deps": [dg.AssetKey([product, "raw"])],
        "kinds": {"polars", "parquet"},
    }

    @dg.multi_asset(
        name=f"{product}__dataset",
        specs=[
            dg.AssetSpec(
                [product, "dataset"], description="Rows that keep the data contract, as a snapshot.", **common
            ),
            dg.AssetSpec([product, "quarantine"], description="Rows that break it, with their reasons.", **common),
        ],
    )
    def dataset(context: dg.AssetExecutionContext, snapshots: dg.ResourceParam[SnapshotStore]) -> Any:
        wanted = context.run.tags.get(SOURCE_VERSION_TAG)
        version, frame = _read_settled(source, context)
        context.log_event(
            dg.AssetObservation(
                asset_key=[product, "raw"], metadata={"version": version}, tags={"dagster/data_version": version}
            )
        )
        validated = validate(frame, contract, product=product)
        good = validated.good.with_columns(**{name: pl.sql_expr(text) for name, text in (derived or {}).items()})
        note = {} if wanted in (None, version) else {"moved_on_from": dg.MetadataValue.text(str(wanted))}
        kept = snapshots.write(good)
        aside = snapshots.write(validated.quarantined)
        inputs = {"raw": version}
        yield _result([product, "dataset"], kept, inputs, {**_facts(good, event_time), **note})
        yield _result([product, "quarantine"], aside, inputs, _quarantine_facts(validated))

    return dataset


def _read_settled(source: DatasetSource, context: dg.AssetExecutionContext) -> tuple[str, pl.DataFrame]:
    version = source.version()
    try:
        return version, source.read(version)
    except SourceChanged as error:
        context.log.warning(f"{error}; reading once more")
        version = source.version()
        return version, source.read(version)


def _result(
    key: Sequence[str], snapshot: Snapshot, inputs: Mapping[str, str], facts: Mapping[str, Any]
) -> dg.MaterializeResult[Any]:
    columns = [dg.TableColumn(name=name, type=dtype) for name, dtype in snapshot.schema.items()]
    return dg.MaterializeResult(
        asset_key=list(key),
        data_version=dg.DataVersion(snapshot.digest),
        metadata={
            "digest": snapshot.digest,
            "inputs": dg.MetadataValue.json(dict(inputs)),
            "dagster/row_count": snapshot.rows,
            "size_bytes": snapshot.size_bytes,
            "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns=columns)),
            **facts,
        },
    )


def _facts(frame: pl.DataFrame, event_time: str) -> dict[str, Any]:
    if not frame.height:
        raise DataError("no row is left after validation; look at the quarantine's reasons")
    first, last = frame[event_time].min(), frame[event_time].max()
    return {
        "first_event": str(first),
        "last_event": str(last),
        "rows_over_time": dg.MetadataValue.md(inline_png(_rows_over_time(frame[event_time]))),
        "preview": dg.MetadataValue.md(markdown_table(frame.head(5))),
    }


def _quarantine_facts(validated: Validated) -> dict[str, Any]:
    return {
        "bad_share": validated.bad_share,
        "reasons": dg.MetadataValue.json(dict(validated.failures)),
        "preview": dg.MetadataValue.md(markdown_table(validated.quarantined.head(5)) or "nothing is quarantined"),
    }


def _rows_over_time(times: pl.Series) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 2))
    axes = figure.add_subplot()
    axes.hist(times.to_list(), bins=60, color="#4f46e5")
    axes.set_ylabel("rows")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def markdown_table(frame: pl.DataFrame) -> str:
    """Return the rows as a Markdown table, empty for no rows."""
    if not frame.height:
        return ""
    lines = ["| " + " | ".join(frame.columns) + " |", "|" + " --- |" * frame.width]
    lines += ["| " + " | ".join(str(value).replace("|", "\\|") for value in row) + " |" for row in frame.iter_rows()]
    return "\n".join(lines)

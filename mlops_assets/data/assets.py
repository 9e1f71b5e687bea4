"""The first assets of a product: ``raw`` as observed, ``dataset`` as validated, ``quarantine`` as set aside.

Belongs here too: ``consumed``, by which every later asset finds the digest of what it reads.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from mlops_assets.data.contract import DataContract, Validated, validate
from mlops_assets.data.parsing import FORMATS
from mlops_assets.data.plot import inline_png
from mlops_assets.data.snapshot import Snapshot, SnapshotStore
from mlops_assets.data.source import DatasetSource
from mlops_assets.errors import DataError, SnapshotMissing, SourceChanged

SOURCE_VERSION_TAG = "mlops/source_version"
ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """What a run reads of an upstream asset: the digest it had, its metadata as plain values, the run that made it."""

    digest: str
    metadata: Mapping[str, Any]
    run_id: str


def consumed(context: Any, key: dg.AssetKey) -> Consumed:
    """Return the materialization of ``key`` by this run, else by the run it re-executes, else the latest.

    ``context`` has an ``instance`` and, in a run, ``run``; a sensor's has none. ``SnapshotMissing`` when ``key`` was
    never materialized, or without a digest.
    """
    entry = _made_in(context.instance, getattr(context, "run", None), key)
    entry = entry or context.instance.get_latest_materialization_event(key)
    made = entry.asset_materialization if entry else None
    if entry is None or made is None:
        raise SnapshotMissing(f"asset {key.to_user_string()} was never materialized; materialize it first")
    metadata: dict[str, Any] = {name: value.value for name, value in made.metadata.items()}
    if "digest" not in metadata:
        raise SnapshotMissing(f"the materialization of {key.to_user_string()} carries no digest; materialize it again")
    return Consumed(digest=metadata["digest"], metadata=metadata, run_id=entry.run_id)


def _made_in(instance: dg.DagsterInstance, run: dg.DagsterRun | None, key: dg.AssetKey) -> dg.EventLogEntry | None:
    """Return the last materialization of ``key`` in ``run`` or the nearest of its parents."""
    while run is not None:
        kind, cursor = dg.DagsterEventType.ASSET_MATERIALIZATION, None
        while True:
            page = instance.get_records_for_run(run.run_id, cursor=cursor, of_type=kind, limit=200, ascending=False)
            for record in page.records:
                made = record.event_log_entry.asset_materialization
                if made is not None and made.asset_key == key:
                    return record.event_log_entry
            if not page.has_more:
                break
            cursor = page.cursor
        run = instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
    return None


def build_raw(product: str, source: DatasetSource, *, owners: Sequence[str] = ()) -> dg.SourceAsset:
    """Return the observable source asset ``[product, raw]``; its data version is the source's."""

    def raw() -> dg.DataVersion:
        return dg.DataVersion(source.version())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # the Dagster that is pinned has it, and tests would tell
        return dg.observable_source_asset(
            key=[product, "raw"],
            group_name=product,
            description=f"What is at {source.name} now, by version.",
            tags={"stage": "data"} | {f"dagster/kind/{kind}": "" for kind in kinds_of(source)},
            metadata={"source": source.name, "owners": ", ".join(owners)},
        )(raw)


def kinds_of(source: DatasetSource) -> set[str]:
    """Return the kinds that the UI shows for ``source``, by its address.

    >>> class Bucket:
    ...     name = "s3://shop/ratings.csv"
    >>> sorted(kinds_of(Bucket()))
    ['csv', 's3']
    """
    place = "s3" if source.name.startswith("s3://") else "file"
    suffix = PurePosixPath(source.name).suffix
    return {place, suffix[1:]} if suffix in FORMATS else {place}


def build_dataset(
    product: str,
    source: DatasetSource,
    contract: DataContract,
    *,
    event_time: str,
    derived: Sequence[pl.Expr] = (),
    owners: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """Return the assets ``[product, dataset]`` and ``[product, quarantine]``, snapshots both.

    Reads the version that the run's tag ``mlops/source_version`` names. If the source has moved on since, reads the
    newest one and says so in the metadata: an old version of files is gone, and a run that only fails would be of no
    use, while its record says exactly what it read. A source that keeps changing while it is read is tried
    ``ATTEMPTS`` times, then ``SourceChanged``. ``event_time`` is the column whose range and density are shown.
    ``derived`` columns are added to the good rows; their expressions look at one row each.
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
    def dataset(
        context: dg.AssetExecutionContext, snapshots: dg.ResourceParam[SnapshotStore]
    ) -> Iterator[dg.MaterializeResult[Any]]:
        wanted = context.run.tags.get(SOURCE_VERSION_TAG)
        version, frame = read_settled(source, wanted, context.log.warning)
        context.log_event(
            dg.AssetObservation(
                asset_key=[product, "raw"], metadata={"version": version}, tags={"dagster/data_version": version}
            )
        )
        # Dagster looked up the inputs' versions when the step began; without this the dataset would seem out of date.
        context.get_step_execution_context().wipe_input_asset_version_info(dg.AssetKey([product, "raw"]))
        validated = validate(frame, contract, product=product)
        if not validated.good.height:
            raise DataError(f"{product}: no row of {source.name} is left after validation: {dict(validated.failures)}")
        good = validated.good.with_columns(derived)
        kept, aside = snapshots.write(good), snapshots.write(validated.quarantined)
        note = {} if wanted in (None, version) else {"moved_on_from": dg.MetadataValue.text(str(wanted))}
        facts = {**_facts(good, event_time), "quarantine_share": validated.bad_share, **note}
        yield _result([product, "dataset"], kept, {"raw": version}, facts)
        yield _result([product, "quarantine"], aside, {"raw": version}, _quarantine_facts(validated))

    return dataset


def read_settled(
    source: DatasetSource, wanted: str | None = None, warn: Callable[[str], Any] = lambda _: None
) -> tuple[str, pl.DataFrame]:
    """Return the version that was read, and its rows: ``wanted`` if it is still there, else the newest.

    ``SourceChanged`` if the source changed during each of ``ATTEMPTS`` reads.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            version = wanted or source.version()
            return version, source.read(version)
        except SourceChanged as error:
            if not left:
                raise
            warn(f"{error}; taking the newest version")
            wanted = None
    raise AssertionError("unreachable: the last attempt returns or raises")


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
            "rows": snapshot.rows,
            "dagster/row_count": snapshot.rows,
            "size_bytes": snapshot.size_bytes,
            "dagster/column_schema": dg.MetadataValue.table_schema(dg.TableSchema(columns=columns)),
            **facts,
        },
    )


def _facts(frame: pl.DataFrame, event_time: str) -> dict[str, Any]:
    times = frame[event_time]
    return {
        "first_event": str(times.min()),
        "last_event": str(times.max()),
        "rows_over_time": dg.MetadataValue.md(inline_png(_rows_over_time(times))),
        "preview": dg.MetadataValue.md(markdown_table(frame.head(5))),
    }


def _quarantine_facts(validated: Validated) -> dict[str, Any]:
    return {
        "quarantine_share": validated.bad_share,
        "reasons": dg.MetadataValue.json(dict(validated.failures)),
        "preview": dg.MetadataValue.md(markdown_table(validated.quarantined.head(5)) or "nothing is quarantined"),
    }


def _rows_over_time(times: pl.Series) -> Any:
    """Return a histogram; counted in whole numbers first, because drawing each of millions of dates takes minutes."""
    from matplotlib.figure import Figure

    moments = times.drop_nulls()
    counts, edges = np.histogram(moments.to_physical().to_numpy(), bins=60)
    places = pl.Series(edges.astype("int64")).cast(moments.dtype) if moments.dtype.is_temporal() else pl.Series(edges)
    figure = Figure(figsize=(6, 2))
    axes = figure.add_subplot()
    axes.stairs(counts, places.to_numpy(), fill=True, color="#4f46e5")
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

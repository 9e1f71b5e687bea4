"""Feature views as assets: computed from a product's dataset, kept as snapshots, named by digest.

Belongs here: reading the dataset that was consumed and what was made before, calling what computes, writing and
describing the table. The record of a table's parts is Dagster's: the last materialization of each partition.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field

from mlops_assets.data.assets import Consumed, consumed
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.features.definition import describe_feature, facts_of, feature_table_in_words, introduction_of
from mlops_assets.features.engine import FeatureEngine
from mlops_assets.features.freshness import Freshness
from mlops_assets.features.incremental import compute_slices, inputs_by_slice, slices_of
from mlops_assets.features.materialization import FORMATS, WHOLE, Materialization, Slice, TimePartitions
from mlops_assets.features.materialized import (
    Part,
    find_current,
    parts_of_table,
    parts_table,
    read_whole,
    refuse_changed_types,
)
from mlops_assets.features.meaning import value_of
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.table_statistics import distributions, statistics
from mlops_assets.features.view import FeatureView
from mlops_assets.ledger.canonical import Digest, digest_of

_CRON = {"day": "0 0 * * *", "month": "0 0 1 * *", "year": "0 0 1 1 *"}
_DESCRIBED = ("dagster/column_schema", "statistics", "distributions")
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,63}")


class FeatureConfig(dg.Config):
    """How a run treats what was made before."""

    recompute: bool = Field(default=False, description="Compute again even what is what it should be.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """The table of a view as a run reads it; equal tables have equal digests, however they are kept."""

    digest: Digest
    frame: pl.DataFrame


def dagster_partitions(partitions: TimePartitions) -> dg.TimeWindowPartitionsDefinition:
    """Return Dagster's word for the partitions; the one that holds the present is among them."""
    return dg.TimeWindowPartitionsDefinition(
        start=datetime(partitions.start.year, partitions.start.month, partitions.start.day, tzinfo=UTC),
        fmt=FORMATS[partitions.every],
        cron_schedule=_CRON[partitions.every],
        timezone="UTC",
        end_offset=1,
    )


def build_feature_asset(
    view: FeatureView,
    engine: FeatureEngine | None = None,
    *,
    materialization: Materialization | None = None,
    used_by: Sequence[str] = (),
) -> dg.AssetsDefinition:
    """Return the asset ``features/<view.name>``, computed from ``<view.source>/dataset`` by ``engine`` (Polars).

    It writes a snapshot of one row per (entity, event_time) of the dataset, sorted, with the features that the entity
    had at that moment. With partitions, it writes one for each that the run names; a run that names none brings all of
    them up to date. What was computed before from the same definition and events is reused.

    Needs the resource ``snapshots``. Raises ``FeatureError`` when the dataset does not fit, or the type of a column of
    a partitioned table changed.
    """
    dataset, key = dg.AssetKey([view.source, "dataset"]), dg.AssetKey(["features", view.name])
    kept = materialization or Materialization()

    @dg.asset(
        key=key,
        deps=[dataset],
        group_name="features",
        kinds={"polars", "parquet"},
        tags={"stage": "features"} | {f"features/{tag}": "" for tag in view.tags if _TAG.fullmatch(tag)},
        owners=[view.owner] if view.owner else None,
        description=_description(view),
        metadata=_declared(view, used_by),
        code_version=view.digest,
        partitions_def=dagster_partitions(kept.partitions) if kept.partitions else None,
        freshness_policy=dg.FreshnessPolicy.time_window(kept.fresh_within) if kept.fresh_within else None,
    )
    def feature_view(
        context: dg.AssetExecutionContext, config: FeatureConfig, snapshots: dg.ResourceParam[SnapshotStore]
    ) -> dg.MaterializeResult[Any]:
        making = _Making(
            context=context,
            view=view,
            engine=engine or PolarsEngine(),
            snapshots=snapshots,
            read=consumed(context, dataset),
            recompute=config.recompute,
        )
        partitions = kept.partitions
        if partitions is None:
            return making.one(WHOLE)
        if context.has_partition_key:
            return making.one(partitions.slice_of(context.partition_key))
        if context.has_partition_key_range:
            return making.some([partitions.slice_of(key) for key in context.partition_keys])
        return making.all(partitions)

    return feature_view


def known_parts(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, Part]:
    """Return each partition of a feature table as it was materialized last; a table kept whole has the one key ``""``.

    Partitions that were written before parts were recorded are not among them.
    """
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    last = instance.event_log_storage.get_latest_storage_id_by_partition(key, kind)
    found = {}
    if last:
        wanted = dg.AssetRecordsFilter(asset_key=key, storage_ids=list(last.values()))
        for record in instance.fetch_materializations(wanted, limit=len(last)).records:
            found[record.partition_key or ""] = _part_of(record.partition_key or "", record.asset_materialization)
    newest = instance.get_latest_materialization_event(key)
    if newest is not None and newest.asset_materialization and newest.asset_materialization.partition is None:
        found[""] = _part_of("", newest.asset_materialization)
    return {name: part for name, part in sorted(found.items()) if part is not None}


def read_features(
    context: Any,
    view: FeatureView,
    partitions: TimePartitions | None,
    snapshots: SnapshotStore,
    events: pl.DataFrame | None = None,
) -> FeatureTable:
    """Return the table of a view as this run made it, else as it was materialized last.

    With ``events``, a partitioned table must have been computed from them. Raises ``SnapshotMissing`` when there is no
    table, and ``FeatureError`` naming the partitions that are missing or out of date.
    """
    key = dg.AssetKey(["features", view.name])
    found = consumed(context, key)
    if partitions is None:
        return FeatureTable(digest=found.digest, frame=snapshots.read(found.digest))
    parts = _parts_consumed(context, key, found, snapshots)
    if events is None:
        ends = [partitions.slice_of(name).start or 0 for name in parts]
        slices, wanted = partitions.slices(max(ends)) if ends else [], None
    else:
        slices = slices_of(view, partitions, events)
        wanted = inputs_by_slice(view, events, slices)
    frame = read_whole(view, parts, slices, snapshots, wanted)
    return FeatureTable(digest=snapshots.write(frame).digest, frame=frame)


def _parts_consumed(context: Any, key: dg.AssetKey, found: Consumed, snapshots: SnapshotStore) -> Mapping[str, Part]:
    """Return the parts as the run that brought all up to date left them, else the last of each."""
    if found.metadata.get("parts"):
        return parts_of_table(snapshots.read(found.digest))
    return {name: part for name, part in known_parts(context.instance, key).items() if name}


def _part_of(key: str, made: dg.AssetMaterialization | None) -> Part | None:
    found: dict[str, Any] = {name: value.value for name, value in made.metadata.items()} if made else {}
    if not {"digest", "computed_from", "schema"} <= set(found):
        return None
    return Part(
        key=key,
        inputs=found["computed_from"],
        digest=found["digest"],
        rows=found["dagster/row_count"],
        newest_event=found.get("newest_instant"),
        schema=found["schema"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Making:
    """One run's materialization of a view from the events it consumed."""

    context: dg.AssetExecutionContext
    view: FeatureView
    engine: FeatureEngine
    snapshots: SnapshotStore
    read: Consumed
    recompute: bool

    @property
    def key(self) -> dg.AssetKey:
        return dg.AssetKey(["features", self.view.name])

    def one(self, wanted: Slice) -> dg.MaterializeResult[Any]:
        """Make one slice and return what to say of it."""
        ((part, is_reused),) = self._made(self._events(), [wanted])
        metadata = {**self._facts(part, is_reused=is_reused), **self._described(part)}
        return dg.MaterializeResult(data_version=dg.DataVersion(part.digest), metadata=metadata)

    def some(self, wanted: Sequence[Slice]) -> dg.MaterializeResult[Any]:
        """Make the slices of a run over a range; Dagster gives all of them one data version."""
        digests = {}
        for part, is_reused in self._made(self._events(), wanted):
            metadata = self._facts(part, is_reused=is_reused)
            self.context.add_asset_metadata(metadata, asset_key=self.key, partition_key=part.key)
            digests[part.key] = part.digest
        return dg.MaterializeResult(data_version=dg.DataVersion(digest_of(digests)))

    def all(self, partitions: TimePartitions) -> dg.MaterializeResult[Any]:
        """Bring all partitions up to date, each recorded as soon as it is made, and return what to say of them."""
        events = self._events()
        parts, reused = {}, []
        for part, is_reused in self._made(events, slices_of(self.view, partitions, events)):
            parts[part.key] = part
            if is_reused:
                reused.append(part.key)
            else:
                self.context.log_event(self._materialization(part))
        written = self.snapshots.write(parts_table(parts.values()))
        newest = parts[max(parts)] if parts else None
        counts = {"parts": len(parts), "parts_reused": len(reused), "parts_computed": len(parts) - len(reused)}
        return dg.MaterializeResult(
            data_version=dg.DataVersion(written.digest),
            metadata={
                **(self._described(newest) if newest else {}),
                **self._common(
                    max((p.newest_event for p in parts.values() if p.newest_event is not None), default=None)
                ),
                **counts,
                "digest": written.digest,
                "dagster/row_count": sum(part.rows for part in parts.values()),
            },
        )

    def _events(self) -> pl.DataFrame:
        return self.snapshots.read(self.read.digest)

    def _made(self, events: pl.DataFrame, slices: Sequence[Slice]) -> Iterator[tuple[Part, bool]]:
        """Yield each slice as it is now, and whether it was so before; what is new is stored."""
        wanted = inputs_by_slice(self.view, events, slices)
        known = known_parts(self.context.instance, self.key)
        current = {} if self.recompute else find_current(known, wanted, self.snapshots)
        yield from ((part, True) for part in current.values())
        stale = [part for part in slices if part.key not in current]
        for part, table in compute_slices(self.view, events, stale, self.engine):
            refuse_changed_types(self.view, table, [other for key, other in known.items() if key and part.key])
            written = self.snapshots.write(table)
            newest = table[self.view.event_time].dt.epoch("us").max()
            yield (
                Part(
                    key=part.key,
                    inputs=wanted[part.key],
                    digest=written.digest,
                    rows=written.rows,
                    newest_event=newest if isinstance(newest, int) else None,
                    schema=written.schema,
                ),
                False,
            )

    def _materialization(self, part: Part) -> dg.AssetMaterialization:
        """Return the record of a partition in a run that names none, as Dagster writes it in one that does."""
        versions = {
            "dagster/data_version": part.digest,
            "dagster/data_version_is_user_provided": "true",
            "dagster/code_version": self.view.digest,
            f"dagster/input_data_version/{self.view.source}/dataset": self.read.digest,
        }
        facts = self._facts(part, is_reused=False)
        return dg.AssetMaterialization(self.key, partition=part.key, metadata=facts, tags=versions)

    def _facts(self, part: Part, *, is_reused: bool) -> dict[str, Any]:
        return {
            **self._common(part.newest_event),
            "digest": part.digest,
            "computed_from": part.inputs,
            "reused": is_reused,
            "schema": dg.MetadataValue.json(dict(part.schema)),
            "dagster/row_count": part.rows,
        }

    def _common(self, newest: int | None) -> dict[str, Any]:
        """Return what is read and how fresh what is made of it is."""
        common = {
            "inputs": dg.MetadataValue.json({f"{self.view.source}/dataset": self.read.digest}),
            "definition": self.view.digest,
        }
        if newest is None:
            return common
        moment = value_of(newest, "time")
        fresh = Freshness(newest_event=moment, newest_in_dataset=moment, now=datetime.now(UTC))
        assert fresh.age is not None
        return {
            **common,
            "newest_instant": newest,
            "newest_event": dg.MetadataValue.timestamp(moment),
            "freshness_seconds": fresh.age.total_seconds(),
        }

    def _described(self, part: Part) -> dict[str, Any]:
        """Return the schema, figures and a picture of a part, those of the last materialization if it is the same."""
        last = self.context.instance.get_latest_materialization_event(self.key)
        before = last.asset_materialization.metadata if last and last.asset_materialization else {}
        described = {"described": part.key or "all", "described_digest": part.digest}
        if all(name in before and before[name].value == value for name, value in described.items()):
            return {name: before[name] for name in (*described, *_DESCRIBED) if name in before}
        table = self.snapshots.read(part.digest)
        return {
            **described,
            "dagster/column_schema": _table_schema(self.view, table),
            "statistics": dg.MetadataValue.md(statistics(self.view, table)),
            "distributions": dg.MetadataValue.md(distributions(self.view, table)),
        }


def _description(view: FeatureView) -> str:
    facts = [f"- {name}: {value}" for name, value in facts_of(view).items()]
    return "\n".join([introduction_of(view), "", *facts, "", *feature_table_in_words(view)])


def _declared(view: FeatureView, used_by: Sequence[str]) -> dict[str, Any]:
    """Return the metadata of the definition, there before anything is materialized."""
    return {"used_by": ", ".join(used_by) or "nobody", "tags": ", ".join(view.tags), "features": len(view.features)}


def _table_schema(view: FeatureView, table: pl.DataFrame) -> dg.TableSchema:
    descriptions = {view.entity: "the entity", view.event_time: "when the features are as they are"}
    descriptions |= {feature.name: describe_feature(feature) for feature in view.features}
    columns = [
        dg.TableColumn(name=name, type=str(dtype), description=descriptions[name])
        for name, dtype in table.schema.items()
    ]
    return dg.TableSchema(columns=columns)

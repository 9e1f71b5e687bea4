"""What is materialized of a view's table: its parts by digest, which of them are out of date, and the whole of them.

The rules of a table's schema: a view that gained or lost a feature has another definition, so all parts are out of date
and are computed again; a column whose type changed is refused, because readers rely on it: such a view needs a new
name.

Belongs here: pure functions over parts. Not here: where the record of them is kept (``assets.py``).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import FeatureError, SnapshotCorrupt, SnapshotMissing
from mlops_assets.features.materialization import Slice, spoken_keys
from mlops_assets.features.view import FeatureView
from mlops_assets.ledger.canonical import Digest

PARTS_SCHEMA = {
    "partition": pl.String,
    "inputs": pl.String,
    "digest": pl.String,
    "rows": pl.Int64,
    "newest_event": pl.Int64,
    "schema": pl.String,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One slice of a table as it was materialized.

    ``inputs`` names what it was computed from, ``digest`` the snapshot that holds it, ``newest_event`` (an instant) the
    newest time in it.
    """

    key: str
    inputs: Digest
    digest: Digest
    rows: int
    newest_event: int | None
    schema: Mapping[str, str]


def find_current(known: Mapping[str, Part], wanted: Mapping[str, Digest], snapshots: SnapshotStore) -> dict[str, Part]:
    """Return the parts that need not be computed again: same inputs, and their snapshots are intact."""
    same = {key: known[key] for key, inputs in wanted.items() if key in known and known[key].inputs == inputs}
    return {key: part for key, part in same.items() if _is_intact(part.digest, snapshots)}


def refuse_changed_types(view: FeatureView, table: pl.DataFrame, known: Iterable[Part]) -> None:
    """Raise ``FeatureError`` if a column of ``table`` has another type than in a part."""
    for part in known:
        for column, dtype in table.schema.items():
            before = part.schema.get(column, str(dtype))
            if before != str(dtype):
                raise FeatureError(
                    f"feature view {view.name!r}: column {column!r} was {before} in partition {part.key} and would be "
                    f"{dtype} now; declare the view under a new name, or cast the column in the dataset"
                )


def read_whole(
    view: FeatureView,
    parts: Mapping[str, Part],
    slices: Sequence[Slice],
    snapshots: SnapshotStore,
    wanted: Mapping[str, Digest] | None = None,
) -> pl.DataFrame:
    """Return the parts as one table, sorted by entity and time: what a table that is kept whole would be.

    Raises ``FeatureError`` when a part of ``slices`` is missing, or, with ``wanted`` inputs, was computed from others;
    or when parts are of different types.
    """
    keys = [part.key for part in slices]
    missing = [key for key in keys if key not in parts]
    _refuse(view, missing, "has no partition")
    _refuse(view, [key for key in keys if wanted and parts[key].inputs != wanted[key]], "was computed from other data")
    tables = []
    for key in keys:
        table = snapshots.read(parts[key].digest)
        refuse_changed_types(view, table, [parts[other] for other in keys[:1]])
        tables.append(table.select(view.entity, view.event_time, *view.feature_names))
    if not tables:
        raise FeatureError(f"feature view {view.name!r} has no partition yet; materialize features/{view.name}")
    return pl.concat(tables).sort(view.entity, view.event_time)


def parts_table(parts: Iterable[Part]) -> pl.DataFrame:
    """Return the parts as a table, which names them all by one digest when it is stored."""
    rows = [
        (part.key, part.inputs, part.digest, part.rows, part.newest_event, json.dumps(dict(part.schema)))
        for part in sorted(parts, key=lambda part: part.key)
    ]
    return pl.DataFrame(rows, schema=PARTS_SCHEMA, orient="row")


def parts_of_table(table: pl.DataFrame) -> dict[str, Part]:
    """Return what ``parts_table`` was made of."""
    return {
        row["partition"]: Part(
            key=row["partition"],
            inputs=row["inputs"],
            digest=row["digest"],
            rows=row["rows"],
            newest_event=row["newest_event"],
            schema=json.loads(row["schema"]),
        )
        for row in table.iter_rows(named=True)
    }


def _refuse(view: FeatureView, keys: Sequence[str], fault: str) -> None:
    if keys:
        raise FeatureError(
            f"feature view {view.name!r} {fault}: {spoken_keys(keys)}; backfill with `dagster job backfill "
            f"-j {view.source}_materialize --partitions {','.join(keys[:5])}`, or materialize features/{view.name}"
        )


def _is_intact(digest: Digest, snapshots: SnapshotStore) -> bool:
    try:
        snapshots.read(digest)
    except (SnapshotMissing, SnapshotCorrupt):
        return False
    return True

"""The predictions of a product, answered again in batch: whether what was served is what a model is trained on.

Belongs here: reading requests, events and what the server knew out of the prediction log. The meaning of a replay is
``features/replay.py``, the comparison ``features/parity.py``.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import SnapshotMissing
from mlops_assets.features.engine import FeatureEngine
from mlops_assets.features.parity import ParityReport, compare, merged
from mlops_assets.features.replay import replay
from mlops_assets.features.request import derived_features, row_expressions
from mlops_assets.features.view import FeatureView
from mlops_assets.serving.served import ServedProduct

MOST_REPLAYED = 10_000


def replay_predictions(
    view: FeatureView,
    served: ServedProduct,
    log: pl.DataFrame,
    snapshots: SnapshotStore,
    engine: FeatureEngine,
    *,
    most: int = MOST_REPLAYED,
) -> ParityReport:
    """Return how the newest ``most`` predictions of ``log`` that can be replayed compare with batch.

    Left out, and counted by reason, are those of other definitions, those of which it is not known what the server
    knew, and those whose snapshot is gone.
    """
    told = told_events(served, log)
    skipped: dict[str, int] = {}
    rows = log
    for reason, can_be_replayed in (
        ("answered by other definitions", (pl.col("definitions") == served.definitions).fill_null(False)),
        ("the log does not show what the server had been told", pl.col("told").is_not_null()),
        ("answered without a snapshot", pl.col("snapshot").is_not_null()),
    ):
        left = rows.filter(can_be_replayed)
        skipped |= {reason: rows.height - left.height} if left.height < rows.height else {}
        rows = left
    reports = list(_reports(view, served, rows.tail(most), told, snapshots, engine))
    return merged([ParityReport(view=view.name, replayed=0, features=(), skipped=skipped), *reports], view)


def told_events(served: ServedProduct, log: pl.DataFrame) -> pl.DataFrame:
    """Return the events that outcomes made of predictions, in the order in which the server was told."""
    known = log.filter(pl.col("outcome").is_not_null()).sort("outcome_order")
    inputs = pl.DataFrame([_input(served, known, name) for name in served.inputs])
    events = inputs.with_columns(known["outcome"].cast(served.schema[served.outcome]).alias(served.outcome))
    return events.with_columns(row_expressions(derived_features(served.derived)))


def _reports(
    view: FeatureView,
    served: ServedProduct,
    rows: pl.DataFrame,
    told: pl.DataFrame,
    snapshots: SnapshotStore,
    engine: FeatureEngine,
) -> Iterator[ParityReport]:
    for (digest,), part in rows.group_by("snapshot", maintain_order=True):
        try:
            base = snapshots.read(str(digest))
        except SnapshotMissing:
            skipped = {"its snapshot is gone": part.height}
            yield ParityReport(view=view.name, replayed=0, features=(), skipped=skipped)
            continue
        asked = pl.DataFrame(
            [
                _input(served, part, view.entity).alias("entity"),
                _input(served, part, served.event_time).alias("at"),
                part["told"],
            ]
        )
        batch = replay(view, engine, base=base, told=told, asked=asked, event_key=served.event_key)
        yield compare(view, part["id"].to_list(), part["features"].struct.unnest(), batch)


def _input(served: ServedProduct, log: pl.DataFrame, name: str) -> pl.Series:
    """Return an input of logged predictions in its column's type; null where it was not logged."""
    dtype = served.schema[name]
    fields = log["inputs"].struct.unnest() if log.height else pl.DataFrame()
    values = fields[name].to_list() if name in fields.columns else [None] * log.height
    if isinstance(dtype, pl.Datetime):
        moments = [_moment(value) for value in values]
        return pl.Series(name, moments, pl.Datetime("us", "UTC")).cast(pl.Datetime(dtype.time_unit, dtype.time_zone))
    return pl.Series(name, values, dtype)


def _moment(value: Any) -> datetime | None:
    """Return a logged time; one without a zone is UTC."""
    if value is None:
        return None
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

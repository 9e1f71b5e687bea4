"""The check ``freshness`` of a feature view: its newest event against now, and against its dataset's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from mlops_assets.data.assets import consumed
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.features.assets import known_parts
from mlops_assets.features.freshness import Freshness
from mlops_assets.features.incremental import instants
from mlops_assets.features.meaning import value_of
from mlops_assets.features.view import FeatureView


def build_freshness_check(view: FeatureView, *, within: timedelta | None = None) -> dg.AssetChecksDefinition:
    """Return the check ``freshness`` on ``features/<view.name>``: a warning when the table lags behind its dataset.

    It warns too when the newest event is older than ``within``. Needs the resource ``snapshots``.
    """
    dataset, key = dg.AssetKey([view.source, "dataset"]), dg.AssetKey(["features", view.name])

    @dg.asset_check(asset=key, name="freshness", description="No event of the dataset is newer than the table.")
    def freshness(
        context: dg.AssetCheckExecutionContext, snapshots: dg.ResourceParam[SnapshotStore]
    ) -> dg.AssetCheckResult:
        newest = [part.newest_event for part in known_parts(context.instance, key).values()]
        events = snapshots.read(consumed(context.op_execution_context, dataset).digest)
        found = Freshness(
            newest_event=_moment(max((moment for moment in newest if moment is not None), default=None)),
            newest_in_dataset=_moment(instants(view, events).max()),
            now=datetime.now(UTC),
        )
        fault = found.fault(within)
        return dg.AssetCheckResult(
            passed=fault is None,
            severity=dg.AssetCheckSeverity.WARN,
            description=fault or "the table has its dataset's newest event",
            metadata=_metadata(found),
        )

    return freshness


def _moment(found: Any) -> datetime | None:
    return None if found is None else value_of(found, "time")


def _metadata(found: Freshness) -> dict[str, Any]:
    seconds = {"freshness_seconds": found.age, "lag_seconds": found.lag}
    facts: dict[str, Any] = {name: lag.total_seconds() for name, lag in seconds.items() if lag is not None}
    if found.newest_event is not None:
        facts["newest_event"] = dg.MetadataValue.timestamp(found.newest_event)
    return facts

"""How old the newest event of a table is, and whether the dataset has newer ones."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from small_views import HABITS, dataset, deliver, materialize, orders

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.features.assets import build_feature_asset
from mlops_assets.features.checks import build_freshness_check
from mlops_assets.features.freshness import Freshness
from mlops_assets.features.materialization import Materialization

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def fresh(newest, in_dataset, now=NOON):
    return Freshness(newest_event=newest, newest_in_dataset=in_dataset, now=now)


@pytest.mark.parametrize(
    ("freshness", "age", "lag", "fault"),
    [
        (fresh(NOON - HOUR, NOON - HOUR), HOUR, timedelta(0), None),
        (fresh(NOON - HOUR, NOON), HOUR, HOUR, "the dataset has events 1:00:00 newer than the newest in the table"),
        (fresh(NOON - 2 * HOUR, NOON - 2 * HOUR), 2 * HOUR, timedelta(0), None),
        (fresh(NOON - 3 * HOUR, NOON - 3 * HOUR), 3 * HOUR, timedelta(0), "the newest event is 3:00:00 old, more than"),
        (fresh(NOON + HOUR, NOON + HOUR), timedelta(0), timedelta(0), None),
        (fresh(None, NOON), None, None, "the table is empty, the dataset is not"),
        (fresh(None, None), None, timedelta(0), None),
    ],
)
def test_a_table_is_fresh_if_it_has_all_events_and_the_newest_is_young_enough(freshness, age, lag, fault):
    assert (freshness.age, freshness.lag) == (age, lag)
    found = freshness.fault(2 * HOUR)
    assert found is None if fault is None else found.startswith(fault)


@pytest.mark.parametrize("kept", [Materialization(), None], ids=["whole", "by month"])
def test_the_check_warns_when_the_dataset_moved_on(tmp_path, kept):
    options = {"kept": kept} if kept else {}
    with dg.DagsterInstance.ephemeral() as instance:
        materialize(tmp_path, instance, orders(1), **options)
        assert check(tmp_path, instance)[0]
        deliver(tmp_path, instance, orders(2))
        passed, metadata, evaluation = check(tmp_path, instance)
        assert not passed
        assert evaluation.severity is dg.AssetCheckSeverity.WARN
        assert metadata["lag_seconds"] == timedelta(days=30).total_seconds()
        assert metadata["newest_event"] == (orders(1)["time"].max()).timestamp()
        materialize(tmp_path, instance, **options)
        assert check(tmp_path, instance)[0]
        assert not check(tmp_path, instance, within=timedelta(days=1))[0]


def check(tmp_path, instance, within=None):
    """Return whether the check passed, its metadata and its evaluation."""
    defs = dg.Definitions(
        assets=[dataset, build_feature_asset(HABITS), build_freshness_check(HABITS, within=within)],
        jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.checks_for_assets(["features", "habits"]))],
        resources={"snapshots": LocalSnapshots(tmp_path / "snapshots")},
    )
    result = defs.resolve_job_def("check").execute_in_process(instance=instance)
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation.passed, {name: value.value for name, value in evaluation.metadata.items()}, evaluation


def test_a_table_that_must_be_fresh_has_dagsters_policy():
    (spec,) = build_feature_asset(HABITS, materialization=Materialization(fresh_within=HOUR)).specs
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(fail_window=HOUR)
    (spec,) = build_feature_asset(HABITS).specs
    assert spec.freshness_policy is None

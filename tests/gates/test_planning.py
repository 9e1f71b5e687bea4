"""What is said of the golden set before anything is trained."""

from dataclasses import replace

import dagster as dg
import polars as pl
import pytest

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.gates.checks import build_power_check
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.gate import Known
from mlops_assets.gates.golden_budget import GoldenBudget
from mlops_assets.gates.non_inferior import NonInferior
from mlops_assets.gates.planning import plan
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger

GATES = (Superior(metric="brier", minimum_effect=0.01), NonInferior(metric="auc", margin=0.02))
ONE_USE = ErrorControl(golden=GoldenBudget(uses=1))


def crowned(judged, with_report, *, reports=1):
    """Entries of a live champion that was compared with an earlier one."""
    first = judged(replace(with_report(error=0.005), champion="sha256:00", candidate="sha256:bb"))
    rollout = {"percent": 100, "step": 0, "phase": "COMPLETED"}
    body = {"release": "r", "candidate": "sha256:bb", "version": "1", "features": None, "judged": 1, "rollout": rollout}
    released = replace(first, sequence=2, kind=Kind.RELEASED, body=body)
    return [first, released]


def test_before_a_champion_there_is_nothing_to_plan():
    assert plan(GATES, [], golden="sha256:cc", clusters=10, errors=ONE_USE) == []


def test_a_gate_needs_what_the_last_comparison_says_and_that_is_what_it_asks_for_later(judged, with_report):
    entries = crowned(judged, with_report)
    superior, non_inferior = plan(GATES, entries, golden="sha256:cc", clusters=90, errors=ONE_USE)
    assert (superior.needed, non_inferior.needed) == (157, None)
    assert (superior.is_enough, non_inferior.is_enough) == (False, True)
    later = GATES[0].judge(with_report(gain=0.1, error=0.001), Known(entries=entries))
    assert later.evidence["needed"] == superior.needed
    assert later.evidence["pilot"] == superior.pilot == "ledger entry 1"


def test_with_every_use_less_is_left_and_more_is_needed_until_nothing_is(judged, with_report):
    control, entries = ErrorControl(golden=GoldenBudget(uses=3, rho=1)), crowned(judged, with_report)
    found = []
    for use in range(4):
        (planned, _) = plan(GATES, entries, golden="sha256:cc", clusters=400, errors=control)
        found.append((round(planned.level, 4), planned.is_enough))
        report = replace(with_report(error=0.005), candidate=f"sha256:{use}")
        entries.append(judged(report, sequence=10 + use))
    assert found == [(0.0167, True), (0.0167, True), (0.0167, True), (0.0, False)]


@pytest.mark.parametrize(("people", "passed"), [(400, True), (50, False)])
def test_the_check_speaks_in_the_run_before_the_candidate_is_trained(people, passed, tmp_path, judged, with_report):
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    for entry in crowned(judged, with_report):
        ledger.append("films", entry.kind, entry.body, actor="test")
    snapshots = LocalSnapshots(tmp_path / "snapshots")
    golden = snapshots.write(pl.DataFrame({"user": list(range(people)) * 2})).digest

    @dg.asset(key=["films", "training_set"])
    def training_set() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"digest": "sha256:ee", "golden": golden})

    definitions = dg.Definitions(
        assets=[training_set],
        asset_checks=[build_power_check("films", GATES[:1], cluster="user", errors=ONE_USE)],
        resources={"ledger": ledger, "snapshots": snapshots},
    )
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process()
    (check,) = result.get_asset_check_evaluations()
    assert result.success  # it warns, and stops nothing
    assert (check.passed, check.severity) == (passed, dg.AssetCheckSeverity.WARN)
    assert ("needs 157, has 50" in check.description) is not passed
    assert "| superior_brier | 0.01 |" in check.metadata["plan"].value

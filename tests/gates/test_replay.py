"""Judging again from the ledger alone, and the record of what the policy was."""

from dataclasses import replace
from datetime import timedelta

import dagster as dg
import numpy as np
import pytest

from mlops_assets.gates.at_least import AtMost
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.gate import Verdict
from mlops_assets.gates.golden_budget import GoldenBudget
from mlops_assets.gates.panel import judge_all
from mlops_assets.gates.record import record_judgement, record_policy
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.declared import declared_json
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.release.canary import Canary
from mlops_assets.release.jobs import build_replay_job
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.policy import Policy
from mlops_assets.release.replay import replay_judgements

POLICY = Policy(
    gates=(AtMost(metric="brier", ceiling=0.3), Superior(metric="brier", minimum_effect=0.01)),
    analysis=LiveAnalysis(),
    strategy=Canary(),
    errors=ErrorControl(golden=GoldenBudget(uses=3)),
)
STRICTER = replace(POLICY, gates=(AtMost(metric="brier", ceiling=0.1), POLICY.gates[1]))


@pytest.fixture
def ledger(tmp_path):
    return SqlLedger(f"sqlite:///{tmp_path}/ledger.db")


def judge(ledger, policy, report, run="run"):
    digest = record_policy(ledger, "films", policy.to_json())
    entries = ledger.entries("films")
    known = policy.errors.known(policy.gates, report, entries=entries, views={"taste": "sha256:v"})
    panel = judge_all(policy.gates, report, known)
    return record_judgement(ledger, "films", report, panel, run_id=run, known=known, policy=digest)


@pytest.fixture
def judged(ledger, with_report):
    """Five candidates on one golden set, the last two when its budget was spent and the policy stricter."""
    for number, gain in enumerate([0.02, -0.02, 0.001, 0.02]):
        policy = POLICY if number < 3 else STRICTER
        judge(ledger, policy, replace(with_report(gain=gain), candidate=f"sha256:{number}"), f"run-{number}")
    judge(ledger, STRICTER, replace(with_report(champion=None), candidate="sha256:9"), "run-9")
    return ledger


def test_every_judgement_comes_out_the_same_whatever_was_declared_and_judged_since(judged):
    found = replay_judgements(judged.entries("films"))
    assert [each.verdict for each in found] == ["PASSED", "FAILED", "FAILED", "FAILED", "FAILED"]
    assert not [each.differences for each in found if each.differences]
    uses = [entry.body["use"] for entry in judged.entries("films") if entry.kind is Kind.JUDGED]
    assert uses == [1, 2, 3, 4, 0]


def test_a_policy_is_recorded_when_it_changes_and_says_what_changed(judged):
    record_policy(judged, "films", STRICTER.to_json())
    first, second = [entry.body for entry in judged.entries("films") if entry.kind is Kind.POLICY_CHANGED]
    assert (first["previous"], first["changes"]) == (None, [])
    assert second["previous"] == first["digest"] == POLICY.digest
    assert second["changes"] == ["gates[AtMost brier].ceiling: 0.3 → 0.1"]


def tampered(entry, **changes):
    return replace(entry, body=entry.body | changes)


def test_a_verdict_that_was_changed_is_found(judged):
    entries = list(judged.entries("films"))
    place = next(n for n, entry in enumerate(entries) if entry.kind is Kind.JUDGED)
    entries[place] = tampered(entries[place], verdict=Verdict.FAILED.value)
    assert replay_judgements(entries)[0].differences == ("verdict was FAILED, is PASSED",)


def test_a_report_that_was_changed_is_found(judged):
    entries = list(judged.entries("films"))
    place = next(n for n, entry in enumerate(entries) if entry.kind is Kind.JUDGED)
    better = entries[place].body["evaluation"] | {"clusters": 4000}
    entries[place] = tampered(entries[place], evaluation=better)
    said = replay_judgements(entries)[0].differences
    assert any(line.startswith("report was") for line in said)
    assert any(line.startswith("superior_brier: evidence was") for line in said)


def test_a_judgement_without_its_policy_or_with_a_gate_that_is_gone_cannot_be_judged_again(judged):
    entries = list(judged.entries("films"))
    assert replay_judgements(entries[1:])[0].differences == ("no policy was recorded for it",)
    gates = [dict(gate) for gate in entries[0].body["policy"]["gates"]]
    gates[0]["type"] = "mlops_assets.gates.at_least:Gone"
    entries[0] = tampered(entries[0], policy=entries[0].body["policy"] | {"gates": gates})
    (said,) = replay_judgements(entries)[0].differences
    assert "cannot be judged again: AttributeError" in said


def run(ledger):
    job = build_replay_job("films")
    return job.execute_in_process(resources={"ledger": ledger}, raise_on_error=False)


def test_the_job_shows_each_judgement_and_fails_when_one_differs(judged, with_report):
    good = run(judged)
    assert good.success
    (seen,) = [
        e.event_specific_data.asset_observation for e in good.all_events if e.event_type_value == "ASSET_OBSERVATION"
    ]
    assert (seen.metadata["judgements"].value, seen.metadata["differing"].value) == (5, 0)
    panel = judge_all(POLICY.gates, with_report(gain=-0.02))
    record_judgement(judged, "films", with_report(gain=0.02), panel, run_id="forged", policy=POLICY.digest)
    bad = run(judged)
    assert not bad.success
    (failure,) = [event for event in bad.all_events if event.is_step_failure]
    assert "1 of 6 judgements came out another" in str(failure.step_failure_data.error)


def test_the_job_has_the_name_people_launch():
    assert isinstance(build_replay_job("films"), dg.JobDefinition)
    assert build_replay_job("films").name == "films_replay"


def test_a_step_of_a_rollout_is_judged_again_from_its_evidence(ledger):
    analysis = LiveAnalysis(give_up_after=timedelta(days=1))
    found = analysis.judge(np.full(80, -0.1), exposed=7, fresh=30)
    body = {"release": "r", "verdict": found.verdict.value, "reason": found.reason, "evidence": found.to_json()}
    body |= {"rollout": {"percent": 0, "step": 1, "phase": "ROLLED_BACK"}, "analysis": declared_json(analysis)}
    ledger.append("films", Kind.ROLLOUT_MOVED, body, actor="test")
    (same,) = replay_judgements(ledger.entries("films"))
    assert (same.verdict, same.differences) == ("FAILED", ())
    (entry,) = ledger.entries("films")
    forged = body["evidence"] | {"gains": [0.4] * 80}
    (other,) = replay_judgements([tampered(entry, evidence=forged)])
    assert "verdict was FAILED, is PASSED" in other.differences
    assert "evidence: values is another" in other.differences
    older = {name: value for name, value in body.items() if name != "analysis"}
    assert replay_judgements([replace(entry, body=older)])[0].differences == ("no analysis was recorded for it",)

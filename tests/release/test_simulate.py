"""The policy simulator: it keeps what it is given, and shows what gates and live analysis promise."""

from dataclasses import replace
from math import sqrt

import dagster as dg
import pytest

from mlops_assets.evaluation.slices import Slice
from mlops_assets.gates.at_least import AtMost
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.golden_budget import GoldenBudget
from mlops_assets.gates.non_inferior import NonInferior
from mlops_assets.gates.slices_hold import SlicesHold
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.release.canary import Canary
from mlops_assets.release.jobs import build_simulate_policy_job
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.policy import Policy
from mlops_assets.release.simulate import Scenario, World, simulate, usual_scenarios, world_of

TWENTY = tuple(Slice(name=f"s{n}", where=f"part = {n}") for n in range(20))
SLICED = SlicesHold(metric="brier", margin=0.02, slices=TWENTY, discovery=None)
POLICY = Policy(
    gates=(
        AtMost(metric="brier", ceiling=0.3),
        Superior(metric="brier", minimum_effect=0.01),
        NonInferior(metric="auc", margin=0.02),
    ),
    analysis=LiveAnalysis(margin=0.02, bound=0.25, outcomes_per_unit=10),
    strategy=Canary(),
    errors=ErrorControl(golden=GoldenBudget(uses=1)),
)
WORLD = World(clusters=400, spreads={"brier": 0.07, "auc": 0.1}, live_spread=0.05, units=300)
RUNS = 300


def limit(rate: float) -> float:
    return rate + 4 * sqrt(rate * (1 - rate) / RUNS)


def run(scenario, policy=POLICY, world=WORLD):
    return simulate(policy, world, scenario, releases=RUNS)


def test_a_candidate_no_better_is_promoted_at_most_at_rate_alpha():
    assert run(Scenario(name="equal")).promoted <= limit(0.05)


def test_a_candidate_that_has_the_declared_effect_is_promoted_with_the_declared_power():
    enough, one_gate = replace(WORLD, grows=True), replace(POLICY, gates=POLICY.gates[1:2])
    found = run(Scenario(name="better", gains={"brier": 0.01}, live_gain=0.02), one_gate, enough)
    assert found.promoted >= 0.8 - 4 * sqrt(0.16 / RUNS)
    assert found.passed_gates == pytest.approx(found.promoted + found.rolled_back + found.undecided)


def test_too_small_a_golden_set_promotes_nobody():
    assert run(Scenario(name="better", gains={"brier": 0.1}), world=replace(WORLD, clusters=60)).passed_gates < 0.2


def test_what_is_bad_live_only_is_rolled_back_after_few_requests():
    found = run(Scenario(name="sneaky", gains={"brier": 0.05, "auc": 0.05}, live_gain=-0.05))
    assert found.promoted <= limit(0.05) * 0.5
    assert found.rolled_back >= 0.9
    assert found.exposed_requests < found.units_to_decide * 10 * 0.3


def test_fifty_tries_on_one_golden_set_keep_the_promise():
    policy = replace(POLICY, errors=ErrorControl(golden=GoldenBudget(uses=50)))
    found = simulate(policy, WORLD, Scenario(name="equal", uses=50), releases=80)
    assert found.promoted <= 0.05 + 4 * sqrt(0.05 * 0.95 / 80)


def test_a_slice_that_loses_the_margin_gets_through_at_most_at_rate_alpha():
    world = replace(WORLD, clusters=4000)
    policy = replace(POLICY, gates=(SLICED,))
    broken = Scenario(name="broken", gains={"brier": 0.02}, live_gain=0.02, slice_gain=-0.02)
    assert run(broken, policy, world).passed_gates <= limit(0.05)


def test_the_same_seed_gives_the_same_and_usual_scenarios_fit_the_policy():
    scenario = Scenario(name="better", gains={"brier": 0.02}, live_gain=0.01)
    assert run(scenario) == run(scenario)
    sliced = replace(POLICY, gates=(*POLICY.gates, SLICED))
    assert len(usual_scenarios(sliced)) == len(usual_scenarios(POLICY)) + 1


def test_spreads_are_those_of_the_ledger_where_it_has_any(tmp_path):
    assert world_of([], POLICY).spreads == {"brier": 0.04, "auc": 0.08}
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    seen = {"clusters": 100, "comparisons": {"brier": {"standard_error": 0.003}, "other": {"standard_error": 9.0}}}
    ledger.append("p", Kind.JUDGED, {"evaluation": seen}, actor="t")
    ledger.append("p", Kind.ROLLOUT_MOVED, {"evidence": {"gains": [0.2, -0.2] * 9}}, actor="t")
    found = world_of(ledger.entries("p"), POLICY)
    assert (found.clusters, found.live_spread) == (100, pytest.approx(0.05))
    assert found.spreads == {"brier": pytest.approx(0.03), "auc": 0.08}


def test_the_job_shows_a_table_and_a_picture(tmp_path):
    ledger = SqlLedger(f"sqlite:///{tmp_path}/ledger.db")
    job = build_simulate_policy_job("p", POLICY)
    result = job.execute_in_process(
        resources={"ledger": ledger},
        run_config={"ops": {"p_try_policy": {"config": {"releases": 20, "clusters": 300}}}},
    )
    (event,) = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    seen = event.event_specific_data.asset_observation
    assert seen.asset_key == dg.AssetKey(["p", "release"])
    assert seen.metadata["golden_clusters"].value == 300
    assert seen.metadata["simulated"].value.count("\n| ") == 6
    assert "data:image/png" in seen.metadata["outcomes"].value

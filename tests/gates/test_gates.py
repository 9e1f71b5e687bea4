import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.at_least import AtLeast, AtMost
from mlops_assets.gates.equivalent import Equivalent
from mlops_assets.gates.gate import Verdict
from mlops_assets.gates.non_inferior import NonInferior
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.canonical import canonical_json

GATES = [
    AtLeast(metric="brier", floor=0.1),
    AtMost(metric="brier", ceiling=0.3),
    Superior(metric="brier", minimum_effect=0.01),
    Superior(metric="brier", minimum_effect=0.005),
    NonInferior(metric="brier", margin=0.01),
    Equivalent(metric="brier", margin=0.01),
]
COMPARING = [gate for gate in GATES if isinstance(gate, Superior | NonInferior | Equivalent)]
MONOTONE = [gate for gate in GATES if not isinstance(gate, Equivalent)]
EMPTY = {"product": "films", "candidate": "sha256:aa", "golden": "sha256:cc", "rows": 0, "clusters": 0}
RANK = {Verdict.FAILED: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASSED: 2}


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
@pytest.mark.parametrize("champion", [None, "sha256:bb"])
def test_a_gate_is_inconclusive_without_its_metric(gate, champion):
    assert gate.judge(EvaluationReport(**EMPTY, champion=champion)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_a_gate_that_is_declared_well_has_no_faults_and_a_name_fit_for_a_check(gate):
    assert not gate.faults()
    assert gate.name.isidentifier()
    assert gate.metrics == {"brier"}


@pytest.mark.parametrize("gate", COMPARING, ids=lambda gate: gate.name)
def test_a_comparing_gate_passes_when_there_is_no_champion(gate, with_report):
    judgement = gate.judge(with_report(champion=None))
    assert judgement.verdict is Verdict.PASSED
    assert "no champion" in judgement.reason


@pytest.mark.parametrize("gate", COMPARING, ids=lambda gate: gate.name)
def test_too_few_clusters_never_pass_however_good_they_look(gate, with_report):
    judgement = gate.judge(with_report(gain=0.5, clusters=4))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.evidence["needed"] == 5


@pytest.mark.parametrize("gate", MONOTONE, ids=lambda gate: gate.name)
@settings(max_examples=60)
@given(
    gain=st.floats(-0.05, 0.05),
    by=st.floats(0, 0.05),
    error=st.floats(1e-4, 0.02),
    clusters=st.integers(2, 400),
    value=st.floats(0, 0.5),
)
def test_a_better_result_never_gets_a_worse_verdict(gate, gain, by, error, clusters, value, with_report):
    step = -by if isinstance(gate, AtMost) else by
    verdicts = [
        gate.judge(
            with_report(
                gain=gain + shift,
                error=error,
                clusters=clusters,
                estimate=(value + move, value + move - 0.02, value + move + 0.02),
            )
        ).verdict
        for shift, move in ((0, 0), (by, step))
    ]
    assert RANK[verdicts[1]] >= RANK[verdicts[0]]


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
@settings(max_examples=30)
@given(gain=st.floats(-0.05, 0.05), error=st.floats(0, 0.02), clusters=st.integers(0, 400))
def test_a_judgement_is_always_given_with_evidence_that_is_json(gate, gain, error, clusters, with_report):
    judgement = gate.judge(with_report(gain=gain, error=error, p_value=0.2, clusters=clusters))
    canonical_json(dict(judgement.evidence))
    assert judgement.reason


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, "PASSED"), (0.0999, 0.2, "INCONCLUSIVE"), (0.05, 0.1, "INCONCLUSIVE"), (0.05, 0.0999, "FAILED")],
)
def test_at_least_asks_the_low_end_of_the_interval(low, high, verdict, with_report):
    report = with_report(estimate=((low + high) / 2, low, high))
    assert AtLeast(metric="brier", floor=0.1).judge(report).verdict == verdict


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.2, "PASSED"), (0.1, 0.2001, "INCONCLUSIVE"), (0.2, 0.3, "INCONCLUSIVE"), (0.2001, 0.3, "FAILED")],
)
def test_at_most_asks_the_high_end_of_the_interval(low, high, verdict, with_report):
    report = with_report(estimate=((low + high) / 2, low, high))
    assert AtMost(metric="brier", ceiling=0.2).judge(report).verdict == verdict


@pytest.mark.parametrize(("p_value", "verdict"), [(0.05, "PASSED"), (0.0501, "FAILED")])
def test_superior_passes_at_alpha_itself_and_not_above(p_value, verdict, with_report):
    report = with_report(gain=0.003, error=0.002, p_value=p_value)
    assert Superior(metric="brier", alpha=0.05, minimum_effect=0.01).judge(report).verdict == verdict


def test_superior_fails_what_a_large_enough_golden_set_did_not_show(with_report):
    gate = Superior(metric="brier", minimum_effect=0.01)
    shown = gate.judge(with_report(gain=0.001, error=0.002))
    assert shown.verdict is Verdict.FAILED
    assert shown.evidence["needed"] <= shown.evidence["clusters"] == 100


def test_superior_doubts_what_a_small_golden_set_could_not_have_shown(with_report):
    judgement = Superior(metric="brier", minimum_effect=0.004).judge(with_report(gain=0.001, error=0.002))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.evidence["needed"] > 100
    assert f"{judgement.evidence['needed']} clusters show an effect of 0.004" in judgement.reason


def test_superior_fails_a_candidate_that_is_significantly_worse_whatever_the_power(with_report):
    assert (
        Superior(metric="brier", minimum_effect=0.01).judge(with_report(gain=-0.01, error=0.002)).verdict
        is Verdict.FAILED
    )


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(-0.005, "PASSED"), (-0.0067, "PASSED"), (-0.0068, "FAILED"), (-0.02, "FAILED")],
)
def test_non_inferior_lets_a_real_loss_within_the_margin_pass_and_fails_one_that_may_reach_it(
    gain, verdict, with_report
):
    report = with_report(gain=gain, error=0.002)  # the one-sided bound lies 0.00329 below the gain
    assert NonInferior(metric="brier", margin=0.01).judge(report).verdict == verdict


def test_non_inferior_doubts_an_interval_that_holds_both_the_margin_and_zero(with_report):
    judgement = NonInferior(metric="brier", margin=0.01).judge(with_report(gain=-0.002, error=0.008))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.evidence["needed"] > 100


@pytest.mark.parametrize(
    ("gate", "count"),
    [
        (AtLeast(metric="brier", floor=math.nan), 1),
        (AtMost(metric="brier", ceiling=math.inf), 1),
        (Superior(metric="brier", alpha=0, power=1, minimum_clusters=1, minimum_effect=0), 4),
        (Superior(metric="brier", alpha=0.51, minimum_effect=0.01), 1),
        (NonInferior(metric="brier", margin=0), 1),
        (NonInferior(metric="brier", margin=-1, alpha=1.0, power=0.4), 3),
    ],
)
def test_every_fault_of_a_declaration_is_named_at_once(gate, count):
    assert len(gate.faults()) == count
    assert all(fault.startswith(gate.name) for fault in gate.faults())


@pytest.mark.parametrize(
    ("gain", "error", "verdict"),
    [
        (0.0, 0.003, Verdict.PASSED),
        (0.005, 0.002, Verdict.PASSED),
        (-0.005, 0.002, Verdict.PASSED),
        (0.005, 0.004, Verdict.INCONCLUSIVE),
        (0.02, 0.01, Verdict.INCONCLUSIVE),
        (0.02, 0.004, Verdict.FAILED),
        (-0.02, 0.004, Verdict.FAILED),
    ],
)
def test_equivalence_needs_both_bounds_within_the_margin(gain, error, verdict, with_report):
    assert Equivalent(metric="brier", margin=0.01).judge(with_report(gain=gain, error=error)).verdict is verdict


def verdicts_of_normal_gains(gate, true_gain, error, clusters, with_report, runs=4000):
    gains = np.random.default_rng(5).normal(true_gain, error, runs)
    return [gate.judge(with_report(gain=gain, error=error, clusters=clusters)).verdict for gain in gains]


@pytest.mark.parametrize("side", [-1, 1])
def test_what_differs_by_the_margin_passes_for_equivalent_at_most_at_rate_alpha(side, with_report):
    found = verdicts_of_normal_gains(Equivalent(metric="brier", margin=0.01), side * 0.01, 0.003, 100, with_report)
    assert np.mean([each is Verdict.PASSED for each in found]) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / len(found))


def test_as_many_clusters_as_it_asks_for_give_equivalence_its_power(with_report):
    gate, error, clusters = Equivalent(metric="brier", margin=0.01), 0.006, 200
    needed = gate.judge(with_report(gain=0.0, error=error, clusters=clusters)).evidence["needed"]
    assert needed > clusters
    shrunk = error * math.sqrt(clusters / needed)
    found = verdicts_of_normal_gains(gate, 0.0, shrunk, needed, with_report)
    assert np.mean([each is Verdict.PASSED for each in found]) >= 0.8 - 4 * math.sqrt(0.8 * 0.2 / len(found))


def test_an_equivalence_without_a_margin_is_refused():
    assert Equivalent(metric="brier", margin=0).faults() == [
        "equivalent_brier: margin is 0, must be a finite number above 0"
    ]

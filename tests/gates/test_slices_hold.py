"""What the gate makes of slices: pass, fail, doubt, and its error rate over many of them."""

from dataclasses import asdict, replace
from math import sqrt

import numpy as np
import pytest

from mlops_assets.evaluation.report import Comparison
from mlops_assets.evaluation.slices import Slice
from mlops_assets.gates.error_control import ErrorControl
from mlops_assets.gates.gate import Known, Verdict
from mlops_assets.gates.slices_hold import SlicesHold

SLICES = tuple(Slice(name=f"s{n}", where=f"part = {n}") for n in range(20))


def gate(count: int = 2, **changes) -> SlicesHold:
    return SlicesHold(metric="brier", margin=0.01, slices=SLICES[:count], discovery=None, **changes)


def report_of(with_report, gains, *, error=0.002, clusters=200, discovered=None, **changes):
    parts = [
        {
            "name": SLICES[n].name,
            "where": SLICES[n].where,
            "rows": clusters * 5,
            "clusters": clusters,
            "comparison": None
            if gain is None
            else asdict(Comparison(gain=gain, low=gain, high=gain, p_value=0.5, standard_error=error)),
        }
        for n, gain in enumerate(gains)
    ]
    found = {"slices": parts} | ({"discovery": {"tested": 9, "found": discovered}} if discovered is not None else {})
    return replace(with_report(**changes), measured={"slices_hold_brier": found})


@pytest.mark.parametrize(
    ("gains", "verdict", "named"),
    [
        ([0.0, 0.001], Verdict.PASSED, "no loss of 0.01 in 2 slices"),
        ([0.02, -0.02], Verdict.FAILED, "worse in s1"),
        ([0.02, -0.0072], Verdict.FAILED, "worse in s1"),
        ([0.02, None], Verdict.INCONCLUSIVE, "s1"),
    ],
)
def test_every_slice_must_hold(gains, verdict, named, with_report):
    judgement = gate().judge(report_of(with_report, gains))
    assert judgement.verdict is verdict
    assert named in judgement.reason


def test_a_slice_too_small_to_tell_is_doubt_with_the_size_that_would_tell(with_report):
    judgement = gate().judge(report_of(with_report, [0.0, -0.004], error=0.006))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert judgement.evidence["slices"][1]["needed"] > 200
    few = gate().judge(report_of(with_report, [0.5, 0.5], clusters=4))
    assert few.verdict is Verdict.INCONCLUSIVE


def test_a_discovered_slice_fails_and_none_found_is_told(with_report):
    found = [{"where": "device = 'desk'", "gain": -0.05, "p_value": 1e-9, "rows": 400, "clusters": 90}]
    broken = gate().judge(report_of(with_report, [0.0, 0.0], discovered=found))
    assert (broken.verdict, "device = 'desk'" in broken.reason) == (Verdict.FAILED, True)
    assert "none found among 9 others" in gate().judge(report_of(with_report, [0.0, 0.0], discovered=[])).reason


def test_without_a_champion_it_passes_and_without_a_measurement_it_doubts(with_report):
    assert gate().judge(report_of(with_report, [None, None], champion=None)).verdict is Verdict.PASSED
    assert gate().judge(with_report()).verdict is Verdict.INCONCLUSIVE
    error = replace(with_report(), measured={"slices_hold_brier": {"error": "no column"}})
    assert gate().judge(error).verdict is Verdict.ERROR


def rates(with_report, true_gains, *, runs=400, error=0.003, known=None):
    generator, judged = np.random.default_rng(6), gate(len(true_gains))
    verdicts = []
    for noise in generator.normal(0, error, (runs, len(true_gains))):
        report = report_of(with_report, list(np.array(true_gains) + noise), error=error)
        verdicts.append(judged.judge(report, known(judged, report) if known else Known()).verdict)
    return {verdict: verdicts.count(verdict) / runs for verdict in Verdict}


LIMIT = 0.05 + 4 * sqrt(0.05 * 0.95 / 400)


def test_with_twenty_slices_one_of_them_broken_it_passes_at_most_at_rate_alpha(with_report):
    assert rates(with_report, [-0.01] + [0.01] * 19)[Verdict.PASSED] <= LIMIT


def test_with_twenty_equal_slices_a_good_candidate_is_failed_at_most_at_rate_alpha(with_report):
    assert rates(with_report, [0.0] * 20)[Verdict.FAILED] <= LIMIT


def test_holm_over_slices_asks_for_more(with_report):
    def known(judged, report):
        return ErrorControl(claims="each").known([judged], report)

    gains = [0.0] * 20
    alone = rates(with_report, gains, runs=60, error=0.0035)[Verdict.PASSED]
    with_holm = rates(with_report, gains, runs=60, error=0.0035, known=known)[Verdict.PASSED]
    assert with_holm <= alone


def test_every_fault_of_the_declaration_is_named():
    wrong = SlicesHold(metric="brier", margin=0, slices=(SLICES[0], SLICES[0], Slice(name="", where="a =")), alpha=2)
    assert len(wrong.faults()) == 5
    assert "looks for none" in SlicesHold(metric="brier", margin=1, discovery=None).faults()[0]

"""The bounds of a quantile where answers are few, and what the declaration refuses."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from mlops_assets.gates.gate import Verdict
from mlops_assets.gates.latency_budget import LatencyBudget

TEN = timedelta(milliseconds=10)


def judged(with_report, gate, answers):
    return gate.judge(replace(with_report(), measured={gate.name: {"milliseconds": sorted(answers)}}))


@pytest.mark.parametrize(
    ("gate", "count"), [(LatencyBudget(budget=TEN, quantile=0.01), 100), (LatencyBudget(budget=TEN, quantile=0.5), 4)]
)
def test_answers_too_few_to_bound_a_quantile_from_below_do_not_fail_it(gate, count, with_report):
    found = judged(with_report, gate, [20.0] * count)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.evidence["low"] is None


def test_answers_too_few_to_bound_a_quantile_from_above_do_not_pass_it(with_report):
    found = judged(with_report, LatencyBudget(budget=TEN), [1.0] * 100)
    assert (found.verdict, found.evidence["high"]) == (Verdict.INCONCLUSIVE, None)


def test_one_slow_answer_of_many_is_within_the_quantile_and_many_are_not(with_report):
    gate = LatencyBudget(budget=TEN)
    assert judged(with_report, gate, [1.0] * 999 + [500.0]).verdict is Verdict.PASSED
    assert judged(with_report, gate, [1.0] * 900 + [500.0] * 100).verdict is Verdict.FAILED


def test_a_quantile_is_judged_slow_at_most_at_rate_alpha(with_report):
    gate, runs = LatencyBudget(budget=TEN, quantile=0.9), 400
    generator = np.random.default_rng(5)
    scale = 10 / -np.log(0.1)  # the ninth decile lies exactly on the budget
    found = [judged(with_report, gate, generator.exponential(scale, 300)).verdict for _ in range(runs)]
    allowed = 0.05 + 4 * np.sqrt(0.05 * 0.95 / runs)
    assert np.mean([each is Verdict.FAILED for each in found]) <= allowed
    assert np.mean([each is Verdict.PASSED for each in found]) <= allowed


def test_a_name_must_fit_a_check():
    assert len(LatencyBudget(budget=TEN, name="a b").faults()) == 1

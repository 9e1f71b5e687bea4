"""What the gates promise about error rates, measured by simulation; limits lie four binomial standard errors out."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from mlops_assets.evaluation.comparison import compare
from mlops_assets.evaluation.metrics import mean_absolute_error
from mlops_assets.evaluation.report import Comparison, Estimate, EvaluationReport
from mlops_assets.gates.gate import NOTHING, Known, Verdict
from mlops_assets.gates.non_inferior import NonInferior
from mlops_assets.gates.power import detectable_effect, required_clusters
from mlops_assets.gates.superior import Superior

RUNS, ALPHA, POWER = 300, 0.05, 0.8
METRIC = mean_absolute_error()


def reports(*, effect: float, clusters: int, runs: int = RUNS):
    """Reports on entities of uneven size whose true mean gain over rows is ``effect``."""
    generator = np.random.default_rng(11)
    for _ in range(runs):
        sizes = np.maximum(2, generator.lognormal(2, 0.8, clusters).astype(int))
        of = np.repeat(np.arange(clusters), sizes)
        gains = effect + generator.normal(0, 0.5, clusters)[of] + generator.normal(0, 0.5, len(of))
        theirs = 10 + gains
        found = compare(np.full(len(of), 10.0), theirs, np.zeros(len(of)), of, METRIC, resamples=399)
        yield EvaluationReport(
            product="films",
            candidate="sha256:aa",
            champion="sha256:bb",
            golden="sha256:cc",
            rows=len(of),
            clusters=clusters,
            candidate_metrics={METRIC.name: Estimate(value=10, low=9, high=11)},
            comparisons={METRIC.name: found},
        )


def rate(gate, *, pilot: Known = NOTHING, **world) -> dict[Verdict, float]:
    verdicts = [gate.judge(report, pilot).verdict for report in reports(**world)]
    return {verdict: verdicts.count(verdict) / len(verdicts) for verdict in Verdict}


def at_most(promised: float) -> float:
    return promised + 4 * sqrt(promised * (1 - promised) / RUNS)


def at_least(promised: float) -> float:
    return promised - 4 * sqrt(promised * (1 - promised) / RUNS)


def pilot_of(error: float, judged) -> Known:
    """What is known when an earlier comparison of 100 clusters had that standard error."""
    comparison = Comparison(gain=0.0, low=-1.0, high=1.0, p_value=0.5, standard_error=error)
    report = replace(next(reports(effect=0, clusters=100, runs=1)), comparisons={METRIC.name: comparison})
    return Known(entries=[judged(report)])


@pytest.fixture(scope="module")
def pilot_error() -> float:
    return float(
        np.median([r.comparisons[METRIC.name].standard_error for r in reports(effect=0, clusters=100, runs=80)])
    )


def test_superior_lets_an_equal_candidate_pass_at_most_at_rate_alpha():
    gate = Superior(metric=METRIC.name, alpha=ALPHA, minimum_effect=0.2)
    assert rate(gate, effect=0, clusters=100)[Verdict.PASSED] <= at_most(ALPHA)


def test_non_inferior_lets_a_candidate_at_the_margin_pass_at_most_at_rate_alpha():
    found = rate(NonInferior(metric=METRIC.name, margin=0.2, alpha=ALPHA), effect=-0.2, clusters=100)
    assert found[Verdict.PASSED] <= at_most(ALPHA)


def test_superior_shows_the_minimum_effect_with_the_declared_power_on_the_clusters_it_asks_for(pilot_error, judged):
    effect = 0.2
    needed = required_clusters(standard_error=pilot_error, clusters=100, effect=effect, alpha=ALPHA, power=POWER)
    gate = Superior(metric=METRIC.name, alpha=ALPHA, minimum_effect=effect, power=POWER)
    assert 20 < needed < 200
    pilot = pilot_of(pilot_error, judged)
    assert rate(gate, effect=effect, clusters=needed, pilot=pilot)[Verdict.PASSED] >= at_least(POWER)
    assert rate(gate, effect=5.0, clusters=needed - 1, pilot=pilot)[Verdict.PASSED] == 0


def test_non_inferior_passes_an_equal_candidate_with_the_declared_power_on_the_clusters_it_asks_for(
    pilot_error, judged
):
    needed = required_clusters(standard_error=pilot_error, clusters=100, effect=0.2, alpha=ALPHA, power=POWER)
    gate = NonInferior(metric=METRIC.name, margin=0.2, alpha=ALPHA, power=POWER)
    pilot = pilot_of(pilot_error, judged)
    assert rate(gate, effect=0, clusters=needed, pilot=pilot)[Verdict.PASSED] >= at_least(POWER)


def test_superior_rarely_fails_a_candidate_that_has_the_minimum_effect(pilot_error):
    effect = detectable_effect(standard_error=pilot_error, clusters=100, alpha=ALPHA, power=POWER)
    gate = Superior(metric=METRIC.name, alpha=ALPHA, minimum_effect=effect, power=POWER)
    assert rate(gate, effect=effect, clusters=100)[Verdict.FAILED] <= at_most(1 - POWER)


def test_a_pilot_of_the_needed_size_needs_that_size_and_half_the_effect_needs_four_times_as_many():
    ask = {"standard_error": 0.01, "clusters": 100, "alpha": 0.05, "power": 0.8}
    assert required_clusters(**ask, effect=detectable_effect(**ask)) == 100
    assert required_clusters(**ask, effect=detectable_effect(**ask) / 2) == 400


@pytest.mark.parametrize("wrong", [{"clusters": 1}, {"effect": 0.0}, {"effect": -1.0}])
def test_a_plan_without_an_effect_or_a_pilot_is_refused(wrong):
    ask = {"standard_error": 0.01, "clusters": 100, "alpha": 0.05, "power": 0.8, "effect": 0.1}
    with pytest.raises(ValueError, match="needs 2 clusters and a positive effect"):
        required_clusters(**{**ask, **wrong})

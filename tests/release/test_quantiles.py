"""Bounds on quantiles against the published ones, against a slow search, and at all times."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import betaln

from mlops_assets.release.quantiles import count_bounds, quantile_sequence, strength_for
from mlops_assets.release.sample_ratio import log_mixture

ALPHA = 0.05


def test_the_mixture_has_the_published_boundary():
    """The authors' reference gives 31.4308 for variance 100 of steps -0.2 and 0.8, tuned for just that, alpha 0.05."""
    chance, variance = 0.2, 100.0
    trials = variance / (chance * (1 - chance))
    strength = strength_for(trials, ALPHA)

    def evidence(above):
        return float(log_mixture(trials * chance + above, np.float64(trials), chance, strength)) - math.log(1 / ALPHA)

    assert brentq(evidence, 1.0, 100.0) == pytest.approx(31.4308, abs=1e-4)


def slow_bounds(trials: int, chance: float, strength: float) -> tuple[int, int]:
    """Return the counts whose likelihood ratio, integrated by the beta function, stays below 1/alpha."""
    a, b = strength * chance, strength * (1 - chance)
    kept = [
        hits
        for hits in range(trials + 1)
        if betaln(a + hits, b + trials - hits) - betaln(a, b)
        < hits * math.log(chance) + (trials - hits) * math.log(1 - chance) - math.log(ALPHA)
    ]
    assert kept == list(range(kept[0], kept[-1] + 1))
    return kept[0], kept[-1]


@pytest.mark.parametrize("chance", [0.05, 0.5, 0.99])
def test_bounds_on_the_count_are_those_of_a_slow_search(chance):
    strength = strength_for(200, ALPHA)
    trials = np.array([1, 2, 10, 57, 300])
    fewest, most = count_bounds(trials, chance, ALPHA, strength)
    assert list(zip(fewest, most, strict=True)) == [slow_bounds(n, chance, strength) for n in trials]


@pytest.mark.parametrize("quantile", [0.5, 0.95])
@pytest.mark.parametrize("ties", [False, True])
def test_the_quantile_lies_within_its_bounds_at_all_times_together(quantile, ties):
    rng = np.random.default_rng(1)
    streams, length = 300, 600
    missed = 0
    for _ in range(streams):
        values = rng.exponential(size=length)
        truth = -math.log(1 - quantile)
        if ties:
            values, truth = np.ceil(values), float(math.ceil(truth))
        points = quantile_sequence(values, quantile, ALPHA, at=range(1, length + 1, 7))
        missed += any((low or 0.0) > truth or (high or math.inf) < truth for _, low, _, high in points)
    assert missed / streams <= ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / streams)


def test_bounds_narrow_around_the_estimate_and_are_unknown_at_first():
    values = np.random.default_rng(2).exponential(size=20_000)
    first, middle, last = quantile_sequence(values, 0.9, ALPHA, at=[1, 1000, 20_000])
    assert (first[1], first[3]) == (None, None)
    assert middle[1] < middle[2] < middle[3]
    assert last[3] - last[1] < 0.5 * (middle[3] - middle[1])
    assert last[2] == pytest.approx(np.quantile(values, 0.9), rel=0.01)


def test_no_values_give_no_bounds():
    assert quantile_sequence(np.array([]), 0.5, ALPHA) == []

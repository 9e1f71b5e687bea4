"""The error rates that reports promise, measured by simulation. Limits lie four binomial standard errors out."""

from math import sqrt

import numpy as np
import pytest

from mlops_assets.evaluation.comparison import compare, estimate
from mlops_assets.evaluation.metrics import brier, ndcg_at, roc_auc
from mlops_assets.evaluation.ranking import average_precision

RUNS, RESAMPLES, ALPHA = 250, 399, 0.05


def at_most(rate: float, runs: int = RUNS) -> float:
    return rate + 4 * sqrt(rate * (1 - rate) / runs)


def simulate(drawn, metric, *, clusters: int, row_level: bool = False, runs: int = RUNS, own: float = 0.6):
    generator = np.random.default_rng(2024)
    for _ in range(runs):
        data = drawn(generator, clusters=clusters, own=own)
        of = np.arange(len(data.labels)) if row_level else data.clusters
        yield compare(data.ours, data.theirs, data.labels, of, metric, resamples=RESAMPLES)


@pytest.mark.parametrize("clusters", [5, 100])
@pytest.mark.parametrize(
    "metric", [brier(), roc_auc(), average_precision(), ndcg_at(10)], ids=lambda metric: metric.name
)
def test_a_gain_that_is_not_there_is_found_at_most_at_rate_alpha(metric, clusters, drawn):
    found = [each for each in simulate(drawn, metric, clusters=clusters) if each is not None]
    assert np.mean([each.p_value <= ALPHA for each in found]) <= at_most(ALPHA)
    assert np.mean([each.upper(ALPHA) < 0 for each in found]) <= at_most(ALPHA)
    assert np.mean([not each.low <= 0 <= each.high for each in found]) <= at_most(ALPHA)


def test_resampling_rows_instead_of_entities_would_break_that_promise(drawn):
    rows, entities = (
        [each.p_value <= ALPHA for each in simulate(drawn, brier(), clusters=60, runs=120, own=2.0, row_level=by_row)]
        for by_row in (True, False)
    )
    assert np.mean(rows) > at_most(ALPHA, 120) >= np.mean(entities)


def test_the_interval_of_one_model_holds_its_true_value_as_often_as_it_says(drawn):
    generator = np.random.default_rng(7)
    many = drawn(np.random.default_rng(8), clusters=60_000)
    truth = roc_auc().value(many.ours, many.labels)
    held = []
    for _ in range(RUNS):
        data = drawn(generator, clusters=100)
        found = estimate(data.ours, data.labels, data.clusters, roc_auc(), resamples=RESAMPLES)
        held.append(found.low <= truth <= found.high)
    assert 0.95 - 4 * sqrt(0.05 * 0.95 / RUNS) <= np.mean(held) <= 0.99

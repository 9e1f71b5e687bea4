"""Bounds of shares: the promised error rates, for rare and common hits in uneven clusters."""

from math import sqrt

import numpy as np
import pytest

from mlops_assets.evaluation.means import bounded_mean, bounded_share

RUNS, ALPHA = 150, 0.05
LIMIT = ALPHA + 4 * sqrt(ALPHA * (1 - ALPHA) / RUNS)


@pytest.mark.parametrize("share", [0.003, 0.02, 0.3, 0.99])
def test_a_share_lies_beyond_a_bound_at_most_at_rate_alpha(share):
    generator = np.random.default_rng(1)
    beyond = [0, 0]
    for _ in range(RUNS):
        sizes = np.maximum(1, generator.lognormal(1.5, 0.6, 100).astype(int))
        of = np.repeat(np.arange(100), sizes)
        hits = generator.random(len(of)) < generator.beta(share * 8, (1 - share) * 8, 100)[of]
        found = bounded_share(hits, of, alpha=ALPHA)
        assert found.low <= hits.mean() <= found.high
        beyond[0] += found.high < share
        beyond[1] += found.low > share
    assert max(beyond) / RUNS <= LIMIT


def test_nothing_seen_is_no_proof_of_nothing_there():
    of = np.repeat(np.arange(100), 5)
    none, every = (bounded_share(np.full(500, hit), of, alpha=ALPHA) for hit in (False, True))
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(0.03)  # the rule of three: 1 - 0.05 ** (1 / 100), in whole clusters
    assert (every.value, every.high) == (1, 1)
    assert every.low == pytest.approx(0.97)


def test_one_cluster_says_nothing():
    assert bounded_share([True, False], [1, 1], alpha=ALPHA) is None
    assert bounded_mean([0.2, 0.4], [1, 1], alpha=ALPHA) is None

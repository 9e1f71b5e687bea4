import numpy as np
import pytest
from scipy import stats

from mlops_assets.evaluation.weights import MANY_CLUSTERS, PoissonTable, draw_weights


@pytest.mark.parametrize("clusters", [2, 100, MANY_CLUSTERS - 1, MANY_CLUSTERS, 70_001])
def test_every_resample_draws_as_many_clusters_as_there_are(clusters):
    blocks = [block.copy() for block in draw_weights(clusters, 37, 1)]
    assert sum(len(block) for block in blocks) == 37
    for block in blocks:
        assert (block.sum(axis=1) == clusters).all()
        assert block.min() >= 0


@pytest.mark.parametrize("clusters", [MANY_CLUSTERS - 1, MANY_CLUSTERS])
def test_weights_have_the_moments_of_the_multinomial_distribution(clusters):
    weights = np.concatenate([block.copy() for block in draw_weights(clusters, 1500, 2)])
    size = weights.size
    assert weights.var() == pytest.approx(1 - 1 / clusters, abs=5 * np.sqrt(3 / size))
    for count in range(5):
        expected = stats.binom.pmf(count, clusters, 1 / clusters)
        assert (weights == count).mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / size))
    values = np.linspace(-1, 1, clusters)
    spread = (weights @ values).std() / np.sqrt((values**2).sum())
    assert spread == pytest.approx(1, abs=5 / np.sqrt(2 * 1500))


def test_rows_that_poisson_numbers_overfill_are_drawn_afresh():
    from mlops_assets.evaluation.weights import _top_up

    weights = np.array([[9.0, 9.0, 9.0], [1.0, 0.0, 0.0]])
    _top_up(np.random.default_rng(0), weights)
    assert (weights.sum(axis=1) == 3).all()
    assert weights[1, 0] >= 1


def test_poisson_numbers_by_table_are_poisson():
    drawn = PoissonTable(0.95).draw(np.random.default_rng(1), 10**6)
    for count in range(7):
        expected = stats.poisson.pmf(count, 0.95)
        assert (drawn == count).mean() == pytest.approx(expected, abs=5 * np.sqrt(expected / drawn.size))


def test_the_same_seed_draws_the_same_weights():
    one, same = (np.concatenate([block.copy() for block in draw_weights(3000, 5, 9)]) for _ in range(2))
    assert (one == same).all()

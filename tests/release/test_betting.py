"""The promised error rates, by exact enumeration where possible and by seeded simulation where not.

A rate that is promised to be at most alpha is accepted up to three standard errors of the simulation above it.
"""

import itertools

import numpy as np
import pytest
from scipy import stats

from mlops_assets.release.betting import (
    confidence_sequence,
    log_capital_above,
    log_capital_below,
    log_capital_rate_above,
)

STREAMS, UNITS, ALPHA = 2000, 120, 0.05
BOUND, MARGIN = 0.25, 0.02
NEEDED = np.log(1 / ALPHA)
ALLOWED = ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / STREAMS)


def streams(mean: float, spread: float, *, seed: int = 0, units: int = UNITS) -> np.ndarray:
    """Return streams whose clipped values have exactly ``mean``: the noise is symmetric and within the bound."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (STREAMS, units)) * spread * np.sqrt(3)
    assert abs(mean) + spread * np.sqrt(3) <= BOUND
    return (mean + noise) / BOUND


def clustered(mean: float, *, seed: int = 0) -> np.ndarray:
    """Return unit means of 20 requests each, where users differ in level, in spread, and in skewness."""
    rng = np.random.default_rng(seed)
    level = rng.choice([-0.03, 0.01], p=[0.25, 0.75], size=(STREAMS, UNITS))
    width = rng.choice([0.02, 0.3], size=(STREAMS, UNITS, 1))
    requests = rng.uniform(-1, 1, (STREAMS, UNITS, 20)) * width
    values = mean + level + requests.mean(axis=2)
    assert np.abs(values).max() < BOUND
    return values / BOUND


def rare_disasters(mean: float, *, seed: int = 0) -> np.ndarray:
    """Return two-point values: mostly a small gain, rarely the worst loss there is."""
    rng = np.random.default_rng(seed)
    share = 0.05
    gain = (mean / BOUND + share) / (1 - share)
    return np.where(rng.random((STREAMS, UNITS)) < share, -1.0, gain)


def ever(log_capital: np.ndarray) -> float:
    return float((log_capital.max(axis=-1) >= NEEDED).mean())


@pytest.mark.parametrize("make", [streams, clustered, rare_disasters], ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_candidate_as_good_as_the_champion_is_seldom_called_harmful_at_any_look(make, seed):
    values = make(0.0, 0.06, seed=seed) if make is streams else make(0.0, seed=seed)
    assert ever(log_capital_below(values, 0.0)) <= ALLOWED


@pytest.mark.parametrize("make", [streams, clustered, rare_disasters], ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_candidate_worse_by_the_margin_is_seldom_called_safe_at_any_look(make, seed):
    values = make(-MARGIN, 0.06, seed=seed) if make is streams else make(-MARGIN, seed=seed)
    assert ever(log_capital_above(values, -MARGIN / BOUND)) <= ALLOWED


def test_a_repeated_t_test_would_break_the_same_promise():
    values = streams(0.0, 0.06, seed=1)
    count = np.arange(1, UNITS + 1)
    mean = values.cumsum(axis=1) / count
    variance = np.maximum((np.square(values).cumsum(axis=1) - count * mean**2) / np.maximum(count - 1, 1), 1e-12)
    p = stats.t.cdf(mean / np.sqrt(variance / count), np.maximum(count - 1, 1))
    alarms = (p[:, 5:] <= ALPHA).any(axis=1).mean()
    assert alarms > 3 * ALPHA
    assert ever(log_capital_below(values, 0.0)) <= ALLOWED


def first(log_capital: np.ndarray) -> np.ndarray:
    """Return the unit that proved it, infinite where none did."""
    proved = log_capital >= NEEDED
    return np.where(proved.any(axis=1), proved.argmax(axis=1) + 1.0, np.inf)


def test_a_typical_good_candidate_is_found_safe_within_about_thirty_units():
    found = first(log_capital_above(streams(0.010, 0.03, seed=3), -MARGIN / BOUND))
    assert np.median(found) <= 32
    assert (found <= 60).mean() >= 0.95


def test_a_typical_sneaky_candidate_is_found_harmful_before_it_could_be_found_safe():
    values = streams(-0.05, 0.03, seed=4)
    harmful, safe = first(log_capital_below(values, 0.0)), first(log_capital_above(values, -MARGIN / BOUND))
    assert np.median(harmful) <= 25
    assert (harmful <= 60).mean() >= 0.99
    assert (safe < harmful).mean() <= 0.01


@pytest.mark.parametrize("null", [-0.5, 0.0, 0.3])
def test_capital_is_a_martingale_exactly_when_the_hypothesis_holds_with_equality(null):
    """Over all sequences of a two-point distribution with mean ``null``, the expected capital is 1 after each step."""
    length, p = 10, (1 + null) / 2
    values = np.array(list(itertools.product([-1.0, 1.0], repeat=length)))
    chance = np.where(values > 0, p, 1 - p).prod(axis=1)
    for capital in (log_capital_above(values, null), log_capital_below(values, null)):
        assert np.exp(capital).T @ chance == pytest.approx(np.ones(length))


@pytest.mark.parametrize("true_mean", [-0.2, 0.3])
def test_capital_does_not_grow_in_expectation_inside_the_hypothesis(true_mean):
    length = 10
    values = np.array(list(itertools.product([-1.0, 1.0], repeat=length)))
    chance = np.where(values > 0, (1 + true_mean) / 2, (1 - true_mean) / 2).prod(axis=1)
    against = log_capital_below if true_mean > 0 else log_capital_above
    expected = np.exp(against(values, 0.0)).T @ chance
    assert (np.diff(np.append(1.0, expected)) <= 1e-12).all()


def test_bets_use_only_what_was_seen_before():
    values = streams(0.02, 0.05, units=40)[0]
    changed = values.copy()
    changed[20:] = -1.0
    for capital in (log_capital_above, log_capital_below):
        assert capital(values, 0.0)[:20] == pytest.approx(capital(changed, 0.0)[:20])


def test_the_worst_observation_never_ruins_a_gambler():
    values = np.append(np.full(50, 1.0), -1.0)
    for null in (-0.99, -0.08, 0.0, 0.9):
        assert np.isfinite(log_capital_above(values, null)).all()
        assert np.isfinite(log_capital_below(-values, -null)).all()


def test_the_confidence_sequence_holds_the_mean_at_all_times_together():
    rng = np.random.default_rng(5)
    missed = 0
    for _ in range(400):
        low, high = confidence_sequence(2 * rng.beta(10, 30, 150) - 1, ALPHA, points=201)
        missed += bool((low > -0.5).any() or (high < -0.5).any())
    assert missed / 400 <= ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 400)


def test_the_confidence_sequence_narrows_and_adapts_to_the_variance():
    """As in the paper's figures: on Beta(10, 30) betting is far narrower than Hoeffding; on coins, as wide."""
    rng = np.random.default_rng(6)
    narrow = confidence_sequence(2 * rng.beta(10, 30, 1000) - 1, ALPHA)
    coins = confidence_sequence(rng.choice([-1.0, 1.0], 1000), ALPHA)
    for low, high in (narrow, coins):
        assert (np.diff(low) >= 0).all()
        assert (np.diff(high) <= 0).all()
    fixed_hoeffding = 2 * np.sqrt(2 * np.log(2 / ALPHA) / 1000)  # of one look only, on values in [-1, 1]
    assert narrow[1][-1] - narrow[0][-1] < 0.45 * fixed_hoeffding
    assert fixed_hoeffding * 0.8 < coins[1][-1] - coins[0][-1] < 2 * fixed_hoeffding


def test_nothing_is_known_before_the_first_observations():
    low, high = confidence_sequence(np.array([0.1]), ALPHA)
    assert (low[0], high[0]) == (-1.0, 1.0)
    assert log_capital_above(np.array([0.7]), 0.0)[0] == 0.0


def slow_interval(values: list[float], points: int = 401) -> tuple[float, float]:
    """Return the interval at the end as the paper writes it, one grid mean and one observation after the other."""
    grid = np.linspace(-1 + 1e-9, 1 - 1e-9, points)
    kept = []
    for mean in grid:
        up = down = 1.0
        total, squares, count, out = 0.0, 0.1, 1, False
        for value in values:
            guess, variance = total / count, squares / count
            for sign in (1, -1):
                edge = sign * (guess - mean)
                bet = min(max(edge / (variance + edge**2), 0.0), 0.9 / (1 + sign * mean))
                if sign == 1:
                    up *= 1 + bet * (value - mean)
                else:
                    down *= 1 - bet * (value - mean)
            out = out or (up + down) / 2 >= 1 / ALPHA
            total, count = total + value, count + 1
            squares += (value - total / count) ** 2
        if not out:
            kept.append(mean)
    step = grid[1] - grid[0]
    return max(kept[0] - step, -1.0), min(kept[-1] + step, 1.0)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_bounds_are_those_of_the_hedged_capital_computed_slowly(seed):
    values = np.random.default_rng(seed).normal(0.2, 0.3, 200).clip(-1, 1)
    low, high = confidence_sequence(values, ALPHA, points=81)
    assert (low[-1], high[-1]) == pytest.approx(slow_interval(values.tolist(), 81), abs=1e-9)


@pytest.mark.parametrize("spread", [0.002, 0.05])
def test_a_mean_between_two_grid_points_keeps_its_bounds_when_both_are_ruled_out(spread):
    """Thousands of units that vary little rule out every mean of the grid; the truth is not lost between them."""
    values = 0.0025 + spread * np.random.default_rng(7).uniform(-1, 1, 20_000)
    low, high = confidence_sequence(values, ALPHA)
    assert np.isfinite(low).all()
    assert np.isfinite(high).all()
    assert low[-1] == pytest.approx(0.0, abs=1e-6)
    assert high[-1] == pytest.approx(0.005, abs=1e-6)


def test_a_hundred_thousand_units_are_looked_at_in_little_memory():
    values = np.random.default_rng(8).normal(0.1012, 0.2, 100_000).clip(-1, 1)
    low, high = confidence_sequence(values, ALPHA)
    assert low[-1] < 0.1012 < high[-1]
    assert high[-1] - low[-1] < 0.02


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.6])
def test_a_rate_exactly_at_its_limit_is_seldom_called_above_it_at_any_look(rate):
    hits = np.random.default_rng(3).random((500, 2000)) < rate
    wrong = np.mean([log_capital_rate_above(stream, rate).max() >= NEEDED for stream in hits])
    assert wrong <= ALPHA + 4 * np.sqrt(ALPHA * (1 - ALPHA) / 500)


@pytest.mark.parametrize(("limit", "rate", "answers"), [(0.01, 0.03, 320), (0.05, 0.1, 220), (0.1, 0.2, 110)])
def test_a_rate_above_its_limit_is_found_within_some_hundred_answers(limit, rate, answers):
    hits = np.random.default_rng(5).random((200, 3000)) < rate
    when = first(np.array([log_capital_rate_above(stream, limit) for stream in hits]))
    assert np.median(when) <= answers


@pytest.mark.parametrize("rate", [0.02, 0.5, 0.9])
def test_the_capital_against_a_rate_is_a_ratio_of_likelihoods_recomputed_slowly(rate):
    hits = np.random.default_rng(6).random(200) < 0.4
    capital, past = 1.0, 0
    begin = min(2 * rate, (1 + rate) / 2)
    for n, hit in enumerate(hits):
        guess = max((past + 1) / (n + 1 / begin), rate)
        capital *= guess / rate if hit else (1 - guess) / (1 - rate)
        past += int(hit)
    assert np.exp(log_capital_rate_above(hits, rate)[-1]) == pytest.approx(capital, rel=1e-9)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_capital_against_a_rate_is_a_martingale_exactly_at_it_while_anything_is_staked(rate):
    hits = np.array(list(itertools.product([False, True], repeat=8)))
    chance = np.where(hits, rate, 1 - rate).prod(axis=1)
    capital = np.exp([log_capital_rate_above(stream, rate) for stream in hits])
    assert capital.T @ chance == pytest.approx(np.ones(8))

"""Evidence that may be looked at after every observation: bets against a hypothesis about a mean.

Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by betting", JRSS-B 86(1). A gambler who
cannot win by expectation when the hypothesis holds multiplies the capital by 1/alpha, ever, with probability at most
alpha (Ville's inequality). The bets are aGRAPA's (their section B.3), set from past observations only.

Arrays are observations in [-1, 1] with time as the last axis; all leading axes are independent streams.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

PRIOR_VARIANCE = 0.1
CAUTION = 0.9
"""The share of the largest bet that could never lose everything."""


def log_capital_below(values: Floats, mean: float | Floats) -> Floats:
    """Return the log capital after each observation of a bet against "the mean is at least ``mean``"."""
    return log_capital_above(-values, -np.asarray(mean))


def log_capital_above(values: Floats, mean: float | Floats) -> Floats:
    """Return the log capital after each observation of a bet against "the mean is at most ``mean``"."""
    return np.asarray(np.cumsum(_log_gains(values, *_past_moments(values), np.asarray(mean, dtype=float)), axis=-1))


def log_capital_rate_above(hits: npt.NDArray[np.bool_], rate: float) -> Floats:
    """Return the log capital after each of ``hits`` (true or false) of a bet against "the chance is at most ``rate``".

    The bet is Kelly's on an estimate from past observations only, so the capital is the ratio of two likelihoods
    (section 4 of the paper). The estimate begins at twice the rate, with the weight of one hit; below the rate nothing
    is staked.
    """
    begin = min(2 * rate, (1 + rate) / 2)
    past_hits = np.cumsum(hits) - hits.astype(int)
    guess = np.maximum((past_hits + 1) / (np.arange(len(hits)) + 1 / begin), rate)
    return np.asarray(np.cumsum(np.where(hits, np.log(guess / rate), np.log1p(-guess) - np.log1p(-rate))))


def confidence_sequence(values: Floats, alpha: float, *, points: int = 401) -> tuple[Floats, Floats]:
    """Return lower and upper bounds on the mean of one stream after each observation, valid at all of them at once.

    The hedged capital of both bets is inverted on a grid of ``points`` means, and never widens. A mean that was ruled
    out stays so, and costs nothing more: what is left of the grid is followed in blocks of growing length.
    """
    grid = np.linspace(-1 + 1e-9, 1 - 1e-9, points)
    ruled_out, from_below = _ruled_out(values, grid, np.log(1 / alpha))
    seen = np.arange(1, len(values) + 1)
    low = _highest_below(np.where(from_below, ruled_out, np.inf), grid, seen)
    high = -_highest_below(np.where(from_below, np.inf, ruled_out)[::-1], -grid[::-1], seen)
    return low, high


def _ruled_out(values: Floats, grid: Floats, needed: float) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return after how many observations each mean is ruled out (infinite: never), and whether as one too low."""
    when, from_below = np.full(len(grid), np.inf), np.zeros(len(grid), dtype=bool)
    left, capital = np.arange(len(grid)), np.zeros((2, len(grid)))
    guess, variance = _past_moments(values)
    begin, length = 0, 64
    while begin < len(values) and len(left):
        block = slice(begin, begin + length)
        bets = (values[block], guess[block], variance[block])
        up = capital[0, :, np.newaxis] + np.cumsum(_log_gains(*bets, grid[left]), axis=-1)
        down = capital[1, :, np.newaxis] + np.cumsum(_log_gains(-bets[0], -bets[1], bets[2], -grid[left]), axis=-1)
        won = np.logaddexp(up, down) - np.log(2) >= needed
        out, first = won.any(axis=1), won.argmax(axis=1)
        when[left[out]] = begin + 1 + first[out]
        from_below[left[out]] = (up > down)[out, first[out]]
        left, capital = left[~out], np.stack([up[~out, -1], down[~out, -1]])
        begin, length = begin + length, min(2 * length, 4096)
    return when, from_below


def _highest_below(ruled_out: Floats, grid: Floats, seen: npt.NDArray[np.int_]) -> Floats:
    """Return, after each number ``seen``, the last mean of the unbroken run from -1 up that was ruled out by then."""
    run = np.searchsorted(np.maximum.accumulate(ruled_out), seen, side="right")
    return np.asarray(np.append(-1.0, grid)[run])


def _log_gains(values: Floats, guess: Floats, variance: Floats, mean: Floats) -> Floats:
    """Return what each bet against "the mean is at most ``mean``" adds to the log capital."""
    null = mean[..., np.newaxis]
    edge = guess - null
    largest = CAUTION / (1 + null)  # the worst observation is -1, and costs bet × (1 + null)
    bets = np.clip(edge / (variance + edge**2), 0.0, largest)
    return np.asarray(np.log1p(bets * (values - null)))


def _past_moments(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance of the observations before each one, drawn towards 0 and the prior variance."""
    count = np.arange(1, values.shape[-1] + 1)
    mean = np.cumsum(values, axis=-1) / (count + 1)
    variance = (PRIOR_VARIANCE + np.cumsum((values - mean) ** 2, axis=-1)) / (count + 1)
    first = (*values.shape[:-1], 1)
    past_mean = np.concatenate([np.zeros(first), mean[..., :-1]], axis=-1)
    return past_mean, np.concatenate([np.full(first, PRIOR_VARIANCE), variance[..., :-1]], axis=-1)

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
    null = np.asarray(mean, dtype=float)[..., np.newaxis]
    guess, variance = _past_moments(values)
    edge = guess - null
    largest = CAUTION / (1 + null)  # the worst observation is -1, and costs bet × (1 + null)
    bets = np.clip(edge / (variance + edge**2), 0.0, largest)
    return np.asarray(np.cumsum(np.log1p(bets * (values - null)), axis=-1))


def confidence_sequence(values: Floats, alpha: float, *, points: int = 401) -> tuple[Floats, Floats]:
    """Return lower and upper bounds on the mean of one stream after each observation, valid at all of them at once.

    The hedged capital of both bets is inverted on a grid of ``points`` means, and never widens.
    """
    grid = np.linspace(-1 + 1e-9, 1 - 1e-9, points)
    up = log_capital_above(values[np.newaxis, :], grid)
    down = log_capital_below(values[np.newaxis, :], grid)
    hedged = np.logaddexp(up, down) - np.log(2)
    kept = np.maximum.accumulate(hedged, axis=1) < np.log(1 / alpha)
    step = grid[1] - grid[0]
    low = np.where(kept.any(axis=0), grid[kept.argmax(axis=0)] - step, np.nan)
    high = np.where(kept.any(axis=0), grid[points - 1 - kept[::-1].argmax(axis=0)] + step, np.nan)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def _past_moments(values: Floats) -> tuple[Floats, Floats]:
    """Return mean and variance of the observations before each one, drawn towards 0 and the prior variance."""
    count = np.arange(1, values.shape[-1] + 1)
    mean = np.cumsum(values, axis=-1) / (count + 1)
    variance = (PRIOR_VARIANCE + np.cumsum((values - mean) ** 2, axis=-1)) / (count + 1)
    first = (*values.shape[:-1], 1)
    past_mean = np.concatenate([np.zeros(first), mean[..., :-1]], axis=-1)
    return past_mean, np.concatenate([np.full(first, PRIOR_VARIANCE), variance[..., :-1]], axis=-1)

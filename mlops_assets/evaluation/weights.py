"""Multinomial weights, drawn fast: how often each cluster is in a resample.

For many clusters, drawing indices and counting them costs more than all that is done with the counts. So counts are
first drawn as independent Poisson numbers of a mean a little below 1, two random bytes each, and what is missing to the
full number of draws is then drawn as indices. That is exact: Poisson counts given their sum are multinomial, and
multinomial counts of independent draws add up (a row whose sum is too large already is drawn afresh, as indices).
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.special import pdtr

Floats = npt.NDArray[np.float64]

CELLS_PER_BLOCK = 1 << 16
"""Weights held at a time: half a megabyte, so that a block stays in a core's cache."""

MANY_CLUSTERS = 2_000
"""From here on the Poisson numbers pay."""

_CELLS = 1 << 16
_UNDECIDED = 255


def draw_weights(clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield blocks [n, clusters] of multinomial weights, ``resamples`` rows in all, each summing to ``clusters``.

    Each block is overwritten by the next one: use it, or copy it, before asking for another.
    """
    generator = np.random.Generator(np.random.SFC64(seed))
    rows = min(resamples, max(1, CELLS_PER_BLOCK // clusters))
    table = PoissonTable(1 - 5 / clusters**0.5) if clusters >= MANY_CLUSTERS else None
    weights = np.empty((rows, clusters))
    for start in range(0, resamples, rows):
        block = weights[: min(rows, resamples - start)]
        block[:] = 0 if table is None else table.draw(generator, block.size).reshape(block.shape)
        _top_up(generator, block)
        yield block


def _top_up(generator: np.random.Generator, weights: Floats) -> None:
    """Add draws to each row until it sums to the number of its clusters; a row that is too full is emptied first."""
    rows, clusters = weights.shape
    missing = clusters - weights.sum(axis=1).astype(np.int64)
    weights[missing < 0] = 0
    missing[missing < 0] = clusters
    drawn = generator.integers(0, clusters, size=int(missing.sum()))
    drawn += np.repeat(np.arange(rows) * clusters, missing)
    if len(drawn) < weights.size // 4:
        np.add.at(weights.reshape(-1), drawn, 1.0)
    else:
        weights += np.bincount(drawn, minlength=weights.size).reshape(weights.shape)


class PoissonTable:
    """Poisson numbers by table: two random bytes choose a cell, and cells that hold a step are looked at again."""

    def __init__(self, mean: float) -> None:
        self._steps = pdtr(np.arange(40), mean)
        low, high = (np.searchsorted(self._steps, (np.arange(_CELLS) + end) / _CELLS) for end in (0, 1))
        self._cells = np.where(low == high, low, _UNDECIDED).astype(np.uint8)

    def draw(self, generator: np.random.Generator, size: int) -> npt.NDArray[np.uint8]:
        """Return ``size`` Poisson numbers."""
        words = generator.bit_generator.random_raw(-(-size // 4))
        chosen = words.astype("<u8", copy=False).view("<u2")[:size]
        found = self._cells.take(chosen)
        open_cells = np.flatnonzero(found == _UNDECIDED)
        exact = (chosen[open_cells] + generator.random(len(open_cells))) / _CELLS
        found[open_cells] = np.searchsorted(self._steps, exact)
        return found

"""Windows of predictions: counted, not timed, so that each has the rows a test needs and a name that never changes.

Window ``k`` of a product (the first is 1) holds its predictions number ``(k - 1) * size + 1`` to ``k * size``, in the
order they were answered. A window is looked at when it is full.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import polars as pl

from mlops_assets.errors import MlopsError
from mlops_assets.serving.prediction import PredictionLog


@runtime_checkable
class CountsPredictions(Protocol):
    """What a prediction log may offer besides, so that a sensor need not read all rows to learn how many there are."""

    def count(self, product: str) -> int:
        """Return how many predictions of ``product`` were acknowledged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The ``number``-th run of ``size`` predictions of ``product``."""

    product: str
    number: int
    size: int

    @property
    def id(self) -> str:
        """The window's name, ``product:number``; run keys are made of it.

        >>> Window(product="fraud", number=3, size=500).id
        'fraud:3'
        """
        return f"{self.product}:{self.number}"

    @property
    def end(self) -> int:
        """How many predictions must have been answered for the window to be full."""
        return self.number * self.size

    def rows(self, predictions: pl.DataFrame) -> pl.DataFrame:
        """Return the window's rows of the whole log; ``MlopsError`` when it is not full yet."""
        if predictions.height < self.end:
            raise MlopsError(
                f"{self.product}: window {self.id} needs {self.end} predictions, the log has {predictions.height}; "
                "wait for more traffic or name an earlier window"
            )
        return predictions.slice(self.end - self.size, self.size)


def full_windows(count: int, size: int) -> int:
    """Return how many windows are full after ``count`` predictions, which is also the number of the newest one.

    >>> full_windows(999, 500), full_windows(1000, 500)
    (1, 2)
    """
    return count // size


def parse_window(product: str, window: str, size: int) -> Window:
    """Return the window that an id names; ``MlopsError`` when it is not ``product:number`` of this product."""
    name, _, number = window.rpartition(":")
    if name != product or not number.isascii() or not number.isdigit() or int(number) < 1:
        raise MlopsError(f"{product}: {window!r} names no window of it; expected '{product}:<number>', counted from 1")
    return Window(product=product, number=int(number), size=size)


def answered(log: PredictionLog, product: str) -> int:
    """Return how many predictions were answered, by the log's own count if it has one."""
    if isinstance(log, CountsPredictions):
        return log.count(product)
    return log.predictions(product).height

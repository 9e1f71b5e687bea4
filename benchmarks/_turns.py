"""Works that take turns, so that a busy moment of the machine hits all alike."""

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any


def seconds(work: Callable[[], Any]) -> float:
    """Return how long ``work`` takes."""
    began = perf_counter()
    work()
    return perf_counter() - began


def medians(turns: int, *works: Callable[[], Any]) -> list[float]:
    """Return the median seconds of each work over ``turns`` turns, after one turn that only warms up."""
    took = [[seconds(work) for work in works] for _ in range(turns + 1)][1:]
    return [median(column) for column in zip(*took, strict=True)]

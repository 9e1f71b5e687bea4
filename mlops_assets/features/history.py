"""The values of one column of one entity, in time order, with what makes any range of them cheap to aggregate.

Belongs here: the sorted arrays and the functions over ranges of them. Not here: which range a window is.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import accumulate

from mlops_assets.features.meaning import nearest_double, nearest_variance, standard_deviation


class History:
    """Sorted by time, ties by value. ``total[i]`` is the exact sum of the first i values in units of 2^``exponent``.

    ``squares`` likewise, in units of 2^(2·``exponent``); the unit shrinks when a finer value arrives.
    """

    __slots__ = ("exponent", "highest", "integers", "lowest", "squares", "times", "total", "values")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.values: list[float] = []
        self.integers: list[int] = []
        self.total: list[int] = [0]
        self.squares: list[int] = [0]
        self.lowest: list[float] = []  # of all values up to and with this one
        self.highest: list[float] = []
        self.exponent = 0

    def insert(self, then: int, value: float) -> None:
        """Put a value in its place; everything newer is recomputed."""
        numerator, denominator = value.as_integer_ratio()
        places = denominator.bit_length() - 1
        if places > -self.exponent:
            self._refine(places)
        integer = numerator << (-self.exponent - places)
        place = self._place(then, value)
        self.times.insert(place, then)
        self.values.insert(place, value)
        self.integers.insert(place, integer)
        if place and place == len(self.times) - 1:
            self._append(integer, value)
        else:
            self._recompute(place)

    def _place(self, then: int, value: float) -> int:
        if not self.times or then > self.times[-1]:
            return len(self.times)
        first, end = bisect_left(self.times, then), bisect_right(self.times, then)
        return bisect_right(self.values, value, first, end)

    def _append(self, integer: int, value: float) -> None:
        self.total.append(self.total[-1] + integer)
        self.squares.append(self.squares[-1] + integer * integer)
        self.lowest.append(min(self.lowest[-1], value))
        self.highest.append(max(self.highest[-1], value))

    def _recompute(self, place: int) -> None:
        """Recompute what depends on the values from ``place`` on."""
        newer, values = self.integers[place:], self.values[place:]
        self.total[place:] = accumulate(newer, initial=self.total[place])
        self.squares[place:] = accumulate((value * value for value in newer), initial=self.squares[place])
        before = slice(place - 1, place) if place else slice(0, 0)
        self.lowest[place:] = list(accumulate(self.lowest[before] + values, min))[place > 0 :]
        self.highest[place:] = list(accumulate(self.highest[before] + values, max))[place > 0 :]

    def _refine(self, places: int) -> None:
        """Change the unit to 2^-``places``."""
        shift = places + self.exponent
        self.integers = [value << shift for value in self.integers]
        self.total = [value << shift for value in self.total]
        self.squares = [value << 2 * shift for value in self.squares]
        self.exponent = -places


def _sum(history: History, start: int, end: int) -> float:
    return nearest_double(history.total[end] - history.total[start], history.exponent)


def _deviation(history: History, start: int, end: int) -> float:
    total = history.total[end] - history.total[start]
    squares = history.squares[end] - history.squares[start]
    return standard_deviation(nearest_variance(end - start, total, squares, history.exponent))


_EVALUATORS: dict[str, Callable[[History, int, int], float]] = {
    "count": lambda _history, start, end: float(end - start),
    "sum": _sum,
    "mean": lambda history, start, end: _sum(history, start, end) / (end - start),
    "min": lambda history, start, end: history.lowest[end - 1] if start == 0 else min(history.values[start:end]),
    "max": lambda history, start, end: history.highest[end - 1] if start == 0 else max(history.values[start:end]),
    "std": _deviation,
    "last": lambda history, _start, end: history.values[end - 1],
}


def evaluator(function: str) -> Callable[[History, int, int], float]:
    """Return the function of a history's range ``[start, end)``, which is not empty."""
    return _EVALUATORS[function]

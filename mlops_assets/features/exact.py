"""Exact sums over ranges of a column, vectorised: prefix sums in integers, rounded once at the end.

Differences of floating-point prefix sums lose what cancels, and depend on the order of addition. Here every double is
cut into a few *limbs*, integers of about 40 bits at fixed powers of two, and each limb is summed in int64 without
overflow. A range's sum is the difference of two prefixes: exact, whatever the order. It is rounded to the nearest
double through a pair of doubles (error-free transformations: Dekker, Numerische Mathematik 18, 1971; Ogita, Rump and
Oishi, SIAM J. Sci. Comput. 26, 2005); the few rows where the pair cannot prove its rounding are redone in Python
integers. A column of cents or of stars needs one or two limbs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from mlops_assets.features.meaning import nearest_double, nearest_variance

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_Number = TypeVar("_Number", np.float64, np.int64)

# Pair of doubles, value = high + low; |low| is at most half a unit in the last place of high.
Pair = tuple[Doubles, Doubles]

_SPLITTER = 134217729.0  # 2^27 + 1
_LIMB_BITS = 40
_BLOCK = 1 << 15
_SUM_DOUBT = 2.0**-95  # a bound, generous by 2^6, of the relative error of a pair made from limbs
_VARIANCE_DOUBT = 2.0**-90


@dataclass(frozen=True, slots=True)
class ExactPrefixes:
    """Prefix sums of a column. ``limbs`` are lowest first; limb i counts units of 2^(``exponent`` + i·``bits``)."""

    limbs: list[Integers]
    exponent: int
    bits: int

    def digits(self, start: Integers, end: Integers) -> list[Integers]:
        """Return the limbs of the sums of ``[start, end)``."""
        return [limb[end] - limb[start] for limb in self.limbs]

    def sums(self, start: Integers, end: Integers) -> Doubles:
        """Return the sums of ``[start, end)``, each rounded to the nearest double."""
        return in_blocks(self._sums, start, end)

    def _sums(self, start: Integers, end: Integers) -> Doubles:
        digits = self.digits(start, end)
        if len(digits) == 1:
            return digits[0].astype(np.float64) * 2.0**self.exponent
        high, low, doubt = self.pair(digits)

        def exactly(row: int) -> float:
            return nearest_double(self.integer(digits, row), self.exponent)

        return _settled(high, low, doubt, exactly)

    def pair(self, digits: Sequence[Integers]) -> tuple[Doubles, Doubles, Doubles]:
        """Return the limbs' value as a pair of doubles and a bound of its error, 0 where the pair is exact."""
        high, *others = self._pieces(_balanced(digits, self.bits))
        low, lost = np.zeros(len(high)), np.zeros(len(high), bool)
        for piece in others:
            high, error = _two_sum(high, piece)
            low, rest = _two_sum(low, error)
            lost |= rest != 0.0
        high, low = _two_sum(high, low)
        return high, low, np.where(lost, np.abs(high) * _SUM_DOUBT, 0.0)

    def _pieces(self, digits: Sequence[Integers]) -> list[Doubles]:
        """Return doubles that add up to the digits, greatest first; a top digit of over 53 bits is cut in two."""
        scales = [2.0 ** (self.exponent + self.bits * place) for place in range(len(digits))]
        pieces = [digit.astype(np.float64) * scale for digit, scale in zip(digits[:-1], scales[:-1], strict=True)]
        top = digits[-1]
        if np.abs(top).max(initial=0) < 1 << 53:
            return [top.astype(np.float64) * scales[-1], *reversed(pieces)]
        upper = (top >> 30) << 30
        return [part.astype(np.float64) * scales[-1] for part in (upper, top - upper)] + pieces[::-1]

    def integer(self, digits: Sequence[Integers], row: int) -> int:
        """Return one row's sum in units of 2^``exponent``."""
        return sum(int(digit[row]) << (self.bits * place) for place, digit in enumerate(digits))


def prefixes_of(values: Doubles) -> ExactPrefixes:
    """Return exact prefix sums of ``values`` (finite, as ``meaning.number`` makes them)."""
    low, high = _exponents(values)
    return _prefixes([values], low, high)


def prefixes_of_squares(values: Doubles) -> ExactPrefixes:
    """Return exact prefix sums of the squares of ``values``."""
    low, high = _exponents(values)
    return _prefixes(list(_two_product(values, values)), 2 * low, 2 * high)


def population_variances(sums: ExactPrefixes, squares: ExactPrefixes, start: Integers, end: Integers) -> Doubles:
    """Return the population variances of ``[start, end)``, none of them empty, each rounded to the nearest double."""
    return in_blocks(lambda *block: _variances(sums, squares, *block), start, end)


def _variances(sums: ExactPrefixes, squares: ExactPrefixes, start: Integers, end: Integers) -> Doubles:
    count = (end - start).astype(np.float64)
    total_digits, square_digits = sums.digits(start, end), squares.digits(start, end)
    if len(total_digits) == len(square_digits) == 1 and len(count):
        scaled = count * square_digits[0]
        if scaled.max() < 2.0**53 and sums.exponent * 2 == squares.exponent:  # all of it is exact in doubles
            variances: Doubles = (scaled - total_digits[0].astype(np.float64) ** 2) / (count * count)
            return variances * 2.0**squares.exponent
    square_pair = squares.pair(square_digits)[:2]
    high, low = _variance_pair(count, sums.pair(total_digits)[:2], square_pair)

    def exactly(row: int) -> float:
        integers = sums.integer(total_digits, row), squares.integer(square_digits, row)
        return nearest_variance(int(count[row]), *integers, sums.exponent)

    return _settled(high, low, square_pair[0] / count * _VARIANCE_DOUBT, exactly)


def in_blocks(function: Callable[..., npt.NDArray[_Number]], *arrays: Integers) -> npt.NDArray[_Number]:
    """Return ``function(*arrays)``, an elementwise function, computed in blocks that stay in the processor's cache."""
    places = range(0, max(len(arrays[0]), 1), _BLOCK)
    return np.concatenate([function(*(array[place : place + _BLOCK] for array in arrays)) for place in places])


def _variance_pair(count: Doubles, total: Pair, squares: Pair) -> Pair:
    """Return (n·Σv² − (Σv)²) / n² as a pair."""
    product, product_error = _two_product(squares[0], count)
    square, square_error = _two_product(total[0], total[0])
    high, error = _two_sum(product, -square)
    tail = error + (product_error + squares[1] * count) - (square_error + 2.0 * total[0] * total[1])
    high, low = _two_sum(high, tail)
    quotient = high / (count * count)
    back, back_error = _two_product(quotient, count * count)
    return _two_sum(quotient, (((high - back) - back_error) + low) / (count * count))


def _settled(high: Doubles, low: Doubles, doubt: Doubles, exactly: Callable[[int], float]) -> Doubles:
    """Return ``high + low`` rounded; rows that could round otherwise within ``doubt`` are computed ``exactly``."""
    rounded: Doubles = high + (low - doubt)
    for row in np.flatnonzero(rounded != high + (low + doubt)):
        rounded[row] = exactly(int(row))
    return rounded


def _prefixes(parts: list[Doubles], low: int, high: int) -> ExactPrefixes:
    """Cut the sum of ``parts``, all multiples of 2^low and smaller than 2^high, into limbs and sum them."""
    terms = len(parts) * len(parts[0])
    bits = min(62 - terms.bit_length(), _LIMB_BITS)
    places = max(ceil((high - low) / bits), 1)
    limbs = [np.zeros(len(parts[0]) + 1, np.int64) for _ in range(places)]
    for part in parts:
        rest = part.copy()
        for place in reversed(range(places)):
            exponent = low + bits * place
            limb = np.trunc(rest * 2.0**-exponent)
            rest -= limb * 2.0**exponent
            limbs[place][1:] += limb.astype(np.int64)
    for limb_sums in limbs:
        np.cumsum(limb_sums, out=limb_sums)
    return ExactPrefixes(limbs, low, bits)


def _exponents(values: Doubles) -> tuple[int, int]:
    """Return (low, high): all values are multiples of 2^low and smaller than 2^high in magnitude."""
    mantissas, exponents = np.frexp(values[values != 0.0])
    if not len(mantissas):
        return 0, 1
    integers = (mantissas * 2.0**53).astype(np.int64)
    lowest_bits = (integers & -integers).astype(np.float64)
    lowest = np.frexp(lowest_bits)[1] + exponents - 54
    return int(lowest.min()), int(exponents.max())


def _balanced(digits: Sequence[Integers], bits: int) -> list[Integers]:
    """Carry so that every digit but the top one lies in ±2^(bits-1): then the leading digit rules the size."""
    carried = [digit.copy() for digit in digits]
    for place in range(len(carried) - 1):
        carry = (carried[place] + (1 << (bits - 1))) >> bits
        carried[place] -= carry << bits
        carried[place + 1] += carry
    return carried


def _two_sum(left: Doubles, right: Doubles) -> Pair:
    total = left + right
    seen = total - left
    return total, (left - (total - seen)) + (right - seen)


def _two_product(left: Doubles, right: Doubles) -> Pair:
    product = left * right
    left_high, left_low = _halves(left)
    right_high, right_low = _halves(right)
    error = ((left_high * right_high - product) + left_high * right_low + left_low * right_high) + left_low * right_low
    return product, error


def _halves(values: Doubles) -> Pair:
    shifted = _SPLITTER * values
    high = shifted - (shifted - values)
    return high, values - high

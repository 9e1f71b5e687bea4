"""Exact sums over ranges of a column, vectorised: prefix sums in integers, rounded once at the end.

Differences of floating-point prefix sums lose what cancels, and depend on the order of addition. Here every double is
cut into a few *limbs*, integers of about 40 bits at fixed powers of two, and each limb is summed in int64 without
overflow. A range's sum is the difference of two prefixes: exact, whatever the order. It is rounded to the nearest
double through a pair of doubles (error-free transformations: Dekker, Numerische Mathematik 18, 1971; Ogita, Rump and
Oishi, SIAM J. Sci. Comput. 26, 2005); the few rows where the pair cannot prove its rounding are redone in Python
integers. A column of cents or of stars needs one or two limbs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import numpy.typing as npt

from mlops_assets.features.meaning import nearest_double, nearest_variance

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Pair of doubles, value = high + low; |low| is at most half a unit in the last place of high.
Pair = tuple[Doubles, Doubles]

_SPLITTER = 134217729.0  # 2^27 + 1
_LEAST_BITS = 34
_BLOCK = 1 << 14
_SUM_DOUBT = 2.0**-95  # a bound, generous by 2^6, of the relative error of a pair made from limbs
_VARIANCE_DOUBT = 2.0**-90
_QUICK = 1 << 13  # of so many values the square of the count has at most 26 bits


@dataclass(frozen=True, slots=True)
class ExactPrefixes:
    """Prefix sums of a column. ``limbs`` are lowest first; limb i counts units of 2^(``exponent`` + i·``bits``).

    A prefix may wrap around; the difference of two is right for ranges of the length they were made for. ``is_small``
    says that each digit of such a range is below 2^53, so that a double holds it.
    """

    limbs: list[Integers]
    exponent: int
    bits: int
    is_small: bool

    def digits(self, start: Integers, end: Integers) -> list[Integers]:
        """Return the limbs of the sums of ``[start, end)``."""
        return [limb.take(end) - limb.take(start) for limb in self.limbs]

    def sums(self, digits: Sequence[Integers]) -> Doubles:
        """Return the sums that have these digits, each rounded to the nearest double."""
        if len(digits) == 1:
            return digits[0].astype(np.float64) * 2.0**self.exponent
        if len(digits) == 2 and self.is_small:  # both are doubles, and one addition rounds once
            upper = digits[1].astype(np.float64) * 2.0 ** (self.exponent + self.bits)
            return upper + digits[0].astype(np.float64) * 2.0**self.exponent
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


@dataclass(frozen=True, slots=True)
class IntegerPrefixes:
    """Prefix sums of integers of 64 bits; ``upper`` is None where no range can leave them."""

    lower: Integers
    upper: Integers | None

    def sums(self, start: Integers, end: Integers) -> tuple[Integers, npt.NDArray[np.bool_] | None]:
        """Return the sums of ``[start, end)``, and where 64 bits hold them (``None``: everywhere)."""
        lower = self.lower.take(end) - self.lower.take(start)
        if self.upper is None:
            return lower, None
        upper = self.upper.take(end) - self.upper.take(start) + (lower >> 32)
        return (upper << 32) + (lower & 0xFFFFFFFF), (upper >= -(1 << 31)) & (upper < 1 << 31)


def integer_prefixes_of(values: Integers, longest: int) -> IntegerPrefixes:
    """Return prefix sums of integers for ranges of at most ``longest`` values."""
    largest = max(-int(values.min(initial=0)), int(values.max(initial=0)))
    if largest * max(longest, 1) < 1 << 63:
        return IntegerPrefixes(_cumulated(values), None)
    return IntegerPrefixes(_cumulated(values & 0xFFFFFFFF), _cumulated(values >> 32))


def prefixes_of(values: Doubles, longest: int) -> ExactPrefixes:
    """Return exact prefix sums of ``values`` (finite, as ``meaning.number`` makes them) for ranges so long."""
    low, high = _exponents(values)
    return _prefixes(values, lambda block: [block], low, high, longest)


def prefixes_of_squares(values: Doubles, longest: int) -> ExactPrefixes:
    """Return exact prefix sums of the squares of ``values`` for ranges so long."""
    low, high = _exponents(values)
    return _prefixes(values, lambda block: list(_two_product(block, block)), 2 * low, 2 * high, 2 * longest)


@dataclass(frozen=True, slots=True)
class Deviations:
    """What standard deviations of ranges are made of; ``changes`` counts the values that differ from the one before.

    Most variances are settled by ``_quickly``, with a bound of its error; the others by pairs of doubles, and what
    those cannot settle in Python's integers.
    """

    sums: ExactPrefixes
    squares: ExactPrefixes
    changes: npt.NDArray[np.int32]
    longest: int

    def of(self, digits: Sequence[Integers], start: Integers, end: Integers) -> Doubles:
        """Return the deviations of ``[start, end)``, none of them empty, whose sums have ``digits``.

        Each is the square root of the population variance rounded to the nearest double.
        """
        count = (end - start).astype(np.float64)
        rows = np.flatnonzero(count > 1.0)  # one value deviates by nothing
        if len(rows) * 2 > len(count):
            return np.sqrt(self._variances(count, digits, start, end))
        results = np.zeros(len(count))
        if len(rows):
            picked = [digit.take(rows) for digit in digits]
            results[rows] = np.sqrt(self._variances(count[rows], picked, start[rows], end[rows]))
        return results

    def _variances(self, count: Doubles, digits: Sequence[Integers], start: Integers, end: Integers) -> Doubles:
        if len(digits) == len(self.squares.limbs) == 1 and self.sums.exponent * 2 == self.squares.exponent:
            square_digits = self.squares.digits(start, end)
            scaled = count * square_digits[0]
            if scaled.max(initial=0.0) < 2.0**53:  # all of it is exact in doubles
                variances: Doubles = (scaled - digits[0].astype(np.float64) ** 2) / (count * count)
                return variances * 2.0**self.squares.exponent
        is_quick = self.longest <= _QUICK and len(digits) <= 2 and self.sums.is_small and self.squares.is_small
        if not is_quick:
            return self._surely(count, digits, start, end)
        results, rows = self._quickly(count, digits, start, end)
        if len(rows):
            picked = [digit.take(rows) for digit in digits]
            results[rows] = self._surely(count[rows], picked, start[rows], end[rows])
        return results

    def _quickly(
        self, count: Doubles, digits: Sequence[Integers], start: Integers, end: Integers
    ) -> tuple[Doubles, npt.NDArray[np.intp]]:
        """Return the variances, and the rows of which the last bit is in doubt.

        Sums and squares are cut to 26 bits and a rest, so that the leading products are exact; the error of the others
        is below 2^-74 of them, and below that of the limbs left out and of the rests' own rounding.
        """
        tops = [limb.take(end) - limb.take(start) for limb in self.squares.limbs[-2:]]
        unit = 2.0 ** (self.squares.exponent + self.squares.bits * (len(self.squares.limbs) - 1))
        square, square_high, square_low = _cut(tops, unit, self.squares.bits)
        total_unit = 2.0 ** (self.sums.exponent + self.sums.bits * (len(self.sums.limbs) - 1))
        total, total_high, total_low = _cut(digits, total_unit, self.sums.bits)
        left, right = count * square_high, total_high * total_high
        high, error = _two_sum(left, -right)
        high, low = _two_sum(high, error + (count * square_low - total_low * (total_high + total)))
        left_out = 2.0 ** (1 - self.squares.bits) if len(self.squares.limbs) > 2 else 0.0
        doubt = count * (square * 2.0**-74 + self.longest * unit * (left_out + 2.0**-50))
        if len(digits) > 1:
            doubt += np.abs(total) * (self.longest * total_unit * 2.0**-50)
        divisor = count * count
        quotient = high / divisor
        quotient_high = _upper_half(quotient)
        rest = high - quotient_high * divisor - (quotient - quotient_high) * divisor + low
        rest /= divisor
        doubt /= divisor
        results: Doubles = quotient + (rest - doubt)
        is_unsure = results != quotient + (rest + doubt)
        if (is_one := count == 1.0).any():
            results[is_one] = 0.0
            is_unsure &= ~is_one
        return results, np.flatnonzero(is_unsure)

    def _surely(self, count: Doubles, digits: Sequence[Integers], start: Integers, end: Integers) -> Doubles:
        """Return the variances by pairs of doubles; equal values deviate by nothing and need no arithmetic."""
        square_digits = self.squares.digits(start, end)
        square_pair = self.squares.pair(square_digits)[:2]
        high, low = _variance_pair(count, self.sums.pair(digits)[:2], square_pair)
        doubt = square_pair[0] / count * _VARIANCE_DOUBT
        for part in (high, low, doubt):
            part[self.changes.take(start) == self.changes.take(end - 1)] = 0.0

        exponent = min(self.sums.exponent, self.squares.exponent // 2)

        def exactly(row: int) -> float:
            total = self.sums.integer(digits, row) << (self.sums.exponent - exponent)
            squares = self.squares.integer(square_digits, row) << (self.squares.exponent - 2 * exponent)
            return nearest_variance(int(count[row]), total, squares, exponent)

        return _settled(high, low, doubt, exactly)


def deviations_of(values: Doubles, sums: ExactPrefixes, longest: int) -> Deviations:
    """Return what answers for the deviations of ranges of ``values``, none longer than ``longest``."""
    changes = np.cumsum(np.diff(values, prepend=values[:1]) != 0.0, dtype=np.int32)
    return Deviations(sums, prefixes_of_squares(values, longest), changes, longest)


def _cut(digits: Sequence[Integers], unit: float, bits: int) -> tuple[Doubles, Doubles, Doubles]:
    """Return one or two digits as a double, its first 26 bits and the rest; the last digit counts ``unit``."""
    top = digits[-1].astype(np.float64) * unit
    if len(digits) == 1:
        high = _upper_half(top)
        return top, high, top - high
    rest = digits[-2].astype(np.float64) * (unit * 2.0**-bits)
    total = top + rest
    high = _upper_half(total)
    return total, high, (top - high) + rest


def _upper_half(values: Doubles) -> Doubles:
    """Return the first 26 bits (Veltkamp's cut)."""
    shifted = _SPLITTER * values
    return shifted - (shifted - values)


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


def _prefixes(
    values: Doubles, parts: Callable[[Doubles], list[Doubles]], low: int, high: int, terms: int
) -> ExactPrefixes:
    """Cut the ``parts`` of ``values``, multiples of 2^low and smaller than 2^high, into limbs and sum them.

    A range adds up to ``terms`` numbers, which decides how many bits a limb may have.
    """
    room = max(terms, 1).bit_length()
    bits = min(max(53 - room, _LEAST_BITS), 62 - room)
    places = max(ceil((high - low) / bits), 1)
    low = low if places == 1 else high - bits * places  # the highest limb is full, and says most
    limbs = [np.zeros(len(values) + 1, np.int64) for _ in range(places)]
    for block in _blocks(len(values)):
        for rest in parts(values[block]):
            for place in reversed(range(places)):
                limb = rest if place == 0 else np.trunc(rest * 2.0 ** -(low + bits * place))
                whole = (limb * 2.0**-low if place == 0 else limb).astype(np.int64)
                limbs[place][block.start + 1 : block.stop + 1] += whole
                if place:
                    rest = rest - limb * 2.0 ** (low + bits * place)  # noqa: PLW2901
    for limb_sums in limbs:
        np.cumsum(limb_sums, out=limb_sums)
    return ExactPrefixes(limbs, low, bits, bits + room <= 53)


def _exponents(values: Doubles) -> tuple[int, int]:
    """Return (low, high): all values are multiples of 2^low and smaller than 2^high in magnitude."""
    found = [_block_exponents(values[block]) for block in _blocks(len(values))]
    lows, highs = zip(*(pair for pair in found if pair is not None), strict=True) if any(found) else ((0,), (1,))
    return min(lows), max(highs)


def _block_exponents(values: Doubles) -> tuple[int, int] | None:
    mantissas, exponents = np.frexp(values)
    integers = (mantissas * 2.0**53).astype(np.int64)
    bits = np.frexp((integers & -integers).astype(np.float64))[1] + exponents - 54
    is_some = values != 0.0
    if not is_some.any():
        return None
    return int(bits.min(where=is_some, initial=1 << 20)), int(exponents.max(where=is_some, initial=-(1 << 20)))


def _blocks(length: int) -> Iterator[slice]:
    """Yield slices of the processor's cache's size, so that what is made of one needs no way to memory."""
    return (slice(place, min(place + _BLOCK, length)) for place in range(0, length, _BLOCK))


def _cumulated(values: Integers) -> Integers:
    sums = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


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
    high = _upper_half(values)
    return high, values - high

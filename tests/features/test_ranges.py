"""What is asked of ranges of positions is exact: sums and deviations to the last bit, whatever cancels or overflows."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.features import distinct, exact, extremes
from mlops_assets.features.distinct import distinct_counts_of
from mlops_assets.features.exact import deviations_of, integer_prefixes_of, prefixes_of
from mlops_assets.features.extremes import extremes_of

HOSTILE = {
    "cents": lambda random, size: random.lognormal(3, 1, size).round(2),
    "signed": lambda random, size: random.normal(0, 1, size),
    "far from zero": lambda random, size: 1e9 + random.integers(0, 3, size) / 8,
    "few values": lambda random, size: random.integers(0, 2, size).astype(np.float64),
    "constant": lambda _random, size: np.full(size, 0.1),
    "all sizes": lambda random, size: random.normal(0, 1, size) * 2.0 ** random.integers(-200, 200, size),
    "outliers": lambda random, size: np.where(random.random(size) < 0.01, 1e15, random.random(size)),
    "largest": lambda random, size: random.choice([-1.0, 1.0], size) * (2.0**300 - 2.0**247),
}


def some_ranges(random, size, rows, longest):
    start = random.integers(0, size, rows)
    return start, np.minimum(start + random.integers(1, longest + 1, rows), size)


@pytest.mark.parametrize("longest", [3, 40, 9000])
@pytest.mark.parametrize("kind", HOSTILE)
def test_sums_and_deviations_are_rounded_once(kind, longest):
    random = np.random.default_rng(5)
    values = HOSTILE[kind](random, 10_000)
    start, end = some_ranges(random, len(values), 150 if longest < 100 else 4, longest)
    sums = prefixes_of(values, longest)
    digits = sums.digits(start, end)
    deviations = deviations_of(values, sums, longest).of(digits, start, end)
    for place, (low, high) in enumerate(zip(start, end, strict=True)):
        part = [Fraction(value) for value in values[low:high].tolist()]
        mean = sum(part) / len(part)
        assert sums.sums(digits)[place] == float(sum(part))
        assert deviations[place] == math.sqrt(sum((value - mean) ** 2 for value in part) / len(part))


@given(st.lists(st.sampled_from([0, 1, -1, 2**31, 2**62, 2**63 - 1, -(2**63), -(2**62) - 1]), min_size=1, max_size=9))
@settings(max_examples=60)
def test_a_sum_of_integers_is_exact_or_known_not_to_fit(values):
    pairs = [(low, high) for low in range(len(values)) for high in range(low, len(values) + 1)]
    start, end = np.array(pairs).T
    found, fits = integer_prefixes_of(np.array(values), len(values)).sums(start, end)
    for place, (low, high) in enumerate(pairs):
        total = sum(values[low:high])
        assert (fits is None or bool(fits[place])) == (-(2**63) <= total < 2**63)
        assert (fits is not None and not fits[place]) or found[place] == total


@pytest.mark.parametrize("span", [1, 3, 9])
@pytest.mark.parametrize("pick", [np.minimum, np.maximum])
@pytest.mark.parametrize("rows", [3, 2000])
def test_extremes_are_those_of_the_range(monkeypatch, span, pick, rows):
    for name, value in (("_SPAN_LEVEL", span), ("_SPAN", 1 << span), ("_LONG", 2 << span)):
        monkeypatch.setattr(extremes, name, value)
    random = np.random.default_rng(5)
    values = random.integers(-(2**63), 2**63 - 1, 3000)
    for longest in (1, 7, 3000):
        start, end = some_ranges(random, len(values), rows, longest)
        found = extremes_of(values, pick, longest).of(start, end)
        assert found.tolist() == [pick.reduce(values[low:high]) for low, high in zip(start, end, strict=True)]


@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("entities", [1, 7, 900])
def test_distinct_counts_are_those_of_the_range(monkeypatch, few, entities):
    monkeypatch.setattr(distinct, "_FEW", few)
    random = np.random.default_rng(5)
    groups = np.sort(random.integers(0, entities, 1000))
    values = random.integers(0, 9, 1000)
    first, stop = np.searchsorted(groups, groups), np.searchsorted(groups, groups, side="right")
    end = random.integers(first, stop + 1)
    start = random.integers(first, end + 1)
    for low in (first, start):
        found = distinct_counts_of(values, groups).of(first, low, end)
        assert found.tolist() == [len(set(values[a:b].tolist())) for a, b in zip(low, end, strict=True)]


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_doubles_cannot_settle_is_settled_in_integers(monkeypatch, kind):
    all_in_doubt = lambda high, _low, _doubt, exactly: np.array([exactly(row) for row in range(len(high))])  # noqa: E731
    monkeypatch.setattr(exact, "_settled", all_in_doubt)
    monkeypatch.setattr(exact, "_QUICK", 0)
    test_sums_and_deviations_are_rounded_once(kind, 40)


def test_a_deviation_without_its_last_bits_is_caught(monkeypatch):
    monkeypatch.setattr(exact, "_settled", lambda high, _low, _doubt, _exactly: high * (1 + 2.0**-52))
    with pytest.raises(AssertionError):
        test_sums_and_deviations_are_rounded_once("all sizes", 40)

"""What an instant, a value and an aggregate are, in every engine, to the last bit.

* An **instant** is a whole number of microseconds since 1970 in UTC. A datetime without a zone is taken as UTC; a date
  is its midnight. Finer times are cut off, so two events within one microsecond are a tie.
* A **double** is finite. NaN, infinities and magnitudes of 2^300 or more are refused; magnitudes below 2^-300 count
  as 0. Within that range sums and sums of squares are *exact*, and rounded once:
* ``sum`` is the true sum rounded to the nearest double, ``mean`` that sum divided by the count, ``std`` the square root
  of the true population variance rounded to the nearest double (0 for equal values). None depends on the order of
  events, so engines that add in another order agree bit for bit.
* An **integer** has 64 bits. A ``sum`` that does not fit is null, never wrapped; ``mean`` and ``std`` read integers as
  doubles. A **string** is compared by its code points, a category is its text, a decimal is the nearest double.

``docs/feature_meaning.md`` says the same for people, with what follows from it.

Belongs here: the rules that all engines share. Not here: how an engine finds the events of a window.
"""

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from numbers import Real
from typing import Any

from mlops_assets.errors import FeatureError
from mlops_assets.features.view import Aggregate, Feature, FeatureView, Ratio, ValueType

LARGEST = 2.0**300
SMALLEST = 2.0**-300

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def instant(value: object, what: str) -> int:
    """Return microseconds since 1970 in UTC; ``FeatureError`` naming ``what`` if ``value`` is no date or datetime.

    >>> instant(datetime(1970, 1, 1, 0, 0, 1), "event_time")
    1000000
    """
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        raise FeatureError(f"{what} must be a datetime, found {value!r}")
    aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def number(value: object, what: str) -> float | None:
    """Return the double that ``value`` stands for, or ``None``; ``FeatureError`` naming ``what`` if it is refused.

    >>> number(True, "column x"), number(-0.0, "column x"), number(None, "column x")
    (1.0, 0.0, None)
    """
    if value is None:
        return None
    if not isinstance(value, Real | Decimal):
        raise FeatureError(f"{what} must hold numbers, found {value!r}")
    double = float(value)
    size = abs(double)
    if size < LARGEST:  # NaN is not less than anything
        return double + 0.0 if size >= SMALLEST else 0.0
    raise FeatureError(
        f"{what} holds {double!r}; clean it in the data contract: a feature takes finite numbers below 2^300"
    )


def where(view: FeatureView, column: str) -> str:
    """Return the words that locate a column of a view in a message."""
    return f"feature view {view.name!r}: column {column!r}"


def read_value(value: object, type: ValueType, what: str) -> Any:
    """Return ``value`` as engines hold it (a time as its instant), or ``None``; ``FeatureError`` if it is refused.

    >>> read_value(3, "double", "column x"), read_value("paid", "string", "column x")
    (3.0, 'paid')
    """
    if value is None:
        return None
    if type == "double":
        return number(value, what)
    if type == "time":
        return instant(value, what)
    if type == "integer" and isinstance(value, int) and -(2**63) <= value < 2**63:
        return int(value)
    if (type == "string" and isinstance(value, str)) or (type == "boolean" and isinstance(value, bool)):
        return value
    raise FeatureError(f"{what} must hold {type} values, found {value!r}")


def read_as(aggregate: Aggregate) -> ValueType:
    """Return the type as which the aggregate reads its column: averages read doubles."""
    return "double" if aggregate.function in {"mean", "std"} else aggregate.type


def reads_values(aggregate: Aggregate) -> bool:
    """Return whether the values of the column matter, or only that they are there."""
    return aggregate.function not in {"count", "time_since"}


def window_microseconds(aggregate: Aggregate) -> int | None:
    """Return the window in microseconds, ``None`` for all time."""
    return None if aggregate.window is None else aggregate.window // _MICROSECOND


def time_to_live_microseconds(view: FeatureView) -> int | None:
    """Return the view's time to live in microseconds, ``None`` for for ever."""
    return None if view.time_to_live is None else view.time_to_live // _MICROSECOND


def empty_value(feature: Feature) -> Any:
    """Return the feature's value over an empty window."""
    if isinstance(feature, Aggregate) and feature.is_list:
        return []
    if feature.empty is not None:
        return float(feature.empty) if feature.result_type == "double" else _aware(feature.empty)  # type: ignore[arg-type]
    if isinstance(feature, Aggregate) and feature.function in {"count", "distinct_count", "sum"}:
        return 0.0 if feature.result_type == "double" else 0
    return None


def value_of(held: Any, type: ValueType) -> Any:
    """Return a value as it is given to people: a time as a datetime in UTC, all others as they are held."""
    return _EPOCH + held * _MICROSECOND if type == "time" and held is not None else held


def seconds_since(then: int, now: int) -> float:
    """Return the seconds between two instants."""
    return (now - then) / 1e6


def integer_sum(total: int) -> int | None:
    """Return a sum of integers, ``None`` where 64 bits cannot hold it."""
    return total if -(2**63) <= total < 2**63 else None


def ratio_value(ratio: Ratio, values: Mapping[str, Any]) -> float | None:
    """Return the ratio of two features of ``values``."""
    numerator, denominator = values[ratio.numerator], values[ratio.denominator]
    if numerator is None or not denominator:
        return empty_value(ratio)  # type: ignore[no-any-return]
    return float(numerator) / float(denominator)


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def nearest_double(numerator: int, exponent: int) -> float:
    """Return ``numerator`` × 2^``exponent``, rounded once to the nearest double.

    >>> nearest_double(3, -1)
    1.5
    """
    return numerator / (1 << -exponent) if exponent < 0 else float(numerator << exponent)


def nearest_variance(count: int, total: int, squares: int, exponent: int) -> float:
    """Return the population variance, rounded once, of numbers that are multiples of 2^``exponent``.

    ``total`` is their sum in units of 2^``exponent`` and ``squares`` the sum of their squares in units of its square.
    """
    numerator = count * squares - total * total
    if exponent < 0:
        return numerator / (count * count << -2 * exponent)
    return (numerator << 2 * exponent) / (count * count)


def standard_deviation(variance: float) -> float:
    """Return the square root: IEEE 754 defines it to the last bit, so every engine has the same."""
    return math.sqrt(variance)


def required(row: Mapping[str, Any], column: str, what: str) -> Any:
    """Return ``row[column]``; ``FeatureError`` saying what lacks it if it is missing or null."""
    value = row.get(column)
    if value is None:
        raise FeatureError(f"{what} has no value for {column!r}; it has {sorted(row)}")
    return value

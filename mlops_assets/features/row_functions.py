"""Functions that only an expression over one row may call: batch and serving compute them alike, other engines may not.

Where Python's own function gives the very same result, a request is answered by it, in about a microsecond. Everything
else asks Polars again, for a frame of one row: slower (some 100 microseconds) and equal by construction, which matters
more. ``EXTRACT`` reads a time in its column's own zone.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import polars as pl

Kind = Literal["double", "integer", "boolean", "string", "time", "local", "any"]
"""What a step of an expression gives; ``local`` is a time in its column's zone, ``any`` is asked for null alone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RowFunction:
    """What it takes (``takes`` of each argument), what it gives, and how; without ``python``, Polars is asked."""

    takes: Kind
    gives: Kind
    polars: Callable[..., pl.Expr]
    python: Callable[..., Any] | None = None


def in_utc(time: datetime) -> datetime:
    """Return a time in UTC; one without a zone is taken as UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def divided(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Return the nearest double of the quotient of finite doubles.

    Polars divides by one number for all rows by multiplying with its reciprocal, which is a last bit off: so every row
    gets a divisor of its own.
    """
    return left / (right + left * 0.0)


def _part(name: str, python: Callable[[datetime], int]) -> RowFunction:
    return RowFunction("local", "integer", lambda time: getattr(time.dt, name)().cast(pl.Int64), python)


def _method(name: str, python: Callable[[float], float | None] | None = None) -> RowFunction:
    return RowFunction("double", "double", lambda value, *options: getattr(value, name)(*options), python)


ROW_FUNCTIONS: dict[str, RowFunction] = {
    "Year": _part("year", operator.attrgetter("year")),
    "Quarter": _part("quarter", lambda time: (time.month + 2) // 3),
    "Month": _part("month", operator.attrgetter("month")),
    "Week": _part("week", lambda time: time.isocalendar().week),
    "Day": _part("day", operator.attrgetter("day")),
    "WeekDay": _part("weekday", operator.methodcaller("isoweekday")),
    "OrdinalDay": _part("ordinal_day", lambda time: time.timetuple().tm_yday),
    "Hour": _part("hour", operator.attrgetter("hour")),
    "Minute": _part("minute", operator.attrgetter("minute")),
    "Second": _part("second", operator.attrgetter("second")),
    "Epoch": RowFunction(
        "time",
        "double",
        lambda time: divided(time.dt.epoch("us").cast(pl.Float64), pl.lit(1e6)),
        lambda time: ((time - _EPOCH) // timedelta(microseconds=1)) / 1e6,
    ),
    "LenChars": RowFunction("string", "integer", lambda text: text.str.len_chars().cast(pl.Int64), len),
    "Uppercase": RowFunction("string", "string", lambda text: text.str.to_uppercase()),
    "Lowercase": RowFunction("string", "string", lambda text: text.str.to_lowercase()),
    "Concat": RowFunction("string", "string", operator.add, operator.add),
    "Log": _method("log"),
    "MinHorizontal": RowFunction("double", "double", pl.min_horizontal),
    "MaxHorizontal": RowFunction("double", "double", pl.max_horizontal),
    "Generic": RowFunction("double", "double", lambda base, exponent: base.pow(exponent)),
    "Sqrt": _method("sqrt", lambda value: None if value < 0 else math.sqrt(value)),
    "Floor": _method("floor", lambda value: float(math.floor(value))),
    "Ceil": _method("ceil", lambda value: float(math.ceil(value))),
    "Sign": _method("sign", lambda value: float((value > 0) - (value < 0))),
    **{name: _method(name.lower()) for name in ("Exp", "Log1p", "Round", "Sin", "Cos")},
}
"""By the names that Polars gives them; ``Epoch`` and ``Concat`` are spelled out in its trees, ``Generic`` is POWER."""

WHOLE = frozenset({"Floor", "Ceil", "Round", "Sign"})
"""Functions whose double is a whole number (``Round`` without decimals), which an integer may hold."""

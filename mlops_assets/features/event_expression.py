"""Expressions over one event's columns, which every engine computes alike: read once, then said to Polars, Python, SQL.

The text is SQL as Polars reads it. It may hold columns, literals, ``+ - * /``, comparisons, ``AND OR NOT``, ``IS [NOT]
NULL``, ``CASE``, ``COALESCE``, ``ABS``, and ``LIKE`` with a prefix, a suffix or a part. Logic has three values.
Numbers are read as doubles, which makes ``a / b`` the same in Polars, where it divides, and in SQL, where it would cut
integers; a result that is not finite is null, at every step. Anything else is refused with the reason: what one engine
cannot compute exactly, none does. Expressions over a request may hold more (``request_expression.py``).

A column's type follows from its use: text where it meets text, boolean where it stands for a condition, else a double.
"""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import polars as pl

from mlops_assets.features.expression import (
    ARITHMETIC,
    COMPARISONS,
    Node,
    RefusedError,
    columns_of,
    fault_of_columns,
    read,
    walk,
)
from mlops_assets.features.expression_kinds import settled
from mlops_assets.features.row_functions import ROW_FUNCTIONS, Kind, RowFunction, divided, in_utc

Program = Callable[[Mapping[str, Any]], Any]

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEXT_TESTS: dict[str, tuple[str, Callable[[str, str], bool]]] = {
    "StartsWith": ("{}%", str.startswith),
    "EndsWith": ("%{}", str.endswith),
    "Contains": ("%{}%", str.__contains__),
}
_DTYPES: dict[str, pl.DataType] = {
    "double": pl.Float64(),
    "integer": pl.Int64(),
    "boolean": pl.Boolean(),
    "string": pl.String(),
    "time": pl.Datetime("us", "UTC"),
}
_SQL_TYPES = {"double": "DOUBLE", "boolean": "BOOLEAN", "string": "STRING"}
_EXACT = 2**53
"""Below it, integers and doubles are the same numbers; an integer computed beyond it is null, never rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventExpression:
    """The column ``name``, computed from one event's other columns by ``expression``."""

    name: str
    expression: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns it reads."""
        return tuple(columns_of(parse(self.expression)))

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration, one sentence each."""
        found = [] if self.name else [f"a computed column ({self.expression}) has an empty name"]
        fault = event_expression_fault(self.expression)
        return found if fault is None else [*found, f"column {self.name!r}: {fault}"]

    def to_json(self) -> dict[str, str]:
        """Return the declaration as a JSON value."""
        return {"name": self.name, "expression": self.expression}


def event_expression_fault(text: str, wanted: Kind | None = None) -> str | None:
    """Return why ``text`` is no expression over one event, or not of the ``wanted`` kind; ``None`` if it is.

    >>> event_expression_fault("amount > 10 AND status = 'paid'") is None
    True
    >>> event_expression_fault("SUM(amount)")
    "'SUM(amount)': not every engine computes Agg exactly"
    """
    try:
        node = parse(text, wanted)
    except RefusedError as refused:
        return f"{text!r}: {refused}"
    fault = fault_of_columns(node)
    return None if fault is None else f"{text!r} {fault}"


def condition(text: str) -> Node:
    """Return the steps of an expression that is true, false or null."""
    return parse(text, "boolean")


@cache
def parse(text: str, wanted: Kind | None = None) -> Node:
    """Return the expression's steps; ``RefusedError`` says what is refused."""
    node = settled(read(text), wanted)
    for step in walk(node):
        if step.form == "call" or step.kind in {"integer", "time"}:
            found = step.value[0] if step.form == "call" else f"{step.kind} values"
            raise RefusedError(f"not every engine computes {found} exactly")
    return node


def to_polars(node: Node) -> pl.Expr:
    """Return the Polars expression of the steps, over a frame with the event's columns."""
    parts = [to_polars(part) for part in node.parts]
    value: Any = node.value
    forms: dict[str, Callable[..., pl.Expr]] = {
        "column": lambda: _polars_column(value, node.kind),
        "literal": lambda: pl.lit(value, dtype=_DTYPES[node.kind]),
        "arithmetic": lambda left, right: _polars_arithmetic(node, left, right),
        "compare": lambda left, right: _polars_compare(value, left, right),
        "text": lambda inner: _polars_text(inner, *value),
        "and": lambda left, right: left & right,
        "or": lambda left, right: left | right,
        "not": lambda inner: ~inner,
        "null": lambda inner: inner.is_null(),
        "case": lambda when, yes, no: pl.when(when).then(yes).otherwise(no),
        "coalesce": pl.coalesce,
        "abs": lambda inner: inner.abs() if node.kind == "double" else _polars_whole(inner.cast(pl.Float64).abs()),
        "number": lambda inner: inner.cast(_DTYPES[node.kind]),
        "whole": _polars_whole,
        "call": lambda *inner: _polars_call(node, *inner),
    }
    return forms[node.form](*parts)


def _polars_column(name: str, kind: Kind) -> pl.Expr:
    if kind in {"any", "local"}:
        return pl.col(name)
    column = pl.col(name).cast(_DTYPES[kind])
    return _polars_finite(column) if kind == "double" else column


def _polars_arithmetic(node: Node, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    if ARITHMETIC[node.value] == "/":
        return _polars_finite(divided(left, right))
    apply = _OPERATORS[ARITHMETIC[node.value]]
    if node.kind == "double":
        return _polars_finite(apply(left, right))
    left, right = left.cast(pl.Float64), right.cast(pl.Float64)
    are_exact = (left.abs() < _EXACT) & (right.abs() < _EXACT)
    return _polars_whole(pl.when(are_exact).then(apply(left, right)))


def _polars_whole(result: pl.Expr) -> pl.Expr:
    return pl.when(result.abs() < _EXACT).then(result).cast(pl.Int64)


def _polars_call(node: Node, *inner: pl.Expr) -> pl.Expr:
    name, *options = node.value
    result = ROW_FUNCTIONS[name].polars(*inner, *options)
    return _polars_finite(result) if node.kind == "double" else result


def _polars_finite(result: pl.Expr) -> pl.Expr:
    return pl.when(result.is_finite()).then(result)


def _polars_compare(name: str, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    result: pl.Expr = _OPERATORS[COMPARISONS[name]](left, right)
    return result


def _polars_text(inner: pl.Expr, test: str, text: str) -> pl.Expr:
    tests = {"StartsWith": inner.str.starts_with, "EndsWith": inner.str.ends_with}
    return tests[test](text) if test in tests else inner.str.contains(text, literal=True)


def to_python(node: Node) -> Program:
    """Return a function from an event to the value, the same as Polars' of a frame with that row."""
    parts = [to_python(part) for part in node.parts]
    value: Any = node.value
    if node.form == "column":
        return _column_reader(value, node.kind)
    if node.form == "literal":
        return lambda _event: value
    if node.form in {"arithmetic", "compare"}:
        apply = _OPERATORS[(ARITHMETIC | COMPARISONS)[value]]
        applied = _applied_exactly if node.kind == "integer" else _applied
        return lambda event: applied(apply, parts[0](event), parts[1](event))
    if node.form == "call":
        return _python_call(node, parts)
    if node.form == "text":
        test, text = _TEXT_TESTS[value[0]][1], value[1]
        return lambda event: None if (found := parts[0](event)) is None else test(found, text)
    forms: dict[str, Program] = {
        "and": lambda event: _and(parts[0](event), parts[1](event)),
        "or": lambda event: _or(parts[0](event), parts[1](event)),
        "not": lambda event: None if (inner := parts[0](event)) is None else not inner,
        "null": lambda event: parts[0](event) is None,
        "case": lambda event: parts[1](event) if parts[0](event) else parts[2](event),
        "coalesce": lambda event: next((v for part in parts if (v := part(event)) is not None), None),
        "abs": lambda event: _exact(node.kind, parts[0](event), abs),
        "number": lambda event: None if (inner := parts[0](event)) is None else _NUMBERS[node.kind](inner),
        "whole": lambda event: _exact("integer", parts[0](event), int),
    }
    return forms[node.form]


_NUMBERS: dict[str, Callable[[Any], Any]] = {"double": float, "integer": int}


def _python_call(node: Node, parts: list[Program]) -> Program:
    function = ROW_FUNCTIONS[node.value[0]]
    call = function.python or _polars_of_one_row(node, function)
    if function.python is None:
        return lambda event: call(*(part(event) for part in parts))

    def program(event: Mapping[str, Any]) -> Any:
        values = [part(event) for part in parts]
        return None if None in values else call(*values)

    return program


def _polars_of_one_row(node: Node, function: RowFunction) -> Callable[..., Any]:
    """Return a function of the arguments' values that is what Polars gives for a frame of one row."""
    places = [str(place) for place, _ in enumerate(node.parts)]
    named = [
        part if part.form == "literal" else Node("column", part.kind, place)
        for part, place in zip(node.parts, places, strict=True)
    ]
    expression = to_polars(replace(node, parts=tuple(named)))
    schema = dict.fromkeys(places, _DTYPES[function.takes])
    return lambda *values: pl.DataFrame([values], schema=schema, orient="row").select(expression).item()


def to_sql(node: Node) -> str:
    """Return standard SQL text as Flink reads it, over columns of the kinds' SQL types."""
    parts = [to_sql(part) for part in node.parts]
    value: Any = node.value
    forms: dict[str, Callable[..., str]] = {
        "column": lambda: _sql_column(value, node.kind),
        "literal": lambda: _sql_literal(node),
        "arithmetic": lambda left, right: _finite_sql(f"({left} {ARITHMETIC[value]} {right})"),
        "compare": lambda left, right: f"({left} {COMPARISONS[value]} {right})",
        "text": lambda inner: _sql_text(inner, *value),
        "and": lambda left, right: f"({left} AND {right})",
        "or": lambda left, right: f"({left} OR {right})",
        "not": lambda inner: f"(NOT {inner})",
        "null": lambda inner: f"({inner} IS NULL)",
        "case": lambda when, yes, no: f"(CASE WHEN {when} THEN {yes} ELSE {no} END)",
        "coalesce": lambda *values: f"COALESCE({', '.join(values)})",
        "abs": lambda inner: f"ABS({inner})",
        "number": lambda inner: f"(CASE WHEN {inner} THEN 1E0 WHEN NOT {inner} THEN 0E0 END)",
    }
    return forms[node.form](*parts)


def _sql_column(name: str, kind: Kind) -> str:
    if kind == "any":
        return f"`{name}`"
    column = f"CAST(`{name}` AS {_SQL_TYPES[kind]})"
    return _finite_sql(column) if kind == "double" else column


def _sql_text(inner: str, test: str, text: str) -> str:
    escaped = "".join(f"!{c}" if c in "%_!" else c for c in text).replace("'", "''")
    return f"({inner} LIKE '{_TEXT_TESTS[test][0].format(escaped)}' ESCAPE '!')"


def _finite_sql(text: str) -> str:
    return f"(CASE WHEN ABS({text}) <= 1.7976931348623157E308 THEN {text} END)"


def _sql_literal(node: Node) -> str:
    if node.value is None:
        return f"CAST(NULL AS {_SQL_TYPES[node.kind]})"
    if node.kind == "string":
        return "'" + str(node.value).replace("'", "''") + "'"
    return str(node.value).upper() if node.kind == "boolean" else f"CAST('{node.value!r}' AS DOUBLE)"


def _column_reader(name: str, kind: Kind) -> Program:
    if kind == "double":
        return lambda event: None if (value := event[name]) is None else _finite(float(value))
    if kind in {"integer", "time"}:
        convert = int if kind == "integer" else in_utc
        return lambda event: None if (value := event[name]) is None else convert(value)
    return lambda event: event[name]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _applied(apply: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    try:
        result = apply(left, right)
    except ZeroDivisionError:
        return None
    return _finite(result) if isinstance(result, float) else result


def _applied_exactly(apply: Callable[[int, int], int], left: int | None, right: int | None) -> int | None:
    if left is None or right is None or max(abs(left), abs(right)) >= _EXACT:
        return None
    result: int | None = _exact("integer", apply(left, right), int)
    return result


def _exact(kind: Kind, value: Any, convert: Callable[[Any], Any]) -> Any:
    """Return the converted value, null where an integer would not be exact."""
    return None if value is None or (kind == "integer" and abs(value) >= _EXACT) else convert(value)


def _and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _or(left: bool | None, right: bool | None) -> bool | None:
    if left or right:
        return True
    return None if left is None or right is None else False

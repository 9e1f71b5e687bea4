"""Row programs: the steps of a Polars expression that Python does with the very same result, one row at a time.

Belongs here: columns, literals, comparisons, sums and differences, string tests, parts of a datetime, casts
to Float64. An expression with any other step is left to Polars, and so is one whose types would need Polars's rules of
promotion: a fast answer that differs from training in one row is worse than a slow one. A property test compares both.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from mlops_assets.features.expression import expression_tree

Row = Mapping[str, Any]
Program = Callable[[Row], Any]

_COMPARISONS = {
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtEq": operator.le,
    "Gt": operator.gt,
    "GtEq": operator.ge,
}
_SUMS = {"Plus": operator.add, "Minus": operator.sub}
_STRING_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StartsWith": lambda text, part: text.startswith(part),
    "EndsWith": lambda text, part: text.endswith(part),
}
_PARTS = {"Year": "year", "Month": "month", "Day": "day", "Hour": "hour", "Minute": "minute"}


class _NotCompilableError(Exception):
    """A step or a type that is Polars's alone."""


def compile_row_program(expression: pl.Expr, schema: Mapping[str, pl.DataType]) -> Program | None:
    """Return a function from a row (values already of the schema's types) to the expression's value, or ``None``."""
    try:
        program, kind = _compile(expression_tree(expression), schema)
    except (_NotCompilableError, KeyError, TypeError, ValueError):
        return None
    return program if kind in {"float", "int", "bool"} else None


def _compile(node: Any, schema: Mapping[str, pl.DataType]) -> tuple[Program, str]:
    """Return the node's program and the kind of its value: float, int, literal, bool, text or moment."""
    (form, content), *others = node.items()
    compilers = {"Column": _column, "Literal": _literal, "Cast": _cast, "BinaryExpr": _binary, "Function": _function}
    if others or form not in compilers:
        raise _NotCompilableError
    return compilers[form](content, schema)


def _column(name: str, schema: Mapping[str, pl.DataType]) -> tuple[Program, str]:
    dtype = schema[name]
    kinds: dict[Any, str] = {pl.Float64: "float", pl.Int64: "int", pl.String: "text", pl.Boolean: "bool"}
    kind = "moment" if isinstance(dtype, pl.Datetime) else kinds[dtype.base_type()]
    return operator.itemgetter(name), kind


def _literal(content: Any, _schema: Mapping[str, pl.DataType]) -> tuple[Program, str]:
    ((form, value),) = content.items()
    ((kind, plain),) = value.items()
    if form == "Dyn" and kind == "Int" and abs(plain) < 2**31:
        return lambda _row: plain, "literal"
    if form == "Scalar" and kind == "String":
        return lambda _row: plain, "text"
    raise _NotCompilableError


def _cast(content: Any, schema: Mapping[str, pl.DataType]) -> tuple[Program, str]:
    program, kind = _compile(content["expr"], schema)
    if content["dtype"] != {"Literal": "Float64"} or kind not in {"float", "int", "bool"}:
        raise _NotCompilableError

    def cast(row: Row) -> float | None:
        value = program(row)
        return None if value is None else float(value)

    return cast, "float"


def _binary(content: Any, schema: Mapping[str, pl.DataType]) -> tuple[Program, str]:
    left, left_kind = _compile(content["left"], schema)
    right, right_kind = _compile(content["right"], schema)
    kinds = {left_kind, right_kind}
    operation = content["op"]
    if operation in _COMPARISONS and kinds in ({"float"}, {"float", "literal"}, {"int"}, {"int", "literal"}, {"text"}):
        return _without_nulls(_COMPARISONS[operation], left, right), "bool"
    if operation in _SUMS and "float" in kinds and kinds <= {"float", "int", "literal"}:
        return _without_nulls(_SUMS[operation], left, right), "float"
    raise _NotCompilableError


def _function(content: Any, schema: Mapping[str, pl.DataType]) -> tuple[Program, str]:
    if isinstance(content["function"], str):
        raise _NotCompilableError
    programs = [_compile(part, schema) for part in content["input"]]
    kinds = [kind for _, kind in programs]
    ((family, name),) = content["function"].items()
    if family == "TemporalExpr" and kinds == ["moment"]:
        part = operator.attrgetter(_PARTS[name])
        return _without_nulls(lambda moment, _: part(moment), programs[0][0], lambda _row: 0), "int"
    if family == "StringExpr" and kinds == ["text", "text"]:
        return _without_nulls(_string_test(name), programs[0][0], programs[1][0]), "bool"
    raise _NotCompilableError


def _string_test(name: Any) -> Callable[[str, str], bool]:
    if isinstance(name, str):
        return _STRING_TESTS[name]
    if name.get("Contains", {}).get("literal") is True:
        return operator.contains
    raise _NotCompilableError


def _without_nulls(operation: Callable[[Any, Any], Any], left: Program, right: Program) -> Program:
    def apply(row: Row) -> Any:
        first, second = left(row), right(row)
        return None if first is None or second is None else operation(first, second)

    return apply

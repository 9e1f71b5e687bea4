"""Expressions over the columns of one row: SQL as Polars reads it, as steps that every reader of them can walk.

A request has one row and an event is one, so an expression that aggregates, ranks or looks at neighbours has no meaning
here. Only forms known to look at one row are read; an unknown one is refused, with its name.

Belongs here: reading. Which kind each step has is ``expression_kinds.py``, how steps are said to an engine is
``event_expression.py``.
"""

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import polars as pl

from mlops_assets.features.row_functions import ROW_FUNCTIONS, Kind

ARITHMETIC = {"Plus": "+", "Minus": "-", "Mul": "*", "Multiply": "*", "Div": "/", "TrueDivide": "/"}
COMPARISONS = {"Eq": "=", "NotEq": "<>", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
TEXT_TESTS = ("StartsWith", "EndsWith", "Contains")

_CAST_KINDS: dict[str, Kind] = {"Float64": "double", "Boolean": "boolean", "String": "string", "Int64": "integer"}
_CASE = ("predicate", "truthy", "falsy")
_SAME_VALUES = ({"double", "integer"}, {"time", "local"})


class RefusedError(Exception):
    """What the expression holds that has no sure meaning."""


@dataclass(frozen=True, slots=True)
class Node:
    """One step: ``form`` is one of the words below, ``kind`` what it gives.

    column, literal, arithmetic, compare, text, and, or, not, null, case, coalesce, abs; number (a condition or an
    integer as a number), whole (a double without fraction as an integer), call (of a row function: name, options).
    """

    form: str
    kind: Kind
    value: Any = None
    parts: tuple["Node", ...] = ()


def expression_tree(expression: pl.Expr) -> Any:
    """Return the expression as Polars serializes it to JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Polars warns that this form may change: an unknown form is refused
        return json.loads(expression.meta.serialize(format="json"))


@cache
def read(text: str) -> Node:
    """Return the expression's steps as they stand, kinds not yet settled; ``RefusedError`` says what is refused."""
    try:
        tree = expression_tree(pl.sql_expr(text))
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise RefusedError(f"no Polars SQL expression ({error})") from error
    return _read(tree)


def walk(node: Node) -> Iterator[Node]:
    """Yield the step and all below it."""
    yield node
    for part in node.parts:
        yield from walk(part)


def columns_of(node: Node) -> dict[str, Kind]:
    """Return the columns the steps read, in their order, each with the kind it is read as."""
    return {part.value: part.kind for part in walk(node) if part.form == "column"}


def fault_of_columns(node: Node) -> str | None:
    """Return why settled steps cannot be of one row: they read nothing, or one column as values of several types."""
    read_as = {(part.value, part.kind) for part in walk(node) if part.form == "column"}
    if not read_as:
        return "reads no column"
    kinds: dict[str, set[str]] = {}
    for name, kind in read_as:
        kinds.setdefault(name, set()).update({kind} - {"any"})
    mixed = sorted(
        name for name, found in kinds.items() if len(found) > 1 and not any(found <= same for same in _SAME_VALUES)
    )
    return f"uses {mixed} as values of several types" if mixed else None


def _read(tree: Any) -> Node:
    ((form, content),) = tree.items() if isinstance(tree, dict) else ((str(tree), None),)
    readers = {
        "Column": lambda name: Node("column", "double", name),
        "Literal": _literal,
        "Cast": _cast,
        "BinaryExpr": lambda node: _seconds(node) or _binary(node["op"], _read(node["left"]), _read(node["right"])),
        "Ternary": lambda node: Node("case", "double", None, tuple(map(_read, (node[n] for n in _CASE)))),
        "Function": _function,
        "Alias": lambda node: _read(node[0]),
    }
    if form not in readers:
        raise RefusedError(f"not every engine computes {form} exactly")
    return readers[form](content)  # type: ignore[no-untyped-call]


def _literal(content: Any) -> Node:
    ((_, typed),) = content.items()
    kind: str
    value: Any
    kind, value = next(iter(typed.items())) if isinstance(typed, dict) else (str(typed), None)
    if kind == "Null":
        return Node("literal", "double", None)
    if kind == "String":
        return Node("literal", "string", value)
    if kind == "Boolean":
        return Node("literal", "boolean", value)
    if kind == "Datetime" and value[1:] == ["Microseconds", None]:
        return Node("literal", "time", datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value[0]))
    if kind == "Decimal":
        return Node("literal", "double", value[0] / 10 ** value[2])
    if kind in {"Int", "Float", "Int8", "Int32", "Int64", "Float64"} and math.isfinite(value):
        return Node("literal", "double", float(value))
    raise RefusedError(f"not every engine has the literal {kind:.20}; of a list, write x = 'a' OR x = 'b'")


def _cast(content: Any) -> Node:
    """Return a cast of a condition to a number; a cast to what the value is anyway is nothing."""
    dtype: Any = content["dtype"].get("Literal")
    kind = "time" if isinstance(dtype, dict) and "Datetime" in dtype else _CAST_KINDS.get(str(dtype))
    inner = _read(content["expr"])
    if kind is None:
        raise RefusedError(f"cast to {content['dtype']} is not known to every engine; numbers are doubles here")
    if inner.form == "column":
        return Node("column", kind, inner.value, (Node("typed", kind),))
    if (inner.kind, kind) in {("boolean", "double"), ("boolean", "integer"), ("integer", "double")}:
        return Node("number", kind, None, (inner,))
    if kind != inner.kind:
        raise RefusedError(f"cast of {inner.kind} to {kind} is not the same in every engine")
    return inner


def _seconds(content: Any) -> Node | None:
    """Return the step for what Polars makes of EXTRACT(EPOCH FROM time), ``None`` for any other operation."""
    match content:
        case {"left": {"BinaryExpr": {"left": {"Function": {"input": [time], "function": {"TemporalExpr": stamp}}}}}}:
            return Node("call", "double", ("Epoch",), (_read(time),)) if stamp == {"TimeStamp": "Nanoseconds"} else None
    return None


def _binary(op: str, left: Node, right: Node) -> Node:
    if op == "Plus" and left.kind == right.kind == "string":
        return Node("call", "string", ("Concat",), (left, right))
    if op in ARITHMETIC:
        return Node("arithmetic", "double", op, (left, right))
    if op in COMPARISONS:
        return Node("compare", "boolean", op, (left, right))
    if op in {"And", "Or"}:
        return Node(op.lower(), "boolean", None, (left, right))
    raise RefusedError(f"not every engine computes {op} exactly")


def _function(content: Any) -> Node:
    function, parts = content["function"], tuple(map(_read, content["input"]))
    name, inner = next(iter(function.items())) if isinstance(function, dict) else (function, None)
    if name == "Sql" and isinstance(inner, dict) and "Binary" in inner:
        return _binary(inner["Binary"], *parts)
    if name == "Sql" and inner == "ToFloat":
        return parts[0]
    if name == "Boolean" and inner in {"IsNull", "IsNotNull", "Not"}:
        tested = parts if inner == "Not" else (Node("null", "boolean", None, parts),)
        return tested[0] if inner == "IsNull" else Node("not", "boolean", None, tested)
    if name in {"Coalesce", "Abs"}:
        return Node(name.lower(), "double", None, parts)
    test, options = next(iter(inner.items())) if isinstance(inner, dict) else (inner, {})
    is_pattern = test == "Contains" and not options.get("literal")
    if name == "StringExpr" and test in TEXT_TESTS and parts[1].form == "literal" and not is_pattern:
        return Node("text", "boolean", (test, parts[1].value), parts[:1])
    return _call(test or name, options, parts)


def _call(name: str, options: Any, parts: tuple[Node, ...]) -> Node:
    if name not in ROW_FUNCTIONS:
        raise RefusedError(f"not every engine computes {name} exactly")
    given: tuple[Any, ...] = tuple(options.values()) if name == "Round" else ()
    if name == "Log":
        if parts[1].form != "literal":
            raise RefusedError("a logarithm needs a number as its base")
        parts, given = parts[:1], (parts[1].value,)
    return Node("call", ROW_FUNCTIONS[name].gives, (name, *given), parts)

"""Expressions over one event's columns, which every engine computes alike: read once, then said to Polars, Python, SQL.

The text is SQL as Polars reads it. It may hold columns, literals, ``+ - * /``, comparisons, ``AND OR NOT``, ``IS [NOT]
NULL``, ``CASE``, ``COALESCE``, ``ABS``, and ``LIKE`` with a prefix, a suffix or a part. Logic has three values.
Numbers are read as doubles, which makes ``a / b`` the same in Polars, where it divides, and in SQL, where it would cut
integers; a result that is not finite is null, at every step. Anything else is refused with the reason: what one engine
cannot compute exactly, none does.

A column's type follows from its use: text where it meets text, boolean where it stands for a condition, else a double.
"""

import math
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import polars as pl

from mlops_assets.features.expression import expression_tree

Kind = Literal["double", "boolean", "string", "any"]
Program = Callable[[Mapping[str, Any]], Any]

_ARITHMETIC: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "Plus": ("+", operator.add),
    "Minus": ("-", operator.sub),
    "Mul": ("*", operator.mul),
    "Multiply": ("*", operator.mul),
    "Div": ("/", operator.truediv),
    "TrueDivide": ("/", operator.truediv),
}
_COMPARISONS: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {
    "Eq": ("=", operator.eq),
    "NotEq": ("<>", operator.ne),
    "Lt": ("<", operator.lt),
    "LtEq": ("<=", operator.le),
    "Gt": (">", operator.gt),
    "GtEq": (">=", operator.ge),
}
_TEXT_TESTS: dict[str, tuple[str, Callable[[str, str], bool]]] = {
    "StartsWith": ("{}%", str.startswith),
    "EndsWith": ("%{}", str.endswith),
    "Contains": ("%{}%", str.__contains__),
}
_DTYPES = {"double": pl.Float64, "boolean": pl.Boolean, "string": pl.String}
_SQL_TYPES = {"double": "DOUBLE", "boolean": "BOOLEAN", "string": "STRING"}


class _RefusedError(Exception):
    """What the expression holds that not every engine can do."""


@dataclass(frozen=True, slots=True)
class Node:
    """One step: ``form`` is column, literal, arithmetic, compare, text, and, or, not, null, case, coalesce or abs."""

    form: str
    kind: Kind
    value: Any = None
    parts: tuple["Node", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventExpression:
    """The column ``name``, computed from one event's other columns by ``expression``."""

    name: str
    expression: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns it reads."""
        return tuple(dict.fromkeys(node.value for node in _walk(parse(self.expression)) if node.form == "column"))

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
    except _RefusedError as refused:
        return f"{text!r}: {refused}"
    if not any(part.form == "column" for part in _walk(node)):
        return f"{text!r} reads no column"
    kinds = {(part.value, part.kind) for part in _walk(node) if part.form == "column" and part.kind != "any"}
    if mixed := sorted(name for name, times in Counter(name for name, _ in kinds).items() if times > 1):
        return f"{text!r} uses {mixed} as values of several types"
    return None


def condition(text: str) -> Node:
    """Return the steps of an expression that is true, false or null."""
    return parse(text, "boolean")


@cache
def parse(text: str, wanted: Kind | None = None) -> Node:
    """Return the expression's steps; raises an error that says what is refused."""
    try:
        tree = expression_tree(pl.sql_expr(text))
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise _RefusedError(f"no Polars SQL expression ({error})") from error
    return _checked(_read(tree), wanted)


def _read(tree: Any) -> Node:
    ((form, content),) = tree.items() if isinstance(tree, dict) else ((str(tree), None),)
    readers = {
        "Column": lambda name: Node("column", "double", name),
        "Literal": _literal,
        "Cast": _cast,
        "BinaryExpr": lambda node: _binary(node["op"], _read(node["left"]), _read(node["right"])),
        "Ternary": lambda node: Node("case", "double", None, tuple(map(_read, (node[n] for n in _CASE)))),
        "Function": _function,
        "Alias": lambda node: _read(node[0]),
    }
    if form not in readers:
        raise _RefusedError(f"not every engine computes {form} exactly")
    return readers[form](content)  # type: ignore[no-untyped-call]


_CASE = ("predicate", "truthy", "falsy")


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
    if kind in {"Int", "Float", "Int32", "Int64", "Float64"} and math.isfinite(value):
        return Node("literal", "double", float(value))
    raise _RefusedError(f"not every engine has the literal {kind:.20}; of a list, write x = 'a' OR x = 'b'")


def _cast(content: Any) -> Node:
    """Return a cast of a condition to a number; a cast to what the value is anyway is nothing."""
    kind = {"Float64": "double", "Boolean": "boolean", "String": "string"}.get(str(content["dtype"].get("Literal")))
    inner = _read(content["expr"])
    if kind is None:
        raise _RefusedError(f"cast to {content['dtype']} is not known to every engine; numbers are doubles here")
    if inner.form == "column":
        return Node("column", kind, inner.value, (Node("typed", kind),))  # type: ignore[arg-type]
    if kind == "double" and inner.kind == "boolean":
        return Node("number", "double", None, (inner,))
    if kind != inner.kind:
        raise _RefusedError(f"cast of {inner.kind} to {kind} is not the same in every engine")
    return inner


def _binary(op: str, left: Node, right: Node) -> Node:
    if op in _ARITHMETIC:
        return Node("arithmetic", "double", op, (left, right))
    if op in _COMPARISONS:
        return Node("compare", "boolean", op, (left, right))
    if op in {"And", "Or"}:
        return Node(op.lower(), "boolean", None, (left, right))
    raise _RefusedError(f"not every engine computes {op} exactly")


def _function(content: Any) -> Node:
    function, parts = content["function"], tuple(map(_read, content["input"]))
    name, inner = next(iter(function.items())) if isinstance(function, dict) else (function, None)
    if name == "Sql" and isinstance(inner, dict) and "Binary" in inner:
        return _binary(inner["Binary"], *parts)
    if name == "Boolean" and inner in {"IsNull", "IsNotNull"}:
        is_null = Node("null", "boolean", None, parts)
        return is_null if inner == "IsNull" else Node("not", "boolean", None, (is_null,))
    if name == "Boolean" and inner == "Not":
        return Node("not", "boolean", None, parts)
    if name in {"Coalesce", "Abs"}:
        return Node(name.lower(), "double", None, parts)
    test, options = next(iter(inner.items())) if isinstance(inner, dict) else (inner, {})
    is_pattern = test == "Contains" and not options.get("literal")
    if name == "StringExpr" and test in _TEXT_TESTS and parts[1].form == "literal" and not is_pattern:
        return Node("text", "boolean", (test, parts[1].value), parts[:1])
    raise _RefusedError(
        f"not every engine computes {inner if name in {'Sql', 'Boolean', 'StringExpr'} else name} exactly"
    )


def _checked(node: Node, wanted: Kind | None) -> Node:
    """Return the step with the kinds of columns settled by their use; refuses kinds that do not fit."""
    if node.form == "null" and node.parts[0].form == "column" and not node.parts[0].parts:
        return Node("null", "boolean", None, (Node("column", "any", node.parts[0].value),))
    if node.form == "column":
        typed = node.kind if node.parts else None
        if typed and wanted and typed != wanted and not (typed == "boolean" and wanted == "double"):
            raise _RefusedError(f"column {node.value!r} is used both as {typed} and as {wanted}")
        kind: Kind = typed or wanted or "double"
        step = Node("column", kind, node.value)
        return Node("number", "double", None, (step,)) if kind == "boolean" and wanted == "double" else step
    if node.form == "literal" and node.value is None:
        return Node("literal", wanted or "double", None)
    if node.form in {"case", "coalesce"}:
        return _branches(node, wanted)
    needs: dict[str, Kind] = {
        "and": "boolean",
        "or": "boolean",
        "not": "boolean",
        "text": "string",
        "number": "boolean",
    }
    if node.form == "compare":
        inner = _common([*node.parts])
        if inner != "double" and node.value not in {"Eq", "NotEq"}:
            raise _RefusedError(f"the order of {inner} values is not the same in every engine; compare with = or <>")
    elif node.form == "null":
        inner = _common([*node.parts])
    else:
        inner = needs.get(node.form, "double")
    if wanted is not None and node.kind != wanted:
        raise _RefusedError(f"a {node.kind} stands where a {wanted} is needed")
    if node.form == "literal":
        return node
    return Node(node.form, node.kind, node.value, tuple(_checked(part, inner) for part in node.parts))


def _branches(node: Node, wanted: Kind | None) -> Node:
    conditions, values = (node.parts[:1], node.parts[1:]) if node.form == "case" else ((), node.parts)
    kind = wanted or _common([*values])
    parts = (*(_checked(part, "boolean") for part in conditions), *(_checked(part, kind) for part in values))
    return Node(node.form, kind, None, parts)


def _common(parts: list[Node]) -> Kind:
    """Return the kind that the parts have by themselves; a bare column and NULL take that of the others."""
    known: set[Kind] = set()
    for part in parts:
        if part.form in {"case", "coalesce"}:
            known.add(_common([*(part.parts[1:] if part.form == "case" else part.parts)]))
        elif (part.form != "column" or part.parts) and not (part.form == "literal" and part.value is None):
            known.add(part.kind)
    if len(known) > 1:
        raise _RefusedError(f"{' and '.join(sorted(known))} values are compared or mixed")
    return next(iter(known), "double")


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for part in node.parts:
        yield from _walk(part)


def to_polars(node: Node) -> pl.Expr:
    """Return the Polars expression of the steps, over a frame with the event's columns."""
    parts = [to_polars(part) for part in node.parts]
    value: Any = node.value
    forms: dict[str, Callable[..., pl.Expr]] = {
        "column": lambda: _polars_column(value, node.kind),
        "literal": lambda: pl.lit(value, dtype=_DTYPES[node.kind]),
        "arithmetic": lambda left, right: _polars_finite(_ARITHMETIC[value][1](left, right)),
        "compare": lambda left, right: _polars_compare(value, left, right),
        "text": lambda inner: _polars_text(inner, *value),
        "and": lambda left, right: left & right,
        "or": lambda left, right: left | right,
        "not": lambda inner: ~inner,
        "null": lambda inner: inner.is_null(),
        "case": lambda when, yes, no: pl.when(when).then(yes).otherwise(no),
        "coalesce": pl.coalesce,
        "abs": lambda inner: inner.abs(),
        "number": lambda inner: inner.cast(pl.Float64),
    }
    return forms[node.form](*parts)


def _polars_column(name: str, kind: Kind) -> pl.Expr:
    if kind == "any":
        return pl.col(name)
    column = pl.col(name).cast(_DTYPES[kind])
    return _polars_finite(column) if kind == "double" else column


def _polars_finite(result: pl.Expr) -> pl.Expr:
    return pl.when(result.is_finite()).then(result)


def _polars_compare(name: str, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    result: pl.Expr = _COMPARISONS[name][1](left, right)
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
        apply = (_ARITHMETIC if node.form == "arithmetic" else _COMPARISONS)[value][1]
        return lambda event: _applied(apply, parts[0](event), parts[1](event))
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
        "abs": lambda event: None if (inner := parts[0](event)) is None else abs(inner),
        "number": lambda event: None if (inner := parts[0](event)) is None else float(inner),
    }
    return forms[node.form]


def to_sql(node: Node) -> str:
    """Return standard SQL text as Flink reads it, over columns of the kinds' SQL types."""
    parts = [to_sql(part) for part in node.parts]
    value: Any = node.value
    forms: dict[str, Callable[..., str]] = {
        "column": lambda: _sql_column(value, node.kind),
        "literal": lambda: _sql_literal(node),
        "arithmetic": lambda left, right: _finite_sql(f"({left} {_ARITHMETIC[value][0]} {right})"),
        "compare": lambda left, right: f"({left} {_COMPARISONS[value][0]} {right})",
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


def _and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _or(left: bool | None, right: bool | None) -> bool | None:
    if left or right:
        return True
    return None if left is None or right is None else False

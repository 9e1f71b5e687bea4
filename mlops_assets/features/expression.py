"""What a Polars SQL expression may be when it must depend on one row only.

A request has one row, so an expression that aggregates, ranks or looks at neighbours would mean one thing in training
and another in serving. Polars's own ``meta.is_row_separable`` says yes to ``SUM(x)`` and fails on ``CASE``; so only
forms and functions known to look at one row are let through, and an unknown one is refused.
"""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import polars as pl

_FORMS = {"Column", "Literal", "Cast", "BinaryExpr", "Function", "Ternary", "Alias"}
_FAMILIES = {"StringExpr", "TemporalExpr", "Sql", "Pow", "Trigonometry", "Round", "RoundSF", "Log1p"}
_FUNCTIONS = {
    *("Abs", "Negate", "Coalesce", "FillNull", "Log", "Log1p", "Exp", "Sign", "Floor", "Ceil", "Round"),
    *("IsNull", "IsNotNull", "IsNan", "IsNotNan", "IsFinite", "IsInfinite", "Not", "IsIn", "IsBetween"),
    *("AllHorizontal", "AnyHorizontal", "MinHorizontal", "MaxHorizontal"),
}


def expression_tree(expression: pl.Expr) -> Any:
    """Return the expression as Polars serializes it to JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Polars warns that this form may change: an unknown form is refused
        return json.loads(expression.meta.serialize(format="json"))


def row_expression_fault(text: str) -> str | None:
    """Return why ``text`` is not an expression over one row's columns, ``None`` if it is.

    >>> row_expression_fault("CAST(rating >= 4 AS DOUBLE)") is None
    True
    >>> row_expression_fault("SUM(rating)")
    "'SUM(rating)' must be a function of one row's columns, Agg is not known to be"
    """
    try:
        expression = pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        return f"{text!r} is no Polars SQL expression ({error})"
    if strange := next(_strange_parts(expression_tree(expression)), None):
        return f"{text!r} must be a function of one row's columns, {strange} is not known to be"
    return None if expression.meta.root_names() else f"{text!r} must be a function of one row's columns, it reads none"


def _strange_parts(node: Any) -> Iterator[str]:
    """Yield the names of forms and functions that are not known to look at one row only."""
    if not isinstance(node, dict):
        yield str(node)
        return
    ((form, content),) = node.items()
    if form not in _FORMS:
        yield form
    elif form == "Function":
        yield from _strange_function(content["function"])
        for part in content["input"]:
            yield from _strange_parts(part)
    elif form == "Alias":
        yield from _strange_parts(content[0])
    elif form not in {"Column", "Literal"}:
        for key in {"expr", "left", "right", "predicate", "truthy", "falsy"} & set(content):
            yield from _strange_parts(content[key])


def _strange_function(function: Any) -> Iterator[str]:
    if isinstance(function, str):
        family, name = function, function
    else:
        ((family, inner),) = function.items()
        name = inner if isinstance(inner, str) else next(iter(inner), family) if isinstance(inner, dict) else family
    if name == "ConcatVertical" or not (family in _FAMILIES or {family, name} & _FUNCTIONS):
        yield name

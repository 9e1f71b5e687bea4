"""Expressions over one row, for features that only the row or the request knows.

They hold what ``event_expression.py`` allows, and beside it the row functions: parts of a time by ``EXTRACT``, length,
case and ``||`` of text, ``LN EXP POWER SQRT FLOOR CEIL ROUND SIGN SIN COS LEAST GREATEST``. They are typed: integers
are computed as integers (below 2^53; null beyond, never rounded), times are compared as instants.
"""

from functools import cache

from mlops_assets.features.expression import Node, RefusedError, fault_of_columns, read
from mlops_assets.features.expression_kinds import kind_by_itself, settled
from mlops_assets.features.row_functions import Kind


def request_expression_fault(text: str, type: Kind) -> str | None:
    """Return why ``text`` is no expression over one row that gives values of ``type``; ``None`` if it is.

    >>> request_expression_fault("EXTRACT(HOUR FROM time)", "integer") is None
    True
    >>> print(request_expression_fault("AVG(price)", "double"))
    'AVG(price)' is no expression over one row that gives double values: not every engine computes Agg exactly
    """
    wanted = f"{text!r} is no expression over one row that gives {type} values"
    try:
        fault = fault_of_columns(parse_request(text, type))
    except RefusedError as refused:
        return f"{wanted}: {refused}"
    return None if fault is None else f"{wanted}: it {fault}"


@cache
def parse_request(text: str, type: Kind) -> Node:
    """Return the steps to values of ``type``, in which a condition counts as the number 1 or 0.

    ``RefusedError`` says what is refused.
    """
    node = read(text)
    if type in {"double", "integer"} and kind_by_itself(node) == "boolean":
        return Node("number", type, None, (settled(node, "boolean"),))
    return settled(node, type)


def kind_of_request(text: str) -> Kind:
    """Return the type that an expression's values have by themselves; a double where it has none, or is faulty."""
    try:
        return kind_by_itself(read(text))
    except RefusedError:
        return "double"

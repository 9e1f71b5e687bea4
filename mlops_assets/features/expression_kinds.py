"""The kind of each step of an expression, settled by its use; kinds that do not fit are refused.

It is text where it meets text, boolean where it stands for a condition, else what is wanted of it, or a double.
"""

from mlops_assets.features.expression import ARITHMETIC, COMPARISONS, Node, RefusedError
from mlops_assets.features.row_functions import ROW_FUNCTIONS, WHOLE, Kind

_EXACT = 2**53
_FRACTION = ("double", "integer")
_NEEDS: dict[str, Kind] = {"and": "boolean", "or": "boolean", "not": "boolean", "text": "string"}
_ORDERED = ("double", "integer", "time")


def settled(node: Node, wanted: Kind | None = None) -> Node:
    """Return the steps with the kinds of columns settled by their use; ``RefusedError`` for kinds that do not fit."""
    if node.form == "null" and node.parts[0].form == "column" and not node.parts[0].parts:
        return Node("null", "boolean", None, (Node("column", "any", node.parts[0].value),))
    special = {"column": _column, "literal": _constant, "case": _branches, "coalesce": _branches}
    if node.form in special:
        return special[node.form](node, wanted)
    if wanted == "integer" and (node.form == "abs" or (node.form == "arithmetic" and ARITHMETIC[node.value] != "/")):
        return Node(node.form, "integer", node.value, tuple(settled(part, "integer") for part in node.parts))
    if wanted == "integer" and node.form == "call" and node.value[0] in WHOLE and not any(node.value[1:]):
        return Node("whole", "integer", None, (settled(node, "double"),))
    if wanted == "double" and node.kind == "integer":
        return Node("number", "double", None, (settled(node, "integer"),))
    if wanted is not None and node.kind != wanted:
        raise RefusedError(_misfit(node.kind, wanted))
    needed = _needed(node)
    return Node(node.form, node.kind, node.value, tuple(settled(part, needed) for part in node.parts))


def kind_by_itself(*parts: Node) -> Kind:
    """Return the kind that the steps have by themselves; a bare column and NULL take that of the others, or double."""
    known: set[Kind] = set()
    for part in parts:
        if part.form in {"case", "coalesce"}:
            known.add(kind_by_itself(*_values(part)))
        elif (part.form != "column" or part.parts) and not (part.form == "literal" and part.value is None):
            known.add(part.kind)
    if known == {"double", "integer"}:
        return "double"
    if len(known) > 1:
        raise RefusedError(f"{' and '.join(sorted(known))} values are compared or mixed")
    return next(iter(known), "double")


def _needed(node: Node) -> Kind:
    if node.form == "compare":
        inner = kind_by_itself(*node.parts)
        if inner not in _ORDERED and COMPARISONS[node.value] not in {"=", "<>"}:
            raise RefusedError(f"the order of {inner} values is not the same in every engine; compare with = or <>")
        return inner
    if node.form in {"null", "number"}:
        return kind_by_itself(*node.parts)
    return ROW_FUNCTIONS[node.value[0]].takes if node.form == "call" else _NEEDS.get(node.form, "double")


def _column(node: Node, wanted: Kind | None) -> Node:
    typed = node.kind if node.parts else None
    is_number = (typed, wanted) in {("boolean", "double"), ("boolean", "integer"), ("integer", "double")}
    if typed and wanted and typed != wanted and not is_number and (typed, wanted) != ("time", "local"):
        raise RefusedError(f"column {node.value!r} is used both as {typed} and as {wanted}")
    kind: Kind = typed if typed and is_number else wanted or typed or "double"
    step = Node("column", kind, node.value)
    return Node("number", wanted or "double", None, (step,)) if is_number else step


def _constant(node: Node, wanted: Kind | None) -> Node:
    if node.value is None:
        return Node("literal", wanted or "double", None)
    if wanted == "integer" and node.kind == "double" and node.value.is_integer() and abs(node.value) < _EXACT:
        return Node("literal", "integer", int(node.value))
    if wanted is not None and node.kind != wanted:
        raise RefusedError(_misfit(node.kind, wanted))
    return node


def _branches(node: Node, wanted: Kind | None) -> Node:
    if wanted == "local":
        raise RefusedError(_misfit("time", wanted))
    conditions, kind = node.parts[: len(node.parts) - len(_values(node))], wanted or kind_by_itself(node)
    parts = (*(settled(part, "boolean") for part in conditions), *(settled(part, kind) for part in _values(node)))
    return Node(node.form, kind, None, parts)


def _values(node: Node) -> tuple[Node, ...]:
    """Return the parts of a CASE or a COALESCE that may be its value."""
    return node.parts[1:] if node.form == "case" else node.parts


def _misfit(kind: Kind, wanted: Kind) -> str:
    if wanted == "local":
        return "EXTRACT reads the parts of a column, in that column's time zone"
    fraction = "; a double may have a fraction: use FLOOR, CEIL or ROUND" if (kind, wanted) == _FRACTION else ""
    return f"{_with_article(kind)} stands where {_with_article(wanted)} is needed{fraction}"


def _with_article(kind: Kind) -> str:
    return f"an {kind}" if kind == "integer" else f"a {kind}"

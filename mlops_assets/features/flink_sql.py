"""Feature views as Flink SQL: text for a streaming job, with the meaning of ``meaning.py`` and no second definition.

The job reads a table of events and a table of questions (the *spine*), and keeps one row of features per question,
which it corrects when a late event arrives. Times are BIGINT microseconds since 1970 in UTC, because Flink's event time
stops at milliseconds; a ``last_k`` of times is an array of such numbers. The text runs in streaming mode, with
``table.exec.mini-batch.enabled``: most rows are soon corrected again, and need not be sent on. State must not expire
(``table.exec.state.ttl``), events and questions are only added, and each question has a ``spine_row`` of its own; the
same question or the same keyed event delivered again changes nothing. What the meaning refuses (NaN, a missing key, two
events of one key that differ in what is read) makes the job fail with a sentence.

All values are exact, but doubles that are added up: for n values x of a window, with e = 2^-52,

* ``sum``: off by at most n · e · Σ|x|,
* ``mean``: off by at most (n + 1) · e · Σ|x| / n,
* ``std``: off by at most (n + 2)² · e times itself (0 for equal values), for n below 2^20,
* a ratio divides what its two features hold, with one rounding.

Belongs here: tables and their types. Not here: the query (``flink_query.py``), or anything that talks to Flink.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlops_assets.errors import InvalidDefinition
from mlops_assets.features.event_expression import condition, parse
from mlops_assets.features.expression import Node
from mlops_assets.features.flink_query import FlinkQuery
from mlops_assets.features.flink_steps import ROW
from mlops_assets.features.flink_text import SQL_TYPES, quoted, text
from mlops_assets.features.meaning import read_as, reads_values
from mlops_assets.features.view import FeatureView

_HELD = {
    frozenset({"double"}): "DOUBLE",
    frozenset({"integer"}): "BIGINT",
    frozenset({"integer", "double"}): "BIGINT",
    frozenset({"boolean"}): "BOOLEAN",
    frozenset({"boolean", "double"}): "BOOLEAN",
    frozenset({"string"}): "STRING",
    frozenset({"time"}): "BIGINT",
}
_READS = {kind: {held for uses, held in _HELD.items() if kind in uses} for kind in SQL_TYPES}


@dataclass(frozen=True, slots=True, kw_only=True)
class FlinkSql:
    """Four statements to run in this order (``events``, ``spine`` and ``features`` create tables), and the query alone.

    The tables are named after the view: ``<view>_events``, ``<view>_spine`` and ``<view>_features``.
    """

    events: str
    spine: str
    features: str
    insert: str
    query: str


def flink_sql(
    view: FeatureView,
    *,
    events: Mapping[str, str],
    spine: Mapping[str, str],
    features: Mapping[str, str],
    types: Mapping[str, str] | None = None,
) -> FlinkSql:
    """Return the statements that compute ``view``; the mappings are the options of the tables' connectors.

    ``types`` gives the SQL type (STRING, BIGINT, DOUBLE or BOOLEAN) of columns of which the view does not say how they
    are read: the entity, the key, columns that are only counted; STRING where nothing is given. Raises
    ``InvalidDefinition`` for what Flink cannot compute exactly: a column of another type or read as two that exclude
    each other.

    >>> from mlops_assets.features.view import Aggregate
    >>> count = Aggregate(name="n", function="count", column="order")
    >>> view = FeatureView(name="v", source="p", entity="user", event_time="time", features=(count,))
    >>> files = {"connector": "filesystem", "format": "json"}
    >>> print(flink_sql(view, events=files, spine=files, features={"connector": "print"}).spine)
    CREATE TABLE `v_spine` (
      `spine_row` BIGINT,
      `user` STRING,
      `time` BIGINT
    ) WITH ('connector' = 'filesystem', 'format' = 'json')
    """
    held = column_types(view, types or {})
    keyed = {ROW: "BIGINT", view.entity: held[view.entity], view.event_time: "BIGINT"}
    names = [f"{view.name}_{table}" for table in ("events", "spine", "features")]
    query = FlinkQuery(view, held, names[0], names[1]).sql
    return FlinkSql(
        events=_table(names[0], held, events),
        spine=_table(names[1], keyed, spine),
        features=_table(names[2], keyed | _feature_types(view), features, key=list(keyed)),
        insert=f"INSERT INTO {quoted(names[2])}\n{query}",
        query=query,
    )


def column_types(view: FeatureView, given: Mapping[str, str]) -> dict[str, str]:
    """Return the SQL type of each input of ``view``; raises ``InvalidDefinition`` as ``flink_sql`` says."""
    faults = view.faults()
    if ROW in {*view.inputs, *view.feature_names, *(column.name for column in view.columns)}:
        faults.append(f"feature view {view.name!r}: Flink SQL names a question {ROW!r}; rename that column")
    if faults:
        raise InvalidDefinition(faults)
    uses: dict[str, dict[str, str]] = {name: {} for name in view.inputs}
    computed = {column.name: parse(column.expression).kind for column in view.columns}
    for name, type, who in _uses(view):
        if name in uses:
            uses[name].setdefault(type, who)
        elif type not in {computed[name], "double" if computed[name] == "boolean" else None}:
            faults.append(f"{who} reads {name!r} as {type}, but that is computed as {computed[name]}")
    found = {name: _held(name, read, given.get(name), view, faults) for name, read in uses.items()}
    if faults:
        raise InvalidDefinition(faults)
    return found


def _held(name: str, uses: Mapping[str, str], given: str | None, view: FeatureView, faults: list[str]) -> str:
    """Return the type of one input, and add to ``faults`` where there is none."""
    held = given or (_HELD.get(frozenset(uses)) if uses else "STRING")
    if held is None:
        read = "; ".join(f"{who} reads it as {type}" for type, who in uses.items())
        faults.append(f"feature view {view.name!r}: Flink gives column {name!r} one type, but {read}")
    elif held not in SQL_TYPES.values():
        exact = sorted({*SQL_TYPES.values()})
        faults.append(f"feature view {view.name!r}: column {name!r} is {held}; Flink reads {exact} exactly")
        return held
    for type, who in uses.items() if held else ():
        if held not in _READS[type]:
            faults.append(f"{who} reads column {name!r} as {type}, which a {held} does not hold")
    return held or "STRING"


def _uses(view: FeatureView) -> Iterable[tuple[str, str, str]]:
    """Yield each column that is read, the type as which, and by which part of the view."""
    what = f"feature view {view.name!r}"
    for name in (view.event_time, *([view.known_time] if view.known_time else [])):
        yield name, "time", what
    for feature in view.aggregates:
        who = f"{what}: feature {feature.name!r}"
        if feature.column is not None and reads_values(feature):
            yield feature.column, read_as(feature), who
        for name, kind in _columns(condition(feature.where)) if feature.where else ():
            yield name, kind, who
    for column in view.columns:
        for name, kind in _columns(parse(column.expression)):
            yield name, kind, f"{what}: column {column.name!r}"


def _columns(node: Node) -> Iterable[tuple[str, str]]:
    if node.form == "column" and node.kind != "any":
        yield node.value, node.kind
    for part in node.parts:
        yield from _columns(part)


def _feature_types(view: FeatureView) -> dict[str, str]:
    types = {feature.name: (SQL_TYPES[feature.result_type], feature.is_list) for feature in view.features}
    return {name: f"ARRAY<{held}>" if listed else held for name, (held, listed) in types.items()}


def _table(name: str, columns: Mapping[str, str], options: Mapping[str, str], key: Sequence[str] = ()) -> str:
    lines = [f"{quoted(column)} {held}{' NOT NULL' if column in key else ''}" for column, held in columns.items()]
    if key:
        lines.append(f"PRIMARY KEY ({', '.join(map(quoted, key))}) NOT ENFORCED")
    joined = ",\n  ".join(lines)
    given = ", ".join(f"{text(option)} = {text(value)}" for option, value in options.items())
    return f"CREATE TABLE {quoted(name)} (\n  {joined}\n) WITH ({given})"

"""The query that computes a feature view in Flink SQL, as text: common table expressions over the events and the spine.

``event`` reads one event and refuses what the meaning refuses, ``asked`` the questions, ``seen`` pairs a question with
each event it may see, ``pair`` adds the question itself, so that one without events has an answer too, and ``answer``
aggregates per question. No step but the last ones takes anything back, so a late event adds to what is there and a
re-delivered one (same key) adds nothing; state grows with the pairs, and no state may expire.

``first``, ``last`` and ``last_k`` order events by a *rank*: one ASCII text made of the time, the value's order and, after
a blank, the value. Flink compares texts sometimes by bytes and sometimes by UTF-16, which agree on ASCII only; of
strings the rank holds the bytes in hexadecimal. ``std`` adds up differences to a *pivot*, one of the values themselves:
with it, what cancels is at most n times the variance, and no event is read twice.

Belongs here: SQL that reads and aggregates. Not here: tables and types, or what a word means (``meaning.py``).
"""

from collections.abc import Iterable, Mapping

from mlops_assets.features.event_expression import condition, parse, to_sql
from mlops_assets.features.meaning import (
    LARGEST,
    SMALLEST,
    empty_value,
    instant,
    read_as,
    reads_values,
    time_to_live_microseconds,
    where,
    window_microseconds,
)
from mlops_assets.features.view import Aggregate, FeatureView, Ratio, ValueType

ROW = "spine_row"
"""The column that names a question: a whole number, once per question."""

SQL_TYPES: Mapping[ValueType, str] = {
    "double": "DOUBLE",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    "string": "STRING",
    "time": "BIGINT",
}

_FIRST_INSTANT, _LAST_INSTANT = -62_135_596_800_000_000, 253_402_300_799_999_999  # years 1 to 9999
_LONGEST = 10**18  # microseconds; a longer window reaches before the year 1 from any question
_MAGNITUDE = """CASE WHEN {v} = 0E0 THEN '0'
 WHEN {s} LIKE '%E-%' THEN '1' || LPAD(CAST(999 - CAST(SPLIT_INDEX({s}, 'E-', 1) AS INT) AS STRING), 3, '0') || SPLIT_INDEX({s}, 'E-', 0)
 WHEN {s} LIKE '%E%' THEN '3' || LPAD(SPLIT_INDEX({s}, 'E', 1), 3, '0') || SPLIT_INDEX({s}, 'E', 0)
 ELSE '2' || LPAD({s}, CHAR_LENGTH({s}) + 8 - POSITION('.' IN {s}), '0') END"""


def quoted(name: str) -> str:
    """Return an identifier as SQL reads it."""
    return "`" + name.replace("`", "``") + "`"


def text(value: str) -> str:
    """Return a text literal."""
    return "'" + value.replace("'", "''") + "'"


class FlinkQuery:
    """The parts of one view's query, each named once however many features use it.

    ``types`` are the SQL types of the view's inputs. ``sql`` is the query: one row per question, its ``spine_row``,
    entity, time and features.
    """

    def __init__(self, view: FeatureView, types: Mapping[str, str], events: str, spine: str) -> None:
        self._view, self._types, self._events, self._spine = view, types, events, spine
        self._computed = {column.name: parse(column.expression) for column in view.columns}
        self._values: dict[str, str] = {}
        self._ranks: dict[str, str] = {}
        self._aggregates: dict[str, str] = {}
        self._lists: dict[str, str] = {}
        self._spreads: dict[str, str] = {}
        self._most = max((feature.k or 0 for feature in view.aggregates), default=0)
        finals = {feature.name: self._feature(feature) for feature in view.aggregates}
        self.sql = self._assembled(finals | {ratio.name: _ratio(ratio, finals) for ratio in view.ratios})

    def _feature(self, feature: Aggregate) -> str:
        """Return what the last step selects for an aggregate, and note what the steps before it need."""
        value = self._value_of(feature)
        kept = " AND ".join(self._kept(feature, value))
        found = self._found(feature, value or "*", kept)
        if (lives := time_to_live_microseconds(self._view)) is not None:
            newest = self._aggregated("MAX(happened)")
            found = f"CASE WHEN {newest} >= asked_at - {min(lives, _LONGEST)} THEN {found} END"
        if feature.is_list:
            return f"CAST(JSON_QUERY(COALESCE({found}, '[]'), '$[*][1]' RETURNING ARRAY<STRING>) AS ARRAY<{SQL_TYPES[feature.type]}>)"
        if feature.function == "sum" and feature.type == "integer":
            return _integer_sum(found, feature)
        empty = literal(empty_value(feature), feature.result_type)
        return f"COALESCE({found}, {empty})"

    def _found(self, feature: Aggregate, value: str, kept: str) -> str:
        """Return the aggregate over the kept events, null where there is none."""
        simple = {"sum": "SUM", "min": "MIN", "max": "MAX"}
        if feature.function in {"count", "distinct_count"}:
            counted = f"DISTINCT {value}" if feature.function == "distinct_count" else "*"
            return f"NULLIF({self._aggregated(f'COUNT({counted}) FILTER (WHERE {kept})')}, 0)"
        if feature.function in simple:
            exact = f"CAST({value} AS DECIMAL(38, 0))" if (feature.function, feature.type) == ("sum", "integer") else value
            return self._aggregated(f"{simple[feature.function]}({exact}) FILTER (WHERE {kept})")
        if feature.function == "mean":
            total = self._aggregated(f"SUM({value}) FILTER (WHERE {kept})")
            return f"({total} / {self._aggregated(f'COUNT(*) FILTER (WHERE {kept})')})"
        if feature.function == "time_since":
            return f"(CAST(asked_at - {self._aggregated(f'MAX(happened) FILTER (WHERE {kept})')} AS DOUBLE) / 1E6)"
        if feature.function == "std":
            return self._spreads.setdefault(f"{value} AS v FROM seen WHERE {kept}", f"s{len(self._spreads)}")
        rank = self._ranks.setdefault(_rank(value, feature.type), f"r{len(self._ranks)}")
        if feature.function == "last_k":
            listed = self._lists.setdefault(f"{rank} AS r FROM seen WHERE {kept}", f"l{len(self._lists)}")
            chosen = listed if feature.k == self._most else f"ARRAY_SLICE({listed}, 1, {feature.k})"
            return f"('[' || ARRAY_JOIN({chosen}, ',') || ']')"
        end = {"first": "MIN", "last": "MAX"}[feature.function]
        best = self._aggregated(f"{end}({rank}) FILTER (WHERE {kept})")
        return f"CAST({_tail(best)} AS {SQL_TYPES[feature.type]})"

    def _aggregated(self, aggregate: str) -> str:
        return self._aggregates.setdefault(aggregate, f"a{len(self._aggregates)}")

    def _value_of(self, feature: Aggregate) -> str | None:
        """Return the name of the value that the feature aggregates, of a flag that it is there, or ``None``."""
        if feature.column is None:
            return None
        if not reads_values(feature):
            there = f"CASE WHEN {quoted(feature.column)} IS NOT NULL THEN TRUE END"
            return self._values.setdefault(there, f"v{len(self._values)}")
        return self._values.setdefault(self._read(feature.column, read_as(feature)), f"v{len(self._values)}")

    def _read(self, column: str, type: ValueType) -> str:
        """Return a column read as a type: numbers as doubles, finite, no negative zero, none too small or too large."""
        name = quoted(column)
        node = self._computed.get(column)
        held = self._types[column] if node is None else SQL_TYPES[node.kind]  # type: ignore[index]
        if type == "time":
            return _instant(name, f"{where(self._view, column)} is no time: ", nullable=True)
        if type != "double":
            return name
        if held == "BOOLEAN":
            return f"CASE WHEN {name} THEN 1E0 WHEN NOT {name} THEN 0E0 END"
        if held == "BIGINT":
            return f"CAST({name} AS DOUBLE)"
        refused = _refusal(f"{where(self._view, column)} takes finite numbers below 2^300, found ", name, "DOUBLE")
        within = f"CASE WHEN ABS({name}) >= {literal(SMALLEST, 'double')} THEN {name} ELSE 0E0 END"
        return f"CASE WHEN ABS({name}) < {literal(LARGEST, 'double')} THEN {within} WHEN {name} IS NOT NULL THEN {refused} END"

    def _kept(self, feature: Aggregate, value: str | None) -> Iterable[str]:
        """Return the conditions on an event of ``seen`` under which the feature reads it."""
        window = window_microseconds(feature)
        yield "happened IS NOT NULL" if window is None else f"happened >= asked_at - {min(window, _LONGEST)}"
        if feature.where is not None:
            yield self._values.setdefault(to_sql(condition(feature.where)), f"v{len(self._values)}")
        if value is not None:
            yield f"{value} IS NOT NULL"

    def _assembled(self, finals: Mapping[str, str]) -> str:
        view = self._view
        steps = [*self._event_steps(), *self._seen_steps(), self._answer(), *self._list_steps(), *self._spread_steps()]
        joined = " ".join(
            f"LEFT JOIN {step} ON {step}.{ROW} = answer.{ROW}"
            for step, there in (("listing", self._lists), ("spread", self._spreads))
            if there
        )
        features = ",\n ".join(f"{finals[name]} AS {quoted(name)}" for name in view.feature_names)
        who = f"{self._checked_key()} AS {ROW},\n who AS {quoted(view.entity)}, asked_at AS {quoted(view.event_time)}"
        return "WITH " + ",\n".join(steps) + f"\nSELECT {who},\n {features}\nFROM answer {joined}".rstrip()

    def _event_steps(self) -> Iterable[str]:
        """Yield the steps that read one event: its inputs, checked; its computed columns; its values and conditions."""
        view = self._view
        computed = "".join(f", {to_sql(node)} AS {quoted(name)}" for name, node in self._computed.items())
        yield f"read_event AS (SELECT {', '.join(map(quoted, view.inputs))}{computed} FROM {quoted(self._events)})"
        times = {"happened": view.event_time} | ({"known": view.known_time} if view.known_time else {})
        parts = [f"{self._required(view.entity, 'an event')} AS who"]
        parts += [f"{_instant(quoted(n), f'{where(view, n)} is no time: ')} AS {alias}" for alias, n in times.items()]
        parts += [f"{self._required(name, 'an event')} AS k{i}" for i, name in enumerate(view.event_key)]
        parts += [f"{value} AS {alias}" for value, alias in self._values.items()]
        yield "event AS (SELECT " + ",\n ".join(parts) + " FROM read_event)"

    def _seen_steps(self) -> Iterable[str]:
        """Yield the questions, and what each sees: events before it, known before it, those of one key once."""
        view = self._view
        asked = _instant(quoted(view.event_time), f"{where(view, view.event_time)} of a question is no time: ")
        who = self._required(view.entity, "a question")
        yield f"asked AS (SELECT DISTINCT {ROW}, {who} AS who, {asked} AS asked_at FROM {quoted(self._spine)})"
        carried = ["happened", *(f"k{i}" for i in range(len(view.event_key))), *self._values.values()]
        columns = ", ".join([f"asked.{ROW}", "asked.who", "asked_at", *carried])
        before = "happened < asked_at" + (" AND known < asked_at" if view.known_time else "")
        once = "DISTINCT " if view.event_key else ""
        ranks = "".join(f",\n {rank} AS {alias}" for rank, alias in self._ranks.items())
        yield (
            f"met AS (SELECT {once}{columns} FROM asked JOIN event ON asked.who = event.who AND {before})"
            f",\nseen AS (SELECT *{ranks} FROM met)"
        )
        nothing = "".join(f", {name}" for name in [*carried, *self._ranks.values()])
        yield (
            f"pair AS (SELECT {ROW}, who, asked_at{nothing} FROM seen UNION ALL"
            f" SELECT {ROW}, who, asked_at{self._nulls(carried)} FROM asked)"
        )

    def _nulls(self, carried: list[str]) -> str:
        ranks = ", CAST(NULL AS STRING)" * len(self._ranks)
        return "".join(f", NULLIF(asked_at, asked_at)" if n == "happened" else f", NULL" for n in carried) + ranks

    def _answer(self) -> str:
        if self._view.event_key:
            keys = ", ".join(f"k{i}" for i in range(len(self._view.event_key)))
            self._aggregated("COUNT(happened)")
            self._aggregated(f"COUNT(DISTINCT {keys})")
        parts = "".join(f",\n {aggregate} AS {alias}" for aggregate, alias in self._aggregates.items())
        return f"answer AS (SELECT {ROW}, who, asked_at{parts} FROM pair GROUP BY {ROW}, who, asked_at)"

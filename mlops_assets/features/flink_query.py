"""The query that computes a feature view in Flink SQL, as text: steps from events and questions to one row a question.

``event`` reads one event and refuses what the meaning refuses, ``asked`` the questions, ``seen`` pairs a question with
each event it may see, and ``pair`` adds the question by itself, so that one without events is answered too. Up to here
nothing is ever taken back: a late event adds to what is there, an event delivered again adds nothing. ``answer``
aggregates per question; ``listing`` keeps the best ranks for ``last_k``; ``spread`` adds up differences to a *pivot*,
one of the values themselves, so that ``std`` reads each event once and little cancels.

Belongs here: steps that join and aggregate. Not here: tables, one value's SQL, or what a word means (``meaning.py``).
"""

from collections.abc import Iterable, Mapping

from mlops_assets.features.event_expression import condition, parse, to_sql
from mlops_assets.features.flink_steps import ROW, first_of_each, lines, listing_steps, spread_steps
from mlops_assets.features.flink_text import (
    SQL_TYPES,
    instant_of,
    literal,
    number_of,
    quoted,
    rank,
    rank_text,
    refusal,
    required,
)
from mlops_assets.features.meaning import (
    empty_value,
    read_as,
    reads_values,
    time_to_live_microseconds,
    where,
    window_microseconds,
)
from mlops_assets.features.view import Aggregate, FeatureView, Ratio

_LONGEST = 10**18  # microseconds; a window of so many reaches before the year 1
_FITS = f"BETWEEN CAST('{-(2**63)}' AS DECIMAL(38, 0)) AND CAST('{2**63 - 1}' AS DECIMAL(38, 0))"


class FlinkQuery:
    """The query of one view: what several features need is computed once.

    ``types`` holds the SQL type of each input. ``sql`` selects one row per question: its ``spine_row``, the entity, the
    time, then the features in the order of their declaration.
    """

    def __init__(self, view: FeatureView, types: Mapping[str, str], events: str, spine: str) -> None:
        self._view, self._events, self._spine = view, quoted(events), quoted(spine)
        self._types = dict(types)
        self._computed = {column.name: parse(column.expression) for column in view.columns}
        self._types |= {name: SQL_TYPES[node.kind] for name, node in self._computed.items()}
        self._read: dict[str, tuple[str, str]] = {}  # SQL over one event → its name and SQL type
        self._ranks: dict[str, str] = {}  # each of these four: SQL → its name
        self._aggregates: dict[str, str] = {}
        self._lists: dict[str, str] = {}
        self._spreads: dict[str, str] = {}
        self._keys = [
            self._reading(required(quoted(name), self._types[name], where(view, name)), self._types[name])
            for name in view.event_key
        ]
        self._finals = {feature.name: self._final(feature) for feature in view.aggregates}
        self._finals |= {ratio.name: _ratio(ratio, self._finals) for ratio in view.ratios}
        self._once = self._each_key_once()
        self.sql = self._assembled()

    def _final(self, feature: Aggregate) -> str:
        """Return what the last step selects for an aggregate; notes what it needs of the steps before."""
        value = self._value(feature)
        found = self._found(feature, value or "TRUE", " AND ".join(self._kept(feature, value)))
        if (lives := time_to_live_microseconds(self._view)) is not None:
            newest = self._aggregated("MAX(happened)")
            found = f"CASE WHEN {newest} >= asked_at - {min(lives, _LONGEST)} THEN {found} END"
        empty = literal(None if feature.is_list else empty_value(feature), feature.result_type)
        if feature.is_list:
            items = f"JSON_QUERY(COALESCE({found}, '[]'), '$[*][1]' RETURNING ARRAY<STRING>)"
            return f"CAST({items} AS ARRAY<{SQL_TYPES[feature.type]}>)"
        if feature.function == "sum" and feature.type == "integer":
            return f"CASE WHEN {found} IS NULL THEN {empty} WHEN {found} {_FITS} THEN CAST({found} AS BIGINT) END"
        return f"COALESCE({found}, {empty})"

    def _value(self, feature: Aggregate) -> str | None:
        """Return the name of what is read of each event: the value, or whether it is there; ``None``: nothing."""
        if feature.column is None:
            return None
        name, held, what = quoted(feature.column), self._types[feature.column], where(self._view, feature.column)
        if not reads_values(feature):
            return self._reading(f"CASE WHEN {name} IS NOT NULL THEN TRUE END", "BOOLEAN")
        type = read_as(feature)
        if type == "double":
            name = number_of(name, held, what)
        elif type == "time":
            name = instant_of(name, what, nullable=True)
        return self._reading(name, SQL_TYPES[type])

    def _kept(self, feature: Aggregate, value: str | None) -> Iterable[str]:
        """Yield the conditions under which an event of ``seen`` counts."""
        window = window_microseconds(feature)
        yield "happened IS NOT NULL" if window is None else f"happened >= asked_at - {min(window, _LONGEST)}"
        if feature.where is not None:
            yield self._reading(to_sql(condition(feature.where)), "BOOLEAN")
        if value is not None:
            yield f"{value} IS NOT NULL"

    def _reading(self, sql: str, held: str) -> str:
        return self._read.setdefault(sql, (f"v{len(self._read)}", held))[0]

    def _aggregated(self, sql: str, kept: str | None = None) -> str:
        whole = sql if kept is None else f"{sql} FILTER (WHERE {kept})"
        return self._aggregates.setdefault(whole, f"a{len(self._aggregates)}")

    def _found(self, feature: Aggregate, value: str, kept: str) -> str:
        """Return the SQL, over ``answer`` and what is joined to it, of an aggregate: null where no event is kept."""
        if feature.function == "std":
            return self._spreads.setdefault(f"CASE WHEN {kept} THEN {value} END", f"s{len(self._spreads)}")
        if feature.function in {"first", "last", "last_k"}:
            return self._ranked(feature, value, kept)
        summed = f"CAST({value} AS DECIMAL(38, 0))" if feature.type == "integer" else value
        found, form = {
            "count": ("COUNT(*)", "NULLIF({}, 0)"),
            "distinct_count": (f"COUNT(DISTINCT {value})", "NULLIF({}, 0)"),
            "sum": (f"SUM({summed})", "{}"),
            "mean": (f"SUM({value})", "({} / {n})"),
            "min": (f"MIN({value})", "{}"),
            "max": (f"MAX({value})", "{}"),
            "time_since": ("MAX(happened)", "(CAST(asked_at - {} AS DOUBLE) / 1E6)"),
        }[feature.function]
        counted = self._aggregated("COUNT(*)", kept) if feature.function == "mean" else ""
        return form.format(self._aggregated(found, kept), n=counted)

    def _ranked(self, feature: Aggregate, value: str, kept: str) -> str:
        ranked = self._ranks.setdefault(rank(value, feature.type, "happened"), f"r{len(self._ranks)}")
        if feature.function == "last_k":
            listed = self._lists.setdefault(f"CASE WHEN {kept} THEN {ranked} END", f"l{len(self._lists)}")
            return f"('[' || ARRAY_JOIN(ARRAY_SLICE({listed}, 1, {feature.k}), ',') || ']')"
        best = self._aggregated(f"{'MIN' if feature.function == 'first' else 'MAX'}({ranked})", kept)
        return f"CAST({rank_text(best)} AS {SQL_TYPES[feature.type]})"

    def _each_key_once(self) -> str | None:
        """Return the condition that a question saw no two different events of one key."""
        if not self._keys:
            return None
        key = self._keys[0] if len(self._keys) == 1 else f"JSON_ARRAY({', '.join(self._keys)})"
        there = "happened IS NOT NULL"
        return f"{self._aggregated('COUNT(*)', there)} = {self._aggregated(f'COUNT(DISTINCT {key})', there)}"

    def _assembled(self) -> str:
        view = self._view
        most = max((feature.k or 0 for feature in view.aggregates), default=0)
        steps = [*self._events_read(), *self._pairs(), self._answer()]
        joined = "FROM answer"
        for name, parts, step in (
            ("listing", self._lists, listing_steps(self._lists, most)),
            ("spread", self._spreads, spread_steps(self._spreads)),
        ):
            if parts:
                steps.append(step)
                joined += f"\nLEFT JOIN {name} ON answer.{ROW} = {name}.{ROW}"
        if self._once is not None:
            sentence = f"feature view '{view.name}': two different events have one key; question "
            row = f"answer.{ROW}"
            joined += f"\nWHERE CASE WHEN {self._once} THEN TRUE ELSE {refusal(sentence, row, 'BOOLEAN')} END"
        chosen = [f"answer.{ROW} AS {ROW}", f"who AS {quoted(view.entity)}", f"asked_at AS {quoted(view.event_time)}"]
        chosen += [f"{self._finals[name]} AS {quoted(name)}" for name in view.feature_names]
        return f"WITH {lines(steps)}\nSELECT {lines(chosen)}\n{joined}"

    def _events_read(self) -> Iterable[str]:
        """Yield the steps that read one event: its inputs, then its computed columns, then all that features read."""
        view = self._view
        inputs = [quoted(name) for name in view.inputs]
        inputs += [f"{to_sql(node)} AS {quoted(name)}" for name, node in self._computed.items()]
        times = {view.event_time: "happened"} | ({view.known_time: "known"} if view.known_time else {})
        parts = [f"{required(quoted(view.entity), self._types[view.entity], where(view, view.entity))} AS who"]
        parts += [f"{instant_of(quoted(name), where(view, name))} AS {alias}" for name, alias in times.items()]
        parts += [f"{sql} AS {alias}" for sql, (alias, _) in self._read.items()]
        yield f"given AS (SELECT {lines(inputs)} FROM {self._events})"
        yield f"event AS (SELECT {lines(parts)} FROM given)"

    def _pairs(self) -> Iterable[str]:
        """Yield the questions and what each sees: events before it, known before it, those of one key once."""
        view = self._view
        who = required(quoted(view.entity), self._types[view.entity], f"{where(view, view.entity)} of a question")
        when = instant_of(quoted(view.event_time), f"{where(view, view.event_time)} of a question")
        asked = f"SELECT {ROW}, {who} AS who, {when} AS asked_at, PROCTIME() AS arrived FROM {self._spine}"
        yield f"asked AS ({first_of_each((ROW, 'who', 'asked_at'), asked)})"
        before = "happened < asked_at" + (" AND known < asked_at" if view.known_time else "")
        read = ["happened", *(alias for alias, _ in self._read.values())]
        columns = f"{ROW}, asked.who AS who, asked_at, {', '.join(read)}"
        pairs = f"FROM asked JOIN event ON asked.who = event.who AND {before}"
        once = first_of_each((ROW, "who", "asked_at", *read), f"SELECT {columns}, PROCTIME() AS arrived {pairs}")
        yield f"met AS ({once})" if self._keys else f"met AS (SELECT {columns} {pairs})"
        yield f"seen AS (SELECT {lines(['*', *(f'{sql} AS {alias}' for sql, alias in self._ranks.items())])} FROM met)"
        types = ["BIGINT", *(held for _, held in self._read.values()), *("STRING" for _ in self._ranks)]
        nulls = ", ".join(f"CAST(NULL AS {held})" for held in types)
        yield f"pair AS (SELECT * FROM seen UNION ALL SELECT {ROW}, who, asked_at, {nulls} FROM asked)"

    def _answer(self) -> str:
        parts = [ROW, "who", "asked_at", *(f"{sql} AS {alias}" for sql, alias in self._aggregates.items())]
        return f"answer AS (SELECT {lines(parts)} FROM pair GROUP BY {ROW}, who, asked_at)"


def _ratio(ratio: Ratio, finals: Mapping[str, str]) -> str:
    numerator, denominator = finals[ratio.numerator], finals[ratio.denominator]
    quotient = f"CAST({numerator} AS DOUBLE) / NULLIF(CAST({denominator} AS DOUBLE), 0E0)"
    return f"COALESCE({quotient}, {literal(empty_value(ratio), 'double')})"

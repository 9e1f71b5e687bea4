"""The events as a batch engine needs them: read, checked, each event once, with filters and computed columns, sorted.

Belongs here: what is refused about a frame of events or a spine. Not here: what is computed from them.
"""

from collections.abc import Iterable, Iterator

import polars as pl

from mlops_assets.errors import FeatureError
from mlops_assets.features.columns import is_text, type_fault
from mlops_assets.features.event_expression import condition, parse, to_polars
from mlops_assets.features.expression import Node
from mlops_assets.features.meaning import where
from mlops_assets.features.view import FeatureView, ValueType

Frame = pl.DataFrame | pl.LazyFrame

_USED_AS: dict[str, ValueType] = {"double": "double", "boolean": "boolean", "string": "string"}


def column_name(column: str) -> str:
    """Return the name that a column to be aggregated has in the table of ``read_events``."""
    return f"column {column}"


def filter_name(condition: str) -> str:
    """Return the name that a filter, true or false, has in the table of ``read_events``."""
    return f"where {condition}"


def read_events(view: FeatureView, events: Frame) -> pl.DataFrame:
    """Return ``entity``, ``now``, ``known`` (instants, the last with a known_time only), columns and filters, sorted.

    Raises ``FeatureError`` for a missing column, one that does not fit its use, a null entity, time or key, and
    different events of one key.
    """
    lazy, schema = events.lazy(), schema_of(events)
    read = list(dict.fromkeys([*view.inputs, *(name for column in view.columns for name in column.inputs)]))
    require(view, schema, "the events", read)
    _check_expressions(view, schema)
    times = {"now": view.event_time} | ({"known": view.known_time} if view.known_time is not None else {})
    instants = [instants_of(view, schema, column).alias(name) for name, column in times.items()]
    frame = lazy.select(read).collect()
    refuse_nulls(view, frame, "the events", [view.entity, *times.values(), *view.event_key])
    if view.event_key:
        frame = _once_each(view, frame)
    keys = frame.select(entity_of(view, schema), *instants)
    frame = frame.with_columns(to_polars(parse(column.expression)).alias(column.name) for column in view.columns)
    columns = dict.fromkeys(feature.column for feature in view.aggregates if feature.column is not None)
    filters = dict.fromkeys(feature.where for feature in view.aggregates if feature.where is not None)
    values = frame.select(
        *(pl.col(column).alias(column_name(column)) for column in columns),
        *(to_polars(condition(text)).fill_null(False).alias(filter_name(text)) for text in filters),
    )
    return keys.hstack(values).sort("entity", *times)


def schema_of(frame: Frame) -> pl.Schema:
    """Return the columns and types of a frame."""
    return frame.collect_schema()


def require(view: FeatureView, schema: pl.Schema, what: str, columns: Iterable[str]) -> None:
    """Raise ``FeatureError`` naming the first of ``columns`` that is missing."""
    for column in columns:
        if column not in schema:
            raise FeatureError(f"{where(view, column)} is missing from {what}, which have {schema.names()}")


def refuse_nulls(view: FeatureView, frame: pl.DataFrame, what: str, columns: Iterable[str]) -> None:
    """Raise ``FeatureError`` naming the first of ``columns`` that holds a null."""
    for column in columns:
        if nulls := frame[column].null_count():
            raise FeatureError(f"{where(view, column)} is null in {nulls} rows of {what}; quarantine them")


def instants_of(view: FeatureView, schema: pl.Schema, column: str) -> pl.Expr:
    """Return the expression of a time column's microseconds since 1970; ``FeatureError`` if it is none."""
    dtype = schema[column]
    if not isinstance(dtype, pl.Datetime | pl.Date):
        raise FeatureError(f"{where(view, column)} must be a Datetime or a Date, it is {dtype}")
    return pl.col(column).dt.epoch("us")


def entity_of(view: FeatureView, schema: pl.Schema) -> pl.Expr:
    """Return the expression ``entity``: a category is its text."""
    entity = pl.col(view.entity).alias("entity")
    return entity.cast(pl.String) if is_text(schema[view.entity]) else entity


def _check_expressions(view: FeatureView, schema: pl.Schema) -> None:
    """Refuse columns whose type is not that of their use in an expression: Polars would cast them, others not."""
    steps = [(column.expression, parse(column.expression)) for column in view.columns]
    steps += [(feature.where, condition(feature.where)) for feature in view.aggregates if feature.where is not None]
    computed = {column.name: parse(column.expression).kind for column in view.columns}
    for text, tree in steps:
        for node in _columns(tree):
            is_computed = node.value in computed and node.value not in schema
            if node.kind == "any" or is_computed:
                continue
            require(view, schema, "the events", [node.value])
            if fault := type_fault(schema[node.value], _USED_AS[node.kind]):
                raise FeatureError(f"{where(view, node.value)}, in {text!r}, {fault}")


def _columns(node: Node) -> Iterator[Node]:
    if node.form == "column":
        yield node
    for part in node.parts:
        yield from _columns(part)


def _once_each(view: FeatureView, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the events, those of one key as one, known when it was first known; they must be equal otherwise."""
    keys = list(dict.fromkeys([view.entity, *view.event_key]))
    repeated = frame.select(keys).is_duplicated()
    if not repeated.any():
        return frame
    same = [name for name in frame.columns if name not in {view.event_time, view.known_time}]
    times = {column: f"instant of {column}" for column in (view.event_time, view.known_time) if column is not None}
    again = frame.filter(repeated)
    again = again.with_columns(instants_of(view, frame.schema, column).alias(name) for column, name in times.items())
    events = again.unique([*same, times[view.event_time]])
    if (clashes := events.select(keys).is_duplicated()).any():
        key = events.filter(clashes).select(keys).row(0)
        raise FeatureError(
            f"feature view {view.name!r}: two different events have the key {key} ({', '.join(keys)}); "
            "correct them in the data contract, or name more columns in event_key"
        )
    if view.known_time is not None:
        again = again.sort(times[view.known_time])
    first = again.unique(keys, keep="first", maintain_order=True)
    return pl.concat([frame.filter(~repeated), first.select(frame.columns)])

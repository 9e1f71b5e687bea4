"""What batch says a server should have answered: each request sees the events that its server had been told by then.

Belongs here: which events a request saw. A server began with a snapshot (``base``) and was told events one by one
(``told``, in their order); a request came after the first so many of them. Not here: where this is logged.
"""

from dataclasses import replace
from typing import Any

import polars as pl

from mlops_assets.features.engine import FeatureEngine
from mlops_assets.features.view import FeatureView

_REPLAYED = "__replayed"
_ORDER = "__order"
_ASKED = "__asked"


def replay(
    view: FeatureView,
    engine: FeatureEngine,
    *,
    base: pl.DataFrame,
    told: pl.DataFrame,
    asked: pl.DataFrame,
    event_key: tuple[str, ...] = (),
) -> pl.DataFrame:
    """Return the features of each row of ``asked``, in its order.

    ``asked`` has the columns ``entity``, ``at`` and ``told``, the count of events that were told before. Events that
    have one ``event_key`` (the view's own, if it has one) count once, and the first is right if they differ.

    Requests of one entity that saw equally many of its events are asked together, of an entity of their own: events are
    copied only as often as new ones of their entity came between requests.
    """
    key = view.event_key or event_key
    columns = list(dict.fromkeys([*view.inputs, *key]))
    requests = asked.with_columns(pl.col("entity").cast(base.schema[view.entity])).with_row_index(_ASKED)
    events = _events(view, columns, key, base, told)
    events = events.join(requests, left_on=view.entity, right_on="entity", how="semi", maintain_order="left")
    requests = _with_order(requests, events.select(pl.col(view.entity).alias("entity"), _ORDER))
    seen_by = requests.select("entity", _ORDER).unique(maintain_order=True).with_row_index(_REPLAYED)
    seen = events.rename({_ORDER: "__event"}).join(seen_by, left_on=view.entity, right_on="entity")
    seen = seen.filter(pl.col("__event") <= pl.col(_ORDER)).select(*columns, pl.col(_REPLAYED).cast(pl.Int64))
    spine = requests.join(seen_by, on=["entity", _ORDER], how="left", maintain_order="left").select(
        pl.col(_REPLAYED).cast(pl.Int64), pl.col("at").cast(events.schema[view.event_time]).alias(view.event_time)
    )
    return engine.features_at(replace(view, entity=_REPLAYED, event_key=key), seen, spine)


def _events(
    view: FeatureView, columns: list[str], key: tuple[str, ...], base: pl.DataFrame, told: pl.DataFrame
) -> pl.DataFrame:
    """Return all events with their order, those of the snapshot before all; of different ones of a key, the first."""
    types: Any = dict(base.select(columns).schema)
    events = pl.concat(
        [
            base.select(*columns, pl.lit(-1, pl.Int64).alias(_ORDER)),
            told.select(columns).cast(types).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(_ORDER)),
        ]
    )
    if not key:
        return events
    same = [column for column in columns if column != view.known_time]
    first = events.unique(subset=[view.entity, *key], keep="first", maintain_order=True).select(same)
    return events.join(first, on=same, how="semi", nulls_equal=True, maintain_order="left")


def _with_order(requests: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Return the requests with the order of the last event of their entity that was told before, -1 if none was."""
    told = events.filter(pl.col(_ORDER) >= 0).sort(_ORDER)
    found = requests.sort("told").join_asof(
        told.with_columns(pl.col(_ORDER).alias("__last")),
        left_on="told",
        right_on=_ORDER,
        by="entity",
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,  # both are sorted; with `by`, Polars would warn that it cannot see it
    )
    return found.with_columns(pl.col("__last").fill_null(-1).alias(_ORDER)).drop("__last").sort(_ASKED)

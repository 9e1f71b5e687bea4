"""What batch says a server should have answered: each request sees the events that its server had been told by then.

A server began with a snapshot (``base``) and was told events one by one (``told``, in their order); a request came
after the first so many of them. To a batch engine this is knowledge time: an event that came after a request becomes
known at the latest moment that a request asked about which had not seen it. That is right as long as requests that saw
more ask about later moments, as they do in live traffic. The requests of an entity are therefore dealt into chains in
which this is so, and each chain is asked for as an entity of its own.

Belongs here: which events a request saw. Not here: where this is logged.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl

from mlops_assets.features.engine import FeatureEngine
from mlops_assets.features.meaning import instant
from mlops_assets.features.view import FeatureView

_ENTITY, _CHAIN, _REPLAYED = "__entity", "__chain", "__replayed"
_ORDER, _KNOWN = "__order", "__known"
_ALWAYS = instant(datetime(1, 1, 1, tzinfo=UTC), "always")


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
    """
    key = view.event_key or event_key
    columns = list(dict.fromkeys([*view.inputs, *key]))
    types: Any = base.schema
    asked = asked.select(
        pl.col("entity").cast(types[view.entity]).alias(_ENTITY),
        pl.col("at").cast(types[view.event_time]).alias(view.event_time),
        "told",
    )
    events = _events(view, columns, key, base, told, asked)
    requests = _with_chains(view, _with_last_seen(asked, events))
    seen = _with_knowledge(view, events, requests).select(*columns, _REPLAYED, _KNOWN)
    asking = replace(view, entity=_REPLAYED, event_key=key, known_time=_KNOWN)
    return engine.features_at(asking, seen, requests.select(_REPLAYED, view.event_time))


def _events(
    view: FeatureView,
    columns: list[str],
    key: tuple[str, ...],
    base: pl.DataFrame,
    told: pl.DataFrame,
    asked: pl.DataFrame,
) -> pl.DataFrame:
    """Return the events of entities asked about with their order, the snapshot's before all; the first of each key."""
    types: Any = dict(base.select(columns).schema)
    told = told.select(columns).cast(types).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(_ORDER))
    events = pl.concat([base.select(*columns, pl.lit(-1, pl.Int64).alias(_ORDER)), told])
    events = events.join(asked, left_on=view.entity, right_on=_ENTITY, how="semi", maintain_order="left")
    events = events.with_columns(pl.col(view.entity).alias(_ENTITY))
    if not key:
        return events
    same = [column for column in columns if column != view.known_time]
    first = events.unique(subset=[view.entity, *key], keep="first", maintain_order=True).select(same)
    return events.join(first, on=same, how="semi", nulls_equal=True, maintain_order="left")


def _with_last_seen(asked: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Return the requests with the order of the last event of their entity that was told before, -1 if none was."""
    told = events.filter(pl.col(_ORDER) >= 0).select(_ENTITY, _ORDER, pl.col(_ORDER).alias("__last")).sort(_ORDER)
    found = asked.with_row_index("__asked").sort("told")
    found = _latest_before(found, told, "told", _ORDER, by=_ENTITY).sort("__asked")
    return found.with_columns(pl.col("__last").fill_null(-1).alias(_ORDER)).drop("__last")


def _with_chains(view: FeatureView, requests: pl.DataFrame) -> pl.DataFrame:
    """Return the requests with the number of their chain, an entity of its own, in their order."""
    ordered = requests.with_columns(
        pl.col(_ENTITY).rank("dense").alias("__rank"), pl.col(view.event_time).dt.epoch("us").alias("__at")
    ).sort("__rank", _ORDER, "__at")
    chains = _dealt(ordered.select("__rank", _ORDER, "__at").iter_rows())
    ordered = ordered.with_columns(pl.Series(_CHAIN, chains, pl.Int64))
    number = pl.struct("__rank", _CHAIN).rank("dense").cast(pl.Int64).alias(_REPLAYED)
    return ordered.with_columns(number).sort("__asked")


def _dealt(requests: Iterable[tuple[int, int, int]]) -> list[int]:
    """Return the chain of each (entity, last seen, moment), which come sorted.

    In a chain of an entity, a request that saw more than another asks about a later moment.
    """
    dealt: list[int] = []
    chains: list[list[int]] = []  # what the chain's last saw, its latest moment before that, its latest moment
    entity = None
    for who, seen, at in requests:
        if who != entity:
            entity, chains = who, []
        fits = (n for n, (last, before, latest) in enumerate(chains) if at > (before if last == seen else latest))
        place = next(fits, len(chains))
        if place == len(chains):
            chains.append([seen, _ALWAYS - 1, at])
        elif chains[place][0] == seen:
            chains[place][2] = max(chains[place][2], at)
        else:
            chains[place] = [seen, chains[place][2], at]
        dealt.append(place)
    return dealt


def _with_knowledge(view: FeatureView, events: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    """Return the events of each chain with when they became known to it."""
    chains = requests.select(_ENTITY, _REPLAYED).unique(maintain_order=True)
    unseen = requests.group_by(_REPLAYED, _ORDER).agg(pl.col("__at").max()).sort(_ORDER)
    unseen = unseen.with_columns(pl.col("__at").cum_max().over(_REPLAYED), pl.col(_ORDER).alias("__seen"))
    events = events.join(chains, on=_ENTITY).sort(_ORDER)
    events = _latest_before(events, unseen.drop(_ORDER).sort("__seen"), _ORDER, "__seen", by=_REPLAYED)
    own = pl.lit(_ALWAYS) if view.known_time is None else pl.col(view.known_time).dt.epoch("us")
    known = pl.max_horizontal(pl.col("__at").fill_null(_ALWAYS), own)
    return events.with_columns(known.cast(pl.Datetime("us", "UTC")).alias(_KNOWN))


def _latest_before(left: pl.DataFrame, right: pl.DataFrame, on: str, other: str, *, by: str) -> pl.DataFrame:
    """Return ``left`` with the row of ``right`` of the greatest ``other`` below ``on``; both are sorted by these."""
    return left.join_asof(
        right,
        left_on=on,
        right_on=other,
        by=by,
        strategy="backward",
        allow_exact_matches=False,
        check_sortedness=False,  # with `by`, Polars cannot see it and would warn
    )

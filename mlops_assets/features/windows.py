"""Which events each row of a spine sees: events sorted by entity and time, and ranges of positions among them.

Belongs here: sorting, searching, and who sees which positions. Not here: what is computed from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from mlops_assets.errors import FeatureError
from mlops_assets.features.columns import Held, Mask, hold
from mlops_assets.features.event_table import Frame, column_name, entity_of, filter_name, read_events, schema_of
from mlops_assets.features.exact import Integers
from mlops_assets.features.meaning import read_as, reads_values, where
from mlops_assets.features.view import Aggregate, FeatureView, ValueType

ColumnKey = tuple[str, ValueType | None]
"""A column and the type it is read as; None where only its nulls matter."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Events sorted by entity and time; ``entities`` says where each entity's events are, ``[first, stop)``.

    ``times`` are the events' instants and ``known`` those at which they became known, None if no event became known
    after it happened.
    """

    entities: pl.DataFrame
    times: Integers
    known: Integers | None
    columns: Mapping[ColumnKey, Held]
    filters: Mapping[str, Mask]

    @cached_property
    def firsts(self) -> Integers:
        """The position of the first event of each entity that has one, rising."""
        return self.entities.filter(pl.col("first") < pl.col("stop"))["first"].to_numpy()

    @cached_property
    def longest(self) -> int:
        """The number of events of the entity that has most."""
        return int((self.entities["stop"] - self.entities["first"]).to_numpy().max(initial=0))

    @cached_property
    def group(self) -> Integers:
        """The number of each event's entity, rising from 0."""
        return np.repeat(np.arange(len(self.firsts)), np.diff(self.firsts, append=len(self.times)))

    @cached_property
    def run(self) -> Integers:
        """The number of each event's tie: equal entity and time, equal number."""
        is_new = np.ones(len(self.times), bool)
        is_new[1:] = self.times[1:] != self.times[:-1]
        is_new[self.firsts] = True
        return np.cumsum(is_new, dtype=np.int64)

    def take(self, places: Integers, counts: Integers) -> "Timeline":
        """Return the events at ``places`` as those of new entities 0, 1, …, of which each has ``counts`` events."""
        stop = np.cumsum(counts)
        return Timeline(
            entities=pl.DataFrame({"entity": np.arange(len(counts)), "first": stop - counts, "stop": stop}),
            times=self.times[places],
            known=None,
            columns={key: held.take(places) for key, held in self.columns.items()},
            filters={text: mask[places] for text, mask in self.filters.items()},
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a spine: the instant of each, and where its entity's events are, ``[first, stop)``."""

    now: Integers
    first: Integers
    stop: Integers

    def take(self, places: Integers | slice) -> "Rows":
        """Return the rows at ``places``."""
        return Rows(self.now[places], self.first[places], self.stop[places])

    def is_sorted(self) -> bool:
        """Return whether the rows are in the order of the events."""
        step = np.diff(self.first)
        return bool(((step > 0) | ((step == 0) & (np.diff(self.now) >= 0))).all())

    def order(self) -> Integers:
        """Return the places of the rows in the order of the events."""
        frame = pl.DataFrame({"first": self.first, "now": self.now})
        return frame.select(pl.arg_sort_by("first", "now")).to_series().cast(pl.Int64).to_numpy()


def build_timeline(view: FeatureView, events: Frame) -> Timeline:
    """Return the timeline of the columns that the view reads; ``FeatureError`` for what ``read_events`` refuses."""
    table = read_events(view, events)
    groups = table["entity"].rle().struct.unnest()
    stop = groups["len"].cast(pl.Int64).cum_sum()
    entities = pl.DataFrame({"entity": groups["value"], "first": stop - groups["len"], "stop": stop})
    times = table["now"].to_numpy()
    known = table["known"].to_numpy() if view.known_time is not None else None
    columns: dict[ColumnKey, Held] = {}
    for feature in view.aggregates:
        key = column_key(feature)
        if key is not None and key not in columns:
            columns[key] = _held(view, key, table[column_name(key[0])])
    return Timeline(
        entities=entities,
        times=times,
        known=known if known is not None and (known > times).any() else None,
        columns=columns,
        filters={f.where: table[filter_name(f.where)].to_numpy() for f in view.aggregates if f.where is not None},
    )


def column_key(feature: Aggregate) -> ColumnKey | None:
    """Return what the feature reads of an event: a column as a type; None if only that the event is there."""
    if feature.column is None:
        return None
    return feature.column, read_as(feature) if reads_values(feature) else None


def _held(view: FeatureView, key: ColumnKey, series: pl.Series) -> Held:
    column, type = key
    if type is not None:
        return hold(view, column, series, type)
    present = series.is_not_null().to_numpy() if series.null_count() else None
    return Held(np.empty(len(series), np.bool_), present)


def check_entity(view: FeatureView, events: Frame, spine: Frame) -> None:
    """Raise ``FeatureError`` if events and spine name the entity in different types."""
    found, asked = (
        frame.lazy().select(entity_of(view, schema_of(frame))).collect_schema()["entity"] for frame in (events, spine)
    )
    if found != asked:
        types = f"{found} in the events and {asked} in the spine"
        raise FeatureError(f"{where(view, view.entity)} is {types}; cast one of them")


def places(timeline: Timeline, entity: pl.Series) -> tuple[Integers, Integers]:
    """Return where the events of each ``entity`` are: first and stop, both after all events where it has none."""
    runs = entity.rle().struct.unnest() if entity.len() else None
    if runs is None or runs.height * 2 > entity.len():
        found = _joined(timeline, entity)
        return found["first"].to_numpy(), found["stop"].to_numpy()
    found = _joined(timeline, runs["value"])
    lengths = runs["len"].to_numpy()
    return np.repeat(found["first"].to_numpy(), lengths), np.repeat(found["stop"].to_numpy(), lengths)


def _joined(timeline: Timeline, entity: pl.Series) -> pl.DataFrame:
    asked = pl.DataFrame({"entity": entity})
    joined = asked.join(timeline.entities, on="entity", how="left", maintain_order="left")
    return joined.select(pl.col("first", "stop").fill_null(len(timeline.times)))


def first_at_or_after(times: Integers, low: Integers, high: Integers, wanted: Integers) -> Integers:
    """Return the first position of each ``[low, high)`` whose time is at least ``wanted``, else ``high``."""
    if not len(times) or not len(low):
        return low
    for bit in reversed(range(int((high - low).max()).bit_length())):
        probe = np.minimum(low + (1 << bit), high)
        low = low + (probe - low) * (times.take(probe - 1) < wanted)
    return low

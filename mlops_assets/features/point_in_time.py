"""Many feature tables joined to a spine of (entity, time): each row gets what was known of its entities just before.

Of a table, a row of the spine takes the latest row of its entity, by event time and then by knowledge time, among those
that happened, and were known, strictly before. A correction that became known later is not used before; whoever asks
later sees it. The spine streams in blocks, its rows stay whole and in their order; the tables' read columns are sorted
once and held in memory. Time is that of a hash lookup, a binary search and a gather per row and table.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from mlops_assets.errors import FeatureError
from mlops_assets.features.columns import Mask, is_text
from mlops_assets.features.event_table import Frame, schema_of
from mlops_assets.features.exact import Integers
from mlops_assets.features.latest_known import LatestKnown
from mlops_assets.features.polars_engine import on_all_cores
from mlops_assets.features.row_blocks import row_blocks, write_blocks
from mlops_assets.features.view import window_faults
from mlops_assets.features.windows import first_at_or_after

ROWS = 1 << 20
_BLOCK = 1 << 15


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Feature values of entities over time, one row per change.

    ``entity`` names the columns that say whose the row is; the spine has columns of the same names. ``event_time`` says
    since when the values hold and ``known_time`` when they became known (None: at once). Values older than
    ``time_to_live`` are not used. ``empty`` gives features another value than null where a row of the spine finds none.
    ``prefix`` comes before the features' names in what is joined.
    """

    name: str
    rows: Frame
    entity: tuple[str, ...]
    event_time: str
    features: tuple[str, ...]
    known_time: str | None = None
    time_to_live: timedelta | None = None
    empty: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""


def join_point_in_time(
    spine: Frame, tables: Sequence[FeatureTable], *, time: str, rows: int = ROWS
) -> Iterator[pl.DataFrame]:
    """Yield the rows of ``spine`` in their order, ``rows`` at a time, each with the features of all ``tables``.

    Raises ``FeatureError`` naming table and column when a column is missing, doubled or of another type than the
    spine's, when an entity or a time is null, and when rows of one entity and times have different features.
    """
    _check(spine, tables, time)
    lookups = {keys: _Entities(keys, [t for t in tables if t.entity == keys]) for keys in {t.entity for t in tables}}
    sorted_tables = on_all_cores(lambda table: _SortedTable(table, lookups[table.entity]), tables)
    for block in row_blocks(spine, rows):
        _refuse_nulls("the spine", block, [time, *(column for keys in lookups for column in keys)])
        now = block.select(_instants("the spine", block.schema, time)).to_series().to_numpy()
        codes = {keys: lookup.codes(block) for keys, lookup in lookups.items()}
        found = [each.features(codes[table.entity], now) for table, each in zip(tables, sorted_tables, strict=True)]
        yield pl.concat([block, *found], how="horizontal")


def write_point_in_time(spine: Frame, tables: Sequence[FeatureTable], path: str | Path, *, time: str) -> int:
    """Write what ``join_point_in_time`` yields to the Parquet file ``path``; return the number of rows."""
    return write_blocks(join_point_in_time(spine, tables, time=time), path)


class _Entities:
    """Numbers for the entities of the tables that share their entity columns; an entity of none has the last number."""

    def __init__(self, keys: tuple[str, ...], tables: Sequence[FeatureTable]) -> None:
        self._keys = list(keys)
        known = pl.concat([table.rows.lazy().select(_texts(schema_of(table.rows), keys)) for table in tables])
        entities = known.unique().collect()
        self.count = entities.height
        self._table = entities.with_row_index("code")
        self._dense: tuple[int, Integers] | None = None
        if len(keys) == 1 and entities.height and entities.dtypes[0].is_integer():
            values = entities.to_series()
            low, high = int(values.min()), int(values.max())  # type: ignore[arg-type]
            if high - low < 4 * entities.height + 1024 and low > -(2**62) and high < 2**62:
                places = np.full(high - low + 2, self.count, np.int64)
                places[values.cast(pl.Int64).to_numpy() - low] = np.arange(self.count)
                self._dense = low, places

    def codes(self, frame: pl.DataFrame) -> Integers:
        """Return the number of each row's entity."""
        if self._dense is not None:
            low, places = self._dense
            values = frame[self._keys[0]]
            if values.dtype != pl.UInt64:
                wanted = values.cast(pl.Int64).clip(low - 1, low + len(places) - 1).to_numpy() - low
                return places.take(wanted)  # -1 and all that is too great find the last place, nobody's
        asked = frame.select(_texts(frame.schema, tuple(self._keys)))
        joined = asked.join(self._table, on=self._keys, how="left", maintain_order="left")
        return joined["code"].cast(pl.Int64).fill_null(self.count).to_numpy()


class _SortedTable:
    """A feature table sorted by entity and times, ready to be asked."""

    def __init__(self, table: FeatureTable, entities: _Entities) -> None:
        self._table = table
        schema = schema_of(table.rows)
        times = [table.event_time, *([table.known_time] if table.known_time else [])]
        read = list(dict.fromkeys([*table.entity, *times, *table.features]))
        frame = table.rows.lazy().select(read).collect()
        _refuse_nulls(f"feature table {table.name!r}", frame, [*table.entity, *times])
        what = f"feature table {table.name!r}"
        keys = frame.select(
            pl.Series("code", entities.codes(frame)),
            *(_instants(what, schema, column).alias(f"instant {place}") for place, column in enumerate(times)),
        )
        ordered = keys.with_row_index("row").sort(keys.columns, maintain_order=True)
        features = frame.select(table.features).select(pl.all().gather(ordered["row"]))
        _refuse_contradictions(table, ordered.select(keys.columns), features)
        self._gathered = _Gathered(features)
        code = ordered["code"].to_numpy()
        self._times = ordered["instant 0"].to_numpy()
        self._first = np.searchsorted(code, np.arange(entities.count + 2))
        self._known = LatestKnown(ordered["instant 1"].to_numpy()) if table.known_time else None
        self._lives = None if table.time_to_live is None else table.time_to_live // timedelta(microseconds=1)

    def features(self, codes: Integers, now: Integers) -> pl.DataFrame:
        """Return the features of the entities at the instants ``now``."""
        place, is_none = np.empty(len(now), np.int64), np.empty(len(now), bool)
        numbers = self._gathered.room(len(now))

        def search(block: slice) -> None:
            place[block], is_none[block] = self._places(codes[block], now[block])
            self._gathered.gather(place[block], numbers[:, block])

        on_all_cores(search, [slice(first, first + _BLOCK) for first in range(0, len(now), _BLOCK)])
        table = self._table
        found = [self._gathered.series(name, numbers, place, is_none) for name in table.features]
        filled = [
            column if table.empty.get(column.name) is None else _filled(column, is_none, table.empty[column.name])
            for column in found
        ]
        return pl.DataFrame([column.alias(f"{table.prefix}{column.name}") for column in filled])

    def _places(self, codes: Integers, now: Integers) -> tuple[Integers, Mask]:
        """Return the position of the row that each instant sees, and where there is none."""
        first = self._first.take(codes)
        end = first_at_or_after(self._times, first, self._first.take(codes + 1), now)
        place = end - 1 if self._known is None else self._known.before(first, end, now)
        is_none = place < first
        if self._lives is not None and len(self._times):
            is_none |= self._times.take(place) < now - self._lives
        place[is_none] = 0
        return place, is_none


class _Gathered:
    """Columns to be gathered from many places; those of eight bytes lie row by row: a place costs one way to memory."""

    def __init__(self, features: pl.DataFrame) -> None:
        self._features = features
        names = [name for name, dtype in features.schema.items() if _is_of_eight_bytes(dtype)]
        self._rows = np.empty((features.height, len(names)), np.int64)
        for column, name in enumerate(names):
            self._rows[:, column] = features[name].to_physical().fill_null(0).to_numpy().view(np.int64)
        self._column = {name: column for column, name in enumerate(names)}
        self._present = {name: features[name].is_not_null().to_numpy() for name in names if features[name].null_count()}

    def room(self, rows: int) -> Integers:
        """Return room for what ``gather`` writes of so many rows."""
        return np.empty((len(self._column), rows), np.int64)

    def gather(self, place: Integers, numbers: Integers) -> None:
        """Write the columns of eight bytes at ``place`` to the rows of ``numbers``."""
        if len(self._rows) and len(numbers):
            numbers[:] = self._rows.take(place, axis=0, mode="clip").T

    def series(self, name: str, numbers: Integers, place: Integers, is_none: Mask) -> pl.Series:
        """Return the column, as ``gather`` wrote it or gathered now, with nulls where there is none."""
        if name not in self._column:
            return self._features[name].gather(pl.Series(pa.array(place, mask=is_none if is_none.any() else None)))
        is_null = is_none
        if name in self._present:
            is_null = is_none | ~self._present[name].take(place, mode="clip")
        dtype = self._features.schema[name]
        held = np.float64 if dtype == pl.Float64 else np.uint64 if dtype == pl.UInt64 else np.int64
        return pl.Series(name, _with_nulls(numbers[self._column[name]].view(held), is_null)).cast(dtype)


def _is_of_eight_bytes(dtype: pl.DataType) -> bool:
    return dtype in {pl.Float64(), pl.Int64(), pl.UInt64()} or isinstance(dtype, pl.Datetime)


def _with_nulls(values: npt.NDArray[Any], is_null: Mask) -> pa.Array:
    """Return an Arrow array of the values without copying them."""
    bits = pa.py_buffer(np.packbits(~is_null, bitorder="little")) if is_null.any() else None
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [bits, pa.py_buffer(values)])


def _filled(found: pl.Series, is_none: Mask, empty: Any) -> pl.Series:
    """Return a column with ``empty`` where a row of the spine found none; a null that was found stays."""
    return (
        found.to_frame()
        .select(
            pl.when(pl.lit(pl.Series("none", is_none)))
            .then(pl.lit(empty, found.dtype))
            .otherwise(pl.col(found.name))
            .alias(found.name)
        )
        .to_series()
    )


def _refuse_contradictions(table: FeatureTable, keys: pl.DataFrame, features: pl.DataFrame) -> None:
    """Refuse rows of one entity and times that differ: which of them holds would be a guess."""
    is_repeated = np.ones(max(keys.height - 1, 0), bool)
    for name in keys.columns:
        values = keys[name].to_numpy()
        is_repeated &= values[1:] == values[:-1]
    again = np.flatnonzero(is_repeated)
    if not len(again):
        return
    upper, lower = features[again], features[again + 1]
    for name in table.features:
        if (differs := upper[name].ne_missing(lower[name])).any():
            raise FeatureError(
                f"feature table {table.name!r}: {differs.sum()} rows have another {name!r} than a row of the same "
                "entity and times; correct them, or give each correction the known_time at which it became known"
            )


def _check(spine: Frame, tables: Sequence[FeatureTable], time: str) -> None:
    schema = schema_of(spine)
    taken = dict.fromkeys(schema.names(), "the spine")
    _require("the spine", schema, [time])
    for table in tables:
        what = f"feature table {table.name!r}"
        rows = schema_of(table.rows)
        times = [table.event_time, *([table.known_time] if table.known_time else [])]
        _require(what, rows, [*table.entity, *times, *table.features])
        _require("the spine", schema, table.entity)
        for column in table.entity:
            found, asked = (pl.String() if is_text(s[column]) else s[column] for s in (rows, schema))
            if found != asked:
                raise FeatureError(f"{what}: column {column!r} is {found} and {asked} in the spine; cast one of them")
        if faults := window_faults(table.time_to_live, what, "time_to_live"):
            raise FeatureError(faults[0])
        if not table.entity or (unknown := set(table.empty) - set(table.features)):
            raise FeatureError(f"{what} names no entity" if not table.entity else f"{what} lacks {sorted(unknown)}")
        for name in table.features:
            other = taken.setdefault(f"{table.prefix}{name}", what)
            if other != what or table.features.count(name) > 1:
                raise FeatureError(f"{what}: {table.prefix + name!r} is also in {other}; give the table a prefix")


def _require(what: str, schema: pl.Schema, columns: Sequence[str]) -> None:
    for column in columns:
        if column not in schema:
            raise FeatureError(f"{what} has no column {column!r}; it has {schema.names()}")


def _refuse_nulls(what: str, frame: pl.DataFrame, columns: Sequence[str]) -> None:
    for column in columns:
        if nulls := frame[column].null_count():
            raise FeatureError(f"{what}: column {column!r} is null in {nulls} rows; quarantine them")


def _instants(what: str, schema: pl.Schema, column: str) -> pl.Expr:
    if not isinstance(schema[column], pl.Datetime | pl.Date):
        raise FeatureError(f"{what}: column {column!r} must be a Datetime or a Date, it is {schema[column]}")
    return pl.col(column).dt.epoch("us")


def _texts(schema: pl.Schema, columns: tuple[str, ...]) -> list[pl.Expr]:
    return [pl.col(column).cast(pl.String) if is_text(schema[column]) else pl.col(column) for column in columns]

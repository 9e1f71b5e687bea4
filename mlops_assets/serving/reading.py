"""Reading a product's folder of the prediction log: segments, compacted segments and outcomes as one frame."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from mlops_assets.serving.outcomes import OutcomeBook
from mlops_assets.serving.segments import Line, compacted_path, find_line, parsed, read_lines, segments

PREDICTIONS, MIRRORS = "predictions", "mirrors"
TIME = pl.Datetime("us", "UTC")
PLAIN: Mapping[str, Any] = {
    "id": pl.String,
    "at": TIME,
    "version": pl.String,
    "arm": pl.String,
    "failed_version": pl.String,
    "entity": pl.String,
    "score": pl.Float64,
    "latency_seconds": pl.Float64,
    "snapshot": pl.String,
    "definitions": pl.String,
    "told": pl.Int64,
}
_MIRROR: Mapping[str, Any] = {"id": pl.String, "version": pl.String, "score": pl.Float64}
_OUTCOME: Mapping[str, Any] = {
    "id": pl.String,
    "outcome": pl.Float64,
    "outcome_at": pl.Int64,
    "outcome_order": pl.Int64,
    "corrected": pl.Float64,
}
_GROUPS = ("inputs", "features")  # mappings of a record, kept as structs


class LogFolder:
    """What is below ``directory``. It remembers what it has read; one thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._predictions = _Segments(directory / PREDICTIONS, frame_of_predictions)
        self._mirrors = _Segments(directory / MIRRORS, _frame_of_mirrors)

    def read_predictions(self) -> pl.DataFrame:
        """Return the predictions without outcomes; inputs and features are columns ``inputs.<name>`` and so on."""
        return self._predictions.read(PLAIN)

    def read_mirrors(self) -> pl.DataFrame:
        """Return all mirrors."""
        return self._mirrors.read(_MIRROR)

    def find(self, id: str) -> dict[str, Any] | None:
        """Return the record of a prediction, from its segment or what became of it."""
        trace, _, locator = id.partition("-")
        folder = self._directory / PREDICTIONS
        found = find_line(folder, locator)
        if found is not None:
            return found if found.get("trace") == trace else None
        return _find_compacted(folder, locator, id)

    def with_outcomes(self) -> pl.DataFrame:
        """Return one row per prediction, in the order they were answered, with what became of it."""
        outcomes, count = self._outcomes()
        frame = self.read_predictions().join(outcomes, on="id", how="left", maintain_order="left")
        told = pl.when(pl.col("told").is_between(0, count)).then(pl.col("told"))
        frame = frame.with_columns(told.alias("told"), pl.col("outcome_at").cast(TIME))
        plain = [name for name in frame.columns if not name.startswith(tuple(f"{group}." for group in _GROUPS))]
        return frame.select(plain).with_columns(_packed(frame, group) for group in _GROUPS)

    def _outcomes(self) -> tuple[pl.DataFrame, int]:
        path = self._directory / "outcomes.sqlite"
        if not path.exists():
            return pl.DataFrame(schema=dict(_OUTCOME)), 0
        book = OutcomeBook(path)
        try:
            corrected = book.corrections()
            rows = [(o.id, o.value, o.at, o.place - 1, corrected.get(o.id)) for o in book.after(0)]
        finally:
            book.close()
        return pl.DataFrame(rows, schema=dict(_OUTCOME), orient="row"), rows[-1][3] + 1 if rows else 0


class _Segments:
    """The segments of one folder, read as far as they go."""

    def __init__(self, directory: Path, frame_of: Any) -> None:
        self._directory = directory
        self._frame_of = frame_of
        self._parts: dict[str, list[pl.DataFrame]] = {}
        self._ends: dict[str, int] = {}

    def read(self, schema: Mapping[str, Any]) -> pl.DataFrame:
        """Return everything in order; a segment that was compacted is read from its Parquet file."""
        compacted = {path.stem: path for path in (self._directory / "compacted").glob("date=*/*.parquet")}
        plain = set(segments(self._directory)) - set(compacted)
        for name in self._parts.keys() - plain - set(compacted):
            del self._parts[name]  # retention took it
        for name in sorted(plain):
            path = self._directory / f"{name}.jsonl"
            try:
                lines, self._ends[name] = read_lines(path, self._ends.get(name, 0))
            except FileNotFoundError:  # compacted at this moment
                compacted[name] = compacted_path(self._directory, name)
                self._parts.pop(name, None)
                continue
            if lines:
                self._parts.setdefault(name, []).append(self._frame_of(lines))
        for name, path in compacted.items():
            if name not in self._parts:
                self._parts[name] = [pl.read_parquet(path, hive_partitioning=False)]
        frames = [part for name in sorted(self._parts) for part in self._parts[name]]
        empty = pl.DataFrame(schema=dict(schema))
        return pl.concat([empty, *frames], how="diagonal_relaxed") if frames else empty


def frame_of_predictions(lines: Sequence[Line]) -> pl.DataFrame:
    """Return lines of predictions as columns; inputs and features as ``inputs.<name>`` and ``features.<name>``."""
    lines, frame = _parsed(lines)
    for group in _GROUPS:
        if group in frame.columns:
            fields = frame[group].struct.unnest() if frame.schema[group] != pl.Null else pl.DataFrame()
            frame = frame.drop(group).with_columns(fields.rename({name: f"{group}.{name}" for name in fields.columns}))
    frame = _with_odd_values(frame)
    ids = [line.locator for line in lines]
    frame = frame.with_columns(id=pl.concat_str(pl.col("trace"), pl.Series(ids, dtype=pl.String), separator="-"))
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in PLAIN.items() if name not in frame.columns]
    grouped = [name for name in frame.columns if name.startswith(tuple(f"{group}." for group in _GROUPS))]
    return frame.with_columns(*absent).select(
        *(pl.col(name).cast(dtype) for name, dtype in PLAIN.items()), *(pl.col(name) for name in grouped)
    )


def _with_odd_values(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with the values that JSON could not say (NaN, infinities) in their places."""
    if "odd" not in frame.columns:
        return frame
    for name in frame["odd"].struct.fields:
        said = frame["odd"].struct.field(name).to_list()
        values = [
            value if odd is None else number_of(odd) for value, odd in zip(frame[name].to_list(), said, strict=True)
        ]
        frame = frame.with_columns(pl.Series(name, values, strict=False))
    return frame.drop("odd")


def number_of(odd: Any) -> Any:
    """Return the number, or the list of numbers, that JSON could not say and was written as text."""
    if isinstance(odd, list):
        return [None if one is None else float(one) for one in odd]
    return float(odd)


def _frame_of_mirrors(lines: Sequence[Line]) -> pl.DataFrame:
    _, frame = _parsed(lines)
    return frame.select(pl.col(name).cast(dtype) for name, dtype in _MIRROR.items())


def _parsed(lines: Sequence[Line]) -> tuple[Sequence[Line], pl.DataFrame]:
    """Return the lines that are whole and what they say."""
    try:
        return lines, _read_json([line.content for line in lines])
    except pl.exceptions.PolarsError:
        whole = [(line, content) for line, content in parsed(lines)]
        return [line for line, _ in whole], _read_json([orjson.dumps(content) for _, content in whole])


def _read_json(lines: Sequence[bytes]) -> pl.DataFrame:
    return pl.read_ndjson(io.BytesIO(b"\n".join(lines)), infer_schema_length=None)


def _packed(frame: pl.DataFrame, group: str) -> pl.Series:
    fields = frame.select(pl.col(f"^{group}\\..*$").name.map(lambda name: name.removeprefix(f"{group}.")))
    return fields.to_struct(group) if fields.width else pl.Series(group, [{}] * frame.height, pl.Struct([]))


def _find_compacted(folder: Path, locator: str, id: str) -> dict[str, Any] | None:
    segment = locator.rpartition("-")[0]
    if not segment.isalnum():
        return None
    path = next((folder / "compacted").glob(f"date=*/{segment}.parquet"), None)
    if path is None:
        return None
    found = pl.scan_parquet(path, hive_partitioning=False).filter(pl.col("id") == id).collect()
    if found.is_empty():
        return None
    row = found.row(0, named=True)
    groups = {
        group: {name.removeprefix(f"{group}."): value for name, value in row.items() if name.startswith(f"{group}.")}
        for group in _GROUPS
    }
    return {**{name: row[name] for name in PLAIN}, **groups}

"""Feature views on a Spark cluster: Spark moves each entity's events and moments together, the batch kernel computes.

Spark's own windows are not used: they have no bounds by knowledge time, add doubles in an order that nobody controls,
and would be a second definition. Entities are hashed to buckets; each bucket of events and moments is one call of
``PolarsEngine`` in the Python worker of an executor, so what comes out is that engine's to the last bit. Spark does
what it is best at: reading, shuffling, writing, and running again what a lost executor had begun.

Needs the extra ``spark``, and this library on the workers. Works with a local session, a cluster's and Spark Connect.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from mlops_assets.errors import FeatureError, InvalidDefinition
from mlops_assets.features.answers import feature_dtype
from mlops_assets.features.columns import is_text
from mlops_assets.features.event_table import Frame, require, schema_of
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import Feature, FeatureView

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_BUCKET = "bucket of entities"
_ROW = "row of the spine"
_INSTANT = pa.timestamp("us", "UTC")
_TYPES = {
    "double": ("double", pa.float64()),
    "integer": ("bigint", pa.int64()),
    "boolean": ("boolean", pa.bool_()),
    "string": ("string", pa.string()),
    "time": ("timestamp", _INSTANT),
}
_SENTENCE = re.compile(r"FeatureError: (.*?)(?:\n|$)")


def features_on_spark(
    view: FeatureView, events: "DataFrame", spine: "DataFrame", *, buckets: int | None = None
) -> "DataFrame":
    """Return the rows of ``spine``, in no order, with all their columns and one for each feature.

    ``events`` has the view's inputs, ``spine`` its entity and event_time. Entities are spread over ``buckets``, each of
    which a worker holds in memory; as many as the session's ``spark.sql.shuffle.partitions``, unless given. Raises
    ``InvalidDefinition`` for a view with faults, ``FeatureError`` for a column that is missing or named like a feature;
    what is wrong with rows ends the Spark job that reads the result, with the sentence of ``PolarsEngine``.
    """
    from pyspark.sql import functions as f

    _check(view, events.columns, spine.columns)
    number = buckets or int(events.sparkSession.conf.get("spark.sql.shuffle.partitions", "200") or "200")
    bucket = f.pmod(f.xxhash64(f.col(_quoted(view.entity)).cast("string")), f.lit(number)).alias(_BUCKET)
    told = events.select(bucket, *(f.col(_quoted(name)) for name in view.inputs)).groupBy(_BUCKET)
    asked = spine.select(bucket, "*").groupBy(_BUCKET)
    columns = [f"{_quoted(field.name)} {field.dataType.simpleString()}" for field in spine.schema.fields]
    columns += [f"{_quoted(feature.name)} {_types(feature)[0]}" for feature in view.features]
    return told.cogroup(asked).applyInArrow(_kernel(view), ", ".join(columns))


class SparkEngine:
    """A ``FeatureEngine`` that ships its frames to a Spark session and back; ``engine.py`` says what it returns.

    For what fits on one machine, such as tests and small views beside great ones; tables that Spark reads itself belong
    in ``features_on_spark``.
    """

    def __init__(self, session: "SparkSession", *, buckets: int | None = None) -> None:
        self._session = session
        self._buckets = buckets

    def features_at(self, view: FeatureView, events: Frame, spine: Frame) -> pl.DataFrame:
        """Return one column per feature, of its type, one row per row of ``spine``, in its order."""
        from pyspark.errors import PySparkException

        _check(view, schema_of(events).names(), schema_of(spine).names())
        asked = spine.lazy().select(pl.row_index(_ROW).cast(pl.Int64), view.entity, view.event_time)
        told = events.lazy().select(view.inputs)
        try:
            found = features_on_spark(view, self._shipped(told), self._shipped(asked), buckets=self._buckets).toArrow()
        except PySparkException as error:
            if sentence := _SENTENCE.search(str(error)):
                raise FeatureError(sentence[1]) from error
            raise
        types = {feature.name: feature_dtype(feature) for feature in view.features}
        return pl.DataFrame(found).sort(_ROW).select(pl.col(name).cast(dtype) for name, dtype in types.items())

    def _shipped(self, frame: pl.LazyFrame) -> "DataFrame":
        from pyspark.sql.pandas.types import from_arrow_schema

        schema = frame.collect_schema()
        texts = [pl.col(name).cast(pl.String) for name, dtype in schema.items() if is_text(dtype)]
        naive = [name for name, dtype in schema.items() if isinstance(dtype, pl.Datetime) and dtype.time_zone is None]
        in_utc = pl.col(naive).dt.replace_time_zone("UTC")  # Spark would take them for the session's time
        table = frame.with_columns(*texts, in_utc).collect().to_arrow()
        return self._session.createDataFrame(table, from_arrow_schema(table.schema))


def _kernel(view: FeatureView) -> Callable[[pa.Table, pa.Table], pa.Table]:
    """Return what computes one bucket: its events and its rows of the spine give those rows with features."""

    def compute(events: pa.Table, spine: pa.Table) -> pa.Table:
        moments = pl.DataFrame(spine.select([view.entity, view.event_time]))
        features = PolarsEngine().features_at(view, pl.DataFrame(events.drop_columns(_BUCKET)), moments)
        table = _in_utc(spine.drop_columns(_BUCKET))
        for feature in view.features:
            table = table.append_column(feature.name, features[feature.name].to_arrow().cast(_types(feature)[1]))
        return table

    return compute


def _check(view: FeatureView, events: list[str], spine: list[str]) -> None:
    if faults := view.faults():
        raise InvalidDefinition(faults)
    require(view, pl.Schema(dict.fromkeys(events, pl.Null())), "the events", view.inputs)
    require(view, pl.Schema(dict.fromkeys(spine, pl.Null())), "the spine", [view.entity, view.event_time])
    if taken := sorted({*spine} & {*view.feature_names}):
        raise FeatureError(f"feature view {view.name!r}: the spine has columns of its features' names, {taken}")


def _types(feature: Feature) -> tuple[str, pa.DataType]:
    """Return the types of a feature's column in Spark and in Arrow."""
    spark, arrow = _TYPES[feature.result_type]
    return (f"array<{spark}>", pa.list_(arrow)) if feature.is_list else (spark, arrow)


def _in_utc(table: pa.Table) -> pa.Table:
    """Return the table with instants as Spark takes them back: it gives them in the session's time zone."""
    zoned = [field.with_type(_INSTANT) if getattr(field.type, "tz", None) else field for field in table.schema]
    return table.cast(pa.schema(zoned))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"

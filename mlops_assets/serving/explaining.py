"""What moved a score, and whether it can be made again: from the log's record of a prediction and the model's bytes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from mlops_assets.errors import RequestRefused
from mlops_assets.serving.reading import number_of
from mlops_assets.training.model import Model


def features_of(record: Mapping[str, Any], names: tuple[str, ...], dtypes: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Return the row that the model was told, as it was: one row, the columns ``names``."""
    logged = {**record["inputs"], **record["features"]}
    odd = record.get("odd") or {}
    row = {name: number_of(odd[f"features.{name}"]) if f"features.{name}" in odd else logged[name] for name in names}
    frame = pl.DataFrame({name: [row[name]] for name in names}, strict=False)
    return frame.select(_typed(frame[name], dtypes[name]) for name in names)


def explain(id: str, record: Mapping[str, Any], model: Model, dtypes: Mapping[str, pl.DataType]) -> dict[str, Any]:
    """Return how each feature moved the score of a logged prediction, in the units of the model's raw score.

    ``contributions`` and ``base`` sum to ``raw_score``; ``again`` is the score made again from the logged features, and
    ``exact`` whether it is the logged one to the last bit. A model without contributions has none. Raises
    ``RequestRefused`` (404) when the log lacks what the model reads.
    """
    names = tuple(model.features)
    absent = [name for name in names if name not in record["inputs"] and name not in record["features"]]
    if absent:
        raise RequestRefused(f"the log does not hold {absent} of prediction {id!r}; they were redacted", 404)
    frame = features_of(record, names, dtypes)
    again = float(np.asarray(model.predict(frame))[0])
    found = {
        "id": id,
        "version": record["version"],
        "score": record["score"],
        "again": again,
        "exact": again == record["score"],
        "features": frame.with_columns(pl.col(pl.Datetime).dt.to_string("iso")).row(0, named=True),
    }
    contributions = getattr(model, "contributions", None)
    if contributions is None:
        return found
    *parts, base = (float(value) for value in np.asarray(contributions(frame))[0])
    ranked = sorted(zip(names, parts, strict=True), key=lambda pair: -abs(pair[1]))
    return {**found, "base": base, "raw_score": base + sum(parts), "contributions": dict(ranked)}


def _typed(logged: pl.Series, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Datetime) and logged.dtype == pl.String:
        return logged.str.to_datetime(time_unit=dtype.time_unit, time_zone="UTC")
    return logged.cast(dtype)

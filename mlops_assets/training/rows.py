"""Whether a model can be learned from these rows at all."""

from collections.abc import Sequence

import polars as pl

from mlops_assets.errors import TrainingFailed


def check_rows(frame: pl.DataFrame, *, features: Sequence[str], label: str) -> None:
    """Raise ``TrainingFailed``, naming every fault, unless there are rows, numbers and two different labels."""
    faults = list(_column_faults(frame, features, label)) or list(_label_faults(frame, label))
    if faults:
        raise TrainingFailed("; ".join(faults))


def _column_faults(frame: pl.DataFrame, features: Sequence[str], label: str) -> list[str]:
    absent = [name for name in (*features, label) if name not in frame.columns]
    if absent:
        return [f"the training set has no column {absent}; it has {frame.columns}"]
    words = [name for name in (*features, label) if not _is_number(frame.schema[name])]
    faults = [f"{name!r} holds {frame.schema[name]}, and a model reads numbers" for name in words]
    if not features:
        faults.append("no features are declared")
    if label in features:
        faults.append(f"the label {label!r} is among the features, so the model would know the answer")
    if frame.is_empty():
        faults.append("the training set is empty: widen the dataset or shorten the golden set")
    return faults


def _label_faults(frame: pl.DataFrame, label: str) -> list[str]:
    values = frame[label].cast(pl.Float64)
    odd = len(values) - int(values.is_finite().fill_null(value=False).sum())
    if odd:
        return [f"the label {label!r} is null, NaN or infinite in {odd} of {len(values)} rows: clean it"]
    if values.n_unique() < 2:
        return [f"the label {label!r} has one class: all {len(values)} rows are {values[0]}, so nothing can be learned"]
    return []


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean

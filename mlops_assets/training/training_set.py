"""The training set: dataset rows beside the features each had at its own moment, labelled, and split by time.

Belongs here: the exact join, the label, the split, and what a training set cannot be used for. Pure functions: who
reads and writes the frames is ``assets.py``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from mlops_assets.errors import FeatureError, TrainingFailed
from mlops_assets.features.request import RequestFeatures
from mlops_assets.features.view import FeatureView, RequestFeature
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.training.recipe import TimeSplit


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelExpression:
    """What is to be predicted: ``expression`` is a Polars SQL expression over a row's columns, cast to Float64."""

    name: str
    expression: str

    def faults(self) -> list[str]:
        """Return what is wrong with the declaration; a label follows the same rules as a request feature."""
        found = RequestFeature(name=self.name or "label", expression=self.expression).faults()
        found = [fault.replace("request feature", "label", 1) for fault in found]
        return found if self.name else ["the label has an empty name", *found]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """``train`` is older than ``golden``; both have the dataset's columns, the features and the label."""

    train: pl.DataFrame
    golden: pl.DataFrame

    def faults(self, label: str) -> list[str]:
        """Return why no classifier of ``label`` can be trained or judged on it, one sentence each; empty if one can."""
        parts = {"train": self.train, "golden": self.golden}
        return [f"{name}: {fault}" for name, frame in parts.items() for fault in _label_faults(frame, label)]


def build_training_set(
    dataset: pl.DataFrame,
    views: Mapping[FeatureView, pl.DataFrame],
    request_features: Sequence[RequestFeature],
    *,
    split: TimeSplit,
    event_time: str,
    label: LabelExpression,
    entity: str,
) -> TrainingSet:
    """Return the training set of ``dataset``: never a row lost, doubled or moved within its part.

    ``views`` gives each view's feature table: one row per (entity, event_time), as the view's asset writes it. Each row
    of the dataset takes the features of exactly its own entity and time. The golden set is the half-open interval
    (last - ``split.golden``, last] of ``event_time``, so rows of one moment are never split.

    Raises ``FeatureError`` when a column is missing, a name would be taken twice, a table holds a key twice or lacks
    the key of a row (it was computed from other data: materialize it again).
    """
    for column in (entity, event_time):
        if column not in dataset.columns:
            raise FeatureError(f"the dataset lacks {column!r}; its columns are {dataset.columns}")
    if nulls := dataset[event_time].null_count():
        raise FeatureError(f"{event_time!r} is null in {nulls} rows of the dataset; quarantine them")
    declared = RequestFeatures(request_features, dataset.schema)
    labelled = RequestFeatures([RequestFeature(name=label.name, expression=label.expression)], dataset.schema)
    tables = [_features_of_rows(dataset, view, table, event_time) for view, table in views.items()]
    parts = [dataset, *tables, declared.on_frame(dataset), labelled.on_frame(dataset)]
    _refuse_repeated_names(parts)
    complete = pl.concat([part for part in parts if part.width], how="horizontal")
    is_golden = pl.col(event_time) > pl.col(event_time).max() - split.golden
    return TrainingSet(train=complete.filter(~is_golden), golden=complete.filter(is_golden))


def assemble(
    product: str,
    dataset: pl.DataFrame,
    views: Mapping[FeatureView, pl.DataFrame],
    request_features: Sequence[RequestFeature],
    *,
    split: TimeSplit,
    event_time: str,
    label: str,
    entity: str,
) -> TrainingSet:
    """Return the training set whose label is a column of ``dataset``, which no feature can read.

    Raises ``TrainingFailed`` when nothing can be learned from it or judged on it, else what ``build_training_set``
    raises.
    """
    if label not in dataset.columns:
        raise TrainingFailed(f"{product}: the dataset has no label column {label!r}; it has {dataset.columns}")
    known_later = f"{label}__known_later"
    built = build_training_set(
        dataset.rename({label: known_later}),
        views,
        request_features,
        split=split,
        event_time=event_time,
        label=LabelExpression(name=label, expression=known_later),
        entity=entity,
    )
    parts = TrainingSet(train=built.train.drop(known_later), golden=built.golden.drop(known_later))
    if faults := parts.faults(label):
        raise TrainingFailed(f"{product}: no training set: {'; '.join(faults)}; widen the data or change the split")
    return parts


def training_set_digest(train: Digest, golden: Digest) -> Digest:
    """Return the one name of both parts."""
    return digest_of({"train": train, "golden": golden})


def _features_of_rows(dataset: pl.DataFrame, view: FeatureView, table: pl.DataFrame, event_time: str) -> pl.DataFrame:
    """Return the features of ``table`` for each row of ``dataset``, in its order."""
    keys = [view.entity, view.event_time]
    if missing := {*keys, *view.feature_names} - set(table.columns):
        raise FeatureError(f"the table of feature view {view.name!r} lacks {sorted(missing)}; materialize it again")
    if view.entity not in dataset.columns:
        raise FeatureError(f"feature view {view.name!r} needs {view.entity!r}; the dataset has {dataset.columns}")
    if repeated := table.height - table.select(keys).n_unique():
        raise FeatureError(f"the table of feature view {view.name!r} holds {repeated} keys more than once")
    asked = dataset.select(pl.col(view.entity).alias("entity"), pl.col(event_time).alias("time"))
    known = table.select(
        pl.col(view.entity).alias("entity"),
        pl.col(view.event_time).alias("time"),
        pl.struct(view.feature_names).alias("features"),
        pl.lit(True).alias("is_known"),
    )
    if dict(asked.schema) != {name: known.schema[name] for name in ("entity", "time")}:
        raise FeatureError(
            f"feature view {view.name!r}: the dataset's keys are {asked.schema}, the table's are "
            f"{known.drop('features', 'is_known').schema}; they must be of one type"
        )
    joined = asked.join(known, on=["entity", "time"], how="left", maintain_order="left")
    lost = joined.filter(pl.col("is_known").is_null())
    if lost.height:
        raise FeatureError(
            f"feature view {view.name!r} has no features for {lost.height} of {dataset.height} rows, such as "
            f"{lost.row(0)[:2]}; it was computed from other data, materialize it again"
        )
    return joined.select("features").unnest("features")


def _refuse_repeated_names(parts: Sequence[pl.DataFrame]) -> None:
    names = [name for part in parts for name in part.columns]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise FeatureError(f"the names {repeated} are taken more than once by columns, features and label; rename them")


def _label_faults(frame: pl.DataFrame, label: str) -> list[str]:
    if label not in frame.columns:
        return [f"there is no label column {label!r} among {frame.columns}"]
    if not frame.height:
        return ["there are no rows"]
    values = frame[label]
    counts = dict(sorted(values.drop_nulls().value_counts().iter_rows()))
    found = [f"label {label!r} is null in {values.null_count()} of {frame.height} rows"] if values.null_count() else []
    if set(counts) != {0.0, 1.0}:
        found.append(f"label {label!r} needs both classes, 0 and 1; it has {counts or 'no value'} (value: rows)")
    return found

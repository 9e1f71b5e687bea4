"""Where a recipe would have stood before: the same split, made at earlier and earlier moments of the same rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.training.recipe import TimeSplit
from mlops_assets.training.training_set import TrainingSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A training set as it could have been made at ``until``, the time of its newest golden row."""

    until: datetime
    parts: TrainingSet


def folds(rows: pl.DataFrame, *, split: TimeSplit, event_time: str, label: str, count: int) -> list[Fold]:
    """Return ``count`` folds, oldest first: golden intervals of ``split.golden`` that follow one another to the end.

    ``rows`` have features and label, each as of its own time, so a fold is a selection of them (forward validation; the
    golden rows of a fold are training rows of the next). Raises ``EvaluationError`` when the rows do not reach back so
    far, saying how many folds they give.
    """
    last = rows[event_time].max()
    if not isinstance(last, datetime):
        raise EvaluationError("there are no rows to make folds of")
    found: list[Fold] = []
    for fold in _backwards(rows, last, split, event_time, count):
        if faults := fold.parts.faults(label):
            raise EvaluationError(
                f"the data gives {len(found)} folds of {split.golden.days} days, not {count}: with rows until "
                f"{fold.until:%Y-%m-%d}, {'; '.join(faults)}; ask for fewer folds"
            )
        found.append(fold)
    return found[::-1]


def _backwards(rows: pl.DataFrame, last: datetime, split: TimeSplit, event_time: str, count: int) -> Iterator[Fold]:
    time = pl.col(event_time)
    for step in range(count):
        until = last - step * split.golden
        begin = until - split.golden
        golden = rows.filter((time > begin) & (time <= until))
        yield Fold(until=until, parts=TrainingSet(train=rows.filter(time <= begin), golden=golden))

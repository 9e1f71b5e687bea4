import polars as pl
import pytest

from mlops_assets.errors import TrainingFailed
from mlops_assets.training.rows import check_rows


def check(frame, features=("a", "b"), label="label"):
    check_rows(frame, features=features, label=label)


def test_rows_with_numbers_and_two_labels_can_be_learned(rows):
    check(rows)
    check(rows.with_columns(pl.col("label") > 0.5, a=pl.col("a").cast(pl.Int64)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": pl.lit(1.0)}, "has one class: all 300 rows are 1.0"),
        ({"label": pl.when(pl.col("user") > 0).then("label")}, "null, NaN or infinite in 15 of 300"),
        ({"label": pl.lit(float("nan"))}, "null, NaN or infinite in 300"),
        ({"label": pl.lit(float("inf"))}, "null, NaN or infinite in 300"),
        ({"a": pl.lit("x")}, "'a' holds String"),
    ],
)
def test_rows_that_teach_nothing_are_refused_with_the_reason(rows, change, words):
    with pytest.raises(TrainingFailed, match=words):
        check(rows.with_columns(**change))


@pytest.mark.parametrize(
    ("rows_of", "features", "words"),
    [
        (lambda rows: rows.clear(), ("a", "b"), "is empty"),
        (lambda rows: rows, ("a", "c"), r"no column \['c'\]"),
        (lambda rows: rows, ("a", "label"), "would know the answer"),
        (lambda rows: rows, (), "no features"),
    ],
)
def test_columns_that_do_not_fit_are_refused_with_the_reason(rows, rows_of, features, words):
    with pytest.raises(TrainingFailed, match=words):
        check(rows_of(rows), features)


def test_all_faults_are_named_at_once(rows):
    with pytest.raises(TrainingFailed, match=r"'a' holds String.*'b' holds String"):
        check(rows.with_columns(a=pl.lit("x"), b=pl.lit("y")))

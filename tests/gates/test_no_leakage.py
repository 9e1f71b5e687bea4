"""What knows the answer is named, whatever its type; what cannot be told is doubt; and how often each is wrong."""

from dataclasses import replace
from datetime import UTC, datetime
from math import sqrt
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from mlops_assets.evaluation.workbench import ScoredModel, Workbench, take_measurements
from mlops_assets.gates.gate import Verdict
from mlops_assets.gates.no_leakage import NoLeakage

DAY = datetime(2026, 3, 1, tzinfo=UTC)


def drawn(seed: int, rows: int, *, auc: float = 0.75) -> pl.DataFrame:
    """Rows of which each is an entity; ``signal`` is normal within the classes and separates them with ``auc``."""
    generator = np.random.default_rng(seed)
    liked = generator.integers(0, 2, rows)
    signal = generator.normal(0, 1, rows) + liked * sqrt(2) * norm.ppf(auc)
    return pl.DataFrame({"person": seed * 10_000 + np.arange(rows), "signal": signal, "liked": liked.astype(float)})


@pytest.fixture
def judged(with_report):
    def judge(golden, train=None, gate=None, features=("signal",)):
        gate = gate or NoLeakage()
        bench = Workbench(
            product="p",
            candidate=ScoredModel(
                digest="sha256:aa", model=SimpleNamespace(features=features), scores=golden["signal"].to_numpy()
            ),
            champion=None,
            golden=golden,
            label="liked",
            cluster="person",
            labels=golden["liked"].to_numpy(),
            clusters=golden["person"].rank("dense").to_numpy().astype(float),
            metrics={},
            train=lambda: drawn(999, 400) if train is None else train,
        )
        report = replace(with_report(clusters=golden["person"].n_unique()), measured=take_measurements(bench, [gate]))
        return gate.judge(type(report).from_json(report.to_json()))

    return judge


LEAKS = {
    "date": pl.when(pl.col("liked") == 1).then(pl.lit(DAY)),
    "day": pl.when(pl.col("liked") == 1).then(pl.lit(DAY.date())).otherwise(pl.lit(DAY.date().replace(year=2020))),
    "category": pl.when(pl.col("liked") == 1).then(pl.lit("x")).otherwise(pl.lit("y")).cast(pl.Categorical),
    "enum": pl.when(pl.col("liked") == 1).then(pl.lit("x")).otherwise(pl.lit("y")).cast(pl.Enum(["x", "y"])),
    "text": pl.when(pl.col("liked") == 1).then(pl.lit("x")).otherwise(pl.lit("y")),
    "truth": pl.col("liked") == 1,
    "amount": pl.when(pl.col("liked") == 1).then(1e18).otherwise(None),
}


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_is_found_in_a_column_of_any_type(kind, judged):
    leak = LEAKS[kind].alias("leak")
    golden, train = drawn(0, 600).with_columns(leak), drawn(1, 400).with_columns(leak)
    found = judged(golden, train, features=("signal", "leak"))
    assert found.verdict is Verdict.FAILED
    assert "'leak' alone" in found.reason


def test_an_honest_date_and_an_honest_category_pass(judged):
    honest = [
        pl.lit(DAY).dt.offset_by(pl.format("{}h", pl.int_range(pl.len()))).alias("at"),
        pl.when(pl.int_range(pl.len()) % 3 == 0)
        .then(pl.lit("x"))
        .otherwise(pl.lit("y"))
        .cast(pl.Categorical)
        .alias("of"),
        pl.lit(None).alias("never"),
    ]
    golden, train = drawn(0, 600).with_columns(honest), drawn(1, 400).with_columns(honest)
    found = judged(golden, train, NoLeakage(key=("person",)), features=("signal", "at", "of", "never"))
    assert found.verdict is Verdict.PASSED, found.reason
    assert set(found.evidence["alone"]) == {"signal", "at", "of", "never"}


def test_a_column_that_cannot_be_looked_at_is_doubt_that_names_it(judged):
    golden = drawn(0, 600).with_columns(tags=pl.concat_list("liked"))
    found = judged(golden, features=("signal", "tags"))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "'tags' cannot be looked at: it is List(Float64)" in found.reason
    lacking = judged(drawn(0, 600).with_columns(town=pl.lit("x")), features=("signal", "town"))
    assert (lacking.verdict, "'town'" in lacking.reason) == (Verdict.INCONCLUSIVE, True)


@pytest.mark.parametrize("copy", [pl.col("liked"), 1 - pl.col("liked"), pl.col("liked") == 0])
def test_the_label_under_another_name_is_found_however_few_the_rows(copy, judged):
    golden, train = drawn(0, 12).with_columns(copy=copy), drawn(1, 20).with_columns(copy=copy)
    found = judged(golden, train, features=("signal", "copy"))
    assert found.verdict is Verdict.FAILED
    assert "'copy' is the label or its negation in all 32 rows" in found.reason


def test_a_feature_that_differs_from_the_label_in_one_row_or_has_an_unknown_one_is_no_copy(judged):
    golden, train = drawn(0, 12), drawn(1, 20).with_columns(copy="liked")
    for first in (1 - pl.col("liked"), pl.lit(None)):
        near = golden.with_columns(copy=pl.when(pl.int_range(pl.len()) == 0).then(first).otherwise("liked"))
        assert "negation" not in judged(near, train, features=("signal", "copy")).reason


def test_too_few_rows_to_clear_a_feature_are_doubt_that_says_how_many_would_do(judged):
    few = judged(drawn(0, 14))
    assert few.verdict is Verdict.INCONCLUSIVE
    assert "on 14 entities, about" in few.reason
    assert few.evidence["clusters_needed"]["signal"] > 14
    assert judged(drawn(0, 400)).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    "golden", [drawn(0, 50).with_columns(person=pl.lit(1)), drawn(0, 50).with_columns(liked=pl.lit(1.0))]
)
def test_one_entity_or_one_class_says_nothing(golden, judged):
    found = judged(golden)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "nothing is known of signal" in found.reason


def test_without_training_rows_nobody_knows_what_was_seen(judged):
    found = judged(drawn(0, 400), drawn(1, 10).clear())
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "no training rows" in found.reason


def test_a_feature_that_does_the_models_work_alone_is_told_of_and_no_fault(judged):
    golden = drawn(0, 400).with_columns(noise=pl.Series(np.random.default_rng(3).normal(0, 1, 400)))
    found = judged(golden, features=("signal", "noise"))
    assert found.verdict is Verdict.PASSED
    assert found.evidence["as_good_as_the_model"] == ["signal"]


def test_a_feature_at_the_limit_is_cleared_and_accused_at_most_at_rate_alpha_each(judged):
    gate, runs = NoLeakage(too_good=0.9, alpha=0.1), 120
    found = [judged(drawn(seed, 200, auc=0.9), gate=gate).verdict for seed in range(runs)]
    allowed = 0.1 + 4 * sqrt(0.1 * 0.9 / runs)
    assert np.mean([each is Verdict.FAILED for each in found]) <= allowed
    assert np.mean([each is Verdict.PASSED for each in found]) <= allowed
    assert Verdict.INCONCLUSIVE in found

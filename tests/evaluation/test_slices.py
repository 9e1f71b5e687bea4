"""Slices that are declared, and slices that are found."""

from math import sqrt

import numpy as np
import polars as pl
import pytest

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.comparison import compare
from mlops_assets.evaluation.metrics import brier, ndcg_at
from mlops_assets.evaluation.slice_discovery import Discovery, discover, false_discoveries_controlled
from mlops_assets.evaluation.slices import Slice, compare_slice
from mlops_assets.evaluation.workbench import ScoredModel, Workbench

COLUMNS = ("country", "device", "age", "flag", "visits")


def bench(*, rows: int = 4000, people: int = 400, seed: int = 0, hurt=None, by: float = 0.0, champion: bool = True):
    """Two models that are equally good, but where ``hurt`` holds: there the candidate's error is larger by ``by``."""
    generator = np.random.default_rng(seed)
    golden = pl.DataFrame(
        {
            "person": generator.integers(0, people, rows),
            "country": generator.choice(["DE", "FR", "O'Land"], rows),
            "device": generator.choice(["phone", "desk"], rows),
            "age": generator.normal(40, 10, rows),
            "flag": generator.random(rows) < 0.3,
            "visits": generator.integers(0, 6, rows),
        }
    ).with_columns(age=pl.when(pl.int_range(pl.len()) % 50 == 0).then(None).otherwise("age"))
    own = generator.normal(0, 0.03, people)[golden["person"].to_numpy()]
    theirs = np.clip(0.3 + own + generator.normal(0, 0.05, rows), 0, 1)
    ours = np.clip(0.3 + own + generator.normal(0, 0.05, rows), 0, 1)
    if hurt is not None:
        ours = np.where(golden.select(hurt).to_series().to_numpy(), ours + by, ours)
    model = {"model": None}
    return Workbench(
        product="p",
        candidate=ScoredModel(digest="sha256:new", scores=ours, **model),
        champion=ScoredModel(digest="sha256:old", scores=theirs, **model) if champion else None,
        golden=golden,
        label="liked",
        cluster="person",
        labels=np.zeros(rows),
        clusters=golden["person"].to_numpy().astype(float),
        metrics={"brier": brier()},
    )


def test_a_slice_is_compared_as_its_rows_alone_would_be():
    found = bench()
    part = compare_slice(found, Slice(name="germans", where="country = 'DE'"), brier())
    inside = (found.golden["country"] == "DE").to_numpy()
    alone = compare(
        found.candidate.scores[inside],
        found.champion.scores[inside],
        found.labels[inside],
        found.clusters[inside],
        brier(),
    )
    assert part["comparison"]["gain"] == alone.gain
    assert part["comparison"]["pivots"] == alone.pivots
    assert (part["rows"], part["clusters"]) == (inside.sum(), len(np.unique(found.clusters[inside])))


def test_an_empty_slice_and_one_without_a_champion_have_no_comparison():
    nobody = compare_slice(bench(), Slice(name="nobody", where="age > 1000"), brier())
    assert (nobody["rows"], nobody["clusters"], nobody["comparison"]) == (0, 0, None)
    assert compare_slice(bench(champion=False), Slice(name="all", where="age > 0"), brier())["comparison"] is None


def test_rows_of_which_nothing_is_known_are_outside():
    found = bench()
    old = compare_slice(found, Slice(name="old", where="age > 40"), brier())["rows"]
    young = compare_slice(found, Slice(name="young", where="NOT (age > 40)"), brier())["rows"]
    assert found.golden.height - old - young == found.golden["age"].null_count() > 0


@pytest.mark.parametrize(
    ("where", "said"), [("colour = 'red'", "cannot be computed"), ("MAX(age) > 3", "one value, not one per row")]
)
def test_a_slice_that_cannot_be_computed_is_an_error_that_names_it(where, said):
    with pytest.raises(EvaluationError, match=f"slice 'odd'.*{said}"):
        compare_slice(bench(), Slice(name="odd", where=where), brier())


def test_a_slice_that_is_no_expression_is_a_fault():
    assert "no Polars SQL expression" in Slice(name="odd", where="country =").faults()[0]


@pytest.mark.parametrize(
    ("hurt", "named"),
    [
        (pl.col("country") == "O'Land", "\"country\" = 'O''Land'"),
        (pl.col("flag"), '"flag" = TRUE'),
        (pl.col("visits") == 3, '"visits" = 3'),
        (pl.col("age").is_null(), '"age" IS NULL'),
        ((pl.col("country") == "DE") & (pl.col("device") == "desk"), "\"country\" = 'DE' AND \"device\" = 'desk'"),
    ],
    ids=["value", "flag", "number", "unknown", "pair"],
)
def test_the_part_that_was_hurt_is_found_and_named_so_that_it_can_be_declared(hurt, named):
    broken = bench(hurt=hurt, by=0.2)
    found = discover(broken, brier(), Discovery(minimum_rows=60), margin=0.01)["found"]
    assert named in [part["where"] for part in found]
    inside = Slice(name="found", where=named).rows(broken.golden)
    assert (inside == broken.golden.select(hurt).to_series().to_numpy()).all()


def test_a_numeric_column_is_cut_where_its_fifths_lie():
    broken = bench(hurt=pl.col("age") > 48.4, by=0.3)
    worst = discover(broken, brier(), Discovery(pairs=False), margin=0.01)["found"][0]
    assert worst["where"].startswith('"age" > 48')


@pytest.mark.parametrize("margin", [0.0, 0.002])
def test_where_nothing_is_wrong_something_is_named_at_most_at_the_declared_rate(margin):
    how, runs = Discovery(minimum_rows=60), 120
    named = [
        bool(discover(bench(seed=seed, rows=1500, people=150), brier(), how, margin=margin)["found"])
        for seed in range(runs)
    ]
    assert np.mean(named) <= how.rate + 4 * sqrt(how.rate * (1 - how.rate) / runs)


def test_a_ranking_has_no_loss_of_one_row_so_squared_error_is_looked_at_and_said():
    assert discover(bench(), ndcg_at(10), Discovery(), margin=0.01)["metric"] == "squared error"


def test_an_unknown_column_is_an_error_and_small_parts_are_left_out():
    with pytest.raises(EvaluationError, match="no column 'colour'"):
        discover(bench(), brier(), Discovery(columns=("colour",)), margin=0.01)
    assert discover(bench(), brier(), Discovery(columns=("flag",), minimum_rows=3000), margin=0.01)["tested"] == 0


def test_discoveries_are_those_of_the_definition():
    generator = np.random.default_rng(1)
    for _ in range(50):
        p = generator.random(12) ** 3
        ordered = np.sort(p)
        k = max((n for n in range(1, 13) if ordered[n - 1] <= 0.1 * n / 12), default=0)
        expected = [bool(k and value <= ordered[k - 1]) for value in p]
        assert false_discoveries_controlled(list(p), 0.1) == expected
    assert false_discoveries_controlled([], 0.1) == []

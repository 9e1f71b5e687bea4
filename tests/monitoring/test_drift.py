import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mlops_assets.errors import DataError
from mlops_assets.monitoring.drift import DriftReport, UnivariateDrift, adjusted

DETECTOR = UnivariateDrift()
# Only significance counts, so that the error rate that is measured is that of the tests alone.
ANY_EFFECT = UnivariateDrift(min_effect_ks=0.0, min_effect_levels=0.0, min_effect_nulls=0.0)


def detect(reference, current, detector=DETECTOR, cluster=None):
    return detector.detect(reference, current, window="p:1", reference_digest="sha256:r", cluster=cluster)


def independent(rng, rows, **shifts):
    """Six columns of all kinds, without any dependence between rows."""
    numbers = {f"n{k}": rng.normal(shifts.get(f"n{k}", 0.0), 1.0, rows) for k in range(3)}
    levels = {"level": rng.choice(["a", "b", "c", "d"], rows, p=shifts.get("level", [0.4, 0.3, 0.2, 0.1]))}
    flags = {"flag": rng.random(rows) < shifts.get("flag", 0.3)}
    holes = {"holes": [None if hole else 1.0 for hole in rng.random(rows) < shifts.get("holes", 0.1)]}
    return pl.DataFrame({**numbers, **levels, **flags, **holes})


def clustered(rng, entities, offset):
    """Rows of skewed entities that agree with themselves: half of the variance is between entities."""
    sizes = rng.zipf(2.0, entities).clip(1, 15)
    entity = np.repeat(np.arange(entities), sizes)
    columns = {}
    for number in range(4):
        value = rng.normal(size=entities)[entity] * np.sqrt(0.5) + rng.normal(size=len(entity)) * np.sqrt(0.5)
        columns[f"c{number}"] = np.where(value < -0.5, "low", np.where(value < 1, "middle", "high"))
        if number % 2:
            columns[f"c{number}"] = value
    return pl.DataFrame({"user": entity + offset, **columns})


def most_alarms(runs: int, alpha: float) -> int:
    """The count of alarms that a detector of level alpha exceeds once in 10,000 times."""
    return int(stats.binom.ppf(0.9999, runs, alpha))


def test_without_drift_the_whole_report_raises_a_false_alarm_at_most_as_often_as_alpha():
    runs = 150
    alarms = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        alarms += bool(detect(independent(rng, 1200), independent(rng, 300), ANY_EFFECT).drifted_columns)
    assert alarms <= most_alarms(runs, ANY_EFFECT.alpha)


def test_without_drift_clustered_traffic_raises_a_false_alarm_at_most_as_often_as_alpha():
    runs, ignoring = 80, 0
    alarms = 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        reference, current = clustered(rng, 500, 0), clustered(rng, 250, 10_000)
        alarms += bool(detect(reference, current, ANY_EFFECT, "user").drifted_columns)
        ignoring += bool(detect(reference.drop("user"), current.drop("user"), ANY_EFFECT).drifted_columns)
    assert alarms <= most_alarms(runs, ANY_EFFECT.alpha)
    assert ignoring > most_alarms(runs, ANY_EFFECT.alpha), "the simulation must be one that needs clustering"


def test_declared_effects_are_found_and_exactly_the_moved_columns_are_named():
    runs, right, wrong = 40, 0, 0
    shifts = {"n1": 0.6, "level": [0.15, 0.3, 0.2, 0.35], "flag": 0.5, "holes": 0.25}
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        found = set(detect(independent(rng, 3000), independent(rng, 600, **shifts)).drifted_columns)
        right += found >= set(shifts)
        wrong += bool(found - set(shifts))
    assert right >= 0.95 * runs
    assert wrong <= most_alarms(runs, DETECTOR.alpha)


def test_a_shift_of_all_entities_is_found_in_clustered_traffic():
    rng = np.random.default_rng(0)
    reference = clustered(rng, 500, 0)
    moved = clustered(rng, 250, 10_000).with_columns(pl.col("c1") + 1.0)
    assert detect(reference, moved, cluster="user").drifted_columns == ("c1",)


def test_an_entity_seen_on_both_sides_counts_for_both():
    rng = np.random.default_rng(1)
    frame = clustered(rng, 400, 0)
    assert detect(frame, frame, ANY_EFFECT, "user").drifted_columns == ()


def test_a_significant_shift_that_is_too_small_to_matter_is_no_drift():
    rng = np.random.default_rng(2)
    reference = pl.DataFrame({"x": rng.normal(0, 1, 40_000)})
    column = detect(reference, pl.DataFrame({"x": rng.normal(0.08, 1, 40_000)})).columns[0]
    assert column.q_value < 1e-6
    assert column.effect < DETECTOR.min_effect_ks
    assert not column.drifted


def test_the_effect_threshold_itself_counts_and_just_above_it_does_not():
    reference = pl.DataFrame({"flag": [False] * 1000})
    current = pl.DataFrame({"flag": [True] * 250 + [False] * 750})
    at_limit = UnivariateDrift(min_effect_levels=0.25)
    assert detect(reference, current, at_limit).columns[0].effect == 0.25
    assert detect(reference, current, at_limit).drifted_columns == ("flag",)
    assert detect(reference, current, UnivariateDrift(min_effect_levels=0.2501)).drifted_columns == ()


@pytest.mark.parametrize(("rows", "test"), [(99, "too_small"), (100, "ks")])
def test_fewer_rows_than_the_minimum_say_nothing(rows, test):
    report = detect(pl.DataFrame({"x": np.arange(500.0)}), pl.DataFrame({"x": np.arange(rows) + 1e6}))
    assert report.columns[0].test == test
    assert report.too_small is (rows < 100)
    assert report.drifted_columns == (() if rows < 100 else ("x",))


def test_many_rows_of_few_entities_say_nothing():
    rng = np.random.default_rng(3)
    reference = pl.DataFrame({"user": np.arange(1000), "x": rng.normal(size=1000)})
    window = pl.DataFrame({"user": np.repeat([1, 2, 3], 400), "x": rng.normal(5, 1, 1200)})
    assert detect(reference, window, cluster="user").too_small
    assert detect(reference.drop("user"), window.drop("user")).drifted_columns == ("x",)


def test_one_entity_that_dominates_the_window_counts_for_one():
    rng = np.random.default_rng(4)
    reference = pl.DataFrame({"user": np.arange(1000), "x": rng.normal(size=1000)})
    users = np.concatenate([np.zeros(5000, dtype=int), np.arange(1, 101)])
    window = pl.DataFrame({"user": users, "x": rng.normal(size=5100)})
    assert detect(reference, window, cluster="user").too_small


@pytest.mark.parametrize(
    ("reference", "current", "drifted"),
    [
        ([5.0] * 200, [5.0] * 200, False),
        ([5.0] * 200, [7.0] * 200, True),
        ([None] * 200, [None] * 200, False),
        ([None] * 200, [1.0] * 200, True),
        ([1.0, 2.0] * 100, [None] * 200, True),
        ([1.0, 2.0] * 100, [float("nan")] * 200, True),
        ([float("nan"), 2.0] * 100, [None, 2.0] * 100, False),
        ([1.0, 2.0] * 100, [1.0, float("inf")] * 100, True),
        (["a", "b"] * 100, ["a", "new"] * 100, True),
        (["a", "b"] * 100, ["b", "a"] * 100, False),
        ([1, 2] * 100, ["1", "2"] * 100, False),
        ([1, 2] * 100, ["one", "two"] * 100, True),
        ([True, False] * 100, [True, True] * 100, True),
        ([f"id{n}" for n in range(200)], [f"id{n}" for n in range(200, 400)], False),
    ],
    ids=lambda value: str(value[:2]) if isinstance(value, list) else str(value),
)
@pytest.mark.parametrize("cluster", [None, "user"])
def test_columns_that_are_constant_null_new_or_of_another_type_are_judged(reference, current, drifted, cluster):
    users = pl.Series("user", range(200))
    left = pl.DataFrame({"x": pl.Series(reference, strict=False), "user": users})
    right = pl.DataFrame({"x": pl.Series(current, strict=False), "user": users + 1000})
    if cluster is None:
        left, right = left.drop("user"), right.drop("user")
    assert bool(detect(left, right, cluster=cluster).drifted_columns) is drifted


def test_a_feature_that_is_logged_no_more_has_drifted():
    reference = pl.DataFrame({"x": np.arange(200.0), "y": np.arange(200.0)})
    report = detect(reference, reference.drop("y"))
    assert report.drifted_columns == ("y",)
    assert report.columns[1].test == "null_share"


def test_rare_new_levels_are_pooled_and_do_not_alarm():
    reference = pl.DataFrame({"x": ["a", "b"] * 500})
    current = pl.DataFrame({"x": ["a", "b"] * 495 + [f"new{n}" for n in range(10)]})
    assert detect(reference, current).drifted_columns == ()


def test_a_column_without_order_or_levels_is_refused_by_name():
    frame = pl.DataFrame({"tags": [["a"]] * 200})
    with pytest.raises(DataError, match=r"'tags' is List\(String\)"):
        detect(frame, frame)


def test_a_missing_cluster_column_is_refused_by_name():
    frame = pl.DataFrame({"x": np.arange(200.0)})
    with pytest.raises(DataError, match="the reference has no column 'user'"):
        detect(frame, frame, cluster="user")


def test_an_empty_window_says_nothing():
    reference = pl.DataFrame({"user": range(200), "x": np.arange(200.0), "y": ["a"] * 200})
    assert detect(reference, reference.clear(), cluster="user").too_small
    assert detect(reference, reference.clear()).score == 0.0


def test_the_same_frames_give_the_same_digest_and_the_report_survives_json():
    rng = np.random.default_rng(5)
    reference, current = clustered(rng, 300, 0), clustered(rng, 200, 1000)
    first, again = (detect(reference, current, cluster="user") for _ in range(2))
    assert first.digest == again.digest
    assert DriftReport.from_json(first.to_json()).digest == first.digest


def test_the_score_is_the_share_of_tested_columns_that_moved():
    rng = np.random.default_rng(6)
    reference, current = independent(rng, 3000), independent(rng, 3000, n0=1.0, flag=0.6)
    report = detect(reference, current)
    assert set(report.drifted_columns) == {"n0", "flag"}
    assert report.score == 2 / 6


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrected_p_values_agree_with_scipys(p_values):
    np.testing.assert_allclose(adjusted(p_values), stats.false_discovery_control(p_values))


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.permutations(range(5)))
def test_the_order_of_rows_and_columns_changes_nothing_that_is_found(seed, order):
    rng = np.random.default_rng(seed)
    reference, current = independent(rng, 300), independent(rng, 200, n1=0.5)
    names = [reference.columns[k] for k in order]
    shuffled = current.sample(fraction=1.0, shuffle=True, seed=seed)
    there = {column.name: column for column in detect(reference.select(names), shuffled).columns}
    here = detect(reference.select(sorted(names)), current).columns
    assert {column.name: column for column in here} == pytest.approx(there)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"alpha": 1.0}, "alpha is 1.0"),
        ({"min_effect_ks": 1.0}, "min_effect_ks is 1.0"),
        ({"min_effect_nulls": -0.1}, "min_effect_nulls is -0.1"),
        ({"min_rows": 19}, "min_rows is 19"),
        ({"min_clusters": 9}, "min_clusters is 9"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(change, says):
    (fault,) = UnivariateDrift(**change).faults()
    assert says in fault


def test_the_default_declaration_has_no_faults():
    assert UnivariateDrift().faults() == []

"""Gates that have something measured: what passes, what fails, what is doubt, and their error rates."""

from dataclasses import replace
from datetime import timedelta
from math import sqrt
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from mlops_assets.evaluation.workbench import ScoredModel, Workbench, take_measurements
from mlops_assets.gates.calibrated import Calibrated
from mlops_assets.gates.fair import Fair
from mlops_assets.gates.gate import Verdict
from mlops_assets.gates.latency_budget import LatencyBudget, upper_rank
from mlops_assets.gates.no_leakage import NoLeakage
from mlops_assets.gates.reproducible import Reproducible
from mlops_assets.gates.stable_predictions import StablePredictions
from mlops_assets.training.package import Package, save_package

NAMES = ("signal", "noise", "town")


def drawn(seed: int, rows: int, people: int) -> pl.DataFrame:
    """People whose chance of the label follows ``signal``; ``chance`` is that chance."""
    generator = np.random.default_rng(seed)
    person = generator.integers(0, people, rows)
    signal = generator.normal(0, 1, rows) + generator.normal(0, 0.5, people)[person]
    chance = 1 / (1 + np.exp(-signal))
    return pl.DataFrame(
        {
            "person": person,
            "signal": signal,
            "noise": generator.normal(0, 1, rows),
            "town": generator.choice(["north", "south"], rows),
            "chance": chance,
            "liked": (generator.random(rows) < chance).astype(float),
        }
    )


def bench(seed: int = 0, *, rows: int = 3000, people: int = 300, ours=None, theirs=None, golden=None, **aids):
    golden = drawn(seed, rows, people) if golden is None else golden
    chance = golden["chance"].to_numpy()
    scores = chance if ours is None else np.asarray(golden.select(ours).to_series().to_numpy(), float)
    champion = chance if theirs is None else np.asarray(golden.select(theirs).to_series().to_numpy(), float)
    model = SimpleNamespace(features=aids.pop("features", NAMES))
    directory = aids.pop("directory", None)
    train = aids.pop("train_rows", drawn(seed + 1000, 500, people))
    return Workbench(
        product="p",
        candidate=ScoredModel(digest="sha256:aa", model=model, scores=scores, directory=directory),
        champion=ScoredModel(digest="sha256:bb", model=model, scores=champion),
        golden=golden,
        label="liked",
        cluster="person",
        labels=golden["liked"].to_numpy(),
        clusters=golden["person"].to_numpy().astype(float),
        metrics={},
        train=lambda: train,
        **aids,
    )


@pytest.fixture
def judged(with_report):
    def judge(gate, found):
        report = replace(with_report(), measured=take_measurements(found, [gate]))
        assert not gate.faults()
        return gate.judge(type(report).from_json(report.to_json()))

    return judge


def share(truths) -> float:
    return float(np.mean(list(truths)))


def at_most(rate: float, runs: int) -> float:
    return rate + 4 * sqrt(rate * (1 - rate) / runs)


@pytest.mark.parametrize(
    ("shift", "verdict"), [(0.0, Verdict.PASSED), (0.3, Verdict.FAILED), (0.08, Verdict.INCONCLUSIVE)]
)
def test_calibration_is_decided_by_what_the_bins_allow(shift, verdict, judged):
    moved = (pl.col("chance") + shift).clip(0, 1)
    assert judged(Calibrated(tolerance=0.1), bench(ours=moved)).verdict is verdict


def test_a_model_that_is_right_on_average_and_wrong_at_both_ends_is_not_calibrated(judged):
    pulled = 0.5 + (pl.col("chance") - 0.5) * 0.1
    found = judged(Calibrated(tolerance=0.1), bench(ours=pulled))
    assert found.verdict is Verdict.FAILED
    low, high = found.evidence["bins"][0], found.evidence["bins"][-1]
    assert low["label"] < low["score"] < high["score"] < high["label"]


def test_scores_that_are_no_probabilities_are_an_error_of_the_measurement(judged):
    assert judged(Calibrated(tolerance=0.1), bench(ours=pl.col("signal"))).verdict is Verdict.ERROR


def test_a_miscalibrated_model_passes_and_a_calibrated_one_fails_at_most_at_rate_alpha(judged):
    gate, runs = Calibrated(tolerance=0.1, bins=3), 25
    off = (pl.col("chance") * 0.8).clip(0, 1)  # off by a tenth on average
    found = [judged(gate, bench(seed, rows=600, people=120, ours=off)).verdict for seed in range(runs)]
    assert share(each is Verdict.PASSED for each in found) <= at_most(0.05, runs)
    found = [judged(gate, bench(seed, rows=600, people=120)).verdict for seed in range(runs)]
    assert share(each is Verdict.FAILED for each in found) <= at_most(0.05, runs)


def test_fairness_passes_equal_groups_and_fails_one_that_is_passed_over(judged):
    gate = Fair(group="town", what="selection_rate", tolerance=0.15)
    assert judged(gate, bench()).verdict is Verdict.PASSED
    passed_over = pl.when(pl.col("town") == "north").then(pl.col("chance") * 0.5).otherwise("chance")
    found = judged(gate, bench(ours=passed_over))
    assert found.verdict is Verdict.FAILED
    assert found.evidence["groups"]["north"]["rate"]["value"] < found.evidence["groups"]["south"]["rate"]["value"]


@pytest.mark.parametrize("what", ["true_positive_rate", "false_positive_rate", "calibration"])
def test_each_kind_of_gap_is_what_it_says(what, judged):
    found = bench()
    judgement = judged(Fair(group="town", what=what, tolerance=0.5), found)
    for name in ("north", "south"):
        rows = found.golden.filter(pl.col("town") == name)
        expected = {
            "true_positive_rate": (rows.filter(pl.col("liked") == 1)["chance"] >= 0.5).mean(),
            "false_positive_rate": (rows.filter(pl.col("liked") == 0)["chance"] >= 0.5).mean(),
            "calibration": (rows["chance"] - rows["liked"]).mean(),
        }[what]
        assert judgement.evidence["groups"][name]["rate"]["value"] == pytest.approx(expected)


def test_a_group_too_small_to_tell_is_doubt_unless_it_may_be_ignored(judged):
    golden = drawn(0, 3000, 300)
    few = golden.with_columns(town=pl.when(pl.int_range(pl.len()) < 10).then(pl.lit("isle")).otherwise("town"))
    gate = Fair(group="town", what="selection_rate", tolerance=0.15)
    found = judged(gate, bench(golden=few))
    assert (found.verdict, found.evidence["small_groups"]) == (Verdict.INCONCLUSIVE, ["isle"])
    assert judged(replace(gate, ignores_small=True), bench(golden=few)).verdict is Verdict.PASSED
    assert judged(replace(gate, group="colour"), bench()).verdict is Verdict.ERROR


def test_a_gap_at_the_tolerance_passes_at_most_at_rate_alpha(judged):
    golden, runs = pl.col("town") == "north", 100
    gap = pl.when(golden).then(pl.lit(1.0)).otherwise((pl.col("noise") > -0.8416).cast(float))  # 1 and 0.8
    gate = Fair(group="town", what="selection_rate", tolerance=0.2)
    found = [judged(gate, bench(seed, rows=500, people=100, ours=gap)).verdict for seed in range(runs)]
    assert share(each is Verdict.PASSED for each in found) <= at_most(0.05, runs)


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        (pl.col("chance") * 0.999, Verdict.PASSED),
        (1 - pl.col("chance"), Verdict.FAILED),
        (pl.col("chance") + 0.073, Verdict.INCONCLUSIVE),
    ],
)
def test_churn_counts_decisions_that_turned(ours, verdict, judged):
    found = judged(StablePredictions(tolerance=0.1), bench(ours=ours))
    assert found.verdict is verdict


def test_clean_features_pass(judged):
    found = judged(NoLeakage(), bench())
    assert found.verdict is Verdict.PASSED
    assert "'signal'" in found.reason


def with_leak(seed: int, sharpness: float) -> pl.DataFrame:
    golden = drawn(seed, 3000, 300)
    noise = np.random.default_rng(seed).normal(0, 1, golden.height)
    return golden.with_columns(leak=-(pl.col("liked") * sharpness + pl.Series(noise)))


@pytest.mark.parametrize(
    ("sharpness", "verdict"), [(6.0, Verdict.FAILED), (3.2, Verdict.FAILED), (1.0, Verdict.PASSED)]
)
def test_a_feature_that_knows_the_answer_is_named_whichever_way_it_points(sharpness, verdict, judged):
    found = judged(NoLeakage(), bench(golden=with_leak(0, sharpness), features=("signal", "leak")))
    assert found.verdict is verdict
    assert ("'leak' alone" in found.reason) is (verdict is Verdict.FAILED)


def test_text_and_unknown_values_leak_too(judged):
    golden = drawn(0, 3000, 300).with_columns(
        code=pl.when(pl.col("liked") == 1).then(pl.lit("b7")).otherwise(pl.lit("a1")),
        filled=pl.when(pl.col("liked") == 1).then("noise"),
    )
    train = drawn(1, 500, 300).with_columns(
        code=pl.when(pl.col("liked") == 1).then(pl.lit("b7")).otherwise(pl.lit("a1")), filled="noise"
    )
    found = judged(NoLeakage(), bench(golden=golden, train_rows=train, features=("code", "filled", "signal")))
    assert found.verdict is Verdict.FAILED
    assert "'code' alone" in found.reason
    assert "'filled' alone" in found.reason


def test_a_model_must_not_read_the_label_or_what_is_known_too_late(judged):
    gate = NoLeakage(unavailable=("chargeback",))
    found = judged(gate, bench(features=("signal", "chargeback", "liked")))
    assert found.verdict is Verdict.FAILED
    assert "reads 'chargeback'; the model reads 'liked'" in found.reason


def test_golden_rows_that_were_trained_on_are_counted(judged):
    golden = drawn(0, 300, 30)
    seen = pl.concat([drawn(1, 200, 30), golden[:7]])
    found = judged(NoLeakage(), bench(golden=golden, train_rows=seen))
    assert found.verdict is Verdict.FAILED
    assert "7 of 300 golden rows were trained on" in found.reason
    assert judged(NoLeakage(key=("signal",)), bench(golden=golden, train_rows=seen)).evidence["shared_rows"] == 7


def test_a_model_that_comes_out_another_is_not_reproducible(judged):
    assert judged(Reproducible(), bench(retrain=lambda: "sha256:aa")).verdict is Verdict.PASSED
    found = judged(Reproducible(), bench(retrain=lambda: "sha256:ff"))
    assert (found.verdict, "sha256:ff" in found.reason) == (Verdict.FAILED, True)
    assert judged(Reproducible(), bench()).verdict is Verdict.ERROR


class Slept:
    features = NAMES

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def save(self, directory) -> None:
        (directory / "kind").write_text(self.kind)

    def predict(self, frame):
        import os
        import time

        if self.kind == "dies":
            os.kill(os.getpid(), 9)
        time.sleep({"slow": 0.02, "hangs": 60}.get(self.kind, 0))
        return np.zeros(frame.height)


def load_slept(directory) -> Slept:
    return Slept((directory / "kind").read_text())


@pytest.mark.services
@pytest.mark.parametrize(
    ("kind", "verdict", "said"),
    [
        ("quick", Verdict.PASSED, "must be at most 10"),
        ("slow", Verdict.FAILED, "must be at most 10"),
        ("hangs", Verdict.FAILED, "did not answer 40 times in 4 s"),
        ("dies", Verdict.FAILED, "its process ended with -9"),
    ],
)
def test_latency_is_measured_on_the_package_in_a_process_of_its_own(kind, verdict, said, judged, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    save_package(Slept(kind), Package(loader="test_measuring_gates:load_slept", features=NAMES), tmp_path / "model")
    gate = LatencyBudget(
        budget=timedelta(milliseconds=10),
        quantile=0.5,
        rows=40,
        timeout=timedelta(seconds=60 if kind != "hangs" else 4),
    )
    found = judged(gate, bench(rows=60, people=20, directory=tmp_path / "model"))
    assert found.verdict is verdict
    assert said in found.reason


def test_a_package_that_is_not_there_is_an_error(judged, tmp_path):
    gate = LatencyBudget(budget=timedelta(milliseconds=10))
    assert judged(gate, bench(directory=tmp_path)).verdict is Verdict.ERROR
    assert judged(gate, bench()).verdict is Verdict.ERROR


@pytest.mark.parametrize("rows", [300, 1000])
def test_the_quantile_lies_above_its_upper_rank_at_most_at_rate_alpha(rows):
    generator, runs = np.random.default_rng(8), 4000
    rank = upper_rank(rows, 0.99, 0.05)
    found = np.sort(generator.random((runs, rows)), axis=1)[:, rank - 1]
    assert share(found < 0.99) <= at_most(0.05, runs)


def test_latency_between_its_bounds_is_doubt(with_report):
    gate = LatencyBudget(budget=timedelta(milliseconds=10), quantile=0.5, rows=100)
    answers = [*np.linspace(1, 9.9, 50), *np.linspace(10.1, 20, 50)]
    report = replace(with_report(), measured={"latency_budget": {"milliseconds": list(answers)}})
    assert gate.judge(report).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("gate", "count"),
    [
        (Calibrated(tolerance=0, bins=0, alpha=1), 3),
        (Fair(group="town", what="luck", tolerance=0.1), 1),
        (NoLeakage(too_good=0.5, alpha=0), 2),
        (StablePredictions(tolerance=2, name="a b"), 2),
        (LatencyBudget(budget=timedelta(0), quantile=2), 2),
        (LatencyBudget(budget=timedelta(1), quantile=0.999, rows=100), 1),
    ],
)
def test_every_fault_of_a_declaration_is_named(gate, count):
    assert len(gate.faults()) == count


@pytest.mark.parametrize(
    "gate",
    [
        Calibrated(tolerance=0.1),
        Fair(group="town", what="selection_rate", tolerance=0.1),
        NoLeakage(),
        Reproducible(),
        StablePredictions(tolerance=0.1),
        LatencyBudget(budget=timedelta(1)),
    ],
    ids=lambda gate: gate.name,
)
def test_without_its_measurement_a_gate_is_in_doubt(gate, with_report):
    assert gate.judge(with_report()).verdict is Verdict.INCONCLUSIVE

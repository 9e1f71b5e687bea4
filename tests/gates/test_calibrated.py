"""Calibration where scores tie, and the figures that are kept for people."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit

from mlops_assets.evaluation.workbench import ScoredModel, Workbench, take_measurements
from mlops_assets.gates.calibrated import Calibrated, bins_of, slope_of, squared_error_without_noise
from mlops_assets.gates.gate import Verdict


@pytest.fixture
def judged(with_report):
    def judge(scores, labels, gate=None):
        gate = gate or Calibrated(tolerance=0.1)
        bench = Workbench(
            product="p",
            candidate=ScoredModel(digest="sha256:aa", model=SimpleNamespace(features=()), scores=np.asarray(scores)),
            champion=None,
            golden=pl.DataFrame({"liked": labels}),
            label="liked",
            cluster="person",
            labels=np.asarray(labels, float),
            clusters=np.arange(len(labels), dtype=float) % 400,
            metrics={},
        )
        report = replace(with_report(), measured=take_measurements(bench, [gate]))
        return gate.judge(type(report).from_json(report.to_json()))

    return judge


def drawn(seed, rows, levels):
    """Scores that take few values, each exactly the chance of its label."""
    generator = np.random.default_rng(seed)
    scores = generator.choice(levels, rows)
    return scores, (generator.random(rows) < scores).astype(float)


@pytest.mark.parametrize("levels", [[0.4], [0.2, 0.7], [0.1, 0.3, 0.5, 0.9]])
def test_the_order_of_rows_never_counts(levels, judged):
    scores, labels = drawn(1, 4000, levels)
    by_label = np.argsort(labels, kind="stable")
    for order in (np.arange(4000), by_label, by_label[::-1]):
        found = judged(scores[order], labels[order])
        assert found.verdict is Verdict.PASSED, found.reason
        assert sum(each["rows"] for each in found.evidence["bins"]) == 4000
        assert len(found.evidence["bins"]) <= 5


def test_a_model_that_says_one_thing_to_everybody_fails_if_it_is_the_wrong_thing(judged):
    _, labels = drawn(1, 4000, [0.4])
    assert judged(np.full(4000, 0.7), labels).verdict is Verdict.FAILED


def test_bins_are_of_equal_size_where_nothing_ties_and_never_split_what_does():
    scores = np.random.default_rng(0).permutation(1000) / 1000
    assert np.bincount(bins_of(scores, 5)).tolist() == [200] * 5
    tied = np.array([0.1] * 7 + [0.2] * 2 + [0.9])
    places = bins_of(tied, 5)
    assert [len(set(places[tied == value])) for value in (0.1, 0.2, 0.9)] == [1, 1, 1]
    assert places.max() < 5


def test_figures_for_people_say_how_a_model_is_off(judged):
    generator = np.random.default_rng(2)
    truth = expit(generator.normal(0, 1.5, 20_000))
    labels = (generator.random(20_000) < truth).astype(float)
    too_extreme = judged(expit(2 * logit(truth)), labels, Calibrated(tolerance=0.3)).evidence
    assert too_extreme["slope"] == pytest.approx(0.5, abs=0.03)
    right = judged(truth, labels).evidence
    assert right["slope"] == pytest.approx(1, abs=0.05)
    assert right["in_the_large"]["low"] <= 0 <= right["in_the_large"]["high"]
    high = judged(np.clip(truth + 0.1, 0, 1), labels, Calibrated(tolerance=0.3)).evidence
    assert high["in_the_large"]["value"] == pytest.approx(np.mean(np.clip(truth + 0.1, 0, 1)) - labels.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1]),
        ([0.2, 0.3, 0.6, 0.7], [0, 0, 1, 1]),
        ([0.2, 0.3, 0.6, 0.7], [1, 1, 0, 0]),
        ([0.2, 0.3, 0.6, 0.7], [1, 1, 1, 1]),
    ],
    ids=["one score", "separated", "separated the other way", "one class"],
)
def test_there_is_no_slope_where_none_is_defined(scores, labels):
    assert slope_of(np.array(scores), np.array(labels, float)) is None


def test_the_squared_error_of_a_calibrated_model_is_nothing_but_noise():
    def squared(seed, shift):
        generator = np.random.default_rng(seed)
        scores = generator.random(200) * (1 - shift)
        labels = generator.random(200) < scores + shift
        parts = [np.flatnonzero(bins_of(scores, 10) == place) for place in range(10)]
        return [{"rows": len(p), "score": scores[p].mean(), "label": labels[p].mean()} for p in parts]

    drawings = [squared(seed, 0.0) for seed in range(200)]
    without = [squared_error_without_noise(bins) for bins in drawings]
    raw = [np.mean([(each["score"] - each["label"]) ** 2 for each in bins]) for bins in drawings]
    assert abs(np.mean(without)) < 4 * np.std(without) / np.sqrt(200) < np.mean(raw)
    assert np.mean([squared_error_without_noise(squared(seed, 0.2)) for seed in range(100)]) == pytest.approx(
        0.04, abs=0.005
    )
    assert squared_error_without_noise([{"rows": 1, "score": 0.5, "label": 1.0}]) is None

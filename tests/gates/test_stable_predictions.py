"""Churn: where there is doubt, and how often the bounds of decisions that turn together are wrong."""

from dataclasses import replace
from math import nan, sqrt
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from mlops_assets.evaluation.workbench import ScoredModel, Workbench, take_measurements
from mlops_assets.gates.gate import Verdict
from mlops_assets.gates.stable_predictions import StablePredictions

GATE = StablePredictions(tolerance=0.1)


@pytest.fixture
def judged(with_report):
    def judge(ours, theirs, people, gate=GATE):
        model = SimpleNamespace(features=())
        bench = Workbench(
            product="p",
            candidate=ScoredModel(digest="sha256:aa", model=model, scores=np.asarray(ours, float)),
            champion=ScoredModel(digest="sha256:bb", model=model, scores=np.asarray(theirs, float)),
            golden=pl.DataFrame({"person": people}),
            label="liked",
            cluster="person",
            labels=np.zeros(len(people)),
            clusters=np.asarray(people, float),
            metrics={},
        )
        return gate.judge(replace(with_report(), measured=take_measurements(bench, [gate])))

    return judge


def test_scores_that_move_without_crossing_the_threshold_turn_no_decision(judged):
    people = np.arange(400) % 200
    found = judged(np.full(400, 0.9), np.full(400, 0.6), people)
    assert (found.verdict, found.evidence["churn"]) == (Verdict.PASSED, 0)
    assert found.evidence["mean_difference"] == pytest.approx(0.3)


def test_a_score_at_the_threshold_decides_yes(judged):
    people = np.arange(400) % 200
    assert judged(np.full(400, 0.5), np.full(400, 0.6), people).evidence["churn"] == 0
    assert judged(np.full(400, 0.5), np.full(400, 0.4), people).evidence["churn"] == 1


def test_few_rows_without_any_turn_are_doubt(judged):
    found = judged(np.ones(12), np.ones(12), np.arange(12))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.evidence["high"] > GATE.tolerance


def test_a_champion_that_was_not_measured_is_doubt_and_none_is_nothing_to_differ_from(with_report):
    measured = {GATE.name: {"churn": None}}
    assert GATE.judge(replace(with_report(), measured=measured)).verdict is Verdict.INCONCLUSIVE
    assert GATE.judge(replace(with_report(champion=None), measured=measured)).verdict is Verdict.PASSED


def test_a_threshold_must_be_a_number():
    assert len(StablePredictions(tolerance=0.1, threshold=nan).faults()) == 1


def test_turns_that_come_together_pass_and_fail_at_the_tolerance_at_most_at_rate_alpha(judged):
    def verdict(seed):
        generator, people = np.random.default_rng(seed), np.repeat(np.arange(150), 4)
        turns = (generator.random(150) < 0.1)[people]  # all of a person's decisions turn, or none
        return judged(turns, np.zeros(600), people).verdict

    runs = 250
    found, allowed = [verdict(seed) for seed in range(runs)], 0.05 + 4 * sqrt(0.05 * 0.95 / runs)
    assert np.mean([each is Verdict.PASSED for each in found]) <= allowed
    assert np.mean([each is Verdict.FAILED for each in found]) <= allowed

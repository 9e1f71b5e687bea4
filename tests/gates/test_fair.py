"""Gaps between groups: against figures worked out by hand, over entities, and what the declaration refuses."""

from dataclasses import replace
from math import nan, sqrt
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from mlops_assets.evaluation.workbench import ScoredModel, Workbench, take_measurements
from mlops_assets.gates.fair import Fair
from mlops_assets.gates.gate import Verdict


@pytest.fixture
def judged(with_report):
    def judge(gate, groups, scores, labels, people=None):
        people = np.arange(len(scores)) if people is None else people
        bench = Workbench(
            product="p",
            candidate=ScoredModel(digest="sha256:aa", model=SimpleNamespace(features=()), scores=np.asarray(scores)),
            champion=None,
            golden=pl.DataFrame({"town": groups, "person": people}),
            label="liked",
            cluster="person",
            labels=np.asarray(labels, float),
            clusters=np.asarray(people, float),
            metrics={},
        )
        return gate.judge(replace(with_report(), measured=take_measurements(bench, [gate])))

    return judge


# Per town: 40 positives and 60 negatives; of those, this many are selected, at a score of 0.9 (others 0.2).
SELECTED = {"north": (30, 12), "south": (20, 15), "west": (28, 30)}


@pytest.mark.parametrize(
    ("what", "rates"),
    [
        ("selection_rate", {"north": 0.42, "south": 0.35, "west": 0.58}),
        ("true_positive_rate", {"north": 0.75, "south": 0.5, "west": 0.7}),
        ("false_positive_rate", {"north": 0.2, "south": 0.25, "west": 0.5}),
        ("calibration", {"north": 0.094, "south": 0.045, "west": 0.206}),
    ],
)
def test_the_gap_is_that_of_the_two_groups_furthest_apart(what, rates, judged):
    towns, scores, labels = [], [], []
    for town, (positives, negatives) in SELECTED.items():
        towns += [town] * 100
        labels += [1] * 40 + [0] * 60
        scores += [0.9] * positives + [0.2] * (40 - positives) + [0.9] * negatives + [0.2] * (60 - negatives)
    found = judged(Fair(group="town", what=what, tolerance=0.9), towns, scores, labels)
    assert {town: each["rate"]["value"] for town, each in found.evidence["groups"].items()} == pytest.approx(rates)
    assert found.evidence["gap"] == pytest.approx(max(rates.values()) - min(rates.values()))


def test_a_column_with_one_group_is_doubt(judged):
    gate = Fair(group="town", what="selection_rate", tolerance=0.1)
    assert judged(gate, ["north"] * 200, [0.9] * 200, [1] * 200).verdict is Verdict.INCONCLUSIVE


def test_rows_that_are_all_of_one_entity_are_no_evidence_however_many(judged):
    gate = Fair(group="town", what="selection_rate", tolerance=0.1)
    towns = ["north"] * 400 + ["south"] * 400
    people = np.concatenate([np.zeros(400), np.arange(1, 401)])
    found = judged(gate, towns, [0.9] * 800, [1] * 800, people)
    assert (found.verdict, found.evidence["small_groups"]) == (Verdict.INCONCLUSIVE, ["north"])


def test_equal_groups_of_repeating_entities_are_called_unequal_at_most_at_rate_alpha(judged):
    gate = Fair(group="town", what="selection_rate", tolerance=0.1)

    def verdict(seed):
        generator, people = np.random.default_rng(seed), np.repeat(np.arange(120), 5)
        towns = np.where(people % 2 == 0, "north", "south")
        chance = np.where(people % 2 == 0, 0.55, 0.45)  # a gap of exactly the tolerance, decided person by person
        return judged(gate, towns, (generator.random(120)[people] < chance).astype(float), np.ones(600), people).verdict

    runs = 100
    found, allowed = [verdict(seed) for seed in range(runs)], 0.05 + 4 * sqrt(0.05 * 0.95 / runs)
    assert np.mean([each is Verdict.FAILED for each in found]) <= allowed
    assert np.mean([each is Verdict.PASSED for each in found]) <= allowed


@pytest.mark.parametrize("wrong", [{"threshold": nan}, {"minimum_rows": 0}, {"what": "luck"}, {"alpha": 0}])
def test_each_fault_of_a_declaration_is_named(wrong):
    facts = {"group": "town", "what": "selection_rate", "tolerance": 0.1} | wrong
    assert len(Fair(**facts).faults()) == 1

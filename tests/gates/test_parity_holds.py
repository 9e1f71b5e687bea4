"""The gate that a difference between served and batch values keeps shut, and its evidence."""

from dataclasses import replace

import pytest

from mlops_assets.features.parity import FeatureParity, ParityReport
from mlops_assets.features.view import Aggregate, FeatureView
from mlops_assets.gates.at_least import AtLeast
from mlops_assets.gates.gate import Known, Verdict
from mlops_assets.gates.panel import judge_all
from mlops_assets.gates.parity_holds import ParityHolds
from mlops_assets.ledger.canonical import canonical_json
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.monitoring.record import record_parity

COUNT = Aggregate(name="ratings", function="count")
TASTE = FeatureView(name="taste", source="films", entity="user", event_time="time", features=(COUNT,))
PLACE = replace(TASTE, name="place", features=(replace(COUNT, name="visits"),))
VIEWS = {view.name: view.digest for view in (TASTE, PLACE)}


@pytest.fixture
def ledger(tmp_path):
    return SqlLedger(f"sqlite:///{tmp_path}/ledger.db")


def measured(view, replayed=3, mismatches=0):
    examples = ("p1: served 2, batch 1",) * min(mismatches, 1)
    feature = FeatureParity(
        name=view.feature_names[0], compared=replayed, mismatches=mismatches, missing=0, extra=0, examples=examples
    )
    return ParityReport(view=view.name, replayed=replayed, features=(feature,))


def record(ledger, view, report=None, **found):
    return record_parity(ledger, "films", view, report or measured(view, **found), run_id="run")


def judgement(ledger, report, gate=ParityHolds(), views=VIEWS):  # noqa: B008 - a frozen declaration
    return gate.judge(report, Known(views=views, entries=ledger.entries("films")))


def test_it_passes_when_the_latest_report_of_each_view_is_clean(ledger, with_report):
    record(ledger, TASTE, mismatches=2)
    entries = [record(ledger, TASTE), record(ledger, PLACE, replayed=4)]
    said = judgement(ledger, with_report())
    assert said.verdict is Verdict.PASSED
    assert "all 7 replayed values of ['taste', 'place']" in said.reason
    assert [said.evidence["views"][view]["ledger_entry"] for view in ("taste", "place")] == [2, 3]
    for entry in entries:
        assert said.evidence["views"][entry.body["view"]]["report"] == entry.body["report"]
    canonical_json(dict(said.evidence))


def test_it_fails_and_names_view_and_feature_when_the_latest_report_has_a_difference(ledger, with_report):
    record(ledger, TASTE)
    record(ledger, PLACE)
    bad = record(ledger, PLACE, mismatches=1)
    said = judgement(ledger, with_report())
    assert said.verdict is Verdict.FAILED
    assert "place: 1 of 3 values" in said.reason
    assert "'visits' (1)" in said.reason
    assert "taste" not in said.reason
    assert said.evidence["views"]["place"]["report"] == bad.body["report"]
    assert said.evidence["views"]["place"]["differences"] == 1


def test_a_difference_in_a_view_that_is_not_asked_for_does_not_matter(ledger, with_report):
    record(ledger, TASTE)
    record(ledger, PLACE, mismatches=1)
    assert judgement(ledger, with_report(), ParityHolds(views=("taste",))).verdict is Verdict.PASSED
    assert judgement(ledger, with_report(), ParityHolds(views=("place",))).verdict is Verdict.FAILED


@pytest.mark.parametrize("champion", [None, "sha256:bb"])
def test_nothing_replayed_is_doubt(ledger, with_report, champion):
    report = with_report(champion=champion)
    assert judgement(ledger, report).verdict is Verdict.INCONCLUSIVE
    record(ledger, TASTE)
    record(ledger, PLACE, replayed=0)
    said = judgement(ledger, report)
    assert said.verdict is Verdict.INCONCLUSIVE
    assert "of ['place'] was replayed; serve, then run films_monitor" in said.reason


def test_a_first_release_may_be_declared_to_pass_without_evidence_and_no_later_one(ledger, with_report):
    gate = ParityHolds(passes_first=True)
    assert judgement(ledger, with_report(champion=None), gate).verdict is Verdict.PASSED
    assert judgement(ledger, with_report(champion="sha256:bb"), gate).verdict is Verdict.INCONCLUSIVE
    record(ledger, TASTE, mismatches=1)
    assert judgement(ledger, with_report(champion=None), gate).verdict is Verdict.FAILED


def test_a_report_of_another_definition_of_the_view_is_no_evidence(ledger, with_report):
    changed = replace(TASTE, features=(replace(COUNT, where="rating > 3"),))
    record(ledger, changed)
    assert judgement(ledger, with_report(), ParityHolds(views=("taste",))).verdict is Verdict.INCONCLUSIVE
    record(ledger, TASTE)
    assert judgement(ledger, with_report(), ParityHolds(views=("taste",))).verdict is Verdict.PASSED


def test_a_view_that_the_product_lacks_is_doubt_and_so_is_knowing_nothing(ledger, with_report):
    record(ledger, TASTE)
    assert judgement(ledger, with_report(), ParityHolds(views=("tastes",))).verdict is Verdict.INCONCLUSIVE
    assert judgement(ledger, with_report(), views={}).verdict is Verdict.INCONCLUSIVE
    assert ParityHolds(passes_first=True).judge(with_report(champion=None)).verdict is Verdict.INCONCLUSIVE


def test_all_gates_are_judged_together_and_say_what_they_object(ledger, with_report):
    record(ledger, TASTE, mismatches=3)
    gates = (AtLeast(metric="brier", floor=0.1), ParityHolds(name="served_as_learned", views=("taste",)))
    panel = judge_all(gates, with_report(), Known(views=VIEWS, entries=ledger.entries("films")))
    assert panel.verdict is Verdict.FAILED
    assert panel.objections.startswith("served_as_learned: taste: 3 of 3 values")
    assert panel.to_json()[1]["evidence"]["views"]["taste"]["differences"] == 3


def test_the_same_entries_give_the_same_judgement_later(ledger, with_report):
    record(ledger, TASTE)
    seen = Known(views=VIEWS, entries=ledger.entries("films"))
    gate = ParityHolds(views=("taste",))
    then = gate.judge(with_report(), seen)
    record(ledger, TASTE, mismatches=1)
    before = [entry for entry in ledger.entries("films") if entry.sequence <= seen.entries[-1].sequence]
    assert gate.judge(with_report(), Known(views=VIEWS, entries=before)) == then


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (ParityHolds(name="parity holds"), "letters, digits and underscores"),
        (ParityHolds(views="taste"), "tuple of names"),
        (ParityHolds(views=("",)), "tuple of names"),
    ],
)
def test_what_is_wrong_with_the_declaration_is_said(gate, words):
    (fault,) = gate.faults()
    assert words in fault
    assert ParityHolds(views=("taste",)).faults() == []


def test_reports_are_the_only_kind_of_entry_it_reads(ledger, with_report):
    ledger.append("films", Kind.DRIFT_FOUND, {"window": "films:1", "columns": [], "report": "r"}, actor="test")
    assert judgement(ledger, with_report()).verdict is Verdict.INCONCLUSIVE

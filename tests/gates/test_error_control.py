"""The budget of a golden set, Holm over claims, and what both keep: no more wrong promotions than promised."""

from dataclasses import replace
from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.gates.error_control import ErrorControl, holm_levels
from mlops_assets.gates.gate import Verdict
from mlops_assets.gates.golden_budget import GoldenBudget, use_of
from mlops_assets.gates.non_inferior import NonInferior
from mlops_assets.gates.panel import judge_all
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.entry import Kind

SUPERIOR = Superior(metric="brier", minimum_effect=0.01)


@given(uses=st.integers(1, 200), rho=st.floats(0.05, 2))
def test_all_uses_together_spend_the_whole_and_no_use_beyond_gets_anything(uses, rho):
    budget = GoldenBudget(uses=uses, rho=rho)
    shares = [budget.share(use) for use in range(1, uses + 1)]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0
    assert budget.share(uses + 1) == 0


def test_each_candidate_against_a_champion_is_a_use_and_the_same_one_again_is_none(with_report, judged):
    reports = [replace(with_report(), candidate=f"sha256:{n}") for n in range(3)]
    entries = [judged(report, sequence=n) for n, report in enumerate([*reports, reports[0]], start=1)]
    assert [use_of(entries, report) for report in reports] == [1, 2, 3]
    assert [use_of(entries[:n], report) for n, report in enumerate(reports)] == [1, 2, 3]
    assert use_of(entries, replace(reports[0], candidate="sha256:new")) == 4
    assert use_of(entries, replace(reports[0], champion="sha256:other", candidate="sha256:new")) == 1
    assert use_of(entries, replace(reports[0], golden="sha256:other", candidate="sha256:new")) == 1
    assert use_of(entries, replace(reports[0], champion=None)) == 0


@pytest.mark.parametrize(("kept", "use"), [(0.0, 1), (0.4, 3), (1.0, 4)])
def test_a_renewed_golden_set_keeps_uses_in_proportion_to_the_rows_it_kept(kept, use, with_report, judged):
    reports = [replace(with_report(), candidate=f"sha256:{n}") for n in range(3)]
    entries = [judged(report, sequence=n) for n, report in enumerate(reports, start=1)]
    body = {"golden": "sha256:renewed", "previous": reports[0].golden, "kept_share": kept}
    pinned = replace(entries[0], sequence=4, kind=Kind.GOLDEN_PINNED, body=body)
    assert use_of([*entries, pinned], replace(reports[0], golden="sha256:renewed", candidate="sha256:new")) == use


def test_a_spent_golden_set_is_doubt_that_names_what_renews_it(with_report, judged):
    control = ErrorControl(golden=GoldenBudget(uses=2))
    reports = [replace(with_report(gain=0.1), candidate=f"sha256:{n}") for n in range(3)]
    entries = [judged(report, sequence=n) for n, report in enumerate(reports[:2], start=1)]
    panels = [judge_all([SUPERIOR], r, control.known([SUPERIOR], r, entries=entries)) for r in reports]
    assert [panel.verdict for panel in panels] == [Verdict.PASSED, Verdict.PASSED, Verdict.INCONCLUSIVE]
    assert "renew it" in panels[2].objections


def test_asked_again_later_a_gate_has_the_level_it_had(with_report, judged):
    control, report = ErrorControl(), with_report(gain=0.1)
    entries = [judged(report)]
    later = [*entries, *(judged(replace(report, candidate=f"sha256:{n}"), sequence=n) for n in range(2, 9))]
    levels = [control.known([SUPERIOR], report, entries=seen).levels for seen in ([], entries, later)]
    assert levels[0] == levels[1] == levels[2]


@given(st.dictionaries(st.text("abcdefgh", min_size=1), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_definition_does(p_values):
    levels = holm_levels(p_values, 0.05)
    rejected = {name for name, p in p_values.items() if p <= levels[name]}
    expected, left = set(), len(p_values)
    for name, p in sorted(p_values.items(), key=lambda item: item[1]):
        if p > 0.05 / left:
            break
        expected.add(name)
        left -= 1
    assert rejected == expected
    ordered = [levels[name] for name in sorted(p_values, key=p_values.get)]
    assert all(low <= high for low, high in pairwise(ordered))


def test_a_gate_that_breaks_when_asked_for_its_claims_is_an_error_and_the_others_are_judged(with_report):
    class Broken(NonInferior):
        def claims(self, report):
            raise KeyError("lost")

        def judge(self, report, known=None):
            raise KeyError("lost")

    gates = [Broken(metric="brier", margin=0.01), SUPERIOR]
    report = with_report(gain=0.1)
    panel = judge_all(gates, report, ErrorControl().known(gates, report))
    assert panel.judgements["non_inferior_brier"].verdict is Verdict.ERROR
    assert panel.judgements["superior_brier"].verdict is Verdict.PASSED


GATES = [Superior(metric=f"m{n}", minimum_effect=1.0) for n in range(20)]


def family(with_report, gains):
    """One report on twenty metrics with normal gains of standard error 1."""
    reports = [with_report(f"m{n}", gain=gain, error=1.0, clusters=1000) for n, gain in enumerate(gains)]
    metrics = {name: found for report in reports for name, found in report.candidate_metrics.items()}
    comparisons = {name: found for report in reports for name, found in report.comparisons.items()}
    return replace(reports[0], candidate_metrics=metrics, comparisons=comparisons)


@pytest.mark.parametrize(("claims", "keeps"), [("each", True), ("promotion", False)])
def test_with_twenty_claims_holm_keeps_any_false_one_out_and_without_it_they_add_up(claims, keeps, with_report):
    generator, runs, wrong = np.random.default_rng(3), 400, 0
    control = ErrorControl(claims=claims, golden=GoldenBudget(uses=1))
    for gains in generator.normal(0, 1, (runs, 20)):
        report = family(with_report, gains)
        levels = control.known(GATES, report).levels
        wrong += any(p <= levels[name] for gate in GATES for name, (p, _) in gate.claims(report).items())
    limit = 0.05 + 4 * sqrt(0.05 * 0.95 / runs)
    assert (wrong / runs <= limit) is keeps


@pytest.mark.parametrize(("uses", "keeps"), [(50, True), (None, False)])
def test_fifty_candidates_no_better_than_the_champion_seldom_get_through_a_golden_set(uses, keeps, with_report, judged):
    """Without the budget, asking fifty times lets somebody through by luck nearly always."""
    generator, runs, promoted = np.random.default_rng(4), 200, 0
    control = ErrorControl(golden=GoldenBudget(uses=uses or 1))
    pilot = judged(with_report(gain=0.0, error=0.002, clusters=100))
    for gains in generator.normal(0, 0.002, (runs, 50)):
        entries = [replace(pilot, body=pilot.body | {"champion": "sha256:earlier"})]
        for number, gain in enumerate(gains):
            report = replace(with_report(gain=gain, error=0.002), candidate=f"sha256:{number}")
            seen = entries if uses else entries[:1]
            if SUPERIOR.judge(report, control.known([SUPERIOR], report, entries=seen)).verdict is Verdict.PASSED:
                promoted += 1
                break
            entries.append(replace(pilot, body=report_body(pilot, report)))
    assert (promoted / runs <= 0.05 + 4 * sqrt(0.05 * 0.95 / runs)) is keeps


def report_body(pilot, report):
    return pilot.body | {"candidate": report.candidate, "champion": report.champion, "report": report.candidate}


@pytest.mark.parametrize(
    ("control", "count"),
    [
        (ErrorControl(), 0),
        (ErrorControl(claims="none", alpha=0), 2),
        (ErrorControl(golden=GoldenBudget(uses=0, rho=0)), 2),
    ],
)
def test_every_fault_of_error_control_is_named(control, count):
    assert len(control.faults()) == count

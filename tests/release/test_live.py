"""What counts as evidence, in which order, and what is said of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.gates.gate import Verdict
from mlops_assets.release.live import LiveAnalysis

START = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW, OTHER = "sha256:old", "sha256:new", "sha256:other"
ANALYSIS = LiveAnalysis(metric="squared_error", margin=0.02, bound=0.25, outcomes_per_unit=2, minimum_units=3)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


class Log:
    """Rows are (id, second asked, version, entity, score, outcome, its second), mirrors (id, version, score)."""

    def __init__(self, rows=(), mirrors=()) -> None:
        self.rows, self.mirrored = rows, mirrors

    def predictions(self, product: str) -> pl.DataFrame:
        time = pl.Datetime("us", "UTC")
        schema = {"id": pl.String, "at": time, "version": pl.String, "entity": pl.String}
        schema |= {"score": pl.Float64, "outcome": pl.Float64, "outcome_at": time}
        rows = [(i, at(s), v, e, score, y, None if t is None else at(t)) for i, s, v, e, score, y, t in self.rows]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def mirrors(self, product: str) -> pl.DataFrame:
        schema = {"id": pl.String, "version": pl.String, "score": pl.Float64}
        return pl.DataFrame(list(self.mirrored), schema=schema, orient="row")


def analyse(log: Log, analysis: LiveAnalysis = ANALYSIS, *, since: float = 0, step: float = 0):
    return analysis.analyse(log, "p", candidate=NEW, champion=OLD, since=at(since), step_began=at(step))


def one_unit(**changes) -> Log:
    first = {"id": "a", "second": 1, "version": OLD, "entity": "u", "score": 0.5, "outcome": 1.0, "told": 3} | changes
    second = ("b", 2, NEW, "u", 0.5, 1.0, 4)
    mirrors = [("a", OLD if first["version"] == NEW else NEW, 0.7), ("b", OLD, 0.5)]
    return Log([tuple(first.values()), second], mirrors)


def test_a_request_counts_by_the_paired_difference_whoever_answered_it():
    found = analyse(one_unit())
    assert found.units == 1
    assert found.gain == pytest.approx((0.5**2 - 0.3**2 + 0) / 2, abs=1e-6)
    assert found.exposed_requests == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"outcome": None, "told": None}, "its outcome is unknown"),
        ({"second": -1}, "it was asked before the rollout began"),
        ({"version": OTHER}, "a third version answered"),
        ({"score": float("nan")}, "the champion's score is no number"),
    ],
    ids=lambda value: value.replace(" ", "_") if isinstance(value, str) else "",
)
def test_a_request_does_not_count_if(changes, why):
    assert analyse(one_unit(**changes)).units == 0


def test_a_request_that_was_not_mirrored_does_not_count():
    log = one_unit()
    assert analyse(Log(log.rows, log.mirrored[:1])).units == 0


def test_a_mirror_that_was_logged_twice_counts_once():
    log = one_unit()
    assert analyse(Log(log.rows, [*log.mirrored, ("a", NEW, 0.0)])) == analyse(log)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), None])
def test_a_candidate_whose_scores_are_no_numbers_is_stopped_and_never_passed(broken):
    rows = [(f"{n}-{k}", n, OLD, f"u{n}", 0.5, 1.0, n) for n in range(40) for k in range(2)]
    found = analyse(Log(rows, [(id, NEW, broken) for id, *_ in rows]))
    assert found.verdict is Verdict.FAILED
    assert found.gain == -ANALYSIS.bound


def test_gains_that_are_no_numbers_raise_rather_than_pass():
    with pytest.raises(ValueError, match="no number"):
        ANALYSIS.judge(np.array([0.1] * 50 + [np.nan]))


def test_an_entity_counts_by_its_first_outcomes_and_only_when_it_has_them_all():
    rows = [("a", 1, OLD, "u", 0.5, 1.0, 9), ("b", 2, OLD, "u", 0.5, 1.0, 3), ("c", 3, OLD, "u", 0.5, 1.0, 4)]
    mirrors = [("a", NEW, 0.0), ("b", NEW, 0.6), ("c", NEW, 0.8)]
    early = analyse(Log(rows[1:2], mirrors))
    whole = analyse(Log(rows, mirrors))
    assert (early.units, whole.units) == (0, 1)
    assert whole.gain == pytest.approx(((0.25 - 0.16) + (0.25 - 0.04)) / 2, abs=1e-6)  # b and c; a's outcome came last


arrivals = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 30), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40
)


@given(arrivals, st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_units_that_are_complete_never_change_as_more_outcomes_arrive(arrived, random):
    """What makes the bets valid: the past is the past, in whatever order the log lists it."""
    rows = [(f"{n:03}", 0, OLD, f"u{e}", old, 1.0, second) for n, (e, second, old, _) in enumerate(arrived)]
    mirrors = [(f"{n:03}", NEW, new) for n, (_, _, _, new) in enumerate(arrived)]
    shuffled = random.sample(rows, len(rows))
    assert analyse(Log(shuffled, mirrors)) == analyse(Log(rows, mirrors))
    longest = analyse(Log(rows, mirrors)).series
    for now in (5, 10, 20):
        known = [row if row[-1] < now else (*row[:5], None, None) for row in rows]
        assert analyse(Log(known, mirrors)).series == longest[: analyse(Log(known, mirrors)).units]


def units(count: int, gain: float, *, begin: float = 0.0) -> tuple[list, list]:
    rows, mirrors = [], []
    for number in range(count):
        for turn in range(2):
            id, second = f"{begin}-{number}-{turn}", begin + number
            rows.append((id, second, OLD, f"{begin}-{number}", 0.5, 0.0, second))
            mirrors.append((id, NEW, (0.25 - gain) ** 0.5))
    return rows, mirrors


def test_each_step_needs_units_of_its_own_though_the_evidence_adds_up():
    rows, mirrors = units(60, 0.01)
    assert analyse(Log(rows, mirrors)).verdict is Verdict.PASSED
    waiting = analyse(Log(rows, mirrors), step=58)  # units 58 and 59 became complete since
    assert waiting.verdict is Verdict.INCONCLUSIVE
    assert "2 of 3" in waiting.reason
    assert analyse(Log(rows, mirrors), step=57).verdict is Verdict.PASSED


def test_harm_stops_at_once_and_stays_proved():
    bad_rows, bad_mirrors = units(40, -0.05)
    found = analyse(Log(bad_rows, bad_mirrors), step=1000)
    assert found.verdict is Verdict.FAILED
    good_rows, good_mirrors = units(400, 0.1, begin=100)
    after = analyse(Log(bad_rows + good_rows, bad_mirrors + good_mirrors))
    assert after.verdict is Verdict.FAILED


def test_safety_must_hold_now_not_only_at_some_time():
    good, bad = np.full(60, 0.01), np.full(12, -0.12)
    assert ANALYSIS.judge(good).verdict is Verdict.PASSED
    turned = ANALYSIS.judge(np.concatenate([good, bad]))
    assert turned.log_e_safe < np.log(20)
    assert turned.verdict is not Verdict.PASSED


def test_no_traffic_is_no_evidence():
    found = analyse(Log())
    assert found.verdict is Verdict.INCONCLUSIVE
    assert (found.units, found.low, found.high) == (0, -0.25, 0.25)
    assert found.to_json()["series"] == []


def test_the_same_units_give_the_same_evidence_and_other_units_another_digest():
    rows, mirrors = units(10, 0.01)
    assert analyse(Log(rows, mirrors)).values == analyse(Log(rows, mirrors)).values
    other, other_mirrors = units(10, 0.02)
    assert analyse(Log(other, other_mirrors)).values != analyse(Log(rows, mirrors)).values


def test_one_entity_cannot_outweigh_the_others():
    rows, mirrors = units(5, 0.01)
    loud = [(f"loud-{n}", n, OLD, "loud", 0.5, 0.0, n) for n in range(200)]
    found = analyse(Log(rows + loud, mirrors + [(id, NEW, 1.0) for id, *_ in loud]))
    assert found.units == 6
    assert found.gain == pytest.approx((5 * 0.01 - 0.25) / 6, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metric": "ndcg"}, "metric 'ndcg'"),
        ({"margin": 0.0}, "margin"),
        ({"margin": 0.25}, "margin"),
        ({"bound": float("inf")}, "bound"),
        ({"margin": float("nan")}, "margin"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 0.51}, "alpha"),
        ({"outcomes_per_unit": 0}, "outcomes_per_unit"),
        ({"minimum_units": 0}, "minimum_units"),
        ({"label": "outcome >="}, "no Polars SQL expression"),
        ({"label": "rating >= 4"}, "must read just 'outcome'"),
        ({"label": "1"}, "must read just 'outcome'"),
    ],
)
def test_a_wrong_declaration_names_its_field(changes, told):
    (fault,) = replace(ANALYSIS, **changes).faults()
    assert told in fault


def test_all_faults_are_named_at_once():
    assert len(LiveAnalysis(metric="x", margin=1, bound=0, alpha=2, minimum_units=0, label="x").faults()) == 5


@pytest.mark.parametrize(("metric", "label"), [("brier", "outcome >= 4"), ("absolute_error", "outcome")])
def test_labels_and_losses_are_those_declared(metric, label):
    analysis = replace(ANALYSIS, metric=metric, label=label)
    assert analysis.faults() == []
    rows = [(f"{k}", 1, OLD, "u", 0.5, 5.0, 2) for k in range(2)]
    found = analyse(Log(rows, [(id, NEW, 0.6) for id, *_ in rows]), analysis)
    expected = 0.5**2 - 0.4**2 if metric == "brier" else 0.1
    assert found.gain == pytest.approx(expected, abs=1e-6)

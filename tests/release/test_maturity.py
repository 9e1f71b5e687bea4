"""Outcomes that come late, twice, or by a clock that was set back: what was counted stays as it was counted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from mlops_assets.gates.gate import Verdict
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.serving.log import FilePredictionLog

START = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW = "sha256:old", "sha256:new"
NAIVE = LiveAnalysis(metric="absolute_error", margin=0.02, bound=0.25, outcomes_per_unit=1, minimum_units=1)
MATURE = replace(NAIVE, matured_after=timedelta(hours=12), silent_outcome=0.0)
HOUR = 3600.0


class Log:
    """One entity a request: seconds asked, outcomes, seconds told (nan: never) in the order of ``told_order``."""

    def __init__(self, asked, outcomes, told, *, old=0.5, new=0.3, told_order=None):
        known = ~np.isnan(told)
        order = np.argsort(np.where(known, told, np.inf), kind="stable") if told_order is None else told_order
        places = np.empty(len(told), dtype=int)
        places[order] = np.arange(len(told))
        ids = [f"{n:05}" for n in range(len(asked))]
        frame = pl.DataFrame({"id": ids, "version": OLD, "entity": ids, "score": np.broadcast_to(old, len(ids))})
        self.frame = frame.with_columns(
            at=times(asked),
            outcome=pl.Series(np.where(known, outcomes, np.nan)).fill_nan(None),
            outcome_at=times(told),
            outcome_order=pl.when(pl.Series(known)).then(pl.Series(places)),
        )
        self.other = pl.DataFrame({"id": ids, "version": NEW, "score": np.broadcast_to(new, len(ids))})

    def predictions(self, product):
        return self.frame

    def mirrors(self, product):
        return self.other


def times(seconds) -> pl.Series:
    micros = pl.Series(np.asarray(seconds, dtype=float)).fill_nan(None) * 1e6
    return (micros + START.timestamp() * 1e6).round().cast(pl.Int64).cast(pl.Datetime("us", "UTC"))


def look(log, analysis, *, hours=1000.0, step=0.0):
    now, began = START + timedelta(hours=hours), START + timedelta(hours=step)
    return analysis.analyse(log, "p", candidate=NEW, champion=OLD, since=START, step_began=began, now=now)


def stream(seed: int, requests: int = 240) -> Log:
    """Return a stream of a candidate exactly as good as the champion: it errs less on 0 and as much more on 1.

    A fraud (1) is told within the hour, honesty (0) never is.
    """
    labels = np.random.default_rng(seed).integers(0, 2, requests).astype(float)
    asked = np.arange(requests) * 60.0
    return Log(asked, labels, np.where(labels == 1, asked + HOUR, np.nan))


def test_outcomes_whose_delay_depends_on_the_label_break_naive_counting_and_not_matured():
    """The harm that is proved at any look stays in the last one, so one look tells of all."""
    alpha, count = MATURE.alpha, 150
    naive = [look(stream(seed), NAIVE).verdict is Verdict.FAILED for seed in range(20)]
    mature = [look(stream(seed), MATURE).verdict is Verdict.FAILED for seed in range(count)]
    assert np.mean(naive) > 0.9
    assert np.mean(mature) <= alpha + 4 * np.sqrt(alpha * (1 - alpha) / count)


def test_a_better_candidate_is_not_hidden_by_early_bad_news():
    labels = np.arange(200) % 4 == 0
    asked = np.arange(200) * 60.0
    log = Log(asked, labels.astype(float), np.where(labels, asked + HOUR, np.nan))
    assert look(log, NAIVE).verdict is Verdict.FAILED
    found = look(log, MATURE)
    assert found.verdict is Verdict.PASSED
    assert found.gain == pytest.approx(0.75 * 0.2 - 0.25 * 0.2, abs=1e-6)


def test_only_predictions_old_enough_count_and_looks_extend_each_other():
    log = stream(1)
    early, late = look(log, MATURE, hours=13), look(log, MATURE, hours=14)
    assert (early.units, late.units) == (61, 121)
    assert late.gains[:61] == early.gains
    assert look(log, MATURE, hours=11.9).units == 0


def test_what_is_told_after_maturity_changes_nothing():
    labels, asked = np.ones(10), np.arange(10) * 60.0
    silent = Log(asked, labels, np.full(10, np.nan))
    late = Log(asked, labels, asked + 12 * HOUR + 1)
    assert look(late, MATURE).gains == look(silent, MATURE).gains
    in_time = Log(asked, labels, asked + 12 * HOUR)
    assert look(in_time, MATURE).gain < 0 < look(late, MATURE).gain


def test_without_a_silent_outcome_what_stays_silent_does_not_count():
    labels, asked = np.tile([0.0, 1.0], 5), np.arange(10) * 60.0
    log = Log(asked, labels, np.where(labels == 1, asked + HOUR, np.nan))
    assert look(log, replace(MATURE, silent_outcome=None)).units == 5


def test_the_order_of_a_log_is_believed_and_not_its_clock():
    """The clock jumps back an hour after 20 outcomes; what had been counted is a beginning of what is counted then."""
    rng = np.random.default_rng(2)
    asked, new = np.arange(40) * 60.0, rng.uniform(0.3, 0.7, 40)
    told = asked + 30.0
    before = Log(asked[:20], np.zeros(20), told[:20], new=new[:20])
    shift = np.where(np.arange(40) < 20, 0.0, HOUR)
    after = Log(asked, np.zeros(40), told - shift + HOUR, new=new, told_order=np.arange(40))
    before.frame = before.frame.with_columns(pl.col("outcome_at") + timedelta(hours=1))
    first, then = look(before, NAIVE), look(after, NAIVE)
    assert (first.units, then.units) == (20, 40)
    assert then.gains[:20] == first.gains
    assert then.series[:20] == first.series


def test_a_clock_that_jumps_back_changes_nothing_that_had_matured():
    """A request is as old as the clock said at its latest, and an outcome told after another came no earlier."""
    asked = np.concatenate([np.arange(20) * 60.0 + 2 * HOUR, np.arange(20) * 60.0 + HOUR])
    told = np.full(40, np.nan)
    told[5] = asked[5] + HOUR
    log = Log(asked, np.ones(40), told)
    first = look(log, MATURE, hours=14.1)  # six requests are twelve hours old; those made after the jump are not yet
    assert first.units == 7
    told[30] = asked[5] + 13 * HOUR  # long after all that follows: the clock runs, and is then set back
    told[2] = asked[2] + HOUR
    order = np.r_[5, 30, 2, np.setdiff1d(np.arange(40), [5, 30, 2])]
    again = look(Log(asked, np.ones(40), told, told_order=order), MATURE, hours=14.1)
    assert again.gains == first.gains
    assert look(log, MATURE, hours=1000).gains[:7] == first.gains


@pytest.mark.parametrize("analysis", [NAIVE, MATURE], ids=["naive", "mature"])
def test_an_outcome_that_is_corrected_later_changes_nothing(tmp_path, analysis):
    log = FilePredictionLog(tmp_path)
    writer, book = log.writer("p"), log.outcomes("p")
    micros = int(START.timestamp() * 1e6)
    asked = [
        {"trace": f"{number:02}", "at": micros + number, "entity": f"{number}", "score": 0.5, "latency_seconds": 0.01}
        | {"version": OLD, "arm": "routed", "inputs": {}, "features": {}}
        for number in range(30)
    ]
    ids = writer.append(asked, START)
    writer.mirror([{"id": id, "version": NEW, "score": 0.3} for id in ids], START)
    for number, id in enumerate(ids):
        book.tell(id, 0.0, at=micros + number + 1, inputs={})
    first = look(log, analysis)
    for id in ids:
        book.correct(id, 1.0, at=micros + 100, why="mistyped")
    assert first.units == 30
    assert look(log, analysis) == first
    assert look(FilePredictionLog(tmp_path), analysis) == first


def test_a_step_is_not_passed_by_what_was_asked_before_it_and_matured_in_it():
    """All was asked in the first four hours; the next step began at six, and nothing was asked since."""
    log = Log(np.arange(240) * 60.0, np.zeros(240), np.full(240, np.nan))
    assert look(log, MATURE).verdict is Verdict.PASSED
    waiting = look(log, MATURE, step=6.0)
    assert waiting.verdict is Verdict.INCONCLUSIVE
    assert "0 of 1 entities in this step" in waiting.reason

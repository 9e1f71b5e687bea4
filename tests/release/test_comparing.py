"""Guardrails that compare both versions: by pairs, by neighbours, and how seldom one that holds is called broken."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from mlops_assets.release.betting import log_capital_above
from mlops_assets.release.comparing import RateNotAbove
from mlops_assets.release.guardrails import ComparingGuardrail, LatencyAtMost

START = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW, OTHER, ALPHA = "sha256:old", "sha256:new", "sha256:other", 0.05
NEEDED = np.log(1 / ALPHA)
HIGH = RateNotAbove(name="high", breach="score > 0.9", by=0.05)
SLOW = RateNotAbove(name="slow", breach="latency_seconds > 0.2", by=0.02, paired=False)


def strings(values) -> pl.Series:
    return pl.Series(list(values), dtype=pl.String)


def compare(rail, own, *, score=0.5, mirrored=0.5, seconds=0.01):
    """Return what ``rail`` finds where ``own`` says which answers are the candidate's, and others ``mirrored`` them."""
    count = len(own)
    columns = {"score": score, "latency_seconds": seconds}
    full = {name: pl.Series(np.broadcast_to(np.asarray(value, float), count)) for name, value in columns.items()}
    ids = strings([f"{n}" for n in range(count)])
    answers = pl.DataFrame({"id": ids, "version": strings(np.where(own, NEW, OLD)), **full})
    others = pl.Series(np.broadcast_to(np.asarray(mirrored, float), count))
    mirrors = pl.DataFrame({"id": ids, "version": strings(np.where(own, OLD, NEW)), "score": others})
    strange = mirrors.with_columns(version=pl.lit(OTHER), score=pl.lit(1.0))
    return rail.compare(answers, pl.concat([strange, mirrors, mirrors]), candidate=NEW, champion=OLD)


def test_pairs_compare_both_scores_of_a_request_whoever_answered_it():
    own, bad = np.arange(300) % 2 == 0, np.arange(300) % 5 == 0
    score, mirrored = np.where(own & bad, 0.99, 0.5), np.where(~own & bad, 0.99, 0.5)
    found = compare(HIGH, own, score=score, mirrored=mirrored)
    assert (found.requests, found.breaches, found.allowed) == (300, 60, 0.05)
    assert found.log_e >= NEEDED
    turned = compare(HIGH, ~own, score=score, mirrored=mirrored)
    assert (turned.breaches, turned.allowed) == (0, pytest.approx(0.25))
    assert turned.log_e < NEEDED


def test_scores_that_are_no_numbers_are_breaches():
    found = compare(HIGH, np.ones(100, bool), score=np.nan)
    assert found.breaches == 100
    assert found.log_e >= NEEDED


def test_neighbours_are_compared_so_that_a_busy_hour_touches_both():
    """All of the second half is slow, and most of it is the candidate's: its share is higher, and it is no worse."""
    rng = np.random.default_rng(1)
    own = rng.random(2000) < np.repeat([0.1, 0.9], 1000)
    seconds = np.repeat([0.01, 0.9], 1000)
    assert seconds[own].mean() > 3 * seconds[~own].mean()
    busy = compare(SLOW, own, seconds=seconds)
    assert busy.requests > 100
    assert busy.log_e < NEEDED
    worse = compare(SLOW, own, seconds=np.where(own & (rng.random(2000) < 0.3), 0.9, 0.01))
    assert worse.log_e >= NEEDED


@pytest.mark.parametrize("by", [0.0, 0.1])
def test_a_difference_exactly_at_its_limit_is_seldom_called_above_it_at_any_look(by):
    rng, streams = np.random.default_rng(4), 500
    ours, theirs = rng.random((2, streams, 600)) < np.array([0.05 + by, 0.05])[:, None, None]
    wrong = (log_capital_above(ours.astype(float) - theirs, by).max(axis=1) >= NEEDED).mean()
    assert wrong <= ALPHA + 4 * np.sqrt(ALPHA * (1 - ALPHA) / streams)


def test_without_answers_nothing_was_seen():
    assert compare(HIGH, np.zeros(0, bool)).requests == 0
    assert compare(SLOW, np.ones(1, bool)).requests == 0


def test_only_a_guardrail_that_compares_is_asked_to():
    assert isinstance(HIGH, ComparingGuardrail)
    assert not isinstance(LatencyAtMost(seconds=1), ComparingGuardrail)


@pytest.mark.parametrize(
    ("rail", "told"),
    [
        (RateNotAbove(name="x", breach="score >", by=0.1), "no Polars SQL expression"),
        (RateNotAbove(name="x", breach="score > 1", by=-0.1), "by is -0.1"),
        (RateNotAbove(name="x", breach="latency_seconds > 1", by=0.1), "paired=False"),
    ],
)
def test_a_wrong_declaration_names_its_fault(rail, told):
    (fault,) = rail.faults()
    assert told in fault

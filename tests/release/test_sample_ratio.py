"""Does the candidate answer its share: how seldom a right share raises the alarm, and how soon a wrong one does."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.integrate import quad
from scipy.stats import beta as beta_distribution

from mlops_assets.release.plan import TrafficPlan
from mlops_assets.release.sample_ratio import log_mixture, sample_ratio
from mlops_assets.serving.routing import version_for

START = datetime(2026, 1, 1, tzinfo=UTC)
OLD, NEW, ALPHA = "sha256:old", "sha256:new", 0.05


def answers(rows) -> pl.DataFrame:
    """Return rows of (second, entity, version) as a log's frame."""
    schema = {"at": pl.Datetime("us", "UTC"), "entity": pl.String, "version": pl.String}
    return pl.DataFrame([(START + timedelta(seconds=s), e, v) for s, e, v in rows], schema=schema, orient="row")


def found(rows, *shares, settle=0):
    plan = [(START + timedelta(seconds=second), percent / 100) for second, percent in shares]
    return sample_ratio(answers(rows), plan, candidate=NEW, champion=OLD, settle=timedelta(seconds=settle))


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_right_share_seldom_raises_the_alarm_in_ten_thousand_looks(share):
    rng, streams, looks = np.random.default_rng(1), 300, np.arange(1, 10_001)
    alarms = [
        log_mixture(np.cumsum(rng.random(10_000) < share), looks, share).max() >= np.log(1 / ALPHA)
        for _ in range(streams)
    ]
    assert np.mean(alarms) <= ALPHA + 4 * np.sqrt(ALPHA * (1 - ALPHA) / streams)


def test_half_of_the_entities_that_became_45_percent_is_found_within_a_few_thousand():
    rng, looks, when = np.random.default_rng(2), np.arange(1, 6001), []
    for _ in range(100):
        won = log_mixture(np.cumsum(rng.random(6000) < 0.45), looks, 0.5) >= np.log(1 / ALPHA)
        when.append(won.argmax() if won.any() else np.inf)
    assert np.median(when) < 2000
    assert np.isfinite(when).all()


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (3, 10), (40, 60)])
def test_the_evidence_is_the_integrated_likelihood_ratio(hits, trials):
    chance, strength = 0.3, 20.0
    prior = beta_distribution(strength * chance, strength * (1 - chance))
    ratio = quad(
        lambda x: prior.pdf(x) * (x / chance) ** hits * ((1 - x) / (1 - chance)) ** (trials - hits), 0, 1, epsabs=1e-12
    )[0]
    evidence = log_mixture(np.array([hits]), np.array([trials]), chance, strength)
    assert np.exp(evidence) == pytest.approx(ratio, rel=1e-6)


def test_a_mismatch_that_was_found_stays_found():
    """A router lost half of the candidate's entities for a while; that it made up for them later mends nothing."""
    lost = [(n, f"a{n}", NEW if n % 4 == 0 else OLD) for n in range(400)]
    mended = [(400 + n, f"b{n}", NEW if n % 4 else OLD) for n in range(400)]
    assert found(lost, (0, 50)).is_mismatch(0.001)
    whole = found(lost + mended, (0, 50))
    assert (whole.candidate, whole.expected) == (400, 400)
    assert whole.is_mismatch(0.001)


def test_evidence_under_several_shares_adds_up():
    first = [(n, f"a{n}", NEW if n % 3 == 0 else OLD) for n in range(60)]
    second = [(100 + n, f"b{n}", NEW if n % 3 == 0 else OLD) for n in range(60)]
    alone = found(first, (0, 50)).log_e
    assert found(first + second, (0, 50), (100, 50)).log_e == pytest.approx(2 * alone, abs=1e-5)


def test_the_router_gives_the_shares_that_the_test_expects():
    """Routing is by entity and sticky: who came under 5 % comes again under 25 %, and must not count again."""
    rows = []
    for step, percent in enumerate((5, 25, 50)):
        plan = TrafficPlan(weights={NEW: percent, OLD: 100 - percent}, mirrors=(), features=None)
        rows += [(1000 * step + 100, f"e{n}", version_for(f"e{n}", plan)) for n in range(2000 * (step + 1))]
    every = found(rows, (0, 5), (1000, 25), (2000, 50), settle=60)
    assert every.entities == 6000
    assert not every.is_mismatch(ALPHA)
    misread = found(rows, (0, 50))
    assert misread.is_mismatch(0.001)

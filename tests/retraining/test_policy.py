from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ledger.entry import Entry, Kind
from mlops_assets.retraining.policy import DAY, Cause, RetrainingPolicy, reason_of, unanswered

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def entry(sequence, kind, **body):
    return Entry(sequence=sequence, product="p", kind=kind, at=NOW, actor="a", body=body, previous="", digest="")


@pytest.mark.parametrize(("since", "retrain"), [(timedelta(hours=1) - TICK, False), (timedelta(hours=1), True)])
def test_a_cooldown_ends_at_its_very_moment_and_says_when(since, retrain):
    decision = RetrainingPolicy(cooldown=timedelta(hours=1)).decide(Cause.DRIFT, [NOW - since], NOW)
    assert decision.retrain is retrain
    if not retrain:
        assert decision.until == NOW + TICK
        assert "cooling down until 2026-01-10T12:00:00" in decision.reason


@pytest.mark.parametrize(("oldest", "retrain"), [(DAY - TICK, False), (DAY, True)])
def test_the_days_limit_frees_a_place_after_exactly_24_hours(oldest, retrain):
    policy = RetrainingPolicy(cooldown=timedelta(0), max_per_day=2)
    decision = policy.decide(Cause.DRIFT, [NOW - oldest, NOW - timedelta(hours=2)], NOW)
    assert decision.retrain is retrain
    if not retrain:
        assert decision.until == NOW - oldest + DAY


@given(
    hours=st.lists(st.integers(1, 100), max_size=20),
    cooldown=st.integers(0, 30),
    limit=st.integers(1, 4),
    cause=st.sampled_from(Cause),
)
def test_whoever_asks_each_hour_never_exceeds_cooldown_or_limit_and_refusals_end_when_they_say(
    hours, cooldown, limit, cause
):
    policy = RetrainingPolicy(cooldown=timedelta(hours=cooldown), max_per_day=limit)
    requested = []
    for hour in sorted(hours):
        now = NOW + timedelta(hours=hour)
        decision = policy.decide(cause, requested, now)
        if decision.retrain:
            requested.append(now)
        else:
            assert policy.decide(cause, requested, decision.until).retrain
            assert not policy.decide(cause, requested, decision.until - TICK).retrain
    assert all(later - earlier >= policy.cooldown for earlier, later in pairwise(requested))
    assert all(sum(at <= other < at + DAY for other in requested) <= limit for at in requested)


@pytest.mark.parametrize("cause", list(Cause))
def test_a_cause_that_is_switched_off_never_retrains_and_does_not_wait(cause):
    decision = RetrainingPolicy(**{f"on_{cause.value}": False}).decide(cause, [], NOW)
    assert not decision.retrain
    assert decision.until is None


def test_a_request_covers_its_cause_and_all_before_it():
    drift = [entry(n, Kind.DRIFT_FOUND, window=f"p:{n}", columns=["x"], report="r") for n in (1, 2)]
    later = entry(3, Kind.PERFORMANCE_FELL, window="p:3", metric="m", report="r")
    request = entry(4, Kind.RETRAINING_REQUESTED, reason="", cause=2)
    assert unanswered([*drift, later]) == [*drift, later]
    assert unanswered([*drift, later, request]) == [later]
    assert unanswered([*drift, entry(3, Kind.RETRAINING_REQUESTED, reason="by hand", cause=None)]) == drift


def test_the_reason_names_what_was_found():
    assert reason_of(entry(1, Kind.DRIFT_FOUND, window="p:1", columns=["x", "y"])) == "drift in x, y (window p:1)"
    assert reason_of(entry(1, Kind.PERFORMANCE_FELL, window="p:1", metric="auc")) == "auc fell (window p:1)"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cooldown": timedelta(seconds=-1)}, "must not be negative"),
        ({"max_per_day": 0}, "max_per_day is 0"),
        ({"minimum_growth": -0.1}, "minimum_growth is -0.1"),
        ({"minimum_growth": float("inf")}, "minimum_growth is inf"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(change, says):
    (fault,) = RetrainingPolicy(**change).faults()
    assert says in fault

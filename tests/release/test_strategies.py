"""Laws of every rollout strategy, and the limits of the declarations."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.gates.gate import Verdict
from mlops_assets.release.blue_green import BlueGreen
from mlops_assets.release.canary import Canary
from mlops_assets.release.rollout import Phase, Rollout

percents = st.sets(st.integers(1, 99), max_size=6).map(lambda found: Canary(percents=(*sorted(found), 100)))
strategies = st.one_of(percents, st.just(BlueGreen()))
verdicts = st.lists(st.sampled_from(Verdict), max_size=12)
FINAL = (Phase.COMPLETED, Phase.ROLLED_BACK)


def walk(strategy, said):
    rollout = strategy.start(has_champion=True)
    yield rollout, None
    for verdict in said:
        rollout = strategy.advance(rollout, verdict)
        yield rollout, verdict


@given(strategies, verdicts)
def test_a_declared_strategy_has_no_faults_and_traffic_only_rises_without_a_failure(strategy, said):
    assert strategy.faults() == []
    seen = [rollout.percent for rollout, verdict in walk(strategy, said) if verdict is not Verdict.FAILED]
    if Verdict.FAILED not in said:
        assert seen == sorted(seen)
        assert all(0 <= percent <= 100 for percent in seen)


@given(strategies)
def test_enough_passes_end_a_rollout_with_all_traffic(strategy):
    end, _ = list(walk(strategy, [Verdict.PASSED] * 8))[-1]
    assert (end.percent, end.phase) == (100, Phase.COMPLETED)


@given(strategies, verdicts)
def test_a_failure_takes_all_traffic_away_for_good(strategy, said):
    before, _ = list(walk(strategy, said))[-1]
    after = strategy.advance(before, Verdict.FAILED)
    if before.phase is Phase.RUNNING:
        assert (after.percent, after.phase) == (0, Phase.ROLLED_BACK)
    for verdict in Verdict:
        assert strategy.advance(after, verdict) == after


@given(strategies, verdicts)
def test_doubt_moves_nothing_and_final_phases_stay(strategy, said):
    for rollout, _ in walk(strategy, said):
        assert all(strategy.advance(rollout, doubt) == rollout for doubt in (Verdict.INCONCLUSIVE, Verdict.ERROR))
        if rollout.phase in FINAL:
            assert all(strategy.advance(rollout, verdict) == rollout for verdict in Verdict)


@given(strategies, verdicts)
def test_every_state_survives_the_ledger(strategy, said):
    for rollout, _ in walk(strategy, said):
        assert Rollout.from_json(rollout.to_json()) == rollout


@given(percents, percents, verdicts)
@settings(max_examples=60)
def test_a_strategy_that_was_declared_anew_meanwhile_still_ends(old, new, said):
    rollout, _ = list(walk(old, said))[-1]
    for _ in range(8):
        risen = new.advance(rollout, Verdict.PASSED)
        assert risen.percent > rollout.percent or rollout.phase in FINAL
        rollout = risen
    assert rollout.phase in FINAL


@pytest.mark.parametrize("strategy", [Canary(), BlueGreen()], ids=lambda strategy: strategy.name)
def test_without_a_champion_all_traffic_moves_at_once(strategy):
    start = strategy.start(has_champion=False)
    assert (start.percent, start.phase) == (100, Phase.COMPLETED)


@pytest.mark.parametrize(
    ("given_percents", "told"),
    [
        ((), "must end with 100"),
        ((5, 25), "must end with 100"),
        ((5, 5, 100), "must rise"),
        ((25, 5, 100), "must rise"),
        ((0, 100), "between 1 and 100"),
        ((-5, 100), "between 1 and 100"),
        ((50, 100, 101), "between 1 and 100"),
    ],
)
def test_percents_that_do_not_rise_to_100_are_faults(given_percents, told):
    assert any(told in fault for fault in Canary(percents=given_percents).faults())


@pytest.mark.parametrize("given_percents", [(100,), (1, 100), (99, 100), (5, 25, 50, 100)])
def test_percents_at_the_limits_are_accepted(given_percents):
    assert Canary(percents=given_percents).faults() == []

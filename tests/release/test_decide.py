"""Who may be released, where a rollout goes, what is undone: decided from the ledger's state alone."""

import pytest

from mlops_assets.errors import ReleaseRefused
from mlops_assets.gates.gate import Verdict
from mlops_assets.ledger.entry import Kind
from mlops_assets.release.canary import Canary
from mlops_assets.release.decide import (
    decide_release,
    decide_step,
    desired_aliases,
    desired_plan,
    releasable,
    release_body,
    rollback_body,
)
from mlops_assets.release.rollout import Phase

PRODUCT = "films"


def decided(world, candidate, *, now=Verdict.PASSED, approvals=0):
    return decide_release(world.state, candidate, verdict_now=now, approvals_needed=approvals)


def refusal(world, candidate, **given):
    decision = decided(world, candidate, **given)
    assert not decision.release
    return decision.reason


def say(world, kind, candidate, by):
    body = {"candidate": candidate, "by": by, "why": "read the report"}
    world.ledger.append(PRODUCT, kind, body, actor=by)


def test_a_candidate_that_passed_is_released(world):
    candidate = world.judge("a")
    assert decided(world, candidate).release
    assert releasable(world.state, approvals_needed=0).body["candidate"] == candidate


def test_an_unknown_candidate_is_not_released(world):
    world.judge("a")
    assert "never registered" in refusal(world, "sha256:unknown")


def test_a_registered_candidate_that_nobody_judged_is_not_released(world):
    assert "judged" in refusal(world, world.register("a"))


def test_a_candidate_that_failed_is_not_released_even_if_the_gates_pass_now(world):
    assert "FAILED" in refusal(world, world.judge("a", auc=0.5))


@pytest.mark.parametrize("now", [Verdict.FAILED, Verdict.INCONCLUSIVE])
def test_gates_that_do_not_pass_when_asked_again_forbid_the_release(world, now):
    assert now.value in refusal(world, world.judge("a"), now=now)


def test_a_judgement_against_an_earlier_champion_opens_nothing(world):
    candidate = world.judge("a")
    world.crown("other")
    assert "another champion" in refusal(world, candidate)
    assert releasable(world.state, approvals_needed=0) is None
    assert decided(world, world.judge("a")).release


def test_a_new_judgement_that_fails_takes_back_the_one_that_passed(world):
    candidate = world.judge("a")
    world.judge("a", auc=0.5)
    assert "FAILED" in refusal(world, candidate)


def test_nothing_is_released_beside_a_running_rollout(world):
    world.crown("old")
    candidate = world.judge("b")
    world.begin("new")
    assert "under way" in refusal(world, candidate)


def test_the_champion_is_not_released_again(world):
    world.crown("old")
    assert "champion already" in refusal(world, world.judge("old"))


def test_what_was_rolled_back_is_not_released_again(world):
    champion = world.crown("old")
    candidate = world.begin("new")
    body = {"release": "of-new", "to": champion, "by": "ada", "why": "alarms"}
    world.ledger.append(PRODUCT, Kind.ROLLED_BACK, body, actor="ada")
    world.judge("new")
    assert "rolled back" in refusal(world, candidate)


def test_what_was_rejected_is_not_released(world):
    candidate = world.judge("a")
    say(world, Kind.REJECTED, candidate, "ada")
    assert "rejected" in refusal(world, candidate)


def test_approvals_count_by_people_and_must_be_enough(world):
    candidate = world.judge("a")
    say(world, Kind.APPROVED, candidate, "ada")
    say(world, Kind.APPROVED, candidate, "ada")
    assert "1 of 2 approvals" in refusal(world, candidate, approvals=2)
    say(world, Kind.APPROVED, candidate, "ben")
    assert decided(world, candidate, approvals=2).release


def test_an_approval_of_an_earlier_judgement_does_not_count_for_a_later_one(world):
    candidate = world.judge("a")
    say(world, Kind.APPROVED, candidate, "ada")
    assert decided(world, candidate, approvals=1).release
    world.judge("a", auc=0.7)
    assert "0 of 1 approvals" in refusal(world, candidate, approvals=1)


def test_an_approval_of_another_candidate_does_not_count(world):
    candidate, other = world.judge("a"), world.judge("b")
    say(world, Kind.APPROVED, other, "ada")
    assert "0 of 1" in refusal(world, candidate, approvals=1)
    assert releasable(world.state, approvals_needed=1).body["candidate"] == other


def test_the_newest_of_several_that_may_be_released_is_chosen(world):
    world.judge("a")
    newest = world.judge("b")
    assert releasable(world.state, approvals_needed=0).body["candidate"] == newest


def test_a_release_names_what_it_was_decided_on(world):
    champion = world.crown("old")
    candidate = world.judge("new")
    body = release_body(world.state, candidate, Canary())
    assert body["candidate"] == candidate
    assert body["champion"] == champion
    assert body["judged"] == world.state.judged[candidate].sequence
    assert body["features"] == "sha256:of-new"
    assert body["rollout"] == {"percent": 5, "step": 0, "phase": "RUNNING"}


def test_a_step_follows_the_strategy(world):
    world.crown("old")
    world.begin("new")
    running = world.state.running
    assert decide_step(running, Canary(), Verdict.PASSED).percent == 25
    assert decide_step(running, Canary(), Verdict.INCONCLUSIVE).percent == 5
    assert decide_step(running, Canary(), Verdict.FAILED).phase is Phase.ROLLED_BACK


def test_a_rollback_of_a_rollout_returns_to_its_champion(world):
    champion = world.crown("old")
    world.begin("new")
    assert rollback_body(world.state, by="ada", why="alarms") == {
        "release": "of-new",
        "to": champion,
        "by": "ada",
        "why": "alarms",
    }


def test_a_rollback_with_no_rollout_returns_to_the_champion_before(world):
    first = world.crown("one")
    world.crown("two")
    assert rollback_body(world.state, by="ada", why="alarms")["to"] == first


@pytest.mark.parametrize("champions", [0, 1])
def test_a_rollback_with_nothing_to_return_to_is_refused(world, champions):
    for number in range(champions):
        world.crown(str(number))
    with pytest.raises(ReleaseRefused, match="no earlier champion"):
        rollback_body(world.state, by="ada", why="alarms")


@pytest.mark.parametrize(("by", "why"), [("", "alarms"), ("ada", ""), (" ", "alarms")])
def test_a_rollback_by_nobody_or_for_no_reason_is_refused(world, by, why):
    world.crown("old")
    world.begin("new")
    with pytest.raises(ReleaseRefused, match="by and why"):
        rollback_body(world.state, by=by, why=why)


def test_rollback_moves_traffic_aliases_and_features_together(world):
    first = world.crown("one")
    second = world.crown("two")
    before = desired_plan(world.state)
    assert (before.weights, before.features) == ({second: 100}, "sha256:of-two")
    world.ledger.append(PRODUCT, Kind.ROLLED_BACK, rollback_body(world.state, by="ada", why="alarms"), actor="ada")
    after = desired_plan(world.state)
    assert (after.weights, after.features) == ({first: 100}, "sha256:of-one")
    assert desired_aliases(world.state) == {"champion": first}

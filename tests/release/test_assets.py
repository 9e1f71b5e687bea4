"""Release, rollout, rollback and approval as Dagster runs them, on a real ledger and a real registry."""

import dagster as dg
import pytest

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.ledger.canonical import digest_of
from mlops_assets.ledger.entry import Kind
from mlops_assets.release.blue_green import BlueGreen
from mlops_assets.release.decide import desired_plan
from mlops_assets.release.reconcile import is_served
from mlops_assets.release.target import FakeServing

PRODUCT = "films"


def facts_of(result, name):
    found = [
        event.materialization
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == dg.AssetKey([PRODUCT, name])
    ]
    return {key: value.value for key, value in found[-1].metadata.items()}, found[-1].tags


def percents(world):
    moves = [entry for entry in world.ledger.entries(PRODUCT) if "rollout" in entry.body]
    return [entry.body["rollout"]["percent"] for entry in moves]


class Overtaken:
    """A ledger on which ``rival`` decides just before each append of the first ``times``."""

    def __init__(self, ledger, rival, times):
        self.ledger, self.rival, self.left = ledger, rival, times

    def entries(self, *arguments, **named):
        return self.ledger.entries(*arguments, **named)

    def append(self, *arguments, **named):
        if self.left:
            self.left -= 1
            self.rival()
        return self.ledger.append(*arguments, **named)


def test_the_first_release_takes_all_traffic_and_the_alias(world):
    candidate = world.judge("one")
    result = world.release(candidate)
    assert result.success
    assert world.state.champion.digest == candidate
    assert world.serving.observe(PRODUCT).plan.weights == {candidate: 100}
    assert world.registry.aliases(PRODUCT) == {"champion": candidate}


def test_a_release_records_its_evidence_and_the_deployment_shows_the_traffic(world):
    champion, candidate = world.crown("one"), world.judge("two")
    result = world.release(candidate)
    release, _ = facts_of(result, "release")
    assert release["candidate"] == candidate
    assert release["digest"] == world.ledger.entries(PRODUCT)[-1].digest
    assert release["inputs"]["judgement"] == world.state.judged[candidate].sequence
    deployment, tags = facts_of(result, "deployment")
    assert deployment["digest"] == digest_of(desired_plan(world.state).to_json())
    assert tags["dagster/data_version"] == deployment["digest"]
    assert "5 %" in deployment["weights"]
    assert "95 %" in deployment["weights"]
    assert deployment["phase"] == "RUNNING"
    assert deployment["champion"] == champion
    assert deployment["traffic_over_time"].startswith("![")


def test_without_a_name_the_candidate_judged_last_is_released(world):
    world.judge("one")
    newest = world.judge("two")
    assert world.run("release").success
    assert world.state.champion.digest == newest


def test_a_stale_judgement_opens_nothing(world, failure_of):
    stale = world.judge("stale")
    world.crown("one")
    told = failure_of(world.release(stale))
    assert "ReleaseRefused" in told
    assert stale in told
    assert "another champion" in told
    assert world.kinds().count(Kind.RELEASED) == 1


def test_a_candidate_nobody_judged_is_refused_by_name(world, failure_of):
    world.judge("one")
    told = failure_of(world.release("sha256:other"))
    assert "ReleaseRefused" in told
    assert "sha256:other" in told


def test_the_gates_are_asked_again(world, failure_of):
    """A judgement that says PASSED over an evaluation that does not pass: the gates were loosened, or somebody lied."""
    digest = world.judge("one", auc=0.5)
    body = dict(world.state.judged[digest].body) | {"verdict": "PASSED"}
    world.ledger.append(PRODUCT, Kind.JUDGED, body, actor="somebody")
    told = failure_of(world.release(digest))
    assert "asked again, the gates say FAILED" in told
    assert Kind.RELEASED not in world.kinds()


def test_a_governed_candidate_waits_for_people(world, failure_of):
    world.approvals_needed = 1
    candidate = world.judge("one")
    assert "0 of 1 approvals" in failure_of(world.release(candidate))
    said = {"candidate": candidate, "by": "ada", "why": "read the card"}
    assert world.run("approve", said, op="decide").success
    assert world.release(candidate).success
    assert world.state.champion.digest == candidate


def test_a_rejected_candidate_stays_out(world, failure_of):
    candidate = world.judge("one")
    said = {"candidate": candidate, "by": "ada", "why": "unfair to newcomers", "decision": "reject"}
    assert world.run("approve", said, op="decide").success
    assert "rejected" in failure_of(world.release(candidate))


def test_nobody_can_approve_what_was_never_judged(world, failure_of):
    told = failure_of(world.run("approve", {"candidate": "sha256:x", "by": "a", "why": "b"}, op="decide"))
    assert "never judged" in told
    assert world.kinds() == []


def test_a_release_overtaken_by_another_is_refused(world, failure_of):
    world.crown("one")
    first, second = world.judge("two"), world.judge("three")
    real = world.ledger
    other = type(world)(world.root)
    world.ledger = Overtaken(real, lambda: other.release(second), times=1)
    told = failure_of(world.release(first))
    assert "ReleaseRefused" in told
    assert "under way" in told
    assert [entry.body["candidate"] for entry in real.entries(PRODUCT) if entry.kind is Kind.RELEASED][1:] == [second]


def test_a_release_overtaken_by_something_harmless_decides_anew_and_succeeds(world):
    candidate = world.judge("one")
    real = world.ledger
    world.ledger = Overtaken(real, lambda: real.append(PRODUCT, Kind.DRIFT_FOUND, {}, actor="drift"), times=1)
    assert world.release(candidate).success
    assert world.kinds()[-2:] == [Kind.DRIFT_FOUND, Kind.RELEASED]


def test_a_release_that_is_always_overtaken_gives_up(world, failure_of):
    candidate = world.judge("one")
    real = world.ledger
    world.ledger = Overtaken(real, lambda: real.append(PRODUCT, Kind.DRIFT_FOUND, {}, actor="drift"), times=9)
    assert "ReleaseRefused" in failure_of(world.release(candidate))
    assert Kind.RELEASED not in world.kinds()


def test_a_good_candidate_climbs_to_champion_step_by_step(world):
    champion = world.crown("one")
    candidate = world.judge("two")
    assert world.release(candidate).success
    world.predictions.serve(60, champion=champion, candidate=candidate, gain=0.01)
    for _ in range(3):
        assert world.run("rollout").success
        world.predictions.serve(5, champion=champion, candidate=candidate, gain=0.01)
    assert percents(world) == [100, 5, 25, 50, 100]
    assert world.state.champion.digest == candidate
    assert world.registry.aliases(PRODUCT) == {"champion": candidate}
    assert world.serving.observe(PRODUCT).plan.weights == {candidate: 100}


def test_a_step_without_new_evidence_waits_and_records_nothing(world):
    champion, candidate = world.crown("one"), world.begin("two")
    world.predictions.serve(60, champion=champion, candidate=candidate, gain=0.01)
    assert world.run("rollout").success
    result = world.run("rollout")
    facts, _ = facts_of(result, "deployment")
    assert facts["live_verdict"] == "INCONCLUSIVE"
    assert "0 of 5" in facts["live_reason"]
    assert percents(world) == [100, 5, 25]


def test_a_sneaky_candidate_is_stopped_at_its_first_step(world):
    champion, candidate = world.crown("one"), world.begin("two")
    world.predictions.serve(40, champion=champion, candidate=candidate, gain=-0.05)
    result = world.run("rollout")
    facts, _ = facts_of(result, "deployment")
    moved = world.ledger.entries(PRODUCT)[-1]
    assert moved.kind is Kind.ROLLOUT_MOVED
    assert moved.body["verdict"] == facts["live_verdict"] == "FAILED"
    assert moved.body["evidence"]["exposed_requests"] == 40
    assert moved.body["rollout"] == {"percent": 0, "step": 0, "phase": "ROLLED_BACK"}
    assert world.serving.observe(PRODUCT).plan.weights == {champion: 100}
    assert world.registry.aliases(PRODUCT) == {"champion": champion}


def test_blue_green_waits_in_the_mirror_and_then_takes_over_at_once(world):
    world.strategy = BlueGreen()
    champion, candidate = world.crown("one"), world.judge("two")
    assert world.release(candidate).success
    assert world.serving.observe(PRODUCT).plan.weights == {champion: 100}
    assert candidate in world.serving.observe(PRODUCT).plan.mirrors
    world.predictions.serve(60, champion=champion, candidate=candidate, gain=0.01)
    assert world.run("rollout").success
    assert world.serving.observe(PRODUCT).plan.weights == {candidate: 100}


def test_a_step_with_no_rollout_only_reconciles(world):
    world.crown("one")
    world.serving = FakeServing()
    assert world.run("rollout").success
    assert percents(world) == [100]
    assert is_served(world.state, product=PRODUCT, target=world.serving)


def test_a_step_overtaken_by_a_rollback_moves_nothing(world):
    champion, candidate = world.crown("one"), world.begin("two")
    world.predictions.serve(60, champion=champion, candidate=candidate, gain=0.01)
    real = world.ledger
    body = {"release": "of-two", "to": champion, "by": "ada", "why": "alarms"}
    world.ledger = Overtaken(real, lambda: real.append(PRODUCT, Kind.ROLLED_BACK, body, actor="ada"), times=1)
    assert world.run("rollout").success
    assert world.kinds()[-1] is Kind.ROLLED_BACK
    assert world.serving.observe(PRODUCT).plan.weights == {champion: 100}


ROLLBACK = {"action": "rollback", "by": "ada", "why": "alarms"}


def test_a_rollback_returns_traffic_alias_and_features(world):
    first, second = world.crown("one"), world.crown("two")
    assert world.run("rollback", ROLLBACK, op="deployment").success
    entry = world.ledger.entries(PRODUCT)[-1]
    assert (entry.kind, entry.actor, entry.body["to"]) == (Kind.ROLLED_BACK, "ada", first)
    plan = world.serving.observe(PRODUCT).plan
    assert (plan.weights, plan.features) == ({first: 100}, "sha256:of-one")
    assert world.registry.aliases(PRODUCT) == {"champion": first}
    assert second in world.state.rolled_back


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (None, "set by and why"),
        ({"action": "rollback"}, "set by and why"),
        ({"by": "ada", "why": "alarms"}, "set action: rollback"),
    ],
    ids=["nothing", "nobody", "no_action"],
)
def test_a_rollback_that_does_not_say_all_is_refused_and_never_taken_for_a_reconcile(world, failure_of, config, told):
    world.crown("one")
    world.crown("two")
    assert told in failure_of(world.run("rollback", config, op="deployment"))
    assert Kind.ROLLED_BACK not in world.kinds()


def test_a_dead_server_fails_the_run_and_keeps_the_decision(world, failure_of):
    champion, candidate = world.crown("one"), world.begin("two")
    world.predictions.serve(60, champion=champion, candidate=candidate, gain=0.01)
    alive, world.serving = world.serving, FakeServing(fail_at=1)
    assert ServiceUnavailable.__name__ in failure_of(world.run("rollout"))
    assert percents(world)[-1] == 25
    world.serving = alive
    assert world.run("rollout").success
    assert percents(world)[-1] == 25
    assert alive.observe(PRODUCT).plan.weights == {champion: 75, candidate: 25}

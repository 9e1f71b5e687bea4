"""Ticks: what they launch, when they wait, and that a replayed tick launches nothing twice."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.ledger.entry import Kind
from mlops_assets.release.sensors import LONGEST_RUN, OCCASION_TAG, build_approval_sensor, build_rollout_sensor
from mlops_assets.release.target import FakeServing

PRODUCT = "films"


def tick(world, which, analysis, *, later=timedelta(0), approvals=0):
    """Return the run request of a tick, or the text of its reason to skip."""

    def clock():
        return datetime.now(UTC) + later

    if which == "approval":
        sensor, names = build_approval_sensor(PRODUCT, approvals_needed=approvals, clock=clock), ("ledger",)
    else:
        sensor = build_rollout_sensor(PRODUCT, analysis, clock=clock)
        names = ("ledger", "predictions", "serving")
    resources = {name: world.resources()[name] for name in names}
    with dg.build_sensor_context(instance=world.instance, resources=resources) as context:
        answer = sensor(context)
    return answer.skip_message if isinstance(answer, dg.SkipReason) else answer


@pytest.fixture
def rolling(world):
    champion, candidate = world.crown("one"), world.begin("two")
    world.predictions.serve(60, champion=champion, candidate=candidate, gain=0.01)
    return world


def launch(world, job, request, *, op="release"):
    """Run what a tick asked for, as the daemon would."""
    config = request.run_config["ops"][f"{PRODUCT}__{op}"]["config"] if request.run_config else None
    return world.run(job, config, op=op, tags=dict(request.tags))


class Dead:
    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        raise ServiceUnavailable(f"nobody answers {name}")


def test_an_automatic_candidate_that_passed_is_released(world, analysis):
    candidate = world.judge("one")
    request = tick(world, "approval", analysis)
    assert request.run_key == f"release:{candidate}:{world.state.judged[candidate].sequence}"
    assert request.run_config["ops"][f"{PRODUCT}__release"]["config"] == {"candidate": candidate}
    assert launch(world, "release", request).success
    assert "no candidate" in tick(world, "approval", analysis)


def test_a_replayed_tick_asks_for_the_same_run(rolling, analysis):
    rolling_again = tick(rolling, "rollout", analysis)
    assert tick(rolling, "rollout", analysis).run_key == rolling_again.run_key
    running = rolling.state.running
    assert rolling_again.run_key == f"{running.release}:0:PASSED"


def test_a_governed_candidate_waits_until_enough_people_approved(world, analysis):
    candidate = world.judge("one")
    assert "no candidate" in tick(world, "approval", analysis, approvals=1)
    world.ledger.append(PRODUCT, Kind.APPROVED, {"candidate": candidate, "by": "ada", "why": "fine"}, actor="ada")
    assert candidate in tick(world, "approval", analysis, approvals=1).run_key


@pytest.mark.parametrize("auc", [0.5])
def test_a_candidate_that_failed_launches_nothing(world, analysis, auc):
    world.judge("one", auc=auc)
    assert "no candidate" in tick(world, "approval", analysis)


def test_a_rollout_without_a_verdict_says_its_numbers(world, analysis):
    champion, candidate = world.crown("one"), world.begin("two")
    world.predictions.serve(7, champion=champion, candidate=candidate, gain=0.01)
    assert "7 entities" in tick(world, "rollout", analysis)


def test_a_rollout_with_a_verdict_takes_one_step_at_a_time(rolling, analysis):
    assert launch(rolling, "rollout", tick(rolling, "rollout", analysis), op="deployment").success
    assert rolling.state.running.percent == 25
    assert "0 of 5" in tick(rolling, "rollout", analysis)


def test_a_step_whose_run_failed_is_tried_again_after_a_growing_pause(rolling, analysis):
    """A run that died before it recorded anything must not leave the rollout stuck."""
    keys = []
    ledger, rolling.predictions_alive = rolling.ledger, rolling.predictions
    for number in range(3):
        request = tick(rolling, "rollout", analysis, later=timedelta(hours=number))
        keys.append(request.run_key)
        rolling.predictions = Dead()
        assert not launch(rolling, "rollout", request, op="deployment").success
        rolling.predictions = rolling.predictions_alive
        assert "in a row" in tick(rolling, "rollout", analysis)
    assert len(set(keys)) == 3
    assert len({key.partition("#")[0] for key in keys}) == 1
    request = tick(rolling, "rollout", analysis, later=timedelta(hours=5))
    assert launch(rolling, "rollout", request, op="deployment").success
    assert rolling.state.running.percent == 25
    assert ledger.verify() == len(rolling.kinds())


def test_a_run_under_way_is_waited_for_but_not_for_ever(rolling, analysis):
    """A run that was killed stays STARTED for good."""
    request = tick(rolling, "rollout", analysis)
    rolling.instance.create_run_for_job(
        rolling.definitions().resolve_job_def(f"{PRODUCT}_rollout"),
        status=dg.DagsterRunStatus.STARTED,
        tags=dict(request.tags),
    )
    assert "waiting for run" in tick(rolling, "rollout", analysis)
    again = tick(rolling, "rollout", analysis, later=2 * LONGEST_RUN)
    assert again.run_key == f"{request.run_key}#1"
    assert again.tags[OCCASION_TAG] == request.run_key


def test_when_all_is_well_nothing_is_launched(world, analysis):
    world.crown("one")
    assert "as it should be" in tick(world, "rollout", analysis)


def test_before_the_first_release_nothing_is_launched(world, analysis):
    assert "as it should be" in tick(world, "rollout", analysis)


@pytest.mark.parametrize("rolling_out", [False, True])
def test_a_server_that_forgot_its_plan_is_mended(world, analysis, rolling_out):
    world.crown("one")
    if rolling_out:
        world.begin("two")
    world.serving = FakeServing()
    request = tick(world, "rollout", analysis)
    assert request.run_key.startswith("mend:")
    assert launch(world, "rollout", request, op="deployment").success
    assert not isinstance(tick(world, "rollout", analysis), dg.RunRequest)


def test_a_server_that_forgets_again_is_mended_again(world, analysis):
    world.crown("one")
    keys = set()
    for _ in range(3):
        world.serving = FakeServing()
        request = tick(world, "rollout", analysis)
        keys.add(request.run_key)
        assert launch(world, "rollout", request, op="deployment").success
    assert len(keys) == 3


def test_a_server_that_cannot_be_mended_does_not_spawn_endless_runs(world, analysis):
    class Deaf(FakeServing):
        def apply(self, product, plan):
            raise ServiceUnavailable("cannot load the model")

    world.crown("one")
    world.serving = Deaf()
    job = world.definitions().resolve_job_def(f"{PRODUCT}_rollout")
    launched = []
    for minute in range(0, 600, 5):  # ten hours of ticks
        request = tick(world, "rollout", analysis, later=timedelta(minutes=minute))
        if isinstance(request, dg.RunRequest):
            launched.append(request.run_key)
            fail_at(world, job, request, timedelta(minutes=minute))
    assert len(launched) == len(set(launched))
    assert 10 < len(launched) < 25  # at last one an hour: it does not give up, and does not flood


def fail_at(world, job, request, later):
    """Record that the run which ``request`` asked for ended in failure so much later than now."""
    run = world.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=dict(request.tags))
    ended = datetime.now(UTC) + later
    event = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.RUN_FAILURE.value, job_name=job.name, message="the server is deaf"
    )
    world.instance.report_dagster_event(event, run_id=run.run_id, timestamp=ended.timestamp())


@pytest.mark.parametrize("dead", ["ledger", "predictions", "serving"])
def test_what_does_not_answer_is_a_reason_to_skip(rolling, analysis, dead):
    if dead == "serving":
        rolling.predictions.answered.clear()
    setattr(rolling, dead, Dead())
    assert "nobody answers" in tick(rolling, "rollout", analysis)
    if dead == "ledger":
        assert "nobody answers" in tick(rolling, "approval", analysis)

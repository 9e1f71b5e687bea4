"""A version that crashes, hangs or gives nonsense harms nobody: the champion answers, and its failures are counted."""

import time
from datetime import timedelta

import odd_rows
import pytest
import shop

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.release.plan import Rule, TrafficPlan
from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.serving.settings import Settings

GOOD, CRASHES, HANGS, RAISES, IS_NO_NUMBER = 9.0, 1.0, 2.0, 3.0, 4.0
AT = shop.START + timedelta(days=20)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    good = shop.register_model(root, 1)
    return root, good, shop.register(root, odd_rows.Obedient(0.25), "odd_rows:load")


@pytest.fixture
def here(tmp_path, models):
    root, *_ = models
    here = shop.Here(tmp_path, models=root, settings=Settings(version_deadline=timedelta(seconds=1)))
    yield here
    here.stop()


def plan(good, candidate, **changes):
    rule = Rule(input="person", values=(7,), version=candidate)
    return TrafficPlan(**({"weights": {good: 100}, "champion": good, "rules": (rule,)} | changes))


def ask(here, price, person=7):
    [answer] = here.answer([{"person": person, "at": AT, "price": price}])
    return answer.scored


def until_it_answers(here, candidate):
    deadline = time.monotonic() + 60
    while (answer := ask(here, GOOD)).version != candidate:
        assert time.monotonic() < deadline, "the version was not started again"
        here.rest()
    return answer


def test_a_version_that_is_not_trusted_answers_from_a_process_of_its_own(here, models):
    _, good, candidate = models
    here.apply(plan(good, candidate))
    answer = ask(here, GOOD)
    assert (answer.version, answer.score, answer.arm, answer.failed_version) == (candidate, 0.25, "rule", None)
    assert here.runtime.live.versions[candidate].apart.process_id is not None
    assert here.runtime.live.versions[good].apart is None
    here.apply(TrafficPlan(weights={candidate: 100}, champion=candidate))
    assert here.runtime.live.versions[candidate].apart is None
    assert ask(here, GOOD).score == 0.25


@pytest.mark.parametrize("price", [CRASHES, HANGS, RAISES, IS_NO_NUMBER])
def test_where_it_fails_the_champion_answers_and_the_failure_is_on_record(here, models, price, tmp_path):
    _, good, candidate = models
    failed = []
    here.runtime.answering.on_failure = failed.append
    here.apply(plan(good, candidate))
    before = ask(here, price, person=8)
    answer = ask(here, price)
    assert (answer.version, answer.failed_version, answer.arm) == (good, candidate, "rule")
    assert answer.score == before.score
    assert failed == [candidate]
    assert ask(here, GOOD, person=8).failed_version is None  # others go on at once
    assert until_it_answers(here, candidate).score == 0.25
    logged = FilePredictionLog(tmp_path / "log").predictions("shop")
    assert logged["failed_version"].to_list()[:3] == [None, candidate, None]


def test_a_batch_with_one_bad_row_loses_only_that_row_to_the_champion(here, models):
    _, good, candidate = models
    here.apply(plan(good, candidate))
    rows = [{"person": 7, "at": AT, "price": price} for price in (GOOD, RAISES, GOOD)]
    scored = [answer.scored for answer in here.answer(rows)]
    assert [one.version for one in scored] == [candidate, good, candidate]


def test_what_it_was_asked_as_a_mirror_is_logged_and_so_is_its_crash(here, models, tmp_path):
    _, good, candidate = models
    here.apply(plan(good, candidate, rules=(), mirrors=(candidate,)))
    ids = [here.answer([{"person": 1, "at": AT, "price": price}])[0].id for price in (GOOD, CRASHES)]
    deadline = time.monotonic() + 30
    while (mirrors := FilePredictionLog(tmp_path / "log").mirrors("shop")).height < 2:
        assert time.monotonic() < deadline
        here.rest()
    assert mirrors.rows() == [(ids[0], candidate, 0.25), (ids[1], candidate, None)]


def test_a_version_that_cannot_start_is_not_switched_to(here, models):
    root, good, candidate = models
    here.apply(plan(good, candidate))
    broken = shop.register(root, odd_rows.Obedient(float("nan")), "odd_rows:load")
    with pytest.raises(ServiceUnavailable, match="answers nan to an empty row"):
        here.apply(plan(good, broken))
    assert ask(here, GOOD).version == candidate

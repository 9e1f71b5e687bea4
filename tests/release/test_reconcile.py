"""Aliases and traffic become what the state says, whatever fails on the way."""

import pytest

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.ledger.entry import Kind
from mlops_assets.release.decide import desired_aliases, desired_plan, rollback_body
from mlops_assets.release.reconcile import is_served, reconcile
from mlops_assets.release.target import FakeServing

PRODUCT = "films"
WRITES = ("apply", "set_aliases")


class Killed(BaseException):
    """The process is no more."""


class Dying:
    """Passes calls on to ``inner`` until the one numbered ``at``, which ends the process before or after its effect."""

    def __init__(self, inner, counter, *, at, after, error=Killed):
        self.inner, self.counter, self.at, self.after, self.error = inner, counter, at, after, error

    def __getattr__(self, name):
        def call(*arguments):
            self.counter[0] += 1
            if self.counter[0] == self.at and not self.after:
                raise self.error(name)
            found = getattr(self.inner, name)(*arguments)
            if self.counter[0] == self.at:
                raise self.error(name)
            return found

        return call


def is_as_the_state_says(world):
    state = world.state
    aliases = dict(world.registry.aliases(PRODUCT))
    return is_served(state, product=PRODUCT, target=world.serving) and aliases == desired_aliases(state)


def make_difference(world, name):
    """Leave the ledger ahead of what is served, in one of the ways it can be."""
    world.crown("one")
    if name == "first release":
        world.serving = FakeServing()
        world.registry.set_aliases(PRODUCT, {})
    if name == "rollout":
        world.begin("two")
        world.serving = FakeServing()
    if name == "rollback":
        world.crown("two")
        world.ledger.append(PRODUCT, Kind.ROLLED_BACK, rollback_body(world.state, by="ada", why="x"), actor="ada")


@pytest.mark.parametrize("after", [False, True], ids=["before_its_effect", "after_its_effect"])
@pytest.mark.parametrize("error", [Killed, ServiceUnavailable])
@pytest.mark.parametrize("difference", ["first release", "rollout", "rollback"])
def test_whichever_call_fails_one_clean_reconcile_heals(make_world, difference, error, after):
    at = 0
    while True:
        at += 1
        world = make_world()
        make_difference(world, difference)
        counter = [0]
        target = Dying(world.serving, counter, at=at, after=after, error=error)
        registry = Dying(world.registry, counter, at=at, after=after, error=error)
        try:
            reconcile(world.state, product=PRODUCT, registry=registry, target=target)
            break  # the call does not exist any more: all were tried
        except error:
            world.reconcile()
            assert is_as_the_state_says(world)
            assert world.reconcile() == ()
    assert at > 4


def test_reconcile_is_idempotent_and_says_what_it_changed(world):
    world.crown("one")
    candidate = world.begin("two")
    world.serving = FakeServing()
    changes = world.reconcile()
    assert len(changes) == 1
    assert changes[0].startswith("traffic: ")
    assert f"{candidate.removeprefix('sha256:')[:12]} 5 %" in changes[0]
    assert world.reconcile() == ()
    assert len(world.serving.history) == 1


def test_an_empty_state_of_an_unknown_product_needs_nothing(world):
    assert world.reconcile() == ()
    assert world.serving.history == []


def test_a_rollout_serves_both_mirrors_both_and_names_the_challenger(world):
    champion, candidate = world.crown("one"), world.begin("two")
    plan = world.serving.observe(PRODUCT).plan
    assert plan.weights == {champion: 95, candidate: 5}
    assert set(plan.mirrors) == {champion, candidate}
    assert plan.features == "sha256:of-two"
    assert world.registry.aliases(PRODUCT) == {"champion": champion, "challenger": candidate}


def test_a_dead_server_does_not_hold_up_the_aliases(world):
    world.crown("one")
    second = world.crown("two")
    world.ledger.append(PRODUCT, Kind.ROLLED_BACK, rollback_body(world.state, by="ada", why="x"), actor="ada")
    dead = FakeServing(fail_at=1)
    with pytest.raises(ServiceUnavailable):
        reconcile(world.state, product=PRODUCT, registry=world.registry, target=dead)
    assert second not in world.registry.aliases(PRODUCT).values()


def test_a_dead_registry_does_not_hold_up_the_traffic(world):
    world.crown("one")
    world.serving = FakeServing()
    dead = Dying(world.registry, [0], at=1, after=False, error=ServiceUnavailable)
    with pytest.raises(ServiceUnavailable):
        reconcile(world.state, product=PRODUCT, registry=dead, target=world.serving)
    assert is_served(world.state, product=PRODUCT, target=world.serving)


def test_a_server_that_takes_a_plan_and_does_not_follow_it_is_reported(world):
    class Deaf(FakeServing):
        def apply(self, product, plan):
            self.calls += 1

    world.crown("one")
    with pytest.raises(ServiceUnavailable, match="serves another"):
        reconcile(world.state, product=PRODUCT, registry=world.registry, target=Deaf())


def test_a_version_that_is_planned_but_not_ready_is_applied_again(world):
    class Loading(FakeServing):
        ready = False

        def observe(self, product):
            found = super().observe(product)
            return found if self.ready else type(found)(ready=frozenset(), plan=found.plan)

        def apply(self, product, plan):
            super().apply(product, plan)
            self.ready = True

    world.crown("one")
    target = Loading()
    target.applied[PRODUCT] = desired_plan(world.state)
    changes = reconcile(world.state, product=PRODUCT, registry=world.registry, target=target).changes
    assert any("traffic" in change for change in changes)

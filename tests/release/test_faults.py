"""Processes that die by kill -9 in the middle of a rollout step, and releases that race, each for real."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_assets.ledger.entry import Kind
from mlops_assets.release.decide import desired_aliases
from mlops_assets.release.reconcile import is_served

PRODUCT = "films"
CALLS = 9


def run(*arguments):
    script = Path(__file__).with_name("killed_steps.py")
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_step_that_was_killed_anywhere_heals_with_one_reconcile(make_world):
    worlds = [make_world() for _ in range(CALLS)]
    for world in worlds:
        champion, candidate = world.crown("one"), world.begin("two")
        world.predictions.serve(60, champion=champion, candidate=candidate, gain=0.01)
        world.save_predictions()
    ended = run("kill", *(world.root for world in worlds))
    assert ended.count(-signal.SIGKILL) >= 8
    percents = []
    for world, code in zip(worlds, ended, strict=True):
        assert code in (-signal.SIGKILL, 0)
        assert world.ledger.verify() == len(world.kinds())
        world.reconcile()
        percents.append(world.state.running.percent)
        assert is_served(world.state, product=PRODUCT, target=world.serving)
        assert dict(world.registry.aliases(PRODUCT)) == desired_aliases(world.state)
        assert world.kinds().count(Kind.ROLLOUT_MOVED) == (percents[-1] == 25)
    assert percents == sorted(percents)
    assert set(percents) == {5, 25}  # killed before the entry, and after it


@pytest.mark.parametrize("same", [False, True], ids=["of_two_candidates", "of_one_candidate"])
def test_of_two_releases_at_once_exactly_one_is_recorded(world, same):
    world.crown("one")
    candidates = [world.judge("two"), world.judge("two" if same else "three")]
    ended = run("race", world.root, *candidates)
    assert sorted(ended) == [0, 1]
    assert world.kinds().count(Kind.RELEASED) == 2  # the champion's, and one more
    assert world.state.running.candidate.digest == candidates[ended.index(0)]
    assert is_served(world.state, product=PRODUCT, target=world.serving)

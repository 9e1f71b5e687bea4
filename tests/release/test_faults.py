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
CALLS = 8
"""One more than a step makes: the last process lives."""


@pytest.fixture(scope="module")
def ended(make_world):
    """Return the worlds in which processes were killed or raced, with the candidates and how each process ended."""
    killed = [make_world() for _ in range(CALLS)]
    for world in killed:
        champion, candidate = world.crown("one"), world.begin("two")
        world.predictions.serve(60, champion=champion, candidate=candidate, gain=0.01)
        world.save_predictions()
    raced = [make_world() for _ in range(2)]
    for world in raced:
        world.crown("one")
    entrants = [[raced[0].judge("two"), raced[0].judge("three")], [raced[1].judge("two")] * 2]
    asked = {
        "kill": [str(world.root) for world in killed],
        "races": [[str(world.root), *candidates] for world, candidates in zip(raced, entrants, strict=True)],
    }
    script = Path(__file__).with_name("killed_steps.py")
    done = subprocess.run(
        [sys.executable, str(script), json.dumps(asked)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    codes = json.loads(done.stdout.splitlines()[-1])
    return {"kill": (killed, codes["kill"]), "races": list(zip(raced, entrants, codes["races"], strict=True))}


def test_a_step_that_was_killed_anywhere_heals_with_one_reconcile(ended):
    worlds, codes = ended["kill"]
    assert codes == [-signal.SIGKILL] * (CALLS - 1) + [0]
    percents = []
    for world in worlds:
        assert world.ledger.verify() == len(world.kinds())
        world.reconcile()
        percents.append(world.state.running.percent)
        assert is_served(world.state, product=PRODUCT, target=world.serving)
        assert dict(world.registry.aliases(PRODUCT)) == desired_aliases(world.state)
        assert world.kinds().count(Kind.ROLLOUT_MOVED) == (percents[-1] == 25)
    assert percents == sorted(percents)
    assert set(percents) == {5, 25}  # killed before the entry, and after it


@pytest.mark.parametrize("race", [0, 1], ids=["of_two_candidates", "of_one_candidate"])
def test_of_two_releases_at_once_exactly_one_is_recorded(ended, race):
    world, candidates, codes = ended["races"][race]
    assert sorted(codes) == [0, 1]
    assert world.kinds().count(Kind.RELEASED) == 2  # the champion's, and one more
    assert world.state.running.candidate.digest == candidates[codes.index(0)]
    assert is_served(world.state, product=PRODUCT, target=world.serving)

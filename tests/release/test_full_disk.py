"""A rollout step on a disk that is full: nothing is decided by half, and the next step goes on."""

import itertools
import shutil
import subprocess

import pytest

from mlops_assets.errors import LedgerError
from mlops_assets.ledger.entry import Kind

PRODUCT = "films"


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_step_on_a_full_disk_moves_nothing_and_is_taken_once_there_is_space(world, small_disk, failure_of):
    world = type(world)(small_disk)
    champion, candidate = world.crown("one"), world.begin("two")
    world.predictions.serve(60, champion=champion, candidate=candidate, gain=0.01)
    before = world.serving.observe(PRODUCT).plan
    assert before.weights == {champion: 95, candidate: 5}
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as growing, pytest.raises(OSError, match="No space left"):
        growing.writelines(itertools.repeat(bytes(4096)))
    told = failure_of(world.run("rollout"))
    assert LedgerError.__name__ in told
    assert "full" in told
    assert Kind.ROLLOUT_MOVED not in world.kinds()
    assert world.serving.observe(PRODUCT).plan == before
    assert dict(world.registry.aliases(PRODUCT)) == {"champion": champion, "challenger": candidate}
    filler.unlink()
    assert world.run("rollout").success
    assert world.ledger.verify() == len(world.kinds())
    assert world.serving.observe(PRODUCT).plan.weights == {champion: 75, candidate: 25}

"""The board: all workers switch at once, or none does."""

import subprocess
import sys

import pytest

from mlops_assets.errors import MlopsError
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.board import PlanBoard

FIRST, SECOND = (TrafficPlan(weights={digest: 100}) for digest in ("a", "b"))


@pytest.fixture
def boards(tmp_path):
    boards = [PlanBoard(tmp_path) for _ in range(3)]
    for board in boards:
        board.join()
    return boards


def test_nobody_switches_before_all_are_ready_and_then_all_do(boards):
    number = boards[0].propose(FIRST)
    assert [board.read_proposed().plan for board in boards] == [FIRST] * 3
    for board in boards:
        assert not boards[0].switch(number)
        assert {board.applied for board in boards} == {0}
        board.say(number)
    assert boards[1].switch(number)
    assert {board.applied for board in boards} == {number}
    assert boards[2].read_applied().plan == FIRST


def test_one_that_cannot_stops_the_switch_with_its_reason(boards):
    applied = boards[0].propose(FIRST)
    for board in boards:
        board.say(applied)
    assert boards[0].switch(applied)
    number = boards[0].propose(SECOND)
    boards[0].say(number)
    boards[1].say(number, trouble="no such model")
    with pytest.raises(MlopsError, match="no such model"):
        boards[0].switch(number)
    assert {board.applied for board in boards} == {applied}
    assert boards[0].read_applied().plan == FIRST


def test_of_two_proposals_the_later_one_counts(boards):
    earlier, later = boards[0].propose(FIRST), boards[1].propose(SECOND)
    for board in boards:
        board.say(later)
    with pytest.raises(MlopsError, match="another plan was proposed meanwhile"):
        boards[0].switch(earlier)
    assert boards[1].switch(later)
    assert boards[0].read_applied().plan == SECOND


def test_one_that_left_or_died_is_not_waited_for(boards, tmp_path):
    code = "import sys; from pathlib import Path; from mlops_assets.serving.board import PlanBoard\n"
    code += "board = PlanBoard(Path(sys.argv[1])); board.join(); print('joined', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "joined\n"
    boards[2].leave()
    number = boards[0].propose(FIRST)
    for board in boards[:2]:
        board.say(number)
    assert not boards[0].switch(number)
    child.kill()
    child.wait()
    assert boards[0].switch(number)
    assert len(list((tmp_path / "workers").iterdir())) == 2


def test_one_that_begins_is_waited_for_from_then_on_and_reads_what_was_applied(boards, tmp_path):
    number = boards[0].propose(FIRST)
    for board in boards:
        board.say(number)
    assert boards[0].switch(number)
    late = PlanBoard(tmp_path)
    late.join()
    assert (late.applied, late.read_applied().plan) == (number, FIRST)
    following = boards[0].propose(SECOND)
    for board in boards:
        board.say(following)
    assert not boards[0].switch(following)
    late.say(following)
    assert boards[0].switch(following)


def test_the_files_outlive_the_shared_numbers(boards, tmp_path):
    number = boards[0].propose(FIRST)
    for board in boards:
        board.say(number)
    assert boards[0].switch(number)
    (tmp_path / "numbers").unlink()  # as after a loss of power
    again = PlanBoard(tmp_path)
    again.join()
    assert again.applied == number
    assert again.propose(SECOND) == number + 1

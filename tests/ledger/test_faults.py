"""Processes that write at once, die in the middle, or find the disk full."""

import inspect
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from mlops_assets.errors import LedgerCorrupt, ServiceUnavailable
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger

LIBRARY = Path(inspect.getfile(SqlLedger)).parents[2]
WRITER = Path(__file__).with_name("writer.py")
DEADLINE = 60


def start(*arguments, **options) -> subprocess.Popen:
    command = [sys.executable, str(WRITER), *map(str, arguments)]
    pipe = subprocess.PIPE
    surroundings = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=surroundings, **options)


def go(*writers: subprocess.Popen) -> None:
    """Let all start together, once each of them is ready."""
    for writer in writers:
        assert writer.stdout.readline() == "ready\n", writer.stderr.read()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()


def finish(writer: subprocess.Popen) -> list[str]:
    told, trouble = writer.communicate(timeout=DEADLINE)
    assert writer.returncode == 0, trouble
    return told.split()


def test_processes_that_append_at_once_make_one_chain_without_gaps(shared_url):
    writers = [start(shared_url, 20, product) for product in ("a", "b", "a", "b")]
    go(*writers)
    given = sorted(int(sequence) for writer in writers for sequence in finish(writer))
    assert given == list(range(1, 81))
    assert SqlLedger(shared_url).verify() == 80
    assert len(SqlLedger(shared_url).entries("a")) == 40


def test_of_deciders_on_the_same_state_exactly_one_wins(shared_url):
    products = [f"p{n}" for n in range(15)]
    writers = [start(shared_url, "race", ",".join(products)) for _ in range(3)]
    go(*writers)
    won = [product for writer in writers for product in finish(writer)]
    assert sorted(won) == sorted(products)
    assert SqlLedger(shared_url).verify() == len(products)


def test_both_sides_of_a_fork_append(shared_url):
    finish(start(shared_url, "fork", 20))
    ledger = SqlLedger(shared_url)
    assert ledger.verify() == 41
    assert sorted(entry.actor for entry in ledger.entries()) == ["child"] * 20 + ["parent"] * 21


@pytest.mark.parametrize("lives", [1, 2, 7])
def test_a_killed_writer_leaves_a_valid_chain_with_all_it_was_told(shared_url, lives):
    ledger = SqlLedger(shared_url)
    acknowledged = 0
    for _ in range(2):
        writer = start(shared_url, 100_000, "p", 3_000)
        go(writer)
        for _ in range(lives):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        told = writer.stdout.read()
        assert writer.wait(timeout=DEADLINE) == -signal.SIGKILL
        whole = [line for line in told.splitlines(keepends=True) if line.endswith("\n")]
        acknowledged = int(whole[-1]) if whole else acknowledged
        # One more may have been written than was told, never less; and none by half.
        assert acknowledged <= ledger.verify() <= acknowledged + 1
        assert all(len(entry.body["padding"]) == 3_000 for entry in ledger.entries())
    last = ledger.append("p", Kind.JUDGED, {}, actor="x")
    assert ledger.verify() == last.sequence


def fill(url: str, **options) -> tuple[int, str]:
    """Append until it fails; return the last sequence that was told, and the trouble."""
    writer = start(url, 100_000, "p", 20_000, **options)
    go(writer)
    told, trouble = writer.communicate(timeout=DEADLINE)
    assert writer.returncode == 1
    return int(told.split()[-1]), trouble


def test_a_file_that_may_not_grow_is_an_error_and_what_was_told_is_intact(sqlite_url):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    told, trouble = fill(sqlite_url, preexec_fn=limit)
    assert "LedgerError" in trouble
    assert "nothing was recorded" in trouble
    ledger = SqlLedger(sqlite_url)
    assert ledger.verify() == told
    assert ledger.append("p", Kind.JUDGED, {}, actor="x").sequence == told + 1


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_an_error_and_the_ledger_goes_on_once_there_is_space(small_disk):
    (small_disk / "filler").write_bytes(bytes(400_000))
    url = f"sqlite:///{small_disk / 'ledger.db'}"
    told, trouble = fill(url)
    assert "LedgerError" in trouble
    assert "full" in trouble
    assert "nothing was recorded" in trouble
    (small_disk / "filler").unlink()
    ledger = SqlLedger(url)
    assert ledger.verify() == told
    assert ledger.append("p", Kind.JUDGED, {}, actor="x").sequence == told + 1


def test_a_ledger_that_was_waiting_when_its_disk_was_full_can_be_used_again(small_disk):
    ledger = SqlLedger(f"sqlite:///{small_disk / 'ledger.db'}")
    filler = small_disk / "filler"
    ledger.append("p", Kind.JUDGED, {}, actor="x")
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
    with pytest.raises(Exception, match="full"):
        ledger.append("p", Kind.JUDGED, {"padding": "x" * 200_000}, actor="x")
    filler.unlink()
    assert ledger.append("p", Kind.JUDGED, {}, actor="x").sequence == 2
    assert ledger.verify() == 2


@pytest.mark.services
def test_a_connection_that_the_server_ended_is_made_anew(postgres_url):
    ledger = SqlLedger(postgres_url)
    ledger.append("p", Kind.JUDGED, {}, actor="x")
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    mine = "application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
    with engine.connect() as connection:
        ended = connection.execute(sa.text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}"))
        assert ended.scalars().all() == [True]
    engine.dispose()
    assert ledger.append("p", Kind.JUDGED, {}, actor="x").sequence == 2
    assert ledger.verify() == 2


def test_a_file_that_is_no_database_is_corrupt(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"this was a ledger once" * 1000)
    with pytest.raises(LedgerCorrupt, match="not a database.*restore it"):
        SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}").verify()


def test_a_torn_database_is_corrupt_not_shorter(sqlite_url):
    finish_all(sqlite_url)
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    with file.open("r+b") as torn:
        torn.truncate(file.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(LedgerCorrupt):
        SqlLedger(sqlite_url).verify()


def finish_all(url: str) -> None:
    """Append in another process: as it ends, all that it wrote is in the one file."""
    writer = start(url, 50, "p", 2_000)
    go(writer)
    finish(writer)


def test_a_folder_in_the_place_of_the_database_is_unavailable(tmp_path):
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(ServiceUnavailable, match=r"unable to open database file.*correct the URL"):
        SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}").head()

"""The command as people and CI call it: on a real instance, with real runs in processes of their own."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import films
import pytest

from mlops_assets import command
from mlops_assets.ledger.entry import Kind

ROOT = Path(__file__).resolve().parents[1]
INSTANCE = "run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}\n"
INSTANCE += "telemetry: {enabled: false}\n"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(claim, what, log, seconds=120):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}\n{log.read_text()[-3000:]}"
        time.sleep(0.1)


def listens(port):
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def running(log, environment, *arguments):
    """Run a part of Dagster in a session of its own, and end all of it, however the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def code_server(home, environment):
    """Serve the code location over ``home``; yield a workspace file that names it."""
    port = free_port()
    log = home / "server.log"
    with running(log, environment, "deployments.code_server", "films", str(port)) as process:
        wait_for(lambda: listens(port) or process.poll() is not None, "the code server listens", log)
        assert process.poll() is None, log.read_text()
        server = {"host": "127.0.0.1", "port": port, "location_name": "mlops"}
        workspace = home / "workspace.yaml"
        workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))
        yield workspace


def environment_of(home):
    python_path = os.pathsep.join([str(ROOT / "tests" / "small"), str(ROOT)])
    names = {"DAGSTER_HOME": str(home / "dagster"), "FILMS_HOME": str(home), "PYTHONPATH": python_path}
    return {**os.environ, **names, "DAGSTER_DISABLE_TELEMETRY": "1"}


def prepare(home, settings):
    (home / "dagster").mkdir(parents=True)
    (home / "dagster" / "dagster.yaml").write_text(settings)
    films.deliver(home)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    prepare(home, INSTANCE)
    return home


@pytest.fixture(scope="module")
def workspace(home):
    with code_server(home, environment_of(home)) as workspace:
        yield workspace


@pytest.fixture
def launch(home, workspace, monkeypatch, capfd):
    """Return a function that launches a job of the instance: exit code, standard output, standard error."""
    for name, value in environment_of(home).items():
        monkeypatch.setenv(name, value)

    def launching(job, *more):
        code = command.main(["launch", "-w", str(workspace), "-j", job, *more])
        return code, *capfd.readouterr()

    return launching


def choosing(recipe):
    return "--config-json", json.dumps({"ops": {"films__candidate": {"config": {"recipe": recipe}}}})


def verdicts(told):
    """Return verdict by gate and check, as they were printed."""
    lines = [line.split() for line in told.splitlines()]
    return {words[1]: words[0] for words in lines if words and words[0] in ("PASSED", "FAILED", "INCONCLUSIVE")}


@pytest.mark.services
def test_launch_waits_for_the_run_prints_each_gates_verdict_and_answers_zero(launch, home):
    code, told, _ = launch("films_train")
    assert verdicts(told) == {"enough_golden_rows": "PASSED", "at_least_roc_auc": "PASSED", "superior_brier": "PASSED"}
    assert "must be at least 0.6" in told
    assert ": SUCCESS" in told
    assert code == 0
    [judged] = [entry for entry in films.film_platform(home).ledger.entries("films") if entry.kind is Kind.JUDGED]
    assert judged.body["run_id"] in told


@pytest.mark.services
def test_launch_answers_one_when_a_gate_halted_the_run_and_says_which_and_why(launch):
    code, told, _ = launch("films_train", *choosing("clueless"))
    assert verdicts(told) == {"enough_golden_rows": "PASSED", "at_least_roc_auc": "FAILED", "superior_brier": "PASSED"}
    assert "roc_auc is 0.5 " in told
    assert ": FAILURE" in told
    assert code == command.GATE_HALTED == 1


@pytest.mark.services
def test_launching_an_unknown_job_answers_at_once_and_names_it(launch):
    code, told, trouble = launch("films_trian")
    assert code == command.RUN_FAILED == 2
    assert "films_trian" in trouble
    assert told == ""


@pytest.mark.services
def test_a_run_that_fails_without_a_gate_is_told_apart_from_one_that_a_gate_halted(launch):
    code, told, _ = launch("films_rollback")
    assert ": FAILURE" in told
    assert code == command.RUN_FAILED


@pytest.mark.services
def test_a_run_that_does_not_end_in_time_is_told_apart_too(launch):
    code, told, _ = launch("films_train", "--timeout", "0")
    assert ": not finished" in told
    assert code == command.NOT_FINISHED


@pytest.mark.services
def test_dagsters_own_launch_on_an_instance_with_queue_and_daemon_ends_in_the_same_judgement(tmp_path):
    prepare(tmp_path, "telemetry: {enabled: false}\n")
    environment = environment_of(tmp_path)
    run_id = "11111111-2222-3333-4444-555555555555"
    log = tmp_path / "daemon.log"
    with code_server(tmp_path, environment) as workspace:
        launch = ("job", "launch", "-w", str(workspace), "-j", "films_train", "--run-id", run_id)
        with running(log, environment, "dagster._daemon", "run", "-w", str(workspace)) as daemon:
            subprocess.run([sys.executable, "-m", "dagster", *launch], env=environment, check=True, cwd=ROOT)
            with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:

                def finished():
                    assert daemon.poll() is None, log.read_text()
                    return instance.get_run_by_id(run_id).is_finished

                wait_for(finished, "the run ended", log)
                assert instance.get_run_by_id(run_id).is_success
    entries = films.film_platform(tmp_path).ledger.entries("films")  # the sensors are on and launch runs as well
    verdicts = {entry.body["run_id"]: entry.body["verdict"] for entry in entries if entry.kind is Kind.JUDGED}
    assert verdicts[run_id] == "PASSED"


@pytest.fixture
def ledger(tmp_path):
    """The ledger of a product whose first candidate is live, and its URL as an argument."""
    films.deliver(tmp_path)
    ledger = films.film_platform(tmp_path).ledger
    body = {"candidate": "sha256:" + "a" * 64, "version": "1", "features": None, "champion": None, "judged": 1}
    rollout = {"percent": 100, "step": 0, "phase": "COMPLETED"}
    ledger.append("films", Kind.RELEASED, {"release": "r1", "rollout": rollout, **body}, actor="test")
    return ledger, ("--ledger", f"sqlite:///{tmp_path / 'ledger.db'}")


def test_why_tells_the_live_version_from_the_ledger(ledger, capsys):
    assert command.main(["why", "films", *ledger[1]]) == 0
    told = capsys.readouterr().out
    assert "films" in told
    assert "aaaaaaaa" in told
    assert command.main(["why", "books", *ledger[1]]) == 0
    assert "books: no version is live" in capsys.readouterr().out


def test_verify_counts_the_entries_of_an_intact_chain(ledger, capsys):
    assert command.main(["verify", *ledger[1]]) == 0
    assert capsys.readouterr().out == "1 entries, chain intact\n"


def test_propose_records_who_wants_which_recipe_and_why(ledger, capsys):
    said = ["--recipe", "by_taste", "--why", "more caution", "--by", "ada"]
    assert command.main(["propose", "films", *said, *ledger[1]]) == 0
    assert "entry 2" in capsys.readouterr().out
    entry = ledger[0].entries("films")[-1]
    assert (entry.kind, entry.actor) == (Kind.RECIPE_PROPOSED, "ada")
    assert entry.body == {"recipe": "by_taste", "why": "more caution"}


@pytest.mark.parametrize("asked", [("verify",), ("why", "films")])
def test_a_tampered_ledger_is_named_and_tells_nothing_else(ledger, asked, tmp_path, capsys):
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("DROP TRIGGER ledger_no_update")
        connection.execute("UPDATE ledger SET actor = 'somebody else'")
        connection.commit()
    assert command.main([*asked, *ledger[1]]) != 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "LedgerCorrupt: " in told.err
    assert "entry 1" in told.err


PROPOSAL = ("propose", "films", "--recipe", "by_taste", "--why", "w", "--by", "ada")


@pytest.mark.parametrize("asked", [("verify",), ("why", "films"), PROPOSAL], ids=lambda asked: asked[0])
def test_a_ledger_that_is_not_there_is_not_taken_for_an_empty_one(asked, tmp_path, capsys):
    url = f"sqlite:///{tmp_path / 'legder.db'}"
    assert command.main([*asked, "--ledger", url]) != 0
    told = capsys.readouterr()
    assert told.out == ""
    assert f"no ledger at {url}" in told.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("asked", [(), ("lunch",), ("launch",), ("propose", "films")])
def test_what_is_not_understood_is_answered_with_the_usage(asked, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(asked)
    assert ended.value.code == 2
    assert "usage: mlops-assets" in capsys.readouterr().err

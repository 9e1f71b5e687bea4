"""The batch engine on Spark: local, behind Spark Connect, and on a cluster of which an executor dies."""

import os
import pickle
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from feature_cases import EVERYTHING, QUARTER, START, TICK, Case, cases, differences, drawn, history
from processes import awaited, free_port, is_open, running

from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.reference import reference_features
from mlops_assets.features.view import Aggregate, FeatureView

pytestmark = pytest.mark.services

USERS = ("ann", "bob", "čeněk", "nobody")
ASKED = [
    (user, START + n * QUARTER + ticks * TICK) for n, ticks in ((3, 1), (5, 0), (8, -1), (15, 0)) for user in USERS
]
FAULTS = ("bound", "late", "nulls", "ties")


def spark_home():
    import pyspark

    return Path(pyspark.__file__).parent


def running_spark(command, folder, name):
    """Run a part of Spark that hears and says nothing off this machine."""
    local = {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable, "SPARK_NO_DAEMONIZE": "1"}
    own = {"SPARK_HOME": str(spark_home()), "SPARK_WORKER_DIR": str(folder / name), "PYTHONPATH": sys.path[0]}
    return running(command, folder, name, local | own)


@contextmanager
def asking(url, jobs, folder):
    """Run the jobs in a process of their own; yield it and what waits for their answers."""
    (folder / "jobs.pickle").write_bytes(pickle.dumps(jobs))
    with running_spark(
        [sys.executable, Path(__file__).with_name("spark_runner.py"), url, folder], folder, "runner"
    ) as process:

        def answers():
            assert process.wait(timeout=240) == 0, (folder / "runner.log").read_text()[-3000:]
            return pickle.loads((folder / "answers.pickle").read_bytes())

        yield answers


def job(case, fault=None):
    return case.view, case.frame(), case.spine(), fault


def meant(case):
    return reference_features(case.view, case.events, case.asked)


@pytest.fixture(scope="module")
def told():
    return [*drawn(cases(), 30), Case(EVERYTHING, history(), ASKED)]


@pytest.fixture(scope="module")
def broken():
    """Return a case in which every fault shows."""
    return Case(replace(EVERYTHING, features=EVERYTHING.aggregates), history(), ASKED)


@pytest.fixture(scope="module")
def local(told, broken, tmp_path_factory):
    """Return what a local session answers: the cases, the faults, and what is refused."""
    case = told[-1]
    no_user = case.frame().with_columns(user=pl.when(pl.col("id") != 3).then("user"))
    clash = pl.concat([case.frame(), case.frame().head(1).with_columns(stars=pl.lit(77, pl.Int64))])
    refused = [(case.view, frame, case.spine(), None) for frame in (no_user, clash, case.frame().drop("amount"))]
    categories = (case.view, case.frame().with_columns(pl.col("user", "shop").cast(pl.Categorical)), case.spine(), None)
    naive = pl.col("time", "known", "due").dt.replace_time_zone(None)
    in_utc = case.view, case.frame().with_columns(naive), case.spine(), None
    jobs = [*map(job, told), *(job(broken, fault) for fault in FAULTS), *refused, categories, in_utc]
    with asking("local[2]", jobs, tmp_path_factory.mktemp("spark")) as answers:
        return answers()


def test_spark_equals_the_reference_in_value_and_type(local, told):
    for found, case in zip(local, told, strict=False):
        assert differences(found.rows(named=True), meant(case)) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(local, told, broken, fault):
    found = local[len(told) + FAULTS.index(fault)]
    assert isinstance(found, str) or differences(found.rows(named=True), meant(broken))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (-5, "'everything': column 'user' is null in 1 rows of the events; quarantine them"),
        (-4, "'everything': two different events have the key"),
        (-3, "'everything': column 'amount' is missing from the events"),
    ],
)
def test_what_the_meaning_refuses_is_the_same_sentence_from_an_executor(local, place, said):
    assert said in local[place]


def test_categories_are_their_texts(local, told):
    assert local[-2].equals(local[len(told) - 1])


def test_times_without_a_zone_are_utc_whatever_the_zone_of_the_session(local, told):
    assert local[-1].equals(local[len(told) - 1])


def test_spark_connect_gives_the_same(told, local, tmp_path):
    port = free_port()
    binding = [f"spark.connect.grpc.binding.{part}" for part in ("address=127.0.0.1", f"port={port}")]
    options = [word for each in (*binding, "spark.ui.enabled=false") for word in ("--conf", each)]
    with running_spark([spark_home() / "sbin/start-connect-server.sh", *options], tmp_path, "server") as server:
        awaited(lambda: is_open(port), "Spark Connect server", server)
        with asking(f"sc://127.0.0.1:{port}", [job(told[0]), job(told[-1])], tmp_path) as answers:
            found = answers()
    assert found[0].equals(local[0])
    assert found[1].equals(local[len(told) - 1])


def executors(folder):
    """Return the processes of the executors that work in ``folder``."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            is_executor = process.name.isdigit() and "CoarseGrainedExecutorBackend" in (process / "cmdline").read_text()
            if is_executor and (process / "cwd").resolve().is_relative_to(folder):
                found.append(int(process.name))
    return found


@contextmanager
def a_cluster(folder):
    """Run a standalone master with two workers; yield its address."""
    port = free_port()
    master = f"spark://127.0.0.1:{port}"
    spark_class = [spark_home() / "bin/spark-class"]
    hosted = ["--host", "127.0.0.1", "--webui-port", "0"]
    run_master = [*spark_class, "org.apache.spark.deploy.master.Master", *hosted, "--port", port]
    run_worker = [
        *spark_class,
        "org.apache.spark.deploy.worker.Worker",
        *hosted,
        "--cores",
        1,
        "--memory",
        "1g",
        master,
    ]
    with running_spark(run_master, folder, "master") as process:
        awaited(lambda: is_open(port), "Spark master", process)
        with running_spark(run_worker, folder, "first"), running_spark(run_worker, folder, "second"):
            registered = lambda: (folder / "master.log").read_text().count("Registering worker") == 2  # noqa: E731
            awaited(registered, "two workers", process)
            yield master


def test_an_executor_killed_in_the_middle_changes_nothing(tmp_path):
    view = FeatureView(
        name="v",
        source="shop",
        entity="user",
        event_time="time",
        features=(
            Aggregate(name="sum", function="sum", column="amount", window=QUARTER),
            Aggregate(name="last", function="last_k", column="amount", k=3),
        ),
    )
    number = pl.int_range(40_000, eager=True)
    time_of = (number * 7_919 % 10**10).cast(pl.Duration("us")) + pl.lit(START)
    frame = pl.select(user=number % 60, time=time_of, amount=(number * 0.1).sin(), id=number)
    spine = frame.select("user", "time")
    with a_cluster(tmp_path) as master, asking(master, [(view, frame, spine, "slow")], tmp_path) as answers:
        begun = lambda: len(list(tmp_path.glob("begun-*")))  # noqa: E731
        awaited(lambda: begun() >= 2, "bucket begun")
        victim = executors(tmp_path)[0]
        os.kill(victim, signal.SIGKILL)
        (found,) = answers()
        assert begun() > 12  # some of it was computed again
    assert found.equals(PolarsEngine().features_at(view, frame, spine))

import fcntl
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from mlops_assets.errors import TrainingFailed
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import load_model
from mlops_assets.training.recipe import Recipe


def odd(trainer, **changes):
    return Recipe(name=trainer, trainer=f"odd_trainers:{trainer}", loader="odd_trainers:load_constant", **changes)


def test_the_seed_reaches_the_trainer(train, rows):
    trained = [train(odd("train_constant", seed=seed), rows) for seed in (3, 4)]
    assert trained[0].digest != trained[1].digest


def test_a_candidate_can_be_loaded_leaves_nothing_behind_and_comes_out_the_same_in_another_process(train, recipe, rows):
    def look(trained):
        assert digest_of_directory(trained.directory) == trained.digest
        assert {path.name for path in trained.directory.iterdir()} == {"model.txt", "package.json"}
        return trained, load_model(trained.directory).predict(rows)

    trained, scores = train(recipe, rows, look=look)
    assert trained.metrics.keys() == {"train_binary_logloss"}
    assert trained.seconds > 0
    assert np.mean((scores > 0.5) == rows["label"].to_numpy()) > 0.95
    assert list(train.workdir.iterdir()) == []
    assert train(recipe, rows).digest == trained.digest


def test_progress_is_streamed_to_the_run(train, rows):
    with dg.DagsterInstance.ephemeral() as instance:
        train(odd("train_constant"), rows, instance=instance)
        (run,) = instance.get_runs()
        messages = [entry.message for entry in instance.all_logs(run.run_id)]
    assert any("step 1: train_mean" in message for message in messages)


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ("raise_error", "ValueError: the moon is in the wrong phase"),
        ("kill_itself", "killed by SIGKILL"),
        ("return_nothing", "returned a NoneType, which is no model"),
        ("train_half_saved", "No space left on device"),
        ("no_such_trainer", "no function 'no_such_trainer'"),
    ],
)
def test_a_trainer_that_fails_is_a_failed_training_that_leaves_nothing(train, rows, trainer, words):
    with pytest.raises(TrainingFailed, match=words) as failure:
        train(odd(trainer), rows)
    assert "shop" in str(failure.value)
    assert list(train.workdir.iterdir()) == []


def test_the_last_lines_of_the_process_are_in_the_message(train, rows):
    with pytest.raises(TrainingFailed, match="I was about to begin"):
        train(odd("raise_error"), rows)


def test_a_timeout_ends_the_trainer_and_what_it_started(train, rows, tmp_path, until, running):
    pids = tmp_path / "pids"
    for seconds in (4, 16, 64):  # a busy machine may need longer to begin at all
        recipe = odd("never_end", params={"pids": str(pids)}, timeout=timedelta(seconds=seconds))
        with pytest.raises(TrainingFailed, match=f"timeout of {recipe.timeout}"):
            train(recipe, rows)
        if pids.exists():
            break
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: not running(pid), "the process has ended")
    assert list(train.workdir.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.services)])
def test_a_run_that_is_ended_takes_its_training_along(train, rows, tmp_path, until, running, number):
    pids, workdir = tmp_path / "pids", tmp_path / "training"
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import polars as pl, dagster as dg\n"
        "from mlops_assets.adapters.subprocess_training import SubprocessTraining\n"
        "from mlops_assets.data.local import LocalSnapshots\n"
        "from mlops_assets.training.job import TrainingJob\n"
        "from mlops_assets.training.recipe import Recipe\n"
        "store = LocalSnapshots(Path(sys.argv[2]) / 'snapshots')\n"
        "recipe = Recipe(name='r', trainer='odd_trainers:never_end', loader='odd_trainers:load_constant',\n"
        "    params={'pids': sys.argv[2] + '/pids'})\n"
        "job = TrainingJob(product='shop', recipe=recipe, features=('a',), label='label',\n"
        "    training_set=store.write(pl.DataFrame({'a': [1.0, 2.0], 'label': [0.0, 1.0]})).digest)\n"
        "@dg.asset\n"
        "def model(context: dg.AssetExecutionContext):\n"
        "    with SubprocessTraining(Path(sys.argv[2]) / 'training').train(context, job, store): pass\n"
        "dg.materialize([model])\n"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program, str(Path(__file__).parent), str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stderr=(tmp_path / "stderr").open("w"),
    )
    try:
        until(lambda: pids.exists() or run.poll() is not None, "the trainer has begun", seconds=120)
        assert pids.exists(), (tmp_path / "stderr").read_text()
        run.send_signal(number)
        for pid in map(int, pids.read_text().split()):
            until(lambda pid=pid: not running(pid), "the process has ended")
    finally:
        run.kill()
        run.wait()
    train(odd("train_constant"), rows)  # the next training removes what the killed one could not
    assert list(workdir.iterdir()) == []


def test_the_process_has_nothing_to_do_outside_of_a_pipes_session():
    done = subprocess.run(
        [sys.executable, "-m", "mlops_assets.training.process"],
        cwd=Path(__file__).parents[2],
        env={name: value for name, value in os.environ.items() if not name.startswith("DAGSTER_PIPES")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "started by a training backend" in done.stderr


def test_the_process_imports_no_dagster():
    program = "import mlops_assets.training.process, sys; sys.exit('dagster' in sys.modules or 'mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_what_a_killed_training_left_is_removed_and_what_runs_is_not(train, rows):
    abandoned, locked = train.workdir / "abandoned", train.workdir / "locked"
    for directory in (abandoned, locked):
        directory.mkdir(parents=True)
        directory.with_suffix(".lock").touch()
    with locked.with_suffix(".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        train(odd("train_constant"), rows)
    assert not abandoned.exists()
    assert locked.exists()


def test_a_label_with_one_class_fails_the_training_with_the_reason(train, recipe, rows):
    with pytest.raises(TrainingFailed, match="has one class: all 300 rows are"):
        train(recipe, rows.with_columns(label=1.0))

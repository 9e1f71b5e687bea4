"""Training in a process of this machine.

Dagster's own ``PipesSubprocessClient`` starts one child, waits without a limit and, on cancel, signals that child only.
This backend opens the same Pipes session (context and messages in temporary files), but owns a process *group* with a
deadline, whose standard input ends when this process does: a timeout, a cancelled run and a kill -9 of the run all end
the trainer and whatever it started.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import dagster as dg

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import TrainingFailed
from mlops_assets.training.backend import TrainedCandidate
from mlops_assets.training.job import TrainingJob
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.process import END_WITH_PARENT

COMMAND = (sys.executable, "-m", "mlops_assets.training.process", END_WITH_PARENT)
LINES_KEPT = 20


@dataclass(frozen=True, slots=True)
class SubprocessTraining:
    """Runs each training in a process group of its own, with its files below ``workdir`` while it lasts."""

    workdir: Path

    @contextmanager
    def train(
        self, context: dg.AssetExecutionContext, job: TrainingJob, snapshots: SnapshotStore
    ) -> Iterator[TrainedCandidate]:
        """Yield the candidate, whose directory lives as long as the ``with`` block.

        Raises ``TrainingFailed`` when the process fails, dies or takes longer than its recipe allows. What an earlier
        process left behind when it was killed is removed first.
        """
        with _scratch(self.workdir) as scratch:
            rows, directory = scratch / "rows.parquet", scratch / "model"
            snapshots.read(job.training_set).write_parquet(rows)
            started = time.monotonic()
            message = _run(context, job, {"job": job.to_json(), "rows": str(rows), "directory": str(directory)})
            rows.unlink()
            digest = digest_of_directory(directory)
            if digest != message["digest"]:
                raise TrainingFailed(f"{job.product}: the model changed on its way here; is {scratch} shared?")
            seconds = time.monotonic() - started
            yield TrainedCandidate(directory=directory, digest=digest, metrics=message["metrics"], seconds=seconds)


def _run(context: dg.AssetExecutionContext, job: TrainingJob, extras: dict[str, Any]) -> dict[str, Any]:
    """Return the process's message; ``TrainingFailed`` when it fails, dies or takes longer than its recipe allows."""
    with dg.open_pipes_session(
        context=context,
        extras=extras,
        context_injector=dg.PipesTempFileContextInjector(),
        message_reader=dg.PipesTempFileMessageReader(),
    ) as session:
        status, lines = _supervise(session.get_bootstrap_env_vars(), job.recipe.timeout.total_seconds())
    # the session has ended, so every message that was written has been read
    messages = [message for message in session.get_custom_messages() if isinstance(message, dict)]
    outcome: dict[str, Any] = messages[-1] if messages else {}
    if status == 0 and "digest" in outcome:
        return outcome
    why = outcome.get("failed") or _why(status, job)
    last = "".join(f"\n  {line}" for line in lines)
    raise TrainingFailed(f"{job.product}: recipe {job.recipe.name!r}: {why}\nlast lines of the training process:{last}")


def _why(status: int | None, job: TrainingJob) -> str:
    if status is None:
        return f"did not end within its timeout of {job.recipe.timeout}; give it more time or fewer rows"
    if status < 0:
        hint = "; was the machine out of memory?" if -status == signal.SIGKILL else ""
        return f"the training process was killed by {signal.Signals(-status).name}{hint}"
    return f"the training process ended with status {status} and no message"


def _supervise(bootstrap: Mapping[str, str], timeout_seconds: float) -> tuple[int | None, Sequence[str]]:
    """Run the training process; return its exit status (``None`` after the timeout) and its last lines."""
    lines: deque[str] = deque(maxlen=LINES_KEPT)
    process = subprocess.Popen(
        COMMAND,
        env=os.environ | _same_imports() | dict(bootstrap),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    echo = threading.Thread(target=_echo, args=(process.stdout, lines), daemon=True)
    echo.start()
    status: int | None = None
    try:
        status = process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        _end(process)  # also when the run is cancelled, which arrives here as an exception
        echo.join(timeout=10)
    return status, lines


def _end(process: subprocess.Popen[str]) -> None:
    """Kill what is left of the group: it owns nothing that must outlive it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    process.stdin.close()


def _echo(stream: IO[str], lines: deque[str]) -> None:
    """Forward the process's output to the step's own, and remember the last lines."""
    for line in stream:
        lines.append(line.rstrip("\n"))
        sys.stderr.write(line)


def _same_imports() -> dict[str, str]:
    """Let the process import what can be imported here, and give sets of strings one order."""
    return {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path), "PYTHONHASHSEED": "0"}


@contextmanager
def _scratch(workdir: Path) -> Iterator[Path]:
    """Yield a new directory below ``workdir``, locked while it is used and removed afterwards."""
    workdir.mkdir(parents=True, exist_ok=True)
    _sweep(workdir)
    directory = workdir / uuid.uuid4().hex
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        directory.mkdir()
        try:
            yield directory
        finally:
            _remove(directory)


def _sweep(workdir: Path) -> None:
    """Remove directories whose owner is dead: a lock ends with the process that held it."""
    for path in workdir.glob("*.lock"):
        with suppress(OSError), path.open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(path.with_suffix(""))


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.with_suffix(".lock").unlink(missing_ok=True)

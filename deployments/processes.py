"""Starting and ending the platform's processes on one machine: prediction server, daemon, UI.

Belongs here: how a process is started, when it counts as ready, how it and its children end. Not here: what it serves.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from mlops_assets.errors import ServiceUnavailable

ROOT = Path(__file__).resolve().parents[1]
HOME = ROOT / ".mlops"
SERVING_URL = "http://127.0.0.1:8811"
CODE_SERVER_PORT = 8812


def dagster_environment() -> dict[str, str]:
    """Return the environment in which Dagster keeps its history below ``HOME``; makes the folder and its settings."""
    dagster_home = HOME / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROOT / "dagster.yaml", dagster_home / "dagster.yaml")
    settings = {
        "DAGSTER_HOME": str(dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MPLBACKEND": "Agg",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return {**os.environ, **settings}


@dataclass(slots=True)
class Processes:
    """Processes with a log file each, ended together, children included, however the block is left."""

    logs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> "Processes":
        self.logs.mkdir(parents=True, exist_ok=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a terminated parent ends its children too
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.running.values():
            _signal(process.pid, signal.SIGINT)  # all at once, so that their endings take the time of one
        for name in reversed(list(self.running)):
            self.end(name)

    def start(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start ``command`` in a session of its own, so that its children can be ended with it."""
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def end(self, name: str, *, patience_seconds: float = 15) -> None:
        """Ask a process to end as Ctrl-C would, then make sure that nothing of its session is left."""
        process = self.running.pop(name)
        _signal(process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_seconds)
        _signal(process.pid, signal.SIGKILL)
        process.wait()

    def check(self) -> None:
        """Raise ``ServiceUnavailable`` if one of them ended by itself."""
        for name, process in self.running.items():
            if process.poll() is not None:
                raise ServiceUnavailable(f"{name} ended with {process.returncode}; see {self.logs / name}.log")


def start_serving(processes: Processes) -> None:
    """Start the prediction server."""
    if _answers():
        raise ServiceUnavailable(f"something already answers at {SERVING_URL}: end it first (a make dev elsewhere?)")
    processes.start("serving", sys.executable, "-m", "deployments.serve")


def await_serving(processes: Processes, *, patience_seconds: float = 60) -> None:
    """Return when the prediction server answers."""
    wait_for(_answers, "the prediction server to answer", patience_seconds, alive=processes.check)


def start_daemon(processes: Processes, module: str, workspace: str) -> None:
    """Start the code location ``module`` with warm runs, then the Dagster daemon over ``workspace``, which names it."""
    environment = dagster_environment()
    create_history(Path(environment["DAGSTER_HOME"]))
    server = (sys.executable, "-m", "deployments.code_server", module, str(CODE_SERVER_PORT))
    if _listens(CODE_SERVER_PORT):
        raise ServiceUnavailable(f"something already listens at port {CODE_SERVER_PORT}: end it first (a make demo?)")
    processes.start("code_server", *server, environment=environment)
    daemon = (sys.executable, "-m", "dagster._daemon", "run", "-w", workspace)
    processes.start("daemon", *daemon, environment=environment)  # it waits for the code location by itself


def create_history(dagster_home: Path) -> None:
    """Make the tables of Dagster's history: two processes that find none at once would each make them, and one fail."""
    from dagster import DagsterInstance

    DagsterInstance.from_config(str(dagster_home)).dispose()


def await_daemon(processes: Processes, *, patience_seconds: float = 120) -> None:
    """Return when the code location can be reached."""
    wait_for(lambda: _listens(CODE_SERVER_PORT), "the code location", patience_seconds, alive=processes.check)


def wait_for(
    claim: Callable[[], bool], what: str, patience_seconds: float, *, alive: Callable[[], None] = lambda: None
) -> None:
    """Return when ``claim`` holds; ``ServiceUnavailable`` naming ``what`` when it does not in time."""
    deadline = time.monotonic() + patience_seconds
    while not claim():
        alive()
        if time.monotonic() > deadline:
            raise ServiceUnavailable(f"waited {patience_seconds:.0f} s for {what}")
        time.sleep(0.25)


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def _answers() -> bool:
    try:
        return httpx.get(f"{SERVING_URL}/v2/health/live", timeout=2).is_success
    except httpx.HTTPError:
        return False


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)

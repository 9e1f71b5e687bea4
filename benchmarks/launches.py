"""From ``dagster job launch`` to a run that has started: the training job against a trivial job in a trivial location.

An instance of its own runs meanwhile, with the settings of dagster.yaml: the daemon, the platform's code location and
the trivial one. The platform has no data, so its sensors launch nothing and a run ends soon after it has started.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg

from benchmarks._client import free_port
from deployments.processes import ROOT, Processes, wait_for

TURNS, PATIENCE_SECONDS = 3, 120
OURS, TRIVIAL = "recommendations_train", "trivial"

LOCATIONS = {
    "platform": """
from pathlib import Path

from mlops_assets.build import build_definitions
from mlops_assets.products import PRODUCTS
from resources.local import local_platform

defs = build_definitions(PRODUCTS, local_platform(Path(__file__).resolve().parent / "home"))
""",
    "trivial": """
import dagster as dg


@dg.op
def nothing():
    pass


@dg.job
def trivial():
    nothing()


defs = dg.Definitions(jobs=[trivial])
""",
}
BY_FILE = """
load_from:
  - python_file:
      relative_path: {name}.py
      working_directory: {root}
      location_name: {name}
"""
BY_SERVER = """
load_from:
  - grpc_server:
      host: 127.0.0.1
      port: {port}
      location_name: {name}
"""


def launches() -> list[dict[str, Any]]:
    """Return seconds from the command's beginning to its run's start, median of three turns, in two ways.

    ``launch`` loads the code location from its file, as workspace.yaml says and as a CI job does; ``warm_launch`` asks
    the code server that runs already, ours with warm runs, the trivial one Dagster's own. The ratio is baseline / ours:
    1 is as quick as a job that has nothing to load.
    """
    with TemporaryDirectory() as folder, _platform(Path(folder)) as launcher:
        return [
            _line(launcher, "launch", "file", "a one-op job of a trivial location, loaded from its file likewise"),
            _line(launcher, "warm_launch", "server", "a one-op job of a trivial location on Dagster's own code server"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Launcher:
    folder: Path
    environment: dict[str, str]
    instance: dg.DagsterInstance

    def seconds(self, location: str, way: str, job: str) -> float:
        """Launch ``job`` by the command and return the seconds until its run started, once the run has ended."""
        run_id, workspace = str(uuid.uuid4()), self.folder / f"{location}-{way}.yaml"
        command = ["dagster", "job", "launch", "-w", str(workspace), "-j", job, "--run-id", run_id]
        began = time.time()
        with (self.folder / "logs" / "launches.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if process.wait(PATIENCE_SECONDS):
                raise RuntimeError(f"dagster job launch ended with {process.returncode}: {_tail(Path(log.name))}")
            wait_for(lambda: self._has_ended(run_id), f"the end of a run of {job}", PATIENCE_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        started: Any = self.instance.get_run_stats(run_id)
        if started.start_time is None:
            raise RuntimeError(f"a run of {job} ended without having started")
        return float(started.start_time) - began

    def _has_ended(self, run_id: str) -> bool:
        run = self.instance.get_run_by_id(run_id)
        return run is not None and run.is_finished


def _line(launcher: _Launcher, name: str, way: str, baseline: str) -> dict[str, Any]:
    took: dict[str, list[float]] = {OURS: [], TRIVIAL: []}
    for _ in range(TURNS):
        took[OURS].append(launcher.seconds("platform", way, OURS))
        took[TRIVIAL].append(launcher.seconds("trivial", way, TRIVIAL))
    ours, trivial = median(took[OURS]), median(took[TRIVIAL])
    return {
        "name": f"spine.{name}_to_start_seconds",
        "value": ours,
        "unit": "seconds",
        "baseline": trivial,
        "ratio": trivial / ours,
        "details": {"baseline": baseline, "turns": TURNS},
    }


@contextmanager
def _platform(folder: Path) -> Iterator[_Launcher]:
    """Yield a launcher for an instance whose daemon and code locations run."""
    home = folder / "dagster"
    home.mkdir()
    shutil.copyfile(ROOT / "dagster.yaml", home / "dagster.yaml")
    settings = {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    paths = os.pathsep.join((str(folder), str(ROOT)))  # the code server imports its location by name
    temporary = folder / "tmp"  # what ended processes leave goes with the folder
    temporary.mkdir()
    environment = {**os.environ, **settings, "MPLBACKEND": "Agg", "PYTHONPATH": paths, "TMPDIR": str(temporary)}
    ports = _write_locations(folder)
    with Processes(folder / "logs") as processes, dg.DagsterInstance.from_config(str(home)) as instance:
        warm = (sys.executable, "-m", "deployments.code_server", "platform_location", str(ports["platform"]))
        own = ("dagster", "api", "grpc", "-f", str(folder / "trivial_location.py"), "-h", "127.0.0.1")
        daemon = ("dagster._daemon", "run", "-w", str(folder / "platform-server.yaml"))
        processes.start("platform", *warm, environment=environment)
        processes.start("trivial", sys.executable, "-m", *own, "-p", str(ports["trivial"]), environment=environment)
        processes.start("daemon", sys.executable, "-m", *daemon, environment=environment)
        launcher = _Launcher(folder=folder, environment=environment, instance=instance)

        def is_running() -> bool:
            return "SENSOR" in instance.get_daemon_heartbeats() and all(map(_listens, ports.values()))

        wait_for(is_running, "daemon and code locations", PATIENCE_SECONDS, alive=processes.check)
        yield launcher


def _write_locations(folder: Path) -> dict[str, int]:
    """Write both code locations and their workspaces, by file and by server, and return the servers' ports."""
    ports = {name: free_port() for name in LOCATIONS}
    for name, code in LOCATIONS.items():
        (folder / f"{name}_location.py").write_text(code)
        (folder / f"{name}-file.yaml").write_text(BY_FILE.format(name=f"{name}_location", root=ROOT))
        (folder / f"{name}-server.yaml").write_text(BY_SERVER.format(name=name, port=ports[name]))
    return ports


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:]


FIGURES = [launches]

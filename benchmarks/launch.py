"""From ``dagster job launch`` to a run that has started: the products' code location against one that does nothing."""

import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import time
from typing import Any

import dagster as dg

from benchmarks._client import free_port
from deployments.processes import ROOT, Processes, wait_for
from mlops_assets.products.recommendations import RECOMMENDATIONS

TURNS, PATIENCE_SECONDS = 3, 120
OURS = ("deployments.code_server", "benchmarks._products")
DAGSTERS = ("dagster", "api", "grpc", "--module-name", "benchmarks._nothing", "--host", "127.0.0.1", "--port")


def launch() -> dict[str, Any]:
    """Return the seconds from the command to the run's start; the two locations take turns on one running instance.

    Ours is the whole platform behind ``deployments.code_server``, whose runs start warm; the baseline is one op behind
    Dagster's own code server. Both include the command itself, which imports Dagster. The ratio is baseline / ours.
    """
    with TemporaryDirectory() as folder, Processes(Path(folder) / "logs") as processes:
        home = Path(folder)
        (home / "dagster").mkdir()
        shutil.copyfile(ROOT / "dagster.yaml", home / "dagster" / "dagster.yaml")
        own = {"DAGSTER_HOME": str(home / "dagster"), "DAGSTER_DISABLE_TELEMETRY": "1", "BENCHMARK_HOME": folder}
        environment = {**os.environ, **own}
        workspaces = [
            _serve(processes, home, name, environment, *command)
            for name, command in (("ours", OURS), ("own", DAGSTERS))
        ]
        jobs = f"{RECOMMENDATIONS.name}_train", "nothing"
        took: list[list[float]] = [[], []]
        with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
            for _ in range(TURNS + 1):
                for place, (workspace, job) in enumerate(zip(workspaces, jobs, strict=True)):
                    took[place].append(_seconds_to_start(instance, workspace, job, environment))
    ours, baseline = (median(seconds[1:]) for seconds in took)  # the first of each starts what later ones find running
    return {
        "name": "spine.launch_to_start_seconds",
        "value": ours,
        "unit": "seconds",
        "baseline": baseline,
        "ratio": baseline / ours,
    }


def _serve(processes: Processes, home: Path, name: str, environment: dict[str, str], *command: str) -> Path:
    port = free_port()
    processes.start(name, sys.executable, "-m", *command, str(port), environment=environment)
    check = (sys.executable, "-m", "dagster", "api", "grpc-health-check", "--port", str(port))

    def answers() -> bool:
        return subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 0

    wait_for(answers, f"the code server {name}", PATIENCE_SECONDS, alive=processes.check)
    workspace = home / f"{name}.yaml"
    server = {"host": "127.0.0.1", "port": port, "location_name": name}
    workspace.write_text(json.dumps({"load_from": [{"grpc_server": server}]}))
    return workspace


def _seconds_to_start(instance: dg.DagsterInstance, workspace: Path, job: str, environment: dict[str, str]) -> float:
    run_id = str(uuid.uuid4())
    command = (sys.executable, "-m", "dagster", "job", "launch", "-w", str(workspace), "-j", job, "--run-id", run_id)
    began = time()
    subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True)

    def has_ended() -> bool:  # the products' source is empty, so that run fails at its first step, after its start
        record = instance.get_run_record_by_id(run_id)
        return record is not None and record.dagster_run.is_finished

    wait_for(has_ended, f"the run of {job}", PATIENCE_SECONDS)
    record = instance.get_run_record_by_id(run_id)
    if record is None or record.start_time is None:
        raise RuntimeError(f"the run of {job} never started")
    return record.start_time - began


FIGURES = [launch]

"""One-row predictions over HTTP: the prediction server against ``mlflow models serve`` with the same LightGBM model.

The two do not do the same. Ours gets a raw request (who, which film, when), computes the 17 features at that moment
from its event history, chooses the version by the traffic plan, and has the prediction in its log before it answers.
MLflow's gets the 17 features ready-made, scores them and forgets. Both must answer the same scores.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np

from benchmarks._client import Client, free_port
from benchmarks._plain_training import PlainTraining
from deployments.demo import ratings
from deployments.processes import Processes, wait_for
from mlops_assets.products.recommendations import RECOMMENDATIONS
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.training.package import load_model
from resources.local import local_platform

ROWS, BLOCKS, BLOCK = 500, 30, 100
CONNECTIONS, ROUNDS, ROUND_SECONDS = 8, 5, 2.0
PATIENCE_SECONDS = 120
NAME, FEATURES, LAST_YEAR = RECOMMENDATIONS.name, RECOMMENDATIONS.features, 2005
BASELINE = "mlflow models serve --env-manager local, given ready-made features; ours computes them and logs durably"


def predictions() -> list[dict[str, Any]]:
    """Return p50 and p99 of one request after another, and throughput with 8 connections; the servers take turns.

    Client and server share the machine. The ratio is baseline / ours for latencies and ours / baseline for throughput:
    above 1 is better than MLflow either way.
    """
    with TemporaryDirectory() as folder, _servers(Path(folder)) as clients:
        for client in clients:
            client.latencies(0, BLOCK)
        took: list[list[float]] = [[], []]
        for block in range(BLOCKS):
            for place, client in enumerate(clients):
                took[place] += client.latencies(block * BLOCK, BLOCK)
        answered = [0, 0]
        for _ in range(ROUNDS):
            for place, client in enumerate(clients):
                answered[place] += client.count_within(ROUND_SECONDS, CONNECTIONS)
    lines = [_latency(f"p{quantile}", quantile, took) for quantile in (50, 99)]
    ours, theirs = (count / (ROUNDS * ROUND_SECONDS) for count in answered)
    throughput = {"name": "spine.predict_throughput_vs_mlflow", "value": ours, "unit": "requests/s", "baseline": theirs}
    details = {"baseline": BASELINE, "connections": CONNECTIONS, "requests": answered}
    return [*lines, {**throughput, "ratio": ours / theirs, "details": details}]


def _latency(name: str, quantile: int, took: list[list[float]]) -> dict[str, Any]:
    ours, theirs = (float(np.percentile(seconds, quantile)) * 1000 for seconds in took)
    return {
        "name": f"spine.predict_{name}_vs_mlflow",
        "value": ours,
        "unit": "milliseconds",
        "baseline": theirs,
        "ratio": theirs / ours,
        "details": {"baseline": BASELINE, "requests": len(took[0])},
    }


@contextmanager
def _servers(home: Path) -> Iterator[tuple[Client, Client]]:
    """Yield clients of both servers, which serve one newly trained model and agree on the scores of ``ROWS`` rows."""
    platform = local_platform(home)
    ratings.deliver(home / "source" / RECOMMENDATIONS.source, "ratings", ratings.between(None, ratings.year(LAST_YEAR)))
    trained = PlainTraining(RECOMMENDATIONS, platform, run_id="benchmark")
    trained.run()
    rows = trained.golden.tail(ROWS).to_dicts()
    with Processes(home / "logs") as processes:
        clients = _start_ours(processes, home, rows), _start_mlflow(processes, home, trained, rows)
        for client in clients:
            wait_for(client.is_ready, f"port {client.port}", PATIENCE_SECONDS, alive=processes.check)
        plan = TrafficPlan(weights={trained.candidate: 100}, features=trained.dataset)
        url = f"http://127.0.0.1:{clients[0].port}/v2/models/{NAME}/plan"
        httpx.put(url, json=plan.to_json(), timeout=PATIENCE_SECONDS).raise_for_status()
        np.testing.assert_allclose(clients[0].scores(), clients[1].scores(), rtol=1e-12)
        yield clients


def _start_ours(processes: Processes, home: Path, rows: list[dict[str, Any]]) -> Client:
    port = free_port()
    processes.start("ours", sys.executable, "-m", "benchmarks._server", str(home), str(port))
    return Client(
        port=port,
        path=f"/v2/models/{NAME}/infer",
        ready="/v2/health/live",
        bodies=[_request(row) for row in rows],
        score=lambda answer: float(answer["outputs"][0]["data"][0]),
    )


def _start_mlflow(processes: Processes, home: Path, trained: PlainTraining, rows: list[dict[str, Any]]) -> Client:
    port, saved = free_port(), home / "mlflow-model"
    _save_as_mlflow(trained, home, saved)
    command = ["mlflow", "models", "serve", "-m", str(saved), "--env-manager", "local"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    processes.start(
        "mlflow",
        *(sys.executable, "-m", *command, "-h", "127.0.0.1", "-p", str(port)),
        environment={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PATH": path},
    )
    split = [{"columns": list(FEATURES), "data": [[row[name] for name in FEATURES]]} for row in rows]
    return Client(
        port=port,
        path="/invocations",
        ready="/ping",
        bodies=[json.dumps({"dataframe_split": one}).encode() for one in split],
        score=lambda answer: float(answer["predictions"][0]),
    )


def _save_as_mlflow(trained: PlainTraining, home: Path, saved: Path) -> None:
    """Save the registered model in MLflow's own LightGBM flavor, with its signature."""
    import mlflow.lightgbm
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    model: Any = load_model(trained.platform.registry.fetch(NAME, trained.candidate, home / "fetched"))
    inputs = Schema([ColSpec("double", name, required=False) for name in FEATURES])
    signature = ModelSignature(inputs=inputs, outputs=Schema([ColSpec("double")]))
    mlflow.lightgbm.save_model(model.booster, str(saved), signature=signature, pip_requirements=["lightgbm"])


def _request(row: dict[str, Any]) -> bytes:
    """Return the row's inputs as a request of the Open Inference Protocol."""
    tensors = []
    for name, datatype in RECOMMENDATIONS.inputs.items():
        value = row[name].isoformat() if isinstance(row[name], datetime) else row[name]
        tensors.append({"name": name, "shape": [1], "datatype": datatype, "data": [value]})
    return json.dumps({"inputs": tensors}).encode()


FIGURES = [predictions]

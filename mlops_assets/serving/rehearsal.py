"""A rehearsal: real requests to a candidate in a process that serves nothing else, before anybody depends on it.

The child process has what a prediction server has: the package by digest, the product's events, the application itself.
Its requests are the newest golden rows, over events that end before them. It is always ended.
"""

import asyncio
import json
import multiprocessing
import tempfile
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.errors import EvaluationError
from mlops_assets.ledger.canonical import Digest
from mlops_assets.serving.app import Application, build_app
from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.serving.served import ServedProduct
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.package import load_model


def rehearse(
    served: ServedProduct,
    package: Path,
    digest: Digest,
    *,
    events: pl.DataFrame,
    requests: pl.DataFrame,
    timeout_seconds: float,
) -> dict[str, Any]:
    """Return what came of one request for each row of ``requests``, with features from ``events``.

    ``answered``, ``statuses`` of what was not, ``not_finite`` scores, and ``differing``: scores that are not what the
    model says of the logged features in one batch. ``broke`` says why where there is nothing else. Raises
    ``EvaluationError`` when a row lacks an input of the product.
    """
    if missing := sorted(set(served.inputs) - set(requests.columns)):
        raise EvaluationError(f"the golden set lacks {missing}, which a request carries")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        columns = [name for name in events.columns if name in {*served.schema, *served.derived}]
        events.select(columns).write_parquet(root / "events.parquet")
        (root / "requests.json").write_text(json.dumps([_body(served, row) for row in requests.to_dicts()]))
        child = multiprocessing.get_context("spawn").Process(target=_serve, args=(served, package, digest, root))
        child.start()
        try:
            child.join(timeout_seconds)
            hung = child.is_alive()
        finally:  # whoever interrupts the evaluation must not leave a process behind
            child.kill()
            child.join()
        if hung:
            return {"broke": f"it did not answer {requests.height} requests in {timeout_seconds:g} s"}
        if not (root / "found.json").exists():
            return {"broke": f"its process ended with {child.exitcode}"}
        found: dict[str, Any] = json.loads((root / "found.json").read_text())
        return found


def _body(served: ServedProduct, row: dict[str, Any]) -> dict[str, Any]:
    """Return the request for a row, in the Open Inference Protocol's words."""
    return {
        "inputs": [
            {"name": name, "shape": [1], "datatype": datatype, "data": [_plain(row[name])]}
            for name, datatype in served.inputs.items()
        ]
    }


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _serve(served: ServedProduct, package: Path, digest: Digest, root: Path) -> None:
    """Answer the requests below ``root`` and write what came of them; the child's whole life."""
    try:
        found = _answers(served, package, digest, root)
    except Exception as error:  # the candidate cannot be served: that is what was asked
        found = {"broke": f"{type(error).__name__}: {error}"}
    partial = root / "found.partial"
    partial.write_text(json.dumps(found))
    partial.rename(root / "found.json")


def _answers(served: ServedProduct, package: Path, digest: Digest, root: Path) -> dict[str, Any]:
    registry, snapshots = DirectoryRegistry(root / "registry"), LocalSnapshots(root / "snapshots")
    registry.register(served.name, package, digest=digest, params={}, metrics={}, facts={})
    snapshot = snapshots.write(pl.read_parquet(root / "events.parquet")).digest
    log = FilePredictionLog(root / "log")
    app = build_app([served], snapshots=snapshots, registry=registry, log=log, state_dir=root / "state")
    plan = {"weights": {digest: 100}, "mirrors": [], "features": snapshot}
    bodies = json.loads((root / "requests.json").read_text())
    ready, answers = asyncio.run(_ask(app, served.name, plan, bodies))
    if not ready.is_success:
        return {"broke": f"it cannot be made ready: {ready.text}"}
    bad = [answer for answer in answers if not answer.is_success]
    scores = [answer.json()["outputs"][0]["data"][0] for answer in answers if answer.is_success]
    found = np.array([np.nan if score is None else score for score in scores], dtype=np.float64)
    return {
        "requests": len(bodies),
        "answered": len(scores),
        "statuses": {str(status): n for status, n in Counter(answer.status_code for answer in bad).items()},
        "said": bad[0].text[:500] if bad else "",
        "not_finite": int(np.count_nonzero(~np.isfinite(found))),
        "differing": _differing(log, served, package, found) if scores else 0,
    }


async def _ask(
    app: Application, product: str, plan: dict[str, Any], bodies: list[dict[str, Any]]
) -> tuple[httpx.Response, list[httpx.Response]]:
    """Return the answer to the plan, and to each request after it, one at a time."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    address = f"/v2/models/{product}"
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://rehearsal") as client,
    ):
        ready = await client.put(f"{address}/plan", json=plan)
        if not ready.is_success:
            return ready, []
        return ready, [await client.post(f"{address}/infer", json=body) for body in bodies]


def _differing(log: FilePredictionLog, served: ServedProduct, package: Path, scores: Any) -> int:
    """Return how many scores are not what the model says of the logged features when it sees them all at once."""
    logged = log.predictions(served.name)["features"].struct.unnest()
    batch = np.asarray(load_model(package).predict(logged), dtype=np.float64)
    return int(np.count_nonzero(~np.isclose(batch, scores, rtol=0, atol=1e-12, equal_nan=True)))

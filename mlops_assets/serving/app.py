"""The ASGI application: Open Inference Protocol v2 over REST, outcomes, the traffic plan, metrics."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import MlopsError, RequestRefused
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.serving.runtime import ProductRuntime
from mlops_assets.serving.served import ServedProduct
from mlops_assets.serving.tensors import parse_json, parse_rows
from mlops_assets.training.registry import ModelRegistry

MAX_BODY_BYTES = 8 * 1024 * 1024
LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
Handler = Callable[[Request], Awaitable[Response]]
_LOG = logging.getLogger(__name__)


def build_app(
    served: Sequence[ServedProduct],
    *,
    snapshots: SnapshotStore,
    registry: ModelRegistry,
    log: FilePredictionLog,
    state_dir: Path,
) -> Starlette:
    """Return the application that serves these products.

    The plan of each is kept in ``state_dir``: a restarted server serves at once what it served before.
    """
    runtimes = {
        product.name: ProductRuntime(product, snapshots=snapshots, registry=registry, log=log, state_dir=state_dir)
        for product in served
    }
    service = _Service(runtimes)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        for runtime in runtimes.values():
            try:
                await runtime.restore()
            except MlopsError as error:
                _LOG.error("%s: the last plan could not be restored: %s", runtime.served.name, error)
        yield

    return Starlette(routes=service.routes(), lifespan=lifespan)


class _Metrics:
    """Prometheus metrics, in base units."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("product", "version")
        self.requests = Counter("mlops_requests", "Requests by status.", ("product", "code"), registry=self.registry)
        self.predictions = Counter("mlops_predictions", "Rows answered.", labels, registry=self.registry)
        self.outcomes = Counter("mlops_outcomes", "Outcomes told.", ("product",), registry=self.registry)
        self.absent = Counter(
            "mlops_absent_features",
            "Requests whose entity a view did not know.",
            ("product", "view"),
            registry=self.registry,
        )
        self.refused_events = Counter(
            "mlops_refused_events", "Events that features do not count.", ("product",), registry=self.registry
        )
        self.weight = Gauge("mlops_traffic_weight_ratio", "Share of traffic.", labels, registry=self.registry)
        self.latency = Histogram(
            "mlops_request_duration_seconds",
            "Time to answer an inference request.",
            ("product",),
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )


class _Service:
    def __init__(self, runtimes: dict[str, ProductRuntime]) -> None:
        self._runtimes = runtimes
        self._metrics = _Metrics()
        for name, runtime in runtimes.items():
            absent = {view.name: self._metrics.absent.labels(name, view.name) for view in runtime.served.views}
            runtime.on_absent = lambda view, counters=absent: counters[view].inc()  # type: ignore[misc]
            runtime.on_refused_event = self._metrics.refused_events.labels(name).inc

    def routes(self) -> list[Route]:
        model = "/v2/models/{product}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/v2", self.describe_server),
            ("GET", "/v2/health/live", self.say_live),
            ("GET", "/v2/health/ready", self.say_ready),
            ("GET", model, self.describe_model),
            ("GET", f"{model}/ready", self.say_model_ready),
            ("POST", f"{model}/infer", self.infer),
            ("POST", f"{model}/outcomes", self.tell_outcomes),
            ("GET", f"{model}/plan", self.show_plan),
            ("PUT", f"{model}/plan", self.apply_plan),
            ("GET", "/metrics", self.show_metrics),
        ]
        return [Route(path, self._guarded(handler), methods=[method]) for method, path, handler in table]

    def _guarded(self, handler: Handler) -> Handler:
        """Return ``handler`` with refusals turned into their status, and all counted."""

        async def guarded(request: Request) -> Response:
            product = request.path_params.get("product", "")
            try:
                response = await handler(request)
            except RequestRefused as refused:
                response = JSONResponse({"error": str(refused)}, status_code=refused.status)
            except MlopsError as error:
                response = JSONResponse({"error": f"{type(error).__name__}: {error}"}, status_code=503)
            if product in self._runtimes:
                self._metrics.requests.labels(product, response.status_code).inc()
            return response

        return guarded

    def _runtime(self, request: Request) -> ProductRuntime:
        name = request.path_params["product"]
        if name not in self._runtimes:
            raise RequestRefused(f"unknown model {name!r}; known: {sorted(self._runtimes)}", 404)
        return self._runtimes[name]

    async def describe_server(self, _: Request) -> Response:
        return JSONResponse({"name": "mlops-assets", "version": "0.1.0", "extensions": ["outcomes", "plan"]})

    async def say_live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def say_ready(self, _: Request) -> Response:
        ready = all(runtime.live.plan.weights for runtime in self._runtimes.values())
        return JSONResponse({"ready": ready}, status_code=200 if ready else 503)

    async def say_model_ready(self, request: Request) -> Response:
        runtime = self._runtime(request)
        ready = bool(runtime.live.plan.weights)
        return JSONResponse({"name": runtime.served.name, "ready": ready}, status_code=200 if ready else 503)

    async def describe_model(self, request: Request) -> Response:
        runtime = self._runtime(request)
        inputs = [{"name": n, "datatype": kind, "shape": [-1]} for n, kind in runtime.served.inputs.items()]
        return JSONResponse(
            {
                "name": runtime.served.name,
                "versions": list(runtime.live.models),
                "platform": "mlops-assets",
                "inputs": inputs,
                "outputs": [{"name": "score", "datatype": "FP64", "shape": [-1]}],
            }
        )

    async def infer(self, request: Request) -> Response:
        began = time.perf_counter()
        runtime = self._runtime(request)
        body = parse_json(await _read_body(request))
        rows = parse_rows(body, runtime.served)
        answers = runtime.answer(rows, trace=_trace_id(request))
        versions = [answer.version for answer in answers]
        for version in versions:
            self._metrics.predictions.labels(runtime.served.name, version).inc()
        scores = [answer.score for answer in answers]
        self._metrics.latency.labels(runtime.served.name).observe(time.perf_counter() - began)
        return JSONResponse(
            {
                "model_name": runtime.served.name,
                "model_version": versions[0],
                "id": str(body.get("id") or answers[0].id),
                "parameters": {"prediction_ids": [answer.id for answer in answers], "versions": versions},
                "outputs": [{"name": "score", "datatype": "FP64", "shape": [len(scores)], "data": scores}],
            },
            background=BackgroundTask(runtime.mirror, answers) if runtime.live.plan.mirrors else None,
        )

    async def tell_outcomes(self, request: Request) -> Response:
        runtime = self._runtime(request)
        body = parse_json(await _read_body(request))
        told = [body] if isinstance(body, dict) else body
        if not isinstance(told, list) or not all(_is_outcome(item) for item in told):
            raise RequestRefused('an outcome is {"id": text, "value": number}, alone or in a list')
        new = sum(runtime.tell(item["id"], float(item["value"])) for item in told)
        self._metrics.outcomes.labels(runtime.served.name).inc(new)
        return JSONResponse({"new": new})

    async def show_plan(self, request: Request) -> Response:
        live = self._runtime(request).live
        return JSONResponse({**live.plan.to_json(), "ready": list(live.models)})

    async def apply_plan(self, request: Request) -> Response:
        runtime = self._runtime(request)
        body = parse_json(await _read_body(request))
        try:
            plan = TrafficPlan.from_json(body)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RequestRefused(f"a plan has weights, mirrors and features; {error!r}") from error
        if sum(plan.weights.values()) != 100:
            raise RequestRefused(f"weights must sum to 100, found {dict(plan.weights)}")
        await runtime.apply(plan)
        self._metrics.weight.clear()
        for name, other in self._runtimes.items():
            for version, weight in other.live.plan.weights.items():
                self._metrics.weight.labels(name, version).set(weight / 100)
        return JSONResponse(plan.to_json())

    async def show_metrics(self, _: Request) -> Response:
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _read_body(request: Request) -> bytes:
    """Return the body; ``RequestRefused`` (413) as soon as it grows too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise RequestRefused(f"the body is larger than {MAX_BODY_BYTES} bytes", 413)
    return bytes(body)


def _trace_id(request: Request) -> str | None:
    """Return the trace id of a W3C ``traceparent`` header, if there is a valid one."""
    parts = request.headers.get("traceparent", "").split("-")
    valid = len(parts) >= 4 and len(parts[1]) == 32 and set(parts[1]) <= set("0123456789abcdef")
    return parts[1] if valid else None


def _is_outcome(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("id"), str)
        and isinstance(item.get("value"), int | float)
        and not isinstance(item["value"], bool)
    )

"""The ASGI application: Open Inference Protocol v2 over REST, outcomes, explanations, the traffic plan, metrics.

Inference and outcomes, which come by the thousand, are answered without a framework; everything else is Starlette's.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import MlopsError, RequestRefused
from mlops_assets.features.online_stores import OnlineStores
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.inference import InferenceRoutes
from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.serving.metrics import Metrics
from mlops_assets.serving.openapi import describe
from mlops_assets.serving.requests import read_body
from mlops_assets.serving.runtime import ProductRuntime
from mlops_assets.serving.served import ServedProduct
from mlops_assets.serving.settings import Settings
from mlops_assets.serving.tensors import parse_json
from mlops_assets.training.registry import ModelRegistry

_LOG = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


def build_app(
    served: Sequence[ServedProduct],
    *,
    snapshots: SnapshotStore,
    registry: ModelRegistry,
    log: FilePredictionLog,
    state_dir: Path,
    online: OnlineStores | None = None,
    settings: Settings | None = None,
) -> "Application":
    """Return the application that serves these products, their features kept in ``online`` (this process's memory).

    The plan of each is kept in ``state_dir``, which all workers of a server share: a restarted server serves at once
    what it served before.
    """
    limits = settings or Settings()
    runtimes = {
        product.name: ProductRuntime(
            product, snapshots=snapshots, registry=registry, log=log, online=online, state_dir=state_dir,
            settings=limits,
        )
        for product in served
    }  # fmt: skip
    return Application(runtimes, limits)


class Application:
    """Sends a request to the quick routes, or to Starlette's."""

    def __init__(self, runtimes: Mapping[str, ProductRuntime], settings: Settings) -> None:
        self._runtimes = runtimes
        self._settings = settings
        self._metrics = Metrics(runtimes)
        self._quick = InferenceRoutes(runtimes, self._metrics, settings)
        self.framework = Starlette(routes=self._routes(), lifespan=self._lifespan)
        self.router = self.framework.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection's request, or the server's start and end."""
        exchange = self._quick.find(scope) if scope["type"] == "http" else None
        if exchange is None:
            await self.framework(scope, receive, send)
        else:
            await self._quick.serve(exchange, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        for name, runtime in self._runtimes.items():
            try:
                await runtime.start()
            except MlopsError as error:  # it is tried again until it can be had
                _LOG.error("%s: the last plan could not be restored: %s", name, error)
        try:
            yield
        finally:
            for runtime in self._runtimes.values():
                await runtime.stop()

    def _routes(self) -> list[Route]:
        model = "/v2/models/{product}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/v2", self._describe_server),
            ("GET", "/v2/health/live", self._say_live),
            ("GET", "/v2/health/ready", self._say_ready),
            ("GET", model, self._describe_model),
            ("GET", f"{model}/ready", self._say_model_ready),
            ("GET", f"{model}/versions/{{version}}", self._describe_model),
            ("GET", f"{model}/versions/{{version}}/ready", self._say_model_ready),
            ("GET", f"{model}/plan", self._show_plan),
            ("PUT", f"{model}/plan", self._apply_plan),
            ("GET", f"{model}/predictions/{{id}}/explanation", self._explain),
            ("GET", "/openapi.json", self._show_openapi),
            ("GET", "/metrics", self._show_metrics),
        ]
        return [Route(path, self._guarded(handler), methods=[method]) for method, path, handler in table]

    def _guarded(self, handler: Handler) -> Handler:
        """Return ``handler`` with refusals turned into their status, and all counted."""

        async def guarded(request: Request) -> Response:
            product = request.path_params.get("product", "")
            try:
                response = await handler(request)
            except RequestRefused as refused:
                response = _json({"error": str(refused)}, refused.status)
            except MlopsError as error:
                response = _json({"error": f"{type(error).__name__}: {error}"}, 503)
            if product in self._runtimes:
                self._metrics.code(product, response.status_code).inc()
            return response

        return guarded

    def _runtime(self, request: Request) -> ProductRuntime:
        name = request.path_params["product"]
        if name not in self._runtimes:
            raise RequestRefused(f"unknown model {name!r}; known: {sorted(self._runtimes)}", 404)
        runtime = self._runtimes[name]
        version = request.path_params.get("version")
        if version is not None and version not in runtime.live.versions:
            raise RequestRefused(f"{name}: version {version!r} is not live; live: {list(runtime.live.versions)}", 404)
        return runtime

    async def _describe_server(self, _: Request) -> Response:
        extensions = ["binary_tensor_data", "outcomes", "explanation", "plan"]
        return _json({"name": "mlops-assets", "version": "0.1.0", "extensions": extensions})

    async def _say_live(self, _: Request) -> Response:
        return _json({"live": True})

    async def _say_ready(self, _: Request) -> Response:
        ready = all(runtime.live.plan.weights for runtime in self._runtimes.values())
        return _json({"ready": ready}, 200 if ready else 503)

    async def _say_model_ready(self, request: Request) -> Response:
        runtime = self._runtime(request)
        ready = bool(runtime.live.plan.weights)
        return _json({"name": runtime.served.name, "ready": ready}, 200 if ready else 503)

    async def _describe_model(self, request: Request) -> Response:
        runtime = self._runtime(request)
        inputs = [{"name": n, "datatype": kind, "shape": [-1]} for n, kind in runtime.served.inputs.items()]
        outputs = [{"name": "score", "datatype": "FP64", "shape": [-1]}]
        return _json(
            {
                "name": runtime.served.name,
                "versions": list(runtime.live.versions),
                "platform": "mlops-assets",
                "inputs": inputs,
                "outputs": outputs,
            }
        )

    async def _show_plan(self, request: Request) -> Response:
        live = self._runtime(request).live
        return _json({**live.plan.to_json(), "ready": list(live.versions)})

    async def _apply_plan(self, request: Request) -> Response:
        runtime = self._runtime(request)
        body = parse_json(await read_body(request.receive, self._settings))
        try:
            plan = TrafficPlan.from_json(body)
            faults = plan.faults()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RequestRefused(f"a plan has weights, mirrors and features; {error!r}") from error
        if not plan.weights:
            faults.append("weights must sum to 100, found none")
        if faults:
            raise RequestRefused("; ".join(faults))
        await runtime.apply(plan)
        return _json(plan.to_json())

    async def _explain(self, request: Request) -> Response:
        runtime = self._runtime(request)
        return _json(await runtime.explain(request.path_params["id"]))

    async def _show_openapi(self, _: Request) -> Response:
        return _json(describe([runtime.served for runtime in self._runtimes.values()]))

    async def _show_metrics(self, _: Request) -> Response:
        text = await asyncio.to_thread(self._metrics.text)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


def _json(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")

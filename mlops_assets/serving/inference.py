"""The two routes that come by the thousand: ``infer`` and ``outcomes``."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from mlops_assets.errors import MlopsError, RequestRefused
from mlops_assets.serving.metrics import Metrics
from mlops_assets.serving.protocol import arrived, waiting
from mlops_assets.serving.requests import TIMEOUT_HEADER, ClientGone, read_body, seconds_allowed, trace_id
from mlops_assets.serving.runtime import Answer, ProductRuntime
from mlops_assets.serving.settings import Settings
from mlops_assets.serving.tensors import as_binary, parse_json, parse_request, parse_rows, wants_binary

_LOG = logging.getLogger(__name__)
JSON_BYTES = "inference-header-content-length"
VERSION_HEADER = "x-model-version"
_HEADERS = {name.encode() for name in ("traceparent", TIMEOUT_HEADER, JSON_BYTES, VERSION_HEADER)}
RETRY_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request on one of the quick routes: of which product, to do what, and the version its path names."""

    runtime: ProductRuntime
    action: str
    version: str | None
    scope: Scope


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    media_type: bytes = b"application/json"


class InferenceRoutes:
    """Finds and serves ``POST /v2/models/<product>[/versions/<version>]/infer`` and ``…/<product>/outcomes``."""

    def __init__(self, runtimes: Mapping[str, ProductRuntime], metrics: Metrics, settings: Settings) -> None:
        self._metrics = metrics
        self._settings = settings
        self._paths: dict[str, tuple[ProductRuntime, str]] = {
            f"/v2/models/{name}/{action}": (runtime, action)
            for name, runtime in runtimes.items()
            for action in ("infer", "outcomes")
        }
        self._runtimes = runtimes

    def find(self, scope: Scope) -> Exchange | None:
        """Return the exchange if the request is on one of these routes."""
        if scope["method"] != "POST":
            return None
        path: str = scope["path"]
        found = self._paths.get(path)
        if found is not None:
            return Exchange(found[0], found[1], None, scope)
        parts = path.split("/")
        if len(parts) == 7 and parts[1:3] == ["v2", "models"] and parts[4] == "versions" and parts[6] == "infer":
            runtime = self._runtimes.get(parts[3])
            return Exchange(runtime, "infer", parts[5], scope) if runtime else None
        return None

    async def serve(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        """Answer; nothing that a client sends, and no model, makes this raise."""
        name = exchange.runtime.served.name
        try:
            act = self._infer if exchange.action == "infer" else self._tell
            reply = await act(exchange, receive)
        except ClientGone:
            return
        except RequestRefused as refused:
            reply = self._refusal(name, refused)
        except MlopsError as error:
            reply = _reply({"error": f"{type(error).__name__}: {error}"}, 503)
        except Exception as error:
            _LOG.exception("%s: a request broke", name)
            reply = _reply({"error": f"{type(error).__name__}: {error}"}, 500)
        self._metrics.code(name, reply.status).inc()
        length = str(len(reply.body)).encode()
        headers = [(b"content-type", reply.media_type), (b"content-length", length), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _refusal(self, name: str, refused: RequestRefused) -> Reply:
        if refused.status == 504:
            self._metrics.of_product(self._metrics.late, name).inc()
        again = ((b"retry-after", str(RETRY_SECONDS).encode()),) if refused.status in (429, 503) else ()
        return _reply({"error": str(refused)}, refused.status, again)

    async def _infer(self, exchange: Exchange, receive: Receive) -> Reply:
        runtime, scope = exchange.runtime, exchange.scope
        name = runtime.served.name
        waited = waiting(scope)
        self._metrics.waiting.observe(waited)
        if waited > self._settings.waiting:
            self._metrics.of_product(self._metrics.shed, name).inc()
            raise RequestRefused(f"{name}: more than {self._settings.waiting} requests wait; come again", 429)
        began = arrived(scope)
        headers = {key: value.decode("latin-1") for key, value in scope["headers"] if key in _HEADERS}
        until = began + seconds_allowed(headers.get(TIMEOUT_HEADER.encode()), self._settings)
        asked = self._version_asked(exchange, headers.get(VERSION_HEADER.encode()))
        body = parse_request(await read_body(receive, self._settings), headers.get(JSON_BYTES.encode()))
        rows = parse_rows(body, runtime.served)
        answers = await runtime.answer(rows, until=until, trace=trace_id(headers.get(b"traceparent", "")), asked=asked)
        for answer in answers:
            version = answer.scored.version
            self._metrics.of_version(self._metrics.predictions, name, version).inc()
            self._metrics.of_version(self._metrics.score, name, version).observe(answer.scored.score)
        reply = _inference_reply(name, body, answers)
        self._metrics.of_product(self._metrics.latency, name).observe(time.perf_counter() - began)
        return reply

    def _version_asked(self, exchange: Exchange, header: str | None) -> str | None:
        asked = exchange.version or header
        if asked is not None and not self._settings.may_choose_version:
            raise RequestRefused("this server chooses the version itself; it was not permitted to ask for one", 403)
        return asked

    async def _tell(self, exchange: Exchange, receive: Receive) -> Reply:
        runtime = exchange.runtime
        body = parse_json(await read_body(receive, self._settings))
        told = [body] if isinstance(body, dict) else body
        if not isinstance(told, list) or not all(_is_outcome(item) for item in told):
            raise RequestRefused(
                'an outcome is {"id": text, "value": number}, alone or in a list; a correction has "corrects": why'
            )
        new = 0
        for item in told:
            if "corrects" in item:
                new += await runtime.correct(item["id"], float(item["value"]), item["corrects"])
            else:
                new += await runtime.tell(item["id"], float(item["value"]))
        self._metrics.of_product(self._metrics.outcomes, runtime.served.name).inc(new)
        return _reply({"new": new})


def _inference_reply(name: str, body: Mapping[str, Any], answers: list[Answer]) -> Reply:
    versions = [answer.scored.version for answer in answers]
    scores = [answer.scored.score for answer in answers]
    output: dict[str, Any] = {"name": "score", "datatype": "FP64", "shape": [len(scores)]}
    content = {
        "model_name": name,
        "model_version": versions[0],
        "id": str(body.get("id") or answers[0].id),
        "parameters": {"prediction_ids": [answer.id for answer in answers], "versions": versions},
        "outputs": [output],
    }
    if not wants_binary(body):
        output["data"] = scores
        return _reply(content)
    binary = as_binary(scores)
    output["parameters"] = {"binary_data_size": len(binary)}
    head = orjson.dumps(content)
    length = (JSON_BYTES.encode(), str(len(head)).encode())
    return Reply(200, head + binary, (length,), b"application/octet-stream")


def _reply(content: Any, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Reply:
    return Reply(status, orjson.dumps(content), headers)


def _is_outcome(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("id"), str)
        and isinstance(item.get("value"), int | float)
        and not isinstance(item["value"], bool)
        and isinstance(item.get("corrects", ""), str)
    )

"""The server's own description as OpenAPI 3.1, made from the products it serves."""

from collections.abc import Sequence
from typing import Any

from mlops_assets.serving.served import ServedProduct
from mlops_assets.serving.tensors import MAX_ROWS

_VALUES = {
    "INT64": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "FP64": {"type": "number"},
    "BYTES": {"type": "string"},
    "BOOL": {"type": "boolean"},
}
_PLAN = {
    "type": "object",
    "required": ["weights", "mirrors", "features"],
    "properties": {
        "weights": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 100}},
        "mirrors": {"type": "array", "items": {"type": "string"}},
        "features": {"type": ["string", "null"]},
        "champion": {"type": ["string", "null"]},
        "rules": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["input", "values", "version"],
                "properties": {
                    "input": {"type": "string"}, "values": {"type": "array"}, "version": {"type": "string"},
                },
            },
        },
    },
}  # fmt: skip
_ERROR = {
    "type": "object", "required": ["error"], "properties": {"error": {"type": "string"}},
}  # fmt: skip
_REFUSALS = {
    "400": "The request is not as described.", "403": "The client may not choose a version.", "404": "Unknown.",
    "408": "The body did not arrive in time.", "409": "Another outcome is on record.", "413": "The body is too large.",
    "429": "Too many requests wait.", "503": "Not ready, or a part is away.", "504": "The deadline passed.",
}  # fmt: skip


def describe(served: Sequence[ServedProduct]) -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, Any] = {
        "/v2": {"get": _get("What this server is.", {"type": "object", "required": ["name", "version"]})},
        "/v2/health/live": {"get": _get("Whether the process lives.", _claims("live"))},
        "/v2/health/ready": {"get": _get("Whether every product has a plan.", _claims("ready"), also=("503",))},
        "/metrics": {"get": {"summary": "Prometheus metrics.", "responses": {"200": {"description": "Metrics."}}}},
        "/openapi.json": {"get": _get("This document.", {"type": "object"})},
    }
    for product in served:
        paths |= _paths_of(product)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlops-assets prediction server", "version": "0.1.0"},
        "paths": paths,
        "components": {"schemas": {"Error": _ERROR}},
    }


def _paths_of(product: ServedProduct) -> dict[str, Any]:
    model = f"/v2/models/{product.name}"
    model_facts = {"type": "object", "required": ["name", "versions", "platform", "inputs", "outputs"]}
    id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {
        model: {"get": _get("What the product takes and gives.", model_facts)},
        f"{model}/ready": {"get": _get("Whether it has a plan.", _claims("ready"), also=("503",))},
        f"{model}/plan": {
            "get": _get("How traffic is shared.", _PLAN),
            "put": _post("Share traffic so, in all workers at once.", _PLAN, _PLAN, "400 404 408 413 503"),
        },
        f"{model}/infer": {
            "post": _post("Answer rows.", _request(product), _answer(), "400 403 404 408 413 429 503 504")
        },
        f"{model}/outcomes": {
            "post": _post("Tell what became of predictions.", _outcomes(), _news(), "400 404 408 409 413 503")
        },
        f"{model}/predictions/{{id}}/explanation": {
            "get": {**_get("What moved a score.", {"type": "object"}, also=("404", "503")), "parameters": [id]}
        },
    }


def _get(summary: str, schema: dict[str, Any], also: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _json(schema, "The answer."), **_refusals(also, schema)}}


def _post(summary: str, request: dict[str, Any], schema: dict[str, Any], also: str) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": request}}}
    answers = {"200": _json(schema, "The answer."), **_refusals(tuple(also.split()))}
    return {"summary": summary, "requestBody": body, "responses": answers}


def _refusals(codes: tuple[str, ...], schema: dict[str, Any] | None = None) -> dict[str, Any]:
    error = {"$ref": "#/components/schemas/Error"}
    either = {"anyOf": [error, schema]} if schema else error
    return {code: _json(either, _REFUSALS[code]) for code in codes}


def _json(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _claims(name: str) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: {"type": "boolean"}}}


def _request(product: ServedProduct) -> dict[str, Any]:
    tensors = [_tensor(name, datatype, product) for name, datatype in product.inputs.items()]
    inputs = {"type": "array", "items": {"oneOf": tensors}, "minItems": len(tensors), "maxItems": len(tensors)}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {"id": {"type": "string"}, "parameters": {"type": "object"}, "inputs": inputs},
    }


def _tensor(name: str, datatype: str, product: ServedProduct) -> dict[str, Any]:
    value = _VALUES[datatype] if name in product.required else {"anyOf": [_VALUES[datatype], {"type": "null"}]}
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": name},
            "datatype": {"const": datatype},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
            "data": {"type": "array", "items": value, "minItems": 1, "maxItems": MAX_ROWS},
        },
    }


def _answer() -> dict[str, Any]:
    output = {
        "type": "object",
        "required": ["name", "datatype", "shape", "data"],
        "properties": {"data": {"type": "array", "items": {"type": "number"}}},
    }
    return {
        "type": "object",
        "required": ["model_name", "model_version", "id", "parameters", "outputs"],
        "properties": {"outputs": {"type": "array", "items": output}},
    }


def _outcomes() -> dict[str, Any]:
    one = {
        "type": "object",
        "required": ["id", "value"],
        "properties": {"id": {"type": "string"}, "value": {"type": "number"}, "corrects": {"type": "string"}},
    }
    return {"anyOf": [one, {"type": "array", "items": one}]}


def _news() -> dict[str, Any]:
    return {"type": "object", "required": ["new"], "properties": {"new": {"type": "integer"}}}

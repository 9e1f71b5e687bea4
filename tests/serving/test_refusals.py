"""Bad input is refused with the reason, never with a 5xx, and harms nobody else."""

import asyncio
import copy
import json
from datetime import timedelta

import httpx
import pytest
import shop

GOOD = shop.request(1, shop.START + timedelta(days=20))


def changed(of, **fields):
    body = copy.deepcopy(GOOD)
    tensor = next(tensor for tensor in body["inputs"] if tensor["name"] == of)
    tensor.update(fields)
    return json.dumps(body)


def without(name):
    return json.dumps({"inputs": [tensor for tensor in GOOD["inputs"] if tensor["name"] != name]})


BAD = {
    "not JSON": ("{", "not JSON"),
    "NaN": (json.dumps(GOOD).replace("10.0", "NaN"), "send null"),
    "no inputs": ("{}", "inputs"),
    "a list": ("[]", "inputs"),
    "a missing input": (without("person"), "missing"),
    "an unknown input": (changed("price", name="colour"), "unknown input 'colour'"),
    "another type": (changed("person", data=["one"]), "is no INT64"),
    "a boolean for a number": (changed("price", data=[True]), "is no FP64"),
    "a huge integer": (changed("person", data=[2**70]), "is no INT64"),
    "another datatype": (changed("price", datatype="FP32"), "must have the datatype FP64"),
    "a null key": (changed("person", data=[None]), "must not be null"),
    "a wrong shape": (changed("price", shape=[2]), "shape"),
    "other lengths": (changed("price", shape=[2], data=[1.0, 2.0]), "same number of rows"),
    "no rows": (changed("price", shape=[0], data=[]), "1 to"),
    "no time": (changed("at", data=["soon"]), "ISO 8601"),
    "an input twice": (json.dumps({"inputs": [*GOOD["inputs"], GOOD["inputs"][0]]}), "twice"),
    "deep nesting": ("[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize(("body", "reason"), BAD.values(), ids=BAD.keys())
def test_a_malformed_request_is_refused_with_its_reason(served, body, reason):
    answer = served.post("/v2/models/shop/infer", content=body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert served.post("/v2/models/shop/infer", json=GOOD).is_success


def test_an_unknown_price_is_no_fault(served):
    assert served.post("/v2/models/shop/infer", content=changed("price", data=[None])).is_success


def test_an_oversized_body_is_refused(served):
    answer = served.post("/v2/models/shop/infer", content=b" " * (9 * 1024 * 1024))
    assert answer.status_code == 413


def test_an_unknown_product_is_not_found(served):
    assert served.post("/v2/models/nobody/infer", json=GOOD).status_code == 404


@pytest.mark.parametrize("body", ['{"id": 1, "value": 2}', '{"id": "a"}', '{"id": "a", "value": true}', "3", "[3]"])
def test_a_malformed_outcome_is_refused(served, body):
    assert served.post("/v2/models/shop/outcomes", content=body).status_code == 400


@pytest.mark.parametrize("plan", [{}, {"weights": {"a": 50}, "mirrors": [], "features": None}, {"weights": 3}])
def test_a_malformed_plan_is_refused(served, plan):
    assert served.put("/v2/models/shop/plan", json=plan).status_code == 400


def test_a_server_without_a_plan_says_that_nothing_is_live(tmp_path):
    async def ask():
        transport = httpx.ASGITransport(app=shop.app(tmp_path))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.post("/v2/models/shop/infer", json=GOOD), await client.get("/v2/health/ready")

    answer, ready = asyncio.run(ask())
    assert answer.status_code == ready.status_code == 503
    assert "no version is live" in answer.json()["error"]

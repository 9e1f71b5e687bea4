"""What a server does at its limits: late, too many, too large, too slow, too deep; and what a client may choose."""

import json
import socket
import struct
import threading
import time
from datetime import timedelta

import httpx
import numpy as np
import pytest
import shop
from conftest import Server

from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.serving.settings import Settings

NOW = shop.START + timedelta(days=20)
GOOD = shop.request(1, NOW)
INFER = "/v2/models/shop/infer"


def rows_of(count):
    columns = {"person": ("INT64", 1), "at": ("BYTES", NOW.isoformat()), "price": ("FP64", 10.0)}
    return {
        "inputs": [
            {"name": name, "shape": [count], "datatype": datatype, "data": [value] * count}
            for name, (datatype, value) in columns.items()
        ]
    }


def strict(root, models, features, **settings):
    server = Server(root, settings=Settings(**settings)).start()
    assert server.put_plan({models[0]: 90, models[1]: 10}, features=features).is_success
    return server


@pytest.fixture(scope="module")
def choosing(root, models, features):
    """A server that lets clients choose versions, waits briefly for bodies, and takes few at a time."""
    server = strict(
        root, models, features, may_choose_version=True, waiting=8, body_deadline=timedelta(milliseconds=500)
    )
    yield server
    server.kill()
    server.client.close()


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def still_serves(server):
    assert server.infer(1, NOW).is_success
    return True


def test_a_request_is_given_up_at_the_clients_deadline_and_nothing_is_logged(choosing):
    log = FilePredictionLog(choosing.root / "log")
    before = log.count("shop")
    late = choosing.client.post(INFER, json=rows_of(10_000), headers={"x-request-timeout-ms": "1"})
    assert late.status_code == 504
    assert "deadline" in late.json()["error"]
    assert log.count("shop") == before
    assert choosing.client.post(INFER, json=GOOD, headers={"x-request-timeout-ms": "60000"}).is_success


@pytest.mark.parametrize("said", ["soon", "-1", "1.5", "", "9" * 30])
def test_a_deadline_that_is_no_number_is_refused(choosing, said):
    answer = choosing.client.post(INFER, json=GOOD, headers={"x-request-timeout-ms": said})
    assert answer.status_code == 400
    assert "milliseconds" in answer.json()["error"]


def test_more_than_may_wait_are_told_to_come_again_and_the_others_are_answered(choosing):
    """One large request holds the worker, while more arrive than it lets wait."""
    held = threading.Thread(target=choosing.client.post, args=(INFER,), kwargs={"json": rows_of(10_000)})
    head = f"POST {INFER} HTTP/1.1\r\nhost: shop\r\ncontent-length: "
    body = json.dumps(GOOD)
    message = f"{head}{len(body)}\r\nconnection: close\r\n\r\n{body}".encode()
    sockets = [connected(choosing) for _ in range(40)]
    held.start()
    time.sleep(0.05)
    for one in sockets:
        one.sendall(message)
    answers = []
    for one in sockets:
        with one, one.makefile("rb") as stream:
            answers.append(stream.read())
    held.join()
    codes = [int(answer.split(b" ", 2)[1]) for answer in answers]
    assert set(codes) == {200, 429}
    assert all(b"retry-after: 1" in answer for answer in answers if b" 429 " in answer[:20])
    counted = choosing.client.get("/metrics").text
    [shed] = [line for line in counted.splitlines() if line.startswith("mlops_shed_requests_total")]
    assert float(shed.split()[-1]) >= codes.count(429)
    assert still_serves(choosing)


def test_a_body_that_does_not_arrive_is_given_up_and_holds_up_nobody(choosing):
    with connected(choosing) as slow:
        slow.sendall(f"POST {INFER} HTTP/1.1\r\nhost: shop\r\ncontent-length: 100\r\n\r\n{{".encode())
        began = time.monotonic()
        assert still_serves(choosing)
        assert time.monotonic() - began < 20  # it did not wait for the slow one's end, which never comes
        assert b" 408 " in slow.recv(1000)
    assert still_serves(choosing)


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(choosing):
    for _ in range(20):
        with connected(choosing) as gone:
            gone.sendall(f"POST {INFER} HTTP/1.1\r\nhost: shop\r\ncontent-length: 1000\r\n\r\n{{".encode())
    assert still_serves(choosing)


def test_a_flood_of_headers_is_cut_off(choosing):
    with connected(choosing) as flood:
        flood.sendall(f"POST {INFER} HTTP/1.1\r\nhost: shop\r\n".encode())
        answer = b""
        try:
            for number in range(20_000):
                flood.sendall(f"x-{number}: {'a' * 100}\r\n".encode())
            answer = flood.recv(1000)
        except OSError:  # it was closed while the flood went on
            pass
    assert b" 200 " not in answer
    assert still_serves(choosing)


@pytest.mark.parametrize("path", ["/v2/models/../shop/infer", "/v2/models/%2e%2e/shop/infer", "//v2/models/shop/infer"])
def test_tricks_with_paths_find_nothing(choosing, path):
    with connected(choosing) as one:
        body = json.dumps(GOOD)
        one.sendall(
            f"POST {path} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert b" 404 " in one.makefile("rb").read().split(b"\r\n")[0] + b" "


def test_a_client_may_choose_a_version_where_that_is_permitted(choosing, models):
    for version in models:
        by_header = choosing.client.post(INFER, json=GOOD, headers={"x-model-version": version}).json()
        by_path = choosing.client.post(f"/v2/models/shop/versions/{version}/infer", json=GOOD).json()
        assert by_header["model_version"] == by_path["model_version"] == version
    [id] = by_path["parameters"]["prediction_ids"]
    logged = FilePredictionLog(choosing.root / "log").predictions("shop")
    assert logged.filter(logged["id"] == id)["arm"].to_list() == ["asked"]
    unknown = choosing.client.post(INFER, json=GOOD, headers={"x-model-version": "sha256:none"})
    assert unknown.status_code == 404
    assert models[0] in unknown.json()["error"]


def test_a_client_may_not_choose_a_version_where_that_is_not_permitted(served, models):
    answer = served.post(INFER, json=GOOD, headers={"x-model-version": models[0]})
    assert answer.status_code == 403


def binary_request(values, output=None):
    """Return a request whose tensors are binary, and its headers."""
    inputs, data = [], b""
    for name, datatype, content in values:
        inputs.append(
            {"name": name, "shape": [2], "datatype": datatype, "parameters": {"binary_data_size": len(content)}}
        )
        data += content
    body = {"inputs": inputs, "outputs": [{"name": "score", "parameters": {"binary_data": True}}]}
    head = json.dumps(body).encode()
    return head + data, {"inference-header-content-length": str(len(head))}


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


BINARY = [
    ("person", "INT64", np.array([1, 2], "<i8").tobytes()),
    ("at", "BYTES", text(NOW.isoformat()) * 2),
    ("price", "FP64", np.array([10.0, 20.0], "<f8").tobytes()),
]


def test_binary_tensors_say_the_same_as_json(choosing, models):
    content, headers = binary_request(BINARY)
    answer = choosing.client.post(INFER, content=content, headers=headers | {"x-model-version": models[0]})
    assert answer.is_success, answer.text
    length = int(answer.headers["inference-header-content-length"])
    scores = np.frombuffer(answer.content[length:], "<f8").tolist()
    assert json.loads(answer.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": 16}
    plain = [
        choosing.client.post(INFER, json=shop.request(*row), headers={"x-model-version": models[0]}).json()
        for row in ((1, NOW, 10.0), (2, NOW, 20.0))
    ]
    assert scores == [one["outputs"][0]["data"][0] for one in plain]


LENGTH = "inference-header-content-length"
CUT = {
    "a size too large": (lambda content, head: (content[:-1], head), "bytes are left"),
    "bytes that belong to none": (lambda content, head: (content + b"x", head), "belong to none"),
    "a head that ends nowhere": (lambda content, head: (content, {LENGTH: "9" * 9}), "the body has"),
    "a head of no number": (lambda content, head: (content, {LENGTH: "x"}), "the body has"),
    "a text that goes on": (
        lambda content, head: (content.replace(text(NOW.isoformat())[:4], b"\xff\xff\xff\x7f"), head),
        "cut off",
    ),
    "no UTF-8": (lambda content, head: (content.replace(b"2024", b"\xff\xfe24"), head), "codec"),
}


@pytest.mark.parametrize(("change", "reason"), CUT.values(), ids=CUT.keys())
def test_binary_tensors_that_are_not_what_they_say_are_refused(choosing, change, reason):
    content, headers = change(*binary_request(BINARY))
    answer = choosing.client.post(INFER, content=content, headers=headers)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]


def test_an_explanation_adds_up_to_the_score(choosing):
    answer = choosing.infer(3, NOW).json()
    [id] = answer["parameters"]["prediction_ids"]
    explained = choosing.client.get(f"/v2/models/shop/predictions/{id}/explanation").json()
    assert explained["id"] == id
    assert explained["score"] == answer["outputs"][0]["data"][0]
    assert set(explained["contributions"]) == set(shop.FEATURES)
    raw = explained["base"] + sum(explained["contributions"].values())
    assert 1 / (1 + np.exp(-raw)) == pytest.approx(explained["score"], abs=1e-9)
    assert choosing.client.get("/v2/models/shop/predictions/nobody/explanation").status_code == 404


def test_a_correction_is_told_with_its_reason(choosing):
    [id] = choosing.infer(3, NOW).json()["parameters"]["prediction_ids"]
    tell = "/v2/models/shop/outcomes"
    assert choosing.client.post(tell, json={"id": id, "value": 1.0, "corrects": "early"}).status_code == 404
    assert choosing.client.post(tell, json={"id": id, "value": 1.0}).json() == {"new": 1}
    assert choosing.client.post(tell, json={"id": id, "value": 2.0, "corrects": "mistyped"}).json() == {"new": 1}
    assert choosing.client.post(tell, json={"id": id, "value": 2.0, "corrects": "mistyped"}).json() == {"new": 0}
    logged = FilePredictionLog(choosing.root / "log").predictions("shop")
    [row] = logged.filter(logged["id"] == id).to_dicts()
    assert (row["outcome"], row["corrected"]) == (1.0, 2.0)


def test_pipelined_requests_are_answered_in_their_order(choosing):
    """One connection sends several requests without waiting, as HTTP/1.1 permits."""
    bodies = [json.dumps(shop.request(person, NOW) | {"id": str(person)}) for person in range(1, 6)]
    message = "".join(f"POST {INFER} HTTP/1.1\r\nhost: shop\r\ncontent-length: {len(b)}\r\n\r\n{b}" for b in bodies)
    message += "GET /v2/health/live HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n"
    with connected(choosing) as one:
        one.sendall(message.encode())
        answers = one.makefile("rb").read()
    places = [answers.index(f'"id":"{person}"'.encode()) for person in range(1, 6)]
    assert places == sorted(places)


def test_a_server_that_ends_answers_what_is_under_way_first(tmp_path, root, models, features):
    for folder in ("registry", "snapshots"):
        (tmp_path / folder).symlink_to(root / folder)
    server = strict(tmp_path, models, features)
    answers = []

    def ask():
        with httpx.Client(base_url=server.url, timeout=30) as client:
            answers.append(client.post(INFER, json=rows_of(5_000)))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.1)
    server.process.terminate()
    asking.join()
    server.process.join(30)
    assert [answer.status_code for answer in answers] == [200]
    assert not server.process.is_alive()
    assert FilePredictionLog(tmp_path / "log").count("shop") == 5_000

"""Several workers behind one port: one plan at a time, one log, one count, whichever of them dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import shop
from conftest import Server

from mlops_assets.serving.log import FilePredictionLog

NOW = shop.START + timedelta(days=20)
WORKERS = 2


def workers_of(server):
    """Return the process ids of the workers that hold the shop's board."""
    return [int(path.name.partition("-")[0]) for path in server.root.glob("state/shop/workers/*")]


def all_there(server, but=()):
    """Wait until as many workers as declared have joined."""
    deadline = time.monotonic() + 60
    while len(found := [pid for pid in workers_of(server) if pid not in but and alive(pid)]) < WORKERS:
        assert time.monotonic() < deadline, "a worker is missing"
        time.sleep(0.05)
    return found


def alive(pid):
    return Path(f"/proc/{pid}").exists()


class Workers(Server):
    """The shop's server with several workers, in processes that it starts itself."""

    def __init__(self, root):
        super().__init__(root)
        one_each = httpx.Limits(max_keepalive_connections=0)  # so that no request is of a worker that just died
        self.client = httpx.Client(base_url=self.url, timeout=30, limits=one_each)

    def start(self):
        environment = os.environ | {"SHOP_ROOT": str(self.root), "PYTHONPATH": str(Path(shop.__file__).parent)}
        command = [sys.executable, shop.__file__, str(self.port), str(WORKERS)]
        self.process = subprocess.Popen(command, env=environment)
        all_there(self)
        return self


@pytest.fixture(scope="module")
def several(root, models, features):
    server = Workers(root).start()
    assert server.put_plan({models[0]: 100}, features=features).is_success
    yield server
    server.process.terminate()
    assert server.process.wait(30) == 0
    assert not [pid for pid in workers_of(server) if alive(pid)]
    server.client.close()


class Asking:
    """Clients that ask all the time, each on new connections, so that all workers answer."""

    def __init__(self, server, clients=3):
        self.answers, self.broken, self.refused = [], 0, []
        self._server, self._stop = server, threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]

    def _ask(self, number):
        while not self._stop.is_set():
            with httpx.Client(base_url=self._server.url, timeout=30) as client:
                for _ in range(5):
                    began = time.monotonic()
                    try:
                        answer = client.post("/v2/models/shop/infer", json=shop.request(number, NOW))
                    except httpx.TransportError:
                        self.broken += 1
                        break
                    if answer.is_success:
                        self.answers.append((began, time.monotonic(), answer.json()))
                    else:
                        self.refused.append(answer.text)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def ids(self):
        return [answer["parameters"]["prediction_ids"][0] for _, _, answer in self.answers]


def test_all_workers_switch_to_a_plan_at_once(several, models, features):
    """A request that begins after a plan was acknowledged is never answered by the plan before."""
    switched = []
    with Asking(several) as asking:
        for turn in range(20):
            version = models[turn % 2]
            assert several.put_plan({version: 100}, features=features).is_success
            switched.append((time.monotonic(), version))
            time.sleep(0.05)
    assert (asking.broken, asking.refused) == (0, [])
    assert len(asking.answers) > 40
    for (done, version), following in zip(switched, [*switched[1:], None], strict=True):
        within = [
            answer["model_version"]
            for began, ended, answer in asking.answers
            if began > done and (following is None or ended < following[0] - 0.04)
        ]
        assert set(within) <= {version}


def test_a_killed_worker_costs_no_acknowledged_prediction_and_comes_back(several, models, features):
    assert several.put_plan({models[0]: 100}, features=features).is_success
    acknowledged = []
    for number in range(2):
        before = all_there(several)
        with Asking(several) as asking:
            time.sleep(0.2)
            os.kill(before[0], signal.SIGKILL)
            version = models[(number + 1) % 2]
            assert several.put_plan({version: 100}, features=features).is_success  # it does not wait for the dead
            all_there(several, but=before[:1])
        assert asking.refused == []
        assert asking.broken <= 3  # what the dead one was answering, one request of each client at most
        acknowledged += asking.ids()
        assert several.infer(1, NOW).json()["model_version"] == version
    logged = FilePredictionLog(several.root / "log").predictions("shop")["id"].to_list()
    assert len(set(logged)) == len(logged)
    assert set(acknowledged) <= set(logged)


def test_an_outcome_told_to_one_worker_is_a_feature_in_all(several, models, features):
    assert several.put_plan({models[0]: 100}, features=features).is_success
    [told] = several.infer(77, NOW).json()["parameters"]["prediction_ids"]
    assert several.tell(told, 4.0).json() == {"new": 1}
    ids = []
    for _ in range(20):
        with httpx.Client(base_url=several.url, timeout=30) as client:  # whichever worker takes the connection
            answer = client.post("/v2/models/shop/infer", json=shop.request(77, NOW + timedelta(hours=1)))
            ids += answer.json()["parameters"]["prediction_ids"]
    logged = FilePredictionLog(several.root / "log").predictions("shop")
    seen = logged.filter(logged["id"].is_in(ids))["features"].struct.field("ratings")
    assert seen.to_list() == [1.0] * 20


def test_metrics_are_of_all_workers(several):
    def answered():
        lines = httpx.get(f"{several.url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("mlops_predictions_total"))

    before = answered()
    for _ in range(20):
        assert httpx.post(f"{several.url}/v2/models/shop/infer", json=shop.request(1, NOW)).is_success
    assert answered() == before + 20

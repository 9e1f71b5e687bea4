import multiprocessing
import socket
import sys
import time
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import shop

from mlops_assets.data.local import LocalSnapshots

# Each server is a process of its own, forked from one that has done the imports: a start costs no seconds.
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(["shop", "lightgbm"])


class Server:
    """The shop's server as a real process, which tests kill and start again."""

    def __init__(self, root, **options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.root = root
        self.options = options
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def start(self):
        self.process = WARM.Process(target=shop.run, args=(self.root, self.port, self.options), daemon=True)
        self.process.start()
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.client.get("/v2/health/live").is_success:
                    return self
            except httpx.TransportError:
                assert self.process.is_alive(), "the server ended by itself"
                assert time.monotonic() < deadline, "the server does not answer"

    def kill(self):
        self.process.kill()
        self.process.join()

    def put_plan(self, weights, *, mirrors=(), features=None):
        plan = {"weights": weights, "mirrors": list(mirrors), "features": features}
        return self.client.put("/v2/models/shop/plan", json=plan)

    def infer(self, *arguments, **keywords):
        return self.client.post("/v2/models/shop/infer", json=shop.request(*arguments, **keywords))

    def tell(self, id, value):
        return self.client.post("/v2/models/shop/outcomes", json={"id": id, "value": value})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="module")
def models(root):
    return [shop.register_model(root, seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def features(root):
    return LocalSnapshots(root / "snapshots").write(shop.history()).digest


def started(root, models, features):
    server = Server(root).start()
    assert server.put_plan({models[0]: 100}, features=features).is_success
    yield server
    server.kill()
    server.client.close()


@pytest.fixture
def server(root, models, features):
    yield from started(root, models, features)


@pytest.fixture
def untold(tmp_path, root, models):
    """A server that knows the models and snapshots of the others, and no event yet."""
    for folder in ("registry", "snapshots"):
        (tmp_path / folder).symlink_to(root / folder)
    server = Server(tmp_path).start()
    yield server
    server.kill()
    server.client.close()


@pytest.fixture(scope="module")
def served(root, models, features):
    """A client of a server that a whole module may ask, since it does it no harm."""
    for server in started(root, models, features):
        yield server.client

"""The store that servers share is filled by an asset, once; a server that opens it has only to add what it was told."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread

import dagster as dg
import films
import pytest
import shop
from test_replayed import Served

from mlops_assets.adapters.online_stores import stores_at
from mlops_assets.build import build_definitions
from mlops_assets.data.local import LocalSnapshots
from mlops_assets.errors import InvalidDefinition
from mlops_assets.features.filling import fill
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.online_stores import FileStores, MemoryStores
from mlops_assets.features.reference import reference_features
from mlops_assets.features.view import Aggregate
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.ledger.state import LiveModel, ProductState
from mlops_assets.serving.assets import build_online_features_asset, snapshots_in_use

LATER = shop.START + timedelta(days=20)


@pytest.fixture
def stores(tmp_path):
    return FileStores(tmp_path / "online")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return root, shop.register_model(root, 0)


class Sharing(Served):
    """The shop's server in this process, its features in shared stores."""

    def __init__(self, root, model, stores, **options):
        super().__init__(root, model, online=stores, **options)


def filled(root, stores, history, served=shop.SHOP):
    """Materialize the asset of a dataset and return its metadata as plain values and its data version."""
    snapshots = LocalSnapshots(root / "snapshots")

    @dg.asset(key=["shop", "dataset"])
    def dataset():
        return dg.MaterializeResult(metadata={"digest": snapshots.write(history).digest})

    ledger = SqlLedger(f"sqlite:///{root / 'ledger.db'}")
    resources = {"snapshots": snapshots, "online": stores, "ledger": ledger}
    with dg.DagsterInstance.ephemeral() as instance:
        asset = build_online_features_asset(served)
        result = dg.materialize([dataset, asset], resources=resources, instance=instance)
    (made,) = result.asset_materializations_for_node("shop__online_features")
    metadata = {name: value.value for name, value in made.metadata.items()}
    return metadata | {"version": made.tags["dagster/data_version"]}


def opened(stores, digest, views=shop.SHOP.views):
    return OnlineFeatures(views, event_key=shop.SHOP.event_key, store=stores.open("shop", digest))


def assert_has(features, events, *, at=LATER):
    """Hold the features of everybody to the reference."""
    people = sorted({row["person"] for row in events})
    found = features.features_of([{"person": person} for person in people], at)
    assert found == reference_features(features.views[0], events, [(person, at) for person in people])


def test_the_asset_fills_the_store_of_its_snapshot_and_says_with_what(tmp_path, stores):
    history = shop.history()
    made = filled(tmp_path, stores, history)
    digest = made["inputs"]["shop/dataset"]
    assert (made["events"], made["events_added"], made["was_full"], made["store"]) == (200, 200, False, stores.name)
    assert made["entities"] == {"taste": history["person"].n_unique()}
    assert made["seconds"] > 0
    assert_has(opened(stores, digest), history.rows(named=True))


def test_what_is_full_is_not_filled_again_and_another_snapshot_or_definition_is(tmp_path, stores):
    first = filled(tmp_path, stores, shop.history())
    again = filled(tmp_path, stores, shop.history())
    assert (again["was_full"], again["events_added"], again["events"]) == (True, 0, 200)
    assert again["version"] == first["version"]
    view = replace(shop.TASTE, features=(*shop.TASTE.features, Aggregate(name="events", function="count")))
    other = filled(tmp_path, stores, shop.history(), replace(shop.SHOP, views=(view,)))
    newer = filled(tmp_path, stores, shop.history(seed=1))
    assert [made["was_full"] for made in (other, newer)] == [False, False]
    assert len({made["version"] for made in (first, other, newer)}) == 3


def test_a_server_on_a_full_store_needs_no_snapshot_and_adds_what_it_was_told(tmp_path, stores, model):
    server = Sharing(tmp_path, model, stores)
    digest = filled(tmp_path, stores, shop.history())["inputs"]["shop/dataset"]
    shutil.rmtree(tmp_path / "snapshots")
    server.plan_at(digest)
    server.tell(server.ask(1, 25_000), 5.0)
    server.start()  # what it was told is in its log
    told = server.here.told()
    assert len(told) == 1
    assert_has(opened(stores, digest), [*shop.history().rows(named=True), *told], at=LATER)


def test_what_servers_on_shared_stores_answer_agrees_with_batch(tmp_path, stores, model):
    server, asked = Sharing(tmp_path, model, stores), 0
    for seed in (0, 1, 0):  # there and back: a store has what it was told before
        filled(tmp_path, stores, shop.history(40, seed=seed))
        server.plan(shop.history(40, seed=seed))
        for person in (1, 2, 99):
            asked += 1
            server.tell(server.ask(person, 20_000 + 10 * asked), 4.0)
        server.start()
        server.plan(shop.history(40, seed=seed))
        server.ask(1, 21_000)
    report = server.report()
    assert (report.agrees, report.replayed) == (True, 12)


def test_filling_while_events_arrive_and_filling_at_once_change_nothing(tmp_path, stores):
    history = shop.history(400)
    rows = history.rows(named=True)
    late = [{**row, "at": row["at"] + timedelta(seconds=1)} for row in rows[::4]]
    told = [event for pair in zip(late, rows[::4], strict=True) for event in pair]  # half of them are known already
    writers = [opened(stores, "sha256:00") for _ in range(3)]
    threads = [Thread(target=lambda: [writers[0].add(event) for event in told])]
    for writer in writers[1:]:
        store = stores.open("shop", "sha256:00")
        threads.append(Thread(target=fill, args=(writer, store, "sha256:00", lambda: history)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_has(opened(stores, "sha256:00"), [*rows, *late])
    again = fill(opened(stores, "sha256:00"), stores.open("shop", "sha256:00"), "sha256:00", lambda: history)
    assert (again.was_full, again.new) == (True, 0)


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import shop
from mlops_assets.features import online
from mlops_assets.features.filling import fill
from mlops_assets.features.online_stores import FileStores

class Killing:
    def __init__(self, store):
        self.store, self.writes = store, 0
    def write_new(self, entities):
        self.writes += 1
        if self.writes == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.store.write_new(entities)
    def __getattr__(self, name):
        return getattr(self.store, name)

online._BATCH = 3
store = Killing(FileStores(Path(sys.argv[1])).open("shop", "sha256:00"))
features = online.OnlineFeatures(shop.SHOP.views, event_key=shop.SHOP.event_key, store=store)
fill(features, store, "sha256:00", shop.history)
"""


def test_a_fill_that_was_killed_is_done_again(tmp_path, stores):
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(here.parents[1])}
    ended = subprocess.run([sys.executable, "-c", KILLED, stores.name, str(here)], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    store, history = stores.open("shop", "sha256:00"), shop.history()
    half = opened(stores, "sha256:00").features_of([{"person": n} for n in range(1, 20)], LATER)
    assert 0 < sum(row["ratings"] for row in half) < 200
    filling = fill(opened(stores, "sha256:00"), store, "sha256:00", lambda: history)
    assert not filling.was_full
    assert 0 < filling.new < 200
    assert_has(opened(stores, "sha256:00"), history.rows(named=True))


def test_stores_that_traffic_cannot_return_to_are_dropped(tmp_path, stores):
    live = SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}")
    old, champion = "sha256:01d", "sha256:c4a"
    for snapshot in (old, champion, None):
        stores.open("shop", snapshot)
    stores.open("other", old)
    body = {"release": "r1", "candidate": "sha256:c", "version": "1", "features": champion, "champion": None}
    rollout = {"percent": 100, "step": 0, "phase": "COMPLETED"}
    live.append("shop", Kind.RELEASED, {**body, "judged": 0, "strategy": "blue", "rollout": rollout}, actor="test")
    made = filled(tmp_path, stores, shop.history(seed=3))
    assert made["stores_dropped"] == 1
    left = {file.stem for file in (tmp_path / "online" / "shop").glob("*.sqlite")}
    assert left == {"events", "c4a", made["inputs"]["shop/dataset"].removeprefix("sha256:")}
    assert len(list((tmp_path / "online" / "other").glob("*.sqlite"))) == 1


def test_in_use_is_what_is_served_and_what_a_step_or_rollback_goes_to():
    one, two, three = (LiveModel(digest=f"sha256:{n}", version=n, features=f"sha256:e{n}") for n in "123")
    assert snapshots_in_use(ProductState()) == set()
    assert snapshots_in_use(ProductState(champion=three, earlier_champions=(one, two))) == {"sha256:e2", "sha256:e3"}


def test_only_stores_that_processes_share_have_an_asset(tmp_path, stores):
    def steps(online):
        defs = build_definitions([films.FILMS], replace(films.film_platform(tmp_path), online=online))
        return {node.name for node in defs.resolve_job_def("films_train").nodes}

    assert steps(stores) - steps(MemoryStores()) == {"films__online_features"}


def test_a_url_chooses_the_stores_and_a_wrong_one_is_refused(tmp_path):
    assert stores_at("memory:").name == "memory"
    assert stores_at(f"file://{tmp_path}").name == str(tmp_path)
    assert stores_at("redis://:secret@127.0.0.1:1/0").name == "redis://127.0.0.1:1/0"
    for url in ("file://host/folder", "file:///", "postgres://x", ""):
        with pytest.raises(InvalidDefinition, match="cannot be kept at"):
            stores_at(url)

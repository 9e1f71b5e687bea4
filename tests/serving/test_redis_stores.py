"""The store that servers share on a real Redis: filled by the asset, dropped, away for a while, lost."""

import sys
from pathlib import Path

import pytest
import shop
from test_online_asset import LATER, Sharing, assert_has, filled, opened

from mlops_assets.adapters.redis_stores import RedisStores
from mlops_assets.errors import ServiceUnavailable

sys.path.insert(0, str(Path(__file__).parents[1] / "features"))
from redis_server import RedisServer

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return root, shop.register_model(root, 0)


@pytest.fixture
def redis(tmp_path):
    (tmp_path / "redis").mkdir()
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.kill()


def live(root, model, stores):
    """Return a server that serves the history, filled ahead of time."""
    server = Sharing(root, model, stores)
    digest = filled(root, stores, shop.history())["inputs"]["shop/dataset"]
    server.plan_at(digest)
    return server, digest


def test_the_asset_fills_redis_once_and_servers_share_it(tmp_path, redis, model):
    stores = RedisStores(redis.url)
    first, second = filled(tmp_path, stores, shop.history()), filled(tmp_path, stores, shop.history())
    assert [made["events_added"] for made in (first, second)] == [200, 0]
    assert first["version"] == second["version"]
    assert first["store"] == redis.url
    server, digest = live(tmp_path, model, stores)
    server.tell(server.ask(1, 25_000), 5.0)
    assert_has(opened(stores, digest), [*shop.history().rows(named=True), *server.here.told()], at=LATER)
    assert server.report().agrees


def test_an_outcome_that_redis_could_not_be_told_is_acknowledged_and_counts_before_the_next_answer(
    tmp_path, redis, model
):
    server, _ = live(tmp_path, model, RedisStores(redis.url))
    asked = server.ask(1, 25_000)
    redis.kill()
    assert server.tell(asked, 5.0)
    with pytest.raises(ServiceUnavailable, match="cannot serve features"):
        server.ask(1, 26_000)
    redis.start()
    server.ask(1, 26_000)
    report = server.report()
    assert (report.agrees, report.replayed) == (True, 2)
    seen = server.log().sort("at")["features"].struct.field("ratings").to_list()
    assert seen[1] == seen[0] + 1


def test_what_redis_lost_is_an_error_until_the_server_is_started_again(tmp_path, redis, model):
    stores = RedisStores(redis.url)
    server, _ = live(tmp_path, model, stores)
    server.tell(server.ask(1, 25_000), 5.0)
    redis.kill()
    for file in (tmp_path / "redis" / "appendonlydir").iterdir():
        file.unlink()
    redis.start()
    with pytest.raises(ServiceUnavailable, match="lost the features"):
        server.ask(1, 26_000)
    assert filled(tmp_path, stores, shop.history())["events_added"] == 200
    server.start()
    server.plan(shop.history())
    server.ask(1, 26_000)
    report = server.report()
    assert (report.agrees, report.replayed) == (True, 2)


def test_a_dropped_store_leaves_nothing_and_who_has_it_open_is_told(tmp_path, redis):
    stores = RedisStores(redis.url)
    digest = filled(tmp_path, stores, shop.history())["inputs"]["shop/dataset"]
    before = opened(stores, digest)
    assert_has(before, shop.history().rows(named=True))
    filled(tmp_path, stores, shop.history(seed=1))
    with pytest.raises(ServiceUnavailable, match="lost the features"):
        before.features({"person": 1}, LATER)
    assert opened(stores, digest).features({"person": 1}, LATER)["ratings"] == 0
    assert stores.drop_others("shop", ()) == 2
    import redis as client

    with client.Redis.from_url(redis.url) as asked:
        assert asked.keys("*") == []

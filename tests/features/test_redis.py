"""The online engine on a real Redis: the same features, and nothing half-written whatever happens to the server."""

from itertools import count
from threading import Thread

import polars as pl
import pytest
from feature_cases import EVERYTHING, QUARTER, START, TICK, Case, cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis_server import RedisServer
from test_online import COUNT, EVENT, HOUR, PLAIN, faults, numbered, told

from mlops_assets.adapters.redis_state import RedisStore
from mlops_assets.errors import ServiceUnavailable
from mlops_assets.features import tiles
from mlops_assets.features.online import OnlineFeatures

pytestmark = pytest.mark.services
NUMBERS = count()
ROWS = [{**EVENT, "id": n, "time": START + n * TICK} for n in range(60)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def own(tmp_path):
    servers = []

    def start(*options):
        servers.append(RedisServer(tmp_path, *options))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@given(case=cases(), data=st.data(), leaf=st.sampled_from([1, 3, 128]))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_redis_equals_the_reference_whatever_the_order_of_arrival(shared, case, data, leaf):
    case = numbered(case)
    arrivals = data.draw(st.permutations(case.events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "LEAF", leaf)
        store = RedisStore(shared.url, prefix=f"case{next(NUMBERS)}:")
        online = told(case, arrivals, data.draw(st.integers(0, len(arrivals))), store)
        assert not any(online.add(event) for event in arrivals)
        assert not faults(online, case)


def test_another_server_process_sees_what_was_told(shared):
    told(Case(PLAIN, ROWS, []), ROWS, 30, RedisStore(shared.url, prefix="restart:"))
    again = OnlineFeatures([PLAIN], store=RedisStore(shared.url, prefix="restart:"))
    assert again.newest_events() == {PLAIN.name: START + 29 * TICK}  # to the second
    assert not any(again.add(row) for row in ROWS)
    assert not faults(again, Case(PLAIN, ROWS, [("ann", START + HOUR)]))


def test_two_writers_lose_nothing(shared, monkeypatch):
    monkeypatch.setattr(tiles, "LEAF", 2)
    shares = (ROWS[:40], ROWS[20:])
    writers = [OnlineFeatures([PLAIN], store=RedisStore(shared.url, prefix="writers:")) for _ in shares]
    threads = [
        Thread(target=lambda w=writer, s=share: [w.add(row) for row in s])
        for writer, share in zip(writers, shares, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults(writers[0], Case(PLAIN, ROWS, [("ann", START + HOUR)]))


def test_an_entity_of_more_records_than_a_script_takes_is_written_whole(shared, monkeypatch):
    monkeypatch.setattr(tiles, "LEAF", 1)
    store = RedisStore(shared.url, prefix="large:")
    frame = pl.DataFrame({"id": range(4000), "user": "ann"}).with_columns(
        time=START + pl.duration(milliseconds=pl.col("id"))
    )
    online = OnlineFeatures([COUNT], store=store)
    assert online.bootstrap(frame) == 4000
    assert online.features({"user": "ann"}, START + QUARTER) == {"visits": 4000}
    assert OnlineFeatures([COUNT], store=store).bootstrap(frame.head(10)) == 0


def test_a_server_that_is_down_is_an_error_and_goes_on_when_it_is_back(own):
    server = own("--appendonly", "yes", "--appendfsync", "always")
    online = told(Case(PLAIN, ROWS, []), ROWS[:30], 10, RedisStore(server.url))
    server.kill()
    with pytest.raises(ServiceUnavailable, match=rf"Redis at redis://127.0.0.1:{server.port}/0 cannot serve"):
        online.add(ROWS[30])
    with pytest.raises(ServiceUnavailable, match="cannot serve"):
        online.features({"user": "ann"}, START + HOUR)
    server.start()
    for row in ROWS:
        online.add(row)
    assert not faults(online, Case(PLAIN, ROWS, [("ann", START + HOUR)]))


def test_a_server_that_came_back_empty_is_noticed_and_may_be_filled_again(own):
    server = own()
    online = told(Case(PLAIN, ROWS, []), ROWS, 30, RedisStore(server.url))
    server.kill()
    server.start()
    with pytest.raises(ServiceUnavailable, match="lost the features"):
        online.features({"user": "ann"}, START + HOUR)
    with pytest.raises(ServiceUnavailable, match="lost the features"):
        online.add(EVENT)
    case = Case(PLAIN, ROWS, [("ann", START + HOUR)])
    assert not faults(told(case, ROWS, 60, RedisStore(server.url)), case)


def test_a_full_server_refuses_an_event_whole(own):
    server = own("--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    online = OnlineFeatures([EVERYTHING], store=RedisStore(server.url))
    rows: list[dict[str, object]] = []

    def fill():
        while True:
            row = {**EVENT, "id": len(rows), "shop": "x" * 2000, "time": START + len(rows) * TICK}
            online.add(row)
            rows.append(row)

    with pytest.raises(ServiceUnavailable, match="maxmemory"):
        fill()
    assert len(rows) > 10
    assert not faults(online, Case(EVERYTHING, rows, [("ann", START + HOUR)]))


def test_a_server_that_may_evict_is_refused(own):
    server = own("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru")
    with pytest.raises(ServiceUnavailable, match="maxmemory-policy allkeys-lru, which may evict"):
        RedisStore(server.url)

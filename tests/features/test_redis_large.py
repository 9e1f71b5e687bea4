"""An entity of more records than one command may carry is put away on a real Redis whole, or not at all."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
import redis
from redis_server import RedisServer
from test_extremes_of_size import START, VIEW, YEAR, of_one_entity

from mlops_assets.adapters.redis_state import RedisStore
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.state import MemoryStore

pytestmark = pytest.mark.services
HERE = Path(__file__).parent


@pytest.fixture
def server(tmp_path):
    started = RedisServer(tmp_path, "--slowlog-log-slower-than", "0", "--slowlog-max-len", "10000")
    yield started
    started.kill()


def values(store):
    online = OnlineFeatures([VIEW], store=store)
    return [online.features({"user": "ann"}, START + YEAR / part) for part in (1, 2, 3)]


def meant(events):
    store = MemoryStore()
    OnlineFeatures([VIEW], store=store).bootstrap(of_one_entity(events))
    return values(store)


def test_two_that_put_it_away_at_once_count_each_event_once(server):
    engines = [OnlineFeatures([VIEW], store=RedisStore(server.url)) for _ in range(2)]
    shares = of_one_entity(9_000)[:5_000], of_one_entity(9_000)[4_500:]
    threads = [Thread(target=engine.bootstrap, args=(share,)) for engine, share in zip(engines, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values(RedisStore(server.url)) == meant(9_000)
    with redis.Redis.from_url(server.url) as client:
        assert not client.keys("*unfinished*")


def test_no_command_carries_more_than_a_part_of_it(server):
    """One for all would keep everybody waiting, and time out from some hundreds of thousands of events on."""
    OnlineFeatures([VIEW], store=RedisStore(server.url)).bootstrap(of_one_entity(20_000))
    assert values(RedisStore(server.url)) == meant(20_000)
    with redis.Redis.from_url(server.url) as client:
        sent = [str(entry["command"]) for entry in client.slowlog_get(10_000)]
    arguments = [int(found) for command in sent for found in re.findall(r"\((\d+) more arguments\)", command)]
    assert 100 < max(arguments) < 15_000


KILLED = """
import os, signal, sys
from test_extremes_of_size import VIEW, of_one_entity
from mlops_assets.adapters import redis_state
from mlops_assets.features.online import OnlineFeatures

encoded, left = redis_state.encoded, 10_000

def killing(record):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return encoded(record)

redis_state.encoded = killing
OnlineFeatures([VIEW], store=redis_state.RedisStore(sys.argv[1])).bootstrap(of_one_entity(20_000))
"""


def test_what_a_killed_writer_leaves_is_seen_by_nobody_and_goes_away(server):
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}"}
    ended = subprocess.run([sys.executable, "-c", KILLED, server.url], env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    with redis.Redis.from_url(server.url) as client:
        (left,) = client.keys("*unfinished*")
        assert client.hlen(left) > 1000
        assert 0 < client.ttl(left) <= 3600
    assert [row["visits"] for row in values(RedisStore(server.url))] == [0, 0, 0]
    OnlineFeatures([VIEW], store=RedisStore(server.url)).bootstrap(of_one_entity(20_000))
    assert values(RedisStore(server.url)) == meant(20_000)

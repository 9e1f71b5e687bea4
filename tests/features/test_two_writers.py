"""Two processes that write one view to one store lose nothing and count nothing twice, even if one is killed."""

import os
from pathlib import Path

import pytest
from feature_cases import QUARTER, START, TICK, differences
from online_writer import LEAF, USERS, VIEW, Writer, deliveries, store_at
from redis_server import RedisServer

from mlops_assets.features import tiles
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.reference import reference_features

HERE = Path(__file__).parent
ASKED = [(who, START + part * QUARTER + TICK * 700) for who in USERS for part in (0, 1, 3, 5)]


@pytest.fixture(params=["file", pytest.param("redis", marks=pytest.mark.services)])
def place(request, tmp_path):
    if request.param == "file":
        yield str(tmp_path / "features.sqlite")
        return
    server = RedisServer(tmp_path)
    yield server.url
    server.kill()


@pytest.fixture
def writers(place, monkeypatch):
    monkeypatch.setattr(tiles, "LEAF", LEAF)
    started = [Writer(place, seed, {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}"}) for seed in (1, 2)]
    for writer in started:
        writer.go()
    yield started
    for writer in started:
        writer.process.kill()
        writer.process.wait()


def faults(place, rows):
    """Return where what is stored differs from the reference of deliveries."""
    online = OnlineFeatures([VIEW], store=store_at(place))
    found = [online.features({"user": who}, when) for who, when in ASKED]
    return differences(found, reference_features(VIEW, rows, ASKED))


def test_overlapping_and_repeated_events_of_two_processes_count_once(place, writers):
    for writer in writers:
        writer.acknowledged(1)
    assert all(writer.process.poll() is None for writer in writers)  # they write at once
    for writer in writers:
        writer.rest()
        assert writer.process.returncode == 0
    rows = [row for seed in (1, 2) for row in deliveries(seed)]
    assert not faults(place, rows)
    assert faults(place, deliveries(1))


def test_one_process_is_killed_midway_and_the_other_ends_its_work(place, writers):
    killed, other = writers
    killed.acknowledged(40)
    assert other.process.poll() is None
    killed.process.kill()
    done = 40 + len(killed.rest())
    assert done < len(deliveries(1))
    other.rest()
    assert other.process.returncode == 0
    after = deliveries(2)
    # what it was killed at is there or not there, as a whole
    assert not all(faults(place, [*deliveries(1)[:many], *after]) for many in (done, done + 1))
    assert faults(place, [*deliveries(1)[: done // 2], *after])
    online = OnlineFeatures([VIEW], store=store_at(place))
    for row in deliveries(1):
        online.add(row)
    assert not faults(place, [*deliveries(1), *after])

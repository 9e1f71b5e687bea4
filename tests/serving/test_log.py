"""The prediction log: whole, in one order, found again, whatever died while it was written."""

import asyncio
import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from mlops_assets.errors import RequestRefused
from mlops_assets.serving.log import Durability, FilePredictionLog
from mlops_assets.serving.segments import SegmentWriter, read_lines, segments

NOW = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)


def record(trace, **changes):
    plain = {
        "trace": trace, "at": 1_700_000_000_000_000, "version": "v", "arm": "routed", "entity": "1",
        "inputs": {"price": None}, "features": {"f": None}, "snapshot": None, "told": 0, "definitions": "d",
        "score": 0.5, "latency_seconds": 0.001,
    }  # fmt: skip
    return plain | changes


def traces(log):
    return [id.partition("-")[0] for id in log.predictions("shop")["id"]]


def test_predictions_come_back_with_the_first_outcome_told_and_its_correction(tmp_path):
    log = FilePredictionLog(tmp_path)
    a, b = log.writer("shop").append([record("a"), record("b", inputs={"price": 3.5}, features={"f": 1.0})], NOW)
    book = log.outcomes("shop")
    assert book.tell(a, 1.0, at=5, inputs={"price": None})
    assert not book.tell(a, 1.0, at=6, inputs={"price": None})
    assert book.correct(a, 0.0, at=7, why="a typing error")
    frame = log.predictions("shop")
    assert frame["id"].to_list() == [a, b]
    assert frame["outcome"].to_list() == [1.0, None]
    assert frame["corrected"].to_list() == [0.0, None]
    assert frame["outcome_order"].to_list() == [0, None]
    assert frame["inputs"].struct.field("price").to_list() == [None, 3.5]
    assert frame["at"].dtype.time_zone == "UTC"


def test_an_empty_log_has_the_columns_and_no_rows(tmp_path):
    frame = FilePredictionLog(tmp_path).predictions("shop")
    assert frame.height == 0
    assert {"id", "at", "version", "entity", "score", "outcome", "outcome_at", "inputs", "features"} <= set(
        frame.columns
    )


@pytest.mark.parametrize("length", [1, 20, 40, -2, -1])
def test_what_was_cut_off_is_not_read_and_what_comes_after_is(tmp_path, length):
    log = FilePredictionLog(tmp_path)
    log.writer("shop").append([record("a")], NOW)
    [path] = (tmp_path / "shop" / "predictions").glob("*.jsonl")
    with path.open("ab") as file:
        file.write(b"\n" + json.dumps(record("torn")).encode()[:length])
    assert traces(FilePredictionLog(tmp_path)) == ["a"]
    log.writer("shop").append([record("b")], NOW)
    assert traces(FilePredictionLog(tmp_path)) == ["a", "b"]


def test_a_reader_sees_what_is_written_after_it_looked(tmp_path):
    log = FilePredictionLog(tmp_path)
    writer = log.writer("shop")
    writer.append([record("a")], NOW)
    assert log.count("shop") == 1
    writer.append([record("b")], NOW + timedelta(hours=1))
    assert log.count("shop") == 2


def test_values_that_json_cannot_say_come_back(tmp_path):
    log = FilePredictionLog(tmp_path)
    odd = {"features.f": "nan", "features.l": ["1.0", None, "-inf"]}
    plain = record("a", features={"f": 1.5, "l": [1.0, 2.0]})
    log.writer("shop").append([plain, record("b", features={"f": None, "l": None}, odd=odd)], NOW)
    features = log.predictions("shop")["features"].struct.unnest()
    assert features["f"][0] == 1.5
    assert math.isnan(features["f"][1])
    assert features["l"].to_list() == [[1.0, 2.0], [1.0, None, -math.inf]]


def test_a_prediction_is_found_by_its_id_and_by_nothing_like_it(tmp_path):
    log = FilePredictionLog(tmp_path)
    ids = log.writer("shop").append([record(name) for name in "abc"], NOW)
    assert [log.find("shop", id)["trace"] for id in ids] == ["a", "b", "c"]
    _, segment, place = ids[1].split("-")
    places = [f"{int(place, 16) + 1:x}", "fffff", "g", "f" * 30, "", "-1"]
    strangers = ["b", "", "b-", f"c-{segment}-{place}", f"b-../{segment}-{place}", f"b-20990101T000000-{place}"]
    strangers += [f"b-{segment}-{other}" for other in places]
    assert [log.find("shop", id) for id in strangers] == [None] * len(strangers)


def test_writers_share_one_file_and_one_order(tmp_path):
    log = FilePredictionLog(tmp_path)
    writers = [log.writer("shop") for _ in range(3)]
    ids = [writers[turn % 3].append([record(f"{turn:032x}")], NOW)[0] for turn in range(30)]
    assert log.predictions("shop")["id"].to_list() == ids
    assert len(segments(tmp_path / "shop" / "predictions")) == 1


def test_processes_that_write_at_once_cut_none_of_each_others_lines(tmp_path):
    code = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from mlops_assets.serving.segments import SegmentWriter
writer = SegmentWriter(Path(sys.argv[1]), largest_bytes=200_000)
for turn in range(2000):
    line = b'{"who":%s,"turn":%d,"fill":"%s"}' % (sys.argv[2].encode(), turn, b"x" * (turn % 300))
    writer.append([line], datetime(2024, 5, 1, tzinfo=UTC))
"""
    children = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(who)]) for who in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    names = segments(tmp_path)
    assert len(names) > 3  # parts of one hour
    found = [json.loads(line.content) for name in names for line in read_lines(tmp_path / f"{name}.jsonl")[0]]
    for who in range(3):
        assert [one["turn"] for one in found if one["who"] == who] == list(range(2000))


def test_a_clock_set_back_writes_on_where_it_was(tmp_path):
    writer = SegmentWriter(tmp_path)
    writer.append([b"{}"], NOW)
    writer.append([b"{}"], NOW - timedelta(hours=3))
    SegmentWriter(tmp_path).append([b"{}"], NOW - timedelta(hours=3))
    assert segments(tmp_path) == ["20240501T120000"]


def test_an_hour_that_has_passed_is_let_go_of(tmp_path):
    writer = SegmentWriter(tmp_path)
    writer.append([b"{}"], NOW)
    writer.roll(NOW + timedelta(hours=1))
    assert writer.segment == "20240501T130000"


def test_what_must_outlive_a_loss_of_power_is_flushed_and_requests_share_the_flush(tmp_path, monkeypatch):
    flushed = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: (flushed.append(file), real(file))[1])
    writer = FilePredictionLog(tmp_path, durability=Durability.POWER).writer("shop")

    async def answer(trace):
        writer.append([record(trace)], NOW)
        await writer.acknowledge()

    async def all_at_once():
        await asyncio.gather(*(answer(str(number)) for number in range(50)))

    asyncio.run(all_at_once())
    assert 1 <= len(flushed) <= 3
    flushed.clear()
    asyncio.run(answer("one more"))
    assert len(flushed) == 1


def test_another_outcome_is_refused_and_a_correction_needs_one(tmp_path):
    book = FilePredictionLog(tmp_path).outcomes("shop")
    with pytest.raises(RequestRefused, match="no outcome that could be corrected") as refused:
        book.correct("a", 1.0, at=1, why="")
    assert refused.value.status == 404
    book.tell("a", 1.0, at=1, inputs={})
    with pytest.raises(RequestRefused, match=r"has the outcome 1\.0 already") as refused:
        book.tell("a", 2.0, at=2, inputs={})
    assert refused.value.status == 409
    said = [book.correct("a", value, at=3, why="looked again") for value in (2.0, 2.0, 1.0, 2.0)]
    assert said == [True, False, True, True]
    assert book.corrections() == {"a": 2.0}
    assert [outcome.value for outcome in book.after(0)] == [1.0]


def test_outcomes_told_elsewhere_change_the_version_and_keep_one_order(tmp_path):
    log = FilePredictionLog(tmp_path)
    here, there = log.outcomes("shop"), log.outcomes("shop")
    versions = [here.version()]
    for number in range(6):
        (here if number % 2 else there).tell(str(number), 1.0, at=number, inputs={"n": number})
        versions.append(here.version())
        assert here.version() == versions[-1]
    assert len(set(versions)) == 7
    assert [outcome.id for outcome in here.after(2)] == list("2345")
    assert [outcome.place for outcome in there.after(0)] == [1, 2, 3, 4, 5, 6]


def test_outcomes_that_the_server_was_not_told_are_no_knowledge_of_it(tmp_path):
    log = FilePredictionLog(tmp_path)
    log.writer("shop").append([record("a", told=1), record("b", told=0)], NOW)
    assert log.predictions("shop")["told"].to_list() == [None, 0]


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_refuses_keeps_what_was_acknowledged_and_goes_on_once_there_is_space(small_disk):
    log = FilePredictionLog(small_disk)
    writer = log.writer("shop")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 100_000)
    acknowledged, refusal = [], None
    while refusal is None and len(acknowledged) < 10_000:
        try:
            writer.append([record(str(len(acknowledged)))], NOW)
            acknowledged.append(str(len(acknowledged)))
        except RequestRefused as error:
            refusal = error
    assert refusal is not None
    assert refusal.status == 503
    assert "free space" in str(refusal)
    assert traces(FilePredictionLog(small_disk)) == acknowledged
    ballast.unlink()
    writer.append([record("after")], NOW)
    assert traces(FilePredictionLog(small_disk)) == [*acknowledged, "after"]
    writer.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_outcomes_on_a_full_disk_are_refused_and_those_acknowledged_are_kept(small_disk):
    book = FilePredictionLog(small_disk).outcomes("shop")
    told = []

    def tell_on():
        for number in range(10_000):
            book.tell(str(number), 1.0, at=number, inputs={"text": "x" * 100})
            told.append(str(number))

    with pytest.raises(RequestRefused, match="free space") as refused:
        tell_on()
    assert refused.value.status == 503
    assert told
    assert [outcome.id for outcome in book.after(0)] == told
    book.close()


def test_a_log_without_any_features_or_inputs_can_be_read(tmp_path):
    log = FilePredictionLog(tmp_path)
    log.writer("shop").append([record("a", inputs={}, features={})], NOW)
    assert log.predictions("shop").height == 1
    assert isinstance(log.predictions("shop").schema["inputs"], pl.Struct)

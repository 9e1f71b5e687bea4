import json
import os
import subprocess

import pytest

from mlops_assets.errors import RequestRefused
from mlops_assets.serving.log import FilePredictionLog


def record(id, **changes):
    plain = {
        "kind": "prediction", "id": id, "at": 1_700_000_000_000_000, "product": "shop", "version": "v", "entity": "1",
        "inputs": {"price": None}, "features": {"f": None}, "score": 0.5, "latency_seconds": 0.001,
    }  # fmt: skip
    return plain | changes


def test_predictions_come_back_with_the_first_outcome_told(tmp_path):
    log = FilePredictionLog(tmp_path)
    log.writer("shop").append([record("a"), record("b", inputs={"price": 3.5}, features={"f": 1.0})])
    log.writer("shop").append(
        [{"kind": "outcome", "id": "a", "at": 5, "value": 1.0}, {"kind": "outcome", "id": "a", "at": 6, "value": 0.0}]
    )
    frame = log.predictions("shop")
    assert frame["id"].to_list() == ["a", "b"]
    assert frame["outcome"].to_list() == [1.0, None]
    assert frame["inputs"].struct.field("price").to_list() == [None, 3.5]
    assert frame["at"].dtype.time_zone == "UTC"


def test_an_empty_log_has_the_columns_and_no_rows(tmp_path):
    frame = FilePredictionLog(tmp_path).predictions("shop")
    assert frame.height == 0
    assert {"id", "at", "version", "entity", "score", "outcome", "outcome_at", "inputs", "features"} <= set(
        frame.columns
    )


def test_what_a_crash_cut_off_is_not_read_and_what_comes_after_is(tmp_path):
    log = FilePredictionLog(tmp_path)
    writer = log.writer("shop")
    writer.append([record("a")])
    with writer.path.open("ab") as file:
        file.write(json.dumps(record("torn")).encode()[:40])
    log.writer("shop").append([record("b")])
    assert FilePredictionLog(tmp_path).predictions("shop")["id"].to_list() == ["a", "b"]


def test_a_reader_sees_what_is_written_after_it_looked(tmp_path):
    log = FilePredictionLog(tmp_path)
    writer = log.writer("shop")
    writer.append([record("a")])
    assert log.count("shop") == 1
    writer.append([record("b")])
    assert log.count("shop") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_refuses_and_keeps_what_was_acknowledged(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    writer = FilePredictionLog(disk).writer("shop")
    try:
        acknowledged = []
        refusal = None
        while refusal is None and len(acknowledged) < 10_000:
            try:
                writer.append([record(str(len(acknowledged)))])
                acknowledged.append(str(len(acknowledged)))
            except RequestRefused as error:
                refusal = error
        assert refusal is not None
        assert refusal.status == 503
        assert "free space" in str(refusal)
        assert FilePredictionLog(disk).predictions("shop")["id"].to_list() == acknowledged
    finally:
        writer.close()
        subprocess.run(["umount", str(disk)], check=True)

"""One suite over every snapshot store: whole or not at all, the same content the same digest, verified on read."""

import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

from mlops_assets.adapters.s3 import S3Snapshots
from mlops_assets.data.local import LocalSnapshots
from mlops_assets.data.manifest import write_table
from mlops_assets.errors import DataError, ServiceUnavailable, SnapshotCorrupt, SnapshotMissing

ABSENT = "sha256:" + "0" * 64


def test_what_was_written_is_read(place, frame):
    store = place.store()
    written = store.write(frame)
    assert_frame_equal(store.read(written.digest), frame)
    assert store.describe(written.digest) == written
    assert (written.rows, dict(written.schema)) == (3, {"user": "Int64", "rating": "Float64", "film": "String"})
    assert written.size_bytes == len(place.get(f"{written.digest[7:]}/data.parquet"))


def test_all_types_come_back(place):
    frame = pl.DataFrame(
        {
            "at": [datetime(2024, 1, 1, tzinfo=UTC), None],
            "tags": [["a", "b"], []],
            "nested": [{"x": 1, "y": "z"}, None],
            "kind": pl.Series(["p", "q"], dtype=pl.Categorical),
            "level": pl.Series(["low", "high"], dtype=pl.Enum(["low", "high"])),
            "nan": [float("nan"), -0.0],
        }
    )
    store = place.store()
    assert_frame_equal(store.read(store.write(frame).digest), frame)


def test_a_table_without_rows_is_a_table(place, frame):
    store = place.store()
    assert_frame_equal(store.read(store.write(frame.clear()).digest), frame.clear())


def test_storing_again_changes_nothing(place, frame):
    first = place.store().write(frame)
    before = {name: place.get(name) for name in place.names()}
    assert place.store().write(frame) == first
    assert {name: place.get(name) for name in place.names()} == before
    assert list(before) == [f"{first.digest[7:]}/data.parquet", f"{first.digest[7:]}/manifest.json"]


def test_content_order_and_schema_make_the_digest(place, frame):
    variants = [frame, frame.reverse(), frame.rename({"user": "person"}), frame.cast({"user": pl.Int32}), frame[:2]]
    variants.append(frame.select("film", "user", "rating"))
    assert len({place.store().write(variant).digest for variant in variants}) == len(variants)


def test_the_manifest_names_no_machine_and_no_version(place, frame):
    manifest = json.loads(place.get(f"{place.store().write(frame).digest[7:]}/manifest.json"))
    assert set(manifest) == {"format", "rows", "schema", "files"}


@settings(max_examples=25)
@given(
    dataframes(max_cols=4, max_size=30, allowed_dtypes=[pl.Int64, pl.Float64, pl.String, pl.Boolean, pl.Datetime]),
    st.data(),
)
def test_equal_tables_have_equal_digests_however_they_lie_in_memory(tmp_path_factory, table, data):
    cut = data.draw(st.integers(0, table.height))
    pieces = pl.concat([table[:cut], table[cut:]], rechunk=False)
    first, second = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    assert write_table(table, first) == write_table(pieces, second)
    assert write_table(pl.read_parquet(first / "data.parquet"), second) == write_table(table, first)


def test_what_is_not_there_is_missing(place):
    for digest in (ABSENT, "latest", "../../etc"):
        for ask in (place.store().read, place.store().describe):
            with pytest.raises(SnapshotMissing, match="materialize the asset"):
                ask(digest)


@pytest.mark.parametrize("file", ["data.parquet", "manifest.json"])
def test_any_flipped_bit_is_found_and_writing_again_mends_it(place, frame, file):
    store = place.store()
    digest = store.write(frame).digest
    name = f"{digest[7:]}/{file}"
    content = place.get(name)
    for position in random.Random(1).sample(range(len(content) * 8), 12):
        spoilt = bytearray(content)
        spoilt[position // 8] ^= 1 << position % 8
        place.put(name, bytes(spoilt))
        with pytest.raises(SnapshotCorrupt, match=f"{file} of snapshot {digest} was changed"):
            store.read(digest)
    assert not store.is_intact(digest)
    assert store.write(frame).digest == digest
    assert_frame_equal(store.read(digest), frame)


def test_a_table_that_is_gone_is_corruption_and_mended(place, frame):
    store = place.store()
    digest = store.write(frame).digest
    place.drop(f"{digest[7:]}/data.parquet")
    with pytest.raises(SnapshotCorrupt, match=r"data\.parquet of snapshot .* is gone"):
        store.read(digest)
    store.write(frame)
    assert_frame_equal(store.read(digest), frame)


def test_a_table_without_a_manifest_is_not_there_and_is_completed(place, frame):
    store = place.store()
    digest = store.write(frame).digest
    place.drop(f"{digest[7:]}/manifest.json")
    with pytest.raises(SnapshotMissing):
        store.read(digest)
    store.write(frame)
    assert_frame_equal(store.read(digest), frame)


def test_writers_of_the_same_content_agree(place):
    frame = pl.DataFrame({"x": np.arange(20_000)})
    with ThreadPoolExecutor(8) as writers:
        digests = set(writers.map(lambda _: place.store().write(frame).digest, range(16)))
    (digest,) = digests
    assert_frame_equal(place.store().read(digest), frame)
    assert len(place.names()) == 2


def _writer(task, root, number):
    command = [sys.executable, str(Path(__file__).with_name("snapshot_writer.py")), task, str(root), str(number)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_writers_in_other_processes_agree(tmp_path):
    writers = [_writer("same", tmp_path, 10) for _ in range(3)]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 3
    for writer in writers:
        writer.communicate("go\n", timeout=60)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    stored = [path for path in tmp_path.iterdir() if path.name != ".unfinished"]
    assert len(stored) == 10
    assert all(LocalSnapshots(tmp_path).is_intact(f"sha256:{path.name}") for path in stored)
    assert list((tmp_path / ".unfinished").iterdir()) == []


def test_a_writer_killed_at_any_moment_leaves_whole_snapshots_only(tmp_path):
    """Killed after a random share of output: what it acknowledged is there, what is visible is whole."""
    chance = random.Random(5)
    acknowledged = []
    for seed in range(4):
        with _writer("forever", tmp_path, seed) as writer:
            assert writer.stdout.readline() == "ready\n"
            for _ in range(chance.randrange(4)):
                acknowledged.append(writer.stdout.readline().strip())
            for _ in range(chance.randrange(200_000)):
                pass
            writer.kill()
            acknowledged += [line for line in writer.stdout.read().split() if len(line) == len(ABSENT)]
    store = LocalSnapshots(tmp_path)
    assert all(store.is_intact(digest) for digest in acknowledged)
    visible = [path.name for path in tmp_path.iterdir() if path.name != ".unfinished"]
    assert all(store.is_intact(f"sha256:{name}") for name in visible)
    _make_old(tmp_path)
    store.write(pl.DataFrame({"x": [1]}))
    assert list((tmp_path / ".unfinished").iterdir()) == []


def _make_old(root):
    for left in (root / ".unfinished").iterdir():
        os.utime(left, (0, 0))


def test_the_sweep_spares_living_writers_and_takes_dead_ones(tmp_path, frame):
    store = LocalSnapshots(tmp_path)
    (tmp_path / ".unfinished" / "dead").mkdir(parents=True)
    (tmp_path / ".unfinished" / "dead" / "data.parquet").write_bytes(b"half")
    with store._workplace() as living:
        assert store.sweep() == 0, "both are younger than the grace"
        _make_old(tmp_path)
        assert store.sweep() == 1
        assert [path.name for path in (tmp_path / ".unfinished").iterdir()] == [living.name]
    assert list((tmp_path / ".unfinished").iterdir()) == []


def test_a_file_that_may_not_grow_leaves_nothing(tmp_path):
    writer = _writer("limited", tmp_path, 50_000)
    _, told = writer.communicate(timeout=60)
    assert writer.returncode == 1
    assert "DataError" in told
    assert "was not stored" in told
    assert "nothing of it is visible" in told
    assert [path.name for path in tmp_path.rglob("*")] == [".unfinished"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root; the limit above needs nobody")
def test_a_full_disk_leaves_nothing_and_keeps_what_was_there(tmp_path, frame):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], check=False)
    if mounted.returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        store = LocalSnapshots(disk)
        kept = store.write(frame)
        with pytest.raises(DataError, match="No space left on device"):
            store.write(pl.DataFrame({"x": np.random.default_rng(1).normal(size=100_000)}))
        assert [path.name for path in disk.iterdir() if path.name != ".unfinished"] == [kept.digest[7:]]
        assert list((disk / ".unfinished").iterdir()) == []
        assert_frame_equal(store.read(kept.digest), frame)
        store.write(frame.reverse())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_bucket_that_does_not_answer_is_an_unavailable_service(frame):
    options = {
        "key": "k",
        "secret": "s",
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:9", "region_name": "eu-west-1"},
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    store = S3Snapshots("s3://shop/snapshots", options)
    for ask in (lambda: store.write(frame), lambda: store.read(ABSENT)):
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            ask()

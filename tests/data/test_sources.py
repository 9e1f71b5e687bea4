"""One suite over every source: what is delivered is read at its version, or refused with the reason."""

import io
import os
import threading
from datetime import UTC, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from mlops_assets.adapters.s3 import S3Source
from mlops_assets.data.source import FileSource
from mlops_assets.errors import ServiceUnavailable, SourceChanged, SourceMissing, SourceUnreadable


def as_bytes(frame, suffix):
    buffer = io.BytesIO()
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "ndjson": frame.write_ndjson}[suffix](buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("suffix", ["parquet", "csv", "ndjson"])
def test_a_delivered_file_is_read_at_its_version(delivery, frame, suffix):
    delivery.put(f"part.{suffix}", as_bytes(frame, suffix))
    for source in (delivery.source(), delivery.source(f"part.{suffix}")):
        assert_frame_equal(source.read(source.version()), frame)
        assert source.size_bytes() == len(as_bytes(frame, suffix))


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(delivery, frame):
    delivery.put("b.csv", as_bytes(frame, "csv"))
    delivery.put("a/z.csv", as_bytes(frame.reverse(), "csv"))
    delivery.put("_SUCCESS", b"")
    delivery.put(".unfinished.csv", b"user,ra")
    source = delivery.source()
    assert_frame_equal(source.read(source.version()), pl.concat([frame.reverse(), frame]))


def test_the_version_changes_with_a_content_and_with_a_name_and_comes_back(delivery, frame):
    delivery.put("a.csv", b"x\n1\n")
    source = delivery.source()
    versions = [source.version(), source.version()]
    delivery.put("a.csv", b"x\n2\n")
    versions.append(source.version())
    delivery.put("b.csv", b"x\n1\n")
    versions.append(source.version())
    delivery.drop("b.csv")
    delivery.put("a.csv", b"x\n1\n")
    versions.append(source.version())
    assert versions[0] == versions[1] == versions[4]
    assert len(set(versions)) == 3


def test_an_old_version_is_refused(delivery):
    delivery.put("a.csv", b"x\n1\n")
    source = delivery.source()
    old = source.version()
    delivery.put("a.csv", b"x\n2\n")
    with pytest.raises(SourceChanged, match=f"asked for version {old}, found {source.version()}"):
        source.read(old)


def test_nothing_delivered_is_missing(delivery):
    source = delivery.source()
    for ask in (source.version, source.size_bytes, lambda: source.read("sha256:0")):
        with pytest.raises(SourceMissing, match="deliver one of"):
            ask()


SCHEMA = {"user": pl.Int64, "rating": pl.Float64, "at": pl.Datetime("us", "UTC"), "seen": pl.Boolean, "code": pl.String}
ROWS = b"user,rating,at,seen,code\n1,4.5,2024-05-01T10:00:00Z,true,007\n2,3,2024-05-02T10:00:00Z,false,\n"


def test_a_declared_schema_types_the_columns_without_a_guess(delivery):
    delivery.put("a.csv", ROWS)
    source = delivery.source(schema=SCHEMA)
    rows = source.read(source.version())
    assert rows.schema == pl.Schema(SCHEMA)
    assert rows.row(0) == (1, 4.5, datetime(2024, 5, 1, 10, tzinfo=UTC), True, "007")
    assert rows.row(1)[4] is None


BAD = {
    "empty": ("a.csv", b"", r"a\.csv is empty; deliver it again"),
    "header only": ("a.csv", b"user,rating\n", r"a\.csv has no rows"),
    "csv cut in a row": ("a.csv", ROWS[:-5], r"a\.csv: its last line does not end"),
    "csv cut at a field": ("a.csv", b"user,rating\n1,2\n3\n", r"a\.csv: its last line has 1 of 2 fields"),
    "csv with an open quote": ("a.csv", b'user,film\n1,x\n2,"cut in\n', r"a\.csv cannot be read"),
    "csv not text": ("a.csv", b"user,film\n1,\xff\xfe\n", r"a\.csv cannot be read"),
    "cut ndjson": ("a.ndjson", b'{"user":1}\n{"us', r"a\.ndjson cannot be read"),
    "cut parquet": ("a.parquet", as_bytes(pl.DataFrame({"user": range(999)}), "parquet")[:-20], r"a\.parquet cannot"),
    "another format": ("a.xlsx", b"PK", r"its files end in \['.xlsx'\]; deliver files of one format"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_spoilt_file_is_refused_by_name(delivery, name):
    file, content, message = BAD[name]
    delivery.put(file, content)
    source = delivery.source()
    with pytest.raises(SourceUnreadable, match=message):
        source.read(source.version())


WRONG = {
    "text for a number": (b"user,rating\n1,4\n2,good\n", {"rating": pl.Float64}, r"'rating'.*'good' in row 2"),
    "a fraction for an integer": (b"user,rating\n1.5,4\n", {"user": pl.Int64}, r"'user'.*'1.5' in row 1"),
    "no time": (b"user,at\n1,soon\n", {"at": pl.Datetime("us", "UTC")}, r"'at'.*'soon' in row 1"),
    "no truth": (b"user,seen\n1,perhaps\n", {"seen": pl.Boolean}, r"'seen'.*'perhaps'"),
    "too large": (b"user\n300\n", {"user": pl.Int8}, r"'user'.*'300'"),
    "a missing column": (b"user\n1\n", {"rating": pl.Float64}, r"\['rating'\] are missing; found \['user'\]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrongly_typed_column_is_refused_with_file_column_value_and_row(delivery, name):
    content, schema, message = WRONG[name]
    delivery.put("a.csv", content)
    source = delivery.source(schema=schema)
    with pytest.raises(SourceUnreadable, match=r"a\.csv: .*" + message):
        source.read(source.version())


def test_typed_formats_lose_nothing_either(delivery):
    delivery.put("a.parquet", as_bytes(pl.DataFrame({"user": [1.0, 2.5]}), "parquet"))
    for schema in ({"user": pl.Int64}, {"user": pl.Boolean}):
        source = delivery.source(schema=schema)
        with pytest.raises(SourceUnreadable, match="2.5 in row 2"):
            source.read(source.version())


def test_files_that_disagree_are_refused_unless_both_are_numbers(delivery):
    delivery.put("a.csv", b"x\n1\n")
    delivery.put("b.csv", b"x\n1.5\n")
    source = delivery.source()
    assert source.read(source.version())["x"].to_list() == [1.0, 1.5]
    delivery.put("c.csv", b"x\nmany\n")
    with pytest.raises(SourceUnreadable, match=r"'x' is String in c\.csv but Int64 in a\.csv"):
        source.read(source.version())
    delivery.put("c.csv", b"y\n1\n")
    with pytest.raises(SourceUnreadable, match=r"c\.csv has the columns \['y'\]"):
        source.read(source.version())


def test_formats_are_not_mixed(delivery):
    delivery.put("a.csv", b"x\n1\n")
    delivery.put("b.ndjson", b'{"x":1}\n')
    source = delivery.source()
    with pytest.raises(SourceUnreadable, match="one format"):
        source.read(source.version())


def test_what_is_read_while_a_writer_writes_is_always_the_version_asked_for(delivery):
    """Each delivery has one value in all its rows and files; its version is known before. No mixture may come out."""
    contents = {value: _rows_of(value) for value in range(4)}
    versions = {}
    for value, content in contents.items():
        for name in ("a.csv", "b.csv", "c.csv"):
            delivery.put(name, content)
        versions[delivery.source().version()] = value
    ended = threading.Event()

    def write():
        turn = 0
        while not ended.is_set():
            for name in ("a.csv", "b.csv", "c.csv"):
                delivery.put(name, contents[turn % 4])
            turn += 1

    writer = threading.Thread(target=write)
    writer.start()
    refused, read = 0, 0
    try:
        for attempt in range(60):
            source = delivery.source()
            try:
                version = source.version() if attempt % 2 else next(iter(versions))
                rows = source.read(version)
            except SourceChanged:
                refused += 1
                continue
            if version in versions:
                assert rows["x"].unique().to_list() == [versions[version]]
                assert rows.height == 6000
            read += 1
    finally:
        ended.set()
        writer.join()
    assert refused > 0


def _rows_of(value):
    return ("x\n" + f"{value}\n" * 2000).encode()


def test_a_folder_that_may_not_be_read_is_refused(tmp_path):
    broken = tmp_path / "a.csv"
    broken.symlink_to(tmp_path / "nowhere")
    with pytest.raises(SourceMissing):
        FileSource(tmp_path).version()


def test_a_closed_port_is_an_unavailable_service_not_a_missing_source():
    options = {
        "key": "k",
        "secret": "s",
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"},
        "config_kwargs": {"retries": {"max_attempts": 0}},
    }
    with pytest.raises(ServiceUnavailable, match="s3://shop/ratings does not answer"):
        S3Source("s3://shop/ratings", options=options).version()


@pytest.mark.services
def test_a_wrong_secret_is_refused_with_advice(seaweed):
    with pytest.raises(ServiceUnavailable, match="check its key, secret"):
        S3Source("s3://shop/ratings", options=seaweed | {"secret": "wrong"}).version()


def test_secrets_are_not_shown():
    assert "hidden" not in repr(S3Source("s3://a/b", options={"secret": "hidden"}))
    assert os.sep in repr(FileSource("/a/b"))


@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_an_object_that_changes_after_it_was_listed_is_not_read(bucket, change):
    bucket.put("a.csv", b"x\n1\n")
    source = bucket.source()
    listed = source._objects()
    bucket.put("a.csv", b"x\n2\n") if change == "replaced" else bucket.drop("a.csv")
    with pytest.raises(SourceChanged, match="changed while it was read|went away while it was read"):
        source._contents(listed)

"""A view's table in parts: what is recomputed, what is refused, and what is left when writers die or meet."""

import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pyarrow.parquet as pq
import pytest
import small_views
from small_views import BY_MONTH, HABITS, MONTHS, deliver, instance_at, materialize, orders, parts_of, records

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.errors import FeatureError
from mlops_assets.features.assets import build_feature_asset, read_features
from mlops_assets.features.engine import feature_table
from mlops_assets.features.jobs import build_materialize_job
from mlops_assets.features.materialization import Materialization
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import Aggregate

ALL = ["2024-01", "2024-02", "2024-03", "2024-04"]
LATE = pl.DataFrame(
    {"user": [0], "time": [datetime(2024, 2, 10, tzinfo=UTC)], "amount": [99.0]}, schema=orders().schema
)


@pytest.fixture
def instance(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


class Reader:
    """What a run that reads the table has."""

    def __init__(self, instance):
        self.instance = instance


def read(tmp_path, instance, events=None, view=HABITS):
    return read_features(Reader(instance), view, MONTHS, LocalSnapshots(tmp_path / "snapshots"), events)


def computed(result):
    return [key for key in records(result) if key]


def test_all_months_together_are_the_table_that_is_kept_whole(tmp_path, instance):
    result = materialize(tmp_path, instance, orders())
    assert computed(result) == ALL
    with dg.DagsterInstance.ephemeral() as other:
        whole = records(materialize(tmp_path, other, orders(), kept=Materialization()))[None]
    found = read(tmp_path, instance, orders())
    assert found.frame.equals(feature_table(HABITS, orders(), PolarsEngine()))
    assert found.digest == whole["digest"]


def test_what_is_unchanged_is_reused_and_keeps_its_data_version(tmp_path, instance):
    first = records(materialize(tmp_path, instance, orders()))
    second = materialize(tmp_path, instance, orders().reverse())
    assert computed(second) == []
    whole = records(second)[None]
    assert (whole["parts_reused"], whole["parts_computed"], whole["version"]) == (4, 0, first[None]["version"])
    one = records(materialize(tmp_path, instance, partition="2024-02"))["2024-02"]
    assert (one["reused"], one["version"]) == (True, first["2024-02"]["version"])
    again = materialize(tmp_path, instance, partition="2024-02", run_config=RECOMPUTE)
    assert (records(again)["2024-02"]["reused"], records(again)["2024-02"]["version"]) == (False, one["version"])


RECOMPUTE = {"ops": {"features__habits": {"config": {"recompute": True}}}}


def test_new_late_and_corrected_events_recompute_the_months_they_can_influence(tmp_path, instance):
    materialize(tmp_path, instance, orders(3))
    assert computed(materialize(tmp_path, instance, orders(4))) == ["2024-03", "2024-04"]  # 30 events end in March
    late = pl.concat([orders(4), LATE])
    assert computed(materialize(tmp_path, instance, late)) == ["2024-02", "2024-03"]
    corrected = late.with_columns(amount=pl.when(pl.col("amount") == 0.0).then(8.0).otherwise("amount"))
    assert computed(materialize(tmp_path, instance, corrected)) == ["2024-01", "2024-02"]
    assert read(tmp_path, instance, corrected).frame.equals(feature_table(HABITS, corrected, PolarsEngine()))


def test_a_backfill_makes_one_month_a_run_and_a_range_all_at_once(tmp_path, instance):
    materialize(tmp_path, instance, orders(), partition="2024-03")
    assert list(parts_of(instance)) == ["2024-03"]
    tags = {"dagster/asset_partition_range_start": "2024-01", "dagster/asset_partition_range_end": "2024-04"}
    found = records(materialize(tmp_path, instance, tags=tags))
    assert {key: record["reused"] for key, record in found.items()} == dict.fromkeys(ALL, False) | {"2024-03": True}
    assert read(tmp_path, instance, orders()).frame.equals(feature_table(HABITS, orders(), PolarsEngine()))
    job = build_materialize_job("shop", [HABITS], MONTHS)
    resources = {"snapshots": LocalSnapshots(tmp_path)}
    defs = dg.Definitions([build_feature_asset(HABITS, materialization=BY_MONTH)], jobs=[job], resources=resources)
    keys = defs.resolve_job_def("shop_materialize").partitions_def.get_partition_keys()
    assert keys[:4] == ALL
    assert keys[-1] == datetime.now(UTC).strftime("%Y-%m")


def test_a_month_that_is_missing_in_the_middle_is_named_with_the_way_to_get_it(tmp_path, instance):
    for month in ("2024-01", "2024-04"):
        materialize(tmp_path, instance, orders(), partition=month)
    with pytest.raises(FeatureError, match="no partition: 2024-02, 2024-03; .*-j shop_materialize --partitions 2024-0"):
        read(tmp_path, instance)
    with pytest.raises(FeatureError, match="no partition: 2024-02, 2024-03"):
        read(tmp_path, instance, orders())


def test_a_table_of_other_data_than_that_of_the_reader_is_refused(tmp_path, instance):
    materialize(tmp_path, instance, orders())
    with pytest.raises(FeatureError, match="was computed from other data: 2024-02, 2024-03; backfill"):
        read(tmp_path, instance, pl.concat([orders(), LATE]))


def test_a_column_whose_type_changed_is_refused_and_the_table_stays_as_it_was(tmp_path, instance):
    materialize(tmp_path, instance, orders())
    texts = orders().with_columns(pl.col("user").cast(pl.String))
    with pytest.raises(FeatureError, match="column 'user' was Int64 in partition 2024-01 and would be String now"):
        materialize(tmp_path, instance, texts)
    assert read(tmp_path, instance, orders()).frame.height == orders().height


def test_a_feature_that_came_or_went_makes_all_months_new(tmp_path, instance):
    materialize(tmp_path, instance, orders())
    more = replace(HABITS, features=(HABITS.features[0], Aggregate(name="total", function="sum", column="amount")))
    with pytest.raises(FeatureError, match="was computed from other data"):
        read(tmp_path, instance, orders(), view=more)
    assert computed(materialize(tmp_path, instance, view=more)) == ALL
    table = read(tmp_path, instance, orders(), view=more).frame
    assert table.columns == ["user", "time", "orders", "total"]


def test_a_damaged_part_is_made_again(tmp_path, instance):
    materialize(tmp_path, instance, orders())
    part = parts_of(instance)["2024-03"]
    file = tmp_path / "snapshots" / part.digest.removeprefix("sha256:") / "data.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    assert computed(materialize(tmp_path, instance)) == ["2024-03"]
    assert read(tmp_path, instance, orders()).frame.height == orders().height


def test_another_writer_in_the_middle_of_a_run_leaves_whole_parts_and_what_is_outdated_is_told(tmp_path, instance):
    newer = pl.concat([orders(), LATE])

    class Interrupted(PolarsEngine):
        def features_at(self, view, events, spine):
            materialize(tmp_path, instance, newer)  # begins later, is done earlier
            return super().features_at(view, events, spine)

    materialize(tmp_path, instance, orders(), engine=Interrupted())
    with pytest.raises(FeatureError, match="was computed from other data: 2024-02, 2024-03"):
        read(tmp_path, instance, newer)
    assert computed(materialize(tmp_path, instance, newer)) == ["2024-02", "2024-03"]
    assert read(tmp_path, instance, newer).frame.equals(feature_table(HABITS, newer, PolarsEngine()))


@pytest.mark.services  # it starts no server, but imports Dagster in processes of its own, which takes long
def test_a_writer_that_is_killed_leaves_the_months_it_made_and_the_next_makes_the_rest(tmp_path):
    with instance_at(tmp_path) as instance:
        deliver(tmp_path, instance, orders())
        script = [sys.executable, small_views.__file__, str(tmp_path), "3"]
        killed = subprocess.run(script, capture_output=True, timeout=200, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
        assert list(parts_of(instance)) == ["2024-01", "2024-02"]
        with pytest.raises(FeatureError, match="has no partition: 2024-03, 2024-04"):
            read(tmp_path, instance, orders())
        assert computed(materialize(tmp_path, instance)) == ["2024-03", "2024-04"]
        assert read(tmp_path, instance, orders()).frame.equals(feature_table(HABITS, orders(), PolarsEngine()))


def test_events_of_the_future_and_of_before_the_start_are_in_windows_and_only_the_first_have_rows(tmp_path, instance):
    ahead = datetime.now(UTC) + timedelta(days=70)
    moments = [datetime(2023, 12, 31, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC), ahead]
    events = pl.DataFrame({"user": [0, 0, 0], "time": moments, "amount": [1.0, 2.0, 3.0]}, schema=orders().schema)
    materialize(tmp_path, instance, events)
    table = read(tmp_path, instance, events).frame
    assert table["time"].to_list() == moments[1:]
    assert table["mean"].to_list() == [1.0, None]


def test_a_part_is_a_parquet_file_of_plain_types_that_any_engine_reads(tmp_path, instance):
    materialize(tmp_path, instance, orders(), partition="2024-02")
    part = parts_of(instance)["2024-02"]
    file = tmp_path / "snapshots" / part.digest.removeprefix("sha256:") / "data.parquet"
    table = pq.read_table(file)
    assert {field.name: str(field.type) for field in table.schema}["time"] == "timestamp[us, tz=UTC]"
    assert table.num_rows == part.rows == 9
    assert table.column("mean").to_pylist() == pl.read_parquet(file)["mean"].to_list()


def test_a_view_of_a_thousand_features_is_materialized_and_described(tmp_path, instance):
    columns = [f"c{n}" for n in range(250)]
    functions = ("count", "sum", "mean", "max")
    features = tuple(
        Aggregate(name=f"{name}_{function}", function=function, column=name, window=timedelta(days=7))
        for name in columns
        for function in functions
    )
    events = orders(1).with_columns(pl.lit(1.5).alias(name) for name in columns)
    result = materialize(tmp_path, instance, events, view=replace(HABITS, features=features))
    whole = records(result)[None]
    assert len(whole["dagster/column_schema"].columns) == 1002
    assert whole["statistics"].count("\n| `") == 1000
    assert whole["distributions"].startswith("![")

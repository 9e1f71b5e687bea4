"""The asset of a feature view, materialized by Dagster as production does."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.errors import FeatureError
from mlops_assets.features.assets import build_feature_asset
from mlops_assets.features.engine import feature_table
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.features.view import Aggregate, FeatureView

START = datetime(2024, 1, 1, tzinfo=UTC)
VIEW = FeatureView(
    name="user_taste",
    source="shop",
    entity="user",
    event_time="time",
    features=(
        Aggregate(name="ratings", function="count", column="rating"),
        Aggregate(name="mean", function="mean", column="rating", window=timedelta(hours=2)),
    ),
    description="How a user rates.",
    owner="team:taste",
)
EVENTS = pl.DataFrame(
    {
        "user": [2, 1, 1, 1],
        "time": [START, START + timedelta(hours=1), START, START],
        "rating": [3.0, 4.0, 5.0, 2.0],
    }
)


TYPED = replace(
    VIEW,
    known_time="known",
    time_to_live=timedelta(days=9),
    tags=("taste", "not a tag of Dagster's"),
    features=(
        Aggregate(name="n", function="count", window=timedelta(hours=2), where="paid", description="Paid so far."),
        Aggregate(name="shop", function="last", column="shop", type="string"),
        Aggregate(name="paid", function="last", column="paid", type="boolean", empty=False),
        Aggregate(name="due", function="max", column="known", type="time"),
        Aggregate(name="shops", function="last_k", column="shop", type="string", k=2),
    ),
)
MANY = pl.DataFrame(
    {
        "user": [1] * 5,
        "time": [START + timedelta(hours=n) for n in range(5)],
        "known": [START + timedelta(hours=n) for n in range(5)],
        "shop": ["a|b", "$x", "a|b", None, "z"],
        "paid": [True, False, True, None, True],
    }
)


def materialized(snapshots, events, view=VIEW, instance=None):
    @dg.asset(key=["shop", "dataset"])
    def dataset(snapshots: dg.ResourceParam[LocalSnapshots]):
        return dg.MaterializeResult(metadata={"digest": snapshots.write(events).digest})

    asset = build_feature_asset(view, used_by=["shop", "fraud"])
    result = dg.materialize([dataset, asset], resources={"snapshots": snapshots}, instance=instance)
    (event,) = result.asset_materializations_for_node("features__user_taste")
    return asset, event


@pytest.fixture
def snapshots(tmp_path: Path):
    return LocalSnapshots(tmp_path)


def test_the_table_has_one_row_per_entity_and_moment(snapshots):
    _, event = materialized(snapshots, EVENTS)
    table = snapshots.read(event.metadata["digest"].value)
    assert table.rows() == [(1, START, 0.0, None), (1, START + timedelta(hours=1), 2.0, 3.5), (2, START, 0.0, None)]
    assert table.columns == ["user", "time", "ratings", "mean"]


def test_the_materialization_says_what_was_read_and_made(snapshots):
    asset, event = materialized(snapshots, EVENTS)
    metadata = event.metadata
    assert metadata["inputs"].value == {"shop/dataset": snapshots.write(EVENTS).digest}
    assert metadata["definition"].value == VIEW.digest
    assert event.tags["dagster/data_version"] == metadata["digest"].value
    assert "| `mean` | Float64 | 2 | mean 3.5; 5 %, median, 95 %: 3.5, 3.5, 3.5 |" in metadata["statistics"].value
    assert metadata["distributions"].value.startswith("![")
    (spec,) = asset.specs
    assert spec.key.path == ["features", "user_taste"]
    assert (spec.group_name, spec.tags["stage"], list(spec.owners)) == ("features", "features", ["team:taste"])
    assert "How a user rates." in spec.description
    assert [dep.asset_key.path for dep in spec.deps] == [["shop", "dataset"]]


def test_equal_data_in_another_order_has_an_equal_digest(snapshots):
    first, second = materialized(snapshots, EVENTS)[1], materialized(snapshots, EVENTS.reverse())[1]
    assert first.metadata["digest"].value == second.metadata["digest"].value


def test_a_dataset_without_the_entity_is_refused_by_name():
    with pytest.raises(FeatureError, match="'user' is missing"):
        feature_table(VIEW, EVENTS.drop("user"), PolarsEngine())


def test_a_view_is_found_by_what_it_is_who_owns_it_and_who_uses_it():
    (spec,) = build_feature_asset(TYPED, used_by=["shop", "fraud"]).specs
    assert (spec.metadata["used_by"], spec.metadata["features"]) == ("shop, fraud", 5)
    assert spec.metadata["tags"] == "taste, not a tag of Dagster's"
    assert set(spec.tags) >= {"stage", "features/taste"}
    for words in ("time to live: 9 days", "known: from `known` on", "count of events over 2:00:00, where paid"):
        assert words in spec.description


def test_columns_of_every_type_have_a_description_and_figures(snapshots):
    metadata = materialized(snapshots, MANY, TYPED)[1].metadata
    columns = {
        column.name: (column.type, column.description) for column in metadata["dagster/column_schema"].schema.columns
    }
    assert columns["n"] == ("Int64", "Paid so far.")
    assert columns["shops"] == ("List(String)", "last 2 of shop over all time")
    lines = {line.split("`")[1]: line.split(" | ", 3)[2:] for line in metadata["statistics"].value.splitlines()[2:]}
    assert lines["shop"] == ["1", "2 distinct: 'a\\|b' (3), '\\$x' (1) |"]
    assert lines["paid"] == ["0", "true: 0.6 |"]
    assert lines["shops"] == ["0", "lengths 0 to 2, mean 1.4 |"]
    assert lines["due"][1].startswith("2024-01-01 00:00:00+00:00 to 2024-01-01 03:00:00+00:00")
    assert metadata["distributions"].value.startswith("![")


def test_a_table_that_would_come_out_the_same_is_not_computed_again(snapshots):
    with dg.DagsterInstance.ephemeral() as instance:
        first = materialized(snapshots, EVENTS, instance=instance)[1]
        more = EVENTS.with_columns(title=pl.lit("not read"))
        second = materialized(snapshots, more, instance=instance)[1]
        other = materialized(snapshots, EVENTS.with_columns(rating=pl.lit(1.0)), instance=instance)[1]
    assert [made.metadata["reused"].value for made in (first, second, other)] == [False, True, False]
    assert first.tags["dagster/data_version"] == second.tags["dagster/data_version"]
    assert second.metadata["inputs"].value == {"shop/dataset": snapshots.write(more).digest}
    assert second.metadata["statistics"] == first.metadata["statistics"]


def test_a_materialization_says_how_fresh_it_is_and_an_empty_one_says_nothing_of_that(snapshots):
    metadata = materialized(snapshots, EVENTS)[1].metadata
    newest = START + timedelta(hours=1)
    assert metadata["newest_event"].value == newest.timestamp()
    assert 0 <= (datetime.now(UTC) - newest).total_seconds() - metadata["freshness_seconds"].value < 3600
    assert "freshness_seconds" not in materialized(snapshots, EVENTS.clear())[1].metadata

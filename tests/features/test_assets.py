"""The asset of a feature view, materialized by Dagster as production does."""

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


def materialized(snapshots, events):
    @dg.asset(key=["shop", "dataset"])
    def dataset(snapshots: dg.ResourceParam[LocalSnapshots]):
        return dg.MaterializeResult(metadata={"digest": snapshots.write(events).digest})

    asset = build_feature_asset(VIEW)
    result = dg.materialize([dataset, asset], resources={"snapshots": snapshots})
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
    assert "| `mean` | 2 | 3.5 |" in metadata["statistics"].value
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

import dagster as dg
import polars as pl
import pytest

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.errors import DataError, MlopsError
from mlops_assets.evaluation.metrics import brier
from mlops_assets.evaluation.report import Estimate, EvaluationReport
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.monitoring.assets import (
    build_drift_asset,
    build_performance_asset,
    build_predictions_asset,
    flattened,
    live_columns,
)
from mlops_assets.monitoring.drift import DriftReport, UnivariateDrift
from mlops_assets.monitoring.performance import LivePerformance

CHAMPION = "sha256:a"
COLUMNS = ("age", "income", "country")
ASSETS = [
    build_predictions_asset("p", window_size=500),
    build_drift_asset("p", detector=UnivariateDrift(), columns=COLUMNS, entity="user_id"),
    build_performance_asset("p", LivePerformance(metric=brier(), tolerance=0.02), window_size=500),
]


class Monitor:
    """A product whose window of predictions is looked at, again and again, on one instance."""

    def __init__(self, path, instance, log, train):
        self.instance, self.log = instance, log
        self.snapshots = LocalSnapshots(path / "snapshots")
        self.ledger = SqlLedger("sqlite://")
        self.train = self.snapshots.write(train).digest
        self.report("training_set", {"digest": self.train, "train": self.train})

    def report(self, name, metadata):
        self.instance.report_runless_asset_event(dg.AssetMaterialization(["p", name], metadata=metadata))

    def make_champion(self, expected):
        estimate = Estimate(value=expected, low=expected, high=expected)
        report = EvaluationReport(
            product="p", candidate=CHAMPION, golden="g", rows=1, clusters=1, candidate_metrics={"brier": estimate}
        )
        self.report("evaluation", {"digest": report.digest, "report": dg.MetadataValue.json(report.to_json())})
        rollout = {"percent": 100, "step": 0, "phase": "COMPLETED"}
        body = {"release": "r", "candidate": CHAMPION, "version": "1", "features": None, "champion": None}
        self.ledger.append("p", Kind.RELEASED, body | {"judged": 1, "rollout": rollout}, actor="release")

    def look(self, window=None, raises=True):
        config = {"ops": {"p__predictions": {"config": {"window": window}}}} if window else {}
        resources = {"predictions": self.log, "snapshots": self.snapshots, "ledger": self.ledger}
        return dg.materialize(
            ASSETS, instance=self.instance, resources=resources, run_config=config, raise_on_error=raises
        )

    def found(self, kind):
        return [entry.body for entry in self.ledger.entries("p") if entry.kind is kind]


def metadata_of(result, name):
    (event,) = [
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["p", name])
    ]
    return {key: value.value for key, value in event.metadata.items()}


@pytest.fixture
def train(make_traffic):
    return live_columns(flattened(make_traffic(2000, seed=9, entities=800)), COLUMNS, "user_id").with_columns(
        pl.col("user_id").cast(pl.Int64), liked=pl.lit(1.0)
    )


@pytest.fixture
def watch(tmp_path, frame_log, train):
    with dg.DagsterInstance.ephemeral() as instance:
        yield lambda frame: Monitor(tmp_path, instance, frame_log(frame), train)


def test_calm_traffic_leaves_nothing_in_the_ledger(watch, make_traffic):
    monitor = watch(make_traffic(500))
    monitor.make_champion(expected=0.1825)
    result = monitor.look("p:1")
    assert metadata_of(result, "drift")["drifted_columns"] == []
    assert not metadata_of(result, "performance")["fell"]
    assert [entry.kind for entry in monitor.ledger.entries("p")] == [Kind.RELEASED]


def test_drift_is_recorded_with_its_columns_and_digests_once_a_window(watch, make_traffic):
    monitor = watch(make_traffic(500, shift=1.0))
    first, again = monitor.look("p:1"), monitor.look("p:1")
    metadata = metadata_of(first, "drift")
    assert metadata == metadata_of(again, "drift")
    (body,) = monitor.found(Kind.DRIFT_FOUND)
    assert (body["window"], body["columns"], body["report"]) == ("p:1", ["age"], metadata["digest"])
    assert body["reference"] == monitor.train
    assert DriftReport.from_json(metadata["report"]).digest == metadata["digest"]
    window = metadata_of(first, "predictions")["digest"]
    assert metadata["inputs"] == {"p/predictions": window, "p/training_set": monitor.train}


def test_a_champion_that_became_blind_is_recorded_once_a_window(watch, make_traffic):
    monitor = watch(make_traffic(500).with_columns(pl.col("score").shuffle(seed=1)))
    monitor.make_champion(expected=0.1825)
    result = monitor.look("p:1")
    monitor.look("p:1")
    (body,) = monitor.found(Kind.PERFORMANCE_FELL)
    report = metadata_of(result, "performance")
    assert body == {"window": "p:1", "metric": "brier", "report": report["digest"], "version": CHAMPION}
    matured = monitor.snapshots.read(report["inputs"]["matured"])
    assert matured.height == 500


@pytest.mark.parametrize("is_released", [False, True])
def test_without_a_champion_or_an_expectation_performance_says_so(watch, make_traffic, is_released):
    monitor = watch(make_traffic(500))
    if is_released:
        monitor.make_champion(expected=0.18)
        monitor.instance.wipe_assets([dg.AssetKey(["p", "evaluation"])])
    metadata = metadata_of(monitor.look("p:1"), "performance")
    assert metadata["says"] == (f"no evaluation of {CHAMPION} holds brier" if is_released else "p has no champion yet")
    assert metadata["too_small"]
    assert monitor.found(Kind.PERFORMANCE_FELL) == []


def test_without_a_named_window_the_newest_full_one_is_looked_at(watch, make_traffic):
    monitor = watch(make_traffic(1499))
    result = monitor.look()
    assert {metadata_of(result, name)["window"] for name in ("predictions", "drift", "performance")} == {"p:2"}
    rows = monitor.snapshots.read(metadata_of(result, "predictions")["digest"])
    assert rows["id"].to_list() == [f"0-{n}" for n in range(500, 1000)]
    assert rows["features.age"].is_not_null().all()


@pytest.mark.parametrize("window", [None, "p:1", "q:1"])
def test_a_window_that_is_not_full_or_not_its_own_is_refused(watch, make_traffic, window):
    with pytest.raises(MlopsError, match=r"no window is full|needs 500|names no window"):
        watch(make_traffic(499)).look(window)


def test_a_column_that_the_training_set_lacks_is_refused_by_name(watch, make_traffic, train):
    monitor = watch(make_traffic(500))
    narrow = monitor.snapshots.write(train.drop("age")).digest
    monitor.report("training_set", {"digest": narrow, "train": narrow})
    with pytest.raises(DataError, match=r"p: drift is to compare \['age'\]"):
        monitor.look("p:1")


def test_the_same_rows_have_the_same_columns_whatever_the_rest_of_the_log_carries(make_traffic):
    frame = make_traffic(10)
    more = frame.with_columns(
        pl.struct(pl.col("features").struct.field("age"), pl.lit(None, pl.Float64).alias("new")).alias("features")
    )
    assert flattened(more).columns == [name for name in flattened(frame).columns if name != "features.income"]
    assert flattened(frame.clear()).height == 0


def test_a_feature_comes_before_an_input_of_the_same_name_and_what_is_in_neither_is_null():
    rows = pl.DataFrame({"entity": ["1"], "inputs.x": [1.0], "features.x": [2.0], "inputs.y": ["a"]})
    assert live_columns(rows, ["x", "y", "z"], "user_id").to_dicts() == [
        {"x": 2.0, "y": "a", "z": None, "user_id": "1"}
    ]


def test_the_assets_are_named_and_tagged_by_product_and_stage():
    for definition, name in zip(ASSETS, ("predictions", "drift", "performance"), strict=True):
        (spec,) = definition.specs
        assert spec.key == dg.AssetKey(["p", name])
        assert (spec.group_name, spec.tags["stage"]) == ("p", "monitoring")
        assert spec.description

"""Features of text, times and integers reach a model, and the log, as they were in its training set."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
import shop

from mlops_assets.errors import RequestRefused
from mlops_assets.features.view import RequestFeature
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.log import FilePredictionLog
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import Package, save_package
from mlops_assets.training.recipe import TimeSplit
from mlops_assets.training.training_set import LabelExpression, build_training_set

TYPED = (
    RequestFeature(name="band", expression="CASE WHEN price > 50 THEN 'dear' ELSE 'cheap' END", type="string"),
    RequestFeature(name="hour", expression="EXTRACT(HOUR FROM at)", type="integer"),
    RequestFeature(name="is_dear", expression="price > 50", type="boolean"),
    RequestFeature(name="asked", expression="at", type="time"),
    RequestFeature(name="price_tens", expression="price / 10"),
)
SHOP = replace(shop.SHOP, views=(), request_features=TYPED)
NAMES = tuple(feature.name for feature in TYPED)


class TypedModel:
    """Scores a row by its text and time, which no matrix of numbers holds; refuses a frame of other types."""

    def __init__(self, schema):
        self.schema = schema
        self.features = NAMES

    def predict(self, frame):
        assert dict(frame.select(NAMES).schema) == self.schema
        is_dear, hour = (frame["band"] == "dear").fill_null(False), frame["asked"].dt.hour().fill_null(0)
        return is_dear.to_numpy() / 2 + hour.to_numpy().astype(np.float64) / 100

    def predict_matrix(self, matrix):
        raise AssertionError("text is no number")

    def save(self, directory):
        (directory / "model.txt").write_text("typed")


def load_typed(directory):
    return TypedModel(trained_schema())


def training_rows():
    rows = shop.history(60)
    split = TimeSplit(golden=timedelta(days=1))
    label = LabelExpression(name="label", expression="rating > 2.5")
    built = build_training_set(rows, {}, TYPED, split=split, event_time="at", label=label, entity="person")
    return built.train


def trained_schema():
    return dict(training_rows().select(NAMES).schema)


@pytest.fixture
def runtime(tmp_path):
    directory = tmp_path / "made"
    package = Package(loader="test_typed_features:load_typed", features=NAMES)
    save_package(TypedModel(trained_schema()), package, directory)
    digest = digest_of_directory(directory)
    registry = DirectoryRegistry(tmp_path / "registry")
    registry.register("shop", directory, digest=digest, params={}, metrics={}, facts={})
    here = shop.Here(tmp_path, served=SHOP)
    here.apply(TrafficPlan(weights={digest: 100}, features=None))
    yield here
    here.stop()


def test_a_training_set_has_the_declared_types():
    assert trained_schema() == {
        "band": pl.String(),
        "hour": pl.Int64(),
        "is_dear": pl.Boolean(),
        "asked": pl.Datetime("us", "UTC"),
        "price_tens": pl.Float64(),
    }


def test_a_served_row_is_the_row_of_training_in_value_and_type(runtime, tmp_path):
    rows = training_rows()
    for row in rows.head(8).iter_rows(named=True):
        (answer,) = runtime.answer([{name: row[name] for name in SHOP.inputs}])
        assert {name: answer.scored.row[name] for name in NAMES} == {name: row[name] for name in NAMES}
        assert answer.scored.score == TypedModel(trained_schema()).predict(pl.DataFrame([row], schema=rows.schema))[0]
    logged = FilePredictionLog(tmp_path / "log").predictions("shop")["features"].struct.unnest()
    assert logged["band"].to_list() == rows["band"].head(8).to_list()
    assert logged["hour"].to_list() == rows["hour"].head(8).to_list()
    assert [datetime.fromisoformat(text) for text in logged["asked"]] == rows["asked"].head(8).to_list()


def test_a_row_of_unknowns_has_the_same_types(runtime):
    (answer,) = runtime.answer([{"person": 1, "at": datetime(2024, 1, 1, tzinfo=UTC), "price": None}])
    assert answer.scored.row["is_dear"] is None
    assert answer.scored.score == 0.0


def test_a_request_of_another_type_is_refused_by_name(runtime):
    with pytest.raises(RequestRefused, match="'price' must be Float64, found 'a lot'"):
        runtime.answer([{"person": 1, "at": datetime(2024, 1, 1, tzinfo=UTC), "price": "a lot"}])

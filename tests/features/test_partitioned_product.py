"""A product whose views are kept by month: the same training set as of whole tables, and the jobs that fit."""

from dataclasses import replace
from datetime import date

import dagster as dg
import films
import pytest

from mlops_assets.build import build_definitions
from mlops_assets.errors import FeatureError
from mlops_assets.features.materialization import Materialization, TimePartitions

MONTHS = Materialization(partitions=TimePartitions(every="month", start=date(2024, 1, 1)))
TRAINING = [["films", "dataset"], ["films", "quarantine"], ["features", "taste"], ["films", "training_set"]]


def definitions(home, kept):
    return build_definitions([replace(films.FILMS, materialization=kept)], films.film_platform(home))


def run(definitions, instance, stages=TRAINING):
    """Materialize some stages in one run and return the metadata of the last materialization of each, by its name."""
    job = definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(stage) for stage in stages])
    events = result.get_asset_materialization_events()
    return {
        event.asset_key.path[-1]: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in events
    }


def test_the_training_set_is_the_same_and_follows_new_events(tmp_path):
    films.deliver(tmp_path, films.film_ratings().head(400))
    with dg.DagsterInstance.ephemeral() as instance, dg.DagsterInstance.ephemeral() as other:
        run(definitions(tmp_path, MONTHS), instance, TRAINING[:3])
        films.deliver(tmp_path, films.film_ratings())
        by_month = run(definitions(tmp_path, MONTHS), instance)
        whole = run(definitions(tmp_path, Materialization()), other)
        assert (by_month["taste"]["parts_computed"], by_month["taste"]["parts_reused"]) == (2, 1)
        assert by_month["training_set"]["digest"] == whole["training_set"]["digest"]
        assert by_month["training_set"]["inputs"] == whole["training_set"]["inputs"]
        films.deliver(tmp_path, films.film_ratings().head(590))
        with pytest.raises(FeatureError, match="taste' was computed from other data: 2024-03; backfill .*films_mater"):
            run(definitions(tmp_path, MONTHS), instance, [*TRAINING[:2], TRAINING[3]])


def test_there_is_a_job_for_backfills_and_checks_are_of_the_monitoring_job(tmp_path):
    defs = definitions(tmp_path, MONTHS)
    assert defs.resolve_job_def("films_materialize").partitions_def.get_partition_keys()[:2] == ["2024-01", "2024-02"]
    names = {job.name for job in definitions(tmp_path, Materialization()).resolve_all_job_defs()}
    assert "films_materialize" not in names
    steps = {job: {node.name for node in defs.resolve_job_def(job).nodes} for job in ("films_train", "films_monitor")}
    checks = {"features__taste_parity", "features__taste_freshness"}
    assert checks <= steps["films_monitor"]
    assert not checks & steps["films_train"]
    assert "features__taste" in steps["films_train"] - steps["films_monitor"]

"""A whole training run over a source that is at fault: it fails with the reason, and nothing half-made is left."""

import io

import dagster as dg
import films
import polars as pl
import pytest

from mlops_assets.errors import ContractBreached, SourceMissing, SourceUnreadable, TrainingFailed


def as_parquet(frame):
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


GOOD = films.film_ratings()
FAULTS = {
    "missing": (None, SourceMissing, "deliver"),
    "empty": (b"", SourceUnreadable, r"ratings\.parquet is empty"),
    "truncated": (as_parquet(GOOD)[:-100], SourceUnreadable, r"ratings\.parquet cannot be read"),
    "of another type": (as_parquet(GOOD.cast({"rating": pl.String})), ContractBreached, "'rating'"),
    "without a column": (as_parquet(GOOD.drop("minutes")), ContractBreached, "minutes"),
    "with too many bad rows": (
        as_parquet(GOOD.with_columns(rating=pl.when(pl.row_index() < 31).then(9.0).otherwise("rating"))),
        ContractBreached,
        r"31 of 600 rows \(5.17%\) break the contract, 5.00% are tolerated",
    ),
    "with one class": (as_parquet(GOOD.with_columns(rating=pl.lit(5.0))), TrainingFailed, "films: no training set"),
}


@pytest.fixture
def train(tmp_path):
    """Return a function that runs the training job, or stages of it, and the history that it is kept in."""
    with dg.DagsterInstance.ephemeral() as instance:

        def training(*stages):
            job = films.film_definitions(tmp_path).resolve_job_def("films_train")
            selection = [dg.AssetKey(["films", stage]) for stage in stages]
            return job.execute_in_process(instance=instance, asset_selection=selection or None)

        yield training, instance


@pytest.mark.parametrize("fault", FAULTS)
def test_a_source_at_fault_fails_the_run_by_name_and_leaves_the_ledger_and_registry_alone(fault, train, tmp_path):
    content, error, message = FAULTS[fault]
    (tmp_path / "source").mkdir()
    if content is not None:
        (tmp_path / "source" / "ratings.parquet").write_bytes(content)
    run, instance = train
    with pytest.raises(error, match=message):
        run()
    platform = films.film_platform(tmp_path)
    assert platform.ledger.entries() == []
    assert not (tmp_path / "models").exists()
    assert instance.get_latest_materialization_event(dg.AssetKey(["films", "candidate"])) is None
    if error is not TrainingFailed:
        assert instance.get_latest_materialization_event(dg.AssetKey(["films", "dataset"])) is None
        assert not (tmp_path / "snapshots").exists()


def test_as_many_bad_rows_as_are_tolerated_are_set_aside_and_the_run_goes_on(train, tmp_path):
    films.deliver(tmp_path, GOOD.with_columns(rating=pl.when(pl.row_index() < 30).then(9.0).otherwise("rating")))
    result = train[0]("dataset", "quarantine")
    facts = {
        name: made.metadata["rows"].value
        for made in result.asset_materializations_for_node("films__dataset")
        for name in [made.asset_key.path[-1]]
    }
    assert facts == {"dataset": 570, "quarantine": 30}
    assert result.success


def test_the_dataset_counts_as_made_from_the_version_it_read(train, tmp_path):
    """Dagster looks inputs up when a step begins; what the step itself observed must count, or it seems out of date."""
    run, instance = train
    for rows in (600, 580):
        films.deliver(tmp_path, GOOD.head(rows))
        run("dataset", "quarantine")
        tags = instance.get_latest_materialization_event(dg.AssetKey(["films", "dataset"])).asset_materialization.tags
        source = films.film_platform(tmp_path).sources["ratings"]
        assert tags["dagster/input_data_version/films/raw"] == source.version()

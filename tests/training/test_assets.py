import os
import signal
import subprocess
import sys
from pathlib import Path

import chain
import dagster as dg
import polars as pl
import pytest

from mlops_assets.errors import FeatureError, ServiceUnavailable, TrainingFailed
from mlops_assets.ledger.canonical import digest_of
from mlops_assets.ledger.entry import Kind
from mlops_assets.training.assets import record_once

CANDIDATE = "shop__candidate"


def run(home, rows=None, *, recipe=None, instance=None, selection=None, **changes):
    config = {"ops": {CANDIDATE: {"config": {"recipe": recipe}}}} if recipe else None
    return dg.materialize(
        chain.assets(chain.dataset_rows() if rows is None else rows),
        resources=chain.resources(home, **changes),
        run_config=config,
        instance=instance,
        selection=selection,
    )


def facts(result, *key):
    (made,) = result.asset_materializations_for_node("__".join(key))
    return {name: value.value for name, value in made.metadata.items()}


def recorded(home):
    entries = chain.resources(home)["ledger"].entries("shop")
    return [entry for entry in entries if entry.kind is not Kind.GOLDEN_PINNED]


def test_a_chain_from_dataset_to_candidate_names_all_it_read(tmp_path):
    result = run(tmp_path)
    training_set, candidate = facts(result, "shop", "training_set"), facts(result, CANDIDATE)
    assert training_set["digest"] == digest_of({name: training_set[name] for name in ("train", "golden")})
    assert candidate["inputs"].items() >= {"shop/training_set": training_set["digest"]}.items()
    assert candidate["inputs"].items() >= training_set["inputs"].items()
    assert candidate["metric/train_binary_logloss"] > 0
    (entry,) = recorded(tmp_path)
    assert entry.kind is Kind.CANDIDATE_REGISTERED
    assert entry.body == {
        "candidate": candidate["digest"],
        "version": "1",
        "snapshot": training_set["inputs"]["shop/dataset"],
        "features": training_set["inputs"]["shop/dataset"],
        "training_set": training_set["digest"],
        "recipe": "trees",
        "run_id": result.dagster_run.run_id,
    }
    registered = chain.resources(tmp_path)["registry"].find("shop", candidate["digest"])
    assert registered.facts["dagster_run_id"] == result.dagster_run.run_id
    assert registered.facts["train"] == training_set["train"]


def test_golden_rows_are_the_newest_and_no_row_is_lost(tmp_path):
    store = chain.resources(tmp_path)["snapshots"]
    made = facts(
        run(tmp_path, selection=["shop/dataset", "features/habits", "shop/training_set"]), "shop", "training_set"
    )
    train, golden = store.read(made["train"]), store.read(made["golden"])
    assert train["at"].max() < golden["at"].min()
    assert golden["at"].max() - golden["at"].min() < chain.SPLIT.golden
    assert train.height + golden.height == 400 == made["dagster/row_count"]
    assert train.columns == golden.columns
    assert set(train.columns) == {*chain.dataset_rows().columns, "visits", "liked_share", "price_squared"}
    assert pl.concat([train, golden])["liked"].equals(chain.dataset_rows()["liked"])


def test_a_second_run_gives_the_same_candidate_and_one_version(tmp_path):
    one, two = (facts(run(tmp_path, recipe="constant"), CANDIDATE) for _ in range(2))
    assert one["digest"] == two["digest"]
    assert two["version"] == "1"


@pytest.mark.services  # kills many processes, which takes its time
def test_a_run_killed_between_registration_and_ledger_is_repaired_by_the_next(tmp_path):
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    killed = subprocess.run(
        [sys.executable, str(here / "chain.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert recorded(tmp_path) == []
    candidate = facts(run(tmp_path, recipe="constant"), CANDIDATE)
    (entry,) = recorded(tmp_path)
    assert (entry.body["candidate"], entry.body["version"]) == (candidate["digest"], "1")
    assert [path.name for path in (tmp_path / "registry/shop/versions").iterdir()] == ["1"]
    assert list((tmp_path / "training").iterdir()) == []


def test_a_registry_that_is_down_leaves_nothing_half_recorded(tmp_path):
    (tmp_path / "registry").write_text("a file where the registry should be")
    with pytest.raises(ServiceUnavailable):
        run(tmp_path, recipe="constant")
    assert recorded(tmp_path) == []
    assert list((tmp_path / "training").iterdir()) == []


def test_the_config_chooses_the_recipe(tmp_path):
    with pytest.raises(TrainingFailed, match=r"recipe 'broken': .*moon"):
        run(tmp_path, recipe="broken")
    with pytest.raises(TrainingFailed, match=r"no recipe 'treees'.*\['trees', 'broken', 'random', 'constant'\]"):
        run(tmp_path, recipe="treees")
    assert recorded(tmp_path) == []


def test_a_label_with_one_class_makes_no_training_set(tmp_path):
    with pytest.raises(TrainingFailed, match=r"shop: no training set: .*classes"):
        run(tmp_path, chain.dataset_rows().with_columns(liked=1.0))


def test_a_dataset_without_the_label_is_refused_by_name(tmp_path):
    rows = chain.dataset_rows()
    with dg.DagsterInstance.ephemeral() as instance:
        run(tmp_path, rows, instance=instance, selection=["shop/dataset", "features/habits"])
        without = chain.assets(rows.rename({"liked": "likes"}))
        with pytest.raises((TrainingFailed, FeatureError), match="liked"):
            dg.materialize(without, resources=chain.resources(tmp_path), instance=instance)


def test_features_of_another_state_of_the_dataset_are_refused(tmp_path):
    with dg.DagsterInstance.ephemeral() as instance:
        run(tmp_path, instance=instance, selection=["shop/dataset", "features/habits"])
        run(tmp_path, chain.dataset_rows(rows=410), instance=instance, selection=["shop/dataset"])
        with pytest.raises(FeatureError, match="materialize features/habits again"):
            run(tmp_path, instance=instance, selection=["shop/training_set"])


def test_an_entry_is_recorded_once_by_its_body(tmp_path):
    ledger = chain.resources(tmp_path)["ledger"]
    kind, body = Kind.CANDIDATE_REGISTERED, {"candidate": "sha256:1", "run_id": "r"}
    first = record_once(ledger, "shop", kind, body, actor="a")
    assert record_once(ledger, "shop", kind, dict(body), actor="b") == first
    assert record_once(ledger, "shop", kind, body | {"run_id": "s"}, actor="a").sequence == 2
    assert record_once(ledger, "other", kind, body, actor="a").sequence == 3

from dataclasses import replace

import chain
import dagster as dg
import pytest

from mlops_assets.errors import EvaluationError, NotReproduced
from mlops_assets.evaluation.jobs import build_backtest_job
from mlops_assets.evaluation.metrics import brier, roc_auc
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.explain import why_live
from mlops_assets.training.jobs import build_reproduce_job

FEATURES = (*chain.VIEW.feature_names, "price_squared")


def trained(home, recipe, instance=None):
    result = dg.materialize(
        chain.assets(chain.dataset_rows()),
        resources=chain.resources(home),
        run_config={"ops": {"shop__candidate": {"config": {"recipe": recipe}}}},
        instance=instance,
    )
    (made,) = result.asset_materializations_for_node("shop__candidate")
    return made.metadata["digest"].value


def reproduce(home, candidate=None, **changes):
    declared = {"views": (chain.VIEW,), "request_features": chain.REQUEST, "recipes": chain.RECIPES}
    declared |= {"label": "liked", "entity": "user", "event_time": "at", "split": chain.SPLIT}
    return build_reproduce_job("shop", **{**declared, **changes}).execute_in_process(
        resources=chain.resources(home),
        run_config={"ops": {"shop_make_again": {"config": {"candidate": candidate} if candidate else {}}}},
    )


def last_entry(home):
    return chain.resources(home)["ledger"].entries("shop")[-1]


def test_a_model_made_again_from_its_recorded_dataset_is_the_same_and_the_ledger_says_so(tmp_path):
    candidate = trained(tmp_path, "constant")
    result = reproduce(tmp_path, candidate)
    entry = last_entry(tmp_path)
    assert entry.kind is Kind.REPRODUCED
    assert entry.body["equal"] is True
    stages = {stage["stage"]: stage for stage in entry.body["stages"]}
    assert list(stages) == ["features/habits", "training_set", "model"]
    assert stages["model"] == {"stage": "model", "recorded": candidate, "found": candidate}
    assert all(stage["recorded"] == stage["found"] for stage in stages.values())
    assert entry.body["run_id"] == result.dagster_run.run_id


def test_a_trainer_with_hidden_randomness_is_found_out_and_named(tmp_path):
    candidate = trained(tmp_path, "random")
    with pytest.raises(NotReproduced, match=rf"model was {candidate} and came out .* look for randomness"):
        reproduce(tmp_path, candidate)
    body = last_entry(tmp_path).body
    assert body["equal"] is False
    assert [stage["recorded"] == stage["found"] for stage in body["stages"]] == [True, True, False]


def test_features_that_are_computed_otherwise_now_are_named_before_the_model(tmp_path):
    candidate = trained(tmp_path, "constant")
    visits, liked = chain.VIEW.features
    changed = replace(chain.VIEW, features=(replace(visits, function="sum"), liked))
    with pytest.raises(NotReproduced, match="features/habits was"):
        reproduce(tmp_path, candidate, views=(changed,))


def test_a_recipe_that_was_changed_since_is_told_with_the_commit_to_check_out(tmp_path):
    candidate = trained(tmp_path, "constant")
    changed = tuple(replace(recipe, seed=7) for recipe in chain.RECIPES)
    with pytest.raises(NotReproduced, match=r"recipe 'constant' at commit .*changed since; check out"):
        reproduce(tmp_path, candidate, recipes=changed)
    with pytest.raises(NotReproduced, match="declared no more"):
        reproduce(tmp_path, candidate, recipes=chain.RECIPES[:1])


def test_what_cannot_be_reproduced_is_said(tmp_path):
    with pytest.raises(NotReproduced, match="no version is live; name the candidate"):
        reproduce(tmp_path)
    with pytest.raises(NotReproduced, match="sha256:other was never registered"):
        reproduce(tmp_path, "sha256:other")


def test_the_story_of_the_live_version_tells_that_it_was_made_again(tmp_path):
    ledger = chain.resources(tmp_path)["ledger"]
    rollout = {"percent": 100, "step": 0, "phase": "COMPLETED"}
    body = {"release": "r", "candidate": "sha256:a", "version": "1", "features": "sha256:f", "champion": None}
    ledger.append("shop", Kind.RELEASED, {**body, "judged": 1, "strategy": {}, "rollout": rollout}, actor="test")
    said = {"candidate": "sha256:a", "equal": True, "stages": [], "environment": {}, "run_id": "0123456789"}
    ledger.append("shop", Kind.REPRODUCED, said, actor="test")
    told = why_live(ledger.entries("shop"), "shop").facts[-1].what
    assert told == "made again from its recorded inputs: the same model came out (run 01234567)"


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    home = tmp_path_factory.mktemp("history")
    instance = dg.DagsterInstance.ephemeral()
    trained(home, "constant", instance)
    return home, instance


def backtest(history, count):
    home, instance = history
    job = build_backtest_job(
        "shop",
        recipes=chain.RECIPES,
        features=FEATURES,
        metrics=(brier(), roc_auc()),
        label="liked",
        cluster="user",
        event_time="at",
        split=chain.SPLIT,
    )
    config = {"ops": {"shop_look_back": {"config": {"recipe": "constant", "folds": count}}}}
    return job.execute_in_process(resources=chain.resources(home), instance=instance, run_config=config)


def test_a_backtest_trains_on_what_was_known_then_and_judges_on_what_came_next(history):
    events = backtest(history, 3).all_events
    (seen,) = (event.asset_observation_data.asset_observation for event in events if event.is_asset_observation)
    assert seen.asset_key == dg.AssetKey(["shop", "training_set"])
    lines = seen.metadata["backtest"].value.splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| 2020-01-30", "| 2020-02-09", "| 2020-02-19"]
    assert [line.split(" | ")[1] for line in lines] == ["160 rows", "240 rows", "320 rows"]
    assert seen.metadata["folds"].value.startswith("![plot](data:image/png")


def test_more_folds_than_the_data_gives_are_refused_with_how_many_it_gives(history):
    with pytest.raises(EvaluationError, match="gives 4 folds of 10 days, not 9"):
        backtest(history, 9)

"""Evaluation, gates and card as Dagster runs them, on the real ledger, registry and snapshots."""

import json
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.evaluation.assets import build_evaluation_asset, build_model_card_asset
from mlops_assets.evaluation.card import CardFacts
from mlops_assets.evaluation.metrics import brier, roc_auc
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.gates.at_least import AtLeast
from mlops_assets.gates.checks import build_gate_checks
from mlops_assets.gates.superior import Superior
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.lightgbm import train_classifier
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import Package, save_package

PRODUCT = "films"
FEATURES = ("taste", "age")
GATES = (AtLeast(metric="roc_auc", floor=0.6), Superior(metric="brier", minimum_effect=0.01))


def rows(seed: int, count: int = 3000) -> pl.DataFrame:
    generator = np.random.default_rng(seed)
    taste = generator.normal(0, 1, count)
    liked = (generator.random(count) < 1 / (1 + np.exp(-2 * taste))).astype(float)
    users = generator.integers(0, 80, count)
    return pl.DataFrame({"taste": taste, "age": generator.normal(0, 1, count), "liked": liked, "user": users})


class World:
    """A registry with models, a ledger, snapshots, and the assets before the evaluation as plain stand-ins."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = SqlLedger(f"sqlite:///{root}/ledger.db")
        self.registry = DirectoryRegistry(root / "registry")
        self.snapshots = LocalSnapshots(root / "snapshots")
        self.golden = self.snapshots.write(rows(1)).digest
        self.instance = dg.DagsterInstance.ephemeral()
        self.candidate = ""

    def train(self, frame: pl.DataFrame, rounds: int) -> str:
        model = train_classifier(
            frame,
            features=FEATURES,
            label="liked",
            params={"num_boost_round": rounds},
            seed=1,
            progress=lambda step, metrics: None,
        )
        directory = self.root / f"model-{rounds}-{len(list(self.root.iterdir()))}"
        save_package(
            model, Package(loader="mlops_assets.training.lightgbm:load_lightgbm", features=FEATURES), directory
        )
        digest = digest_of_directory(directory)
        facts = {"recipe": "ranker", "input.films/dataset": "sha256:dd"}
        self.registry.register(PRODUCT, directory, digest=digest, params={}, metrics={}, facts=facts)
        return digest

    def crown(self, digest: str) -> None:
        rollout = {"percent": 100, "step": 0, "phase": "COMPLETED"}
        body = {"release": "r1", "candidate": digest, "version": "1", "features": None, "champion": None, "judged": 0}
        self.ledger.append(PRODUCT, Kind.RELEASED, {**body, "rollout": rollout}, actor="test")

    def run(self, *selected: str) -> dg.ExecuteInProcessResult:
        @dg.asset(key=[PRODUCT, "candidate"])
        def candidate() -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"digest": self.candidate})

        @dg.asset(key=[PRODUCT, "training_set"])
        def training_set() -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"digest": "sha256:ee", "golden": self.golden})

        metrics = (brier(), roc_auc())
        parts = {"ledger": self.ledger, "registry": self.registry, "snapshots": self.snapshots}
        definitions = dg.Definitions(
            assets=[
                candidate,
                training_set,
                build_evaluation_asset(PRODUCT, metrics=metrics, label="liked", cluster="user", owners=["team:films"]),
                build_model_card_asset(
                    PRODUCT, metrics=metrics, label="liked", facts=CardFacts(owner="team:films", task="ranking")
                ),
            ],
            asset_checks=[build_gate_checks(PRODUCT, GATES)],
            resources={**parts, "training": None},
            jobs=[dg.define_asset_job("all", selection=[f"{PRODUCT}/{name}" for name in selected] or "*")],
        )
        job = definitions.resolve_job_def("all")
        return job.execute_in_process(instance=self.instance, raise_on_error=False)

    def judged(self) -> list:
        return [entry for entry in self.ledger.entries(PRODUCT) if entry.kind is Kind.JUDGED]


@pytest.fixture
def world(tmp_path) -> World:
    return World(tmp_path)


def metadata(result: dg.ExecuteInProcessResult, name: str) -> dict:
    (event,) = result.asset_materializations_for_node(f"{PRODUCT}__{name}")
    return {key: value.value for key, value in event.metadata.items()}


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    return {each.check_name: each.metadata["verdict"].value for each in result.get_asset_check_evaluations()}


def test_a_first_candidate_passes_its_gates_and_gets_its_card(world):
    world.candidate = world.train(rows(0), 40)
    result = world.run()
    assert result.success
    assert verdicts(result) == {"at_least_roc_auc": "PASSED", "superior_brier": "PASSED"}
    found = metadata(result, "evaluation")
    report = EvaluationReport.from_json(found["report"])
    assert report.digest == found["digest"]
    assert report.candidate == world.candidate
    assert found["inputs"]["golden"] == report.golden == world.golden
    assert found["candidate_brier"] == report.candidate_metrics["brier"].value
    card = metadata(result, "model_card")
    assert "superior_brier" in card["html"]
    assert card["card"]["components"][0]["version"] == world.candidate
    assert "films/dataset" in card["html"]


def test_the_judgement_is_one_ledger_entry_with_all_that_a_release_needs(world):
    world.candidate = world.train(rows(0), 40)
    result = world.run()
    (entry,) = world.judged()
    report = EvaluationReport.from_json(json.loads(json.dumps(entry.body["evaluation"])))
    assert entry.body["report"] == report.digest == metadata(result, "evaluation")["digest"]
    assert (entry.body["candidate"], entry.body["champion"]) == (world.candidate, None)
    assert entry.body["verdict"] == "PASSED"
    assert [said["gate"] for said in entry.body["judgements"]] == ["at_least_roc_auc", "superior_brier"]
    assert world.ledger.verify() == 1


def test_a_better_candidate_beats_the_champion_of_the_ledger(world):
    champion = world.train(rows(0), 1)
    world.crown(champion)
    world.candidate = world.train(rows(0), 40)
    result = world.run()
    assert verdicts(result)["superior_brier"] == "PASSED"
    assert EvaluationReport.from_json(metadata(result, "evaluation")["report"]).champion == champion
    assert metadata(result, "evaluation")["gain_brier"] > 0


def test_a_worse_candidate_is_stopped_before_its_card_and_the_ledger_says_why(world):
    world.crown(world.train(rows(0), 40))
    world.candidate = world.train(rows(0).with_columns(taste=-pl.col("taste")), 40)
    result = world.run()
    assert not result.success
    assert verdicts(result) == {"at_least_roc_auc": "FAILED", "superior_brier": "FAILED"}
    assert not result.asset_materializations_for_node(f"{PRODUCT}__model_card")
    (entry,) = world.judged()
    assert entry.body["verdict"] == "FAILED"
    assert "worse than the champion" in entry.body["judgements"][1]["reason"]


def test_a_champion_that_is_gone_from_the_registry_stops_the_run_and_judges_nothing(world):
    world.crown("sha256:" + "9" * 64)
    world.candidate = world.train(rows(0), 40)
    result = world.run()
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "champion sha256:99" in failure.step_failure_data.error.cause.message or "champion sha256:99" in str(
        failure.step_failure_data.error
    )
    assert not world.judged()


def test_the_same_candidate_and_golden_set_give_the_same_report_in_another_run(world):
    world.candidate = world.train(rows(0), 40)
    assert metadata(world.run(), "evaluation")["digest"] == metadata(world.run(), "evaluation")["digest"]
    assert len(world.judged()) == 2


def test_a_card_alone_states_the_recorded_verdict_and_refuses_a_report_nobody_judged(world):
    world.candidate = world.train(rows(0), 40)
    world.run()
    assert world.run("model_card").success
    world.ledger = SqlLedger(f"sqlite:///{world.root}/empty.db")
    result = world.run("model_card")
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "was never judged" in str(failure.step_failure_data.error)


def test_every_gate_is_a_blocking_check_that_says_what_it_promises():
    specs = list(build_gate_checks(PRODUCT, GATES).check_specs)
    assert [spec.name for spec in specs] == ["at_least_roc_auc", "superior_brier"]
    assert all(spec.blocking and spec.description and spec.metadata["metrics"] for spec in specs)

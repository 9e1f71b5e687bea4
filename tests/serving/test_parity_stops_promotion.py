"""A value that was served otherwise than batch computes it stops the next promotion, at the gate and at the release."""

from datetime import timedelta

import dagster as dg
import pytest
import shop

from mlops_assets.data.local import LocalSnapshots
from mlops_assets.evaluation.report import Estimate, EvaluationReport
from mlops_assets.features.parity import read_parity
from mlops_assets.gates.at_least import AtLeast
from mlops_assets.gates.checks import build_gate_checks
from mlops_assets.gates.parity_holds import ParityHolds
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.monitoring.checks import build_parity_check
from mlops_assets.release.assets import build_release_asset
from mlops_assets.release.blue_green import BlueGreen
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.serving.log import FilePredictionLog

VIEWS = {"taste": shop.TASTE.digest}
CHECKED = dg.AssetSelection.checks_for_assets(["features", "taste"])


class World:
    """A shop that served, its ledger, and the jobs of monitoring, judging and releasing."""

    def __init__(self, root):
        self.root = root
        self.ledger = SqlLedger(f"sqlite:///{root}/ledger.db")
        self.snapshots = LocalSnapshots(root / "snapshots")
        self.model = shop.register_model(root, 0)
        self.instance = dg.DagsterInstance.ephemeral()
        self.gates = (AtLeast(metric="roc_auc", floor=0.6), ParityHolds())
        body = {"candidate": self.model, "version": "1", "snapshot": "s", "features": None, "recipe": "r"}
        self.ledger.append("shop", Kind.CANDIDATE_REGISTERED, body, actor="training")

    def serve(self):
        """Answer two people, without and with events of theirs."""
        here = shop.Here(self.root)
        plan = TrafficPlan(weights={self.model: 100}, features=self.snapshots.write(shop.history(40)).digest)
        here.apply(plan)
        for person in (1, 99):
            here.answer([{"person": person, "at": shop.START + timedelta(days=20), "price": 3.0}])
        here.stop()

    def serve_wrongly(self):
        """Let the log say that another value was served: as a server would that computes it otherwise."""
        shop.rewrite_log(
            self.root, lambda record: record["features"].update(ratings=7) if record["entity"] == "1" else None
        )

    def definitions(self):
        report = EvaluationReport(
            product="shop",
            candidate=self.model,
            golden="sha256:golden",
            rows=100,
            clusters=10,
            candidate_metrics={"roc_auc": Estimate(value=0.8, low=0.79, high=0.81)},
        )

        @dg.asset(key=["features", "taste"])
        def taste():
            """Made elsewhere."""

        @dg.asset(key=["shop", "evaluation"])
        def evaluation():
            return dg.MaterializeResult(metadata={"digest": report.digest, "report": report.to_json(), "inputs": {}})

        @dg.asset(key=["shop", "model_card"], deps=[evaluation])
        def model_card():
            """The asset before the release."""

        return dg.Definitions(
            assets=[
                taste,
                evaluation,
                model_card,
                build_release_asset("shop", self.gates, BlueGreen(), views=VIEWS),
                build_parity_check(shop.TASTE, [shop.SHOP]),
            ],
            asset_checks=[build_gate_checks("shop", self.gates, views=VIEWS)],
            jobs=[
                dg.define_asset_job("monitor", selection=CHECKED),
                dg.define_asset_job("judge", selection=["shop/evaluation", "shop/model_card"]),
                dg.define_asset_job("promote", selection=["shop/evaluation", "shop/model_card", "shop/release"]),
                dg.define_asset_job("release", selection=["shop/release"]),
            ],
            resources={
                "ledger": self.ledger,
                "snapshots": self.snapshots,
                "predictions": FilePredictionLog(self.root / "log"),
            },
        )

    def run(self, job):
        resolved = self.definitions().resolve_job_def(job)
        return resolved.execute_in_process(instance=self.instance, raise_on_error=False)

    def entries(self, kind):
        return [entry for entry in self.ledger.entries("shop") if entry.kind is kind]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def checks(result):
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def test_a_planted_mismatch_fails_the_gate_and_nothing_is_released(world):
    world.serve()
    world.serve_wrongly()
    assert not checks(world.run("monitor"))["parity"].passed
    result = world.run("promote")
    assert not result.success
    found = checks(result)
    assert found["at_least_roc_auc"].passed
    assert not found["parity_holds"].passed
    assert "taste: 1 of 6 values" in found["parity_holds"].description
    assert "'ratings' (1)" in found["parity_holds"].description
    assert not result.asset_materializations_for_node("shop__release")
    assert not world.entries(Kind.RELEASED)
    assert not world.run("release").success
    assert not world.entries(Kind.RELEASED)


def test_the_judgement_names_the_report_it_saw_and_the_report_is_in_the_ledger(world):
    world.serve()
    world.serve_wrongly()
    shown = checks(world.run("monitor"))["parity"].metadata["digests"].value["shop"]
    world.run("promote")
    (judged,), (measured,) = world.entries(Kind.JUDGED), world.entries(Kind.PARITY_MEASURED)
    (said,) = (said for said in judged.body["judgements"] if said["gate"] == "parity_holds")
    seen = said["evidence"]["views"]["taste"]
    assert (said["verdict"], seen["report"], seen["ledger_entry"]) == ("FAILED", shown, measured.sequence)
    assert read_parity(measured.body["parity"]).digest == shown


def test_what_was_served_rightly_is_promoted(world):
    world.serve()
    assert checks(world.run("monitor"))["parity"].passed
    result = world.run("promote")
    assert result.success
    assert "all 6 replayed values" in checks(result)["parity_holds"].description
    assert len(world.entries(Kind.RELEASED)) == 1


def test_a_mismatch_found_after_the_judgement_stops_the_release_that_asks_again(world):
    world.serve()
    world.run("monitor")
    assert world.run("judge").success
    world.serve_wrongly()
    world.run("monitor")
    refused = world.run("release")
    assert not refused.success
    said = refused.failure_data_for_node("shop__release").error.cause.message
    assert "asked again, the gates say FAILED" in said
    assert "parity_holds: taste: 1 of 6 values" in said
    assert "'ratings'" in said
    assert not world.entries(Kind.RELEASED)


def test_a_first_release_waits_for_evidence_unless_it_is_declared_otherwise(world):
    world.run("monitor")
    result = world.run("promote")
    assert checks(result)["parity_holds"].metadata["verdict"].value == "INCONCLUSIVE"
    assert not world.entries(Kind.RELEASED)
    world.gates = (ParityHolds(passes_first=True),)
    assert world.run("promote").success
    assert len(world.entries(Kind.RELEASED)) == 1

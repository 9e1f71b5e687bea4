"""A product with a real ledger and a real registry, a serving target in memory, and a prediction log made of frames."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from mlops_assets.evaluation.report import Estimate, EvaluationReport
from mlops_assets.gates.at_least import AtLeast
from mlops_assets.gates.panel import judge_all
from mlops_assets.gates.record import record_judgement
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger
from mlops_assets.ledger.state import ProductState, fold
from mlops_assets.release.assets import build_deployment_asset, build_release_asset
from mlops_assets.release.canary import Canary
from mlops_assets.release.jobs import build_release_jobs
from mlops_assets.release.live import LiveAnalysis
from mlops_assets.release.plan import TrafficPlan
from mlops_assets.release.reconcile import reconcile
from mlops_assets.release.rollout import RolloutStrategy
from mlops_assets.release.target import FakeServing, Observed
from mlops_assets.training.directory_registry import DirectoryRegistry
from mlops_assets.training.model import digest_of_directory

PRODUCT = "films"
GATES = (AtLeast(metric="roc_auc", floor=0.6),)
ANALYSIS = LiveAnalysis(
    metric="squared_error", margin=0.02, bound=0.25, alpha=0.05, outcomes_per_unit=2, minimum_units=5
)
PREDICTIONS = {
    "id": pl.String,
    "at": pl.Datetime("us", "UTC"),
    "version": pl.String,
    "entity": pl.String,
    "score": pl.Float64,
    "outcome": pl.Float64,
    "outcome_at": pl.Datetime("us", "UTC"),
}
MIRRORS = {"id": pl.String, "version": pl.String, "score": pl.Float64}


@dataclass
class FrameEvidence:
    """A prediction log in memory."""

    answered: list[dict[str, Any]] = field(default_factory=list)
    mirrored: list[dict[str, Any]] = field(default_factory=list)

    def predictions(self, product: str) -> pl.DataFrame:
        return pl.DataFrame(self.answered, schema=PREDICTIONS)

    def mirrors(self, product: str) -> pl.DataFrame:
        return pl.DataFrame(self.mirrored, schema=MIRRORS)

    def serve(
        self,
        entities: int,
        *,
        champion: str,
        candidate: str,
        gain: float,
        outcomes: int = 2,
        at: datetime | None = None,
    ) -> None:
        """Answer ``outcomes`` requests of each of so many new entities, the candidate better by ``gain`` in each."""
        began = len(self.answered)
        for number in range(entities):
            for turn in range(outcomes):
                now = at or datetime.now(UTC)
                id = f"{began}-{number}-{turn}"
                by, other = (candidate, champion) if number % 2 else (champion, candidate)
                scores = {champion: 0.5, candidate: (0.25 - gain) ** 0.5}
                row = {"id": id, "at": now, "version": by, "entity": f"{began}-{number}", "score": scores[by]}
                self.answered.append(row | {"outcome": 0.0, "outcome_at": now})
                self.mirrored.append({"id": id, "version": other, "score": scores[other]})


class FileServing(FakeServing):
    """A serving target that other processes see as well."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def observe(self, product: str) -> Observed:
        if self.path.exists():
            self.applied[product] = TrafficPlan.from_json(json.loads(self.path.read_bytes()))
        return super().observe(product)

    def apply(self, product: str, plan: TrafficPlan) -> None:
        super().apply(product, plan)
        self.path.write_text(json.dumps(plan.to_json()))


class World:
    """One product below ``root``; ``judge`` does what a training run does, ``run`` launches a release job."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ledger = SqlLedger(f"sqlite:///{root}/ledger.db")
        self.registry = DirectoryRegistry(root / "registry")
        self.serving: FakeServing = FileServing(root / "serving.json")
        self.predictions = FrameEvidence()
        self.strategy: RolloutStrategy = Canary(percents=(5, 25, 50, 100))
        self.approvals_needed = 0
        self._instance: dg.DagsterInstance | None = None

    @property
    def instance(self) -> dg.DagsterInstance:
        self._instance = self._instance or dg.DagsterInstance.ephemeral()
        return self._instance

    @property
    def state(self) -> ProductState:
        return fold(self.ledger.entries(PRODUCT))

    def kinds(self) -> list[Kind]:
        return [entry.kind for entry in self.ledger.entries(PRODUCT)]

    def register(self, name: str) -> str:
        folder = self.root / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.txt").write_text(name)
        digest = digest_of_directory(folder)
        model = self.registry.register(PRODUCT, folder, digest=digest, params={}, metrics={}, facts={})
        if digest not in self.state.registered:
            body = {"candidate": digest, "version": model.version, "features": f"sha256:of-{name}", "recipe": "r"}
            self.ledger.append(PRODUCT, Kind.CANDIDATE_REGISTERED, body, actor="training")
        return digest

    def judge(self, name: str, *, auc: float = 0.8) -> str:
        """Register the candidate and judge it against the champion; return its digest."""
        digest = self.register(name)
        champion = self.state.champion.digest if self.state.champion else None
        report = EvaluationReport(
            product=PRODUCT,
            candidate=digest,
            champion=champion,
            golden="sha256:golden",
            rows=100,
            clusters=10,
            candidate_metrics={"roc_auc": Estimate(value=auc, low=auc - 0.01, high=auc + 0.01)},
        )
        run_id = f"run-{self.state.last_sequence}"
        record_judgement(self.ledger, PRODUCT, report, judge_all(GATES, report), run_id=run_id)
        return digest

    def save_predictions(self) -> None:
        rows = {"answered": self.predictions.answered, "mirrored": self.predictions.mirrored}
        (self.root / "predictions.json").write_text(json.dumps(rows, default=lambda at: at.isoformat()))

    def load_predictions(self) -> None:
        rows = json.loads((self.root / "predictions.json").read_bytes())
        for row in rows["answered"]:
            row |= {name: datetime.fromisoformat(row[name]) for name in ("at", "outcome_at")}
        self.predictions = FrameEvidence(**rows)

    def definitions(self) -> dg.Definitions:
        @dg.asset(key=[PRODUCT, "model_card"])
        def model_card() -> None:
            """The asset before the release."""

        return dg.Definitions(
            assets=[
                model_card,
                build_release_asset(PRODUCT, GATES, self.strategy, approvals_needed=self.approvals_needed),
                build_deployment_asset(PRODUCT, self.strategy, ANALYSIS),
            ],
            jobs=build_release_jobs(PRODUCT),
            resources=self.resources(),
        )

    def resources(self) -> dict[str, Any]:
        names = ("ledger", "registry", "serving", "predictions")
        return {name: getattr(self, name) for name in names}

    def run(
        self, job: str, config: dict[str, Any] | None = None, *, op: str = "release", tags: dict[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        definition = self.definitions().resolve_job_def(f"{PRODUCT}_{job}")
        run_config = {"ops": {f"{PRODUCT}__{op}" if op != "decide" else f"{PRODUCT}_decide": {"config": config}}}
        return definition.execute_in_process(
            instance=self.instance, run_config=run_config if config else None, raise_on_error=False, tags=tags
        )

    def release(self, digest: str) -> dg.ExecuteInProcessResult:
        return self.run("release", {"candidate": digest})

    def crown(self, name: str) -> str:
        """Judge and release a first champion."""
        digest = self.judge(name)
        body = {"release": f"first-{name}", "candidate": digest, "version": "1", "champion": None, "judged": 2}
        rollout = {"percent": 100, "step": 0, "phase": "COMPLETED"}
        features = f"sha256:of-{name}"
        self.ledger.append(PRODUCT, Kind.RELEASED, body | {"rollout": rollout, "features": features}, actor="test")
        self.reconcile()
        return digest

    def begin(self, name: str, *, percent: int = 5) -> str:
        """Judge a candidate and begin its rollout."""
        digest = self.judge(name)
        champion = self.state.champion
        body = {"release": f"of-{name}", "candidate": digest, "version": "2", "features": f"sha256:of-{name}"}
        body |= {"champion": champion.digest if champion else None, "judged": self.state.judged[digest].sequence}
        rollout = {"percent": percent, "step": 0, "phase": "RUNNING"}
        self.ledger.append(PRODUCT, Kind.RELEASED, body | {"rollout": rollout}, actor="test")
        self.reconcile()
        return digest

    def reconcile(self) -> tuple[str, ...]:
        return tuple(reconcile(self.state, product=PRODUCT, registry=self.registry, target=self.serving).changes)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="session")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], World]:
    return lambda: World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def failure_of() -> Callable[[dg.ExecuteInProcessResult], str]:
    """Return what ended a run that failed."""

    def told(result: dg.ExecuteInProcessResult) -> str:
        assert not result.success
        failures = [event for event in result.all_events if event.event_type is dg.DagsterEventType.STEP_FAILURE]
        error = failures[0].step_failure_data.error
        return str(error.cause.to_string() if error.cause else error.to_string())

    return told


@pytest.fixture
def analysis() -> LiveAnalysis:
    return ANALYSIS

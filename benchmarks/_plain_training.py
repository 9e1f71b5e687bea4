"""The work of the job ``<product>_train`` as one plain function: no Dagster, no metadata, frames kept in memory.

It calls the same library functions and leaves the same snapshots, model, ledger entries and card, as a careful
engineer's script would. What it lacks is what the overhead buys: lineage, resuming, pictures for the UI.
"""

import base64
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

from mlops_assets.build import Platform
from mlops_assets.data.contract import validate
from mlops_assets.evaluation.card import CardFacts, model_card, render_card
from mlops_assets.evaluation.evaluate import evaluate
from mlops_assets.evaluation.explain import explain
from mlops_assets.evaluation.plots import plot_explanation, plot_metrics
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.features.engine import feature_table
from mlops_assets.features.polars_engine import PolarsEngine
from mlops_assets.gates.panel import Panel, judge_all
from mlops_assets.gates.record import record_judgement
from mlops_assets.ledger.canonical import Digest, digest_of
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.state import fold
from mlops_assets.product import ModelProduct
from mlops_assets.training.assets import record_once
from mlops_assets.training.job import TrainingJob
from mlops_assets.training.model import Model, digest_of_directory
from mlops_assets.training.package import load_model
from mlops_assets.training.provenance import find_provenance
from mlops_assets.training.training_set import LabelExpression, TrainingSet, build_training_set

ROOT = Path(__file__).resolve().parents[1]


@dataclass(slots=True)
class PlainTraining:
    """One training of ``product`` on ``platform``; ``run`` fills in the rest. ``seconds`` are by Dagster's step."""

    product: ModelProduct
    platform: Platform
    run_id: str
    dataset: Digest = ""
    candidate: Digest = ""
    golden: pl.DataFrame = field(default_factory=pl.DataFrame)
    inputs: dict[str, Digest] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> Panel:
        """Do all of it and return what the gates say."""
        name = self.product.name
        with tempfile.TemporaryDirectory() as scratch:
            with self._timed(f"{name}__dataset"):
                rows = self._dataset()
            tables = {}
            for view in self.product.views:
                with self._timed(f"features__{view.name}"):
                    tables[view] = feature_table(view, rows, PolarsEngine())
                    self.inputs[f"features/{view.name}"] = self.platform.snapshots.write(tables[view]).digest
            with self._timed(f"{name}__training_set"):
                parts, train, golden = self._training_set(rows, tables)
            with self._timed(f"{name}__candidate"):
                model = self._candidate(parts.train, train, Path(scratch))
            with self._timed(f"{name}__evaluation"):
                report = self._evaluation(model, parts.golden, golden)
            with self._timed(f"{name}_gates"):
                panel = judge_all(self.product.gates, report)
                record_judgement(self.platform.ledger, name, report, panel, run_id=self.run_id)
            with self._timed(f"{name}__model_card"):
                self._card(model, report, panel)
        self.golden = parts.golden
        return panel

    def _dataset(self) -> pl.DataFrame:
        source = self.platform.sources[self.product.source]
        validated = validate(source.read(source.version()), self.product.contract, product=self.product.name)
        derived = {column: pl.sql_expr(text) for column, text in self.product.derived.items()}
        good = validated.good.with_columns(**derived)
        self.dataset = self.inputs[f"{self.product.name}/dataset"] = self.platform.snapshots.write(good).digest
        self.platform.snapshots.write(validated.quarantined)
        return good

    def _training_set(self, rows: pl.DataFrame, tables: Mapping[Any, pl.DataFrame]) -> tuple[TrainingSet, str, str]:
        product, known = self.product, f"{self.product.label}__known_later"
        built = build_training_set(
            rows.rename({product.label: known}),
            tables,
            product.request_features,
            split=product.split,
            event_time=product.event_time,
            label=LabelExpression(name=product.label, expression=known),
            entity=product.entity,
        )
        parts = TrainingSet(train=built.train.drop(known), golden=built.golden.drop(known))
        if faults := parts.faults(product.label):
            raise RuntimeError(f"no training set: {faults}")
        train, golden = (self.platform.snapshots.write(part).digest for part in (parts.train, parts.golden))
        self.inputs[f"{product.name}/training_set"] = digest_of({"train": train, "golden": golden})
        return parts, train, golden

    def _candidate(self, frame: pl.DataFrame, train: Digest, scratch: Path) -> Model:
        product, recipe = self.product, self.product.recipes[0]
        job = TrainingJob(
            product=product.name, recipe=recipe, features=product.features, label=product.label, training_set=train
        )
        rows, directory = scratch / "rows.parquet", scratch / "model"
        frame.write_parquet(rows)
        metrics = _train(job, rows, directory)
        self.candidate = digest_of_directory(directory)
        provenance = find_provenance(self.inputs)
        facts = {f"input.{key}": digest for key, digest in provenance.inputs.items()}
        facts |= {"git_commit": provenance.commit, "environment": provenance.environment, "recipe": recipe.name}
        params = {**recipe.params, "seed": recipe.seed, "trainer": recipe.trainer}
        registered = self.platform.registry.register(
            product.name, directory, digest=self.candidate, params=params, metrics=metrics, facts=facts
        )
        body = {"candidate": self.candidate, "version": registered.version, "recipe": recipe.name}
        body |= {"snapshot": self.dataset, "features": self.dataset, "run_id": self.run_id}
        body |= {"training_set": self.inputs[f"{product.name}/training_set"]}
        record_once(self.platform.ledger, product.name, Kind.CANDIDATE_REGISTERED, body, actor="script")
        return load_model(directory)

    def _evaluation(self, model: Model, frame: pl.DataFrame, golden: Digest) -> EvaluationReport:
        product = self.product
        if fold(self.platform.ledger.entries(product.name)).champion is not None:
            raise RuntimeError("this script compares with no champion")
        return evaluate(
            product.name,
            candidate=(self.candidate, model),
            champion=None,
            golden=frame,
            golden_digest=golden,
            label=product.label,
            cluster=product.entity,
            metrics=product.metrics,
        )

    def _card(self, model: Model, report: EvaluationReport, panel: Panel) -> str:
        product = self.product
        golden = self.platform.snapshots.read(report.golden)
        explanation = explain(model, golden, label=product.label, metric=product.metrics[0])
        facts = CardFacts(
            owner=product.owner, description=product.description, features=product.features, data=self.inputs
        )
        pictures = {
            "Metrics": _png(plot_metrics(report)),
            "What the model looks at": _png(plot_explanation(explanation)),
        }
        judgements, explained = panel.to_json(), explanation.to_json()
        return render_card(model_card(report, facts, judgements=judgements, explanation=explained, pictures=pictures))

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = perf_counter()
        yield
        self.seconds[step] = perf_counter() - began


def _train(job: TrainingJob, rows: Path, directory: Path) -> dict[str, float]:
    asked = json.dumps({"job": job.to_json(), "rows": str(rows), "directory": str(directory)})
    command = [sys.executable, "-m", "benchmarks._train_process"]
    ended = subprocess.run(command, cwd=ROOT, input=asked, capture_output=True, text=True, check=False, timeout=300)
    if ended.returncode:
        raise RuntimeError(f"the training process ended with {ended.returncode}: {ended.stderr[-2000:]}")
    metrics: dict[str, float] = json.loads(ended.stdout)
    return metrics


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return base64.b64encode(buffer.getvalue()).decode()

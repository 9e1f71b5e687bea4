"""The job that shows how a recipe would have done at earlier times: ``<product>_backtest``."""

from collections.abc import Sequence

import dagster as dg
import polars as pl
from pydantic import Field

from mlops_assets.data.assets import consumed
from mlops_assets.data.plot import inline_png
from mlops_assets.data.snapshot import SnapshotStore
from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.backtest import Fold, folds
from mlops_assets.evaluation.evaluate import evaluate
from mlops_assets.evaluation.metrics import Metric
from mlops_assets.evaluation.plots import plot_folds
from mlops_assets.evaluation.report import EvaluationReport
from mlops_assets.training.backend import TrainingBackend
from mlops_assets.training.job import TrainingJob
from mlops_assets.training.package import load_model
from mlops_assets.training.recipe import Recipe, TimeSplit


def build_backtest_job(
    product: str,
    *,
    recipes: Sequence[Recipe],
    features: Sequence[str],
    metrics: Sequence[Metric],
    label: str,
    cluster: str,
    event_time: str,
    split: TimeSplit,
) -> dg.JobDefinition:
    """Return the job: train and evaluate on folds of the training set as it is now, and show what came of each.

    Nothing is registered and nothing is decided. The table and the picture are an observation of
    ``[product, training_set]``. Raises ``EvaluationError`` when the recipe is unknown or the data gives fewer folds.
    """
    known = {recipe.name: recipe for recipe in recipes}
    training_key = dg.AssetKey([product, "training_set"])

    class BacktestConfig(dg.Config):
        recipe: str = Field(default=recipes[0].name, description=f"How to train: one of {', '.join(known)}.")
        folds: int = Field(default=3, ge=1, description="How many golden intervals, back to back, up to the last row.")

    @dg.op(name=f"{product}_look_back", description="Train and evaluate on folds of the past.")
    def look_back(
        context: dg.OpExecutionContext,
        config: BacktestConfig,
        snapshots: dg.ResourceParam[SnapshotStore],
        training: dg.ResourceParam[TrainingBackend],
    ) -> None:
        if config.recipe not in known:
            raise EvaluationError(f"{product}: there is no recipe {config.recipe!r}; choose one of {list(known)}")
        read = consumed(context, training_key)
        rows = pl.concat([snapshots.read(read.metadata[part]) for part in ("train", "golden")])
        made = folds(rows, split=split, event_time=event_time, label=label, count=config.folds)
        reports = []
        for fold in made:
            train, golden = snapshots.write(fold.parts.train).digest, snapshots.write(fold.parts.golden).digest
            job = TrainingJob(
                product=product, recipe=known[config.recipe], features=tuple(features), label=label, training_set=train
            )
            with training.train(context, job, snapshots) as trained:
                model = load_model(trained.directory)
                report = evaluate(
                    product,
                    candidate=(trained.digest, model),
                    champion=None,
                    golden=fold.parts.golden,
                    golden_digest=golden,
                    label=label,
                    cluster=cluster,
                    metrics=metrics,
                )
            reports.append(report)
            values = ", ".join(f"{name} {found.value:.4g}" for name, found in report.candidate_metrics.items())
            context.log.info(f"fold {len(reports)} of {len(made)}, until {fold.until:%Y-%m-%d}: {values}")
        context.log_event(
            dg.AssetObservation(
                training_key,
                metadata={
                    "recipe": config.recipe,
                    "backtest": dg.MetadataValue.md(_table(made, reports)),
                    "folds": dg.MetadataValue.md(
                        inline_png(plot_folds(reports, [f"{fold.until:%Y-%m-%d}" for fold in made]))
                    ),
                },
            )
        )

    @dg.job(name=f"{product}_backtest", description="How a recipe would have done, trained and judged at past times.")
    def backtest() -> None:
        look_back()

    return backtest


def _table(made: Sequence[Fold], reports: Sequence[EvaluationReport]) -> str:
    names = sorted({name for report in reports for name in report.candidate_metrics})
    lines = [
        "| golden rows until | trained on | judged on | " + " | ".join(names) + " |",
        "| --- | --- | --- |" + " --- |" * len(names),
    ]
    for fold, report in zip(made, reports, strict=True):
        found = [report.candidate_metrics.get(name) for name in names]
        cells = [f"{f.value:.4g} [{f.low:.4g}, {f.high:.4g}]" if f else "-" for f in found]
        sizes = f"{fold.until:%Y-%m-%d} | {fold.parts.train.height:,} rows | {report.rows:,} rows"
        lines.append(f"| {sizes} | {' | '.join(cells)} |")
    return "\n".join(lines)

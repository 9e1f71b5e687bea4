"""The training process: ``python -m mlops_assets.training.process``, started by a backend, speaking Dagster Pipes.

It reads ``{"job": …, "rows": <parquet file>, "directory": <where the model goes>}`` from the extras, streams the
trainer's progress to the run's log, writes the model's directory whole or not at all, and reports one custom message:
``{"metrics": {…}, "digest": …}``, or ``{"failed": <why>}`` with exit status 1.

Imports no Dagster, only its Pipes client, so that it starts quickly and runs in images without the platform.
"""

import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
from dagster_pipes import PipesContext, PipesEnvVarParamsLoader, open_dagster_pipes

from mlops_assets.errors import MlopsError, TrainingFailed
from mlops_assets.training.job import TrainingJob
from mlops_assets.training.model import digest_of_directory
from mlops_assets.training.package import Package, save_package
from mlops_assets.training.resolve import resolve
from mlops_assets.training.rows import check_rows

END_WITH_PARENT = "--end-with-parent"

Log = Callable[[str], None]


def train(job: TrainingJob, *, rows: Path, directory: Path, log: Log) -> dict[str, float]:
    """Train ``job`` on the Parquet file ``rows``, write ``directory``, and return the trainer's last metrics.

    Raises ``TrainingFailed`` when the rows cannot be learned from, when the trainer cannot be imported, when it raises
    and when it returns no model.
    """
    frame = pl.read_parquet(rows)
    check_rows(frame, features=job.features, label=job.label)
    last: dict[str, float] = {}

    def progress(step: int, metrics: Mapping[str, float]) -> None:
        last.update({name: float(value) for name, value in metrics.items() if math.isfinite(value)})
        log(f"step {step}: " + ", ".join(f"{name} {value:.6g}" for name, value in metrics.items()))

    log(f"training {job.product} by recipe {job.recipe.name} on {len(frame)} rows, {len(job.features)} features")
    try:
        _train_and_save(job, frame, directory, progress)
    except MlopsError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise TrainingFailed(f"the trainer {job.recipe.trainer} ended with {reason}") from error
    return last


def _train_and_save(
    job: TrainingJob, frame: pl.DataFrame, directory: Path, progress: Callable[[int, Mapping[str, float]], None]
) -> None:
    recipe = job.recipe
    model = resolve(recipe.trainer)(
        frame,
        features=list(job.features),
        label=job.label,
        params=dict(recipe.params),
        seed=recipe.seed,
        progress=progress,
    )
    if not hasattr(model, "predict") or not hasattr(model, "save"):
        raise TrainingFailed(f"the trainer {recipe.trainer} returned a {type(model).__name__}, which is no model")
    resolve(recipe.loader)  # a model that nobody can read back is no model
    origin = {"recipe": recipe.name, "recipe_digest": recipe.digest, "training_set": job.training_set}
    origin |= {"product": job.product, "label": job.label}
    save_package(model, Package(loader=recipe.loader, features=tuple(model.features), origin=origin), directory)


def run(pipes: PipesContext) -> int:
    """Train what the extras ask for, report what came of it, and return the exit status."""
    job = TrainingJob.from_json(pipes.get_extra("job"))
    directory = Path(pipes.get_extra("directory"))
    try:
        metrics = train(job, rows=Path(pipes.get_extra("rows")), directory=directory, log=pipes.log.info)
        outcome: dict[str, Any] = {"metrics": metrics, "digest": digest_of_directory(directory)}
    except Exception as error:
        traceback.print_exc()
        outcome = {"failed": str(error) if isinstance(error, MlopsError) else f"{type(error).__name__}: {error}"}
    pipes.report_custom_message(outcome)
    return 1 if "failed" in outcome else 0


def main(arguments: list[str]) -> int:
    """Run inside a Pipes session; exit status 2 outside of one."""
    loader = PipesEnvVarParamsLoader()  # type: ignore[no-untyped-call]
    if not loader.is_dagster_pipes_process():
        print("this process is started by a training backend; it has nothing to do by itself", file=sys.stderr)
        return 2
    if END_WITH_PARENT in arguments:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    with open_dagster_pipes() as pipes:
        return run(pipes)


def _end_with_parent() -> None:
    """Wait until the backend's end of standard input closes, which a kill -9 does too, and end the whole group."""
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What Dagster and the assets around the library cost: ``recommendations_train`` against one plain function."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import dagster as dg

from benchmarks._plain_training import PlainTraining
from benchmarks._turns import seconds
from deployments.demo import ratings
from mlops_assets.build import build_definitions
from mlops_assets.products.recommendations import RECOMMENDATIONS
from resources.local import local_platform

FIRST_YEAR, TURNS = 2001, 5
NAME = RECOMMENDATIONS.name
RECIPE = RECOMMENDATIONS.recipes[0]
# With one thread: two that wait for each other take as long as whatever else the machine does lets them.
PRODUCT = replace(RECOMMENDATIONS, recipes=(replace(RECIPE, params={**RECIPE.params, "num_threads": 1}),))
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}


def overhead() -> list[dict[str, Any]]:
    """Return the seconds that orchestration adds, a step and in total; the baseline is the plain function's seconds.

    Both run in this process, each on a platform of its own below a temporary folder, and take turns: a turn delivers
    one more year of ratings to both, and both must train the same model. Dagster's instance is on disk. What is added
    includes the metadata and pictures that the UI shows, which the plain function has not. The ratio is baseline /
    (baseline + overhead): 1 would be no overhead.
    """
    with TemporaryDirectory() as folder, _instance(Path(folder) / "dagster") as instance:
        turns = list(_turns(Path(folder), instance))[1:]  # the first one imports and creates databases
    ours, plain = median(turn["ours"] for turn in turns), median(turn["plain"] for turn in turns)
    added = median(turn["ours"] - turn["plain"] for turn in turns)
    steps = {
        step: {side: round(median(turn["steps"][side][step] for turn in turns), 4) for side in ("ours", "plain")}
        for step in turns[0]["steps"]["ours"]
    }
    count, ratio = len(steps), plain / (plain + added)
    between = ours - sum(step["ours"] for step in steps.values())
    total = {"name": "spine.total_overhead_seconds", "value": added, "unit": "seconds", "baseline": plain}
    step = {"name": "spine.step_overhead_seconds", "value": added / count, "unit": "seconds/step"}
    return [
        {**step, "baseline": plain / count, "ratio": ratio, "details": {"steps": count, "turns": len(turns)}},
        {**total, "ratio": ratio, "details": {"ours": ours, "between_steps": round(between, 4), "seconds": steps}},
    ]


def _turns(home: Path, instance: dg.DagsterInstance) -> Iterator[dict[str, Any]]:
    ours, plain = local_platform(home / "ours"), local_platform(home / "plain")
    job = build_definitions([PRODUCT], ours).resolve_job_def(f"{NAME}_train")
    for turn in range(TURNS + 1):
        start = ratings.year(FIRST_YEAR + turn - 1) if turn else None
        period = ratings.between(start, ratings.year(FIRST_YEAR + turn))
        for side in ("ours", "plain"):
            ratings.deliver(home / side / "source" / PRODUCT.source, f"turn-{turn}", period)
        script = PlainTraining(PRODUCT, plain, run_id=f"turn-{turn}")
        began = perf_counter()
        result = job.execute_in_process(instance=instance, run_config=QUIET)
        took = perf_counter() - began
        by_hand = seconds(script.run)
        stats = instance.get_run_step_stats(result.run_id)
        _refuse_other_model(result, script)
        steps = {one.step_key: (one.end_time or 0) - (one.start_time or 0) for one in stats}
        yield {"ours": took, "plain": by_hand, "steps": {"ours": steps, "plain": script.seconds}}


def _refuse_other_model(result: dg.ExecuteInProcessResult, script: PlainTraining) -> None:
    """Raise unless both did the same work, which the model's digest tells."""
    made = result.asset_materializations_for_node(f"{NAME}__candidate")[0]
    found = made.metadata["digest"].value
    if found != script.candidate:
        raise RuntimeError(f"the job trained {found}, the plain function {script.candidate}")


@contextmanager
def _instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """Yield an instance that keeps runs and events in SQLite files below ``home``."""
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


FIGURES = [overhead]

"""Measuring how long a packaged model takes for a row: ``python -m mlops_assets.evaluation.latency``.

A process of its own loads the package as a server would and predicts golden rows one at a time, so that a model that
hangs or brings its process down harms nothing else. Its seconds are printed as JSON.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.training.package import load_model

WARM_UP = 20


def measure_latency(directory: Path, golden: pl.DataFrame, *, rows: int, timeout_seconds: float) -> list[float] | str:
    """Return the seconds of each of ``rows`` predictions of one row, ascending, or what became of the process instead.

    The process is always ended. Raises ``EvaluationError`` when there is no package in ``directory``.
    """
    if not (directory / "package.json").exists():
        raise EvaluationError(f"{directory} holds no package to measure")
    with tempfile.TemporaryDirectory() as scratch:
        sample = Path(scratch) / "rows.parquet"
        golden.head(rows).write_parquet(sample)
        command = [sys.executable, "-m", "mlops_assets.evaluation.latency", str(directory), str(sample), str(rows)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds, check=False)
        except subprocess.TimeoutExpired:
            return f"it did not answer {rows} times in {timeout_seconds:g} s"
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["nothing on stderr"]
        return f"its process ended with {ended.returncode}: {last[0]}"
    found: list[float] = json.loads(ended.stdout.splitlines()[-1])
    return sorted(found)


def main(directory: str, sample: str, count: str) -> None:
    """Print the seconds of ``count`` predictions, each of one row of ``sample``, as a JSON list."""
    model, rows = load_model(Path(directory)), pl.read_parquet(sample)
    singles = [rows.slice(place, 1) for place in range(rows.height)]
    for row in singles[:WARM_UP]:
        model.predict(row)
    seconds = []
    for turn in range(int(count)):
        began = time.perf_counter()
        model.predict(singles[turn % len(singles)])
        seconds.append(time.perf_counter() - began)
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""``python -m benchmarks._train_process``: one training in a process of its own, without Dagster Pipes.

Reads ``{"job": …, "rows": …, "directory": …}`` from standard input and prints the trainer's metrics as JSON.
"""

import json
import sys
from pathlib import Path

from mlops_assets.training.job import TrainingJob
from mlops_assets.training.process import train

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    metrics = train(
        TrainingJob.from_json(asked["job"]),
        rows=Path(asked["rows"]),
        directory=Path(asked["directory"]),
        log=lambda line: print(line, file=sys.stderr),
    )
    print(json.dumps(metrics))

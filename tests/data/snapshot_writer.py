"""A writer in a process of its own: ``forever`` until it is killed, ``same`` what others write too, or ``limited``."""

import resource
import sys
from pathlib import Path

import numpy as np
import polars as pl

from mlops_assets.data.local import LocalSnapshots


def forever(store, seed):
    """Store one new table after another, and say each digest once it is acknowledged."""
    random = np.random.default_rng(seed)
    print("ready", flush=True)
    while True:
        print(store.write(pl.DataFrame({"x": random.normal(size=50_000)})).digest, flush=True)


def same(store, count):
    """Store the tables that every such writer stores, once told to start."""
    print("ready", flush=True)
    sys.stdin.readline()
    for value in range(count):
        store.write(pl.DataFrame({"x": [value] * 1000}))


def limited(store, limit):
    """Store one table under the system's limit of ``limit`` bytes per file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    store.write(pl.DataFrame({"x": np.random.default_rng(1).normal(size=100_000)}))


if __name__ == "__main__":
    task, root, number = sys.argv[1:]
    {"forever": forever, "same": same, "limited": limited}[task](LocalSnapshots(Path(root)), int(number))

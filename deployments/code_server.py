"""A Dagster code server whose runs start warm: ``python -m deployments.code_server <module> <port>``.

Dagster's own code server starts each run in a new interpreter, which imports everything anew: seconds of processor time
for a run that may do milliseconds of work. Here runs are forked from a process that has imported the code location, and
what the library imports late, and done nothing else (the standard library's forkserver: it has no threads, and each run
is a process of its own, as ever). The price: changed code is seen when the server is started again, so ``make dev``
uses Dagster's own.
"""

import multiprocessing
import sys
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from dagster._cli.api import grpc_command
from dagster._grpc import server

# What the library imports late, because not every process needs it; together it takes longer than Dagster.
LATE = (
    "lightgbm",
    "matplotlib.pyplot",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "scipy.stats",
)


class WarmServer(server.DagsterApiServer):
    """Dagster's server, with another way to start a run's process."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._mp_ctx = multiprocessing.get_context("forkserver")  # type: ignore[assignment]


def main(module: str, port: str) -> None:
    """Serve the code location ``module`` on 127.0.0.1 until told to end."""
    multiprocessing.set_forkserver_preload([module, *LATE])
    forkserver.ensure_running()  # it imports while this process does
    server.DagsterApiServer = WarmServer  # type: ignore[misc]
    arguments = ["--module-name", module, "--working-directory", str(Path.cwd()), "--location-name", "mlops"]
    grpc_command([*arguments, "--host", "127.0.0.1", "--port", port])


if __name__ == "__main__":
    main(*sys.argv[1:])

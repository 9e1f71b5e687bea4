"""Running the application: one or more workers behind one port, on this machine only unless told otherwise."""

import gc
import os
import tempfile

import uvicorn
from starlette.types import ASGIApp

from mlops_assets.serving.protocol import Protocol

DRAIN_SECONDS = 10
BACKLOG = 2048


def serve(app: ASGIApp | str, *, host: str = "127.0.0.1", port: int, workers: int = 1) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is under way and end.

    For several ``workers`` ``app`` is the import path ``module:function`` of what builds the application in each; one
    that dies is started again, and meanwhile requests go to the others.
    """
    limits = {"timeout_graceful_shutdown": DRAIN_SECONDS, "backlog": BACKLOG}
    quiet = {"access_log": False, "log_level": "warning"}
    if isinstance(app, str) and workers > 1:
        with tempfile.TemporaryDirectory(prefix="mlops-metrics-") as counted:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = counted  # read when prometheus_client is imported, in the workers
            uvicorn.run(app, factory=True, workers=workers, host=host, port=port, http=Protocol, **limits, **quiet)  # type: ignore[arg-type]
        return
    freeze()
    uvicorn.run(app, factory=isinstance(app, str), host=host, port=port, http=Protocol, **limits, **quiet)  # type: ignore[arg-type]


def freeze() -> None:
    """Spare what is loaded for good from every later garbage collection: requests need not wait for it."""
    gc.collect()
    gc.freeze()

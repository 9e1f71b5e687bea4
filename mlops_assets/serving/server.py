"""Running the application: one process, one port, on this machine only unless told otherwise."""

import uvicorn
from starlette.applications import Starlette

DRAIN_SECONDS = 10


def serve(app: Starlette, *, host: str = "127.0.0.1", port: int) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is under way and end."""
    uvicorn.run(
        app, host=host, port=port, access_log=False, log_level="warning", timeout_graceful_shutdown=DRAIN_SECONDS
    )

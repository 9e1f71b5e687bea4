"""Processes of other programs that tests start, wait for, and end with all that they started."""

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress

import pytest


def free_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


def is_open(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def awaited(condition, what, process=None, seconds=120):
    """Return the first true value of a condition; fail after a time, or when the process ends, saying what for."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        if process is not None and process.poll() is not None:
            pytest.fail(f"the process ended before {what}")
        time.sleep(0.1)
    pytest.fail(f"waited {seconds} s for {what}")


@contextmanager
def running(command, folder, name, env=None):
    """Run a command in a process group of its own, its words in ``<name>.log`` of ``folder``; end the whole group."""
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=os.environ | (env or {}),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=20)

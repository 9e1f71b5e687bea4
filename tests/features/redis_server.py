"""A real Redis on 127.0.0.1, for tests: started on a free port, stopped, killed, restarted."""

import shutil
import socket
import subprocess
import time
from pathlib import Path


class RedisServer:
    """One ``redis-server`` process; ``options`` are command-line options."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder, self._options = folder, options
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed; make test-services installs it"
        fixed = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder), "--save", ""]
        self.process = subprocess.Popen([program, *fixed, *self._options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise TimeoutError("redis-server does not answer")

    def kill(self) -> None:
        """End the server at once; without persistence its data are gone."""
        self.process.kill()
        self.process.wait()

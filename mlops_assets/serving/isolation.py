"""A version that is not trusted yet answers from a process of its own.

A model that crashes, hangs or eats the memory of its process on some row harms nobody but itself: the request falls
back to the champion, the failure is on record, and the process is started again after a pause. Promotion brings the
version into the server's own process.

The protocol over a socket pair is ours alone: a frame is its length, the number of the question, and what it says. A
question is a pickled row, made by the server; an answer is JSON, since what comes from an untrusted process is read as
data and never as code.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from mlops_assets.errors import EvaluationError
from mlops_assets.serving.scoring import score_of
from mlops_assets.training.package import load_model

_LOG = logging.getLogger(__name__)
_FRAME = struct.Struct("<II")
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
START_SECONDS = 60.0


class IsolatedModel:
    """The model in ``directory``, in a process of its own. Belongs to one event loop."""

    def __init__(self, directory: Path, dtypes: Mapping[str, pl.DataType]) -> None:
        self._directory = directory
        self._dtypes = dict(dtypes)
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[float]] = {}
        self._numbers = itertools.count(1)
        self._pause = FIRST_PAUSE_SECONDS
        self._is_closed = False

    @property
    def process_id(self) -> int | None:
        """The number of its process, while there is one."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the process and have it load the model. ``EvaluationError`` when it cannot."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "mlops_assets.serving.isolation", str(theirs.fileno())]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader))
        await self._ask({"directory": self._directory, "dtypes": self._dtypes}, START_SECONDS)

    async def score(self, row: Mapping[str, Any], seconds: float) -> float:
        """Return the score of a row. ``EvaluationError`` when the model fails, or takes longer than ``seconds``."""
        found = await self._ask(dict(row), seconds)
        self._pause = FIRST_PAUSE_SECONDS
        return found

    async def _ask(self, question: dict[str, Any], seconds: float) -> float:
        if self._writer is None or self._reading is None or self._reading.done():
            raise EvaluationError("its process is being started again")
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        content = pickle.dumps(question)
        self._writer.write(_FRAME.pack(len(content), number) + content)
        try:
            async with asyncio.timeout(seconds):
                found: float = await answer
                return found
        except TimeoutError:
            self._kill()  # whatever it hangs on, the next question would wait behind it
            raise EvaluationError(f"no answer within {seconds:g} s; its process was ended") from None
        finally:
            self._waiting.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, number = _FRAME.unpack(await reader.readexactly(_FRAME.size))
                said = json.loads(await reader.readexactly(length))
                answer = self._waiting.get(number)
                if answer is None or answer.done():
                    continue
                if "score" in said:
                    answer.set_result(float(said["score"]))
                else:
                    answer.set_exception(EvaluationError(said["trouble"]))
        code = await asyncio.to_thread(self._process.wait) if self._process else None
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(EvaluationError(f"its process ended with {code}"))
        if not self._is_closed and self._restarting is None:
            _LOG.warning("%s: the process of an untrusted model ended with %s", self._directory.name, code)
            self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        """Start again, after a pause that doubles as long as it fails."""
        while not self._is_closed:
            pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)
            try:
                await self.start()
            except (EvaluationError, OSError):
                _LOG.exception("%s: an untrusted model cannot be started", self._directory.name)
            else:
                break
        self._restarting = None

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """End the process."""
        self._is_closed = True
        for task in (self._restarting, self._reading):
            if task is not None:
                task.cancel()
        if self._writer is not None:
            self._writer.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _answer(connection: socket.socket) -> None:
    """Load the model that the first question names, then answer questions until the server is gone."""
    with connection.makefile("rb") as asked:
        score = None
        while head := asked.read(_FRAME.size):
            length, number = _FRAME.unpack(head)
            question = pickle.loads(asked.read(length))
            try:
                if score is None:
                    score = score_of(load_model(question["directory"]), question["dtypes"])
                    said: dict[str, Any] = {"score": 0.0}
                else:
                    said = {"score": score(question)}
            except Exception as error:  # said to the server, which decides
                said = {"trouble": f"{type(error).__name__}: {error}"}
            content = json.dumps(said).encode()
            connection.sendall(_FRAME.pack(len(content), number) + content)


if __name__ == "__main__":
    _answer(socket.socket(fileno=int(sys.argv[1])))

"""A client of one prediction server: kept-alive connections, and as little work of its own as can be."""

import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from threading import Thread
from time import perf_counter
from typing import Any

Score = Callable[[Any], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Sends ``bodies`` in turn to ``path`` on a local port; ``score`` reads the score from an answer."""

    port: int
    path: str
    ready: str
    bodies: Sequence[bytes]
    score: Score

    def is_ready(self) -> bool:
        """Return whether the server answers at ``ready``."""
        try:
            return self._exchange(self._open(), "GET", self.ready)[0] == 200
        except (OSError, HTTPException):
            return False

    def scores(self) -> list[float]:
        """Return the score of each body."""
        connection = self._open()
        return [self.score(json.loads(self._ask(connection, body))) for body in self.bodies]

    def latencies(self, first: int, count: int) -> list[float]:
        """Return the seconds of ``count`` requests, one after another on one connection."""
        connection, took = self._open(), []
        self._ask(connection, self.bodies[0])  # connecting is not measured
        for number in range(first, first + count):
            began = perf_counter()
            self._ask(connection, self.bodies[number % len(self.bodies)])
            took.append(perf_counter() - began)
        connection.close()
        return took

    def count_within(self, seconds: float, connections: int) -> int:
        """Return how many requests are answered in ``seconds`` by so many connections at once."""
        counts = [0] * connections
        failures: list[Exception] = []
        until = perf_counter() + seconds

        def keep_asking(place: int) -> None:
            try:
                connection = self._open()
                for body in cycle(self.bodies):
                    if perf_counter() >= until:
                        break
                    self._ask(connection, body)
                    counts[place] += 1
                connection.close()
            except Exception as error:  # told to whoever waits for the threads
                failures.append(error)

        threads = [Thread(target=keep_asking, args=(place,)) for place in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return sum(counts)

    def _open(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=30)

    def _ask(self, connection: HTTPConnection, body: bytes) -> bytes:
        status, answer = self._exchange(connection, "POST", self.path, body)
        if status != 200:
            raise RuntimeError(f"{self.path} answered {status}: {answer[:500]!r}")
        return answer

    @staticmethod
    def _exchange(connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])

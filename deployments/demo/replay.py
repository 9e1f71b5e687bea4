"""Real traffic: held-out ratings asked as requests, each followed by its true outcome.

Each user's ratings are asked one after the other, as in life: the next request may use what the last outcome taught.
Several users are served at once. The rate is limited, so that the two cores are left to what is being shown: a portion
is asked quickly, then a trickle until the next portion, so that ratings do not run out while a rollout step is taken.
Of each user at most ``most_per_user`` ratings are played: evidence counts people, and their first ratings.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import aiohttp
import polars as pl


@dataclass(slots=True)
class Replay:
    """Plays ``frame`` against the server at ``url`` in a thread of its own until it ends or ``stop`` is called."""

    url: str
    product: str
    frame: pl.DataFrame
    rate_per_second: float = 250.0
    trickle_per_second: float = 15.0
    concurrency: int = 6
    portion: int | None = None
    most_per_user: int | None = None
    sent: int = 0
    failed: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> "Replay":
        """Begin to play, and return at once."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._play()), daemon=True)
        self._thread.start()
        return self

    def ask_more(self, requests: int) -> None:
        """Ask the next portion at full rate."""
        self.portion = self.sent + requests

    def stop(self) -> None:
        """Stop after the requests under way."""
        self._stop.set()
        self.join()

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the traffic."""
        if self._thread is not None:
            self._thread.join(timeout)

    @property
    def is_over(self) -> bool:
        """All ratings have been played, or the replay was stopped."""
        return self._thread is not None and not self._thread.is_alive()

    async def _play(self) -> None:
        users = iter(self.frame.partition_by("user_id", maintain_order=True))
        pace = _pace(self._rate)
        async with aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(30), raise_for_status=True) as client:
            await asyncio.gather(*(self._serve(client, users, pace) for _ in range(self.concurrency)))

    async def _serve(
        self, client: aiohttp.ClientSession, users: Iterator[pl.DataFrame], pace: Callable[[], float]
    ) -> None:
        for user in users:
            for row in user.head(self.most_per_user or user.height).iter_rows(named=True):
                if self._stop.is_set():
                    return
                await asyncio.sleep(pace())
                await self._ask(client, row)

    def _rate(self) -> float:
        within = self.portion is None or self.sent < self.portion
        return self.rate_per_second if within else self.trickle_per_second

    async def _ask(self, client: aiohttp.ClientSession, row: dict[str, Any]) -> None:
        try:
            async with client.post(f"/v2/models/{self.product}/infer", json=as_request(row)) as answer:
                ids = (await answer.json())["parameters"]["prediction_ids"]
            outcome = {"id": ids[0], "value": row["rating"]}
            async with client.post(f"/v2/models/{self.product}/outcomes", json=outcome):
                self.sent += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failed.append(repr(error))


def _pace(rate: Callable[[], float]) -> Callable[[], float]:
    """Return a function that says how many seconds to wait so that calls keep to ``rate()`` per second."""
    due = time.monotonic()

    def wait() -> float:
        nonlocal due
        due = max(due + 1 / rate(), time.monotonic() - 1.0)
        return max(0.0, due - time.monotonic())

    return wait


def as_request(row: dict[str, Any]) -> dict[str, Any]:
    """Return the Open Inference Protocol request for one rating: everything but the rating itself."""
    rated_at: datetime = row["rated_at"]
    columns = {
        "user_id": ("INT64", row["user_id"]),
        "film_id": ("INT64", row["film_id"]),
        "rated_at": ("BYTES", rated_at.isoformat()),
        "release_year": ("FP64", row["release_year"]),
        "genres": ("BYTES", row["genres"]),
    }
    return {
        "inputs": [
            {"name": name, "shape": [1], "datatype": datatype, "data": [value]}
            for name, (datatype, value) in columns.items()
        ]
    }

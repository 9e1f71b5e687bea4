"""The online engine: reading 50 and 250 windowed features, telling events, in process and on Redis, beside Feast.

Feast (in an environment of its own, on the same Redis) reads values that were computed before it is asked; ours are
windows that end at the moment of the request. Growth is the cost of one event at 1, 10 and 100 times the events.
"""

import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks._feast import feast_python
from mlops_assets.adapters.redis_state import RedisStore
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.state import FileStore, StateStore
from mlops_assets.features.view import Aggregate, AggregateName, FeatureView

START = datetime(2024, 1, 1, tzinfo=UTC)
SPAN = timedelta(days=60)
USERS = 400
EVENTS = 20_000
FUNCTIONS: tuple[AggregateName, ...] = ("sum", "mean", "min", "max", "last")
WINDOWS = [timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=7), timedelta(days=30)]
READS, BATCHES, WRITES = 3_000, 100, 2_000


def view(features: int) -> FeatureView:
    """Return a view of so many windowed features: five functions of five windows, of as many columns as it takes."""
    return FeatureView(
        name=f"bench{features}",
        source="bench",
        entity="user",
        event_time="time",
        event_key=("id",),
        features=tuple(
            Aggregate(name=f"{function}_{column}_{place}", function=function, column=f"amount{column}", window=window)
            for column in range(features // 25)
            for function in FUNCTIONS
            for place, window in enumerate(WINDOWS)
        ),
    )


def events(number: int, users: int, columns: int) -> pl.DataFrame:
    """Return events evenly over ``SPAN``, each of a random user, amounts in cents."""
    draw = random.Random(5)
    amounts = {f"amount{c}": [draw.randrange(10_000) / 100 for _ in range(number)] for c in range(columns)}
    users_of = [f"u{draw.randrange(users)}" for _ in range(number)]
    frame = pl.DataFrame({"id": range(number), "user": users_of, **amounts})
    return frame.with_columns(
        time=START + pl.duration(microseconds=pl.col("id") * (SPAN // timedelta(microseconds=1)) // number)
    )


def online_features() -> list[dict[str, Any]]:
    """Return p99 milliseconds of reads and writes, embedded and on Redis, each beside Feast on the same Redis."""
    with tempfile.TemporaryDirectory() as folder, redis_server() as port:
        lines = []
        for features in (50, 250):
            feast = _feast(Path(folder) / f"feast{features}", port, features)
            for name, store in (
                ("redis", RedisStore(f"redis://127.0.0.1:{port}/1", prefix=f"bench{features}:")),
                ("embedded", FileStore(Path(folder) / f"{features}.sqlite")),
            ):
                lines += _measured(name, features, store, feast)
        fastest = next(line for line in lines if line["name"] == "features.online_redis_p50_ms_50")
        return [*lines, {**fastest, "name": "features.online_vs_feast", "value": fastest["ratio"], "unit": "times"}]


def _measured(name: str, features: int, store: StateStore, feast: dict[str, Any]) -> list[dict[str, Any]]:
    declared, now = view(features), START + SPAN
    online = OnlineFeatures([declared], store=store)
    online.bootstrap(events(EVENTS, USERS, features // 25))
    one = _quantiles(lambda turn: online.features({"user": f"u{turn % USERS}"}, now), READS)
    rows = [{"user": f"u{number}"} for number in range(100)]
    hundred = _quantiles(lambda _turn: online.features_of(rows, now), BATCHES)
    told = [
        {"id": EVENTS + n, "user": f"u{n * 7 % USERS}", "time": now + n * timedelta(seconds=1)} for n in range(WRITES)
    ]
    amounts = {f"amount{column}": 12.5 for column in range(features // 25)}
    write = _quantiles(lambda turn: online.add({**told[turn], **amounts}), WRITES)
    found = {
        f"features.online_{name}_{{}}_ms_{features}": (one, feast["read"]["1"]),
        f"features.online_{name}_batch100_{{}}_ms_{features}": (hundred, feast["read"]["100"]),
        f"features.online_{name}_update_{{}}_ms_{features}": (write, feast["write"]),
    }
    return [
        _line(text.format(share), ours[place], baseline[place])
        for text, (ours, baseline) in found.items()
        for place, share in enumerate(("p50", "p99"))
    ]


def cost_per_event_growth() -> list[dict[str, Any]]:
    """Return what one event and one read cost at 100 times the entities and events, against once, and a plot of it."""
    points = [_point(scale) for scale in (1, 10, 100)]
    _plot(points)
    first, last = points[0], points[-1]
    what = {"cost_per_event_growth": "filled", "read_growth": "read", "hot_entity_add_growth": "add"}
    return [
        {
            "name": f"features.{name}",
            "value": last[key] / first[key],
            "unit": f"times the cost at 1/100 ({first[key]:.4g} ms)",
            "baseline": 1.0,
            "ratio": first[key] / last[key],
        }
        for name, key in what.items()
    ]


def _point(scale: int) -> dict[str, float]:
    """Return milliseconds of filling a file by an event, of reading from it, and of telling one hot user an event."""
    declared, now, users = view(50), START + SPAN, 40 * scale
    with tempfile.TemporaryDirectory() as folder:
        online = OnlineFeatures([declared], store=FileStore(Path(folder) / "features.sqlite"))
        frame = events(2_000 * scale, users, 2)
        began = time.perf_counter()
        online.bootstrap(frame)
        filled = (time.perf_counter() - began) / frame.height * 1e3
        read = _quantiles(lambda turn: online.features({"user": f"u{turn * 7 % users}"}, now), 1000)
    hot = OnlineFeatures([declared])
    hot.bootstrap(events(2_000 * scale, 1, 2))
    event = {"user": "u0", "amount0": 1.5, "amount1": 2.5}
    more = [{**event, "id": -turn - 1, "time": now + turn * timedelta(seconds=1)} for turn in range(500)]
    add = _quantiles(lambda turn: hot.add(more[turn]), len(more))
    return {"scale": scale, "filled": filled, "read": read[0], "add": add[0]}


def _plot(points: list[dict[str, float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    labels = {
        "filled": "filling, each event",
        "read": "reading 50 features of a user",
        "add": "one event more for one hot user",
    }
    for key, label in labels.items():
        axes.plot([2_000 * point["scale"] for point in points], [point[key] for point in points], "o-", label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("events")
    axes.set_ylabel("milliseconds, median")
    axes.legend()
    path = Path(__file__).parents[1] / "docs" / "pictures" / "online_growth.svg"
    figure.savefig(path, metadata={"Date": None})


@contextmanager
def redis_server() -> Iterator[int]:
    """Yield the port of a Redis of its own on 127.0.0.1."""
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("redis-server is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    arguments = ["--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    server = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield port
    finally:
        server.kill()
        server.wait()


def _feast(folder: Path, port: int, features: int) -> dict[str, Any]:
    folder.mkdir()
    script = Path(__file__).with_name("_feast_online.py")
    arguments = [str(feast_python()), str(script), str(folder), str(port), str(features), str(USERS)]
    environment = {**os.environ, "FEAST_USAGE": "False"}
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _quantiles(work: Callable[[int], Any], times: int) -> list[float]:
    taken = []
    for turn in range(times):
        began = time.perf_counter()
        work(turn)
        taken.append((time.perf_counter() - began) * 1e3)
    ordered = sorted(taken[times // 10 :])
    return [ordered[int(len(ordered) * share)] for share in (0.5, 0.99)]


def _line(name: str, value: float, baseline: float) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": "ms", "baseline": baseline, "ratio": baseline / value}


FIGURES = [online_features, cost_per_event_growth]
for _figure in FIGURES:
    _figure.group = "features"  # type: ignore[attr-defined]

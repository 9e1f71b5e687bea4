"""A writer of the online store, as a process of its own.

``python online_writer.py <file or redis URL> <seed>`` says that it is ready, waits for a line, then adds the deliveries
of its seed one by one, and prints the number of each as soon as it is acknowledged.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

from feature_cases import EVERYTHING, QUARTER, START, TICK

from mlops_assets.adapters.redis_state import RedisStore
from mlops_assets.features import tiles
from mlops_assets.features.online import OnlineFeatures
from mlops_assets.features.state import FileStore

USERS = ("ann", "bob", "čeněk")
VIEW = replace(EVERYTHING, time_to_live=None, features=EVERYTHING.features[::4])
EVENTS = 240
LEAF = 4


def event(number):
    """Return an event; every fifth is of one moment."""
    when = START + (number % 5) * number * TICK
    return {
        "id": number,
        "user": USERS[number % 3],
        "time": when,
        "known": when + QUARTER,
        "amount": number / 10 if number % 7 else None,
        "stars": number % 4,
        "paid": number % 2 == 0,
        "shop": f"shop {number % 6}",
        "due": when if number % 3 else None,
    }


def deliveries(seed):
    """Return what the writer of a seed delivers: two thirds of all events in any order, many again, known earlier."""
    random = Random(seed)
    mine = random.sample(range(EVENTS), EVENTS * 2 // 3)
    again = [random.choice(mine) for _ in range(EVENTS // 3)]
    rows = [event(number) for number in [*mine, *again]]
    return [row | {"known": row["known"] - random.choice([0, 1, 2]) * QUARTER} for row in rows]


def store_at(place):
    """Return the store at a URL of Redis, or in a file."""
    return RedisStore(place, prefix="writers:") if "://" in place else FileStore(Path(place))


class Writer:
    """The process, ready to be told to go on."""

    def __init__(self, place, seed, environment):
        command = [sys.executable, __file__, place, str(seed)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, **pipes, text=True, env=environment)
        assert self.process.stdout.readline() == "ready\n"

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def acknowledged(self, many):
        """Wait until so many deliveries are acknowledged."""
        return [self.process.stdout.readline() for _ in range(many)]

    def rest(self):
        """Wait for the end and return the lines that were left."""
        lines = self.process.stdout.read().splitlines()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        return lines


def main(place, seed):
    tiles.LEAF = LEAF
    online = OnlineFeatures([VIEW], store=store_at(place))
    print("ready", flush=True)
    sys.stdin.readline()
    for number, row in enumerate(deliveries(int(seed))):
        online.add(row)
        print(number, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

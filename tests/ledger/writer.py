"""A process that appends, for tests that kill it, starve it or set it against others.

``python writer.py URL count product [padding]`` says ready, waits for a line, then prints each sequence it was given.
``python writer.py URL race products`` appends one entry to each product as if it were the first, and prints which.
``python writer.py URL fork count`` appends on both sides of a fork.
"""

import os
import sys

from mlops_assets.errors import LedgerConflict, MlopsError
from mlops_assets.ledger.entry import Kind
from mlops_assets.ledger.sql import SqlLedger


def main(url: str, what: str, argument: str, padding: str = "0") -> None:
    ledger = SqlLedger(url)
    if what == "fork":
        fork(ledger, int(argument))
        return
    print("ready", flush=True)
    sys.stdin.readline()
    if what == "race":
        race(ledger, argument.split(","))
        return
    for n in range(int(what)):
        entry = ledger.append(
            argument, Kind.JUDGED, {"n": n, "padding": "x" * int(padding)}, actor=f"writer {os.getpid()}"
        )
        print(entry.sequence, flush=True)


def race(ledger: SqlLedger, products: list[str]) -> None:
    for product in products:
        try:
            ledger.append(product, Kind.RELEASED, {"by": os.getpid()}, actor="racer", expected=0)
        except LedgerConflict:
            continue
        print(product, flush=True)


def fork(ledger: SqlLedger, count: int) -> None:
    ledger.append("p", Kind.JUDGED, {}, actor="parent")
    child = os.fork()
    for _ in range(count):
        ledger.append("p", Kind.JUDGED, {}, actor="parent" if child else "child")
    if not child:
        os._exit(0)
    sys.exit(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except MlopsError as error:
        sys.exit(f"{type(error).__name__}: {error}")

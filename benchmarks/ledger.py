"""The ledger against raw sqlite3: appending, one transaction each and equally durable, and reading all to verify."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from mlops_assets.ledger.canonical import canonical_json
from mlops_assets.ledger.entry import Entry, Kind
from mlops_assets.ledger.sql import SqlLedger

APPENDS, ROUNDS, KEPT = 500, 5, 20_000
BODY = {
    "release": "0123456789ab",
    "verdict": "PASSED",
    "reason": "gain +0.0123 [-0.0011, +0.0257] over 1234 units: not worse by 0.02 or more",
    "evidence": {"gain": 0.0123, "low": -0.0011, "high": 0.0257, "units": 1234, "step_units": 250, "exposed": 98},
    "rollout": {"percent": 25, "step": 1, "phase": "RUNNING"},
}
_TABLE = (
    "CREATE TABLE ledger (sequence INTEGER PRIMARY KEY, product TEXT NOT NULL, kind TEXT NOT NULL, at TEXT NOT NULL, "
    "actor TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL, digest TEXT NOT NULL)"
)
_INSERT = "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


def ledger_append_vs_sqlite() -> dict[str, Any]:
    """Return appends per second; the baseline inserts the same rows with the same pragmas.

    Both take turns on the same disk, and the best round of each counts: what the disk does between is not ours. The
    ratio is ours / baseline.
    """
    ours, raw = [], []
    with TemporaryDirectory() as folder:
        ledger = SqlLedger(f"sqlite:///{Path(folder) / 'ledger.db'}")
        connection = _raw(Path(folder) / "raw.db")
        ledger.append("p", Kind.JUDGED, {}, actor="warm-up")
        for _ in range(ROUNDS):
            last, _ = ledger.head()
            ours.append(_seconds(lambda: _append(ledger, APPENDS)))
            rows = [_row(entry) for entry in ledger.entries(after=last)]
            raw.append(_seconds(partial(_insert, connection, rows)))
        connection.close()
    value, baseline = APPENDS / min(ours), APPENDS / min(raw)
    return {
        "name": "spine.ledger_append_vs_sqlite",
        "value": value,
        "unit": "appends/s",
        "baseline": baseline,
        "ratio": value / baseline,
    }


def ledger_verify_per_second() -> dict[str, Any]:
    """Return entries verified per second; the baseline reads the same rows and computes nothing.

    The ratio is ours / baseline.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        ledger = SqlLedger(f"sqlite:///{path}")
        _fill(ledger, path, KEPT)
        connection = sqlite3.connect(path)
        assert ledger.verify() == KEPT
        ours = min(_seconds(ledger.verify) for _ in range(ROUNDS))
        raw = min(_seconds(lambda: _scan(connection)) for _ in range(ROUNDS))
        connection.close()
    return {
        "name": "spine.ledger_verify_per_second",
        "value": KEPT / ours,
        "unit": "entries/s",
        "baseline": KEPT / raw,
        "ratio": raw / ours,
    }


def _append(ledger: SqlLedger, count: int) -> None:
    for _ in range(count):
        ledger.append("p", Kind.ROLLOUT_MOVED, BODY, actor="live-analysis")


def _row(entry: Entry) -> tuple[Any, ...]:
    at, body = entry.at.isoformat(timespec="microseconds"), canonical_json(entry.body).decode()
    return (entry.sequence, entry.product, entry.kind.value, at, entry.actor, body, entry.previous, entry.digest)


def _raw(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(_TABLE)
    return connection


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    for row in rows:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_INSERT, row)
        connection.execute("COMMIT")


def _fill(ledger: SqlLedger, path: Path, count: int) -> None:
    """Append ``count`` entries, sparing the disk: this part is not measured."""
    in_memory = SqlLedger("sqlite://")
    _append(in_memory, count)
    ledger.head()
    connection = sqlite3.connect(path)
    connection.executemany(_INSERT, map(_row, in_memory.entries()))
    connection.commit()
    connection.close()


def _scan(connection: sqlite3.Connection) -> None:
    for _ in connection.execute("SELECT * FROM ledger ORDER BY sequence"):
        pass


def _seconds(work: Callable[[], Any]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


FIGURES = [ledger_append_vs_sqlite, ledger_verify_per_second]

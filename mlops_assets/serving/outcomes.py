"""Outcomes: what became of predictions, told once, in one order, to all workers of a server.

Kept in SQLite, which gives what is hard to have right: one order over several processes, one outcome for an id, whole
after a kill. The first outcome told for a prediction makes the event that features see; a correction changes what is
learnt and reported from then on, never what a request or a look at a rollout has seen.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mlops_assets.errors import RequestRefused

_TABLES = """
CREATE TABLE IF NOT EXISTS outcomes (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL, value REAL NOT NULL, inputs TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS corrections (
    place INTEGER PRIMARY KEY, id TEXT NOT NULL, at INTEGER NOT NULL, value REAL NOT NULL, why TEXT NOT NULL
);
"""
WAIT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The ``place``-th outcome told (from 1): of prediction ``id``, at ``at`` (microseconds since 1970)."""

    place: int
    id: str
    at: int
    value: float
    inputs: Mapping[str, Any]


class OutcomeBook:
    """The outcomes in the file ``path``. One object serves one thread.

    ``outlives_power`` has each on the disk before it is acknowledged. ``RequestRefused`` (503) when it cannot be
    written.
    """

    def __init__(self, path: Path, *, outlives_power: bool = False) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None, timeout=WAIT_SECONDS, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(f"PRAGMA synchronous = {'FULL' if outlives_power else 'NORMAL'}")
        self._database.executescript(_TABLES)
        self._told_here = 0

    def tell(self, id: str, value: float, *, at: int, inputs: Mapping[str, Any]) -> bool:
        """Remember the outcome of a prediction; return whether it is new. ``RequestRefused`` (409) for another one."""
        with _refusing():
            told = self._database.execute(
                "INSERT INTO outcomes (id, at, value, inputs) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (id, at, value, orjson.dumps(dict(inputs)).decode()),
            )
            self._told_here += told.rowcount
            if told.rowcount:
                return True
            [known] = self._database.execute("SELECT value FROM outcomes WHERE id = ?", (id,)).fetchone()
        if known != value:
            raise RequestRefused(
                f"prediction {id!r} has the outcome {known} already; a correction says so, and why", 409
            )
        return False

    def correct(self, id: str, value: float, *, at: int, why: str) -> bool:
        """Remember that the outcome is another; return whether that is new. 404 for a prediction without outcome."""
        with _refusing():
            if self._database.execute("SELECT 1 FROM outcomes WHERE id = ?", (id,)).fetchone() is None:
                raise RequestRefused(f"prediction {id!r} has no outcome that could be corrected", 404)
            # The newest one counts: the same correction delivered again is nothing new, there and back are two.
            told = self._database.execute(
                "INSERT INTO corrections (id, at, value, why) SELECT ?1, ?2, ?3, ?4 WHERE ?3 IS NOT"
                " (SELECT value FROM corrections WHERE id = ?1 ORDER BY place DESC LIMIT 1)",
                (id, at, value, why),
            )
            return bool(told.rowcount)

    def version(self) -> tuple[int, int]:
        """Return something that is another when anything was told since, here or by another process."""
        [elsewhere] = self._database.execute("PRAGMA data_version").fetchone()
        return elsewhere, self._told_here

    def after(self, place: int) -> Iterator[Outcome]:
        """Yield the outcomes told after the ``place``-th, in their order."""
        rows = self._database.execute(
            "SELECT place, id, at, value, inputs FROM outcomes WHERE place > ? ORDER BY place", (place,)
        )
        for row in rows:
            yield Outcome(place=row[0], id=row[1], at=row[2], value=row[3], inputs=orjson.loads(row[4]))

    def corrections(self) -> dict[str, float]:
        """Return the newest correction of each prediction that has one."""
        return dict(self._database.execute("SELECT id, value FROM corrections ORDER BY place"))

    def close(self) -> None:
        """Close the file."""
        self._database.close()


class _refusing:  # noqa: N801 - reads as a sentence: with _refusing()
    def __enter__(self) -> None:
        return

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, sqlite3.Error):
            raise RequestRefused(f"the outcome cannot be written: {error}; free space", 503) from error

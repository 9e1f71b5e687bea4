"""Where the online engine keeps its records: the protocol, a store in memory and one in a durable file.

An entity is a set of records by field, changed whole or not at all, and only from the version that was read: of two
writers one wins and the other reads again. Redis is in ``adapters/redis_state.py``, behind the same contract tests.
"""

import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.features.tiles import Record, decoded, encoded

Records = Mapping[str, Record]
Wanted = tuple[str, Sequence[str]]
"""An entity's key, and the fields to read of it."""


class StateStore(Protocol):
    """Keeps records by entity and field. Raises ``ServiceUnavailable``, and changes nothing, when it cannot."""

    def read(self, wanted: Sequence[Wanted]) -> list[list[Record | None]]:
        """Return the records of each entity's fields, in order; ``None`` where there is none."""

    def write(self, entity: str, version: int, records: Records) -> bool:
        """Write an entity's records if its version is ``version`` (0: none yet), which grows by one; else ``False``."""

    def write_new(self, entities: Mapping[str, Records]) -> list[str]:
        """Write entities that do not exist yet, each at version 1; return those that do, which are left alone."""

    def generation(self) -> int | None:
        """Return a number that every call that wrote raises by one; ``None``: it cannot be known, do not cache."""


class MemoryStore:
    """A store that ends with the process."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, Record]] = {}
        self._versions: dict[str, int] = {}
        self._lock = threading.Lock()
        self._writes = 0

    def read(self, wanted: Sequence[Wanted]) -> list[list[Record | None]]:
        """Return the records of each entity's fields."""
        found = [(self._records.get(entity, {}), fields) for entity, fields in wanted]
        return [[records.get(field) for field in fields] for records, fields in found]

    def write(self, entity: str, version: int, records: Records) -> bool:
        """Write an entity's records if its version is ``version``."""
        with self._lock:
            written = self._put(entity, version, records)
            self._writes += written
        return written

    def _put(self, entity: str, version: int, records: Records) -> bool:
        if self._versions.get(entity, 0) != version:
            return False
        self._versions[entity] = version + 1
        self._records.setdefault(entity, {}).update(records)
        return True

    def write_new(self, entities: Mapping[str, Records]) -> list[str]:
        """Write entities that do not exist yet; return those that do."""
        with self._lock:
            existing = [entity for entity, records in entities.items() if not self._put(entity, 0, records)]
            self._writes += len(existing) < len(entities)
        return existing

    def generation(self) -> int | None:
        """Return the number of writes."""
        return self._writes


class FileStore:
    """A store in one SQLite file, for the processes of one machine.

    What was acknowledged survives a kill -9. ``survives_power_loss`` waits for the disk at each write as well.
    """

    def __init__(self, path: Path, *, survives_power_loss: bool = False) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._writes = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if survives_power_loss else 'NORMAL'}")
            for table in ("records (entity TEXT, field TEXT, record BLOB, PRIMARY KEY (entity, field))", _VERSIONS):
                self._connection.execute(f"CREATE TABLE IF NOT EXISTS {table} WITHOUT ROWID")
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    def read(self, wanted: Sequence[Wanted]) -> list[list[Record | None]]:
        """Return the records of each entity's fields."""
        try:
            with self._lock:
                return [self._read(entity, fields) for entity, fields in wanted]
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _read(self, entity: str, fields: Sequence[str]) -> list[Record | None]:
        marks = ", ".join("?" * len(fields))
        query = f"SELECT field, record FROM records WHERE entity = ? AND field IN ({marks})"
        found = {field: decoded(record) for field, record in self._connection.execute(query, (entity, *fields))}
        return [found.get(field) for field in fields]

    def write(self, entity: str, version: int, records: Records) -> bool:
        """Write an entity's records if its version is ``version``."""
        return self._write({entity: records}, version) == []

    def write_new(self, entities: Mapping[str, Records]) -> list[str]:
        """Write entities that do not exist yet; return those that do."""
        return self._write(entities, 0)

    def _write(self, entities: Mapping[str, Records], version: int) -> list[str]:
        refused = []
        try:
            with self._lock:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    for entity, records in entities.items():
                        if self._advance(entity, version):
                            rows = [(entity, field, encoded(record)) for field, record in records.items()]
                            self._connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", rows)
                        else:
                            refused.append(entity)
                    self._connection.execute("COMMIT")
                except BaseException:
                    self._connection.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise self._unavailable(error) from error
        self._writes += len(refused) < len(entities)
        return refused

    def _advance(self, entity: str, version: int) -> bool:
        if version:
            statement = "UPDATE versions SET version = ? WHERE entity = ? AND version = ?"
            return self._connection.execute(statement, (version + 1, entity, version)).rowcount == 1
        statement = "INSERT OR IGNORE INTO versions VALUES (?, 1)"
        return self._connection.execute(statement, (entity,)).rowcount == 1

    def generation(self) -> int | None:
        """Return the writes of this connection and SQLite's count of those that others made."""
        with self._lock:
            return self._writes + int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _unavailable(self, error: Exception) -> ServiceUnavailable:
        return ServiceUnavailable(
            f"the online features' file {self._path} cannot be used: {error}; nothing was changed"
        )


_VERSIONS = "versions (entity TEXT PRIMARY KEY, version INTEGER)"

"""The ledger in a SQL database: SQLite by default, PostgreSQL by URL.

One writer at a time, by the database's own lock, so the chain has no forks and the sequence no gaps. Triggers refuse
UPDATE and DELETE on SQLite; whoever gets past them is found by ``verify``. Removing entries from the end leaves a valid
shorter chain, which no chain can tell by itself: compare ``head`` with one remembered elsewhere.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from mlops_assets.errors import LedgerConflict, LedgerCorrupt, LedgerError, ServiceUnavailable
from mlops_assets.ledger.canonical import Digest, canonical_json, digest_of
from mlops_assets.ledger.entry import Entry, Kind

GENESIS: Digest = "sha256:" + "0" * 64

_METADATA = sa.MetaData()
_LEDGER = sa.Table(
    "ledger",
    _METADATA,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("product", sa.String(200), nullable=False, index=True),
    sa.Column("kind", sa.String(50), nullable=False),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("previous", sa.String(71), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False, unique=True),
)

_FIELDS = tuple(column.name for column in _LEDGER.columns if column.name != "digest")

# Any writer takes this lock before it reads the head; released when its transaction ends.
_POSTGRES_LOCK = 0x6D6C6F7073
_GUARDS = tuple(
    f"CREATE TRIGGER IF NOT EXISTS ledger_no_{verb.lower()} BEFORE {verb} ON ledger "
    "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    for verb in ("UPDATE", "DELETE")
)


class SqlLedger:
    """A ledger at a SQLAlchemy URL. Cheap to make: it connects, and makes its table, when first used.

    Safe for many threads and processes. ``ServiceUnavailable`` when the database does not answer; ``LedgerError``
    when it answers but cannot write (a full disk), in which case nothing was recorded.
    """

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)

    def __repr__(self) -> str:
        return f"SqlLedger({self._url.render_as_string(hide_password=True)!r})"

    def append(
        self, product: str, kind: Kind, body: Mapping[str, Any], *, actor: str, expected: int | None = None
    ) -> Entry:
        """Record a decision and return its entry; see ``Ledger.append``."""
        text = _body_text(product, kind, body)
        with self._connected(writes=True) as connection, connection.begin():
            self._lock(connection)
            last = connection.execute(sa.select(_LEDGER).order_by(_LEDGER.c.sequence.desc()).limit(1)).first()
            self._refuse_if_stale(connection, product, expected)
            fields = {
                "sequence": last.sequence + 1 if last else 1,
                "product": product,
                "kind": Kind(kind).value,
                "at": datetime.now(UTC).isoformat(timespec="microseconds"),
                "actor": actor,
                "body": text,
                "previous": last.digest if last else GENESIS,
            }
            row = {**fields, "digest": _digest(fields)}
            connection.execute(sa.insert(_LEDGER).values(row))
        return _entry(row)

    def entries(self, product: str | None = None, *, after: int = 0) -> Sequence[Entry]:
        """Return entries in order; see ``Ledger.entries``."""
        query = sa.select(_LEDGER).where(_LEDGER.c.sequence > after).order_by(_LEDGER.c.sequence)
        if product is not None:
            query = query.where(_LEDGER.c.product == product)
        with self._connected() as connection:
            return [_entry(row) for row in connection.execute(query).mappings()]

    def head(self) -> tuple[int, Digest]:
        """Return sequence and digest of the last entry, ``(0, GENESIS)`` of an empty ledger: worth writing down."""
        query = sa.select(_LEDGER.c.sequence, _LEDGER.c.digest).order_by(_LEDGER.c.sequence.desc()).limit(1)
        with self._connected() as connection:
            last = connection.execute(query).first()
        return (last.sequence, last.digest) if last else (0, GENESIS)

    def verify(self, *, head: tuple[int, Digest] | None = None) -> int:
        """Recompute the whole chain and return its length.

        ``LedgerCorrupt`` names the first entry that was changed, removed or reordered. With a ``head`` remembered from
        before, entries removed from the end are found too.
        """
        length, previous, remembered = 0, GENESIS, head is None or head == (0, GENESIS)
        with self._connected() as connection:
            query = sa.select(_LEDGER).order_by(_LEDGER.c.sequence).execution_options(yield_per=1000)
            for row in connection.execute(query).mappings():
                length += 1
                previous = _checked(row, length, previous)
                remembered = remembered or (length, previous) == head
        if not remembered:
            raise LedgerCorrupt(f"entry {head} was in the ledger and is not: entries were removed from the end")
        return length

    @contextmanager
    def _connected(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect().execution_options(writes=writes) as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise self._explained(error) from error
        except sa.exc.DatabaseError as error:
            raise LedgerCorrupt(f"{self!r} cannot be read or written: {error.orig}; restore it") from error

    def _explained(self, error: sa.exc.OperationalError) -> LedgerError | ServiceUnavailable:
        text = str(error.orig)
        if "full" in text or "disk I/O" in text or "No space" in text:
            return LedgerError(f"{self!r} could not write, nothing was recorded: {text}; free space and try again")
        return ServiceUnavailable(f"{self!r} does not answer: {text}")

    def _lock(self, connection: sa.Connection) -> None:
        if self._url.get_backend_name() == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _POSTGRES_LOCK})

    def _refuse_if_stale(self, connection: sa.Connection, product: str, expected: int | None) -> None:
        if expected is None:
            return
        query = sa.select(sa.func.coalesce(sa.func.max(_LEDGER.c.sequence), 0)).where(_LEDGER.c.product == product)
        newest = connection.execute(query).scalar_one()
        if newest != expected:
            raise LedgerConflict(
                f"{product}: decided on the state at entry {expected}, but entry {newest} came first; "
                "read the state again and decide anew"
            )

    @cached_property
    def _engine(self) -> sa.Engine:
        if self._url.get_backend_name() == "sqlite":
            engine = _sqlite_engine(self._url)
        else:
            engine = sa.create_engine(self._url, pool_pre_ping=True)
        with engine.connect().execution_options(writes=True) as connection, connection.begin():
            self._lock(connection)
            _METADATA.create_all(connection)
            if self._url.get_backend_name() == "sqlite":
                for guard in _GUARDS:
                    connection.execute(sa.text(guard))
        return engine


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    """Return an engine whose every transaction takes SQLite's write lock at its beginning and is on disk at its end."""
    in_memory = url.database in (None, "", ":memory:")
    if in_memory:
        engine = sa.create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(url, connect_args={"timeout": 60})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would come too late, and take no lock
        for pragma in ("busy_timeout=60000", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _body_text(product: str, kind: Kind, body: Mapping[str, Any]) -> str:
    try:
        return canonical_json(dict(body)).decode()
    except (TypeError, ValueError) as error:
        message = f"{product}: the body of {kind} is not plain JSON: {error}; record finite numbers and text"
        raise LedgerError(message) from error


def _digest(fields: Mapping[str, Any] | sa.RowMapping) -> Digest:
    return digest_of({name: fields[name] for name in _FIELDS})


def _entry(row: Mapping[str, Any] | sa.RowMapping) -> Entry:
    return Entry(
        sequence=row["sequence"],
        product=row["product"],
        kind=Kind(row["kind"]),
        at=datetime.fromisoformat(row["at"]),
        actor=row["actor"],
        body=json.loads(row["body"]),
        previous=row["previous"],
        digest=row["digest"],
    )


def _checked(row: sa.RowMapping, position: int, previous: Digest) -> Digest:
    """Return the digest of a row in its place; ``LedgerCorrupt`` if it is not what was written there."""
    if row["sequence"] != position:
        raise LedgerCorrupt(f"entry {position} is missing: the next one there is {row['sequence']}")
    if row["previous"] != previous:
        raise LedgerCorrupt(f"entry {position} does not follow the entry before it: one of both was replaced or moved")
    if row["digest"] != _digest(row):
        raise LedgerCorrupt(f"entry {position} ({row['kind']} of {row['product']}) was changed after it was written")
    return str(row["digest"])

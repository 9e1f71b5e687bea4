"""The table of the ledger, and how each database locks, guards and keeps it.

Belongs here: what differs between SQLite and PostgreSQL, and what their errors mean. What an entry is and how it is
chained is in ``sql.py``.
"""

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from mlops_assets.errors import LedgerCorrupt, LedgerError, MlopsError, ServiceUnavailable

METADATA = sa.MetaData()
LEDGER = sa.Table(
    "ledger",
    METADATA,
    # On SQLite only INTEGER is the row's own key, which saves an index.
    sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("product", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(50), nullable=False),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("previous", sa.String(71), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Index("ledger_by_product", "product", "sequence"),
)

_BUSY_SECONDS = 60
_CONNECT_SECONDS = 10
# Any writer takes this lock before it reads the head; released when its transaction ends.
_POSTGRES_LOCK = 0x6D6C6F7073

_REFUSAL = "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
_SQLITE_GUARDS = (
    f"CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger {_REFUSAL}",
    f"CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger {_REFUSAL}",
    # INSERT OR REPLACE would remove a row without firing the trigger above.
    "CREATE TRIGGER ledger_no_squeezing_in BEFORE INSERT ON ledger "
    f"WHEN NEW.sequence <> (SELECT coalesce(max(sequence), 0) + 1 FROM ledger) {_REFUSAL}",
)
_POSTGRES_GUARDS = (
    "CREATE OR REPLACE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$",
    "CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger "
    "FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only()",
)
for _dialect, _guards in (("sqlite", _SQLITE_GUARDS), ("postgresql", _POSTGRES_GUARDS)):
    for _guard in _guards:
        _ddl = sa.DDL(_guard)  # type: ignore[no-untyped-call]
        sa.event.listen(LEDGER, "after_create", _ddl.execute_if(dialect=_dialect))


def is_in_memory(url: sa.URL) -> bool:
    """Return whether the database lives in this process only."""
    return url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}


def open_engine(url: sa.URL) -> sa.Engine:
    """Return an engine on the database, which has the table from now on. Raises what SQLAlchemy raises, or ``OSError``.

    The table is looked for first, so a role that may only read can read.
    """
    engine = _sqlite_engine(url) if url.get_backend_name() == "sqlite" else _postgres_engine(url)
    try:
        with engine.connect() as connection, connection.begin():
            is_there = sa.inspect(connection).has_table(LEDGER.name)
        if not is_there:
            with engine.connect().execution_options(writes=True) as connection, connection.begin():
                lock_for_writing(connection)
                METADATA.create_all(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def lock_for_writing(connection: sa.Connection) -> None:
    """Wait until no other transaction writes. On SQLite the transaction began with the lock."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_POSTGRES_LOCK)))


def explained(error: Exception, ledger: str) -> MlopsError:
    """Return the library's exception for one of the database's: what was found and what to do."""
    original = getattr(error, "orig", None) or error
    meaning = _sqlite_meaning(original) if isinstance(original, sqlite3.Error) else _postgres_meaning(original)
    messages = {
        LedgerError: "refused, nothing was recorded: {}; free space or grant the rights, and try again",
        LedgerCorrupt: "cannot be read: {}; restore it from a copy and verify that",
        ServiceUnavailable: "does not answer: {}; start it or correct the URL, and try again",
    }
    return meaning(f"{ledger} {messages[meaning].format(str(original).strip())}")


def _sqlite_meaning(error: sqlite3.Error) -> type[MlopsError]:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or "Could not decode" in str(error):
        return LedgerCorrupt
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN}:
        return ServiceUnavailable
    return LedgerError


def _postgres_meaning(error: Any) -> type[MlopsError]:
    """Return the meaning of a SQLSTATE; none at all is a connection that failed before the server spoke."""
    state = getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or "08000"
    if state.startswith("XX001"):
        return LedgerCorrupt
    if state[:2] in {"08", "57"} or state == "53300":  # connection, shutdown, too many connections
        return ServiceUnavailable
    return LedgerError


def _postgres_engine(url: sa.URL) -> sa.Engine:
    arguments = {"connect_timeout": _CONNECT_SECONDS} if url.get_driver_name().startswith("psycopg") else {}
    try:
        # A stricter isolation would show each writer the head as it was before it waited for the lock.
        return sa.create_engine(url, pool_pre_ping=True, isolation_level="READ COMMITTED", connect_args=arguments)
    except ModuleNotFoundError as error:
        raise LedgerError(f"no driver for {url.drivername}: {error}; install mlops-assets[postgres]") from error


def _sqlite_engine(url: sa.URL) -> sa.Engine:
    """Return an engine whose writers take SQLite's write lock as they begin, and are on disk as they end."""
    if is_in_memory(url):
        engine = sa.create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    else:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would come too late, and take no lock
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine

"""The ledger in a SQL database: SQLite by default, PostgreSQL by URL.

One writer at a time, by the database's own lock, so the chain has no forks and the sequence no gaps. Triggers refuse
to change, remove or squeeze in entries; whoever gets past them is found by ``verify``.

What ``verify`` can and cannot tell: an entry that was changed, removed, put in or moved breaks the chain, and is named.
Two things leave a valid chain: entries removed from its end, and a chain rewritten from some entry on with all digests
computed anew. No chain can tell these by itself; ``verify(head=…)`` with a ``head`` remembered elsewhere does.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from threading import RLock
from typing import Any

import sqlalchemy as sa

from mlops_assets.errors import InvalidDefinition, LedgerConflict, LedgerCorrupt, LedgerError
from mlops_assets.ledger.canonical import Digest, canonical_json, digest_of
from mlops_assets.ledger.database import LEDGER, explained, is_in_memory, lock_for_writing, open_engine
from mlops_assets.ledger.entry import GENESIS, Entry, Kind

_COLUMNS = tuple(column.name for column in LEDGER.columns)
_FIELDS = tuple(name for name in _COLUMNS if name != "digest")
_LAST = sa.select(LEDGER.c.sequence, LEDGER.c.digest).order_by(LEDGER.c.sequence.desc()).limit(1)
_NEWEST = sa.select(sa.func.coalesce(sa.func.max(LEDGER.c.sequence), 0)).where(
    LEDGER.c.product == sa.bindparam("product")
)
_KINDS = frozenset(kind.value for kind in Kind)
_LONGEST_NAME = 200


class SqlLedger:
    """A ledger at a SQLAlchemy URL. Cheap to make: it connects, and makes its table, when first used.

    Safe for many threads and processes, forked ones too. ``InvalidDefinition`` for a URL of another database than
    SQLite or PostgreSQL; ``ServiceUnavailable`` when the database does not answer; ``LedgerError`` when it answers but
    cannot write (a full disk), in which case nothing was recorded.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = sa.make_url(url)
        except sa.exc.ArgumentError as error:
            raise InvalidDefinition(
                "ledger: the URL cannot be parsed; write sqlite:///path or postgresql://…"
            ) from error
        if self._url.get_backend_name() not in {"sqlite", "postgresql"}:
            raise InvalidDefinition(
                f"{self!r}: a ledger is kept in SQLite or PostgreSQL, no other locks are known here"
            )
        self._engines: dict[int, sa.Engine] = {}
        self._opening = RLock()
        # The one connection of a database in memory cannot hold two transactions at once.
        self._turn = self._opening if is_in_memory(self._url) else nullcontext()

    def __repr__(self) -> str:
        return f"SqlLedger({self._url.render_as_string(hide_password=True)!r})"

    def append(
        self, product: str, kind: Kind, body: Mapping[str, Any], *, actor: str, expected: int | None = None
    ) -> Entry:
        """Record a decision and return its entry; see ``Ledger.append``.

        Once it has returned, the entry survives a crash of the process and of the machine. ``LedgerError`` when the
        body is not plain JSON (NaN and infinities are not) or a name is empty or longer than 200 characters.
        """
        fields = {**_names(product, actor), "kind": Kind(kind).value, "body": _body_text(product, kind, body)}
        with self._transaction(writes=True) as connection:
            last = connection.execute(_LAST).first()
            if expected is not None:
                _refuse_if_stale(product, expected, connection.execute(_NEWEST, {"product": product}).scalar_one())
            fields["sequence"] = last.sequence + 1 if last else 1
            fields["previous"] = last.digest if last else GENESIS
            fields["at"] = datetime.now(UTC).isoformat(timespec="microseconds")
            row = {**fields, "digest": _digest(fields)}
            connection.execute(sa.insert(LEDGER), row)
        return _entry(row)

    def entries(self, product: str | None = None, *, after: int = 0) -> Sequence[Entry]:
        """Return entries in order; see ``Ledger.entries``."""
        query = sa.select(LEDGER).where(LEDGER.c.sequence > after).order_by(LEDGER.c.sequence)
        if product is not None:
            query = query.where(LEDGER.c.product == product)
        with self._transaction() as connection:
            return [_entry(row) for row in connection.execute(query).mappings()]

    def head(self) -> tuple[int, Digest]:
        """Return sequence and digest of the last entry, ``(0, GENESIS)`` of an empty ledger: worth writing down."""
        with self._transaction() as connection:
            last = connection.execute(_LAST).first()
        return (last.sequence, last.digest) if last else (0, GENESIS)

    def verify(self, *, head: tuple[int, Digest] | None = None) -> int:
        """Recompute the whole chain, row by row, and return its length.

        ``LedgerCorrupt`` names the first entry that was changed, removed or reordered. With a ``head`` remembered from
        before, entries removed from the end and a chain written anew are found too.
        """
        length, previous, at_head = 0, GENESIS, GENESIS
        with self._transaction() as connection:
            query = sa.select(LEDGER).order_by(LEDGER.c.sequence).execution_options(yield_per=1000)
            for values in connection.execute(query):
                length += 1
                previous = _checked(dict(zip(_COLUMNS, values, strict=True)), length, previous)
                if head is not None and length == head[0]:
                    at_head = previous
        if head is not None:
            _refuse_other_head(head, length, at_head)
        return length

    @contextmanager
    def _transaction(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        try:
            with (
                self._turn,
                self._engine().connect().execution_options(writes=writes) as connection,
                connection.begin(),
            ):
                if writes:
                    lock_for_writing(connection)
                yield connection
        except (sa.exc.DBAPIError, sa.exc.TimeoutError, OSError) as error:
            raise explained(error, repr(self)) from error

    def _engine(self) -> sa.Engine:
        """Return this process's engine: connections must not be used on both sides of a fork."""
        process = 0 if is_in_memory(self._url) else os.getpid()
        with self._opening:
            if process not in self._engines:
                self._engines[process] = open_engine(self._url)
            return self._engines[process]


def _names(product: str, actor: str) -> dict[str, Any]:
    for what, name in (("product", product), ("actor", actor)):
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise LedgerError(f"{what} {name!r:.80} cannot be recorded; give 1 to {_LONGEST_NAME} printable characters")
    return {"product": product, "actor": actor}


def _body_text(product: str, kind: Kind, body: Mapping[str, Any]) -> str:
    try:
        return canonical_json(dict(body)).decode()
    except (TypeError, ValueError) as error:
        message = f"{product}: the body of {kind} is not plain JSON: {error}; record finite numbers and text"
        raise LedgerError(message) from error


def _refuse_if_stale(product: str, expected: int, newest: int) -> None:
    if newest != expected:
        raise LedgerConflict(
            f"{product}: decided on the state at entry {expected}, but its newest entry is {newest}; "
            "read the state again and decide anew"
        )


def _refuse_other_head(head: tuple[int, Digest], length: int, digest: Digest) -> None:
    sequence, remembered = head
    if sequence > length:
        raise LedgerCorrupt(f"entry {length + 1} is missing: the ledger once ended with entry {sequence}, {remembered}")
    if digest != remembered:
        raise LedgerCorrupt(f"entry {sequence} once was {remembered} and now is {digest}: the chain was written anew")


def _digest(fields: Mapping[str, Any]) -> Digest:
    return digest_of({name: fields[name] for name in _FIELDS})


def _entry(row: Mapping[str, Any] | sa.RowMapping) -> Entry:
    if row["kind"] not in _KINDS:
        raise LedgerError(
            f"entry {row['sequence']} of {row['product']} is of the kind {row['kind']!r}, which this version of the "
            "library does not know; upgrade it, or verify the ledger"
        )
    try:
        at, body = datetime.fromisoformat(row["at"]), json.loads(row["body"])
    except (TypeError, ValueError) as error:
        raise LedgerCorrupt(f"entry {row['sequence']} of {row['product']} is unreadable: {error}") from error
    return Entry(
        sequence=row["sequence"],
        product=row["product"],
        kind=Kind(row["kind"]),
        at=at,
        actor=row["actor"],
        body=body,
        previous=row["previous"],
        digest=row["digest"],
    )


def _checked(row: Mapping[str, Any], position: int, previous: Digest) -> Digest:
    """Return the digest of a row in its place; ``LedgerCorrupt`` if it is not what was written there."""
    if row["sequence"] != position:
        raise LedgerCorrupt(f"entry {position} is missing: the next one there is {row['sequence']}")
    if row["previous"] != previous:
        raise LedgerCorrupt(f"entry {position} does not follow the entry before it: one of both was replaced or moved")
    if row["digest"] != _recomputed(row):
        raise LedgerCorrupt(f"entry {position} ({row['kind']} of {row['product']}) was changed after it was written")
    return str(row["digest"])


def _recomputed(row: Mapping[str, Any]) -> Digest | None:
    try:
        return _digest(row)
    except TypeError:  # bytes where text was written
        return None

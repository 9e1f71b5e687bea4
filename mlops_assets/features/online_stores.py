"""Where the online features of a product are kept: for each snapshot of its events a store of its own.

What is served is computed from the snapshot that the traffic plan names, and moves, forward and back, with the plan. A
store of its own for each snapshot lets the next one be filled while the one before is served, makes a corrected event
no conflict, and leaves what was served as it was, so that it can be replayed.

Belongs here: the protocol, stores in memory and in files. Redis is in ``adapters/redis_state.py``.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from mlops_assets.features.state import FileStore, MemoryStore, StateStore
from mlops_assets.ledger.canonical import Digest

WITHOUT_SNAPSHOT = "events"
"""The name of the store that began with no snapshot."""


class OnlineStores(Protocol):
    """Gives the store of a product's snapshot. Nothing is opened before it is asked for."""

    @property
    def name(self) -> str:
        """Where they are, in words that may be shown to anybody."""

    @property
    def are_shared(self) -> bool:
        """Whether what one process fills another can serve."""

    def open(self, product: str, snapshot: Digest | None) -> StateStore:
        """Return the store of a snapshot (``None``: of events alone), empty if it is new. ``ServiceUnavailable``."""

    def drop_others(self, product: str, kept: Collection[Digest]) -> int:
        """Drop the product's stores of all other snapshots than ``kept``; return how many. ``ServiceUnavailable``."""


class MemoryStores:
    """Stores that end with the process; a server fills its own."""

    name = "memory"
    are_shared = False

    def open(self, product: str, snapshot: Digest | None) -> StateStore:  # noqa: ARG002 - nobody else can reach it
        """Return an empty store."""
        return MemoryStore()

    def drop_others(self, product: str, kept: Collection[Digest]) -> int:  # noqa: ARG002
        """Drop nothing: a store goes with the last that uses it."""
        return 0


class FileStores:
    """One file for each snapshot below ``folder``, for the processes of one machine."""

    are_shared = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    def open(self, product: str, snapshot: Digest | None) -> StateStore:
        """Return the store in the snapshot's file."""
        return FileStore(self._folder / product / f"{store_name(snapshot)}.sqlite")

    def drop_others(self, product: str, kept: Collection[Digest]) -> int:
        """Remove the files of other snapshots; a process that has one open keeps what it has."""
        names = {store_name(snapshot) for snapshot in (None, *kept)}
        dropped = [file for file in (self._folder / product).glob("*.sqlite") if file.stem not in names]
        for file in dropped:
            for part in (*file.parent.glob(f"{file.name}-*"), file):
                part.unlink(missing_ok=True)
        return len(dropped)


def store_name(snapshot: Digest | None) -> str:
    """Return the name of a snapshot's store.

    >>> store_name("sha256:0123"), store_name(None)
    ('0123', 'events')
    """
    return WITHOUT_SNAPSHOT if snapshot is None else snapshot.removeprefix("sha256:")

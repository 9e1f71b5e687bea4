"""When the newest event of a view happened, in a store that outlives this process and that others may write to.

It is kept in a record beside the entities, which each process brings up to date once a second at most: what a store
says after a restart, or to another process, may leave out a second's events, and an event costs no second write for it.
"""

from contextlib import suppress
from threading import Lock
from time import monotonic

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.features.state import StateStore
from mlops_assets.features.tiles import ROOT, Seen

_SECONDS = 1.0
_ATTEMPTS = 3


class NewestEvent:
    """The newest of the events told, here or elsewhere, under ``key`` of ``store``."""

    def __init__(self, store: StateStore, key: str) -> None:
        self._store, self._key = store, key
        self._told: int | None = None
        self._kept: int | None = None
        self._next_write = 0.0
        self._lock = Lock()

    def tell(self, then: int) -> bool:
        """Remember an event at the instant ``then``; return whether the store was written to.

        A store that cannot be written to is told at the next event: the event itself is put away already.
        """
        with self._lock:
            self._told = then if self._told is None else max(self._told, then)
            if (self._kept is not None and then <= self._kept) or monotonic() < self._next_write:
                return False
            self._next_write = monotonic() + _SECONDS
            try:
                return any(self._keep(then) for _ in range(_ATTEMPTS) if self._kept is None or then > self._kept)
            except ServiceUnavailable:
                return False

    def find(self) -> int | None:
        """Return the instant, ``None`` if there is no event; what is known here, while the store is unavailable."""
        with self._lock:
            with suppress(ServiceUnavailable):
                self._read()
            return max((instant for instant in (self._told, self._kept) if instant is not None), default=None)

    def _keep(self, then: int) -> bool:
        """Write unless the store has a newer one; ``False`` also if somebody else wrote in between."""
        version = self._read()
        if self._kept is not None and self._kept >= then:
            return False
        if not self._store.write(self._key, version, {ROOT: Seen(str(then), version + 1)}):
            return False
        self._kept = then
        return True

    def _read(self) -> int:
        """Learn what the store has; return its version."""
        ((record,),) = self._store.read([(self._key, [ROOT])])
        if not isinstance(record, Seen):
            return 0
        self._kept = int(record.mark)
        return record.version

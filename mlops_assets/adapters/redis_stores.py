"""The online features of products on one Redis server: for each snapshot a store, under a prefix of its own.

A prefix is never used again: a store that was dropped and opened anew is another one, so neither what is still being
removed nor a server that has the old one open can touch it. Whoever has a dropped store open is told that it is lost.

Needs the extra ``redis``.
"""

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from mlops_assets.adapters.redis_state import RedisStore, place_of
from mlops_assets.errors import ServiceUnavailable
from mlops_assets.features.online_stores import store_name
from mlops_assets.features.state import StateStore
from mlops_assets.ledger.canonical import Digest

_AT_ONCE = 1000


class RedisStores:
    """Stores on the Redis server at ``url``, under keys that begin with ``prefix``; for servers on many machines."""

    are_shared = True

    def __init__(self, url: str, *, prefix: str = "mlops:online:") -> None:
        self._url, self._prefix = url, prefix

    @property
    def name(self) -> str:
        """The server's address, without a password."""
        return place_of(self._url)

    def open(self, product: str, snapshot: Digest | None) -> StateStore:
        """Return the store of a snapshot; ``ServiceUnavailable`` as of ``RedisStore``."""
        names, name = f"{self._prefix}{product}:stores", store_name(snapshot)
        with self._client() as client:
            client.hsetnx(names, name, uuid.uuid4().hex[:8])
            own = client.hget(names, name).decode()
        return RedisStore(self._url, prefix=self._prefix_of(product, name, own))

    def _prefix_of(self, product: str, name: str, own: str) -> str:
        return f"{self._prefix}{product}:{name[:16]}:{own}:"

    def drop_others(self, product: str, kept: Collection[Digest]) -> int:
        """Remove the stores of other snapshots, and what is left of those whose removal was cut short."""
        names, dropping = f"{self._prefix}{product}:stores", f"{self._prefix}{product}:dropping"
        safe = {store_name(snapshot) for snapshot in (None, *kept)}
        with self._client() as client:
            found = {name.decode(): own.decode() for name, own in client.hgetall(names).items()}
            others = {name: own for name, own in found.items() if name not in safe}
            for name, own in others.items():
                client.sadd(dropping, self._prefix_of(product, name, own))
                client.hdel(names, name)
            for prefix in client.smembers(dropping):
                self._remove(client, prefix)
                client.srem(dropping, prefix)
        return len(others)

    @staticmethod
    def _remove(client: Any, prefix: bytes) -> None:
        """Remove a store's keys, first the one by which those who have it open see that it is there."""
        client.delete(prefix + b"token")
        keys: list[bytes] = []
        for key in client.scan_iter(match=prefix + b"*", count=_AT_ONCE):
            keys.append(key)
            if len(keys) == _AT_ONCE:
                client.unlink(*keys)
                keys = []
        if keys:
            client.unlink(*keys)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """Yield a connection for now; the stores themselves keep theirs."""
        import redis

        client = redis.Redis.from_url(self._url, socket_timeout=10, socket_connect_timeout=2)
        try:
            yield client
        except redis.RedisError as error:
            raise ServiceUnavailable(f"Redis at {self.name} cannot serve features: {error}") from error
        finally:
            client.close()

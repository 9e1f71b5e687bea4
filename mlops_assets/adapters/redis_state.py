"""The online engine's records in Redis, for many servers: each entity is one hash, changed by one script at once.

Needs the extra ``redis``. The server must not evict: state that vanishes entity by entity could not be told from
entities that never were, so a store refuses a server whose ``maxmemory-policy`` may evict. A server that lost
everything is noticed at the next read or write by its missing token, and is an error until the store is opened, and
filled, again.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mlops_assets.errors import ServiceUnavailable
from mlops_assets.features.state import Records, Wanted
from mlops_assets.features.tiles import Record, decoded, encoded

_VERSION = "v"
_WRITE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
local version = redis.call('HGET', KEYS[2], 'v') or '0'
if version ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], 'v', version + 1, unpack(ARGV, 3))
return 1
"""
_PUBLISH = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('PERSIST', KEYS[3])
redis.call('RENAME', KEYS[3], KEYS[2])
return 1
"""
_MOST_ARGUMENTS = 7000  # Lua's unpack takes some 8,000
_STEP_BYTES = 1 << 18
_UNFINISHED_SECONDS = 3600
_SECONDS = 2.0


def place_of(url: str) -> str:
    """Return a URL as it may be shown: without user and password.

    >>> place_of("redis://:secret@127.0.0.1:6379/0")
    'redis://127.0.0.1:6379/0'
    """
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


class RedisStore:
    """A ``StateStore`` on the Redis server at ``url``, under keys that begin with ``prefix``.

    ``timeout`` is the longest that one answer may take, in seconds. Raises ``ServiceUnavailable`` when the server does
    not answer, is full, or may evict.
    """

    def __init__(self, url: str, *, prefix: str = "mlops:features:", timeout: float = _SECONDS) -> None:
        import redis

        self._place, self._prefix = place_of(url), prefix
        self._errors = redis.RedisError
        self._client: Any = redis.Redis.from_url(
            url, socket_timeout=timeout, socket_connect_timeout=timeout, decode_responses=False
        )
        self._script = self._client.register_script(_WRITE)
        self._publish = self._client.register_script(_PUBLISH)
        self._token_key = f"{prefix}token"
        self._token = self._asked(self._open)

    def _open(self) -> bytes:
        policy = self._client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
        if policy != "noeviction":
            raise ServiceUnavailable(
                f"Redis at {self._place} has maxmemory-policy {policy}, which may evict features unseen; set noeviction"
            )
        self._client.set(self._token_key, uuid.uuid4().hex, nx=True)
        token = self._client.get(self._token_key)
        assert isinstance(token, bytes)
        return token

    def read(self, wanted: Sequence[Wanted]) -> list[list[Record | None]]:
        """Return the records of each entity's fields, all asked for in one round trip."""
        commands = [("GET", self._token_key), *(("HMGET", self._prefix + key, *fields) for key, fields in wanted)]
        token, *records = self._asked(partial(self._exchange, commands))
        self._refuse_loss(token == self._token)
        return [[None if record is None else decoded(record) for record in found] for found in records]

    def _exchange(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        """Return the answers to commands sent at once: half the time of a pipeline, which a read of features feels."""
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            return [connection.read_response() for _ in commands]
        except BaseException:
            connection.disconnect()  # answers that are still to come belong to nobody
            raise
        finally:
            pool.release(connection)

    def write(self, entity: str, version: int, records: Records) -> bool:
        """Write an entity's records if its version is ``version``."""
        return self._write_all({entity: records}, version) == []

    def write_new(self, entities: Mapping[str, Records]) -> list[str]:
        """Write entities that do not exist yet; return those that do."""
        return self._write_all(entities, 0)

    def _write_all(self, entities: Mapping[str, Records], version: int) -> list[str]:
        large = {entity for entity, records in entities.items() if 2 * len(records) > _MOST_ARGUMENTS}

        def ask() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for entity, records in entities.items():
                if entity not in large:
                    arguments = [part for field, record in records.items() for part in (field, encoded(record))]
                    keys = [self._token_key, self._prefix + entity]
                    self._script(keys=keys, args=[self._token, version, *arguments], client=pipeline)
            return list(pipeline.execute())

        results = dict(zip([e for e in entities if e not in large], self._asked(ask), strict=True))
        for entity in large:
            write = self._write_large if version else self._write_large_new
            results[entity] = self._asked(partial(write, entity, version, entities[entity]))
        self._refuse_loss(-1 not in results.values())
        return [entity for entity, result in results.items() if result == 0]

    def _write_large(self, entity: str, version: int, records: Records) -> int:
        """Write more records than a script takes, by a transaction that fails if the entity changes meanwhile."""
        import redis

        key = self._prefix + entity
        with self._client.pipeline(transaction=True) as pipeline:
            try:
                pipeline.watch(key, self._token_key)
                if pipeline.get(self._token_key) != self._token:
                    return -1
                if int(pipeline.hget(key, _VERSION) or 0) != version:
                    return 0
                pipeline.multi()
                written = {field: encoded(record) for field, record in records.items()}
                pipeline.hset(key, mapping={_VERSION: version + 1, **written})
                pipeline.execute()
            except redis.WatchError:
                return 0
        return 1

    def _write_large_new(self, entity: str, version: int, records: Records) -> int:
        """Write an entity of any size in steps under another name, then give it its own if nobody else has it.

        One command for millions of records would block the server, and be refused. What a killed writer leaves goes
        away by itself.
        """
        key, unfinished = self._prefix + entity, f"{self._prefix}\0unfinished:{uuid.uuid4().hex}"
        for fields in _in_steps(records, {_VERSION: version + 1}):
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.hset(unfinished, mapping=fields)
                pipeline.expire(unfinished, _UNFINISHED_SECONDS)
                pipeline.execute()
        result = int(self._publish(keys=[self._token_key, key, unfinished], args=[self._token]))
        if result != 1:
            self._client.unlink(unfinished)
        return result

    def generation(self) -> int | None:
        """Return ``None``: other servers write as well."""
        return None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _refuse_loss(self, is_there: bool) -> None:
        if not is_there:
            raise ServiceUnavailable(
                f"Redis at {self._place} lost the features under {self._prefix!r}: restore it, or open the store again "
                "and fill it from a snapshot; nothing was changed"
            )

    def _asked(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._errors as error:
            raise ServiceUnavailable(
                f"Redis at {self._place} cannot serve features: {error}; what was not acknowledged may be sent again"
            ) from error


def _in_steps(records: Records, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield ``fields`` and the encoded records in parts of about ``_STEP_BYTES``."""
    size = 0
    for field, record in records.items():
        fields[field] = encoded(record)
        size += len(field) + len(fields[field])
        if size > _STEP_BYTES:
            yield fields
            fields, size = {}, 0
    if fields:
        yield fields

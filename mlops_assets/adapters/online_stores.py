"""The choice of where online features are kept, by URL: in memory, in files of one machine, on Redis."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlops_assets.adapters.redis_stores import RedisStores
from mlops_assets.errors import InvalidDefinition
from mlops_assets.features.online_stores import FileStores, MemoryStores, OnlineStores

_REDIS = {"redis", "rediss", "unix"}


def stores_at(url: str) -> OnlineStores:
    """Return the stores at ``memory:``, ``file:///folder`` or ``redis://host:port/number``; nothing is opened yet.

    >>> stores_at("file:///var/lib/features").name
    '/var/lib/features'
    """
    parts = urlsplit(url)
    if url == "memory:":
        return MemoryStores()
    if parts.scheme == "file" and not parts.netloc and parts.path.strip("/"):
        return FileStores(Path(unquote(parts.path)))
    if parts.scheme in _REDIS:
        return RedisStores(url)
    raise InvalidDefinition(f"online features cannot be kept at {url!r}; write memory:, file:///folder or redis://…")

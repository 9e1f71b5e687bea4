"""One way to turn a value into bytes, and bytes into the digest that names it.

A digest is ``sha256:`` and 64 hexadecimal digits. JSON is written with sorted keys, no spaces, UTF-8, and floats as
Python's shortest repr; NaN and infinities are refused, because JSON has no word for them (after RFC 8785).
"""

import hashlib
import json
from pathlib import Path
from typing import Any

Digest = str


def canonical_json(value: Any) -> bytes:
    """Return the one canonical JSON encoding of ``value``; ``ValueError`` on NaN, ``TypeError`` on other types."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of_bytes(content: bytes) -> Digest:
    """Return the digest of ``content``.

    >>> digest_of_bytes(b"")[:15]
    'sha256:e3b0c442'
    """
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_of(value: Any) -> Digest:
    """Return the digest of a JSON value: equal values have equal digests, whatever the order of their keys.

    >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    True
    """
    return digest_of_bytes(canonical_json(value))


def digest_of_file(path: Path) -> Digest:
    """Return the digest of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

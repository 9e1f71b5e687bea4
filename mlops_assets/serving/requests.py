"""Reading requests off the wire: their body within limits, their headers, their deadline."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.types import Receive

from mlops_assets.errors import RequestRefused
from mlops_assets.serving.settings import Settings

TIMEOUT_HEADER = "x-request-timeout-ms"


async def read_body(receive: Receive, settings: Settings) -> bytes:
    """Return the body. ``RequestRefused``: 413 as soon as it grows too large, 408 when it takes too long."""
    message = await _next(receive, settings)
    if not message.get("more_body"):  # as almost every body is
        body = message.get("body", b"")
        return bytes(body) if len(body) <= settings.max_body_bytes else _refuse_size(settings)
    body = bytearray(message.get("body", b""))
    try:
        async with asyncio.timeout(settings.body_deadline.total_seconds()):
            while message.get("more_body"):
                message = await _next(receive, settings)
                body += message.get("body", b"")
                if len(body) > settings.max_body_bytes:
                    _refuse_size(settings)
    except TimeoutError:
        seconds = settings.body_deadline.total_seconds()
        raise RequestRefused(f"the body did not arrive within {seconds:g} s", 408) from None
    return bytes(body)


async def _next(receive: Receive, settings: Settings) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(settings.body_deadline.total_seconds()):
            message = await receive()
    except TimeoutError:
        raise RequestRefused("the body did not arrive", 408) from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


class ClientGone(Exception):
    """Nobody waits for the answer."""


def _refuse_size(settings: Settings) -> bytes:
    raise RequestRefused(f"the body is larger than {settings.max_body_bytes} bytes", 413)


def trace_id(traceparent: str) -> str | None:
    """Return the trace id of a W3C ``traceparent`` header, if it is a valid one."""
    parts = traceparent.split("-")
    valid = len(parts) >= 4 and len(parts[1]) == 32 and set(parts[1]) <= set("0123456789abcdef")
    return parts[1] if valid and parts[1] != "0" * 32 else None


def seconds_allowed(header: str | None, settings: Settings) -> float:
    """Return how long a request may take: what the client says, and no longer than the server's deadline."""
    longest = settings.deadline.total_seconds()
    if header is None:
        return longest
    if not header.isascii() or not header.isdigit() or len(header) > 9:
        raise RequestRefused(f"{TIMEOUT_HEADER} is {header!r}, must be a whole number of milliseconds")
    return min(int(header) / 1000, longest)

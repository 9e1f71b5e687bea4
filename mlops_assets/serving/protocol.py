"""HTTP/1.1 as uvicorn speaks it, with what a server under attack or overload needs beside it.

A head (request line and headers) that grows too large is refused while it is being read. A request carries when it
arrived, which is before its turn comes, so that waiting counts towards its deadline and its latency; and how many wait
with it, so that a worker that cannot keep up says so instead of making everybody late.
"""

import time
from collections.abc import MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
_ARRIVED, _WAITING = "mlops_assets.arrived", "mlops_assets.waiting"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on heads, and arrival and company noted in the scope."""

    _head_bytes = 0
    _is_in_head = True

    def data_received(self, data: bytes) -> None:
        """Take bytes, unless they make a head too large."""
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Note the arrival."""
        self._is_in_head, self._head_bytes = False, 0
        scope: MutableMapping[str, Any] = self.scope  # type: ignore[assignment]
        scope[_ARRIVED], scope[_WAITING] = time.perf_counter(), len(self.tasks) + 1
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next head."""
        self._is_in_head = True
        super().on_message_complete()


def arrived(scope: MutableMapping[str, Any]) -> float:
    """Return when a request arrived, on ``time.perf_counter``; now, where nobody noted it."""
    return float(scope.get(_ARRIVED) or time.perf_counter())


def waiting(scope: MutableMapping[str, Any]) -> int:
    """Return how many requests waited for this worker when this one arrived, itself among them."""
    return int(scope.get(_WAITING, 1))

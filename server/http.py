"""Metrics and health on a port of their own, for scrapers and probes that hold no certificate.

`GET /metrics` gives the Prometheus text format, `GET /healthz` 200 while the server serves and 503 while it does not.
HTTP/1.1, one request a connection; nothing here shows records. Bind it where only the operator can reach it.
"""

import asyncio
import contextlib
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_MAX_HEAD_BYTES = 8192
_HEAD_TIMEOUT_S = 5.0
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_TEXT = "text/plain; charset=utf-8"


class HttpServer:
    """The listener; `start` binds it, `stop` ends it."""

    def __init__(self, registry: CollectorRegistry, is_serving: Callable[[], bool]) -> None:
        self._registry = registry
        self._is_serving = is_serving
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port; raises `OSError`."""
        self._server = await asyncio.start_server(self._handle, host, port, limit=_MAX_HEAD_BYTES)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the listener and what hangs on it."""
        if self._server:
            self._server.close()
            await self._server.wait_closed()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b""
        with contextlib.suppress(OSError):  # the other end may leave at any time
            try:
                async with asyncio.timeout(_HEAD_TIMEOUT_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                status, content_type, body = self._answer(head)
            except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                status, content_type, body = 400, _TEXT, b"bad request\n"
            writer.write(
                f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
                f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
                "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n".encode()
            )
            writer.write(b"" if head.startswith(b"HEAD ") else body)
            await writer.drain()
        writer.close()

    def _answer(self, head: bytes) -> tuple[int, str, bytes]:
        match head.split(b"\r\n", 1)[0].split(b" "):
            case [b"GET" | b"HEAD", target, b"HTTP/1.1" | b"HTTP/1.0"]:
                path = target.split(b"?", 1)[0]
            case [_, _, b"HTTP/1.1" | b"HTTP/1.0"]:
                return 405, _TEXT, b"only GET and HEAD\n"
            case _:
                return 400, _TEXT, b"bad request\n"
        if path == b"/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(self._registry)
        if path == b"/healthz":
            return (200, _TEXT, b"serving\n") if self._is_serving() else (503, _TEXT, b"not serving\n")
        return 404, _TEXT, b"there are /metrics and /healthz\n"

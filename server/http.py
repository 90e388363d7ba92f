"""What is told on a port of its own to who holds no certificate: metrics, health, the journal's hashes, public keys.

`GET /metrics` gives the Prometheus text format, `GET /healthz` 200 while the server serves and 503 while it does not.
`/checkpoint` and `/tile/...` are the journal as C2SP tlog-tiles (docs/protocol.md J6), `/.well-known/jwks.json` the
keys of results (EA4). HTTP/1.1, one request a connection; nothing here shows records. Bind it where only the operator
can reach it; what the public may have of the journal is published through a proxy (docs/journal.md).
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from server.store.errors import StoreError
from server.store.journal_door import JournalDoor

_MAX_HEAD_BYTES = 8192
_HEAD_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 10.0
_JOURNAL_READS = 2
"""At once: hashes wait for each other rather than attestations for them."""

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}
_TEXT = "text/plain; charset=utf-8"
_BYTES = "application/octet-stream"
_KEYS = "application/jwk-set+json"  # RFC 7517 §8.5.2

_NEVER = "no-store"
_SHORTLY = "max-age=5"  # C2SP tlog-tiles: a checkpoint is not cached beyond a few seconds
_A_WHILE = "max-age=300"  # keys overlap for much longer when they change
_FOREVER = "public, max-age=31536000, immutable"  # a tile never changes

TILE_WIDTH = 256
_TILE = re.compile(
    r"/tile/(?P<level>entries|0|[1-9]\d?)/(?P<number>(?:x\d{3}/){0,6}\d{3})(?:\.p/(?P<width>[1-9]\d{0,2}))?"
)
_HIGHEST_LEVEL = 63
_MAX_NUMBER = 1 << 55
"""Beyond it a tile's first leaf has no 64-bit number, and no log is so long."""


class TileName(NamedTuple):
    """Which tile.

    Attributes:
        level: Of its hashes, in steps of 256; None: entries.
        number: Its index at this level.
        width: Hashes or entries in it: 256, or fewer in a partial one.
    """

    level: int | None
    number: int
    width: int


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes
    caching: str = _NEVER


class HttpServer:
    """The listener; `start` binds it, `stop` ends it.

    Args:
        registry: The metrics.
        is_serving: Says whether the server serves.
        journal: The log; None: it is not told of.
        jwks: The keys of results as a JWK set; None: there are none.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        is_serving: Callable[[], bool],
        *,
        journal: JournalDoor | None = None,
        jwks: bytes | None = None,
    ) -> None:
        self._registry = registry
        self._is_serving = is_serving
        self._journal = journal
        self._jwks = jwks
        self._journal_reads = asyncio.Semaphore(_JOURNAL_READS)
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
            except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                answer = _bad_request()
            else:
                answer = await self._answer(head)
            writer.write(
                f"HTTP/1.1 {answer.status} {_REASONS[answer.status]}\r\n"
                f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n"
                f"Cache-Control: {answer.caching}\r\nX-Content-Type-Options: nosniff\r\n"
                "Connection: close\r\n\r\n".encode()
            )
            writer.write(b"" if head.startswith(b"HEAD ") else answer.body)
            await writer.drain()
        writer.close()

    async def _answer(self, head: bytes) -> _Answer:
        match head.split(b"\r\n", 1)[0].split(b" "):
            case [b"GET" | b"HEAD", target, b"HTTP/1.1" | b"HTTP/1.0"]:
                return await self._tell(target.split(b"?", 1)[0].decode("ascii", errors="replace"))
            case [_, _, b"HTTP/1.1" | b"HTTP/1.0"]:
                return _Answer(405, _TEXT, b"only GET and HEAD\n")
            case _:
                return _bad_request()

    async def _tell(self, path: str) -> _Answer:
        if path == "/metrics":
            return _Answer(200, CONTENT_TYPE_LATEST, generate_latest(self._registry))
        if path == "/healthz":
            serving = self._is_serving()
            return _Answer(200, _TEXT, b"serving\n") if serving else _Answer(503, _TEXT, b"not serving\n")
        if path == "/.well-known/jwks.json" and self._jwks is not None:
            return _Answer(200, _KEYS, self._jwks, _A_WHILE)
        if self._journal is None or not path.startswith(("/checkpoint", "/tile/")):
            return _Answer(404, _TEXT, b"there is nothing here\n")
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S), self._journal_reads:
                return await _of_journal(self._journal, path)
        except (StoreError, TimeoutError):
            return _Answer(503, _TEXT, b"the store does not answer\n")


def parse_tile(path: str) -> TileName | None:
    """Read the path of a tile; None when it is none, or not as C2SP tlog-tiles spells it."""
    match = _TILE.fullmatch(path) if path.isascii() else None
    if match is None:
        return None
    level = None if match["level"] == "entries" else int(match["level"])
    digits = match["number"].replace("x", "").replace("/", "")
    number = int(digits)
    width = int(match["width"] or TILE_WIDTH)
    too_large = (level or 0) > _HIGHEST_LEVEL or number >= _MAX_NUMBER
    # One index, one spelling: no groups of zeros before the first digit.
    if too_large or (len(digits) > 3 and digits.startswith("000")) or (match["width"] and width >= TILE_WIDTH):
        return None
    return TileName(level, number, width)


async def _of_journal(journal: JournalDoor, path: str) -> _Answer:
    if path == "/checkpoint":
        newest = await journal.newest()
        if newest is None:
            return _Answer(404, _TEXT, b"no checkpoint was signed yet\n", _SHORTLY)
        return _Answer(200, _TEXT, newest.note.encode(), _SHORTLY)
    name = parse_tile(path)
    data = None
    if name is not None and name.level is None:
        data = await journal.entry_tile(name.number, name.width)
    elif name is not None and name.level is not None:
        data = await journal.tile(name.level, name.number, name.width)
    return _Answer(404, _TEXT, b"no such tile\n") if data is None else _Answer(200, _BYTES, data, _FOREVER)


def _bad_request() -> _Answer:
    return _Answer(400, _TEXT, b"bad request\n")

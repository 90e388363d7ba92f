"""The witness over HTTP: `POST /add-checkpoint` (C2SP tlog-witness), `GET /checkpoint?origin=` of what it last signed.

The second is ours, since the specification leaves it open how anybody learns what a witness has: it shows the log's own
signature over a checkpoint that a rolled-back log no longer extends.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from witness.config import Config
from witness.cosigner import Answer, Cosigner
from witness.request import MAX_BODY_BYTES

_KEEP_ALIVE_S = 75
"""Longer than logs pause between two checkpoints, so that they find their connection open."""

_MAX_HEAD_BYTES = 16_384
_DRAIN_S = 5


class _Body:
    """Collects the body of a request, up to the limit."""

    def __init__(self, request: Request) -> None:
        self._request = request

    async def read(self) -> bytes | None:
        """Return the body; None when it is too large."""
        data = bytearray()
        async for piece in self._request.stream():
            data += piece
            if len(data) > MAX_BODY_BYTES:
                return None
        return bytes(data)


def make_app(cosigner: Cosigner, request_s: float) -> Starlette:
    """Return the application.

    Args:
        cosigner: Decides.
        request_s: How long a body may take.
    """

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(request_s):
                body = await _Body(request).read()
        except TimeoutError:
            return _close(_response(Answer(408, "the request took too long\n")))
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return _close(_response(Answer(413, f"{MAX_BODY_BYTES} bytes are allowed\n")))
        return _response(await cosigner.add_checkpoint(body))

    async def checkpoint(request: Request) -> Response:
        return _response(cosigner.newest(request.query_params.get("origin", "")))

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/checkpoint", checkpoint, methods=["GET"]),
        ]
    )


def _response(answer: Answer) -> Response:
    # The bytes of Content-Type are the specification's; Starlette would add a charset to any text type.
    headers = {"content-type": answer.content_type, "cache-control": "no-store", "x-content-type-options": "nosniff"}
    return Response(answer.body.encode(), answer.status, headers)


def _close(response: Response) -> Response:
    """Say that the connection ends, since the rest of the body was not read."""
    response.headers["connection"] = "close"
    return response


def _protocol(request_s: float) -> type[H11Protocol]:
    """Return uvicorn's HTTP/1.1, which besides ends connections whose request head does not come in time."""

    class Timely(H11Protocol):
        """H11Protocol with a time limit on heads, the first one's from the connection on."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's own
            super().connection_made(transport)
            self._timer = self.loop.call_later(request_s, transport.close)

        def handle_events(self) -> None:
            super().handle_events()
            waiting = bool(self.conn.trailing_data[0])  # for the rest of a head
            if waiting and self._timer is None:
                self._timer = self.loop.call_later(request_s, self.transport.close)
            elif not waiting and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    return Timely


class Service(uvicorn.Server):
    """The HTTP server of one witness; ends when `should_exit` is set.

    Args:
        config: Limits and TLS.
        cosigner: Decides.
        on_ready: Called once with the address, host:port.
    """

    def __init__(self, config: Config, cosigner: Cosigner, on_ready: Callable[[str], None]) -> None:
        limits, tls = config.limits, config.tls
        super().__init__(
            uvicorn.Config(
                make_app(cosigner, limits.request_s),
                http=_protocol(limits.request_s),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=limits.connections,
                timeout_keep_alive=_KEEP_ALIVE_S,
                timeout_graceful_shutdown=_DRAIN_S,
                h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
                ssl_certfile=tls.cert if tls else None,
                ssl_keyfile=tls.key if tls else None,
            )
        )
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        assert sockets  # `serve` of ours always has one
        host, port = sockets[0].getsockname()[:2]
        self._on_ready(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command, which ends with 0 where uvicorn would end by the signal."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound; raises `OSError`."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # With its protocol, or asyncio leaves TCP_NODELAY off, and each answer waits 40 ms for an acknowledgment.
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound

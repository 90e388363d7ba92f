"""The port for scrapers and probes."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.http import HttpServer
from server.telemetry import Telemetry


class Probe:
    def __init__(self) -> None:
        self.serving = True
        self.server = HttpServer(Telemetry().registry, lambda: self.serving)
        self.port = 0

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """The status line and the body that answer `request`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        writer.write_eof()
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0], body


@pytest.fixture
async def probe() -> AsyncIterator[Probe]:
    made = Probe()
    made.port = await made.server.start("127.0.0.1", 0)
    yield made
    await made.server.stop()


async def test_health_follows_the_server(probe: Probe) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await probe.ask(request) == (b"HTTP/1.1 200 OK", b"serving\n")
    probe.serving = False
    assert await probe.ask(request) == (b"HTTP/1.1 503 Service Unavailable", b"not serving\n")


async def test_head_has_no_body(probe: Probe) -> None:
    assert await probe.ask(b"HEAD /metrics?x=1 HTTP/1.1\r\n\r\n") == (b"HTTP/1.1 200 OK", b"")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /else HTTP/1.1\r\n\r\n", b"404"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nunfinished", b"400"),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00", b"400"),
    ],
)
async def test_what_is_no_request_of_ours_is_refused(probe: Probe, request_: bytes, status: bytes) -> None:
    line, _ = await probe.ask(request_)
    assert line.split(b" ")[1] == status

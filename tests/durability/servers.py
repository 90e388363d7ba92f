"""Real server processes, their configuration, and what can be asked of them."""

import asyncio
import contextlib
import json
import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from firmware_stubs.ca import DeviceCA
from server import pki

_CONFIG = """\
plaintext_on_loopback = true
[listen]
address = "127.0.0.1:0"
http_address = "127.0.0.1:0"
[store]
path = "{store}"
[trust]
roots = ["vendor/root.pem"]
reference_values = ["vendor/reference-values.json"]
[tickets]
key = "pki/ticket.key"
[journal]
origin = "trigpoint.test/journal"
key = "pki/journal.key"
anchor = "{node}.anchor"
seal_interval_s = 0.1
[results]
keys = ["pki/result.key"]
[place]
audited_within_h = 0
record_standing_days = 0
[attestation]
interval_s = 600
[desk]
sweep_interval_s = 0.2
alive_interval_s = 0.1
node = "{node}"
"""
LOOK_EVERY_S = 0.05
START_S = 60
"""Nobody is that slow; it only keeps a broken server from holding up the tests."""


def write_config(folder: Path, store: Path, node: str = "node-1") -> Path:
    """Write a server's configuration over plaintext; `folder` holds what `make_materials` makes."""
    path = folder / f"{node}.toml"
    path.write_text(_CONFIG.format(store=store, node=node))
    return path


def make_materials(folder: Path) -> DeviceCA:
    """Make a vendor and a server's keys in `folder`."""
    pki.init(folder / "pki", pki.DEFAULT_HOSTS, "trigpoint.test", "127.0.0.1:0")
    return DeviceCA.create(folder / "vendor")


@dataclass(slots=True)
class ServerProcess:
    """One `trigpoint-server serve`.

    Attributes:
        pid: Its process id.
        address: Where it answers; empty when it could not start.
        http: Where its metrics are.
        log: Its events so far.
    """

    pid: int
    address: str = ""
    http: str = ""
    log: list[dict[str, Any]] = field(default_factory=list)
    logging: "asyncio.Task[None] | None" = None

    def channel(self) -> grpc.aio.Channel:
        """A connection of its own."""
        # Else gRPC would share one between all channels of this process.
        return grpc.aio.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM: drain and end."""
        os.kill(self.pid, signal.SIGTERM)

    async def wait_for_health(self, *, serving: bool) -> None:
        """Return once the server says so."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        async with self.channel() as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            async for answer in stub.Watch(health_pb2.HealthCheckRequest()):
                if answer.status == status:
                    return
        raise AssertionError("the server ended its health stream")

    async def is_serving(self) -> bool:
        """Ask for its health."""
        async with self.channel() as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest())
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def metrics(self) -> dict[str, float]:
        """Every sample, by name with labels."""
        host, _, port = self.http.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        body = (await reader.read()).partition(b"\r\n\r\n")[2].decode()
        writer.close()
        await writer.wait_closed()
        samples = (line.rpartition(" ") for line in body.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def wait_for_metric(self, name: str, *, above: float = -math.inf, below: float = math.inf) -> None:
        """Return once the sample lies between the two."""
        while not above < (await self.metrics()).get(name, 0.0) < below:  # noqa: ASYNC110 - it changes in another process
            await asyncio.sleep(LOOK_EVERY_S)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events of the log with this name."""
        return [event for event in self.log if event.get("event") == name]


class Nursery:
    """Starts servers and says how they ended."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._asking = asyncio.Lock()
        self._logging: list[asyncio.Task[None]] = []

    async def start(self, config: Path) -> ServerProcess:
        """Start a server and return when it is ready, or has ended without being so."""
        ready_end, stdout = os.pipe()
        log_end, stderr = os.pipe()
        answer = await self._ask({"start": ["serve", "--config", str(config)]}, [stdout, stderr])
        os.close(stdout)
        os.close(stderr)
        server = ServerProcess(answer["pid"])
        server.logging = asyncio.create_task(_keep_log(log_end, server.log))
        self._logging.append(server.logging)
        async with _lines(ready_end) as output:
            line = await asyncio.wait_for(output.readline(), START_S)
        if line:
            ready = json.loads(line)
            server.address, server.http = ready["address"], ready["http"]
        return server

    async def kill_after_writes(self, server: ServerProcess, store: Path, count: int) -> None:
        """SIGKILL the server after so many writes to the store's log of transactions."""
        await self._ask({"kill": server.pid, "after_writes": count, "to": f"{store}-wal"})

    async def ended(self, server: ServerProcess) -> int:
        """Wait for its end and return its exit code, the negative signal when one ended it. Its log is whole then."""
        answer = await self._ask({"wait": server.pid})
        assert server.logging is not None
        await server.logging
        code: int = answer["code"]
        return code

    async def settle(self) -> None:
        """Read all logs to their end; every server is gone."""
        await asyncio.gather(*self._logging)

    async def _ask(self, order: dict[str, Any], descriptors: list[int] | None = None) -> dict[str, Any]:
        async with self._asking:
            socket.send_fds(self._orders, [json.dumps(order).encode()], descriptors or [])
            answer: dict[str, Any] = json.loads(await asyncio.get_running_loop().sock_recv(self._orders, 65536))
            return answer


@contextlib.asynccontextmanager
async def open_nursery() -> AsyncIterator[Nursery]:
    """Run a nursery; what it started ends with it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(0)
        command = [sys.executable, "-m", "tests.durability.nursery", str(its.fileno())]
        process = await asyncio.create_subprocess_exec(
            *command,
            pass_fds=[its.fileno()],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # a process with threads cannot be forked
        )
        its.close()
        await asyncio.wait_for(asyncio.get_running_loop().sock_recv(ours, 16), START_S)
        opened = Nursery(ours)
        try:
            yield opened
        finally:
            ours.close()
            await process.wait()
            await opened.settle()


@contextlib.asynccontextmanager
async def _lines(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    reader = asyncio.StreamReader(limit=1 << 20)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        yield reader
    finally:
        transport.close()


async def _keep_log(descriptor: int, log: list[dict[str, Any]]) -> None:
    async with _lines(descriptor) as reader:
        async for line in reader:
            log.append(json.loads(line))  # noqa: PERF401 - it is read while it grows

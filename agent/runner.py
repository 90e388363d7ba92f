"""Keeps one Attest stream open for as long as the agent runs: connects, waits, connects again.

Spec: docs/protocol.md A5. No failure of the source, the network or the server ends the agent; each is logged and
tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
from structlog.typing import FilteringBoundLogger
from trigpoint.v1 import attestation_pb2_grpc

from agent.backoff import Backoff, retry_delay_s
from agent.collect import Collector
from agent.config import AgentConfig, ServerConfig
from agent.memory import Memory
from agent.sources.base import Source, SourceError
from agent.stream import HostStream, ProtocolError

CHANNEL_OPTIONS = [
    # A dead path is noticed within 80 s. The server allows a ping each 10 s.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # The agent has its own backoff, so that it can honor what the server asks for.
    ("grpc.enable_retries", 0),
]


class Runner:
    """Connects one source to one server.

    Args:
        config: The whole configuration.
        source: Where devices are.
        backoff: Delays between tries.
        log: Bound logger.
        memory: The largest checkpoint that the server sent.
        on_up: Called each time the server accepts the stream.
        sleep: Waits for seconds; a test passes its own.
    """

    def __init__(
        self,
        config: AgentConfig,
        source: Source,
        backoff: Backoff,
        log: FilteringBoundLogger,
        memory: Memory,
        *,
        on_up: Callable[[], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._config = config
        self._backoff = backoff
        self._log = log
        self._memory = memory
        self._on_up = on_up
        self._sleep = sleep
        self._collector = Collector(source, config.host_id, config.claimed_location(), log)

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            asked_s = 0.0
            try:
                await self._stream_once()
                self._log.info("stream ended by the server")
            except SourceError as error:
                self._log.warning("source failed", error=str(error))
            except ProtocolError as error:
                self._log.error("server broke the protocol", error=str(error))
            except grpc.aio.AioRpcError as error:
                asked_s = retry_delay_s(error)
                self._log.warning("stream broke", status=error.code().name, detail=error.details())
            except OSError as error:
                self._log.error("credentials unreadable", error=str(error))
            delay_s = self._backoff.next_s(asked_s)
            self._log.info("waiting", delay_s=round(delay_s, 3))
            await self._sleep(delay_s)

    async def _stream_once(self) -> None:
        roster = await self._collector.roster()
        async with open_channel(self._config.server) as channel:
            stub = attestation_pb2_grpc.AttestationServiceStub(channel)
            stream = HostStream(
                stub.Attest(metadata=role_metadata(self._config.server)),
                self._collector,
                self._config.host_id,
                roster,
                self._log,
                self._memory,
                on_up=self._on_up,
                on_verdict=self._backoff.reset,
                device_poll_s=self._config.device_poll_s,
            )
            await stream.run()


def open_channel(server: ServerConfig) -> grpc.aio.Channel:
    """Return a channel to the server: mTLS, or plaintext where the configuration allows it.

    Key files are read anew each time, so that a renewed certificate is taken up by the next connection.

    Raises:
        OSError: A key file cannot be read.
    """
    if server.plaintext:
        return grpc.aio.insecure_channel(server.target, options=CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(server.ca), private_key=_read(server.key), certificate_chain=_read(server.cert)
    )
    return grpc.aio.secure_channel(server.target, credentials, options=CHANNEL_OPTIONS)


def role_metadata(server: ServerConfig) -> tuple[tuple[str, str], ...]:
    """Return what stands in for the certificate's role in plaintext; nothing with TLS."""
    return (("trigpoint-dev-role", server.plaintext_role),) if server.plaintext_role else ()


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()

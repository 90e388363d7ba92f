"""The real agent in this process, with its verdicts kept: the agent itself only logs them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from trigpoint.v1 import attestation_pb2, attestation_pb2_grpc, reason_pb2

from agent.collect import Collector
from agent.sources.emulator import EmulatorSource
from agent.stream import HostStream
from demo.stage import Stage

WAIT_S = 60


@dataclass(slots=True)
class Attester:
    """Verdicts of one agent, as they come."""

    verdicts: asyncio.Queue[attestation_pb2.Verdict] = field(default_factory=asyncio.Queue)

    async def verdict(self) -> attestation_pb2.Verdict:
        """The next verdict."""
        return await asyncio.wait_for(self.verdicts.get(), WAIT_S)

    async def verdict_on_new_challenge(self) -> attestation_pb2.Verdict:
        """The first verdict on evidence that was gathered after this call: those under way are passed over."""
        while not self.verdicts.empty():
            self.verdicts.get_nowait()
        await self.verdict()
        return await self.verdict()


class _Tee:
    """An Attest call that keeps the verdicts that pass through it."""

    def __init__(self, call: Any, verdicts: asyncio.Queue[attestation_pb2.Verdict]) -> None:
        self._call = call
        self._verdicts = verdicts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def __aiter__(self) -> AsyncIterator[attestation_pb2.AttestResponse]:
        async for response in self._call:
            for verdict in response.verdicts.verdicts:
                self._verdicts.put_nowait(verdict)
            yield response


@asynccontextmanager
async def attesting(stage: Stage, key: str, host_id: str = "") -> AsyncIterator[Attester]:
    """Run the agent of one server of the stage."""
    pki, name = stage.folder / "pki", f"agent-{key.lower()}"
    credentials = grpc.ssl_channel_credentials(
        (pki / "ca.pem").read_bytes(), (pki / f"{name}.key").read_bytes(), (pki / f"{name}.pem").read_bytes()
    )
    source = EmulatorSource(stage.socket(key))
    host = host_id or f"server-{key.lower()}"
    log = structlog.get_logger()
    collector = Collector(source, host, None, log)
    attester = Attester()
    async with grpc.aio.secure_channel(stage.address, credentials) as channel:
        stub = attestation_pb2_grpc.AttestationServiceStub(channel)
        stream = HostStream(
            _Tee(stub.Attest(), attester.verdicts),  # type: ignore[arg-type]  # it quacks like the call it wraps
            collector,
            host,
            await collector.roster(),
            log,
            on_up=lambda: None,
            on_verdict=lambda: None,
            device_poll_s=0.2,
        )
        task = asyncio.create_task(stream.run())
        try:
            yield attester
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await source.close()


def rejected(verdict: attestation_pb2.Verdict) -> list[str]:
    """Reasons of refused reports, sorted, without repeats; or the attestation's own when it was refused as a whole."""
    if verdict.HasField("rejection"):
        return [_name(verdict.rejection.reason)]
    return sorted({_name(r.rejection.reason) for r in verdict.report_rejections})


def found(verdict: attestation_pb2.Verdict) -> dict[str, list[str]]:
    """Reasons of findings by device, devices without any left out."""
    return {d.pdi.hex(): [_name(f.reason) for f in d.findings] for d in verdict.devices if d.findings}


def reasons(verdict: attestation_pb2.Verdict) -> list[str]:
    """Reasons of all findings, sorted and without repeats."""
    return sorted({reason for names in found(verdict).values() for reason in names})


def _name(reason: int) -> str:
    return reason_pb2.Reason.Name(reason_pb2.Reason.ValueType(reason)).removeprefix("REASON_")

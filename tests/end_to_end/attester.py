"""The real agent in this process, with its verdicts kept: the agent itself only logs them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import structlog
from trigpoint.v1 import attestation_pb2, attestation_pb2_grpc, device_pb2, reason_pb2

from agent.collect import Collector
from agent.memory import Memory
from agent.sources.base import Source
from agent.sources.emulator import EmulatorSource
from agent.stream import HostStream
from demo.stage import Stage

WAIT_S = 60


class Tee:
    """An Attest call that keeps the verdicts and challenges that pass through it."""

    def __init__(self, call: Any) -> None:
        self.verdicts: asyncio.Queue[attestation_pb2.Verdict] = asyncio.Queue()
        self.challenges: set[bytes] = set()
        self._call = call
        self._inventory: attestation_pb2.AttestRequest | None = None
        self._writing = asyncio.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def __aiter__(self) -> AsyncIterator[attestation_pb2.AttestResponse]:
        async for response in self._call:
            if response.HasField("challenge"):
                self.challenges.add(response.challenge.challenge)
            for verdict in response.verdicts.verdicts:
                self.verdicts.put_nowait(verdict)
            yield response

    async def write(self, request: attestation_pb2.AttestRequest) -> None:
        """What the agent calls. Liars override `send`."""
        if request.HasField("inventory"):
            self._inventory = request
        await self.send(request)

    async def send(self, request: attestation_pb2.AttestRequest) -> None:
        """Put one message on the stream."""
        async with self._writing:
            await self._call.write(request)

    async def send_inventory(self) -> None:
        """List the devices again: the server answers with a new challenge at once (docs/protocol.md A1)."""
        assert self._inventory is not None
        await Tee.send(self, self._inventory)


@dataclass(slots=True)
class Attester:
    """Verdicts of one agent, as they come."""

    tee: Tee
    seen: list[attestation_pb2.Verdict] = field(default_factory=list)

    async def verdict(self) -> attestation_pb2.Verdict:
        """The next verdict."""
        self.seen.append(await asyncio.wait_for(self.tee.verdicts.get(), WAIT_S))
        return self.seen[-1]

    async def verdict_on_new_challenge(self) -> attestation_pb2.Verdict:
        """The first verdict on evidence that was gathered after this call: those under way are passed over."""
        self.tee.challenges.clear()
        await self.tee.send_inventory()
        verdict = await self.verdict()
        while verdict.challenge not in self.tee.challenges:
            verdict = await self.verdict()
        return verdict


@asynccontextmanager
async def attesting(
    stage: Stage,
    key: str,
    *,
    address: str = "",
    certificate: str = "",
    source: Source | None = None,
    collector: type[Collector] = Collector,
    tee: Callable[[Any], Tee] = Tee,
) -> AsyncIterator[Attester]:
    """Run the agent of one server of the stage, honest unless a part of it is replaced.

    Args:
        stage: The world.
        key: Which server; it names the host, and the board unless `source` is given.
        address: The server to attest to, when it is not the stage's.
        certificate: Name of the agent's certificate, when it is not that server's.
        source: Where devices are.
        collector: Gathers evidence.
        tee: Puts messages on the stream.
    """
    pki, name, host = stage.folder / "pki", certificate or f"agent-{key.lower()}", f"server-{key.lower()}"
    credentials = grpc.ssl_channel_credentials(
        (pki / "ca.pem").read_bytes(), (pki / f"{name}.key").read_bytes(), (pki / f"{name}.pem").read_bytes()
    )
    source = source or EmulatorSource(stage.socket(key))
    log = structlog.get_logger()
    gatherer = collector(source, host, None, log)
    async with grpc.aio.secure_channel(address or stage.address, credentials) as channel:
        call = tee(attestation_pb2_grpc.AttestationServiceStub(channel).Attest())
        stream = HostStream(
            call,  # type: ignore[arg-type]  # it quacks like the call it wraps
            gatherer,
            host,
            await gatherer.roster(),
            log,
            Memory.open(None),
            on_up=lambda: None,
            on_verdict=lambda: None,
            device_poll_s=0.2,
        )
        task = asyncio.create_task(stream.run())
        try:
            yield Attester(call)
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


def voided(verdict: attestation_pb2.Verdict) -> list[str]:
    """Why ranges were dropped, sorted and without repeats."""
    return sorted({_name(void.reason) for device in verdict.devices for void in device.void_ranges})


def accused(verdict: attestation_pb2.Verdict) -> list[str]:
    """PDIs of devices with a finding that breaks their license."""
    return [
        d.pdi.hex() for d in verdict.devices if any(f.severity == device_pb2.SEVERITY_VIOLATION for f in d.findings)
    ]


def gpus(verdict: attestation_pb2.Verdict) -> list[device_pb2.DeviceVerdict]:
    """The verdicts on GPUs, in the order of their reports."""
    return [d for d in verdict.devices if d.kind == device_pb2.DEVICE_KIND_GPU]


def is_honest(verdict: attestation_pb2.Verdict) -> bool:
    """Nothing was refused, dropped or found, and every GPU is compliant."""
    compliant = all(d.standing == device_pb2.STANDING_COMPLIANT for d in gpus(verdict))
    return compliant and (rejected(verdict), voided(verdict), found(verdict)) == ([], [], {})


async def is_honest_again(attester: Attester) -> bool:
    """Its first verdict is honest, or its second: another test may have carried the board away, and none flies home."""
    verdict = await attester.verdict()
    if {name for names in found(verdict).values() for name in names} == {"IMPOSSIBLE_TRAVEL"}:
        verdict = await attester.verdict()
    return is_honest(verdict)


def is_only_unproven(verdict: attestation_pb2.Verdict) -> bool:
    """No GPU could prove its place, and nothing else is held against any device."""
    told = [[name for name in found(verdict)[d.pdi.hex()] if name != "RANGE_VOID"] for d in gpus(verdict)]
    return rejected(verdict) == [] and accused(verdict) == [] and all(names == ["LOCATION_UNPROVEN"] for names in told)


def _name(reason: int) -> str:
    return reason_pb2.Reason.Name(reason_pb2.Reason.ValueType(reason)).removeprefix("REASON_")

"""A source and an attestation service that do as they are told."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import cbor2
import grpc
from google.protobuf import duration_pb2
from trigpoint.v1 import attestation_pb2, attestation_pb2_grpc, device_pb2

from agent.sources.base import Answered, Kind, RangeCommand, SourceDevice, SourceError, Why

LANDMARK = bytes(range(32))


def gpu(number: int, *, can_range: bool = True) -> SourceDevice:
    return SourceDevice(bytes([0x41] * 7 + [number]), Kind.GPU, "board-0", number, can_range)


def switch(number: int) -> SourceDevice:
    return SourceDevice(bytes([0x50] * 7 + [number]), Kind.SWITCH, "board-0", number, can_range=False)


def chain_of(pdi: bytes) -> tuple[bytes, ...]:
    return tuple(b"certificate %d of " % place + pdi for place in range(5))


def chain_id_of(pdi: bytes) -> bytes:
    return hashlib.sha256(b"".join(chain_of(pdi))).digest()


@dataclass
class FakeSource:
    """Devices in memory. `broken` PDIs do not report; `failures` calls of devices() fail first."""

    present: list[SourceDevice]
    broken: set[bytes] = field(default_factory=set)
    failures: int = 0
    outcome: Answered | Why = field(default_factory=lambda: Answered(b"receipt", 0xFFFF))
    commands: list[tuple[bytes, RangeCommand]] = field(default_factory=list)
    nonces: list[bytes] = field(default_factory=list)
    closed: bool = False

    async def devices(self) -> tuple[SourceDevice, ...]:
        if self.failures:
            self.failures -= 1
            raise SourceError("driver is busy")
        return tuple(self.present)

    async def chain(self, pdi: bytes) -> tuple[bytes, ...]:
        return chain_of(pdi)

    async def report(self, pdi: bytes, nonce: bytes) -> bytes:
        self.nonces.append(nonce)
        if pdi in self.broken:
            raise SourceError("no reply")
        return b"report of " + pdi + nonce

    async def range(self, pdi: bytes, command: RangeCommand) -> Answered | Why:
        self.commands.append((pdi, command))
        return self.outcome

    async def close(self) -> None:
        self.closed = True


Request = attestation_pb2.AttestRequest
Response = attestation_pb2.AttestResponse
Script = Callable[["Peer"], AsyncIterator[Response]]


@dataclass
class Peer:
    """One stream as the fake server sees it."""

    requests: AsyncIterator[Request]
    context: grpc.aio.ServicerContext[Request, Response]
    seen: list[Request]

    async def expect(self, kind: str) -> Request:
        """Return the next request, which must be of this kind."""
        request = await anext(self.requests)
        self.seen.append(request)
        assert request.WhichOneof("message") == kind, request
        return request


class FakeService(attestation_pb2_grpc.AttestationServiceServicer):
    """Runs one script a stream, in order; the last one again for every further stream."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = list(scripts)
        self.seen: list[list[Request]] = []

    async def Attest(  # noqa: N802  # an async generator, the name is gRPC's
        self,
        request_iterator: AsyncIterator[Request],
        context: grpc.aio.ServicerContext[Request, Response],
    ) -> AsyncIterator[Response]:
        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        seen: list[Request] = []
        self.seen.append(seen)
        async for response in script(Peer(request_iterator, context, seen)):
            yield response


class RunningService:
    """A fake service on a loopback port; may be stopped and started again on the same port."""

    def __init__(self, service: FakeService) -> None:
        self._service = service
        self._server: grpc.aio.Server | None = None
        self.port = 0

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = grpc.aio.server()
        attestation_pb2_grpc.add_AttestationServiceServicer_to_server(self._service, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


def challenge(number: int, *known: bytes, host_id: str = "host-1", life_s: int = 60) -> Response:
    return Response(
        challenge=attestation_pb2.Challenge(
            host_id=host_id,
            challenge=bytes([number] * 32),
            life=duration_pb2.Duration(seconds=life_s),
            known_chains=known,
        )
    )


def orders(number: int, step: int, *pdis: bytes, final: bool = False) -> Response:
    return Response(
        range_orders=attestation_pb2.RangeOrders(
            host_id="host-1",
            challenge=bytes([number] * 32),
            step=step,
            orders=[
                attestation_pb2.RangeOrder(pdi=pdi, landmark_key_id=LANDMARK, endpoints=["127.0.0.1:9"], ticket=b"t")
                for pdi in pdis
            ],
            final=final,
        )
    )


def verdict(number: int, *pdis: bytes, known: tuple[bytes, ...] = ()) -> Response:
    devices = [
        device_pb2.DeviceVerdict(pdi=pdi, kind=device_pb2.DEVICE_KIND_GPU, standing=device_pb2.STANDING_COMPLIANT)
        for pdi in pdis
    ]
    entry = attestation_pb2.Verdict(host_id="host-1", challenge=bytes([number] * 32), devices=devices)
    return Response(verdicts=attestation_pb2.VerdictBatch(verdicts=[entry], known_chains=known))


def claims_of(request: Request) -> dict[int, object]:
    """Return the claims of a batch of one."""
    (attestation,) = request.attestations.attestations
    decoded: dict[int, object] = cbor2.loads(attestation.claims)
    return decoded


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own time limit ends a wait in vain."""
    while not condition():  # noqa: ASYNC110  # what is waited for is a log event or a count, which sets no asyncio.Event
        await asyncio.sleep(0.005)

"""Load: hosts with real signed evidence on real Attest streams, and an account of what was sent and what was answered.

A GPU keeps its counters in memory here, since the file that the emulator keeps them in would be most of the work.
"""

import asyncio
import itertools
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc
from trigpoint.v1 import attestation_pb2, attestation_pb2_grpc, device_pb2, licensing_pb2, licensing_pb2_grpc

from agent.claims import bound_nonce, encode_claims
from firmware_stubs import report
from firmware_stubs.ca import DeviceCA
from firmware_stubs.device import Device
from firmware_stubs.firmware import GPU_CURRENT
from tests.durability.servers import ServerProcess
from tests.two_people import put_in_force
from verifier.evidence.chain import chain_id

LICENSEE = "Example Cloud"
CUT = "CUT"
"""A stream's end without a status: the connection broke while a message was being written."""

_CUT_DETAILS = "Internal error from Core"  # gRPC's client says INTERNAL then, in these words
DEV_ROLE = (("trigpoint-dev-role", "agent/Example_20Cloud/relay-1"),)


@dataclass(slots=True)
class Gpu:
    """One GPU on no board. `count` is its attestation counter."""

    device: Device
    chain: list[bytes]
    chain_id: bytes
    count: int = 0

    @classmethod
    def of(cls, device: Device) -> Self:
        """The GPU that this emulated device is."""
        chain = device.chain_der()
        return cls(device, chain, chain_id(chain))

    def report(self, nonce: bytes) -> bytes:
        """Count one report, then sign it."""
        self.count += 1
        tlvs = report.gpu_tlvs(self.device.image, None, (), (1, self.count))
        responder_nonce = secrets.token_bytes(report.NONCE_LENGTH)
        return report.signed_report(
            self.device.leaf_key, report.unsigned_report(nonce, self.device.digests(), responder_nonce, tlvs)
        )


@dataclass(frozen=True, slots=True)
class Host:
    """A host with its GPUs."""

    host_id: str
    gpus: tuple[Gpu, ...]

    def inventory(self) -> attestation_pb2.AttestRequest:
        """Announce it."""
        devices = [
            attestation_pb2.InventoryDevice(
                pdi=gpu.device.pdi, kind=device_pb2.DEVICE_KIND_GPU, board=gpu.device.pdi.hex(), chain_id=gpu.chain_id
            )
            for gpu in self.gpus
        ]
        return attestation_pb2.AttestRequest(inventory=attestation_pb2.Inventory(host_id=self.host_id, devices=devices))

    def attest(self, challenge: bytes) -> attestation_pb2.Attestation:
        """All GPUs sign over this challenge."""
        listed = [gpu.device.pdi for gpu in self.gpus]
        claims = encode_claims(challenge=challenge, host_id=self.host_id, host_time_s=0, devices=listed, ranges=[])
        nonce = bound_nonce(claims)
        reports = [attestation_pb2.DeviceReport(spdm=gpu.report(nonce), chain_id=gpu.chain_id) for gpu in self.gpus]
        return attestation_pb2.Attestation(host_id=self.host_id, challenge=challenge, claims=claims, reports=reports)


def make_hosts(ca: DeviceCA, folder: Path, count: int, gpus: int = 2) -> list[Host]:
    """Hosts of new GPUs, which `load_hosts` finds again in `folder`."""
    for number, slot in itertools.product(range(count), range(gpus)):
        Device.manufacture(folder / f"host-{number}" / f"gpu-{slot}", ca, GPU_CURRENT)
    return load_hosts(folder)


def load_hosts(folder: Path) -> list[Host]:
    """The hosts that `make_hosts` made in `folder`."""
    return [
        Host(path.name, tuple(Gpu.of(Device.load(gpu)) for gpu in sorted(path.iterdir())))
        for path in sorted(folder.iterdir())
    ]


def _nothing() -> None:
    """Happens at most messages."""


@dataclass(slots=True)
class Account:
    """What was sent and what was answered, by challenge.

    Attributes:
        sent: Entered before it leaves.
        answered: Entered when the verdict has come.
        happened: Called at each message that leaves or comes.
    """

    sent: dict[bytes, attestation_pb2.Attestation] = field(default_factory=dict)
    answered: dict[bytes, attestation_pb2.Verdict] = field(default_factory=dict)
    happened: Callable[[], None] = _nothing

    def at(self, answers: int, act: Callable[[], None]) -> None:
        """Call `act` once, as soon as so many attestations more are answered."""
        until = len(self.answered) + answers

        def look() -> None:
            if len(self.answered) >= until:
                self.happened = _nothing
                act()

        self.happened = look

    def leave(self, attestations: Sequence[attestation_pb2.Attestation]) -> None:
        """Enter what is about to be sent."""
        self.sent.update((attestation.challenge, attestation) for attestation in attestations)

    def enter(self, verdicts: attestation_pb2.VerdictBatch) -> None:
        """Take a batch of verdicts. Every one must be on evidence that was sent and not answered before."""
        for verdict in verdicts.verdicts:
            assert verdict.challenge in self.sent
            assert verdict.challenge not in self.answered
            self.answered[verdict.challenge] = verdict


class Relay:
    """One stream that speaks for several hosts. It answers at once and asks for the next challenge at once."""

    def __init__(self, hosts: Sequence[Host], account: Account) -> None:
        self._hosts = {host.host_id: host for host in hosts}
        self._account = account
        self._ready: dict[str, bytes] = {}
        self._known: set[bytes] = set()

    async def run(self, channel: grpc.aio.Channel) -> str:
        """Attest until the stream fails; returns the name of its status, or `CUT`."""
        call = attestation_pb2_grpc.AttestationServiceStub(channel).Attest(metadata=DEV_ROLE)
        try:
            for host in self._hosts.values():
                await call.write(host.inventory())
            async for response in call:
                self._account.happened()
                for request in self._answer_to(response):
                    await call.write(request)
                    self._account.happened()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # the call has ended; its status says why
        finally:
            call.cancel()
        return CUT if await call.details() == _CUT_DETAILS else (await call.code()).name

    def _answer_to(self, response: attestation_pb2.AttestResponse) -> list[attestation_pb2.AttestRequest]:
        match response.WhichOneof("message"):
            case "challenge":
                self._known.update(response.challenge.known_chains)
            case "range_orders":
                assert response.range_orders.final
                assert not response.range_orders.orders
                self._ready[response.range_orders.host_id] = response.range_orders.challenge
                if len(self._ready) == len(self._hosts):
                    return [self._batch()]
            case "verdicts":
                self._account.enter(response.verdicts)
                self._known.update(response.verdicts.known_chains)
                return [self._hosts[verdict.host_id].inventory() for verdict in response.verdicts.verdicts]
        return []

    def _batch(self) -> attestation_pb2.AttestRequest:
        attestations = [self._hosts[host_id].attest(challenge) for host_id, challenge in self._ready.items()]
        self._account.leave(attestations)
        chains = [
            attestation_pb2.CertificateChain(certificates=gpu.chain)
            for host_id in self._ready
            for gpu in self._hosts[host_id].gpus
            if gpu.chain_id not in self._known
        ]
        self._ready.clear()
        batch = attestation_pb2.AttestationBatch(attestations=attestations, chains=chains)
        return attestation_pb2.AttestRequest(attestations=batch)


async def run_load(server: ServerProcess, hosts: Sequence[Host], per_stream: int, account: Account) -> list[str]:
    """Attest for all hosts, each stream on a connection of its own, until every stream has failed.

    Returns:
        What each stream ended with.
    """

    async def one(some: Sequence[Host]) -> str:
        async with server.channel() as channel:
            return await Relay(some, account).run(channel)

    parts = [hosts[at : at + per_stream] for at in range(0, len(hosts), per_stream)]
    return list(await asyncio.gather(*(one(part) for part in parts)))


async def import_deployments(server: ServerProcess, hosts: Sequence[Host], cadence_s: int, grace_s: int) -> None:
    """License every GPU of the hosts, as two people would."""
    row = {
        "license_number": "L-1",
        "licensee": LICENSEE,
        "valid_from": "2020-01-01",
        "valid_until": "2100-01-01",
        "presence": "country",
        "country": "SG",
        "cadence_s": cadence_s,
        "grace_s": grace_s,
    }
    rows = [{"device_pdi": gpu.device.pdi.hex(), **row} for host in hosts for gpu in host.gpus]
    options = licensing_pb2.ImportOptions(format=licensing_pb2.IMPORT_FORMAT_JSON)
    requests = (
        licensing_pb2.ImportDeploymentsRequest(options=options),
        licensing_pb2.ImportDeploymentsRequest(data=json.dumps(rows).encode()),
    )
    async with server.channel() as channel:
        response = await licensing_pb2_grpc.LicensingServiceStub(channel).ImportDeployments(iter(requests))
        assert not response.errors
        await put_in_force(channel)
    assert response.created_count == len(rows)


async def ordered_landmarks(server: ServerProcess, host: Host) -> set[bytes]:
    """Announce a host; returns the key ids of the landmarks of its first orders."""
    async with server.channel() as channel:
        call = attestation_pb2_grpc.AttestationServiceStub(channel).Attest(metadata=DEV_ROLE)
        await call.write(host.inventory())
        async for response in call:
            if response.HasField("range_orders"):
                return {order.landmark_key_id for order in response.range_orders.orders}
    raise AssertionError("no orders came")


async def replay(server: ServerProcess, old: Sequence[attestation_pb2.Attestation]) -> list[attestation_pb2.Verdict]:
    """Send old evidence again on a new stream; returns the verdicts."""
    async with server.channel() as channel:
        call = attestation_pb2_grpc.AttestationServiceStub(channel).Attest(metadata=DEV_ROLE)
        batch = attestation_pb2.AttestationBatch(attestations=old)
        await call.write(attestation_pb2.AttestRequest(attestations=batch))
        response = await call.read()
        await call.done_writing()
        assert isinstance(response, attestation_pb2.AttestResponse)
        return list(response.verdicts.verdicts)

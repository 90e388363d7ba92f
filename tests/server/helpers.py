"""A server with real certificates on loopback, and the little that a test needs of an agent."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from trigpoint.v1 import attestation_pb2, attestation_pb2_grpc, device_pb2

from server import pki
from server.app import App, Bound
from server.config import Config, load_config
from server.spiffe import Peer, Role
from server.store.errors import StoreUnavailableError
from server.store.store import Store
from server.store.types import AttestationRecord, LandmarkRecord, Unwritten
from verifier.license import Deployment, License, LicenseState, Presence
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark
from verifier.place.regions import SiteDisc
from verifier.units import CountryCode, LandmarkId, Pdi

TRUST_DOMAIN = "trigpoint.test"
LICENSEE = "Example Cloud"
OFFICER = Peer(Role.OFFICER, "ann")
AGENT = Peer(Role.AGENT, "rack 7", LICENSEE)
LANDMARK = Peer(Role.LANDMARK, "sg-1")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)

Stream = grpc.aio.StreamStreamCall[attestation_pb2.AttestRequest, attestation_pb2.AttestResponse]


def device_root() -> bytes:
    """A vendor root, PEM."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test device root")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
    )
    return builder.sign(key, hashes.SHA384()).public_bytes(Encoding.PEM)


def write_materials(folder: Path) -> None:
    """Put into `folder` what the configuration of `init` names besides what `init` makes."""
    (folder / "device-roots.pem").write_bytes(device_root())
    references = {"schema": "trigpoint-reference-values/1", "vendor": "test", "firmware": []}
    (folder / "reference-values.json").write_text(json.dumps(references))


def init_folder(folder: Path) -> Path:
    """Make a server's folder with free ports; returns the path of its configuration."""
    pki.init(folder, pki.DEFAULT_HOSTS, TRUST_DOMAIN, "127.0.0.1:0")
    write_materials(folder)
    path = folder / "server.toml"
    text = path.read_text().replace("127.0.0.1:9464", "127.0.0.1:0")
    path.write_text(text.replace("audited_within_h = 24.0", "audited_within_h = 0").replace("days = 30.0", "days = 0"))
    return path


class HeldStore(Store):
    """A real store whose commits wait, or fail, when told to."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.go = asyncio.Event()
        self.go.set()
        self.reached = asyncio.Event()
        self.fails = False
        self.raises: Exception | None = None
        self.unwritten: list[Unwritten] = []
        self.committed: list[AttestationRecord] = []

    async def commit(self, batch: Sequence[AttestationRecord]) -> Unwritten:
        self.reached.set()
        await self.go.wait()
        if self.fails:
            raise StoreUnavailableError("the disk is gone, says the test")
        if self.raises is not None:
            raise self.raises
        if self.unwritten:
            return self.unwritten.pop(0)
        unwritten = await super().commit(batch)
        self.committed.extend(batch)
        return unwritten

    async def mark_alive(self, *arguments: Any, **named: Any) -> None:
        if self.fails:
            raise StoreUnavailableError("the disk is gone, says the test")
        await super().mark_alive(*arguments, **named)


@dataclass
class Running:
    """A server that runs.

    Attributes:
        folder: Its files.
        bound: Where it listens.
        store: Its store.
        app: The server.
    """

    folder: Path
    bound: Bound
    store: HeldStore
    app: App
    issued: dict[Peer, tuple[Path, Path]] = field(default_factory=dict)

    def channel(self, peer: Peer | None) -> grpc.aio.Channel:
        """A channel with a certificate for `peer`, or without one."""
        authority = (self.folder / "ca.pem").read_bytes()
        if peer is None:
            return grpc.aio.secure_channel(self.bound.address, grpc.ssl_channel_credentials(authority))
        if peer not in self.issued:
            self.issued[peer] = pki.issue(self.folder, peer, f"peer-{len(self.issued)}")
        certificate, key = self.issued[peer]
        credentials = grpc.ssl_channel_credentials(authority, key.read_bytes(), certificate.read_bytes())
        return grpc.aio.secure_channel(self.bound.address, credentials)


@contextlib.asynccontextmanager
async def running_server(folder: Path, config: Config | None = None) -> AsyncIterator[Running]:
    """Run a server in `folder`, with mutual TLS unless `config` says otherwise."""
    config = config or load_config(init_folder(folder))
    opened: list[HeldStore] = []

    async def open_store(path: Path) -> Store:
        opened.append(await HeldStore.open(path))
        return opened[0]

    built = App.build(config)
    app = App(config, built.materials, open_store=open_store)
    async with app.running() as bound:
        yield Running(folder, bound, opened[0], app)


def pdi(number: int) -> Pdi:
    """A device's identity."""
    return Pdi(bytes([0x47] * 7 + [number]))


def deployment(device: Pdi, cadence: timedelta = timedelta(hours=1)) -> Deployment:
    """A device that may be within 1,000 km of Singapore."""
    begin, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2035, 1, 1, tzinfo=UTC)
    held = License("L-1", LICENSEE, begin, end, Presence.SITE, cadence, timedelta(hours=1), 1, LicenseState.ACTIVE)
    return Deployment(device, held, SiteDisc("Singapore", Position(1.35, 103.82), 1000.0))


def landmark_record(number: int) -> LandmarkRecord:
    """A landmark near Singapore, each of an operator of its own."""
    key = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    landmark = Landmark(
        landmark_id=LandmarkId(f"sg-{number}"),
        public_key=key,
        operator=f"operator {number}",
        hoster=f"hoster {number}",
        position=Position(1.0 + number / 10, 103.8),
        uncertainty_km=0.1,
        virtual_machine=False,
        country=CountryCode("SG"),
        revision=1,
        revised_at=NOW,
    )
    return LandmarkRecord(landmark, "map", (f"192.0.2.{number}:7000",))


def inventory(host_id: str, *devices: Pdi) -> attestation_pb2.AttestRequest:
    """The first message of a host of GPUs on one board."""
    listed = [
        attestation_pb2.InventoryDevice(
            pdi=device, kind=device_pb2.DEVICE_KIND_GPU, board="board", chain_id=hashlib.sha256(device).digest()
        )
        for device in devices
    ]
    return attestation_pb2.AttestRequest(inventory=attestation_pb2.Inventory(host_id=host_id, devices=listed))


def attestation(host_id: str, challenge: bytes, claims: bytes = b"\xff") -> attestation_pb2.AttestRequest:
    """An attestation with one report; as it stands, nobody can parse it."""
    report = attestation_pb2.DeviceReport(spdm=b"report", chain_id=bytes(32))
    evidence = attestation_pb2.Attestation(host_id=host_id, challenge=challenge, claims=claims, reports=[report])
    batch = attestation_pb2.AttestationBatch(attestations=[evidence])
    return attestation_pb2.AttestRequest(attestations=batch)


def attest(channel: grpc.aio.Channel) -> Stream:
    """Open a stream."""
    stream: Stream = attestation_pb2_grpc.AttestationServiceStub(channel).Attest()
    return stream


def health(channel: grpc.aio.Channel) -> Any:
    """A health stub; its methods are made at run time and have no types."""
    return health_pb2_grpc.HealthStub(channel)


async def check_health(channel: grpc.aio.Channel) -> health_pb2.HealthCheckResponse:
    """Ask for the server's health."""
    answer: health_pb2.HealthCheckResponse = await health(channel).Check(health_pb2.HealthCheckRequest())
    return answer


async def read(stream: Stream) -> attestation_pb2.AttestResponse:
    """The next message; fails when there is none."""
    message = await stream.read()
    assert isinstance(message, attestation_pb2.AttestResponse), "the stream ended"
    return message


async def open_challenge(stream: Stream, host_id: str, *devices: Pdi) -> bytes:
    """Announce a host; returns its challenge, after the first orders."""
    await stream.write(inventory(host_id, *devices))
    challenge = (await read(stream)).challenge
    assert challenge.host_id == host_id
    assert (await read(stream)).range_orders.challenge == challenge.challenge
    return challenge.challenge


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """The error that `call` ends with."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call did not fail")


def error_info(error: grpc.aio.AioRpcError) -> Any:
    """The google.rpc.ErrorInfo of a status."""
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info

"""A small desk: real landmarks, boards and agents, a server that looks often, and the people who work there.

People use the command line in this process; all else are processes of their own.
"""

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from trigpoint.v1 import device_pb2, licensing_pb2, licensing_pb2_grpc, reason_pb2

from demo.processes import Child, Processes, run
from demo.stage import Stage
from demo.world import LICENSEE, LandmarkSpec, ServerSpec, Spot, World
from firmware_stubs.board import move_device
from firmware_stubs.ca import DeviceCA
from firmware_stubs.client import BoardClient
from server import pki
from server.spiffe import Peer, Role
from tests.people import People, issue_certificates
from verifier.journal.notes import NoteKey, NoteSignature, parse_lines

WAIT_S = 30.0
JOURNAL = "trigpoint.example/journal"
WITNESSES = ("witness.example", "other-witness.example")
LONE_STAR, HOME = "Lone Star Timing", Spot(32.80, -96.90)
CADENCE_S, GRACE_S = 2, 6

WORLD = World(
    landmarks=(
        LandmarkSpec("dallas", LONE_STAR, "US", Spot(32.78, -96.80)),
        LandmarkSpec("fort-worth", "Prairie Exchange", "US", Spot(32.75, -97.33)),
        LandmarkSpec("hong-kong", "Harbour Metrology", "HK", Spot(22.32, 114.17)),
        LandmarkSpec("taipei", "Strait Timing", "TW", Spot(25.04, 121.56)),
    ),
    servers=(
        ServerSpec("A", "Dallas", HOME, 2, "D1234567", "site", radius_km=1000, switches=2),
        ServerSpec("B", "Dallas", HOME, 1, "D7654321", "country", country="US", switches=2),
    ),
    cadence_s=CADENCE_S,
    grace_s=GRACE_S,
    interval_s=1,
)

_SERVER_TOML = """\
[listen]
address = "127.0.0.1:0"
http_address = "127.0.0.1:0"

[tls]
certificate = "pki/server.pem"
key = "pki/server.key"
client_ca = "pki/ca.pem"
trust_domain = "trigpoint.example"

[store]
path = "trigpoint.db"

[trust]
roots = ["vendor/root.pem"]
reference_values = ["vendor/reference-values.json"]

[tickets]
key = "pki/ticket.key"

[journal]
origin = "trigpoint.example/journal"
key = "pki/journal.key"
anchor = "journal.anchor"
seal_interval_s = 0.2

witnesses = [{witnesses}]

[results]
keys = ["pki/result.key"]

# Landmarks that nobody has audited yet count here.
[place]
audited_within_h = 0
record_standing_days = 0

[attestation]
interval_s = 1
unlicensed_interval_s = 1

[desk]
sweep_interval_s = 0.2
alive_interval_s = 0.2
"""


@dataclass(slots=True)
class Desk(People):
    """The desk and all that it watches.

    Attributes:
        stage: Boards, agents, landmarks and the server.
        devices: GPUs as the server last told them, by PDI.
    """

    stage: "DeskStage" = field(kw_only=True)
    devices: dict[str, device_pb2.Device] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def folder(self) -> Path:
        """Everything is in here."""
        return self.stage.folder

    async def until(self, holds: Callable[[dict[str, device_pb2.Device]], bool]) -> None:
        """Wait until the server has told of devices that are so."""
        async with asyncio.timeout(WAIT_S):
            while not holds(self.devices):
                self._changed.clear()
                await self._changed.wait()

    async def until_told(self, ask: Callable[[], Awaitable[Any]], holds: Callable[[Any], bool]) -> Any:
        """Ask until the answer is so, and return it."""
        deadline = time.monotonic() + WAIT_S
        while True:
            answer = await ask()
            if holds(answer):
                return answer
            assert time.monotonic() < deadline, answer
            await asyncio.sleep(0.1)  # another process decides

    async def follow(self) -> None:
        """Take what WatchDevices tells eve, until cancelled."""
        async with self.channel("eve") as channel:
            stub = licensing_pb2_grpc.LicensingServiceStub(channel)
            async for response in stub.WatchDevices(licensing_pb2.WatchDevicesRequest()):
                for device in response.devices:
                    if device.kind != device_pb2.DEVICE_KIND_SWITCH:  # what has not reported yet has no kind
                        self.devices[device.name.removeprefix("devices/")] = device
                self._changed.set()


@dataclass(frozen=True, slots=True)
class StageWitness:
    """A witness that runs: where, and its key."""

    url: str
    key: NoteKey

    async def submit(self, old: int, proof: Sequence[bytes], note: bytes) -> tuple[int, tuple[NoteSignature, ...]]:
        """Ask for a cosignature; return the status and the signatures."""
        lines = "".join(f"{base64.b64encode(each).decode()}\n" for each in proof)
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{self.url}/add-checkpoint", content=f"old {old}\n{lines}\n".encode() + note)
        return answer.status_code, parse_lines(answer.content) if answer.is_success else ()


class DeskStage(Stage):
    """A stage with a server that looks often, and with everybody's certificates.

    Keys are made in this process: every start of a command costs seconds.
    """

    def __init__(self, folder: Path, processes: Processes, world: World) -> None:
        super().__init__(folder, processes, world)
        self.witnesses: list[StageWitness] = []
        self._server: Child | None = None

    async def make_vendor_and_keys(self) -> None:
        """Make the vendor, the server's CA and ticket key, and a certificate for each person and agent."""
        DeviceCA.create(self.folder / "vendor")
        folder = self.folder / "pki"
        pki.init(folder, pki.DEFAULT_HOSTS, "trigpoint.example", "127.0.0.1:0")
        issue_certificates(folder)
        for spec in self.world.servers:
            name = f"agent-{spec.key.lower()}"
            pki.issue(folder, Peer(Role.AGENT, name, LICENSEE), name)

    async def start_server(self) -> None:
        """Start it."""
        await self._start_witnesses()
        witnesses = ", ".join(f'{{ url = "{each.url}", key = "{each.key.vkey}" }}' for each in self.witnesses)
        (self.folder / "server.toml").write_text(_SERVER_TOML.replace("{witnesses}", witnesses))
        self._server = await self.start_again()
        self.address = self._server.ready["address"]

    async def start_again(self) -> Child:
        """Start the server as it is configured, on a port of its own."""
        config = self.folder / "server.toml"
        return await self.processes.start("server", "trigpoint-server", "serve", "--config", config)

    async def stop_server(self) -> None:
        """Stop it."""
        assert self._server is not None
        await self._server.stop()

    @property
    def store_path(self) -> Path:
        """The server's store."""
        return self.folder / "trigpoint.db"

    @property
    def journal_vkey(self) -> str:
        """The journal's public key."""
        return NoteKey.of(JOURNAL, pki.load_ed25519_key(self.folder / "pki" / "journal.key")).vkey

    async def _start_witnesses(self) -> None:
        for name in WITNESSES:
            folder = self.folder / name
            vkey = (await run("trigpoint-witness", "init", folder, "--name", name)).strip()
            config = folder / "witness.toml"
            text = config.read_text().replace("127.0.0.1:7460", "127.0.0.1:0")
            config.write_text(f'{text}\n[[logs]]\norigin = "{JOURNAL}"\nkeys = ["{self.journal_vkey}"]\n')
            child = await self.processes.start(name, "trigpoint-witness", "serve", "--config", config)
            self.witnesses.append(StageWitness(f"http://{child.ready['address']}", NoteKey.parse(vkey)))

    def pull(self, source: str, target: str) -> None:
        """Put a GPU into another slot, as `a/gpu-1`; its boards are off."""
        boards = self.folder / "boards"
        move_device(boards / source, boards / target)

    async def move(self, key: str, spot: Spot) -> None:
        """Carry a running board to another place."""
        await BoardClient(self.socket(key)).move(spot.latitude, spot.longitude)


@contextlib.asynccontextmanager
async def desk_in(folder: Path) -> AsyncIterator[Desk]:
    """Build the desk: landmarks are registered, boards are on, no agent runs, no license is on record."""
    processes = Processes(folder)
    stage = DeskStage(folder, processes, WORLD)
    try:
        await stage.make_vendor_and_keys()
        await stage.start_landmarks()
        await asyncio.gather(stage.start_server(), stage.start_boards())
        desk = Desk(stage.address, folder / "pki", stage=stage)
        following = asyncio.create_task(desk.follow())
        try:
            yield desk
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
    finally:
        await processes.stop_all()


async def evidence_of(board: BoardClient) -> str:
    """Have every device of a board sign one nonce; return what they say as `trigpoint verify` takes it."""
    nonce = bytes(range(32))
    entries = []
    for device in await board.devices():
        chain = [x509.load_der_x509_certificate(der) for der in await board.chain(device.pdi)]
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
        report = await board.report(device.pdi, nonce)
        entries.append(
            {
                "certificate": base64.b64encode(pem).decode(),
                "evidence": base64.b64encode(report).decode(),
                "nonce": nonce.hex(),
            }
        )
    return json.dumps(entries)


def reasons(device: device_pb2.Device) -> set[str]:
    """Return what is found about a device."""
    return {reason_pb2.Reason.Name(finding.reason).removeprefix("REASON_") for finding in device.findings}

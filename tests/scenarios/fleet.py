"""A fleet in this process under a clock of its own: emulated devices, the real pipeline, store, watch and cases.

No sockets and no sleeps: what takes days in the world takes milliseconds here. Devices sign for real; ranging is held
without a wire (tests/verifier/helpers_evidence.py), since sockets would make the clock theirs.
"""

import dataclasses
import itertools
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from firmware_stubs.ca import DeviceCA
from server.desk.able import AbleDomains
from server.desk.casework import Casework
from server.desk.sweep import Sweep
from server.intake.challenges import NO_CHECKPOINT, draw_challenge
from server.intake.fleet import Fleet
from server.intake.pipeline import Pipeline, Reporter, Submission
from server.intake.results import ResultSigner
from server.records.values import ByPdi, LicenseRecord
from server.store import LandmarkRecord, Store
from server.store.case_types import CaseFilter, CaseNews
from server.store.types import DeviceFilter, ImportRow, ProvenRange
from server.telemetry import Telemetry
from tests.verifier.helpers_evidence import (
    NEAR_NS,
    NOW,
    PROHIBITED,
    Host,
    Pillar,
    Ranged,
    borders,
    hold_session,
    make_license,
    references_document,
)
from verifier.errors import Reason
from verifier.evidence.chain import TrustRoots
from verifier.evidence.measurements import ReferenceValues
from verifier.license import LicenseState
from verifier.place.audit import PairRange
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas, Countries
from verifier.setting import Setting
from verifier.units import Challenge, CountryCode, Nanoseconds, Pdi
from verifier.verdict import Verdict
from verifier.verifier import Verifier

LICENSEE = "Example Cloud"
NODE = "node-1"
STEP = timedelta(minutes=10)
POLICY = PlacePolicy(
    atlas=Atlas.parse(borders(), "squares"),
    prohibited=PROHIBITED,
    prohibited_version="test",
    audited_within=None,
    standing_for=timedelta(0),
)


SITE = Countries(frozenset({CountryCode("XA")}))


@dataclass
class Clock:
    """A time that moves when told to."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, span: timedelta) -> datetime:
        self.now += span
        return self.now


@dataclass
class FleetBoard:
    """One board and its host, at home or abroad."""

    host_id: str
    host: Host
    agent: str
    licensee: str = LICENSEE
    abroad: bool = False
    ranges: bool = True

    @property
    def gpus(self) -> list[Pdi]:
        return [Pdi(gpu.pdi) for gpu in self.host.gpus]

    @property
    def switches(self) -> list[Pdi]:
        return [Pdi(switch.pdi) for switch in self.host.switches]

    def boot(self) -> None:
        """Switch it off and on again."""
        self.host.gpus = [gpu.powered_on() for gpu in self.host.gpus]
        self.host.switches = [switch.powered_on() for switch in self.host.switches]


class _Swept:
    """The store as the sweep sees it."""

    def __init__(self, store: Store) -> None:
        self.mark_alive = store.mark_alive
        self.sweep = store.watch.sweep


@dataclass
class MemoryFleet:
    """Boards, landmarks, and one server's parts over one store."""

    folder: Path
    store: Store
    clock: Clock
    ca: DeviceCA
    pillars: Mapping[bool, Sequence[Pillar]]
    pipeline: Pipeline
    records: Fleet
    sweep: Sweep
    casework: Casework
    boards: list[FleetBoard] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(4))

    def forget_firmware(self, name: str) -> None:
        """Go on without the reference values of one firmware."""
        references = ReferenceValues.parse([json.dumps(references_document(without=name)).encode()])
        self.pipeline = _pipeline(self.store, self.records, _verifier(self.ca, references), Telemetry())

    def add_board(self, name: str, *, gpus: int = 2, switches: int = 1, agent: str = "") -> FleetBoard:
        """Manufacture a board. Nothing is on record of it."""
        host = Host.build(self.folder / name, self.ca, gpus, switches)
        board = FleetBoard(name, host, agent or f"agent of {name}")
        self.boards.append(board)
        return board

    async def license(self, number: str, boards: Sequence[FleetBoard], **terms: Any) -> None:
        """Put a license in force, with each board at a site of its own in the one country that is home."""
        held = dataclasses.replace(make_license(), number=number, **terms)
        rows = [
            ImportRow(ByPdi(gpu), LicenseRecord(held), f"Site of {board.host_id}", SITE)
            for board in boards
            for gpu in board.gpus
        ]
        await self.store.import_deployments(rows, self.clock.now, by="ann", reason="test", state=LicenseState.ACTIVE)

    async def attest(self, board: FleetBoard, **bent: Any) -> Verdict:
        """Have one host answer one challenge, and return the durable verdict; `bent` as in `Host.attest`."""
        snapshot = await self.records.current()
        drawn = draw_challenge(board.host_id, self.clock.now, NO_CHECKPOINT)
        challenge = drawn.issued.challenge
        ranged: dict[int, list[Ranged]] = {}
        if board.ranges:
            gpus = range(len(board.host.gpus))
            # One GPU of a board, each card without one (docs/protocol.md B2).
            for index in [self.rng.choice(gpus)] if board.host.switches else gpus:
                rtt_ns = NEAR_NS + self.rng.randrange(100_000)
                ranged[index] = [
                    hold_session(pillar, challenge, rtt_ns, salt=bytes([index]))
                    for pillar in self.pillars[board.abroad]
                ]
        evidence, chains = board.host.attest(ranged=ranged, challenge=challenge, host_id=board.host_id, **bent)
        self.clock.pass_by(timedelta(seconds=1))
        submission = Submission(evidence, (drawn, snapshot), frozenset())
        reporter = Reporter(board.agent, board.licensee)
        sent = [tuple(chain) for chain in chains.values()]
        answers, _ = await self.pipeline.process([submission], sent, reporter, self.clock.now)
        return answers[0].verdict

    async def round(self, *but: FleetBoard) -> None:
        """Have every board attest, but these."""
        for board in self.boards:
            if board not in but:
                await self.attest(board)

    async def desk(self) -> CaseNews:
        """Let the watch and the casework have one look; returns what somebody should hear of."""
        await self.sweep.sweep_once()
        return await self.casework.run_once()

    async def pass_by(self, span: timedelta, *, up: bool = True) -> CaseNews:
        """Let time pass in steps in which the service is up, or in which it is not, then have the desk look."""
        end = self.clock.now + span
        while up and self.clock.now + STEP < end:
            self.clock.pass_by(STEP)
            await self.store.mark_alive(NODE, self.clock.now, longest_pause=2 * STEP)
            await self._audit()
        self.clock.now = end
        return await self.desk()

    async def _audit(self) -> None:
        """Have landmarks range each other, as they do all day; what is kept of it here is that they were up."""
        ids = [pillar.record.landmark_id for pillar in self.pillars[False]]
        pairs = [PairRange(by, of, Nanoseconds(1_000_000)) for by, of in itertools.permutations(ids, 2)]
        at = self.clock.now
        await self.store.record_ranges([ProvenRange(p, at, Challenge(bytes(32)), b"", b"", bytes(8)) for p in pairs])

    async def cases(self) -> list[str]:
        """Return the cases that are not resolved: event and how many devices have findings of it open."""
        page = await self.store.cases.list(CaseFilter(), limit=1_000)
        return [f"{case.event.name} {case.devices_open}" for case in page.cases]

    async def findings(self) -> dict[str, list[Reason]]:
        """Return open findings by host and device, as officers see them."""
        page = await self.store.list_devices(DeviceFilter(), limit=100_000)
        names = {gpu: f"{board.host_id}/{k}" for board in self.boards for k, gpu in enumerate(board.gpus)}
        return {
            names.get(device.pdi, device.pdi.hex()): [stands.finding.reason for stands in device.findings]
            for device in page.devices
            if device.findings
        }


@asynccontextmanager
async def memory_fleet(folder: Path) -> AsyncIterator[MemoryFleet]:
    """A store, a pipeline, six landmarks (three at home, three abroad) on record, and no board yet."""
    store = await Store.open(folder / "store.sqlite")
    try:
        ca = DeviceCA.generate()
        clock = Clock()
        pillars = {
            abroad: [Pillar.at(f"{name}-{k}", 10.0 + k / 10, longitude) for k in range(3)]
            for abroad, name, longitude in ((False, "home", 10.0), (True, "abroad", 110.0))
        }
        records = [LandmarkRecord(p.record, "", ("192.0.2.1:7000",)) for some in pillars.values() for p in some]
        await store.import_landmarks(records, NOW - timedelta(days=60))
        fleet = Fleet(store, refresh_every_s=0.0)
        references = ReferenceValues.parse([json.dumps(references_document()).encode()])
        verifier = _verifier(ca, references)
        telemetry = Telemetry()
        pipeline = _pipeline(store, fleet, verifier, telemetry)
        casework = Casework(store.cases, clock, telemetry)
        able = AbleDomains(store.watch, POLICY)
        # Marks are as far apart as the steps of this clock.
        sweep = Sweep(_Swept(store), able, NODE, STEP, STEP, clock, casework.swept)
        yield MemoryFleet(folder, store, clock, ca, pillars, pipeline, fleet, sweep, casework)
    finally:
        await store.close()


def _pipeline(store: Store, fleet: Fleet, verifier: Verifier, telemetry: Telemetry) -> Pipeline:
    signer = ResultSigner([ec.generate_private_key(ec.SECP256R1())], issuer="", developer="Trigpoint")
    return Pipeline(store, fleet, verifier, Setting.of(POLICY, ()), signer, telemetry, 1 << 30)


def _verifier(ca: DeviceCA, references: ReferenceValues) -> Verifier:
    roots = TrustRoots(frozenset({ca.root.certificate.public_bytes(Encoding.DER)}))
    return Verifier(roots, references, POLICY)

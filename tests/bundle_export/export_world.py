"""A store with a case: a host whose devices are of two jurisdictions, its attestations, and who approved what."""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Table, insert

from server.records.values import ByPdi, DeploymentRecord, LicenseRecord, PartyRole, Site
from server.store import Store
from server.store.bundle_rows import case_rows
from server.store.bundle_types import Bounds, BundleRow, CaseRows
from server.store.journal_types import SignedCheckpoint
from server.store.schema import EXHIBITS, MATERIALS
from server.store.types import AttestationRecord, ProvenRange
from server.times import micros
from tests.store.desk_world import in_force, put, terms_of
from tests.store.record_world import ACME, approve
from tests.store.store_world import GERMANY, HOUR, START, device, finding, fix, landmark, pdi, record
from verifier import cbor
from verifier.basis import Basis
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.evidence.claims import PROFILE
from verifier.journal import notes
from verifier.journal.checkpoints import Checkpoint
from verifier.place.audit import PairRange
from verifier.units import Challenge, Nanoseconds
from verifier.verdict import DeviceVerdict

ORIGIN = "journal.example/test"
KEY = Ed25519PrivateKey.from_private_bytes(b"\7" * 32)
JWKS = b'{"keys":[]}'
BORDERS, OTHER_BORDERS = b"borders " * 100, b"older borders"

GERMAN, ALSO_GERMAN, FOREIGN, SWITCH = 1, 2, 3, 9
ON_HOST = (GERMAN, ALSO_GERMAN, FOREIGN)
BEFORE = START - 9 * HOUR
OUTSIDE = Reason.OUTSIDE_LICENSED_REGION
Contents = dict[str, object]


@dataclass
class Signer:
    """Signs checkpoints of a store, as the server's sealer does."""

    store: Store
    key: Ed25519PrivateKey = KEY
    sealed: int = 0

    async def seal(self, *, patient: bool = False) -> SignedCheckpoint:
        assert patient
        self.sealed += 1
        size, root = await self.store.journal.state()
        note = bytes(notes.sign(Checkpoint(ORIGIN, size, root).text, ORIGIN, self.key)).decode()
        await self.store.journal.keep_checkpoint(size, datetime.now(UTC), note)
        newest = await self.store.journal.newest()
        assert newest is not None
        return newest


@dataclass
class ExportWorld:
    """A store, and attestations in the order of arrival.

    Attributes:
        store: The store.
        signer: Signs its checkpoints.
        reports: Challenges by what they are called.
        checkpoints: The checkpoint that each of them names.
    """

    store: Store
    signer: Signer
    reports: dict[str, Challenge] = field(default_factory=dict)
    checkpoints: dict[str, bytes] = field(default_factory=dict)

    async def attest(
        self,
        name: str,
        at: datetime,
        devices: Sequence[DeviceVerdict],
        *,
        asked: Iterable[str] = ("fra-1", "fra-2"),
        materials: Iterable[bytes] = (BORDERS,),
        drawn: Mapping[int, bytes] | None = None,
    ) -> None:
        """Commit an attestation under the newest checkpoint and the records that stand."""
        signed = await self.signer.seal(patient=True)
        preimage = hashlib.sha256(name.encode()).digest() + signed.hash
        challenge = Challenge(hashlib.sha256(b"trigpoint-challenge-v1\0" + preimage).digest())
        number = await self.store.records_number()
        self.reports[name], self.checkpoints[name] = challenge, signed.hash
        last = (await self.store.load_inputs([each.pdi for each in devices], number)).last
        made = record(at, devices, challenge=challenge, as_of=number, based_on=last)
        setting = {"materials": [["borders", hashlib.sha256(data).hexdigest()] for data in materials]}
        common = json.dumps({"records": number, "setting": setting, "padding": "x" * 300})
        made = replace(
            made,
            preimage=preimage,
            attestation=replace(made.attestation, claims=claims_of(made, asked)),
            basis=Basis(common, {each.pdi: basis_of(each, drawn or {}) for each in devices}),
            result=result_of(devices),
        )
        unwritten = await self.store.commit([made])
        assert not unwritten.spent
        assert not unwritten.stale

    async def rows(self, jurisdiction: str | None = None, bounds: Bounds | None = None, number: int = 1) -> CaseRows:
        found = await self.store._read(lambda connection: case_rows(connection, number, jurisdiction, bounds))
        assert found is not None
        return found

    async def insert(self, table: Table, values: Contents) -> None:
        def change(connection: Connection) -> None:
            connection.execute(insert(table), values)

        await self.store._write(change)


def claims_of(made: AttestationRecord, asked: Iterable[str]) -> bytes:
    """Claims that name the devices, with one answered range for each landmark but the last, which did not answer."""
    keys = [landmark_key_id(name) for name in asked]
    ranges: list[list[object]] = [[0, key, bytes(8), b"receipt"] for key in keys[:-1]]
    ranges += [[0, key, 1] for key in keys[-1:]]
    return cbor.encode(
        {
            10: made.verdict.challenge,
            265: PROFILE,
            -70001: made.verdict.host_id,
            -70002: 1_780_000_000,
            -70003: [each.pdi for each in made.verdict.devices],
            -70004: ranges,
        }
    )


def basis_of(device: DeviceVerdict, drawn: Mapping[int, bytes]) -> str:
    """What a verdict was given of a device, as far as the store reads it: a drawn region is named by its hash."""
    region = drawn.get(int.from_bytes(device.pdi, "big"))
    if region is None:
        return json.dumps({"deployment": None, "last": None})
    return json.dumps({"deployment": {"region": {"sha256": hashlib.sha256(region).hexdigest()}}, "last": None})


def landmark_key_id(name: str) -> bytes:
    return hashlib.sha256(landmark(name).landmark.public_key).digest()


def result_of(devices: Iterable[DeviceVerdict]) -> str:
    """A result as the store reads it: nobody checks its signature there."""
    named = {each.pdi.hex(): {"padding": "x" * 100} for each in devices}
    payload = base64.urlsafe_b64encode(json.dumps({"submods": named}).encode()).rstrip(b"=").decode()
    return f"head.{payload}.signature"


def board(*, outside: Iterable[int] = (), proven: bool = False, without: Iterable[int] = ()) -> list[DeviceVerdict]:
    """The host's devices: three GPUs and a switch."""
    bad = set(outside)
    gpus = [
        device(number, *([finding(OUTSIDE)] if number in bad else []), located=fix() if proven else None)
        for number in ON_HOST
        if number not in set(without)
    ]
    return [*gpus, device(SWITCH, kind=DeviceKind.SWITCH)]


async def add_records(store: Store) -> None:
    """D1 has a German site with two devices, D2 one in Singapore with one; two people brought both into force."""
    await put(store, ACME, now=BEFORE)
    for number, site_id, jurisdiction, devices in (
        ("D1", "fra", "DE", (GERMAN, ALSO_GERMAN)),
        ("D2", "sin", "SG", (FOREIGN,)),
    ):
        held = await in_force(store, terms_of(number), now=BEFORE)
        parties = ((ACME.party_id, PartyRole.LICENSEE),) if number == "D1" else ()
        await put(store, LicenseRecord(held, parties), now=BEFORE)
        await put(store, Site(number, site_id, f"Hall {site_id}", GERMANY, "1 Road", jurisdiction), now=BEFORE)
        await put(store, *(DeploymentRecord(ByPdi(pdi(each)), number, site_id) for each in devices), now=BEFORE)


async def add_landmarks(store: Store) -> None:
    """Three landmarks that two people approved; two have ranged each other, and one of them the third."""
    given = [landmark(name, operator=f"operator {name}") for name in ("fra-1", "fra-2", "sin-1")]
    proposed = await store.records.propose_landmarks(given, ["3 landmarks"], "ann", "survey", BEFORE)
    await approve(store, proposed, now=BEFORE)
    ids = [each.landmark.landmark_id for each in given]
    pairs = [PairRange(ids[a], ids[b], Nanoseconds(1_000_000)) for a, b in ((0, 1), (1, 0), (0, 2))]
    proof = Challenge(bytes(32)), b"receipt", b"statement", bytes(8)
    await store.record_ranges([ProvenRange(pair, START, *proof) for pair in pairs])


async def made_world(path: Path) -> ExportWorld:
    """Case 1 is of device 1, which was outside twice; the host reported before, between and after."""
    store = await Store.open(path)
    world = ExportWorld(store, Signer(store))
    for kind, data in (("borders", BORDERS), ("borders", OTHER_BORDERS)):
        digest = hashlib.sha256(data).digest()
        values: Contents = {"sha256": digest, "kind": kind, "name": "borders", "data": data, "since": 1}
        await world.insert(MATERIALS, values)
    await add_landmarks(store)
    await add_records(store)
    await world.attest("proof", START, board(proven=True))
    await world.attest("idle", START + HOUR, board())
    await world.attest("before", START + 2 * HOUR, board())
    await world.attest("opened", START + 3 * HOUR, board(outside=[GERMAN]))
    await world.attest("stands", START + 4 * HOUR, board(outside=[GERMAN]))
    await world.attest("ended", START + 5 * HOUR, board())
    await world.attest("between", START + 6 * HOUR, board())
    await world.attest("newest", START + 7 * HOUR, board(), asked=("fra-1",))
    await store.cases.take_findings(START + 8 * HOUR)
    return world


async def add_exhibit(world: ExportWorld, data: bytes | None, exhibit: int = 1) -> None:
    """What the licensee says to case 1."""
    values: Contents = {
        "subject": "cases/1",
        "exhibit": exhibit,
        "at": micros(START),
        "by": "officer/ann",
        "on_behalf_of": "Example Cloud",
        "statement": "It was a test.",
        "file_name": "log.txt",
        "media_type": "text/plain",
        "data": data,
        "answered_at": None,
        "answered_by": "",
        "answer": "",
    }
    await world.insert(EXHIBITS, values)


def keys(rows: CaseRows, table: str, *, withheld: bool | None = None) -> list[tuple[Any, ...]]:
    """Primary keys of the rows of a table, sorted."""
    return sorted(row.key.key for row in of_table(rows, table) if withheld is None or bool(row.withheld) == withheld)


def of_table(rows: CaseRows, table: str) -> list[BundleRow]:
    return [row for row in rows.rows if row.key.table == table]

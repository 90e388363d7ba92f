"""What the store exports is what the offline reader shows: two writers of one format (docs/protocol.md §18).

Devices, landmarks, verifier, results and journal are real; a board is proven at home, and found abroad an hour later.
"""

import base64
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from console.offline_bundle.check import Outcome, check_bundle, load_trust
from console.offline_bundle.ledger import State
from firmware_stubs.ca import DeviceCA
from server.desk.bundle import CaseExporter, ExportOrder
from server.intake.results import ResultSigner
from server.records.values import ByPdi, DeploymentRecord, LicenseRecord, Site
from server.store import Store
from server.store.case_types import CaseEvent, CaseFilter
from server.store.types import AttestationRecord, LandmarkRecord
from tests.bundle_export.export_world import KEY, ORIGIN, Signer
from tests.store.desk_world import put, set_state
from tests.store.record_world import approve
from tests.verifier.helpers_evidence import (
    HOST,
    LICENSED,
    NEAR_NS,
    NOW,
    Host,
    Pillar,
    borders,
    hold_session,
    make_license,
    references_document,
)
from verifier.basis import write_basis
from verifier.evidence.attestation import IssuedChallenge
from verifier.evidence.measurements import ReferenceValues
from verifier.journal.notes import NoteKey
from verifier.license import LicenseState, Presence
from verifier.place.groups import parse_groups
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas, Polygon
from verifier.setting import BORDERS, COUNTRY_GROUPS, REFERENCE_VALUES, ROOT, Material, Setting
from verifier.units import Challenge, Pdi
from verifier.verdict import Verdict
from verifier.verifier import Inputs, Verifier

HOUR = timedelta(hours=1)
BEFORE = NOW - timedelta(days=60)
GROUPS = b"group,iso2,as_of,source,sureness\n" + b"".join(
    f"{group},{code},2026-01-01,nowhere,high\n".encode()
    for group, code in (("D:5", "XB"), ("E:1", "XB"), ("E:2", "XB"))
)
_ZIGZAG = tuple((9.0 + k / 1_000, 9.0 + (k % 2) / 10) for k in range(200))
YARD = Polygon("Yard", ((*_ZIGZAG, (9.2, 12.0), (9.0, 12.0)),))
"""Drawn so finely that verdicts name it by its hash."""


def squares() -> bytes:
    """XA and XB of the helpers, and far away those that are always prohibited."""
    collection = json.loads(borders())
    for number, properties in enumerate(({"iso1A2": "HK"}, {"iso1A2": "MO"}, {"wikidata": "Q7835"})):
        west, south = 40.0 + 4 * number, -60.0
        ring = [[west, south], [west + 1, south], [west + 1, south + 1], [west, south]]
        geometry = {"type": "MultiPolygon", "coordinates": [[ring]]}
        collection["features"].append({"type": "Feature", "properties": properties, "geometry": geometry})
    return json.dumps(collection).encode()


@dataclass
class Service:
    """The service's side: what intake, store and journal do with a host's evidence."""

    store: Store
    signer: Signer
    host: Host
    files: tuple[Material, ...]
    policy: PlacePolicy
    results: ResultSigner

    @classmethod
    async def build(cls, folder: Path) -> "Service":
        host = Host.build(folder / "host", DeviceCA.generate())
        groups = parse_groups(GROUPS, "lists of the test")
        atlas = Atlas.parse(squares(), "squares", groups.members)
        policy = PlacePolicy(atlas, groups.prohibited(), groups.version, audited_within=None, standing_for=timedelta(0))
        files = (
            Material(BORDERS, "squares", squares()),
            Material(COUNTRY_GROUPS, groups.version, GROUPS),
            Material(REFERENCE_VALUES, "stub.json", json.dumps(references_document()).encode()),
            Material(ROOT, "root.pem", host.ca.root.certificate.public_bytes(Encoding.PEM)),
        )
        store = await Store.open(folder / "trigpoint.db")
        results = ResultSigner([ec.generate_private_key(ec.SECP256R1())], issuer="https://x.example", developer="us")
        made = cls(store, Signer(store), host, files, policy, results)
        await store.keep_materials(files, BEFORE)
        await made._put_on_record()
        return made

    async def _put_on_record(self) -> None:
        given = [LandmarkRecord(p.record, "map", ("192.0.2.1:7",)) for p in (*self.host.home, *self.host.abroad)]
        proposed = await self.store.records.propose_landmarks(given, ["landmarks"], "ann", "survey", BEFORE)
        await approve(self.store, proposed, now=BEFORE)
        for gpu, site_id, country, presence, region in (
            (self.host.gpus[0], "ours", "XA", Presence.COUNTRY, LICENSED),
            (self.host.gpus[1], "theirs", "XC", Presence.OUTSIDE_PROHIBITED, YARD),
        ):
            terms = replace(make_license(presence), number=f"D-{site_id}", state=LicenseState.DRAFT)
            site = Site(terms.number, site_id, site_id, region, "", country)
            await put(self.store, LicenseRecord(terms), site, now=BEFORE)
            await set_state(self.store, LicenseState.ACTIVE, terms.number, now=BEFORE)
            await put(self.store, DeploymentRecord(ByPdi(Pdi(gpu.pdi)), terms.number, site_id), now=BEFORE)

    async def attest(self, hours: int, pillars: list[Pillar]) -> Verdict:
        at = NOW + hours * HOUR
        signed = await self.signer.seal(patient=True)
        preimage = hashlib.sha256(str(at).encode()).digest() + signed.hash
        challenge = Challenge(hashlib.sha256(b"trigpoint-challenge-v1\0" + preimage).digest())
        ranged = {0: [hold_session(pillar, challenge, NEAR_NS) for pillar in pillars]}
        attestation, chains = self.host.attest(ranged=ranged, challenge=challenge)
        number = await self.store.records_number()
        loaded = await self.store.load_inputs([Pdi(each.pdi) for each in self.host.devices], number)
        inputs = Inputs(
            now=at,
            challenge=IssuedChallenge(challenge, HOST, at - timedelta(seconds=10)),
            reporter_licensee="Example Cloud",
            chains=chains,
            landmarks=LandmarkRegistry.build(await self.store.load_landmarks()),
            deployments=loaded.deployments,
            last=loaded.last,
            adoptions=loaded.adoptions,
        )
        references = ReferenceValues.parse([self.files[2].data])
        verdict = Verifier(self.host.roots, references, self.policy).verify(attestation, inputs)
        made = AttestationRecord(
            verdict=verdict,
            attestation=attestation,
            issued=inputs.challenge,
            preimage=preimage,
            agent="rack-7",
            licensee="Example Cloud",
            new_chains=chains,
            based_on=loaded.last,
            as_of=number,
            basis=write_basis(verdict, inputs, attestation, Setting.of(self.policy, self.files), number),
            result=self.results.sign(verdict, inputs),
        )
        unwritten = await self.store.commit([made])
        assert not unwritten.spent
        assert not unwritten.stale
        return verdict

    async def export(self, number: int, jurisdiction: str | None = None) -> bytes:
        exporter = CaseExporter(self.store, self.signer, KEY, ORIGIN, self.results.jwks())
        order = ExportOrder(number, "officer/ann", None, jurisdiction, "for a court")
        async with exporter.exported(order, NOW + 9 * HOUR) as bundle:
            return b"".join([piece async for piece in bundle.pieces()])

    def check(self, file: bytes) -> Outcome:
        root = self.host.ca.root.certificate.public_bytes(Encoding.DER)
        vkey = NoteKey.of(ORIGIN, KEY).vkey
        return check_bundle(file, load_trust(vkey, [hashlib.sha256(root).hexdigest()], [], [], None))


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    made = await Service.build(tmp_path)
    proven = await made.attest(0, made.host.home)
    assert all(device.presence_proven for device in proven.devices if device.standing is not None)
    await made.attest(1, made.host.abroad)
    await made.store.cases.take_findings(NOW + 2 * HOUR)
    yield made
    await made.store.close()


async def case_of(service: Service, jurisdiction: str) -> int:
    """The case of the site of this country."""
    page = await service.store.cases.list(CaseFilter(jurisdiction=jurisdiction, event=CaseEvent.ELSEWHERE))
    (case,) = page.cases
    return case.number


def told(outcome: Outcome) -> str:
    checks = "\n".join(f"{check.state.name} {check.part.name} {check.text}" for check in outcome.checks)
    return "\n".join([checks, *outcome.aloud, *outcome.not_shown])


async def test_what_is_exported_is_shown(service: Service) -> None:
    outcome = service.check(await service.export(await case_of(service, "XA")))
    assert outcome.refused == (), told(outcome)
    assert outcome.bundle is not None
    assert len(outcome.found) == 2
    states = {check.state for check in outcome.checks}
    assert states == {State.SHOWN}, told(outcome)


async def test_what_is_redacted_is_shown_and_tells_nothing_of_others(service: Service) -> None:
    number = await case_of(service, "XA")
    whole, redacted = await service.export(number), await service.export(number, "XA")
    told_of = [secret in text for text in (read(whole), read(redacted)) for secret in (b"D-theirs", b"Yard")]
    assert told_of == [True, True, False, False]
    outcome = service.check(redacted)
    assert outcome.refused == (), told(outcome)
    assert "WITHHELD" in told(outcome)


def read(file: bytes) -> bytes:
    """All that can be read in a bundle."""
    text = gzip.decompress(file.split(b"\n\n", 2)[2])
    body = json.loads(text)
    hidden = [*body["values"].values(), *(each["data"] for each in body["materials"].values())]
    results = [data for data in map(base64.b64decode, hidden) if data.count(b".") == 2]
    inside = [base64.urlsafe_b64decode(data.split(b".")[1] + b"==") for data in results]
    return b"\n".join([text, *map(base64.b64decode, hidden), *inside])


async def test_a_flipped_byte_is_refused(service: Service) -> None:
    file = await service.export(await case_of(service, "XA"))
    for at in (10, len(file) // 2, len(file) - 1):
        flipped = file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]
        assert service.check(flipped).refused

"""One case in a world of two countries: a board that was licensed to XA, proven there, and found in XB an hour later.

Everything is real but small: emulated devices, landmarks that sign, the verifier, and a journal made by journal_log.py.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from firmware_stubs.ca import DeviceCA
from firmware_stubs.device import Device
from server.intake.results import ResultSigner
from tests.bundle_verify.journal_log import Draft, Log, Signer, Value, b64, digest, draft
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
    sign1,
)
from verifier.basis import write_basis
from verifier.continuity import DeviceState
from verifier.evidence.attestation import IssuedChallenge
from verifier.evidence.measurements import ReferenceValues
from verifier.license import Adoption, BoardSwap, Deployment, License
from verifier.place.groups import parse_groups
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.region_json import region_to_json
from verifier.place.regions import Atlas, Region
from verifier.setting import BORDERS, COUNTRY_GROUPS, REFERENCE_VALUES, ROOT, Material, Setting
from verifier.units import Challenge, Domain, Pdi
from verifier.verdict import Verdict
from verifier.verdict_json import findings_to_json, fix_to_json, report_rejections_to_json, void_ranges_to_json
from verifier.verifier import Inputs, Verifier

ORIGIN = "trigpoint.example/journal"
CASE = 7
LICENSE = "D123456"
SITE = "hall-7"
FIRST, SECOND = NOW - timedelta(hours=1), NOW
RECORDS = 3
"""Number of the records that both verdicts were made under."""

Row = tuple[str, Mapping[str, Value]]
Bend = Callable[[str, dict[str, Value]], Mapping[str, Value]]

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)
GROUPS = b"group,iso2,as_of,source,sureness\n" + b"".join(
    f"{group},{code},2026-01-01,nowhere,high\n".encode()
    for group, code in (("D:5", "XB"), ("E:1", "XB"), ("E:2", "XB"), ("A:5", "XA"))
)


def us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def world() -> bytes:
    """XA and XB of the helpers, and far away those that are always prohibited."""
    collection = json.loads(borders())
    for number, properties in enumerate(({"iso1A2": "HK"}, {"iso1A2": "MO"}, {"wikidata": "Q7835"})):
        west, south = 40.0 + 4 * number, -60.0
        ring = [[west, south], [west + 1, south], [west + 1, south + 1], [west, south]]
        geometry = {"type": "MultiPolygon", "coordinates": [[ring]]}
        collection["features"].append({"type": "Feature", "properties": properties, "geometry": geometry})
    return json.dumps(collection).encode()


def packed(parts: Sequence[bytes]) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def key_of(device: Device) -> bytes:
    """I4: H(DER SubjectPublicKeyInfo of [1])."""
    key = x509.load_der_x509_certificate(device.chain_der()[1]).public_key()
    return digest(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@functools.cache
def result_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def device_ca() -> DeviceCA:
    return DeviceCA.generate()


@dataclass(frozen=True)
class Attested:
    """One attestation with all that it rests on."""

    preimage: bytes
    inputs: Inputs
    verdict: Verdict
    rows: tuple[Row, ...]


class BundleWorld:
    """The service's side of the case: what its store and its journal would hold.

    Args:
        folder: For the devices.
        policy: Changes of the place policy.
        terms: Changes of the license, alike in its record and in what the verifier is given.
        abroad_ns: Round trip to the landmarks of XB in the second attestation.
        bend: Changes a row before it is journaled: what a service that lies would write.
        more: Rows that are journaled besides, with the records.
        named: Checkpoint that the second challenge names, in place of the newest.
        undeployed: The verifier is given no deployments, though they are on record.
        by: How devices are deployed: by `pdi`, by `key`, or by `board`.
        region: The site's.
        swap: On record of every deployment by PDI.
        records: Number of the records that verdicts name.
    """

    def __init__(
        self,
        folder: Path,
        *,
        policy: Mapping[str, Any] | None = None,
        terms: Mapping[str, Any] | None = None,
        abroad_ns: int = NEAR_NS,
        bend: Bend = lambda _, columns: columns,
        more: Sequence[Row] = (),
        named: bytes | None = None,
        undeployed: bool = False,
        by: str = "pdi",
        region: Region = LICENSED,
        swap: BoardSwap | None = None,
        records: int | None = RECORDS,
    ) -> None:
        self._by, self._region, self._swap, self._records = by, region, swap, records
        self._undeployed = undeployed
        self._bend = bend
        self._named = named
        self.journal = Signer(ORIGIN)
        self.witnesses = (Signer("w1.example", cosigns=True), Signer("w2.example", cosigns=True))
        self.host = Host.build(folder / "host", device_ca())
        self.operator = Signer("operator")
        self.license: License = replace(make_license(), **(terms or {}))
        self.log = Log(self.journal)
        self.files = self._files()
        groups = parse_groups(GROUPS, "lists of the test")
        self.policy = replace(
            PlacePolicy(
                atlas=Atlas.parse(self.files[0].data, "squares", groups.members),
                prohibited=groups.prohibited(),
                prohibited_version=groups.version,
            ),
            **(policy or {}),
        )
        references = ReferenceValues.parse([self.files[2].data])
        self.verifier = Verifier(self.host.roots, references, self.policy)
        self.signer = ResultSigner([result_key()], issuer="https://trigpoint.example", developer="the test")
        self.registry = self._registry()

        begun = us(FIRST) - 3_000_000_000
        self._write(begun, self._meta(1))
        self._write(begun + 1, *self._landmark_rows())
        self._write(begun + 2, *self._record_rows(), *more)
        self.checkpoints = [len(self.log.leaves)]
        self.first = self._attest(FIRST, self.host.home, NEAR_NS, {})
        self._commit(FIRST, self.first)
        self.checkpoints.append(len(self.log.leaves))
        last = {device.pdi: device.state for device in self.first.verdict.devices}
        self.second = self._attest(SECOND, self.host.abroad, abroad_ns, last)
        self._commit(SECOND, self.second)
        self._write(us(SECOND) + 5, *self._case_rows())
        self._write(us(SECOND) + 6, self._meta(2))

    def _write(self, at_us: int, *rows: Row) -> None:
        self.log.write(at_us, *((table, self._bend(table, dict(columns))) for table, columns in rows))

    @property
    def fingerprint(self) -> str:
        return digest(self.host.ca.root.certificate.public_bytes(Encoding.DER)).hex()

    @property
    def trust(self) -> list[str]:
        """Options of the command: the keys that a reader has."""
        return [
            *("--journal-key", self.journal.vkey),
            *("--root-fingerprint", self.fingerprint),
            *(word for witness in self.witnesses for word in ("--witness", witness.vkey)),
        ]

    def draft(self, **changes: Any) -> Draft:
        """The whole bundle, honest."""
        given: dict[str, Any] = {
            "exported": {
                "at": us(SECOND) + 60_000_000,
                "by": "officer/ann",
                "jurisdiction": "",
                "reason": "for a court",
            },
            "earlier": self.checkpoints,
            "materials": {each.sha256.hex(): {"kind": each.kind, "data": b64(each.data)} for each in self.files},
            "results": json.loads(self.signer.jwks()),
            "witnesses": self.witnesses,
            "time_s": us(SECOND) // 1_000_000 + 30,
        }
        return draft(self.log, CASE, **{**given, **changes})

    def bundle(self) -> bytes:
        return self.draft().written()

    def _files(self) -> tuple[Material, ...]:
        return (
            Material(BORDERS, "squares", world()),
            Material(COUNTRY_GROUPS, "lists of the test", GROUPS),
            Material(REFERENCE_VALUES, "stub.json", json.dumps(references_document()).encode()),
            Material(ROOT, "root.pem", self.host.ca.root.certificate.public_bytes(Encoding.PEM)),
        )

    def _registry(self) -> LandmarkRegistry:
        """Each landmark was ranged by the two others near it, ten minutes before the first attestation."""
        at = FIRST - timedelta(minutes=10)
        made: list[Landmark] = []
        for group in (self.host.home, self.host.abroad):
            for pillar in group:
                others = sorted(f"hoster of {p.record.landmark_id}" for p in group if p is not pillar)
                made.append(replace(pillar.record, ranged_by=tuple((Domain(name), at) for name in others)))
        return LandmarkRegistry.build(made)

    # rows

    def _meta(self, value: int) -> Row:
        return "meta", {"name": "changes", "value": value}

    def _landmark_rows(self) -> list[Row]:
        rows: list[Row] = []
        for pillar in (*self.host.home, *self.host.abroad):
            record = pillar.record
            rows.append(
                (
                    "landmark_revisions",
                    {
                        "landmark_id": record.landmark_id,
                        "revision": record.revision,
                        "revised_at": us(record.revised_at),
                        "public_key": record.public_key,
                        "operator": record.operator,
                        "hoster": record.hoster,
                        "latitude": record.position.latitude,
                        "longitude": record.position.longitude,
                        "uncertainty_km": record.uncertainty_km,
                        "survey_method": "map",
                        "virtual_machine": 0,
                        "endpoints": "192.0.2.1:7000",
                        "country": record.country,
                        "valid_from": None,
                        "valid_until": None,
                        "operator_key": self.operator.typed[1:],
                        "operator_signature": self._operator_signature(record),
                    },
                )
            )
        for group in (self.host.home, self.host.abroad):
            rows += [self._pair_row(of, by) for of in group for by in group if of is not by]
        return rows

    def _operator_signature(self, record: Landmark) -> bytes:
        content = {
            1: record.landmark_id,
            2: record.public_key,
            3: record.operator,
            4: record.hoster,
            5: round(record.position.latitude * 10_000_000),
            6: round(record.position.longitude * 10_000_000),
            7: round(record.uncertainty_km * 1_000),
            8: "map",
            9: False,
            10: record.country,
        }
        payload = cbor2.dumps(content, canonical=True)
        return sign1(self.operator.key, payload, b"trigpoint-landmark-v1\0")

    def _pair_row(self, of: Pillar, by: Pillar) -> Row:
        challenge = digest(b"pair", of.record.key_id, by.record.key_id)
        held = hold_session(by, challenge, NEAR_NS)
        at = us(FIRST) - 600_000_000
        return "landmark_ranges", {
            "of_id": of.record.landmark_id,
            "by_id": by.record.landmark_id,
            "latest_at": at,
            "least_at": at,
            "least_rtt_ns": NEAR_NS,
            "challenge": challenge,
            "receipt": held.receipt,
            "statement": sign1(of.key, held.log_entry, b"trigpoint-prover-v1\0"),
            "answered": held.mask,
        }

    def _record_rows(self) -> list[Row]:
        held = self.license
        license_ = {
            "licensee": held.licensee,
            "state": held.state.name,
            "valid_from": us(held.valid_from),
            "valid_until": us(held.valid_until),
            "presence": held.presence.name,
            "assurance": held.assurance.name,
            "tolerated_domains": held.tolerated_domains,
            "cadence_us": held.cadence // _MICROSECOND,
            "grace_us": held.grace // _MICROSECOND,
            "surprises_per_day": held.surprises_per_day,
            "parties": [],
            "eccn": "4A090",
            "quantity": 8,
        }
        region = json.loads(region_to_json(self._region))
        site = {"title": "Hall 7", "region": region, "address": "", "jurisdiction": "XA"}
        swap = self._swap and {"switches": sorted(p.hex() for p in self._swap.switches), "until": us(self._swap.until)}
        placed = {"license": LICENSE, "site": SITE, "shipment": "", "devices": 2, "swap": swap}
        names = {
            "pdi": [gpu.pdi.hex() for gpu in self.host.gpus],
            "key": [f"key-{selector.hex()}" for selector in map(key_of, self.host.gpus)],
            "board": [f"board-{switch.pdi.hex()}" for switch in self.host.switches],
        }
        rows = [
            self.revision(2, f"licenses/{LICENSE}", license_),
            self.revision(3, f"licenses/{LICENSE}/sites/{SITE}", site),
            *(self.revision(4, f"deployments/{name}", placed) for name in names[self._by]),
        ]
        change: dict[str, Value] = {
            "change_id": 1,
            "kind": 1,
            "state": 2,
            "summary": "a license",
            "payload": "{}",
            "licensees": "[]",
            "proposed_by": "officer/ann",
            "proposed_at": us(FIRST) - 2_990_000_000,
            "reason": "an application",
            "decided_by": "approver/bob",
            "decided_at": us(FIRST) - 2_980_000_000,
            "decision_reason": "",
        }
        return [*rows, ("changes", change)]

    def revision(
        self, kind: int, name: str, record: Mapping[str, Any], *, revision: int = 1, number: int = RECORDS
    ) -> Row:
        return "revisions", {
            "kind": kind,
            "name": name,
            "revision": revision,
            "record_number": number,
            "revised_at": us(FIRST) - 2_980_000_000,
            "revised_by": "officer/ann",
            "reason": "an application",
            "change_id": 1,
            "record": json.dumps(record, separators=(",", ":")),
        }

    # attestations

    def _attest(
        self, at: datetime, pillars: Sequence[Pillar], rtt_ns: int, last: Mapping[Pdi, DeviceState]
    ) -> Attested:
        named = digest(self.log.checkpoint().encode())
        if last and self._named is not None:
            named = self._named
        preimage = digest(b"random", str(at).encode()) + named
        challenge = Challenge(digest(b"trigpoint-challenge-v1\0", preimage))
        ranged = {0: [hold_session(pillar, challenge, rtt_ns) for pillar in pillars]}
        attestation, chains = self.host.attest(ranged=ranged, challenge=challenge)
        deployments: dict[Pdi, Deployment] = {}
        adoptions: dict[bytes, Adoption] = {}
        if not self._undeployed and self._by == "pdi":
            for gpu in self.host.gpus:
                deployments[Pdi(gpu.pdi)] = Deployment(Pdi(gpu.pdi), self.license, self._region, self._swap)
        elif not self._undeployed:
            keys = [key_of(gpu) for gpu in self.host.gpus]
            for selector in keys if self._by == "key" else [switch.pdi for switch in self.host.switches]:
                adoptions[selector] = Adoption(selector, self.license, self._region, 2)
        inputs = Inputs(
            now=at,
            challenge=IssuedChallenge(challenge, HOST, at - timedelta(seconds=10)),
            reporter_licensee="Example Cloud",
            chains=chains,
            landmarks=self.registry,
            deployments=deployments,
            last=last,
            adoptions=adoptions,
        )
        verdict = self.verifier.verify(attestation, inputs)
        basis = write_basis(verdict, inputs, attestation, Setting.of(self.policy, self.files), self._records)
        self.files += tuple(each for each in basis.regions if each not in self.files)
        reports = packed([part for report in attestation.reports for part in (report.chain_id, report.spdm)])
        rows: list[Row] = [
            (
                "attestations",
                {
                    "challenge": challenge,
                    "preimage": preimage,
                    "host_id": HOST,
                    "agent": "Example_20Cloud/rack-7",
                    "licensee": "Example Cloud",
                    "issued_at": us(at) - 10_000_000,
                    "received_at": us(at),
                    "claims_sha256": digest(attestation.claims),
                    "reports_sha256": digest(reports),
                    "rejection": None,
                    "rejection_detail": "",
                    "report_rejections": report_rejections_to_json(verdict.report_rejections),
                    "transition": 1,
                    "result": self.signer.sign(verdict, inputs),
                },
            ),
            (
                "evidence",
                {"challenge": challenge, "claims": attestation.claims, "reports": reports, "basis": basis.common},
            ),
        ]
        rows += [
            (
                "device_verdicts",
                {
                    "pdi": device.pdi,
                    "received_at": us(at),
                    "challenge": challenge,
                    "chain_id": device.chain_id,
                    "standing": None if device.standing is None else int(device.standing),
                    "presence_proven": int(device.presence_proven),
                    "findings": findings_to_json(device.findings),
                    "fix": None if device.fix is None else fix_to_json(device.fix),
                    "void_ranges": void_ranges_to_json(device.void_ranges),
                    "basis": basis.devices[device.pdi],
                },
            )
            for device in verdict.devices
        ]
        if not last:
            rows += [("chains", {"chain_id": key, "certificates": packed(chain)}) for key, chain in chains.items()]
        return Attested(preimage, inputs, verdict, tuple(rows))

    def _commit(self, at: datetime, attested: Attested) -> None:
        self._write(us(at) + 1, *attested.rows)

    # the case

    def _case_rows(self) -> list[Row]:
        found = [
            (device.pdi, finding)
            for device in self.second.verdict.devices
            for finding in device.findings
            if finding.reason.name in {"OUTSIDE_LICENSED_REGION", "IN_PROHIBITED_DESTINATION"}
        ]
        story = ["2 devices: outside the licensed region.", "Ann looks at it."]
        rows: list[Row] = [("cases", self.case_row(len({p for p, _ in found}), len(story)))]
        for number, text in enumerate(story, 1):
            entry: dict[str, Value] = {
                "case_id": CASE,
                "entry": number,
                "at": us(SECOND),
                "by": "officer/ann",
                "kind": 3,
                "text": text,
            }
            rows.append(("case_entries", entry))
        for pdi, finding in found:
            key: dict[str, Value] = {"pdi": pdi, "reason": int(finding.reason), "opened_at": us(SECOND)}
            rows.append(("case_findings", {**key, "ended_at": None, "case_id": CASE}))
            told: dict[str, Value] = {"severity": int(finding.severity), "detail": finding.detail, "number": len(rows)}
            rows.append(("findings", {**key, "closed_at": None, **told}))
        exhibit: dict[str, Value] = {
            "subject": f"cases/{CASE}",
            "exhibit": 1,
            "at": us(SECOND),
            "by": "officer/ann",
            "on_behalf_of": "Example Cloud",
            "statement": "We moved nothing.",
            "file_name": "waybill.pdf",
            "media_type": "application/pdf",
            "data": b"%PDF" + bytes(400),
            "answered_at": None,
            "answered_by": "",
            "answer": "",
        }
        return [*rows, ("exhibits", exhibit)]

    def case_row(self, devices: int, entries: int) -> Mapping[str, Value]:
        return {
            "case_id": CASE,
            "event": 1,
            "scope": "elsewhere",
            "state": 3,
            "severity": 3,
            "title": "2 devices of Example Cloud are outside their licensed region",
            "licensee": "Example Cloud",
            "license_number": LICENSE,
            "site_id": SITE,
            "jurisdiction": "XA",
            "assignee": "ann",
            "opened_at": us(SECOND),
            "changed_at": us(SECOND),
            "quiet_since": None,
            "resolved_at": None,
            "resolution": "",
            "revision": 2,
            "devices": devices,
            "devices_open": devices,
            "entries": entries,
            "due_at": None,
        }

"""Landmarks that answer orders without a network, and a small world of them that range each other.

What both ends sign of a session is written here from R1 to R9.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import cbor2
import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

from server.spiffe import Peer, Role
from server.store import AttestationRecord, DeviceRecord, LandmarkRecord, Store
from server.store.types import ProvenRange
from server.telemetry import Telemetry
from tests.server import helpers
from verifier.appraise import appraise_place, standing_of
from verifier.continuity import DeviceState
from verifier.evidence.attestation import IssuedChallenge, UnverifiedAttestation
from verifier.evidence.chain import DeviceKind
from verifier.license import Deployment
from verifier.place.answers import PlaceAnswer
from verifier.place.audit import AuditRule, PairRange
from verifier.place.fix import Fix, locate
from verifier.place.geodesy import Position, distance_km
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import SiteDisc
from verifier.units import ChainId, Challenge, CountryCode, DeviceKeyId, LandmarkId, Nanoseconds
from verifier.verdict import DeviceVerdict, Verdict

ROUNDS = 12

ProveCall = grpc.aio.StreamStreamCall[landmark_pb2.ProveRequest, landmark_pb2.ProveResponse]


@dataclass
class Station:
    """A landmark with its key."""

    number: int
    latitude: float = 1.3
    longitude: float = 103.8
    operator: str = ""
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def name(self) -> str:
        return f"sg-{self.number}"

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.public_key).digest()

    @property
    def peer(self) -> Peer:
        return Peer(Role.LANDMARK, self.name)

    @property
    def record(self) -> LandmarkRecord:
        made = helpers.landmark_record(self.number)
        changed = replace(
            made.landmark,
            public_key=self.public_key,
            position=Position(self.latitude, self.longitude),
            operator=self.operator or made.landmark.operator,
        )
        return replace(made, landmark=changed)

    def sign(self, payload: bytes, label: bytes) -> bytes:
        protected = _dumps({1: -19, 4: self.key_id})
        signature = self.key.sign(_dumps(["Signature1", protected, label, payload]))
        return _dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


def _dumps(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


def read_ticket(ticket: bytes, public_key: bytes) -> dict[int, Any]:
    """Verify a ticket (docs/protocol.md §7) and return its payload."""
    protected, _, payload, signature = cbor2.loads(ticket).value
    signed = _dumps(["Signature1", protected, b"trigpoint-ticket-v1\0", payload])
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    fields: dict[int, Any] = cbor2.loads(payload)
    return fields


def session(by: Station, of: Station, challenge: bytes, rtt_ns: int) -> landmark_pb2.ProverResult:
    """Hold a session between two landmarks, and return what the answering one has of it."""
    nonce, seed, commitment = os.urandom(32), os.urandom(32), os.urandom(32)
    session_id = hashlib.sha256(b"trigpoint-session-v1\0" + challenge + by.key_id + nonce).digest()
    rounds = hashlib.shake_256(seed).digest(16 * ROUNDS)
    link = hashlib.sha256(b"trigpoint-log-v1\0" + session_id + commitment).digest()
    for index in range(ROUNDS):
        link = hashlib.sha256(link + index.to_bytes(2, "big") + rounds[16 * index : 16 * index + 16]).digest()
    transcript = hashlib.sha256(b"trigpoint-close-v1\0" + link + ROUNDS.to_bytes(2, "big")).digest()
    mask = ((1 << ROUNDS) - 1).to_bytes(8, "big")
    receipt = {
        1: session_id,
        2: challenge,
        3: nonce,
        4: commitment,
        5: seed,
        6: ROUNDS,
        7: mask,
        8: rtt_ns,
        9: 1,
        10: 1,
        11: 1_780_000_000,
    }
    evidence = landmark_pb2.ProverEvidence(
        receipt=by.sign(_dumps(receipt), b"trigpoint-receipt-v1\0"),
        statement=of.sign(session_id + commitment + transcript, b"trigpoint-prover-v1\0"),
        answered=mask,
    )
    return landmark_pb2.ProverResult(landmark_key_id=by.key_id, evidence=evidence)


def results(
    orders: landmark_pb2.ProverOrders, *outcomes: landmark_pb2.ProverResult, challenge: bytes = b""
) -> landmark_pb2.ProveRequest:
    """The message that answers a batch."""
    message = landmark_pb2.ProverResults(challenge=challenge or orders.challenge, results=outcomes)
    return landmark_pb2.ProveRequest(results=message)


READY = landmark_pb2.ProveRequest(ready=landmark_pb2.ProverReady())


def prove(channel: grpc.aio.Channel) -> ProveCall:
    """Open a stream."""
    call: ProveCall = landmark_pb2_grpc.LandmarkServiceStub(channel).Prove()
    return call


async def next_orders(call: ProveCall) -> landmark_pb2.ProverOrders:
    """The next orders; fails when the stream ends."""
    message = await call.read()
    assert isinstance(message, landmark_pb2.ProveResponse), "the stream ended"
    return message.orders


# landmarks that range each other, and devices that rest on them

NOW = helpers.NOW
SECOND = timedelta(seconds=1)
SINGAPORE = Position(1.35, 103.82)
JOHOR = Position(1.49, 103.74)
TOKYO = Position(35.68, 139.69)
PARIS = Position(48.86, 2.35)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def record_of(name: str, where: Position, country: str) -> LandmarkRecord:
    landmark = Landmark(
        landmark_id=LandmarkId(name),
        public_key=hashlib.sha256(name.encode()).digest(),
        operator=f"operator of {name}",
        hoster=f"operator of {name}",
        position=where,
        uncertainty_km=0.1,
        virtual_machine=False,
        country=CountryCode(country),
        revision=1,
        revised_at=NOW,
    )
    return LandmarkRecord(landmark, "map", ("192.0.2.1:7000",))


WORLD = {
    "sg-1": record_of("sg-1", SINGAPORE, "SG"),
    "sg-2": record_of("sg-2", Position(1.30, 103.90), "SG"),
    "my-1": record_of("my-1", JOHOR, "MY"),
    "jp-1": record_of("jp-1", TOKYO, "JP"),
}


def proven(by: str, of: str, rtt_ms: float, at: datetime = NOW) -> ProvenRange:
    pair = PairRange(LandmarkId(by), LandmarkId(of), Nanoseconds(round(rtt_ms * 1e6)))
    return ProvenRange(pair, at, Challenge(bytes(32)), b"", b"", bytes(8))


def all_pairs(at: datetime = NOW, jp_1: Position = TOKYO) -> list[ProvenRange]:
    """Everybody ranges everybody; `jp_1` says where jp-1 is in truth."""
    where = {name: record.landmark.position for name, record in WORLD.items()} | {"jp-1": jp_1}
    return [proven(a, b, distance_km(where[a], where[b]) / 100 + 0.5, at) for a in where for b in where if a != b]


def said_to_be_in(where: Position, name: str, **changes: Any) -> LandmarkRecord:
    """A landmark's record with another position."""
    record = WORLD[name]
    return replace(record, landmark=replace(record.landmark, position=where, **changes))


async def registered(store: Store, ranges: Sequence[ProvenRange], **changed: LandmarkRecord) -> None:
    await store.import_landmarks([changed.get(name, record) for name, record in WORLD.items()], NOW)
    await store.record_ranges(ranges)


async def distrusted(store: Store) -> dict[str, AuditRule]:
    inputs = await store.load_audit_inputs()
    return {str(name): stands.distrust.rule for name, stands in inputs.distrust.items()}


def states(telemetry: Telemetry) -> dict[str, float | None]:
    return {
        state: telemetry.registry.get_sample_value("trigpoint_landmarks", {"state": state})
        for state in ("counted", "uncounted", "distrusted")
    }


def placed(policy: PlacePolicy, deployed: Deployment, radii_km: dict[str, float]) -> Fix | None:
    registry = LandmarkRegistry.build(record.landmark for record in WORLD.values())
    by_name = {r.landmark_id: r for r in registry.landmarks}
    ranges = [
        VerifiedRange(deployed.pdi, by_name[LandmarkId(name)], Nanoseconds(round(radius / 299.792458 * 2e6)))
        for name, radius in radii_km.items()
    ]
    trusting = replace(policy, audited_within=None)
    fix, _ = locate(ranges, deployed.region, registry, trusting, "Example Cloud", NOW, NOW)
    return fix


def reported(
    policy: PlacePolicy, deployed: Deployment, radii_km: dict[str, float], at: datetime = NOW, salt: str = ""
) -> AttestationRecord:
    """A verdict of a device that these landmarks put within so many kilometers of themselves."""
    fix = placed(policy, deployed, radii_km)
    findings = tuple(appraise_place(deployed.license.presence, deployed.license.assurance, fix))
    challenge = Challenge(hashlib.sha256(deployed.pdi + salt.encode()).digest())
    verdict = DeviceVerdict(
        pdi=deployed.pdi,
        kind=DeviceKind.GPU,
        device_key_id=DeviceKeyId(bytes(32)),
        chain_id=ChainId(bytes(32)),
        model="GH100",
        firmware="stub",
        standing=standing_of(findings, deployed=True),
        findings=findings,
        fix=fix,
        presence_proven=fix is not None and fix.in_licensed_region is PlaceAnswer.PROVEN,
        proven_edges=(),
        state=DeviceState(),
    )
    return AttestationRecord(
        verdict=Verdict("host", challenge, at, None, (), (verdict,)),
        attestation=UnverifiedAttestation("host", challenge, b"", ()),
        issued=IssuedChallenge(challenge, "host", at),
        preimage=bytes(64),
        agent="agent",
        licensee="Example Cloud",
    )


def deployed(number: int, where: Position = SINGAPORE) -> Deployment:
    return replace(helpers.deployment(helpers.pdi(number)), region=SiteDisc("site", where, 500.0))


async def stands(store: Store, number: int) -> DeviceRecord:
    found = await store.get_device(helpers.pdi(number))
    assert found is not None
    return found


PROVEN_BY_SG = {"sg-1": 20.0, "sg-2": 30.0}
PROVEN_BY_THREE = {**PROVEN_BY_SG, "my-1": 50.0}

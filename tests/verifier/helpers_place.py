"""What the tests of place share: a sphere of their own, landmarks, ranges, and receipts by docs/protocol.md §7.

The geometry here is not the code's: distances by dot products, samples by brute force, crossings by half angles.
"""

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import cbor2
import numpy as np
from nacl.signing import SigningKey
from numpy.typing import NDArray

import geodata
from firmware_stubs.ranging import RangingFirmware, session_of
from verifier.evidence.attestation import DeviceReport
from verifier.evidence.chain import DeviceKind, VerifiedChain
from verifier.evidence.claims import Claims, StatedRange
from verifier.evidence.measurements import FirmwareState, Outcome
from verifier.evidence.spdm import LogEntry, MeasurementReport
from verifier.place.geodesy import Position
from verifier.place.groups import CountryGroups, parse_groups
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.ranging import Ranges, Receipt, VerifiedRange, verify_range, verify_ranges
from verifier.place.regions import Atlas, Countries
from verifier.units import (
    ChainId,
    Challenge,
    CountryCode,
    DeviceKeyId,
    Domain,
    LandmarkId,
    LandmarkKeyId,
    Nanoseconds,
    Pdi,
)

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=400)
RADIUS_KM = 6371.0
WIDENING = 1.00562  # of the ellipsoid: 6371 / 6335.439, north to south at the equator
LIGHT_KM_PER_NS = 299_792.458 / 1e9
SINGAPORE = Position(1.29, 103.85)
PDI = Pdi(bytes.fromhex("0011223344556677"))
CHALLENGE = Challenge(hashlib.sha256(b"challenge of this attestation").digest())


# the sphere


def vector(place: Position) -> NDArray[np.float64]:
    phi, lam = math.radians(place.latitude), math.radians(place.longitude)
    return np.array([math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)])


def angle(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radians, by the chord: good everywhere but near antipodes; shapes (..., 3) broadcast."""
    chord = np.sqrt(((a - b) ** 2).sum(axis=-1))
    angles: NDArray[np.float64] = 2 * np.arcsin(np.minimum(chord / 2, 1.0))
    return angles


def sphere_km(a: Position, b: Position) -> float:
    return float(angle(vector(a), vector(b))) * RADIUS_KM


def position(v: NDArray[np.float64]) -> Position:
    x, y, z = (float(c) for c in v / np.linalg.norm(v))
    return Position(math.degrees(math.asin(max(-1.0, min(1.0, z)))), math.degrees(math.atan2(y, x)))


def travel(start: Position, bearing_deg: float, km: float) -> Position:
    """The place that lies `km` from `start` in this direction."""
    phi, lam = math.radians(start.latitude), math.radians(start.longitude)
    north = np.array([-math.sin(phi) * math.cos(lam), -math.sin(phi) * math.sin(lam), math.cos(phi)])
    east = np.array([-math.sin(lam), math.cos(lam), 0.0])
    bearing, turn = math.radians(bearing_deg), km / RADIUS_KM
    heading = north * math.cos(bearing) + east * math.sin(bearing)
    return position(vector(start) * math.cos(turn) + heading * math.sin(turn))


def wgs84_km(a: Position, b: Position) -> float:
    """Geodesic on the WGS 84 ellipsoid by Vincenty's inverse formula, to a millimeter; not for near antipodes."""
    f = 1 / 298.257223563
    equatorial, polar = 6378.137, 6378.137 * (1 - f)
    u1 = math.atan((1 - f) * math.tan(math.radians(a.latitude)))
    u2 = math.atan((1 - f) * math.tan(math.radians(b.latitude)))
    span = lam = math.radians(b.longitude - a.longitude)
    sin_s = cos_s = sigma = cos2 = mid = 0.0
    for _ in range(100):
        sin_s = math.hypot(
            math.cos(u2) * math.sin(lam),
            math.cos(u1) * math.sin(u2) - math.sin(u1) * math.cos(u2) * math.cos(lam),
        )
        if sin_s == 0:
            return 0.0
        cos_s = math.sin(u1) * math.sin(u2) + math.cos(u1) * math.cos(u2) * math.cos(lam)
        sigma = math.atan2(sin_s, cos_s)
        sin_alpha = math.cos(u1) * math.cos(u2) * math.sin(lam) / sin_s
        cos2 = 1 - sin_alpha**2
        mid = cos_s - 2 * math.sin(u1) * math.sin(u2) / cos2 if cos2 > 1e-12 else 0.0
        c = f / 16 * cos2 * (4 + f * (4 - 3 * cos2))
        new = span + (1 - c) * f * sin_alpha * (sigma + c * sin_s * (mid + c * cos_s * (-1 + 2 * mid**2)))
        if abs(new - lam) < 1e-12:
            break
        lam = new
    usq = cos2 * (equatorial**2 - polar**2) / polar**2
    big_a = 1 + usq / 16384 * (4096 + usq * (-768 + usq * (320 - 175 * usq)))
    big_b = usq / 1024 * (256 + usq * (-128 + usq * (74 - 47 * usq)))
    inner = cos_s * (-1 + 2 * mid**2) - big_b / 6 * mid * (-3 + 4 * sin_s**2) * (-3 + 4 * mid**2)
    return polar * big_a * (sigma - big_b * sin_s * (mid + big_b / 4 * inner))


def spread_over_earth(count: int) -> NDArray[np.float64]:
    """`count` unit vectors, even over the sphere (Fibonacci)."""
    k = np.arange(count) + 0.5
    z = 1 - 2 * k / count
    turn = math.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - z * z)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


def around(center: Position, radius_km: float, count: int) -> list[Position]:
    """`count` places within `radius_km`, even over the disc."""
    golden = 180 * (3 - 5**0.5)
    return [travel(center, (golden * k) % 360, radius_km * math.sqrt((k + 0.5) / count)) for k in range(count)]


def crossings(centers: NDArray[np.float64], radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where circles cross, by spherical Heron and half angles."""
    found = []
    for i, j in itertools.combinations(range(len(centers)), 2):
        a, b, r, s = centers[i], centers[j], radii[i], radii[j]
        normal = np.cross(a, b)
        sine = float(np.linalg.norm(normal))
        if sine < 1e-12:
            continue
        normal = normal / sine
        apart = math.atan2(sine, float(a @ b))
        half = (r + s + apart) / 2
        product = math.sin(half) * math.sin(half - r) * math.sin(half - s) * math.sin(half - apart)
        if product < 0:
            continue
        height = 2 * math.sqrt(product) / sine
        along = (2 * math.sin((r + s) / 2) * math.sin((r - s) / 2) + 2 * math.cos(r) * math.sin(apart / 2) ** 2) / sine
        base = math.cos(r) * a + along * np.cross(normal, a)
        found += [base + height * normal, base - height * normal]
    return np.array(found).reshape(-1, 3)


def violations_at(
    places: NDArray[np.float64], centers: NDArray[np.float64], radii: NDArray[np.float64], slack: float = 0.0
) -> NDArray[np.int64]:
    """How many discs each place lies outside of, by more than `slack` radians."""
    outside = angle(places[:, None, :], centers[None, :, :]) > radii[None, :] + slack
    count: NDArray[np.int64] = outside.sum(axis=1)
    return count


# regions


@cache
def groups() -> CountryGroups:
    """The country groups that ship."""
    return parse_groups(geodata.read_country_groups(), geodata.COUNTRY_GROUPS_VERSION)


@cache
def atlas() -> Atlas:
    """The border data that ship."""
    return Atlas.parse(geodata.read_borders(), geodata.BORDERS_VERSION, groups().members)


@cache
def prohibited() -> Countries:
    return groups().prohibited()


def countries(*codes: str) -> Countries:
    return Countries(frozenset(CountryCode(c) for c in codes))


def policy(
    tolerated: int = 1,
    margin_km: float = 0.0,
    audited_within: timedelta | None = None,
    standing_for: timedelta = timedelta(days=30),
    operator: str = "",
) -> PlacePolicy:
    return PlacePolicy(
        atlas=atlas(),
        prohibited=prohibited(),
        prohibited_version="groups of today",
        tolerated_domains=tolerated,
        border_margin_km=margin_km,
        audited_within=audited_within,
        standing_for=standing_for,
        operator=operator,
    )


# landmarks and ranges


@cache
def signing_key(name: str) -> SigningKey:
    return SigningKey(hashlib.sha256(name.encode()).digest())


@cache
def public_key(name: str) -> bytes:
    return bytes(signing_key(name).verify_key)


def landmark(
    name: str,
    where: Position,
    *,
    operator: str | None = None,
    hoster: str | None = None,
    uncertainty_km: float = 0.0,
    virtual_machine: bool = False,
    revised_at: datetime = LONG_AGO,
    valid_from: datetime | None = None,
    valid_until: datetime | None = None,
    ranged_by: Sequence[tuple[str, datetime]] = (),
    distrusted: str = "",
    signed: bool = True,
) -> Landmark:
    return Landmark(
        landmark_id=LandmarkId(name),
        public_key=public_key(name),
        operator=f"operator of {name}" if operator is None else operator,
        hoster=f"hoster of {name}" if hoster is None else hoster,
        position=where,
        uncertainty_km=uncertainty_km,
        virtual_machine=virtual_machine,
        country=CountryCode("XX"),
        revision=1,
        revised_at=revised_at,
        valid_from=valid_from,
        valid_until=valid_until,
        ranged_by=tuple((Domain(d), when) for d, when in ranged_by),
        distrusted=distrusted,
        signed=signed,
    )


def widening_at(latitude: float, true_km: float) -> float:
    """PL1's w: 6371 km over the meridian's radius of curvature where such a way can be nearest the equator."""
    eccentricity_squared = 0.00669437999
    nearest = max(0.0, math.radians(abs(latitude)) - true_km / 6335.4)
    return WIDENING * math.pow(1 - eccentricity_squared * math.sin(nearest) ** 2, 1.5)


def true_km_for(radius_km: float, latitude: float) -> float:
    """The true length whose disc there has this radius."""
    true_km = radius_km
    for _ in range(30):
        true_km = radius_km / widening_at(latitude, true_km)
    return true_km


def rtt_for(radius_km: float, latitude: float = 0.0) -> Nanoseconds:
    """The round trip whose disc, widened by clock and ellipsoid, has this radius at most."""
    return Nanoseconds(math.floor(true_km_for(radius_km, latitude) / 1.0002 * 2 / LIGHT_KM_PER_NS))


def ranged(at: Landmark, radius_km: float) -> VerifiedRange:
    """A range whose disc has this radius when the report comes at once."""
    return VerifiedRange(PDI, at, rtt_for(radius_km, at.position.latitude))


# receipts


class NeverAsked:
    """A report key that nobody may use: the report stands for one that is verified already."""

    def verifies(self, der_signature: bytes, message: bytes) -> bool:
        raise AssertionError(der_signature, message)


def device_report(index: int, pdi: Pdi, log: tuple[LogEntry, ...]) -> DeviceReport:
    chain = VerifiedChain(
        chain_id=ChainId(bytes(32)),
        pdi=pdi,
        kind=DeviceKind.GPU,
        device_key_id=DeviceKeyId(pdi * 4),
        fwid=bytes(48),
        model="GH100",
        not_before=LONG_AGO,
        not_after=NOW + timedelta(days=400),
        report_key=NeverAsked(),
    )
    report = MeasurementReport(
        nonce=bytes(32),
        measurements={},
        driver_version="",
        vbios_version="",
        linked=frozenset(),
        log=log,
        counters=None,
    )
    return DeviceReport(index, chain, report)


KNOWN_FIRMWARE = FirmwareState(Outcome.MATCH, "known", can_range=True, differing=())
UNKNOWN_FIRMWARE = FirmwareState(Outcome.REFERENCE_MISSING, "", can_range=False, differing=())
AAD_RECEIPT = b"trigpoint-receipt-v1\0"
AAD_TICKET = b"trigpoint-ticket-v1\0"


def canonical(item: Any) -> bytes:
    return cbor2.dumps(item, canonical=True)


def sign1(payload: bytes, key: SigningKey, aad: bytes, protected: bytes, unprotected: Any = None) -> bytes:
    """COSE_Sign1_Tagged (RFC 9052 §4.2), whatever its parts are."""
    structure = canonical(["Signature1", protected, aad, payload])
    unprotected = {} if unprotected is None else unprotected
    return canonical(cbor2.CBORTag(18, [protected, unprotected, payload, key.sign(structure).signature]))


def mask_of(rounds: Sequence[int]) -> int:
    return sum(1 << i for i in rounds)


@dataclass
class RangeWorld:
    """One ranging session between one landmark and one device, all of it honest until a test changes a part."""

    landmark: Landmark
    payload: dict[Any, Any]
    answered: int
    log: tuple[LogEntry, ...]
    signer: SigningKey
    protected: bytes
    stated_landmark: LandmarkKeyId
    registry: LandmarkRegistry
    aad: bytes = AAD_RECEIPT
    unprotected: Any = None
    firmware: FirmwareState = KNOWN_FIRMWARE
    challenge: Challenge = CHALLENGE
    device_index: int = 0
    pdi: Pdi = PDI
    change_receipt: Callable[[bytes], bytes] = field(default=lambda receipt: receipt)

    def receipt(self) -> bytes:
        receipt = sign1(canonical(self.payload), self.signer, self.aad, self.protected, self.unprotected)
        return self.change_receipt(receipt)

    def stated(self) -> StatedRange:
        return StatedRange(self.device_index, self.stated_landmark, self.answered, self.receipt())

    def device(self) -> DeviceReport:
        return device_report(self.device_index, self.pdi, self.log)

    def verify(self) -> Receipt:
        return verify_range(self.stated(), self.device(), self.firmware, self.challenge, self.registry)


LANDMARK_NAMES = ("lm-a", "lm-b", "lm-c")
REGISTRY = LandmarkRegistry.build(landmark(n, Position(10.0 * k, 20.0 * k)) for k, n in enumerate(LANDMARK_NAMES, 1))
LANDMARKS = {str(r.landmark_id): r for r in REGISTRY.landmarks}


def honest_world(
    name: str = "lm-a",
    *,
    sent: int = 16,
    answered: Sequence[int] | None = None,
    accepted: Sequence[int] | None = None,
    rtt_ns: int = 1_234_567,
    challenge: Challenge = CHALLENGE,
    device: RangingFirmware | None = None,
    device_index: int = 0,
    pdi: Pdi = PDI,
    salt: str = "",
) -> RangeWorld:
    """Hold a session (docs/protocol.md R1 to R6); the device is the emulated firmware's own state machine."""
    at = LANDMARKS[name]
    nonce = hashlib.sha256(f"nonce {name} {salt}".encode()).digest()
    seed = hashlib.sha256(f"seed {name} {salt}".encode()).digest()
    answered = range(sent) if answered is None else answered
    accepted = answered if accepted is None else accepted
    if device is None:
        device = RangingFirmware(lambda: hashlib.sha256(f"secret {name} {salt}".encode()).digest())
    session = session_of(challenge, at.key_id, nonce)
    commitment = device.open(session, 0)
    assert commitment is not None
    rounds = hashlib.shake_256(seed).digest(16 * 64)
    for i in answered:
        assert device.answer(session, i, rounds[16 * i : 16 * i + 16], 0) is not None
    assert device.close(session, 0) is not None
    payload = {
        1: session,
        2: bytes(challenge),
        3: nonce,
        4: commitment,
        5: seed,
        6: sent,
        7: mask_of(accepted).to_bytes(8, "big"),
        8: rtt_ns,
        9: 1,
        10: 3,
        11: 1_780_000_000,
    }
    return RangeWorld(
        landmark=at,
        payload=payload,
        answered=mask_of(answered),
        log=tuple(LogEntry(e.session, e.commitment, e.transcript) for e in device.log),
        signer=signing_key(name),
        protected=canonical({1: -19, 4: bytes(at.key_id)}),
        stated_landmark=at.key_id,
        registry=REGISTRY,
        challenge=challenge,
        device_index=device_index,
        pdi=pdi,
    )


def verify_all(
    worlds: Sequence[RangeWorld], devices: Sequence[DeviceReport], firmware: FirmwareState = KNOWN_FIRMWARE
) -> Ranges:
    """Verify the ranges of several worlds as those of one attestation."""
    claims = Claims(
        nonce=CHALLENGE,
        host_id="host",
        untrusted_host_time_s=0,
        untrusted_location=None,
        devices=tuple(d.pdi for d in devices),
        ranges=tuple(w.stated() for w in worlds),
        unanswered=(),
    )
    return verify_ranges(claims, devices, {d.pdi: firmware for d in devices}, CHALLENGE, REGISTRY)

"""Builders of evidence for the verifier's tests: chains with one wrong thing, reports, receipts, and a whole host.

Devices, chains and reports come from `firmware_stubs`, which was written from docs/protocol.md and not from the
verifier. What it cannot bend is built here with `cryptography` alone.
"""

import functools
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import run
from sys import executable
from typing import Any, Literal

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from firmware_stubs import links
from firmware_stubs.ca import DeviceCA
from firmware_stubs.certificates import OID_FWID, fwid_extension
from firmware_stubs.device import Device
from firmware_stubs.firmware import GPU_CURRENT, SWITCH_CURRENT, Kind, reference_values
from firmware_stubs.ranging import RangingFirmware, session_of
from firmware_stubs.report import signed_report, unsigned_report
from verifier.evidence.attestation import IssuedChallenge, UnverifiedAttestation, UnverifiedReport
from verifier.evidence.chain import TrustRoots, VerifiedChain, chain_id, verify_chain
from verifier.evidence.claims import PROFILE, requester_nonce
from verifier.license import Deployment, License, LicenseState, Presence
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.regions import Countries, Region
from verifier.units import ChainId, Challenge, CountryCode, LandmarkId, Pdi
from verifier.verifier import Inputs

NOW = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
REPOSITORY = Path(__file__).resolve().parents[2]
REAL_DATA = REPOSITORY.parent / "shared" / "data" / "nvidia"
NONCE = bytes(range(32))
GPU_PDI = bytes.fromhex("1122334455667788")
FWID = hashlib.sha384(b"firmware").digest()
P384_ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def dumps(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


def flip(data: bytes, position: int, bit: int = 0) -> bytes:
    return data[:position] + bytes([data[position] ^ 1 << bit]) + data[position + 1 :]


@functools.cache
def p384_key(name: str) -> ec.EllipticCurvePrivateKey:
    """One key for each name, for the whole test run."""
    del name
    return ec.generate_private_key(ec.SECP384R1())


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


Extensions = tuple[tuple[x509.ExtensionType, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one certificate of a chain has otherwise than an honest one; the defaults change nothing."""

    public_key: CertificatePublicKeyTypes | None = None
    signer: CertificateIssuerPrivateKeyTypes | None = None
    hash_algorithm: Literal["SHA384", "SHA256"] = "SHA384"
    subject: x509.Name | None = None
    issuer: x509.Name | None = None
    serial: int | None = None
    not_before: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    not_after: datetime = datetime(2040, 1, 1, tzinfo=UTC)
    constraints: x509.BasicConstraints | Literal["absent"] | None = None
    usage: x509.KeyUsage | Literal["absent"] | None = None
    firmware_id: Extensions | None = None
    more: Extensions = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """DER certificates, leaf first, and the key of the leaf."""

    certificates: tuple[bytes, ...]
    leaf_key: ec.EllipticCurvePrivateKey

    @property
    def chain_id(self) -> ChainId:
        return chain_id(self.certificates)

    @property
    def roots(self) -> TrustRoots:
        return TrustRoots(frozenset({self.certificates[-1]}))

    def verified(self) -> VerifiedChain:
        return verify_chain(self.certificates, self.roots)


def usage(*, digital_signature: bool = False, cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def name_of(position: int) -> x509.Name:
    attributes: list[x509.NameAttribute[Any]] = [
        x509.NameAttribute(NameOID.COMMON_NAME, f"GH100 certificate {position}")
    ]
    return x509.Name(attributes)


def composite(fwid: bytes = FWID, device_spki: bytes | None = None) -> Extensions:
    """The extension 2.23.133.5.4.1 of docs/protocol.md I6."""
    value = fwid_extension(spki(p384_key("certificate 1")) if device_spki is None else device_spki, fwid)
    return ((x509.UnrecognizedExtension(OID_FWID, value), False),)


def make_chain(
    changes: Mapping[int, Change] | None = None, *, serial_prefix: int = 0x41, pdi: bytes = GPU_PDI
) -> Chain:
    """A chain that is honest but for the changes, by position. All chains share their keys, and so their names."""
    certificates = []
    for position in range(5):
        change = (changes or {}).get(position, Change())
        certificates.append(_certificate(position, change, bytes([serial_prefix]) + pdi))
    return Chain(tuple(c.public_bytes(Encoding.DER) for c in certificates), p384_key("certificate 0"))


def _certificate(position: int, change: Change, device_serial: bytes) -> x509.Certificate:
    serial = change.serial
    if serial is None:
        serial = int.from_bytes(device_serial, "big") if position == 1 else 1000 + position
    builder = x509.CertificateBuilder(
        subject_name=name_of(position) if change.subject is None else change.subject,
        issuer_name=name_of(min(position + 1, 4)) if change.issuer is None else change.issuer,
        public_key=change.public_key or p384_key(f"certificate {position}").public_key(),
        serial_number=serial,
        not_valid_before=change.not_before,
        not_valid_after=change.not_after,
    )
    constraints = change.constraints
    if constraints is None and position > 0:
        constraints = x509.BasicConstraints(ca=True, path_length=None)
    if isinstance(constraints, x509.BasicConstraints):
        builder = builder.add_extension(constraints, critical=True)
    key_usage = change.usage
    if key_usage is None:
        key_usage = usage(cert_sign=True) if position else usage(digital_signature=True)
    if isinstance(key_usage, x509.KeyUsage):
        builder = builder.add_extension(key_usage, critical=True)
    firmware_id = change.firmware_id
    if firmware_id is None:
        firmware_id = composite() if position == 0 else ()
    for extension, critical in (*firmware_id, *change.more):
        builder = builder.add_extension(extension, critical=critical)
    algorithm = hashes.SHA256() if change.hash_algorithm == "SHA256" else hashes.SHA384()
    signer = change.signer or p384_key(f"certificate {min(position + 1, 4)}")
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else algorithm)


Tlvs = Sequence[tuple[int, bytes]]
BLOCKS = {1: b"\x01" * 48, 2: b"\x02" * 48}


def make_unsigned(tlvs: Tlvs = (), *, nonce: bytes = NONCE, blocks: Mapping[int, bytes] | None = None) -> bytes:
    return unsigned_report(nonce, BLOCKS if blocks is None else blocks, b"\x77" * 32, tlvs)


def signed(unsigned: bytes, key_name: str = "certificate 0") -> bytes:
    return signed_report(p384_key(key_name), unsigned)


def make_report(tlvs: Tlvs = (), *, nonce: bytes = NONCE, blocks: Mapping[int, bytes] | None = None) -> bytes:
    return signed(make_unsigned(tlvs, nonce=nonce, blocks=blocks))


RECEIPT_LABEL = b"trigpoint-receipt-v1\0"


def raw_public(key: ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign1(
    key: ed25519.Ed25519PrivateKey,
    payload: bytes,
    aad: bytes,
    *,
    header: Mapping[Any, Any] | None = None,
    unprotected: object = None,
) -> bytes:
    """COSE_Sign1_Tagged by docs/protocol.md C3; `header` and `unprotected` replace the honest ones."""
    protected = dumps({1: -19, 4: sha256(raw_public(key))} if header is None else dict(header))
    signature = key.sign(dumps(["Signature1", protected, aad, payload]))
    return dumps(cbor2.CBORTag(18, [protected, {} if unprotected is None else unprotected, payload, signature]))


@dataclass(frozen=True, slots=True)
class Pillar:
    """A landmark with its private key."""

    record: Landmark
    key: ed25519.Ed25519PrivateKey

    @classmethod
    def at(cls, name: str, latitude: float, longitude: float, operator: str | None = None) -> "Pillar":
        key = ed25519.Ed25519PrivateKey.generate()
        record = Landmark(
            landmark_id=LandmarkId(name),
            public_key=raw_public(key),
            operator=operator or f"operator of {name}",
            hoster=f"hoster of {name}",
            position=Position(latitude, longitude),
            uncertainty_km=0.1,
            virtual_machine=False,
            country=CountryCode("XA"),
            revision=1,
            revised_at=NOW - timedelta(days=90),
            signed=True,
        )
        return cls(record, key)

    def receipt(self, challenge: bytes, session: bytes, parts: Mapping[int, object]) -> bytes:
        payload = {1: session, 2: challenge, 9: 1, 10: 1, 11: int(NOW.timestamp()), **parts}
        return sign1(self.key, dumps(payload), RECEIPT_LABEL)


@dataclass(frozen=True, slots=True)
class Ranged:
    """One ranging session: what the device logs and what the host puts into the claims."""

    log_entry: bytes
    landmark: bytes
    mask: bytes
    receipt: bytes


def hold_session(pillar: Pillar, challenge: bytes, rtt_ns: int, rounds: int = 16, salt: bytes = b"") -> Ranged:
    """Range honestly, without a wire, by the emulator's firmware. Two sessions of a pair differ in salt."""
    key_id = pillar.record.key_id
    nonce, seed = sha256(b"nonce", challenge, key_id, salt), sha256(b"seed", challenge, key_id, salt)
    session = session_of(challenge, pillar.record.key_id, nonce)
    firmware = RangingFirmware()
    commitment = firmware.open(session, 0)
    stream = hashlib.shake_256(seed).digest(16 * 64)
    for index in range(rounds):
        firmware.answer(session, index, stream[16 * index : 16 * (index + 1)], 1)
    closed = firmware.close(session, 2)
    assert closed is not None
    mask = ((1 << rounds) - 1).to_bytes(8, "big")
    receipt = pillar.receipt(challenge, session, {3: nonce, 4: commitment, 5: seed, 6: rounds, 7: mask, 8: rtt_ns})
    return Ranged(closed.entry.to_bytes(), pillar.record.key_id, mask, receipt)


HOST = "host-1"
CHALLENGE = Challenge(sha256(b"challenge"))
NEAR_NS = 500_000  # half a millisecond: within 80 km
LICENSED = Countries(frozenset({CountryCode("XA")}))
PROHIBITED = Countries(frozenset({CountryCode("XB")}))


def borders() -> bytes:
    """Two square countries: XA, 20 degrees wide at 0, 0, and XB, as large, 100 degrees further east."""

    def square(code: str, west: float) -> dict[str, Any]:
        ring = [[west, 0.0], [west + 20, 0.0], [west + 20, 20.0], [west, 20.0], [west, 0.0]]
        geometry = {"type": "MultiPolygon", "coordinates": [[ring]]}
        return {"type": "Feature", "properties": {"iso1A2": code}, "geometry": geometry}

    return json.dumps({"type": "FeatureCollection", "features": [square("XA", 0.0), square("XB", 100.0)]}).encode()


def make_license(presence: Presence = Presence.COUNTRY, licensee: str = "Example Cloud") -> License:
    return License(
        number="D123456",
        licensee=licensee,
        valid_from=NOW - timedelta(days=100),
        valid_until=NOW + timedelta(days=100),
        presence=presence,
        cadence=timedelta(hours=24),
        grace=timedelta(hours=6),
        revision=1,
        state=LicenseState.ACTIVE,
    )


@dataclass
class Host:
    """Devices of one emulated host: GPUs and switches on one board. `attest` makes honest evidence to bend."""

    directory: Path
    ca: DeviceCA
    gpus: list[Device]
    switches: list[Device]
    home: list[Pillar] = field(default_factory=list)
    abroad: list[Pillar] = field(default_factory=list)

    @classmethod
    def build(cls, directory: Path, ca: DeviceCA, gpus: int = 2, switches: int = 1) -> "Host":
        return cls(
            directory,
            ca,
            [Device.manufacture(directory / f"gpu-{i}", ca, GPU_CURRENT).powered_on() for i in range(gpus)],
            [Device.manufacture(directory / f"switch-{i}", ca, SWITCH_CURRENT).powered_on() for i in range(switches)],
            [Pillar.at(f"home-{i}", 10.0 + i / 10, 10.0) for i in range(3)],
            [Pillar.at(f"abroad-{i}", 10.0 + i / 10, 110.0) for i in range(3)],
        )

    @property
    def devices(self) -> list[Device]:
        return [*self.gpus, *self.switches]

    @property
    def registry(self) -> LandmarkRegistry:
        return LandmarkRegistry.build(p.record for p in (*self.home, *self.abroad))

    @property
    def roots(self) -> TrustRoots:
        return TrustRoots(frozenset({self.ca.root.certificate.public_bytes(Encoding.DER)}))

    def links(self, device: Device) -> bytes | None:
        pdis = [s.pdi for s in self.switches]
        if device.kind is Kind.GPU:
            return links.gpu_links(pdis)
        return links.switch_links(pdis.index(device.pdi), len(pdis), dict(enumerate(g.pdi for g in self.gpus)))

    def claims(self, ranged: Mapping[int, Sequence[Ranged]], challenge: bytes, host_id: str) -> dict[int, Any]:
        return {
            10: challenge,
            265: PROFILE,
            -70001: host_id,
            -70002: int(NOW.timestamp()),
            -70003: [d.pdi for d in self.devices],
            -70004: [[index, r.landmark, r.mask, r.receipt] for index, held in ranged.items() for r in held],
        }

    def attest(
        self,
        *,
        ranged: Mapping[int, Sequence[Ranged]] | None = None,
        bend_claims: Callable[[dict[int, Any]], None] = lambda _: None,
        bend_nonce: Callable[[int, bytes], bytes] = lambda _, nonce: nonce,
        bend_link: Callable[[int, bytes | None], bytes | None] = lambda _, link: link,
        bend_report: Callable[[int, bytes], bytes] = lambda _, report: report,
        digests: Mapping[int, Mapping[int, bytes]] | None = None,
        impostors: Mapping[int, Device] | None = None,
        challenge: Challenge = CHALLENGE,
        host_id: str = HOST,
    ) -> tuple[UnverifiedAttestation, dict[ChainId, Sequence[bytes]]]:
        """Evidence of all devices over one claims-set, and the chains that go with it.

        Args:
            ranged: Sessions by index of the device.
            bend_claims: Changes the claims before they are signed over.
            bend_nonce: Changes the nonce that a device is asked with.
            bend_link: Changes what a device says about its neighbours.
            bend_report: Changes a signed report.
            digests: What a device measures, by its index, in place of the truth.
            impostors: Devices that report in place of those that are listed, by index.
            challenge: That is answered.
            host_id: The host's name.
        """
        held = ranged or {}
        claims = self.claims(held, challenge, host_id)
        bend_claims(claims)
        data = dumps(claims)
        reports: list[UnverifiedReport] = []
        chains: dict[ChainId, Sequence[bytes]] = {}
        for index, listed in enumerate(self.devices):
            device = (impostors or {}).get(index, listed)
            spdm = device.report(
                bend_nonce(index, requester_nonce(data)),
                bend_link(index, self.links(listed)),
                [r.log_entry for r in held.get(index, ())],
                (digests or {}).get(index),
            )
            chain = device.chain_der()
            chains[chain_id(chain)] = chain
            reports.append(UnverifiedReport(bend_report(index, spdm), chain_id(chain)))
        return UnverifiedAttestation(host_id, challenge, data, tuple(reports)), chains

    def inputs(self, chains: Mapping[ChainId, Sequence[bytes]], region: Region = LICENSED) -> Inputs:
        """What the shell would load: every GPU is deployed to the region."""
        return Inputs(
            now=NOW,
            challenge=IssuedChallenge(CHALLENGE, HOST, NOW - timedelta(seconds=10)),
            reporter_licensee="Example Cloud",
            chains=chains,
            landmarks=self.registry,
            deployments={Pdi(g.pdi): Deployment(Pdi(g.pdi), make_license(), region) for g in self.gpus},
        )


def references_document(*, without: str = "") -> dict[str, Any]:
    """The emulated vendor's reference values, without the firmware of one name."""
    document: dict[str, Any] = reference_values()
    document["firmware"] = [entry for entry in document["firmware"] if entry["name"] != without]
    return document


@dataclass(frozen=True, slots=True)
class RealSample:
    """One real H100's report in hex, its chain and its vendor's root in PEM."""

    report: Path
    chain: Path
    root: Path


def real_data() -> Path:
    """The folder of real evidence; skips the test where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real evidence is absent: {REAL_DATA} is not there")
    return REAL_DATA


def real_sample(scratch: Path) -> RealSample:
    """One real report: of the folder, else of a wheel that the vendor publishes; skips the test where neither is."""
    if REAL_DATA.is_dir():
        return RealSample(
            REAL_DATA / "hopperAttestationReport.txt",
            REAL_DATA / "hopperCertChain.txt",
            REAL_DATA / "roots" / "verifier_device_root.pem",
        )
    return wheel_sample(scratch)


def wheel_sample(scratch: Path) -> RealSample:
    """The sample in the wheel nv-local-gpu-verifier 2.7.3, which is unpacked and never installed."""
    command = [executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--retries", "1", "--no-deps"]
    done = run(
        [*command, "nv-local-gpu-verifier==2.7.3", "-d", str(scratch)],
        capture_output=True,
        check=False,
        text=True,
        timeout=90,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        pytest.skip(f"real evidence is absent ({REAL_DATA}), and its wheel cannot be downloaded: {reason}")
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(scratch)
    samples = scratch / "verifier" / "samples"
    return RealSample(
        samples / "hopperAttestationReport.txt",
        samples / "hopperCertChain.txt",
        scratch / "verifier" / "certs" / "verifier_device_root.pem",
    )

"""Builds evidence for the conformance vectors, byte for byte the same at every run.

Written from docs/protocol.md alone: neither verifier/ nor firmware_stubs/ is asked, so a bug that they share shows.
Keys come from labels, ECDSA nonces from RFC 6979, and no clock is read.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

P384_ORDER = int("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16)
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493
START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
OID_COMPOSITE = x509.ObjectIdentifier("2.23.133.5.4.1")
OID_TCB_INFO = x509.ObjectIdentifier("2.23.133.5.4.1.1")
OID_UNKNOWN = x509.ObjectIdentifier("1.3.6.1.4.1.32473.7")  # RFC 5612: an arc for examples
DER_SHA384 = bytes.fromhex("0609608648016503040202")
DER_SHA256 = bytes.fromhex("0609608648016503040201")
GPU, SWITCH = 0x41, 0x50  # docs/protocol.md I5


def fill(label: str, size: int = 32) -> bytes:
    """Bytes that stand for random ones."""
    return hashlib.shake_256(f"trigpoint vectors: {label}".encode()).digest(size)


def encode(item: object) -> bytes:
    """Deterministic CBOR (C2)."""
    return cbor2.dumps(item, canonical=True)


def flip(data: bytes, position: int) -> bytes:
    """The same bytes with the lowest bit of one changed."""
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


# Certificates (§5)


@cache
def curve_key(label: str, curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    """The private key of a label; P-384 where no curve is given. 64 bytes make the bias negligible."""
    secret = 1 + int.from_bytes(fill(f"key {label}", 64), "big") % (2**255)
    return ec.derive_private_key(secret, ec.SECP384R1() if curve is None else curve)


@cache
def ed_key(label: str) -> ed25519.Ed25519PrivateKey:
    """The Ed25519 key of a label."""
    return ed25519.Ed25519PrivateKey.from_private_bytes(fill(f"key {label}"))


def spki(label: str) -> bytes:
    """DER SubjectPublicKeyInfo of a P-384 key."""
    return curve_key(label).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def der(tag: int, *parts: bytes) -> bytes:
    """One DER element."""
    content = b"".join(parts)
    size = len(content)
    return bytes([tag, size] if size < 0x80 else [tag, 0x81, size]) + content


def fwid_of(label: str) -> bytes:
    """A firmware id, 48 bytes."""
    return hashlib.sha384(label.encode()).digest()


def composite(fwid: bytes, device_spki: bytes, *, version: int = 1, hash_oid: bytes = DER_SHA384) -> x509.ExtensionType:
    """Extension 2.23.133.5.4.1 (I6)."""
    value = der(0x30, der(0x02, bytes([version])), device_spki, der(0x30, hash_oid, der(0x04, fwid)))
    return x509.UnrecognizedExtension(OID_COMPOSITE, value)


def tcb_info(*fwids: bytes) -> x509.ExtensionType:
    """DiceTcbInfo with these firmware ids (I6)."""
    listed = der(0xA6, *(der(0x30, DER_SHA384, der(0x04, fwid)) for fwid in fwids))
    return x509.UnrecognizedExtension(OID_TCB_INFO, der(0x30, listed))


def usage(*, signs: bool, certifies: bool) -> x509.KeyUsage:
    """keyUsage with digitalSignature and keyCertSign alone."""
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certifies,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def name(text: str) -> x509.Name:
    """A name of one common name."""
    attributes: list[x509.NameAttribute[Any]] = [x509.NameAttribute(NameOID.COMMON_NAME, text)]
    return x509.Name(attributes)


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate to be made. `key` and `signer` are labels of P-384 keys unless they are keys."""

    subject: str
    issuer: str
    key: str | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    signer: str | ec.EllipticCurvePrivateKey
    serial: int
    ca: bool | None
    usage: x509.KeyUsage | None
    more: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    start: datetime = START
    end: datetime = END
    hash_algorithm: hashes.SHA256 | hashes.SHA384 = field(default_factory=hashes.SHA384)
    path_length: int | None = None

    def made(self) -> bytes:
        """DER."""
        key = curve_key(self.key) if isinstance(self.key, str) else self.key
        signer = curve_key(self.signer) if isinstance(self.signer, str) else self.signer
        builder = x509.CertificateBuilder(name(self.issuer), name(self.subject), key.public_key(), self.serial)
        builder = builder.not_valid_before(self.start).not_valid_after(self.end)
        if self.ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(self.ca, self.path_length), critical=True)
        if self.usage is not None:
            builder = builder.add_extension(self.usage, critical=True)
        for extension, critical in self.more:
            builder = builder.add_extension(extension, critical=critical)
        made = builder.sign(signer, self.hash_algorithm, ecdsa_deterministic=True)
        return made.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the vectors' vendor, or of another one."""

    pdi: bytes = bytes.fromhex("1122334455667788")
    prefix: int = GPU
    firmware: str = "firmware"
    vendor: str = "vendor"

    @property
    def label(self) -> str:
        """Names its keys: the ROM's, and the leaf's that changes with the firmware (I4)."""
        return f"{self.vendor} {self.prefix:x} {self.pdi.hex()}"

    @property
    def fwid(self) -> bytes:
        """Its firmware id, 48 bytes."""
        return fwid_of(self.firmware)

    def certificates(self) -> list[Certificate]:
        """An honest chain, leaf first."""
        family = "GH100" if self.prefix == GPU else "LS_10"
        leaf, rom, vendor = f"{self.label} {self.firmware}", self.label, self.vendor
        serial = int.from_bytes(bytes([self.prefix]) + self.pdi, "big")
        signs, certifies = usage(signs=True, certifies=False), usage(signs=False, certifies=True)
        bound = ((composite(self.fwid, spki(rom)), False),)
        # All vendors have the same names, so that names alone tell nothing.
        names = [f"{family} leaf", f"{family} ROM", "provisioner", "identity", "root"]
        return [
            Certificate(names[0], names[1], leaf, rom, 10, None, signs, bound),
            Certificate(names[1], names[2], rom, f"{vendor} provisioner", serial, ca=True, usage=certifies),
            Certificate(
                names[2], names[3], f"{vendor} provisioner", f"{vendor} identity", 12, ca=True, usage=certifies
            ),
            Certificate(names[3], names[4], f"{vendor} identity", f"{vendor} root", 13, ca=True, usage=certifies),
            Certificate(names[4], names[4], f"{vendor} root", f"{vendor} root", 14, ca=True, usage=certifies),
        ]

    def chain(self, position: int | None = None, **changes: Any) -> list[bytes]:
        """DER, leaf first; the certificate at `position` has these changes."""
        made = self.certificates()
        if position is not None:
            made[position] = replace(made[position], **changes)
        return [certificate.made() for certificate in made]

    def report(self, tlvs: "Tlvs" = (), **parts: Any) -> bytes:
        """A report that its leaf's key signs; `parts` as in `unsigned`."""
        return signed(unsigned(tlvs, **parts), curve_key(f"{self.label} {self.firmware}"))


# Reports (§4)

Tlvs = Sequence[tuple[int, bytes]]
NONCE = fill("requester nonce")
DIGESTS = {1: fill("block 1", 48), 2: fill("block 2", 48)}
BLOCK_HEAD = bytes.fromhex("0133000130" + "00")  # specification 1, size 51, type 1, length 48


def block(index: int, digest: bytes, head: bytes = BLOCK_HEAD) -> bytes:
    """One measurement block of the table in §4."""
    return bytes([index]) + head + digest


def tlv(kind: int, data: bytes) -> bytes:
    """One opaque field."""
    return kind.to_bytes(2, "little") + len(data).to_bytes(2, "little") + data


def unsigned(
    tlvs: Tlvs = (),
    *,
    nonce: bytes = NONCE,
    blocks: Sequence[bytes] | None = None,
    count: int | None = None,
    record_length: int | None = None,
    opaque: bytes | None = None,
    opaque_length: int | None = None,
    request: str = "11e001ff",
    response: str = "11600000",
) -> bytes:
    """Every byte before the signature; what is named replaces the honest value."""
    listed = [block(i, d) for i, d in DIGESTS.items()] if blocks is None else list(blocks)
    record = b"".join(listed)
    fields = b"".join(tlv(k, d) for k, d in tlvs) if opaque is None else opaque
    return b"".join(
        (
            bytes.fromhex(request),
            nonce,
            b"\0",
            bytes.fromhex(response),
            bytes([len(listed) if count is None else count]),
            (len(record) if record_length is None else record_length).to_bytes(3, "little"),
            record,
            fill("responder nonce"),
            (len(fields) if opaque_length is None else opaque_length).to_bytes(2, "little"),
            fields,
        )
    )


def raw_signature(message: bytes, key: ec.EllipticCurvePrivateKey, algorithm: hashes.HashAlgorithm) -> tuple[int, int]:
    """Deterministic ECDSA (RFC 6979): r and s."""
    return decode_dss_signature(key.sign(message, ec.ECDSA(algorithm, deterministic_signing=True)))


def signed(message: bytes, key: ec.EllipticCurvePrivateKey, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    """The message with `r ‖ s` behind it."""
    r, s = raw_signature(message, key, algorithm or hashes.SHA384())
    return message + r.to_bytes(48, "big") + s.to_bytes(48, "big")


def counters(boot: int, attestation: int) -> bytes:
    """TLV 0x5402."""
    return boot.to_bytes(8, "little") + attestation.to_bytes(8, "little")


# Ranging (§7)


def sha256(*parts: bytes) -> bytes:
    """H of §1."""
    return hashlib.sha256(b"".join(parts)).digest()


def public_key(label: str) -> bytes:
    """Raw Ed25519 public key of a landmark."""
    return ed_key(label).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def key_id(label: str) -> bytes:
    """Landmark key id (R1)."""
    return sha256(public_key(label))


def mask_of(rounds: Sequence[int]) -> bytes:
    """C4."""
    return sum(1 << i for i in rounds).to_bytes(8, "big")


RECEIPT_LABEL = b"trigpoint-receipt-v1\0"


def sign1(
    payload: bytes,
    signer: str,
    *,
    aad: bytes = RECEIPT_LABEL,
    header: Mapping[Any, Any] | None = None,
    unprotected: object = None,
    tag: int | None = 18,
    named: str | None = None,
) -> bytes:
    """COSE_Sign1 (C3); what is named replaces the honest value."""
    protected = encode({1: -19, 4: key_id(named or signer)} if header is None else dict(header))
    signature = ed_key(signer).sign(encode(["Signature1", protected, aad, payload]))
    parts = [protected, {} if unprotected is None else unprotected, payload, signature]
    return encode(parts if tag is None else cbor2.CBORTag(tag, parts))


@dataclass(frozen=True, slots=True)
class Session:
    """One ranging session between a device and a landmark, honest until a field is given otherwise."""

    landmark: str = "landmark a"
    challenge: bytes = field(default_factory=lambda: fill("challenge"))
    sent: int = 16
    answered: tuple[int, ...] = tuple(range(16))
    accepted: tuple[int, ...] | None = None
    rtt_ns: int = 1_234_567
    label: str = "session"

    @property
    def nonce(self) -> bytes:
        """Landmark nonce."""
        return fill(f"landmark nonce {self.label}")

    @property
    def seed(self) -> bytes:
        """The seed of the rounds."""
        return fill(f"seed {self.label}")

    @property
    def session(self) -> bytes:
        """R1."""
        return sha256(b"trigpoint-session-v1\0", self.challenge, key_id(self.landmark), self.nonce)

    @property
    def commitment(self) -> bytes:
        """R2."""
        return sha256(b"trigpoint-commit-v1\0", self.session, fill(f"secret {self.label}"))

    def transcript(self, *, rounds: bytes | None = None, closed: bool = True) -> bytes:
        """T (R4). `rounds` stands for SHAKE-256 of the seed; not `closed` leaves the last link out."""
        stream = hashlib.shake_256(self.seed).digest(64 * 16) if rounds is None else rounds  # R3
        link = sha256(b"trigpoint-log-v1\0", self.session, self.commitment)
        for i in self.answered:
            link = sha256(link, i.to_bytes(2, "big"), stream[16 * i : 16 * i + 16])
        return sha256(b"trigpoint-close-v1\0", link, len(self.answered).to_bytes(2, "big")) if closed else link

    def payload(self, **changes: Any) -> dict[Any, Any]:
        """Receipt payload of §7; `f6=0` sets field 6, None removes a field."""
        accepted = self.answered if self.accepted is None else self.accepted
        values: dict[Any, Any] = {
            1: self.session,
            2: self.challenge,
            3: self.nonce,
            4: self.commitment,
            5: self.seed,
            6: self.sent,
            7: mask_of(accepted),
            8: self.rtt_ns,
            9: 1,
            10: 3,
            11: 1_900_000_000,
        }
        values.update({int(k[1:]): v for k, v in changes.items()})
        return {k: v for k, v in values.items() if v is not None}

    def receipt(self, **changes: Any) -> bytes:
        """The receipt that the landmark signs."""
        return sign1(encode(self.payload(**changes)), self.landmark)

    def entry(self, **changes: bytes) -> dict[str, str]:
        """The entry of TLV 0x5401, as a vector holds it."""
        parts = {"session": self.session, "commitment": self.commitment, "transcript": self.transcript()}
        return {k: v.hex() for k, v in {**parts, **changes}.items()}

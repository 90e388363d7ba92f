"""Builds evidence for the second reader's tests, from docs/protocol.md alone.

Everything that it builds is honest; a test passes the one thing that lies. Not for use outside this folder.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256, shake_256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
FWID: Final = bytes(range(48))
NONCE: Final = b"n" * 32
GPU: Final = bytes.fromhex("1122334455667788")
SWITCH: Final = bytes.fromhex("a1a2a3a4a5a6a7a8")
DEVICE_KEY: Final = ec.derive_private_key(1001, ec.SECP384R1())
LEAF_KEY: Final = ec.derive_private_key(1000, ec.SECP384R1())
CA_KEYS: Final = [ec.derive_private_key(1002 + at, ec.SECP384R1()) for at in range(3)]

Item = int | float | bytes | str | Sequence["Item"] | Mapping[int, "Item"]


def head(major: int, value: int) -> bytes:
    """A CBOR head in its shortest form."""
    if value < 24:
        return bytes([major << 5 | value])
    size = next(size for size in (1, 2, 4, 8) if value < 1 << (8 * size))
    return bytes([major << 5 | 23 + size.bit_length()]) + value.to_bytes(size, "big")


def encode(item: Item) -> bytes:
    """Deterministic CBOR; a float as binary16, so it has to fit."""
    if isinstance(item, int):
        return head(0, item) if item >= 0 else head(1, -1 - item)
    if isinstance(item, float):
        return b"\xf9" + struct.pack(">e", item)
    if isinstance(item, bytes):
        return head(2, len(item)) + item
    if isinstance(item, str):
        return head(3, len(item.encode())) + item.encode()
    if isinstance(item, Mapping):
        pairs = sorted((encode(key), encode(value)) for key, value in item.items())
        return head(5, len(pairs)) + b"".join(key + value for key, value in pairs)
    return head(4, len(item)) + b"".join(encode(entry) for entry in item)


def tlv(tag: int, *parts: bytes) -> bytes:
    """One DER element with up to 64 KiB in it."""
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = 1 if len(body) < 256 else 2
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


@dataclass(frozen=True, slots=True)
class Plan:
    """One certificate to be."""

    key: ec.EllipticCurvePrivateKey
    signer: ec.EllipticCurvePrivateKey
    subject: str
    issuer: str
    serial: int
    ca: bool | None = True
    path_length: int | None = None
    signs: bool = True
    begin: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    end: datetime = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    algorithm: SHA256 | SHA384 = field(default_factory=SHA384)
    extra: tuple[tuple[str, bytes, bool], ...] = ()


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """DER SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def fwid_node(fwid: bytes) -> bytes:
    """`SEQUENCE { OID sha384, OCTET STRING }`."""
    return tlv(0x30, tlv(0x06, bytes.fromhex("608648016503040202")), tlv(0x04, fwid))


def device_extension(fwid: bytes = FWID, key: ec.EllipticCurvePrivateKey = DEVICE_KEY) -> tuple[str, bytes, bool]:
    """The extension of I6 that names the device key."""
    return "2.23.133.5.4.1", tlv(0x30, b"\x02\x01\x01", spki(key), fwid_node(fwid)), False


def tcb_extension(*fwids: bytes) -> tuple[str, bytes, bool]:
    """DiceTcbInfo with a version and a list of FWIDs."""
    return "2.23.133.5.4.1.1", tlv(0x30, tlv(0x82, b"1"), tlv(0xA6, *map(fwid_node, fwids))), True


def plans(pdi: bytes = GPU, prefix: int = 0x41) -> list[Plan]:
    """An honest chain, leaf first."""
    keys = [LEAF_KEY, DEVICE_KEY, *CA_KEYS]
    chain = [
        Plan(
            key=key,
            signer=keys[min(at + 1, 4)],
            subject=f"certificate {at}",
            issuer=f"certificate {min(at + 1, 4)}",
            serial=at + 1,
        )
        for at, key in enumerate(keys)
    ]
    chain[0] = replace(chain[0], ca=False, signs=False, extra=(device_extension(),))
    chain[1] = replace(chain[1], serial=int.from_bytes(bytes([prefix]) + pdi, "big"))
    return chain


def certificate(plan: Plan) -> bytes:
    """The planned certificate, DER."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (plan.subject, plan.issuer)]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=plan.signs,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .serial_number(plan.serial)
        .public_key(plan.key.public_key())
        .not_valid_before(plan.begin)
        .not_valid_after(plan.end)
        .add_extension(usage, critical=True)
    )
    if plan.ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(plan.ca, plan.path_length), critical=True)
    for oid, value, critical in plan.extra:
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(plan.signer, plan.algorithm, ecdsa_deterministic=True).public_bytes(Encoding.DER)


def chain_of(chain: Sequence[Plan]) -> list[bytes]:
    """Five DER certificates."""
    return [certificate(plan) for plan in chain]


def sign_report(unsigned: bytes, key: ec.EllipticCurvePrivateKey = LEAF_KEY) -> bytes:
    """The report with its signature."""
    r, s = utils.decode_dss_signature(key.sign(unsigned, ec.ECDSA(SHA384())))
    return unsigned + r.to_bytes(48, "big") + s.to_bytes(48, "big")


def block(index: int, value: bytes = b"\x07" * 48) -> bytes:
    """One measurement block."""
    return bytes([index]) + b"\x01" + (51).to_bytes(2, "little") + b"\x01" + (48).to_bytes(2, "little") + value


def opaque(values: Sequence[tuple[int, bytes]]) -> bytes:
    """The opaque TLVs."""
    return b"".join(kind.to_bytes(2, "little") + len(value).to_bytes(2, "little") + value for kind, value in values)


def gpu_values(log: Sequence[bytes] = (), switches: Sequence[bytes] = (SWITCH, SWITCH)) -> dict[int, bytes]:
    """What an honest GPU says of itself."""
    links = [pdi[::-1] for pdi in switches] + [b"\xff" * 8] * (18 - len(switches))
    return {
        3: b"570.1\0",
        6: bytes.fromhex("00a29600abffffff"),
        20: FWID,
        22: b"".join(links),
        99: b"unknown",
        0x5401: b"".join(log),
        0x5402: (3).to_bytes(8, "little") + (7).to_bytes(8, "little"),
    }


def switch_values(own: bytes = SWITCH, gpus: Sequence[bytes] = (GPU,)) -> dict[int, bytes]:
    """What an honest switch says of itself."""
    slots = b"".join([*gpus, *[b"\xff" * 8] * (8 - len(gpus))])
    return {6: b"96.10\0", 22: own, 26: slots + b"\xff" * 64}


def unsigned_report(
    values: Mapping[int, bytes], blocks: Sequence[bytes] = (block(1), block(255)), nonce: bytes = NONCE
) -> bytes:
    """A report up to its signature."""
    record, tail = b"".join(blocks), opaque(list(values.items()))
    return (
        b"\x11\xe0\x01\xff"
        + nonce
        + b"\0\x11\x60\0\0"
        + bytes([len(blocks)])
        + len(record).to_bytes(3, "little")
        + record
        + b"r" * 32
        + len(tail).to_bytes(2, "little")
        + tail
    )


def h(*parts: bytes) -> bytes:
    """SHA-256 of the joined parts."""
    return sha256(b"".join(parts)).digest()


def raw_key(key: Ed25519PrivateKey) -> bytes:
    """Raw public key."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def cose(
    key: Ed25519PrivateKey, aad: bytes, payload: bytes, *, protected: bytes = b"", empty: bytes = b"\xa0"
) -> bytes:
    """COSE_Sign1_Tagged as C3 has it; `protected` and `empty` replace the headers."""
    protected = protected or encode({1: -19, 4: h(raw_key(key))})
    signature = key.sign(encode(["Signature1", protected, aad, payload]))
    return b"\xd2\x84" + encode(protected) + empty + encode(payload) + encode(signature)


LANDMARK: Final = Ed25519PrivateKey.from_private_bytes(b"\x31" * 32)
SERVER: Final = Ed25519PrivateKey.from_private_bytes(b"\x32" * 32)
CHALLENGE: Final = b"c" * 32


@dataclass(frozen=True, slots=True)
class Session:
    """An honest session, played out between a device and a landmark."""

    fields: dict[int, Item]
    entry: bytes
    mask: bytes

    def receipt(self, key: Ed25519PrivateKey = LANDMARK, **lies: Item) -> bytes:
        """The signed receipt, with fields replaced as `f6=...`."""
        fields = {**self.fields, **{int(name[1:]): value for name, value in lies.items()}}
        return cose(key, b"trigpoint-receipt-v1\0", encode(fields))


def session(
    answered: Sequence[int] = range(10),
    *,
    sent: int = 12,
    key: Ed25519PrivateKey = LANDMARK,
    challenge: bytes = CHALLENGE,
    nonce: bytes = b"l" * 32,
    secret: bytes = b"s" * 32,
) -> Session:
    """A session in which the device answers the rounds in `answered` and the landmark accepts them all."""
    ident = h(b"trigpoint-session-v1\0", challenge, h(raw_key(key)), nonce)
    commitment = h(b"trigpoint-commit-v1\0", ident, secret)
    seed = h(b"seed", nonce)
    link = h(b"trigpoint-log-v1\0", ident, commitment)
    for i in answered:
        link = h(link, struct.pack(">H", i), shake_256(seed).digest(16 * i + 16)[-16:])
    transcript = h(b"trigpoint-close-v1\0", link, struct.pack(">H", len(answered)))
    mask = sum(1 << i for i in answered).to_bytes(8, "big")
    fields: dict[int, Item] = {1: ident, 2: challenge, 3: nonce, 4: commitment, 5: seed, 6: sent, 7: mask}
    fields |= {8: 1_500_000, 9: 1, 10: 4, 11: 1_780_000_000}
    return Session(fields, ident + commitment + transcript, mask)


def ticket(key: Ed25519PrivateKey = SERVER, aad: bytes = b"trigpoint-ticket-v1\0", **lies: Item) -> bytes:
    """A ticket that expires at 1000."""
    fields: dict[int, Item] = {1: CHALLENGE, 2: h(raw_key(LANDMARK)), 3: 1000, 4: b"t" * 16}
    return cose(key, aad, encode({**fields, **{int(name[1:]): value for name, value in lies.items()}}))


def claims_fields() -> dict[int, Item]:
    """An honest claims-set of a GPU and a switch, one range answered and one not."""
    landmark = h(raw_key(LANDMARK))
    return {
        10: CHALLENGE,
        264: {1: 52.5, 2: 13},
        265: "tag:trigpoint.dev,2026:attestation#1",
        -70001: "host-1",
        -70002: 1_780_000_000,
        -70003: [GPU, SWITCH],
        -70004: [[0, landmark, b"\0" * 8, b"receipt"], [1, landmark, 5]],
    }

"""Certificate chains: from DER to a device's identity (docs/protocol.md §5).

`ChainVerifier.verify` returns a `VerifiedChain` or raises one named error. Verified chains are cached by their id, so
the five signatures of a chain are checked once; what depends on time is checked every time. Revocation is not checked
here.
"""

import enum
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID, SignatureAlgorithmOID

from verifier.errors import (
    ChainConstraintViolatedError,
    ChainExpiredError,
    ChainMalformedError,
    ChainMissingError,
    ChainSignatureInvalidError,
    ChainUntrustedRootError,
    EvidenceError,
    LimitExceededError,
    UsageError,
)
from verifier.evidence.dice import OID_COMPOSITE_DEVICE_ID, OID_DICE_TCB_INFO, parse_composite_device_id, parse_tcb_info
from verifier.limits import CHAIN_LENGTH, MAX_CACHED_CHAINS, MAX_CERTIFICATE_BYTES, MAX_REFUSED_CHAINS
from verifier.signatures import P384Key, load_p384
from verifier.units import ChainId, DeviceKeyId, Pdi


@enum.unique
class DeviceKind(enum.IntEnum):
    """What a device is. Values equal `trigpoint.v1.DeviceKind`."""

    GPU = 1
    SWITCH = 2


_KIND_BY_SERIAL_PREFIX = {0x41: DeviceKind.GPU, 0x50: DeviceKind.SWITCH}  # docs/protocol.md I5
_PDI_BYTES = 8
Remembered = TypeVar("Remembered")
_UNDERSTOOD_CRITICAL = frozenset({ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE})  # docs/protocol.md I3


@dataclass(frozen=True, slots=True)
class VerifiedChain:
    """A chain that ends in a pinned root, with what it says about the device.

    Attributes:
        chain_id: Its id (docs/protocol.md I8).
        pdi: Physical device identity, from the serial of [1].
        kind: GPU or switch, from the same serial.
        device_key_id: Id of the ROM key [1].
        fwid: Firmware id that the leaf is bound to, 48 bytes.
        model: First word of the leaf's common name, such as GH100 or LS_10.
        not_before: Latest start of validity in the chain, aware.
        not_after: Earliest end of validity in the chain, aware.
        report_key: Key of the leaf, which signs reports.
    """

    chain_id: ChainId
    pdi: Pdi
    kind: DeviceKind
    device_key_id: DeviceKeyId
    fwid: bytes
    model: str
    not_before: datetime
    not_after: datetime
    report_key: P384Key


@dataclass(frozen=True, slots=True)
class TrustRoots:
    """The vendors' root certificates, DER, byte for byte."""

    certificates: frozenset[bytes]

    def __post_init__(self) -> None:
        """Refuse to trust nothing: every chain would be foreign."""
        if not self.certificates:
            raise UsageError("no trust root was given")

    @classmethod
    def parse(cls, pems: Iterable[bytes]) -> Self:
        """Read PEM files, each with one or more certificates.

        Raises:
            UsageError: A file holds no certificate or does not parse.
        """
        certificates: set[bytes] = set()
        for pem in pems:
            try:
                parsed = x509.load_pem_x509_certificates(pem)
            except (ValueError, x509.InvalidVersion) as error:
                raise UsageError("a trust root is not a PEM certificate") from error
            certificates.update(c.public_bytes(Encoding.DER) for c in parsed)
        return cls(frozenset(certificates))


def stated_device_key_id(certificates: Sequence[bytes]) -> DeviceKeyId | None:
    """Return the device key's id that a chain states, nothing of which is verified; it may only choose what to look up.

    None when there is none to read.
    """
    if len(certificates) != CHAIN_LENGTH or len(certificates[1]) > MAX_CERTIFICATE_BYTES:
        return None
    try:
        key = x509.load_der_x509_certificate(certificates[1]).public_key()
        spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return DeviceKeyId(hashlib.sha256(spki).digest())


def chain_id(certificates: Sequence[bytes]) -> ChainId:
    """Return the id of a chain of DER certificates, leaf first (docs/protocol.md I8)."""
    return ChainId(hashlib.sha256(b"".join(certificates)).digest())


class ChainVerifier:
    """Verifies chains to one set of roots and remembers those that held."""

    def __init__(self, roots: TrustRoots, capacity: int = MAX_CACHED_CHAINS) -> None:
        self._roots = roots
        self._capacity = capacity
        self._verified: OrderedDict[ChainId, VerifiedChain] = OrderedDict()
        self._refused: OrderedDict[ChainId, EvidenceError] = OrderedDict()

    def verify(self, named: ChainId, certificates: Sequence[bytes] | None, now: datetime) -> VerifiedChain:
        """Return what a chain says about its device.

        Args:
            named: The id by which the report names it.
            certificates: DER, leaf first; None when the shell has none under this id.
            now: Time of appraisal, aware.

        Raises:
            EvidenceError: One of the chain errors; the chain is not used.
        """
        verified = self._verified.get(named)
        if verified is None:
            if certificates is None:
                raise ChainMissingError(f"chain {named.hex()[:16]} was not sent and is not known")
            if chain_id(certificates) != named:
                raise ChainMissingError(f"the chain under {named.hex()[:16]} has another id")
            if (refusal := self._refused.get(named)) is not None:
                raise refusal.with_traceback(None)
            try:
                verified = verify_chain(certificates, self._roots)
            except EvidenceError as error:
                # Bytes and roots decide it, so it is decided once: a bad chain must not cost more than a good one.
                _remember(self._refused, named, error.with_traceback(None), MAX_REFUSED_CHAINS)
                raise
            _remember(self._verified, named, verified, self._capacity)
        else:
            self._verified.move_to_end(named)
        # docs/protocol.md I3: validity is a question of now, so a cached chain is asked again.
        if not verified.not_before <= now <= verified.not_after:
            raise ChainExpiredError(
                f"the chain is valid from {verified.not_before:%Y-%m-%d} to {verified.not_after:%Y-%m-%d}, "
                f"not at {now:%Y-%m-%d}"
            )
        return verified


def _remember(cache: OrderedDict[ChainId, Remembered], key: ChainId, value: Remembered, capacity: int) -> None:
    cache[key] = value
    if len(cache) > capacity:
        cache.popitem(last=False)


def verify_chain(certificates: Sequence[bytes], roots: TrustRoots) -> VerifiedChain:
    """Verify everything about a chain but its validity in time.

    Steps: 0 budgets; 1 parse; 2 root; 3 each signature and name; 4 constraints; 5 identity and firmware id.

    Raises:
        EvidenceError: One of the chain errors.
    """
    # 0. Budgets.
    if len(certificates) != CHAIN_LENGTH:  # docs/protocol.md I1
        raise ChainMalformedError(f"a chain has {CHAIN_LENGTH} certificates, not {len(certificates)}")
    if any(len(der) > MAX_CERTIFICATE_BYTES for der in certificates):
        raise LimitExceededError(f"a certificate has more than {MAX_CERTIFICATE_BYTES} bytes")
    # 1. Parse.
    parsed = [_parse(der, position) for position, der in enumerate(certificates)]
    keys = [load_p384(p.spki) for p in parsed]
    # 2. Root: equal byte for byte to a pinned one (I2).
    if certificates[-1] not in roots.certificates:
        raise ChainUntrustedRootError(f"the chain ends in {parsed[-1].subject!r}, which is not a pinned root")
    # 3. Signatures and names (I2). The root's own signature adds nothing to its being pinned.
    for position in range(CHAIN_LENGTH - 1):
        child, parent = parsed[position], parsed[position + 1]
        if child.issuer_der != parent.subject_der:
            raise ChainConstraintViolatedError(
                f"certificate {position} names another issuer than certificate {position + 1}"
            )
        if not keys[position + 1].verifies(child.signature, child.signed_part):
            raise ChainSignatureInvalidError(f"certificate {position} is not signed by certificate {position + 1}")
    # 4. Constraints (I3).
    for position, certificate in enumerate(parsed):
        _verify_constraints(certificate, position)
    # 5. Identity (I4, I5) and firmware id (I6).
    kind, pdi = _identity(parsed[1].serial)
    return VerifiedChain(
        chain_id=chain_id(certificates),
        pdi=pdi,
        kind=kind,
        device_key_id=DeviceKeyId(hashlib.sha256(parsed[1].spki).digest()),
        fwid=_firmware_id(parsed[0], parsed[1]),
        model=parsed[0].common_name.partition(" ")[0],
        not_before=max(p.not_before for p in parsed),
        not_after=min(p.not_after for p in parsed),
        report_key=keys[0],
    )


@dataclass(frozen=True, slots=True)
class _Certificate:
    """The parts of a certificate that are checked, as plain values."""

    serial: int
    subject: str
    subject_der: bytes
    issuer_der: bytes
    common_name: str
    spki: bytes
    signature: bytes
    signed_part: bytes
    not_before: datetime
    not_after: datetime
    extensions: x509.Extensions


def _parse(der: bytes, position: int) -> _Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        algorithm = certificate.signature_algorithm_oid
        parsed = _Certificate(
            serial=certificate.serial_number,
            subject=certificate.subject.rfc4514_string(),
            subject_der=certificate.subject.public_bytes(),
            issuer_der=certificate.issuer.public_bytes(),
            common_name=str(names[0].value) if names else "",
            spki=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            signature=certificate.signature,
            signed_part=certificate.tbs_certificate_bytes,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            extensions=certificate.extensions,
        )
    except Exception as error:  # cryptography raises many kinds for bad DER, some of them its own
        raise ChainMalformedError(f"certificate {position} does not parse") from error
    # docs/protocol.md I1: one curve, one algorithm.
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise ChainMalformedError(f"certificate {position} has no P-384 key")
    if algorithm != SignatureAlgorithmOID.ECDSA_WITH_SHA384:
        raise ChainMalformedError(f"certificate {position} is not signed by ECDSA with SHA-384")
    # The signature's BIT STRING ends the certificate. Bits called unused would give one chain many ids.
    if der[-len(parsed.signature) - 1] != 0:
        raise ChainMalformedError(f"certificate {position} has a signature of no whole bytes")
    return parsed


def _verify_constraints(certificate: _Certificate, position: int) -> None:
    constraints: x509.BasicConstraints | None = None
    usage: x509.KeyUsage | None = None
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.BasicConstraints):
            constraints = extension.value
        elif isinstance(extension.value, x509.KeyUsage):
            usage = extension.value
        if extension.critical and extension.oid not in _UNDERSTOOD_CRITICAL:
            raise ChainConstraintViolatedError(
                f"certificate {position} has the unknown critical extension {extension.oid.dotted_string}"
            )
    is_ca = constraints is not None and constraints.ca
    if usage is None:
        raise ChainConstraintViolatedError(f"certificate {position} has no key usage")
    if position == 0:
        if is_ca or usage.key_cert_sign or not usage.digital_signature:
            raise ChainConstraintViolatedError("the leaf must sign reports and must not be a CA")
        return
    if not is_ca or not usage.key_cert_sign:
        raise ChainConstraintViolatedError(f"certificate {position} is not a CA that may sign certificates")
    # RFC 5280 §4.2.1.9: CA certificates that may follow this one, the leaf not counted.
    if constraints is not None and constraints.path_length is not None and constraints.path_length < position - 1:
        raise ChainConstraintViolatedError(
            f"certificate {position} allows a path of {constraints.path_length}, not {position - 1}"
        )


def _identity(serial: int) -> tuple[DeviceKind, Pdi]:
    raw = serial.to_bytes((serial.bit_length() + 7) // 8, "big") if serial > 0 else b""  # RFC 5280 §4.1.2.2
    kind = _KIND_BY_SERIAL_PREFIX.get(raw[0]) if len(raw) == 1 + _PDI_BYTES else None
    if kind is None:
        raise ChainConstraintViolatedError(f"the device certificate's serial {serial:x} is not a kind and a PDI")
    return kind, Pdi(raw[1:])


def _firmware_id(leaf: _Certificate, device: _Certificate) -> bytes:
    values = {e.oid: e.value.value for e in leaf.extensions if isinstance(e.value, x509.UnrecognizedExtension)}
    composite, tcb_info = values.get(OID_COMPOSITE_DEVICE_ID), values.get(OID_DICE_TCB_INFO)
    if composite is not None:
        return parse_composite_device_id(composite, device.spki)
    if tcb_info is not None:
        return parse_tcb_info(tcb_info)
    raise ChainConstraintViolatedError("the leaf binds no firmware id")

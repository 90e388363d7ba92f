"""Certificates in the shape that H100 GPUs and LS10 switches carry, for the fictional vendor.

Spec: docs/protocol.md §5. This module shapes and signs; who holds which key is for `ca` and `device`.
"""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from firmware_stubs.firmware import VENDOR, Kind

OID_FWID = x509.ObjectIdentifier("2.23.133.5.4.1")
OID_DMTF_DEVICE_INFO = x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1")
OID_TEST_CRITICAL = x509.ObjectIdentifier("1.3.6.1.4.1.32473.1")  # RFC 5612's arc for examples

NOT_BEFORE = dt.datetime(2020, 10, 17, tzinfo=dt.UTC)
NOT_AFTER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)  # RFC 5280 §4.1.2.5: no expiry

_P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
_DER_OID_SHA384 = bytes.fromhex("0609608648016503040202")  # 2.16.840.1.101.3.4.2.2
_CRL_URL = "http://crl.emulated.invalid/{}.crl"
_OCSP_URL = "http://ocsp.emulated.invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What one otherwise good device chain lies about; the defaults tell the truth."""

    device_serial: int | None = None
    device_is_ca: bool = True
    device_may_sign_certificates: bool = True
    device_not_after: dt.datetime = NOT_AFTER
    leaf_is_ca: bool = False
    leaf_not_before: dt.datetime = NOT_BEFORE
    leaf_not_after: dt.datetime = NOT_AFTER
    leaf_issuer: x509.Name | None = None
    leaf_signer: ec.EllipticCurvePrivateKey | None = None
    leaf_unknown_critical: bool = False
    fwid: bytes | None = None
    fwid_public_key: bytes | None = None  # DER SubjectPublicKeyInfo


TRUTH = Overrides()


def spki_der(key: ec.EllipticCurvePublicKey) -> bytes:
    """DER SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def derive_key(seed: bytes, label: bytes) -> ec.EllipticCurvePrivateKey:
    """The P-384 key that `seed` gives under `label`: what a ROM does with its fuses, the same at every power-on."""
    # 8 bytes more than the order has make the bias of the reduction negligible (FIPS 186-5 A.2.1).
    wide = HKDF(algorithm=hashes.SHA384(), length=56, salt=None, info=label).derive(seed)
    return ec.derive_private_key(1 + int.from_bytes(wide, "big") % (_P384_ORDER - 1), ec.SECP384R1())


def root_name() -> x509.Name:
    """Subject of certificate [4]."""
    return x509.Name([_common("Emulated Device Identity CA"), _attribute(NameOID.ORGANIZATION_NAME, VENDOR)])


def identity_name() -> x509.Name:
    """Subject of certificate [3]."""
    return x509.Name([_common("Emulated EM100 Identity"), _attribute(NameOID.ORGANIZATION_NAME, f"{VENDOR} Corp")])


def provisioner_name(kind: Kind) -> x509.Name:
    """Subject of certificate [2]."""
    return x509.Name(
        [
            _common(f"Emulated {kind.family} Provisioner ICA 1"),
            _attribute(NameOID.ORGANIZATION_NAME, f"{VENDOR} Corp"),
            _attribute(NameOID.COUNTRY_NAME, "XX"),
        ],
    )


def authority_certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    crl: str | None,
) -> x509.Certificate:
    """Certificate [2], [3] or, without a `crl` name, the root [4]."""
    serial = int.from_bytes(hashlib.sha256(b"authority" + spki_der(key)).digest()[:16], "big") >> 1
    builder = _builder(subject, key, issuer, serial)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(cert_sign=True, crl_sign=True), critical=True)
    if crl is not None:
        point = x509.DistributionPoint([x509.UniformResourceIdentifier(_CRL_URL.format(crl))], None, None, None)
        ocsp = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(_OCSP_URL))
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
        builder = builder.add_extension(x509.AuthorityInformationAccess([ocsp]), critical=False)
    return _signed(builder, key, issuer_key)


def device_certificate(
    kind: Kind,
    pdi: bytes,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    overrides: Overrides = TRUTH,
) -> x509.Certificate:
    """Certificate [1], which says that this key was burnt into the device of this PDI (docs/protocol.md I4, I5)."""
    serial = int.from_bytes(bytes([kind.serial_prefix]) + pdi, "big")
    serial = serial if overrides.device_serial is None else overrides.device_serial
    builder = _builder(
        _device_name(f"{kind.family} A01 {kind.core} BROM", f"{serial:X}"),
        key,
        issuer.subject,
        serial,
        not_after=overrides.device_not_after,
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=overrides.device_is_ca, path_length=None), critical=True)
    may_sign = overrides.device_may_sign_certificates
    builder = builder.add_extension(_usage(cert_sign=may_sign, digital_signature=not may_sign), critical=True)
    return _signed(builder, key, issuer_key)


def leaf_certificate(
    kind: Kind,
    pdi: bytes,
    fwid: bytes,
    key: ec.EllipticCurvePublicKey,
    *,
    device: x509.Certificate,
    device_key: ec.EllipticCurvePrivateKey,
    overrides: Overrides = TRUTH,
) -> x509.Certificate:
    """Certificate [0], made by the device's ROM for the firmware that it is about to start (docs/protocol.md I6)."""
    serial_bytes = bytearray(x509.SubjectKeyIdentifier.from_public_key(key).digest)
    serial_bytes[0] = serial_bytes[0] & 0x7F | 0x40  # as real leaves do: positive, and never a shorter integer
    serial = int.from_bytes(serial_bytes, "big")
    builder = _builder(
        _device_name(f"{kind.family} A01 {kind.core} FMC LF", f"{serial:X}"),
        key,
        overrides.leaf_issuer or device.subject,
        serial,
        not_before=overrides.leaf_not_before,
        not_after=overrides.leaf_not_after,
    )
    if overrides.leaf_is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    label = _der(0x0C, f"EMULATED:{kind.family}:{pdi.hex().upper()}".encode())
    names = x509.SubjectAlternativeName([x509.OtherName(OID_DMTF_DEVICE_INFO, label)])
    builder = builder.add_extension(names, critical=False)
    bound = overrides.fwid_public_key or spki_der(device_key.public_key())
    extension = x509.UnrecognizedExtension(OID_FWID, fwid_extension(bound, overrides.fwid or fwid))
    builder = builder.add_extension(extension, critical=False)
    if overrides.leaf_unknown_critical:
        builder = builder.add_extension(x509.UnrecognizedExtension(OID_TEST_CRITICAL, b"\x05\x00"), critical=True)
    return _signed(builder, key, overrides.leaf_signer or device_key)


def fwid_extension(spki: bytes, fwid: bytes) -> bytes:
    """DER of extension 2.23.133.5.4.1 (docs/protocol.md I6)."""
    version = _der(0x02, b"\x01")
    return _der(0x30, version + spki + _der(0x30, _DER_OID_SHA384 + _der(0x04, fwid)))


def chain_pem(chain: Sequence[x509.Certificate]) -> bytes:
    """PEM, leaf first."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    size = bytes([length]) if length < 0x80 else bytes([0x81, length])  # nothing here reaches 256 bytes
    return bytes([tag]) + size + content


def _attribute(oid: x509.ObjectIdentifier, value: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(oid, value)


def _common(value: str) -> x509.NameAttribute[str]:
    return _attribute(NameOID.COMMON_NAME, value)


def _device_name(common_name: str, serial: str) -> x509.Name:
    return x509.Name(
        [
            _attribute(NameOID.SERIAL_NUMBER, serial),
            _attribute(NameOID.COUNTRY_NAME, "XX"),
            _attribute(NameOID.ORGANIZATION_NAME, f"{VENDOR} Corp"),
            _common(common_name),
        ],
    )


def _usage(*, digital_signature: bool = False, cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    serial: int,
    *,
    not_before: dt.datetime = NOT_BEFORE,
    not_after: dt.datetime = NOT_AFTER,
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key, serial_number=serial)
    return builder.not_valid_before(not_before).not_valid_after(not_after)


def _signed(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(authority, critical=False)
    # Deterministic, so that the same firmware gives the same leaf, and so the same chain id, at every power-on.
    return builder.sign(issuer_key, hashes.SHA384(), ecdsa_deterministic=True)

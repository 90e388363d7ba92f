"""The DICE extensions in a leaf certificate that bind it to firmware.

TCG DICE Attestation Architecture; docs/protocol.md I6. Only the DER is read here; which firmware id counts, and what it
must equal, is decided in chain.py and spdm.py.
"""

from typing import Annotated

from cryptography import x509
from cryptography.hazmat import asn1

from verifier.errors import ChainConstraintViolatedError

OID_COMPOSITE_DEVICE_ID = x509.ObjectIdentifier("2.23.133.5.4.1")
OID_DICE_TCB_INFO = x509.ObjectIdentifier("2.23.133.5.4.1.1")
_OID_SHA384 = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.2")

FWID_BYTES = 48
_COMPOSITE_VERSION = 1


@asn1.sequence
class _Fwid:
    hash_algorithm: x509.ObjectIdentifier
    digest: bytes


@asn1.sequence
class _CompositeDeviceId:
    version: int
    device_key: asn1.TLV
    fwid: _Fwid


@asn1.sequence
class _DiceTcbInfo:
    vendor: Annotated[str | None, asn1.Implicit(0)]
    model: Annotated[str | None, asn1.Implicit(1)]
    version: Annotated[str | None, asn1.Implicit(2)]
    svn: Annotated[int | None, asn1.Implicit(3)]
    layer: Annotated[int | None, asn1.Implicit(4)]
    index: Annotated[int | None, asn1.Implicit(5)]
    fwids: Annotated[list[_Fwid] | None, asn1.Implicit(6)]
    flags: Annotated[asn1.BitString | None, asn1.Implicit(7)]
    vendor_info: Annotated[bytes | None, asn1.Implicit(8)]
    type: Annotated[bytes | None, asn1.Implicit(9)]


def parse_composite_device_id(der: bytes, device_spki: bytes) -> bytes:
    """Return the FWID, 48 bytes, of extension 2.23.133.5.4.1.

    Args:
        der: The extension's value.
        device_spki: SubjectPublicKeyInfo of certificate [1], which the extension must name.

    Raises:
        ChainConstraintViolatedError: The value does not parse, or names another key or hash.
    """
    try:
        value = asn1.decode_der(_CompositeDeviceId, der)
    except ValueError as error:
        raise ChainConstraintViolatedError("the firmware id extension does not parse") from error
    named_key = value.device_key.tag_bytes + _der_length(len(value.device_key.data)) + bytes(value.device_key.data)
    if value.version != _COMPOSITE_VERSION or named_key != device_spki:
        raise ChainConstraintViolatedError("the firmware id extension does not name the device key")
    return _sha384_digest(value.fwid)


def parse_tcb_info(der: bytes) -> bytes:
    """Return the one FWID, 48 bytes, of a DiceTcbInfo.

    Raises:
        ChainConstraintViolatedError: It does not parse, or does not hold exactly one SHA-384 FWID.
    """
    try:
        value = asn1.decode_der(_DiceTcbInfo, der)
    except ValueError as error:
        raise ChainConstraintViolatedError("DiceTcbInfo does not parse") from error
    if value.fwids is None or len(value.fwids) != 1:
        raise ChainConstraintViolatedError("DiceTcbInfo must hold exactly one firmware id")
    return _sha384_digest(value.fwids[0])


def _sha384_digest(fwid: _Fwid) -> bytes:
    if fwid.hash_algorithm != _OID_SHA384 or len(fwid.digest) != FWID_BYTES:
        raise ChainConstraintViolatedError("the firmware id is not a SHA-384 digest")
    return bytes(fwid.digest)


def _der_length(length: int) -> bytes:
    # A P-384 SubjectPublicKeyInfo has 118 content bytes; any other length cannot equal it, whatever its form.
    return bytes([length & 0x7F])

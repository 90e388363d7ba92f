"""The two signature algorithms that evidence uses, each through its fastest library with `cryptography` as fallback.

awscrt (AWS-LC) checks P-384 2.5 times as fast as `cryptography`, PyNaCl Ed25519 twice as fast (measured).
Tests hold the two libraries of each pair to the same answers. Allow-list: ECDSA P-384 with SHA-384 (FIPS 186-5),
Ed25519 (RFC 8032); nothing else is checked here.
"""

import hashlib
from typing import Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import load_der_public_key

from verifier.errors import UsageError

try:
    from awscrt.crypto import EC as AwsKey  # noqa: N811  (a class whose own name is a bare acronym)
except ImportError:  # pragma: no cover  (a platform without a wheel of awscrt)
    AwsKey = None
try:
    from nacl.bindings import crypto_sign_open
    from nacl.exceptions import BadSignatureError
except ImportError:  # pragma: no cover  (a platform without a wheel of PyNaCl)
    crypto_sign_open = None  # type: ignore[assignment]

P384_RAW_BYTES = 96
"""r ‖ s, 48 bytes each, big-endian."""

# Encodings of the Ed25519 points of small order, sign bit cleared, two of them not canonical. Under such a key OpenSSL
# takes signatures that nobody made; libsodium refuses the key.
_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)

_P384_PREHASHED = ec.ECDSA(Prehashed(SHA384()))


class P384Key(Protocol):
    """A public key that checks P-384 signatures."""

    def verifies(self, der_signature: bytes, message: bytes) -> bool:
        """Return whether the DER signature holds over SHA-384 of the message. Never raises for a bad signature."""
        ...


class CryptographyP384Key:
    """P-384 by `cryptography` (OpenSSL)."""

    __slots__ = ("_key",)

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self._key = key

    @classmethod
    def from_spki(cls, spki: bytes) -> Self:
        """Load a DER SubjectPublicKeyInfo.

        Raises:
            UsageError: It is not a P-384 key.
        """
        return cls(_load_p384(spki))

    def verifies(self, der_signature: bytes, message: bytes) -> bool:
        """See `P384Key.verifies`."""
        try:
            self._key.verify(der_signature, hashlib.sha384(message).digest(), _P384_PREHASHED)
        except InvalidSignature:
            return False
        return True


class AwsP384Key:
    """P-384 by awscrt (AWS-LC)."""

    __slots__ = ("_key",)

    def __init__(self, spki: bytes) -> None:
        self._key = AwsKey.new_key_from_der_data(spki)

    @classmethod
    def from_spki(cls, spki: bytes) -> Self:
        """Load a DER SubjectPublicKeyInfo.

        Raises:
            UsageError: It is not a P-384 key. awscrt would take other curves, so the curve is checked first.
        """
        _load_p384(spki)
        return cls(spki)

    def verifies(self, der_signature: bytes, message: bytes) -> bool:
        """See `P384Key.verifies`."""
        try:
            return bool(self._key.verify(hashlib.sha384(message).digest(), der_signature))
        except RuntimeError:  # awscrt raises it for a signature that does not parse
            return False


def load_p384(spki: bytes) -> P384Key:
    """Load a P-384 public key for the hot path.

    Raises:
        UsageError: It is not a P-384 key.
    """
    return CryptographyP384Key.from_spki(spki) if AwsKey is None else AwsP384Key.from_spki(spki)


def der_signature(raw: bytes) -> bytes:
    """Return the DER form of a raw `r ‖ s` signature of 96 bytes (docs/protocol.md §4)."""
    if len(raw) != P384_RAW_BYTES:
        raise UsageError(f"a raw P-384 signature has {P384_RAW_BYTES} bytes, not {len(raw)}")
    return encode_dss_signature(int.from_bytes(raw[:48], "big"), int.from_bytes(raw[48:], "big"))


def _load_p384(spki: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(spki)
    except Exception as error:  # cryptography documents several, some of them its own
        raise UsageError("not a public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise UsageError("not a P-384 public key")
    return key


def ed25519_verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether an Ed25519 signature holds. Never raises for a bad signature or key.

    Args:
        public_key: Raw, 32 bytes.
        signature: 64 bytes.
        message: What was signed.
    """
    if len(public_key) != 32 or len(signature) != 64:
        return False
    if crypto_sign_open is None:  # pragma: no cover  (see the import)
        return cryptography_ed25519_verifies(public_key, signature, message)
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def cryptography_ed25519_verifies(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """The same by `cryptography`: fallback, and cross-check in tests."""
    if public_key[:31] + bytes(b & 0x7F for b in public_key[31:]) in _SMALL_ORDER:
        return False
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True

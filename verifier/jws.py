"""Compact JWS under ES256 and JWK sets, as far as attestation results use them (docs/protocol.md EA1, EA5).

RFC 7515, RFC 7517, RFC 7518 §3.4, RFC 7638. One algorithm and one curve: a token that names another is refused. Strict:
base64url without padding, in its one spelling.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from verifier.errors import UsageError
from verifier.limits import MAX_JWKS_BYTES, MAX_RESULT_BYTES

ALGORITHM: Final = "ES256"
_COORDINATE_BYTES: Final = 32


class JwsError(UsageError):
    """A token or a key set is not what it should be, or is not signed by one of its keys; the message says why."""


@dataclass(frozen=True, slots=True)
class KeySet:
    """Public P-256 keys by their RFC 7638 thumbprint."""

    keys: Mapping[str, ec.EllipticCurvePublicKey]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a JWK set. Keys of other kinds are passed over; raises `JwsError`."""
        if len(data) > MAX_JWKS_BYTES:
            raise JwsError(f"a key set of more than {MAX_JWKS_BYTES} bytes")
        listed = read_object(data).get("keys")
        if not isinstance(listed, list):
            raise JwsError("a key set has the member keys, a list")
        return cls(MappingProxyType(dict(map(_key, filter(_is_ours, listed)))))


def thumbprint(x: str, y: str) -> str:
    """Return the RFC 7638 thumbprint of a P-256 key from its coordinates as a JWK spells them."""
    required = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    return base64.urlsafe_b64encode(sha256(required.encode()).digest()).rstrip(b"=").decode()


def verify_jws(token: str, keys: KeySet) -> bytes:
    """Return a token's payload; raises `JwsError` unless one of the keys signed it."""
    header, payload = unverified_parts(token)
    key = keys.keys.get(header["kid"])
    if key is None:
        raise JwsError(f"no key of the set is {header['kid']!r}")
    signed, _, signature = token.rpartition(".")
    raw = decode_base64url(signature)
    if len(raw) != 2 * _COORDINATE_BYTES:
        raise JwsError(f"an ES256 signature has {2 * _COORDINATE_BYTES} bytes, not {len(raw)}")
    r, s = (int.from_bytes(half) for half in (raw[:_COORDINATE_BYTES], raw[_COORDINATE_BYTES:]))
    try:
        key.verify(encode_dss_signature(r, s), signed.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise JwsError("the signature does not hold") from error
    return payload


def unverified_parts(token: str) -> tuple[dict[str, str], bytes]:
    """Return a token's `kid` and `alg`, and its payload. Nothing says that they are true; raises `JwsError`."""
    if len(token) > MAX_RESULT_BYTES:
        raise JwsError(f"a token of more than {MAX_RESULT_BYTES} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise JwsError("a compact token has three parts")
    header = read_object(decode_base64url(parts[0]))
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm != ALGORITHM:  # RFC 8725 §3.1: the reader chooses, never the token
        raise JwsError(f"a result is signed by {ALGORITHM} and not by {algorithm!r}")
    if not isinstance(kid, str):
        raise JwsError("a token names its key: kid")
    if "crit" in header:  # RFC 7515 §4.1.11: nothing that must be understood is
        raise JwsError("the token asks for extensions that this reader does not know")
    return {"alg": ALGORITHM, "kid": kid}, decode_base64url(parts[1])


def decode_base64url(text: str) -> bytes:
    """Read base64url without padding, in its one spelling (RFC 4648 §3.5); raises `JwsError`."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise JwsError(f"not base64url: {error}") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise JwsError("not the one spelling of its bytes in base64url")
    return data


def read_object(data: bytes) -> dict[str, object]:
    """Read a JSON object in which no member stands twice; raises `JwsError`."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise JwsError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise JwsError("not a JSON object")
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JwsError("a member stands twice")
    return members


def _no_constant(name: str) -> object:
    raise JwsError(f"{name} is no JSON")


def _is_ours(jwk: object) -> bool:
    return isinstance(jwk, dict) and (jwk.get("kty"), jwk.get("crv")) == ("EC", "P-256")


def _key(jwk: Mapping[str, object]) -> tuple[str, ec.EllipticCurvePublicKey]:
    x, y = jwk.get("x"), jwk.get("y")
    if not isinstance(x, str) or not isinstance(y, str):
        raise JwsError("a P-256 key has the coordinates x and y")
    raw = [decode_base64url(each) for each in (x, y)]
    if any(len(each) != _COORDINATE_BYTES for each in raw):
        raise JwsError(f"a coordinate has {_COORDINATE_BYTES} bytes")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + b"".join(raw))
    except ValueError as error:
        raise JwsError("a key is not on the curve") from error
    # docs/protocol.md EA1: a key is called by its thumbprint, so a set cannot put one in another's place.
    return thumbprint(x, y), key

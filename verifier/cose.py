"""COSE_Sign1_Tagged with Ed25519, as strict as docs/protocol.md C3 asks.

One protected header, no unprotected one, attached payload. By hand on cbor2: the libraries that were tried accept
unknown `crit`, trailing bytes or a mismatched algorithm (docs/dependencies.md).
"""

from dataclasses import dataclass, replace
from typing import Any

import cbor2

from verifier import cbor
from verifier.signatures import ed25519_verifies

_TAG_SIGN1 = 18  # RFC 9052 §2
_ALG_ED25519 = -19  # RFC 9864 §2.2
_HEADER_ALG, _HEADER_KID = 1, 4


@dataclass(frozen=True, slots=True)
class Sign1:
    """A message whose form is right and whose signature nobody has checked.

    Attributes:
        kid: Key id that it names, 32 bytes.
        untrusted_payload: The payload, decoded or as it is.
    """

    kid: bytes
    untrusted_payload: Any
    _to_be_signed: tuple[bytes, bytes]
    _signature: bytes

    def verifies(self, public_key: bytes, external_aad: bytes) -> bool:
        """Return whether the signature holds under a raw Ed25519 key (RFC 9052 §4.4)."""
        protected, payload = self._to_be_signed
        structure = cbor.encode(["Signature1", protected, external_aad, payload])
        return ed25519_verifies(public_key, self._signature, structure)


def parse_sign1(data: bytes) -> Sign1:
    """Take a message apart whose payload is CBOR.

    Raises:
        cbor.NotDeterministicError: Its form is not exactly that of docs/protocol.md C3.
    """
    message = parse_sign1_of_bytes(data)
    return replace(message, untrusted_payload=cbor.decode(message.untrusted_payload))


def parse_sign1_of_bytes(data: bytes) -> Sign1:
    """Take a message apart whose payload is bytes as they are (docs/protocol.md R9).

    Raises:
        cbor.NotDeterministicError: Its form is not exactly that of docs/protocol.md C3.
    """
    tagged = cbor.decode(data)
    if not isinstance(tagged, cbor2.CBORTag) or tagged.tag != _TAG_SIGN1:
        raise cbor.NotDeterministicError("not COSE_Sign1_Tagged")
    parts = tagged.value
    if not isinstance(parts, list | tuple) or len(parts) != 4:  # cbor2 gives what is inside a tag as immutable values
        raise cbor.NotDeterministicError("COSE_Sign1 has four parts")
    protected, unprotected, payload, signature = parts
    if not (
        isinstance(protected, bytes)
        and unprotected == {}
        and isinstance(payload, bytes)
        and isinstance(signature, bytes)
    ):
        raise cbor.NotDeterministicError("a part of COSE_Sign1 has the wrong type")
    header = cbor.decode(protected)
    if not cbor.has_keys(header, {_HEADER_ALG, _HEADER_KID}) or type(header[_HEADER_ALG]) is not int:
        raise cbor.NotDeterministicError("the protected header is not a map of alg and kid")
    if header[_HEADER_ALG] != _ALG_ED25519:
        raise cbor.NotDeterministicError("the protected header is not {1: -19, 4: kid}")
    kid = header[_HEADER_KID]
    if not isinstance(kid, bytes) or len(kid) != 32:
        raise cbor.NotDeterministicError("kid is not 32 bytes")
    return Sign1(kid, payload, (protected, payload), signature)

"""COSE_Sign1 as docs/protocol.md C2 and C3 fix it, by hand on cbor2.

One algorithm, one protected header, an empty unprotected header, an attached payload. A message is accepted only if
writing down what was read gives the same bytes. What the payload means is the caller's affair.
"""

from collections.abc import Callable, Mapping
from typing import Final

import cbor2
from nacl.exceptions import CryptoError
from nacl.signing import VerifyKey

from landmark.errors import NotDeterministicError, SignatureInvalidError

TICKET_LABEL: Final = b"trigpoint-ticket-v1\0"
RECEIPT_LABEL: Final = b"trigpoint-receipt-v1\0"
STATEMENT_LABEL: Final = b"trigpoint-prover-v1\0"
RECORD_LABEL: Final = b"trigpoint-landmark-v1\0"

_TAG_SIGN1: Final = 18  # RFC 9052 §4.2
_ALGORITHM_ED25519: Final = -19  # RFC 9864 §2.2
# d2 84 | 58 26 a2 01 32 04 58 20 key id | a0 | head, payload | 58 40 signature
_KEY_ID: Final = slice(10, 42)
_PAYLOAD_AT: Final = 43
_PAYLOAD_HEAD_BYTES: Final = (1, 2, 3)  # payloads of up to 65,535 bytes
_SIGNATURE_HEAD_BYTES: Final = 2
_SIGNATURE_BYTES: Final = 64

# cbor2 acts on these tags while it reads, down to compiling regular expressions; the bytes may be anybody's.
_TAGS_CBOR2_ACTS_ON: Final = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)


def _refuse(_decoder: cbor2.CBORDecoder, *_more: object) -> object:
    raise cbor2.CBORDecodeError("a tag that no message uses")


_NO_TAGS: Final = dict.fromkeys(_TAGS_CBOR2_ACTS_ON, _refuse)


def encode(value: object) -> bytes:
    """Return `value` in deterministic CBOR. docs/protocol.md C2."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> object:
    """Return the value of one deterministic CBOR item.

    Raises:
        NotDeterministicError: it is no CBOR, not the deterministic encoding, or something follows it.
    """
    try:
        # cbor2 does not see what follows the item, nor longer integers than needed: both show in the comparison.
        value: object = cbor2.loads(
            data, max_depth=4, allow_indefinite=False, allow_duplicate_keys=False, semantic_decoders=_NO_TAGS
        )
        again = encode(value)
    except (cbor2.CBORDecodeError, cbor2.CBOREncodeError, ValueError, TypeError, OverflowError) as error:
        raise NotDeterministicError("not CBOR") from error
    if again != data:
        raise NotDeterministicError("not the deterministic encoding")
    return value


def sign1(payload: bytes, label: bytes, key_id: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """Return COSE_Sign1_Tagged over `payload`; `sign` maps the bytes to be signed to 64 signature bytes."""
    protected = _protected(key_id)
    return _message(protected, payload, sign(_to_be_signed(protected, label, payload)))


def verify1(message: bytes, label: bytes, keys: Mapping[bytes, VerifyKey]) -> bytes:
    """Return the payload of a message that one of `keys` (by key id) signed for `label`.

    Raises:
        NotDeterministicError: it is not exactly the message of C3.
        SignatureInvalidError: no such key, or the signature does not hold.
    """
    # No decoder sees bytes that nobody signed: the parts stand at fixed places, and the message that they make must be
    # this one, byte for byte.
    key_id, signature = message[_KEY_ID], message[-_SIGNATURE_BYTES:]
    protected = _protected(key_id)
    for head_bytes in _PAYLOAD_HEAD_BYTES:
        payload = message[_PAYLOAD_AT + head_bytes : -_SIGNATURE_BYTES - _SIGNATURE_HEAD_BYTES]
        if message == _message(protected, payload, signature):
            break
    else:
        raise NotDeterministicError("not the message of C3")
    key = keys.get(key_id)
    if key is None:
        raise SignatureInvalidError("signed by a key that is not known here")
    try:
        key.verify(_to_be_signed(protected, label, payload), signature)
    except CryptoError as error:
        raise SignatureInvalidError("the signature does not hold") from error
    return payload


def _protected(key_id: bytes) -> bytes:
    return encode({1: _ALGORITHM_ED25519, 4: key_id})


def _message(protected: bytes, payload: bytes, signature: bytes) -> bytes:
    return encode(cbor2.CBORTag(_TAG_SIGN1, [protected, {}, payload, signature]))


def _to_be_signed(protected: bytes, label: bytes, payload: bytes) -> bytes:
    return encode(["Signature1", protected, label, payload])  # RFC 9052 §4.4

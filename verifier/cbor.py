"""Deterministic CBOR (RFC 8949 §4.2.1; docs/protocol.md C2): one value, one encoding, nothing after it."""

import io
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import cbor2

MAX_DEPTH = 8
"""The claims have four levels. cbor2 takes time that doubles with each level of containers inside map keys."""

# cbor2 acts on these tags while it reads: it compiles regular expressions, builds sets, shares references. No message
# uses any, and none may run on bytes that nobody has signed.
_TAGS_CBOR2_ACTS_ON = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)


def _refuse(_decoder: cbor2.CBORDecoder, *_more: object) -> Any:
    raise cbor2.CBORDecodeError("a tag that no message uses")


_NO_TAGS = dict.fromkeys(_TAGS_CBOR2_ACTS_ON, _refuse)


class NotDeterministicError(ValueError):
    """The bytes are not the deterministic encoding of one CBOR item. Never leaves the core."""


def decode(data: bytes) -> Any:
    """Return the one item that `data` encodes.

    Raises:
        NotDeterministicError: It does not parse, something follows, or another encoding of the same item is the
            deterministic one.
    """
    stream = io.BytesIO(data)
    try:
        # cbor2 still takes trailing bytes and long forms, so the item is encoded again and compared.
        item = cbor2.CBORDecoder(
            stream,
            allow_duplicate_keys=False,
            allow_indefinite=False,
            max_depth=MAX_DEPTH,
            semantic_decoders=_NO_TAGS,
        ).decode()
        again = cbor2.dumps(item, canonical=True)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError, EOFError) as error:
        raise NotDeterministicError("not CBOR") from error
    if again != data:
        raise NotDeterministicError("not the deterministic encoding, or something follows the item")
    return item


def has_keys(value: Any, required: AbstractSet[int], optional: AbstractSet[int] = frozenset()) -> bool:
    """Return whether a decoded value is a map with these integer keys; 1.0 and true equal 1 in Python, and are not."""
    return (
        isinstance(value, Mapping)
        and all(type(key) is int for key in value)
        and required <= value.keys() <= required | optional
    )


def encode(item: Any) -> bytes:
    """Return the deterministic encoding of an item."""
    return cbor2.dumps(item, canonical=True)

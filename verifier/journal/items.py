"""What the journal says of one row, and of one transaction (docs/protocol.md J2, J3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import TypeAlias

from verifier import cbor
from verifier.journal.merkle import leaf_hash, root_of

Value: TypeAlias = int | float | str | bytes | None
"""What a column holds."""

TAG_BYTES = 16
COMMITMENT_BYTES = 32
ITEM_BYTES = TAG_BYTES + COMMITMENT_BYTES
SALT_BYTES = 16
SECRET_BYTES = 32
LONG_VALUE_BYTES = 256
"""A longer value stands in its row by its hash, so that a row can be shown without it."""

REMOVED = bytes(COMMITMENT_BYTES)
"""Commitment of a row that is gone."""

MAX_ITEMS = 4_096
"""Of one entry."""

_ITEM = b"trigpoint-item-v1\0"
_ENTRY = b"trigpoint-entry-v1\0"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Keys of the hashes that salt and tag items; without them nobody can guess what an item stands for."""

    salt_key: bytes
    tag_key: bytes

    def salt(self, row: bytes) -> bytes:
        """Return the salt of a row."""
        return blake2b(row, key=self.salt_key, digest_size=SALT_BYTES).digest()

    def tag(self, table: str, key: Sequence[Value]) -> bytes:
        """Return the tag of the row with this primary key."""
        return blake2b(cbor.encode([table, *key]), key=self.tag_key, digest_size=TAG_BYTES).digest()

    def item(self, table: str, key: Sequence[Value], row: bytes) -> bytes:
        """Return the item of a row that stands."""
        return self.tag(table, key) + commitment(self.salt(row), row)


def row_bytes(table: str, columns: Mapping[str, Value]) -> bytes:
    """Return the bytes that a row's commitment covers; columns in any order."""
    parts: list[object] = [table]
    for name in sorted(columns):
        parts += (name, short(columns[name]))
    return cbor.encode(parts)


def short(value: Value) -> object:
    """Return how a value stands in its row: itself, or size and hash of a long one."""
    if not isinstance(value, bytes | str) or len(value) <= LONG_VALUE_BYTES // 4:
        return value
    data = value.encode() if isinstance(value, str) else value
    return value if len(data) <= LONG_VALUE_BYTES else [len(data), sha256(data).digest()]


def commitment(salt: bytes, row: bytes) -> bytes:
    """Return what an item says of a row."""
    return sha256(_ITEM + salt + row).digest()


def item_hashes(items: bytes) -> list[bytes]:
    """Return the leaf hashes of joined items; raises `ValueError` when they are none."""
    if not items or len(items) % ITEM_BYTES:
        raise ValueError(f"{len(items)} bytes are no items")
    return [leaf_hash(items[at : at + ITEM_BYTES]) for at in range(0, len(items), ITEM_BYTES)]


def entry_leaf(at_us: int, count: int, root: bytes) -> bytes:
    """Return an entry's leaf data.

    Args:
        at_us: When, microseconds since 1970 UTC.
        count: How many items.
        root: Tree hash over them.
    """
    return sha256(_ENTRY + at_us.to_bytes(8, "big") + count.to_bytes(4, "big") + root).digest()


def entry_of(at_us: int, items: bytes) -> bytes:
    """Return the leaf data of an entry of joined items."""
    hashes = item_hashes(items)
    return entry_leaf(at_us, len(hashes), root_of(hashes))

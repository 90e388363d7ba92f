"""What an item commits to (docs/protocol.md J2, J3), written out by hand."""

from hashlib import blake2b, sha256

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.journal import items
from verifier.journal.merkle import leaf_hash, root_of

SECRETS = items.Secrets(salt_key=bytes(range(32)), tag_key=bytes(range(32, 64)))
VALUES = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.binary(max_size=400)
    | st.text(max_size=400)
)


def test_a_row_is_its_table_and_its_columns_in_the_order_of_their_names() -> None:
    row = items.row_bytes("cases", {"number": 7, "by": "officer/ann", "at": None, "share": 0.5, "raw": b"\1"})
    expected = ["cases", "at", None, "by", "officer/ann", "number", 7, "raw", b"\1", "share", 0.5]
    assert row == cbor2.dumps(expected, canonical=True)


@pytest.mark.parametrize("length", [0, 64, 65, 255, 256, 257, 5_000])
def test_a_long_value_stands_by_its_size_and_hash(length: int) -> None:
    data = b"x" * length
    (stands,) = cbor2.loads(items.row_bytes("t", {"c": data}))[2:]
    assert stands == (data if length <= 256 else [length, sha256(data).digest()])


def test_a_text_is_measured_in_bytes() -> None:
    fits, too_long = "é" * 128, "é" * 129
    assert items.short(fits) == fits
    assert items.short(too_long) == [258, sha256(too_long.encode()).digest()]


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5), st.dictionaries(st.text(max_size=8), VALUES))
def test_rows_that_differ_are_other_bytes(one: dict[str, items.Value], other: dict[str, items.Value]) -> None:
    assert (items.row_bytes("t", one) == items.row_bytes("t", other)) == (spelled(one) == spelled(other))


def spelled(columns: dict[str, items.Value]) -> dict[str, str]:
    """Columns so that 1 is not 1.0, and 0.0 not -0.0."""
    return {name: repr(value) for name, value in columns.items()}


def test_an_item_is_tag_and_commitment() -> None:
    row = items.row_bytes("cases", {"number": 7})
    salt = blake2b(row, key=SECRETS.salt_key, digest_size=16).digest()
    tag = blake2b(cbor2.dumps(["cases", 7]), key=SECRETS.tag_key, digest_size=16).digest()
    committed = sha256(b"trigpoint-item-v1\0" + salt + row).digest()
    assert SECRETS.salt(row) == salt
    assert SECRETS.tag("cases", (7,)) == tag
    assert items.commitment(salt, row) == committed
    assert SECRETS.item("cases", (7,), row) == tag + committed
    assert len(tag + committed) == items.ITEM_BYTES
    assert committed != items.REMOVED


def test_who_has_not_the_secrets_cannot_guess() -> None:
    row = items.row_bytes("cases", {"number": 7})
    other = items.Secrets(salt_key=bytes(32), tag_key=bytes(32))
    assert SECRETS.item("cases", (7,), row)[:16] != other.item("cases", (7,), row)[:16]
    assert SECRETS.item("cases", (7,), row)[16:] != other.item("cases", (7,), row)[16:]


def test_an_entry_is_time_count_and_root_over_its_items() -> None:
    joined = b"".join(bytes([n]) * items.ITEM_BYTES for n in range(5))
    root = root_of([leaf_hash(bytes([n]) * items.ITEM_BYTES) for n in range(5)])
    at_us = 1_900_000_000_000_000
    data = b"trigpoint-entry-v1\0" + at_us.to_bytes(8, "big") + (5).to_bytes(4, "big") + root
    assert items.entry_of(at_us, joined) == items.entry_leaf(at_us, 5, root) == sha256(data).digest()
    assert items.entry_of(at_us + 1, joined) != items.entry_of(at_us, joined)


@pytest.mark.parametrize("size", [0, 1, 47, 49, 100])
def test_bytes_that_are_no_items(size: int) -> None:
    with pytest.raises(ValueError, match="no items"):
        items.item_hashes(bytes(size))

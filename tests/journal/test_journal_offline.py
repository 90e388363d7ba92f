"""Rows that stand in a journal and are no rows: a server signs anything."""

from datetime import UTC, datetime

import cbor2
import pytest

from console.offline_journal import EntryPath, NotShownError, RowPath, check_rows
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.items import MAX_ITEMS, Value, commitment, entry_leaf, row_bytes
from verifier.journal.merkle import leaf_hash, nodes_of, prove_inclusion, root_of

TAG, SALT = bytes(16), bytes(range(16))
AT_US = 1_780_000_000_123_456


def journal_of(row: bytes, at_us: int = AT_US) -> tuple[Checkpoint, EntryPath, RowPath]:
    """A log of three entries, whose second has three items, whose last stands for this row."""
    items = [leaf_hash(b"one"), leaf_hash(b"two"), leaf_hash(TAG + commitment(SALT, row))]
    entry = leaf_hash(entry_leaf(at_us, len(items), root_of(items)))
    leaves = [leaf_hash(b"first"), entry, leaf_hash(b"last")]
    return (
        Checkpoint("log.example", len(leaves), root_of(leaves)),
        EntryPath(1, at_us, len(items), prove_inclusion(1, len(leaves), nodes_of(leaves))),
        RowPath(1, 2, TAG, SALT, row, prove_inclusion(2, len(items), nodes_of(items))),
    )


def test_a_row_is_shown_as_it_was_committed() -> None:
    columns: dict[str, Value] = {"number": 7, "text": "é", "raw": b"\1", "share": 0.5, "none": None, "long": b"x" * 300}
    checkpoint, entry, row = journal_of(row_bytes("cases", columns))
    (shown,) = check_rows(checkpoint, [entry], [row])
    assert (shown.table, shown.entry) == ("cases", 1)
    assert shown.at == datetime.fromtimestamp(AT_US // 10**6, UTC).replace(microsecond=123_456)
    long = shown.columns.pop("long")
    assert isinstance(long, list)
    assert (long[0], len(long[1])) == (300, 32)
    assert shown.columns == {name: value for name, value in columns.items() if name != "long"}


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"\xff",
        cbor2.dumps("cases"),
        cbor2.dumps([]),
        cbor2.dumps([7]),
        cbor2.dumps(["cases", "number"]),
        cbor2.dumps(["cases", 7, 7]),
        cbor2.dumps(["cases", "b", 1, "a", 2]),
        cbor2.dumps(["cases", "a", 1, "a", 2]),
        cbor2.dumps(["cases", "a", True]),
        cbor2.dumps(["cases", "a", {"b": 1}]),
        cbor2.dumps(["cases", "a", [300]]),
        cbor2.dumps(["cases", "a", [300, "hash"]]),
        cbor2.dumps(["cases", "a", ["300", b"hash"]]),
        cbor2.dumps(["cases", "a", 1]) + b"\0",
    ],
)
def test_what_is_committed_and_is_no_row(row: bytes) -> None:
    checkpoint, entry, path = journal_of(row)
    with pytest.raises(NotShownError):
        check_rows(checkpoint, [entry], [path])


@pytest.mark.parametrize("at_us", [0, 253_402_300_799_000_000])
def test_the_times_of_entries(at_us: int) -> None:
    checkpoint, entry, row = journal_of(row_bytes("cases", {}), at_us)
    (shown,) = check_rows(checkpoint, [entry], [row])
    assert shown.at.timestamp() == at_us / 10**6


def test_entries_that_cannot_be() -> None:
    checkpoint, entry, row = journal_of(row_bytes("cases", {}))
    for bent in (
        EntryPath(0, entry.at_us, entry.count, entry.path),
        EntryPath(1, -1, entry.count, entry.path),
        EntryPath(1, 1 << 63, entry.count, entry.path),
        EntryPath(1, entry.at_us, 0, entry.path),
        EntryPath(1, entry.at_us, -1, entry.path),
        EntryPath(1, entry.at_us, MAX_ITEMS + 1, entry.path),
        EntryPath(1, entry.at_us, entry.count, entry.path[:-1]),
    ):
        with pytest.raises(NotShownError):
            check_rows(checkpoint, [bent], [row])

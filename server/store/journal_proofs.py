"""Proofs that rows stand in the journal as they stand in the store (docs/protocol.md J3).

Items have no index by row, since each new item would then cost a write at random. They are looked for, from when the
caller says that they were written: entries carry times.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from server.store.journal_reading import newest
from server.store.journal_rows import JOURNALED, JournaledTable
from server.store.journal_seal import log_size, nodes_in
from server.store.journal_types import Proofs, ProvenEntry, ProvenRow, RowKey, RowsAlteredError, RowsNotSealedError
from server.store.sqlite import driver_of
from server.times import micros
from verifier.journal.items import ITEM_BYTES, SECRET_BYTES, TAG_BYTES, Secrets, Value, commitment, item_hashes
from verifier.journal.merkle import NodeSource, node_hash, prove_inclusion

_ENTRIES_AT_ONCE = 256
"""Some 50 MB of items at most."""

_FIRST_SINCE = "SELECT min(entry) FROM journal_entries WHERE at >= ?"
_ITEMS = "SELECT entry, items FROM journal_entries WHERE entry >= ? AND entry < ? ORDER BY entry"
_ENTRY = "SELECT at, items FROM journal_entries WHERE entry = ?"


@dataclass(frozen=True, slots=True)
class _Standing:
    """A row as it stands, and the item that it must have."""

    key: RowKey
    columns: Mapping[str, Value]
    salt: bytes
    item: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an item is."""

    entry: int
    item: int


def prove_rows(connection: Connection, rows: Sequence[RowKey], not_before: datetime | None) -> Proofs:
    """Prove rows as they stand to the newest checkpoint; those that do not exist are left out.

    Args:
        connection: In a read transaction.
        rows: Which.
        not_before: Since when most of them were written as they stand; right or wrong, all are found.

    Raises:
        RowsNotSealedError: No checkpoint covers all of them yet.
        RowsAlteredError: One stands as it was never written.
    """
    database = driver_of(connection)
    signed = newest(connection)
    if signed is None:
        raise RowsNotSealedError("no checkpoint was signed yet")
    secrets = load_secrets(database)
    standing = [found for key in rows if (found := _stands(database, secrets, key)) is not None]
    places = _find(database, {row.item for row in standing}, signed.size, not_before)
    lost = [row for row in standing if row.item not in places]
    if lost:
        _refuse(database, lost, signed.size)
    entries: dict[int, ProvenEntry] = {}
    trees: dict[int, NodeSource] = {}
    nodes = nodes_in(database)
    for index in sorted({place.entry for place in places.values()}):
        at_us, items = database.execute(_ENTRY, (index,)).fetchone()
        hashes = item_hashes(items)
        trees[index] = _tree(hashes)
        entries[index] = ProvenEntry(index, at_us, len(hashes), prove_inclusion(index, signed.size, nodes))
    proven = tuple(_proven(row, places[row.item], entries, trees) for row in standing)
    return Proofs(signed.note, signed.size, tuple(entries.values()), proven)


def load_secrets(database: sqlite3.Connection) -> Secrets:
    """Return the secrets of the store."""
    rows = database.execute("SELECT salt_key, tag_key FROM journal_secrets").fetchall()
    if len(rows) != 1 or any(not isinstance(key, bytes) or len(key) != SECRET_BYTES for key in rows[0]):
        raise sqlite3.DatabaseError("the journal has lost its secrets")
    return Secrets(*rows[0])


def _proven(
    row: _Standing, place: _Place, entries: Mapping[int, ProvenEntry], trees: Mapping[int, NodeSource]
) -> ProvenRow:
    path = prove_inclusion(place.item, entries[place.entry].count, trees[place.entry])
    return ProvenRow(place.entry, place.item, row.item[:TAG_BYTES], row.salt, row.key.table, row.columns, path)


def _stands(database: sqlite3.Connection, secrets: Secrets, key: RowKey) -> _Standing | None:
    table = JOURNALED[key.table]
    values = database.execute(_one_row(table), key.key).fetchone()
    if values is None:
        return None
    row = table.row(values)
    salt = secrets.salt(row)
    item = secrets.tag(table.name, table.key_of(values)) + commitment(salt, row)
    return _Standing(key, dict(zip(table.columns, values, strict=True)), salt, item)


def _one_row(table: JournaledTable) -> str:
    where = " AND ".join(f'stands."{name}" = ?' for name in table.keys)
    return f"SELECT {table.selected('stands')} FROM {table.name} AS stands WHERE {where}"  # noqa: S608 - our own names


def _find(
    database: sqlite3.Connection, wanted: Iterable[bytes], size: int, not_before: datetime | None
) -> dict[bytes, _Place]:
    """Find items below `size`: from a time on, each where it was written first; then before, each where last."""
    since = size
    if not_before is not None:
        found = database.execute(_FIRST_SINCE, (micros(not_before),)).fetchone()[0]
        since = size if found is None else min(found, size)
    looked = _Looked(wanted)
    for first in range(since, size, _ENTRIES_AT_ONCE):
        if not looked.missing:
            break
        looked.look(database.execute(_ITEMS, (first, min(first + _ENTRIES_AT_ONCE, size))), last=False)
    for end in range(since, 0, -_ENTRIES_AT_ONCE):
        if not looked.missing:
            break
        looked.look(database.execute(_ITEMS, (max(0, end - _ENTRIES_AT_ONCE), end)), last=True)
    return looked.places


class _Looked:
    """A search for items."""

    def __init__(self, wanted: Iterable[bytes]) -> None:
        self.missing = set(wanted)
        self.places: dict[bytes, _Place] = {}

    def look(self, entries: Iterable[tuple[int, bytes]], *, last: bool) -> None:
        """Look at entries in their order; of several places of one item keep the first, or the last."""
        # Few of many items are wanted: numpy finds those whose tags begin like a wanted one's.
        heads = _heads(b"".join(sorted(self.missing)))
        here: dict[bytes, _Place] = {}
        for index, items in entries:
            for number in np.flatnonzero(np.isin(_heads(items), heads)).tolist():
                item = items[number * ITEM_BYTES : (number + 1) * ITEM_BYTES]
                if item in self.missing and (last or item not in here):
                    here[item] = _Place(index, number)
        self.places |= here
        self.missing -= here.keys()


def _heads(items: bytes) -> NDArray[np.uint64]:
    whole = len(items) // ITEM_BYTES * ITEM_BYTES
    return np.frombuffer(items[:whole], "<u8").reshape(-1, ITEM_BYTES // 8)[:, 0]


def _refuse(database: sqlite3.Connection, lost: Sequence[_Standing], size: int) -> None:
    later = _find(database, {row.item for row in lost}, log_size(database), None)
    for row in lost:
        if row.item not in later:
            raise RowsAlteredError(row.key)
    raise RowsNotSealedError(f"{len(lost)} rows were written after the newest checkpoint, of {size} entries")


def _tree(leaves: Sequence[bytes]) -> NodeSource:
    """Return the nodes over leaf hashes, each made once however many paths are asked for."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below: Iterator[bytes] = iter(levels[-1])
        levels.append([node_hash(left, right) for left, right in zip(below, below, strict=False)])
    return lambda level, number: levels[level][number]

"""What the journal's door takes and gives (docs/protocol.md §17)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from verifier.journal.items import Value


class RowsNotSealedError(Exception):
    """A row was written after the newest checkpoint, so that no proof leads to it yet. Seal and ask again."""


class RowKey(NamedTuple):
    """Which row.

    Attributes:
        table: Its name.
        key: Values of the primary key in the table's order, as the database holds them.
    """

    table: str
    key: tuple[Value, ...]


class RowsAlteredError(Exception):
    """A row stands as it was never journaled: another hand than the server's wrote it. An audit says more.

    Attributes:
        row: Which.
    """

    def __init__(self, row: RowKey) -> None:
        super().__init__(f"a row of {row.table} stands as it was never journaled")
        self.row = row


@dataclass(frozen=True, slots=True)
class ProvenRow:
    """A row as it stands, and where the journal says so.

    Attributes:
        entry: Index of the entry in the log.
        item: Number of the item in the entry.
        tag: Of the item.
        salt: Of the item's commitment.
        table: Name of the table.
        columns: Whole values by column, as the database holds them: booleans and enumerations are integers.
        path: Audit path of the item in the entry.
    """

    entry: int
    item: int
    tag: bytes
    salt: bytes
    table: str
    columns: Mapping[str, Value]
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry of the log.

    Attributes:
        index: Its place in the log.
        at_us: When, microseconds since 1970 UTC.
        count: How many items.
        path: Audit path of its leaf in the tree of the checkpoint.
    """

    index: int
    at_us: int
    count: int
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Proofs:
    """Rows and the entries that they stand in, proven to one checkpoint.

    Attributes:
        checkpoint: The note.
        size: Entries that it covers.
        entries: In the order of the log, each once.
        rows: In the order in which they were asked for; rows that do not exist are left out.
    """

    checkpoint: str
    size: int
    entries: tuple[ProvenEntry, ...]
    rows: tuple[ProvenRow, ...]


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint as it is kept.

    Attributes:
        size: Entries.
        at: When it was signed.
        hash: What challenges name it by.
        note: With the cosignatures so far.
    """

    size: int
    at: datetime
    hash: bytes
    note: str

"""The store's door for the journal (docs/protocol.md §17). What is written is journaled by itself (journal_seal.py)."""

from collections.abc import Sequence
from datetime import datetime

from server.store import journal_reading
from server.store.doors import Reads, Writes
from server.store.journal_proofs import prove_rows
from server.store.journal_types import Proofs, RowKey, SignedCheckpoint


class JournalDoor:
    """Shows the journal, and keeps its checkpoints.

    Args:
        read: Runs a query.
        write: Runs a change.
    """

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write

    async def state(self) -> tuple[int, bytes]:
        """Return size and root of what is durable."""
        return await self._read(journal_reading.state)

    async def newest(self) -> SignedCheckpoint | None:
        """Return the newest checkpoint; None before the first."""
        return await self._read(journal_reading.newest)

    async def by_hash(self, digest: bytes) -> SignedCheckpoint | None:
        """Return the checkpoint that challenges name so (docs/protocol.md J5)."""
        return await self._read(lambda connection: journal_reading.by_hash(connection, digest))

    async def at_size(self, size: int) -> SignedCheckpoint | None:
        """Return the checkpoint of exactly this size."""
        return await self._read(lambda connection: journal_reading.at_size(connection, size))

    async def keep_checkpoint(self, size: int, at: datetime, note: str) -> None:
        """Keep a signed checkpoint durably; one that is kept already gets the cosignatures that it lacks.

        Raises:
            ValueError: It is no checkpoint of this log at this size, or another one of this size is kept.
            NoteError: It is no note.
        """
        await self._write(
            lambda connection: journal_reading.keep_checkpoint(connection, size, at, note), changes_devices=False
        )

    async def root_at(self, size: int) -> bytes:
        """Return the root at a size; raises `ValueError` above the log."""
        return await self._read(lambda connection: journal_reading.checked_root(connection, size))

    async def consistency(self, old: int, new: int) -> tuple[tuple[bytes, ...], bytes, bytes]:
        """Return the consistency proof from one size to another, the old root and the new one.

        Raises:
            ValueError: It is not 0 <= old <= new, or the log is shorter.
        """
        return await self._read(lambda connection: journal_reading.consistency(connection, old, new))

    async def prove_rows(self, rows: Sequence[RowKey], not_before: datetime | None = None) -> Proofs:
        """Prove rows as they stand to the newest checkpoint; those that do not exist are left out.

        Args:
            rows: Which; a table of another name than the schema's is a `KeyError`.
            not_before: Since when most of them were written as they stand. It only says where to look first.

        Raises:
            RowsNotSealedError: No checkpoint covers all of them yet.
            RowsAlteredError: One stands as the journal has never seen it.
        """
        return await self._read(lambda connection: prove_rows(connection, rows, not_before))

    async def tile(self, level: int, number: int, width: int) -> bytes | None:
        """Return the hashes of a C2SP tlog-tiles tile (docs/protocol.md J6); None when the log is not that far."""
        return await self._read(lambda connection: journal_reading.tile(connection, level, number, width))

    async def entry_tile(self, number: int, width: int) -> bytes | None:
        """Return an entry bundle (docs/protocol.md J6); None when the log is not that far."""
        return await self._read(lambda connection: journal_reading.entry_tile(connection, number, width))

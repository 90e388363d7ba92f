"""What the journal says of itself: its state, its checkpoints, roots, consistency, tiles (docs/protocol.md §17)."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from server.store.journal_seal import log_size, nodes_in
from server.store.journal_types import SignedCheckpoint
from server.store.schema import JOURNAL_CHECKPOINTS, JOURNAL_ENTRIES, JOURNAL_NODES
from server.store.sqlite import driver_of
from server.times import micros, moment
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.merkle import NodeSource, prove_consistency, root_at
from verifier.journal.notes import Note

TILE_WIDTH = 256
TILE_HEIGHT = 8
"""Hashes in a full tile, and levels of the tree from one level of tiles to the next (C2SP tlog-tiles)."""

_CHECKPOINTS = select(
    JOURNAL_CHECKPOINTS.c.size, JOURNAL_CHECKPOINTS.c.at, JOURNAL_CHECKPOINTS.c.hash, JOURNAL_CHECKPOINTS.c.note
)


def size_of(connection: Connection) -> int:
    """Return how many entries are durable."""
    return log_size(driver_of(connection))


def nodes_of_log(connection: Connection) -> NodeSource:
    """Return the source of the log's nodes."""
    return nodes_in(driver_of(connection))


def state(connection: Connection) -> tuple[int, bytes]:
    """Return size and root of what is durable."""
    size = size_of(connection)
    return size, root_at(size, nodes_of_log(connection))


def checked_root(connection: Connection, size: int) -> bytes:
    """Return the root at a size; raises `ValueError` when the log never had it."""
    durable = size_of(connection)
    if not 0 <= size <= durable:
        raise ValueError(f"the journal has {durable} entries, not {size}")
    return root_at(size, nodes_of_log(connection))


def consistency(connection: Connection, old: int, new: int) -> tuple[tuple[bytes, ...], bytes, bytes]:
    """Return the proof from one size to another and both roots; raises `ValueError` for sizes that are not in order."""
    roots = checked_root(connection, old), checked_root(connection, new)
    return prove_consistency(old, new, nodes_of_log(connection)), *roots


def newest(connection: Connection) -> SignedCheckpoint | None:
    """Return the checkpoint of the largest size."""
    return _signed(connection.execute(_CHECKPOINTS.order_by(JOURNAL_CHECKPOINTS.c.size.desc()).limit(1)).one_or_none())


def by_hash(connection: Connection, digest: bytes) -> SignedCheckpoint | None:
    """Return the checkpoint that challenges name so."""
    return _signed(connection.execute(_CHECKPOINTS.where(JOURNAL_CHECKPOINTS.c.hash == digest)).one_or_none())


def at_size(connection: Connection, size: int) -> SignedCheckpoint | None:
    """Return the checkpoint of exactly this size."""
    return _signed(connection.execute(_CHECKPOINTS.where(JOURNAL_CHECKPOINTS.c.size == size)).one_or_none())


def keep_checkpoint(connection: Connection, size: int, at: datetime, text: str) -> None:
    """Keep a signed checkpoint; one that is kept already gets the signatures that it lacks.

    Raises:
        ValueError: It is no checkpoint of this log at this size, or another one of this size is kept.
        NoteError: It is no note.
    """
    note = Note.parse(text.encode())
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.size != size or checkpoint.root != checked_root(connection, size):
        raise ValueError(f"no checkpoint of this journal at {size} entries: {note.text!r}")
    kept = at_size(connection, size)
    if kept is None:
        values = {"size": size, "at": micros(at), "hash": checkpoint.hash, "note": text}
        connection.execute(insert(JOURNAL_CHECKPOINTS), values)
        return
    stands = Note.parse(kept.note.encode())
    if stands.text != note.text:
        raise ValueError(f"another checkpoint of {size} entries is kept: {stands.text!r}")
    # Two processes may ask the witnesses at once, and each may have got some of the cosignatures.
    merged = bytes(stands.plus(note.signatures)).decode()
    if merged != kept.note:
        connection.execute(update(JOURNAL_CHECKPOINTS).where(JOURNAL_CHECKPOINTS.c.size == size).values(note=merged))


def tile(connection: Connection, level: int, number: int, width: int) -> bytes | None:
    """Return the first `width` hashes of a tile, joined (docs/protocol.md J6); None when there are not so many."""
    if not _is_tile(number, width) or not 0 <= level < TILE_HEIGHT:
        return None
    first = number * TILE_WIDTH
    query = (
        select(JOURNAL_NODES.c.hash)
        .where(JOURNAL_NODES.c.level == level * TILE_HEIGHT, JOURNAL_NODES.c.number.between(first, first + width - 1))
        .order_by(JOURNAL_NODES.c.number)
    )
    hashes = connection.scalars(query).all()
    return b"".join(hashes) if len(hashes) == width else None


def entry_tile(connection: Connection, number: int, width: int) -> bytes | None:
    """Return the leaf data of the first `width` entries of a tile, each behind its size (docs/protocol.md J6)."""
    if not _is_tile(number, width):
        return None
    first = number * TILE_WIDTH
    query = (
        select(JOURNAL_ENTRIES.c.leaf)
        .where(JOURNAL_ENTRIES.c.entry.between(first, first + width - 1))
        .order_by(JOURNAL_ENTRIES.c.entry)
    )
    leaves = connection.scalars(query).all()
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves) if len(leaves) == width else None


def _is_tile(number: int, width: int) -> bool:
    return 0 <= number < 1 << 55 and 1 <= width <= TILE_WIDTH


def _signed(row: Row[Any, Any, Any, Any] | None) -> SignedCheckpoint | None:
    return None if row is None else SignedCheckpoint(row.size, moment(row.at), row.hash, row.note)

"""Tables of the journal (docs/protocol.md §17).

They are what all others are checked against, so no row of theirs is journaled itself.
"""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from server.store.schema.base import METADATA

JOURNAL_ENTRIES = Table(
    "journal_entries",
    METADATA,
    Column("entry", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("items", LargeBinary, nullable=False),
    Column("leaf", LargeBinary(32), nullable=False),
    Index("journal_entries_by_time", "at"),
)
"""Entries, from 0 on without a gap. `items`: joined, 48 bytes each (docs/protocol.md J2). `leaf`: leaf data (J3)."""


JOURNAL_NODES = Table(
    "journal_nodes",
    METADATA,
    Column("level", Integer, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    PrimaryKeyConstraint("level", "number"),
    sqlite_with_rowid=False,
)
"""Hashes of complete subtrees of the log, leaf hashes at level 0 (verifier/journal/merkle.py)."""


JOURNAL_CHECKPOINTS = Table(
    "journal_checkpoints",
    METADATA,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("note", Text, nullable=False),
)
"""Checkpoints that were signed. `note`: with the cosignatures so far."""


JOURNAL_SECRETS = Table(
    "journal_secrets",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("salt_key", LargeBinary(32), nullable=False),
    Column("tag_key", LargeBinary(32), nullable=False),
)
"""One row, made with the file: keys of the hashes that salt and tag items (docs/protocol.md J2)."""


JOURNAL_TABLES = (JOURNAL_ENTRIES, JOURNAL_NODES, JOURNAL_CHECKPOINTS, JOURNAL_SECRETS)

"""Sealing: what a transaction leaves in the store becomes an entry of the journal in that transaction (J1 to J4).

The writer's own connection notes by itself which rows it touches, so that nothing that it writes can be forgotten; what
any other hand writes into the file is not noted, and an audit shows it. Triggers note changed and removed rows in a
scratch table, which is on disk once it grows, so that a transaction of any size takes little memory. Inserted rows are
those above the highest rowid at the transaction's begin: with a trigger on INSERT SQLite would keep an undo log of each
statement, which more than doubles its cost.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice

from server.store.journal_rows import JOURNALED, MAX_KEYS, JournaledTable
from server.times import micros, utc_now
from verifier.journal.items import MAX_ITEMS, Secrets, entry_leaf, item_hashes
from verifier.journal.merkle import Frontier, NodeSource, leaf_hash, root_of

_IS_WATCHED = "SELECT 1 FROM temp.sqlite_master WHERE name = 'journal_touched'"
_HIGHEST = " UNION ALL ".join(
    f"SELECT {table.number}, coalesce(max(rowid), 0) FROM main.{table.name}"  # noqa: S608 - our own names
    for table in JOURNALED.values()
)
_LAST_ROWID = (1 << 63) - 1
_ROOM = 1 << 40
"""Rowids that one transaction may need. Beyond the last one SQLite would take any that is free."""

_LOWERED = "SELECT number, min(highest) FROM temp.journal_lowered GROUP BY number"
_SIZE = "SELECT max(entry) + 1 FROM journal_entries"
_NODE = "SELECT hash FROM journal_nodes WHERE level = ? AND number = ?"


def is_watched(database: sqlite3.Connection) -> bool:
    """Return whether this connection notes what it touches."""
    return database.execute(_IS_WATCHED).fetchone() is not None


def watch(database: sqlite3.Connection) -> None:
    """Let this connection note each row that it changes or removes, from now on (docs/protocol.md J1).

    When the transaction in which this is called is undone, so is this. `PRAGMA recursive_triggers` must be on, since
    REPLACE removes rows without their triggers otherwise.
    """
    keys = ", ".join(f"k{at}" for at in range(MAX_KEYS))
    # Without constraints, for which SQLite would have to be able to undo each statement alone.
    database.execute(f"CREATE TEMP TABLE journal_touched (number INTEGER, {keys})")
    database.execute("CREATE TEMP TABLE journal_lowered (number INTEGER, highest INTEGER)")
    for table in JOURNALED.values():
        columns = ", ".join(f'"{name}"' for name in table.keys)
        # An update that sets the key touches two rows.
        for name, when, row in (
            ("update", "UPDATE", "NEW"),
            ("rename", f"UPDATE OF {columns}", "OLD"),
            ("delete", "DELETE", "OLD"),
        ):
            values = ", ".join(f'{row}."{key}"' for key in table.keys) + ", NULL" * (MAX_KEYS - len(table.keys))
            database.execute(
                f"CREATE TEMP TRIGGER journal_{table.name}_{name} AFTER {when} ON main.{table.name} "  # noqa: S608 - our own names
                f"BEGIN INSERT INTO journal_touched VALUES ({table.number}, {values}); END"
            )
        # SQLite gives a new row the highest rowid and one, so that rowids come again when the last row goes.
        database.execute(
            f"CREATE TEMP TRIGGER journal_{table.name}_lower AFTER DELETE ON main.{table.name} "  # noqa: S608 - our own names
            f"BEGIN INSERT INTO journal_lowered SELECT {table.number}, highest FROM "
            f"(SELECT coalesce(max(rowid), 0) AS highest FROM main.{table.name}) WHERE highest < OLD.rowid; END"
        )


class Recorder:
    """Journals what one connection writes.

    Args:
        database: The connection; it is watched.
        secrets: Of the store.
    """

    def __init__(self, database: sqlite3.Connection, secrets: Secrets) -> None:
        self._database = database
        self._secrets = secrets
        self._before: dict[int, int] = {}

    def begin(self) -> None:
        """Note where each table ends; to be called with the write lock, before anything is written.

        Raises:
            sqlite3.DatabaseError: Somebody wrote a row behind which none can be told to be new.
        """
        self._before = dict(self._database.execute(_HIGHEST))
        if max(self._before.values()) >= _LAST_ROWID - _ROOM:
            raise sqlite3.DatabaseError("a table has a row of the last rowid, which no server wrote; audit the journal")

    def seal(self, *, limit: int = MAX_ITEMS) -> int:
        """Journal all that was touched since `begin` or the last seal, and return how many items it made; 0: no entry.

        To be called at the end of the transaction.

        Args:
            limit: Items of one entry.
        """
        touched = {number for (number,) in self._database.execute("SELECT DISTINCT number FROM temp.journal_touched")}
        now = dict(self._database.execute(_HIGHEST))
        if not touched and now == self._before:
            return 0
        before = self._before | {
            number: min(self._before[number], highest) for number, highest in self._database.execute(_LOWERED)
        }
        items = (
            item
            for table in JOURNALED.values()
            if table.number in touched or now[table.number] > before[table.number]
            for item in self._items(table, before[table.number])
        )
        made = _append(self._database, micros(utc_now()), items, limit)
        self._database.execute("DELETE FROM temp.journal_touched")
        self._database.execute("DELETE FROM temp.journal_lowered")
        self._before = now
        return made

    def _items(self, table: JournaledTable, before: int) -> Iterator[bytes]:
        """Yield the items of a table's touched rows, as they stand now, in the order of their keys."""
        keys = ", ".join(f"k{at}" for at in range(len(table.keys)))
        columns = ", ".join(f'"{name}"' for name in table.keys)
        same = " AND ".join(f'stands."{name}" = t.k{at}' for at, name in enumerate(table.keys))
        rows = self._database.execute(
            f"SELECT t.*, {table.selected('stands')} FROM "  # noqa: S608 - our own names
            f"(SELECT {keys} FROM temp.journal_touched WHERE number = ? "
            f"UNION SELECT {columns} FROM main.{table.name} WHERE rowid > ? ORDER BY {keys}) AS t "
            f"LEFT JOIN main.{table.name} AS stands ON {same} ORDER BY {keys}",
            (table.number, before),
        )
        width = len(table.keys)
        for row in rows:
            values = row[width:]
            # No key is NULL, so that a row of NULLs is one that the join did not find.
            if table.key_of(values)[0] is None:
                yield table.removed(self._secrets, row[:width])
            else:
                yield table.item(self._secrets, values)


def log_size(database: sqlite3.Connection) -> int:
    """Return how many entries the journal has."""
    size: int | None = database.execute(_SIZE).fetchone()[0]
    return size or 0


def nodes_in(database: sqlite3.Connection) -> NodeSource:
    """Return the source of the journal's nodes; one that is missing raises `sqlite3.DatabaseError`."""

    def node(level: int, number: int) -> bytes:
        row = database.execute(_NODE, (level, number)).fetchone()
        if row is None:
            raise sqlite3.DatabaseError(f"the journal lacks its node {number} of level {level}")
        found: bytes = row[0]
        return found

    return node


def _append(database: sqlite3.Connection, at_us: int, items: Iterable[bytes], limit: int) -> int:
    """Append entries of at most `limit` items each (docs/protocol.md J1, J3)."""
    frontier = Frontier(log_size(database), nodes_in(database))
    made = 0
    for joined in iter(partial(_joined, iter(items), limit), b""):
        hashes = item_hashes(joined)
        leaf = entry_leaf(at_us, len(hashes), root_of(hashes))
        database.execute("INSERT INTO journal_entries VALUES (?, ?, ?, ?)", (frontier.size, at_us, joined, leaf))
        database.executemany("INSERT INTO journal_nodes VALUES (?, ?, ?)", frontier.append(leaf_hash(leaf)))
        made += len(hashes)
    return made


def _joined(items: Iterator[bytes], limit: int) -> bytes:
    return b"".join(islice(items, limit))

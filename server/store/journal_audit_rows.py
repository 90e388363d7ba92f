"""An audit's second half: the rows that stand are those that the journal says stand last (docs/protocol.md J9)."""

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import islice

import numpy as np
from sqlalchemy import LargeBinary, String, create_engine

from server.store.journal_audit_log import MAX_FAULTS, PROGRESS_EVERY, Faults, Progress
from server.store.journal_rows import JOURNALED, JournaledTable
from server.store.journal_spill import Spill, compare, last_of_each
from server.store.schema import METADATA
from server.store.sqlite import driver_of
from verifier.journal.items import ITEM_BYTES, LONG_VALUE_BYTES, TAG_BYTES, Secrets, Value

UNKNOWN_TABLE = "unknown"
"""Table of a row that is gone, when nothing tells which it was."""

_CHANGED = "is not as the journal says: it was changed without it"
_SCHEMA = "schema"
_NEIGHBORS = 64
_BY_NUMBER = {table.number: table for table in JOURNALED.values()}
_OBJECTS = "SELECT type, name, tbl_name, sql FROM sqlite_master"
_STATISTICS = frozenset({"sqlite_stat1", "sqlite_stat4"})
"""Tables that ANALYZE makes; they only steer how SQLite looks for rows."""


def check_tables(database: sqlite3.Connection, faults: Faults) -> list[JournaledTable]:
    """Return the tables that can be read; complain of what is missing, and of what is no part of a store."""
    odd = _check_objects(database, faults)
    readable = []
    for name, table in METADATA.tables.items():
        columns = {row[1] for row in database.execute(f"PRAGMA table_xinfo({name})")}
        if columns != set(table.columns.keys()):
            faults.add(_SCHEMA, name, "has other columns than a store's" if columns else "missing")
        elif name in odd:
            faults.add(_SCHEMA, name, "was made with other keys or types than a store's")
        if name in JOURNALED and columns >= set(table.columns.keys()):
            readable.append(JOURNALED[name])
    return readable


def check_file(database: sqlite3.Connection, faults: Faults) -> None:
    """Complain of indexes that do not lead to the rows that stand, and of whatever else SQLite finds damaged."""
    for (text,) in database.execute(f"PRAGMA integrity_check({MAX_FAULTS})"):
        if text != "ok":
            faults.add(_SCHEMA, "the file", str(text))


def _check_objects(database: sqlite3.Connection, faults: Faults) -> set[str]:
    """Complain of all that is not as in a new store; return tables that were made otherwise.

    A trigger would have the server itself write what nobody asked for, an index could hide rows that stand, and a
    table without its keys could hold rows twice.
    """
    found, ours = _objects(database), _objects_of_a_store()
    odd = set()
    for (kind, name), made in sorted(found.items()):
        if (kind, name) not in ours:
            if kind != "table" or name not in _STATISTICS:
                faults.add(_SCHEMA, name, f"{'an' if kind == 'index' else 'a'} {kind} that is no part of a store")
        elif made != ours[kind, name]:
            if kind == "table":
                odd.add(name)
            else:
                faults.add(_SCHEMA, name, f"another {kind} than a store's")
    for kind, name in sorted(ours.keys() - found.keys()):
        if kind != "table" and ("table", ours[kind, name][0]) in found:
            faults.add(_SCHEMA, name, f"missing: {kind} of {ours[kind, name][0]}")
    return odd


def _objects(database: sqlite3.Connection) -> dict[tuple[str, str], tuple[str, str]]:
    """Return all that a database has, by kind and name: the table that it is of, and how it was made."""
    return {
        (kind, name): (table, " ".join((sql or "").split())) for kind, name, table, sql in database.execute(_OBJECTS)
    }


@cache
def _objects_of_a_store() -> dict[tuple[str, str], tuple[str, str]]:
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            METADATA.create_all(connection)
            return _objects(driver_of(connection))
    finally:
        engine.dispose()


def spill_rows(
    database: sqlite3.Connection, secrets: Secrets, tables: Sequence[JournaledTable], spill: Spill, progress: Progress
) -> int:
    """Make the item of every row that stands, and return how many there are."""
    count = 0
    for table in tables:
        total: int = database.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0]  # noqa: S608 - our own names
        rows = database.execute(
            f"SELECT stands.rowid, {table.selected('stands')} FROM {table.name} AS stands"  # noqa: S608 - our own names
        )
        done = 0
        while some := list(islice(rows, PROGRESS_EVERY)):
            items = b"".join([table.item(secrets, row[1:]) for row in some])
            spill.add(items, table.number, [row[0] for row in some])
            done += len(some)
            progress(table.name, done, total)
        count += done
    return count


def check_types(database: sqlite3.Connection, tables: Sequence[JournaledTable], faults: Faults) -> None:
    """Complain of long text that stands as bytes, or the other way around: in a row both stand by one hash (J2)."""
    for table in tables:
        wrong = [
            f'(typeof("{column.name}") = \'{other}\' AND length(CAST("{column.name}" AS BLOB)) > {LONG_VALUE_BYTES})'
            for column in METADATA.tables[table.name].columns
            for kind, other in ((String, "blob"), (LargeBinary, "text"))
            if isinstance(column.type, kind)
        ]
        if not wrong:
            continue
        keys = ", ".join(f'"{name}"' for name in table.keys)
        query = f"SELECT {keys} FROM {table.name} WHERE {' OR '.join(wrong)}"  # noqa: S608 - our own names
        for key in database.execute(query):
            faults.add(table.name, key_text(key), _CHANGED)


def compare_rows(
    database: sqlite3.Connection,
    secrets: Secrets,
    tables: Sequence[JournaledTable],
    spilled: tuple[Spill, Spill],
    faults: Faults,
) -> None:
    """Hold the rows that stand against the last item of each; `spilled`: what the journal says, and what stands."""
    gone: list[_Place] = []
    for journal, rows in zip(*(spill.parts() for spill in spilled), strict=True):
        last = last_of_each(journal)
        removal = (last["commitment"] == 0).all(axis=1)
        lost, unknown, changed = compare(last[~removal], rows)
        removed = set(map(_tag, last[removal]))
        for record in unknown:
            back = _tag(record) in removed
            text = "was removed and is back, without the journal" if back else "was never journaled"
            faults.add(*_row_of(database, record), text)
        for record in changed:
            faults.add(*_row_of(database, record), _CHANGED)
        faults.count += max(0, len(lost) - MAX_FAULTS)
        gone.extend((int(record["where"]), int(record["which"])) for record in lost[:MAX_FAULTS])
    told = _tables_around(database, secrets, tables, gone[:MAX_FAULTS])
    for entry, item in gone:
        text = "is gone without the journal: the journal says that it stands as this item tells"
        faults.add(told.get((entry, item), UNKNOWN_TABLE), f"entry {entry}, item {item}", text)


_Place = tuple[int, int]
"""Entry, and number of the item in it."""


def _tables_around(
    database: sqlite3.Connection, secrets: Secrets, tables: Sequence[JournaledTable], gone: Sequence[_Place]
) -> dict[_Place, str]:
    """Return of which table a row was that is gone, where that can be told.

    Its item does not say. But items of an entry stand in the order of tables, so that it is the table of its
    neighbors when both are of one.
    """
    around: dict[_Place, tuple[list[bytes], list[bytes]]] = {}
    for entry, item in gone:
        items = database.execute("SELECT items FROM journal_entries WHERE entry = ?", (entry,)).fetchone()[0]
        tags = [items[at : at + TAG_BYTES] for at in range(0, len(items), ITEM_BYTES)]
        around[entry, item] = tags[max(0, item - _NEIGHBORS) : item][::-1], tags[item + 1 : item + 1 + _NEIGHBORS]
    wanted = {tag for sides in around.values() for side in sides for tag in side}
    if not wanted:
        return {}
    known: dict[bytes, str] = {}
    for table in tables:
        keys = ", ".join(f'"{name}"' for name in table.keys)
        for key in database.execute(f"SELECT {keys} FROM {table.name}"):  # noqa: S608 - our own names
            tag = secrets.tag(table.name, key)
            if tag in wanted:
                known[tag] = table.name
    told: dict[_Place, str] = {}
    for place, sides in around.items():
        before, after = ({known[tag] for tag in side if tag in known} for side in sides)
        if before & after:
            told[place] = (before & after).pop()
    return told


def _row_of(database: sqlite3.Connection, record: np.void) -> tuple[str, str]:
    """Return table and key of a row that stands."""
    table = _BY_NUMBER[int(record["where"])]
    keys = ", ".join(f'"{name}"' for name in table.keys)
    query = f"SELECT {keys} FROM {table.name} WHERE rowid = ?"  # noqa: S608 - our own names
    return table.name, key_text(database.execute(query, (int(record["which"]),)).fetchone())


def key_text(key: Sequence[Value]) -> str:
    """Return a primary key for people: bytes in hex."""
    return ", ".join(value.hex() if isinstance(value, bytes) else str(value) for value in key)


def _tag(record: np.void) -> tuple[int, int]:
    return int(record["high"]), int(record["low"])

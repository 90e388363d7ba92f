"""A store in which every table holds rows, checkpoints of it, and what an audit finds."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Boolean, Column, Connection, LargeBinary, String, Table, Text, func, insert, select

from server.store import Store, sqlite
from server.store.journal_audit import AuditReport, audit_journal
from server.store.journal_types import SignedCheckpoint
from server.store.schema import JOURNAL_TABLES, METADATA
from tests.store.store_world import START, deployment, device, finding, fix, landmark, record
from verifier.errors import Reason
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.items import Value
from verifier.journal.merkle import node_hash
from verifier.journal.notes import NoteKey, sign
from verifier.license import LicenseState

ORIGIN = "journal.example/1"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VKEY = NoteKey.of(ORIGIN, KEY)
JOURNALED_TABLES = [table for table in METADATA.sorted_tables if table not in JOURNAL_TABLES]

Result = TypeVar("Result")


def run_on(path: Path, work: Callable[[Connection], Result]) -> Result:
    """Run in a transaction of a process of its own, as it were."""
    writing, reading = sqlite.open_engines(path)
    try:
        return sqlite.run_in_transaction(writing, work)
    finally:
        writing.dispose()
        reading.dispose()


def by_hand(path: Path, *statements: str) -> None:
    """Edit the file behind the server's back."""
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def rows(path: Path, query: str, *values: Value) -> list[tuple[Value, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query, values).fetchall()


async def checkpoint(store: Store) -> SignedCheckpoint:
    """Sign what is durable and keep it."""
    size, root = await store.journal.state()
    note = bytes(sign(Checkpoint(ORIGIN, size, root).text, ORIGIN, KEY)).decode()
    await store.journal.keep_checkpoint(size, START, note)
    kept = await store.journal.newest()
    assert kept is not None
    return kept


async def fill(path: Path) -> None:
    """Write what servers write; tables that they would fill only with much more get a made-up row."""
    store = await Store.open(path)
    await store.import_landmarks([landmark("fra-1"), landmark("fra-2")], START)
    await store.import_deployments(
        [deployment(1), deployment(2)], START, by="officer/ann", reason="test", state=LicenseState.ACTIVE
    )
    await store.mark_alive("node-1", START)
    await checkpoint(store)
    await store.commit(
        [record(START, [device(1, located=fix()), device(2, finding(Reason.LOCATION_UNPROVEN))]), record(START, [])]
    )
    run_on(path, _fill_empty_tables)
    await checkpoint(store)
    await store.close()


def _fill_empty_tables(connection: Connection) -> None:
    for table in JOURNALED_TABLES:
        if not connection.execute(select(func.count()).select_from(table)).scalar_one():
            connection.execute(insert(table), {c.name: _made_up(connection, table, c) for c in table.columns})


def _made_up(connection: Connection, table: Table, column: Column[object]) -> object:
    for key in column.foreign_keys:
        return connection.execute(select(key.column)).scalars().first()
    if isinstance(column.type, LargeBinary):
        return bytes(column.type.length or 300)
    if isinstance(column.type, Text):
        return "text " * 60
    if isinstance(column.type, String):
        return table.name[: column.type.length]
    return False if isinstance(column.type, Boolean) else 7


def audit(path: Path, *, checkpoints: Sequence[bytes] = (), key: NoteKey | None = VKEY) -> AuditReport:
    return audit_journal(path, lambda *_: None, checkpoints=checkpoints, key=key)


def climb(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that a path leads to, as RFC 6962 §2.1.1 defines paths, from the far end."""
    if size == 1:
        assert not path
        return leaf
    half = 1
    while half * 2 < size:
        half *= 2
    if index < half:
        return node_hash(climb(leaf, index, half, path[:-1]), path[-1])
    return node_hash(path[-1], climb(leaf, index - half, size - half, path[:-1]))

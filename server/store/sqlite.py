"""SQLite: engines, settings of each connection, transactions and their journal, the schema's version.

The only module that knows which database it is, beside those of the journal.
"""

import os
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DatabaseError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from server.store.errors import StoreUnavailableError, StoreVersionError
from server.store.journal_seal import Recorder, is_watched, watch
from server.store.schema import JOURNAL_SECRETS, META, METADATA, SCHEMA_VERSION
from verifier.journal.items import SECRET_BYTES, Secrets

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for another process's transaction. A large import holds the lock for seconds."""

READ_POOL = 8
"""Connections for reading; one for each reader thread is used at a time."""

_ASK_AGAIN_S = 0.01

_RECORDER = "journal"
"""Where a connection's info holds what journals it."""

ROOM_BYTES = 32 << 20
"""A full group of eight-GPU hosts is 13 MB, and stands on the disk twice: in the write-ahead log and in the file."""

Result = TypeVar("Result")


def open_engines(path: Path) -> tuple[Engine, Engine]:
    """Open the file for writing and for reading; make the schema where there is none.

    Returns:
        The engine of the one writer, whose transactions take the write lock at their start, and the readers' engine.

    Raises:
        StoreVersionError: Another release wrote the file, or it is no store.
        StoreUnavailableError: It cannot be opened for writing.
    """
    writing = _engine(path, begin="BEGIN IMMEDIATE", pool_size=1, read_only=False)
    reading = _engine(path, begin="BEGIN", pool_size=READ_POOL, read_only=True)
    try:
        run_in_transaction(writing, lambda _: None)
    except BaseException as error:
        reading.dispose()
        writing.dispose()
        if isinstance(error, StoreUnavailableError):
            raise StoreUnavailableError(f"cannot open {path} for writing: {error}") from error
        raise
    return writing, reading


def run_in_transaction(engine: Engine, work: Callable[[Connection], Result]) -> Result:
    """Run `work` in one transaction; it is durable when this returns, and undone when this raises.

    Raises:
        StoreUnavailableError: The database failed.
    """
    try:
        with engine.begin() as connection:
            return work(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise StoreUnavailableError(f"the store failed: {_first_line(error)}") from error


def is_outage(error: BaseException) -> bool:
    """Whether the database did not work at all, other than refusing what it was given."""
    cause = error.__cause__
    # A damaged file is a DatabaseError; the subclasses beside OperationalError blame the statement.
    return isinstance(cause, OperationalError | sqlite3.OperationalError) or type(cause) is DatabaseError


def check_room(engine: Engine) -> None:
    """Take and give back the room that a full group needs beside the file.

    Raises:
        StoreUnavailableError: There is less, or nothing can be written.
    """
    try:
        with tempfile.TemporaryFile(dir=Path(engine.url.database or "").parent) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
    except OSError as error:
        raise StoreUnavailableError(f"no room for {ROOM_BYTES >> 20} MiB beside the store: {error.strerror}") from error


def _engine(path: Path, *, begin: str, pool_size: int, read_only: bool) -> Engine:
    engine = create_engine(
        f"sqlite+pysqlite:///{path}", pool_size=pool_size, max_overflow=0, connect_args={"check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _settings(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # The driver would begin transactions by itself, and only before the first write.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        if not read_only:
            _write_ahead(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # A row that REPLACE removes would not be journaled otherwise.
        cursor.execute("PRAGMA recursive_triggers = ON")
        if read_only:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
        # Here, so that no connection can write before it is watched, however the engine came to open it.
        if read_only:
            return
        if is_watched(driver_of(connection)):
            recorder_of(connection).begin()
        else:
            _prepare(connection, path)

    if not read_only:

        @event.listens_for(engine, "commit")
        def _commit(connection: Connection) -> None:
            recorder_of(connection).seal()

    return engine


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection, for what the journal asks of it."""
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)


def recorder_of(connection: Connection) -> Recorder:
    """Return what journals this connection of the writer."""
    recorder: Recorder = connection.info[_RECORDER]
    return recorder


def _prepare(connection: Connection, path: Path) -> None:
    """Check the schema, or make it, and let the journal watch the connection (docs/protocol.md J1)."""
    made = _check_schema(connection, path)
    if made:
        keys = {name: secrets.token_bytes(SECRET_BYTES) for name in ("salt_key", "tag_key")}
        connection.execute(insert(JOURNAL_SECRETS), {"number": 0, **keys})
    kept = connection.execute(select(JOURNAL_SECRETS.c.salt_key, JOURNAL_SECRETS.c.tag_key)).one_or_none()
    if kept is None:
        raise StoreVersionError(f"{path} has lost the secrets of its journal. Restore it from a backup")
    watch(driver_of(connection))
    connection.info[_RECORDER] = Recorder(driver_of(connection), Secrets(*kept))
    recorder_of(connection).begin()
    if made:
        counters = [{"name": name, "value": value} for name, value in FIRST_META.items()]
        connection.execute(insert(META), counters)


def _write_ahead(cursor: DBAPICursor) -> None:
    # Only in a file's first moments is the mode another one. SQLite does not wait for this lock, whatever the timeout,
    # lest two that change the mode wait for each other; so of two servers that make one file, one has to ask again.
    last = time.monotonic() + BUSY_TIMEOUT_MS / 1_000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > last:
                raise
            time.sleep(_ASK_AGAIN_S)
        else:
            return


def _check_schema(connection: Connection, path: Path) -> bool:
    """Return whether there was none and it was made."""
    names = inspect(connection).get_table_names()
    if not names:
        METADATA.create_all(connection)
        return True
    if META.name not in names:
        raise StoreVersionError(f"{path} is a database, but not a Trigpoint store")
    version = connection.execute(select(META.c.value).where(META.c.name == "schema_version")).scalar()
    if version != SCHEMA_VERSION:
        raise StoreVersionError(
            f"{path} has schema version {version}; this release knows version {SCHEMA_VERSION}. "
            "Run the release that wrote it, or a newer one"
        )
    return False


FIRST_META = {
    "schema_version": SCHEMA_VERSION,
    "changes": 0,
    "records": 0,
    "audits": 0,
    "findings": 0,
    "proposals": 0,
    "cases": 0,
    "reads": 0,
    "cased": 0,
    "audited_at": 0,
    "audit_basis": 0,
}


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from server.store import Store, StoreUnavailableError, StoreVersionError
from tests.store.store_world import START, device, pdi, record


async def test_store_survives_a_restart(store_path: Path) -> None:
    first = await Store.open(store_path)
    await first.commit([record(START, [device(1)])])
    await first.close()
    second = await Store.open(store_path)
    assert await second.get_device(pdi(1)) is not None
    await second.close()


async def test_a_server_waits_for_another_that_is_making_the_file(store_path: Path) -> None:
    with closing(sqlite3.connect(store_path, isolation_level=None)) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("DROP TABLE t")
        other.execute("BEGIN IMMEDIATE")
        opening = asyncio.create_task(Store.open(store_path))
        await asyncio.wait({opening}, timeout=0.3)
        assert not opening.done()
        other.execute("COMMIT")
        await (await opening).close()


async def test_newer_schema_is_refused_and_left_alone(store_path: Path) -> None:
    await (await Store.open(store_path)).close()
    with closing(sqlite3.connect(store_path)) as database:
        database.execute("UPDATE meta SET value = 999 WHERE name = 'schema_version'")
        database.commit()
    with pytest.raises(StoreVersionError, match="schema version 999"):
        await Store.open(store_path)


async def test_foreign_database_is_refused(store_path: Path) -> None:
    with closing(sqlite3.connect(store_path)) as database:
        database.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreVersionError, match="not a Trigpoint store"):
        await Store.open(store_path)


@pytest.fixture
def text_path(store_path: Path) -> Path:
    store_path.write_bytes(b"not a database, and long enough to be looked at as one\n" * 100)
    return store_path


async def test_file_that_is_no_database_is_refused(text_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        await Store.open(text_path)


async def test_missing_folder_is_a_store_fault(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        await Store.open(tmp_path / "nowhere" / "trigpoint.db")

"""What transactions leave in the journal, and proofs of it (docs/protocol.md J1 to J6)."""

import asyncio
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from server.store import Store, StoreUnavailableError, StoreVersionError, sqlite
from server.store.journal_rows import JOURNALED
from server.store.journal_types import Proofs, RowKey, RowsAlteredError, RowsNotSealedError
from server.store.schema import JOURNAL_TABLES, METADATA
from server.store.sqlite import recorder_of
from server.times import utc_now
from tests.store.journal_world import JOURNALED_TABLES, KEY, ORIGIN, VKEY, audit, by_hand, checkpoint, climb, fill, rows
from tests.store.store_world import START, device, pdi, record
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.items import (
    ITEM_BYTES,
    MAX_ITEMS,
    REMOVED,
    Secrets,
    commitment,
    entry_leaf,
    row_bytes,
)
from verifier.journal.merkle import leaf_hash, nodes_of, root_of, verify_consistency, verify_inclusion
from verifier.journal.notes import Note, NoteError, cosign, sign


@pytest.fixture
def engine(store_path: Path) -> Iterator[Engine]:
    writing, reading = sqlite.open_engines(store_path)
    yield writing
    writing.dispose()
    reading.dispose()


def write(engine: Engine, *statements: str) -> None:
    """One transaction."""

    def work(connection: Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    sqlite.run_in_transaction(engine, work)


def secrets_of(path: Path) -> Secrets:
    salt_key, tag_key = rows(path, "SELECT salt_key, tag_key FROM journal_secrets")[0]
    assert isinstance(salt_key, bytes)
    assert isinstance(tag_key, bytes)
    return Secrets(salt_key, tag_key)


def items_of(path: Path, entry: int) -> list[bytes]:
    (items,) = rows(path, "SELECT items FROM journal_entries WHERE entry = ?", entry)[0]
    assert isinstance(items, bytes)
    return [items[at : at + ITEM_BYTES] for at in range(0, len(items), ITEM_BYTES)]


def size_of(path: Path) -> int:
    return int(str(rows(path, "SELECT count(*) FROM journal_entries")[0][0]))


def standing_items(path: Path, table: str) -> list[bytes]:
    """The items of a table's rows by the rules of the protocol's page, in the order of keys."""
    secrets = secrets_of(path)
    keys = [column.name for column in METADATA.tables[table].primary_key]
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        made = []
        for row in database.execute(f"SELECT * FROM {table} ORDER BY {', '.join(keys)}"):
            written = row_bytes(table, dict(row))
            made.append(secrets.tag(table, [row[key] for key in keys]) + commitment(secrets.salt(written), written))
        return made


# What is journaled.


@pytest.mark.usefixtures("engine")
def test_a_new_store_has_journaled_its_first_rows(store_path: Path) -> None:
    assert size_of(store_path) == 1
    assert items_of(store_path, 0) == standing_items(store_path, "meta")


def test_every_table_but_the_journals_own_is_journaled() -> None:
    assert set(JOURNALED) == {table.name for table in METADATA.sorted_tables} - {table.name for table in JOURNAL_TABLES}
    assert list(JOURNALED) == sorted(JOURNALED)


def test_a_transaction_is_one_entry_of_all_its_rows_in_order(engine: Engine, store_path: Path) -> None:
    write(
        engine,
        "INSERT INTO service_intervals VALUES ('b', 2, 9)",
        "INSERT INTO service_intervals VALUES ('b', 1, 9)",
        "INSERT INTO service_intervals VALUES ('a', 10, 9)",
        "INSERT INTO chains VALUES (x'02', x'aa'), (x'01ff', x'bb')",
        "UPDATE service_intervals SET alive_until = 11",
    )
    assert items_of(store_path, 1) == [
        *standing_items(store_path, "chains"),
        *standing_items(store_path, "service_intervals"),
    ]
    assert size_of(store_path) == 2


def test_a_row_that_is_removed_or_renamed_is_journaled_as_removed(engine: Engine, store_path: Path) -> None:
    write(engine, "INSERT INTO chains VALUES (x'01', x'aa'), (x'02', x'bb'), (x'03', x'cc')")
    tags = [item[:16] for item in items_of(store_path, 1)]
    write(
        engine, "DELETE FROM chains WHERE chain_id = x'02'", "UPDATE chains SET chain_id = x'00' WHERE chain_id = x'03'"
    )
    assert items_of(store_path, 2) == [standing_items(store_path, "chains")[0], tags[1] + REMOVED, tags[2] + REMOVED]
    write(engine, "DELETE FROM chains")  # SQLite has a shortcut for this one
    zero = items_of(store_path, 2)[0][:16]
    assert items_of(store_path, 3) == [zero + REMOVED, tags[0] + REMOVED]


def test_a_row_that_replace_pushes_out_is_journaled(engine: Engine, store_path: Path) -> None:
    """By its primary key, and by another unique index, which removes a row that the statement does not name."""
    write(engine, "INSERT INTO devices (pdi, change_number) VALUES (x'01', 1), (x'02', 2)")
    write(engine, "INSERT OR REPLACE INTO devices (pdi, change_number) VALUES (x'03', 2)")
    gone, new = items_of(store_path, 2)
    assert gone == items_of(store_path, 1)[1][:16] + REMOVED
    assert new == standing_items(store_path, "devices")[1]
    assert audit(store_path).faults == ()


def test_a_rowid_that_comes_again_hides_no_row(engine: Engine, store_path: Path) -> None:
    write(engine, "INSERT INTO chains VALUES (x'01', x''), (x'02', x''), (x'03', x'')")
    write(engine, "DELETE FROM chains WHERE chain_id != x'01'", "INSERT INTO chains VALUES (x'04', x'')")
    assert [item[16:] == REMOVED for item in items_of(store_path, 2)] == [True, True, False]
    assert items_of(store_path, 2)[2] == standing_items(store_path, "chains")[1]
    write(engine, "DELETE FROM chains WHERE chain_id = x'01'", "INSERT INTO chains VALUES (x'05', x'')")
    assert len(items_of(store_path, 3)) == 2  # x'04', between the two, was not touched


KEYS = st.integers(0, 9)
STEPS = st.one_of(
    st.builds("INSERT OR IGNORE INTO devices (pdi, change_number) VALUES (x'{:02}', {})".format, KEYS, KEYS),
    st.builds("INSERT OR REPLACE INTO devices (pdi, change_number) VALUES (x'{:02}', {})".format, KEYS, KEYS),
    st.builds("UPDATE OR IGNORE devices SET change_number = {} WHERE pdi = x'{:02}'".format, KEYS, KEYS),
    st.builds("UPDATE OR IGNORE devices SET pdi = x'{:02}' WHERE pdi = x'{:02}'".format, KEYS, KEYS),
    st.builds("UPDATE OR REPLACE devices SET pdi = x'{:02}' WHERE change_number >= {}".format, KEYS, KEYS),
    st.builds("DELETE FROM devices WHERE pdi >= x'{:02}'".format, KEYS),
    st.builds("DELETE FROM devices WHERE pdi = x'{:02}'".format, KEYS),
    st.just("DELETE FROM devices"),
    st.builds(
        "INSERT INTO devices (pdi, change_number) VALUES (x'{:02}', 77) "
        "ON CONFLICT (pdi) DO UPDATE SET change_number = 78".format,
        KEYS,
    ),
)


@given(st.lists(st.lists(STEPS, min_size=1, max_size=6), min_size=1, max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_no_row_escapes_the_journal(engine: Engine, store_path: Path, transactions: list[list[str]]) -> None:
    for statements in transactions:
        # One that breaks a rule of the table is undone.
        with suppress(StoreUnavailableError):
            write(engine, *statements)
    assert audit(store_path).faults == ()


def test_what_comes_and_goes_in_one_transaction_is_journaled_as_removed(engine: Engine, store_path: Path) -> None:
    write(engine, "INSERT INTO chains VALUES (x'01', x'aa')", "DELETE FROM chains")
    assert [item[16:] for item in items_of(store_path, 1)] == [REMOVED]


def test_a_transaction_that_touches_nothing_makes_no_entry(engine: Engine, store_path: Path) -> None:
    write(engine, "UPDATE chains SET certificates = x''", "DELETE FROM devices")
    write(engine)
    assert size_of(store_path) == 1


def test_a_transaction_that_is_undone_leaves_no_entry_and_the_next_is_journaled(
    engine: Engine, store_path: Path
) -> None:
    with pytest.raises(StoreUnavailableError):
        write(engine, "INSERT INTO chains VALUES (x'01', x'aa')", "INSERT INTO chains VALUES (x'01', x'bb')")
    assert size_of(store_path) == 1
    write(engine, "INSERT INTO chains VALUES (x'02', x'aa')")
    assert items_of(store_path, 1) == standing_items(store_path, "chains")


def test_nothing_is_written_that_cannot_be_journaled(engine: Engine, store_path: Path) -> None:
    by_hand(store_path, "DELETE FROM journal_nodes")
    with pytest.raises(StoreUnavailableError, match="the journal lacks its node"):
        write(engine, "INSERT INTO chains VALUES (x'01', x'aa')")
    assert rows(store_path, "SELECT * FROM chains") == []
    assert size_of(store_path) == 1


def test_a_row_behind_which_none_can_be_told_to_be_new_stops_the_server(engine: Engine, store_path: Path) -> None:
    """SQLite would give the next rows any free rowid, and none of them would be journaled."""
    by_hand(store_path, f"INSERT INTO chains (rowid, chain_id, certificates) VALUES ({(1 << 63) - 1}, x'02', x'aa')")
    with pytest.raises(StoreUnavailableError, match="which no server wrote"):
        write(engine, "INSERT INTO chains VALUES (x'01', x'aa')")
    assert rows(store_path, "SELECT chain_id FROM chains") == [(b"\x02",)]


def test_a_connection_that_is_opened_anew_is_watched(engine: Engine, store_path: Path) -> None:
    engine.dispose()
    write(engine, "INSERT INTO chains VALUES (x'01', x'aa')")
    assert items_of(store_path, 1) == standing_items(store_path, "chains")


def test_a_connection_whose_first_transaction_is_undone_is_watched(engine: Engine, store_path: Path) -> None:
    engine.dispose()
    with pytest.raises(StoreUnavailableError):
        write(engine, "INSERT INTO nowhere VALUES (1)")
    write(engine, "INSERT INTO chains VALUES (x'01', x'aa')")
    assert items_of(store_path, 1) == standing_items(store_path, "chains")


def test_a_large_transaction_is_as_many_entries_as_it_takes(engine: Engine, store_path: Path) -> None:
    write(
        engine,
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 9999) "
        "INSERT INTO service_intervals SELECT 'node', 9999 - i, i FROM n",
    )
    entries = [items_of(store_path, entry) for entry in range(1, size_of(store_path))]
    assert [len(items) for items in entries] == [MAX_ITEMS, MAX_ITEMS, 10_000 - 2 * MAX_ITEMS]
    assert [item for items in entries for item in items] == standing_items(store_path, "service_intervals")
    assert len(set(rows(store_path, "SELECT at FROM journal_entries WHERE entry > 0"))) == 1
    assert audit(store_path).faults == ()


def test_sealing_takes_memory_for_entries_and_not_for_the_transaction(engine: Engine, store_path: Path) -> None:
    peaks = []
    for first, count in ((0, 8_000), (8_000, 24_000)):
        statement = (
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
            f"INSERT INTO service_intervals SELECT 'node', i + {first}, i FROM n"
        )
        tracemalloc.start()
        try:
            write(engine, statement)
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert size_of(store_path) == 1 + 2 + 6
    assert peaks[1] < peaks[0] * 1.2


def test_an_edit_by_another_hand_is_not_journaled(engine: Engine, store_path: Path) -> None:
    by_hand(store_path, "INSERT INTO chains VALUES (x'01', x'aa')")
    write(engine, "INSERT INTO chains VALUES (x'02', x'bb')")
    assert items_of(store_path, 1) == standing_items(store_path, "chains")[1:]
    assert [fault.table for fault in audit(store_path).faults] == ["chains"]


def test_secrets_are_made_for_each_store(tmp_path: Path) -> None:
    seen = set()
    for name in ("a.db", "b.db"):
        for engine in sqlite.open_engines(tmp_path / name):
            engine.dispose()
        secrets = secrets_of(tmp_path / name)
        assert {len(secrets.salt_key), len(secrets.tag_key)} == {32}
        seen |= {secrets.salt_key, secrets.tag_key}
    assert len(seen) == 4


async def test_a_store_that_lost_its_secrets_is_refused(store_path: Path) -> None:
    await (await Store.open(store_path)).close()
    by_hand(store_path, "DELETE FROM journal_secrets")
    with pytest.raises(StoreVersionError, match="lost the secrets of its journal"):
        await Store.open(store_path)


async def test_two_processes_write_one_journal(store_path: Path) -> None:
    stores = [await Store.open(store_path) for _ in range(2)]

    async def commit_often(node: int, store: Store) -> None:
        for n in range(20):
            await store.commit([record(START + timedelta(seconds=n), [device(100 * node + n % 7)])])

    await asyncio.gather(*(commit_often(node, store) for node, store in enumerate(stores)))
    states = {await store.journal.state() for store in stores}
    assert len(states) == 1
    ((size, _),) = states
    assert size == 1 + 2 * 20
    for store in stores:
        await store.close()
    assert audit(store_path).faults == ()


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_entries_of_any_size_make_the_tree_of_rfc_6962(engine: Engine, store_path: Path, limit: int) -> None:
    def work(connection: Connection) -> int:
        connection.exec_driver_sql("INSERT INTO chains VALUES (x'01', x''), (x'02', x''), (x'03', x''), (x'04', x'')")
        connection.exec_driver_sql("INSERT INTO chains VALUES (x'05', x''), (x'06', x''), (x'07', x'')")
        return recorder_of(connection).seal(limit=limit)

    assert sqlite.run_in_transaction(engine, work) == 7
    assert size_of(store_path) == 1 + -(-7 // limit)
    leaves = []
    for entry, at, leaf in rows(store_path, "SELECT entry, at, leaf FROM journal_entries ORDER BY entry"):
        assert isinstance(entry, int)
        assert isinstance(at, int)
        items = items_of(store_path, entry)
        assert leaf == entry_leaf(at, len(items), root_of(list(map(leaf_hash, items))))
        assert isinstance(leaf, bytes)
        leaves.append(leaf_hash(leaf))
    expected = {
        (level, number, root_of(leaves[number << level : (number + 1) << level]))
        for level in range(4)
        for number in range(len(leaves) >> level)
    }
    assert set(rows(store_path, "SELECT level, number, hash FROM journal_nodes")) == expected


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.binary(max_size=300),
    st.sampled_from([64, 65, 256, 257]).map(lambda size: "é" * size),
    st.sampled_from([64, 65, 256, 257]).map(bytes),
)


@given(st.data())
def test_rows_are_written_as_the_protocol_says(data: st.DataObject) -> None:
    table = JOURNALED[data.draw(st.sampled_from(sorted(JOURNALED)))]
    values = data.draw(st.lists(VALUES, min_size=len(table.columns), max_size=len(table.columns)))
    columns = dict(zip(table.columns, values, strict=True))
    assert table.row(values) == row_bytes(table.name, columns)
    assert table.key_of(values) == tuple(columns[key] for key in table.keys)


# Proofs.


def holds(proofs: Proofs) -> None:
    """Recompute what a reader would, with the verifier's functions alone."""
    note = Note.parse(proofs.checkpoint.encode())
    assert note.signed_by(VKEY)
    signed = Checkpoint.parse(note.text)
    assert signed.size == proofs.size
    entries = {entry.index: entry for entry in proofs.entries}
    assert set(entries) == {row.entry for row in proofs.rows}
    assert list(entries) == sorted(entries)
    for row in proofs.rows:
        entry = entries[row.entry]
        item = row.tag + commitment(row.salt, row_bytes(row.table, row.columns))
        leaf = entry_leaf(entry.at_us, entry.count, climb(leaf_hash(item), row.item, entry.count, row.path))
        assert verify_inclusion(leaf_hash(leaf), entry.index, signed.size, entry.path, signed.root)


def all_keys(path: Path) -> list[RowKey]:
    found = []
    for table in JOURNALED_TABLES:
        keys = ", ".join(f'"{name}"' for name in JOURNALED[table.name].keys)
        found += [RowKey(table.name, key) for key in rows(path, f"SELECT {keys} FROM {table.name}")]
    return found


@pytest.mark.parametrize("not_before", [None, START - timedelta(days=9000), utc_now() + timedelta(days=9)])
async def test_every_row_can_be_proven_wherever_one_looks_first(store_path: Path, not_before: None) -> None:
    await fill(store_path)
    store = await Store.open(store_path)
    keys = all_keys(store_path)
    proofs = await store.journal.prove_rows(keys, not_before)
    assert [
        RowKey(row.table, tuple(row.columns[name] for name in JOURNALED[row.table].keys)) for row in proofs.rows
    ] == keys
    holds(proofs)
    await store.close()


async def test_a_proven_row_is_whole(store: Store) -> None:
    await store.commit([record(START, [device(1)])])
    await checkpoint(store)
    proofs = await store.journal.prove_rows([RowKey("devices", (pdi(1),))])
    (row,) = proofs.rows
    assert row.columns["model"] == "GH100"
    assert row.columns["unseated"] == 0
    assert type(row.columns["unseated"]) is int
    assert len(row.columns) == len(METADATA.tables["devices"].columns)


async def test_rows_that_do_not_exist_are_left_out(store: Store) -> None:
    await store.commit([record(START, [device(1)])])
    await checkpoint(store)
    proofs = await store.journal.prove_rows([RowKey("devices", (pdi(9),)), RowKey("devices", (pdi(1),))])
    assert [row.columns["pdi"] for row in proofs.rows] == [pdi(1)]
    assert (await store.journal.prove_rows([])).rows == ()
    with pytest.raises(KeyError):
        await store.journal.prove_rows([RowKey("journal_secrets", (0,))])


async def test_a_row_is_proven_once_a_checkpoint_covers_it(store: Store) -> None:
    key = RowKey("devices", (pdi(1),))
    await store.commit([record(START, [device(1)])])
    with pytest.raises(RowsNotSealedError, match="no checkpoint"):
        await store.journal.prove_rows([key])
    await checkpoint(store)
    first = await store.journal.prove_rows([key])
    await store.commit([record(START + timedelta(seconds=9), [device(1)])])
    with pytest.raises(RowsNotSealedError, match="1 rows were written after"):
        await store.journal.prove_rows([key])
    await checkpoint(store)
    second = await store.journal.prove_rows([key])
    assert second.rows[0].entry > first.rows[0].entry
    for proofs in (first, second):
        holds(proofs)


async def test_a_row_that_another_hand_edited_cannot_be_proven(store: Store, store_path: Path) -> None:
    await store.commit([record(START, [device(1), device(2)])])
    await checkpoint(store)
    by_hand(store_path, "UPDATE devices SET model = 'other' WHERE pdi = x'0000000000000002'")
    keys = [RowKey("devices", (pdi(number),)) for number in (1, 2)]
    with pytest.raises(RowsAlteredError) as caught:
        await store.journal.prove_rows(keys)
    assert caught.value.row == keys[1]
    holds(await store.journal.prove_rows(keys[:1]))


# Checkpoints, roots, tiles.


def signed(size: int, root: bytes, origin: str = ORIGIN) -> Note:
    return sign(Checkpoint(origin, size, root).text, origin, KEY)


async def test_checkpoints_are_kept_and_found(store: Store) -> None:
    assert await store.journal.newest() is None
    first = await checkpoint(store)
    await store.commit([record(START, [])])
    second = await checkpoint(store)
    assert (first.size, second.size) == (1, 2)
    assert second.at == START
    assert await store.journal.newest() == second
    assert await store.journal.at_size(1) == await store.journal.by_hash(first.hash) == first
    assert await store.journal.at_size(9) is None
    assert await store.journal.by_hash(bytes(32)) is None
    assert first.hash == Checkpoint.parse(Note.parse(first.note.encode()).text).hash


async def test_cosignatures_from_two_sides_are_merged(store: Store) -> None:
    size, root = await store.journal.state()
    note = signed(size, root)
    for name in ("w1.example", "w2.example"):
        cosigned = note.plus([cosign(note.text, name, KEY, 1_800_000_000)])
        await store.journal.keep_checkpoint(size, START, bytes(cosigned).decode())
    await store.journal.keep_checkpoint(size, START, bytes(note).decode())
    kept = await store.journal.newest()
    assert kept is not None
    assert [signature.name for signature in Note.parse(kept.note.encode()).signatures] == [
        ORIGIN,
        "w1.example",
        "w2.example",
    ]


async def test_what_is_no_checkpoint_of_this_journal_is_not_kept(store: Store) -> None:
    size, root = await store.journal.state()
    for at, note in [
        (size, signed(size, bytes(32))),
        (size + 1, signed(size + 1, root)),
        (size, signed(0, root)),
        (-1, signed(size, root)),
    ]:
        with pytest.raises(ValueError, match="journal"):
            await store.journal.keep_checkpoint(at, START, bytes(note).decode())
    with pytest.raises(NoteError):
        await store.journal.keep_checkpoint(size, START, "no note")
    await checkpoint(store)
    with pytest.raises(ValueError, match="another checkpoint of 1 entries"):
        await store.journal.keep_checkpoint(size, START, bytes(signed(size, root, "journal.example/2")).decode())
    assert size == 1


async def test_roots_of_all_sizes_are_consistent(store: Store) -> None:
    for number in range(12):
        await store.commit([record(START + timedelta(seconds=number), [])])
    size, root = await store.journal.state()
    assert size == 13
    assert await store.journal.root_at(size) == root
    for old in range(size + 1):
        for new in range(old, size + 1):
            path, old_root, new_root = await store.journal.consistency(old, new)
            assert verify_consistency(old, new, old_root, new_root, path)
    for old, new in [(0, size + 1), (3, 2), (-1, 2)]:
        with pytest.raises(ValueError, match=r"entries, not|no proof leads"):
            await store.journal.consistency(old, new)
    for none in (-1, size + 1):
        with pytest.raises(ValueError, match="the journal has 13 entries"):
            await store.journal.root_at(none)


async def test_tiles_hold_the_tree_and_its_leaves(engine: Engine, store: Store, store_path: Path) -> None:
    write(
        engine,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 520) "
        "INSERT INTO service_intervals SELECT 'node', i, i FROM n",
    )

    def one_each(connection: Connection) -> int:
        connection.exec_driver_sql("UPDATE service_intervals SET alive_until = 0")
        return recorder_of(connection).seal(limit=1)

    assert sqlite.run_in_transaction(engine, one_each) == 520
    leaves = [leaf for (leaf,) in rows(store_path, "SELECT leaf FROM journal_entries ORDER BY entry")]
    assert len(leaves) == 522
    hashes = [leaf_hash(leaf) for leaf in leaves if isinstance(leaf, bytes)]
    nodes = nodes_of(hashes)
    journal = store.journal
    assert await journal.tile(0, 0, 256) == b"".join(hashes[:256])
    assert await journal.tile(0, 2, 10) == b"".join(hashes[512:522])
    assert await journal.tile(0, 2, 7) == b"".join(hashes[512:519])
    assert await journal.tile(1, 0, 2) == nodes(8, 0) + nodes(8, 1)
    bundle = await journal.entry_tile(2, 10)
    assert bundle == b"".join(b"\0\x20" + leaf for leaf in leaves[512:522] if isinstance(leaf, bytes))
    for missing in [(0, 2, 11), (0, 3, 1), (1, 0, 3), (1, 1, 1), (2, 0, 1), (0, 0, 0), (0, 0, 257), (-1, 0, 1)]:
        assert await journal.tile(*missing) is None
    for number, width in [(0, 257), (2, 11), (3, 1), (-1, 1), (1 << 62, 1)]:
        assert await journal.entry_tile(number, width) is None
    assert await journal.tile(63, 0, 1) is None

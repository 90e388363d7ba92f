"""What an audit of the journal finds (docs/protocol.md J9)."""

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import LargeBinary, String, Table

from server.store import Store, StoreUnavailableError, journal_spill
from server.store.journal_audit import AuditReport, audit_journal, main, report_text
from server.store.journal_audit_log import MAX_FAULTS, Fault
from server.store.journal_audit_rows import UNKNOWN_TABLE, key_text
from server.store.journal_rows import JOURNALED
from server.times import micros
from tests.store.journal_world import JOURNALED_TABLES, KEY, ORIGIN, VKEY, audit, by_hand, checkpoint, fill, rows
from tests.store.store_world import START, device, record
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.items import ITEM_BYTES, entry_of
from verifier.journal.merkle import EMPTY_ROOT, Frontier, leaf_hash
from verifier.journal.notes import NoteKey, sign

CHANGED = "is not as the journal says: it was changed without it"
UNKNOWN = "was never journaled"
GONE = "is gone without the journal: the journal says that it stands as this item tells"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("journal") / "filled.db"
    asyncio.run(fill(path))
    return path


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(template, tmp_path / "trigpoint.db"))


def texts(report: AuditReport) -> list[str]:
    return [f"{fault.key} {fault.text}" for fault in report.faults]


def first_key(path: Path, table: Table) -> str:
    keys = ", ".join(f'"{name}"' for name in JOURNALED[table.name].keys)
    return key_text(rows(path, f"SELECT {keys} FROM {table.name} ORDER BY rowid LIMIT 1")[0])


def edit(table: Table, column: str) -> str:
    """A statement that changes one column of the first row."""
    kind = table.columns[column].type
    if isinstance(kind, LargeBinary):
        value = f"CAST(coalesce(\"{column}\", x'') || x'07' AS BLOB)"
    elif isinstance(kind, String):
        value = f"coalesce(\"{column}\", '') || '!'"
    else:
        value = f'coalesce("{column}", 0) + 1000003'
    return f'UPDATE {table.name} SET "{column}" = {value} WHERE rowid = (SELECT min(rowid) FROM {table.name})'


def test_a_store_as_servers_leave_it_has_no_fault(filled: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    report = audit_journal(filled, lambda *told: heard.append(told), key=VKEY)
    assert report.faults == ()
    assert report.fault_count == 0
    assert (report.entry_count,) == rows(filled, "SELECT count(*) FROM journal_entries")[0]
    counts = {
        table.name: int(str(rows(filled, f"SELECT count(*) FROM {table.name}")[0][0])) for table in JOURNALED_TABLES
    }
    assert all(counts.values())
    assert report.row_count == sum(counts.values())
    assert (report.checkpoint,) == rows(filled, "SELECT note FROM journal_checkpoints ORDER BY size DESC LIMIT 1")[0]
    assert {stage: done for stage, done, total in heard if done == total} == {"journal": report.entry_count, **counts}


@pytest.mark.parametrize("table", JOURNALED_TABLES, ids=str)
def test_an_edit_of_any_column_is_found(template: Path, tmp_path: Path, table: Table) -> None:
    key = first_key(template, table)
    for column in table.columns:
        path = Path(shutil.copy(template, tmp_path / "edited.db"))
        by_hand(path, edit(table, column.name))
        faults = audit(path).faults
        if column.primary_key:
            assert Fault(table.name, first_key(path, table), UNKNOWN) in faults, column.name
            assert [fault.text for fault in faults].count(GONE) == 1, column.name
        else:
            assert faults == (Fault(table.name, key, CHANGED),), column.name


@pytest.mark.parametrize("table", JOURNALED_TABLES, ids=str)
def test_a_row_that_is_deleted_is_found(filled: Path, table: Table) -> None:
    by_hand(filled, f"DELETE FROM {table.name} WHERE rowid = (SELECT min(rowid) FROM {table.name})")
    (fault,) = audit(filled).faults
    assert fault.table in {table.name, UNKNOWN_TABLE}
    assert fault.text == GONE


@pytest.mark.parametrize("table", JOURNALED_TABLES, ids=str)
def test_a_row_that_is_slipped_in_is_found(filled: Path, table: Table) -> None:
    names = [column.name for column in table.columns]
    values = []
    for column in table.columns:
        value = f'"{column.name}"'
        if isinstance(column.type, LargeBinary):
            value = f"CAST({value} || x'07' AS BLOB)"
        elif isinstance(column.type, String):
            value = f"{value} || '!'"
        elif column.primary_key or column.unique or column.name.endswith(("number", "sequence")):
            value = f"{value} + 1000003"
        values.append(value)
    quoted = ", ".join(f'"{name}"' for name in names)
    by_hand(filled, f"INSERT INTO {table.name} ({quoted}) SELECT {', '.join(values)} FROM {table.name} LIMIT 1")
    (fault,) = audit(filled).faults
    assert (fault.table, fault.text) == (table.name, UNKNOWN)


async def test_a_removed_row_that_is_put_back_is_found(filled: Path) -> None:
    by_hand(filled, "CREATE TABLE copy AS SELECT * FROM findings")
    store = await Store.open(filled)
    await asyncio.wrap_future(store._writer.run(lambda c: c.exec_driver_sql("DELETE FROM findings")))
    await store.close()
    by_hand(filled, "INSERT INTO findings SELECT * FROM copy", "DROP TABLE copy")
    (fault,) = audit(filled).faults
    assert fault.table == "findings"
    assert fault.text == "was removed and is back, without the journal"


def test_a_row_put_back_as_it_once_was_is_found(filled: Path) -> None:
    """An old state that was journaled is still not the last one."""
    before = rows(filled, "SELECT value FROM meta WHERE name = 'changes'")[0][0]
    by_hand(filled, "UPDATE meta SET value = 0 WHERE name = 'changes'")  # as in entry 0
    assert before != 0
    assert audit(filled).faults == (Fault("meta", "changes", CHANGED),)


def test_a_value_of_another_type_is_another_value(filled: Path) -> None:
    by_hand(
        filled,
        "UPDATE licenses SET licensee = CAST(licensee AS BLOB)",
        "UPDATE devices SET model = CAST(x'ff41' AS TEXT) WHERE rowid = 1",  # no UTF-8
        "UPDATE devices SET last_fix = '' WHERE last_fix IS NULL",
    )
    assert sorted(fault.table for fault in audit(filled).faults) == ["devices", "devices", "licenses"]


def test_the_table_of_a_row_that_is_gone_is_told_by_its_neighbors(filled: Path) -> None:
    by_hand(filled, "DELETE FROM meta WHERE name = 'cases'")
    (fault,) = audit(filled).faults
    assert fault == Fault("meta", fault.key, GONE)
    entry, item = fault.key.removeprefix("entry ").split(", item ")
    (items,) = rows(filled, "SELECT items FROM journal_entries WHERE entry = ?", int(entry))[0]
    assert isinstance(items, bytes)
    assert int(item) < len(items) // ITEM_BYTES


def test_more_faults_than_are_listed_are_counted(filled: Path) -> None:
    before = audit(filled)
    by_hand(
        filled,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500) "
        "INSERT INTO service_intervals SELECT 'node', i, i FROM n",
    )
    report = audit(filled)
    assert report.fault_count == 1500
    assert len(report.faults) == MAX_FAULTS
    count = before.row_count + 1500
    assert report_text(report).endswith(f"\nand 500 more\n6 entries, {count:,} rows, 1,500 faults\n")


def test_parts_of_any_number_find_the_same(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand(filled, "DELETE FROM sites", edit(JOURNALED_TABLES[0], "result"), "INSERT INTO meta VALUES ('more', 1)")
    whole = audit(filled)
    monkeypatch.setattr(journal_spill, "PART_ITEMS", 7)
    monkeypatch.setattr(journal_spill, "GATHERED", 5)
    assert sorted(map(str, audit(filled).faults)) == sorted(map(str, whole.faults))
    assert whole.fault_count == 3


def by_schema(path: Path, *statements: str) -> None:
    """Edit the file's own list of what is in it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            database.execute(statement)
        database.execute("PRAGMA writable_schema = RESET")


def test_a_trigger_by_a_name_that_sqlite_keeps_for_itself_is_found(filled: Path) -> None:
    made = "AFTER INSERT ON findings BEGIN DELETE FROM findings WHERE pdi = NEW.pdi; END"
    by_schema(
        filled,
        f"CREATE TRIGGER more {made}",
        f"UPDATE sqlite_master SET name = 'sqlite_x', sql = 'CREATE TRIGGER sqlite_x {made}' WHERE name = 'more'",
    )
    assert audit(filled).faults == (Fault("schema", "sqlite_x", "a trigger that is no part of a store"),)


def test_an_index_that_hides_rows_is_found(filled: Path) -> None:
    """Servers look for open findings there; the rows themselves stand untouched."""
    made = str(rows(filled, "SELECT sql FROM sqlite_master WHERE name = 'findings_open'")[0][0])
    emptied = made.replace("closed_at IS NULL", "0")
    by_schema(filled, "DROP INDEX findings_open", emptied)
    assert audit(filled).faults == (Fault("schema", "findings_open", "another index than a store's"),)
    by_schema(filled, f"UPDATE sqlite_master SET sql = '{made}' WHERE name = 'findings_open'")
    found = texts(audit(filled))
    assert any("missing from index findings_open" in text for text in found), found


def test_a_row_that_stands_twice_is_found(filled: Path) -> None:
    by_schema(
        filled,
        "DELETE FROM sqlite_master WHERE name = 'sqlite_autoindex_reads_1'",
        "UPDATE sqlite_master SET sql = replace(sql, 'PRIMARY KEY (number)', 'CHECK (1)') WHERE name = 'reads'",
    )
    by_hand(filled, "INSERT INTO reads SELECT * FROM reads")
    found = audit(filled).faults
    assert Fault("schema", "reads", "was made with other keys or types than a store's") in found
    assert Fault("schema", "sqlite_autoindex_reads_1", "missing: index of reads") in found


@pytest.mark.parametrize(("table", "column", "kind"), [("changes", "payload", "BLOB"), ("exhibits", "data", "TEXT")])
def test_a_long_value_of_another_type_is_found(filled: Path, table: str, column: str, kind: str) -> None:
    """In its row it stands by the same hash (docs/protocol.md J2)."""
    by_hand(filled, f"UPDATE {table} SET {column} = CAST({column} AS {kind})")
    (fault,) = audit(filled).faults
    assert (fault.table, fault.text) == (table, CHANGED)


def test_an_analyzed_store_has_no_fault(filled: Path) -> None:
    by_hand(filled, "ANALYZE")
    assert audit(filled).faults == ()


# The journal itself.


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE journal_entries SET at = at + 1 WHERE entry = 2", "entry 2 its time or its items are not"),
        ("UPDATE journal_entries SET items = CAST(items || x'00' AS BLOB) WHERE entry = 2", "entry 2 its time or"),
        ("UPDATE journal_entries SET items = x'' WHERE entry = 2", "entry 2 its time or"),
        ("UPDATE journal_entries SET items = 'text' WHERE entry = 2", "entry 2 its time or"),
        ("UPDATE journal_entries SET at = -1 WHERE entry = 2", "entry 2 its time or"),
        ("UPDATE journal_entries SET leaf = zeroblob(32) WHERE entry = 2", "entry 2 its time or"),
        ("UPDATE journal_entries SET leaf = 7 WHERE entry = 2", "entry 2 its time or"),
        ("UPDATE journal_nodes SET hash = zeroblob(32) WHERE level = 0 AND number = 3", "node 0/3 is not the hash"),
        ("UPDATE journal_nodes SET hash = zeroblob(32) WHERE level = 1 AND number = 1", "node 1/1 is not the hash"),
        ("DELETE FROM journal_nodes WHERE level = 1 AND number = 0", "node 1/0 missing"),
        ("DELETE FROM journal_nodes WHERE level = 2", "node 2/0 missing"),
        ("UPDATE journal_nodes SET number = 9 WHERE level = 0 AND number = 5", "node 0/9 stands for entries"),
        ("INSERT INTO journal_nodes VALUES (0, -1, zeroblob(32))", "node 0/-1 stands for entries"),
        ("INSERT INTO journal_entries VALUES ('text', 1, x'00', x'00')", "entry 'text' has no number"),
        ("DELETE FROM journal_entries WHERE entry = 2", "entry 2 missing: 3 follows"),
        ("DELETE FROM journal_entries WHERE entry = 0", "entry 0 missing: 1 follows"),
        ("UPDATE journal_checkpoints SET size = 2 WHERE size = 6", "checkpoint 2 is kept under another size"),
        ("UPDATE journal_checkpoints SET hash = zeroblob(32) WHERE size = 6", "checkpoint 6 is kept under another"),
        ("UPDATE journal_checkpoints SET note = x'ff' WHERE size = 6", "checkpoint 6 is no signed checkpoint"),
        ("UPDATE journal_checkpoints SET note = replace(note, 'example/1', 'example/2')", "checkpoint 6 is kept"),
    ],
)
def test_an_edit_of_the_journal_is_found(filled: Path, statement: str, said: str) -> None:
    by_hand(filled, statement)
    found = texts(audit(filled))
    assert any(text.startswith(said) for text in found), found


def test_an_item_that_is_exchanged_is_found_even_with_its_leaf(filled: Path) -> None:
    """Whoever repairs the leaf and every node above it still cannot repair what was signed."""
    at, items = rows(filled, "SELECT at, items FROM journal_entries WHERE entry = 1")[0]
    assert isinstance(at, int)
    assert isinstance(items, bytes)
    forged = bytes([items[0] ^ 1]) + items[1:]
    leaf = entry_of(at, forged)
    with closing(sqlite3.connect(filled)) as database:
        database.execute("UPDATE journal_entries SET items = ?, leaf = ? WHERE entry = 1", (forged, leaf))
        database.commit()
    assert any(text.startswith("node 0/1 is not the hash") for text in texts(audit(filled)))
    rebuild(filled)
    assert texts(audit(filled))[:2] == [
        f"checkpoint {size} the tree of {size} entries has another root" for size in (4, 6)
    ]


def rebuild(path: Path) -> None:
    """Make the nodes again from the leaves, as a forger would."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM journal_nodes")
        frontier = Frontier(0, lambda _level, _number: b"")
        for (leaf,) in database.execute("SELECT leaf FROM journal_entries ORDER BY entry").fetchall():
            database.executemany("INSERT INTO journal_nodes VALUES (?, ?, ?)", frontier.append(leaf_hash(leaf)))
        database.commit()


def test_a_log_whose_end_is_cut_off_is_found_by_its_checkpoint(filled: Path) -> None:
    by_hand(filled, "DELETE FROM journal_entries WHERE entry >= 5")
    rebuild(filled)
    assert "checkpoint 6 is of 6 entries; the journal ends at 5" in texts(audit(filled))


def test_a_forger_who_removes_checkpoints_too_is_found_by_one_from_elsewhere(filled: Path) -> None:
    kept = rows(filled, "SELECT note FROM journal_checkpoints ORDER BY size")
    notes = [str(note).encode() for (note,) in kept]
    assert audit(filled, checkpoints=notes).fault_count == 0
    by_hand(filled, "DELETE FROM journal_entries WHERE entry >= 5", "DELETE FROM journal_checkpoints WHERE size > 5")
    rebuild(filled)
    said = "given checkpoint 2 is of 6 entries; the journal ends at 5"
    assert said not in texts(audit(filled))
    assert said in texts(audit(filled, checkpoints=notes))


def test_a_checkpoint_from_elsewhere_that_says_otherwise_is_found(filled: Path) -> None:
    other = bytes(sign(Checkpoint(ORIGIN, 3, bytes(32)).text, ORIGIN, KEY))
    empty = bytes(sign(Checkpoint(ORIGIN, 0, EMPTY_ROOT).text, ORIGIN, KEY))
    assert texts(audit(filled, checkpoints=[other, empty])) == [
        "given checkpoint 1 the tree of 3 entries has another root"
    ]
    assert texts(audit(filled, checkpoints=[b"\xff"])) == [
        "given checkpoint 1 is no signed checkpoint: a note is UTF-8"
    ]


def test_a_checkpoint_by_another_key_is_found_when_the_key_is_known(filled: Path) -> None:
    other = NoteKey.of(ORIGIN, Ed25519PrivateKey.generate())
    assert texts(audit(filled, key=other)) == [
        f"checkpoint {size} is not signed by the journal's key" for size in (4, 6)
    ]
    assert audit(filled, key=None).fault_count == 0
    # A journal that changed its name keeps the checkpoints of its old one.
    assert audit(filled, key=NoteKey.of("journal.example/2", KEY)).fault_count == 0


def test_behind_a_gap_nothing_is_said_of_checkpoints_but_that(filled: Path) -> None:
    by_hand(filled, "DELETE FROM journal_entries WHERE entry = 1")
    found = texts(audit(filled))
    assert "checkpoint 6 cannot be recomputed: entries before it are missing" in found


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("CREATE TABLE more (x)", Fault("schema", "more", "a table that is no part of a store")),
        ("CREATE VIEW more AS SELECT 1", Fault("schema", "more", "a view that is no part of a store")),
        (
            "CREATE TRIGGER more AFTER INSERT ON meta BEGIN SELECT 1; END",
            Fault("schema", "more", "a trigger that is no part of a store"),
        ),
        ("ALTER TABLE meta ADD COLUMN more", Fault("schema", "meta", "has other columns than a store's")),
        ("CREATE INDEX more ON reads (at)", Fault("schema", "more", "an index that is no part of a store")),
        ("DROP INDEX reads_by_time", Fault("schema", "reads_by_time", "missing: index of reads")),
    ],
)
def test_what_is_no_part_of_a_store_is_found(filled: Path, statement: str, fault: Fault) -> None:
    by_hand(filled, statement)
    assert audit(filled).faults == (fault,)


def test_a_table_that_is_dropped_is_found(filled: Path) -> None:
    by_hand(filled, "DROP TABLE reads")
    schema, row = audit(filled).faults
    assert schema == Fault("schema", "reads", "missing")
    assert row.text == GONE


async def test_an_audit_sees_one_moment_while_servers_write(filled: Path) -> None:
    store = await Store.open(filled)
    sizes: set[int] = set()

    async def write() -> None:
        while True:
            await store.commit([record(START, [device(len(sizes))])])

    writing = asyncio.create_task(write())
    while len(sizes) < 5:
        report = await asyncio.to_thread(audit, filled)
        assert report.faults == ()
        sizes.add(report.entry_count)
    writing.cancel()
    await asyncio.wait({writing})
    await checkpoint(store)
    await store.close()
    assert audit(filled).fault_count == 0


# The command.


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "server.store.journal_audit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_streams_progress_and_ends_with_the_outcome(filled: Path, tmp_path: Path) -> None:
    by_hand(filled, "UPDATE devices SET model = 'other' WHERE rowid = 1")
    note = tmp_path / "note"
    note.write_text(str(rows(filled, "SELECT note FROM journal_checkpoints WHERE size = 6")[0][0]))
    done = run_command("--store", filled, "--json", "--checkpoint", note, "--key", VKEY.vkey)
    assert done.returncode == 1, done.stderr
    *progress, last = map(json.loads, done.stdout.splitlines())
    assert all(set(line["progress"]) == {"stage", "done", "total"} for line in progress)
    assert last["outcome"]["faults"] == [
        {"table": "devices", "key": first_key(filled, _table("devices")), "text": CHANGED}
    ]
    assert last["outcome"]["checkpoint"] == note.read_text()


def _table(name: str) -> Table:
    return next(table for table in JOURNALED_TABLES if table.name == name)


def test_the_command_says_in_words_what_it_found(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count = audit(filled).row_count
    assert main(["--store", str(filled)]) == 0
    assert capsys.readouterr().out == f"6 entries, {count} rows, 0 faults\n"
    by_hand(filled, "UPDATE meta SET value = 9 WHERE name = 'reads'")
    assert main(["--store", str(filled)]) == 1
    out, err = capsys.readouterr()
    assert out == f"meta: reads: {CHANGED}\n6 entries, {count} rows, 1 faults\n"
    assert "meta: 11 of 11\n" in err


@pytest.mark.parametrize("arguments", [("--key", "nonsense"), ("--checkpoint", "nowhere")])
def test_the_command_refuses_what_it_cannot_use(
    filled: Path, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--store", str(filled), *arguments]) == 2
    assert capsys.readouterr().err


def test_what_is_no_store_is_refused_and_not_made(tmp_path: Path) -> None:
    assert main(["--store", str(tmp_path / "nowhere.db")]) == 2
    assert not (tmp_path / "nowhere.db").exists()
    text = tmp_path / "text"
    text.write_bytes(b"not a database, and long enough to be looked at as one\n" * 100)
    with pytest.raises(StoreUnavailableError, match="cannot audit"):
        audit(text)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM journal_secrets",
        "INSERT INTO journal_secrets VALUES (-1, zeroblob(32), zeroblob(32))",
        "UPDATE journal_secrets SET salt_key = zeroblob(65)",
        "UPDATE journal_secrets SET tag_key = 'text'",
    ],
)
def test_a_store_without_its_secrets_is_refused(filled: Path, statement: str) -> None:
    by_hand(filled, statement)
    with pytest.raises(StoreUnavailableError, match="lost its secrets"):
        audit(filled)


def test_entries_carry_the_time_of_their_transaction(filled: Path) -> None:
    times = [int(str(at)) for (at,) in rows(filled, "SELECT at FROM journal_entries ORDER BY entry")]
    assert times == sorted(times)
    assert times[0] > micros(START) - 10**15

"""The audit of the journal (docs/protocol.md J9), as a function and as a command.

`python -m server.store.journal_audit --store PATH` reads the store as it stands at one moment, while servers write on,
and changes nothing. Exit codes: 0 all is as the journal says, 1 something is not, 2 the store cannot be read.
"""

import argparse
import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from server.store.errors import StoreUnavailableError
from server.store.journal_audit_log import Fault, Faults, LogAudit, Progress
from server.store.journal_audit_rows import check_file, check_tables, check_types, compare_rows, spill_rows
from server.store.journal_proofs import load_secrets
from server.store.journal_spill import Spill, parts_for
from verifier.journal.notes import NoteError, NoteKey

EXIT_FAULTS = 1
EXIT_UNUSABLE = 2
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found.

    Attributes:
        entry_count: Entries of the log.
        row_count: Rows that were held against it.
        faults: What is not as the journal says; at most 1,000.
        fault_count: All of them.
        checkpoint: The newest that is kept, a note; empty: none.
    """

    entry_count: int
    row_count: int
    faults: tuple[Fault, ...]
    fault_count: int
    checkpoint: str


def audit_journal(
    path: Path, progress: Progress, *, checkpoints: Sequence[bytes] = (), key: NoteKey | None = None
) -> AuditReport:
    """Recompute the journal of a store, and hold every table against it (docs/protocol.md J9).

    Memory does not grow with the store; some hundred bytes for each item are taken on the disk meanwhile. No server is
    kept from writing.

    Args:
        path: The store's file.
        progress: Hears how far it is.
        checkpoints: From elsewhere, signed notes: the journal must extend each.
        key: The journal's. When given, each checkpoint of its origin must be signed by it.

    Raises:
        StoreUnavailableError: The file cannot be read as a store.
    """
    try:
        with _one_moment(path) as database:
            return _audit(database, progress, checkpoints, key)
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailableError(f"cannot audit {path}: {error}") from error


def _audit(
    database: sqlite3.Connection, progress: Progress, checkpoints: Sequence[bytes], key: NoteKey | None
) -> AuditReport:
    faults = Faults()
    secrets = load_secrets(database)
    tables = check_tables(database, faults)
    check_file(database, faults)
    size: int = database.execute("SELECT coalesce(sum(length(items)), 0) FROM journal_entries").fetchone()[0]
    parts = parts_for(size)
    with Spill(parts) as said, Spill(parts) as stands:
        entries = LogAudit(database, faults, said, checkpoints, key).run(progress)
        rows = spill_rows(database, secrets, tables, stands, progress)
        compare_rows(database, secrets, tables, (said, stands), faults)
    check_types(database, tables, faults)
    newest = database.execute("SELECT note FROM journal_checkpoints ORDER BY size DESC LIMIT 1").fetchone()
    return AuditReport(entries, rows, tuple(faults.listed), faults.count, "" if newest is None else str(newest[0]))


@contextmanager
def _one_moment(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a store for reading what stands now, and nothing that comes later."""
    uri = f"{path.absolute().as_uri()}?mode=rw"  # SQLite cannot read a write-ahead log that it may not map
    with closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_WAIT_S)) as database:
        database.execute("PRAGMA query_only = ON")
        # Whoever edits the file by hand need not write UTF-8; what is not is another text than the journal's.
        database.text_factory = lambda data: str(data, "utf-8", "replace")
        database.execute("BEGIN")
        yield database


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m server.store.journal_audit", description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="the store's file")
    parser.add_argument(
        "--checkpoint", type=Path, action="append", default=[], help="a signed note that the journal must extend"
    )
    parser.add_argument("--key", help="vkey of the journal: each checkpoint of its origin must be signed by it")
    parser.add_argument("--json", action="store_true", help="progress and outcome as JSON, one object a line")
    options = parser.parse_args(arguments)
    try:
        key = None if options.key is None else NoteKey.parse(options.key)
        notes = [file.read_bytes() for file in options.checkpoint]
        report = audit_journal(options.store, _tell_json if options.json else _tell, checkpoints=notes, key=key)
    except (StoreUnavailableError, NoteError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_UNUSABLE
    if options.json:
        _write({"outcome": asdict(report)})
    else:
        sys.stdout.write(report_text(report))
    return EXIT_FAULTS if report.fault_count else 0


def report_text(report: AuditReport) -> str:
    """Return what an audit found for people."""
    lines = [f"{fault.table}: {fault.key}: {fault.text}" for fault in report.faults]
    if report.fault_count > len(report.faults):
        lines.append(f"and {report.fault_count - len(report.faults):,} more")
    lines.append(f"{report.entry_count:,} entries, {report.row_count:,} rows, {report.fault_count:,} faults")
    return "\n".join(lines) + "\n"


def _tell(stage: str, done: int, total: int) -> None:
    sys.stderr.write(f"{stage}: {done:,} of {total:,}\n")


def _tell_json(stage: str, done: int, total: int) -> None:
    _write({"progress": {"stage": stage, "done": done, "total": total}})


def _write(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())

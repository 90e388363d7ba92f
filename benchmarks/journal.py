"""How long an audit of a long journal takes (docs/protocol.md J9): one entry for each of so many rows."""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, insert

from server.store import sqlite
from server.store.journal_audit import audit_journal
from server.store.rows import Values
from server.store.schema import DEVICES

TRANSACTION_ROWS = 20_000


def time_audit(folder: Path | None, entries: int, seed: int, tell: Callable[[int], object]) -> tuple[float, float]:
    """Journal as many rows, each in an entry of its own, then audit them.

    Args:
        folder: Where the store is made; None: where temporary files are.
        entries: How many.
        seed: Of what rows hold.
        tell: Hears how many are written.

    Returns:
        Seconds of the audit, and microseconds that sealing took for each entry.
    """
    rng = random.Random(seed)  # noqa: S311 - a run must be repeatable
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        path = Path(scratch) / "journal.db"
        sealing = _write(path, entries, rng, tell)
        began = time.perf_counter()
        report = audit_journal(path, lambda *_: None)
        taken = time.perf_counter() - began
    if report.fault_count or report.entry_count <= entries:
        raise RuntimeError(f"the audit is wrong: {report}")
    return taken, sealing / entries * 1e6


def _write(path: Path, entries: int, rng: random.Random, tell: Callable[[int], object]) -> float:
    writing, reading = sqlite.open_engines(path)
    sealing = 0.0

    def work(connection: Connection) -> None:
        nonlocal sealing
        connection.execute(insert(DEVICES), rows)
        began = time.perf_counter()
        sqlite.recorder_of(connection).seal(limit=1)
        sealing += time.perf_counter() - began

    try:
        for first in range(0, entries, TRANSACTION_ROWS):
            rows = [_device(number, rng) for number in range(first, min(first + TRANSACTION_ROWS, entries))]
            sqlite.run_in_transaction(writing, work)
            tell(first + len(rows))
    finally:
        reading.dispose()
        writing.dispose()
    return sealing


def _device(number: int, rng: random.Random) -> Values:
    return {
        "pdi": number.to_bytes(8, "big"),
        "kind": 1,
        "device_key_id": rng.randbytes(32),
        "model": "GH100",
        "firmware": "96.00.74",
        "host_id": f"host-{number // 8}",
        "agent": f"rack-{number // 64}",
        "standing": 1,
        "counters": rng.randbytes(16),
        "counters_issued_at": 1_800_000_000_000_000 + number,
        "counters_received_at": 1_800_000_000_000_000 + number,
        "board": rng.randbytes(32),
        "unseated": False,
        "activated_at": 1_700_000_000_000_000,
        "last_report_at": 1_800_000_000_000_000 + number,
        "last_proof_at": 1_800_000_000_000_000 + number,
        "last_fix": "x" * 1_500,
        "last_attestation": rng.randbytes(32),
        "change_number": number,
    }

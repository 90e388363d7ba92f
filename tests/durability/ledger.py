"""What stands in a store's file, read past the server, held against what its callers were told."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp

from server.store.framing import unpack_counters
from tests.durability.load import Account, Host
from verifier.errors import Reason

_LOG_HEADER = 32
_FRAME_HEADER = 24


@contextlib.contextmanager
def reading(store: Path) -> Iterator[sqlite3.Connection]:
    """The file in one read transaction, whoever writes it meanwhile."""
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN")
        yield connection


def challenges(store: Path) -> frozenset[bytes]:
    """The challenges whose attestations stand in the file."""
    with reading(store) as connection:
        return frozenset(row["challenge"] for row in connection.execute("SELECT challenge FROM attestations"))


def check_store(store: Path, account: Account) -> frozenset[bytes]:
    """Hold the whole file against the account; returns the challenges that stand in it."""
    with reading(store) as connection:
        assert [row[0] for row in connection.execute("PRAGMA integrity_check")] == ["ok"]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        stored = {
            row["challenge"]: row
            for row in connection.execute("SELECT * FROM attestations JOIN evidence USING (challenge)")
        }
        verdicts: dict[bytes, dict[bytes, sqlite3.Row]] = {challenge: {} for challenge in stored}
        for row in connection.execute("SELECT * FROM device_verdicts"):
            assert row["pdi"] not in verdicts[row["challenge"]], "a device has two verdicts of one attestation"
            verdicts[row["challenge"]][row["pdi"]] = row
        _check_answered(account, stored, verdicts)
        _check_whole(account, stored, verdicts)
        _check_latest(connection, account)
    return frozenset(stored)


def _check_answered(
    account: Account, stored: dict[bytes, sqlite3.Row], verdicts: dict[bytes, dict[bytes, sqlite3.Row]]
) -> None:
    for challenge, verdict in account.answered.items():
        assert not verdict.HasField("rejection"), verdict
        row = stored[challenge]  # docs/protocol.md A6
        assert row["host_id"] == verdict.host_id
        assert row["received_at"] == _micros(verdict.receive_time)
        assert row["rejection"] is None
        assert {device.pdi for device in verdict.devices} == set(verdicts[challenge])
        for device in verdict.devices:
            assert verdicts[challenge][device.pdi]["standing"] == device.standing
            assert _reasons(verdicts[challenge][device.pdi]) == {finding.reason for finding in device.findings}


def _check_whole(
    account: Account, stored: dict[bytes, sqlite3.Row], verdicts: dict[bytes, dict[bytes, sqlite3.Row]]
) -> None:
    for challenge, row in stored.items():
        sent = account.sent[challenge]
        assert row["claims"] == sent.claims
        assert all(report.spdm in row["reports"] for report in sent.reports)
        assert len(verdicts[challenge]) == len(sent.reports)


def _check_latest(connection: sqlite3.Connection, account: Account) -> None:
    newest = {
        row["pdi"]: row for row in connection.execute("SELECT *, max(received_at) FROM device_verdicts GROUP BY pdi")
    }
    devices = {row["pdi"]: row for row in connection.execute("SELECT * FROM devices")}
    open_findings: dict[bytes, set[int]] = {}
    for row in connection.execute("SELECT pdi, reason FROM findings WHERE closed_at IS NULL"):
        open_findings.setdefault(row["pdi"], set()).add(row["reason"])
    for pdi, row in newest.items():
        device = devices[pdi]
        assert device["last_report_at"] == row["received_at"]
        assert device["last_attestation"] == row["challenge"]
        silent = int(Reason.SILENT)  # the sweep's, not a verdict's
        assert open_findings.get(pdi, set()) - {silent} == _reasons(row)
    for verdict in account.answered.values():
        for answered in verdict.devices:
            assert devices[answered.pdi]["last_report_at"] >= _micros(verdict.receive_time)


def torn_frames(store: Path) -> int:
    """How much of an unfinished transaction stands behind the last whole one in the write-ahead log, in pages.

    Layout: sqlite.org/fileformat2.html §4. Read it before anybody opens the store again.
    """
    log = Path(f"{store}-wal").read_bytes()
    if len(log) < _LOG_HEADER:
        return 0
    page_size, salts = int.from_bytes(log[8:12], "big"), log[16:24]
    torn = 0
    for at in range(_LOG_HEADER, len(log) - _FRAME_HEADER + 1, _FRAME_HEADER + page_size):
        if log[at + 8 : at + 16] != salts:
            break
        is_commit = any(log[at + 4 : at + 8])
        torn = 0 if is_commit else torn + 1
    return torn


def silent_ever(store: Path) -> set[bytes]:
    """Devices that were ever found silent."""
    with reading(store) as connection:
        query = "SELECT pdi FROM findings WHERE reason = ?"
        return {row["pdi"] for row in connection.execute(query, [int(Reason.SILENT)])}


def up_between(store: Path, begin: int, end: int) -> bool:
    """Whether the service counts as up at any time between two, microseconds."""
    with reading(store) as connection:
        query = "SELECT 1 FROM service_intervals WHERE started_at < ? AND alive_until > ?"
        return connection.execute(query, [end, begin]).fetchone() is not None


def check_counters(store: Path, hosts: list[Host]) -> None:
    """No device's kept counter is above what the device has signed."""
    signed = {gpu.device.pdi: gpu.count for host in hosts for gpu in host.gpus}
    with reading(store) as connection:
        for row in connection.execute("SELECT pdi, counters FROM devices WHERE counters IS NOT NULL"):
            counters = unpack_counters(row["counters"])
            assert counters is not None
            assert counters.attestation <= signed[row["pdi"]]


def _reasons(verdict: sqlite3.Row) -> set[int]:
    return {int(Reason[name]) for name, _, _ in json.loads(verdict["findings"])}


def _micros(moment: Timestamp) -> int:
    return moment.ToMicroseconds()

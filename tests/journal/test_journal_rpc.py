"""JournalService: checkpoints, consistency, proofs of rows, audits, reads."""

import asyncio
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import cbor2
import grpc
import pytest
from trigpoint.v1 import journal_pb2

from server.store.proofs import MAX_ROWS
from server.times import micros
from tests.journal.rpc_world import ADMIN, AUDITOR, OFFICER, RAW_DAYS, Metadata, Served, someone
from tests.server.helpers import error_info
from tests.store.journal_world import KEY, ORIGIN, VKEY, by_hand, climb, rows
from tests.store.store_world import START, device, finding, pdi, record
from verifier.errors import Reason
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.merkle import EMPTY_ROOT, leaf_hash, verify_consistency
from verifier.journal.notes import Note, sign


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), error_info(caught.value).reason


def read_note(text: str) -> Checkpoint:
    note = Note.parse(text.encode())
    assert note.signed_by(VKEY)
    return Checkpoint.parse(note.text)


async def prove(served: Served, name: str, who: Metadata = OFFICER) -> journal_pb2.ProveRowsResponse:
    return await served.stub.ProveRows(journal_pb2.ProveRowsRequest(name=name), metadata=who)


def proven(response: journal_pb2.ProveRowsResponse) -> list[tuple[str, dict[str, object]]]:
    """The rows, once each leads to the checkpoint by hashes written out here."""
    checkpoint = read_note(response.checkpoint)
    entries = {entry.index: entry for entry in response.entries}
    assert list(entries) == sorted(entries)
    found = []
    for row in response.rows:
        entry = entries[row.entry]
        item = row.tag + sha256(b"trigpoint-item-v1\0" + row.salt + row.row).digest()
        root = climb(leaf_hash(item), row.item, entry.item_count, row.path)
        head = entry.write_time.ToMicroseconds().to_bytes(8, "big") + entry.item_count.to_bytes(4, "big")
        leaf = leaf_hash(sha256(b"trigpoint-entry-v1\0" + head + root).digest())
        assert climb(leaf, entry.index, checkpoint.size, entry.path) == checkpoint.root
        table, *parts = cbor2.loads(row.row)
        found.append((table, dict(zip(parts[::2], parts[1::2], strict=True))))
    return found


async def test_the_newest_checkpoint_and_one_by_its_hash(served: Served) -> None:
    newest = await served.stub.GetCheckpoint(journal_pb2.GetCheckpointRequest(), metadata=OFFICER)
    told = read_note(newest.note)
    assert (told.size, told.root) == await served.store.journal.state()
    assert newest.sign_time.ToMicroseconds() == int(START.timestamp()) * 1_000_000 + START.microsecond
    (first,) = rows(served.path, "SELECT hash FROM journal_checkpoints ORDER BY size LIMIT 1")
    assert isinstance(first[0], bytes)
    request = journal_pb2.GetCheckpointRequest(hash=first[0])
    older = read_note((await served.stub.GetCheckpoint(request, metadata=OFFICER)).note)
    assert older.size < told.size
    assert older.hash == first[0]


async def test_checkpoints_that_are_not_there(served: Served) -> None:
    ask = served.stub.GetCheckpoint
    unknown = ask(journal_pb2.GetCheckpointRequest(hash=bytes(32)), metadata=OFFICER)
    assert await refusal(unknown) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    short = ask(journal_pb2.GetCheckpointRequest(hash=b"short"), metadata=OFFICER)
    assert await refusal(short) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    by_hand(served.path, "DELETE FROM journal_checkpoints")
    first = ask(journal_pb2.GetCheckpointRequest(), metadata=OFFICER)
    assert await refusal(first) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


async def test_consistency_between_all_sizes(served: Served) -> None:
    size, root = await served.store.journal.state()
    assert size > 3
    for old in range(size + 1):
        request = journal_pb2.GetConsistencyProofRequest(old_size=old)
        proof = await served.stub.GetConsistencyProof(request, metadata=OFFICER)
        assert (proof.new_size, proof.new_root) == (size, root)
        old_root = await served.store.journal.root_at(old)
        assert proof.old_root == (old_root if old else EMPTY_ROOT)
        assert verify_consistency(old, size, proof.old_root, root, proof.path)


@pytest.mark.parametrize(("old", "new"), [(-1, 2), (3, 2), (0, -1), (0, 10**6), (10**6, 0)])
async def test_sizes_that_no_checkpoint_covers(served: Served, old: int, new: int) -> None:
    request = journal_pb2.GetConsistencyProofRequest(old_size=old, new_size=new)
    code, _ = await refusal(served.stub.GetConsistencyProof(request, metadata=OFFICER))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_what_is_not_sealed_is_not_proven_consistent(served: Served) -> None:
    size, _ = await served.store.journal.state()
    await served.store.mark_alive("node-2", START)
    assert await served.store.journal.state() != (size, _)
    request = journal_pb2.GetConsistencyProofRequest(old_size=1, new_size=size + 1)
    code, _reason = await refusal(served.stub.GetConsistencyProof(request, metadata=OFFICER))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_all_rows_of_a_device(served: Served) -> None:
    found = proven(await prove(served, f"devices/{pdi(2).hex()}"))
    assert [table for table, _ in found] == ["devices", "findings"]
    assert {columns["pdi"] for _, columns in found} == {pdi(2)}


async def test_all_rows_of_other_things(served: Served) -> None:
    (challenge,) = rows(served.path, "SELECT challenge FROM device_verdicts LIMIT 1")
    assert isinstance(challenge[0], bytes)
    tables = {
        f"attestations/{challenge[0].hex()}": ["attestations", "device_verdicts", "device_verdicts", "evidence"],
        f"deployments/{pdi(1).hex()}": ["deployments", "revisions"],
        "licenses/D1": ["licenses", "revisions"],
        "licenses/D1/sites/de": ["revisions", "sites"],
        "cases/7": ["case_entries", "case_findings", "cases"],
        "changes/7": ["change_files", "changes"],
    }
    for name, expected in tables.items():
        found = proven(await prove(served, name))
        assert [table for table, _ in found][: len(expected)] == expected, name


async def test_a_row_says_what_stands_in_the_store(served: Served) -> None:
    ((_, columns), *_) = proven(await prove(served, "licenses/D1"))
    (stands,) = rows(served.path, "SELECT licensee, cadence_us, presence FROM licenses WHERE number = 'D1'")
    assert (columns["licensee"], columns["cadence_us"], columns["presence"]) == stands


async def test_who_sees_rows_of_devices_is_written_down_first(served: Served) -> None:
    name = f"devices/{pdi(1).hex()}"
    await prove(served, name, someone("officer/bob"))
    await prove(served, "licenses/D1")
    response = await served.stub.ListReads(journal_pb2.ListReadsRequest(), metadata=AUDITOR)
    told = [(read.by, read.subject, read.device_count) for read in response.reads if read.call == "ProveRows"]
    assert told == [("officer/bob", name, 1)]


async def rewrite(served: Served, number: int) -> None:
    """Write the device's row again."""
    at = START + timedelta(minutes=number)
    await served.store.commit([record(at, [device(1, finding(Reason.LOCATION_UNPROVEN, f"for the {number}th time"))])])


async def test_a_row_that_is_not_sealed_yet_is_sealed_for_the_proof(served: Served) -> None:
    name = f"devices/{pdi(1).hex()}"
    await prove(served, name)
    assert served.seals.count == 0
    await rewrite(served, 1)
    found = proven(await prove(served, name))
    assert served.seals.count == 1
    assert dict(found)["findings"]["detail"] == "for the 1th time"


async def test_a_row_that_is_written_again_and_again_is_not_waited_for(served: Served) -> None:
    numbers = itertools.count(1)

    async def again() -> None:
        await rewrite(served, next(numbers))

    served.seals.after = again
    await again()
    call = served.stub.ProveRows(journal_pb2.ProveRowsRequest(name=f"devices/{pdi(1).hex()}"), metadata=OFFICER)
    assert await refusal(call) == (grpc.StatusCode.ABORTED, "ROWS_NOT_SEALED")
    assert served.seals.count == 2


async def test_a_row_that_another_hand_wrote_is_not_proven(served: Served) -> None:
    by_hand(served.path, "UPDATE devices SET host_id = 'moved'")
    call = served.stub.ProveRows(journal_pb2.ProveRowsRequest(name=f"devices/{pdi(1).hex()}"), metadata=OFFICER)
    assert await refusal(call) == (grpc.StatusCode.FAILED_PRECONDITION, "ROW_ALTERED")


async def test_what_has_too_many_rows_is_left_to_bundles(served: Served) -> None:
    insert = "INSERT INTO case_entries SELECT case_id, {}, at, by, kind, text FROM case_entries WHERE entry = 7"
    by_hand(served.path, *(insert.format(100 + n) for n in range(MAX_ROWS)))
    call = served.stub.ProveRows(journal_pb2.ProveRowsRequest(name="cases/7"), metadata=OFFICER)
    assert (await refusal(call))[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "name",
    [
        "",
        "devices",
        "devices/",
        "devices/41",
        f"devices/{'G' * 16}",
        f"attestations/{'0' * 63}",
        "cases/x",
        "cases/01",
        "cases/\N{ARABIC-INDIC DIGIT SEVEN}",
        f"cases/{'9' * 30}",
        "changes/-1",
        "reads/1",
        "deployments/nothing",
        "a/b",
    ],
)
async def test_names_of_nothing_that_is_proven(served: Served, name: str) -> None:
    call = served.stub.ProveRows(journal_pb2.ProveRowsRequest(name=name), metadata=OFFICER)
    assert (await refusal(call))[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", [f"devices/{'f' * 16}", "cases/999", f"attestations/{'0' * 64}", "licenses/D9"])
async def test_names_of_what_is_not_there(served: Served, name: str) -> None:
    call = served.stub.ProveRows(journal_pb2.ProveRowsRequest(name=name), metadata=OFFICER)
    assert (await refusal(call))[0] is grpc.StatusCode.NOT_FOUND


async def audited(served: Served, *checkpoints: str) -> tuple[list[str], journal_pb2.AuditOutcome]:
    """The stages that an audit told of, and its outcome."""
    request = journal_pb2.AuditJournalRequest(checkpoints=checkpoints)
    steps = [step async for step in served.stub.AuditJournal(request, metadata=AUDITOR)]
    assert [step.WhichOneof("message") for step in steps] == ["progress"] * (len(steps) - 1) + ["outcome"]
    return [step.progress.stage for step in steps[:-1]], steps[-1].outcome


async def test_an_audit_of_what_is_as_it_was_written(served: Served) -> None:
    kept = [note for (note,) in rows(served.path, "SELECT note FROM journal_checkpoints ORDER BY size")]
    stages, outcome = await audited(served, *map(str, kept))
    size, _ = await served.store.journal.state()
    assert stages
    assert (outcome.fault_count, list(outcome.faults)) == (0, [])
    assert outcome.entry_count == size
    assert outcome.row_count > 30
    assert outcome.checkpoint == kept[-1]


async def test_an_audit_finds_what_another_hand_wrote(served: Served) -> None:
    by_hand(served.path, "UPDATE licenses SET licensee = 'Somebody Else' WHERE number = 'D1'")
    _, outcome = await audited(served)
    assert outcome.fault_count == 1
    (fault,) = outcome.faults
    assert fault.table == "licenses"
    assert "D1" in fault.key


async def test_an_audit_holds_the_log_against_what_this_server_signed_last(served: Served) -> None:
    """Whoever cuts off the log's end removes the checkpoints of it too."""
    before, _ = await served.store.journal.state()
    await served.store.mark_alive("node-2", START)
    signed = await served.seals()
    assert (await audited(served))[1].fault_count == 0
    by_hand(
        served.path,
        f"DELETE FROM journal_entries WHERE entry >= {before}",
        f"DELETE FROM journal_checkpoints WHERE size > {before}",
    )
    _, outcome = await audited(served)
    said = f"is of {signed.size} entries; the journal ends at {before}"
    assert ("given checkpoint 1", said) in [(fault.key, fault.text) for fault in outcome.faults]


async def test_an_audit_against_a_checkpoint_of_another_past(served: Served) -> None:
    size, _ = await served.store.journal.state()
    forged = sign(Checkpoint(ORIGIN, size - 1, sha256(b"another past").digest()).text, ORIGIN, KEY)
    longer = sign(Checkpoint(ORIGIN, size + 9, sha256(b"more").digest()).text, ORIGIN, KEY)
    _, outcome = await audited(served, bytes(forged).decode(), bytes(longer).decode())
    assert outcome.fault_count == 2
    assert [fault.table for fault in outcome.faults] == ["journal", "journal"]


async def test_checkpoints_for_an_audit_that_are_none(served: Served) -> None:
    for given in (["nonsense"], ["x\n\n— x aGVsbG8=\n"], [""] * 101):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in served.stub.AuditJournal(
                journal_pb2.AuditJournalRequest(checkpoints=given), metadata=AUDITOR
            ):
                pass
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


HANGS = """
import json, sys, time
print(json.dumps({"progress": {"stage": "waiting", "done": 1, "total": 2}}), flush=True)
time.sleep(600)
"""


def running(mark: str) -> list[str]:
    """Processes whose command line holds a mark."""
    listed = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False)
    return listed.stdout.split()


def ended(mark: str) -> None:
    """Wait until no such process runs any more."""
    for _ in range(250):
        if not running(mark):
            return
        time.sleep(0.02)
    pytest.fail("it still runs")


async def test_an_audit_ends_with_its_call_and_there_is_one_at_a_time(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "hangs.py"
    script.write_text(f"#!/bin/sh\nexec python3 -c '{HANGS}' \"$@\"\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    call = served.stub.AuditJournal(journal_pb2.AuditJournalRequest(), metadata=AUDITOR)
    step = await call.read()
    assert isinstance(step, journal_pb2.AuditJournalResponse)
    assert step.progress.stage == "waiting"
    assert running(str(served.path))
    second = served.stub.AuditJournal(journal_pb2.AuditJournalRequest(), metadata=AUDITOR)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await second.read()
    assert error_info(caught.value).reason == "AUDIT_RUNNING"
    call.cancel()
    await asyncio.to_thread(ended, str(served.path))


@pytest.mark.parametrize("status", ["exit 2", f"kill -{int(signal.SIGKILL)} $$"])
async def test_an_audit_without_an_outcome_is_no_good_news(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    script = tmp_path / "fails.sh"
    script.write_text(f"#!/bin/sh\necho cannot >&2\n{status}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    call = served.stub.AuditJournal(journal_pb2.AuditJournalRequest(), metadata=AUDITOR)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert error_info(caught.value).reason == "AUDIT_FAILED"


async def test_pages_of_reads(served: Served) -> None:
    for number in range(5):
        await prove(served, f"devices/{pdi(1 + number % 2).hex()}", someone(f"officer/o{number % 2}"))
    request = journal_pb2.ListReadsRequest(page_size=2, filter='by = "officer/o0"')
    names: list[str] = []
    while True:
        page = await served.stub.ListReads(request, metadata=AUDITOR)
        names.extend(read.name for read in page.reads)
        assert {read.by for read in page.reads} == {"officer/o0"}
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    numbers = [int(name.removeprefix("reads/")) for name in names]
    assert len(numbers) == 3
    assert numbers == sorted(numbers, reverse=True)


@pytest.mark.parametrize(
    "request_",
    [
        journal_pb2.ListReadsRequest(filter='who = "x"'),
        journal_pb2.ListReadsRequest(page_size=-1),
        journal_pb2.ListReadsRequest(page_token="AAAA"),
    ],
)
async def test_lists_of_reads_that_cannot_be(served: Served, request_: journal_pb2.ListReadsRequest) -> None:
    assert (await refusal(served.stub.ListReads(request_, metadata=AUDITOR)))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_removing_evidence_needs_a_reason(served: Served) -> None:
    call = served.stub.ApplyRetention(journal_pb2.ApplyRetentionRequest(), metadata=ADMIN)
    assert (await refusal(call))[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_evidence_that_is_old_is_told_of_and_then_removed(served: Served) -> None:
    """Two attestations are older than 90 days: in one a finding opened, the other showed nothing."""
    ask = served.stub.ApplyRetention
    evidence = "SELECT count(*), sum(length(claims) + length(reports) + length(basis)) FROM evidence"
    ((count, size),) = rows(served.path, evidence)
    told = await ask(journal_pb2.ApplyRetentionRequest(validate_only=True), metadata=ADMIN)
    assert rows(served.path, evidence) == [(count, size)]
    done = await ask(journal_pb2.ApplyRetentionRequest(reason="quarterly"), metadata=ADMIN)
    assert done == told
    assert done.older_than_time.ToMicroseconds() == micros(START + timedelta(days=200 - RAW_DAYS))
    assert done.removed_count == 1
    assert {(kept.why, kept.count) for kept in done.kept} == {(journal_pb2.KEEP_REASON_TRANSITION, 1)}
    ((left, left_size),) = rows(served.path, evidence)
    assert isinstance(count, int)
    assert isinstance(size, int)
    assert isinstance(left_size, int)
    assert (left, left_size) == (count - 1, size - done.removed_bytes)
    again = await ask(journal_pb2.ApplyRetentionRequest(reason="again"), metadata=ADMIN)
    assert again.removed_count == 0
    # The removal is journaled: without it an audit would miss the evidence.
    _, outcome = await audited(served)
    assert (outcome.fault_count, list(outcome.faults)) == (0, [])

"""`trigpoint journal`: what it shows, and that it believes no server that lies."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from trigpoint.v1 import journal_pb2, journal_pb2_grpc
from typer.testing import CliRunner, Result

from console.cli import app
from server.rpc.handlers import Context
from server.spiffe import Role
from tests.journal.rpc_world import Served, served_journal
from tests.store.journal_world import KEY, ORIGIN, VKEY, by_hand, checkpoint, rows
from tests.store.store_world import START, pdi
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import Note, NoteKey, cosign, sign

WITNESS = Ed25519PrivateKey.from_private_bytes(bytes(range(40, 72)))
WITNESS_KEY = NoteKey.of("witness.example", WITNESS, cosigns=True)
KEYED = ("--journal-key", VKEY.vkey)


@dataclass(frozen=True, slots=True)
class Console:
    """The command line of one server's readers."""

    target: str
    home: Path

    async def __call__(self, *arguments: str | Path) -> Result:
        line = ["journal", *map(str, arguments), "--server", self.target, "--plaintext"]
        environment = {"COLUMNS": "80", "HOME": str(self.home)}
        result = await asyncio.to_thread(CliRunner().invoke, app, line, env=environment)
        assert not result.exception or isinstance(result.exception, SystemExit), result.exception
        assert all(len(shown) <= 80 for shown in result.stdout.splitlines() if "--json" not in line), result.stdout
        return result

    async def told(self, *arguments: str | Path) -> dict[str, object]:
        result = await self(*arguments, "--json")
        assert result.exit_code == 0, result.stderr
        found = json.loads(result.stdout)
        assert isinstance(found, dict)
        return found


@pytest.fixture
async def audited(store_path: Path) -> AsyncIterator[Served]:
    """Whoever calls is an auditor, as by a certificate."""
    async with served_journal(store_path, everybody=Role.AUDITOR) as made:
        yield made


@pytest.fixture
def console(audited: Served, tmp_path: Path) -> Console:
    return Console(audited.target, tmp_path)


def kept(folder: Path, size: int, root: bytes, *, name: str = "kept.note", key: Ed25519PrivateKey = KEY) -> Path:
    """A signed checkpoint in a file."""
    path = folder / name
    path.write_bytes(bytes(sign(Checkpoint(ORIGIN, size, root).text, ORIGIN, key)))
    return path


async def test_the_checkpoint_is_shown_and_kept(audited: Served, console: Console, tmp_path: Path) -> None:
    file = tmp_path / "today.note"
    result = await console("checkpoint", "-o", file)
    size, root = await audited.store.journal.state()
    assert result.exit_code == 0
    assert f"{size:,}" in result.stdout
    assert root.hex() in result.stdout
    assert "signature not checked" in result.stdout
    assert "UNWITNESSED" in result.stdout
    assert Checkpoint.parse(Note.parse(file.read_bytes()).text) == Checkpoint(ORIGIN, size, root)
    again = await console("checkpoint", "-o", file)
    assert (again.exit_code, again.stderr) == (2, f"trigpoint: {file} is there already\n")


async def test_signatures_are_checked_by_keys_from_elsewhere(audited: Served, console: Console) -> None:
    size, root = await audited.store.journal.state()
    text = Checkpoint(ORIGIN, size, root).text
    note = sign(text, ORIGIN, KEY).plus([cosign(text, WITNESS_KEY.name, WITNESS, 1_780_000_000)])
    await audited.store.journal.keep_checkpoint(size, START, bytes(note).decode())
    other = NoteKey.of("other.example", KEY, cosigns=True)
    told = await console.told("checkpoint", *KEYED, "--witness", WITNESS_KEY.vkey, "--witness", other.vkey)
    assert told["signature_checked"] is True
    assert told["cosigned"] == [{"witness": "witness.example", "time": "2026-05-28T20:26:40Z"}]
    assert told["not_cosigned"] == ["other.example"]
    assert told["unchecked_signatures"] == []
    shown = (await console("checkpoint", *KEYED, "--witness", WITNESS_KEY.vkey, "--witness", other.vkey)).stdout
    assert "signature holds" in shown
    assert "witness.example cosigned at 2026-05-28 20:26:40 UTC" in shown
    assert "other.example has NOT cosigned" in shown
    assert "witness.example: a signature that was not checked" in (await console("checkpoint", *KEYED)).stdout
    wrong = await console("checkpoint", "--journal-key", NoteKey.of(ORIGIN, WITNESS).vkey)
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert "not signed by the key" in wrong.stderr


@pytest.mark.parametrize(
    "options",
    [("--journal-key", "nonsense"), ("--journal-key", WITNESS_KEY.vkey), ("--witness", VKEY.vkey)],
)
async def test_keys_that_are_none(console: Console, options: tuple[str, str]) -> None:
    assert (await console("checkpoint", *options)).exit_code == 2


async def test_an_audit_without_faults(audited: Served, console: Console, tmp_path: Path) -> None:
    old = kept(tmp_path, 2, await audited.store.journal.root_at(2))
    result = await console("audit", "--checkpoint", old, *KEYED)
    assert result.exit_code == 0, result.stderr
    assert "all is as the journal says" in result.stdout
    assert "it extends 1 checkpoint that you kept (checked here)" in result.stdout


async def test_an_audit_with_faults(audited: Served, console: Console) -> None:
    by_hand(audited.path, "DELETE FROM findings", "UPDATE devices SET host_id = 'host-2'")
    ((count,),) = rows(audited.path, "SELECT (SELECT count(*) FROM devices) + 1")
    assert isinstance(count, int)
    result = await console("audit")
    assert result.exit_code == 1
    assert f"{count} FAULTS" in result.stdout
    assert "held against no checkpoint of yours" in result.stdout
    assert result.stdout.count("changed without it") == count - 1
    assert "unknown" in result.stdout  # a row that is gone is named by its item alone


async def test_an_audit_against_a_checkpoint_of_another_past(console: Console, tmp_path: Path) -> None:
    forged = kept(tmp_path, 2, sha256(b"another past").digest())
    longer = kept(tmp_path, 1_000, sha256(b"later").digest(), name="longer.note")
    result = await console("audit", "--checkpoint", forged, "--checkpoint", longer, *KEYED, "--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["fault_count"] == 2  # the server's own word
    split, cut = told["contradictions"]  # and what was checked here
    assert "SPLIT VIEW" in split
    assert "it was cut" in cut


async def test_every_row_of_a_device(console: Console) -> None:
    name = f"devices/{pdi(2).hex()}"
    result = await console("prove", name, *KEYED)
    assert result.exit_code == 0
    assert "findings" in result.stdout
    assert pdi(2).hex() in result.stdout
    assert "2 rows, each checked here" in result.stderr
    told = await console.told("prove", name)
    assert isinstance(told["rows"], list)
    assert [row["table"] for row in told["rows"]] == ["devices", "findings"]
    assert told["rows"][0]["columns"]["host_id"] == "host-1"
    missing = await console("prove", "cases/999")
    assert (missing.exit_code, missing.stderr) == (1, "trigpoint: cases/999 does not exist\n")


async def test_two_checkpoints_of_one_log(audited: Served, console: Console, tmp_path: Path) -> None:
    journal = audited.store.journal
    old = kept(tmp_path, 2, await journal.root_at(2), name="old.note")
    new = kept(tmp_path, 4, await journal.root_at(4), name="new.note")
    for files in ((old, new), (new, old), (old,), (old, old)):
        result = await console("compare", *files, *KEYED)
        assert result.exit_code == 0, result.stderr
    assert "4 entries extend the 2 (proof checked here)" in (await console("compare", new, old, *KEYED)).stdout
    assert (await console("compare", old, new, old)).exit_code == 2


async def test_a_split_view_at_one_size(console: Console, tmp_path: Path) -> None:
    one = kept(tmp_path, 4, sha256(b"one").digest(), name="one.note")
    other = kept(tmp_path, 4, sha256(b"other").digest(), name="other.note")
    result = await console("compare", one, other, *KEYED)
    assert result.exit_code == 1
    assert "SPLIT VIEW" in result.stderr
    assert "different roots" in result.stderr


async def test_a_split_view_at_two_sizes(audited: Served, console: Console, tmp_path: Path) -> None:
    forged = kept(tmp_path, 2, sha256(b"another past").digest(), name="forged.note")
    result = await console("compare", forged, *KEYED)
    assert result.exit_code == 1
    assert "SPLIT VIEW" in result.stderr
    assert "forged.note" in result.stderr
    honest = kept(tmp_path, 2, await audited.store.journal.root_at(2), name="honest.note")
    later = kept(tmp_path, 4, sha256(b"another future").digest(), name="later.note")
    result = await console("compare", honest, later, *KEYED)
    assert result.exit_code == 1
    assert "later.note" in result.stderr


async def test_a_log_that_was_cut(audited: Served, console: Console, tmp_path: Path) -> None:
    size, _ = await audited.store.journal.state()
    longer = kept(tmp_path, size + 5, sha256(b"later").digest(), name="longer.note")
    result = await console("compare", longer, *KEYED)
    assert result.exit_code == 1
    assert "it was cut, or replaced by an older copy" in result.stderr
    old = kept(tmp_path, 2, await audited.store.journal.root_at(2), name="old.note")
    result = await console("compare", old, longer, *KEYED)
    assert result.exit_code == 1
    assert "longer.note has" in result.stderr


async def test_two_logs_are_not_compared(console: Console, tmp_path: Path) -> None:
    path = tmp_path / "other.note"
    path.write_bytes(bytes(sign(Checkpoint("other.example", 2, bytes(32)).text, "other.example", KEY)))
    result = await console("compare", path)
    assert result.exit_code == 1
    assert "two logs" in result.stderr
    assert "SPLIT" not in result.stderr


async def test_notes_that_are_none(console: Console, tmp_path: Path) -> None:
    path = tmp_path / "x.note"
    assert (await console("compare", path)).exit_code == 2
    for data in (b"nonsense", b"\xff", b"a\n\n\xe2\x80\x94 a aGVsbG8=\n"):
        path.write_bytes(data)
        assert (await console("compare", path)).exit_code == 2
    stranger = kept(tmp_path, 2, bytes(32), key=WITNESS)
    result = await console("compare", stranger, *KEYED)
    assert (result.exit_code, "not signed" in result.stderr) == (1, True)


async def test_who_was_shown_where_devices_are(console: Console) -> None:
    await console("prove", f"devices/{pdi(1).hex()}")
    result = await console("reads", "--subject", f"devices/{pdi(1).hex()}")
    assert result.exit_code == 0
    assert "auditor/eve" in result.stdout
    assert "ProveRows" in result.stdout
    assert result.stderr == "1 read\n"
    told = await console.told("reads", "--by", "auditor/eve")
    assert isinstance(told["reads"], list)
    assert told["reads"][0]["device_count"] == 1


class Lying(journal_pb2_grpc.JournalServiceServicer):
    """A server that answers as the honest one does, but for what it bends."""

    def __init__(self, honest: "journal_pb2_grpc.JournalServiceAsyncStub", bend: str) -> None:
        self._honest = honest
        self._bend = bend

    async def ProveRows(  # noqa: N802
        self, request: journal_pb2.ProveRowsRequest, _context: Context
    ) -> journal_pb2.ProveRowsResponse:
        answer = await self._honest.ProveRows(request)
        row, entry = answer.rows[0], answer.entries[0]
        match self._bend:
            case "row":
                row.row = row.row.replace(b"host-1", b"host-2")
            case "salt":
                row.salt = bytes(16)
            case "item":
                row.item += 1
            case "entry":
                del answer.entries[:]
            case "time":
                entry.write_time.seconds -= 1
            case "year":
                entry.write_time.seconds = -1
            case "count":
                entry.item_count = 0
            case "path":
                entry.path[0] = bytes(32)
            case "checkpoint":
                told = Checkpoint.parse(Note.parse(answer.checkpoint.encode()).text)
                forged = Checkpoint(ORIGIN, told.size, bytes(32))
                answer.checkpoint = bytes(sign(forged.text, ORIGIN, KEY)).decode()
        return answer

    async def GetCheckpoint(  # noqa: N802
        self, request: journal_pb2.GetCheckpointRequest, _context: Context
    ) -> journal_pb2.GetCheckpointResponse:
        return await self._honest.GetCheckpoint(request)

    async def GetConsistencyProof(  # noqa: N802
        self, request: journal_pb2.GetConsistencyProofRequest, _context: Context
    ) -> journal_pb2.GetConsistencyProofResponse:
        answer = await self._honest.GetConsistencyProof(request)
        del answer.path[-1:]
        return answer

    async def AuditJournal(  # noqa: N802
        self, _request: journal_pb2.AuditJournalRequest, _context: Context
    ) -> AsyncIterator[journal_pb2.AuditJournalResponse]:
        yield journal_pb2.AuditJournalResponse(progress=journal_pb2.AuditProgress(stage="log", done=1))
        if self._bend == "no checkpoint":
            yield journal_pb2.AuditJournalResponse(outcome=journal_pb2.AuditOutcome(entry_count=6))


@contextlib.asynccontextmanager
async def lying(audited: Served, bend: str, home: Path) -> AsyncIterator[Console]:
    server = grpc.aio.server()
    lies = Lying(audited.stub, bend)  # type: ignore[abstract]  # of the rest it tells nothing
    journal_pb2_grpc.add_JournalServiceServicer_to_server(lies, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Console(f"127.0.0.1:{port}", home)
    await server.stop(None)


async def test_an_audit_that_ends_early_or_shows_no_checkpoint(audited: Served, tmp_path: Path) -> None:
    old = kept(tmp_path, 2, await audited.store.journal.root_at(2))
    async with lying(audited, "no outcome", tmp_path) as console:
        result = await console("audit")
        assert (result.exit_code, result.stdout) == (3, "")
        assert "without an outcome" in result.stderr
    async with lying(audited, "no checkpoint", tmp_path) as console:
        result = await console("audit", "--checkpoint", old)
        assert result.exit_code == 1
        assert "the server shows no checkpoint" in " ".join(result.stdout.split())
        assert "all is as the journal says" not in result.stdout


@pytest.mark.parametrize("bend", ["row", "salt", "item", "entry", "time", "year", "count", "path", "checkpoint"])
async def test_no_bent_proof_is_shown(audited: Served, tmp_path: Path, bend: str) -> None:
    await checkpoint(audited.store)
    async with lying(audited, bend, tmp_path) as console:
        result = await console("prove", f"devices/{pdi(1).hex()}", *KEYED)
    assert (result.exit_code, result.stdout) == (1, "")


async def test_a_consistency_proof_is_not_believed(audited: Served, tmp_path: Path) -> None:
    old = kept(tmp_path, 2, await audited.store.journal.root_at(2))
    async with lying(audited, "", tmp_path) as console:
        result = await console("compare", old, *KEYED)
    assert result.exit_code == 1
    assert "nothing shows that" in result.stderr


async def test_removing_evidence_is_told_of(store_path: Path, tmp_path: Path) -> None:
    async with served_journal(store_path, everybody=Role.ADMIN) as made:
        console = Console(made.target, tmp_path)
        tried = await console("retention", "--dry-run")
        assert (tried.exit_code, "1 attestation, " in tried.stdout) == (0, True)
        assert "would be removed" in tried.stdout
        assert "1 kept: a finding opened or ended, or a standing changed" in tried.stdout
        assert (await console("retention")).exit_code == 2  # no reason
        done = await console.told("retention", "--reason", "quarterly")
        assert (done["removed_count"], done["validate_only"]) == (1, False)
        assert done["kept"] == [{"why": "TRANSITION", "count": 1}]

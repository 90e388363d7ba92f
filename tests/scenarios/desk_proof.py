"""What outlives the desk: a case as a file that is verified elsewhere, witnesses that see one history, no way back.

The steps that tests/scenarios/test_desk_day.py takes once the case is worked.
"""

import asyncio
import json
import os
import random
import sqlite3
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from console.cli import app
from demo.processes import Child, DemoError
from server import pki
from server.store import Store
from tests.scenarios.desk_world import JOURNAL, Desk
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import Note, sign

FLIPS = 500
BIN = Path(sys.executable).parent


async def hear_the_accused(desk: Desk, number: str) -> None:
    """The licensee's rebuttal stands in the case, and the case waits until it is answered."""
    file = desk.folder / "waybill.txt"
    file.write_text("the truck was bound for the workshop\n")
    said = "--on-behalf-of", "Example Cloud", "--statement", "The move was announced by telephone.", file
    assert (await desk.says("eve", "case", "rebuttal", number, *said)).code == 4
    await desk.does("ann", "case", "rebuttal", number, *said)
    refused = await desk.says("ann", "case", "resolve", number, "--reason", "carried off by mistake, and back")
    assert refused.code == 1
    assert "answer" in refused.err, refused
    listed = await desk.does("eve", "case", "exhibits", number)
    assert "Example Cloud" in listed
    await desk.does(
        "ann", "case", "answer", f"{number}/1", "--answer", "No call is on record; the waybill is believed."
    )


async def export_and_verify(desk: Desk, number: str) -> None:
    """The bundle is recomputed in a directory that has nothing else; one changed bit anywhere is refused."""
    elsewhere = desk.folder / "elsewhere"
    elsewhere.mkdir()
    file = elsewhere / "case.tpcase"
    await desk.does("ann", "case", "export", number, "-o", file, "--reason", "for the court")
    known = public_keys(desk)
    code, out, err = await run_elsewhere(elsewhere, "verify", file.name, *known)
    assert (code, err) == (0, ""), (code, out, err)
    assert "Unwitnessed" not in out
    assert all(len(line) <= 80 for line in out.splitlines()), out
    code, out, _ = await run_elsewhere(elsewhere, "verify", file.name, *known, "--json")
    assert code == 0
    assert isinstance(json.loads(out), dict)

    # Without a witness's key nobody says that others saw this history.
    code, out, _ = await run_elsewhere(elsewhere, "verify", file.name, *known[:4])
    assert "unwitnessed" in out.lower()

    whole = file.read_bytes()
    rng = random.Random(5)
    changed = elsewhere / "changed.tpcase"
    for _ in range(FLIPS):
        at, bit = rng.randrange(len(whole)), 1 << rng.randrange(8)
        changed.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        result = CliRunner().invoke(app, ["verify", str(changed), *known])
        # The first line says what file it is: a flip there makes it no bundle, which is refused as well.
        assert result.exit_code in {1, 2}, (at, bit, result.stdout)
        assert not result.stdout or "refused" in result.stdout.lower(), (at, bit, result.stdout)


async def audit_the_journal(desk: Desk) -> None:
    """Everything is as the journal says, and it extends the checkpoint that ann kept in the morning."""
    kept = desk.folder / "kept.txt"
    await desk.does("ann", "journal", "checkpoint", "-o", kept)
    witnesses = [part for each in desk.stage.witnesses for part in ("--witness", each.key.vkey)]
    known = "--journal-key", desk.stage.journal_vkey, *witnesses
    said = await desk.does("bob", "journal", "audit", "--checkpoint", kept, *known)
    assert said.startswith("all is as the journal says"), said
    assert "not checked" not in said


async def come_back_from_an_old_copy(desk: Desk) -> None:
    """A store that is put back from yesterday's copy is refused: by the anchor, and by witnesses without it."""
    stage = desk.stage
    copy = desk.folder / "yesterday.db"
    await asyncio.to_thread(back_up, stage.store_path, copy)
    await asyncio.sleep(1)  # the clocks run on, so the store does too
    await stage.stop_server()
    newest = await asyncio.to_thread(stage.store_path.read_bytes)
    replace_store(stage.store_path, copy.read_bytes())
    why = await refusal_of(desk)
    assert "anchor" in why
    assert "Put the newest copy of the store back" in why
    anchor = stage.folder / "journal.anchor"
    anchor.rename(stage.folder / "anchor.away")
    assert "witness" in await refusal_of(desk)
    (stage.folder / "anchor.away").rename(anchor)
    replace_store(stage.store_path, newest)


async def split_the_view(desk: Desk) -> None:
    """Who has the keys and a copy of the store shows another history to one of the witnesses: the server finds it."""
    stage = desk.stage
    away, other = desk.folder / "away", stage.witnesses[1]
    away.mkdir()
    forked = away / "forked.db"
    await asyncio.to_thread(back_up, stage.store_path, forked)
    key = pki.load_ed25519_key(stage.folder / "pki" / "journal.key")
    store = await Store.open(forked)
    try:
        newest = await store.journal.newest()
        assert newest is not None
        await store.reads.note("officer/mallory", "", "GetDevice", "devices/none", 0, newest.at)
        size, root = await store.journal.state()
        note = sign(Checkpoint(JOURNAL, size, root).text, JOURNAL, key)
        path, _, _ = await store.journal.consistency(newest.size, size)
    finally:
        await store.close()
    status, signature = await other.submit(newest.size, path, bytes(note))
    assert status == 200, signature
    assert note.plus(signature).cosigned_by(other.key) is not None

    # The server goes on with the true history, and the other witness can never sign it.
    why = await refusal_of(desk)
    assert other.key.name in why, why
    assert "others" in why or "entries" in why
    mine = Note.parse((stage.folder / "journal.anchor").read_bytes())
    assert Checkpoint.parse(mine.text).root != Checkpoint.parse(note.text).root


def public_keys(desk: Desk) -> list[str]:
    """Return the options by which a reader names the keys that they have from elsewhere."""
    root = x509.load_pem_x509_certificate((desk.folder / "vendor" / "root.pem").read_bytes())
    fingerprint = sha256(root.public_bytes(Encoding.DER)).hexdigest()
    witnesses = [part for each in desk.stage.witnesses for part in ("--witness", each.key.vkey)]
    return ["--root-fingerprint", fingerprint, "--journal-key", desk.stage.journal_vkey, *witnesses]


async def run_elsewhere(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the officers' command in a folder, as somebody who has nothing but it."""
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "80", "HOME": str(folder)}
    process = await asyncio.create_subprocess_exec(
        str(BIN / "trigpoint"),
        *arguments,
        cwd=folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def refusal_of(desk: Desk) -> str:
    """Start the server, which must refuse; return why."""
    try:
        child: Child = await desk.stage.start_again()
    except DemoError:
        log = (desk.folder / "server.log").read_text().splitlines()
        said = [json.loads(line) for line in log if '"cannot serve"' in line]
        return str(said[-1]["error"])
    await child.stop()
    raise AssertionError("the server serves")


def back_up(source: Path, target: Path) -> None:
    """Copy a store as docs/operations.md says."""
    with closing(sqlite3.connect(source)) as store, closing(sqlite3.connect(target)) as copy:
        store.backup(copy)


def replace_store(path: Path, data: bytes) -> None:
    """Put another file in the store's place."""
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(data)

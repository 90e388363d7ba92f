"""Logs in memory that may fork, and witnesses that run as processes."""

import asyncio
import base64
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from verifier.journal.checkpoints import Checkpoint
from verifier.journal.merkle import leaf_hash, nodes_of, prove_consistency, root_of
from verifier.journal.notes import Note, NoteKey, sign
from witness.config import load_config, split_address
from witness.cosigner import Cosigner
from witness.keys import load_key
from witness.ledger import Ledger
from witness.main import app
from witness.service import Service, bind

ORIGIN = "log.example/journal"
NAME = "witness.example"


@dataclass
class MemoryLog:
    """A log whose leaves are in memory; `fork` makes another one of the same key."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    origin: str = ORIGIN
    leaves: list[bytes] = field(default_factory=list)

    @property
    def public(self) -> NoteKey:
        return NoteKey.of(self.origin, self.key)

    def grow(self, count: int, salt: str = "") -> None:
        begin = len(self.leaves)
        self.leaves += [leaf_hash(f"{salt}{number}".encode()) for number in range(begin, begin + count)]

    def fork(self, size: int, grown: int) -> "MemoryLog":
        other = MemoryLog(self.key, self.origin, self.leaves[:size])
        other.grow(grown, "fork ")
        return other

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = len(self.leaves) if size is None else size
        return Checkpoint(self.origin, size, root_of(self.leaves[:size]))

    def note(self, size: int | None = None) -> Note:
        return sign(self.checkpoint(size).text, self.origin, self.key)

    def proof(self, old: int, size: int | None = None) -> tuple[bytes, ...]:
        return prove_consistency(old, len(self.leaves) if size is None else size, nodes_of(self.leaves))

    def request(self, old: int, size: int | None = None) -> bytes:
        return request(old, self.proof(old, size), bytes(self.note(size)))


def request(old: int, proof: Sequence[bytes], note: bytes) -> bytes:
    lines = [f"old {old}", *(base64.b64encode(each).decode() for each in proof)]
    return ("\n".join(lines) + "\n\n").encode() + note


def append_logs(config: Path, *keys: NoteKey) -> None:
    with config.open("a", encoding="utf-8") as file:
        for key in keys:
            file.write(f'\n[[logs]]\norigin = "{key.name}"\nkeys = ["{key.vkey}"]\n')


@dataclass
class Witness:
    """A witness in a folder of its own; `running` runs its process."""

    folder: Path
    key: NoteKey
    address: str = ""

    @property
    def config(self) -> Path:
        return self.folder / "witness.toml"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve in this process, over a real socket; `running` costs seconds."""
        settings = load_config(self.config)
        ledger = Ledger.open(settings.state, self.key.vkey)
        bound = bind(*split_address(settings.listen))
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        cosigner = Cosigner(settings.name, load_key(settings.key), settings.keys_by_origin(), ledger)
        service = Service(settings, cosigner, ready.set_result)
        task = asyncio.create_task(service.serve([bound]))
        try:
            self._take_address(await ready)
            yield
        finally:
            service.should_exit = True
            await task
            bound.close()
            ledger.close()

    def _take_address(self, address: str) -> None:
        if not self.address:
            self.address = address
            self.config.write_text(self.config.read_text().replace("127.0.0.1:0", address))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        """Run it, after the first time at the same address."""
        process = await command("serve", "--config", str(self.config))
        try:
            assert process.stdout is not None
            line = json.loads(await process.stdout.readline() or "{}")
            assert line.get("ready") is True, (await process.communicate())[1].decode()
            self._take_address(line["address"])
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.communicate()


async def command(*arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "witness.main", *arguments, stdout=PIPE, stderr=PIPE, env={**os.environ}
    )


def make_witness(folder: Path, *logs: NoteKey, name: str = NAME) -> Witness:
    """Make a witness that knows these logs, by its own command."""
    made = CliRunner().invoke(app, ["init", str(folder), "--name", name])
    assert made.exit_code == 0, made.stderr
    config = folder / "witness.toml"
    config.write_text(config.read_text().replace("127.0.0.1:7460", "127.0.0.1:0"))
    append_logs(config, *logs)
    return Witness(folder, NoteKey.parse(made.stdout.strip()))

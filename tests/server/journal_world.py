"""A server's store with its journal, sealer and witnesses, that may be rolled back."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.desk.anchor import Anchor
from server.desk.past_check import check_past
from server.desk.sealer import Sealer
from server.desk.witnesses import WitnessClient, open_http
from server.store import Store
from server.store.journal_past import Past
from server.store.journal_types import SignedCheckpoint
from server.telemetry import Telemetry
from server.times import utc_now
from tests.witness.witness_world import Witness
from verifier.journal.notes import Note, NoteKey

ORIGIN = "trigpoint.test/journal"


@dataclass
class Desk:
    """What of a server seals and looks back."""

    store: Store
    past: Past
    sealer: Sealer
    clients: list[WitnessClient]
    telemetry: Telemetry
    lost: list[str]
    node: str

    async def grow(self, entries: int = 1) -> None:
        """Write that many transactions."""
        for _ in range(entries):
            await self.store.mark_alive(self.node, utc_now(), longest_pause=timedelta(0))

    async def seal(self) -> SignedCheckpoint:
        return await self.sealer.seal()

    def metric(self, name: str, **labels: str) -> float | None:
        return self.telemetry.registry.get_sample_value(name, labels)


@dataclass
class JournalWorld:
    """Files of one server, and its key."""

    folder: Path
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> NoteKey:
        return NoteKey.of(ORIGIN, self.key)

    @property
    def path(self) -> Path:
        return self.folder / "trigpoint.sqlite"

    @property
    def anchor(self) -> Anchor:
        return Anchor(self.folder / "journal.anchor")

    @asynccontextmanager
    async def desk(
        self,
        witnesses: Sequence[Witness] = (),
        *,
        node: str = "node",
        timeout_s: float = 5.0,
        checks: bool = True,
        telemetry: Telemetry | None = None,
    ) -> AsyncIterator[Desk]:
        """Open the store and look back, as a server does at its start."""
        store = await Store.open(self.path)
        telemetry = telemetry or Telemetry()
        lost: list[str] = []

        async def on_lost() -> None:
            lost.append("lost")

        past = Past(store.journal, self.public, telemetry, on_lost)
        async with open_http(None) as http:
            clients = [WitnessClient(witness.url, witness.key, http, timeout_s) for witness in witnesses]
            sealer = Sealer(
                store.journal,
                self.key,
                past,
                self.anchor,
                clients,
                interval_s=0.05,
                telemetry=telemetry,
                clock=utc_now,
            )
            try:
                if checks:
                    await check_past(store.journal, past, self.key, self.anchor, clients)
                yield Desk(store, past, sealer, clients, telemetry, lost, node)
            finally:
                await sealer.close()
                await store.close()

    def copy(self) -> Path:
        """Copy all files of the store, which must be closed."""
        kept = self.folder / "backup"
        kept.mkdir(exist_ok=True)
        for file in self.folder.glob("trigpoint.sqlite*"):
            shutil.copy(file, kept)
        return kept

    def restore(self, kept: Path) -> None:
        for file in self.folder.glob("trigpoint.sqlite*"):
            file.unlink()
        for file in kept.iterdir():
            shutil.copy(file, self.folder)


def cosigners(note: str, *witnesses: Witness) -> list[bool]:
    parsed = Note.parse(note.encode())
    return [parsed.cosigned_by(witness.key) is not None for witness in witnesses]

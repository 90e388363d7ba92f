"""Whether the journal extends a checkpoint that this server signed once (docs/protocol.md J8).

Where such a checkpoint is found: in the anchor file and at witnesses (server/desk/past_check.py), and at agents
(server/intake/past.py).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Never, Protocol

import structlog

from server.telemetry import Telemetry
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import Note, NoteError, NoteKey

ADVICE = (
    "The store was restored from an old copy, or replaced, or another one writes under the same journal key; to serve "
    "from it would hide what is missing. Put the newest copy of the store back. If what is missing is lost for good, "
    "begin a new journal: a new journal.origin and a new journal.anchor; docs/witness.md says how."
)


class PastLostError(Exception):
    """The journal does not extend a checkpoint that this server signed. Nothing may be answered from this store."""


class Roots(Protocol):
    """What is asked of the journal; `Store.journal` is one."""

    async def state(self) -> tuple[int, bytes]:
        """Return size and root of what is durable."""

    async def root_at(self, size: int) -> bytes:
        """Return the root of the first `size` entries; raises `ValueError` above the log."""


class Past:
    """The journal, held against checkpoints. Once it does not extend one, it is lost until a person acts.

    Args:
        journal: Of this server's store.
        ours: The key that signs its checkpoints; its name is the origin.
        telemetry: Shows that the past is lost.
        on_lost: Called once, when it is.
    """

    def __init__(
        self, journal: Roots, ours: NoteKey, telemetry: Telemetry, on_lost: Callable[[], Awaitable[None]]
    ) -> None:
        self.journal = journal
        self.ours = ours
        self._telemetry = telemetry
        self._on_lost = on_lost
        self._why = ""
        self._known = asyncio.Event()

    def hold(self) -> None:
        """Raise `PastLostError` once the past is lost."""
        if self._known.is_set():
            raise PastLostError(self._why)

    async def until_lost(self) -> Never:
        """Wait, and raise `PastLostError` when the past is lost."""
        await self._known.wait()
        raise PastLostError(self._why)

    async def lose(self, why: str) -> Never:
        """Stop answering, whoever found out; raises `PastLostError`."""
        if not self._known.is_set():
            self._why = f"{why}. {ADVICE}"
            self._known.set()
            self._telemetry.journal_past_lost.set(1)
            structlog.get_logger().error("past lost", why=self._why)
            await self._on_lost()
        raise PastLostError(self._why)

    def recognize(self, data: bytes) -> Checkpoint | None:
        """Return the checkpoint of a note that this server's key signed; None for whatever else it is."""
        try:
            note = Note.parse(data)
            checkpoint = Checkpoint.parse(note.text)
        except NoteError:
            return None
        return checkpoint if checkpoint.origin == self.ours.name and note.signed_by(self.ours) else None

    async def extends(self, checkpoint: Checkpoint) -> bool:
        """Return whether the journal begins with what the checkpoint covers."""
        size, _ = await self.journal.state()
        return checkpoint.size <= size and await self.journal.root_at(checkpoint.size) == checkpoint.root

    async def check(self, checkpoint: Checkpoint, where: str) -> None:
        """Lose the past, and raise `PastLostError`, unless the journal extends a checkpoint of ours.

        Args:
            checkpoint: As `recognize` returned it.
            where: Who holds it, for a person.
        """
        if await self.extends(checkpoint):
            return
        size, _ = await self.journal.state()
        what = (
            f"the journal has {size} entries"
            if checkpoint.size > size
            else f"the journal's first {checkpoint.size} entries are others"
        )
        await self.lose(f"{where} has a checkpoint of {checkpoint.size} entries that this server signed, and {what}")

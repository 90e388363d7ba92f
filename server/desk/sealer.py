"""The sealer: signs checkpoints of the journal, has witnesses cosign them, anchors them (docs/protocol.md J5 to J8).

A checkpoint is anchored and kept before anybody is shown it. Each witness is asked at its own pace: one that is silent
is asked on in the background, and nobody waits for it again until it has answered.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.desk.anchor import Anchor, AnchorError
from server.desk.witnesses import WitnessClient, WitnessError
from server.store.errors import StoreError
from server.store.journal_past import Past, PastLostError, Roots
from server.store.journal_types import SignedCheckpoint
from server.telemetry import Telemetry
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import Note, NoteSignature, sign

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class SealedJournal(Roots, Protocol):
    """What the sealer needs of the journal; `Store.journal` is one."""

    async def newest(self) -> SignedCheckpoint | None:
        """Return the newest checkpoint that is kept."""

    async def at_size(self, size: int) -> SignedCheckpoint | None:
        """Return the checkpoint of this size, if it is kept."""

    async def keep_checkpoint(self, size: int, at: datetime, note: str) -> None:
        """Keep a checkpoint, or its note with more cosignatures."""

    async def consistency(self, old: int, new: int) -> tuple[tuple[bytes, ...], bytes, bytes]:
        """Return the proof between two sizes, and their roots."""


class _Asked:
    """A witness, and how it stands with it."""

    def __init__(self, client: WitnessClient) -> None:
        self.client = client
        self.turn = asyncio.Lock()
        self.size = -1  # of the largest checkpoint that it cosigned for us
        self.silent = False


class Sealer:
    """The sealer of one process. Two processes may seal one journal.

    Args:
        journal: Where checkpoints are kept.
        key: Signs them.
        past: The journal, and the public side of `key` under the origin's name.
        anchor: The newest checkpoint outside the store.
        witnesses: Who cosigns.
        interval_s: Pause between two seals of `run`.
        telemetry: Shows sizes, times and failures.
        clock: The time now, aware.

    Attributes:
        newest: The newest checkpoint, with the cosignatures so far. None before the first seal.
    """

    def __init__(
        self,
        journal: SealedJournal,
        key: Ed25519PrivateKey,
        past: Past,
        anchor: Anchor,
        witnesses: Sequence[WitnessClient],
        *,
        interval_s: float,
        telemetry: Telemetry,
        clock: Callable[[], datetime],
    ) -> None:
        self._journal = journal
        self._key = key
        self._past = past
        self._anchor = anchor
        self._witnesses = [_Asked(witness) for witness in witnesses]
        self._interval_s = interval_s
        self._telemetry = telemetry
        self._clock = clock
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.newest: SignedCheckpoint | None = None

    async def run(self) -> None:
        """Seal until cancelled. A fault makes a checkpoint late, no more."""
        while True:
            try:
                await self.seal()
            except (StoreError, AnchorError, PastLostError) as error:
                self._telemetry.task_failures.labels("seal").inc()
                _LOG.warning("seal failed", error=str(error))
            await asyncio.sleep(self._interval_s)

    async def close(self) -> None:
        """Seal what was written last, so that a copy of before is noticed, and stop asking witnesses."""
        try:
            await self.seal()
        except (StoreError, AnchorError, PastLostError) as error:
            _LOG.warning("last seal failed", error=str(error))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def seal(self, *, patient: bool = False) -> SignedCheckpoint:
        """Sign what is durable now, ask the witnesses, and return the checkpoint with the cosignatures that came.

        Args:
            patient: Wait for witnesses that were silent too, as long as one answer may take.

        Raises:
            StoreError: The store failed.
            AnchorError: The anchor cannot be written; nobody was shown the checkpoint.
            PastLostError: The journal is not the one that was signed before.
        """
        async with self._turn:
            target = await self._signed()
        waited_for = []
        for asked in self._witnesses:
            if asked.silent and asked.turn.locked() and not patient:
                continue
            task = asyncio.create_task(self._have_cosigned(asked, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if patient or not asked.silent:
                waited_for.append(task)
        await asyncio.gather(*waited_for)
        newest = self.newest
        return newest if newest is not None and newest.size == target.size else target

    async def _signed(self) -> SignedCheckpoint:
        """Return the checkpoint of all that is durable, signed now unless it was before."""
        self._past.hold()
        size, root = await self._journal.state()
        before = self.newest
        if before is not None:
            last = Checkpoint.parse(Note.parse(before.note.encode()).text)
            if (last.size, last.root) == (size, root):
                return before
            if not await self._past.extends(last):  # to sign it would fork the journal, and overwrite the anchor
                await self._past.lose(
                    f"{last.size} entries were signed by this process, and the journal has {size}, others among them"
                )
        note = sign(Checkpoint(self._past.ours.name, size, root).text, self._past.ours.name, self._key)
        return await self._keep(note, self._clock())

    async def _keep(self, note: Note, at: datetime) -> SignedCheckpoint:
        """Anchor and keep a checkpoint, with all signatures that it has had; callers hold the turn."""
        checkpoint = Checkpoint.parse(note.text)
        kept = await self._journal.at_size(checkpoint.size)
        if kept is not None:
            stood = Note.parse(kept.note.encode())
            if stood.text == note.text:
                note, at = stood.plus(note.signatures), kept.at
        text = bytes(note).decode()
        signed = SignedCheckpoint(checkpoint.size, at, checkpoint.hash, text)
        await self._anchor.renew(text)
        await self._journal.keep_checkpoint(checkpoint.size, at, text)
        if self.newest is None or self.newest.size <= checkpoint.size:
            self.newest = signed
            self._telemetry.journal_size.set(checkpoint.size)
            self._telemetry.journal_checkpoint_timestamp.set(at.timestamp())
        return signed

    async def _have_cosigned(self, asked: _Asked, target: SignedCheckpoint) -> None:
        """Have a witness cosign `target`, or a newer one; what it does not do is counted and logged."""
        name = asked.client.key.name
        async with asked.turn:
            newest = self.newest or target
            if asked.size >= target.size:
                return
            note = Note.parse(newest.note.encode())
            try:
                if note.cosigned_by(asked.client.key) is None:
                    signature = await asked.client.cosign(note, self._journal.consistency)
                    await self._add(note, newest.at, signature)
                asked.size, asked.silent = newest.size, False
                self._telemetry.journal_cosigned_size.labels(name).set(newest.size)
            except WitnessError as error:
                asked.silent = error.is_silence
                self._telemetry.journal_witness_failures.labels(name, error.why.value).inc()
                _LOG.warning("not cosigned", witness=name, size=newest.size, why=error.why.value, error=str(error))
                if error.contradicts:
                    await self._settle(asked.client)
            except (StoreError, AnchorError) as error:
                _LOG.warning("cosignature not kept", witness=name, size=newest.size, error=str(error))

    async def _add(self, note: Note, at: datetime, signature: NoteSignature) -> None:
        async with self._turn:
            await self._keep(note.plus([signature]), at)

    async def _settle(self, witness: WitnessClient) -> None:
        """Find out whether a witness that contradicts can show why: a checkpoint that we signed and do not extend."""
        name = witness.key.name
        try:
            note = await witness.newest(self._past.ours.name)
            checkpoint = self._past.recognize(bytes(note)) if note else None
            if checkpoint is None:
                _LOG.error("witness contradicts and shows nothing", witness=name)
                return
            await self._past.check(checkpoint, f"the witness {name}")
        except PastLostError:
            return  # everybody has heard of it
        except (WitnessError, StoreError) as error:
            _LOG.warning("witness contradicts and does not answer", witness=name, error=str(error))

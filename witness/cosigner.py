"""Decides what to cosign: C2SP tlog-witness, `add-checkpoint`, in the order of its checks (docs/protocol.md J7).

Knows nothing of HTTP but the status codes, which are the specification's own.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from verifier.journal.checkpoints import Checkpoint
from verifier.journal.merkle import EMPTY_ROOT, verify_consistency
from verifier.journal.notes import Note, NoteError, NoteKey, NoteSignature, cosign
from witness.errors import StateError
from witness.ledger import Ledger
from witness.request import Submission, parse_submission

SIZE_TYPE = "text/x.tlog.size"
TEXT_TYPE = "text/plain; charset=utf-8"

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: an HTTP status and a body."""

    status: int
    body: str
    content_type: str = TEXT_TYPE


class Cosigner:
    """Cosigns for the logs that it knows.

    Args:
        name: Of the witness.
        key: Its key.
        logs: By origin, the keys that sign for the log.
        ledger: What was promised so far.
        clock: Unix seconds.
    """

    def __init__(
        self,
        name: str,
        key: Ed25519PrivateKey,
        logs: Mapping[str, Sequence[NoteKey]],
        ledger: Ledger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._key = key
        self._logs = logs
        self._ledger = ledger
        self._clock = clock
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._cosigned: dict[str, Note] = {}

    async def add_checkpoint(self, body: bytes) -> Answer:
        """Answer one request; never raises for what was sent."""
        try:
            submission = parse_submission(body)
        except NoteError as error:
            return Answer(400, f"{error}\n")
        origin = submission.checkpoint.origin
        keys = self._logs.get(origin)
        if keys is None:
            return Answer(404, "this witness does not know that log\n")
        # Signatures by keys that we do not know say nothing, and are not kept.
        signed = _signed(submission.note, keys)
        if not signed.signatures:
            return Answer(403, "no key of that log signed the checkpoint\n")
        if submission.old > submission.checkpoint.size:
            return Answer(400, "the old size is larger than the checkpoint's\n")
        # Look, keep and sign in one turn, or a smaller checkpoint could come after a larger one.
        async with self._turns[origin]:
            return await self._decide(replace(submission, note=signed))

    async def _decide(self, submission: Submission) -> Answer:
        checkpoint, log = submission.checkpoint, _LOG.bind(origin=submission.checkpoint.origin)
        before = self._ledger.last(checkpoint.origin)
        last = Checkpoint.parse(before.text) if before else Checkpoint(checkpoint.origin, 0, EMPTY_ROOT)
        at_last = Answer(409, f"{last.size}\n", SIZE_TYPE)
        if submission.old != last.size:
            return at_last
        if checkpoint.size == last.size and checkpoint.root != last.root:
            log.error("split view", size=last.size, note=bytes(submission.note).decode(), last=last.text)
            return at_last
        if not verify_consistency(last.size, checkpoint.size, last.root, checkpoint.root, submission.proof):
            # The log did sign this: whoever keeps our log has what shows that it forked, or that its proof is broken.
            log.error("not an extension", size=last.size, note=bytes(submission.note).decode(), last=last.text)
            return Answer(422, "the proof does not lead from the last checkpoint to this one\n")
        if before is None or checkpoint.size > last.size:
            try:
                await asyncio.to_thread(self._ledger.keep, checkpoint.origin, submission.note)
            except StateError as error:
                log.error("state not durable, nothing signed", error=str(error))  # noqa: TRY400 - the message says it
                return Answer(503, "the witness cannot keep what it would promise\n")
        signature = self._cosign(submission.note)
        log.info("cosigned", size=checkpoint.size)
        return Answer(200, signature.line)

    def newest(self, origin: str) -> Answer:
        """Answer what was last cosigned for a log: the log's checkpoint with the cosignature."""
        if origin not in self._cosigned:
            kept = self._ledger.last(origin)
            if kept is None:
                return Answer(404, "nothing was cosigned for that log\n")
            self._cosign(kept)  # it was kept before a restart
        return Answer(200, bytes(self._cosigned[origin]).decode())

    def _cosign(self, note: Note) -> NoteSignature:
        signature = cosign(note.text, self._name, self._key, int(self._clock()))
        self._cosigned[Checkpoint.parse(note.text).origin] = note.plus([signature])
        return signature


def _signed(note: Note, keys: Sequence[NoteKey]) -> Note:
    """Return the note with those signatures alone that hold under these keys."""
    return replace(
        note,
        signatures=tuple(s for s in note.signatures if any(Note(note.text, (s,)).signed_by(key) for key in keys)),
    )

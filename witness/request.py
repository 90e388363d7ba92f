"""The body of `add-checkpoint` (C2SP tlog-witness): old size, consistency proof, checkpoint. Pure and strict.

Spec: https://c2sp.org/tlog-witness. Whoever sends it is unknown until the checkpoint's signature is checked, which is
not done here.
"""

import base64
import binascii
import re
from dataclasses import dataclass

from verifier.journal.checkpoints import MAX_SIZE, Checkpoint
from verifier.journal.merkle import HASH_BYTES
from verifier.journal.notes import MAX_NOTE_BYTES, Note, NoteError

MAX_PROOF = 63
"""Hashes in one proof, by the specification."""

MAX_BODY_BYTES = MAX_NOTE_BYTES + 4096
"""A note, 63 lines of 45 bytes, and the old size."""

_OLD = re.compile("old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Submission:
    """What a log, or somebody in its name, asks to be cosigned.

    Attributes:
        old: Size that the proof begins at.
        proof: RFC 6962 consistency proof from there to the checkpoint.
        note: The checkpoint as it came; no signature of it is checked yet.
        checkpoint: What it says.
    """

    old: int
    proof: tuple[bytes, ...]
    note: Note
    checkpoint: Checkpoint


def parse_submission(body: bytes) -> Submission:
    """Read a body; raises `NoteError`."""
    if len(body) > MAX_BODY_BYTES:
        raise NoteError(f"a body of {len(body)} bytes; {MAX_BODY_BYTES} are allowed")
    head, gap, rest = body.partition(b"\n\n")
    if not gap:
        raise NoteError("a body is an old size, a proof, an empty line and a checkpoint")
    try:
        old_line, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise NoteError("an old size and a proof are ASCII") from error
    found = _OLD.fullmatch(old_line)
    if found is None or int(found[1]) > MAX_SIZE:
        raise NoteError("the first line is `old` and a size")
    if len(lines) > MAX_PROOF:
        raise NoteError(f"a proof of more than {MAX_PROOF} hashes")
    note = Note.parse(rest)
    return Submission(int(found[1]), tuple(map(_hash, lines)), note, Checkpoint.parse(note.text))


def _hash(line: str) -> bytes:
    try:
        data = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("a proof line with bad base64") from error
    if len(data) != HASH_BYTES or base64.b64encode(data).decode() != line:
        raise NoteError("a proof line is one hash in base64")
    return data

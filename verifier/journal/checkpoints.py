"""Checkpoints: C2SP tlog-checkpoint (docs/protocol.md J5)."""

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from verifier.journal.merkle import HASH_BYTES
from verifier.journal.notes import NoteError

MAX_SIZE = (1 << 63) - 1
_SIZE = re.compile("0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: how many leaves, and the root over them.

    Attributes:
        origin: The log's name; of its key too.
        size: Leaves.
        root: Tree hash over them, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a note; lines that follow the root are for others and are refused here.

        Raises:
            NoteError: It is not exactly a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise NoteError("a checkpoint is three lines: origin, size, root")
        origin, size, encoded = lines[:3]
        try:
            root = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise NoteError("a root with bad base64") from error
        checkpoint = cls(origin, int(size) if _SIZE.fullmatch(size) else -1, root)
        if not origin or not 0 <= checkpoint.size <= MAX_SIZE or len(root) != HASH_BYTES or checkpoint.text != text:
            raise NoteError("a checkpoint with a bad size or root, or of another spelling")
        return checkpoint

    @property
    def text(self) -> str:
        """The text of the note."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @property
    def hash(self) -> bytes:
        """What challenges name it by."""
        return sha256(self.text.encode()).digest()

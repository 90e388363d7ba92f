"""What the witness has promised: of each log, the last checkpoint that it was ready to sign. Durable before it signs.

One folder, one file for each log, and a mark that says whose folder it is. A witness without its mark has lost what it
promised; it must not sign again under its old key (docs/protocol.md J7).
"""

import fcntl
import os
from hashlib import sha256
from pathlib import Path
from typing import Self

from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import Note, NoteError
from witness.errors import StateError
from witness.files import flush_folder, make_durably, write_durably

_MARK = "witness"


class Ledger:
    """The folder, held by this process alone until `close`.

    Calls of `keep` for one log must not overlap.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._last: dict[str, Note] = {}

    @staticmethod
    def make(folder: Path, vkey: str) -> None:
        """Make an empty folder for the witness of this key; raises `StateError` when there is one."""
        try:
            folder.mkdir(mode=0o700)
            make_durably(folder / _MARK, f"{vkey}\n".encode())
            flush_folder(folder.parent)
        except OSError as error:
            raise StateError(f"{folder}: {error.strerror}") from error

    @classmethod
    def open(cls, folder: Path, vkey: str) -> Self:
        """Take the folder.

        Raises:
            StateError: Its mark is not there or of another key, another process holds it, or a file is damaged.
        """
        try:
            lock = os.open(folder / _MARK, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StateError(
                f"{folder}: {error.strerror}. What this key has signed is not known, and it must not sign again: "
                "make a new witness with `trigpoint-witness init`, and give its key to the logs"
            ) from error
        ledger = cls(folder, lock)
        try:
            ledger._take(vkey)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def _take(self, vkey: str) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateError(f"{self._folder} is held by another process") from error
        if os.read(self._lock, 4096).decode(errors="replace").strip() != vkey:
            raise StateError(f"{self._folder} belongs to a witness of another name or key")
        for path in sorted(self._folder.glob("*.note")):
            try:
                note = Note.parse(path.read_bytes())
                origin = Checkpoint.parse(note.text).origin
            except (OSError, NoteError) as error:
                raise StateError(f"{path}: {error}. Nothing may be signed for its log before it is repaired") from error
            if path != self._path(origin):
                raise StateError(f"{path} holds a checkpoint of another log, {origin}")
            self._last[origin] = note

    def close(self) -> None:
        """Let go of the folder."""
        os.close(self._lock)

    def last(self, origin: str) -> Note | None:
        """Return the last checkpoint of a log, as the log signed it."""
        return self._last.get(origin)

    def keep(self, origin: str, note: Note) -> None:
        """Make a checkpoint the last one, and return when that is durable; raises `StateError`, and nothing changed."""
        try:
            write_durably(self._path(origin), bytes(note))
        except OSError as error:
            raise StateError(f"{self._path(origin)}: {error.strerror}") from error
        self._last[origin] = note

    def _path(self, origin: str) -> Path:
        return self._folder / f"{sha256(origin.encode()).hexdigest()}.note"

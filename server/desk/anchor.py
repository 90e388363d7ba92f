"""The anchor: the newest checkpoint in a file outside the database, so that an old copy of it is noticed.

docs/protocol.md J8. Renewed durably, and only ever with a larger checkpoint. Two processes may share one.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from verifier.journal.checkpoints import Checkpoint
from verifier.journal.notes import MAX_NOTE_BYTES, Note, NoteError


class AnchorError(Exception):
    """The anchor cannot be read or written."""


class Anchor:
    """The file at `path`. It need not exist yet; its folder must."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def read(self) -> bytes | None:
        """Return the note, None when there is none yet; raises `AnchorError`."""
        return await asyncio.to_thread(self._read)

    async def renew(self, note: str) -> None:
        """Put a checkpoint there unless a larger one is; return when it is durable. Raises `AnchorError`."""
        await asyncio.to_thread(self._renew, note.encode())

    def _read(self) -> bytes | None:
        try:
            with self.path.open("rb") as file:
                return file.read(MAX_NOTE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AnchorError(f"{self.path}: {error.strerror}") from error

    def _renew(self, note: bytes) -> None:
        try:
            with self._turn():
                before = self._read()
                if before is not None and _checkpoint(before).size > _checkpoint(note).size:
                    return
                self._replace(note)
        except NoteError as error:
            raise AnchorError(f"{self.path}: {error}") from error
        except OSError as error:
            raise AnchorError(f"{self.path}: {error.strerror}") from error

    def _replace(self, note: bytes) -> None:
        beside = self.path.with_name(self.path.name + ".new")
        with beside.open("wb") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the anchor against other processes; the file itself is replaced, so another one is locked."""
        lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _checkpoint(note: bytes) -> Checkpoint:
    return Checkpoint.parse(Note.parse(note).text)

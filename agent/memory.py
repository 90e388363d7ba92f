"""The largest checkpoint of the server's journal that this agent was ever sent (docs/protocol.md A8).

Sent back in every Inventory: a server whose store was rolled back is shown what it signed before. The signature is the
server's own to check; here a checkpoint is text. One is kept for each journal, so that a server that changes its
journal's name cannot have the old one forgotten.
"""

import asyncio
import os
import re
from pathlib import Path
from typing import Self

import structlog

MAX_NOTE_BYTES = 65_536
_MAX_JOURNALS = 8
_MAX_FILE_BYTES = _MAX_JOURNALS * (MAX_NOTE_BYTES + 1)
_SEPARATOR = "\0"  # no note holds one
_NOTE = re.compile(r"([^\n]{1,255})\n(0|[1-9][0-9]{0,18})\n[A-Za-z0-9+/]{43}=\n\n— [^\0]+\n")


class MemoryFileError(Exception):
    """The state file cannot be read or written."""


class Memory:
    """What is remembered, in memory and in a file if there is one. `open` makes it.

    The file holds the notes one after another, the one that was last heard of at the end.
    """

    def __init__(self, path: Path | None, notes: dict[str, str]) -> None:
        self._path = path
        self._notes = notes

    @classmethod
    def open(cls, path: Path | None) -> Self:
        """Read the file, which need not exist yet.

        Raises:
            MemoryFileError: It cannot be read, or holds something else.
        """
        if path is None:
            return cls(None, {})
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE_BYTES + 1)
            notes = data.decode().split(_SEPARATOR)
        except FileNotFoundError:
            return cls(path, {})
        except (OSError, UnicodeDecodeError) as error:
            raise MemoryFileError(f"{path}: {error}") from error
        by_origin: dict[str, str] = {}
        for note in notes:
            known = read_note(note)
            if known is None:
                raise MemoryFileError(f"{path} holds no checkpoints; is it the file that `state` should name?")
            by_origin[known[0]] = note
        return cls(path, by_origin)

    @property
    def largest(self) -> str:
        """The largest checkpoint of the journal that was last heard of, a signed note; empty: none."""
        return next(reversed(self._notes.values()), "")

    async def take(self, note: str) -> None:
        """Remember a checkpoint if it is the largest of its journal; return when that is durable.

        Raises:
            MemoryFileError: It is remembered until this process ends, and no longer.
        """
        found = read_note(note)
        if found is None:
            return
        origin, size = found
        before = self._notes.get(origin)
        known = read_note(before) if before is not None else None
        newest = next(reversed(self._notes), origin)
        if newest != origin:
            structlog.get_logger().warning("journal changed", before=newest, now=origin)
        elif known is not None and size <= known[1]:
            return
        kept = before if before is not None and known is not None and size <= known[1] else note
        self._notes.pop(origin, None)
        self._notes[origin] = kept
        if len(self._notes) > _MAX_JOURNALS:
            del self._notes[next(iter(self._notes))]
        if self._path is not None:
            await asyncio.to_thread(_write, self._path, _SEPARATOR.join(self._notes.values()).encode())


def read_note(note: str) -> tuple[str, int] | None:
    """Return origin and size, None for what is no signed checkpoint."""
    match = _NOTE.fullmatch(note) if len(note) <= MAX_NOTE_BYTES else None
    return None if match is None else (match[1], int(match[2]))


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(path.name + ".new")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise MemoryFileError(f"{path}: {error.strerror}") from error

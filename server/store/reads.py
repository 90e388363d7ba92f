"""Who was shown where devices are (docs/protocol.md K2). Rows are added and never changed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, insert, select

from server.store.counters import take_numbers
from server.store.doors import Reads, Writes
from server.store.rows import Values
from server.store.schema import READS
from server.times import micros, moment


@dataclass(frozen=True, slots=True)
class PositionRead:
    """Somebody was shown where devices are.

    Attributes:
        number: Counted from 1.
        at: When.
        by: Who, as `officer/ann` or `viewer/DE/eva`.
        jurisdiction: The reader's; empty: all.
        call: By which call, as `GetDevice`.
        subject: A resource name, or the filter of a list.
        devices: How many devices were shown.
    """

    number: int
    at: datetime
    by: str
    jurisdiction: str
    call: str
    subject: str
    devices: int


@dataclass(frozen=True, slots=True)
class ReadFilter:
    """Which reads: every field that is set must match.

    Attributes:
        by: By this person.
        subject: Of this resource, or by this very filter.
        jurisdiction: By readers of this jurisdiction; empty: by those of all.
    """

    by: str | None = None
    subject: str | None = None
    jurisdiction: str | None = None


@dataclass(frozen=True, slots=True)
class ReadPage:
    """One page, newest first.

    Attributes:
        reads: The page.
        more: Older ones follow.
    """

    reads: tuple[PositionRead, ...]
    more: bool


@dataclass(eq=False, slots=True)
class _Note:
    """A read that waits to be written down."""

    row: Values
    written: bool = field(default=False)


class ReadDoor:
    """Writes down who was shown where devices are, and tells it. Every call raises only `StoreError`s.

    What comes while a write is under way is written together by the next one, so that many who watch the same devices
    cost one flush of the disk.

    Args:
        read: Runs a query.
        write: Runs a change.
    """

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write
        self._waiting: list[_Note] = []
        self._writing = asyncio.Lock()

    async def note(self, by: str, jurisdiction: str, call: str, subject: str, devices: int, now: datetime) -> None:
        """Write down one read; it is durable when this returns, and until then nothing may be shown.

        Raises:
            StoreUnavailableError: It was not written, so nothing may be shown.
        """
        row: Values = {"at": micros(now), "by": by, "jurisdiction": jurisdiction}
        note = _Note({**row, "call": call, "subject": subject, "devices": devices})
        self._waiting.append(note)
        try:
            async with self._writing:
                if not note.written:  # else another has written it along
                    await self._write_all()
        finally:
            if note in self._waiting:  # it failed, or the caller left
                self._waiting.remove(note)

    async def _write_all(self) -> None:
        notes = self._waiting.copy()
        await self._write(lambda connection: _insert(connection, [note.row for note in notes]), changes_devices=False)
        for note in notes:
            note.written = True
        self._waiting = [note for note in self._waiting if not note.written]

    async def list(self, chosen: ReadFilter, *, after: int | None = None, limit: int = 100) -> ReadPage:
        """Return up to `limit` matching reads, newest first; with `after`, those before the read of this number."""
        return await self._read(lambda connection: _list(connection, chosen, after, limit))


def _insert(connection: Connection, rows: Sequence[Values]) -> None:
    numbers = take_numbers(connection, "reads", len(rows))
    connection.execute(insert(READS), [{"number": n, **row} for n, row in zip(numbers, rows, strict=True)])


def _list(connection: Connection, chosen: ReadFilter, after: int | None, limit: int) -> ReadPage:
    query = select(READS).order_by(READS.c.number.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(READS.c.number < after)
    if chosen.by is not None:
        query = query.where(READS.c.by == chosen.by)
    if chosen.subject is not None:
        query = query.where(READS.c.subject == chosen.subject)
    if chosen.jurisdiction is not None:
        query = query.where(READS.c.jurisdiction == chosen.jurisdiction)
    found = [
        PositionRead(row.number, moment(row.at), row.by, row.jurisdiction, row.call, row.subject, row.devices)
        for row in connection.execute(query)
    ]
    return ReadPage(tuple(found[:limit]), more=len(found) > limit)

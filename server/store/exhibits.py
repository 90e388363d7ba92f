"""What the accused say, and what they are answered (docs/protocol.md K4). Nothing removes or changes an exhibit.

Every call of the door raises only `StoreError`s. `jurisdiction`: the only one whose cases the caller may see; None: all
(docs/protocol.md RC11). Landmarks belong to no jurisdiction: to such a caller none exists.
"""

import hashlib
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from server.store import case_story as story
from server.store.case_book import CaseBook, lock_cases
from server.store.case_types import CaseEntryKind
from server.store.case_work import visible_case
from server.store.doors import Reads, Writes
from server.store.errors import RecordNotFoundError
from server.store.exhibit_rows import (
    Exhibit,
    ExhibitPage,
    ExhibitStateError,
    Statement,
    list_exhibits,
    load_exhibit,
)
from server.store.schema import EXHIBITS, LANDMARK_DISTRUST, LANDMARK_REVISIONS
from server.times import micros

_CASES = "cases/"
_LANDMARKS = "landmarks/"


class ExhibitDoor:
    """Exhibits of cases and landmarks.

    Args:
        read: Runs a query.
        write: Runs a change.
    """

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write

    async def add(
        self, subject: str, statement: Statement, by: str, now: datetime, *, jurisdiction: str | None = None
    ) -> Exhibit:
        """Add a statement to a case, or to a landmark that is distrusted.

        Args:
            subject: `cases/{number}` or `landmarks/{landmark}`.
            statement: What is said.
            by: Who adds it.
            now: The time.
            jurisdiction: The caller's.

        Raises:
            RecordNotFoundError: There is no such case or landmark, or it is not the caller's to see.
            ExhibitStateError: The landmark is not distrusted.
        """
        return await self._write(
            lambda connection: _add(connection, subject, statement, by, now, jurisdiction), changes_devices=False
        )

    async def list(
        self, subject: str, *, after: int = 0, limit: int = 100, jurisdiction: str | None = None
    ) -> ExhibitPage:
        """Return up to `limit` exhibits behind the one of number `after`, in the order in which they came.

        Raises:
            RecordNotFoundError: As `add`.
        """

        def query(connection: Connection) -> ExhibitPage:
            _need_subject(connection, subject, jurisdiction)
            return list_exhibits(connection, subject, after, limit)

        return await self._read(query)

    async def get(self, subject: str, number: int, *, jurisdiction: str | None = None) -> Exhibit | None:
        """Return an exhibit with its file, or None when there is none to be seen."""

        def query(connection: Connection) -> Exhibit | None:
            visible = _is_visible(connection, subject, jurisdiction)
            return load_exhibit(connection, subject, number) if visible else None

        return await self._read(query)

    async def answer(
        self, subject: str, number: int, answer: str, by: str, now: datetime, *, jurisdiction: str | None = None
    ) -> Exhibit:
        """Answer an exhibit, once.

        Raises:
            RecordNotFoundError: There is none to be seen.
            ExhibitStateError: It is answered already.
        """
        return await self._write(
            lambda connection: _answer(connection, subject, number, answer, by, now, jurisdiction),
            changes_devices=False,
        )


def _add(
    connection: Connection, subject: str, statement: Statement, by: str, now: datetime, jurisdiction: str | None
) -> Exhibit:
    _need_subject(connection, subject, jurisdiction)
    if subject.startswith(_LANDMARKS) and not _is_distrusted(connection, subject):
        raise ExhibitStateError(subject, "it is not distrusted, so there is nothing to appeal against")
    last = select(func.max(EXHIBITS.c.exhibit)).where(EXHIBITS.c.subject == subject)
    number: int = (connection.execute(last).scalar_one() or 0) + 1
    row = {
        "subject": subject,
        "exhibit": number,
        "at": micros(now),
        "by": by,
        "on_behalf_of": statement.on_behalf_of,
        "statement": statement.text,
        "file_name": statement.file_name,
        "media_type": statement.media_type,
        "data": statement.data,
        "answered_at": None,
        "answered_by": "",
        "answer": "",
    }
    connection.execute(insert(EXHIBITS), row)
    file = ""
    if statement.data is not None:
        digest = hashlib.sha256(statement.data).hexdigest()
        file = f"{statement.file_name}, {len(statement.data):,} bytes, SHA-256 {digest}"
    _tell(connection, subject, story.stated(number, statement.on_behalf_of, statement.text, file), by, now)
    return _need_exhibit(connection, subject, number)


def _answer(
    connection: Connection,
    subject: str,
    number: int,
    answer: str,
    by: str,
    now: datetime,
    jurisdiction: str | None,
) -> Exhibit:
    _need_subject(connection, subject, jurisdiction)
    exhibit = _need_exhibit(connection, subject, number)
    if exhibit.answered_at is not None:
        raise ExhibitStateError(exhibit.name, f"{exhibit.answered_by} answered it already")
    of = EXHIBITS.c.subject == subject, EXHIBITS.c.exhibit == number
    values = {"answered_at": micros(now), "answered_by": by, "answer": answer}
    connection.execute(update(EXHIBITS).where(*of).values(**values))
    _tell(connection, subject, story.answered(number, exhibit.statement.on_behalf_of, answer), by, now)
    return _need_exhibit(connection, subject, number)


def _tell(connection: Connection, subject: str, text: str, by: str, now: datetime) -> None:
    """Write an entry of the case's story (docs/protocol.md CS5); a landmark has none."""
    if not subject.startswith(_CASES):
        return
    number = int(subject.removeprefix(_CASES))
    lock_cases(connection)
    book = CaseBook(connection, micros(now))
    book.load([number])
    draft = book.get(number)
    if draft is not None:
        book.tell(draft, CaseEntryKind.EXHIBIT, text, by=by)
    book.write()


def _need_subject(connection: Connection, subject: str, jurisdiction: str | None) -> None:
    if not _is_visible(connection, subject, jurisdiction):
        raise RecordNotFoundError(subject)


def _need_exhibit(connection: Connection, subject: str, number: int) -> Exhibit:
    exhibit = load_exhibit(connection, subject, number)
    if exhibit is None:
        raise RecordNotFoundError(f"{subject}/exhibits/{number}")
    return exhibit


def _is_visible(connection: Connection, subject: str, jurisdiction: str | None) -> bool:
    if subject.startswith(_CASES):
        return visible_case(connection, int(subject.removeprefix(_CASES)), jurisdiction) is not None
    known = select(LANDMARK_REVISIONS.c.landmark_id).where(
        LANDMARK_REVISIONS.c.landmark_id == subject.removeprefix(_LANDMARKS)
    )
    return jurisdiction is None and connection.execute(known.limit(1)).first() is not None


def _is_distrusted(connection: Connection, subject: str) -> bool:
    open_ = select(LANDMARK_DISTRUST.c.since).where(
        LANDMARK_DISTRUST.c.landmark_id == subject.removeprefix(_LANDMARKS), LANDMARK_DISTRUST.c.ended_at.is_(None)
    )
    return connection.execute(open_.limit(1)).first() is not None

"""Exhibits as plain values and as rows (docs/protocol.md K4): what is read of them. exhibits.py writes them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from server.store.errors import StoreError
from server.store.rows import chunks
from server.store.schema import EXHIBITS
from server.times import moment, optional_moment

LISTED_BYTES = 32 << 20
"""Bytes of files that are read for one page, since their hashes are told: a page ends early behind so many."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody says in their defense.

    Attributes:
        on_behalf_of: Whose statement it is.
        text: The statement.
        file_name: Name of its file; empty without one.
        media_type: Media type of its file; empty without one.
        data: The file; None without one.
    """

    on_behalf_of: str
    text: str
    file_name: str = ""
    media_type: str = ""
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A statement as it stands.

    Attributes:
        subject: `cases/{number}` or `landmarks/{landmark}`.
        number: Counted from 1 for each subject.
        at: When it was added.
        by: Who added it.
        statement: What it says; `data` is None where files were not asked for.
        sha256: Of the file; empty without one.
        size: Bytes of the file.
        answered_at: When it was answered; None: it waits for an answer.
        answered_by: Who answered.
        answer: The answer.
    """

    subject: str
    number: int
    at: datetime
    by: str
    statement: Statement
    sha256: bytes
    size: int
    answered_at: datetime | None
    answered_by: str
    answer: str

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"{self.subject}/exhibits/{self.number}"


@dataclass(frozen=True, slots=True)
class ExhibitPage:
    """One page, in the order in which they came.

    Attributes:
        exhibits: The page, without files.
        more: Others follow.
    """

    exhibits: tuple[Exhibit, ...]
    more: bool


class ExhibitStateError(StoreError):
    """What was asked is not possible as the exhibit, or what it is about, stands. Nothing was written.

    Attributes:
        name: Resource name of what stands so.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


def unanswered(connection: Connection, case_ids: Iterable[int]) -> Mapping[int, int]:
    """Return how many exhibits of each of these cases wait for an answer; those with none are missing."""
    found: dict[int, int] = {}
    for some in chunks(sorted(set(case_ids))):
        subjects = {f"cases/{case_id}": case_id for case_id in some}
        waiting = EXHIBITS.c.subject.in_(subjects), EXHIBITS.c.answered_at.is_(None)
        query = select(EXHIBITS.c.subject, func.count()).where(*waiting).group_by(EXHIBITS.c.subject)
        found.update((subjects[subject], count) for subject, count in connection.execute(query))
    return found


def load_exhibit(connection: Connection, subject: str, number: int) -> Exhibit | None:
    """Return an exhibit with its file; None when there is none."""
    query = select(EXHIBITS).where(EXHIBITS.c.subject == subject, EXHIBITS.c.exhibit == number)
    row = connection.execute(query).one_or_none()
    return None if row is None else _exhibit_of(row, with_data=True)


def list_exhibits(connection: Connection, subject: str, after: int, limit: int) -> ExhibitPage:
    """Return up to `limit` exhibits behind the one of number `after`, without files; fewer when these are large."""
    query = select(EXHIBITS).where(EXHIBITS.c.subject == subject, EXHIBITS.c.exhibit > after)
    found: list[Exhibit] = []
    size = 0
    ordered = query.order_by(EXHIBITS.c.exhibit).limit(limit + 1).execution_options(yield_per=1)
    with connection.execute(ordered) as rows:
        for row in rows:
            if len(found) == limit or size > LISTED_BYTES:
                return ExhibitPage(tuple(found), more=True)
            found.append(_exhibit_of(row, with_data=False))
            size += found[-1].size
    return ExhibitPage(tuple(found), more=False)


def _exhibit_of(row: Row[Any], *, with_data: bool) -> Exhibit:
    data: bytes | None = row.data
    kept = data if with_data else None
    return Exhibit(
        subject=row.subject,
        number=row.exhibit,
        at=moment(row.at),
        by=row.by,
        statement=Statement(row.on_behalf_of, row.statement, row.file_name, row.media_type, kept),
        sha256=b"" if data is None else hashlib.sha256(data).digest(),
        size=0 if data is None else len(data),
        answered_at=optional_moment(row.answered_at),
        answered_by=row.answered_by,
        answer=row.answer,
    )

"""Revisions of records: every one is kept, and what stood before is the one before (docs/protocol.md RC1)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, or_, select, tuple_

from server.records.codec import record_from_json, record_to_json
from server.records.names import parse_name
from server.records.values import LicenseRecord, Record, RecordKind
from server.store.landmark_codec import landmark_from_json
from server.store.record_types import (
    LANDMARK,
    RevisionCursor,
    RevisionFilter,
    RevisionPage,
    RevisionRecord,
    StoredRecord,
)
from server.store.rows import chunks
from server.store.schema import CHANGES, REVISIONS
from server.store.types import LandmarkRecord
from server.times import micros, moment


@dataclass(frozen=True, slots=True)
class Authorship:
    """Who writes, when and why.

    Attributes:
        number: Of the write, from the `records` counter.
        by: Who writes, or proposed.
        reason: Why.
        now: When.
        change_id: The change that two people make; None when one was enough.
    """

    number: int
    by: str
    reason: str
    now: datetime
    change_id: int | None = None


def append_revisions(
    connection: Connection, written: Sequence[tuple[str, int, Record | None]], author: Authorship
) -> None:
    """Keep revisions: name, revision and record of each; None: it ended."""
    texts = [
        (int(parse_name(name).kind), name, revision, None if record is None else record_to_json(record))
        for name, revision, record in written
    ]
    append_texts(connection, texts, author)


def append_texts(
    connection: Connection, written: Iterable[tuple[int, str, int, str | None]], author: Authorship
) -> None:
    """Keep revisions that are text already: kind, name, revision and record of each."""
    same = {
        "record_number": author.number,
        "revised_at": micros(author.now),
        "revised_by": author.by,
        "reason": author.reason,
        "change_id": author.change_id,
    }
    rows = [
        {"kind": kind, "name": name, "revision": revision, "record": record, **same}
        for kind, name, revision, record in written
    ]
    if rows:
        connection.execute(insert(REVISIONS), rows)


def last_revisions(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the newest revision of each of these names that was ever on record, ended ones included."""
    last: dict[str, int] = {}
    for some in chunks(names):
        query = select(REVISIONS.c.name, func.max(REVISIONS.c.revision)).where(REVISIONS.c.name.in_(some))
        last.update((name, revision) for name, revision in connection.execute(query.group_by(REVISIONS.c.name)))
    return last


def load_as_of(connection: Connection, name: str, as_of: datetime) -> StoredRecord | None:
    """Return the record as it stood then; None when it was not on record."""
    query = select(REVISIONS).where(REVISIONS.c.name == name, REVISIONS.c.revised_at <= micros(as_of))
    row = connection.execute(query.order_by(REVISIONS.c.revision.desc()).limit(1)).one_or_none()
    if row is None or row.record is None:
        return None
    record = read_record(name, row.revision, row.record)
    return StoredRecord(name, record, row.revision, moment(row.revised_at))


def read_record(name: str, revision: int, text: str) -> Record:
    """Read a record of a revision; a license's terms carry the revision."""
    record = record_from_json(parse_name(name).kind, name, text)
    if isinstance(record, LicenseRecord):
        return replace(record, terms=replace(record.terms, revision=revision))
    return record


def list_revisions(
    connection: Connection, chosen: RevisionFilter, behind: RevisionCursor | None, limit: int
) -> RevisionPage:
    """Return up to `limit` matching revisions that stand behind the cursor, newest first."""
    newest = (REVISIONS.c.record_number, REVISIONS.c.name, REVISIONS.c.revision)
    query = (
        select(REVISIONS, CHANGES.c.decided_by)
        .select_from(REVISIONS.outerjoin(CHANGES, CHANGES.c.change_id == REVISIONS.c.change_id))
        .where(*_conditions(chosen))
        .order_by(*(column.desc() for column in newest))
        .limit(limit + 1)
    )
    if behind is not None:
        number, name, revision = newest
        query = query.where(
            number <= behind.number,  # what the index finds
            or_(
                number < behind.number,
                name < behind.name,
                and_(name == behind.name, revision < behind.revision),
            ),
        )
    rows = connection.execute(query).all()
    before = _before(connection, rows[:limit])
    return RevisionPage(tuple(_revision_of(row, before) for row in rows[:limit]), more=len(rows) > limit)


def _conditions(chosen: RevisionFilter) -> list[Any]:
    given = (
        (chosen.name, lambda value: REVISIONS.c.name == value),
        (chosen.after, lambda value: REVISIONS.c.revised_at >= micros(value)),
        (chosen.before, lambda value: REVISIONS.c.revised_at < micros(value)),
        (chosen.kind, lambda value: REVISIONS.c.kind == int(value)),
        (chosen.by, lambda value: REVISIONS.c.revised_by == value),
    )
    return [condition(value) for value, condition in given if value is not None]


_Texts = dict[tuple[str, int], str | None]


def _before(connection: Connection, rows: Sequence[Row[Any]]) -> _Texts:
    """Return the text of the revision before each of these, by name and number."""
    texts: _Texts = {}
    key = tuple_(REVISIONS.c.name, REVISIONS.c.revision)
    for some in chunks((row.name, row.revision - 1) for row in rows):
        query = select(REVISIONS.c.name, REVISIONS.c.revision, REVISIONS.c.record).where(key.in_(some))
        texts.update(((row.name, row.revision), row.record) for row in connection.execute(query))
    return texts


def _revision_of(row: Row[Any], before: _Texts) -> RevisionRecord:
    earlier = before.get((row.name, row.revision - 1))
    return RevisionRecord(
        name=row.name,
        kind=LANDMARK if row.kind == LANDMARK else RecordKind(row.kind),
        revision=row.revision,
        revised_at=moment(row.revised_at),
        by=row.revised_by,
        approved_by=row.decided_by or "",
        reason=row.reason,
        before=None if earlier is None else _read(row, row.revision - 1, earlier),
        after=None if row.record is None else _read(row, row.revision, row.record),
        change_id=row.change_id,
        cursor=RevisionCursor(row.record_number, row.name, row.revision),
    )


def _read(row: Row[Any], revision: int, text: str) -> Record | LandmarkRecord:
    if row.kind != LANDMARK:
        return read_record(row.name, revision, text)
    record = landmark_from_json(text)
    return replace(record, landmark=replace(record.landmark, revision=revision))

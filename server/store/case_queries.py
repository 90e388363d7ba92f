"""Cases as people read them (docs/protocol.md §15)."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from server.store.case_book import WAITING, record_of
from server.store.case_types import (
    CaseCursor,
    CaseDevice,
    CaseDeviceCursor,
    CaseDevicePage,
    CaseEntry,
    CaseEntryKind,
    CaseEvent,
    CaseFilter,
    CasePage,
    CaseState,
    CaseStory,
)
from server.store.case_work import visible_case
from server.store.schema import CASE_ENTRIES, CASE_FINDINGS, CASES, FINDINGS
from server.times import micros, moment, optional_moment
from verifier.errors import Reason
from verifier.units import Pdi
from verifier.verdict import Severity

LONGEST_STORY = 1_000
"""Entries that are read; a case that goes on for months has more."""

_UNRESOLVED = (int(CaseState.OPEN), int(CaseState.ACKNOWLEDGED), int(CaseState.INVESTIGATING))


def get_case(connection: Connection, number: int, jurisdiction: str | None) -> CaseStory | None:
    """Return a case and the newest entries of its story in the order of time; None when the caller may see none."""
    draft = visible_case(connection, number, jurisdiction)
    if draft is None:
        return None
    newest = select(CASE_ENTRIES).where(CASE_ENTRIES.c.case_id == number)
    rows = connection.execute(newest.order_by(CASE_ENTRIES.c.entry.desc()).limit(LONGEST_STORY)).all()
    ordered = sorted(rows, key=lambda row: (row.at, row.entry))
    entries = tuple(CaseEntry(moment(row.at), row.by, CaseEntryKind(row.kind), row.text) for row in ordered)
    return CaseStory(record_of(draft), entries)


def list_cases(connection: Connection, chosen: CaseFilter, after: CaseCursor | None, limit: int) -> CasePage:
    """Return up to `limit` cases behind `after`, the gravest first, then the oldest."""
    conditions = _conditions(chosen)
    total = connection.execute(select(func.count()).select_from(CASES).where(*conditions)).scalar_one()
    query = select(CASES).where(*conditions)
    if after is not None:
        severity, opened_at = int(after.severity), micros(after.opened_at)
        query = query.where(
            or_(
                CASES.c.severity < severity,
                and_(CASES.c.severity == severity, CASES.c.opened_at > opened_at),
                and_(
                    CASES.c.severity == severity,
                    CASES.c.opened_at == opened_at,
                    CASES.c.case_id > after.number,
                ),
            )
        )
    query = query.order_by(CASES.c.severity.desc(), CASES.c.opened_at, CASES.c.case_id).limit(limit + 1)
    rows = connection.execute(query).all()
    return CasePage(tuple(map(record_of, rows[:limit])), len(rows) > limit, total)


def _conditions(chosen: CaseFilter) -> list[ColumnElement[bool]]:
    states = _UNRESOLVED if chosen.state is None else (int(chosen.state),)
    conditions: list[ColumnElement[bool]] = [CASES.c.state.in_(states)]
    wanted: Mapping[str, Any] = {
        "event": chosen.event,
        "severity": chosen.severity,
        "licensee": chosen.licensee,
        "license_number": chosen.license_number,
        "site_id": chosen.site_id,
        "assignee": chosen.assignee,
        "jurisdiction": chosen.jurisdiction,
    }
    conditions += [CASES.c[name] == value for name, value in wanted.items() if value is not None]
    if chosen.device is not None:
        of_device = select(CASE_FINDINGS.c.case_id).where(CASE_FINDINGS.c.pdi == chosen.device)
        conditions.append(CASES.c.case_id.in_(of_device))
    return conditions


def list_case_devices(
    connection: Connection, number: int, jurisdiction: str | None, after: CaseDeviceCursor | None, limit: int
) -> CaseDevicePage | None:
    """Return up to `limit` findings of a case behind `after`, in the order of PDIs; None as `get_case`."""
    if visible_case(connection, number, jurisdiction) is None:
        return None
    key = (CASE_FINDINGS.c.pdi, CASE_FINDINGS.c.reason, CASE_FINDINGS.c.opened_at)
    joined = CASE_FINDINGS.join(
        FINDINGS,
        and_(
            FINDINGS.c.pdi == CASE_FINDINGS.c.pdi,
            FINDINGS.c.reason == CASE_FINDINGS.c.reason,
            FINDINGS.c.opened_at == CASE_FINDINGS.c.opened_at,
        ),
    )
    query = select(*key, CASE_FINDINGS.c.ended_at, FINDINGS.c.detail).select_from(joined)
    query = query.where(CASE_FINDINGS.c.case_id == number)
    if after is not None:
        pdi, reason, opened_at = after.pdi, int(after.reason), micros(after.opened_at)
        query = query.where(
            or_(
                key[0] > pdi,
                and_(key[0] == pdi, key[1] > reason),
                and_(key[0] == pdi, key[1] == reason, key[2] > opened_at),
            )
        )
    rows = connection.execute(query.order_by(*key).limit(limit + 1)).all()
    devices = tuple(
        CaseDevice(Pdi(row.pdi), Reason(row.reason), moment(row.opened_at), optional_moment(row.ended_at), row.detail)
        for row in rows[:limit]
    )
    return CaseDevicePage(devices, len(rows) > limit)


def count_open(connection: Connection) -> Mapping[tuple[CaseEvent, Severity], int]:
    """Return how many cases are not resolved, by event and severity; those that none has are missing."""
    query = (
        select(CASES.c.event, CASES.c.severity, func.count())
        .where(CASES.c.resolved_at.is_(None), CASES.c.state != WAITING)
        .group_by(CASES.c.event, CASES.c.severity)
    )
    rows = connection.execute(query)
    return {(CaseEvent(event), Severity(severity)): count for event, severity, count in rows}

"""Changes that wait for a second person, and what became of them (docs/protocol.md RC4).

A change holds what it writes and what that is based on: of each record the revision that stood when it was proposed,
and of a draft that comes into force a mark of all that belongs to it, which one person may have changed since.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, func, insert, select, update

from server.records.codec import record_from_json, record_to_json
from server.records.names import parse_name
from server.records.values import LicenseRecord, RecordWrite
from server.store.counters import take_numbers
from server.store.errors import ChangeClosedError, FourEyesError, RecordNotFoundError, StaleRevisionError
from server.store.record_checks import Plan
from server.store.record_types import ChangeFilter, ChangeKind, ChangePage, ChangeRecord, ChangeState
from server.store.rows import chunks
from server.store.schema import (
    CHANGE_FILES,
    CHANGES,
    DEPLOYMENTS,
    PARTIES,
    SELECTORS,
    SHIPMENTS,
    SITES,
    WINDOWS,
)
from server.times import micros, moment, optional_moment
from verifier.license import LicenseState
from verifier.place.landmarks import party_name

_WITHOUT_DATA = [column for column in CHANGES.c if column.name != "payload"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is proposed, by whom, when and why."""

    kind: ChangeKind
    payload: str
    summary: tuple[str, ...]
    licensees: tuple[str, ...]
    by: str
    reason: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided, by whom, when and why."""

    state: ChangeState
    by: str
    reason: str
    now: datetime


def propose(connection: Connection, proposal: Proposal) -> ChangeRecord:
    """Keep a change that waits."""
    change_id = take_numbers(connection, "proposals", 1)[0]
    connection.execute(
        insert(CHANGES),
        {
            "change_id": change_id,
            "kind": int(proposal.kind),
            "state": int(ChangeState.OPEN),
            "summary": _text(proposal.summary),
            "payload": proposal.payload,
            "licensees": _text(proposal.licensees),
            "proposed_by": proposal.by,
            "proposed_at": micros(proposal.now),
            "reason": proposal.reason,
            "decided_by": "",
            "decided_at": None,
            "decision_reason": "",
        },
    )
    return need_change(connection, change_id)


def load_change(connection: Connection, change_id: int) -> ChangeRecord | None:
    """Return a change; None when there is none of this number."""
    row = connection.execute(select(*_WITHOUT_DATA).where(CHANGES.c.change_id == change_id)).one_or_none()
    return None if row is None else _change_of(row)


def need_change(connection: Connection, change_id: int) -> ChangeRecord:
    """Return a change; raises `RecordNotFoundError`."""
    change = load_change(connection, change_id)
    if change is None:
        raise RecordNotFoundError(f"changes/{change_id}")
    return change


def load_payload(connection: Connection, change_id: int) -> dict[str, Any]:
    """Return what a change writes."""
    text: str = connection.execute(select(CHANGES.c.payload).where(CHANGES.c.change_id == change_id)).scalar_one()
    payload: dict[str, Any] = json.loads(text)
    return payload


def list_changes(connection: Connection, chosen: ChangeFilter, after: int | None, limit: int) -> ChangePage:
    """Return up to `limit` matching changes older than `after`, newest first."""
    query = select(*_WITHOUT_DATA).order_by(CHANGES.c.change_id.desc())
    if after is not None:
        query = query.where(CHANGES.c.change_id < after)
    if chosen.state is not None:
        query = query.where(CHANGES.c.state == int(chosen.state))
    if chosen.kind is not None:
        query = query.where(CHANGES.c.kind == int(chosen.kind))
    if chosen.by is not None:
        query = query.where(CHANGES.c.proposed_by == chosen.by)
    if chosen.licensee is None:
        query = query.limit(limit + 1)
    found: list[ChangeRecord] = []
    with connection.execution_options(yield_per=limit + 1).execute(query) as rows:
        for row in rows:
            change = _change_of(row)
            if chosen.licensee is None or chosen.licensee in change.licensees:
                found.append(change)
            if len(found) > limit:
                break
    return ChangePage(tuple(found[:limit]), more=len(found) > limit)


def check_open(change: ChangeRecord) -> None:
    """Refuse a change that is decided."""
    if change.state is not ChangeState.OPEN:
        raise ChangeClosedError(f"{change.name} is {change.state.name} already")


def check_four_eyes(change: ChangeRecord, by: str) -> None:
    """Refuse the proposer as the second person (docs/protocol.md RC4): names are compared without case."""
    if party_name(change.proposed_by) == party_name(by):
        raise FourEyesError(f"{change.name} was proposed by {change.proposed_by}; it takes another person")


def check_own(change: ChangeRecord, by: str) -> None:
    """Refuse anyone but the proposer to take a change back."""
    if party_name(change.proposed_by) != party_name(by):
        raise FourEyesError(f"{change.name} was proposed by {change.proposed_by}, who alone may withdraw it")


def decide(connection: Connection, change: ChangeRecord, decision: Decision) -> ChangeRecord:
    """Write what became of a change; its file goes."""
    values = {
        "state": int(decision.state),
        "decided_by": decision.by,
        "decided_at": micros(decision.now),
        "decision_reason": decision.reason,
    }
    connection.execute(update(CHANGES).where(CHANGES.c.change_id == change.change_id).values(**values))
    connection.execute(delete(CHANGE_FILES).where(CHANGE_FILES.c.change_id == change.change_id))
    return replace(
        change,
        state=decision.state,
        decided_by=decision.by,
        decided_at=moment(micros(decision.now)),
        decision_reason=decision.reason,
    )


def write_file(connection: Connection, change_id: int, pieces: Iterable[bytes]) -> None:
    """Keep an import file that waits; no more than a piece is held at once."""
    for number, piece in enumerate(pieces):
        row = {"change_id": change_id, "piece": number, "data": zlib.compress(piece)}
        connection.execute(insert(CHANGE_FILES), row)


def read_file(connection: Connection, change_id: int, write: Callable[[bytes], object]) -> None:
    """Hand the pieces of a file to `write`, in order."""
    query = select(CHANGE_FILES.c.data).where(CHANGE_FILES.c.change_id == change_id).order_by(CHANGE_FILES.c.piece)
    for data in connection.execution_options(yield_per=1).scalars(query):
        write(zlib.decompress(data))


# What records to write.


def plan_payload(connection: Connection, plan: Plan) -> str:
    """Return the payload of a plan that waits: what it writes, and what that is based on."""
    writes = [
        {
            "name": step.name,
            "basis": 0 if step.before is None else step.before.revision,
            "record": None if step.after is None else json.loads(record_to_json(step.after)),
        }
        for step in plan.steps
    ]
    return _text({"writes": writes, "drafts": _marks(connection, plan)})


def writes_of(payload: Mapping[str, Any]) -> list[RecordWrite]:
    """Read the writes of a payload."""
    writes: list[RecordWrite] = []
    for write in payload["writes"]:
        name, plain = write["name"], write["record"]
        record = None if plain is None else record_from_json(parse_name(name).kind, name, _text(plain))
        writes.append(RecordWrite(name, record, write["basis"]))
    return writes


def check_drafts(connection: Connection, plan: Plan, payload: Mapping[str, Any]) -> None:
    """Refuse to bring a draft into force to which something has been changed since that was proposed."""
    for name, mark in _marks(connection, plan).items():
        if payload["drafts"].get(name) != mark:
            stands = next(step.before.revision for step in plan.steps if step.name == name and step.before)
            raise StaleRevisionError(name, stands, f"what belongs to {name} was changed since this was proposed")


def _marks(connection: Connection, plan: Plan) -> dict[str, list[int]]:
    """Return a mark of all that belongs to each draft that comes into force; any write there makes another one.

    It holds, of each table, the number of rows and the greatest number of a write: a row that is written anew gets a
    greater one, and one that ends leaves fewer.
    """
    marks: dict[str, list[int]] = {}
    for step in plan.changes:
        if not isinstance(step.was, LicenseRecord) or not isinstance(step.after, LicenseRecord):
            continue
        if step.was.terms.state is LicenseState.DRAFT is not step.after.terms.state:
            number = step.after.terms.number
            mark: list[int] = []
            for table in (SITES, DEPLOYMENTS, SELECTORS, SHIPMENTS, WINDOWS):
                mark += _mark(connection, table, table.c.license_number == number)
            for some in chunks(sorted({party_id for party_id, _ in step.after.parties})):
                mark += _mark(connection, PARTIES, PARTIES.c.party_id.in_(some))
            marks[step.name] = mark
    return marks


def _mark(connection: Connection, table: Table, condition: ColumnElement[bool]) -> Sequence[int]:
    query = select(func.count(), func.coalesce(func.max(table.c.record_number), 0)).where(condition)
    count, greatest = connection.execute(query).one()
    return count, greatest


def _change_of(row: Row[Any]) -> ChangeRecord:
    return ChangeRecord(
        change_id=row.change_id,
        kind=ChangeKind(row.kind),
        state=ChangeState(row.state),
        summary=tuple(json.loads(row.summary)),
        proposed_by=row.proposed_by,
        proposed_at=moment(row.proposed_at),
        reason=row.reason,
        decided_by=row.decided_by,
        decided_at=optional_moment(row.decided_at),
        decision_reason=row.decision_reason,
        licensees=tuple(json.loads(row.licensees)),
    )


def _text(plain: object) -> str:
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)

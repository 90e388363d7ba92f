"""What people do to cases (docs/protocol.md CS4): all of a call or nothing of it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from server.store.case_book import WAITING, CaseBook, Draft, lock_cases, record_of
from server.store.case_rules import state_after
from server.store.case_types import (
    CaseAction,
    CaseEntryKind,
    CaseRecord,
    CaseRef,
    CaseState,
    CaseStateError,
    CaseWork,
)
from server.store.errors import RecordNotFoundError, StaleRevisionError
from server.store.exhibit_rows import unanswered
from server.times import micros


def work_cases(
    connection: Connection,
    refs: Sequence[CaseRef],
    work: CaseWork,
    by: str,
    now: datetime,
    jurisdiction: str | None,
) -> tuple[CaseRecord, ...]:
    """Do one thing to cases; return them as they stand then, in the order of `refs`.

    Args:
        connection: In a transaction that writes.
        refs: Each case once.
        work: What to do.
        by: Who does it.
        now: The time.
        jurisdiction: The only one whose cases the caller may see; None: all (docs/protocol.md RC11).

    Raises:
        RecordNotFoundError: A case does not exist, or is not the caller's to see.
        StaleRevisionError: Another revision of a case stands than the caller saw.
        CaseStateError: That cannot be done as a case stands.
    """
    lock_cases(connection)
    book = CaseBook(connection, micros(now))
    book.load(ref.number for ref in refs)
    chosen = [_chosen(book, ref, jurisdiction) for ref in refs]
    if work.action is CaseAction.REOPEN:
        book.load_scopes([draft.scope for draft in chosen])
    for draft in chosen:
        _work(book, draft, work, by)
    book.write()
    return tuple(map(record_of, chosen))


def visible_case(connection: Connection, number: int, jurisdiction: str | None) -> Draft | None:
    """Return the row of a case that exists for the caller."""
    book = CaseBook(connection, 0)
    book.load([number])
    draft = book.get(number)
    return draft if draft is not None and _is_visible(draft, jurisdiction) else None


def _is_visible(draft: Draft, jurisdiction: str | None) -> bool:
    return draft.state != WAITING and (jurisdiction is None or draft.jurisdiction == jurisdiction)


def _chosen(book: CaseBook, ref: CaseRef, jurisdiction: str | None) -> Draft:
    draft = book.get(ref.number)
    if draft is None or not _is_visible(draft, jurisdiction):
        raise RecordNotFoundError(f"cases/{ref.number}")
    if ref.revision is not None and ref.revision != draft.revision:
        raise StaleRevisionError(f"cases/{ref.number}", draft.revision)
    return draft


def _work(book: CaseBook, draft: Draft, work: CaseWork, by: str) -> None:
    state = CaseState(draft.state)
    after = state_after(work.action, state)
    if after is None:
        raise CaseStateError(draft.case_id, f"it is {state.name} and cannot be {_DONE[work.action]}")
    match work.action:
        case CaseAction.NOTE:
            book.tell(draft, CaseEntryKind.NOTE, work.text, by=by)
        case CaseAction.ASSIGN:
            draft.assignee = work.assignee
            to = f"Assigned to {work.assignee}" if work.assignee else "Assigned to nobody"
            book.tell(draft, CaseEntryKind.WORK, _because(to, work.text), by=by)
        case CaseAction.ACKNOWLEDGE | CaseAction.INVESTIGATE:
            draft.state = int(after)
            book.tell(draft, CaseEntryKind.WORK, _because(_DONE[work.action].capitalize(), work.text), by=by)
        case CaseAction.RESOLVE:
            _resolve(book, draft, work, by)
        case CaseAction.REOPEN:
            _reopen(book, draft, work, by)


def _resolve(book: CaseBook, draft: Draft, work: CaseWork, by: str) -> None:
    waiting = unanswered(book.connection, [draft.case_id]).get(draft.case_id, 0)
    if waiting:  # docs/protocol.md K4
        exhibits = "1 exhibit that is" if waiting == 1 else f"{waiting:,} exhibits that are"
        raise CaseStateError(draft.case_id, f"it has {exhibits} not answered; answer first, then resolve")
    resolution, what = work.text, "Resolved"
    if draft.devices_open:
        still = f"findings open on {draft.devices_open:,} device{'s' if draft.devices_open != 1 else ''}"
        if not work.accept_risk:
            raise CaseStateError(draft.case_id, f"it has {still}; it can be resolved as accepted risk alone")
        # docs/protocol.md CS4: it says so.
        resolution, what = f"Accepted risk, with {still}: {work.text}", f"Resolved as accepted risk, with {still}"
    book.resolve(draft, resolution)
    book.tell(draft, CaseEntryKind.WORK, _because(what, work.text), by=by)


def _reopen(book: CaseBook, draft: Draft, work: CaseWork, by: str) -> None:
    standing = book.standing(draft.scope)
    if standing is not None and standing.state != WAITING:
        raise CaseStateError(draft.case_id, f"cases/{standing.case_id} is about the same and open")
    if standing is not None:
        book.merge(standing, draft)
    book.reopen(draft)
    book.tell(draft, CaseEntryKind.WORK, _because("Reopened", work.text), by=by)


_DONE = {
    CaseAction.NOTE: "noted",
    CaseAction.ASSIGN: "assigned",
    CaseAction.ACKNOWLEDGE: "acknowledged",
    CaseAction.INVESTIGATE: "taken under investigation",
    CaseAction.RESOLVE: "resolved",
    CaseAction.REOPEN: "reopened",
}


def _because(what: str, text: str) -> str:
    return f"{what}: {text}" if text else f"{what}."

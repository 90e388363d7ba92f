"""Cases as one transaction works on them: read once, changed in memory, written at its end.

Counts are kept as findings come and end, never counted over: a case may touch a hundred thousand devices.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, Row, bindparam, case, delete, func, insert, select, update

from server.store.case_rules import DEBOUNCE_US, RETURN_US
from server.store.case_types import CaseEntryKind, CaseEvent, CaseFinding, CaseRecord, CaseState, Scope
from server.store.counters import take_numbers
from server.store.exhibit_rows import unanswered
from server.store.rows import Values, chunks
from server.store.schema import CASE_ENTRIES, CASE_FINDINGS, CASES
from server.times import moment, optional_moment
from verifier.units import Pdi
from verifier.verdict import Severity

WAITING = 0
"""State of a row whose warnings are not a case yet (docs/protocol.md CS3). No `CaseState`: nobody is shown it."""


@dataclass(slots=True)
class Draft:
    """A row of CASES that may change. Attributes are the columns; times are microseconds."""

    case_id: int
    event: int
    scope: str
    state: int
    severity: int
    title: str
    licensee: str
    license_number: str
    site_id: str
    jurisdiction: str
    assignee: str
    opened_at: int
    changed_at: int
    quiet_since: int | None
    resolved_at: int | None
    resolution: str
    revision: int
    devices: int
    devices_open: int
    entries: int
    due_at: int | None


_COLUMNS = tuple(field.name for field in fields(Draft))
_UPDATE = (
    update(CASES)
    .where(CASES.c.case_id == bindparam("key"))
    .values({name: bindparam(name) for name in _COLUMNS if name != "case_id"})
)
_END = (
    update(CASE_FINDINGS)
    .where(
        CASE_FINDINGS.c.pdi == bindparam("key"),
        CASE_FINDINGS.c.reason == bindparam("key_reason"),
        CASE_FINDINGS.c.opened_at == bindparam("key_opened_at"),
    )
    .values(ended_at=bindparam("end"))
)


def lock_cases(connection: Connection) -> None:
    """Wait until no other process works on cases, until this transaction ends."""
    take_numbers(connection, "cases", 0)


def draft_of(row: Row[Any]) -> Draft:
    """Read a row that holds all columns of CASES."""
    return Draft(**{name: getattr(row, name) for name in _COLUMNS})


def record_of(draft: "Draft | Row[Any]") -> CaseRecord:
    """Return what others see of a case."""
    return CaseRecord(
        number=draft.case_id,
        revision=draft.revision,
        event=CaseEvent(draft.event),
        state=CaseState(draft.state),
        severity=Severity(draft.severity),
        title=draft.title,
        licensee=draft.licensee,
        license_number=draft.license_number,
        site_id=draft.site_id,
        jurisdiction=draft.jurisdiction,
        assignee=draft.assignee,
        opened_at=moment(draft.opened_at),
        changed_at=moment(draft.changed_at),
        quiet_since=optional_moment(draft.quiet_since),
        resolved_at=optional_moment(draft.resolved_at),
        resolution=draft.resolution,
        devices=draft.devices,
        devices_open=draft.devices_open,
    )


class CaseBook:
    """The cases that one transaction touches. Call `write` at its end."""

    def __init__(self, connection: Connection, now_us: int) -> None:
        self.connection = connection
        self.now_us = now_us
        self._cases: dict[int, Draft] = {}
        self._standing: dict[str, Draft] = {}
        self._resolved: dict[str, Draft] = {}
        self._touched: set[int] = set()
        self._entries: list[Values] = []

    # Reading.

    def load_scopes(self, scopes: Collection[str]) -> None:
        """Read what stands of these scopes, and what of them was resolved last."""
        for some in chunks(sorted(scopes)):
            query = select(CASES).where(CASES.c.scope.in_(some)).order_by(CASES.c.resolved_at, CASES.c.case_id)
            for row in self.connection.execute(query):
                draft = self._keep(row)
                (self._standing if draft.resolved_at is None else self._resolved)[draft.scope] = draft

    def load(self, case_ids: Iterable[int]) -> None:
        """Read these cases."""
        for some in chunks(sorted(set(case_ids) - self._cases.keys())):
            for row in self.connection.execute(select(CASES).where(CASES.c.case_id.in_(some))):
                self._keep(row)

    def get(self, case_id: int) -> Draft | None:
        """Return a case that was read."""
        return self._cases.get(case_id)

    def standing(self, scope: str) -> Draft | None:
        """Return the one case of a scope that was read and is not resolved, warnings that wait included."""
        return self._standing.get(scope)

    def resolved(self, scope: str) -> Draft | None:
        """Return the case of a scope that was read and resolved last."""
        return self._resolved.get(scope)

    def _keep(self, row: Row[Any]) -> Draft:
        return self._cases.setdefault(row.case_id, draft_of(row))

    # Changing.

    def touch(self, draft: Draft) -> None:
        """Note that a case was changed."""
        self._touched.add(draft.case_id)

    def open(self, scope: Scope, severity: Severity, state: int = WAITING) -> Draft:
        """Make a case, or a row that waits to become one."""
        draft = Draft(
            case_id=take_numbers(self.connection, "cases", 1)[0],
            event=int(scope.event),
            scope=scope.key,
            state=state,
            severity=int(severity),
            title=scope.title,
            licensee=scope.licensee,
            license_number=scope.license_number,
            site_id=scope.site_id,
            jurisdiction=scope.jurisdiction,
            assignee="",
            opened_at=self.now_us,
            changed_at=self.now_us,
            quiet_since=None,
            resolved_at=None,
            resolution="",
            revision=0,
            devices=0,
            devices_open=0,
            entries=0,
            due_at=None,
        )
        # At once, since its findings refer to it.
        self.connection.execute(insert(CASES), {name: getattr(draft, name) for name in _COLUMNS})
        self._cases[draft.case_id] = self._standing[scope.key] = draft
        self.touch(draft)
        return draft

    def resolve(self, draft: Draft, resolution: str) -> None:
        """End a case."""
        draft.state, draft.resolved_at, draft.resolution = int(CaseState.RESOLVED), self.now_us, resolution
        self._standing.pop(draft.scope, None)
        self._resolved[draft.scope] = draft
        self.touch(draft)

    def reopen(self, draft: Draft) -> None:
        """Open a resolved case again. Nothing else of its scope may stand."""
        draft.state, draft.resolved_at, draft.resolution = int(CaseState.OPEN), None, ""
        self._resolved.pop(draft.scope, None)
        self._standing[draft.scope] = draft
        self.touch(draft)

    def rescope(self, draft: Draft, scope: Scope) -> None:
        """Make a case that stands one of another event. Nothing else of the new scope may stand."""
        self._standing.pop(draft.scope, None)
        draft.event, draft.scope, draft.title = int(scope.event), scope.key, scope.title
        draft.licensee, draft.license_number = scope.licensee, scope.license_number
        draft.site_id, draft.jurisdiction = scope.site_id, scope.jurisdiction
        self._standing[scope.key] = draft
        # At once, since what still is of the old scope may open another case.
        self.connection.execute(update(CASES).where(CASES.c.case_id == draft.case_id).values(scope=scope.key))
        self.touch(draft)

    def tell(self, draft: Draft, kind: CaseEntryKind, text: str, at_us: int | None = None, by: str = "") -> None:
        """Write an entry of a case's story."""
        draft.entries += 1
        entry: Values = {"case_id": draft.case_id, "entry": draft.entries, "at": self.now_us, "by": by}
        if at_us is not None:
            entry["at"] = at_us
        self._entries.append({**entry, "kind": int(kind), "text": text})
        self.touch(draft)

    # Findings.

    def join(self, draft: Draft, found: Sequence[CaseFinding]) -> None:
        """Let findings that belong to no case yet belong to this one."""
        before = self._open_counts(draft, {each.pdi for each in found}) if draft.devices else {}
        rows = [
            {
                "pdi": each.pdi,
                "reason": int(each.reason),
                "opened_at": each.opened_at,
                "ended_at": each.ended_at,
                "case_id": draft.case_id,
            }
            for each in found
        ]
        self.connection.execute(insert(CASE_FINDINGS), rows)
        draft.devices += len({each.pdi for each in found} - before.keys())
        draft.devices_open += sum(
            not before.get(pdi, 0) for pdi in {each.pdi for each in found if each.ended_at is None}
        )
        draft.severity = max(draft.severity, *(int(each.severity) for each in found))
        self._settle_quiet(draft)

    def end(self, draft: Draft, found: Sequence[CaseFinding]) -> int:
        """Note the ends of findings that were open in this case; return on how many devices all of its have ended."""
        rows = [
            {
                "key": each.pdi,
                "key_reason": int(each.reason),
                "key_opened_at": each.opened_at,
                "end": each.ended_at,
            }
            for each in found
        ]
        self.connection.execute(_END, rows)
        pdis = {each.pdi for each in found}
        still = self._open_counts(draft, pdis)
        over = sum(not still[pdi] for pdi in pdis)
        draft.devices_open -= over
        self._settle_quiet(draft)
        return over

    def merge(self, waiting: Draft, into: Draft) -> None:
        """Move all of a row that waits into a case; the row is gone then."""
        moved = update(CASE_FINDINGS).where(CASE_FINDINGS.c.case_id == waiting.case_id)
        self.connection.execute(moved.values(case_id=into.case_id))
        of_waiting = CASE_ENTRIES.c.case_id == waiting.case_id
        stored = self.connection.execute(select(CASE_ENTRIES).where(of_waiting).order_by(CASE_ENTRIES.c.entry))
        told = [(row.kind, row.text, row.at, row.by) for row in stored]
        told += [(e["kind"], e["text"], e["at"], e["by"]) for e in self._entries if e["case_id"] == waiting.case_id]
        for kind, text, at_us, by in told:
            self.tell(into, CaseEntryKind(kind), text, at_us, by)
        self.drop(waiting, move=True)
        into.devices, into.devices_open = self._count(into)
        into.severity = max(into.severity, waiting.severity)
        self._settle_quiet(into)

    def drop(self, waiting: Draft, *, move: bool = False) -> None:
        """Forget warnings that never became a case (docs/protocol.md CS3)."""
        if not move:
            self.connection.execute(delete(CASE_FINDINGS).where(CASE_FINDINGS.c.case_id == waiting.case_id))
        self.connection.execute(delete(CASE_ENTRIES).where(CASE_ENTRIES.c.case_id == waiting.case_id))
        self.connection.execute(delete(CASES).where(CASES.c.case_id == waiting.case_id))
        self._entries = [entry for entry in self._entries if entry["case_id"] != waiting.case_id]
        if self._standing.get(waiting.scope) is waiting:
            del self._standing[waiting.scope]
        del self._cases[waiting.case_id]
        self._touched.discard(waiting.case_id)

    def _open_counts(self, draft: Draft, pdis: Collection[Pdi]) -> Mapping[bytes, int]:
        """Return of each of these devices that the case touches how many findings are open in it."""
        counts: dict[bytes, int] = {}
        is_open = func.sum(case((CASE_FINDINGS.c.ended_at.is_(None), 1), else_=0))
        for some in chunks(sorted(pdis)):
            query = (
                select(CASE_FINDINGS.c.pdi, is_open)
                .where(CASE_FINDINGS.c.case_id == draft.case_id, CASE_FINDINGS.c.pdi.in_(some))
                .group_by(CASE_FINDINGS.c.pdi)
            )
            counts.update((pdi, count) for pdi, count in self.connection.execute(query))
        return counts

    def _count(self, draft: Draft) -> tuple[int, int]:
        pdi = CASE_FINDINGS.c.pdi
        of_open = case((CASE_FINDINGS.c.ended_at.is_(None), pdi))
        query = select(func.count(pdi.distinct()), func.count(of_open.distinct()))
        devices, devices_open = self.connection.execute(query.where(CASE_FINDINGS.c.case_id == draft.case_id)).one()
        return devices, devices_open

    def _settle_quiet(self, draft: Draft) -> None:
        draft.quiet_since = None
        if not draft.devices_open:
            ends = select(func.max(CASE_FINDINGS.c.ended_at)).where(CASE_FINDINGS.c.case_id == draft.case_id)
            draft.quiet_since = self.connection.execute(ends).scalar_one()
        self.touch(draft)

    # Writing.

    def write(self) -> None:
        """Write what was changed. Each case that was takes its next revision."""
        rows: list[Values] = []
        opened = self._oldest_open([self._cases[i] for i in self._touched if self._cases[i].state == WAITING])
        quiet = [i for i in self._touched if self._cases[i].quiet_since is not None]
        held = unanswered(self.connection, quiet) if quiet else {}
        for case_id in sorted(self._touched):
            draft = self._cases[case_id]
            draft.revision += 1
            draft.changed_at = self.now_us
            # docs/protocol.md K4: no rule resolves it before whoever is accused in it has an answer.
            draft.due_at = None if case_id in held else _due_at(draft, opened.get(case_id))
            rows.append({"key": case_id, **{name: getattr(draft, name) for name in _COLUMNS if name != "case_id"}})
        if rows:
            self.connection.execute(_UPDATE, rows)
        if self._entries:
            self.connection.execute(insert(CASE_ENTRIES), self._entries)
        self._touched.clear()
        self._entries.clear()

    def _oldest_open(self, waiting: Sequence[Draft]) -> Mapping[int, int]:
        found: dict[int, int] = {}
        for some in chunks([draft.case_id for draft in waiting]):
            query = (
                select(CASE_FINDINGS.c.case_id, func.min(CASE_FINDINGS.c.opened_at))
                .where(CASE_FINDINGS.c.case_id.in_(some), CASE_FINDINGS.c.ended_at.is_(None))
                .group_by(CASE_FINDINGS.c.case_id)
            )
            found.update((case_id, at_us) for case_id, at_us in self.connection.execute(query))
        return found


def _due_at(draft: Draft, oldest_open: int | None) -> int | None:
    """Return when a rule has to look at a case again."""
    if draft.state == WAITING and oldest_open is not None:
        return oldest_open + DEBOUNCE_US
    is_over = draft.resolved_at is None and draft.quiet_since is not None and draft.severity <= Severity.WARNING
    return draft.quiet_since + RETURN_US if is_over and draft.quiet_since is not None else None


def group_by_case(found: Iterable[CaseFinding]) -> Mapping[int, list[CaseFinding]]:
    """Sort findings by the case that they belong to; others are left out."""
    by_case: defaultdict[int, list[CaseFinding]] = defaultdict(list)
    for each in found:
        if each.case_id is not None:
            by_case[each.case_id].append(each)
    return by_case

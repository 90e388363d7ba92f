"""What a set of writes would do, checked whole before anything is written (docs/protocol.md §14). Reads only.

Each record is checked against the set as it would stand: what the set writes, and below it what is on record.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, select

from server.records.names import license_name, parse_name, record_name, site_name
from server.records.rules import RuleError, check_region, check_transition, licenses_of, needs_two_people
from server.records.summary import summary_line, summary_of
from server.records.values import (
    ByBoard,
    ByPdi,
    DeploymentRecord,
    LicenseRecord,
    MaintenanceWindow,
    Party,
    PartyRole,
    Record,
    RecordKind,
    RecordWrite,
    Shipment,
    Site,
)
from server.store.errors import HitsOpenError, RecordConflictError, RecordNotFoundError, StaleRevisionError
from server.store.record_lists import names_party
from server.store.record_rows import load_records, select_from, stored_of
from server.store.record_types import StoredRecord
from server.store.schema import (
    DEPLOYMENTS,
    LICENSES,
    SCREENING_HITS,
    SELECTORS,
    SHIPMENTS,
    SITES,
    WINDOWS,
)
from server.store.screening import blocked_parties, list_in_force
from verifier.license import LicenseState
from verifier.place.landmarks import party_name

CLOCKS_APART = timedelta(minutes=1)
"""A window that starts now may start this much earlier by the clock of who writes it."""


class Step(NamedTuple):
    """One record and what becomes of it.

    Attributes:
        name: Its resource name.
        before: As it stands; None: it does not.
        after: As it shall be; None: it ends.
    """

    name: str
    before: StoredRecord | None
    after: Record | None

    @property
    def was(self) -> Record | None:
        """The record as it stands."""
        return None if self.before is None else self.before.record

    @property
    def changes(self) -> bool:
        """Whether it becomes another one."""
        return self.was is None or self.after is None or _bare(self.was) != _bare(self.after)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a set of writes would do.

    Attributes:
        steps: Every write, in the order given.
        two_people: It takes a second person (docs/protocol.md RC4).
        licensees: Whom it concerns, sorted.
    """

    steps: tuple[Step, ...]
    two_people: bool
    licensees: tuple[str, ...]

    @property
    def changes(self) -> tuple[Step, ...]:
        """The writes that change something."""
        return tuple(step for step in self.steps if step.changes)

    @property
    def summary(self) -> tuple[str, ...]:
        """What it does, for people."""
        return summary_of([summary_line(step.name, step.was, step.after) for step in self.changes])


def plan_writes(
    connection: Connection, writes: Sequence[RecordWrite], now: datetime, *, announced: bool = False
) -> Plan:
    """Check a set of writes.

    Args:
        connection: In the caller's transaction.
        writes: No name twice.
        now: When.
        announced: It was proposed, and so told, before: quiet time that has passed since then is not too late.

    Raises:
        StaleRevisionError: A write is based on another revision than the one that stands.
        RecordNotFoundError: What ends is not on record.
        RecordConflictError: The records would contradict each other.
        HitsOpenError: docs/protocol.md RC5.
    """
    _check_names(writes)
    standing = load_records(connection, [write.name for write in writes])
    for write in writes:
        stands = standing[write.name].revision if write.name in standing else 0
        if write.basis is not None and write.basis != stands:  # docs/protocol.md RC2
            raise StaleRevisionError(write.name, stands)
        if write.record is None and not stands:
            raise RecordNotFoundError(write.name)
    steps = tuple(Step(write.name, standing.get(write.name), write.record) for write in writes)
    checker = _Checker(connection, steps, now, announced=announced)
    for step in steps:
        try:
            checker.check(step)
        except RuleError as error:
            raise RecordConflictError(error.field, f"{step.name}: {error}") from error
    return Plan(steps, checker.two_people(), checker.licensees())


def late_windows(connection: Connection, writes: Sequence[RecordWrite], now: datetime) -> list[RecordWrite]:
    """Return the writes of a change that is approved now, with windows that have begun ending no earlier than now.

    docs/protocol.md RC7: what was quiet until its approval counts against nobody afterwards.
    """
    names = [write.name for write in writes if parse_name(write.name).kind is RecordKind.WINDOW]
    standing = load_records(connection, names)
    late: list[RecordWrite] = []
    for write in writes:
        stands = standing[write.name].record if write.name in standing else None
        if isinstance(stands, MaintenanceWindow) and stands.starts_at < now:
            earliest = min(now, stands.ends_at)
            after = write.record if isinstance(write.record, MaintenanceWindow) else replace(stands, ends_at=earliest)
            late.append(replace(write, record=replace(after, ends_at=max(after.ends_at, earliest))))
        else:
            late.append(write)
    return late


def _check_names(writes: Iterable[RecordWrite]) -> None:
    seen: set[str] = set()
    for write in writes:
        if write.name in seen:
            raise RecordConflictError("name", f"{write.name} comes twice")
        seen.add(write.name)
        if write.record is not None and record_name(write.record) != write.name:
            raise RecordConflictError("name", f"{write.name} is not the name of {record_name(write.record)}")


class _Checker:
    """Looks at the set as it would stand."""

    def __init__(self, connection: Connection, steps: Sequence[Step], now: datetime, *, announced: bool) -> None:
        self._connection = connection
        self._steps = steps
        self._now = now
        self._announced = announced
        self._after = {step.name: step.after for step in steps}
        self._written = {step.name for step in steps if step.changes}
        named = {name for step in steps for name in _named_by(step.was, step.after)}
        self._standing = load_records(connection, named)

    def _will_be(self, name: str) -> Record | None:
        if name in self._after:
            return self._after[name]
        stored = self._standing.get(name)
        return None if stored is None else stored.record

    def two_people(self) -> bool:
        """Whether any write takes a second person."""
        return any(needs_two_people(step.was, step.after, self._in_force) for step in self._steps if step.changes)

    def _in_force(self, number: str) -> bool:
        stored = self._standing.get(license_name(number))
        held = None if stored is None else stored.record
        return isinstance(held, LicenseRecord) and held.terms.state is not LicenseState.DRAFT

    def licensees(self) -> tuple[str, ...]:
        """Whom the writes concern, as it stands and as it would."""
        found: set[str] = set()
        for step in self._steps:
            for number in licenses_of(step.was, step.after):
                name = license_name(number)
                stored = self._standing.get(name)
                for held in (self._after.get(name), None if stored is None else stored.record):
                    if isinstance(held, LicenseRecord):
                        found.add(held.terms.licensee)
        return tuple(sorted(found))

    def check(self, step: Step) -> None:
        """Check one write; one that changes nothing too, since what it names may."""
        match step.after:
            case None:
                self._check_end(step)
            case LicenseRecord():
                self._check_license(step, step.after)
            case Site():
                self._check_site(step.after)
            case DeploymentRecord():
                self._check_deployment(step, step.after)
            case Shipment():
                self._check_shipment(step, step.after)
            case MaintenanceWindow():
                self._check_window(step, step.after)
            case Party():
                pass  # names nothing

    def _need(self, name: str, field: str) -> Record:
        record = self._will_be(name)
        if record is None:
            raise RecordConflictError(field, f"{name} is not on record")
        return record

    def _check_site(self, after: Site) -> None:
        held = self._need(license_name(after.license_number), "name")
        if isinstance(held, LicenseRecord):
            check_region(held.terms.presence, after.region)

    def _check_license(self, step: Step, after: LicenseRecord) -> None:
        before = step.was if isinstance(step.was, LicenseRecord) else None
        check_transition(None if before is None else before.terms.state, after.terms.state)
        if before is not None and before.terms.presence is not after.terms.presence:
            for row in self._connection.execute(select_from(SITES).where(SITES.c.license_number == after.terms.number)):
                site = stored_of(SITES, row)
                if isinstance(site.record, Site) and site.name not in self._after:
                    check_region(after.terms.presence, site.record.region)
        for party_id, _ in after.parties:
            self._need(f"parties/{party_id}", "license.parties")
        if after.terms.state is not LicenseState.ACTIVE:
            return
        comes = {party_id for party_id, _ in after.parties}
        if before is not None and before.terms.state is LicenseState.ACTIVE:
            comes -= {party_id for party_id, _ in before.parties}
        fresh = sorted(party_id for party_id in comes if f"parties/{party_id}" in self._written)
        if fresh:
            # Screening looks at what stands: a party of the same set would come into force unseen (RC5).
            raise RecordConflictError(
                "license.parties", f"write {', '.join(fresh)} before the license comes into force, to be screened"
            )
        hits = blocked_parties(self._connection, sorted(comes))
        if hits:
            raise HitsOpenError(hits)
        if before is not None and (before.terms.state, before.terms.licensee, before.parties) != (
            LicenseState.ACTIVE,
            after.terms.licensee,
            after.parties,
        ):
            self._check_licensee(after)

    def _check_licensee(self, after: LicenseRecord) -> None:
        """Refuse a licensee that nobody screened, since no party is called so (docs/protocol.md RC5)."""
        if list_in_force(self._connection) is None:
            return
        parties = [
            self._will_be(f"parties/{party_id}") for party_id, role in after.parties if role is PartyRole.LICENSEE
        ]
        names = {party_name(n) for p in parties if isinstance(p, Party) for n in (p.title, *p.aliases)}
        if party_name(after.terms.licensee) not in names:
            raise RecordConflictError(
                "license.parties",
                f"a screening list is in force, and no party that is its licensee is called {after.terms.licensee}",
            )

    def _check_deployment(self, step: Step, after: DeploymentRecord) -> None:
        self._need(site_name(after.license_number, after.site_id), "deployment.site")
        if after.shipment_id:
            shipment = self._need(f"shipments/{after.shipment_id}", "deployment.shipment")
            if isinstance(shipment, Shipment) and _place(shipment) != _place(after):
                raise RecordConflictError("deployment.shipment", f"{step.name}: the shipment goes to another site")
        if after.swap is not None and not isinstance(after.selector, ByPdi):
            raise RecordConflictError("deployment.swap", f"{step.name}: a swap is of a device by PDI alone")
        devices, adopted = device_count(after), 0 if step.before is None else step.before.adopted
        if devices < 1 or devices < adopted:
            raise RecordConflictError("deployment.devices", f"{step.name}: {adopted} devices have reported by it")

    def _check_shipment(self, step: Step, after: Shipment) -> None:
        self._need(site_name(after.license_number, after.site_id), "shipment.site")
        if isinstance(step.was, Shipment) and _place(step.was) != _place(after):
            self._refuse_users(_users_of(step.name), "shipment.site", f"{step.name} cannot go elsewhere")

    def _check_window(self, step: Step, after: MaintenanceWindow) -> None:
        held = license_name(after.license_number)
        self._need(site_name(after.license_number, after.site_id) if after.site_id else held, "window.scope")
        before = step.was if isinstance(step.was, MaintenanceWindow) else None
        begins = before is None or before.starts_at != after.starts_at
        earliest = self._now - CLOCKS_APART
        if begins and not self._announced and after.starts_at < earliest:
            raise RecordConflictError("window.starts_at", f"{step.name}: a window cannot start in the past")
        if before is None:
            return
        # docs/protocol.md RC7: time that was to be quiet when it passed must not count against anybody afterwards, and
        # time that counted must not become quiet; approved late, a change must not do so either.
        if before.starts_at < self._now and (begins or _scope(before) != _scope(after)):
            field = "window.starts_at" if begins else "window.scope"
            raise RecordConflictError(field, f"{step.name} has begun; let it end earlier, and write another one")
        if after.ends_at < min(before.ends_at, earliest):
            raise RecordConflictError("window.ends_at", f"{step.name}: a window cannot end in the past")
        if not self._announced and before.ends_at < earliest and after.ends_at != before.ends_at:
            raise RecordConflictError("window.ends_at", f"{step.name} is over; write another one")

    def _check_end(self, step: Step) -> None:
        if isinstance(step.was, LicenseRecord):
            check_transition(step.was.terms.state, None)
        if isinstance(step.was, MaintenanceWindow) and step.was.starts_at < self._now:  # docs/protocol.md RC7
            raise RecordConflictError("name", f"{step.name} has begun; let it end earlier instead")
        if isinstance(step.was, Party):
            query = select(SCREENING_HITS.c.entry_id).where(SCREENING_HITS.c.party_id == step.was.party_id)
            if self._connection.execute(query.limit(1)).first() is not None:
                raise RecordConflictError("name", f"{step.name} has screening hits, which stay on record")
        self._refuse_users(_users_of(step.name), "name", f"{step.name} cannot end")

    def _refuse_users(self, users: Iterable[tuple[Table, ColumnElement[bool]]], field: str, message: str) -> None:
        """Refuse when a record that the set does not write names this one; what the set writes is checked itself."""
        for table, condition in users:
            rows = self._connection.execute(select_from(table).where(condition).limit(len(self._after) + 1))
            for row in rows:
                name = stored_of(table, row).name
                if name not in self._after:
                    raise RecordConflictError(field, f"{message}: {name} names it")


def device_count(record: DeploymentRecord) -> int:
    """How many devices a deployment allows."""
    return record.selector.devices if isinstance(record.selector, ByBoard) else 1


def _named_by(*records: Record | None) -> Iterator[str]:
    """Yield the names of the records that these name, and of their licenses."""
    for record in records:
        yield from map(license_name, licenses_of(record, None))
        match record:
            case LicenseRecord(parties=parties):
                yield from (f"parties/{party_id}" for party_id, _ in parties)
            case DeploymentRecord(shipment_id=shipment_id) if shipment_id:
                yield f"shipments/{shipment_id}"
        if isinstance(record, DeploymentRecord | Shipment | MaintenanceWindow) and record.site_id:
            yield site_name(record.license_number, record.site_id)


def _users_of(name: str) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    """Yield where records may stand that name this one."""
    kind, key = parse_name(name)
    match kind:
        case RecordKind.PARTY:
            yield LICENSES, names_party(key[0])
        case RecordKind.LICENSE:
            for table in (SITES, WINDOWS):
                yield table, table.c.license_number == key[0]
        case RecordKind.SITE:
            for table in (DEPLOYMENTS, SELECTORS, SHIPMENTS, WINDOWS):
                yield table, (table.c.license_number == key[0]) & (table.c.site_id == key[1])
        case RecordKind.SHIPMENT:
            for table in (DEPLOYMENTS, SELECTORS):
                yield table, table.c.shipment_id == key[0]


def _place(record: DeploymentRecord | Shipment) -> tuple[str, str]:
    return record.license_number, record.site_id


def _scope(window: MaintenanceWindow) -> tuple[str, str]:
    return window.license_number, window.site_id


def _bare(record: Record) -> Record:
    """Return what a record says: a license's revision is the store's."""
    if isinstance(record, LicenseRecord):
        return replace(record, terms=replace(record.terms, revision=0))
    return record

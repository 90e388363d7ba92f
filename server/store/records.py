"""What is on record: read as it stands or stood, and written in sets, whole or not at all (docs/protocol.md §14)."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select

from server.records.names import site_name
from server.records.values import (
    ByPdi,
    DeploymentRecord,
    LicenseRecord,
    MaintenanceWindow,
    Party,
    Record,
    Shipment,
    Site,
)
from server.store import effects
from server.store.record_checks import Plan, Step
from server.store.record_lists import names_party
from server.store.record_rows import delete_rows, load_records, write_rows
from server.store.record_types import StoredRecord
from server.store.revisions import Authorship, append_revisions, last_revisions, load_as_of
from server.store.rows import Values
from server.store.schema import LICENSES, SITES
from server.times import micros
from verifier.license import LicenseState


def get_record(
    connection: Connection, name: str, as_of: datetime | None, jurisdiction: str | None
) -> StoredRecord | None:
    """Return a record as it stands or stood.

    None when it does not, or when a jurisdiction is given whose officers may not see it: what they may see is told by
    what stands now, and of what stood by that besides (docs/protocol.md RC11).
    """
    stands = load_records(connection, [name]).get(name)
    found = stands if as_of is None else load_as_of(connection, name, as_of)
    if found is None or jurisdiction is None:
        return found
    if stands is None or not _is_seen(connection, stands.record, jurisdiction):
        return None
    if as_of is not None and not _was_at(connection, found.record, jurisdiction, as_of):
        return None
    return found


def _is_seen(connection: Connection, record: Record, jurisdiction: str) -> bool:
    """Whether what stands belongs to a site of this jurisdiction."""
    query = select(SITES.c.site_id).where(SITES.c.jurisdiction == jurisdiction)
    match record:
        case Party(party_id):
            query = query.join(LICENSES, LICENSES.c.number == SITES.c.license_number).where(names_party(party_id))
        case LicenseRecord(terms):
            query = query.where(SITES.c.license_number == terms.number)
        case Site() | DeploymentRecord() | Shipment() | MaintenanceWindow():
            query = query.where(SITES.c.license_number == record.license_number)
            if record.site_id:
                query = query.where(SITES.c.site_id == record.site_id)
    return connection.execute(query.limit(1)).first() is not None


def _was_at(connection: Connection, record: Record, jurisdiction: str, as_of: datetime) -> bool:
    """Whether a record that belongs to one site belonged to one of this jurisdiction then."""
    if isinstance(record, DeploymentRecord | Shipment | MaintenanceWindow) and record.site_id:
        stood = load_as_of(connection, site_name(record.license_number, record.site_id), as_of)
        return stood is not None and isinstance(stood.record, Site) and stood.record.jurisdiction == jurisdiction
    return not isinstance(record, Site) or record.jurisdiction == jurisdiction


def would_stand(plan: Plan, revisions: dict[str, int], now: datetime) -> tuple[StoredRecord, ...]:
    """Return the records of a plan as they stand once it is applied, in its order, without those that end.

    Args:
        plan: What is written.
        revisions: The revision that each changed record gets.
        now: When.
    """
    found: list[StoredRecord] = []
    for step in plan.steps:
        if not step.changes and step.before is not None:
            found.append(step.before)
        elif step.after is not None:
            revision, record = revisions[step.name], step.after
            if isinstance(record, LicenseRecord):
                record = replace(record, terms=replace(record.terms, revision=revision))
            adopted = 0 if step.before is None else step.before.adopted
            found.append(StoredRecord(step.name, record, revision, now, adopted))
    return tuple(found)


def next_revisions(connection: Connection, plan: Plan) -> dict[str, int]:
    """Return the revision that each record gets which a plan changes: counted on from one that had ended."""
    names = [step.name for step in plan.changes]
    last = last_revisions(connection, names)
    return {name: last.get(name, 0) + 1 for name in names}


def apply_plan(connection: Connection, plan: Plan, author: Authorship) -> tuple[StoredRecord, ...]:
    """Write a plan in the caller's transaction, with all that follows from it for devices.

    Returns:
        The records as they stand now.
    """
    changed = plan.changes
    revisions = next_revisions(connection, plan)

    def revised(step: Step) -> Values:
        return {
            "revision": revisions[step.name],
            "revised_at": micros(author.now),
            "record_number": author.number,
        }

    for new in (True, False):
        rows = [(step.after, revised(step)) for step in changed if step.after and (step.before is None) is new]
        write_rows(connection, rows, new=new)
    delete_rows(connection, [step.name for step in changed if step.after is None])
    append_revisions(connection, [(step.name, revisions[step.name], step.after) for step in changed], author)
    stand = would_stand(plan, revisions, author.now)
    _take_effect(connection, changed, {stored.name: stored.record for stored in stand}, author.now)
    return stand


def _take_effect(connection: Connection, changed: Sequence[Step], stand: dict[str, Record], now: datetime) -> None:
    """Let devices follow what is on record: licenses first, then sites, then deployments."""
    deployed: set[str] = set()
    for step in changed:
        before, after = step.was, stand.get(step.name)
        if isinstance(after, LicenseRecord):
            effects.license_changed(connection, before if isinstance(before, LicenseRecord) else None, after, now)
            if isinstance(before, LicenseRecord) and before.terms.state is LicenseState.DRAFT is not after.terms.state:
                deployed.add(after.terms.number)
    for step in changed:
        if isinstance(step.was, Site) and isinstance(step.after, Site):
            effects.site_changed(connection, step.after.license_number, step.after.site_id)
    moved = [pair for step in changed if (pair := _deployment_pair(step)) is not None]
    # A license that comes into force has deployed all that stand under it by now.
    moved = [(was, held) for was, held in moved if held is None or held.license_number not in deployed]
    if moved:
        effects.deployments_changed(connection, moved, now)


def _deployment_pair(step: Step) -> tuple[DeploymentRecord | None, DeploymentRecord | None] | None:
    """Return what a deployment of a device by PDI was and is; None for any other record."""
    before = step.was if isinstance(step.was, DeploymentRecord) else None
    after = step.after if isinstance(step.after, DeploymentRecord) else None
    either = after or before
    return (before, after) if either is not None and isinstance(either.selector, ByPdi) else None

"""Which revisions of records were in force for a device, and who approved them (docs/protocol.md CB3, RC6)."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from sqlalchemy import Connection, func, select

from server.records.names import deployment_name, license_name, site_name
from server.records.values import ByPdi, DeploymentRecord, LicenseRecord, Record, Site
from server.store.asof import deployments_as_of, first_number_since
from server.store.bundle_types import Gathered
from server.store.record_types import ChangeKind
from server.store.revisions import read_record
from server.store.rows import chunks
from server.store.schema import CHANGES, REVISIONS, WINDOWS
from verifier.units import Pdi

OF_OTHERS = "belongs to another jurisdiction"
"""Why rows are withheld (docs/protocol.md CB5)."""


Place: TypeAlias = tuple[str, str]
"""A site: the license's number and its id."""


@dataclass(frozen=True, slots=True)
class Stood:
    """A revision that was in force.

    Attributes:
        name: Of the record.
        revision: Its number.
        change_id: The change that made it, if two people did.
        record: As it stood; None: it had ended.
    """

    name: str
    revision: int
    change_id: int | None
    record: Record | None


@dataclass(frozen=True, slots=True)
class DeviceRecords:
    """What was on record of one device.

    Attributes:
        revisions: Its deployment, and what that names: license, site, shipment, and the license's parties.
        jurisdiction: Of the site; empty: of the home authority alone, or there was no site.
        place: License number and id of the site; None: there was none.
    """

    revisions: tuple[Stood, ...]
    jurisdiction: str = ""
    place: Place | None = None


def number_at(connection: Connection, at_us: int) -> int:
    """Return the number of the records at a time: that of the newest write until then."""
    query = select(REVISIONS.c.record_number).where(REVISIONS.c.revised_at <= at_us)
    found = connection.execute(query.order_by(REVISIONS.c.revised_at.desc()).limit(1)).scalar_one_or_none()
    return 0 if found is None else int(found)


def records_at(connection: Connection, pdis: Collection[Pdi], number: int) -> dict[Pdi, DeviceRecords]:
    """Return what was on record of each device when the number of the records was this.

    Of a device that had no deployment in force then also the first since, under which it is appraised
    (docs/protocol.md RC6).
    """
    found = _records_at(connection, pdis, number)
    for pdi in found.keys() - deployments_as_of(connection, pdis, number).keys():
        since = first_number_since(connection, pdi, number)
        if since is not None:
            later = _records_at(connection, [pdi], since)[pdi]
            found[pdi] = replace(later, revisions=(*found[pdi].revisions, *later.revisions))
    return found


def add_records(gathered: Gathered, found: Mapping[Pdi, DeviceRecords], jurisdiction: str | None) -> dict[int, bool]:
    """Take the revisions of these devices; return the changes that made them, and whether one of them is shown.

    Args:
        gathered: Takes them.
        found: What was on record of each device.
        jurisdiction: The reader's; None: all is shown.
    """
    changes: dict[int, bool] = {}
    for records in found.values():
        theirs = jurisdiction is None or records.jurisdiction == jurisdiction
        for stood in records.revisions:
            shown = theirs and _is_of(stood, jurisdiction)
            gathered.add(REVISIONS, stood.name, stood.revision, withheld="" if shown else OF_OTHERS)
            if stood.change_id is not None:
                changes[stood.change_id] = shown or changes.get(stood.change_id, False)
    return changes


def add_windows(
    connection: Connection, gathered: Gathered, places: Mapping[Place, bool], since_us: int, limit: int
) -> dict[int, bool]:
    """Take the maintenance windows of sites that were not over at a time, with every revision; return their changes.

    Args:
        connection: In a read transaction.
        gathered: Takes them.
        places: The sites, and whether they are shown.
        since_us: The time, microseconds.
        limit: How many windows are taken, the newest.
    """
    numbers = sorted({number for number, _ in places})
    columns = (WINDOWS.c.window_id, WINDOWS.c.license_number, WINDOWS.c.site_id, WINDOWS.c.starts_at)
    found: list[tuple[int, str, bool]] = []
    for some in chunks(numbers):
        query = select(*columns).where(WINDOWS.c.license_number.in_(some), WINDOWS.c.ends_at >= since_us)
        for window_id, number, site_id, starts_at in connection.execute(query):
            # One without a site is of all sites of its license.
            of = [shown for place, shown in places.items() if place[0] == number and site_id in {"", place[1]}]
            if of:
                found.append((-starts_at, window_id, any(of)))
    found.sort()
    changes: dict[int, bool] = {}
    for _, window_id, shown in found[:limit]:
        name = f"maintenanceWindows/{window_id}"
        revisions = select(REVISIONS.c.revision, REVISIONS.c.change_id).where(REVISIONS.c.name == name)
        for revision, change_id in connection.execute(revisions):
            gathered.add(REVISIONS, name, revision, withheld="" if shown else OF_OTHERS)
            if change_id is not None:
                changes[change_id] = shown or changes.get(change_id, False)
    gathered.leave_out("maintenance windows", len(found) - limit, "only the newest are given")
    return changes


def add_changes(
    connection: Connection, gathered: Gathered, changes: Mapping[int, bool], jurisdiction: str | None
) -> None:
    """Take changes; a reader of one jurisdiction sees those that write nothing but what the bundle shows."""
    shown = {row.key.key for row in gathered.rows.values() if row.key.table == REVISIONS.name and not row.withheld}
    for some in chunks(sorted(changes)):
        query = select(CHANGES.c.change_id, CHANGES.c.kind, CHANGES.c.payload).where(CHANGES.c.change_id.in_(some))
        for change_id, kind, payload in connection.execute(query):
            seen = changes[change_id] and (jurisdiction is None or _writes_only(kind, payload, shown))
            gathered.add(CHANGES, change_id, withheld="" if seen else OF_OTHERS)


def _writes_only(kind: int, payload: str, shown: Collection[object]) -> bool:
    match ChangeKind(kind):
        case ChangeKind.RECORDS:
            # By revision: what a shown record became later may be another jurisdiction's.
            return all((write["name"], write["basis"] + 1) in shown for write in json.loads(payload)["writes"])
        case ChangeKind.LANDMARKS:
            return True  # landmarks are of no jurisdiction
        case _:
            return False  # a file of anybody's deployments, or an order to ask devices


def _is_of(stood: Stood, jurisdiction: str | None) -> bool:
    """Whether a revision that a device of theirs names is theirs; licenses and parties are seen with it (RC11)."""
    # A shipment is of the site of the deployments that name it.
    return jurisdiction is None or not isinstance(stood.record, Site) or stood.record.jurisdiction == jurisdiction


def _records_at(connection: Connection, pdis: Iterable[Pdi], number: int) -> dict[Pdi, DeviceRecords]:
    names = {pdi: deployment_name(ByPdi(pdi)) for pdi in pdis}
    deployed = _stood(connection, names.values(), number)
    named = _stood(connection, {name for each in deployed.values() for name in _named(each)}, number)
    parties = _stood(connection, {name for each in named.values() for name in _parties(each)}, number)
    found: dict[Pdi, DeviceRecords] = {}
    for pdi, name in names.items():
        stood = deployed.get(name)
        found[pdi] = DeviceRecords(() if stood is None else (stood,))
        if stood is not None and isinstance(stood.record, DeploymentRecord):
            number_and_site = stood.record.license_number, stood.record.site_id
            things = [named[each] for each in _named(stood) if each in named]
            people = [parties[each] for thing in things for each in _parties(thing) if each in parties]
            site = named.get(site_name(*number_and_site))
            held = site.record if site is not None else None
            jurisdiction = held.jurisdiction if isinstance(held, Site) else ""
            found[pdi] = DeviceRecords((stood, *things, *people), jurisdiction, number_and_site)
    return found


def _named(deployed: Stood) -> list[str]:
    record = deployed.record
    if not isinstance(record, DeploymentRecord):
        return []
    names = [license_name(record.license_number), site_name(record.license_number, record.site_id)]
    return [*names, f"shipments/{record.shipment_id}"] if record.shipment_id else names


def _parties(held: Stood) -> list[str]:
    record = held.record
    return [f"parties/{party_id}" for party_id, _ in record.parties] if isinstance(record, LicenseRecord) else []


def _stood(connection: Connection, names: Iterable[str], number: int) -> dict[str, Stood]:
    """Return the newest revision of each record as of a number, ends included; what was never on record is missing."""
    found: dict[str, Stood] = {}
    for some in chunks(sorted(names)):
        latest = (
            select(REVISIONS.c.name, func.max(REVISIONS.c.revision).label("revision"))
            .where(REVISIONS.c.name.in_(some), REVISIONS.c.record_number <= number)
            .group_by(REVISIONS.c.name)
            .subquery()
        )
        same = (latest.c.name == REVISIONS.c.name) & (latest.c.revision == REVISIONS.c.revision)
        columns = (REVISIONS.c.name, REVISIONS.c.revision, REVISIONS.c.change_id, REVISIONS.c.record)
        for name, revision, change_id, text in connection.execute(select(*columns).join(latest, same)):
            record = None if text is None else read_record(name, revision, text)
            found[name] = Stood(name, revision, change_id, record)
    return found

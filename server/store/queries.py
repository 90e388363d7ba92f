"""What is read: chains, regions, and devices as officers see them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, and_, exists, func, or_, select

from server.store.counters import read_counter
from server.store.framing import unpack
from server.store.rows import IN_FORCE, SUPPRESSED, SUPPRESSING, chunks, device_of, finding_of
from server.store.schema import CHAINS, DEPLOYMENTS, DEVICES, FINDINGS, LICENSES, SELECTORS, SITES
from server.store.types import Changes, DeviceFilter, DevicePage, DeviceRecord, OpenFinding
from verifier.errors import Reason
from verifier.license import Presence
from verifier.place.region_json import region_from_json
from verifier.place.regions import Region
from verifier.units import ChainId, Pdi

# A deployment under a draft is none (docs/protocol.md RC3): its license and site are not joined.
_JOINED = (
    DEVICES.outerjoin(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == DEVICES.c.pdi)
    .outerjoin(LICENSES, and_(LICENSES.c.number == DEPLOYMENTS.c.license_number, IN_FORCE))
    .outerjoin(SITES, and_(SITES.c.license_number == LICENSES.c.number, SITES.c.site_id == DEPLOYMENTS.c.site_id))
)
_DEVICE = select(
    DEVICES,
    LICENSES.c.number.label("license_number"),
    LICENSES.c.licensee,
    SITES.c.site_id,
    SITES.c.title.label("site_title"),
    SITES.c.jurisdiction,
    SITES.c.region,
).select_from(_JOINED)


def load_chains(connection: Connection, chain_ids: Collection[ChainId]) -> dict[ChainId, tuple[bytes, ...]]:
    """Return the chains that are kept, DER certificates leaf first."""
    found: dict[ChainId, tuple[bytes, ...]] = {}
    for some in chunks(chain_ids):
        for row in connection.execute(select(CHAINS).where(CHAINS.c.chain_id.in_(some))):
            found[ChainId(row.chain_id)] = unpack(row.certificates)
    return found


def licensed_regions(connection: Connection) -> list[tuple[Presence, Region]]:
    """Return what is to be proven, and of which region, each once, over all deployments in force."""
    used = [
        exists().where(table.c.license_number == SITES.c.license_number, table.c.site_id == SITES.c.site_id)
        for table in (DEPLOYMENTS, SELECTORS)
    ]
    query = select(LICENSES.c.presence, SITES.c.region).select_from(SITES.join(LICENSES)).where(IN_FORCE, or_(*used))
    rows = connection.execute(query.distinct().order_by(LICENSES.c.presence, SITES.c.region))
    return [(Presence(row.presence), region_from_json(row.region)) for row in rows]


def change_number(connection: Connection) -> int:
    """Return the number of the newest change of any device; 0 before the first."""
    return read_counter(connection, "changes")


def get_device(connection: Connection, pdi: Pdi) -> DeviceRecord | None:
    """Return one device, None when it is neither deployed nor seen."""
    rows = connection.execute(_DEVICE.where(DEVICES.c.pdi == pdi)).all()
    return _devices(connection, rows)[0] if rows else None


def list_devices(connection: Connection, chosen: DeviceFilter, after: Pdi | None, limit: int) -> DevicePage:
    """Return up to `limit` matching devices behind `after`, in the order of PDIs."""
    conditions = _conditions(chosen)
    total = connection.execute(select(func.count()).select_from(_JOINED).where(*conditions)).scalar_one()
    query = _DEVICE.where(*conditions).order_by(DEVICES.c.pdi).limit(limit + 1)
    if after is not None:
        query = query.where(DEVICES.c.pdi > after)
    rows = connection.execute(query).all()
    devices = _devices(connection, rows[:limit])
    return DevicePage(devices, more=len(rows) > limit, total=total, change_number=change_number(connection))


def changes_after(connection: Connection, number: int, limit: int) -> Changes:
    """Return up to `limit` devices that changed after `number`, oldest change first."""
    newest = change_number(connection)
    query = _DEVICE.where(DEVICES.c.change_number > number).order_by(DEVICES.c.change_number).limit(limit + 1)
    rows = connection.execute(query).all()
    devices = _devices(connection, rows[:limit])
    more = len(rows) > limit
    return Changes(devices, devices[-1].change_number if more else max(newest, number), more)


def open_findings(connection: Connection, pdis: Iterable[bytes]) -> dict[bytes, list[OpenFinding]]:
    """Return what stands open, by device."""
    found: dict[bytes, list[OpenFinding]] = defaultdict(list)
    for some in chunks(pdis):
        query = select(FINDINGS).where(FINDINGS.c.pdi.in_(some), FINDINGS.c.closed_at.is_(None))
        for row in connection.execute(query):
            found[row.pdi].append(finding_of(row))
    return found


def _devices(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[DeviceRecord, ...]:
    findings = open_findings(connection, [row.pdi for row in rows])
    return tuple(device_of(row, findings.get(row.pdi, ())) for row in rows)


def _conditions(chosen: DeviceFilter) -> list[ColumnElement[bool]]:
    """The same choice as `DeviceFilter.matches`, for the database."""
    conditions: list[ColumnElement[bool]] = []
    if chosen.standing is not None:
        conditions.append(DEVICES.c.standing == int(chosen.standing))
    for column, value in (
        (LICENSES.c.number, chosen.license_number),
        (LICENSES.c.licensee, chosen.licensee),
        (SITES.c.site_id, chosen.site_id),
        (SITES.c.jurisdiction, chosen.jurisdiction),
    ):
        if value is not None:
            conditions.append(_is(column, value))
    if chosen.finding is not None:
        conditions.append(is_open(chosen.finding))
        if chosen.finding in SUPPRESSED:
            conditions.append(~is_any_open(SUPPRESSING))
    if chosen.host_id is not None:
        conditions.append(DEVICES.c.host_id == chosen.host_id)
    if chosen.kind is not None:
        conditions.append(DEVICES.c.kind == int(chosen.kind))
    return conditions


def _is(column: Column[Any], value: str) -> ColumnElement[bool]:
    # The empty value chooses the devices that have none, as the record shows them.
    return column == value if value else func.coalesce(column, "") == ""


def is_open(reason: Reason) -> ColumnElement[bool]:
    """The device of the enclosing query has this finding open."""
    return is_any_open([reason])


def is_any_open(reasons: Iterable[Reason]) -> ColumnElement[bool]:
    """The device of the enclosing query has one of these findings open."""
    return exists().where(
        FINDINGS.c.pdi == DEVICES.c.pdi,
        FINDINGS.c.reason.in_(sorted(map(int, reasons))),
        FINDINGS.c.closed_at.is_(None),
    )

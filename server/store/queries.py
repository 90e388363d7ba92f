"""What is read: inputs of a verification, chains, and devices as officers see them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, exists, func, select

from server.store.counters import read_counter
from server.store.framing import unpack
from server.store.regions import region_from_json
from server.store.rows import chunks, device_of, finding_of, license_of
from server.store.schema import CHAINS, DEPLOYMENTS, DEVICES, FINDINGS, LICENSES
from server.store.states import state_of
from server.store.types import Changes, DeviceFilter, DevicePage, DeviceRecord, OpenFinding
from verifier.continuity import DeviceState
from verifier.errors import Reason
from verifier.license import Deployment, Presence
from verifier.place.regions import Region
from verifier.units import ChainId, Pdi

_DEPLOYED = DEPLOYMENTS.join(LICENSES)
_JOINED = DEVICES.outerjoin(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == DEVICES.c.pdi).outerjoin(
    LICENSES, LICENSES.c.number == DEPLOYMENTS.c.license_number
)
_DEVICE = select(
    DEVICES,
    DEPLOYMENTS.c.license_number,
    DEPLOYMENTS.c.region,
    LICENSES.c.licensee,
).select_from(_JOINED)


def load_inputs(connection: Connection, pdis: Collection[Pdi]) -> tuple[dict[Pdi, Deployment], dict[Pdi, DeviceState]]:
    """Return deployments and last accepted states; a device without one is missing."""
    deployments: dict[Pdi, Deployment] = {}
    last: dict[Pdi, DeviceState] = {}
    for some in chunks(pdis):
        for row in connection.execute(
            select(DEPLOYMENTS, LICENSES).select_from(_DEPLOYED).where(DEPLOYMENTS.c.device_pdi.in_(some))
        ):
            pdi = Pdi(row.device_pdi)
            deployments[pdi] = Deployment(pdi, license_of(row), region_from_json(row.region))
        query = select(DEVICES)
        for row in connection.execute(query.where(DEVICES.c.pdi.in_(some), DEVICES.c.last_report_at.is_not(None))):
            last[Pdi(row.pdi)] = state_of(row)
    return deployments, last


def load_chains(connection: Connection, chain_ids: Collection[ChainId]) -> dict[ChainId, tuple[bytes, ...]]:
    """Return the chains that are kept, DER certificates leaf first."""
    found: dict[ChainId, tuple[bytes, ...]] = {}
    for some in chunks(chain_ids):
        for row in connection.execute(select(CHAINS).where(CHAINS.c.chain_id.in_(some))):
            found[ChainId(row.chain_id)] = unpack(row.certificates)
    return found


def licensed_regions(connection: Connection) -> list[tuple[Presence, Region]]:
    """Return what is to be proven, and of which region, each once, over all deployments on record."""
    query = select(LICENSES.c.presence, DEPLOYMENTS.c.region).select_from(_DEPLOYED)
    rows = connection.execute(query.distinct().order_by(LICENSES.c.presence, DEPLOYMENTS.c.region))
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
    if chosen.license_number is not None:
        # The empty value chooses the devices that have none, as the record shows them.
        conditions.append(func.coalesce(DEPLOYMENTS.c.license_number, "") == chosen.license_number)
    if chosen.licensee is not None:
        conditions.append(func.coalesce(LICENSES.c.licensee, "") == chosen.licensee)
    if chosen.finding is not None:
        conditions.append(is_open(chosen.finding))
        if chosen.finding is Reason.LOCATION_UNPROVEN:
            conditions.append(~is_open(Reason.SILENT))
    if chosen.host_id is not None:
        conditions.append(DEVICES.c.host_id == chosen.host_id)
    if chosen.kind is not None:
        conditions.append(DEVICES.c.kind == int(chosen.kind))
    return conditions


def is_open(reason: Reason) -> ColumnElement[bool]:
    """The device of the enclosing query has this finding open."""
    return exists().where(
        FINDINGS.c.pdi == DEVICES.c.pdi, FINDINGS.c.reason == int(reason), FINDINGS.c.closed_at.is_(None)
    )

"""Records to rows and back: which table and which columns hold a record, and the key that its name tells."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Select, Table, bindparam, delete, insert, select, tuple_, update

from server.records.codec import parties_from_json, parties_to_json, swap_from_json, swap_to_json
from server.records.names import parse_name, record_name, selector_of
from server.records.values import (
    ByBoard,
    ByKey,
    ByPdi,
    DeploymentRecord,
    LicenseRecord,
    MaintenanceWindow,
    Party,
    Record,
    RecordKind,
    Shipment,
    Site,
)
from server.store.record_types import StoredRecord
from server.store.rows import Values, chunks, license_columns, license_of, terms_values
from server.store.schema import DEPLOYMENTS, LICENSES, PARTIES, SELECTORS, SHIPMENTS, SITES, WINDOWS
from server.times import micros, moment
from verifier.place.region_json import region_from_json, region_to_json
from verifier.units import DeviceKeyId, Pdi

BY_KEY = 1
BY_BOARD = 2
"""Kinds of SELECTORS."""

TABLES: tuple[Table, ...] = (PARTIES, LICENSES, SITES, SHIPMENTS, DEPLOYMENTS, SELECTORS, WINDOWS)
"""Those that are named stand before those that name them."""

_OF_KIND = {
    RecordKind.PARTY: PARTIES,
    RecordKind.LICENSE: LICENSES,
    RecordKind.SITE: SITES,
    RecordKind.SHIPMENT: SHIPMENTS,
    RecordKind.WINDOW: WINDOWS,
}

Key = tuple[str | bytes | int, ...]
"""Values of a table's primary key, in the order of its columns."""


class Place(NamedTuple):
    """Where a record's row is."""

    table: Table
    key: Key


def place_of(name: str) -> Place:
    """Return where the record of this name is; raises `RecordNameError`."""
    kind, key = parse_name(name)
    if kind is not RecordKind.DEPLOYMENT:
        return Place(_OF_KIND[kind], key)
    match selector_of(name):
        case ByPdi(pdi):
            return Place(DEPLOYMENTS, (pdi,))
        case ByKey(key_id):
            return Place(SELECTORS, (BY_KEY, key_id))
        case ByBoard(switch, _):
            return Place(SELECTORS, (BY_BOARD, switch))


def load_records(connection: Connection, names: Iterable[str]) -> dict[str, StoredRecord]:
    """Return the records of these names that stand."""
    keys: dict[Table, list[Key]] = defaultdict(list)
    for name in names:
        place = place_of(name)
        keys[place.table].append(place.key)
    return {stored.name: stored for table, some in keys.items() for stored in load_rows(connection, table, some)}


def load_rows(connection: Connection, table: Table, keys: Iterable[Key]) -> list[StoredRecord]:
    """Return the records of one table with these keys, in no order."""
    columns = list(table.primary_key)
    found: list[StoredRecord] = []
    for some in chunks(keys):
        chosen = columns[0].in_([key[0] for key in some]) if len(columns) == 1 else tuple_(*columns).in_(some)
        found.extend(stored_of(table, row) for row in connection.execute(select_from(table).where(chosen)))
    return found


def select_from(table: Table) -> Select[Any]:
    """Return a query for all that `stored_of` reads."""
    labels = license_columns()[:2] if table is LICENSES else ()
    return select(table, *labels)


def stored_of(table: Table, row: Row[Any]) -> StoredRecord:
    """Read a record from a row that holds its table's columns."""
    record = _READ[table.name](row)
    adopted = row.adopted if table is SELECTORS else 0
    return StoredRecord(record_name(record), record, row.revision, moment(row.revised_at), adopted)


def write_rows(connection: Connection, given: Sequence[tuple[Record, Values]], *, new: bool) -> None:
    """Insert rows, or change those that stand; beside each record the columns of its revision."""
    rows: dict[Table, list[Values]] = defaultdict(list)
    for record, revised in given:
        place = place_of(record_name(record))
        values = {**_values(record), **revised}
        if new:
            key = dict(zip(place.table.primary_key.columns.keys(), place.key, strict=True))
            values |= key | dict.fromkeys(_FIRST.get(place.table.name, ()), revised["revised_at"])
            values |= {"adopted": 0} if place.table is SELECTORS else {}
        else:
            values |= {f"key_{index}": part for index, part in enumerate(place.key)}
        rows[place.table].append(values)
    for table in TABLES:
        if rows[table]:
            statement = insert(table) if new else update(table).where(*_with_key(table))
            connection.execute(statement, rows[table])


def delete_rows(connection: Connection, names: Iterable[str]) -> None:
    """Take the rows of records that end away; their revisions stay."""
    keys: dict[Table, list[Mapping[str, Any]]] = defaultdict(list)
    for name in names:
        place = place_of(name)
        keys[place.table].append({f"key_{index}": part for index, part in enumerate(place.key)})
    for table in reversed(TABLES):
        if keys[table]:
            connection.execute(delete(table).where(*_with_key(table)), keys[table])


def _with_key(table: Table) -> list[Any]:
    return [column == bindparam(f"key_{index}") for index, column in enumerate(table.primary_key)]


_FIRST = {LICENSES.name: ("tightened_at",), DEPLOYMENTS.name: ("licensed_at",)}
"""Times that begin with the row; what moves them afterwards is effects.py's business."""


def _values(record: Record) -> Values:
    """Return the columns that the record sets, the key apart."""
    match record:
        case Party(_, title, aliases, addresses, country):
            return {"title": title, "aliases": _list(aliases), "addresses": _list(addresses), "country": country}
        case LicenseRecord(terms, parties, eccn, quantity):
            named = {"eccn": eccn, "quantity": quantity, "parties": parties_to_json(parties)}
            return {**terms_values(terms), **named}
        case Site(_, _, title, region, address, jurisdiction):
            drawn = region_to_json(region)
            return {"title": title, "region": drawn, "address": address, "jurisdiction": jurisdiction}
        case DeploymentRecord(selector, number, site_id, shipment_id, swap):
            place = {"license_number": number, "site_id": site_id, "shipment_id": shipment_id or None}
            which: Values = {"devices": selector.devices if isinstance(selector, ByBoard) else 1}
            if isinstance(selector, ByPdi):
                which = {"swap": None if swap is None else swap_to_json(swap)}
            return {**place, **which}
        case Shipment(_, number, site_id, shipped_at, activation_by, reference):
            place = {"license_number": number, "site_id": site_id, "reference": reference}
            return {**place, "shipped_at": micros(shipped_at), "activation_by": micros(activation_by)}
        case MaintenanceWindow(_, number, site_id, starts_at, ends_at, reason):
            place = {"license_number": number, "site_id": site_id, "reason": reason}
            return {**place, "starts_at": micros(starts_at), "ends_at": micros(ends_at)}


def _party(row: Row[Any]) -> Party:
    return Party(row.party_id, row.title, _texts(row.aliases), _texts(row.addresses), row.country)


def _license(row: Row[Any]) -> LicenseRecord:
    return LicenseRecord(license_of(row), parties_from_json(row.parties), row.eccn, row.quantity)


def _site(row: Row[Any]) -> Site:
    region = region_from_json(row.region)
    return Site(row.license_number, row.site_id, row.title, region, row.address, row.jurisdiction)


def _deployment(row: Row[Any]) -> DeploymentRecord:
    swap = None if row.swap is None else swap_from_json(row.swap)
    selector = ByPdi(Pdi(row.device_pdi))
    return DeploymentRecord(selector, row.license_number, row.site_id, row.shipment_id or "", swap)


def _selector(row: Row[Any]) -> DeploymentRecord:
    by_key = row.kind == BY_KEY
    selector = ByKey(DeviceKeyId(row.selector)) if by_key else ByBoard(Pdi(row.selector), row.devices)
    return DeploymentRecord(selector, row.license_number, row.site_id, row.shipment_id or "")


def _shipment(row: Row[Any]) -> Shipment:
    times = moment(row.shipped_at), moment(row.activation_by)
    return Shipment(row.shipment_id, row.license_number, row.site_id, *times, row.reference)


def _window(row: Row[Any]) -> MaintenanceWindow:
    times = moment(row.starts_at), moment(row.ends_at)
    return MaintenanceWindow(row.window_id, row.license_number, row.site_id, *times, row.reason)


_READ: Mapping[str, Callable[[Row[Any]], Record]] = {
    PARTIES.name: _party,
    LICENSES.name: _license,
    SITES.name: _site,
    DEPLOYMENTS.name: _deployment,
    SELECTORS.name: _selector,
    SHIPMENTS.name: _shipment,
    WINDOWS.name: _window,
}


def _list(texts: Iterable[str]) -> str:
    return json.dumps(list(texts), separators=(",", ":"), ensure_ascii=False)


def _texts(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))

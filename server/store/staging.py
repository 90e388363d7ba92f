"""A scratch database in which the rows of one import file meet: any two can be compared, and memory stays flat.

It is SQLite's unnamed temporary database: on disk once it grows, private, and gone when it is closed.
"""

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

from server.records.sites import slug_of, title_of
from server.records.values import ByBoard, ByKey, ByPdi, LicenseRecord, Selector
from server.store.errors import StoreUnavailableError
from server.store.types import ImportRow, ImportShipment
from server.times import MICROSECOND, micros, moment
from verifier.license import License, LicenseState, Presence
from verifier.place.answers import Assurance
from verifier.place.region_json import region_from_json, region_to_json
from verifier.units import DeviceKeyId, Pdi

_SCHEMA = """
CREATE TABLE licenses (
  number TEXT PRIMARY KEY, line INTEGER, licensee TEXT, valid_from INTEGER, valid_until INTEGER, presence INTEGER,
  cadence INTEGER, grace INTEGER, tolerated_domains INTEGER, assurance INTEGER, surprises_per_day INTEGER
) WITHOUT ROWID;
CREATE TABLE extras (
  number TEXT, name TEXT, line INTEGER, value, PRIMARY KEY (number, name)
) WITHOUT ROWID;
CREATE TABLE sites (
  license TEXT, site TEXT, line INTEGER, title TEXT, region TEXT, jurisdiction TEXT, PRIMARY KEY (license, site)
) WITHOUT ROWID;
CREATE TABLE shipments (
  shipment TEXT PRIMARY KEY, line INTEGER, place TEXT, shipped_at INTEGER, activation_by INTEGER
) WITHOUT ROWID;
CREATE TABLE deployments (
  kind INTEGER, selector BLOB, line INTEGER, license TEXT, site TEXT, shipment TEXT, devices INTEGER,
  PRIMARY KEY (kind, selector)
) WITHOUT ROWID;
"""

ROWS = 1_000
"""Rows that are fetched at once."""

HELD = 10_000
"""Licenses, regions and names that are held as objects at once; more are made again when they come again."""

_TERMS = (
    "licensee",
    "valid_from",
    "valid_until",
    "presence",
    "cadence",
    "grace",
    "tolerated_domains",
    "assurance",
    "surprises_per_day",
)
"""What all rows of one license must agree in, in the order of the table's columns."""

_ROWS = """
SELECT kind, selector, devices, title, region, jurisdiction, shipment, shipped_at, activation_by,
  licenses.number, licensee, valid_from, valid_until, presence, cadence, grace, tolerated_domains, assurance,
  surprises_per_day, eccn.value, quantity.value
FROM deployments
JOIN licenses ON licenses.number = deployments.license
JOIN sites ON sites.license = deployments.license AND sites.site = deployments.site
LEFT JOIN shipments USING (shipment)
LEFT JOIN extras AS eccn ON eccn.number = licenses.number AND eccn.name = 'eccn'
LEFT JOIN extras AS quantity ON quantity.number = licenses.number AND quantity.name = 'quantity'
ORDER BY kind, selector
"""


@dataclass(frozen=True, slots=True)
class Clash:
    """A row contradicts an earlier one.

    Attributes:
        condition: `selector` for devices that come twice; `title` or `region` for a site that is told in two ways;
            `shipment`, `shipped_at` or `activation_by` for a shipment that is; else what the license says twice.
        other_line: Number of the earlier row.
    """

    condition: str
    other_line: int


class _Told(NamedTuple):
    """Something that several rows tell: which table and key, and what they must agree in."""

    table: str
    key: tuple[str, ...]
    values: dict[str, Any]


class Staging:
    """Collects rows, then yields them in the order of PDIs.

    It may be closed while another thread still uses it, as happens when a caller goes away in the middle of an import;
    that thread's next step fails.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.executescript(_SCHEMA)
        self._seen: dict[tuple[str, ...], tuple[int, tuple[Any, ...]]] = {}
        # Nothing is ever kept, so one transaction that is never finished does.
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._database.close()

    def add(self, line: int, row: ImportRow) -> tuple[Clash, ...]:
        """Keep a row, unless it contradicts an earlier one; return in what it does.

        Raises:
            StoreUnavailableError: The scratch database failed; most likely the disk is full.
        """
        try:
            with self._lock:
                return self._add(line, row)
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the scratch database failed: {error}") from error

    def _add(self, line: int, row: ImportRow) -> tuple[Clash, ...]:
        number = row.license.terms.number
        title = row.site_title or title_of(row.region)
        site_id = slug_of(title, "site")
        kind, selector, devices = _selector(row.selector)
        clashes = [clash for told in _told(row, title, site_id) for clash in self._agree(line, told)]
        shipment_id = None if row.shipment is None else row.shipment.shipment_id
        before = "SELECT line FROM deployments WHERE kind = ? AND selector = ?"
        if clashes:
            clashes.extend(Clash("selector", other) for (other,) in self._database.execute(before, (kind, selector)))
            return tuple(clashes)
        values = (kind, selector, line, number, site_id, shipment_id, devices)
        kept = self._database.execute("INSERT OR IGNORE INTO deployments VALUES (?,?,?,?,?,?,?)", values)
        if kept.rowcount:
            return ()
        return tuple(Clash("selector", other) for (other,) in self._database.execute(before, (kind, selector)))

    def _agree(self, line: int, told: _Told) -> Iterator[Clash]:
        """Keep what a row is the first to tell, and yield in what it differs from the first."""
        key = (told.table, *told.key)
        values = tuple(told.values.values())
        first = self._seen.get(key)
        if first is None:
            first = self._first(line, told)
            if len(self._seen) >= HELD:
                self._seen.clear()
            self._seen[key] = first
        if first[1] == values:
            return
        for name, one, other in zip(told.values, first[1], values, strict=True):
            if one != other and name != "jurisdiction":  # it follows from the region
                yield Clash(_CONDITION.get(name, name) if name != "value" else told.key[-1], first[0])

    def _first(self, line: int, told: _Told) -> tuple[int, tuple[Any, ...]]:
        keys = _KEYS[told.table]
        columns = ", ".join(told.values)
        conditions = " AND ".join(f"{name} = ?" for name in keys)
        query = f"SELECT line, {columns} FROM {told.table} WHERE {conditions}"  # noqa: S608 - names of ours
        row = self._database.execute(query, told.key).fetchone()
        if row is not None:
            return row[0], row[1:]
        marks = ",".join("?" * (len(keys) + 1 + len(told.values)))
        names = ", ".join((*keys, "line", *told.values))
        insert = f"INSERT INTO {told.table} ({names}) VALUES ({marks})"  # noqa: S608 - names of ours
        self._database.execute(insert, (*told.key, line, *told.values.values()))
        return line, tuple(told.values.values())

    def rows(self) -> Iterator[ImportRow]:
        """Yield what was kept, in the order of PDIs; raises `StoreUnavailableError`."""
        # Rows of one license share its object.
        read_license = lru_cache(HELD)(_license)
        read_region = lru_cache(HELD)(region_from_json)
        for kind, selector, devices, title, region, jurisdiction, shipment, shipped_at, by, *held in self._rows(_ROWS):
            brings = None if shipment is None else ImportShipment(shipment, moment(shipped_at), moment(by))
            which = _selector_of(kind, selector, devices)
            yield ImportRow(which, read_license(*held), title, read_region(region), jurisdiction, brings)

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        try:
            with self._lock:
                cursor = self._database.execute(query)
            while True:
                with self._lock:
                    rows = cursor.fetchmany(ROWS)
                if not rows:
                    return
                yield from rows
        except sqlite3.Error as error:
            raise StoreUnavailableError(f"the scratch database failed: {error}") from error


_CONDITION = {"place": "shipment"}
_KEYS = {
    "licenses": ("number",),
    "extras": ("number", "name"),
    "sites": ("license", "site"),
    "shipments": ("shipment",),
}


def _told(row: ImportRow, title: str, site_id: str) -> Iterator[_Told]:
    terms = row.license.terms
    number = terms.number
    conditions = (
        terms.licensee,
        micros(terms.valid_from),
        micros(terms.valid_until),
        int(terms.presence),
        terms.cadence // MICROSECOND,
        terms.grace // MICROSECOND,
        terms.tolerated_domains,
        int(terms.assurance),
        terms.surprises_per_day,
    )
    yield _Told("licenses", (number,), dict(zip(_TERMS, conditions, strict=True)))
    # What a row leaves out it does not deny.
    if row.license.eccn:
        yield _Told("extras", (number, "eccn"), {"value": row.license.eccn})
    if row.license.quantity is not None:
        yield _Told("extras", (number, "quantity"), {"value": row.license.quantity})
    region = region_to_json(row.region)
    yield _Told("sites", (number, site_id), {"title": title, "region": region, "jurisdiction": row.jurisdiction})
    if (brings := row.shipment) is not None:
        times = {"shipped_at": micros(brings.shipped_at), "activation_by": micros(brings.activation_by)}
        # One text of both, since neither holds a line break.
        yield _Told("shipments", (brings.shipment_id,), {"place": f"{number}\n{site_id}", **times})


_BY_PDI, _BY_KEY, _BY_BOARD = range(3)


def _selector(selector: Selector) -> tuple[int, bytes, int]:
    match selector:
        case ByPdi(pdi):
            return _BY_PDI, pdi, 1
        case ByKey(key_id):
            return _BY_KEY, key_id, 1
        case ByBoard(switch, devices):
            return _BY_BOARD, switch, devices


def _selector_of(kind: int, selector: bytes, devices: int) -> Selector:
    if kind == _BY_PDI:
        return ByPdi(Pdi(selector))
    return ByKey(DeviceKeyId(selector)) if kind == _BY_KEY else ByBoard(Pdi(selector), devices)


def _license(number: str, *conditions: Any) -> LicenseRecord:
    licensee, valid_from, valid_until, presence, cadence, grace, tolerated, assurance, surprises, *extras = conditions
    eccn, quantity = extras
    terms = License(
        number=number,
        licensee=licensee,
        valid_from=moment(valid_from),
        valid_until=moment(valid_until),
        presence=Presence(presence),
        cadence=cadence * MICROSECOND,
        grace=grace * MICROSECOND,
        revision=0,
        state=LicenseState.DRAFT,
        tolerated_domains=tolerated,
        assurance=Assurance(assurance),
        surprises_per_day=surprises,
    )
    return LicenseRecord(terms, (), eccn or "", quantity)

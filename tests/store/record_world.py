"""Records made by hand, and short words for writing them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, func, insert, literal, select

from server.records.names import record_name
from server.records.values import (
    ByBoard,
    ByKey,
    ByPdi,
    DeploymentRecord,
    LicenseRecord,
    MaintenanceWindow,
    Party,
    PartyRole,
    Record,
    RecordWrite,
    Shipment,
    Site,
)
from server.store import ChangeRecord, Store, WriteOutcome
from server.store.schema import CHANGE_FILES, PARTIES, REVISIONS, SCREENED, SCREENING_HITS, SCREENING_LISTS
from tests.store.store_world import GERMANY, HOUR, START, license_of, pdi
from verifier.license import LicenseState
from verifier.units import DeviceKeyId

ACME = Party("acme", "Acme Trading", ("Acme", "Example Cloud"), ("1 Road",), "DE")
DAY = timedelta(days=1)


def draft(
    number: str = "D1", state: LicenseState = LicenseState.DRAFT, *, parties: Sequence[str] = ()
) -> LicenseRecord:
    terms = replace(license_of(number), state=state)
    return LicenseRecord(terms, tuple((party_id, PartyRole.LICENSEE) for party_id in parties), "3A090", 8)


def site(site_id: str = "fra", number: str = "D1", *, jurisdiction: str = "DE") -> Site:
    return Site(number, site_id, site_id, GERMANY, "1 Road", jurisdiction)


def by_pdi(which: int, site_id: str = "fra", number: str = "D1", *, shipment: str = "") -> DeploymentRecord:
    return DeploymentRecord(ByPdi(pdi(which)), number, site_id, shipment)


def by_board(which: int, devices: int = 4, site_id: str = "fra", number: str = "D1") -> DeploymentRecord:
    return DeploymentRecord(ByBoard(pdi(which), devices), number, site_id)


def by_key(which: int, site_id: str = "fra", number: str = "D1") -> DeploymentRecord:
    return DeploymentRecord(ByKey(DeviceKeyId(which.to_bytes(32, "big"))), number, site_id)


def shipment(shipment_id: str = "s1", site_id: str = "fra", number: str = "D1") -> Shipment:
    return Shipment(shipment_id, number, site_id, START, START + 7 * DAY, "AWB 1")


def window(
    window_id: str = "w1", site_id: str = "", number: str = "D1", *, start: datetime = START + DAY
) -> MaintenanceWindow:
    return MaintenanceWindow(window_id, number, site_id, start, start + HOUR, "cooling")


def put(record: Record, basis: int | None = None) -> RecordWrite:
    return RecordWrite(record_name(record), record, basis)


def end(record: Record, basis: int | None = None) -> RecordWrite:
    return RecordWrite(record_name(record), None, basis)


async def write(store: Store, *given: Record | RecordWrite, by: str = "ann", now: datetime = START) -> WriteOutcome:
    writes = [one if isinstance(one, RecordWrite) else put(one) for one in given]
    return await store.records.write(writes, by, "because", now)


async def propose(store: Store, *given: Record | RecordWrite, by: str = "ann", now: datetime = START) -> ChangeRecord:
    """Write what takes two people, and return the change."""
    change = (await write(store, *given, by=by, now=now)).change
    assert change is not None
    return change


async def approve(store: Store, change: ChangeRecord, by: str = "bob", now: datetime = START + HOUR) -> ChangeRecord:
    return await store.records.approve(change.change_id, by, "seen", now)


async def in_force(store: Store, *given: Record, number: str = "D1") -> None:
    """Bring a license with a site into force, with what else belongs to it."""
    await write(store, draft(number), site(number=number), *given)
    applied = await approve(store, await propose(store, draft(number, LicenseState.ACTIVE)), now=START)
    assert applied.state.name == "APPLIED"


async def get(store: Store, record: Record) -> Record | None:
    stored = await store.records.get(record_name(record))
    return None if stored is None else stored.record


async def count(store: Store, table: Table) -> int:
    return await store._read(
        lambda connection: connection.execute(select(func.count()).select_from(table)).scalar_one()
    )


async def revisions_kept(store: Store) -> int:
    return await count(store, REVISIONS)


async def pieces_kept(store: Store) -> int:
    return await count(store, CHANGE_FILES)


async def add_hit(store: Store, party_id: str, state: int, entry_id: str = "e1") -> None:
    """A screening hit as it stands: 1 open, 2 cleared, 3 confirmed. All parties are screened against one list."""
    row: dict[str, Any] = {
        **dict.fromkeys(
            ("party_title", "entry_title", "matched", "source", "list_version", "decided_by", "reason"), ""
        ),
        "party_id": party_id,
        "entry_id": entry_id,
        "score": 97.0,
        "state": state,
        "found_at": 1,
        "decided_at": None,
    }

    listed = {"version": "v1", "sha256": b"", "entries": 1, "imported_at": 1, "imported_by": "ada", "number": 1}

    def add(connection: Connection) -> None:
        connection.execute(insert(SCREENING_LISTS), listed)
        parties = select(PARTIES.c.party_id, PARTIES.c.revision, literal(1))
        connection.execute(insert(SCREENED).from_select(["party_id", "revision", "list_number"], parties))
        connection.execute(insert(SCREENING_HITS), row)

    await store._write(add)


async def set_hits(store: Store, state: int) -> None:
    def change(connection: Connection) -> None:
        connection.execute(SCREENING_HITS.update().values(state=state))

    await store._write(change)

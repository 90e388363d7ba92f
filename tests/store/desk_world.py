"""Two people at the store's door of records, for tests of what devices make of it: ann proposes, bob approves."""

from dataclasses import replace
from datetime import datetime, timedelta

from server.records.names import license_name, record_name
from server.records.values import DeploymentRecord, LicenseRecord, Record, RecordWrite, Site
from server.store import DeviceRecord, Store
from server.store.record_types import ChangeState
from tests.store.store_world import GERMANY, HOUR, START, license_of, pdi
from verifier.errors import Reason
from verifier.license import License, LicenseState, Presence
from verifier.place.regions import Region
from verifier.verdict import Standing

SECOND = timedelta(seconds=1)


def terms_of(number: str = "D1", *, cadence: timedelta = HOUR, grace: timedelta = HOUR / 2) -> License:
    """Terms under which a site may be drawn or named, as these tests have both."""
    return replace(license_of(number, cadence=cadence, grace=grace), presence=Presence.OUTSIDE_PROHIBITED)


async def put(store: Store, *records: Record, now: datetime = START) -> bool:
    """Write records, approved by a second person where it takes one; return whether it did."""
    return await _write(store, [RecordWrite(record_name(record), record, None) for record in records], now)


async def end(store: Store, *records: Record, now: datetime = START) -> bool:
    """End records, as `put` writes them."""
    return await _write(store, [RecordWrite(record_name(record), None, None) for record in records], now)


async def _write(store: Store, writes: list[RecordWrite], now: datetime) -> bool:
    outcome = await store.records.write(writes, "ann", "because", now)
    if outcome.change is None:
        return False
    decided = await store.records.approve(outcome.change.change_id, "bob", "seen", now)
    assert decided.state is ChangeState.APPLIED, decided
    return True


async def draft(
    store: Store, held: License | None = None, region: Region = GERMANY, *, site_id: str = "de", now: datetime = START
) -> License:
    """A draft with one site; return its terms."""
    terms = replace(held or terms_of(), state=LicenseState.DRAFT)
    await put(store, LicenseRecord(terms), Site(terms.number, site_id, site_id.upper(), region), now=now)
    return terms


async def in_force(
    store: Store, held: License | None = None, region: Region = GERMANY, *, site_id: str = "de", now: datetime = START
) -> License:
    """As `draft`, and then in force."""
    terms = await draft(store, held, region, site_id=site_id, now=now)
    await set_state(store, LicenseState.ACTIVE, terms.number, now=now)
    return replace(terms, state=LicenseState.ACTIVE)


async def revise(store: Store, held: License, *, now: datetime = START) -> bool:
    """Write other terms of a license."""
    stored = await store.records.get(license_name(held.number))
    assert stored is not None
    assert isinstance(stored.record, LicenseRecord)
    return await put(store, replace(stored.record, terms=held), now=now)


async def set_state(store: Store, state: LicenseState, number: str = "D1", *, now: datetime = START) -> bool:
    """Activate, suspend or revoke a license."""
    stored = await store.records.get(license_name(number))
    assert stored is not None
    assert isinstance(stored.record, LicenseRecord)
    return await revise(store, replace(stored.record.terms, state=state), now=now)


async def stands(store: Store, number: int = 1) -> DeviceRecord:
    """Device `number`."""
    found = await store.get_device(pdi(number))
    assert found is not None
    return found


async def shown(store: Store, number: int = 1) -> tuple[Standing | None, list[Reason]]:
    """How a device stands, and what is open."""
    found = await stands(store, number)
    return found.standing, [each.finding.reason for each in found.findings]


async def deployment_on_record(store: Store, name: str) -> tuple[DeploymentRecord, int, int]:
    """A deployment as it stands: the record, its revision, and how many devices have got one of their own by it."""
    stored = await store.records.get(name)
    assert stored is not None
    assert isinstance(stored.record, DeploymentRecord)
    return stored.record, stored.revision, stored.adopted

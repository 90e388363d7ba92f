"""What changes of records do to devices at once: licenses come into force and are taken away, devices come and go."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from server.records.values import ByPdi, DeploymentRecord, LicenseRecord, Shipment, Site
from server.store import DeviceFilter, ImportCounts, Store
from tests.store.desk_world import SECOND, draft, end, in_force, put, revise, set_state, shown, stands, terms_of
from tests.store.store_world import (
    GERMANY,
    HOUR,
    SITE,
    START,
    deployment,
    device,
    finding,
    fix,
    load,
    pdi,
    record,
)
from tests.two_people import deploy
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import LicenseState
from verifier.verdict import Standing

UNKNOWN = finding(Reason.UNKNOWN_DEVICE)
DAY = timedelta(days=1)


def at(number: int, license_number: str = "D1", site_id: str = "de", shipment_id: str = "") -> DeploymentRecord:
    return DeploymentRecord(ByPdi(pdi(number)), license_number, site_id, shipment_id)


def times(path: Path, number: int = 1) -> tuple[int | None, int | None, int | None]:
    """Hours after START at which a device was activated, last proven, and licensed."""
    with closing(sqlite3.connect(path)) as database:
        row = database.execute(
            "SELECT activated_at, last_proof_at, licensed_at FROM devices LEFT JOIN deployments ON device_pdi = pdi"
            " WHERE pdi = ?",
            (pdi(number),),
        ).fetchone()
    base = round(START.timestamp() * 1e6)
    hours = [None if value is None else (value - base) // 3_600_000_000 for value in row]
    return hours[0], hours[1], hours[2]


# drafts


async def test_a_draft_licenses_nothing(store: Store) -> None:
    await draft(store)
    assert not await put(store, at(1), at(2))  # one officer alone
    assert await store.get_device(pdi(2)) is None
    assert (await load(store, pdi(1))).deployments == {}
    assert await store.licensed_regions() == []
    await store.commit([record(START, [device(1, UNKNOWN, standing=Standing.UNLICENSED)])])
    found = await stands(store)
    assert (found.standing, found.license_number, found.licensee) == (Standing.UNLICENSED, "", "")
    assert (found.site_id, found.site_title, found.jurisdiction, found.region) == ("", "", "", None)


async def test_activation_deploys_all_its_devices(store: Store, store_path: Path) -> None:
    terms = await draft(store)
    await put(store, *(at(number) for number in range(1, 5)))
    reported = [
        device(1, UNKNOWN, standing=Standing.UNLICENSED),
        device(2, UNKNOWN, finding(Reason.BOARD_CHANGED), standing=Standing.UNLICENSED),
        device(9, kind=DeviceKind.SWITCH),
    ]
    await store.commit([record(START, reported)])
    before = await store.change_number()
    assert await set_state(store, LicenseState.ACTIVE, now=START + HOUR)
    assert await shown(store, 1) == (Standing.UNPROVEN, [])
    assert await shown(store, 2) == (Standing.VIOLATION, [Reason.BOARD_CHANGED])
    assert await shown(store, 3) == (Standing.UNPROVEN, [])
    assert times(store_path, 3) == (None, None, 1)
    found = await stands(store, 4)
    assert (found.kind, found.license_number, found.site_id, found.site_title) == (None, "D1", "de", "DE")
    assert {each.pdi for each in (await store.changes_after(before)).devices} == {pdi(n) for n in (1, 2, 3, 4)}
    held = (await load(store, pdi(1))).deployments[pdi(1)].license
    assert held == replace(terms, state=LicenseState.ACTIVE, revision=2)
    assert await store.licensed_regions() == [(terms.presence, GERMANY)]


async def test_many_devices_follow_their_license(store: Store) -> None:
    """More than one page of them."""
    await store.import_deployments([deployment(n) for n in range(1, 2_502)], START, by="ann", reason="test")
    assert (await store.list_devices(DeviceFilter())).total == 0
    await set_state(store, LicenseState.ACTIVE)
    await set_state(store, LicenseState.SUSPENDED, now=START + HOUR)
    for number in (1, 1_000, 1_001, 2_501):
        assert await shown(store, number) == (Standing.VIOLATION, [Reason.LICENSE_SUSPENDED])


# suspension and revocation


async def test_suspension_flags_at_once_and_ends_with_it(store: Store) -> None:
    await in_force(store)
    await put(store, at(1), at(2), at(3))
    await store.commit([record(START, [device(1), device(3, kind=DeviceKind.SWITCH)])])
    await set_state(store, LicenseState.SUSPENDED, now=START + HOUR)
    assert await shown(store, 1) == (Standing.VIOLATION, [Reason.LICENSE_SUSPENDED])
    assert await shown(store, 2) == (Standing.VIOLATION, [Reason.LICENSE_SUSPENDED])  # it never reported
    assert await shown(store, 3) == (None, [])  # a witness
    assert (await stands(store)).findings[0].opened_at == START + HOUR
    await set_state(store, LicenseState.ACTIVE, now=START + 2 * HOUR)
    assert await shown(store, 1) == (Standing.COMPLIANT, [])
    assert await shown(store, 2) == (Standing.UNPROVEN, [])
    await set_state(store, LicenseState.REVOKED, now=START + 2 * HOUR)
    assert await shown(store, 1) == (Standing.VIOLATION, [Reason.LICENSE_REVOKED])
    assert (await stands(store)).license_number == "D1"  # the duty stays


async def test_a_device_that_comes_under_a_suspended_license_is_flagged(store: Store) -> None:
    await in_force(store)
    await set_state(store, LicenseState.SUSPENDED)
    await put(store, at(1))
    assert await shown(store) == (Standing.VIOLATION, [Reason.LICENSE_SUSPENDED])


async def test_an_extended_license_ends_that_it_had_expired(store: Store) -> None:
    short = replace(terms_of(), valid_until=START + HOUR)
    held = await in_force(store, short)
    await put(store, at(1))
    await store.commit(
        [record(START + HOUR, [device(1, finding(Reason.LICENSE_EXPIRED), standing=Standing.VIOLATION)])]
    )
    await revise(store, replace(held, valid_until=START + DAY), now=START + 2 * HOUR)
    assert await shown(store) == (Standing.COMPLIANT, [])


async def test_the_same_finding_twice_at_one_instant(store: Store, store_path: Path) -> None:
    await in_force(store)
    await put(store, at(1))
    for state in (LicenseState.SUSPENDED, LicenseState.ACTIVE, LicenseState.SUSPENDED):
        await set_state(store, state)
    assert await shown(store) == (Standing.VIOLATION, [Reason.LICENSE_SUSPENDED])
    with closing(sqlite3.connect(store_path)) as database:
        rows = database.execute("SELECT opened_at, closed_at FROM findings ORDER BY opened_at").fetchall()
    assert len(rows) == 2
    assert [closed is None for _, closed in rows] == [False, True]


async def test_findings_take_numbers_as_they_open_and_close(store: Store, store_path: Path) -> None:
    def numbers() -> list[tuple[int, int | None, int]]:
        with closing(sqlite3.connect(store_path)) as database:
            query = "SELECT reason, closed_at IS NULL, number FROM findings ORDER BY number"
            return database.execute(query).fetchall()

    await in_force(store)
    await put(store, at(1))
    await store.commit([record(START, [device(1, finding(Reason.LOCATION_UNPROVEN), finding(Reason.RANGE_VOID))])])
    assert numbers() == [(Reason.LOCATION_UNPROVEN, 1, 1), (Reason.RANGE_VOID, 1, 2)]
    # Another detail alone is none; that something has ended is.
    await store.commit([record(START + HOUR, [device(1, finding(Reason.LOCATION_UNPROVEN, "still"))])])
    assert numbers() == [(Reason.LOCATION_UNPROVEN, 1, 1), (Reason.RANGE_VOID, 0, 3)]
    await set_state(store, LicenseState.SUSPENDED, now=START + 2 * HOUR)
    assert numbers()[-1] == (Reason.LICENSE_SUSPENDED, 1, 4)
    await set_state(store, LicenseState.ACTIVE, now=START + 3 * HOUR)
    assert numbers()[-1] == (Reason.LICENSE_SUSPENDED, 0, 5)


# transfers and returns


async def test_a_transfer_keeps_history_and_restarts_clocks(store: Store, store_path: Path) -> None:
    await in_force(store)
    await in_force(store, terms_of("D2"), SITE, site_id="fra")
    await put(store, Site("D1", "fra", "Frankfurt 1", SITE), at(1))
    first = record(START, [device(1, finding(Reason.COUNTER_ROLLBACK), located=fix())])
    await store.commit([first])
    assert times(store_path) == (0, 0, 0)
    await put(store, at(1, site_id="fra"), now=START + HOUR)  # to another site
    assert times(store_path) == (None, None, 1)
    assert await shown(store) == (Standing.UNPROVEN, [Reason.COUNTER_ROLLBACK])
    found = await stands(store)
    assert (found.last_report_at, found.last_attestation) == (START, first.verdict.challenge)
    assert (found.site_id, found.region) == ("fra", SITE)
    await store.commit(
        [record(START + 2 * HOUR, [device(1, located=fix())], based_on=(await load(store, pdi(1))).last)]
    )
    assert times(store_path) == (2, 2, 1)
    await put(store, at(1, "D2", "fra"), now=START + 3 * HOUR)  # to another license
    assert times(store_path) == (None, None, 3)
    assert (await stands(store)).license_number == "D2"


@pytest.mark.parametrize("other_license", [False, True])
async def test_what_was_found_at_the_old_site_ends_with_a_transfer(store: Store, other_license: bool) -> None:  # noqa: FBT001
    await in_force(store)
    await in_force(store, terms_of("D2"))
    await put(store, Site("D1", "fra", "Frankfurt 1", SITE), at(1))
    found = [
        finding(Reason.OUTSIDE_LICENSED_REGION),
        finding(Reason.IN_PROHIBITED_DESTINATION),
        finding(Reason.FOREIGN_REPORT),
        finding(Reason.BOARD_CHANGED),
    ]
    await store.commit([record(START, [device(1, *found, standing=Standing.VIOLATION)])])
    await put(store, at(1, "D2") if other_license else at(1, site_id="fra"), now=START + HOUR)
    _, reasons = await shown(store)
    stays = {Reason.IN_PROHIBITED_DESTINATION, Reason.BOARD_CHANGED}
    assert set(reasons) == (stays if other_license else stays | {Reason.FOREIGN_REPORT})


async def test_a_return_leaves_the_device_unknown(store: Store, store_path: Path) -> None:
    await in_force(store)
    await put(store, at(1), at(2))
    outside = finding(Reason.OUTSIDE_LICENSED_REGION)
    await store.commit(
        [record(START, [device(1, outside, finding(Reason.BOARD_CHANGED), standing=Standing.VIOLATION)])]
    )
    assert await end(store, at(1), at(2), now=START + HOUR)
    assert await shown(store) == (Standing.UNLICENSED, [Reason.BOARD_CHANGED])
    assert await shown(store, 2) == (Standing.UNLICENSED, [])
    assert (await stands(store)).license_number == ""
    assert times(store_path) == (None, None, None)
    assert (await load(store, pdi(1), pdi(2))).deployments == {}
    # From then on it is unknown.
    await store.commit([record(START + 2 * HOUR, [device(1, UNKNOWN, standing=Standing.UNLICENSED)])])
    assert await shown(store) == (Standing.UNLICENSED, [Reason.UNKNOWN_DEVICE])
    # And it can come back: revisions are counted on.
    await put(store, at(1), now=START + 3 * HOUR)
    assert await shown(store) == (Standing.UNPROVEN, [])
    stored = await store.records.get(f"deployments/{pdi(1).hex()}")
    assert stored is not None
    assert stored.revision == 3


async def test_another_shipment_ends_that_the_first_was_late(store: Store) -> None:
    await in_force(store)
    shipments = [Shipment(name, "D1", "de", START - DAY, START + HOUR) for name in ("one", "two")]
    await put(store, *shipments, at(1, shipment_id="one"))
    late = START + 2 * HOUR
    await store.mark_alive("node-1", START)
    await store.mark_alive("node-1", late, longest_pause=DAY)
    swept = await store.watch.sweep(late, {})
    assert swept.opened(Reason.NEVER_ACTIVATED) == (pdi(1),)
    await put(store, replace(shipments[1], activation_by=START + DAY), at(1, shipment_id="two"), now=late)
    assert await shown(store) == (Standing.UNPROVEN, [])


async def test_other_terms_and_a_site_drawn_anew_touch_devices_and_judge_none(store: Store) -> None:
    held = await in_force(store)
    await put(store, at(1))
    await store.commit([record(START, [device(1)])])
    before = await store.change_number()
    await revise(store, replace(held, licensee="Example Cloud Two"))
    changed = (await store.changes_after(before)).devices
    assert [(each.pdi, each.licensee, each.standing) for each in changed] == [
        (pdi(1), "Example Cloud Two", Standing.COMPLIANT)
    ]
    before = await store.change_number()
    await put(store, Site("D1", "de", "Yard", SITE, jurisdiction="DE"))
    changed = (await store.changes_after(before)).devices
    assert [(each.region, each.site_title, each.jurisdiction) for each in changed] == [(SITE, "Yard", "DE")]


async def test_clocks_of_a_license_begin_when_its_terms_are_shortened(store: Store, store_path: Path) -> None:
    def tightened() -> int:
        with closing(sqlite3.connect(store_path)) as database:
            value: int = database.execute("SELECT tightened_at FROM licenses").fetchone()[0]
        return (value - round(START.timestamp() * 1e6)) // 1_000_000

    held = await in_force(store, now=START + SECOND)
    assert tightened() == 1
    await revise(store, replace(held, grace=2 * HOUR), now=START + 2 * SECOND)
    assert tightened() == 1
    await revise(store, replace(held, grace=HOUR), now=START + 3 * SECOND)
    assert tightened() == 3


async def test_a_license_record_keeps_what_the_verifier_does_not_read(store: Store) -> None:
    await deploy(store, [deployment(1, terms_of())], START)
    stored = await store.records.get("licenses/D1")
    assert stored is not None
    assert isinstance(stored.record, LicenseRecord)
    await put(store, replace(stored.record, eccn="3A090", quantity=4))
    assert await deploy(store, [deployment(1, terms_of())], START) == ImportCounts(0, 0, 1)
    moved = replace(deployment(1, terms_of()), region=SITE)
    assert await deploy(store, [moved], START) == ImportCounts(0, 1, 0)
    again = await store.records.get("licenses/D1")
    assert again is not None
    assert isinstance(again.record, LicenseRecord)
    assert (again.record.eccn, again.record.quantity, again.record.parties) == ("3A090", 4, stored.record.parties)

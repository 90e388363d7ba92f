import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from server.records.values import Party
from server.store import DeviceFilter, ImportCounts, RecordConflictError, Store
from server.store.imports import ROWS
from tests.store.desk_world import put
from tests.store.store_world import (
    GERMANY,
    HOUR,
    SITE,
    START,
    deployment,
    device,
    finding,
    landmark,
    license_of,
    load,
    pdi,
    record,
)
from tests.two_people import deploy
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import LicenseState
from verifier.units import Pdi
from verifier.verdict import Standing


async def test_import_is_idempotent(store: Store) -> None:
    rows = [deployment(number, region=SITE if number % 2 else GERMANY) for number in range(1, 1_201)]
    assert await deploy(store, rows, START) == ImportCounts(1_200, 0, 0)
    changes = await store.change_number()
    assert await deploy(store, iter(rows), START + HOUR) == ImportCounts(0, 0, 1_200)
    assert await store.change_number() == changes
    deployments = (await load(store, *(row.pdi for row in rows))).deployments
    assert {row.pdi: replace(row, license=replace(row.license, revision=1)) for row in rows} == deployments


async def test_changes_are_counted_as_such(store: Store) -> None:
    await deploy(store, [deployment(1), deployment(2), deployment(3, license_of("D2"))], START)
    moved = [deployment(1, region=SITE), deployment(2), deployment(3, license_of("D2"))]
    assert await deploy(store, moved, START) == ImportCounts(0, 1, 2)
    # A license's conditions are those of its deployments.
    longer = [replace(row, license=replace(row.license, grace=2 * HOUR)) for row in moved[:2]]
    assert await deploy(store, longer, START) == ImportCounts(0, 2, 0)
    deployments = (await load(store, pdi(1), pdi(3))).deployments
    assert [deployments[pdi(1)].license.revision, deployments[pdi(3)].license.revision] == [2, 1]


async def test_validating_counts_and_changes_nothing(store: Store) -> None:
    await deploy(store, [deployment(1)], START)
    number = await store.records_number()
    rows = [deployment(1, license_of(grace=HOUR)), deployment(2, license_of(grace=HOUR))]
    outcome = await store.import_deployments(
        rows, START, state=LicenseState.ACTIVE, by="ann", reason="test", validate_only=True
    )
    assert outcome.counts == ImportCounts(1, 1, 0)
    assert await store.records_number() == number
    assert await store.get_device(pdi(2)) is None


@pytest.mark.parametrize(
    "rows",
    [
        [deployment(1), deployment(2), deployment(1)],
        [deployment(1), deployment(2, license_of(grace=2 * HOUR))],
        # The same across chunks.
        [*(deployment(number) for number in range(1, ROWS + 1)), deployment(1)],
        [*(deployment(number) for number in range(1, ROWS + 1)), deployment(ROWS + 1, license_of(grace=2 * HOUR))],
    ],
)
async def test_contradiction_imports_nothing(store: Store, store_path: Path, rows: list[object]) -> None:
    with pytest.raises(RecordConflictError):
        await deploy(store, rows, START)  # type: ignore[arg-type]
    with closing(sqlite3.connect(store_path)) as database:
        counts = [
            database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("licenses", "deployments", "devices")
        ]
    assert counts == [0, 0, 0]
    assert await store.records_number() == 0


async def test_deployed_device_stands_unproven_before_its_first_report(store: Store) -> None:
    await deploy(store, [deployment(1, region=SITE)], START)
    found = await store.get_device(pdi(1))
    assert found is not None
    assert (found.kind, found.standing, found.last_report_at) == (None, Standing.UNPROVEN, None)
    assert (found.license_number, found.licensee, found.region) == ("D1", "Example Cloud", SITE)


async def test_deployment_ends_that_a_device_is_unknown(store: Store, store_path: Path) -> None:
    unknown = finding(Reason.UNKNOWN_DEVICE)
    reported = [
        device(1, unknown, standing=Standing.UNLICENSED),
        device(2, unknown, finding(Reason.BOARD_CHANGED), standing=Standing.UNLICENSED),
        device(3, unknown, finding(Reason.RANGE_VOID), standing=Standing.UNLICENSED),
        device(4, unknown, standing=Standing.UNLICENSED),
        device(9, kind=DeviceKind.SWITCH),
    ]
    await store.commit([record(START, reported)])
    before = await store.change_number()
    await deploy(store, [deployment(number) for number in (1, 2, 3, 9)], START + HOUR)
    found = {number: await store.get_device(pdi(number)) for number in (1, 2, 3, 4, 9)}
    shown = {n: (d.standing, [f.finding.reason for f in d.findings]) for n, d in found.items() if d is not None}
    assert shown == {
        1: (Standing.UNPROVEN, []),  # nothing was appraised under the license yet
        2: (Standing.VIOLATION, [Reason.BOARD_CHANGED]),
        3: (Standing.UNPROVEN, [Reason.RANGE_VOID]),
        4: (Standing.UNLICENSED, [Reason.UNKNOWN_DEVICE]),
        9: (None, []),
    }
    changed = {change.pdi for change in (await store.changes_after(before)).devices}
    assert changed == {pdi(number) for number in (1, 2, 3, 9)}
    # What it was is history, not gone.
    with closing(sqlite3.connect(store_path)) as database:
        spans = database.execute(
            "SELECT closed_at - opened_at FROM findings WHERE reason = ? AND closed_at IS NOT NULL",
            (int(Reason.UNKNOWN_DEVICE),),
        ).fetchall()
    assert spans == [(HOUR // timedelta(microseconds=1),)] * 3


async def test_a_site_that_is_drawn_anew_judges_no_device_anew(store: Store) -> None:
    await deploy(store, [deployment(1, region=SITE)], START)
    await store.commit([record(START, [device(1)])])
    before = await store.change_number()
    wider = replace(SITE, radius_km=40.0)
    assert await deploy(store, [deployment(1, region=wider)], START + HOUR) == ImportCounts(0, 1, 0)
    found = await store.get_device(pdi(1))
    assert found is not None
    assert (found.standing, found.region, found.site_id) == (Standing.COMPLIANT, wider, "frankfurt-1")
    assert [each.pdi for each in (await store.changes_after(before)).devices] == [pdi(1)]


async def test_verdict_from_before_the_import_is_not_written(store: Store) -> None:
    late = record(START, [device(1, finding(Reason.UNKNOWN_DEVICE), standing=Standing.UNLICENSED)])
    await deploy(store, [deployment(1)], START)
    assert (await store.commit([late])).stale == {late.verdict.challenge}
    found = await store.get_device(pdi(1))
    assert found is not None
    assert (found.standing, found.findings) == (Standing.UNPROVEN, ())


async def test_new_licensee_changes_every_device_of_the_license(store: Store) -> None:
    await deploy(store, [deployment(1), deployment(2)], START)
    await put(store, Party("two", "Example Cloud Two"))
    before = await store.change_number()
    renamed = replace(license_of(), licensee="Example Cloud Two")
    await deploy(store, [deployment(1, renamed)], START)
    changed = {change.pdi: change.licensee for change in (await store.changes_after(before)).devices}
    assert changed == {pdi(1): "Example Cloud Two", pdi(2): "Example Cloud Two"}


async def list_all(store: Store, chosen: DeviceFilter, limit: int = 2) -> tuple[list[Pdi], int]:
    found: list[Pdi] = []
    while True:
        page = await store.list_devices(chosen, after=found[-1] if found else None, limit=limit)
        found += [listed.pdi for listed in page.devices]
        assert all(chosen.matches(listed) for listed in page.devices)
        if not page.more:
            return found, page.total


async def test_filters_choose_the_same_in_memory_and_in_the_database(store: Store) -> None:
    other = replace(license_of("D2"), licensee="Other")
    await deploy(store, [deployment(1), deployment(2), deployment(3, other), deployment(4)], START)
    await store.commit(
        [
            record(
                START,
                [
                    device(1),
                    device(2, finding(Reason.LOCATION_UNPROVEN), standing=Standing.UNPROVEN),
                    device(5, finding(Reason.UNKNOWN_DEVICE), standing=Standing.UNLICENSED),
                    device(9, kind=DeviceKind.SWITCH),
                ],
                host_id="host-1",
            ),
            record(START, [device(3, finding(Reason.RANGE_VOID))], host_id="host-2"),
        ]
    )
    everything = [found for number in (1, 2, 3, 4, 5, 9) if (found := await store.get_device(pdi(number)))]
    expected = {
        DeviceFilter(): [1, 2, 3, 4, 5, 9],
        DeviceFilter(standing=Standing.UNPROVEN): [2, 4],
        DeviceFilter(license_number="D1"): [1, 2, 4],
        DeviceFilter(license_number=""): [5, 9],
        DeviceFilter(licensee="Other"): [3],
        DeviceFilter(licensee=""): [5, 9],
        DeviceFilter(finding=Reason.LOCATION_UNPROVEN): [2],
        DeviceFilter(finding=Reason.UNKNOWN_DEVICE): [5],
        DeviceFilter(host_id="host-1", kind=DeviceKind.GPU): [1, 2, 5],
        DeviceFilter(kind=DeviceKind.SWITCH): [9],
        DeviceFilter(standing=Standing.COMPLIANT, licensee="Other", host_id="host-2"): [3],
        DeviceFilter(standing=Standing.SILENT): [],
        DeviceFilter(site_id="de"): [1, 2, 3, 4],
        DeviceFilter(site_id="de", license_number="D2"): [3],
        DeviceFilter(jurisdiction="DE"): [1, 2, 3, 4],
        DeviceFilter(jurisdiction=""): [5, 9],
        DeviceFilter(jurisdiction="FR"): [],
    }
    for chosen, numbers in expected.items():
        assert await list_all(store, chosen) == ([pdi(number) for number in numbers], len(numbers)), chosen
        assert [found.pdi for found in everything if chosen.matches(found)] == [pdi(number) for number in numbers], (
            chosen
        )


async def test_landmarks_are_revised_and_counted(store: Store, store_path: Path) -> None:
    first, second = landmark("fra-1"), landmark("ams-1")
    assert await store.import_landmarks([first, second], START) == ImportCounts(2, 0, 0)
    moved = replace(second, endpoints=("192.0.2.9:4100",))
    assert await store.import_landmarks([first, moved], START + HOUR, validate_only=True) == ImportCounts(0, 1, 1)
    assert await store.import_landmarks([first, moved], START + HOUR) == ImportCounts(0, 1, 1)
    records = await store.load_landmark_records()
    assert [each.landmark.landmark_id for each in records] == ["ams-1", "fra-1"]
    assert records[0].endpoints == ("192.0.2.9:4100",)
    assert [(each.landmark.revision, each.landmark.revised_at) for each in records] == [(2, START + HOUR), (1, START)]
    assert await store.load_landmarks() == [each.landmark for each in records]
    with closing(sqlite3.connect(store_path)) as database:
        kept = database.execute("SELECT landmark_id, revision FROM landmark_revisions ORDER BY 1, 2").fetchall()
    assert kept == [("ams-1", 1), ("ams-1", 2), ("fra-1", 1)]


async def test_landmark_key_belongs_to_one_landmark(store: Store) -> None:
    await store.import_landmarks([landmark("fra-1", key=bytes(32)), landmark("ams-1")], START)
    with pytest.raises(RecordConflictError, match="same public key"):
        await store.import_landmarks([landmark("lon-1"), landmark("par-1", key=bytes(32))], START)
    with pytest.raises(RecordConflictError, match="twice"):
        await store.import_landmarks([landmark("lon-1"), landmark("lon-1")], START)
    assert len(await store.load_landmarks()) == 2
    # Two that change keys with each other are no conflict.
    a, b = await store.load_landmark_records()
    swapped = [
        replace(a, landmark=replace(a.landmark, public_key=b.landmark.public_key)),
        replace(b, landmark=replace(b.landmark, public_key=a.landmark.public_key)),
    ]
    assert await store.import_landmarks(swapped, START + timedelta(days=1)) == ImportCounts(0, 2, 0)

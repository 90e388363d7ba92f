import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from server.store import DeviceRecord, OpenFinding, Store
from tests.store.store_world import HOUR, START, device, finding, fix, pdi, record
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.place.answers import PlaceAnswer
from verifier.verdict import Severity, Standing


async def stands(store: Store, number: int = 1) -> DeviceRecord:
    found = await store.get_device(pdi(number))
    assert found is not None
    return found


def history(path: Path) -> list[tuple[int, int, int | None]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(
            "SELECT reason, opened_at - ?, closed_at - ? FROM findings ORDER BY opened_at, reason",
            (round(START.timestamp() * 1e6), round(START.timestamp() * 1e6)),
        ).fetchall()


MICROS_PER_HOUR = 3_600_000_000


async def test_finding_opens_persists_and_closes(store: Store, store_path: Path) -> None:
    await store.commit([record(START, [device(1, finding(Reason.LOCATION_UNPROVEN, "first"))])])
    await store.commit([record(START + HOUR, [device(1, finding(Reason.LOCATION_UNPROVEN, "second"))])])
    assert (await stands(store)).findings == (OpenFinding(finding(Reason.LOCATION_UNPROVEN, "second"), START),)
    await store.commit([record(START + 2 * HOUR, [device(1)])])
    assert (await stands(store)).findings == ()
    assert history(store_path) == [(Reason.LOCATION_UNPROVEN, 0, 2 * MICROS_PER_HOUR)]


async def test_finding_that_comes_back_opens_anew(store: Store, store_path: Path) -> None:
    unproven = finding(Reason.LOCATION_UNPROVEN)
    for hours, findings in enumerate([[unproven], [], [unproven]]):
        await store.commit([record(START + hours * HOUR, [device(1, *findings)])])
    assert (await stands(store)).findings == (OpenFinding(unproven, START + 2 * HOUR),)
    assert history(store_path) == [
        (Reason.LOCATION_UNPROVEN, 0, MICROS_PER_HOUR),
        (Reason.LOCATION_UNPROVEN, 2 * MICROS_PER_HOUR, None),
    ]


async def test_one_group_moves_findings_in_order_of_arrival(store: Store, store_path: Path) -> None:
    unproven, rollback = finding(Reason.LOCATION_UNPROVEN), finding(Reason.COUNTER_ROLLBACK)
    batch = [
        record(START + 2 * HOUR, [device(1, unproven)]),
        record(START, [device(1, unproven, rollback)]),
        record(START + HOUR, [device(1, rollback)]),
    ]
    await store.commit(batch)
    assert (await stands(store)).findings == (OpenFinding(unproven, START + 2 * HOUR),)
    assert history(store_path) == [
        (Reason.LOCATION_UNPROVEN, 0, MICROS_PER_HOUR),
        (Reason.COUNTER_ROLLBACK, 0, 2 * MICROS_PER_HOUR),
        (Reason.LOCATION_UNPROVEN, 2 * MICROS_PER_HOUR, None),
    ]


async def test_findings_of_others_stand(store: Store) -> None:
    await store.commit([record(START, [device(1, finding(Reason.UNKNOWN_DEVICE)), device(2)])])
    await store.commit([record(START + HOUR, [device(2)])])
    assert len((await stands(store)).findings) == 1


async def test_findings_are_told_worst_first(store: Store) -> None:
    found = [
        finding(reason) for reason in (Reason.RANGE_VOID, Reason.REFERENCE_MISSING, Reason.OUTSIDE_LICENSED_REGION)
    ]
    await store.commit([record(START, [device(1, *found, standing=Standing.VIOLATION)])])
    severities = [each.finding.severity for each in (await stands(store)).findings]
    assert severities == [Severity.VIOLATION, Severity.WARNING, Severity.NOTICE]


async def test_findings_of_one_reason_are_one(store: Store) -> None:
    await store.commit([record(START, [device(1, finding(Reason.RANGE_VOID, "a"), finding(Reason.RANGE_VOID, "b"))])])
    assert [each.finding.detail for each in (await stands(store)).findings] == ["a; b"]


async def test_switch_has_findings_too(store: Store) -> None:
    await store.commit([record(START, [device(9, finding(Reason.FIRMWARE_MISMATCH), kind=DeviceKind.SWITCH)])])
    assert [each.finding.reason for each in (await stands(store, 9)).findings] == [Reason.FIRMWARE_MISMATCH]


async def test_every_device_of_a_commit_gets_a_change_number_of_its_own(store: Store) -> None:
    await store.commit([record(START, [device(1), device(2)])])
    await store.commit([record(START + timedelta(seconds=1), [device(1)])])
    changes = await store.changes_after(0)
    assert [(change.pdi, change.change_number) for change in changes.devices] == [(pdi(2), 2), (pdi(1), 3)]
    assert (changes.change_number, changes.more) == (3, False)
    first = await store.changes_after(0, limit=1)
    assert (first.change_number, first.more) == (2, True)
    assert (await store.changes_after(3)).devices == ()
    assert (await store.changes_after(99)).change_number == 99


async def test_fix_is_kept_exactly(store: Store) -> None:
    located = fix(licensed=PlaceAnswer.UNPROVEN)
    await store.commit([record(START, [device(1, located=located)])])
    assert (await stands(store)).last_fix == located

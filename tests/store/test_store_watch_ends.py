"""What ends the watch's findings: verified reports, through the store's own commit (docs/protocol.md AP7)."""

import pytest

from server.store import Store
from tests.store.store_world import HOUR, START, device, finding, fix, pdi, record
from tests.store.watch_world import ALLOWED, BEGAN, DAY, SECOND, Desk, able
from verifier.errors import Reason
from verifier.verdict import DeviceVerdict, Standing

UNPROVEN = finding(Reason.LOCATION_UNPROVEN)
BOTH = able("a", "b")


@pytest.fixture
async def desk(store: Store) -> Desk:
    made = Desk(store)
    await made.license(quantity=1)
    await made.shipment(START)
    await made.deploy(1, shipment_id="s1")
    await made.up(BEGAN, START + 30 * DAY)
    for name in ("a", "b"):
        await made.landmark_up(name, BEGAN, START + 30 * DAY)
    return made


async def report(desk: Desk, hours: float, verdict: DeviceVerdict) -> None:
    """Commit a report; the one before it left the device as its verdict had it."""
    unwritten = await desk.store.commit([record(START + hours * HOUR, [verdict])])
    assert not unwritten.spent
    assert not unwritten.stale


async def test_any_verified_report_ends_never_activated(desk: Desk) -> None:
    assert (await desk.sweep(START + HOUR, BOTH)).opened(Reason.NEVER_ACTIVATED) == (pdi(1),)
    await report(desk, 2, device(1, UNPROVEN, standing=Standing.UNPROVEN))
    assert await desk.open() == {Reason.LOCATION_UNPROVEN}
    assert (await desk.sweep(START + 2 * HOUR, BOTH)).turns == ()


async def test_presence_is_overdue_until_it_is_proven(desk: Desk) -> None:
    for half_hours in range(4):
        await report(desk, half_hours / 2, device(1, UNPROVEN, standing=Standing.UNPROVEN))
    assert (await desk.sweep(START + ALLOWED, BOTH)).turns == ()
    found = await desk.sweep(START + ALLOWED + SECOND, BOTH)
    assert found.opened(Reason.PRESENCE_OVERDUE) == (pdi(1),)
    await report(desk, 2, device(1, UNPROVEN, standing=Standing.UNPROVEN))
    assert await desk.open() == {Reason.LOCATION_UNPROVEN, Reason.PRESENCE_OVERDUE}
    assert await desk.standing() is Standing.VIOLATION
    await report(desk, 2.5, device(1, located=fix()))
    assert await desk.open() == set()
    assert await desk.standing() is Standing.COMPLIANT
    assert (await desk.sweep(START + 2.5 * HOUR, BOTH)).turns == ()


async def test_no_report_ends_a_quantity_that_is_exceeded(desk: Desk) -> None:
    await desk.deploy(2, at=START)
    assert (await desk.sweep(START, BOTH)).opened(Reason.QUANTITY_EXCEEDED) == (pdi(2),)
    await report(desk, 1, device(2, located=fix()))
    assert await desk.open(2) == {Reason.QUANTITY_EXCEEDED}
    assert await desk.standing(2) is Standing.VIOLATION


async def test_receipts_in_fixes_show_that_landmarks_are_up(store: Store) -> None:
    desk = Desk(store)
    await desk.license()
    await desk.deploy(1)
    who = able("fra-1", needed=1)
    assert await store.watch.short(START + HOUR, who) == set(who)
    await report(desk, 1, device(1, located=fix()))
    assert await store.watch.short(START + 4 * HOUR, who) == frozenset()
    assert await store.watch.short(START + 4 * HOUR + SECOND, who) == set(who)

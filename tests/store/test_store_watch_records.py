"""What the records alone bring: quantities, validity, endings (docs/protocol.md RC9, W2, W5)."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from server.store import Store, watch
from server.store.schema import DEPLOYMENTS, LICENSES
from server.store.watch_types import EndingLicense
from server.times import micros
from tests.store.store_world import HOUR, START, pdi
from tests.store.watch_world import BEGAN, DAY, SECOND, Desk
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import LicenseState
from verifier.verdict import Standing

MANY, EXPIRED = Reason.QUANTITY_EXCEEDED, Reason.LICENSE_EXPIRED
SUSPENDED, REVOKED = Reason.LICENSE_SUSPENDED, Reason.LICENSE_REVOKED


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


async def test_those_that_came_last_are_too_many(desk: Desk) -> None:
    await desk.license(quantity=2)
    await desk.deploy(1, at=START - HOUR)
    await desk.deploy(2, at=START - 3 * HOUR, reported=START)
    await desk.deploy(3, at=START - 2 * HOUR)
    found = await desk.sweep(START)
    assert [(turn.pdi, turn.reason, turn.opens) for turn in found.turns] == [(pdi(1), MANY, True)]
    assert await desk.standing(1) is Standing.VIOLATION
    assert (await desk.sweep(START + SECOND)).turns == ()
    await desk.deploy(4, at=START)
    assert (await desk.sweep(START + SECOND)).opened(MANY) == (pdi(4),)


async def test_it_ends_when_the_license_allows_more(desk: Desk) -> None:
    await desk.license(quantity=1)
    await desk.deploy(1, at=BEGAN, reported=START)
    await desk.deploy(2, at=START - HOUR)
    await desk.deploy(3, at=START, reported=START)
    assert (await desk.sweep(START)).opened(MANY) == (pdi(2), pdi(3))
    await desk.change(LICENSES, LICENSES.c.number == "D1", quantity=3)
    ended = await desk.sweep(START + SECOND)
    assert [(turn.pdi, turn.opens) for turn in ended.turns] == [(pdi(2), False), (pdi(3), False)]
    assert await desk.open(2) == set()
    # The one that never reported shows nothing; the other one stands as its report left it.
    assert [await desk.standing(number) for number in (2, 3)] == [Standing.UNPROVEN, Standing.COMPLIANT]
    assert await desk.numbers() == [3, 4]  # opened as 1 and 2, then closed
    assert await desk.findings_number() == 4


async def test_it_ends_for_the_next_one_when_another_goes(desk: Desk) -> None:
    await desk.license(quantity=1)
    await desk.deploy(1, at=BEGAN)
    await desk.deploy(2, at=START)
    assert (await desk.sweep(START)).opened(MANY) == (pdi(2),)
    await desk.end(DEPLOYMENTS, DEPLOYMENTS.c.device_pdi == pdi(1))
    assert [(turn.pdi, turn.opens) for turn in (await desk.sweep(START)).turns] == [(pdi(2), False)]


@pytest.mark.parametrize(("recorded", "many"), [(BEGAN - DAY, (3, 4)), (START - 2 * HOUR, (4,)), (START + HOUR, ())])
async def test_boards_that_nobody_has_seen_use_up_places(desk: Desk, recorded: datetime, many: tuple[int, ...]) -> None:
    """Ten on a board of which three reported: seven wait. They are too many themselves when they came last."""
    await desk.license(quantity=9)
    for number in (1, 2, 3):
        await desk.deploy(number, at=BEGAN)
    await desk.deploy(4, at=START - HOUR)
    await desk.selector(10, 3, recorded)
    assert (await desk.sweep(START)).opened(MANY) == tuple(map(pdi, many))


async def test_no_quantity_no_finding_and_drafts_have_none(desk: Desk) -> None:
    await desk.license(quantity=None)
    await desk.license("D2", quantity=0, state=LicenseState.DRAFT)
    await desk.license("D3", quantity=0, state=LicenseState.SUSPENDED)
    for number in (1, 2, 3):
        await desk.deploy(number, license_number=f"D{number}")
    assert (await desk.sweep(START)).opened(MANY) == (pdi(3),)


async def test_a_license_that_ends_is_told_for_devices_that_do_not_report(desk: Desk) -> None:
    await desk.license(until=START)
    await desk.deploy(1)
    await desk.deploy(3, reported=START - HOUR, kind=DeviceKind.SWITCH)
    assert (await desk.sweep(START - SECOND)).turns == ()
    await desk.deploy(2, reported=START, found=[EXPIRED])  # its verdict came first
    assert [(turn.pdi, turn.reason) for turn in (await desk.sweep(START)).turns] == [(pdi(1), EXPIRED)]
    assert await desk.standing() is Standing.VIOLATION
    assert (await desk.sweep(START + SECOND)).turns == ()
    assert await desk.count(EXPIRED) == 2


async def test_a_device_that_comes_after_the_end_is_told_too(desk: Desk) -> None:
    await desk.license(until=START)
    await desk.deploy(1)
    assert (await desk.sweep(START)).opened(EXPIRED) == (pdi(1),)
    await desk.deploy(2)
    assert (await desk.sweep(START)).opened(EXPIRED) == (pdi(2),)


async def test_it_ends_when_the_license_is_extended(desk: Desk) -> None:
    await desk.license(until=START)
    await desk.deploy(1)
    await desk.sweep(START)
    await desk.change(LICENSES, LICENSES.c.number == "D1", valid_until=micros(START + DAY))
    assert [(turn.reason, turn.opens) for turn in (await desk.sweep(START + HOUR)).turns] == [(EXPIRED, False)]
    assert await desk.standing() is Standing.UNPROVEN
    assert (await desk.sweep(START + DAY)).opened(EXPIRED) == (pdi(1),)


async def test_suspended_and_revoked_take_each_others_place(desk: Desk) -> None:
    await desk.license(until=START)
    await desk.deploy(1)
    assert (await desk.sweep(START)).opened(EXPIRED) == (pdi(1),)
    for state, reason in ((LicenseState.SUSPENDED, SUSPENDED), (LicenseState.REVOKED, REVOKED)):
        await desk.change(LICENSES, LICENSES.c.number == "D1", state=int(state))
        assert (await desk.sweep(START + SECOND)).opened(reason) == (pdi(1),)
        assert await desk.open() == {reason}


async def test_a_draft_that_is_over_says_nothing(desk: Desk) -> None:
    await desk.license(state=LicenseState.DRAFT, until=START)
    await desk.deploy(1)
    assert (await desk.sweep(START + DAY)).turns == ()


async def test_records_that_change_between_look_and_write_are_looked_at_again(desk: Desk) -> None:
    await desk.license(until=START)
    await desk.deploy(1)
    seen = await desk.store._read(lambda c: watch.look(c, START, {}, watch.Memory()))
    assert [turn.reason for turn in seen.recorded] == [EXPIRED]
    await desk.change(LICENSES, LICENSES.c.number == "D1", valid_until=micros(START + DAY))
    wrote = await desk.store._write(lambda c: watch.write_recorded(c, seen.recorded, seen.number, START))
    assert wrote == ()
    assert await desk.open() == set()


async def test_two_nodes_tell_the_records_once(desk: Desk, store_path: Path) -> None:
    await desk.license(until=START, quantity=0)
    await desk.deploy(1)
    other = await Store.open(store_path)
    assert len((await desk.sweep(START)).turns) == 2
    assert (await other.watch.sweep(START, {})).turns == ()
    await other.close()


async def test_licenses_that_end_within_thirty_days_are_told(desk: Desk) -> None:
    ends = START + 60 * DAY
    await desk.license("D1", until=ends)
    await desk.license("D2", until=ends + DAY)
    for number, state in (("D3", LicenseState.DRAFT), ("D4", LicenseState.REVOKED)):
        await desk.license(number, until=ends, state=state)
    soon = ends - timedelta(days=30)
    assert (await desk.sweep(soon - SECOND)).ending == ()
    assert (await desk.sweep(soon)).ending == (EndingLicense("D1", "Example Cloud", ends),)
    assert [each.number for each in await desk.store.watch.ending(ends - SECOND)] == ["D1", "D2"]
    assert [each.number for each in await desk.store.watch.ending(ends)] == ["D2"]

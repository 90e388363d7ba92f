"""Challenges beyond what licenses ask: two people order them, and each is carried out once (docs/protocol.md K3)."""

import pytest
from sqlalchemy import select

from server.store import ChangeClosedError, ChangeKind, ChangeState, FourEyesError, RecordNotFoundError, Store
from server.store.record_types import ChangeRecord
from server.store.schema import CHALLENGE_ORDERS, REVISIONS
from server.times import micros
from tests.store.store_world import HOUR, START, deployment, device, pdi, record
from tests.two_people import deploy
from verifier.units import Pdi


@pytest.fixture
async def deployed(store: Store) -> Store:
    """Device 1 is deployed, device 2 too, device 9 was seen and nothing names it."""
    await deploy(store, [deployment(1), deployment(2)], START - HOUR)
    await store.commit([record(START, [device(9)])])
    return store


async def propose(store: Store, *numbers: int, by: str = "ann") -> ChangeRecord:
    return await store.records.propose_challenges([pdi(number) for number in numbers], by, "seen at a fair", START)


async def approve(store: Store, change: ChangeRecord, by: str = "bob") -> ChangeRecord:
    return await store.records.approve(change.change_id, by, "agreed", START + HOUR)


async def rows(store: Store) -> list[tuple[bytes, int, int, int]]:
    query = select(CHALLENGE_ORDERS).order_by(CHALLENGE_ORDERS.c.pdi, CHALLENGE_ORDERS.c.number)
    return [tuple(row) for row in await store._read(lambda connection: connection.execute(query).all())]


async def test_a_proposal_orders_nothing_and_says_whom_it_concerns(deployed: Store) -> None:
    before = await deployed.records_number()
    change = await propose(deployed, 1, 9)
    assert (change.kind, change.state, change.reason) == (ChangeKind.CHALLENGES, ChangeState.OPEN, "seen at a fair")
    assert change.licensees == ("Example Cloud",)
    assert change.summary == (
        "devices/0000000000000001: ask at once, once (license D1 of Example Cloud, DE)",
        "devices/0000000000000009: ask at once, once (without a deployment in force)",
    )
    assert await rows(deployed) == []
    assert await deployed.records_number() == before
    assert not await deployed.is_ordered([pdi(1), pdi(9)], 0)


async def test_the_second_person_orders_it(deployed: Store) -> None:
    change = await propose(deployed, 1, 9)
    before = await deployed.records_number()
    revisions = len(await deployed._read(lambda connection: connection.execute(select(REVISIONS)).all()))
    applied = await approve(deployed, change)
    number = await deployed.records_number()
    assert (applied.state, applied.decided_by) == (ChangeState.APPLIED, "bob")
    assert number == before + 1, "streams of every process look when the records' number grows"
    at = micros(START + HOUR)
    assert await rows(deployed) == [(pdi(1), number, at, change.change_id), (pdi(9), number, at, change.change_id)]
    assert len(await deployed._read(lambda connection: connection.execute(select(REVISIONS)).all())) == revisions


@pytest.mark.parametrize(("numbers", "ordered"), [((1,), True), ((2,), False), ((2, 9), True), ((), False)])
async def test_who_is_ordered(deployed: Store, numbers: tuple[int, ...], ordered: bool) -> None:  # noqa: FBT001 - a table's column
    await approve(deployed, await propose(deployed, 1, 9))
    number = await deployed.records_number()
    assert await deployed.is_ordered([pdi(each) for each in numbers], number - 1) is ordered
    assert not await deployed.is_ordered([pdi(each) for each in numbers], number), "it was asked since: once is once"


async def test_each_order_counts_by_itself(deployed: Store) -> None:
    await approve(deployed, await propose(deployed, 1))
    first = await deployed.records_number()
    await approve(deployed, await propose(deployed, 1))
    assert await deployed.is_ordered([pdi(1)], first)
    assert [row[1] for row in await rows(deployed)] == [first, first + 1]


async def test_one_person_is_not_enough(deployed: Store) -> None:
    change = await propose(deployed, 1)
    with pytest.raises(FourEyesError):
        await approve(deployed, change, by="ANN")
    assert await rows(deployed) == []


async def test_what_was_rejected_or_withdrawn_is_never_ordered(deployed: Store) -> None:
    rejected, withdrawn = await propose(deployed, 1), await propose(deployed, 2)
    await deployed.records.reject([rejected.change_id], "bob", "no cause", START)
    await deployed.records.withdraw([withdrawn.change_id], "ann", "", START)
    for change in (rejected, withdrawn):
        with pytest.raises(ChangeClosedError):
            await approve(deployed, change)
    assert await rows(deployed) == []


async def test_nobody_is_approved_twice(deployed: Store) -> None:
    change = await propose(deployed, 1)
    await approve(deployed, change)
    with pytest.raises(ChangeClosedError):
        await approve(deployed, change)
    assert len(await rows(deployed)) == 1


async def test_a_device_that_nobody_knows_cannot_be_asked(deployed: Store) -> None:
    with pytest.raises(RecordNotFoundError, match="devices/0000000000000005"):
        await propose(deployed, 1, 5)


async def test_a_thousand_devices_are_one_change(store: Store) -> None:
    await deploy(store, [deployment(number) for number in range(1, 1001)], START - HOUR)
    change = await propose(store, *range(1, 1001))
    assert len(change.summary) == 100
    assert change.summary[-1] == "and 901 more"
    await approve(store, change)
    assert len(await rows(store)) == 1_000
    assert await store.is_ordered([Pdi(pdi(5_000)), pdi(1_000)], 0)

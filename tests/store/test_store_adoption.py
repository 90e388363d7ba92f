"""Deployments by device key and by board: devices that report get one of their own (docs/protocol.md RC8)."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from server.records.values import ByBoard, ByKey, ByPdi, DeploymentRecord
from server.store import AttestationRecord, Store, Unwritten
from server.store.record_types import RevisionFilter
from tests.store.desk_world import deployment_on_record, draft, end, in_force, put, set_state, shown, stands, terms_of
from tests.store.store_world import GERMANY, HOUR, START, Gate, device, finding, load, pdi, record
from verifier.errors import Reason
from verifier.license import Adoption, BoardSwap, LicenseState
from verifier.units import DeviceKeyId
from verifier.verdict import DeviceVerdict, Standing

KEY = DeviceKeyId(bytes(range(32)))
SWITCH = pdi(900)
BY_KEY = DeploymentRecord(ByKey(KEY), "D1", "de")
BY_BOARD = DeploymentRecord(ByBoard(SWITCH, 2), "D1", "de")
KEY_NAME = f"deployments/key-{KEY.hex()}"
BOARD_NAME = f"deployments/board-{SWITCH.hex()}"


async def offered(store: Store, selector: bytes) -> Adoption:
    """What a verification of an unknown device is given."""
    number = await store.records_number()
    by_board = (await store.load_inputs([pdi(1), SWITCH], number)).adoptions
    by_key = (await store.load_inputs((), number, [KEY])).adoptions
    return {**by_board, **by_key}[selector]


def adopted(number: int, adoption: Adoption) -> DeviceVerdict:
    return replace(device(number), adopted=adoption)


def report(*devices: DeviceVerdict) -> AttestationRecord:
    return record(START + HOUR, devices)


async def names(store: Store, numbers: Sequence[int]) -> dict[int, str]:
    return {number: (await stands(store, number)).license_number for number in numbers}


async def test_drafts_offer_nothing(store: Store) -> None:
    await draft(store)
    await put(store, BY_KEY, BY_BOARD)
    loaded = await store.load_inputs([pdi(1), SWITCH], await store.records_number(), [KEY])
    assert loaded.adoptions == {}
    await set_state(store, LicenseState.ACTIVE)
    loaded = await store.load_inputs([pdi(1), SWITCH], await store.records_number(), [KEY])
    held = replace(terms_of(), revision=2)
    assert loaded.adoptions == {KEY: Adoption(KEY, held, GERMANY, 1), SWITCH: Adoption(SWITCH, held, GERMANY, 2)}
    assert loaded.deployments == {}


async def test_a_key_adopts_one_device(store: Store) -> None:
    await in_force(store)
    await put(store, BY_KEY)
    before = await store.records_number()
    assert await store.commit([report(adopted(1, await offered(store, KEY)))]) == Unwritten()
    assert await shown(store) == (Standing.COMPLIANT, [])
    found = await stands(store)
    assert (found.license_number, found.site_id) == ("D1", "de")
    assert await store.records_number() == before + 1
    own, revision, _ = await deployment_on_record(store, f"deployments/{pdi(1).hex()}")
    assert (own, revision) == (DeploymentRecord(ByPdi(pdi(1)), "D1", "de"), 1)
    assert (await deployment_on_record(store, KEY_NAME))[1:] == (1, 1)
    page = await store.records.revisions(RevisionFilter(name=f"deployments/{pdi(1).hex()}"))
    assert [(each.by, each.reason, each.revised_at) for each in page.revisions] == [
        ("trigpoint", f"adopted by {KEY_NAME}", START + HOUR)
    ]
    assert (await load(store, pdi(1))).deployments[pdi(1)].region == GERMANY
    assert (await offered(store, KEY)).left == 0


async def test_a_board_adopts_as_many_as_it_says(store: Store) -> None:
    await in_force(store)
    await put(store, BY_BOARD)
    offer = await offered(store, SWITCH)
    # More than the count in one attestation: none of it is written.
    too_many = report(*(adopted(number, offer) for number in (1, 2, 3)))
    assert (await store.commit([too_many])).stale == {too_many.verdict.challenge}
    assert await store.get_device(pdi(1)) is None
    assert await store.commit([report(adopted(1, offer), adopted(2, offer))]) == Unwritten()
    assert await names(store, [1, 2]) == {1: "D1", 2: "D1"}
    assert (await deployment_on_record(store, BOARD_NAME))[2] == 2
    third = report(adopted(3, offer))
    assert (await store.commit([third])).stale == {third.verdict.challenge}
    # Reports use nothing up: the same devices come again, with deployments of their own.
    again = record(START + 2 * HOUR, [device(1)], based_on=(await load(store, pdi(1))).last)
    assert await store.commit([again]) == Unwritten()
    assert (await deployment_on_record(store, BOARD_NAME))[2] == 2


async def test_two_processes_do_not_adopt_more_than_the_count(store: Store, store_path: Path) -> None:
    await in_force(store)
    await put(store, BY_KEY)
    other = await Store.open(store_path)
    try:
        offer = await offered(store, KEY)
        one, two = report(adopted(1, offer)), report(adopted(2, offer))
        unwritten = await asyncio.gather(store.commit([one]), other.commit([two]))
        stale = unwritten[0].stale | unwritten[1].stale
        assert len(stale) == 1
        assert (await deployment_on_record(store, KEY_NAME))[2] == 1
        deployed = [number for number in (1, 2) if (await load(store, pdi(number))).deployments]
        assert len(deployed) == 1
    finally:
        await other.close()


async def test_one_group_does_not_adopt_more_than_the_count(store: Store) -> None:
    await in_force(store)
    await put(store, BY_KEY)
    offer = await offered(store, KEY)
    gate = Gate(store)
    first = asyncio.create_task(store.commit([report(adopted(1, offer))]))
    second = report(adopted(2, offer))
    behind = asyncio.create_task(store.commit([second]))
    await asyncio.sleep(0)
    await gate.open()
    assert await first == Unwritten()
    assert await behind == Unwritten(stale=frozenset({second.verdict.challenge}))


async def test_a_device_that_was_deployed_meanwhile_is_appraised_again(store: Store) -> None:
    await in_force(store)
    await in_force(store, terms_of("D2"))
    await put(store, BY_KEY)
    verdict = report(adopted(1, await offered(store, KEY)))
    await put(store, DeploymentRecord(ByPdi(pdi(1)), "D2", "de"))
    assert (await store.commit([verdict])).stale == {verdict.verdict.challenge}
    assert await names(store, [1]) == {1: "D2"}
    assert (await offered(store, KEY)).left == 1


async def test_a_device_on_a_draft_is_adopted_all_the_same(store: Store) -> None:
    await in_force(store)
    await draft(store, terms_of("D2"))
    await put(store, BY_KEY, DeploymentRecord(ByPdi(pdi(1)), "D2", "de"))
    assert await store.commit([report(adopted(1, await offered(store, KEY)))]) == Unwritten()
    own, revision, _ = await deployment_on_record(store, f"deployments/{pdi(1).hex()}")
    assert (own.license_number, revision) == ("D1", 2)


@pytest.mark.parametrize("moved", [False, True])
async def test_an_offer_that_is_gone_is_taken_by_nobody(store: Store, moved: bool) -> None:  # noqa: FBT001
    await in_force(store)
    await in_force(store, terms_of("D2"))
    await put(store, BY_KEY)
    verdict = report(adopted(1, await offered(store, KEY)))
    if moved:
        await put(store, replace(BY_KEY, license_number="D2"))
    else:
        await end(store, BY_KEY)
    assert (await store.commit([verdict])).stale == {verdict.verdict.challenge}
    assert await store.get_device(pdi(1)) is None


async def test_adoption_ends_that_a_device_is_unknown(store: Store) -> None:
    await store.commit([record(START, [device(1, finding(Reason.UNKNOWN_DEVICE), standing=Standing.UNLICENSED)])])
    await in_force(store)
    await put(store, BY_KEY)
    states = (await load(store, pdi(1))).last
    verdict = record(START + HOUR, [adopted(1, await offered(store, KEY))], based_on=states)
    assert await store.commit([verdict]) == Unwritten()
    assert await shown(store) == (Standing.COMPLIANT, [])


async def test_a_swap_that_is_done_is_taken_off_the_record(store: Store) -> None:
    await in_force(store)
    swap = BoardSwap(frozenset({pdi(8)}), START + timedelta(days=1))
    await put(store, DeploymentRecord(ByPdi(pdi(1)), "D1", "de", swap=swap))
    assert (await load(store, pdi(1))).deployments[pdi(1)].swap == swap
    before = await store.records_number()
    await store.commit([record(START + HOUR, [replace(device(1, board=[pdi(8)]), swapped=True)])])
    own, revision, _ = await deployment_on_record(store, f"deployments/{pdi(1).hex()}")
    assert (own.swap, revision) == (None, 2)
    assert await store.records_number() == before + 1
    assert (await load(store, pdi(1))).deployments[pdi(1)].swap is None
    # What is not on record does not end.
    states = (await load(store, pdi(1))).last
    second = replace(device(1, board=[pdi(8)]), swapped=True)
    await store.commit([record(START + 2 * HOUR, [second], based_on=states)])
    assert await store.records_number() == before + 1

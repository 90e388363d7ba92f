"""Every finding, raised from evidence or its absence through pipeline, store and desk, and ended where it can end.

One lie or one lapse, one reason. A finding of the core without a row here fails the last test.
"""

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from firmware_stubs.firmware import GPU_OLDER
from server.records.names import record_name
from server.records.values import ByPdi, DeploymentRecord, RecordWrite, Shipment
from tests.scenarios.fleet import LICENSEE, FleetBoard, MemoryFleet
from tests.verifier.helpers_evidence import NEAR_NS, NOW
from verifier.errors import Reason
from verifier.license import BoardSwap, LicenseState
from verifier.units import Pdi
from verifier.verdict import Standing

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
Raise = Callable[[MemoryFleet], Awaitable[dict[str, list[Reason]]]]

RAISED: dict[Reason, Raise] = {}


def raises(reason: Reason) -> Callable[[Raise], Raise]:
    """Register what raises a finding."""

    def keep(raiser: Raise) -> Raise:
        RAISED[reason] = raiser
        return raiser

    return keep


async def one_board(fleet: MemoryFleet, **terms: Any) -> FleetBoard:
    """One honest board of two GPUs under license D1, which has reported."""
    board = fleet.add_board("rack", gpus=2, switches=1)
    await fleet.license("D1", [board], **terms)
    await fleet.attest(board)
    return board


async def put(fleet: MemoryFleet, *records: Any, state_of: str = "") -> None:
    """Write records as two people would."""
    writes = [RecordWrite(record_name(record), record, None) for record in records]
    outcome = await fleet.store.records.write(writes, "ann", state_of or "test", fleet.clock.now)
    if outcome.change is not None:
        await fleet.store.records.approve(outcome.change.change_id, "bob", "", fleet.clock.now)


async def set_state(fleet: MemoryFleet, state: LicenseState) -> None:
    """Suspend, revoke or activate license D1, as two people would."""
    stored = await fleet.store.records.get("licenses/D1")
    assert stored is not None
    record: Any = stored.record
    await put(fleet, replace(record, terms=replace(record.terms, state=state)))


@raises(Reason.OUTSIDE_LICENSED_REGION)
async def _carried_away(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    await fleet.pass_by(20 * HOUR)
    board.abroad = True
    await fleet.attest(board)
    await fleet.desk()
    found = await fleet.findings()
    assert await fleet.cases() == ["ELSEWHERE 2"]
    board.abroad = False
    await fleet.pass_by(20 * HOUR)
    await fleet.attest(board)
    assert await fleet.findings() == {}
    return found


@raises(Reason.IN_PROHIBITED_DESTINATION)
async def _in_a_prohibited_destination(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    return await _carried_away(fleet)


@raises(Reason.IMPOSSIBLE_TRAVEL)
async def _too_fast(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    board.abroad = True
    await fleet.attest(board)
    return await fleet.findings()


@raises(Reason.LOCATION_UNPROVEN)
async def _no_ranges(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    board.ranges = False
    await fleet.attest(board)
    await fleet.desk()
    assert await fleet.cases() == []  # it has to stand for ten minutes first
    found = await fleet.findings()
    board.ranges = True
    await fleet.attest(board)
    assert await fleet.findings() == {}
    return found


@raises(Reason.PRESENCE_OVERDUE)
async def _never_proven_again(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    other = fleet.add_board("neighbor")  # whose ranges show that the landmarks are up
    await fleet.license("D2", [other])
    board.ranges = False
    found: dict[str, list[Reason]] = {}
    for _ in range(120):
        await fleet.round()
        await fleet.pass_by(HOUR / 2)
        found = await fleet.findings()
        if any(Reason.PRESENCE_OVERDUE in reasons for reasons in found.values()):
            break
    assert await fleet.cases() == ["PRESENCE 2"]
    board.ranges = True
    await fleet.round()
    assert await fleet.findings() == {}
    return found


@raises(Reason.SILENT)
async def _nothing_heard(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    await fleet.pass_by(29 * HOUR)
    assert await fleet.findings() == {}
    await fleet.pass_by(2 * HOUR)
    found = await fleet.findings()
    assert await fleet.cases() == ["SILENT_SITE 2"]
    await fleet.attest(board)
    assert await fleet.findings() == {}
    return found


@raises(Reason.NEVER_ACTIVATED)
async def _shipped_and_not_seen(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = fleet.add_board("rack", gpus=1)
    await fleet.license("D1", [board])
    deployment: Any = (await stored(fleet, f"deployments/{board.gpus[0].hex()}")).record
    shipment = Shipment("s1", "D1", deployment.site_id, fleet.clock.now, fleet.clock.now + 3 * DAY)
    await put(fleet, shipment, replace(deployment, shipment_id="s1"))
    await fleet.pass_by(3 * DAY - HOUR)
    assert await fleet.findings() == {}
    await fleet.pass_by(2 * HOUR)
    found = await fleet.findings()
    await fleet.attest(board)
    assert await fleet.findings() == {}
    return found


async def stored(fleet: MemoryFleet, name: str) -> Any:
    """Return a record that is there."""
    found = await fleet.store.records.get(name)
    assert found is not None, name
    return found


@raises(Reason.UNKNOWN_DEVICE)
async def _on_no_record(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = fleet.add_board("rack", gpus=1)
    await fleet.attest(board)
    found = await fleet.findings()
    await fleet.license("D1", [board])
    assert await fleet.findings() == {}
    return found


@raises(Reason.FOREIGN_REPORT)
async def _reported_by_another(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    board.licensee = "Another Cloud"
    await fleet.attest(board)
    return await fleet.findings()


@raises(Reason.LICENSE_EXPIRED)
async def _over(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet, valid_until=NOW + 40 * DAY)
    news = await fleet.desk()
    assert news.opened == ()
    told: list[str] = []
    for _ in range(41):
        told += [case.event.name for case in (await fleet.pass_by(DAY)).opened]
        await fleet.attest(board)
    assert told == ["LICENSE_ENDING", "LICENSE"]
    return await fleet.findings()


@raises(Reason.LICENSE_NOT_YET_VALID)
async def _too_early(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    await one_board(fleet, valid_from=NOW + DAY)
    return await fleet.findings()


@raises(Reason.LICENSE_SUSPENDED)
async def _suspended(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    await set_state(fleet, LicenseState.SUSPENDED)
    found = await fleet.findings()  # at once, without a report
    await fleet.attest(board)
    assert await fleet.findings() == found
    await set_state(fleet, LicenseState.ACTIVE)
    assert await fleet.findings() == {}
    return found


@raises(Reason.LICENSE_REVOKED)
async def _revoked(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    await set_state(fleet, LicenseState.REVOKED)
    found = await fleet.findings()
    await fleet.attest(board)
    assert await fleet.findings() == found
    return found


@raises(Reason.QUANTITY_EXCEEDED)
async def _too_many(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    record: Any = (await stored(fleet, "licenses/D1")).record
    await put(fleet, replace(record, quantity=1))
    await fleet.desk()
    found = await fleet.findings()
    assert len(found) == 1
    await fleet.attest(board)
    assert await fleet.findings() == found  # no report ends it
    await put(fleet, replace(record, quantity=2))
    await fleet.desk()
    assert await fleet.findings() == {}
    return found


@raises(Reason.FIRMWARE_MISMATCH)
async def _tampered(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    await fleet.attest(board, digests={0: {1: bytes(48)}})
    return await fleet.findings()


@raises(Reason.REFERENCE_MISSING)
async def _firmware_nobody_knows(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    fleet.forget_firmware(GPU_OLDER.name)
    board.host.gpus[0] = board.host.gpus[0].flashed(GPU_OLDER).powered_on()
    await fleet.attest(board)
    return await fleet.findings()


@raises(Reason.RANGE_VOID)
async def _range_of_another_challenge(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)

    def bend(claims: dict[int, Any]) -> None:
        device, landmark, mask, receipt = claims[-70004][0]
        claims[-70004][0] = [device, landmark, mask, receipt[:-1] + bytes([receipt[-1] ^ 1])]

    await fleet.attest(board, bend_claims=bend)
    return await fleet.findings()


@raises(Reason.COUNTER_ROLLBACK)
async def _counters_went_back(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = fleet.add_board("rack", gpus=1)
    await fleet.license("D1", [board])
    folder = fleet.folder / "rack" / "gpu-0"
    shutil.copytree(folder, fleet.folder / "kept")
    for _ in range(3):
        board.boot()
        await fleet.attest(board)
        await fleet.pass_by(HOUR)
    shutil.rmtree(folder)
    shutil.copytree(fleet.folder / "kept", folder)
    board.host.gpus = [type(board.host.gpus[0]).load(folder).powered_on()]
    await fleet.attest(board)
    return await fleet.findings()


@raises(Reason.IDENTITY_CLONED)
async def _two_with_one_key(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = fleet.add_board("rack", gpus=1)
    await fleet.license("D1", [board])
    await fleet.attest(board)
    shutil.copytree(fleet.folder / "rack" / "gpu-0", fleet.folder / "copy")
    twin = type(board.host.gpus[0]).load(fleet.folder / "copy").powered_on()
    await fleet.attest(board)
    await fleet.attest(board, impostors={0: twin})
    return await fleet.findings()


@raises(Reason.BOARD_CHANGED)
async def _on_another_board(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)
    other = fleet.add_board("other", gpus=1)
    await fleet.license("D2", [other])
    await fleet.attest(other)
    moved = board.host.gpus.pop()
    other.host.gpus.append(moved)
    await fleet.round()
    found = await fleet.findings()
    # Recorded, it is no alarm, and the old board is another one then.
    deployment: Any = (await stored(fleet, f"deployments/{Pdi(moved.pdi).hex()}")).record
    swap = BoardSwap(frozenset(other.switches), fleet.clock.now + DAY)
    await put(fleet, replace(deployment, swap=swap))
    await fleet.round()
    assert await fleet.findings() == {}
    other.host.gpus.remove(moved)
    board.host.gpus.append(moved)
    await fleet.round()
    assert [Reason.BOARD_CHANGED] in (await fleet.findings()).values()
    return found


@raises(Reason.BOARD_BROKEN)
async def _out_of_its_slot(fleet: MemoryFleet) -> dict[str, list[Reason]]:
    board = await one_board(fleet)

    def torn(index: int, link: bytes | None) -> bytes | None:
        if index == 0:
            return None
        return link.replace(board.gpus[0], b"\xff" * 8) if link is not None else None

    for _ in range(2):
        await fleet.attest(board, bend_link=torn)
    return await fleet.findings()


@pytest.mark.parametrize("reason", RAISED, ids=lambda reason: reason.name)
async def test_finding(fleet: MemoryFleet, reason: Reason) -> None:
    found = await RAISED[reason](fleet)
    assert any(reason in reasons for reasons in found.values()), found


def test_every_finding_has_a_test() -> None:
    assert {reason for reason in Reason if 100 < reason < 200} == RAISED.keys()


async def test_returned_device_is_unknown_afterwards(fleet: MemoryFleet) -> None:
    board = await one_board(fleet)
    outcome = await fleet.store.records.write(
        [RecordWrite(f"deployments/{gpu.hex()}", None, None) for gpu in board.gpus], "ann", "scrapped", fleet.clock.now
    )
    assert outcome.change is not None
    await fleet.store.records.approve(outcome.change.change_id, "bob", "", fleet.clock.now)
    await fleet.pass_by(10 * DAY)
    assert await fleet.findings() == {}
    await fleet.attest(board)
    assert set(await fleet.findings()) == {"rack/0", "rack/1"}
    assert all(reasons == [Reason.UNKNOWN_DEVICE] for reasons in (await fleet.findings()).values())
    device = await fleet.store.get_device(board.gpus[0])
    assert device is not None
    assert device.standing is Standing.UNLICENSED


async def test_transfer_is_no_alarm(fleet: MemoryFleet) -> None:
    board = await one_board(fleet)
    other = fleet.add_board("other", gpus=1)
    await fleet.license("D2", [other])
    target: Any = (await stored(fleet, f"deployments/{other.gpus[0].hex()}")).record
    moved = [DeploymentRecord(ByPdi(gpu), "D2", target.site_id) for gpu in board.gpus]
    await fleet.pass_by(20 * HOUR)
    await put(fleet, *moved)
    await fleet.pass_by(20 * HOUR)  # 40 hours since its last report, 20 since the transfer
    assert "SILENT_SITE 2" not in await fleet.cases()
    await fleet.attest(board)
    device = await fleet.store.get_device(board.gpus[0])
    assert device is not None
    assert (device.standing, device.license_number, device.licensee) == (Standing.COMPLIANT, "D2", LICENSEE)


async def test_honest_ranges_are_within_reach(fleet: MemoryFleet) -> None:
    """What the tests above rest on: half a millisecond is near enough to prove the square country."""
    board = await one_board(fleet)
    device = await fleet.store.get_device(board.gpus[0])
    assert device is not None
    assert device.last_fix is not None
    assert NEAR_NS < 1_000_000
    assert device.standing is Standing.COMPLIANT

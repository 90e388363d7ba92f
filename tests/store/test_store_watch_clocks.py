"""SILENT, NEVER_ACTIVATED and PRESENCE_OVERDUE by given clocks (docs/protocol.md W1 to W4)."""

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from server.store import Store, watch
from server.store.schema import LICENSES, SHIPMENTS, WINDOWS
from server.store.watch_types import Turn
from server.times import micros
from tests.store.store_world import HOUR, START, pdi
from tests.store.watch_world import ALLOWED, BEGAN, DAY, SECOND, Desk, able
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import LicenseState
from verifier.verdict import Standing

SILENT, NEVER, OVERDUE = Reason.SILENT, Reason.NEVER_ACTIVATED, Reason.PRESENCE_OVERDUE
BOTH = able("a", "b")
SECOND_LATER = START + ALLOWED + SECOND


@pytest.fixture
async def desk(store: Store) -> Desk:
    """License D1 with the site fra; the service was up all the time."""
    made = Desk(store)
    await made.license()
    await made.up(BEGAN, START + 30 * DAY)
    return made


@pytest.fixture
async def unproven(desk: Desk) -> Desk:
    """Device 1 was proven at START and reports since without a proof; both domains that could prove it were up."""
    await desk.deploy(1, reported=START + 10 * DAY, activated=BEGAN, proven=START, found=[Reason.LOCATION_UNPROVEN])
    for name in ("a", "b", "c"):
        await desk.landmark_up(name, BEGAN, START + 30 * DAY)
    return desk


# Silence


async def test_drafts_are_not_watched_and_suspended_licenses_are(desk: Desk) -> None:
    await desk.license("D2", state=LicenseState.DRAFT)
    await desk.license("D3", state=LicenseState.SUSPENDED)
    await desk.license("D4", state=LicenseState.REVOKED)
    for number in (2, 3, 4):
        await desk.deploy(number, license_number=f"D{number}", reported=START)
    found = await desk.sweep(SECOND_LATER)
    assert found.opened(SILENT) == (pdi(3), pdi(4))


async def test_silence_waits_for_its_own_license_among_others(desk: Desk) -> None:
    await desk.license("D2", cadence=24 * HOUR, grace=HOUR)
    await desk.license("D3", cadence=HOUR / 4, grace=HOUR / 4)
    for number in (1, 2, 3):
        await desk.deploy(number, license_number=f"D{number}", reported=START)
    told = {}
    for minutes in range(0, 27 * 60, 10):
        now = START + timedelta(minutes=minutes, seconds=1)
        for device in (await desk.sweep(now)).opened(SILENT):
            told[device] = now - START - SECOND
    assert told == {pdi(3): HOUR / 2, pdi(1): ALLOWED, pdi(2): 25 * HOUR}


async def test_silence_in_a_maintenance_window_of_the_site_raises_no_alarm(desk: Desk) -> None:
    await desk.license("D2", sites=("fra", "muc"))
    await desk.deploy(1, reported=START)
    await desk.deploy(2, license_number="D2", site_id="fra", reported=START)
    await desk.deploy(3, license_number="D2", site_id="muc", reported=START)
    await desk.window(START + HOUR, START + 5 * HOUR)
    await desk.window(START + HOUR, START + 3 * HOUR, license_number="D2", site_id="muc")
    told = {}
    for half_hours in range(14):
        now = START + half_hours * HOUR / 2 + SECOND
        for device in (await desk.sweep(now)).opened(SILENT):
            told[device] = now - START - SECOND
    assert told == {pdi(1): ALLOWED + 4 * HOUR, pdi(2): ALLOWED, pdi(3): ALLOWED + 2 * HOUR}


async def test_a_window_without_a_site_is_of_all_sites(desk: Desk) -> None:
    await desk.deploy(1, reported=START)
    await desk.window(START + HOUR / 2, START + HOUR, site_id="")
    assert (await desk.sweep(SECOND_LATER)).turns == ()
    assert (await desk.sweep(SECOND_LATER + HOUR / 2)).opened(SILENT) == (pdi(1),)


async def test_a_window_that_is_shortened_counts_again_at_once(desk: Desk) -> None:
    await desk.deploy(1, reported=START)
    await desk.window(START, START + DAY)
    assert (await desk.sweep(START + 3 * HOUR)).turns == ()
    await desk.change(WINDOWS, WINDOWS.c.site_id == "fra", ends_at=micros(START + HOUR))
    assert (await desk.sweep(START + 3 * HOUR)).opened(SILENT) == (pdi(1),)


async def test_what_a_quick_look_left_waiting_is_looked_at_again(desk: Desk) -> None:
    """The report is old for long; the device's own clock began later."""
    await desk.deploy(1, reported=START - 3 * HOUR, activated=BEGAN, at=START)
    await desk.license("D2", tightened_at=START + HOUR)
    await desk.deploy(2, license_number="D2", reported=START - 3 * HOUR)
    assert (await desk.sweep(START)).turns == ()
    assert (await desk.sweep(START + ALLOWED)).turns == ()
    assert (await desk.sweep(SECOND_LATER)).opened(SILENT) == (pdi(1),)
    assert (await desk.sweep(SECOND_LATER + HOUR)).opened(SILENT) == (pdi(2),)


async def test_a_late_report_that_ends_a_silence_hides_no_further_one(desk: Desk) -> None:
    await desk.deploy(1, reported=START)
    assert (await desk.sweep(SECOND_LATER)).opened(SILENT) == (pdi(1),)
    # Its last report was on its way and is old already when it ends the finding.
    await desk.store._write(lambda c: watch.apply(c, [Turn(pdi(1), SILENT, "", opens=False)], SECOND_LATER))
    await desk.reports(1, last_report_at=micros(START + SECOND))
    later = SECOND_LATER + watch.FULL_EVERY
    assert (await desk.sweep(later)).opened(SILENT) == (pdi(1),)


async def test_shortening_the_cadence_starts_the_clock_there(desk: Desk) -> None:
    await desk.deploy(1, reported=START)
    assert (await desk.sweep(START + HOUR)).turns == ()
    shorter = {"cadence_us": 60_000_000, "grace_us": 30_000_000, "tightened_at": micros(START + HOUR)}
    await desk.change(LICENSES, LICENSES.c.number == "D1", **shorter)
    assert (await desk.sweep(START + HOUR + 90 * SECOND)).turns == ()
    assert (await desk.sweep(START + HOUR + 91 * SECOND)).opened(SILENT) == (pdi(1),)


async def test_many_fall_silent_in_several_transactions_and_each_once(desk: Desk) -> None:
    for number in range(1, 12):
        await desk.deploy(number, reported=START)
    assert len((await desk.sweep(SECOND_LATER)).opened(SILENT)) == 11
    assert await desk.count(SILENT) == 11
    # The counter of findings is what cases follow them by.
    assert await desk.numbers() == list(range(1, 12))
    assert await desk.findings_number() == 11


# Never activated


async def test_never_activated_when_the_shipment_is_late(desk: Desk) -> None:
    await desk.shipment(START)
    await desk.deploy(1, shipment_id="s1")
    await desk.deploy(2, shipment_id="s1", reported=START - HOUR)
    await desk.deploy(3)  # no shipment says when it is to be in service
    await desk.deploy(4, shipment_id="s1", reported=START - 5 * DAY, kind=DeviceKind.SWITCH)
    assert (await desk.sweep(START)).opened(NEVER) == ()
    found = await desk.sweep(START + SECOND)
    assert found.opened(NEVER) == (pdi(1),)
    assert await desk.standing(1) is Standing.SILENT
    assert await desk.open(1) == {NEVER}
    assert (await desk.sweep(START + HOUR)).opened(NEVER) == ()


async def test_what_a_shipment_moves_is_not_silent_under_way(desk: Desk) -> None:
    """Moved from another license, where it reported; its clocks start again (docs/protocol.md RC7)."""
    await desk.shipment(START + 5 * DAY)
    await desk.deploy(1, shipment_id="s1", at=START, reported=START - HOUR)
    await desk.reports(1, activated_at=None)
    assert (await desk.sweep(START + 4 * DAY)).turns == ()
    found = await desk.sweep(START + 5 * DAY + SECOND)
    assert [(turn.pdi, turn.reason) for turn in found.turns] == [(pdi(1), NEVER)]


async def test_what_moves_without_a_shipment_is_silent_in_time(desk: Desk) -> None:
    await desk.deploy(1, at=START, reported=START - HOUR)
    await desk.reports(1, activated_at=None)
    assert (await desk.sweep(START + ALLOWED)).turns == ()
    assert (await desk.sweep(SECOND_LATER)).opened(SILENT) == (pdi(1),)


async def test_outage_of_ours_leaves_as_much_time_to_activate(store: Store) -> None:
    desk = Desk(store)
    await desk.license()
    await desk.shipment(START)
    await desk.deploy(1, shipment_id="s1", at=START - 10 * HOUR)
    await desk.up(START - 10 * HOUR, START - 2 * HOUR)
    back = START + 3 * HOUR
    await desk.up(back, back + 2 * HOUR)
    assert (await desk.sweep(back + SECOND)).turns == ()
    await desk.up(back, back + 2 * HOUR)
    assert (await desk.sweep(back + 2 * HOUR)).turns == ()
    await desk.up(back, back + 2 * HOUR + SECOND)
    assert (await desk.sweep(back + 2 * HOUR + SECOND)).opened(NEVER) == (pdi(1),)


async def test_a_shipment_that_is_expected_earlier_is_late_at_once(desk: Desk) -> None:
    await desk.shipment(START + DAY)
    await desk.deploy(1, shipment_id="s1")
    assert (await desk.sweep(START)).turns == ()
    await desk.change(SHIPMENTS, SHIPMENTS.c.shipment_id == "s1", activation_by=micros(START - HOUR))
    assert (await desk.sweep(START)).opened(NEVER) == (pdi(1),)


# Presence


async def test_overdue_after_cadence_and_grace_without_a_proof(unproven: Desk) -> None:
    assert (await unproven.sweep(START + ALLOWED, BOTH)).turns == ()
    found = await unproven.sweep(SECOND_LATER, BOTH)
    assert found.opened(OVERDUE) == (pdi(1),)
    assert await unproven.standing() is Standing.VIOLATION
    assert await unproven.open() == {Reason.LOCATION_UNPROVEN, OVERDUE}
    assert (await unproven.sweep(SECOND_LATER + HOUR, BOTH)).turns == ()


async def test_overdue_is_counted_from_the_first_report_when_there_was_no_proof(desk: Desk) -> None:
    await desk.deploy(1, reported=START + HOUR, activated=START, found=[Reason.LOCATION_UNPROVEN])
    for name in ("a", "b"):
        await desk.landmark_up(name, BEGAN, START + DAY)
    assert (await desk.sweep(START + ALLOWED, BOTH)).turns == ()
    assert (await desk.sweep(SECOND_LATER, BOTH)).opened(OVERDUE) == (pdi(1),)


@pytest.mark.parametrize("above", [Reason.OUTSIDE_LICENSED_REGION, Reason.IN_PROHIBITED_DESTINATION, Reason.SILENT])
async def test_overdue_is_not_told_besides(desk: Desk, above: Reason) -> None:
    for name in ("a", "b"):
        await desk.landmark_up(name, BEGAN, START + DAY)
    found = [Reason.LOCATION_UNPROVEN, above]
    await desk.deploy(1, reported=START + HOUR, activated=BEGAN, proven=START, found=found)
    assert (await desk.sweep(SECOND_LATER, BOTH)).opened(OVERDUE) == ()


async def test_a_device_that_falls_silent_in_this_sweep_is_not_overdue_too(desk: Desk) -> None:
    for name in ("a", "b"):
        await desk.landmark_up(name, BEGAN, START + DAY)
    await desk.deploy(1, reported=START, activated=BEGAN, proven=START, found=[Reason.LOCATION_UNPROVEN])
    found = await desk.sweep(SECOND_LATER, BOTH)
    assert [(turn.pdi, turn.reason) for turn in found.turns] == [(pdi(1), SILENT)]


async def test_the_clock_runs_only_with_enough_able_domains(unproven: Desk) -> None:
    for who in (able("a"), able("a", "z"), {}, able("a", "b", needed=3), able("a", "b", site_id="muc")):
        assert (await unproven.sweep(START + 9 * DAY, who)).turns == ()
    assert (await unproven.sweep(START + 9 * DAY, able("a", "b", "c", needed=3))).opened(OVERDUE) == (pdi(1),)


async def test_each_license_has_its_own_number_of_domains(unproven: Desk) -> None:
    await unproven.license("D2")
    await unproven.deploy(
        2,
        license_number="D2",
        reported=START + 10 * DAY,
        activated=BEGAN,
        proven=START,
        found=[Reason.LOCATION_UNPROVEN],
    )
    who = {**able("a", "b", needed=3), **able("a", "b", needed=2, license_number="D2")}
    assert (await unproven.sweep(START + 9 * DAY, who)).opened(OVERDUE) == (pdi(2),)


async def test_landmarks_that_are_down_stop_the_clock_and_leave_time_to_catch_up(desk: Desk) -> None:
    await desk.deploy(1, reported=START + 10 * DAY, activated=BEGAN, proven=START, found=[Reason.LOCATION_UNPROVEN])
    await desk.landmark_up("a", BEGAN, START + 10 * DAY)
    await desk.landmark_up("b", BEGAN, START + HOUR)
    back = START + 5 * HOUR
    assert (await desk.sweep(back, BOTH)).turns == ()
    # Half an hour was left; the catch-up window is the cadence, an hour.
    await desk.landmark_up("b", back, back + HOUR - SECOND)
    assert (await desk.sweep(back + HOUR - SECOND, BOTH)).turns == ()
    await desk.landmark_up("b", back, back + HOUR)
    assert (await desk.sweep(back + HOUR, BOTH)).opened(OVERDUE) == (pdi(1),)


async def test_the_catch_up_window_is_six_hours_at_most(desk: Desk) -> None:
    await desk.license("D2", cadence=10 * HOUR, grace=HOUR)
    found = [Reason.LOCATION_UNPROVEN]
    await desk.deploy(1, license_number="D2", reported=START + 10 * DAY, activated=BEGAN, proven=START, found=found)
    who = able("a", "b", license_number="D2")
    await desk.landmark_up("a", BEGAN, START + 10 * DAY)
    await desk.landmark_up("b", BEGAN, START + 11 * HOUR)
    back = START + 20 * HOUR
    await desk.landmark_up("b", back, back + 6 * HOUR - SECOND)
    assert (await desk.sweep(back + 6 * HOUR - SECOND, who)).turns == ()
    await desk.landmark_up("b", back, back + 6 * HOUR)
    assert (await desk.sweep(back + 6 * HOUR, who)).opened(OVERDUE) == (pdi(1),)


async def test_what_was_over_before_the_landmarks_went_away_is_told(desk: Desk) -> None:
    await desk.deploy(1, reported=START + 10 * DAY, activated=BEGAN, proven=START, found=[Reason.LOCATION_UNPROVEN])
    for name in ("a", "b"):
        await desk.landmark_up(name, BEGAN, SECOND_LATER)
    assert (await desk.sweep(START + 5 * HOUR, BOTH)).opened(OVERDUE) == (pdi(1),)


async def test_outage_of_ours_accuses_nobody(store: Store) -> None:
    desk = Desk(store)
    await desk.license()
    await desk.deploy(1, reported=START, activated=BEGAN, proven=START, found=[Reason.LOCATION_UNPROVEN])
    await desk.deploy(2, reported=START)
    for name in ("a", "b"):
        await desk.landmark_up(name, BEGAN, START + 10 * DAY)
    await desk.up(BEGAN, START + HOUR)
    await desk.up(START + 5 * DAY, START + 5 * DAY + HOUR / 2)
    assert (await desk.sweep(START + 5 * DAY + HOUR / 2, BOTH)).turns == ()
    await desk.up(START + 5 * DAY, START + 5 * DAY + HOUR / 2 + SECOND)
    assert (await desk.sweep(START + 5 * DAY + HOUR / 2 + SECOND, BOTH)).opened(SILENT) == (pdi(1), pdi(2))


async def test_presence_is_not_overdue_in_a_maintenance_window(unproven: Desk) -> None:
    await unproven.window(START + HOUR, START + 9 * HOUR)
    assert (await unproven.sweep(START + 9 * HOUR, BOTH)).turns == ()
    assert (await unproven.sweep(START + 9 * HOUR + HOUR / 2 + SECOND, BOTH)).opened(OVERDUE) == (pdi(1),)


async def test_many_unproven_devices_are_gone_through_less_often(
    unproven: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MANY_UNPROVEN", 0)
    assert (await unproven.sweep(START + 5 * DAY, {})).turns == ()
    assert (await unproven.sweep(START + 5 * DAY + 59 * SECOND, BOTH)).turns == ()
    assert (await unproven.sweep(START + 5 * DAY + 60 * SECOND, BOTH)).opened(OVERDUE) == (pdi(1),)


# Restarts and nodes


async def test_two_nodes_neither_double_nor_forget(unproven: Desk, store_path: Path) -> None:
    await unproven.shipment(START)
    await unproven.deploy(2, shipment_id="s1")
    await unproven.deploy(3, reported=START)
    other = await Store.open(store_path)
    both = await asyncio.gather(unproven.store.watch.sweep(SECOND_LATER, BOTH), other.watch.sweep(SECOND_LATER, BOTH))
    told = sorted((turn.reason, turn.pdi) for found in both for turn in found.turns)
    assert told == [(OVERDUE, pdi(1)), (SILENT, pdi(3)), (NEVER, pdi(2))]
    # Both may have looked before one of them wrote; whoever comes second finds nothing left.
    for reason, device in ((OVERDUE, pdi(1)), (SILENT, pdi(3)), (NEVER, pdi(2))):
        again = partial(watch.write_timed, reason=reason, among=[device], able=BOTH, now=SECOND_LATER)
        assert await other._write(again) == ()
    await other.close()


async def test_a_restart_neither_doubles_nor_forgets(unproven: Desk, store_path: Path) -> None:
    await unproven.deploy(3, reported=START)
    await unproven.sweep(START + ALLOWED, BOTH)
    await unproven.store.close()
    store = await Store.open(store_path)
    assert len((await store.watch.sweep(SECOND_LATER, BOTH)).turns) == 2
    await store.close()
    store = await Store.open(store_path)
    assert (await store.watch.sweep(SECOND_LATER + SECOND, BOTH)).turns == ()
    assert await Desk(store).count(SILENT) == 1
    await store.close()


async def test_a_fault_between_look_and_write_forgets_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.deploy(1, reported=START)

    async def fail(*_: object) -> None:
        raise OSError("down")

    door = desk.store.watch
    with monkeypatch.context() as broken:
        broken.setattr(door, "_write", fail)
        with pytest.raises(OSError, match="down"):
            await door.sweep(SECOND_LATER, {})
    assert (await door.sweep(SECOND_LATER, {})).opened(SILENT) == (pdi(1),)

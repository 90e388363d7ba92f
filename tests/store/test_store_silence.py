"""Silence through the store's own doors: imports, commits and marks make it, reports end it (docs/protocol.md AP5)."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from server.records.values import Party
from server.store import DeviceFilter, DeviceRecord, Store
from tests.store.desk_world import put
from tests.store.store_world import HOUR, SITE, START, deployment, device, finding, license_of, pdi, record
from tests.two_people import deploy
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.units import Pdi
from verifier.verdict import Standing

ALLOWED = HOUR + HOUR / 2
"""Cadence + grace of the license in store_world."""

SECOND = timedelta(seconds=1)


async def up(store: Store, since: datetime, until: datetime, node: str = "node-1") -> None:
    """The service of a node is up from one time to another."""
    moment = since
    while moment < until:
        await store.mark_alive(node, moment)
        moment += 55 * SECOND
    await store.mark_alive(node, until)


async def stands(store: Store, number: int = 1) -> DeviceRecord:
    found = await store.get_device(pdi(number))
    assert found is not None
    return found


async def reasons(store: Store, number: int = 1) -> list[Reason]:
    return [each.finding.reason for each in (await stands(store, number)).findings]


async def silent(store: Store, now: datetime) -> tuple[Pdi, ...]:
    return (await store.watch.sweep(now, {})).opened(Reason.SILENT)


@pytest.fixture
async def reported(store: Store) -> Store:
    """Device 1 is deployed and has reported at START."""
    await deploy(store, [deployment(1)], START - HOUR)
    await store.commit([record(START, [device(1), device(2, kind=DeviceKind.SWITCH)])])
    return store


async def test_silent_after_cadence_and_grace_and_not_before(reported: Store) -> None:
    await up(reported, START, START + ALLOWED)
    assert await silent(reported, START + ALLOWED) == ()
    await up(reported, START + ALLOWED, START + ALLOWED + SECOND)
    before = await reported.change_number()
    assert await silent(reported, START + ALLOWED + SECOND) == (pdi(1),)
    assert (await stands(reported)).standing is Standing.SILENT
    assert await reasons(reported) == [Reason.SILENT]
    assert [change.pdi for change in (await reported.changes_after(before)).devices] == [pdi(1)]
    # It is told once.
    assert await silent(reported, START + ALLOWED + HOUR) == ()


async def test_time_before_the_terms_were_shortened_does_not_count(reported: Store) -> None:
    await deploy(reported, [deployment(2)], START)  # of the same license; device 1 is in no file from now on
    await up(reported, START, START + HOUR)
    short = license_of(cadence=60 * SECOND, grace=30 * SECOND)
    await deploy(reported, [deployment(2, short)], START + HOUR)
    silent_at = START + HOUR + 91 * SECOND
    await up(reported, START + HOUR, silent_at - SECOND)
    assert await silent(reported, silent_at - SECOND) == ()
    await up(reported, silent_at - SECOND, silent_at)
    assert await silent(reported, silent_at) == (pdi(1),)


async def test_time_under_another_license_does_not_count(reported: Store) -> None:
    other = license_of("D2", cadence=60 * SECOND, grace=30 * SECOND)
    await deploy(reported, [deployment(3, other)], START)
    await up(reported, START, START + HOUR)
    await deploy(reported, [deployment(1, other)], START + HOUR)
    silent_at = START + HOUR + 91 * SECOND
    await up(reported, START + HOUR, silent_at - SECOND)
    assert await silent(reported, silent_at - SECOND) == ()
    await up(reported, silent_at - SECOND, silent_at)
    assert await silent(reported, silent_at) == (pdi(1),)


async def test_other_changes_of_a_license_postpone_nothing(reported: Store) -> None:
    """Else a file that moves an end date each night would keep its devices from ever being silent."""
    await up(reported, START, START + HOUR)
    await put(reported, Party("two", "Example Cloud Two"))
    extended = replace(license_of(), valid_until=license_of().valid_until + HOUR, licensee="Example Cloud Two")
    await deploy(reported, [deployment(1, extended)], START + HOUR)
    silent_at = START + ALLOWED + SECOND
    await up(reported, START + HOUR, silent_at)
    assert await silent(reported, silent_at) == (pdi(1),)


async def test_clocks_start_again_at_another_site(reported: Store) -> None:
    """docs/protocol.md RC7: it needs not report while it is moved."""
    await up(reported, START, START + HOUR)
    await deploy(reported, [deployment(1, region=SITE)], START + HOUR)
    silent_at = START + HOUR + ALLOWED + SECOND
    await up(reported, START + HOUR, silent_at - SECOND)
    assert await silent(reported, silent_at - SECOND) == ()
    await up(reported, silent_at - SECOND, silent_at)
    assert await silent(reported, silent_at) == (pdi(1),)


async def test_longer_terms_hold_at_once_and_postpone_no_more(reported: Store) -> None:
    await up(reported, START, START + HOUR)
    await deploy(reported, [deployment(1, license_of(grace=HOUR))], START + HOUR)
    silent_at = START + 2 * HOUR + SECOND
    await up(reported, START + HOUR, silent_at - SECOND)
    assert await silent(reported, silent_at - SECOND) == ()
    await up(reported, silent_at - SECOND, silent_at)
    assert await silent(reported, silent_at) == (pdi(1),)


async def test_downtime_does_not_count(store_path: Path) -> None:
    store = await Store.open(store_path)
    await deploy(store, [deployment(1)], START - HOUR)
    await store.commit([record(START, [device(1)])])
    await up(store, START, START + HOUR)
    await store.close()
    back = START + 100 * HOUR
    store = await Store.open(store_path)
    await store.mark_alive("node-1", back)
    assert await silent(store, back) == ()
    # An hour counted before the outage: half an hour is left after it.
    await up(store, back, back + HOUR / 2)
    assert await silent(store, back + HOUR / 2) == ()
    await up(store, back + HOUR / 2, back + HOUR / 2 + SECOND)
    assert await silent(store, back + HOUR / 2 + SECOND) == (pdi(1),)
    await store.close()


async def test_stopped_process_was_not_up(reported: Store) -> None:
    await up(reported, START, START + HOUR)
    # The same process marks again, a day later.
    await reported.mark_alive("node-1", START + 24 * HOUR)
    assert await silent(reported, START + 24 * HOUR) == ()


async def test_one_node_up_is_enough(reported: Store) -> None:
    await up(reported, START, START + HOUR, "node-1")
    await up(reported, START + HOUR / 2, START + ALLOWED + SECOND, "node-2")
    assert await silent(reported, START + ALLOWED + SECOND) == (pdi(1),)


async def test_restart_forgets_no_silence(store_path: Path) -> None:
    store = await Store.open(store_path)
    await deploy(store, [deployment(1)], START - HOUR)
    await store.commit([record(START, [device(1)])])
    await up(store, START, START + ALLOWED + SECOND)
    assert await silent(store, START + ALLOWED + SECOND) == (pdi(1),)
    await store.close()
    store = await Store.open(store_path)
    await store.mark_alive("node-1", START + 2 * HOUR)
    assert await silent(store, START + 2 * HOUR) == ()
    assert (await stands(store)).standing is Standing.SILENT
    await store.close()


async def test_verified_report_ends_silence(reported: Store) -> None:
    silent_at = START + ALLOWED + SECOND
    await up(reported, START, silent_at)
    await silent(reported, silent_at)
    await reported.commit([record(silent_at + HOUR, [device(1)])])
    assert await reasons(reported) == []
    assert (await stands(reported)).standing is Standing.COMPLIANT
    assert await silent(reported, silent_at + HOUR) == ()


async def test_report_that_was_on_its_way_ends_silence(reported: Store) -> None:
    silent_at = START + ALLOWED + SECOND
    await up(reported, START, silent_at)
    await silent(reported, silent_at)
    await reported.commit([record(silent_at - SECOND, [device(1)])])
    assert await reasons(reported) == []


async def test_silence_tells_no_unproven_place_besides(reported: Store) -> None:
    await reported.commit([record(START + SECOND, [device(1, finding(Reason.LOCATION_UNPROVEN))])])
    silent_at = START + ALLOWED + 2 * SECOND
    await up(reported, START, silent_at)
    assert await silent(reported, silent_at) == (pdi(1),)
    assert await reasons(reported) == [Reason.SILENT]
    assert (await stands(reported)).standing is Standing.SILENT
    unproven = await reported.list_devices(DeviceFilter(finding=Reason.LOCATION_UNPROVEN))
    assert (unproven.devices, unproven.total) == ((), 0)
    found = await reported.list_devices(DeviceFilter(finding=Reason.SILENT))
    assert [each.pdi for each in found.devices] == [pdi(1)]


async def test_violation_stays_one_in_silence(reported: Store) -> None:
    outside = finding(Reason.OUTSIDE_LICENSED_REGION)
    await reported.commit([record(START + SECOND, [device(1, outside, standing=Standing.VIOLATION)])])
    silent_at = START + ALLOWED + 2 * SECOND
    await up(reported, START, silent_at)
    assert await silent(reported, silent_at) == (pdi(1),)
    assert set(await reasons(reported)) == {Reason.OUTSIDE_LICENSED_REGION, Reason.SILENT}
    assert (await stands(reported)).standing is Standing.VIOLATION


async def test_only_deployed_gpus_that_reported_fall_silent(store: Store) -> None:
    await deploy(store, [deployment(1), deployment(2), deployment(3)], START - HOUR)
    await store.commit([record(START, [device(1), device(2, kind=DeviceKind.SWITCH), device(4)])])
    later = START + 3 * HOUR
    await up(store, START, later)
    assert await silent(store, later) == (pdi(1),)


async def test_clock_runs_from_the_deployments_record_at_the_earliest(store: Store) -> None:
    await store.commit([record(START - 50 * HOUR, [device(1)])])
    await deploy(store, [deployment(1)], START)
    await up(store, START - 50 * HOUR, START - 47 * HOUR)
    await up(store, START, START + ALLOWED)
    assert await silent(store, START + ALLOWED) == ()
    await up(store, START + ALLOWED, START + ALLOWED + SECOND)
    assert await silent(store, START + ALLOWED + SECOND) == (pdi(1),)


async def test_clock_that_goes_back_takes_no_uptime_away(reported: Store) -> None:
    await up(reported, START, START + ALLOWED + SECOND)
    await reported.mark_alive("node-1", START)
    assert await silent(reported, START + ALLOWED + SECOND) == (pdi(1),)


async def test_two_sweeps_at_once_tell_it_once(reported: Store, store_path: Path) -> None:
    other = await Store.open(store_path)
    silent_at = START + ALLOWED + SECOND
    await up(reported, START, silent_at)
    told = await asyncio.gather(silent(reported, silent_at), silent(other, silent_at))
    assert sorted(told) == [(), (pdi(1),)]
    await other.close()


async def test_time_in_which_somebody_was_turned_away_is_no_uptime(store: Store) -> None:
    await deploy(store, [deployment(1)], START)
    await store.mark_alive("node-1", START)
    await store.commit([record(START, [device(1)])])
    license_allows = deployment(1).license.cadence + deployment(1).license.grace
    half = license_allows / 2
    await store.mark_alive("node-1", START + half, longest_pause=license_allows)
    store.interrupt_uptime()
    late = START + 2 * license_allows
    await store.mark_alive("node-1", late, longest_pause=3 * license_allows)
    assert await silent(store, late) == ()
    await store.mark_alive("node-1", late + license_allows, longest_pause=3 * license_allows)
    assert await silent(store, late + license_allows) == (pdi(1),)

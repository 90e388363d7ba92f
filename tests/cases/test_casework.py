"""The background task: what it counts, and what it hears from the sweep."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import Connection

from server.desk.casework import Casework
from server.store.case_door import CaseDoor
from server.store.case_types import CaseEvent
from server.store.errors import StoreUnavailableError
from server.store.watch_types import EndingLicense, SiteKey, SweepOutcome
from server.telemetry import Telemetry
from tests.cases.case_world import DAY, MINUTE, START, CaseWorld, Result
from verifier.errors import Reason


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def sample(telemetry: Telemetry, name: str, event: str, severity: str) -> float | None:
    return telemetry.registry.get_sample_value(name, {"event": event, "severity": severity})


async def test_it_counts_what_is_open_and_what_was_told(world: CaseWorld) -> None:
    telemetry, clock = Telemetry(), Clock()
    casework = Casework(world.cases, clock, telemetry)
    await world.deploy([1, 2])
    await world.find(Reason.SILENT, [1], START)
    assert [case.event for case in (await casework.run_once()).told] == [CaseEvent.SILENT_SITE]
    await world.find(Reason.SILENT, [2], START)
    assert (await casework.run_once()).told == ()
    assert sample(telemetry, "trigpoint_cases_open", "SILENT_SITE", "VIOLATION") == 1
    assert sample(telemetry, "trigpoint_cases_open", "PRESENCE", "WARNING") == 0
    assert sample(telemetry, "trigpoint_cases_told_total", "SILENT_SITE", "VIOLATION") == 1


async def test_it_hears_from_the_sweep(world: CaseWorld) -> None:
    telemetry, clock = Telemetry(), Clock()
    casework = Casework(world.cases, clock, telemetry)
    await world.deploy([1])
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    ending = EndingLicense("D1", "Example Cloud", START + 20 * DAY)
    casework.swept(SweepOutcome(ending=(ending,), short=frozenset({SiteKey("D1", "fra")})))
    assert [case.event for case in (await casework.run_once()).told] == [CaseEvent.LICENSE_ENDING]
    clock.now = START + 10 * MINUTE
    assert [case.event for case in (await casework.run_once()).told] == [CaseEvent.LANDMARKS_DOWN]
    assert sample(telemetry, "trigpoint_cases_open", "LICENSE_ENDING", "NOTICE") == 1


async def test_before_the_first_sweep_no_license_is_taken_to_end_no_longer(world: CaseWorld) -> None:
    await world.cases.tell_endings([EndingLicense("D1", "Example Cloud", START + 20 * DAY)], START)
    restarted = Casework(world.cases, Clock(), Telemetry())
    await restarted.run_once()
    assert [case.event for case in await world.all()] == [CaseEvent.LICENSE_ENDING]


async def test_a_store_fault_makes_it_late_and_no_more(world: CaseWorld) -> None:
    failed, worked = asyncio.Event(), asyncio.Event()

    async def read(query: Callable[[Connection], Result], /) -> Result:
        if not failed.is_set():
            failed.set()
            raise StoreUnavailableError("a disk is full")
        found = await world.read(query)
        if await world.all():
            worked.set()
        return found

    await world.deploy([1])
    await world.find(Reason.SILENT, [1], START)
    casework = Casework(CaseDoor(read, world.write), Clock(), Telemetry(), timedelta(milliseconds=1))
    running = asyncio.create_task(casework.run())
    async with asyncio.timeout(30):
        await worked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (await world.one()).event is CaseEvent.SILENT_SITE

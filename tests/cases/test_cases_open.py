"""When findings become cases, which ones are one event, and who is told (docs/protocol.md CS1 to CS3)."""

import time
from pathlib import Path

import pytest

from server.store.case_types import CaseEvent, CaseFilter, CaseNews, CaseState
from tests.cases.case_world import DAY, HOUR, MINUTE, SECOND, START, CaseWorld, open_world, pdi
from verifier.errors import Reason
from verifier.verdict import Severity


def numbers(news: CaseNews) -> tuple[list[int], list[int]]:
    return [case.number for case in news.opened], [case.number for case in news.reopened]


async def test_a_violation_opens_a_case_at_once(world: CaseWorld) -> None:
    await world.deploy([1])
    await world.find(Reason.OUTSIDE_LICENSED_REGION, [1], START)
    news = await world.cases.take_findings(START + SECOND)
    assert [case.event for case in news.told] == [CaseEvent.ELSEWHERE]
    case = await world.one()
    assert (case.licensee, case.license_number, case.site_id) == ("Example Cloud", "D1", "fra")
    assert (case.state, case.severity, case.devices, case.devices_open) == (CaseState.OPEN, Severity.VIOLATION, 1, 1)
    assert case.title == "Elsewhere than licensed: Example Cloud, Hall fra, license D1"
    assert case.opened_at == START + SECOND
    # It is told once.
    assert await world.cases.take_findings(START + MINUTE) == CaseNews()


async def test_two_thousand_that_vanish_are_one_case(world: CaseWorld) -> None:
    await world.deploy(range(1, 2_001), agent="rack-7", last_report=START - HOUR, last_proof=START - HOUR)
    await world.find(Reason.SILENT, range(1, 2_001), START, "no report for 1 h 30 min")
    before = time.perf_counter()
    news = await world.cases.take_findings(START + SECOND)
    took = time.perf_counter() - before
    assert len(news.opened) == 1
    assert took < 1.0
    case = await world.one()
    assert (case.event, case.devices, case.devices_open) == (CaseEvent.SILENT_SITE, 2_000, 2_000)
    assert await world.kinds(case.number) == ["LICENSED", "PROVEN", "BROKE"]
    # A later batch is one entry more.
    await world.deploy(range(2_001, 2_301), agent="rack-8", last_report=START - HOUR)
    await world.find(Reason.SILENT, range(2_001, 2_301), START + MINUTE)
    assert numbers(await world.cases.take_findings(START + 2 * MINUTE)) == ([], [])
    assert (await world.one()).devices == 2_300
    assert (await world.kinds(case.number))[-1] == "JOINED"
    assert len(await world.kinds(case.number)) == 4


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (Reason.OUTSIDE_LICENSED_REGION, Reason.IN_PROHIBITED_DESTINATION, True),
        (Reason.SILENT, Reason.NEVER_ACTIVATED, False),
        (Reason.PRESENCE_OVERDUE, Reason.OUTSIDE_LICENSED_REGION, False),
        (Reason.BOARD_CHANGED, Reason.BOARD_BROKEN, True),
        (Reason.FIRMWARE_MISMATCH, Reason.BOARD_CHANGED, False),
        (Reason.LICENSE_EXPIRED, Reason.QUANTITY_EXCEEDED, True),
    ],
)
async def test_reasons_that_tell_of_the_same(world: CaseWorld, first: Reason, second: Reason, together: bool) -> None:  # noqa: FBT001
    await world.deploy([1, 2])
    await world.find(first, [1], START)
    await world.find(second, [2], START)
    await world.cases.take_findings(START)
    assert len(await world.all()) == (1 if together else 2)


async def test_every_finding_has_an_event(world: CaseWorld) -> None:
    reasons = [r for r in Reason if 100 < r < 200 and r is not Reason.RANGE_VOID]
    await world.deploy(range(1, len(reasons) + 1))
    for number, reason in enumerate(reasons, 1):
        await world.find(reason, [number], START)
    await world.cases.take_findings(START)
    await world.cases.take_findings(START + 10 * MINUTE)
    told = {case.event for case in await world.all()}
    assert told == set(CaseEvent) - {CaseEvent.AGENT_DOWN, CaseEvent.LANDMARKS_DOWN, CaseEvent.LICENSE_ENDING}
    assert sum(case.devices for case in await world.all()) == len(reasons)


async def test_a_dropped_range_is_no_case(world: CaseWorld) -> None:
    await world.deploy([1])
    await world.find(Reason.RANGE_VOID, [1], START)
    news = await world.cases.take_findings(START)
    await world.cases.take_findings(START + DAY)
    assert (news.taken, await world.all()) == (1, ())


async def test_sites_and_licenses_and_licensees_are_apart(world: CaseWorld) -> None:
    await world.license("D2", sites=["fra", "ber"])
    await world.license("D3", licensee="Other")
    await world.deploy([1])
    await world.deploy([2], license_number="D2")
    await world.deploy([3], license_number="D2", site="ber")
    await world.deploy([4], license_number="D3")
    await world.find(Reason.OUTSIDE_LICENSED_REGION, [1, 2, 3, 4], START)
    await world.find(Reason.BOARD_CHANGED, [1, 2, 3, 4], START)
    await world.cases.take_findings(START)
    by_event = [(case.event, case.license_number, case.site_id) for case in await world.all()]
    elsewhere = [each for each in by_event if each[0] is CaseEvent.ELSEWHERE]
    assert sorted(each[1:] for each in elsewhere) == [("D1", "fra"), ("D2", "ber"), ("D2", "fra"), ("D3", "fra")]
    identity = [each for each in by_event if each[0] is CaseEvent.IDENTITY]
    assert sorted(each[1:] for each in identity) == [("D1", ""), ("D2", ""), ("D3", "")]


async def test_unknown_devices_are_the_reporters(world: CaseWorld) -> None:
    """A device of one licensee that another's agent reports is the other's case."""
    await world.deploy([3])
    await world.strangers([1, 2], "Shady Racks", START, Reason.UNKNOWN_DEVICE)
    await world.strangers([3], "Shady Racks", START + MINUTE, Reason.FOREIGN_REPORT)
    await world.strangers([4], "Another", START + MINUTE, Reason.UNKNOWN_DEVICE)
    await world.cases.take_findings(START + MINUTE)
    found = sorted((case.licensee, case.event, case.devices) for case in await world.all())
    assert found == [("Another", CaseEvent.UNKNOWN_DEVICES, 1), ("Shady Racks", CaseEvent.UNKNOWN_DEVICES, 3)]


async def test_noise_of_one_licensee_leaves_anothers_alarm(world: CaseWorld) -> None:
    await world.license("D2", licensee="Quiet Cloud")
    await world.deploy([1], license_number="D2")
    await world.strangers(range(100, 10_100), "Noisy Cloud", START, Reason.UNKNOWN_DEVICE)
    await world.find(Reason.IN_PROHIBITED_DESTINATION, [1], START + SECOND)
    news = await world.cases.take_findings(START + SECOND)
    assert sorted((case.licensee, case.event.name, case.devices) for case in news.opened) == [
        ("Noisy Cloud", "UNKNOWN_DEVICES", 10_000),
        ("Quiet Cloud", "ELSEWHERE", 1),
    ]
    assert len(await world.all()) == 2


# Debounce (docs/protocol.md CS3).


async def test_a_warning_waits_ten_minutes(world: CaseWorld) -> None:
    await world.deploy([1, 2])
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.find(Reason.LOCATION_UNPROVEN, [2], START + 5 * MINUTE)
    assert numbers(await world.cases.take_findings(START + 5 * MINUTE)) == ([], [])
    assert await world.all() == ()
    assert (await world.cases.list(CaseFilter())).total == 0
    assert await world.cases.count_open() == {}
    assert numbers(await world.cases.take_findings(START + 10 * MINUTE - SECOND)) == ([], [])
    news = await world.cases.take_findings(START + 10 * MINUTE)
    assert [(case.event, case.severity, case.devices_open) for case in news.opened] == [
        (CaseEvent.PRESENCE, Severity.WARNING, 2)
    ]
    assert await world.cases.count_open() == {(CaseEvent.PRESENCE, Severity.WARNING): 1}


async def test_a_warning_that_waits_is_no_case_to_anybody(world: CaseWorld) -> None:
    await world.deploy([1])
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.cases.take_findings(START)
    assert [await world.cases.get(number) for number in range(4)] == [None] * 4
    assert await world.cases.list_devices(1) is None


async def test_the_debounce_counts_from_the_oldest_that_stands(world: CaseWorld) -> None:
    await world.deploy([1, 2])
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.find(Reason.LOCATION_UNPROVEN, [2], START + 6 * MINUTE)
    await world.end(Reason.LOCATION_UNPROVEN, [1], START + 8 * MINUTE)
    await world.cases.take_findings(START + 8 * MINUTE)
    assert numbers(await world.cases.take_findings(START + 15 * MINUTE)) == ([], [])
    assert len((await world.cases.take_findings(START + 16 * MINUTE)).opened) == 1


async def test_a_warning_that_goes_by_itself_is_forgotten(world: CaseWorld) -> None:
    await world.deploy([1])
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.end(Reason.LOCATION_UNPROVEN, [1], START + 9 * MINUTE)
    await world.cases.take_findings(START + 9 * MINUTE)
    await world.cases.take_findings(START + DAY)
    # More than a day later it is a first one again.
    await world.find(Reason.LOCATION_UNPROVEN, [1], START + DAY + HOUR)
    assert numbers(await world.cases.take_findings(START + DAY + HOUR)) == ([], [])
    assert await world.all() == ()


async def test_the_second_within_a_day_is_a_case(world: CaseWorld) -> None:
    await world.deploy([1, 2])
    await world.find(Reason.COUNTER_ROLLBACK, [1], START)
    await world.end(Reason.COUNTER_ROLLBACK, [1], START + MINUTE)
    assert numbers(await world.cases.take_findings(START + MINUTE)) == ([], [])
    await world.find(Reason.IDENTITY_CLONED, [2], START + 23 * HOUR)
    news = await world.cases.take_findings(START + 23 * HOUR)
    assert [(case.event, case.devices, case.devices_open) for case in news.opened] == [(CaseEvent.IDENTITY, 2, 1)]
    assert "JOINED" in await world.kinds(news.opened[0].number)


async def test_the_second_is_one_even_when_both_are_read_at_once(world: CaseWorld) -> None:
    await world.deploy([1])
    await world.find(Reason.COUNTER_ROLLBACK, [1], START)
    await world.end(Reason.COUNTER_ROLLBACK, [1], START + MINUTE)
    await world.find(Reason.COUNTER_ROLLBACK, [1], START + 2 * MINUTE)
    assert len((await world.cases.take_findings(START + 2 * MINUTE)).opened) == 1


async def test_a_violation_of_the_scope_takes_waiting_warnings_along(world: CaseWorld) -> None:
    await world.deploy([1, 2])
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.cases.take_findings(START)
    await world.find(Reason.PRESENCE_OVERDUE, [2], START + MINUTE)
    news = await world.cases.take_findings(START + MINUTE)
    assert [(case.severity, case.devices) for case in news.opened] == [(Severity.VIOLATION, 2)]


async def test_a_flap_tells_nobody_again(world: CaseWorld) -> None:
    await world.deploy([1])
    await world.find(Reason.SILENT, [1], START)
    await world.cases.take_findings(START)
    for hour in range(1, 6):
        await world.end(Reason.SILENT, [1], START + hour * HOUR - MINUTE)
        await world.cases.take_findings(START + hour * HOUR - MINUTE)
        assert (await world.one()).quiet_since == START + hour * HOUR - MINUTE
        await world.find(Reason.SILENT, [1], START + hour * HOUR)
        assert numbers(await world.cases.take_findings(START + hour * HOUR)) == ([], [])
    case = await world.one()
    assert (case.devices, case.devices_open, case.quiet_since) == (1, 1, None)


async def test_a_return_after_more_than_a_day_is_told_again(world: CaseWorld) -> None:
    await world.deploy([1])
    await world.find(Reason.SILENT, [1], START)
    await world.cases.take_findings(START)
    await world.end(Reason.SILENT, [1], START + HOUR)
    await world.cases.take_findings(START + HOUR)
    await world.find(Reason.SILENT, [1], START + 3 * DAY)
    news = await world.cases.take_findings(START + 3 * DAY)
    assert numbers(news) == ([], [(await world.one()).number])
    assert "returned after 2 d 23 h of quiet" in (await world.story(news.reopened[0].number))[-2][1]


async def test_what_opened_and_ended_between_two_rounds_is_not_lost(world: CaseWorld) -> None:
    await world.deploy([1])
    await world.find(Reason.IN_PROHIBITED_DESTINATION, [1], START)
    await world.end(Reason.IN_PROHIBITED_DESTINATION, [1], START + SECOND)
    news = await world.cases.take_findings(START + MINUTE)
    assert [(case.devices, case.devices_open, case.quiet_since) for case in news.opened] == [(1, 0, START + SECOND)]


async def test_a_second_node_neither_doubles_nor_forgets(world: CaseWorld, tmp_path: Path) -> None:
    await world.deploy([1, 2, 3])
    async with open_world(tmp_path / "trigpoint.db") as other:
        await world.find(Reason.SILENT, [1], START)
        assert len((await world.cases.take_findings(START)).opened) == 1
        assert await other.cases.take_findings(START) == CaseNews()
        await world.find(Reason.SILENT, [2], START + SECOND)
        assert (await other.cases.take_findings(START + SECOND)).taken == 1
        assert await world.cases.take_findings(START + SECOND) == CaseNews()
    assert (await world.one()).devices == 2
    page = await world.cases.list_devices((await world.one()).number)
    assert page is not None
    assert [(each.pdi, each.reason, each.opened_at) for each in page.devices] == [
        (pdi(1), Reason.SILENT, START),
        (pdi(2), Reason.SILENT, START + SECOND),
    ]

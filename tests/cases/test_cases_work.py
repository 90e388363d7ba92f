"""How a case stands: by rule, and by what people do (docs/protocol.md CS4, CS5, W5)."""

from datetime import timedelta

import pytest

from server.store.case_types import (
    CaseAction,
    CaseEntryKind,
    CaseEvent,
    CaseNews,
    CaseRecord,
    CaseRef,
    CaseState,
    CaseStateError,
    CaseWork,
)
from server.store.errors import RecordNotFoundError, StaleRevisionError
from server.store.watch_types import EndingLicense
from tests.cases.case_world import DAY, HOUR, MINUTE, SECOND, START, CaseWorld
from verifier.errors import Reason
from verifier.verdict import Severity

LICENSED = (
    "License D1 of Example Cloud, revision 3, allows these devices at site Hall fra (25 km around 50.11, 8.68). "
    "It is valid from 2026-03-23 to before 2027-01-17; presence means being at the site, to be proven every 1 h with a "
    "grace of 30 min."
)


async def do(
    world: CaseWorld, action: CaseAction, number: int = 1, *, at: timedelta = HOUR, **work: object
) -> CaseRecord:
    given = CaseWork(action, **work)  # type: ignore[arg-type]
    (case,) = await world.cases.work([CaseRef(number)], given, "ann", START + at)
    return case


@pytest.fixture
async def silent(world: CaseWorld) -> CaseWorld:
    """Case 1: a silent device."""
    await world.deploy([1, 2, 3], last_report=START - HOUR, last_proof=START - 2 * HOUR)
    await world.find(Reason.SILENT, [1], START, "no report for 1 h 30 min")
    await world.cases.take_findings(START)
    return world


@pytest.fixture
async def unproven(world: CaseWorld) -> CaseWorld:
    """Case 1: a warning that has stood and ended, quiet since an hour after START."""
    await world.deploy([1, 2])
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.cases.take_findings(START + 10 * MINUTE)
    await world.end(Reason.LOCATION_UNPROVEN, [1], START + HOUR)
    await world.cases.take_findings(START + HOUR)
    return world


async def test_the_way_of_a_case(silent: CaseWorld) -> None:
    assert (await do(silent, CaseAction.ACKNOWLEDGE)).state is CaseState.ACKNOWLEDGED
    assert (await do(silent, CaseAction.ASSIGN, assignee="bob", text="knows the site")).assignee == "bob"
    assert (await do(silent, CaseAction.INVESTIGATE)).state is CaseState.INVESTIGATING
    await do(silent, CaseAction.NOTE, text="They moved racks.")
    await silent.end(Reason.SILENT, [1], START + HOUR)
    await silent.cases.take_findings(START + HOUR)
    done = await do(silent, CaseAction.RESOLVE, text="Planned move, seen on site", at=2 * HOUR)
    assert (done.state, done.resolved_at, done.resolution) == (
        CaseState.RESOLVED,
        START + 2 * HOUR,
        "Planned move, seen on site",
    )
    found = await silent.cases.get(1)
    assert found is not None
    told = [(entry.kind.name, entry.by, entry.text) for entry in found.entries[3:]]
    assert told == [
        ("WORK", "ann", "Acknowledged."),
        ("WORK", "ann", "Assigned to bob: knows the site"),
        ("WORK", "ann", "Taken under investigation."),
        ("NOTE", "ann", "They moved racks."),
        ("ENDED", "", "SILENT ended on 1 device: all has ended."),
        ("WORK", "ann", "Resolved: Planned move, seen on site"),
    ]
    assert (await do(silent, CaseAction.REOPEN, text="It was not", at=3 * HOUR)).resolved_at is None


@pytest.mark.parametrize(
    ("before", "action"),
    [
        ([], CaseAction.REOPEN),
        ([CaseAction.ACKNOWLEDGE], CaseAction.ACKNOWLEDGE),
        ([CaseAction.INVESTIGATE], CaseAction.ACKNOWLEDGE),
        ([CaseAction.INVESTIGATE], CaseAction.INVESTIGATE),
        ([CaseAction.RESOLVE], CaseAction.RESOLVE),
        ([CaseAction.RESOLVE], CaseAction.ASSIGN),
        ([CaseAction.RESOLVE], CaseAction.INVESTIGATE),
    ],
)
async def test_what_cannot_be_done(silent: CaseWorld, before: list[CaseAction], action: CaseAction) -> None:
    for each in before:
        await do(silent, each, text="x", accept_risk=True)
    with pytest.raises(CaseStateError, match="cases/1"):
        await do(silent, action, text="x", accept_risk=True)


async def test_open_findings_can_be_accepted_as_risk_alone(silent: CaseWorld) -> None:
    with pytest.raises(CaseStateError, match="accepted risk"):
        await do(silent, CaseAction.RESOLVE, text="whatever")
    case = await do(silent, CaseAction.RESOLVE, text="decommissioned", accept_risk=True)
    assert case.resolution == "Accepted risk, with findings open on 1 device: decommissioned"
    # Its ends are still told, and another device reopens it.
    await silent.end(Reason.SILENT, [1], START + HOUR)
    assert (await silent.cases.take_findings(START + HOUR)).told == ()
    await silent.find(Reason.SILENT, [2], START + 2 * HOUR)
    assert [c.number for c in (await silent.cases.take_findings(START + 2 * HOUR)).reopened] == [1]


async def test_another_revision_or_an_unknown_case_and_nothing_is_written(silent: CaseWorld) -> None:
    seen = (await silent.one()).revision
    note = CaseWork(CaseAction.NOTE, "x")
    with pytest.raises(StaleRevisionError):
        await silent.cases.work([CaseRef(1, seen + 1)], note, "ann", START)
    with pytest.raises(RecordNotFoundError):
        await silent.cases.work([CaseRef(1, seen), CaseRef(99)], note, "ann", START)
    assert (await silent.one()).revision == seen
    await silent.cases.work([CaseRef(1, seen)], note, "ann", START)
    assert (await silent.one()).revision == seen + 1


async def test_a_warning_waits_for_no_officer(unproven: CaseWorld) -> None:
    assert await unproven.cases.take_findings(START + HOUR + DAY - SECOND) == CaseNews()
    news = await unproven.cases.take_findings(START + HOUR + DAY)
    assert [(c.number, c.state) for c in news.resolved] == [(1, CaseState.RESOLVED)]
    assert (await unproven.story(1))[-1] == (
        CaseEntryKind.RULE,
        "Quiet for a day and never more than a warning: resolved by rule.",
    )


async def test_a_violation_is_never_resolved_by_rule(silent: CaseWorld) -> None:
    await silent.end(Reason.SILENT, [1], START + HOUR)
    for day in range(40):
        assert (await silent.cases.take_findings(START + HOUR + day * DAY)).resolved == ()
    assert (await silent.one()).quiet_since == START + HOUR


async def test_within_thirty_days_it_is_the_same_case(unproven: CaseWorld) -> None:
    await unproven.cases.take_findings(START + 2 * DAY)
    await unproven.find(Reason.LOCATION_UNPROVEN, [2], START + 20 * DAY)
    # A warning reopens no sooner than it opens.
    assert (await unproven.cases.take_findings(START + 20 * DAY)).told == ()
    assert await unproven.all() == ()
    news = await unproven.cases.take_findings(START + 20 * DAY + 10 * MINUTE)
    assert [(c.number, c.state, c.devices) for c in news.reopened] == [(1, CaseState.OPEN, 2)]
    assert "reopened" in " ".join(text for kind, text in await unproven.story(1) if kind is CaseEntryKind.RULE)
    page = await unproven.cases.list_devices(1)
    assert page is not None
    assert len(page.devices) == 2


async def test_within_a_day_a_warning_reopens_at_once(unproven: CaseWorld) -> None:
    await do(unproven, CaseAction.RESOLVE, text="seen")
    await unproven.find(Reason.LOCATION_UNPROVEN, [1], START + 3 * HOUR)
    news = await unproven.cases.take_findings(START + 3 * HOUR)
    assert [c.number for c in news.reopened] == [1]


async def test_a_violation_reopens_at_once(silent: CaseWorld) -> None:
    await silent.end(Reason.SILENT, [1], START + HOUR)
    await silent.cases.take_findings(START + HOUR)
    await do(silent, CaseAction.RESOLVE, text="seen")
    await silent.find(Reason.SILENT, [1], START + 29 * DAY)
    news = await silent.cases.take_findings(START + 29 * DAY)
    assert [(c.number, c.resolution, c.resolved_at) for c in news.reopened] == [(1, "", None)]


async def test_after_thirty_days_it_is_another_case_that_names_the_first(silent: CaseWorld) -> None:
    await silent.end(Reason.SILENT, [1], START + HOUR)
    await silent.cases.take_findings(START + HOUR)
    await do(silent, CaseAction.RESOLVE, text="power cut")
    await silent.find(Reason.SILENT, [1], START + HOUR + 30 * DAY + SECOND)
    (case,) = (await silent.cases.take_findings(START + HOUR + 30 * DAY + SECOND)).opened
    assert case.number != 1
    rules = [text for kind, text in await silent.story(case.number) if kind is CaseEntryKind.RULE]
    assert rules == ["An earlier case about the same is cases/1, resolved at 2026-07-01 13:00 UTC: power cut"]
    with pytest.raises(CaseStateError, match=f"cases/{case.number} is about the same and open"):
        await do(silent, CaseAction.REOPEN, text="wrong one")


async def test_reopening_takes_waiting_warnings_along(unproven: CaseWorld) -> None:
    await unproven.cases.take_findings(START + 2 * DAY)
    await unproven.find(Reason.LOCATION_UNPROVEN, [2], START + 3 * DAY)
    await unproven.cases.take_findings(START + 3 * DAY)
    case = await do(unproven, CaseAction.REOPEN, text="again", at=3 * DAY)
    assert (case.devices, case.devices_open, case.quiet_since) == (2, 1, None)
    assert (await unproven.cases.take_findings(START + 3 * DAY + HOUR)).told == ()


async def test_a_fix_that_falls_reopens_its_case(world: CaseWorld) -> None:
    """docs/protocol.md LA6: without a distrusted landmark a finding returns, and so does its case."""
    await world.deploy([1])
    await world.find(Reason.PRESENCE_OVERDUE, [1], START)
    await world.cases.take_findings(START)
    await world.end(Reason.PRESENCE_OVERDUE, [1], START + HOUR)
    await world.cases.take_findings(START + HOUR)
    await do(world, CaseAction.RESOLVE, text="proven again")
    await world.find(Reason.LOCATION_UNPROVEN, [1], START + 2 * HOUR, "no disc is left")
    news = await world.cases.take_findings(START + 2 * HOUR)
    assert [c.number for c in news.reopened] == [1]
    assert "It returned within 30 days" in str(await world.story(1))


# The story.


async def test_the_story_of_a_silent_site(silent: CaseWorld) -> None:
    await silent.find(Reason.SILENT, [2, 3], START + MINUTE, "no report for 1 h 30 min")
    await silent.cases.take_findings(START + MINUTE)
    await silent.end(Reason.SILENT, [2], START + HOUR)
    await silent.cases.take_findings(START + HOUR)
    assert [text for _, text in await silent.story(1)] == [
        LICENSED,
        "Presence was last proven at 2026-07-01 10:00 UTC, by 0000000000000001.",
        "1 device: SILENT. 0000000000000001: no report for 1 h 30 min.",
        "2 devices: SILENT. 0000000000000002, 0000000000000003: no report for 1 h 30 min.",
        "SILENT ended on 1 device; 2 devices still open.",
    ]
    found = await silent.cases.get(1)
    assert found is not None
    times = [entry.at for entry in found.entries]
    assert times == sorted(times)
    assert times[1:4] == [START - 2 * HOUR, START, START + MINUTE]


async def test_a_story_names_a_few_and_counts_the_rest(world: CaseWorld) -> None:
    await world.deploy(range(1, 1_201))
    await world.find(Reason.NEVER_ACTIVATED, range(1, 1_201), START, "shipped, and never heard of")
    await world.cases.take_findings(START)
    told = dict(await world.story(1))
    assert told[CaseEntryKind.BROKE] == (
        "1,200 devices: NEVER_ACTIVATED. 0000000000000001, 0000000000000002, 0000000000000003: "
        "shipped, and never heard of; and 1,197 devices more."
    )
    assert (
        told[CaseEntryKind.PROVEN] == "1,200 devices: their presence has never been proven under a license on record."
    )


# Licenses that end (docs/protocol.md W5).


async def test_a_license_that_ends_is_told_once(world: CaseWorld) -> None:
    ending = EndingLicense("D1", "Example Cloud", START + 29 * DAY)
    news = await world.cases.tell_endings([ending], START)
    assert [(c.event, c.severity, c.title) for c in news.opened] == [
        (CaseEvent.LICENSE_ENDING, Severity.NOTICE, "License D1 ends on 2026-07-30: Example Cloud")
    ]
    assert await world.cases.tell_endings([ending], START + DAY) == CaseNews()
    await do(world, CaseAction.RESOLVE, text="renewal filed")
    assert await world.cases.tell_endings([ending], START + 2 * DAY) == CaseNews()
    # Another end is told again.
    later = EndingLicense("D1", "Example Cloud", START + 40 * DAY)
    assert len((await world.cases.tell_endings([later], START + 12 * DAY)).opened) == 1


async def test_a_license_that_no_longer_ends_needs_nobody(world: CaseWorld) -> None:
    await world.cases.tell_endings([EndingLicense("D1", "Example Cloud", START + 29 * DAY)], START)
    news = await world.cases.tell_endings([], START + DAY)
    assert [c.event for c in news.resolved] == [CaseEvent.LICENSE_ENDING]
    assert await world.cases.tell_endings([], START + DAY) == CaseNews()

"""Silence behind an agent, and landmarks that are down (docs/protocol.md CS2)."""

from server.store.case_rules import AgentDevice, is_agent_down
from server.store.case_types import CaseEvent
from server.store.watch_types import SiteKey
from server.times import MICROSECOND, micros
from tests.cases.case_world import DAY, HOUR, MINUTE, START, CaseWorld
from verifier.errors import Reason

ALLOWED = HOUR + 30 * MINUTE
FRA, BER = SiteKey("D2", "fra"), SiteKey("D2", "ber")


async def two_sites(world: CaseWorld) -> None:
    """Devices 1 to 3 in Frankfurt and 4 to 6 in Berlin, all behind one agent, that reported last at START."""
    await world.license("D2", sites=["fra", "ber"])
    await world.deploy(range(1, 4), license_number="D2", agent="relay", last_report=START)
    await world.deploy(range(4, 7), license_number="D2", site="ber", agent="relay", last_report=START)


async def test_an_agent_that_takes_two_sites_along_is_one_case(world: CaseWorld) -> None:
    await two_sites(world)
    await world.find(Reason.SILENT, range(1, 7), START + ALLOWED)
    news = await world.cases.take_findings(START + ALLOWED)
    assert [(c.event, c.devices, c.site_id, c.jurisdiction) for c in news.opened] == [(CaseEvent.AGENT_DOWN, 6, "", "")]
    assert news.opened[0].title == "All devices behind an agent fell silent: Example Cloud, agent relay"


async def test_two_sites_with_two_agents_are_two_cases(world: CaseWorld) -> None:
    await world.license("D2", sites=["fra", "ber"])
    await world.deploy([1], license_number="D2", agent="relay-1", last_report=START)
    await world.deploy([2], license_number="D2", site="ber", agent="relay-2", last_report=START)
    await world.find(Reason.SILENT, [1, 2], START + ALLOWED)
    news = await world.cases.take_findings(START + ALLOWED)
    assert [case.event for case in news.opened] == [CaseEvent.SILENT_SITE] * 2


async def test_an_agent_that_is_heard_is_not_down(world: CaseWorld) -> None:
    await two_sites(world)
    await world.report(6, START + ALLOWED - MINUTE)
    await world.find(Reason.SILENT, range(1, 6), START + ALLOWED)
    news = await world.cases.take_findings(START + ALLOWED)
    assert sorted((case.event, case.site_id) for case in news.opened) == [
        (CaseEvent.SILENT_SITE, "ber"),
        (CaseEvent.SILENT_SITE, "fra"),
    ]


async def test_an_agent_of_the_same_name_at_another_licensee_is_another(world: CaseWorld) -> None:
    await world.license("D2", licensee="Other", sites=["ber"])
    await world.deploy([1], agent="relay", last_report=START)
    await world.deploy([2], license_number="D2", site="ber", agent="relay", last_report=START)
    await world.find(Reason.SILENT, [1, 2], START + ALLOWED)
    news = await world.cases.take_findings(START + ALLOWED)
    assert sorted((case.event, case.licensee) for case in news.opened) == [
        (CaseEvent.SILENT_SITE, "Example Cloud"),
        (CaseEvent.SILENT_SITE, "Other"),
    ]


async def test_a_young_case_of_a_site_becomes_the_agents(world: CaseWorld) -> None:
    await two_sites(world)
    await world.find(Reason.SILENT, range(1, 4), START + ALLOWED)
    (site,) = (await world.cases.take_findings(START + ALLOWED)).opened
    assert site.event is CaseEvent.SILENT_SITE
    await world.find(Reason.SILENT, [4], START + ALLOWED + 9 * MINUTE)
    assert (await world.cases.take_findings(START + ALLOWED + 9 * MINUTE)).told == ()
    case = await world.one()
    assert (case.number, case.event, case.devices, case.site_id) == (site.number, CaseEvent.AGENT_DOWN, 4, "")
    # More that follow join it, however much later.
    await world.find(Reason.SILENT, [5, 6], START + ALLOWED + HOUR)
    assert (await world.cases.take_findings(START + ALLOWED + HOUR)).told == ()
    assert (await world.one()).devices == 6
    assert await world.kinds(case.number) == ["LICENSED", "PROVEN", "BROKE", "RULE", "JOINED", "JOINED"]


async def test_an_old_case_of_a_site_stays_its_own(world: CaseWorld) -> None:
    await two_sites(world)
    await world.find(Reason.SILENT, range(1, 4), START + ALLOWED)
    await world.cases.take_findings(START + ALLOWED)
    await world.find(Reason.SILENT, range(4, 7), START + ALLOWED + 11 * MINUTE)
    (second,) = (await world.cases.take_findings(START + ALLOWED + 11 * MINUTE)).opened
    assert (second.event, second.site_id) == (CaseEvent.SILENT_SITE, "ber")


async def test_a_sites_case_with_others_devices_stays_the_sites(world: CaseWorld) -> None:
    await two_sites(world)
    await world.deploy([9], license_number="D2", agent="relay-9", last_report=START)
    await world.find(Reason.SILENT, [1, 2, 3, 9], START + ALLOWED)
    await world.cases.take_findings(START + ALLOWED)
    await world.find(Reason.SILENT, range(4, 7), START + ALLOWED + MINUTE)
    (agents,) = (await world.cases.take_findings(START + ALLOWED + MINUTE)).opened
    assert (agents.event, agents.devices) == (CaseEvent.AGENT_DOWN, 3)
    found = sorted((case.event, case.devices) for case in await world.all())
    assert found == [(CaseEvent.SILENT_SITE, 4), (CaseEvent.AGENT_DOWN, 3)]


def test_nothing_silent_is_no_agent_down() -> None:
    silent = AgentDevice(FRA, micros(START), 0, micros(START + HOUR))
    assert not is_agent_down([], micros(START), told=True)
    assert not is_agent_down([AgentDevice(FRA, micros(START), 0, None)], micros(START + HOUR), told=True)
    assert is_agent_down([silent], micros(START + HOUR), told=True)
    assert not is_agent_down([silent], micros(START + HOUR), told=False)


def test_a_report_counts_from_when_the_first_should_have_come() -> None:
    grace = 30 * MINUTE // MICROSECOND
    now = micros(START + HOUR)
    silent = [AgentDevice(FRA, micros(START), grace, now), AgentDevice(BER, None, grace, now)]
    due = now - grace
    assert is_agent_down([*silent, AgentDevice(BER, due, grace, None)], now, told=False)
    assert not is_agent_down([*silent, AgentDevice(BER, due + 1, grace, None)], now, told=False)


# Landmarks.


async def test_landmarks_that_are_down_are_one_case_for_all(world: CaseWorld) -> None:
    await world.license("D2", licensee="Other", sites=["ber", "muc"])
    await world.deploy([1])
    await world.deploy([2], license_number="D2", site="ber")
    await world.deploy([3], license_number="D2", site="muc")
    await world.find(Reason.LOCATION_UNPROVEN, [1, 2, 3], START)
    short = {SiteKey("D1", "fra"), SiteKey("D2", "ber")}
    await world.cases.take_findings(START, short)
    news = await world.cases.take_findings(START + 10 * MINUTE, short)
    found = sorted((case.event, case.licensee, case.devices) for case in news.opened)
    assert found == [(CaseEvent.PRESENCE, "Other", 1), (CaseEvent.LANDMARKS_DOWN, "", 2)]


async def test_what_is_known_of_landmarks_only_when_the_debounce_ends_counts(world: CaseWorld) -> None:
    await world.license("D2", licensee="Other", sites=["ber"])
    await world.deploy([1, 4])
    await world.deploy([2, 3], license_number="D2", site="ber")
    await world.find(Reason.LOCATION_UNPROVEN, [1, 2], START)
    await world.cases.take_findings(START)
    short = {SiteKey("D1", "fra"), SiteKey("D2", "ber")}
    news = await world.cases.take_findings(START + 10 * MINUTE, short)
    assert [(case.event, case.devices) for case in news.opened] == [(CaseEvent.LANDMARKS_DOWN, 2)]
    assert [case.event for case in await world.all()] == [CaseEvent.LANDMARKS_DOWN]
    # What comes later joins at once.
    await world.find(Reason.LOCATION_UNPROVEN, [3], START + HOUR)
    assert (await world.cases.take_findings(START + HOUR, short)).told == ()
    assert (await world.one()).devices == 3
    # A presence that is overdue is never the landmarks'.
    await world.find(Reason.PRESENCE_OVERDUE, [4], START + HOUR)
    (overdue,) = (await world.cases.take_findings(START + HOUR, short)).opened
    assert overdue.event is CaseEvent.PRESENCE


async def test_waiting_warnings_meet_a_landmark_case_that_waits_too(world: CaseWorld) -> None:
    await world.license("D2", licensee="Other", sites=["ber"])
    await world.deploy([1])
    await world.deploy([2], license_number="D2", site="ber")
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.cases.take_findings(START)
    short = {SiteKey("D1", "fra"), SiteKey("D2", "ber")}
    await world.find(Reason.LOCATION_UNPROVEN, [2], START)
    await world.cases.take_findings(START + MINUTE, short)
    news = await world.cases.take_findings(START + 10 * MINUTE, short)
    assert [(case.event, case.devices) for case in news.opened] == [(CaseEvent.LANDMARKS_DOWN, 2)]


async def test_landmarks_that_are_back_end_their_case_by_rule(world: CaseWorld) -> None:
    await world.deploy([1])
    short = {SiteKey("D1", "fra")}
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    await world.cases.take_findings(START, short)
    await world.cases.take_findings(START + 10 * MINUTE, short)
    await world.end(Reason.LOCATION_UNPROVEN, [1], START + HOUR)
    await world.cases.take_findings(START + HOUR)
    news = await world.cases.take_findings(START + HOUR + DAY)
    assert [case.event for case in news.resolved] == [CaseEvent.LANDMARKS_DOWN]


async def test_what_else_fell_silent_at_the_site_is_not_the_agents(world: CaseWorld) -> None:
    """The site's case has become the agent's; what another agent lost there meanwhile is the site's again."""
    await two_sites(world)
    await world.deploy([9], license_number="D2", agent="relay-9", last_report=START)
    await world.find(Reason.SILENT, range(1, 4), START + ALLOWED)
    await world.cases.take_findings(START + ALLOWED)
    await world.find(Reason.SILENT, [4, 9], START + ALLOWED + MINUTE)
    (site,) = (await world.cases.take_findings(START + ALLOWED + MINUTE)).opened
    assert (site.event, site.site_id, site.devices) == (CaseEvent.SILENT_SITE, "fra", 1)
    found = sorted((case.event, case.devices) for case in await world.all())
    assert found == [(CaseEvent.SILENT_SITE, 1), (CaseEvent.AGENT_DOWN, 4)]


async def test_all_that_waits_goes_to_the_landmark_case_that_returns(world: CaseWorld) -> None:
    await world.license("D2", licensee="Other", sites=["ber"])
    await world.deploy([1])
    await world.deploy([2], license_number="D2", site="ber")
    short = {SiteKey("D1", "fra"), SiteKey("D2", "ber")}
    await world.find(Reason.LOCATION_UNPROVEN, [1], START)
    (first,) = (await world.cases.take_findings(START + 10 * MINUTE, short)).opened
    await world.end(Reason.LOCATION_UNPROVEN, [1], START + HOUR)
    await world.cases.take_findings(START + HOUR)
    assert len((await world.cases.take_findings(START + HOUR + DAY)).resolved) == 1
    again = START + 5 * DAY
    await world.find(Reason.LOCATION_UNPROVEN, [1], again)
    await world.cases.take_findings(again)
    await world.find(Reason.LOCATION_UNPROVEN, [2], again)
    await world.cases.take_findings(again + MINUTE, short)
    news = await world.cases.take_findings(again + 10 * MINUTE, short)
    assert [(case.number, case.devices, case.devices_open) for case in news.reopened] == [(first.number, 2, 2)]
    assert news.opened == ()
    assert len(await world.all()) == 1


async def test_an_old_case_stays_even_when_its_agent_goes_down_later(world: CaseWorld) -> None:
    await two_sites(world)
    await world.find(Reason.SILENT, [1], START + ALLOWED)
    (old,) = (await world.cases.take_findings(START + ALLOWED)).opened
    later = START + ALLOWED + HOUR
    await world.find(Reason.SILENT, [2, 4], later)
    (agents,) = (await world.cases.take_findings(later)).opened
    assert (agents.event, agents.devices) == (CaseEvent.AGENT_DOWN, 2)
    found = sorted((case.number, case.event, case.devices) for case in await world.all())
    assert found == [(old.number, CaseEvent.SILENT_SITE, 1), (agents.number, CaseEvent.AGENT_DOWN, 2)]

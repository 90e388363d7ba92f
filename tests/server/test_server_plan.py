"""PlanLandmarks: what is checked, what is planned for without sites, and that streams go on meanwhile."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc, place_pb2

import geodata
from server.rpc import plan as plan_module
from server.rpc.errors import InvalidArgumentError
from server.rpc.plan import LandmarkPlanner
from server.store import LandmarkRecord, Store
from tests.server import helpers
from tests.two_people import deploy
from verifier.license import Deployment, License, LicenseState, Presence
from verifier.place.geodesy import Position
from verifier.place.groups import parse_groups
from verifier.place.landmarks import Landmark
from verifier.place.policy import PlacePolicy
from verifier.place.regions import AnyOf, Atlas, Countries, Group, Polygon, Region, SiteDisc
from verifier.units import CountryCode, LandmarkId, Pdi

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
REQUEST = landmark_pb2.PlanLandmarksRequest
SITE = landmark_pb2.PlanSite
CANDIDATE = landmark_pb2.PlanCandidate
GOOD_SITE = SITE(name="SG", presence=place_pb2.PRESENCE_SITE, latitude=1.3, longitude=103.8, radius_km=50)
GOOD_CANDIDATE = CANDIDATE(name="c", latitude=1.3, longitude=103.8)
SINGAPORE = Position(1.3, 103.8)
MALAYSIA = Countries(frozenset({CountryCode("MY")}))


@cache
def place_policy() -> PlacePolicy:
    groups = parse_groups(geodata.read_country_groups(), "groups")
    return PlacePolicy(
        atlas=Atlas.parse(geodata.read_borders(), "borders", groups.members),
        prohibited=groups.prohibited(),
        prohibited_version="groups",
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "trigpoint.db")
    yield opened
    await opened.close()


@pytest.fixture
def planner(store: Store) -> LandmarkPlanner:
    return LandmarkPlanner(store, place_policy(), lambda: NOW)


def record(number: int, where: Position = SINGAPORE, **changes: Any) -> LandmarkRecord:
    landmark = Landmark(
        landmark_id=LandmarkId(f"l-{number}"),
        public_key=hashlib.sha256(str(number).encode()).digest(),
        operator=f"operator {number}",
        hoster=f"hoster {number}",
        position=where,
        uncertainty_km=0.1,
        virtual_machine=False,
        country=CountryCode("SG"),
        revision=0,
        revised_at=NOW,
    )
    return LandmarkRecord(replace(landmark, **changes), "map", ("192.0.2.1:7000",))


def deployment(number: int, presence: Presence, region: Region) -> Deployment:
    start, end = NOW - timedelta(days=1), NOW + timedelta(days=1)
    hour = timedelta(hours=1)
    held = License(f"L-{presence.name}", "Example Cloud", start, end, presence, hour, hour, 0, LicenseState.ACTIVE)
    return Deployment(Pdi(number.to_bytes(8, "big")), held, region)


async def test_a_plan_over_the_wire_is_for_officers(tmp_path: Path) -> None:
    async with helpers.running_server(tmp_path / "server") as running:
        await running.store.import_landmarks([record(1), record(2, valid_until=NOW - timedelta(days=99))], NOW)
        request = REQUEST(sites=[GOOD_SITE], candidates=[GOOD_CANDIDATE])
        async with running.channel(helpers.OFFICER) as channel:
            found = await landmark_pb2_grpc.LandmarkServiceStub(channel).PlanLandmarks(request)
            bad = landmark_pb2_grpc.LandmarkServiceStub(channel).PlanLandmarks(REQUEST(sites=[SITE(name="x")]))
            error = await helpers.failure(bad)
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert str(error.details()).startswith("sites[0].presence: ")
        async with running.channel(helpers.LANDMARK) as channel:
            error = await helpers.failure(landmark_pb2_grpc.LandmarkServiceStub(channel).PlanLandmarks(request))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    (entry,) = found.sites
    assert entry.site == GOOD_SITE
    assert (entry.provable_now, entry.provable_then, found.tolerated_domains) == (False, True, 1)
    assert [(reach.name, reach.candidate) for reach in entry.reaches] == [("c", True), ("l-1", False)]
    assert entry.reaches[1].needed_rtt_ms > entry.reaches[1].expected_rtt_ms > 0
    assert [(chosen.candidate, list(chosen.gained)) for chosen in found.chosen] == [(GOOD_CANDIDATE, ["SG"])]


async def test_assumptions_are_the_requests_or_the_standard(planner: LandmarkPlanner, store: Store) -> None:
    await store.import_landmarks([record(1, Position(1.3, 103.85))], NOW)
    (standard,) = (await planner.plan(REQUEST(sites=[GOOD_SITE]))).sites
    (told,) = (await planner.plan(REQUEST(sites=[GOOD_SITE], path_factor=1.5, access_ms=0.1))).sites
    assert standard == told
    (slow,) = (await planner.plan(REQUEST(sites=[GOOD_SITE], path_factor=3.0, access_ms=0.7))).sites
    at = standard.reaches[0]
    assert slow.reaches[0].expected_rtt_ms == pytest.approx((at.expected_rtt_ms - 0.1) * 2 + 0.7)
    assert slow.reaches[0].needed_rtt_ms == at.needed_rtt_ms


async def test_every_kind_of_site_comes_back_as_it_went(planner: LandmarkPlanner) -> None:
    sites = [
        GOOD_SITE,
        SITE(name="KL", presence=place_pb2.PRESENCE_COUNTRY, latitude=3.14, longitude=101.69, country="MY"),
        SITE(name="SG", presence=place_pb2.PRESENCE_OUTSIDE_PROHIBITED, latitude=1.3, longitude=103.8),
    ]
    assert [entry.site for entry in (await planner.plan(REQUEST(sites=sites))).sites] == sites


async def test_at_most_ten_are_chosen_unless_told(planner: LandmarkPlanner) -> None:
    sites = [
        SITE(name=f"s{k}", presence=place_pb2.PRESENCE_SITE, latitude=5.0 * k, longitude=20, radius_km=50)
        for k in range(12)
    ]
    given = [
        CANDIDATE(name=f"c{k}{way}", latitude=5.0 * k, longitude=20 + way * 0.01) for k in range(12) for way in (0, 1)
    ]
    assert len((await planner.plan(REQUEST(sites=sites, candidates=given))).chosen) == 10
    found = await planner.plan(REQUEST(sites=sites, candidates=given, max_chosen=24))
    assert len(found.chosen) == 24
    assert all(entry.provable_then for entry in found.sites)


async def test_without_sites_every_region_on_record_is_planned_for_once(planner: LandmarkPlanner, store: Store) -> None:
    disc = SiteDisc("Frankfurt", Position(50.11, 8.68), 50.0)
    both = Countries(MALAYSIA.codes | {CountryCode("SG")})
    rows = [
        deployment(1, Presence.SITE, disc),
        deployment(2, Presence.SITE, disc),
        deployment(3, Presence.COUNTRY, MALAYSIA),
        deployment(4, Presence.COUNTRY, both),
        deployment(5, Presence.OUTSIDE_PROHIBITED, MALAYSIA),
        deployment(6, Presence.OUTSIDE_PROHIBITED, disc),
    ]
    await deploy(store, rows, NOW)
    sites = [entry.site for entry in (await planner.plan(REQUEST())).sites]
    assert sorted((site.name, int(site.presence), site.radius_km, site.country) for site in sites) == [
        ("Frankfurt", 1, 50.0, ""),
        ("Frankfurt", 3, 0.0, ""),
        ("MY, SG, at its innermost place", 2, 0.0, ""),
        ("MY, at its innermost place", 2, 0.0, "MY"),
        ("MY, at its innermost place", 3, 0.0, ""),
    ]
    for site in sites:
        place = Position(site.latitude, site.longitude)
        region = disc if site.name == "Frankfurt" else both
        assert place_policy().atlas.contains(region, place)


async def test_nothing_on_record_is_an_empty_plan(planner: LandmarkPlanner) -> None:
    found = await planner.plan(REQUEST(candidates=[GOOD_CANDIDATE]))
    assert (list(found.sites), list(found.chosen)) == ([], [])


async def test_more_regions_on_record_than_one_plan_takes(
    planner: LandmarkPlanner, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "MAX_SITES", 1)
    rows = [deployment(1, Presence.COUNTRY, MALAYSIA), deployment(2, Presence.OUTSIDE_PROHIBITED, MALAYSIA)]
    await deploy(store, rows, NOW)
    with pytest.raises(InvalidArgumentError, match="2 regions are on record"):
        await planner.plan(REQUEST())


async def test_a_region_on_record_that_the_data_do_not_have(planner: LandmarkPlanner, store: Store) -> None:
    unknown = Countries(frozenset({CountryCode("QQ")}))
    await deploy(store, [deployment(1, Presence.COUNTRY, unknown)], NOW)
    with pytest.raises(InvalidArgumentError, match=r"sites: .*QQ"):
        await planner.plan(REQUEST())


@pytest.mark.parametrize("name", ["short", "x" * 200])
async def test_names_of_regions_on_record_fit(planner: LandmarkPlanner, name: str) -> None:
    sites = planner._recorded_sites(
        [(Presence.SITE, SiteDisc(name, Position(1, 2), 3)), (Presence.COUNTRY, Group("A:5"))]
    )
    assert sites[0].name == (name if len(name) < 128 else "x" * 125 + "...")
    assert sites[1].name == "country group A:5, at its innermost place"


def site_with(**changes: Any) -> landmark_pb2.PlanLandmarksRequest:
    site = SITE()
    site.CopyFrom(GOOD_SITE)
    for name, value in changes.items():
        setattr(site, name, value)
    return REQUEST(sites=[GOOD_SITE, site])


def candidate_with(**changes: Any) -> landmark_pb2.PlanLandmarksRequest:
    candidate = CANDIDATE()
    candidate.CopyFrom(GOOD_CANDIDATE)
    for name, value in {"name": "d", **changes}.items():
        setattr(candidate, name, value)
    return REQUEST(candidates=[GOOD_CANDIDATE, candidate])


NAN = float("nan")
BAD: list[tuple[str, Callable[[], landmark_pb2.PlanLandmarksRequest]]] = [
    ("sites[1].name", lambda: site_with(name="")),
    ("sites[1].name", lambda: site_with(name="x" * 129)),
    ("sites[1].name", lambda: site_with(name="a\nb")),
    ("sites[1].name", lambda: site_with(name=" a")),
    ("sites[1].presence", lambda: site_with(presence=0)),
    ("sites[1].presence", lambda: site_with(presence=17)),
    ("sites[1].latitude", lambda: site_with(latitude=90.5)),
    ("sites[1].longitude", lambda: site_with(longitude=NAN)),
    ("sites[1].radius_km", lambda: site_with(radius_km=0)),
    ("sites[1].radius_km", lambda: site_with(radius_km=1001)),
    ("sites[1].radius_km", lambda: site_with(radius_km=NAN)),
    ("sites[1].radius_km", lambda: site_with(presence=2, country="SG")),
    ("sites[1].country", lambda: site_with(country="SG")),
    ("sites[1].country", lambda: site_with(presence=2, radius_km=0)),
    ("sites[1].country", lambda: site_with(presence=2, radius_km=0, country="QQ")),
    ("sites[1].country", lambda: site_with(presence=3, radius_km=0, country="SG")),
    ("candidates[1].name", lambda: candidate_with(name="")),
    ("candidates[1].name", lambda: candidate_with(name="c")),
    ("candidates[1].operator", lambda: candidate_with(operator="x" * 201)),
    ("candidates[1].latitude", lambda: candidate_with(latitude=-91)),
    ("sites", lambda: REQUEST(sites=[GOOD_SITE] * 10_001)),
    ("candidates", lambda: REQUEST(candidates=[GOOD_CANDIDATE] * 10_001)),
    ("max_chosen", lambda: REQUEST(max_chosen=-1)),
    ("max_chosen", lambda: REQUEST(max_chosen=10_001)),
    ("path_factor", lambda: REQUEST(path_factor=0.99)),
    ("path_factor", lambda: REQUEST(path_factor=NAN)),
    ("path_factor", lambda: REQUEST(path_factor=11)),
    ("access_ms", lambda: REQUEST(access_ms=-0.1)),
    ("access_ms", lambda: REQUEST(access_ms=1001)),
]


@pytest.mark.parametrize(("field", "request_of"), BAD)
async def test_a_request_that_cannot_be_used(
    planner: LandmarkPlanner, field: str, request_of: Callable[[], landmark_pb2.PlanLandmarksRequest]
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await planner.plan(request_of())
    assert caught.value.field == field


async def test_a_candidate_may_not_bear_the_name_of_a_registered_landmark(
    planner: LandmarkPlanner, store: Store
) -> None:
    await store.import_landmarks([record(1), record(2, valid_until=NOW - timedelta(days=9))], NOW)
    for name in ("l-1", "l-2"):
        with pytest.raises(InvalidArgumentError, match=f"a registered landmark is named {name}") as caught:
            await planner.plan(candidate_with(name=name))
        assert caught.value.field == "candidates[1].name"
    assert (await planner.plan(candidate_with(name="l-3"))).tolerated_domains == 1


async def test_a_drawn_site_on_record_is_told_by_its_parts(planner: LandmarkPlanner) -> None:
    rings = [((x, 1.3), (x + 0.1, 1.3), (x + 0.1, 1.4)) for x in (103.6, 103.8)]
    drawn = AnyOf(tuple(Polygon("Jurong", (ring,)) for ring in rings))
    (site,) = planner._recorded_sites([(Presence.SITE, drawn)])
    assert site.name == "site Jurong (2 drawn areas, 6 points), at its innermost place"


async def test_a_large_plan_does_not_hold_up_the_event_loop(planner: LandmarkPlanner, store: Store) -> None:
    places = [Position(-40 + 80 * (k % 20) / 20, -170 + 340 * (k % 97) / 97) for k in range(800)]
    await store.import_landmarks([record(k, place) for k, place in enumerate(places)], NOW)
    sites = [
        SITE(
            name=f"s{k}",
            presence=place_pb2.PRESENCE_SITE,
            latitude=-40 + (k % 400) / 5,
            longitude=(k % 360) - 180,
            radius_km=50,
        )
        for k in range(2_000)
    ]
    started = time.monotonic()
    planning = asyncio.create_task(planner.plan(REQUEST(sites=sites)))
    longest, last = 0.0, time.monotonic()
    while not planning.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    assert len((await planning).sites) == 2_000
    # In the loop itself it would be one pause as long as the whole plan.
    assert longest < max(0.5, (last - started) / 2)

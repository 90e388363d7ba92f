"""Which domains could prove a site (docs/protocol.md W4)."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from server.desk import able as able_module
from server.desk.able import AbleDomains
from server.store.watch_types import Able, SiteKey, WatchedSite, WatchRecords
from server.times import micros
from verifier.license import Presence
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Countries, Polygon, Region, SiteDisc
from verifier.units import CountryCode, Domain, LandmarkId

NOW = datetime(2026, 7, 1, tzinfo=UTC)
SINCE = NOW - timedelta(days=100)
FRANKFURT = Position(50.11, 8.68)
SITE = SiteDisc("Frankfurt 1", FRANKFURT, 60.0)
GERMANY = Countries(frozenset({CountryCode("DE")}))
NEAR = {"fra": FRANKFURT, "mainz": Position(50.0, 8.27)}
FAR = {"fra": FRANKFURT, "muc": Position(48.14, 11.58), "sgp": Position(1.3, 103.8)}


class Source:
    """Hands out what the test put on record."""

    def __init__(self, landmarks: Iterable[Landmark], sites: Iterable[WatchedSite]) -> None:
        self.given = WatchRecords(1, tuple(landmarks), tuple(sites))
        self.reads = 0

    def put(self, landmarks: Iterable[Landmark], sites: Iterable[WatchedSite]) -> None:
        self.given = WatchRecords(self.given.number + 1, tuple(landmarks), tuple(sites))

    async def records_number(self) -> int:
        return self.given.number

    async def records(self) -> WatchRecords:
        self.reads += 1
        return self.given


def landmark(name: str, place: Position, operator: str = "") -> Landmark:
    return Landmark(
        landmark_id=LandmarkId(name),
        public_key=hashlib.sha256(name.encode()).digest(),
        operator=operator or f"operator of {name}",
        hoster=f"hoster of {name}",
        position=place,
        uncertainty_km=0.1,
        virtual_machine=False,
        country=CountryCode("DE"),
        revision=1,
        revised_at=SINCE,
    )


def site(
    region: Region = SITE, presence: Presence = Presence.SITE, f: int | None = None, site_id: str = "s"
) -> WatchedSite:
    return WatchedSite(SiteKey("D1", site_id), "Example Cloud", presence, region, f)


def named(able: Able, site_id: str = "s") -> dict[str, list[str]]:
    """Landmarks by domain."""
    domains = able[SiteKey("D1", site_id)].domains
    return {str(domain): [str(each.landmark_id) for each in landmarks] for domain, landmarks in domains.items()}


async def able_with(policy: PlacePolicy, landmarks: Iterable[Landmark], asked: WatchedSite) -> Able:
    return await AbleDomains(Source(landmarks, [asked]), policy).at(NOW)


async def test_a_landmark_that_is_near_enough_could_prove_a_site(policy: PlacePolicy) -> None:
    near = [landmark(*each) for each in (NEAR | FAR).items()]
    # Fibre to Mainz and back already takes longer than a disc of 60 km allows.
    assert named(await able_with(policy, near, site())) == {"hoster of fra": ["fra"]}
    wider = SiteDisc("Frankfurt", FRANKFURT, 150.0)
    found = named(await able_with(policy, near, site(wider)))
    assert found == {"hoster of fra": ["fra"], "hoster of mainz": ["mainz"]}


async def test_a_country_is_proven_from_its_innermost_place(policy: PlacePolicy) -> None:
    places = [landmark(*each) for each in FAR.items()] + [landmark("braunschweig", Position(52.27, 10.52))]
    found = named(await able_with(policy, places, site(GERMANY, Presence.COUNTRY)))
    assert found == {"hoster of braunschweig": ["braunschweig"]}
    outside = named(await able_with(policy, places, site(GERMANY, Presence.OUTSIDE_PROHIBITED)))
    # From Munich a disc that holds Brunswick for certain would hold Kaliningrad too.
    assert set(outside) == {"hoster of braunschweig", "hoster of fra"}


async def test_what_does_not_count_could_not(policy: PlacePolicy) -> None:
    """docs/protocol.md PL3, but for the age of the audit: nobody has ranged these at all."""
    good = landmark("fra", FRANKFURT)
    bad = (
        replace(good, distrusted="contradicts two"),
        replace(good, valid_from=NOW + timedelta(days=1)),
        replace(good, valid_until=NOW),
        replace(good, virtual_machine=True),
        replace(good, operator="example  CLOUD"),
        replace(good, hoster="Example Cloud"),
    )
    assert set(named(await able_with(policy, [good], site()))) == {"hoster of fra"}
    for each in bad:
        assert named(await able_with(policy, [each], site())) == {}


async def test_landmarks_of_one_operator_are_one_domain(policy: PlacePolicy) -> None:
    two = [landmark("fra-1", FRANKFURT, "acme"), landmark("fra-2", FRANKFURT, "Acme")]
    able = await able_with(policy, two, site())
    assert named(able) == {"acme": ["fra-1", "fra-2"]}
    assert {each.since for each in able[SiteKey("D1", "s")].domains[Domain("acme")]} == {micros(SINCE)}


async def test_f_is_the_licenses_or_the_operators(policy: PlacePolicy) -> None:
    asked = [site(f=None, site_id="a"), site(f=3, site_id="b"), site(f=0, site_id="c")]
    able = await AbleDomains(Source([landmark("fra", FRANKFURT)], asked), policy).at(NOW)
    assert [able[SiteKey("D1", each)].needed for each in "abc"] == [policy.tolerated_domains + 1, 4, 1]
    assert [len(able[SiteKey("D1", each)].domains) for each in "abc"] == [1, 1, 0]  # f = 0 proves nothing


async def test_records_are_read_when_they_change_and_when_a_validity_begins(policy: PlacePolicy) -> None:
    later = replace(landmark("fra", FRANKFURT), valid_from=NOW + timedelta(days=1))
    source = Source([later], [site()])
    domains = AbleDomains(source, policy)
    first = await domains.at(NOW)
    assert named(first) == {}
    assert await domains.at(NOW + timedelta(hours=1)) is first
    assert named(await domains.at(NOW + timedelta(days=1))) == {"hoster of fra": ["fra"]}
    assert source.reads == 1
    source.put([replace(later, distrusted="contradicts two")], [site()])
    assert named(await domains.at(NOW + timedelta(days=1))) == {}
    assert source.reads == 2


async def test_regions_are_found_some_at_a_time(policy: PlacePolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(able_module, "PLACES_AT_ONCE", 2)
    drawn = [
        site(Polygon(f"p{n}", (((8.0 + n, 50.0), (9.0 + n, 50.0), (9.0 + n, 51.0)),)), site_id=f"s{n}")
        for n in range(5)
    ]
    domains = AbleDomains(Source([landmark("fra", FRANKFURT)], drawn), policy)
    assert [len(await domains.at(NOW)) for _ in range(4)] == [2, 4, 5, 5]
    assert await domains.at(NOW) is await domains.at(NOW)


async def test_a_country_that_the_data_do_not_have_cannot_be_proven(policy: PlacePolicy) -> None:
    nowhere = Countries(frozenset({CountryCode("ZZ")}))
    able = await able_with(policy, [landmark("fra", FRANKFURT)], site(nowhere, Presence.COUNTRY))
    assert named(able) == {}

"""What landmarks can prove of sites today, for what their licenses ask and for what they could ask instead.

The same plan as PlanLandmarks makes, without candidates (verifier/place/plan.py): a promise of arithmetic, not of
measurement. A country has no one place; what is said of it holds for the place farthest from its borders.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from trigpoint.v1 import place_pb2, records_pb2

from server.records.names import site_name
from server.records.values import Site
from server.rpc.destinations import Destinations
from verifier.license import License, Presence
from verifier.place.geodesy import Position
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.plan import Reach, SitePlan, innermost_place, plan_landmarks
from verifier.place.policy import PlacePolicy
from verifier.place.reach import Assumptions, PlanSite
from verifier.place.regions import Countries, Group, Region
from verifier.units import CountryCode


@dataclass(frozen=True, slots=True)
class Asked:
    """One question about one site.

    Attributes:
        site: Whose region it is about.
        tolerated_domains: f of its license; None: the operator's.
        question: As the plan takes it.
    """

    site: Site
    tolerated_domains: int | None
    question: PlanSite


def provability(
    sites: Iterable[tuple[Site, License]],
    registry: LandmarkRegistry,
    policy: PlacePolicy,
    destinations: Destinations,
    now: datetime,
) -> list[records_pb2.Provability]:
    """Say of each site what could be proven: first what its license asks for, then the others.

    Args:
        sites: With their licenses' terms.
        registry: All registered landmarks.
        policy: Borders, margins and the operator's f.
        destinations: In which country a region lies.
        now: At which landmarks' records must be valid.

    Raises:
        UsageError: A region names a country or a group that is not known.
    """
    asked = [one for site, terms in sites for one in _questions(site, terms, policy, destinations)]
    by_f: dict[int | None, list[int]] = defaultdict(list)  # each f is a plan of its own
    for index, one in enumerate(asked):
        by_f[one.tolerated_domains].append(index)
    found: dict[int, records_pb2.Provability] = {}
    for tolerated, indexes in by_f.items():
        questions = [asked[index].question for index in indexes]
        under = policy.tolerating(tolerated)
        plan = plan_landmarks(questions, (), registry, under, Assumptions(), 0, now)
        for index, entry in zip(indexes, plan.sites, strict=True):
            found[index] = _message(asked[index].site, entry, plan.tolerated_domains)
    return [found[index] for index in range(len(asked))]


def _questions(site: Site, terms: License, policy: PlacePolicy, destinations: Destinations) -> list[Asked]:
    place = innermost_place(site.region, policy.atlas)
    regions: dict[Presence, Region | None] = {Presence.OUTSIDE_PROHIBITED: None}
    if isinstance(site.region, Countries | Group):
        regions[Presence.COUNTRY] = site.region
    else:
        regions[Presence.SITE] = site.region
        code = destinations.jurisdiction(site.region)
        if code:
            regions[Presence.COUNTRY] = Countries(frozenset({CountryCode(code)}))
    order = sorted(regions, key=lambda presence: (presence is not terms.presence, presence))
    return [
        Asked(site, terms.tolerated_domains, _question(site, presence, regions[presence], place)) for presence in order
    ]


def _question(site: Site, presence: Presence, region: Region | None, place: Position) -> PlanSite:
    return PlanSite(site_name(site.license_number, site.site_id), presence, region, place)


def _message(site: Site, entry: SitePlan, tolerated_domains: int) -> records_pb2.Provability:
    return records_pb2.Provability(
        site=site_name(site.license_number, site.site_id),
        presence=place_pb2.Presence.ValueType(entry.site.presence),
        provable=entry.provable_now,
        detail=_detail(entry, tolerated_domains),
    )


def _detail(entry: SitePlan, tolerated_domains: int) -> str:
    what = {
        Presence.SITE: "presence at the site",
        Presence.COUNTRY: f"presence in {entry.site.region}",
        Presence.OUTSIDE_PROHIBITED: "presence outside prohibited destinations",
    }[entry.site.presence]
    best = _told(entry.reaches)
    if entry.provable_now:
        domains = f"{tolerated_domains + 1} independent domains"
        return f"Landmarks of {domains} can prove {what}: {best}."
    # The other questions are answered beside this one.
    missing = entry.missing.partition("; provable there instead:")[0]
    return f"Landmarks cannot prove {what}: {missing}{f'; the best today: {best}' if best else ''}."


def _told(reaches: Sequence[Reach]) -> str:
    return " and ".join(
        f"{reach.name}, {reach.distance_km:,.0f} km away, needs a round trip of "
        f"{max(reach.needed_rtt_ms, 0.0):.2f} ms at most and is expected to have {reach.expected_rtt_ms:.2f} ms"
        for reach in reaches
    )

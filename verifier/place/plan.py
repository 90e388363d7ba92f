"""Planning landmarks: which sites can be proven, what round trips that takes, and which candidates would help most.

Pure arithmetic on stated positions and stated assumptions; nothing measured goes in. A site is provable when landmarks
of f + 1 failure domains reach it (reach.py), each of which then settles the question alone (docs/protocol.md PL5, PL6).
Candidates are taken to be on bare metal and surveyed exactly. Whether landmarks have been audited lately is left out,
since a plan is for the weeks to come; one that is distrusted or whose record is not valid does not count.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from verifier.errors import UsageError
from verifier.license import Presence
from verifier.place.cover import Cover, choose
from verifier.place.geodesy import EARTH_RADIUS_KM, Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.reach import Assumptions, Counts, Flags, PlanSite, Points, Prospect, Prospects, group_by_domain
from verifier.place.reach import needed_rtt_ms as _needed_rtt_ms
from verifier.place.regions import Atlas, Countries, Region, SiteDisc

_FIRST_CELLS_DEGREES = 30.0
_NEAR_ENOUGH = 0.1
_MOST_CELLS = 1_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where a landmark could be set up.

    Attributes:
        name: For people; no two candidates have one name.
        operator: Who would run it; empty: an operator of its own.
        position: Where.
    """

    name: str
    operator: str
    position: Position


@dataclass(frozen=True, slots=True)
class Reach:
    """One landmark's or candidate's part in the proof of a site. Fields as in `trigpoint.v1.PlanReach`."""

    name: str
    candidate: bool
    distance_km: float
    needed_rtt_ms: float
    expected_rtt_ms: float


@dataclass(frozen=True, slots=True)
class SitePlan:
    """What can be proven about one site. Fields as in `trigpoint.v1.PlannedSite`."""

    site: PlanSite
    provable_now: bool
    provable_then: bool
    reaches: tuple[Reach, ...]
    missing: str


@dataclass(frozen=True, slots=True)
class Chosen:
    """A candidate worth setting up, and the sites that become provable with it and those before it."""

    candidate: Candidate
    gained: tuple[PlanSite, ...]


@dataclass(frozen=True, slots=True)
class LandmarkPlan:
    """The plan: one entry for each site in the order given, and the candidates, the most useful first."""

    sites: tuple[SitePlan, ...]
    chosen: tuple[Chosen, ...]
    tolerated_domains: int


def plan_landmarks(
    sites: Sequence[PlanSite],
    candidates: Sequence[Candidate],
    registry: LandmarkRegistry,
    policy: PlacePolicy,
    assumptions: Assumptions,
    most_chosen: int,
    now: datetime,
) -> LandmarkPlan:
    """Plan.

    Args:
        sites: To be proven.
        candidates: Where landmarks could be set up.
        registry: All registered landmarks; which of them count is settled here.
        policy: f, margins and borders.
        assumptions: About round trips.
        most_chosen: Choose no more candidates than this.
        now: At which records must be valid, aware.

    Raises:
        UsageError: Two candidates have one name, or a site names a country without a shape.
    """
    return _Planner(sites, candidates, registry, policy, assumptions, now).plan(most_chosen)


class _Planner:
    """The steps of one plan."""

    def __init__(
        self,
        sites: Sequence[PlanSite],
        candidates: Sequence[Candidate],
        registry: LandmarkRegistry,
        policy: PlacePolicy,
        assumptions: Assumptions,
        now: datetime,
    ) -> None:
        if len({candidate.name for candidate in candidates}) != len(candidates):
            raise UsageError("two candidates have one name")
        self._sites = sites
        self._candidates = candidates
        self._landmarks = [each for each in registry.landmarks if each.is_valid(now) and not each.distrusted]
        self._policy = policy
        self._assumptions = assumptions
        self._points = _points(self._landmarks, candidates, registry)
        self._prospects = Prospects(self._points, policy, assumptions)
        self._needed_domains = policy.tolerated_domains + 1
        self._lands: dict[int, Countries | None] = {}

    def plan(self, most_chosen: int) -> LandmarkPlan:
        """Go through the steps."""
        # 1. Which landmarks and candidates reach which sites.
        has, gives = self._reached()
        # 2. Which sites are provable now. f = 0 trusts every landmark, so it counts for no proof (PL6).
        vain = self._policy.tolerated_domains == 0
        lacks = np.maximum(self._needed_domains - has, 0)
        now = (lacks == 0) & (not vain)
        # 3. Which candidates make most of the others provable.
        domains = self._points.domains[len(self._landmarks) :]
        cover = Cover((), ()) if vain else choose(gives, domains, lacks, most_chosen)
        then = now.copy()
        then[[row for gained in cover.gained for row in gained]] = True
        # 4. Whose round trips that takes, and what is missing.
        missing = self._missing(np.flatnonzero(~then).tolist(), lacks, gives, cover.chosen)
        reaches = self._reaches(now, cover.chosen)
        plans = zip(self._sites, now.tolist(), then.tolist(), reaches, strict=True)
        return LandmarkPlan(
            sites=tuple(SitePlan(*known, missing.get(row, "")) for row, known in enumerate(plans)),
            chosen=tuple(
                Chosen(self._candidates[column], tuple(self._sites[row] for row in gained))
                for column, gained in zip(cover.chosen, cover.gained, strict=True)
            ),
            tolerated_domains=self._policy.tolerated_domains,
        )

    def _reached(self) -> tuple[Counts, Flags]:
        """Return how many domains of landmarks reach each site, and to which a candidate would give a further one."""
        count = len(self._landmarks)
        has = np.zeros(len(self._sites), dtype=np.int64)
        gives: Flags = np.zeros((len(self._sites), len(self._candidates)), dtype=np.bool_)
        domains = self._points.domains
        for rows, reached in self._prospects.blocks(self._sites):
            joined, distinct = group_by_domain(reached[:, :count], domains[:count])
            has[rows] = joined.sum(axis=1)
            given = reached[:, count:]
            at = np.searchsorted(distinct, domains[count:])
            known = np.flatnonzero(np.isin(domains[count:], distinct))
            given[:, known] &= ~joined[:, at[known]]
            gives[rows] = given
        return has, gives

    def _reaches(self, now: Flags, chosen: Sequence[int]) -> list[tuple[Reach, ...]]:
        """Name the best of each site: landmarks where they suffice, else chosen candidates besides."""
        count = len(self._landmarks)
        registered = list(range(count))
        views: dict[bool, tuple[list[int], Prospects]] = {}
        for provable, columns in ((True, registered), (False, registered + [count + column for column in chosen])):
            views[provable] = columns, self._prospects.take(columns)
        found: dict[int, tuple[Reach, ...]] = {}
        for row in sorted(range(len(self._sites)), key=lambda row: (bool(now[row]), str(self._sites[row].region))):
            columns, prospects = views[bool(now[row])]
            best = prospects.best(self._sites[row], self._needed_domains)
            found[row] = tuple(self._name(prospect, columns[prospect.column]) for prospect in best)
        return [found[row] for row in range(len(self._sites))]

    def _name(self, prospect: Prospect, column: int) -> Reach:
        count = len(self._landmarks)
        registered = column < count
        name = str(self._landmarks[column].landmark_id) if registered else self._candidates[column - count].name
        numbers = prospect.distance_km, prospect.needed_rtt_ms, prospect.expected_rtt_ms
        return Reach(name, not registered, *numbers)

    def _missing(
        self,
        rows: Sequence[int],
        lacks: Counts,
        gives: Flags,
        chosen: Sequence[int],
    ) -> Mapping[int, str]:
        """Say for each of these sites what it lacks and what could be proven there instead."""
        if self._policy.tolerated_domains == 0:
            return dict.fromkeys(rows, "the server trusts every landmark (f = 0), and so proves nothing")
        domains = self._points.domains[len(self._landmarks) :]
        spare, _ = group_by_domain(gives[rows], domains)
        taken, _ = group_by_domain(gives[np.ix_(rows, chosen)], domains[list(chosen)])
        instead = self._instead(rows, chosen)
        texts: dict[int, str] = {}
        for row, all_, given in zip(rows, spare.sum(axis=1).tolist(), taken.sum(axis=1).tolist(), strict=True):
            lacking = int(lacks[row])
            text = self._lack(self._sites[row], lacking - given)
            if all_ >= lacking:
                text += " (candidates would do: raise how many may be chosen)"
            elif all_:
                text += f" (candidates would give {all_})"
            if row in instead:
                text += f"; provable there instead: {' and '.join(instead[row])}"
            texts[row] = text
        return texts

    def _lack(self, site: PlanSite, lacking: int) -> str:
        depth, limit = self._prospects.depth_km(site), self._prospects.limit_km(site)
        if depth <= 0:
            where = "in a prohibited destination" if site.region is None else f"not in {site.region}"
            return f"the place is {where}, or within {self._policy.border_margin_km:g} km of its edge"
        if limit < 0:
            needed = float(_needed_rtt_ms(np.array(depth), np.array(0.0)))
            expected = self._assumptions.access_ms
            return (
                f"the edge is too near: a landmark beside the device would need {needed:.3f} ms, and {expected:.3f} ms "
                "are expected"
            )
        metal = " on bare metal" if site.presence is Presence.SITE else ""
        domains = "1 more failure domain" if lacking == 1 else f"{lacking} more failure domains"
        return f"needs {domains}{metal} within {_rounded(limit)} km at most"

    def _instead(self, rows: Sequence[int], chosen: Sequence[int]) -> Mapping[int, tuple[str, ...]]:
        """Find weaker conditions that landmarks and chosen candidates would prove."""
        count = len(self._landmarks)
        columns = [*range(count), *(count + column for column in chosen)]
        prospects, domains = self._prospects.take(columns), self._points.domains[columns]
        asked: list[tuple[int, str, PlanSite]] = []
        for row in rows:
            site = self._sites[row]
            if site.presence is Presence.SITE and columns:
                # A country is proven from within, so where it can be, the nearest landmark stands in it too.
                land = self._land_of(columns[prospects.nearest(site.place)])
                if land is not None and self._policy.atlas.contains(land, site.place):
                    asked.append((row, f"country {land}", PlanSite(site.name, Presence.COUNTRY, land, site.place)))
            if site.presence is not Presence.OUTSIDE_PROHIBITED:
                outside = PlanSite(site.name, Presence.OUTSIDE_PROHIBITED, None, site.place)
                asked.append((row, "outside_prohibited", outside))
        found: dict[int, list[str]] = defaultdict(list)
        proven = np.zeros(len(asked), dtype=np.bool_)
        for some, reached in prospects.blocks([site for _, _, site in asked]):
            proven[some] = group_by_domain(reached, domains)[0].sum(axis=1) >= self._needed_domains
        for index in np.flatnonzero(proven).tolist():
            row, name, _ = asked[index]
            found[row].append(name)
        return {row: tuple(names) for row, names in found.items()}

    def _land_of(self, column: int) -> Countries | None:
        """Return the country that a landmark says it stands in, or that a candidate stands in."""
        atlas = self._policy.atlas
        if column not in self._lands:
            if column < len(self._landmarks):
                codes = {self._landmarks[column].country} & atlas.country_codes
            else:
                place = self._candidates[column - len(self._landmarks)].position
                codes = {code for code in atlas.country_codes if atlas.contains(Countries(frozenset({code})), place)}
            self._lands[column] = Countries(frozenset({min(codes)})) if codes else None
        return self._lands[column]


def innermost_place(region: Region, atlas: Atlas) -> Position:
    """Return the place of a region that is farthest from its edge, but for a tenth: where it is easiest to prove.

    Cells are halved, the most promising first. No place of a cell lies deeper than its middle by more than the way.
    """

    def depth(place: Position) -> float:
        distances = atlas.distances(region, place)
        return float(distances.to_complement_km - distances.to_region_km)

    if isinstance(region, SiteDisc):
        return region.center
    best, place = -math.inf, Position(0.0, 0.0)
    cells: list[tuple[float, float, float, float]] = []  # negative depth at most, middle, half a side
    half = _FIRST_CELLS_DEGREES / 2
    middles = [(x, y) for y in np.arange(-90 + half, 90, 2 * half) for x in np.arange(-180 + half, 180, 2 * half)]
    for _ in range(_MOST_CELLS):
        for longitude, latitude in middles:
            middle = Position(float(latitude), float(longitude))
            found = depth(middle)
            if found > best:
                best, place = found, middle
            # A way of half a side north and half a side east at most.
            heapq.heappush(
                cells, (-found - 2 * math.radians(half) * EARTH_RADIUS_KM, middle.longitude, middle.latitude, half)
            )
        promise, longitude, latitude, half = heapq.heappop(cells)
        if -promise <= best * (1 + _NEAR_ENOUGH):
            break
        half /= 2
        middles = [(longitude + i * half, latitude + j * half) for i in (-1, 1) for j in (-1, 1)]
    return place


def _points(landmarks: Sequence[Landmark], candidates: Sequence[Candidate], registry: LandmarkRegistry) -> Points:
    numbers: dict[tuple[bool, str], int] = {}

    def number(*, alone: bool, name: str) -> int:
        return numbers.setdefault((alone, name), len(numbers))

    domains = [number(alone=False, name=str(registry.domain_of(each.landmark_id))) for each in landmarks]
    for site in candidates:
        named = str(registry.domain_of_party(site.operator))
        domains.append(number(alone=not site.operator, name=named if site.operator else site.name))
    return Points(
        positions=tuple(each.position for each in landmarks) + tuple(each.position for each in candidates),
        uncertainty_km=np.array([each.uncertainty_km for each in landmarks] + [0.0] * len(candidates)),
        virtual=np.array([each.virtual_machine for each in landmarks] + [False] * len(candidates), dtype=np.bool_),
        domains=np.array(domains, dtype=np.intp),
    )


def _rounded(kilometers: float) -> str:
    """Rounded down: a landmark as far away as this says may not do."""
    return f"{math.floor(kilometers):,}" if kilometers >= 10 else f"{math.floor(kilometers * 10) / 10:g}"

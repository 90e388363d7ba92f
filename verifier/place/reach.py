"""Which places for landmarks reach which sites, under stated assumptions about round trips.

A landmark reaches a site when the longest round trip whose disc (docs/protocol.md PL1) still settles the site's
question alone is at least the round trip that is expected. What only several discs together would show is left out, so
that a plan promises too little rather than too much. Choosing among candidates is cover.py's.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from verifier.errors import UsageError
from verifier.license import Presence
from verifier.place.discs import CLOCK_WIDENING, FIBRE_SHARE, LIGHT_KM_PER_MS, MOVEMENT_KM_PER_S
from verifier.place.geodesy import EARTH_RADIUS_KM, ELLIPSOID_WIDENING, Position, Vector, unit_vectors
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Region, SiteDisc

PLANNED_LIFE_S = 5.0
"""From the challenge's issue to the report's arrival: ranging some dozens of landmarks takes about that."""

FIBRE_KM_PER_MS = LIGHT_KM_PER_MS * FIBRE_SHARE

_BLOCK = 128
"""Sites that are compared with all points at once: 20 MB of distances to 20,000 points."""

_CHUNK = 16
_ROUNDING_KM = 0.001

_MS_PER_KM = 2 / (LIGHT_KM_PER_MS * CLOCK_WIDENING)
"""Round trip of each kilometer of a disc's radius, the ellipsoid apart."""

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlanSite:
    """A place that a device is to be proven in.

    Attributes:
        name: For people.
        presence: What is to be proven.
        region: The site's disc, or whatever else the license names; None with OUTSIDE_PROHIBITED.
        place: Where the device stands: the disc's center, or a place in the region.
    """

    name: str
    presence: Presence
    region: Region | None
    place: Position

    def __post_init__(self) -> None:
        """Refuse a question without a region, and a disc that is somewhere else."""
        if (self.region is None) is not (self.presence is Presence.OUTSIDE_PROHIBITED):
            raise UsageError(f"site {self.name!r}: a region is given for presence in it, and for no other")
        if isinstance(self.region, SiteDisc) and self.region.center != self.place:
            raise UsageError(f"site {self.name!r}: its device stands at the center of its disc")


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is taken for granted about round trips.

    Attributes:
        path_factor: How much longer than the great circle the way of light in fibre is.
        access_ms: Round trip of last mile and device besides, milliseconds.
    """

    path_factor: float = 1.5
    access_ms: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what is faster than light in fibre."""
        if not (1 <= self.path_factor < math.inf and 0 <= self.access_ms < math.inf):
            raise UsageError("a path factor is at least 1, and an access time at least 0")

    @property
    def ms_per_km(self) -> float:
        """Expected round trip of each kilometer between landmark and device."""
        return 2 * self.path_factor / FIBRE_KM_PER_MS

    def expected_rtt_ms(self, distance_km: Numbers) -> Numbers:
        """Return the round trips that are expected over these distances, milliseconds."""
        return distance_km * self.ms_per_km + self.access_ms


def needed_rtt_ms(clearance_km: Numbers, uncertainty_km: Numbers) -> Numbers:
    """Return the longest round trips whose discs lie within the clearances, milliseconds: the inverse of PL1.

    Args:
        clearance_km: From the landmark to what its disc must not reach, margin taken off, kilometers on the sphere.
        uncertainty_km: Of the landmark's position.

    Returns:
        0 or less where no round trip is short enough.
    """
    moved = MOVEMENT_KM_PER_S * PLANNED_LIFE_S
    needed: Numbers = (clearance_km / ELLIPSOID_WIDENING - moved - uncertainty_km) * _MS_PER_KM
    return needed


@dataclass(frozen=True)
class Points:
    """Where landmarks stand or could stand, in one order.

    Attributes:
        positions: One each.
        uncertainty_km: Of each position, shape (p,).
        virtual: On a virtual machine, shape (p,).
        domains: Failure domain of each as a number, shape (p,).
    """

    positions: tuple[Position, ...]
    uncertainty_km: Numbers
    virtual: Flags
    domains: Indices

    @cached_property
    def vectors(self) -> Vector:
        """Unit vectors, shape (p, 3)."""
        return _vectors(self.positions)

    def take(self, columns: Sequence[int]) -> "Points":
        """Return some of them, in this order."""
        kept = np.array(columns, dtype=np.intp)
        positions = tuple(self.positions[column] for column in columns)
        return Points(positions, self.uncertainty_km[kept], self.virtual[kept], self.domains[kept])


@dataclass(frozen=True, slots=True)
class Prospect:
    """What one point could do for one site.

    Attributes:
        column: Which point.
        distance_km: From it to the device.
        needed_rtt_ms: The round trip must not be longer; 0 or less: none is short enough.
        expected_rtt_ms: As assumed.
    """

    column: int
    distance_km: float
    needed_rtt_ms: float
    expected_rtt_ms: float


class Prospects:
    """Compares sites with points. Distances of one region at a time are kept: give sites of one region together.

    Args:
        points: Landmarks and candidates.
        policy: Borders, prohibited destinations and the margin.
        assumptions: About round trips.
    """

    def __init__(self, points: Points, policy: PlacePolicy, assumptions: Assumptions) -> None:
        self._points = points
        self._policy = policy
        self._assumptions = assumptions
        self._depths: dict[tuple[Region | None, Position], float] = {}
        self._region: Region | None = None
        self._clearances: Numbers = np.empty(0)

    def take(self, columns: Sequence[int]) -> "Prospects":
        """Return the same for some of the points, in this order."""
        taken = Prospects(self._points.take(columns), self._policy, self._assumptions)
        taken._depths = self._depths
        return taken

    def depth_km(self, site: PlanSite) -> float:
        """Return the clearance of a landmark beside the device, margin taken off; not above 0: nothing can reach it."""
        if isinstance(site.region, SiteDisc):
            return site.region.radius_km / ELLIPSOID_WIDENING
        depth = self._depths.get((site.region, site.place))
        if depth is None:
            depth = self._depths[site.region, site.place] = self._clearance_at(site, site.place)
        return depth

    def limit_km(self, site: PlanSite) -> float:
        """Return the distance beyond which certainly no landmark reaches a site; negative when none does anywhere.

        A kilometer further away clearance grows by a kilometer at most (a disc's shrinks by one), and the expected
        round trip grows faster.
        """
        return self._limit_km(site, self.depth_km(site))

    def nearest(self, place: Position) -> int:
        """Return the point that is nearest to a place; there must be one."""
        return int(_distances(_vectors([place]), self._points.vectors)[0].argmin())

    def blocks(self, sites: Sequence[PlanSite]) -> Iterator[tuple[Indices, Flags]]:
        """Yield some sites' indices and which points reach them, shape (sites, points); each site once."""
        order = sorted(range(len(sites)), key=lambda row: _group(sites[row]))
        for _, group in groupby(order, key=lambda row: _group(sites[row])):
            rows = np.array(list(group), dtype=np.intp)
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                yield block, self._reached([sites[row] for row in block])

    def best(self, site: PlanSite, count: int) -> list[Prospect]:
        """Return the points that have most time to spare for a site, best first: one a domain, `count` at most."""
        points = self._points
        columns = np.flatnonzero(~points.virtual) if site.presence is Presence.SITE else np.arange(len(points.domains))
        distances = _distances(_vectors([site.place]), points.vectors[columns])[0]
        columns, distances = columns[order := np.argsort(distances, kind="stable")], distances[order]
        deepest = self._deepest(site, columns, distances)
        most = self._spare(needed_rtt_ms(deepest + _growth(site) * distances, np.zeros(1)), distances)
        wanted = min(count, len(np.unique(points.domains[columns])))
        found: dict[int, tuple[float, Prospect]] = {}
        for start in range(0, len(columns), _CHUNK):
            some, apart = columns[start : start + _CHUNK], distances[start : start + _CHUNK]
            worst = sorted((spare for spare, _ in found.values()), reverse=True)[:wanted]
            if len(worst) == wanted and most[start] <= worst[-1]:
                break  # no point further away can do better
            needed = needed_rtt_ms(self._clearance(site, some, apart), points.uncertainty_km[some])
            expected = self._assumptions.expected_rtt_ms(apart)
            for column, *numbers in zip(some.tolist(), apart, needed, expected, strict=True):
                spare = float(numbers[1] - numbers[2])
                domain = int(points.domains[column])
                if domain not in found or spare > found[domain][0]:
                    found[domain] = spare, Prospect(column, *map(float, numbers))
        ranked = sorted(found.values(), key=lambda entry: (-entry[0], entry[1].column))
        return [prospect for _, prospect in ranked[:count]]

    def _reached(self, sites: Sequence[PlanSite]) -> Flags:
        """Sites of one group against all points."""
        points = self._points
        apart = _distances(_vectors([site.place for site in sites]), points.vectors)
        all_ = np.arange(len(points.domains))
        deepest = [self._deepest(site, all_, away) for site, away in zip(sites, apart, strict=True)]
        limits = np.array([self._limit_km(site, depth) for site, depth in zip(sites, deepest, strict=True)])
        reached: Flags = apart <= limits[:, None] + _ROUNDING_KM
        if sites[0].presence is Presence.SITE:
            reached &= ~points.virtual
        for row, site in enumerate(sites):
            columns = np.flatnonzero(reached[row])
            distances = apart[row, columns]
            needed = needed_rtt_ms(self._clearance(site, columns, distances), points.uncertainty_km[columns])
            reached[row, columns] = self._spare(needed, distances) >= 0
        return reached

    def _limit_km(self, site: PlanSite, depth_km: float) -> float:
        spare = float(needed_rtt_ms(np.array(depth_km), np.array(0.0))) - self._assumptions.access_ms
        return spare / (self._assumptions.ms_per_km - _growth(site) * _MS_PER_KM / ELLIPSOID_WIDENING)

    def _deepest(self, site: PlanSite, columns: Indices, distances_km: Numbers) -> float:
        """Return no less than `depth_km`, from the nearest of some points: a measurement of borders is dear."""
        known = self._depths.get((site.region, site.place))
        if known is not None or isinstance(site.region, SiteDisc):
            return self.depth_km(site)
        if not len(columns):
            return -math.inf
        nearest = int(distances_km.argmin())
        clearance = self._clearance(site, columns[nearest : nearest + 1], distances_km[nearest : nearest + 1])
        return float(clearance[0] + distances_km[nearest]) + _ROUNDING_KM

    def _spare(self, needed_ms: Numbers, distances_km: Numbers) -> Numbers:
        return needed_ms - self._assumptions.expected_rtt_ms(distances_km)

    def _clearance(self, site: PlanSite, columns: Indices, distances_km: Numbers) -> Numbers:
        """From points to what their discs must not reach, margin taken off, kilometers."""
        if isinstance(site.region, SiteDisc):  # docs/protocol.md PL5: exact but for the ellipsoid, no margin
            return self.depth_km(site) - distances_km
        region = self._asked(site)
        if region != self._region:
            self._region, self._clearances = region, np.full(len(self._points.positions), np.nan)
        for column in columns[np.isnan(self._clearances[columns])].tolist():
            self._clearances[column] = self._clearance_at(site, self._points.positions[column])
        return self._clearances[columns]

    def _clearance_at(self, site: PlanSite, place: Position) -> float:
        region = self._asked(site)
        margin = self._policy.atlas.ground(region).margin_km(self._policy.border_margin_km)
        return float(self._policy.atlas.distances(region, place).to_complement_km) - margin

    def _asked(self, site: PlanSite) -> Region:
        return self._policy.outside_prohibited if site.region is None else site.region


def group_by_domain(flags: Flags, domains: Indices) -> tuple[Flags, Indices]:
    """Join columns of one domain: return which rows have any, shape (rows, distinct domains), and these domains.

    Args:
        flags: Shape (rows, columns).
        domains: Of each column.
    """
    order = np.argsort(domains, kind="stable")
    distinct, starts = np.unique(domains[order], return_index=True)
    if not len(distinct):
        return np.zeros((len(flags), 0), dtype=np.bool_), distinct
    joined: Flags = np.logical_or.reduceat(flags[:, order], starts, axis=1)
    return joined, distinct


def _growth(site: PlanSite) -> float:
    """By how much clearance can grow with each kilometer away from the device."""
    return -1.0 if isinstance(site.region, SiteDisc) else 1.0


def _group(site: PlanSite) -> tuple[int, str]:
    """Discs are compared together, whatever they are; other regions one by one, and each presence by itself."""
    return int(site.presence), "" if isinstance(site.region, SiteDisc) else str(site.region)


def _vectors(positions: Iterable[Position]) -> Vector:
    pairs = np.array([(place.latitude, place.longitude) for place in positions], dtype=np.float64).reshape(-1, 2)
    return unit_vectors(pairs[:, 0], pairs[:, 1])


def _distances(a: Vector, b: Vector) -> Numbers:
    """Great-circle distances, kilometers, shape (len(a), len(b)); right to some decimeters."""
    apart: Numbers = np.arccos(np.clip(a @ b.T, -1.0, 1.0)) * EARTH_RADIUS_KM
    return apart

"""A second geometry, for the tests of the first: the sphere by bearings, borders by rays to the north, search by force.

Nothing here calls the geometry of `verifier/place`; the crossings come from another formula (a circle is walked by its
bearing), membership from meridians and not from parallels, and edges are taken as drawn, not as great-circle pieces.
"""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

import geodata
from verifier.place.discs import Disc, Discs
from verifier.place.geodesy import Position
from verifier.place.regions import AnyOf, Complement, Group, Polygon, Region, SiteDisc
from verifier.units import Domain, Kilometers, LandmarkId, Nanoseconds, Pdi

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

RADIUS_KM = 6371.0
WIDENING = 1.00562
METER = 1e-3 / RADIUS_KM
"""Radians."""

_STEP_DEGREES = 0.05
"""Of the first walk along a border; what happens between two steps is found by halving."""


# the sphere


def unit(latitude: Floats | float, longitude: Floats | float) -> Floats:
    phi, lam = np.radians(latitude), np.radians(longitude)
    return np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi) + 0 * lam], axis=-1)


def degrees_of(places: Floats) -> tuple[Floats, Floats]:
    """Latitudes and longitudes of unit vectors, shape (n, 3)."""
    x, y, z = places.T
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def position_of(place: Floats) -> Position:
    (latitude,), (longitude,) = degrees_of(place[None])
    return Position(float(latitude), float(longitude))


def apart(a: Floats, b: Floats) -> Floats:
    """Radians, exact everywhere: twice the arc tangent of half the chord over half the sum; shapes (..., 3)."""
    less, more = a - b, a + b
    found: Floats = 2 * np.arctan2(np.sqrt((less * less).sum(axis=-1)), np.sqrt((more * more).sum(axis=-1)))
    return found


def frame(center: Floats) -> tuple[Floats, Floats]:
    """Two directions at a place that are square to it and to each other."""
    aside = np.eye(3)[int(np.abs(center).argmin())]
    u = aside - (aside @ center) * center
    u /= np.linalg.norm(u)
    return u, np.cross(center, u)


def ring(center: Floats, radius: float, bearings: Floats) -> Floats:
    """Places of one circle, shape (n, 3)."""
    u, v = frame(center)
    round_it = np.cos(bearings)[:, None] * u + np.sin(bearings)[:, None] * v
    found: Floats = math.cos(radius) * center + math.sin(radius) * round_it
    return found


def meetings(center: Floats, radius: float, other: Floats, reach: float) -> Floats:
    """Where one circle crosses another, or comes nearest to it: two bearings of the first circle."""
    u, v = frame(center)
    by, bx = math.sin(radius) * float(v @ other), math.sin(radius) * float(u @ other)
    swing = math.hypot(bx, by)
    if swing < 1e-15:
        return np.zeros(2)
    share = (math.cos(reach) - math.cos(radius) * float(center @ other)) / swing
    half = math.acos(max(-1.0, min(1.0, share)))
    return math.atan2(by, bx) + np.array([-half, half])


def jittered(places: Floats, sizes_m: Sequence[float] = (0.3, 3.0, 100.0)) -> Floats:
    """The places and some around each, a few decimeters to a hundred meters away."""
    moved = [places]
    for k, size in enumerate(sizes_m):
        for turn in np.arange(6) + k / 3:
            axis = np.array([math.cos(turn), math.sin(turn), math.cos(2 * turn)])
            step = np.cross(places, axis)
            step /= np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
            moved.append(places + step * size * METER)
    found = np.concatenate(moved)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def spread(count: int) -> Floats:
    """Even over the sphere."""
    k = np.arange(count) + 0.5
    z = 1 - 2 * k / count
    turn = math.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - z * z)
    return np.stack([flat * np.cos(turn), flat * np.sin(turn), z], axis=1)


# regions


@cache
def _features() -> dict[str, tuple[Floats, ...]]:
    found: dict[str, list[Floats]] = {}
    for feature in json.loads(geodata.read_borders())["features"]:
        properties = feature["properties"]
        own = None if properties.get("isoStatus") == "excRes" else properties.get("iso1A2")
        name = own or properties.get("country")
        name = "UA-43" if properties.get("wikidata") == "Q7835" else name
        if feature["geometry"] is not None and name:
            found.setdefault(name, []).extend(edges_of(polygon) for polygon in feature["geometry"]["coordinates"])
    return {name: tuple(polygons) for name, polygons in found.items()}


def polygons_of(code: str) -> tuple[Floats, ...]:
    """Edges of each polygon of a country, shape (n, 4): longitude and latitude of both ends."""
    return _features()[code]


def edges_of(rings: Sequence[Sequence[Sequence[float]]]) -> Floats:
    """Edges of rings, shape (n, 4); a ring may be open."""
    parts = []
    for points in rings:
        corners = np.array(points, dtype=float)
        following = np.roll(corners, -1, axis=0)
        parts.append(np.concatenate([corners, following], axis=1)[(corners != following).any(axis=1)])
    return np.concatenate(parts)


def odd_to_the_north(edges: Floats, places: Floats) -> Flags:
    """Even-odd rule by rays to the north, for places as unit vectors."""
    latitude, longitude = degrees_of(places)
    latitude = np.minimum(latitude, 90 - 1e-9)  # to the north of the pole there is no edge to meet
    longitude = np.where(longitude >= 180, -180.0, longitude)
    inside = np.zeros(len(places), dtype=np.bool_)
    low, high = np.minimum(edges[:, 0], edges[:, 2]).min(), np.maximum(edges[:, 0], edges[:, 2]).max()
    (maybe,) = np.nonzero((longitude >= low) & (longitude <= high))
    x1, y1, x2, y2 = edges.T
    for part in np.array_split(maybe, max(1, len(maybe) * len(edges) // 2_000_000)):
        x, y = longitude[part, None], latitude[part, None]
        spans = (x1 > x) != (x2 > x)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = y1 + (x - x1) * (y2 - y1) / (x2 - x1)
        inside[part] = (spans & (at > y)).sum(axis=1) % 2 == 1
    return inside


@dataclass(frozen=True)
class Oracle:
    """A region as this file sees it. A site's radius is multiplied by `factor`, one that is taken away is divided."""

    region: Region
    groups: dict[str, frozenset[str]]
    factor: float = WIDENING

    def holds(self, places: Floats) -> Flags:
        """Which places lie in it, drawn edges open or closed as they come."""
        return self._holds(self.region, places, self.factor)

    def nearly_holds(self, places: Floats, meters: float) -> Flags:
        """Which places lie in it or about so near to it."""
        held = self.holds(places)
        (rest,) = np.nonzero(~held)
        if len(rest):
            around = jittered(places[rest], (meters,))
            held[rest] = self.holds(around).reshape(-1, len(rest)).any(axis=0)
        return held

    def _holds(self, region: Region, places: Floats, factor: float) -> Flags:
        if isinstance(region, Complement):
            return ~self._holds(region.of, places, 1 / factor)
        if isinstance(region, AnyOf):
            held = np.zeros(len(places), dtype=np.bool_)
            for member in region.members:
                held |= self._holds(member, places, factor)
            return held
        if isinstance(region, SiteDisc):
            center = unit(region.center.latitude, region.center.longitude)
            within: Flags = apart(places, center[None]) <= region.radius_km * factor / RADIUS_KM
            return within
        if isinstance(region, Polygon):
            return odd_to_the_north(edges_of(region.rings), places)
        codes = self.groups[region.name] if isinstance(region, Group) else region.codes
        held = np.zeros(len(places), dtype=np.bool_)
        for code in codes:
            for edges in polygons_of(code):
                held |= odd_to_the_north(edges, places)
        return held

    def edges(self) -> Floats:
        """All drawn edges, those between members too, shape (n, 4)."""
        return np.concatenate([np.empty((0, 4)), *self._edges(self.region)])

    def _edges(self, region: Region) -> list[Floats]:
        if isinstance(region, Complement):
            return self._edges(region.of)
        if isinstance(region, AnyOf):
            return [edges for member in region.members for edges in self._edges(member)]
        if isinstance(region, Polygon):
            return [edges_of(region.rings)]
        if isinstance(region, SiteDisc):
            return []
        codes = self.groups[region.name] if isinstance(region, Group) else region.codes
        return [edges for code in sorted(codes) for edges in polygons_of(code)]

    def circles(self) -> list[tuple[Floats, float]]:
        """Centers and radii, radians, of its sites."""
        return self._circles(self.region, self.factor)

    def _circles(self, region: Region, factor: float) -> list[tuple[Floats, float]]:
        if isinstance(region, Complement):
            return self._circles(region.of, 1 / factor)
        if isinstance(region, AnyOf):
            return [circle for member in region.members for circle in self._circles(member, factor)]
        if isinstance(region, SiteDisc):
            center = unit(region.center.latitude, region.center.longitude)
            return [(center, region.radius_km * factor / RADIUS_KM)]
        return []


_WALKS: dict[Region, tuple[Floats, Floats]] = {}


def walk(oracle: Oracle) -> tuple[Floats, Floats]:
    """Cut all drawn edges into short steps: degrees of both ends, shape (n, 4), and starts as vectors."""
    found = _WALKS.get(oracle.region)
    if found is None:
        edges = oracle.edges()
        pieces = np.maximum(1, np.ceil(np.abs(edges[:, 2:] - edges[:, :2]).max(axis=1) / _STEP_DEGREES)).astype(int)
        which = np.repeat(np.arange(len(edges)), pieces)
        step = np.concatenate([np.arange(n) for n in pieces]) if len(edges) else np.empty(0)
        count = pieces[which]
        first, way = edges[which, :2], edges[which, 2:] - edges[which, :2]
        steps = np.concatenate(
            [first + way * (step / count)[:, None], first + way * ((step + 1) / count)[:, None]], axis=1
        )
        found = _WALKS[oracle.region] = steps, unit(steps[:, 1], steps[:, 0])
    return found


def places_on_border(oracle: Oracle, circles: Sequence[tuple[Floats, float]]) -> Floats:
    """Corners of the border, and where it crosses circles or comes nearest to them, by halving on edges as drawn."""
    steps, starts = walk(oracle)
    if not len(steps):
        return np.empty((0, 3))
    length = apart(starts, unit(steps[:, 3], steps[:, 2]))
    # Only steps that come within their own length of a circle can meet it.
    near = [np.nonzero(np.abs(apart(starts, c) - r) <= length * 1.01 + METER)[0] for c, r in circles]
    chosen = steps[np.concatenate(near)]
    center = np.concatenate([np.tile(c, (len(n), 1)) for n, (c, _) in zip(near, circles, strict=True)])
    radius = np.concatenate([np.full(len(n), r) for n, (_, r) in zip(near, circles, strict=True)])

    def at(t: Floats) -> Floats:
        place = chosen[:, :2] + (chosen[:, 2:] - chosen[:, :2]) * t[:, None]
        return unit(place[:, 1], place[:, 0])

    extremes = []
    for sign in (1.0, -1.0):  # the nearest and the farthest place of each step
        low, high = np.zeros(len(chosen)), np.ones(len(chosen))
        for _ in range(45):
            third = (high - low) / 3
            left = sign * apart(at(low + third), center) < sign * apart(at(high - third), center)
            low, high = np.where(left, low, low + third), np.where(left, high - third, high)
        extremes.append((low + high) / 2)
    turns = [np.zeros(len(chosen)), *np.sort(np.stack(extremes), axis=0), np.ones(len(chosen))]
    found = [starts[:: max(1, len(starts) // 1000)], *map(at, extremes)]
    for begin, end in itertools.pairwise(turns):
        low, high = begin, end
        below = apart(at(low), center) < radius
        for _ in range(45):
            middle = (low + high) / 2
            same = (apart(at(middle), center) < radius) == below
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        found.append(at((low + high) / 2))
    return np.concatenate(found)


def places_to_try(oracle: Oracle | None, centers: Floats, radii: Floats) -> Floats:
    """Where a region and discs have corners, edges and middles, and much in between, shape (n, 3)."""
    circles = list(zip(centers, radii.tolist(), strict=True))
    corners = [centers]
    if oracle is not None:
        circles += oracle.circles()
    for i, (center, radius) in enumerate(circles):
        corners.append(ring(center, radius, np.linspace(0, 2 * np.pi, 12, endpoint=False)))
        bearings = [meetings(center, radius, *other) for j, other in enumerate(circles) if j != i]
        if bearings:
            corners.append(ring(center, radius, np.concatenate(bearings)))
    border = [] if oracle is None else [jittered(places_on_border(oracle, circles), (1.0,))]
    fill = [ring(c, r * share, np.linspace(0, 2 * np.pi, 9)) for c, r in circles for share in (0.2, 0.5, 0.8, 0.97)]
    return np.concatenate([jittered(np.concatenate(corners)), *border, *fill, spread(1000)])


def outside_of(places: Floats, centers: Floats, radii: Floats, slack_km: float) -> NDArray[np.int64]:
    """How many discs each place lies outside of, by more than a slack."""
    count = np.zeros(len(places), dtype=np.int64)
    for center, radius in zip(centers, radii + slack_km / RADIUS_KM, strict=True):
        if 1e-4 < radius < 3.13:  # a cosine is exact to a micrometer
            count += places @ center < math.cos(radius)
        else:
            count += apart(places, center) > radius
    return count


# discs


def disc(name: str, at: Position, radius_km: float, *, may_accuse: bool = True, may_prove_site: bool = True) -> Disc:
    x, y, z = unit(at.latitude, at.longitude).tolist()
    return Disc(
        landmark_id=LandmarkId(name),
        domain=Domain(name),
        rtt_ns=Nanoseconds(0),
        position=at,
        landmark_revision=1,
        radius_km=Kilometers(radius_km),
        fibre_radius_km=Kilometers(radius_km * 2 / 3),
        may_accuse=may_accuse,
        may_prove_site=may_prove_site,
        center=(x, y, z),
    )


def discs(*told: tuple[Position, float]) -> Discs:
    """One a failure domain, smallest first as `Discs` asks for."""
    made = [disc(f"d{k}", at, radius) for k, (at, radius) in enumerate(told)]
    return Discs(sorted(made, key=lambda d: d.radius_km), Pdi(bytes(8)))

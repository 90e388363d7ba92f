"""Shapes: how a region lies on the sphere, as distances and depth need it.

A shape is a boundary and a membership test. The boundary is made of short great-circle arcs, from drawn borders, and of
whole circles, from discs of sites. It may hold more than the true boundary, such as a border inside a union; that only
makes other things look nearer, which errs to UNPROVEN.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from verifier.place.geodesy import (
    EARTH_RADIUS_KM,
    HALF_CIRCUMFERENCE_KM,
    Position,
    Triple,
    Vector,
    angles,
    nearest_on_arcs,
    toward,
    triple_of,
    unit_vectors,
)
from verifier.units import Kilometers

_PIECE_DEGREES = 0.25
"""An edge of this length along a parallel bends at most 8 m away from its great circle: sagitta = R (0.25 deg)^2 / 8 *
sin(2 phi) / 2. One that spans a in longitude and b in latitude bends at most R a (a + 4 b) / 16."""

LONGEST_ARC_RADIANS = math.radians(_PIECE_DEGREES) * 1.42
"""No piece is longer: it spans at most a quarter of a degree both ways."""

BEND_KM = 0.01
"""So far at most are great-circle pieces from the edges that they stand for."""

_ON_EDGE_RADIANS = 1e-8
"""6 cm: a place so near to a site's edge is on it."""

_TO_THE_POLE = 90 - 1e-9

_CHUNK = 4_000_000
"""Points times edges in one membership test; bounds its memory to about 100 MB."""

Ring = NDArray[np.float64]
"""Shape (n, 2): longitude and latitude, degrees; the first point is not repeated."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RegionDistances:
    """What a single disc around one place needs to know about a region.

    Attributes:
        to_region_km: From the place to the nearest point of the region; 0 inside it.
        to_complement_km: From the place to the nearest point that is not of the region; 0 outside it.
        in_region: That nearest point of the region, a unit vector.
        in_complement: That nearest point outside, a unit vector.
    """

    to_region_km: Kilometers
    to_complement_km: Kilometers
    in_region: Triple = field(default=(0.0, 0.0, 0.0), compare=False)
    in_complement: Triple = field(default=(0.0, 0.0, 0.0), compare=False)


class Shape(ABC):
    """One region's boundary and membership.

    Attributes:
        bordered: Borders of countries are in it, so it needs their margin.
    """

    bordered: bool

    @abstractmethod
    def contains(self, places: Vector) -> Flags:
        """Return for each unit vector, shape (n, 3), whether it lies in the region, edges taken as drawn."""

    @property
    @abstractmethod
    def arcs(self) -> tuple[Vector, Vector]:
        """Starts and ends of the boundary's arcs, unit vectors, shape (n, 3) each; there may be none."""

    @property
    @abstractmethod
    def circles(self) -> tuple[Vector, NDArray[np.float64]]:
        """Centers, shape (n, 3), and radii, radians, shape (n,), of the boundary's circles; there may be none."""

    def distances(self, place: Vector) -> RegionDistances:
        """Return the two distances from a place, unit vector, shape (3,)."""
        least, nearest = self._nearest_on_boundary(place)
        away = Kilometers(least * EARTH_RADIUS_KM)
        at, edge = triple_of(place), triple_of(nearest)
        if self.contains(place[None])[0]:
            return RegionDistances(Kilometers(0.0), away, at, edge)
        return RegionDistances(away, Kilometers(0.0), edge, at)

    def _nearest_on_boundary(self, place: Vector) -> tuple[float, Vector]:
        """Return the least angle to the boundary and the place of it; (pi, the place itself) when there is none."""
        best, nearest = math.pi, place
        starts, ends = self.arcs
        if len(starts):
            best, nearest = nearest_on_arcs(place, starts, ends)
        for center, radius in zip(*self.circles, strict=True):
            away = abs(float(angles(center, place)) - float(radius))
            if away < best:
                best, nearest = away, toward(center, place, float(radius))
        return best, nearest


class Drawn(Shape):
    """A shape of rings whose edges are straight in longitude and latitude; even-odd rule.

    Args:
        edges: Shape (n, 4): longitude and latitude of both ends, degrees.
        bordered: They are borders of countries.
    """

    def __init__(self, edges: NDArray[np.float64], *, bordered: bool) -> None:
        self.edges = edges
        self.bordered = bordered

    @cached_property
    def arcs(self) -> tuple[Vector, Vector]:
        """The outer edges, cut into pieces short enough for great-circle arcs."""
        return _arcs(_outer_edges(self.edges))

    @property
    def circles(self) -> tuple[Vector, NDArray[np.float64]]:
        """None."""
        return np.empty((0, 3)), np.empty(0)

    def contains(self, places: Vector) -> Flags:
        """Even-odd rule on edges that are straight in longitude and latitude."""
        longitudes = np.degrees(np.arctan2(places[:, 1], places[:, 0]))
        latitudes = np.degrees(np.arctan2(places[:, 2], np.hypot(places[:, 0], places[:, 1])))
        return self.contains_degrees(longitudes, latitudes)

    def contains_degrees(self, longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]) -> Flags:
        """As `contains`, from degrees."""
        # The map is cut at 180 degrees: a place on the cut is asked for at its western end.
        x = np.where(longitudes >= 180.0, -180.0, longitudes)
        # A cap drawn up to the pole holds the pole, which every meridian's edge only touches.
        y = np.minimum(latitudes, _TO_THE_POLE)
        inside = np.empty(len(x), dtype=np.bool_)
        step = max(1, _CHUNK // max(1, len(self.edges)))
        for first in range(0, len(x), step):
            part = slice(first, first + step)
            inside[part] = self._odd(x[part, None], y[part, None])
        return inside

    def _odd(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> Flags:
        x1, y1, x2, y2 = self.edges.T
        crosses = (y1 > y) != (y2 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x1 + (y - y1) / (y2 - y1) * (x2 - x1)
        odd: Flags = np.count_nonzero(crosses & (x < at), axis=1) % 2 == 1
        return odd


class United(Drawn):
    """Countries together: what any of them holds. A border that two share is none of theirs."""

    def __init__(self, members: Sequence[Drawn]) -> None:
        super().__init__(np.concatenate([m.edges for m in members]), bordered=True)
        self._members = tuple(members)

    def contains_degrees(self, longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]) -> Flags:
        """In any of them."""
        inside: Flags = np.any([m.contains_degrees(longitudes, latitudes) for m in self._members], axis=0)
        return inside


class Cap(Shape):
    """A disc on the sphere.

    Args:
        center: Where its middle is.
        radius_km: On the sphere.
    """

    bordered = False

    def __init__(self, center: Position, radius_km: float) -> None:
        self._center = center.vector()
        self._radius = min(radius_km, HALF_CIRCUMFERENCE_KM) / EARTH_RADIUS_KM

    def contains(self, places: Vector) -> Flags:
        """Within the radius."""
        within: Flags = angles(places, self._center[None]) <= self._radius + _ON_EDGE_RADIANS
        return within

    @property
    def arcs(self) -> tuple[Vector, Vector]:
        """None."""
        return np.empty((0, 3)), np.empty((0, 3))

    @property
    def circles(self) -> tuple[Vector, NDArray[np.float64]]:
        """Its edge."""
        return self._center[None], np.array([self._radius])


class Joined(Shape):
    """The union of shapes."""

    def __init__(self, members: Sequence[Shape]) -> None:
        self._members = tuple(members)
        self.bordered = any(m.bordered for m in self._members)

    def contains(self, places: Vector) -> Flags:
        """In any of them."""
        inside: Flags = np.any([m.contains(places) for m in self._members], axis=0)
        return inside

    @cached_property
    def arcs(self) -> tuple[Vector, Vector]:
        """Those of all."""
        starts, ends = zip(*(m.arcs for m in self._members), strict=True)
        return np.concatenate(starts), np.concatenate(ends)

    @cached_property
    def circles(self) -> tuple[Vector, NDArray[np.float64]]:
        """Those of all."""
        centers, radii = zip(*(m.circles for m in self._members), strict=True)
        return np.concatenate(centers), np.concatenate(radii)


class Outside(Shape):
    """All that is not in a shape. Places on the edge belong to both sides."""

    def __init__(self, of: Shape) -> None:
        self._of = of
        self.bordered = of.bordered

    def contains(self, places: Vector) -> Flags:
        """Not inside, or on a circle that bounds it."""
        outside: Flags = ~self._of.contains(places)
        for center, radius in zip(*self._of.circles, strict=True):
            outside |= np.abs(angles(places, center[None]) - radius) <= _ON_EDGE_RADIANS
        return outside

    @property
    def arcs(self) -> tuple[Vector, Vector]:
        """The same edge from the other side."""
        return self._of.arcs

    @property
    def circles(self) -> tuple[Vector, NDArray[np.float64]]:
        """The same edge from the other side."""
        return self._of.circles


def edges_of(rings: Sequence[Ring]) -> NDArray[np.float64]:
    """Return the edges of rings, shape (n, 4)."""
    starts = np.concatenate(rings)
    ends = np.concatenate([np.roll(r, -1, axis=0) for r in rings])
    return np.concatenate([starts, ends], axis=1)


def _outer_edges(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop edges that two members share, the map's cut at 180 degrees where both sides meet, and edges along a pole.

    An edge that should cancel and does not (the two sides are cut differently) stays, which only makes the complement
    look nearer.
    """
    on_cut = (edges[:, 0] == -180.0) & (edges[:, 2] == -180.0)
    on_meridian = np.where(on_cut[:, None] & (edges == -180.0), 180.0, edges)
    x1, y1, x2, y2 = on_meridian.T
    at_pole = (np.abs(y1) == 90) & (np.abs(y2) == 90)
    swap = (x1 > x2) | ((x1 == x2) & (y1 > y2))
    keys = np.round(np.where(swap[:, None], on_meridian[:, [2, 3, 0, 1]], on_meridian), 7)
    _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    outer = edges[(counts[inverse.reshape(-1)] % 2 == 1) & ~at_pole]
    return outer if len(outer) else edges


def _arcs(edges: NDArray[np.float64]) -> tuple[Vector, Vector]:
    """Cut edges into short great-circle arcs: their starts and ends, unit vectors, shape (n, 3) each."""
    across, along = np.abs(edges[:, 2:] - edges[:, :2]).T
    spans = np.maximum(along, np.sqrt(across * (across + 4 * along)))  # what is slanted bends more than a parallel
    pieces = np.maximum(1, np.ceil(spans / _PIECE_DEGREES).astype(int))
    which = np.repeat(np.arange(len(edges)), pieces)
    step = np.concatenate([np.arange(n) for n in pieces])
    first, last = edges[which, :2], edges[which, 2:]
    count = pieces[which][:, None]
    starts = first + (last - first) * (step[:, None] / count)
    ends = first + (last - first) * ((step[:, None] + 1) / count)
    return unit_vectors(starts[:, 1], starts[:, 0]), unit_vectors(ends[:, 1], ends[:, 0])

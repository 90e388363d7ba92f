"""Distances on the sphere, and the bounds that make them safe for the real Earth.

All geometry is on a sphere of R = 6371 km. On WGS 84 a distance differs from the sphere's by up to 0.562 %, so a radius
that comes from a measured time is widened by `widening_at` before it is compared with distances of this module
(docs/protocol.md PL1).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verifier.errors import UsageError
from verifier.units import Kilometers

EARTH_RADIUS_KM = 6371.0
HALF_CIRCUMFERENCE_KM = math.pi * EARTH_RADIUS_KM
"""No two places are further apart."""

ELLIPSOID_WIDENING = 1.00562
"""A WGS 84 distance is at most this many times the sphere's, and at least its inverse (docs/protocol.md PL1)."""

_ROUNDING_COSINE = 1e-15
"""Of a product of two unit vectors."""

_NEAR_RADIANS = 1e-8
"""6 cm: an arc that ends on a circle crosses it, whatever rounding says."""

_TOUCHING_RADIANS = 1e-14
"""What rounding makes of the angles between unit vectors, with room to spare."""

_NEARLY_ALL_KM = HALF_CIRCUMFERENCE_KM - 1e-3
"""A disc of this radius is taken to be the whole Earth."""

_ECCENTRICITY_SQUARED = 0.00669437999
"""Of WGS 84, rounded down, which errs to more."""

_LEAST_MERIDIAN_KM = 6335.4
"""The meridian's radius of curvature at the equator, a (1 - e^2), rounded down."""

_RADIANS_PER_DEGREE = math.pi / 180

Vector = NDArray[np.float64]
"""Unit vectors, shape (3,) or (n, 3)."""


Triple = tuple[float, float, float]
"""A unit vector, where one is handled by itself."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place on Earth, degrees, WGS 84."""

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        """Refuse what is not on Earth."""
        if not (-90 <= self.latitude <= 90 and -180 <= self.longitude <= 180):
            raise UsageError(f"no such place: latitude {self.latitude}, longitude {self.longitude}")

    def vector(self) -> Vector:
        """The unit vector, shape (3,)."""
        vector: Vector = unit_vectors(np.array([self.latitude]), np.array([self.longitude]))[0]
        return vector

    def triple(self) -> Triple:
        """The unit vector."""
        return triple_of(self.vector())


def triple_of(vector: Vector) -> Triple:
    """Return a unit vector, shape (3,), as three numbers."""
    x, y, z = vector.tolist()
    return x, y, z


def widening_at(latitude: float, distance_km: float) -> float:
    """Return how many times longer than in truth a way from here can be on the sphere (docs/protocol.md PL1).

    The sphere exaggerates ways most where the ellipsoid's meridian is curved most, which is at the equator. Its radius
    of curvature M grows with the latitude and is nowhere above that across it. So a way that stays on one side of a
    latitude is at least M / R times as long as on the sphere, M being that at the least latitude that it can reach.

    Args:
        latitude: Of its start, degrees.
        distance_km: Its true length, or more.
    """
    least = abs(latitude) * _RADIANS_PER_DEGREE - distance_km / _LEAST_MERIDIAN_KM
    if least <= 0.0:
        return ELLIPSOID_WIDENING
    sine = math.sin(least)
    flat = 1 - _ECCENTRICITY_SQUARED * sine * sine
    return ELLIPSOID_WIDENING * flat * math.sqrt(flat)


def cosines_of_km(distances_km: Iterable[float]) -> list[float]:
    """Return cosines that are certainly not above that of any place within each distance; -2 when all are within."""
    cos = math.cos
    return [
        cos(km / EARTH_RADIUS_KM + _NEAR_RADIANS) - _ROUNDING_COSINE if km < _NEARLY_ALL_KM else -2.0
        for km in distances_km
    ]


def unit_vectors(latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> Vector:
    """Return unit vectors, shape (n, 3), of n places in degrees."""
    phi, lam = np.radians(latitudes), np.radians(longitudes)
    vectors: Vector = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)], axis=-1)
    return vectors


def distance_km(a: Position, b: Position) -> Kilometers:
    """Great-circle distance between two places."""
    phi_a, phi_b = math.radians(a.latitude), math.radians(b.latitude)
    half_dphi, half_dlam = (phi_b - phi_a) / 2, math.radians(b.longitude - a.longitude) / 2
    h = math.sin(half_dphi) ** 2 + math.cos(phi_a) * math.cos(phi_b) * math.sin(half_dlam) ** 2
    return Kilometers(2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h))))


def angles(a: Vector, b: Vector) -> NDArray[np.float64]:
    """Return the angles between unit vectors, radians, exact near 0 and near pi too; shapes broadcast."""
    cross = np.cross(a, b)
    result: NDArray[np.float64] = np.arctan2(np.sqrt(np.sum(cross * cross, axis=-1)), np.sum(a * b, axis=-1))
    return result


def nearest_on_arcs(point: Vector, starts: Vector, ends: Vector) -> tuple[float, Vector]:
    """Return the least angle from one point to a set of great-circle arcs, radians, and the place of it, shape (3,).

    Args:
        point: Unit vector, shape (3,).
        starts: Unit vectors, shape (n, 3).
        ends: Unit vectors, shape (n, 3); each arc is the short one and under a quarter of the circle.
    """
    normals = np.cross(starts, ends)
    lengths = np.sqrt(np.sum(normals * normals, axis=1))
    proper = lengths > 1e-12
    # The foot of the perpendicular lies on the arc when the point is on the inner side of both end planes.
    inner = proper & (np.cross(normals, starts) @ point > 0) & (np.cross(ends, normals) @ point > 0)
    corners = np.concatenate([starts, ends])
    apart = angles(corners, point)
    first = int(apart.argmin())
    least, place = float(apart[first]), corners[first]
    if inner.any():
        sines = np.abs(normals[inner] @ point) / lengths[inner]
        best = int(sines.argmin())
        height = float(np.arcsin(min(float(sines[best]), 1.0)))
        if height < least:
            normal = normals[inner][best] / lengths[inner][best]
            foot = point - (normal @ point) * normal
            least, place = height, foot / np.linalg.norm(foot)
    return least, place


def toward(start: Vector, goal: Vector, angle: float) -> Vector:
    """Return the place at `angle`, radians, from `start` along the great circle to `goal`; unit vectors, shape (3,).

    When the goal is the start itself or its antipode, some direction is taken.
    """
    aside = goal - (start @ goal) * start
    length = float(np.linalg.norm(aside))
    if length < 1e-12:
        aside = np.cross(start, np.eye(3)[int(np.abs(start).argmin())])
        length = float(np.linalg.norm(aside))
    place: Vector = math.cos(angle) * start + math.sin(angle) / length * aside
    return place


def circle_crossings(centers: Vector, radii: NDArray[np.float64]) -> Vector:
    """Return every place where two of the circles cross, shape (m, 3); two for each pair that crosses.

    Args:
        centers: Unit vectors, shape (n, 3).
        radii: Radii as angles, radians, shape (n,).
    """
    first, second = np.triu_indices(len(centers), k=1)
    a, b, r, s = centers[first], centers[second], radii[first], radii[second]
    normal = np.cross(a, b)
    sine = np.linalg.norm(normal, axis=1)
    # Half angles and differences throughout: 1 - cos of a small angle would lose the digits that near landmarks need.
    apart = np.arctan2(sine, np.sum(a * b, axis=1))
    half = (r + s + apart) / 2
    sides = np.stack([np.pi - half, half - r, half - s, half - apart])
    # Circles that only touch meet, whatever rounding says. Those around one place or around antipodes never cross.
    meet = (sine > 1e-12) & (sides.min(axis=0) >= -_TOUCHING_RADIANS)
    a, r, s, apart, sine = (x[meet] for x in (a, r, s, apart, sine))
    normal = normal[meet] / sine[:, None]
    height = 2 * np.sqrt(np.prod(np.sin(np.maximum(sides[:, meet], 0.0)), axis=0)) / sine
    along = (2 * np.sin((r + s) / 2) * np.sin((r - s) / 2) + 2 * np.cos(r) * np.sin(apart / 2) ** 2) / sine
    along = np.clip(along, -np.sin(r), np.sin(r))
    base = np.cos(r)[:, None] * a + along[:, None] * np.cross(normal, a)
    across = height[:, None] * normal
    places: Vector = np.concatenate([base + across, base - across])
    return places


def places_on_circles(centers: Vector, radii: NDArray[np.float64]) -> Vector:
    """Return one place on each circle, shape (n, 3); arguments as in `circle_crossings`."""
    axes = np.eye(3)[np.abs(centers).argmin(axis=1)]
    aside = np.cross(centers, axes)
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    places: Vector = centers * np.cos(radii)[:, None] + aside * np.sin(radii)[:, None]
    return places


def arc_crossings(starts: Vector, ends: Vector, centers: Vector, radii: NDArray[np.float64]) -> Vector:
    """Return every place where one of the arcs crosses or touches one of the circles, shape (m, 3).

    Args:
        starts: Unit vectors, shape (a, 3).
        ends: Unit vectors, shape (a, 3); arcs as in `nearest_on_arcs`.
        centers: Unit vectors, shape (n, 3).
        radii: Radii as angles, radians, shape (n,).
    """
    normals = np.cross(starts, ends)
    lengths = np.sqrt(np.sum(normals * normals, axis=1))
    spans = np.arctan2(lengths, np.sum(starts * ends, axis=1))
    # Only pairs whose circle comes within the arc's own length of its start can meet.
    apart = np.arccos(np.clip(starts @ centers.T, -1.0, 1.0))
    arc, circle = np.nonzero(np.abs(apart - radii[None, :]) <= spans[:, None] + _NEAR_RADIANS)
    proper = lengths[arc] > 1e-12
    arc, circle = arc[proper], circle[proper]
    along = starts[arc]
    across = np.cross(normals[arc] / lengths[arc][:, None], along)
    # On the arc p(t) = start cos t + across sin t, and it lies on the circle where p . center = cos radius.
    a, b = np.sum(along * centers[circle], axis=1), np.sum(across * centers[circle], axis=1)
    reach = np.hypot(a, b)
    cosines = np.cos(radii[circle])
    meets = np.abs(cosines) <= reach + _NEAR_RADIANS**2
    half = np.arccos(np.clip(cosines / np.maximum(reach, 1e-300), -1.0, 1.0))
    middle = np.arctan2(b, a)
    found: list[Vector] = []
    for t in (middle - half, middle + half):
        t = (t + math.pi) % (2 * math.pi) - math.pi  # noqa: PLW2901 - the same angle, between -pi and pi
        on = meets & (t >= -_NEAR_RADIANS) & (t <= spans[arc] + _NEAR_RADIANS)
        found.append(along[on] * np.cos(t[on])[:, None] + across[on] * np.sin(t[on])[:, None])
    places: Vector = np.concatenate(found)
    return places

"""Distances on the sphere, and the bounds that make them safe for the real Earth.

All geometry is on a sphere of R = 6371 km. On WGS 84 a distance differs from the sphere's by up to 0.562 %, so a radius
that comes from a measured time is widened by `ELLIPSOID_WIDENING` before it is compared with distances of this module
(docs/protocol.md PL1).
"""

import math
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

Vector = NDArray[np.float64]
"""Unit vectors, shape (3,) or (n, 3)."""


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


def distance_to_arcs_km(point: Vector, starts: Vector, ends: Vector) -> Kilometers:
    """Return the least distance from one point to a set of great-circle arcs.

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
    least = min(float(angles(starts, point).min()), float(angles(ends, point).min()))
    if inner.any():
        sines = np.abs(normals[inner] @ point) / lengths[inner]
        least = min(least, float(np.arcsin(np.minimum(sines, 1.0)).min()))
    return Kilometers(least * EARTH_RADIUS_KM)


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
    heron = np.sin(half) * np.sin(half - r) * np.sin(half - s) * np.sin(half - apart)
    meet = (sine > 1e-12) & (heron >= 0)  # circles around one place or around antipodes never cross
    a, r, s, apart, sine, heron = (x[meet] for x in (a, r, s, apart, sine, heron))
    normal = normal[meet] / sine[:, None]
    height = 2 * np.sqrt(heron) / sine
    along = (2 * np.sin((r + s) / 2) * np.sin((r - s) / 2) + 2 * np.cos(r) * np.sin(apart / 2) ** 2) / sine
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

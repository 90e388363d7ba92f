"""Impossible travel: two fixes of one device that nothing can fly between (docs/protocol.md PL10).

Each fix allows the places that lie outside of at most f discs. How far two such areas are apart at least is exact: the
shortest way between them ends, on either side, at a corner, where two circles cross, or on an arc of a circle, which it
then meets at a right angle, so that it passes through that circle's center.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from verifier.place.depth import DiscSet
from verifier.place.geodesy import (
    EARTH_RADIUS_KM,
    ELLIPSOID_WIDENING,
    Position,
    Vector,
    angles,
    circle_crossings,
    places_on_circles,
)
from verifier.units import Kilometers

FASTEST_KM_PER_H = 1_200.0
"""An airliner with a strong tail wind (docs/protocol.md PL10)."""

BOARDING = timedelta(hours=0.1)
"""For everything but flying."""

_MOST_DISCS = 16
"""Smallest discs of a fix that are compared: 20 ms at the most, where 64 take seconds and gigabytes."""


@dataclass(frozen=True, slots=True)
class SeenPlace:
    """What one fix allows, and when.

    Attributes:
        issued_at: Issue of its challenge, aware.
        received_at: Arrival of its report, aware.
        discs: Landmark's position and radius, kilometers, one a failure domain.
    """

    issued_at: datetime
    received_at: datetime
    discs: tuple[tuple[Position, float], ...]


@dataclass(frozen=True, slots=True)
class ImpossibleTravel:
    """Two fixes that are too far apart.

    Attributes:
        apart_km: The least distance between what both allow.
        within: The longest time between them.
        reach_km: The most that can be flown in that time.
    """

    apart_km: Kilometers
    within: timedelta
    reach_km: Kilometers


def find_impossible_travel(before: SeenPlace, now: SeenPlace, tolerated: int) -> ImpossibleTravel | None:
    """Return how two fixes of one device contradict each other, None when they do not.

    Args:
        before: The fix before.
        now: This fix; which of the two was first does not matter.
        tolerated: f, how many failure domains may be wrong in each.
    """
    within = max(before.received_at, now.received_at) - min(before.issued_at, now.issued_at)
    reach = Kilometers((within + BOARDING) / timedelta(hours=1) * FASTEST_KM_PER_H)
    if reach * ELLIPSOID_WIDENING >= math.pi * EARTH_RADIUS_KM:
        return None
    # On the ellipsoid they may be a little nearer than on the sphere.
    apart = Kilometers(least_distance_km(_set_of(before), _set_of(now), tolerated) / ELLIPSOID_WIDENING)
    return ImpossibleTravel(apart, within, reach) if apart > reach else None


def allows_less(before: SeenPlace, now: SeenPlace, tolerated: int) -> bool:
    """Return whether a fix still says more about where the device can be than a later, wide one.

    Then it stands, lest a host that delays its ranges once has the place before forgotten.
    """
    flown_km = (now.received_at - before.issued_at + BOARDING) / timedelta(hours=1) * FASTEST_KM_PER_H
    old_km, new_km = (sorted(radius for _, radius in p.discs)[: tolerated + 1][-1] for p in (before, now))
    return old_km + flown_km < new_km


def least_distance_km(first: DiscSet, second: DiscSet, tolerated: int) -> Kilometers:
    """Return the least distance between the places that two sets of discs allow, kilometers on the sphere.

    It is 0 where they have a place in common, and where one of them allows no place or every place.
    """
    if len(first) <= tolerated or len(second) <= tolerated:
        return Kilometers(0.0)
    # Most often the device has not moved, and the smallest disc's center is in both areas.
    probes = np.stack([second.centers[0], first.centers[0]])
    if (_allowed(first, probes, tolerated) & _allowed(second, probes, tolerated)).any():
        return Kilometers(0.0)
    centers, radii = np.concatenate([first.centers, second.centers]), np.concatenate([first.radii, second.radii])
    corners = circle_crossings(centers, radii)
    common = np.concatenate([corners, centers, places_on_circles(centers, radii)])
    if (_allowed(first, common, tolerated) & _allowed(second, common, tolerated)).any():
        return Kilometers(0.0)
    ends = []
    for one, other in ((first, second), (second, first)):
        # One place of each circle stands for it where the whole of a circle around an antipode is equally near.
        goals = np.concatenate([other.centers, corners, places_on_circles(other.centers, other.radii)])
        places = np.concatenate([corners, places_on_circles(one.centers, one.radii), _on_the_way(one, goals)])
        ends.append(places[_allowed(one, places, tolerated)])
    if not len(ends[0]) or not len(ends[1]):
        return Kilometers(0.0)
    # The nearest pair by its cosine, which is right to centimeters; all angles would take gigabytes.
    first_end, second_end = np.unravel_index((ends[0] @ ends[1].T).argmax(), (len(ends[0]), len(ends[1])))
    return Kilometers(float(angles(ends[0][first_end], ends[1][second_end])) * EARTH_RADIUS_KM)


def _allowed(discs: DiscSet, places: Vector, tolerated: int) -> NDArray[np.bool_]:
    allowed: NDArray[np.bool_] = discs.violations(places) <= tolerated
    return allowed


def _on_the_way(discs: DiscSet, goals: Vector) -> Vector:
    """Return the places of each circle that lie on the great circle through its center and a goal, shape (m, 3)."""
    centers, radii = discs.centers[:, None, :], discs.radii[:, None, None]
    aside = goals[None, :, :] - np.sum(centers * goals[None, :, :], axis=2, keepdims=True) * centers
    length = np.linalg.norm(aside, axis=2, keepdims=True)
    # A goal that is the center itself, or its antipode, is equally far from the whole circle; its corners stand for it.
    aside = np.divide(aside, length, out=np.zeros_like(aside), where=length > 1e-12)
    near, across = centers * np.cos(radii), aside * np.sin(radii)
    places: Vector = np.concatenate([near + across, near - across]).reshape(-1, 3)
    proper: Vector = places[np.abs(np.linalg.norm(places, axis=1) - 1) < 1e-9]
    return proper


def _set_of(place: SeenPlace) -> DiscSet:
    # Fewer discs allow more places, which errs to none: the work grows with the fourth power of their number.
    smallest = sorted(place.discs, key=itemgetter(1))[:_MOST_DISCS]
    centers = np.stack([position.vector() for position, _ in smallest])
    return DiscSet(centers, np.array([radius for _, radius in smallest], dtype=np.float64))

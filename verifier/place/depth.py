"""Depth: how many discs every place in a region lies outside of (docs/protocol.md PL4).

Exact, by candidates. The places of a region that lie in most discs make up closed areas. Such an area has a corner:
where two circles cross, where a circle crosses the region's boundary, or where the boundary itself has one; or it is
bounded by one whole circle and holds all of it; or it is the whole region, and holds all of its boundary; or it is a
single point, the center of a disc. So it is enough to look at these places. Whatever rounding does, a place is rather
taken to be inside a disc or in the region: the answer errs to UNPROVEN.
"""

import numpy as np
from numpy.typing import NDArray

from verifier.place.geodesy import (
    EARTH_RADIUS_KM,
    HALF_CIRCUMFERENCE_KM,
    Vector,
    angles,
    arc_crossings,
    circle_crossings,
    cosines_of_km,
    places_on_circles,
)
from verifier.place.shapes import LONGEST_ARC_RADIANS, Shape

_ROUNDING_RADIANS = 1e-8
"""6 cm: a crossing of two circles lies on both, whatever rounding says. Far below the clock's widening."""

Radii = NDArray[np.float64]
"""Radii as angles, radians, shape (n,)."""


class DiscSet:
    """Some discs, smallest first.

    Args:
        centers: Unit vectors, shape (n, 3).
        radii_km: On the sphere, shape (n,).
    """

    def __init__(self, centers: Vector, radii_km: NDArray[np.float64]) -> None:
        order = np.argsort(radii_km, kind="stable")
        self.centers = centers[order]
        self.radii: Radii = np.minimum(radii_km[order], HALF_CIRCUMFERENCE_KM) / EARTH_RADIUS_KM
        self._least_cosines = np.array(cosines_of_km((self.radii * EARTH_RADIUS_KM).tolist()))

    def __len__(self) -> int:
        return len(self.radii)

    def violations(self, places: Vector) -> NDArray[np.int64]:
        """Return for each place, unit vectors, shape (m, 3), how many discs it lies outside of."""
        violations: NDArray[np.int64] = np.count_nonzero(self.outside(places), axis=1)
        return violations

    def outside(self, places: Vector) -> NDArray[np.bool_]:
        """Return for each place and disc whether it certainly lies outside, shape (m, n)."""
        outside: NDArray[np.bool_] = places @ self.centers.T < self._least_cosines
        return outside

    def holds(self, places: Vector, first: int) -> NDArray[np.bool_]:
        """Return for each place whether it lies in one of the `first` smallest discs."""
        inside: NDArray[np.bool_] = np.any(places @ self.centers[:first].T >= self._least_cosines[:first], axis=1)
        return inside

    def without_those_that_hold(self, first: int) -> "DiscSet":
        """Return the discs without those that hold all of the `first` smallest ones: they are never violated there."""
        apart = angles(self.centers[:, None], self.centers[None, :first])
        holding = np.all(apart + self.radii[None, :first] <= self.radii[:, None] - _ROUNDING_RADIANS, axis=1)
        holding[:first] = False
        return DiscSet(self.centers[~holding], self.radii[~holding] * EARTH_RADIUS_KM)


def depth_reaches(shape: Shape | None, discs: DiscSet, count: int) -> bool:
    """Return whether every place of a region lies outside of at least `count` discs.

    Args:
        shape: The region; None: the whole Earth.
        discs: Discs, already widened by the margin of borders if that applies.
        count: How many.
    """
    if count <= 0:
        return True
    if len(discs) < count:
        return False
    # Who violates fewer than `count` discs lies in one of the `count` smallest: only there need we look, and only at
    # discs that do not hold all of that.
    near = discs.without_those_that_hold(count)
    if shape is not None and _boundary_shows_less(shape, near, count):
        return False
    places = _candidates(near)
    places = places[near.holds(places, count)]
    less = places[near.violations(places) < count]
    return not (len(less) and (shape is None or bool(shape.contains(less).any())))


def least_violations(discs: DiscSet) -> int:
    """Return v*: the fewest of these discs that any place on Earth lies outside of."""
    count = 0
    while depth_reaches(None, discs, count + 1):
        count += 1
    return count


def least_explanation(discs: DiscSet) -> list[int]:
    """Return which discs, by index, smallest first, a place on Earth lies outside of that violates the fewest.

    Several places may; the one that is taken lies outside of the largest, and so loses the least.
    """
    places = _candidates(discs)
    outside = discs.outside(places)
    violations = np.count_nonzero(outside, axis=1)
    best = outside[violations == violations.min()]
    found: list[int] = np.flatnonzero(best[int(best.argmax(axis=1).argmax())]).tolist()
    return found


def _candidates(discs: DiscSet) -> Vector:
    """Return the places on Earth among which one is that lies outside of the fewest discs."""
    return np.concatenate(
        [
            discs.centers,
            places_on_circles(discs.centers, discs.radii),
            circle_crossings(discs.centers, discs.radii),
        ]
    )


def _boundary_shows_less(shape: Shape, discs: DiscSet, count: int) -> bool:
    """Whether some place on the boundary, which belongs to the region, lies outside of fewer than `count` discs."""
    starts, ends = shape.arcs
    if len(starts):
        reach = np.minimum(discs.radii[:count] + LONGEST_ARC_RADIANS, np.pi)
        near = (starts @ discs.centers[:count].T >= np.cos(reach)).any(axis=1)
        starts, ends = starts[near], ends[near]
        if (discs.violations(starts) < count).any():
            return True
        crossings = arc_crossings(starts, ends, discs.centers, discs.radii)
        if (discs.violations(crossings) < count).any():
            return True
    centers, radii = shape.circles
    if not len(radii):
        return False
    # Crossings of the region's own circles with each other are corners too.
    crossings = circle_crossings(np.concatenate([centers, discs.centers]), np.concatenate([radii, discs.radii]))
    places = np.concatenate([places_on_circles(centers, radii), crossings])
    if len(starts):
        places = np.concatenate([places, arc_crossings(starts, ends, centers, radii)])
    less = places[discs.violations(places) < count]
    return bool(len(less) and shape.contains(less).any())

"""Which landmarks to ask next, within one challenge (docs/protocol.md PL8).

The license's region and the caller's randomness choose, never what the host says. Step 1 asks those nearest the
licensed region, step 2 a random spread of the world, later steps those in and nearest to what the discs still allow,
a quarter of them at random. An adversary who cannot foresee the choice cannot prepare for it, and one who adds delay
only widens discs. The choice affects what can be settled, never what is true.
"""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import lru_cache
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from verifier.errors import RangeError
from verifier.place.answers import DiscUse
from verifier.place.discs import roll_of
from verifier.place.fix import Fix
from verifier.place.geodesy import EARTH_RADIUS_KM, Position, Vector, angles, unit_vectors
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas, Region
from verifier.place.shapes import Shape
from verifier.units import LandmarkKeyId

NEAREST = 5
"""Those nearest a site prove "inside"; five are enough (docs/protocol.md PL8)."""

SPREAD = 7
"""Places on Earth that are far from each other: one of them is near wherever the device may be."""

CLOSING = (8, 12, 16)
"""Landmarks of step 3, 4 and all later ones: most questions are settled by few, and a challenge has time for few steps.

With the first two steps 12, 20, 32, 48 and 64 sessions.
"""

BUDGET = 64
"""Sessions of one device under one challenge. On measured round trips it settles .97 of what all landmarks settle, half
of it with 20 sessions; 16 would settle .68, 40 would settle .94 (docs/location.md)."""

_DRAWN_SHARE = 4
"""One in four of a later step is drawn from the nearer half: a lie about place leads at most the others astray."""

_SAMPLED_PLACES = 400
"""In each disc that is looked at: about 100 km apart in a disc of 1,000 km."""

_KEPT_PLACES = 100
"""Of the places that the discs allow; 800 landmarks by 100 places take a millisecond."""

_CORNERS_AT_ONCE = 2_000
"""Of a boundary: 13 MB with 800 landmarks."""

_REGIONS_KEPT = 128
"""Regions whose rough distances are kept, 60 kB each with 800 landmarks. They cost 20 ms for a large country."""

_LONGEST_ARC_RADIANS = 0.0063
"""Boundary arcs span at most a quarter of a degree both ways (shapes.py)."""

_ROUNDING_RADIANS = 1e-7
"""An arc cosine of nearly 1 is no better."""

_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


def choose_landmarks(
    registry: LandmarkRegistry,
    region: Region,
    used: AbstractSet[LandmarkKeyId],
    fix: Fix | None,
    step: int,
    rng: random.Random,
    now: datetime,
    policy: PlacePolicy,
    budget: int,
    licensee: str,
) -> tuple[Landmark, ...]:
    """Return the landmarks of the next step; empty when there is nothing more to ask.

    Args:
        registry: All landmarks.
        region: The licensed region.
        used: Key ids that were asked for this challenge already.
        fix: What the receipts so far would show; None before the first.
        step: From 1.
        rng: The caller's randomness; unpredictable in service, seeded in tests.
        now: Time, aware.
        policy: Decides which landmarks count.
        budget: Sessions that this device may hold for one challenge, those used included.
        licensee: Whose own landmarks are not asked.
    """
    left = budget - len(used)
    if left <= 0 or (fix is not None and fix.settled):
        return ()
    able = _Able(registry, used, policy, licensee, now)
    if step == 1:
        chosen = _nearest(able, region, policy.atlas, min(NEAREST, left), rng)
    elif step == 2 or fix is None:
        chosen = _spread(able, min(SPREAD, left), rng)
    else:
        chosen = _closing(able, fix, min(CLOSING[min(step - 3, len(CLOSING) - 1)], left), rng)
    return tuple(registry.landmarks[k] for k in chosen)


class _Able:
    """Which landmarks may be asked, by index. Whether one counts is found out only when its turn comes."""

    def __init__(
        self,
        registry: LandmarkRegistry,
        used: AbstractSet[LandmarkKeyId],
        policy: PlacePolicy,
        licensee: str,
        now: datetime,
    ) -> None:
        self.registry = registry
        self.tolerated_domains = policy.tolerated_domains
        self._roll, self._now = roll_of(registry, policy, licensee), now
        self._counts: dict[int, bool] = {}
        self.refused = {k for k, r in enumerate(registry.landmarks) if r.key_id in used}

    def places(self) -> Vector:
        """Return where all landmarks stand, shape (n, 3)."""
        return _vectors([r.position for r in self.registry.landmarks])

    def first(self, count: int, order: Iterable[int]) -> list[int]:
        """Return the first `count` of an order that may be asked."""
        found: list[int] = []
        if count > 0:
            for k in order:
                if k not in self.refused and self._does_count(k):
                    found.append(k)
                    if len(found) == count:
                        break
        return found

    def _does_count(self, k: int) -> bool:
        if k not in self._counts:
            try:
                self._roll.admit(self.registry.landmarks[k], self._now)
            except RangeError:
                self._counts[k] = False
            else:
                self._counts[k] = True
        return self._counts[k]


def _nearest(able: _Able, region: Region, atlas: Atlas, count: int, rng: random.Random) -> list[int]:
    """Pick the landmarks nearest to a region, at random among those in it.

    Exact distances are taken of the few only that the nearest corners of the boundary do not rule out: in a region that
    is new, a distance to all of 800 landmarks would take half a second.
    """
    inside, least_km = _bounds(atlas, region, tuple(r.position for r in able.registry.landmarks))
    order = np.array(rng.sample(range(len(inside)), len(inside)), dtype=np.int64)
    found: list[tuple[float, int]] = []
    for k in order[np.argsort(least_km[order], kind="stable")].tolist():
        if len(found) >= count and least_km[k] >= found[count - 1][0]:
            break
        if able.first(1, [k]):
            position = able.registry.landmarks[k].position
            found.append((0.0 if inside[k] else atlas.distances(region, position).to_region_km, k))
            found.sort(key=itemgetter(0))
    return [k for _, k in found[:count]]


@lru_cache(maxsize=_REGIONS_KEPT)
def _bounds(
    atlas: Atlas, region: Region, positions: tuple[Position, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return for each place whether it is in a region, and a lower bound of its distance to it, kilometers."""
    places = _vectors(positions)
    shape = atlas.ground(region).inside
    inside = shape.contains(places)
    return inside, np.where(inside, 0.0, _least_boundary_km(shape, places))


def _least_boundary_km(shape: Shape, places: Vector) -> NDArray[np.float64]:
    """Return for each place, shape (n, 3), a lower bound of its distance to a boundary, shape (n,)."""
    starts, _ = shape.arcs
    away = np.full(len(places), np.pi)
    for first in range(0, len(starts), _CORNERS_AT_ONCE):
        cosines = (places @ starts[first : first + _CORNERS_AT_ONCE].T).max(axis=1)
        away = np.minimum(away, np.arccos(np.clip(cosines, -1.0, 1.0)) - _LONGEST_ARC_RADIANS)
    for center, radius in zip(*shape.circles, strict=True):
        away = np.minimum(away, np.abs(angles(places, center) - radius))
    return np.maximum(away - _ROUNDING_RADIANS, 0.0) * EARTH_RADIUS_KM


def _spread(able: _Able, count: int, rng: random.Random) -> list[int]:
    """Pick a random landmark, then, again and again, at random among the three that are farthest from all picked."""
    places = able.places()
    order = rng.sample(range(len(places)), len(places))
    picked = able.first(1, order)
    apart = np.full(len(places), np.inf)
    while picked and len(picked) < count:
        apart = np.minimum(apart, angles(places, places[picked[-1]]))
        farthest = np.argsort(-apart, kind="stable").tolist()
        choice = able.first(3, (k for k in farthest if k not in picked))
        if not choice:
            break
        picked.append(rng.choice(choice))
    return picked


def _closing(able: _Able, fix: Fix, count: int, rng: random.Random) -> list[int]:
    """Pick the landmarks that lie nearest to what the discs still allow, a quarter at random from the nearer half."""
    places = able.places()
    allowed, nearest = _what_discs_allow(fix.discs, able.tolerated_domains + 1)
    # The device is likely nearest to whom it answered fastest, and certainly somewhere in what the discs allow.
    far = angles(places, nearest) + np.arccos(np.clip(places @ allowed.T, -1.0, 1.0)).mean(axis=1)
    order = list(_one_a_domain_first(able.registry, np.argsort(far, kind="stable").tolist()))
    order = [k for k in order if k not in able.refused]
    chosen = able.first(count - count // _DRAWN_SHARE, order)
    rest = [k for k in order if k not in chosen]
    nearer = rest[: max(0, len(order) // 2 - len(chosen))]
    rest = rng.sample(nearer, len(nearer)) + rest[len(nearer) :]
    return chosen + able.first(count - len(chosen), rest)


def _one_a_domain_first(registry: LandmarkRegistry, order: Sequence[int]) -> Iterator[int]:
    """Yield the first landmark of each domain, then the others: only the smallest disc of a domain says anything."""
    seen = set()
    others = []
    for k in order:
        domain = registry.domain_of(registry.landmarks[k].landmark_id)
        if domain in seen:
            others.append(k)
        else:
            seen.add(domain)
            yield k
    yield from others


def _what_discs_allow(discs: Sequence[DiscUse], looked_at: int) -> tuple[Vector, Vector]:
    """Return some places outside of as few discs as possible, shape (m, 3), and the center of the least disc of theirs.

    Args:
        discs: All discs, smallest first.
        looked_at: f + 1: one of that many smallest discs holds the device, whoever lies.
    """
    centers = _vectors([d.position for d in discs])
    radii = np.minimum(np.array([d.radius_km for d in discs]) / EARTH_RADIUS_KM, np.pi)
    places = np.concatenate([_places_in_disc(centers[k], float(radii[k])) for k in range(min(looked_at, len(discs)))])
    outside = np.arccos(np.clip(places @ centers.T, -1.0, 1.0)) > radii
    violations = outside.sum(axis=1)
    best = np.flatnonzero(violations == violations.min())
    leading = int(np.argmin(outside[best].all(axis=0)))
    return places[best[:: max(1, len(best) // _KEPT_PLACES)]], centers[leading]


def _places_in_disc(center: Vector, radius: float) -> Vector:
    """Return places that are even over a disc, shape (n, 3)."""
    along = 1 - (1 - math.cos(radius)) * (np.arange(_SAMPLED_PLACES) + 0.5) / _SAMPLED_PLACES
    aside = np.sqrt(1 - along * along)
    turn = _GOLDEN_ANGLE * np.arange(_SAMPLED_PLACES)
    east = np.cross(center, np.eye(3)[int(np.abs(center).argmin())])
    east /= np.linalg.norm(east)
    north = np.cross(center, east)
    places: Vector = along[:, None] * center + aside[:, None] * (
        np.cos(turn)[:, None] * east + np.sin(turn)[:, None] * north
    )
    return places


def _vectors(positions: Sequence[Position]) -> Vector:
    """Return unit vectors, shape (n, 3)."""
    return unit_vectors(np.array([p.latitude for p in positions]), np.array([p.longitude for p in positions]))

"""Which landmarks to ask next, within one challenge.

The license's region and the caller's randomness choose, never what the host says. Step 1 asks those nearest the
licensed region, step 2 a random spread of the world, later steps those nearest the smallest disc found so far. An
adversary who cannot foresee the spread cannot prepare for it (docs/protocol.md PL8). The choice affects what
can be settled, never what is true.
"""

import random
from collections.abc import Set as AbstractSet
from datetime import datetime

from verifier.errors import RangeError
from verifier.place.fix import Fix, PlacePolicy, check_landmark_counts
from verifier.place.geodesy import distance_km
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.regions import Region
from verifier.units import LandmarkKeyId

NEAREST = 5
"""Those nearest a site prove "inside"; five are enough (docs/protocol.md PL8)."""

SPREAD = 4
"""Places on Earth that are far from each other and from the site: one of them is near wherever the device may be."""

CLOSING = 4
"""Landmarks a step around the smallest disc."""


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
    able = [r for r in registry.landmarks if r.key_id not in used and _counts(r, registry, policy, licensee, now)]
    if step == 1:
        chosen = sorted(able, key=lambda r: (policy.atlas.distances(region, r.position).to_region_km, rng.random()))[
            :NEAREST
        ]
        return tuple(chosen[:left])
    if step == 2 or fix is None:
        return tuple(_spread(able, min(SPREAD, left), rng))
    near = next(r for r in registry.landmarks if r.landmark_id == fix.discs[0].landmark_id)
    chosen = sorted(able, key=lambda r: distance_km(near.position, r.position))
    return tuple(chosen[: min(CLOSING, left)])


def _counts(landmark: Landmark, registry: LandmarkRegistry, policy: PlacePolicy, licensee: str, now: datetime) -> bool:
    try:
        check_landmark_counts(landmark, registry, policy, licensee, now)
    except RangeError:
        return False
    return True


def _spread(able: list[Landmark], count: int, rng: random.Random) -> list[Landmark]:
    """Pick a random landmark, then, again and again, at random among the three that are farthest from all picked."""
    pool, picked = list(able), list[Landmark]()
    while pool and len(picked) < count:
        if picked:
            pool.sort(key=lambda r: -min(distance_km(r.position, p.position) for p in picked))
            picked.append(pool.pop(rng.randrange(min(3, len(pool)))))
        else:
            picked.append(pool.pop(rng.randrange(len(pool))))
    return picked

"""From ranges to discs: which landmarks count, how far a round trip reaches, one disc a failure domain.

docs/protocol.md PL1 to PL4.
"""

import enum
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from verifier.errors import LandmarkNotCountedError, LandmarkUnknownError, RangeError
from verifier.place.depth import DiscSet, least_explanation, least_violations
from verifier.place.geodesy import Position, Triple, cosines_of_km, widening_at
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import Ground
from verifier.place.shapes import RegionDistances
from verifier.units import Domain, Kilometers, LandmarkId, Nanoseconds, Pdi

LIGHT_KM_PER_MS = 299.792458
CLOCK_WIDENING = 1 + 200e-6
"""Landmark clocks are good to 200 ppm (docs/protocol.md R5)."""

MOVEMENT_KM_PER_S = 0.03
"""A truck's speed: a fix says where the device was at some instant of the challenge's life (docs/protocol.md PL1)."""

FIBRE_SHARE = 2 / 3
"""Of light's speed in vacuum: its speed in glass. An assumption about the network, never a bound."""

_LIGHT_KM_PER_NS = LIGHT_KM_PER_MS * CLOCK_WIDENING / 2 / 1e6
_FIBRE_KM_PER_NS = _LIGHT_KM_PER_NS * FIBRE_SHARE
"""Of distance by round trip: half, since the way is made twice."""

_MAX_KEPT_ROLLS = 1_000
"""Licensees whose landmarks are looked up once: 800 landmarks are 100 kB each."""

_FOREVER = datetime.max.replace(tzinfo=UTC)


@enum.unique
class Grade(enum.IntEnum):
    """How fast light is taken to be (docs/protocol.md PL1)."""

    PHYSICAL = 1
    FIBRE = 2


class Disc(NamedTuple):
    """One failure domain's smallest disc.

    Attributes:
        landmark_id: Whose it is.
        domain: The landmark's failure domain.
        rtt_ns: As the landmark signed it.
        position: Where the landmark says it stands.
        landmark_revision: Revision of the landmark's record.
        radius_km: At the physical grade, with every widening (docs/protocol.md PL1).
        fibre_radius_km: At the fibre grade; never more than at the physical one.
        may_accuse: The landmark may count for an accusation (docs/protocol.md PL3).
        may_prove_site: The landmark may count for the proof of a site.
        center: The position as a unit vector.
    """

    landmark_id: LandmarkId
    domain: Domain
    rtt_ns: Nanoseconds
    position: Position
    landmark_revision: int
    radius_km: float
    fibre_radius_km: float
    may_accuse: bool
    may_prove_site: bool
    center: Triple


_radius_of = itemgetter(Disc._fields.index("radius_km"))


class Discs:
    """The discs of one device, one a failure domain, smallest first; at least one.

    What several questions ask of them is worked out once.

    Attributes:
        discs: Smallest first at the physical grade.
        ranged_by: The device that the smallest one is of.
        alike: Every one may accuse and may prove a site.
    """

    __slots__ = ("_caps", "_centers", "_near", "_radii", "_violations", "alike", "discs", "ranged_by")

    def __init__(self, discs: Iterable[Disc], ranged_by: Pdi) -> None:
        self.discs: tuple[Disc, ...] = tuple(discs)
        self.ranged_by = ranged_by
        *_, physical, fibre, accusing, proving, self._centers = zip(*self.discs, strict=True)
        self.alike = False not in accusing and False not in proving
        # By grade; lists, since to hash an enumeration's member costs as much as a question does.
        self._radii: list[tuple[float, ...]] = [(), physical, fibre]
        self._violations: list[int | None] = [None, None, None]
        self._caps: list[list[tuple[Triple, float]] | None] = [None, None, None]
        self._near: dict[Ground, list[RegionDistances]] = {}

    def near(self, ground: Ground) -> list[RegionDistances]:
        """Return the two distances from each disc's landmark to a region, in the order of the discs."""
        found = self._near.get(ground)
        if found is None:
            found = self._near[ground] = ground.distances_of(self._centers)
        return found

    def radii_km(self, grade: Grade) -> tuple[float, ...]:
        """Return the radii in the order of the discs."""
        return self._radii[grade]

    def least_violations(self, grade: Grade = Grade.PHYSICAL) -> int:
        """Return v* (docs/protocol.md PL4)."""
        found = self._violations[grade]
        if found is None:
            # Most often the smallest disc's center lies in all the others, even at the fibre grade, whose discs are the
            # smaller ones; and whoever asks for v* asks for places at that grade next.
            place = self.discs[0].center
            agree = self.fewer_violate(place, 1, Grade.FIBRE) or self.fewer_violate(place, 1, grade)
            found = self._violations[grade] = 0 if agree else least_violations(self.disc_set(grade, 0.0))
        return found

    def contradicting(self) -> tuple[Domain, ...]:
        """Return the fewest domains whose being wrong explains that the discs have no place in common.

        None when they have one. Several sets may explain it; see `depth.least_explanation`.
        """
        if not self.least_violations():
            return ()
        # The set sorts by radius as these are sorted, so indices are the same.
        return tuple(self.discs[k].domain for k in least_explanation(self.disc_set(Grade.PHYSICAL, 0.0)))

    def fewer_violate(self, place: Triple, count: int, grade: Grade) -> bool:
        """Whether a place lies outside of fewer than `count` discs, for all that rounding does."""
        caps = self._caps[grade]
        if caps is None:
            cosines = cosines_of_km(self._radii[grade])
            caps = self._caps[grade] = list(zip(self._centers, cosines, strict=True))
        x, y, z = place
        for (a, b, c), cosine in caps:
            if x * a + y * b + z * c < cosine:
                count -= 1
                if not count:
                    return False
        return True

    def disc_set(self, grade: Grade, margin_km: float) -> DiscSet:
        """Return the discs, wider by a margin, as the depth test takes them."""
        return DiscSet(
            np.array(self._centers, dtype=np.float64), np.array(self.radii_km(grade), dtype=np.float64) + margin_km
        )

    def only(self, keep: Callable[[Disc], bool]) -> "Discs | None":
        """Return some of the discs; None when that is none, and these very ones when it is all."""
        kept = tuple(filter(keep, self.discs))
        if len(kept) == len(self.discs):
            return self
        return Discs(kept, self.ranged_by) if kept else None


def radius_km(
    rtt_ns: int,
    lifetime: timedelta,
    uncertainty_km: float,
    grade: Grade = Grade.PHYSICAL,
    latitude: float = 0.0,
) -> Kilometers:
    """Return the radius of the disc that a round trip allows, kilometers on the sphere, never too small.

    Args:
        rtt_ns: Least round trip; processing time is never subtracted.
        lifetime: From the challenge's issue to the report's arrival, during which the device may have moved.
        uncertainty_km: Of the landmark's position.
        grade: How fast light is taken to be.
        latitude: Of the landmark, degrees; on the equator the disc is largest.
    """
    moved = MOVEMENT_KM_PER_S * max(0.0, lifetime.total_seconds())
    speed = _LIGHT_KM_PER_NS if grade is Grade.PHYSICAL else _FIBRE_KM_PER_NS
    true_km = rtt_ns * speed + moved + uncertainty_km
    return Kilometers(true_km * widening_at(latitude, true_km))


def check_landmark_counts(
    landmark: Landmark, registry: LandmarkRegistry, policy: PlacePolicy, licensee: str, now: datetime
) -> None:
    """Check that a landmark counts at all (docs/protocol.md PL3).

    Raises:
        LandmarkUnknownError: Its record does not cover `now`.
        LandmarkNotCountedError: It is distrusted, the licensee's own, or too few other domains have ranged it lately.
    """
    if not landmark.is_valid(now):
        raise LandmarkUnknownError(f"the record of {landmark.landmark_id} is not valid now")
    if landmark.distrusted:
        raise LandmarkNotCountedError(f"{landmark.landmark_id} is distrusted: {landmark.distrusted}")
    if registry.belongs_to(landmark, licensee):
        raise LandmarkNotCountedError(f"{landmark.landmark_id} belongs to the licensee")
    if policy.audited_within is not None:
        needed = policy.tolerated_domains + 1
        # A landmark may have hundreds of witnesses; no more are looked at than it takes.
        witnesses = sum(1 for _ in islice(registry.witnesses(landmark, now, policy.audited_within), needed))
        if witnesses < needed:
            others = "1 other domain" if witnesses == 1 else f"{witnesses} other domains"
            are = "is" if needed == 1 else "are"
            raise LandmarkNotCountedError(
                f"{landmark.landmark_id} was ranged by {others} lately; {needed} {are} needed"
            )


def may_accuse(landmark: Landmark, registry: LandmarkRegistry, policy: PlacePolicy, now: datetime) -> bool:
    """Whether a landmark that counts may count for an accusation (docs/protocol.md PL3)."""
    if not (landmark.signed or policy.demonstration):
        return False
    if now - landmark.revised_at < policy.standing_for:
        return False
    if policy.audited_within is None:
        return True
    own = registry.domain_of_party(policy.operator) if policy.operator else None
    return any(domain != own for domain in registry.witnesses(landmark, now, policy.audited_within))


class Entry(NamedTuple):
    """A landmark that counts, for a time in which nothing changes about that.

    Attributes:
        since: Start of the time.
        until: Its end.
        accuses: The landmark may count for an accusation.
        domain: Its failure domain.
        center: Its position as a unit vector.
    """

    since: datetime
    until: datetime
    accuses: bool
    domain: Domain
    center: Triple


class Roll:
    """Which landmarks of a registry count under one policy and for one licensee, and how long that holds."""

    def __init__(self, registry: LandmarkRegistry, policy: PlacePolicy, licensee: str) -> None:
        self.policy = policy
        self._registry = registry
        self._licensee = licensee
        self._entries: dict[LandmarkId, Entry] = {}

    def admit(self, landmark: Landmark, now: datetime) -> Entry:
        """Check that a landmark counts now, as `check_landmark_counts` does, and return what is kept about it."""
        entry = self._entries.get(landmark.landmark_id)
        if entry is None or not entry.since <= now < entry.until:
            check_landmark_counts(landmark, self._registry, self.policy, self._licensee, now)
            entry = self._entries[landmark.landmark_id] = self._look_up(landmark, now)
        return entry

    def _look_up(self, landmark: Landmark, now: datetime) -> Entry:
        registry, policy, ends = self._registry, self.policy, [landmark.valid_until or _FOREVER]
        stands_from = landmark.revised_at + policy.standing_for
        if stands_from > now:
            ends.append(stands_from)
        if policy.audited_within is not None:
            # The first of its witnesses to fall out of the time may change both answers.
            lately = (when for _, when in landmark.ranged_by if timedelta(0) <= now - when <= policy.audited_within)
            ends.append(min(lately) + policy.audited_within)
        accuses = may_accuse(landmark, registry, policy, now)
        return Entry(now, min(ends), accuses, registry.domain_of(landmark.landmark_id), registry.center_of(landmark))


def discs_of(
    ranges: Iterable[VerifiedRange],
    registry: LandmarkRegistry,
    policy: PlacePolicy,
    licensee: str,
    issued_at: datetime,
    now: datetime,
) -> tuple[Discs | None, tuple[tuple[VerifiedRange, RangeError], ...]]:
    """Return the smallest disc of each failure domain (docs/protocol.md PL4), and the ranges that do not count.

    Args:
        ranges: Verified ranges, all of one device.
        registry: The registry that the ranges' landmarks are from.
        policy: Which landmarks count.
        licensee: Holder of the license, whose own landmarks do not count.
        issued_at: Issue of the challenge, aware.
        now: Arrival of the report, aware.

    Returns:
        The discs, None when no range counts; and what does not count, each with why.
    """
    moved = MOVEMENT_KM_PER_S * max(0.0, (now - issued_at).total_seconds())
    admit = roll_of(registry, policy, licensee).admit
    smallest: dict[Domain, Disc] = {}
    pdis: dict[Domain, Pdi] = {}
    dropped: list[tuple[VerifiedRange, RangeError]] = []
    for verified in ranges:
        landmark, rtt_ns = verified.landmark, verified.rtt_ns
        try:
            _, _, accuses, domain, center = admit(landmark, now)
        except RangeError as error:
            dropped.append((verified, error))
            continue
        position = landmark.position
        slack = moved + landmark.uncertainty_km
        true_km = rtt_ns * _LIGHT_KM_PER_NS + slack
        widening = widening_at(position.latitude, true_km)
        radius = true_km * widening
        best = smallest.get(domain)
        if best is None or radius < best.radius_km:
            pdis[domain] = verified.pdi
            # As `Disc(...)`, whose own constructor would take as long as all else here.
            smallest[domain] = tuple.__new__(
                Disc,
                (
                    landmark.landmark_id,
                    domain,
                    rtt_ns,
                    position,
                    landmark.revision,
                    radius,
                    (rtt_ns * _FIBRE_KM_PER_NS + slack) * widening,
                    accuses,
                    not landmark.virtual_machine,
                    center,
                ),
            )
    if not smallest:
        return None, tuple(dropped)
    discs = sorted(smallest.values(), key=_radius_of)
    return Discs(discs, pdis[discs[0].domain]), tuple(dropped)


def roll_of(registry: LandmarkRegistry, policy: PlacePolicy, licensee: str) -> Roll:
    """Return the roll that is kept with the registry, for as long as that is in force."""
    key = licensee, policy.tolerated_domains
    roll = registry.kept.get(key)
    if not isinstance(roll, Roll) or roll.policy is not policy:
        if len(registry.kept) >= _MAX_KEPT_ROLLS:
            registry.kept.clear()
        roll = registry.kept[key] = Roll(registry, policy, licensee)
    return roll

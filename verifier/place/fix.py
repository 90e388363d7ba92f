"""From ranges to answers: discs, and the rule on the two questions of place (docs/protocol.md §11).

Each range says: the device is within this radius of this landmark. Every failure domain is represented by its smallest
disc; at most f domains are wrong. What one disc alone shows is settled here from two precomputed distances; what only
several discs together could show is left UNPROVEN. The least number of discs that any place on Earth violates, v*, is
exact.
"""

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from verifier.errors import LandmarkNotCountedError, LandmarkUnknownError, RangeError, UsageError
from verifier.place.geodesy import (
    EARTH_RADIUS_KM,
    ELLIPSOID_WIDENING,
    HALF_CIRCUMFERENCE_KM,
    angles,
    circle_crossings,
    places_on_circles,
)
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import Atlas, Countries, Region, RegionDistances, SiteDisc
from verifier.units import Domain, Kilometers, LandmarkId, Nanoseconds, Pdi

LIGHT_KM_PER_MS = 299.792458
CLOCK_WIDENING = 1 + 200e-6
"""Landmark clocks are good to 200 ppm (docs/protocol.md R5)."""

MOVEMENT_KM_PER_S = 0.03
"""A truck's speed: a fix says where the device was at some instant of the challenge's life (docs/protocol.md PL1)."""

_ROUNDING_RADIANS = 1e-9
"""6 mm: a crossing of two circles lies on both, whatever rounding says. Far below the clock's widening."""


@enum.unique
class PlaceAnswer(enum.IntEnum):
    """What may be said about one question. Values equal `trigpoint.v1.PlaceAnswer`."""

    PROVEN = 1
    INDICATED = 2
    REFUTED = 3
    UNPROVEN = 4


@enum.unique
class Assurance(enum.IntEnum):
    """How ranges were made. Values equal `trigpoint.v1.Assurance`."""

    DEVICE_RANGED = 1


@dataclass(frozen=True, slots=True)
class PlacePolicy:
    """What the operator of the verifier decides about place.

    Attributes:
        atlas: Border data.
        prohibited: Prohibited destinations.
        prohibited_version: Names that list, with its date.
        tolerated_domains: f, how many failure domains may be wrong.
        border_margin_km: Borders are taken to be this much nearer than drawn, to err to UNPROVEN.
        audited_within: A landmark counts only while f + 1 other domains have ranged it within this time; None: not
            asked for, a demonstration.
        standing_for: A landmark counts for an accusation only when its record has stood this long.
    """

    atlas: Atlas
    prohibited: Countries
    prohibited_version: str
    tolerated_domains: int = 1
    border_margin_km: float = 5.0
    audited_within: timedelta | None = timedelta(hours=24)
    standing_for: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        """Refuse a policy that would make false proofs."""
        if self.tolerated_domains < 0 or self.border_margin_km < 0 or self.standing_for < timedelta(0):
            raise UsageError("a place policy has no negative numbers")
        if missing := self.prohibited.codes - self.atlas.country_codes:
            raise UsageError(f"the border data have no shape for the prohibited {', '.join(sorted(missing))}")

    @property
    def demonstration(self) -> bool:
        """Whether verdicts under this policy must say: not for accusation (docs/protocol.md PL3)."""
        return self.audited_within is None or self.standing_for < timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DiscUse:
    """One failure domain's smallest disc and what it alone shows. Distances in kilometers on the sphere.

    Attributes:
        landmark_id: Whose disc.
        domain: Its failure domain.
        rtt_ns: As the landmark signed it.
        radius_km: With every widening (docs/protocol.md PL1).
        licensed_region_km: From the landmark to the licensed region; 0 inside it.
        prohibited_km: From the landmark to the nearest prohibited destination; 0 inside one.
        excludes_licensed_region: No point of the disc is in the licensed region.
        within_licensed_region: Every point of the disc is.
        excludes_prohibited: No point of the disc is in a prohibited destination.
        within_prohibited: Every point of the disc is.
        may_accuse: The landmark's record lets it count for an accusation.
        may_prove_site: The landmark may count for the proof of a site (it is no virtual machine).
    """

    landmark_id: LandmarkId
    domain: Domain
    rtt_ns: Nanoseconds
    radius_km: Kilometers
    licensed_region_km: Kilometers
    prohibited_km: Kilometers
    excludes_licensed_region: bool
    within_licensed_region: bool
    excludes_prohibited: bool
    within_prohibited: bool
    may_accuse: bool
    may_prove_site: bool


@dataclass(frozen=True, slots=True)
class Fix:
    """What ranges show about where a device is. Fields as in `trigpoint.v1.Fix`."""

    ranged_by: Pdi
    assurance: Assurance
    in_licensed_region: PlaceAnswer
    outside_prohibited: PlaceAnswer
    discs: tuple[DiscUse, ...]
    tolerated_domains: int
    least_violations: int
    border_margin_km: float
    borders_version: str
    prohibited_version: str
    explanation: str
    demonstration: bool

    @property
    def settled(self) -> bool:
        """Whether both questions have an answer that no further range would improve."""
        final = {PlaceAnswer.PROVEN, PlaceAnswer.REFUTED}
        return self.in_licensed_region in final and self.outside_prohibited in final


def physical_radius_km(rtt_ns: int, lifetime: timedelta, uncertainty_km: float) -> Kilometers:
    """Return the radius of the disc that a round trip allows, kilometers on the sphere, never too small.

    Args:
        rtt_ns: Least round trip; processing time is never subtracted.
        lifetime: From the challenge's issue to the report's arrival, during which the device may have moved.
        uncertainty_km: Of the landmark's position.
    """
    light = rtt_ns / 1e6 / 2 * LIGHT_KM_PER_MS * CLOCK_WIDENING
    moved = MOVEMENT_KM_PER_S * max(0.0, lifetime.total_seconds())
    return Kilometers((light + moved + uncertainty_km) * ELLIPSOID_WIDENING)


def check_landmark_counts(
    landmark: Landmark, registry: LandmarkRegistry, policy: PlacePolicy, licensee: str, now: datetime
) -> None:
    """Check that a landmark counts at all (docs/protocol.md PL3).

    Raises:
        LandmarkUnknownError: Its record does not cover `now`.
        LandmarkNotCountedError: It is the licensee's own, or too few other domains have ranged it lately.
    """
    if not landmark.is_valid(now):
        raise LandmarkUnknownError(f"the record of {landmark.landmark_id} is not valid now")
    if registry.belongs_to(landmark, licensee):
        raise LandmarkNotCountedError(f"{landmark.landmark_id} belongs to the licensee")
    if policy.audited_within is not None:
        own = registry.domain_of(landmark.landmark_id)
        lately = [name for name, when in landmark.ranged_by if timedelta(0) <= now - when <= policy.audited_within]
        witnesses = {registry.domain_of_party(name) for name in lately} - {own}
        needed = policy.tolerated_domains + 1
        if len(witnesses) < needed:
            raise LandmarkNotCountedError(
                f"{landmark.landmark_id} was ranged by {len(witnesses)} other domains lately; {needed} are needed"
            )


def locate(
    ranges: Iterable[VerifiedRange],
    region: Region,
    registry: LandmarkRegistry,
    policy: PlacePolicy,
    licensee: str,
    issued_at: datetime,
    now: datetime,
) -> tuple[Fix | None, tuple[tuple[VerifiedRange, RangeError], ...]]:
    """Answer both questions from the ranges of one device.

    Args:
        ranges: Verified ranges, all of one device.
        region: The licensed region.
        registry: The registry that the ranges' landmarks are from.
        policy: Margins and tolerance.
        licensee: Holder of the license, whose own landmarks do not count.
        issued_at: Issue of the challenge, aware.
        now: Arrival of the report, aware.

    Returns:
        The fix, None when no range counts; and the ranges that do not count, each with why.
    """
    smallest: dict[Domain, tuple[Kilometers, VerifiedRange]] = {}  # docs/protocol.md PL4
    dropped: list[tuple[VerifiedRange, RangeError]] = []
    for verified in ranges:
        try:
            check_landmark_counts(verified.landmark, registry, policy, licensee, now)
        except RangeError as error:
            dropped.append((verified, error))
            continue
        radius = physical_radius_km(verified.rtt_ns, now - issued_at, verified.landmark.uncertainty_km)
        domain = registry.domain_of(verified.landmark.landmark_id)
        if domain not in smallest or radius < smallest[domain][0]:
            smallest[domain] = (radius, verified)
    if not smallest:
        return None, tuple(dropped)
    chosen = sorted(smallest.items(), key=lambda item: item[1][0])
    discs = tuple(_use(domain, radius, verified, region, policy, now) for domain, (radius, verified) in chosen)
    violations = least_violations([v.landmark for _, (_, v) in chosen], [r for _, (r, _) in chosen])
    licensed = _answer_licensed(discs, violations, policy, region)
    outside = _answer_outside_prohibited(discs, violations, policy)
    fix = Fix(
        ranged_by=chosen[0][1][1].pdi,
        assurance=Assurance.DEVICE_RANGED,
        in_licensed_region=licensed,
        outside_prohibited=outside,
        discs=discs,
        tolerated_domains=policy.tolerated_domains,
        least_violations=violations,
        border_margin_km=policy.border_margin_km,
        borders_version=policy.atlas.version,
        prohibited_version=policy.prohibited_version,
        explanation=_explain(discs, violations, licensed, outside, policy, region),
        demonstration=policy.demonstration,
    )
    return fix, tuple(dropped)


def least_violations(landmarks: Sequence[Landmark], radii_km: Sequence[float]) -> int:
    """Return v*: the fewest of these discs that any place on Earth lies outside of.

    Exact: the places that lie in most discs make up areas bounded by circles. Such an area has a corner, where two
    circles cross; or it is bounded by whole circles and holds all of each; or it is the whole Earth.
    """
    centers = np.stack([r.position.vector() for r in landmarks])
    radii = np.minimum(np.array(radii_km), HALF_CIRCUMFERENCE_KM) / EARTH_RADIUS_KM
    places = np.concatenate([centers, places_on_circles(centers, radii), circle_crossings(centers, radii)])
    outside = angles(places[:, None, :], centers[None, :, :]) > radii[None, :] + _ROUNDING_RADIANS
    return int(outside.sum(axis=1).min())


def _use(
    domain: Domain, radius: Kilometers, verified: VerifiedRange, region: Region, policy: PlacePolicy, now: datetime
) -> DiscUse:
    landmark = verified.landmark
    licensed = policy.atlas.distances(region, landmark.position)
    prohibited = policy.atlas.distances(policy.prohibited, landmark.position)
    # docs/protocol.md PL5: a site's disc is exact; only drawn borders need the margin.
    margin = 0.0 if isinstance(region, SiteDisc) else policy.border_margin_km
    return DiscUse(
        landmark_id=landmark.landmark_id,
        domain=domain,
        rtt_ns=verified.rtt_ns,
        radius_km=radius,
        licensed_region_km=licensed.to_region_km,
        prohibited_km=prohibited.to_region_km,
        excludes_licensed_region=_excludes(radius, licensed, margin),
        within_licensed_region=_within(radius, licensed, margin),
        excludes_prohibited=_excludes(radius, prohibited, policy.border_margin_km),
        within_prohibited=_within(radius, prohibited, policy.border_margin_km),
        may_accuse=now - landmark.revised_at >= policy.standing_for,
        may_prove_site=not landmark.virtual_machine,
    )


def _excludes(radius: Kilometers, distances: RegionDistances, margin_km: float) -> bool:
    return distances.to_region_km > radius + margin_km


def _within(radius: Kilometers, distances: RegionDistances, margin_km: float) -> bool:
    return distances.to_complement_km > radius + margin_km


def _answer_licensed(discs: Sequence[DiscUse], violations: int, policy: PlacePolicy, region: Region) -> PlaceAnswer:
    is_site = isinstance(region, SiteDisc)
    inside = sum(d.within_licensed_region and (d.may_prove_site or not is_site) for d in discs)
    outside = sum(d.excludes_licensed_region and d.may_accuse for d in discs)
    return _answer(inside, outside, violations, policy)


def _answer_outside_prohibited(discs: Sequence[DiscUse], violations: int, policy: PlacePolicy) -> PlaceAnswer:
    proving = sum(d.excludes_prohibited for d in discs)
    refuting = sum(d.within_prohibited and d.may_accuse for d in discs)
    return _answer(proving, refuting, violations, policy)


def _answer(proving: int, refuting: int, violations: int, policy: PlacePolicy) -> PlaceAnswer:
    """Apply docs/protocol.md PL6 to counts of discs that settle a question alone.

    depth(not X) is at least the number of discs within X, and depth(X) at least the number that exclude X.
    """
    tolerated = policy.tolerated_domains
    if violations > tolerated:  # more is wrong than is allowed for: nothing is said
        return PlaceAnswer.UNPROVEN
    if proving > tolerated:
        # f = 0 trusts every landmark, so it counts for no license.
        return PlaceAnswer.PROVEN if tolerated > 0 else PlaceAnswer.INDICATED
    if refuting >= violations + tolerated + 1:
        return PlaceAnswer.REFUTED
    return PlaceAnswer.UNPROVEN


def _explain(
    discs: Sequence[DiscUse],
    violations: int,
    licensed: PlaceAnswer,
    outside: PlaceAnswer,
    policy: PlacePolicy,
    region: Region,
) -> str:
    if violations > policy.tolerated_domains:
        return (
            f"The ranges contradict each other: every place on Earth is outside at least {violations} of {len(discs)} "
            f"discs, and at most {policy.tolerated_domains} may be wrong. Nothing is said about the device; "
            "the landmarks must be looked at."
        )
    sentences: list[str] = []
    if licensed is PlaceAnswer.REFUTED:
        used = [d for d in discs if d.excludes_licensed_region and d.may_accuse]
        sentences.append(
            f"{_heard(used)} The licensed region, {region}, is {_apart(used, licensed=True)} away from them."
        )
    elif licensed in {PlaceAnswer.PROVEN, PlaceAnswer.INDICATED}:
        used = [d for d in discs if d.within_licensed_region and (d.may_prove_site or not isinstance(region, SiteDisc))]
        sentences.append(f"{_heard(used)} All of that lies in the licensed region, {region}.")
    else:
        sentences.append(
            f"{_heard(discs[:2])} That neither proves nor excludes the licensed region, {region}: it takes "
            f"{policy.tolerated_domains + 1} independent landmark domains."
        )
    if outside is PlaceAnswer.REFUTED:
        used = [d for d in discs if d.within_prohibited and d.may_accuse]
        sentences.append(f"{_heard(used)} All of that lies in prohibited destinations.")
    elif outside is PlaceAnswer.PROVEN:
        used = [d for d in discs if d.excludes_prohibited]
        apart = _apart(used, licensed=False)
        sentences.append(f"The nearest prohibited destination is {apart} away from {_names(used)}: out of reach.")
    return " ".join(sentences)


def _heard(discs: Sequence[DiscUse]) -> str:
    parts = [
        f"{d.landmark_id} heard the device in {d.rtt_ns / 1e6:.2f} ms, so it is within "
        f"{math.ceil(d.radius_km):,} km of it"
        for d in discs[:3]
    ]
    return f"{'; '.join(parts)}."


def _apart(discs: Sequence[DiscUse], *, licensed: bool) -> str:
    distances = [d.licensed_region_km if licensed else d.prohibited_km for d in discs[:3]]
    return f"{_listed([f'{math.floor(distance):,}' for distance in distances])} km"


def _names(discs: Sequence[DiscUse]) -> str:
    return _listed([d.landmark_id for d in discs[:3]])


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))

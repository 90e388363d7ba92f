"""A fix: what the ranges of one device show about where it is, with every number of the proof.

docs/protocol.md §11.
"""

import enum
import math
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import NamedTuple

from verifier.errors import RangeError
from verifier.place.discs import Disc, Discs, Grade, discs_of
from verifier.place.geodesy import Position
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.question import Settled, settle_on
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import Ground, Region
from verifier.place.shapes import RegionDistances
from verifier.units import Domain, Kilometers, LandmarkId, Nanoseconds, Pdi

_TOLD = 3
"""Discs that a sentence names."""


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


class DiscUse(NamedTuple):
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
        position: Where the landmark says it stands.
        landmark_revision: Revision of its record.
        fibre_radius_km: The radius at the fibre grade.
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
    position: Position
    landmark_revision: int
    fibre_radius_km: Kilometers


class Depths(NamedTuple):
    """The depths that decided one question about a region X (docs/protocol.md PL4, PL6); each is a lower bound.

    Attributes:
        in_region: Every place in X lies outside of so many discs that may accuse.
        in_complement: Every place that is not in X lies outside of so many discs that may prove.
        in_complement_fibre: The same at the fibre grade; 0 when that was not asked.
        by_several: No single discs showed it: several together did.
    """

    in_region: int
    in_complement: int
    in_complement_fibre: int
    by_several: bool


class Fix(NamedTuple):
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
    licensed_depths: Depths
    outside_depths: Depths

    @property
    def settled(self) -> bool:
        """Whether both questions have an answer that no further range would improve."""
        final = {PlaceAnswer.PROVEN, PlaceAnswer.REFUTED}
        return self.in_licensed_region in final and self.outside_prohibited in final


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
    discs, dropped = discs_of(ranges, registry, policy, licensee, issued_at, now)
    return (None if discs is None else fix_of(discs, region, policy)), dropped


def fix_of(discs: Discs, region: Region, policy: PlacePolicy) -> Fix:
    """Answer both questions from discs."""
    ground, beyond = policy.atlas.ground(region), policy.atlas.ground(policy.outside_prohibited)
    licensed, licensed_depths = _answer(ground, discs, policy)
    outside, outside_depths = _answer(beyond, discs, policy)
    margin, beyond_margin = (g.margin_km(policy.border_margin_km) for g in (ground, beyond))
    uses = tuple(
        [
            _use(disc, near, disc.radius_km + margin, out, disc.radius_km + beyond_margin)
            for disc, near, out in zip(discs.discs, discs.near(ground), discs.near(beyond), strict=True)
        ]
    )
    violations = discs.least_violations()
    depths = (licensed_depths, outside_depths)
    explanation = _explain(uses, (licensed, outside), depths, violations, policy.tolerated_domains, ground)
    return Fix(
        ranged_by=discs.ranged_by,
        assurance=Assurance.DEVICE_RANGED,
        in_licensed_region=licensed,
        outside_prohibited=outside,
        discs=uses,
        tolerated_domains=policy.tolerated_domains,
        least_violations=violations,
        border_margin_km=policy.border_margin_km,
        borders_version=policy.atlas.version,
        prohibited_version=policy.prohibited_version,
        explanation=explanation,
        demonstration=policy.demonstration,
        licensed_depths=licensed_depths,
        outside_depths=outside_depths,
    )


def fix_without(fix: Fix, domains: AbstractSet[Domain], region: Region, policy: PlacePolicy) -> Fix | None:
    """Answer both questions again without some failure domains; None when no disc is left (docs/protocol.md LA6).

    Args:
        fix: Made under the same policy for the same region.
        domains: Which no longer count.
        region: The licensed region.
        policy: Margins and tolerance.
    """
    left = [_disc_of(use) for use in fix.discs if use.domain not in domains]
    return fix_of(Discs(left, fix.ranged_by), region, policy) if left else None


def discs_of_fix(fix: Fix) -> Discs:
    """Return the discs of a fix."""
    return Discs(map(_disc_of, fix.discs), fix.ranged_by)


def _answer(ground: Ground, discs: Discs, policy: PlacePolicy) -> tuple[PlaceAnswer, Depths]:
    """Apply docs/protocol.md PL6."""
    tolerated, margin = policy.tolerated_domains, policy.border_margin_km
    settled = settle_on(ground, discs, margin, tolerated, Grade.PHYSICAL)
    if settled.proven:
        # f = 0 trusts every landmark, so it counts for no license.
        return PlaceAnswer.PROVEN if tolerated > 0 else PlaceAnswer.INDICATED, _depths(settled)
    if settled.refuted:
        return PlaceAnswer.REFUTED, _depths(settled)
    if discs.least_violations() > tolerated:
        return PlaceAnswer.UNPROVEN, _depths(settled)
    fibre = settle_on(ground, discs, margin, tolerated, Grade.FIBRE)
    return PlaceAnswer.INDICATED if fibre.proven else PlaceAnswer.UNPROVEN, _depths(settled, fibre.depth_out)


def _depths(settled: Settled, fibre: int = 0) -> Depths:
    return Depths(settled.depth_in, settled.depth_out, fibre, settled.by_several)


def _use(
    disc: Disc, licensed: RegionDistances, reach_km: float, beyond: RegionDistances, beyond_reach_km: float
) -> DiscUse:
    return DiscUse(
        disc.landmark_id,
        disc.domain,
        disc.rtt_ns,
        disc.radius_km,
        licensed.to_region_km,
        beyond.to_complement_km,
        licensed.to_region_km > reach_km,
        licensed.to_complement_km > reach_km,
        beyond.to_complement_km > beyond_reach_km,
        beyond.to_region_km > beyond_reach_km,
        disc.may_accuse,
        disc.may_prove_site,
        disc.position,
        disc.landmark_revision,
        disc.fibre_radius_km,
    )


def _disc_of(use: DiscUse) -> Disc:
    return Disc(
        landmark_id=use.landmark_id,
        domain=use.domain,
        rtt_ns=use.rtt_ns,
        position=use.position,
        landmark_revision=use.landmark_revision,
        radius_km=use.radius_km,
        fibre_radius_km=use.fibre_radius_km,
        may_accuse=use.may_accuse,
        may_prove_site=use.may_prove_site,
        center=use.position.triple(),
    )


def _explain(
    discs: Sequence[DiscUse],
    answers: tuple[PlaceAnswer, PlaceAnswer],
    depths: tuple[Depths, Depths],
    violations: int,
    tolerated: int,
    ground: Ground,
) -> str:
    """Tell why the answers are what they are, in sentences for an officer."""
    if violations > tolerated:
        return (
            f"The ranges contradict each other: every place on Earth is outside at least {violations} of {len(discs)} "
            f"discs, and at most {tolerated} may be wrong. Nothing is said about the device; "
            "the landmarks must be looked at."
        )
    licensed = _tell_licensed(discs, answers[0], depths[0], tolerated, ground)
    return f"{licensed} {_tell_outside(discs, answers[1], depths[1])}"


def _tell_licensed(
    discs: Sequence[DiscUse], answer: PlaceAnswer, depths: Depths, tolerated: int, ground: Ground
) -> str:
    region = ground.region
    proving = [d for d in discs if d.may_prove_site or not ground.site]
    if answer is PlaceAnswer.REFUTED:
        used = [d for d in discs if d.excludes_licensed_region and d.may_accuse]
        apart = _apart([d.licensed_region_km for d in used])
        return f"{_heard(used)} The licensed region, {region}, is {apart} away from {_them(used)}."
    if depths.by_several:
        return f"{_heard(proving)} Together they leave no place outside the licensed region, {region}."
    if answer is PlaceAnswer.UNPROVEN or depths.in_complement_fibre:
        more = (
            "; at the speed of light in fibre, which is an assumption, it would be inside"
            if answer is PlaceAnswer.INDICATED
            else ""
        )
        return (
            f"{_heard(discs[:2])} That neither proves nor excludes the licensed region, {region}: it takes "
            f"{tolerated + 1} independent landmark domains{more}."
        )
    used = [d for d in proving if d.within_licensed_region]
    return f"{_heard(used)} All of that lies in the licensed region, {region}."


def _tell_outside(discs: Sequence[DiscUse], answer: PlaceAnswer, depths: Depths) -> str:
    if answer is PlaceAnswer.REFUTED:
        used = [d for d in discs if d.within_prohibited and d.may_accuse]
        return f"{_heard(used)} All of that lies in prohibited destinations."
    if depths.by_several:
        return f"No prohibited destination is within reach of all of {_names(discs)} but {depths.in_complement - 1}."
    if answer is PlaceAnswer.UNPROVEN:
        return "Whether it is outside prohibited destinations is not proven either way."
    if depths.in_complement_fibre:
        return (
            "At the speed of light in fibre, which is an assumption, prohibited destinations would be out of reach; "
            "that is advice and no proof."
        )
    used = [d for d in discs if d.excludes_prohibited]
    apart = _apart([d.prohibited_km for d in used])
    return f"The nearest prohibited destination is {apart} away from {_names(used)}: out of reach."


def _heard(discs: Sequence[DiscUse]) -> str:
    parts = [
        f"{d.landmark_id} heard the device in {d.rtt_ns / 1e6:.2f} ms, so it is within "
        f"{math.ceil(d.radius_km):,} km of it"
        for d in discs[:_TOLD]
    ]
    return f"{'; '.join(parts)}."


def _apart(distances_km: Sequence[float]) -> str:
    return f"{_listed([f'{math.floor(km):,}' for km in distances_km[:_TOLD]])} km"


def _names(discs: Sequence[DiscUse]) -> str:
    return _listed([d.landmark_id for d in discs[:_TOLD]])


def _them(discs: Sequence[DiscUse]) -> str:
    return "it" if len(discs) == 1 else "them"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))

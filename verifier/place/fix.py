"""A fix: what the ranges of one device show about where it is, with every number of the proof.

docs/protocol.md §11.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import NamedTuple

from verifier.errors import RangeError
from verifier.place.answers import Assurance, Depths, DiscUse, PlaceAnswer, Told
from verifier.place.discs import Disc, Discs, Grade, discs_of
from verifier.place.explain import explain
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.question import Settled, settle_on
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import Ground, Region
from verifier.place.shapes import RegionDistances
from verifier.units import Domain, Pdi


class Fix(NamedTuple):
    """What ranges show about where a device is. Fields as in `trigpoint.v1.Fix`.

    `contradicting`: the fewest domains whose being wrong explains v* (docs/protocol.md PL6); none when v* is 0.
    """

    ranged_by: Pdi
    assurance: Assurance
    in_licensed_region: PlaceAnswer
    outside_prohibited: PlaceAnswer
    tolerated_domains: int
    least_violations: int
    border_margin_km: float
    borders_version: str
    prohibited_version: str
    demonstration: bool
    licensed_depths: Depths
    outside_depths: Depths
    told: Told
    contradicting: tuple[Domain, ...] = ()

    @property
    def discs(self) -> tuple[DiscUse, ...]:
        """The smallest disc of each failure domain, smallest first."""
        return self.told.both()[0]

    @property
    def explanation(self) -> str:
        """Why the answers are what they are, in sentences."""
        return self.told.both()[1]

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
    ground, beyond = policy.atlas.ground(region), policy.outside_ground
    licensed, licensed_depths = _answer(ground, discs, policy)
    outside, outside_depths = _answer(beyond, discs, policy)
    violations = discs.least_violations()
    depths = (licensed_depths, outside_depths)

    def tell() -> tuple[tuple[DiscUse, ...], str]:
        uses = _uses(discs, ground, beyond, policy.border_margin_km)
        return uses, explain(uses, (licensed, outside), depths, violations, policy.tolerated_domains, ground)

    # As `Fix(...)`, which takes four times as long: fields in their order.
    return tuple.__new__(
        Fix,
        (
            discs.ranged_by,
            Assurance.DEVICE_RANGED,
            licensed,
            outside,
            policy.tolerated_domains,
            violations,
            policy.border_margin_km,
            policy.atlas.version,
            policy.prohibited_version,
            policy.demonstration,
            licensed_depths,
            outside_depths,
            Told(tell),
            discs.contradicting(),
        ),
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
    if not settled.open_in_fibre and settle_on(ground, discs, margin, tolerated, Grade.FIBRE).proven:
        return PlaceAnswer.INDICATED, _depths(settled, tolerated + 1)
    return PlaceAnswer.UNPROVEN, _depths(settled)


def _depths(settled: Settled, fibre: int = 0) -> Depths:
    return Depths(settled.depth_in, settled.depth_out, fibre, settled.by_several)


def _uses(discs: Discs, ground: Ground, beyond: Ground, border_margin_km: float) -> tuple[DiscUse, ...]:
    margin, beyond_margin = ground.margin_km(border_margin_km), beyond.margin_km(border_margin_km)
    return tuple(
        _use(disc, near, disc.radius_km + margin, out, disc.radius_km + beyond_margin)
        for disc, near, out in zip(discs.discs, discs.near(ground), discs.near(beyond), strict=True)
    )


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

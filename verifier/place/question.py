"""One question of place: whether the device is in a region (docs/protocol.md PL6).

Most often single discs answer it, from two distances each. Where they leave it open, one place that too few discs speak
against shows that it stays open; only then are several discs taken together (depth.py).
"""

from typing import NamedTuple

from verifier.place.depth import depth_reaches
from verifier.place.discs import Disc, Discs, Grade
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Ground, Region


class Settled(NamedTuple):
    """What discs say about one region.

    Attributes:
        proven: The device is in it, even if any f domains are wrong.
        refuted: It is not, even if any f domains are wrong.
        depth_in: Every place in the region lies outside of at least so many discs that may accuse.
        depth_out: Every other place lies outside of at least so many discs that may prove.
        by_several: No single discs showed it: several together did.
        exact_test: Several discs had to be taken together to know.
        open_in_fibre: A single place shows that no proof holds, at the fibre grade either.
    """

    proven: bool
    refuted: bool
    depth_in: int
    depth_out: int
    by_several: bool = False
    exact_test: bool = False
    open_in_fibre: bool = False

    @property
    def fast(self) -> bool:
        """Whether single discs settled it, or a single place showed that it is open."""
        return not self.exact_test


def settle(
    region: Region,
    discs: Discs,
    policy: PlacePolicy,
    grade: Grade = Grade.PHYSICAL,
    tolerated: int | None = None,
) -> Settled:
    """Answer whether the device is in a region; arguments as in `settle_on`."""
    allowed = policy.tolerated_domains if tolerated is None else tolerated
    return settle_on(policy.atlas.ground(region), discs, policy.border_margin_km, allowed, grade)


def settle_on(ground: Ground, discs: Discs, border_margin_km: float, tolerated: int, grade: Grade) -> Settled:
    """Answer whether the device is in a region.

    Args:
        ground: X of docs/protocol.md PL6.
        discs: One a failure domain.
        border_margin_km: Of drawn borders.
        tolerated: f, how many failure domains may be wrong.
        grade: How fast light is taken to be.
    """
    margin = ground.margin_km(border_margin_km)
    inside, outside = _count_alone(ground, discs, margin, grade)
    violations = discs.least_violations(grade)
    if violations > tolerated:  # more is wrong than is allowed for: nothing is said
        return Settled(proven=False, refuted=False, depth_in=outside, depth_out=inside)
    if inside > tolerated:
        return Settled(proven=True, refuted=False, depth_in=outside, depth_out=inside)
    needed = violations + tolerated + 1
    if outside >= needed:
        return Settled(proven=False, refuted=True, depth_in=outside, depth_out=inside)
    return _take_together(ground, discs, margin, tolerated, needed, grade, (outside, inside))


def _count_alone(ground: Ground, discs: Discs, margin_km: float, grade: Grade) -> tuple[int, int]:
    """Return how many discs each alone place the device inside, and how many outside."""
    inside = outside = 0
    if discs.alike:  # most often they are, and then counting is all
        for radius, near in zip(discs.radii_km(grade), discs.near(ground), strict=True):
            reach = radius + margin_km
            if near.to_complement_km > reach:
                inside += 1
            elif near.to_region_km > reach:
                outside += 1
        return inside, outside
    for disc, radius, near in zip(discs.discs, discs.radii_km(grade), discs.near(ground), strict=True):
        if near.to_complement_km > radius + margin_km:
            inside += disc.may_prove_site or not ground.site
        elif near.to_region_km > radius + margin_km:
            outside += disc.may_accuse
    return inside, outside


def _take_together(
    ground: Ground, discs: Discs, margin_km: float, tolerated: int, needed: int, grade: Grade, alone: tuple[int, int]
) -> Settled:
    """Answer from several discs what single ones, so many outside and so many inside, leave open."""
    outside, inside = alone
    exact = False
    if outside > tolerated:  # f + 1 exclude it alone, but some disc is certainly wrong
        exact = True
        accusing = discs.only(_may_accuse)
        if accusing and depth_reaches(ground.inside, accusing.disc_set(grade, margin_km), needed):
            return Settled(
                proven=False, refuted=True, depth_in=needed, depth_out=inside, by_several=True, exact_test=True
            )
    proving = discs.only(_may_prove_site) if ground.site and not discs.alike else discs
    # A disc at the fibre grade lies in that at the physical one, so a witness there is a witness here.
    open_in_fibre = proving is None or _witness_against(ground, proving, tolerated + 1, Grade.FIBRE)
    if proving and not open_in_fibre and not _witness_against(ground, proving, tolerated + 1, grade):
        exact = True
        if depth_reaches(ground.outside, proving.disc_set(grade, margin_km), tolerated + 1):
            return Settled(
                proven=True, refuted=False, depth_in=outside, depth_out=tolerated + 1, by_several=True, exact_test=True
            )
    # As `Settled(...)`, which takes three times as long: most questions end here.
    return tuple.__new__(Settled, (False, False, outside, inside, False, exact, open_in_fibre))


def _witness_against(ground: Ground, discs: Discs, count: int, grade: Grade) -> bool:
    """Whether some place outside the region is easily found that lies outside of fewer than `count` discs."""
    nearest = discs.near(ground)
    if len(nearest) < count:
        return True
    # Those of the two smallest discs: whoever is hard to exclude is most often there.
    return discs.fewer_violate(nearest[0].in_complement, count, grade) or discs.fewer_violate(
        nearest[min(1, len(nearest) - 1)].in_complement, count, grade
    )


def _may_accuse(disc: Disc) -> bool:
    return disc.may_accuse


def _may_prove_site(disc: Disc) -> bool:
    return disc.may_prove_site

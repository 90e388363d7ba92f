"""Everything that is asked about one target: the rule's answers, the stepwise choice, the lies of others.

All answers come from verifier/place: `settle` and `locate` are what the server's verdicts are made of.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.study.data import Measurements, Node
from benchmarks.study.world import LICENSEE, NOW, World, seeded, shifted
from verifier.place.answers import PlaceAnswer
from verifier.place.choose import BUDGET, choose_landmarks
from verifier.place.discs import Discs, Grade, discs_of
from verifier.place.fix import Fix, locate
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.question import settle
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import Countries, SiteDisc
from verifier.units import CountryCode

CLAIMED = tuple(CountryCode(code) for code in ("US", "MY", "SG", "JP", "AE", "DE", "IN"))
"""Countries that a diverter may say a device is in."""

SITE_RADII_KM = (50, 100, 200)
"""Of sites around where the target says it is."""

OFF_SITE_KM = (500, 1000, 1500, 2000)
"""From the target to the center of a site where it is not."""

OFF_SITE_RADIUS_KM = 50

GRADES = (Grade.PHYSICAL, Grade.FIBRE)
TOLERANCES = (0, 1)

_FINAL = frozenset({PlaceAnswer.PROVEN, PlaceAnswer.REFUTED})


@dataclass(frozen=True, slots=True)
class Answers:
    """What all landmarks show about one target, at one grade and f.

    Attributes:
        own_refuted: It is not in the country that it says.
        prohibited_refuted: REFUTED(not D): it is in a prohibited destination.
        not_prohibited_proven: PROVEN(not D).
        claims_refuted: For each of CLAIMED, whether the device is shown not to be in it.
        settled: For each of CLAIMED and, last, for D, whether it is settled.
        fast: Questions of CLAIMED and D that the fast path answered.
        inside: For each of SITE_RADII_KM, whether the site is proven.
        outside: For each of OFF_SITE_KM, whether the site is refuted.
    """

    own_refuted: bool
    prohibited_refuted: bool
    not_prohibited_proven: bool
    claims_refuted: tuple[bool, ...]
    settled: tuple[bool, ...]
    fast: int
    inside: tuple[bool, ...]
    outside: tuple[bool, ...]

    def accuses(self, *, in_prohibited: bool) -> bool:
        """Whether a device that is where it says would stand accused."""
        return self.own_refuted or (self.prohibited_refuted and not in_prohibited)


NO_ANSWERS = Answers(
    own_refuted=False,
    prohibited_refuted=False,
    not_prohibited_proven=False,
    claims_refuted=(False,) * len(CLAIMED),
    settled=(False,) * (len(CLAIMED) + 1),
    fast=0,
    inside=(False,) * len(SITE_RADII_KM),
    outside=(False,) * len(OFF_SITE_KM),
)
"""About a target that no trusted landmark has ranged."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One challenge by the stepwise choice, for a license that names one of CLAIMED.

    Attributes:
        claim_after: Sessions after which the claimed country was settled for good; None: it was not.
        outside_after: The same for D.
        sessions: All that were held.
    """

    claim_after: int | None
    outside_after: int | None
    sessions: int


@dataclass(frozen=True, slots=True)
class TargetOutcome:
    """All about one target.

    Attributes:
        node: Which.
        in_prohibited: By its stated position or country.
        ranged: Trusted landmarks that ranged it.
        answers: By grade and f.
        asked: For each of CLAIMED.
        displaced_accusations: In how many displaced worlds it is accused without lying itself.
    """

    node: int
    in_prohibited: bool
    ranged: int
    answers: Mapping[tuple[Grade, int], Answers]
    asked: tuple[Asked, ...]
    displaced_accusations: int


class Examiner:
    """Asks everything about one target after the other.

    Args:
        measurements: What was measured.
        policy: Rules of place.
        world: Landmarks as they are listed.
        displaced: Worlds in which some lie, each with who.
        seed: Of everything that is drawn.
        sessions: Budget of one challenge.
    """

    def __init__(
        self,
        measurements: Measurements,
        policy: PlacePolicy,
        world: World,
        displaced: Sequence[tuple[World, frozenset[int]]],
        seed: int,
        sessions: int = BUDGET,
    ) -> None:
        self._nodes = measurements.nodes
        self._policy = policy
        self._world = world
        self._displaced = displaced
        self._seed = seed
        self._sessions = sessions

    def examine(self, target: int) -> TargetOutcome:
        """Leave one landmark out and let the others range it."""
        node, policy = self._nodes[target], self._policy
        in_prohibited = is_in_prohibited(node, policy)
        registry = self._world.without(target)
        ranges = self._world.ranges(target, registry)
        discs, _ = discs_of(ranges, registry, policy, LICENSEE, NOW, NOW)
        return TargetOutcome(
            node=target,
            in_prohibited=in_prohibited,
            ranged=0 if discs is None else len(discs.discs),
            answers={
                (grade, tolerated): NO_ANSWERS if discs is None else self._answers(node, discs, grade, tolerated)
                for grade in GRADES
                for tolerated in TOLERANCES
            },
            asked=tuple(self._ask(target, code, registry, ranges) for code in CLAIMED),
            displaced_accusations=sum(
                self._accused(world, target, in_prohibited=in_prohibited)
                for world, liars in self._displaced
                if target not in liars
            ),
        )

    def _answers(self, node: Node, discs: Discs, grade: Grade, tolerated: int) -> Answers:
        policy = self._policy
        claims = [settle(Countries(frozenset({code})), discs, policy, grade, tolerated) for code in CLAIMED]
        outside = settle(policy.outside_prohibited, discs, policy, grade, tolerated)
        sites = [
            settle(SiteDisc("at home", node.position, radius), discs, policy, grade, tolerated)
            for radius in SITE_RADII_KM
        ]
        elsewhere = []
        for km in OFF_SITE_KM:
            center = shifted(node.position, seeded(self._seed, "site", node.name, km).uniform(0, 2 * math.pi), km)
            elsewhere.append(settle(SiteDisc("elsewhere", center, OFF_SITE_RADIUS_KM), discs, policy, grade, tolerated))
        return Answers(
            own_refuted=self._own_refuted(node, discs, grade, tolerated),
            prohibited_refuted=outside.refuted,
            not_prohibited_proven=outside.proven,
            claims_refuted=tuple(s.refuted for s in claims),
            settled=tuple(s.proven or s.refuted for s in (*claims, outside)),
            fast=sum(s.fast for s in (*claims, outside)),
            inside=tuple(s.proven for s in sites),
            outside=tuple(s.refuted for s in elsewhere),
        )

    def _own_refuted(self, node: Node, discs: Discs, grade: Grade, tolerated: int) -> bool:
        """Whether the target is shown not to be in its own country; one that the borders do not know is not asked."""
        if node.country not in self._policy.atlas.country_codes:
            return False
        return settle(Countries(frozenset({node.country})), discs, self._policy, grade, tolerated).refuted

    def _accused(self, world: World, target: int, *, in_prohibited: bool) -> bool:
        """Whether a target is accused at the physical grade with f = 1."""
        registry = world.without(target)
        ranges = world.ranges(target, registry)
        discs, _ = discs_of(ranges, registry, self._policy, LICENSEE, NOW, NOW)
        if discs is None:
            return False
        if self._own_refuted(self._nodes[target], discs, Grade.PHYSICAL, 1):
            return True
        return not in_prohibited and settle(self._policy.outside_prohibited, discs, self._policy).refuted

    def _ask(
        self, target: int, claimed: CountryCode, registry: LandmarkRegistry, ranges: Sequence[VerifiedRange]
    ) -> Asked:
        """Hold one challenge as the server does: the license names a country, and both questions are asked at once.

        The claimed country is the region that the choice starts from. The target's own landmark is not asked.
        """
        by_key = {verified.landmark.key_id: verified for verified in ranges}
        itself = self._world.landmark(target).key_id
        region = Countries(frozenset({claimed}))
        rng = seeded(self._seed, "asked", self._nodes[target].name, claimed)
        used, held, fix, step = {itself}, list[VerifiedRange](), None, 0
        claim_after = outside_after = None
        while True:
            step += 1
            chosen = choose_landmarks(
                registry, region, used, fix, step, rng, NOW, self._policy, self._sessions + 1, LICENSEE
            )
            if not chosen:
                return Asked(claim_after, outside_after, len(used) - 1)
            used.update(landmark.key_id for landmark in chosen)
            held += [by_key[landmark.key_id] for landmark in chosen if landmark.key_id in by_key]
            fix = self._locate(held, region, registry)
            sessions = len(used) - 1
            claim_after = _since(claim_after, sessions, None if fix is None else fix.in_licensed_region)
            outside_after = _since(outside_after, sessions, None if fix is None else fix.outside_prohibited)

    def _locate(self, held: Sequence[VerifiedRange], region: Countries, registry: LandmarkRegistry) -> Fix | None:
        fix, _ = locate(held, region, registry, self._policy, LICENSEE, NOW, NOW)
        return fix


def is_in_prohibited(node: Node, policy: PlacePolicy) -> bool:
    """Whether a node is in a prohibited destination, by its stated position or its stated country."""
    return node.country in policy.prohibited.codes or policy.atlas.contains(policy.prohibited, node.position)


def _since(before: int | None, sessions: int, answer: PlaceAnswer | None) -> int | None:
    """Return after how many sessions a question was settled for good, so far."""
    if answer not in _FINAL:
        return None
    return sessions if before is None else before

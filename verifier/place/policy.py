"""What the operator of the verifier decides about place."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

from verifier.errors import UsageError
from verifier.place.regions import Atlas, Complement, Countries, Ground


@dataclass(frozen=True, slots=True)
class PlacePolicy:
    """What the operator of the verifier decides about place.

    Attributes:
        atlas: Border data and country groups.
        prohibited: Prohibited destinations.
        prohibited_version: Names the list of country groups, with its date.
        tolerated_domains: f, how many failure domains may be wrong.
        border_margin_km: Borders are taken to be this much nearer than drawn, to err to UNPROVEN.
        audited_within: A landmark counts only while f + 1 other domains have ranged it within this time; None: not
            asked for, a demonstration.
        standing_for: A landmark counts for an accusation only when its record has stood this long.
        operator: Who runs the verifier, as landmark records would name it; empty: runs no landmark.
        outside_prohibited: All that is no prohibited destination.
        outside_ground: Its geometry, which every device is asked about.
        demonstration: Verdicts under this policy must say: not for accusation (docs/protocol.md PL3).
    """

    atlas: Atlas
    prohibited: Countries
    prohibited_version: str
    tolerated_domains: int = 1
    border_margin_km: float = 5.0
    audited_within: timedelta | None = timedelta(hours=24)
    standing_for: timedelta = timedelta(days=30)
    operator: str = ""
    outside_prohibited: Complement = field(init=False)
    outside_ground: Ground = field(init=False, repr=False, compare=False)
    demonstration: bool = field(init=False)
    _others: dict[int, "PlacePolicy"] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a policy that would make false proofs."""
        if self.tolerated_domains < 0 or self.border_margin_km < 0 or self.standing_for < timedelta(0):
            raise UsageError("a place policy has no negative numbers")
        if missing := self.prohibited.codes - self.atlas.country_codes:
            raise UsageError(f"the border data have no shape for the prohibited {', '.join(sorted(missing))}")
        outside = Complement(self.prohibited)
        object.__setattr__(self, "outside_prohibited", outside)
        object.__setattr__(self, "outside_ground", self.atlas.ground(outside))
        demonstration = self.audited_within is None or self.standing_for < timedelta(days=1)
        object.__setattr__(self, "demonstration", demonstration)

    def tolerating(self, tolerated_domains: int | None) -> "PlacePolicy":
        """Return this policy with the f of a license, always the same one for the same f; None: the operator's f."""
        if tolerated_domains is None or tolerated_domains == self.tolerated_domains:
            return self
        found = self._others.get(tolerated_domains)
        if found is None:
            found = self._others[tolerated_domains] = replace(self, tolerated_domains=tolerated_domains)
        return found

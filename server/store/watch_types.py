"""What the watch takes and gives (docs/protocol.md §15), as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from verifier.errors import Reason
from verifier.license import Presence
from verifier.place.landmarks import Landmark
from verifier.place.regions import Region
from verifier.units import Domain, LandmarkId, Pdi


class SiteKey(NamedTuple):
    """A site on record."""

    license_number: str
    site_id: str


@dataclass(frozen=True, slots=True)
class WatchedSite:
    """What is to be proven of the devices of a site.

    Attributes:
        key: Which site.
        licensee: Whose landmarks say nothing of it.
        presence: What is to be proven.
        region: Where they may be.
        tolerated_domains: f of the license; None: the operator's.
    """

    key: SiteKey
    licensee: str
    presence: Presence
    region: Region
    tolerated_domains: int | None


@dataclass(frozen=True, slots=True)
class WatchRecords:
    """What is on record that says which domains could prove what.

    Attributes:
        number: Of the newest write of records; it grows with every change of this.
        landmarks: All, with the distrust that stands; who has ranged them is left out.
        sites: Of licenses in force.
    """

    number: int
    landmarks: tuple[Landmark, ...]
    sites: tuple[WatchedSite, ...]


class AbleLandmark(NamedTuple):
    """A landmark that could settle a site's question, and since when its record says so, microseconds."""

    landmark_id: LandmarkId
    since: int


@dataclass(frozen=True, slots=True)
class AbleSite:
    """Who could prove presence at a site (docs/protocol.md W4).

    Attributes:
        needed: So many domains are needed, f + 1.
        domains: Those that could, each with its landmarks that could.
    """

    needed: int
    domains: Mapping[Domain, tuple[AbleLandmark, ...]]


Able = Mapping[SiteKey, AbleSite]
"""By site. A site that is missing counts as one that nobody could prove: its clock stands still."""


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """A finding that the watch opens, or closes."""

    pdi: Pdi
    reason: Reason
    detail: str
    opens: bool = True


@dataclass(frozen=True, slots=True)
class EndingLicense:
    """A license in force that ends soon (docs/protocol.md W5)."""

    number: str
    licensee: str
    valid_until: datetime


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """What a sweep did and saw.

    Attributes:
        turns: Findings that it opened and closed.
        ending: All licenses that end within 30 days, each time.
        short: Sites at which fewer than f + 1 able domains are up now.
    """

    turns: tuple[Turn, ...] = ()
    ending: tuple[EndingLicense, ...] = ()
    short: frozenset[SiteKey] = field(default_factory=frozenset)

    def opened(self, reason: Reason) -> tuple[Pdi, ...]:
        """Return the devices for which it opened this, in the order of PDIs."""
        return tuple(sorted(turn.pdi for turn in self.turns if turn.opens and turn.reason is reason))

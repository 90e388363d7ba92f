"""What is said about place: answers, and every number and word that stands behind them."""

import enum
from collections.abc import Callable
from typing import NamedTuple

from verifier.place.geodesy import Position
from verifier.units import Domain, Kilometers, LandmarkId, Nanoseconds


@enum.unique
class PlaceAnswer(enum.IntEnum):
    """What may be said about one question. Values equal `trigpoint.v1.PlaceAnswer`."""

    PROVEN = 1
    INDICATED = 2
    REFUTED = 3
    UNPROVEN = 4


@enum.unique
class Assurance(enum.IntEnum):
    """How ranges were made, the strongest first. Values equal `trigpoint.v1.Assurance`."""

    DEVICE_RANGED = 1
    SIGNED_RANGE = 2


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
    radius_km: float
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
    fibre_radius_km: float


class Depths(NamedTuple):
    """The depths that decided one question about a region X (docs/protocol.md PL4, PL6); each is a lower bound.

    Attributes:
        in_region: Every place in X lies outside of so many discs that may accuse.
        in_complement: Every place that is not in X lies outside of so many discs that may prove.
        in_complement_fibre: The same at the fibre grade where that made the answer INDICATED; else 0.
        by_several: No single discs showed it: several together did.
    """

    in_region: int
    in_complement: int
    in_complement_fibre: int
    by_several: bool


class Told:
    """The proof in numbers and in words. It is worked out when somebody reads it, and then kept.

    Args:
        tell: Returns the smallest disc of each failure domain, smallest first, and the sentences.
    """

    __slots__ = ("_tell", "_told")

    def __init__(self, tell: Callable[[], tuple[tuple[DiscUse, ...], str]]) -> None:
        self._tell = tell
        self._told: tuple[tuple[DiscUse, ...], str] | None = None

    @classmethod
    def of(cls, discs: tuple[DiscUse, ...], explanation: str) -> "Told":
        """Return what was told before."""
        return cls(lambda: (discs, explanation))

    def both(self) -> tuple[tuple[DiscUse, ...], str]:
        """Return the discs and the sentences."""
        if self._told is None:
            self._told = self._tell()
        return self._told

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Told) and self.both() == other.both()

    def __hash__(self) -> int:
        return hash(self.both())

    def __repr__(self) -> str:
        return f"Told{self.both()}"

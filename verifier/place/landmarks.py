"""Landmarks, their failure domains, and when a landmark counts (docs/protocol.md PL2, PL3).

Landmarks of one operator or one hoster can be wrong together; domains merge transitively over the whole registry. How
landmarks audit each other is not here.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from types import MappingProxyType
from typing import Self

from verifier.errors import UsageError
from verifier.place.geodesy import Position
from verifier.units import CountryCode, Domain, LandmarkId, LandmarkKeyId


@dataclass(frozen=True, slots=True)
class Landmark:
    """A registered landmark.

    Attributes:
        landmark_id: Its name.
        public_key: Raw Ed25519, 32 bytes.
        operator: Who runs it.
        hoster: Whose building or cloud it stands in.
        position: Where it says it stands.
        uncertainty_km: How far the truth may be from there.
        virtual_machine: It can be paused, so it never counts for a site proof (docs/protocol.md R5).
        country: The country that it says it stands in.
        revision: Revision of this record.
        revised_at: Since when this revision stands, aware.
        valid_from: Start of validity, aware; None: from registration.
        valid_until: End of validity, aware; None: open.
        ranged_by: Domains that have ranged it, each with the latest time.
    """

    landmark_id: LandmarkId
    public_key: bytes
    operator: str
    hoster: str
    position: Position
    uncertainty_km: float
    virtual_machine: bool
    country: CountryCode
    revision: int
    revised_at: datetime
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    ranged_by: tuple[tuple[Domain, datetime], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a record that cannot be used."""
        if len(self.public_key) != 32:
            raise UsageError(f"landmark {self.landmark_id}: an Ed25519 key has 32 bytes, not {len(self.public_key)}")
        if not 0 <= self.uncertainty_km < 1000:
            raise UsageError(f"landmark {self.landmark_id}: an uncertainty of {self.uncertainty_km} km")

    @property
    def key_id(self) -> LandmarkKeyId:
        """SHA-256 of the public key (docs/protocol.md R1)."""
        return LandmarkKeyId(hashlib.sha256(self.public_key).digest())

    def is_valid(self, now: datetime) -> bool:
        """Whether the record covers `now`."""
        return (self.valid_from is None or self.valid_from <= now) and (
            self.valid_until is None or now < self.valid_until
        )


@dataclass(frozen=True)
class LandmarkRegistry:
    """All registered landmarks at one moment."""

    landmarks: tuple[Landmark, ...]

    def __post_init__(self) -> None:
        """Refuse two landmarks with one name or one key."""
        for what, values in (
            ("name", [r.landmark_id for r in self.landmarks]),
            ("key", [r.key_id for r in self.landmarks]),
        ):
            if len(set(values)) != len(values):
                raise UsageError(f"two landmarks have one {what}")

    @classmethod
    def build(cls, landmarks: Iterable[Landmark]) -> Self:
        """Make a registry, in the order of names."""
        return cls(tuple(sorted(landmarks, key=lambda r: r.landmark_id)))

    @cached_property
    def by_key(self) -> Mapping[LandmarkKeyId, Landmark]:
        """Landmarks by key id."""
        return MappingProxyType({r.key_id: r for r in self.landmarks})

    @cached_property
    def _domain_of_party(self) -> Mapping[str, Domain]:
        parent: dict[str, str] = {}

        def root(name: str) -> str:
            while parent.setdefault(name, name) != name:
                name = parent[name]
            return name

        for landmark in self.landmarks:
            # An operator and a hoster of one name are the same party.
            a, b = root(_party(landmark.operator)), root(_party(landmark.hoster))
            parent[max(a, b)] = min(a, b)
        return MappingProxyType({name: Domain(root(name)) for name in tuple(parent)})

    @cached_property
    def _domains(self) -> Mapping[LandmarkId, Domain]:
        return MappingProxyType({r.landmark_id: self.domain_of_party(r.operator) for r in self.landmarks})

    def domain_of(self, landmark_id: LandmarkId) -> Domain:
        """Return the failure domain of a landmark: landmarks of one domain can be wrong together."""
        return self._domains[landmark_id]

    def domain_of_party(self, name: str) -> Domain:
        """Return the failure domain of an operator or hoster; a party that is not registered is a domain by itself."""
        return self._domain_of_party.get(_party(name), Domain(_party(name)))

    def belongs_to(self, landmark: Landmark, party: str) -> bool:
        """Whether a party, such as the licensee, runs or houses the landmark or one of its domain.

        Then it cannot speak for or against that party (docs/protocol.md PL3).
        """
        domain = self._domains[landmark.landmark_id]
        name = _party(party)
        return any(
            name in {_party(r.operator), _party(r.hoster)}
            for r in self.landmarks
            if self._domains[r.landmark_id] == domain
        )


def _party(name: str) -> str:
    return " ".join(name.casefold().split())

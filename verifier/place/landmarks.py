"""Landmarks, their failure domains, and when a landmark counts (docs/protocol.md PL2, PL3).

Landmarks of one operator or one hoster can be wrong together; domains merge transitively over the whole registry. How
landmarks audit each other is not here.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Self

from verifier.errors import UsageError
from verifier.place.geodesy import Position, Triple
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
        distrusted: Why the audit distrusts it (docs/protocol.md LA5); empty when it does not.
        signed: Its operator signed this record (docs/protocol.md LA8).
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
    distrusted: str = ""
    signed: bool = False

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
    """All registered landmarks at one moment.

    Attributes:
        landmarks: In the order of names.
        parties: Failure domains of parties, by their names as names are compared, where landmarks are left out that
            joined them; None: they follow from the landmarks.
    """

    landmarks: tuple[Landmark, ...]
    parties: Mapping[str, Domain] | None = field(default=None, hash=False)

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
    def kept(self) -> dict[tuple[str, int], object]:
        """What others work out about these landmarks and keep for as long as the registry lives; changes no result."""
        return {}

    @cached_property
    def by_key(self) -> Mapping[LandmarkKeyId, Landmark]:
        """Landmarks by key id."""
        return MappingProxyType({r.key_id: r for r in self.landmarks})

    @cached_property
    def _domain_of_party(self) -> Mapping[str, Domain]:
        if self.parties is not None:
            return self.parties
        parent: dict[str, str] = {}

        def root(name: str) -> str:
            while parent.setdefault(name, name) != name:
                name = parent[name]
            return name

        for landmark in self.landmarks:
            # An operator and a hoster of one name are the same party.
            a, b = root(party_name(landmark.operator)), root(party_name(landmark.hoster))
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
        return self._domain_of_party.get(party_name(name), Domain(party_name(name)))

    def registered(self, names: Iterable[str]) -> dict[str, Domain]:
        """Return the failure domains of those of these parties that are registered, by names as they are compared."""
        known = self._domain_of_party
        return {name: known[name] for name in map(party_name, names) if name in known}

    def belongs_to(self, landmark: Landmark, party: str) -> bool:
        """Whether a party, such as the licensee, runs or houses the landmark or one of its domain.

        Then it cannot speak for or against that party (docs/protocol.md PL3).
        """
        return self._domain_of_party.get(party_name(party)) == self._domains[landmark.landmark_id]

    def witnesses(self, landmark: Landmark, now: datetime, within: timedelta) -> Iterator[Domain]:
        """Yield the other domains that have ranged a landmark within this time before `now`, each once."""
        return (domain for domain, _, _ in self.ranged_lately(landmark, now, within))

    def ranged_lately(
        self, landmark: Landmark, now: datetime, within: timedelta
    ) -> Iterator[tuple[Domain, Domain, datetime]]:
        """Yield these domains with the name and the time that `ranged_by` has of each."""
        seen = {self._domains[landmark.landmark_id]}
        for name, when in landmark.ranged_by:
            if timedelta(0) <= now - when <= within and (domain := self.domain_of_party(name)) not in seen:
                seen.add(domain)
                yield domain, name, when

    def center_of(self, landmark: Landmark) -> Triple:
        """Return the unit vector of a registered landmark's position."""
        return self._centers[landmark.landmark_id]

    @cached_property
    def _centers(self) -> Mapping[LandmarkId, Triple]:
        return MappingProxyType({r.landmark_id: r.position.triple() for r in self.landmarks})


@lru_cache(maxsize=65_536)
def party_name(name: str) -> str:
    """Return a party's name as names are compared: without case and spaces (docs/protocol.md PL2)."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())

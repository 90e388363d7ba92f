"""What a verifier is made of: files and the operator's numbers, written down so that the same one can be made again."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from verifier.errors import BasisError, UsageError
from verifier.evidence.chain import TrustRoots
from verifier.evidence.measurements import ReferenceValues
from verifier.place.groups import parse_groups
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas
from verifier.verifier import Verifier

BORDERS: Final = "borders"
COUNTRY_GROUPS: Final = "country_groups"
REFERENCE_VALUES: Final = "reference_values"
ROOT: Final = "root"
REGION: Final = "region"
"""Of a long one that a license names (basis.py); the others make a verifier."""


class Material(NamedTuple):
    """A file that verdicts are made with.

    Attributes:
        kind: One of those above.
        name: What it is called, for people; of borders and groups their version, of a region nothing.
        data: As it is read.
    """

    kind: str
    name: str
    data: bytes

    @property
    def sha256(self) -> bytes:
        """It names the file wherever a verdict is made again."""
        return hashlib.sha256(self.data).digest()


@dataclass(frozen=True, slots=True)
class Setting:
    """What a verifier is made of.

    Attributes:
        materials: Kind and SHA-256 of each file, in the order in which they are read.
        borders_version: As in `PlacePolicy`; so are the other fields.
        prohibited_version: Of the country groups.
        tolerated_domains: f.
        border_margin_km: Kilometers.
        audited_within: None: not asked for.
        standing_for: Time.
        operator: Who runs the verifier.
    """

    materials: tuple[tuple[str, bytes], ...]
    borders_version: str
    prohibited_version: str
    tolerated_domains: int
    border_margin_km: float
    audited_within: timedelta | None
    standing_for: timedelta
    operator: str

    @classmethod
    def of(cls, policy: PlacePolicy, materials: Iterable[Material]) -> "Setting":
        """Return the setting of a policy that was made of these files, beside roots and reference values."""
        return cls(
            tuple((each.kind, each.sha256) for each in materials),
            policy.atlas.version,
            policy.prohibited_version,
            policy.tolerated_domains,
            policy.border_margin_km,
            policy.audited_within,
            policy.standing_for,
            policy.operator,
        )

    def verifier(self, files: Mapping[bytes, bytes]) -> Verifier:
        """Make the same verifier again.

        Args:
            files: By their SHA-256, which is checked.

        Raises:
            BasisError: A file is missing or another one, or does not parse; or the numbers make no policy.
        """
        found: dict[str, list[bytes]] = {}
        for kind, digest in self.materials:
            data = files.get(digest)
            if data is None or hashlib.sha256(data).digest() != digest:
                raise BasisError(f"the file of kind {kind} with SHA-256 {digest.hex()} is missing")
            found.setdefault(kind, []).append(data)
        for kind in (BORDERS, COUNTRY_GROUPS):
            if len(found.get(kind, ())) != 1:
                raise BasisError(f"a verifier has one file of kind {kind}, not {len(found.get(kind, ()))}")
        try:
            groups = parse_groups(found[COUNTRY_GROUPS][0], self.prohibited_version)
            policy = PlacePolicy(
                atlas=Atlas.parse(found[BORDERS][0], self.borders_version, groups.members),
                prohibited=groups.prohibited(),
                prohibited_version=self.prohibited_version,
                tolerated_domains=self.tolerated_domains,
                border_margin_km=self.border_margin_km,
                audited_within=self.audited_within,
                standing_for=self.standing_for,
                operator=self.operator,
            )
            roots = TrustRoots.parse(found.get(ROOT, ()))
            references = ReferenceValues.parse(found.get(REFERENCE_VALUES, ()))
        except UsageError as error:
            raise BasisError(f"the verifier cannot be made again: {error}") from error
        return Verifier(roots, references, policy)

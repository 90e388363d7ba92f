"""Good bases for the fuzz door, without a device: what is common, and what there is of one device, a line each."""

from dataclasses import replace
from datetime import timedelta

from tests.store.store_world import HOUR, SITE, START, device, license_of, pdi, signed
from tests.vectors.builder import Session
from tests.verifier.helpers_basis import GROUPS
from tests.verifier.helpers_place import landmark as landmark_record
from verifier import basis
from verifier.continuity import DeviceState
from verifier.evidence.attestation import IssuedChallenge, UnverifiedAttestation
from verifier.evidence.spdm import Counters
from verifier.license import Adoption, BoardSwap, Deployment
from verifier.place.geodesy import Position
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.region_json import region_to_json
from verifier.place.regions import AnyOf, Complement, Group, Polygon
from verifier.place.travel import SeenPlace
from verifier.setting import COUNTRY_GROUPS, REGION, Material, Setting
from verifier.units import Challenge, Domain
from verifier.verdict import Verdict
from verifier.verifier import Inputs

DEVICE = pdi(1)
_SETTING = Setting(
    materials=((COUNTRY_GROUPS, Material(COUNTRY_GROUPS, "lists", GROUPS).sha256),),
    borders_version="squares",
    prohibited_version="lists",
    tolerated_domains=1,
    border_margin_km=5.0,
    audited_within=timedelta(hours=24),
    standing_for=timedelta(days=30),
    operator="operator a",
)
_STATE = DeviceState(
    signed(Counters(3, 70)), frozenset({pdi(9)}), unseated=True, place=SeenPlace(START, START, ((SITE.center, 40.25),))
)
_YARD = Polygon("Yard", (tuple((k / 100, k % 2 / 10) for k in range(120)),))


_REGION = Material(REGION, "", region_to_json(_YARD).encode())
FILES = {_REGION.sha256: _REGION.data}


def bases(claims: bytes) -> list[bytes]:
    """A deployed device with a past, and one that came under a license by its board, in a region drawn finely."""
    challenge = Challenge(Session().challenge)
    attestation = UnverifiedAttestation("host-1", challenge, claims, ())
    witness = (Domain("operator b"), START)
    records = [
        replace(landmark_record(name, Position(10.0, -10.5)), ranged_by=(witness,)) for name in ("landmark", "other")
    ]
    adoption = Adoption(pdi(9), license_of(), _YARD, 2)
    region = AnyOf((SITE, Group("A:5"), Complement(Group("D:5"))))
    deployed = Deployment(DEVICE, license_of(), region, BoardSwap(frozenset({pdi(9)}), START + HOUR))
    samples: list[bytes] = []
    for shown, deployments in ((device(1), {DEVICE: deployed}), (replace(device(1), adopted=adoption), {})):
        verdict = Verdict("host-1", challenge, START, None, (), (shown,))
        inputs = Inputs(
            now=START,
            challenge=IssuedChallenge(challenge, "host-1", START),
            reporter_licensee="Example Cloud",
            chains={},
            landmarks=LandmarkRegistry.build(records),
            deployments=deployments,
            last={DEVICE: _STATE} if deployments else {},
            adoptions={adoption.selector: adoption},
        )
        written = basis.write_basis(verdict, inputs, attestation, _SETTING, 7)
        samples.append(f"{written.common}\n{written.devices[DEVICE]}".encode())
    return samples

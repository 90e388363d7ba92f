"""The basis of a verdict: what `Verifier.verify` was given besides the evidence and its chains, as JSON text.

Whoever has it, the evidence and the files makes the same verdict again. It holds what decides and no more: of the
registry the landmarks that the receipts name, and of a landmark's witnesses as many as are counted. Times are integer
microseconds since 1970 UTC, durations integer microseconds, enumerations their names, bytes hex.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from verifier import basis_values as values
from verifier import cbor, cose
from verifier.continuity import DeviceState
from verifier.errors import BasisError
from verifier.evidence.attestation import IssuedChallenge, UnverifiedAttestation
from verifier.evidence.claims import parse_claims
from verifier.license import Adoption, Deployment
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.region_json import region_of_plain, region_to_json
from verifier.place.regions import Region
from verifier.setting import REGION, Material, Setting
from verifier.units import ChainId, Challenge, Domain, LandmarkKeyId, Pdi
from verifier.verdict import DeviceVerdict, Verdict
from verifier.verifier import Inputs

VERSION: Final = 1

LONG_REGION: Final = 1_024
"""Characters. A longer region, as one that is drawn finely, is kept once for all verdicts and named by its hash."""


@dataclass(frozen=True, slots=True)
class Basis:
    """What one verification was given, as JSON text.

    Attributes:
        common: What is common to the devices of the attestation.
        devices: Of each authentic device its deployment and last accepted state.
        regions: Long ones, which `devices` names by their SHA-256.
    """

    common: str = "{}"
    devices: Mapping[Pdi, str] = field(default_factory=dict)
    regions: tuple[Material, ...] = ()


@dataclass(frozen=True, slots=True)
class Given:
    """What one verification was given, as values.

    Attributes:
        setting: What the verifier was made of.
        issued: The challenge.
        now: Arrival.
        reporter_licensee: Licensee of the agent that sent it.
        records: Number of the records that were in force; None: not said.
        landmarks: Those that the receipts name.
        deployments: Of the devices whose basis was there.
        last: Their last accepted states.
        adoptions: By which some of them came under a license.
    """

    setting: Setting
    issued: IssuedChallenge
    now: datetime
    reporter_licensee: str
    records: int | None
    landmarks: LandmarkRegistry
    deployments: Mapping[Pdi, Deployment]
    last: Mapping[Pdi, DeviceState]
    adoptions: Mapping[bytes, Adoption]

    def inputs(self, chains: Mapping[ChainId, Sequence[bytes]]) -> Inputs:
        """Return what a verifier takes, with these chains."""
        return Inputs(
            now=self.now,
            challenge=self.issued,
            reporter_licensee=self.reporter_licensee,
            chains=chains,
            landmarks=self.landmarks,
            deployments=self.deployments,
            last=self.last,
            adoptions=self.adoptions,
        )


def write_basis(
    verdict: Verdict,
    inputs: Inputs,
    attestation: UnverifiedAttestation,
    setting: Setting,
    records: int | None,
) -> Basis:
    """Write down what a verdict was made with.

    Args:
        verdict: The verdict.
        inputs: What it was made from.
        attestation: Its evidence.
        setting: What the verifier was made of.
        records: Number of the records that were in force (docs/protocol.md RC6).
    """
    used = {device.pdi: _deployment_of(device, inputs) for device in verdict.devices}
    deployed = [deployment for deployment in used.values() if deployment is not None]
    landmarks, parties = _landmarks(verdict, inputs, attestation, setting, deployed)
    common = values.text_of(
        {
            "version": VERSION,
            "records": records,
            "challenge": inputs.challenge.challenge.hex(),
            "host_id": inputs.challenge.host_id,
            "issued_at": values.micros(inputs.challenge.issued_at),
            "life_us": values.duration_us(inputs.challenge.life),
            "received_at": values.micros(inputs.now),
            "reporter_licensee": inputs.reporter_licensee,
            "landmarks": landmarks,
            "parties": parties,
        }
    )
    regions = {_region_text(deployment.region) for deployment in deployed}
    return Basis(
        f'{common[:-1]},"setting":{_setting_text(setting)}}}',
        {device.pdi: _device_text(device, used[device.pdi], inputs) for device in verdict.devices},
        tuple(Material(REGION, "", region.encode()) for region in sorted(regions) if _is_long(region)),
    )


def read_basis(common: str, devices: Mapping[Pdi, str], files: Mapping[bytes, bytes] = MappingProxyType({})) -> Given:
    """Read what `write_basis` wrote, of all devices of the attestation or of some.

    Args:
        common: What is common to them.
        devices: What there is of each.
        files: By their SHA-256, which is checked; those regions must be there that the devices name.

    Raises:
        BasisError: It was not written so, or a region is missing.
    """
    try:
        plain = _loads(common)
        if plain["version"] != VERSION:
            raise BasisError(f"a basis of version {plain['version']!r}, not {VERSION}")
        issued = IssuedChallenge(
            Challenge(values.octets(plain["challenge"], values.HASH_BYTES)),
            values.text(plain["host_id"]),
            values.moment(plain["issued_at"]),
            values.duration(plain["life_us"]),
        )
        read = {pdi: _loads(text) for pdi, text in devices.items()}
        deployments: dict[Pdi, Deployment] = {}
        adoptions: dict[bytes, Adoption] = {}
        for pdi, each in read.items():
            _read_deployment(pdi, each["deployment"], files, deployments, adoptions)
        return Given(
            setting=values.setting_of(plain["setting"]),
            issued=issued,
            now=values.moment(plain["received_at"]),
            reporter_licensee=values.text(plain["reporter_licensee"]),
            records=None if plain["records"] is None else values.whole(plain["records"]),
            landmarks=_registry(plain),
            deployments=deployments,
            last={pdi: values.state_of(each["last"]) for pdi, each in read.items() if each["last"] is not None},
            adoptions=adoptions,
        )
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, BasisError):
            raise
        raise BasisError(f"the basis of a verdict does not parse: {error!r}") from error


def _deployment_of(device: DeviceVerdict, inputs: Inputs) -> Deployment | None:
    if device.adopted is not None:
        return Deployment(device.pdi, device.adopted.license, device.adopted.region)
    return inputs.deployments.get(device.pdi)


def _landmarks(
    verdict: Verdict,
    inputs: Inputs,
    attestation: UnverifiedAttestation,
    setting: Setting,
    deployed: Iterable[Deployment],
) -> tuple[list[values.Plain], dict[str, Domain]]:
    """Write the landmarks that the receipts name, and the failure domains of all parties that they are held against."""
    registry, tolerated = inputs.landmarks, setting.tolerated_domains
    parties = {setting.operator}
    for deployment in deployed:
        parties.add(deployment.license.licensee)
        tolerated = max(tolerated, deployment.license.tolerated_domains or 0)
    written: list[values.Plain] = []
    for landmark in _named(verdict, registry, attestation):
        lately: list[tuple[Domain, datetime]] = []
        if setting.audited_within is not None:
            # f + 1 of them make it count, and one that is not the operator lets it accuse (docs/protocol.md PL3).
            found = registry.ranged_lately(landmark, inputs.now, setting.audited_within)
            lately = [(name, when) for _, name, when in islice(found, tolerated + 2)]
        written.append(values.landmark_plain(landmark, lately))
        parties.update((landmark.operator, *(name for name, _ in lately)))
    return written, registry.registered(sorted(parties))


def _named(verdict: Verdict, registry: LandmarkRegistry, attestation: UnverifiedAttestation) -> list[Landmark]:
    """Return the registered landmarks whose receipts the claims offer, in the order of names."""
    if verdict.rejection is not None:
        return []
    void = {dropped.landmark for device in verdict.devices for dropped in device.void_ranges}
    keys: set[LandmarkKeyId] = set()
    for stated in parse_claims(attestation.claims).ranges:
        keys.add(stated.landmark)
        # A receipt of another landmark than the claims say makes the range void.
        if stated.landmark in void and (signer := _signer(stated.receipt)) is not None:
            keys.add(signer)
    return sorted((registry.by_key[key] for key in keys if key in registry.by_key), key=lambda r: r.landmark_id)


def _signer(receipt: bytes) -> LandmarkKeyId | None:
    try:
        return LandmarkKeyId(cose.parse_sign1(receipt).kid)
    except cbor.NotDeterministicError:
        return None


def _device_text(device: DeviceVerdict, deployment: Deployment | None, inputs: Inputs) -> str:
    last = inputs.last.get(device.pdi)
    state = "null" if last is None else values.text_of(values.state_plain(last))
    if deployment is None:
        return f'{{"deployment":null,"last":{state}}}'
    adopted = device.adopted
    by = None if adopted is None else {"selector": adopted.selector.hex(), "left": adopted.left}
    region = _region_text(deployment.region)
    if _is_long(region):
        region = f'{{"sha256":"{hashlib.sha256(region.encode()).hexdigest()}"}}'
    rest = values.text_of({"swap": values.swap_plain(deployment.swap), "adopted": by})
    held = values.license_text(deployment.license)
    return f'{{"deployment":{{"license":{held},"region":{region},{rest[1:]},"last":{state}}}'


def _read_deployment(
    pdi: Pdi,
    plain: values.Plain | None,
    files: Mapping[bytes, bytes],
    deployments: dict[Pdi, Deployment],
    adoptions: dict[bytes, Adoption],
) -> None:
    if plain is None:
        return
    held = values.license_of(plain["license"])
    written = plain["region"]
    if "sha256" in written:
        written = _loads(_file(files, values.octets(written["sha256"], values.HASH_BYTES)).decode())
    region = region_of_plain(written)
    by = plain["adopted"]
    if by is None:
        deployments[pdi] = Deployment(pdi, held, region, values.swap_of(plain["swap"]))
        return
    selector = bytes.fromhex(values.text(by["selector"]))
    adoptions[selector] = Adoption(selector, held, region, values.whole(by["left"]))


def _registry(plain: values.Plain) -> LandmarkRegistry:
    parties = {name: Domain(values.text(domain)) for name, domain in plain["parties"].items()}
    landmarks = tuple(map(values.landmark_of, plain["landmarks"]))
    return LandmarkRegistry(landmarks, parties)


def _file(files: Mapping[bytes, bytes], digest: bytes) -> bytes:
    data = files.get(digest)
    if data is None or hashlib.sha256(data).digest() != digest:
        raise BasisError(f"the region with SHA-256 {digest.hex()} is missing")
    return data


@lru_cache(maxsize=256)
def _region_text(region: Region) -> str:
    return region_to_json(region)


@lru_cache(maxsize=16)
def _setting_text(setting: Setting) -> str:
    return values.text_of(values.setting_plain(setting))


def _is_long(region: str) -> bool:
    return len(region) > LONG_REGION


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise BasisError(f"{name} is no number of JSON")

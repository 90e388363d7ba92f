"""Reads the claims-set of an EAR in either spelling of its keys (docs/protocol.md EA4).

Reading is total: any JSON value gives a `Result` or a `ResultError`. Members that are not known are passed over, as
draft-ietf-rats-ear-03 §4 asks. Whether a token is signed, and by whom, is verifier/jws.py's to say; whether it has
expired is the caller's, who has the time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import Final, TypeVar

from verifier.errors import Reason, UsageError
from verifier.evidence.chain import DeviceKind
from verifier.jws import JwsError, decode_base64url, read_object
from verifier.license import Presence
from verifier.place.answers import Assurance, PlaceAnswer
from verifier.place.discs import Grade
from verifier.result import EXTENSION, PROFILE, Tier, tier_of, worst_of
from verifier.verdict import Severity, Standing

PROFILES: Final = frozenset({PROFILE, "tag:github.com,2023:veraison/ear"})
"""The draft's, and that of the implementations of earlier drafts."""

_MAX_TIME: Final = 253_402_300_799
"""The last second that a datetime holds."""
_PDI_BYTES: Final = 8

Name = TypeVar("Name", bound=Enum)


class ResultError(UsageError):
    """A claims-set is no EAR, or contradicts itself; the message says why."""


@dataclass(frozen=True, slots=True)
class PlaceResult:
    """What ranges showed about place. Fields as in `verifier.place.fix.Fix`.

    Attributes:
        in_licensed_region: Answer to the first question of place.
        outside_prohibited: Answer to the second.
        tolerated_domains: f.
        assurance: How ranges were made.
        demonstration: The rules for landmarks were relaxed: not for accusation (docs/protocol.md PL3).
        borders: Version of the border data.
        lists: Version of the list of prohibited destinations.
    """

    in_licensed_region: PlaceAnswer
    outside_prohibited: PlaceAnswer
    tolerated_domains: int
    assurance: Assurance
    demonstration: bool
    borders: str
    lists: str


@dataclass(frozen=True, slots=True)
class LicenseResult:
    """Under which license a device was appraised, and whether its presence is proven.

    Attributes:
        number: The authority's number.
        revision: Revision of the record in force.
        question: The question that the license counts as presence.
        proven: Its answer is PROVEN.
        grade: At which grade the question has its answer; None: it has none.
    """

    number: str
    revision: int
    question: Presence
    proven: bool
    grade: Grade | None


@dataclass(frozen=True, slots=True)
class DeviceResult:
    """What stands under `trigpoint.dev` (docs/protocol.md EA3).

    Attributes:
        kind: GPU or switch.
        standing: None for a switch.
        findings: By reason.
        license: None without a deployment.
        place: None without a range that counts.
    """

    kind: DeviceKind
    standing: Standing | None
    findings: Mapping[Reason, Severity]
    license: LicenseResult | None
    place: PlaceResult | None


@dataclass(frozen=True, slots=True)
class Appraisal:
    """One submodule.

    Attributes:
        status: Its tier.
        vector: Trustworthiness claims by AR4SI's names; empty when it has none.
        policy_ids: In the order in which they were applied.
        device: What this service adds; None in the EAR of another.
    """

    status: Tier
    vector: Mapping[str, int]
    policy_ids: tuple[str, ...]
    device: DeviceResult | None


@dataclass(frozen=True, slots=True)
class Result:
    """An EAR.

    Attributes:
        profile: Its EAT profile.
        issued_at: When it was made, aware.
        expires_at: From when on it must not be accepted, aware; None: it does not say.
        issuer: Empty: it names none.
        developer: Who is responsible for the verifier's build.
        build: The verifier's build.
        nonce: What it answers, here the challenge; empty: it names none.
        submods: Appraisals by label, here a PDI in hex.
    """

    profile: str
    issued_at: datetime
    expires_at: datetime | None
    issuer: str
    developer: str
    build: str
    nonce: bytes
    submods: Mapping[str, Appraisal]


def read_result(payload: bytes) -> Result:
    """Read a token's payload; raises `ResultError`."""
    try:
        return parse_result(read_object(payload))
    except JwsError as error:
        raise ResultError(str(error)) from error


def parse_result(claims: Mapping[str, object]) -> Result:
    """Read a claims-set, as JSON has it; raises `ResultError`."""
    profile = _text(claims, "eat_profile")
    if profile not in PROFILES:
        raise ResultError(f"eat_profile {profile!r} is not known")
    verifier = _map(_one_of(claims, "ear_verifier_id", "ear.verifier-id"), "ear_verifier_id")
    listed = _map(claims.get("submods"), "submods")
    if not listed:
        raise ResultError("submods is empty")  # draft-ietf-rats-ear-03 §3: at least one
    submods = {label: _appraisal(label, _map(value, label)) for label, value in listed.items()}
    overall = _one_of(claims, "ear_status", "ear.status")
    if overall is not None:
        _no_better(_tier(overall), (each.status for each in submods.values()), "the overall ear_status")
    return Result(
        profile=profile,
        issued_at=_time(claims.get("iat"), "iat"),
        expires_at=None if claims.get("exp") is None else _time(claims.get("exp"), "exp"),
        issuer=_text(claims, "iss") if "iss" in claims else "",
        developer=_text(verifier, "developer"),
        build=_text(verifier, "build"),
        nonce=_nonce(claims),
        submods=MappingProxyType(submods),
    )


def _appraisal(label: str, claims: Mapping[str, object]) -> Appraisal:
    status = _tier(_one_of(claims, "ear_status", "ear.status"))
    stated = _one_of(claims, "ear_trustworthiness_vector", "ear.trustworthiness-vector")
    vector = {} if stated is None else _vector(_map(stated, "ear_trustworthiness_vector"))
    # AR4SI §2.3.2: a claim of the tier none is as good as no claim.
    made = (tier for tier in map(tier_of, vector.values()) if tier is not Tier.NONE)
    _no_better(status, made, f"the ear_status of {label}")
    told = claims.get(EXTENSION)
    return Appraisal(
        status=status,
        vector=MappingProxyType(vector),
        policy_ids=_policy_ids(claims),
        device=None if told is None else _device(label, _map(told, EXTENSION)),
    )


def _no_better(status: Tier, tiers: Iterable[Tier], what: str) -> None:
    """Refuse a status of more trust than the worst of what it sums up (draft-ietf-rats-ear-03 §3.1)."""
    worst = worst_of(tiers)
    if worst_of((status, worst)) is not status:
        raise ResultError(f"{what} is {status.value}, better than the {worst.value} that it sums up")


def _device(label: str, told: Mapping[str, object]) -> DeviceResult:
    try:
        pdi = bytes.fromhex(label)
    except ValueError:
        pdi = b""
    if len(pdi) != _PDI_BYTES or pdi.hex() != label:  # docs/protocol.md EA2
        raise ResultError(f"the submodule {label!r} is not named by a PDI, 16 hex digits")
    kind = _member(DeviceKind, told, "kind")
    standing = _member(Standing, told, "standing") if "standing" in told else None
    if (standing is None) is not (kind is DeviceKind.SWITCH):
        raise ResultError(f"{label}: a GPU has a standing and a switch has none")
    found = _map(told.get("findings"), "findings")
    held = told.get("license")
    place = told.get("place")
    return DeviceResult(
        kind=kind,
        standing=standing,
        findings=MappingProxyType(
            {_named(Reason, reason, "findings"): _member(Severity, found, reason) for reason in found}
        ),
        license=None if held is None else _license(_map(held, "license"), _map(told.get("presence"), "presence")),
        place=None if place is None else _place(_map(place, "place")),
    )


def _license(held: Mapping[str, object], presence: Mapping[str, object]) -> LicenseResult:
    return LicenseResult(
        number=_text(held, "number"),
        revision=_count(held, "revision"),
        question=_member(Presence, presence, "question"),
        proven=_flag(presence, "proven"),
        grade=_member(Grade, presence, "grade") if "grade" in presence else None,
    )


def _place(place: Mapping[str, object]) -> PlaceResult:
    return PlaceResult(
        in_licensed_region=_member(PlaceAnswer, place, "in_licensed_region"),
        outside_prohibited=_member(PlaceAnswer, place, "outside_prohibited"),
        tolerated_domains=_count(place, "tolerated_domains"),
        assurance=_member(Assurance, place, "assurance"),
        demonstration=_flag(place, "demonstration"),
        borders=_text(place, "borders"),
        lists=_text(place, "lists"),
    )


def _one_of(claims: Mapping[str, object], *spellings: str) -> object:
    """Return the value of a key by whichever spelling stands; None when none does (docs/protocol.md EA4)."""
    there = [spelling for spelling in spellings if spelling in claims]
    if len(there) > 1:
        raise ResultError(f"{' and '.join(there)} are one claim, and it stands in both spellings")
    return claims[there[0]] if there else None


def _policy_ids(claims: Mapping[str, object]) -> tuple[str, ...]:
    stated = _one_of(
        claims, "ear_appraisal_policy_ids", "ear.appraisal-policy-ids", "ear.appraisal-policy-id"
    )  # the last is of earlier drafts, one text
    ids = [stated] if isinstance(stated, str) else stated
    if ids is None:
        return ()
    if not isinstance(ids, list) or not ids:
        raise ResultError("ear_appraisal_policy_ids is a list that is not empty")
    return tuple(_a_text(each, "ear_appraisal_policy_ids") for each in ids)


def _vector(stated: Mapping[str, object]) -> dict[str, int]:
    if not stated:
        raise ResultError("a trustworthiness vector that is not left out has at least one claim")
    vector: dict[str, int] = {}
    for name, value in stated.items():
        if type(value) is not int or not -128 <= value <= 127:
            raise ResultError(f"the trustworthiness claim {name} is an integer from -128 to 127")
        vector[name] = value
    return vector


def _tier(value: object) -> Tier:
    try:
        return Tier(value)
    except ValueError as error:
        raise ResultError(f"{value!r} is no trustworthiness tier") from error


def _nonce(claims: Mapping[str, object]) -> bytes:
    if "eat_nonce" not in claims:
        return b""
    try:
        nonce = decode_base64url(_text(claims, "eat_nonce"))
    except JwsError as error:
        raise ResultError(f"eat_nonce: {error}") from error
    if not 8 <= len(nonce) <= 64:  # RFC 9711 §4.1
        raise ResultError(f"eat_nonce has {len(nonce)} bytes; 8 to 64")
    return nonce


def _time(value: object, name: str) -> datetime:
    if type(value) is not int or not 0 <= value <= _MAX_TIME:  # RFC 9711 §4.3.1: no floating point
        raise ResultError(f"{name} is a number of seconds since 1970, an integer")
    return datetime.fromtimestamp(value, UTC)


def _map(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ResultError(f"{name} is an object")
    return value


def _text(claims: Mapping[str, object], name: str) -> str:
    return _a_text(claims.get(name), name)


def _a_text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ResultError(f"{name} is a text")
    return value


def _count(claims: Mapping[str, object], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or value < 0:
        raise ResultError(f"{name} is an integer that is not negative")
    return value


def _flag(claims: Mapping[str, object], name: str) -> bool:
    value = claims.get(name)
    if not isinstance(value, bool):
        raise ResultError(f"{name} is true or false")
    return value


def _member(names: type[Name], claims: Mapping[str, object], name: str) -> Name:
    return _named(names, _text(claims, name), name)


def _named(names: type[Name], value: str, name: str) -> Name:
    try:
        return names[value]
    except KeyError as error:
        raise ResultError(f"{name}: {value!r} is not known to this release") from error

"""Attestation results: what one verdict says, as the claims-set of an EAR, and back (docs/protocol.md §16).

The claims are those of draft-ietf-rats-ear-03 §3, the vector that of draft-ietf-rats-ar4si-09 §2.3.4. The signature is
elsewhere: server/intake/results.py makes it, verifier/jws.py checks it.
"""

import base64
import enum
import math
from collections.abc import Iterable
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from verifier.appraise import presence_answer
from verifier.errors import Reason, UsageError
from verifier.evidence.chain import DeviceKind
from verifier.license import License, Presence
from verifier.place.answers import PlaceAnswer
from verifier.place.discs import Grade
from verifier.place.fix import Fix
from verifier.verdict import DeviceVerdict, Severity, Verdict
from verifier.verifier import Inputs

Claims = dict[str, object]

PROFILE: Final = "tag:ietf.org,2026:rats/ear#03"
POLICY_ID: Final = "tag:trigpoint.dev,2026:appraisal#1"
"""The rules of docs/protocol.md §13, with every number and list that a submodule names under `trigpoint.dev`."""

EXTENSION: Final = "trigpoint.dev"
UNLICENSED_LIFE: Final = timedelta(hours=1)


@enum.unique
class Tier(enum.Enum):
    """Trustworthiness tiers (AR4SI §3.2), the best first."""

    AFFIRMING = "affirming"
    NONE = "none"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"


_ORDER: Final = tuple(Tier)

GENUINE_HARDWARE: Final = 2
CONTRAINDICATED_HARDWARE: Final = 96
APPROVED_BOOT: Final = 3
UNRECOGNIZED_EXECUTABLES: Final = 33
CONTRAINDICATED_EXECUTABLES: Final = 96
RECOGNIZED_INSTANCE: Final = 2
UNRECOGNIZED_INSTANCE: Final = 97
DOUBTED_INSTANCE: Final = -33
"""Not AR4SI's own (§2.3.2 leaves -33 to -96 for it): recognized, and something odd says that its key may have another
holder."""

_TIER_OF_SEVERITY: Final = MappingProxyType(
    {Severity.NOTICE: Tier.AFFIRMING, Severity.WARNING: Tier.WARNING, Severity.VIOLATION: Tier.CONTRAINDICATED}
)
_OFF_ITS_BOARD: Final = frozenset({Reason.BOARD_CHANGED, Reason.BOARD_BROKEN})
_ODD: Final = frozenset({Reason.COUNTER_ROLLBACK, Reason.IDENTITY_CLONED, Reason.IMPOSSIBLE_TRAVEL})


def tier_of(value: int) -> Tier:
    """Return the tier of a trustworthiness claim (AR4SI §2.3.2); raises `UsageError` when it is no signed byte."""
    if not -128 <= value <= 127:
        raise UsageError(f"{value} is no trustworthiness claim: -128 to 127")
    if -1 <= value <= 1:
        return Tier.NONE
    if -32 <= value <= 31:
        return Tier.AFFIRMING
    if -96 <= value <= 95:
        return Tier.WARNING
    return Tier.CONTRAINDICATED


def worst_of(tiers: Iterable[Tier]) -> Tier:
    """Return the tier of the least trust; AFFIRMING when there is none."""
    return max(tiers, key=_ORDER.index, default=Tier.AFFIRMING)


def result_claims(verdict: Verdict, inputs: Inputs, *, issuer: str, developer: str, build: str) -> Claims | None:
    """Return the claims-set of a verdict; None when no device is authentic, since an EAR tells of at least one (EA1).

    Args:
        verdict: What `Verifier.verify` returned.
        inputs: What it was given.
        issuer: Of the token; empty: it names none.
        developer: Who is responsible for the verifier's build.
        build: The verifier's build.
    """
    if not verdict.devices:
        return None
    issued_at = verdict.received_at.replace(microsecond=0)
    expires_at = _expiry(verdict, inputs, issued_at)
    claims: Claims = {"eat_profile": PROFILE, "iat": _seconds(issued_at), "exp": _seconds(expires_at)}
    if issuer:
        claims["iss"] = issuer
    claims["ear_verifier_id"] = {"developer": developer, "build": build}
    claims["eat_nonce"] = base64.urlsafe_b64encode(verdict.challenge).rstrip(b"=").decode()
    claims["submods"] = {
        device.pdi.hex(): _submodule(device, _license_of(device, inputs)) for device in verdict.devices
    }
    return claims


def _expiry(verdict: Verdict, inputs: Inputs, issued_at: datetime) -> datetime:
    """Return `exp` (docs/protocol.md EA2): no result outlives the time in which the next is due, nor its license."""
    ends: list[datetime] = []
    for device in verdict.devices:
        held = _license_of(device, inputs)
        if held is not None:
            ends.append(issued_at + held.cadence)
            if held.valid_until > verdict.received_at:
                ends.append(held.valid_until)
    return min(ends, default=issued_at + UNLICENSED_LIFE)


def _seconds(moment: datetime) -> int:
    """Return a NumericDate (RFC 7519 §2), rounded down."""
    return math.floor(moment.timestamp())


def _license_of(device: DeviceVerdict, inputs: Inputs) -> License | None:
    """Return the license that a device was appraised under; a switch has none (docs/protocol.md AP4)."""
    if device.kind is not DeviceKind.GPU:
        return None
    deployment = inputs.deployments.get(device.pdi) or device.adopted
    return None if deployment is None else deployment.license


def _submodule(device: DeviceVerdict, held: License | None) -> Claims:
    vector = _vector(device)
    shown = (_TIER_OF_SEVERITY[finding.severity] for finding in device.findings)
    # docs/protocol.md EA3: findings that no claim of AR4SI is about, as a license's, make the status worse than these.
    status = worst_of((*shown, *map(tier_of, vector.values())))
    return {
        "ear_status": status.value,
        "ear_trustworthiness_vector": vector,
        "ear_appraisal_policy_ids": [POLICY_ID],
        EXTENSION: _extension(device, held),
    }


def _vector(device: DeviceVerdict) -> dict[str, int]:
    """Return the claims that were appraised, and no other (docs/protocol.md EA3).

    `configuration`, `file-system`, `runtime-opaque`, `storage-opaque` and `sourced-data` never are.
    """
    found = {finding.reason for finding in device.findings}
    vector: dict[str, int] = {}
    identity = _instance_identity(device.kind, found)
    if identity is not None:
        vector["instance-identity"] = identity
    vector["executables"] = _executables(found)
    # Its chain ends in the vendor's root and its report is signed by it: else there were no verdict on it.
    vector["hardware"] = CONTRAINDICATED_HARDWARE if found & _OFF_ITS_BOARD else GENUINE_HARDWARE
    return vector


def _instance_identity(kind: DeviceKind, found: set[Reason]) -> int | None:
    if Reason.UNKNOWN_DEVICE in found:
        return UNRECOGNIZED_INSTANCE
    if found & _ODD:
        return DOUBTED_INSTANCE
    # AR4SI: only where the verifier expects to recognize the instance. No record names switches.
    return RECOGNIZED_INSTANCE if kind is DeviceKind.GPU else None


def _executables(found: set[Reason]) -> int:
    if Reason.FIRMWARE_MISMATCH in found:
        return CONTRAINDICATED_EXECUTABLES
    if Reason.REFERENCE_MISSING in found:  # docs/protocol.md RV1: unknown, which is not tampering
        return UNRECOGNIZED_EXECUTABLES
    return APPROVED_BOOT  # what a device measures is what it booted


def _extension(device: DeviceVerdict, held: License | None) -> Claims:
    told: Claims = {"kind": device.kind.name}
    if device.standing is not None:
        told["standing"] = device.standing.name
    told["findings"] = {finding.reason.name: finding.severity.name for finding in device.findings}
    if held is not None:
        told["license"] = {"number": held.number, "revision": held.revision}
        presence: Claims = {"question": held.presence.name, "proven": device.presence_proven}
        grade = _grade(held, device.fix)
        if grade is not None:
            presence["grade"] = grade.name
        told["presence"] = presence
    if device.fix is not None:
        told["place"] = _place(device.fix)
    return told


def _grade(held: License, fix: Fix | None) -> Grade | None:
    """Return at which grade the presence question has its answer; None when it has none."""
    answer = presence_answer(held.presence, held.assurance, fix)
    if fix is None or answer is PlaceAnswer.UNPROVEN:
        return None
    depths = fix.outside_depths if held.presence is Presence.OUTSIDE_PROHIBITED else fix.licensed_depths
    return Grade.FIBRE if answer is PlaceAnswer.INDICATED and depths.in_complement_fibre else Grade.PHYSICAL


def _place(fix: Fix) -> Claims:
    return {
        "in_licensed_region": fix.in_licensed_region.name,
        "outside_prohibited": fix.outside_prohibited.name,
        "tolerated_domains": fix.tolerated_domains,
        "assurance": fix.assurance.name,
        "demonstration": fix.demonstration,
        "borders": fix.borders_version,
        "lists": fix.prohibited_version,
    }

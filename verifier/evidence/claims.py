"""The claims-set: what the host says, in deterministic CBOR (docs/protocol.md §3, RFC 9711).

Every value here is the host's word. The nonce that is derived from the bytes makes each device sign over them; that
shows that the device signed after the challenge, not that the host tells the truth.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from verifier import cbor
from verifier.errors import (
    ChallengeUnknownError,
    ClaimsMalformedError,
    DeviceListMismatchError,
    DeviceRepeatedError,
    LimitExceededError,
)
from verifier.limits import MAX_RANGES, MAX_RECEIPT_BYTES, MAX_REPORTS
from verifier.units import Challenge, LandmarkKeyId, Pdi

PROFILE = "tag:trigpoint.dev,2026:attestation#1"
_LABEL_ATTESTATION = b"trigpoint-attestation-v1\0"

_EAT_NONCE, _LOCATION, _EAT_PROFILE = 10, 264, 265  # RFC 9711 §7.3.1
_HOST_ID, _HOST_TIME, _DEVICES, _RANGES = -70001, -70002, -70003, -70004
_REQUIRED = frozenset({_EAT_NONCE, _EAT_PROFILE, _HOST_ID, _HOST_TIME, _DEVICES, _RANGES})
_LATITUDE, _LONGITUDE = 1, 2  # RFC 9711 §4.2.10
_WHY_NOT = range(1, 7)


@dataclass(frozen=True, slots=True)
class StatedRange:
    """A range as the host tells it.

    Attributes:
        device: Index into the device list.
        landmark: Key id of the landmark that was asked.
        untrusted_answered: Mask of the rounds that the device answered (C4); the signed transcript must confirm it.
        receipt: The landmark's receipt.
    """

    device: int
    landmark: LandmarkKeyId
    untrusted_answered: int
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Claims:
    """A claims-set of the right form.

    Attributes:
        nonce: eat_nonce, the challenge.
        host_id: Host id.
        untrusted_host_time_s: Unix seconds by the host.
        untrusted_location: Latitude and longitude in degrees as the host tells them. Never evidence.
        devices: The reporting devices, in the order of the reports.
        ranges: Ranges with a receipt.
        unanswered: Device index, landmark and why there is no receipt (docs/protocol.md §3).
    """

    nonce: Challenge
    host_id: str
    untrusted_host_time_s: int
    untrusted_location: tuple[float, float] | None
    devices: tuple[Pdi, ...]
    ranges: tuple[StatedRange, ...]
    unanswered: tuple[tuple[int, LandmarkKeyId, int], ...]


def requester_nonce(claims: bytes) -> bytes:
    """Return the nonce that every report of this attestation must carry, 32 bytes (docs/protocol.md CL1)."""
    return hashlib.sha256(_LABEL_ATTESTATION + claims).digest()


def parse_claims(data: bytes) -> Claims:
    """Parse a claims-set.

    Raises:
        ClaimsMalformedError: It is not deterministic CBOR, or not the map of docs/protocol.md §3.
        LimitExceededError: More devices or ranges than limits.py allows.
    """
    try:
        claims = cbor.decode(data)
    except cbor.NotDeterministicError as error:
        raise ClaimsMalformedError(str(error)) from error
    if not cbor.has_keys(claims, _REQUIRED, frozenset({_LOCATION})):  # docs/protocol.md CL3
        raise ClaimsMalformedError("not a map, or a claim is missing or unknown")
    if claims[_EAT_PROFILE] != PROFILE:
        raise ClaimsMalformedError(f"the profile is not {PROFILE}")
    host_id, host_time = claims[_HOST_ID], claims[_HOST_TIME]
    if not isinstance(host_id, str) or not 1 <= len(host_id.encode()) <= 128:
        raise ClaimsMalformedError("the host id is not a text of 1 to 128 bytes")
    if type(host_time) is not int or abs(host_time) >= 1 << 63:
        raise ClaimsMalformedError("the host time is not a 64-bit integer")
    devices = _parse_devices(claims[_DEVICES])
    ranges, unanswered = _parse_ranges(claims[_RANGES], len(devices))
    return Claims(
        nonce=Challenge(_bytes(claims[_EAT_NONCE], 32, "eat_nonce")),
        host_id=host_id,
        untrusted_host_time_s=host_time,
        untrusted_location=_parse_location(claims),
        devices=devices,
        ranges=ranges,
        unanswered=unanswered,
    )


def verify_binding(claims: Claims, host_id: str, challenge: Challenge, report_count: int) -> None:
    """Check that the claims speak of the message that carries them.

    Raises:
        ChallengeUnknownError: They answer another challenge or speak of another host.
        DeviceListMismatchError: They list more or fewer devices than report (docs/protocol.md CL2).
        DeviceRepeatedError: They list a device twice (docs/protocol.md CL2).
    """
    if claims.nonce != challenge or claims.host_id != host_id:  # RFC 9711 §4.1, docs/protocol.md CL4
        raise ChallengeUnknownError("the claims answer another challenge or speak of another host")
    if len(claims.devices) != report_count:
        raise DeviceListMismatchError(f"{len(claims.devices)} devices are listed and {report_count} report")
    if len(set(claims.devices)) != len(claims.devices):
        raise DeviceRepeatedError("a device is listed twice")


def _parse_devices(value: Any) -> tuple[Pdi, ...]:
    if not isinstance(value, list) or not value:
        raise ClaimsMalformedError("the device list is not a list of PDIs")
    if len(value) > MAX_REPORTS:
        raise LimitExceededError(f"{len(value)} devices are listed; at most {MAX_REPORTS}")
    return tuple(Pdi(_bytes(pdi, 8, "a PDI")) for pdi in value)


def _parse_ranges(
    value: Any, device_count: int
) -> tuple[tuple[StatedRange, ...], tuple[tuple[int, LandmarkKeyId, int], ...]]:
    if not isinstance(value, list):
        raise ClaimsMalformedError("the ranges are not a list")
    if len(value) > MAX_RANGES:
        raise LimitExceededError(f"{len(value)} ranges; at most {MAX_RANGES}")
    ranges: list[StatedRange] = []
    unanswered: list[tuple[int, LandmarkKeyId, int]] = []
    for entry in value:
        if not isinstance(entry, list) or len(entry) not in {3, 4}:
            raise ClaimsMalformedError("a range is not a list of three or four")
        device = entry[0]
        if type(device) is not int or not 0 <= device < device_count:
            raise ClaimsMalformedError("a range names a device that is not listed")
        landmark = LandmarkKeyId(_bytes(entry[1], 32, "a landmark key id"))
        if len(entry) == 3:
            if type(entry[2]) is not int or entry[2] not in _WHY_NOT:
                raise ClaimsMalformedError("a range without a receipt gives no known reason")
            unanswered.append((device, landmark, entry[2]))
            continue
        receipt = entry[3]
        if not isinstance(receipt, bytes) or not receipt:
            raise ClaimsMalformedError("a receipt is not bytes")
        if len(receipt) > MAX_RECEIPT_BYTES:
            raise LimitExceededError(f"a receipt of {len(receipt)} bytes; at most {MAX_RECEIPT_BYTES}")
        mask = int.from_bytes(_bytes(entry[2], 8, "a round mask"), "big")  # docs/protocol.md C4
        ranges.append(StatedRange(device, landmark, mask, receipt))
    return tuple(ranges), tuple(unanswered)


def _parse_location(claims: Mapping[Any, Any]) -> tuple[float, float] | None:
    if _LOCATION not in claims:
        return None
    value = claims[_LOCATION]
    if not cbor.has_keys(value, {_LATITUDE, _LONGITUDE}):
        raise ClaimsMalformedError("the location is not a latitude and a longitude")
    latitude, longitude = value[_LATITUDE], value[_LONGITUDE]
    if type(latitude) not in {int, float} or type(longitude) not in {int, float}:
        raise ClaimsMalformedError("the location is not in degrees")
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ClaimsMalformedError("the location is not on Earth")
    return float(latitude), float(longitude)


def _bytes(value: Any, length: int, what: str) -> bytes:
    if not isinstance(value, bytes) or len(value) != length:
        raise ClaimsMalformedError(f"{what} is not {length} bytes")
    return value

"""Encodes the claims-set that every report of an attestation signs over, and the nonce that binds it.

Spec: docs/protocol.md §3, C2, C4, CL1. It checks sizes, so that the agent cannot send what every verifier must
refuse; it does not parse claims.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import cbor2

from agent.sources.base import Answered, Why

ATTESTATION_LABEL = b"trigpoint-attestation-v1\0"  # docs/protocol.md C1
PROFILE = "tag:trigpoint.dev,2026:attestation#1"

EAT_NONCE = 10  # RFC 9711 §4.1
LOCATION = 264  # RFC 9711 §4.2.10
EAT_PROFILE = 265  # RFC 9711 §4.3.2
HOST_ID = -70001
HOST_TIME = -70002
DEVICES = -70003
RANGES = -70004
MAX_RECEIPT_BYTES = 1024
LATITUDE = 1
LONGITUDE = 2


class ClaimsError(ValueError):
    """The values do not fit the claims-set of docs/protocol.md §3."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where the host's owner says it is, degrees WGS 84. Untrusted by every verifier."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Ranged:
    """What came of one range order.

    Attributes:
        pdi: The device that was ordered, 8 bytes.
        landmark_key_id: The landmark, 32 bytes.
        outcome: Receipt and mask, or why there is none.
    """

    pdi: bytes
    landmark_key_id: bytes
    outcome: Answered | Why


def encode_claims(
    *,
    challenge: bytes,
    host_id: str,
    host_time_s: int,
    devices: Sequence[bytes],
    ranges: Sequence[Ranged],
    location: Location | None = None,
) -> bytes:
    """Return the claims-set in deterministic CBOR.

    Args:
        challenge: 32 bytes.
        host_id: 1 to 128 characters.
        host_time_s: Unix seconds by the host's clock.
        devices: PDIs of the reporting devices, in the order of their reports; 1 to 64.
        ranges: One for each range order; each names one of `devices`.
        location: As the host tells it, or None.

    Raises:
        ClaimsError: A value does not fit the CDDL.
    """
    if len(challenge) != 32:
        raise ClaimsError(f"a challenge has 32 bytes, not {len(challenge)}")
    if not 1 <= len(host_id.encode()) <= 128:
        raise ClaimsError("a host id has 1 to 128 bytes")
    if not 1 <= len(devices) <= 64 or any(len(pdi) != 8 for pdi in devices):
        raise ClaimsError("1 to 64 devices report, each with a PDI of 8 bytes")
    index = {pdi: place for place, pdi in enumerate(devices)}
    if len(index) != len(devices):
        raise ClaimsError("no device may report twice")  # docs/protocol.md CL2
    claims: dict[int, object] = {
        EAT_NONCE: challenge,
        EAT_PROFILE: PROFILE,
        HOST_ID: host_id,
        HOST_TIME: host_time_s,
        DEVICES: list(devices),
        RANGES: [_range(item, index) for item in ranges],
    }
    if location is not None:
        claims[LOCATION] = {LATITUDE: location.latitude, LONGITUDE: location.longitude}
    # C2. No key here makes length-first order (RFC 7049) differ from the bytewise order of RFC 8949 §4.2.1.
    return cbor2.dumps(claims, canonical=True)


def bound_nonce(claims: bytes) -> bytes:
    """Return the requester nonce of every report over these claims, 32 bytes (docs/protocol.md CL1)."""
    return hashlib.sha256(ATTESTATION_LABEL + claims).digest()


def _range(item: Ranged, index: dict[bytes, int]) -> list[object]:
    device = index.get(item.pdi)
    if device is None:
        raise ClaimsError("a range names a device that does not report")
    if len(item.landmark_key_id) != 32:
        raise ClaimsError("a landmark key id has 32 bytes")
    if isinstance(item.outcome, Why):
        return [device, item.landmark_key_id, int(item.outcome)]
    if not 1 <= len(item.outcome.receipt) <= MAX_RECEIPT_BYTES:
        raise ClaimsError(f"a receipt has 1 to {MAX_RECEIPT_BYTES} bytes")
    mask = item.outcome.answered_mask.to_bytes(8, "big")  # docs/protocol.md C4
    return [device, item.landmark_key_id, mask, item.outcome.receipt]

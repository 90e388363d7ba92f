"""Ranges: a landmark's receipt against the device's signed log (docs/protocol.md §7, R7).

A range that fails is void: it is dropped with its reason and never accuses. What a range says about place is worked out
in fix.py.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from verifier import cbor, cose
from verifier.errors import (
    CommitmentReusedError,
    FirmwareCannotRangeError,
    LandmarkUnknownError,
    MaskInvalidError,
    RangeError,
    Reason,
    ReceiptMalformedError,
    ReceiptSignatureInvalidError,
    SessionMismatchError,
    TooFewRoundsError,
    TranscriptNotLoggedError,
)
from verifier.evidence.attestation import DeviceReport
from verifier.evidence.claims import Claims, StatedRange
from verifier.evidence.measurements import FirmwareState
from verifier.evidence.spdm import LogEntry
from verifier.limits import MAX_ROUNDS, MIN_ACCEPTED_ROUNDS
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.units import Challenge, LandmarkKeyId, Nanoseconds, Pdi

_LABEL_SESSION = b"trigpoint-session-v1\0"
_LABEL_LOG = b"trigpoint-log-v1\0"
_LABEL_CLOSE = b"trigpoint-close-v1\0"
_AAD_RECEIPT = b"trigpoint-receipt-v1\0"
_ROUND_BYTES = 16
_RECEIPT_KEYS = frozenset(range(1, 12))
_CLOCKS = frozenset({1, 2})
_MAX_RTT_NS = 60_000_000_000  # a challenge lives 60 s; no honest round trip within it is longer


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a landmark signed. Fields as in docs/protocol.md §7.

    Attributes:
        landmark: The landmark whose key it is signed with.
        session: 32 bytes.
        challenge: 32 bytes.
        nonce: Landmark nonce, 32 bytes.
        commitment: 32 bytes.
        seed: 32 bytes.
        sent_rounds: Rounds 0 to this, exclusive, were sent.
        accepted: Mask of accepted rounds (C4).
        rtt_ns: Least round trip over the accepted rounds, not widened.
        position_revision: Revision of the position record that the landmark knows.
    """

    landmark: Landmark
    session: bytes
    challenge: Challenge
    nonce: bytes
    commitment: bytes
    seed: bytes
    sent_rounds: int
    accepted: int
    rtt_ns: Nanoseconds
    position_revision: int


@dataclass(frozen=True, slots=True)
class VerifiedRange:
    """A device-ranged round trip: the device's signed log and the landmark's receipt agree on it."""

    pdi: Pdi
    landmark: Landmark
    rtt_ns: Nanoseconds


@dataclass(frozen=True, slots=True)
class VoidRange:
    """A range that was dropped."""

    pdi: Pdi
    landmark: LandmarkKeyId
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Ranges:
    """All ranges of one attestation."""

    verified: tuple[VerifiedRange, ...]
    void: tuple[VoidRange, ...]

    def of(self, pdi: Pdi) -> tuple[VerifiedRange, ...]:
        """Ranges that this device's own log holds."""
        return tuple(r for r in self.verified if r.pdi == pdi)

    def voids_of(self, pdi: Pdi) -> tuple[VoidRange, ...]:
        """Ranges of this device that were dropped."""
        return tuple(r for r in self.void if r.pdi == pdi)


def verify_ranges(
    claims: Claims,
    reports: Iterable[DeviceReport],
    firmware: Mapping[Pdi, FirmwareState],
    challenge: Challenge,
    registry: LandmarkRegistry,
) -> Ranges:
    """Check every range that the claims offer; those of devices whose report was refused are passed over with it."""
    by_index = {r.index: r for r in reports}
    verified: list[VerifiedRange] = []
    void: list[VoidRange] = []
    # docs/protocol.md R7: what two ranges share, neither may use, over all devices of the attestation.
    shared = _shared_commitments(claims.ranges)
    for stated in claims.ranges:
        device = by_index.get(stated.device)
        if device is None:
            continue
        try:
            receipt = verify_range(stated, device, firmware[device.pdi], challenge, registry)
            if receipt.commitment in shared or receipt.session in shared:
                raise CommitmentReusedError("two ranges share a commitment or a session")
            verified.append(VerifiedRange(device.pdi, receipt.landmark, receipt.rtt_ns))
        except RangeError as error:
            void.append(VoidRange(device.pdi, stated.landmark, error.reason, str(error)))
    return Ranges(tuple(verified), tuple(void))


def verify_range(
    stated: StatedRange, device: DeviceReport, firmware: FirmwareState, challenge: Challenge, registry: LandmarkRegistry
) -> Receipt:
    """Return the receipt of one range that holds in every point of docs/protocol.md R7.

    Raises:
        RangeError: The one point that fails first.
    """
    # R8: unknown or changed firmware has no ranging.
    if not firmware.can_range:
        raise FirmwareCannotRangeError("the device's firmware is not known to keep the ranging protocol")
    # The landmark's signature, and that it speaks of this challenge.
    receipt = verify_receipt(stated.receipt, challenge, registry)
    if receipt.landmark.key_id != stated.landmark:
        raise ReceiptSignatureInvalidError("the receipt is another landmark's than the claims say")
    # accepted ⊆ answered ⊆ sent.
    sent = (1 << receipt.sent_rounds) - 1
    if stated.untrusted_answered & ~sent or receipt.accepted & ~stated.untrusted_answered:
        raise MaskInvalidError("the masks are not accepted within answered within sent")
    if receipt.accepted.bit_count() < MIN_ACCEPTED_ROUNDS:  # R5
        raise TooFewRoundsError(f"{receipt.accepted.bit_count()} rounds accepted; at least {MIN_ACCEPTED_ROUNDS}")
    # P4: the device signed exactly these challenges, under exactly this commitment.
    entry = LogEntry(receipt.session, receipt.commitment, transcript(receipt, stated.untrusted_answered))
    if entry not in device.report.log:
        raise TranscriptNotLoggedError("the device's signed log does not hold this session with these rounds")
    return receipt


def verify_receipt(data: bytes, challenge: Challenge, registry: LandmarkRegistry) -> Receipt:
    """Return a receipt whose signature holds and whose session belongs to `challenge`.

    It says nothing about any device yet.

    Raises:
        RangeError: Malformed, unknown landmark, bad signature or another session.
    """
    try:
        message = cose.parse_sign1(data)
    except cbor.NotDeterministicError as error:
        raise ReceiptMalformedError(str(error)) from error
    landmark = registry.by_key.get(LandmarkKeyId(message.kid))
    if landmark is None:
        raise LandmarkUnknownError(f"no landmark is registered with key {message.kid.hex()[:16]}")
    if not message.verifies(landmark.public_key, _AAD_RECEIPT):
        raise ReceiptSignatureInvalidError(f"the receipt is not signed by {landmark.landmark_id}")
    receipt = _parse_payload(message.untrusted_payload, landmark)
    session = hashlib.sha256(_LABEL_SESSION + challenge + landmark.key_id + receipt.nonce).digest()  # R1
    if receipt.challenge != challenge or receipt.session != session:
        raise SessionMismatchError("the receipt is for another challenge")
    return receipt


def transcript(receipt: Receipt, answered: int) -> bytes:
    """Recompute the transcript T of docs/protocol.md R4 from the seed and the answered rounds, 32 bytes."""
    rounds = hashlib.shake_256(receipt.seed).digest(MAX_ROUNDS * _ROUND_BYTES)  # R3
    link = hashlib.sha256(_LABEL_LOG + receipt.session + receipt.commitment).digest()
    for i in range(receipt.sent_rounds):
        if answered >> i & 1:
            link = hashlib.sha256(
                link + i.to_bytes(2, "big") + rounds[_ROUND_BYTES * i : _ROUND_BYTES * (i + 1)]
            ).digest()
    return hashlib.sha256(_LABEL_CLOSE + link + answered.bit_count().to_bytes(2, "big")).digest()


def _parse_payload(payload: Any, landmark: Landmark) -> Receipt:
    if not cbor.has_keys(payload, _RECEIPT_KEYS):
        raise ReceiptMalformedError("the receipt has other fields than docs/protocol.md §7")
    fixed = {1: 32, 2: 32, 3: 32, 4: 32, 5: 32, 7: 8}
    if any(not isinstance(payload[k], bytes) or len(payload[k]) != n for k, n in fixed.items()):
        raise ReceiptMalformedError("a byte string of the receipt has the wrong length")
    if any(type(payload[k]) is not int for k in (6, 8, 9, 10, 11)):
        raise ReceiptMalformedError("a number of the receipt is not an integer")
    if (
        not 1 <= payload[6] <= MAX_ROUNDS
        or not 0 <= payload[8] <= _MAX_RTT_NS
        or payload[9] not in _CLOCKS
        or payload[10] < 0
    ):
        raise ReceiptMalformedError("a number of the receipt is out of range")
    return Receipt(
        landmark=landmark,
        session=payload[1],
        challenge=Challenge(payload[2]),
        nonce=payload[3],
        commitment=payload[4],
        seed=payload[5],
        sent_rounds=payload[6],
        accepted=int.from_bytes(payload[7], "big"),
        rtt_ns=Nanoseconds(payload[8]),
        position_revision=payload[10],
    )


def _shared_commitments(ranges: Sequence[StatedRange]) -> frozenset[bytes]:
    """Return the sessions and commitments that more than one receipt names; only well-formed ones can name any."""
    seen: set[bytes] = set()
    shared: set[bytes] = set()
    for stated in ranges:
        try:
            payload = cose.parse_sign1(stated.receipt).untrusted_payload
        except cbor.NotDeterministicError:
            continue
        if not isinstance(payload, dict):
            continue
        for value in (payload.get(1), payload.get(4)):
            if isinstance(value, bytes):
                (shared if value in seen else seen).add(value)
    return frozenset(shared)

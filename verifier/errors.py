"""Reasons and the one tree of errors.

Three families, never mixed. An `EvidenceError` says that the peer sent bad data: it becomes a rejection in a verdict. A
`RangeError` says that one range must be dropped: it becomes a RANGE_VOID finding and never accuses. A `UsageError` says
that the caller misused the API. Faults of the shell (store, network) are not here; the core does no I/O.
"""

import enum
from typing import ClassVar


@enum.unique
class Reason(enum.IntEnum):
    """Stable codes; names and numbers equal those of `trigpoint.v1.Reason`, whose comments give the meanings."""

    CLAIMS_MALFORMED = 1
    CHALLENGE_UNKNOWN = 2
    CHALLENGE_EXPIRED = 3
    LIMIT_EXCEEDED = 4
    DEVICE_LIST_MISMATCH = 5
    DEVICE_REPEATED = 6
    CHAIN_MISSING = 7
    CHAIN_MALFORMED = 8
    CHAIN_UNTRUSTED_ROOT = 9
    CHAIN_SIGNATURE_INVALID = 10
    CHAIN_CONSTRAINT_VIOLATED = 11
    CHAIN_EXPIRED = 12
    REPORT_MALFORMED = 13
    REPORT_SIGNATURE_INVALID = 14
    NONCE_MISMATCH = 15
    FWID_MISMATCH = 16
    PDI_MISMATCH = 17

    OUTSIDE_LICENSED_REGION = 101
    IN_PROHIBITED_DESTINATION = 102
    LOCATION_UNPROVEN = 103
    IMPOSSIBLE_TRAVEL = 104
    IDENTITY_CLONED = 105
    BOARD_BROKEN = 106
    BOARD_CHANGED = 107
    UNKNOWN_DEVICE = 108
    LICENSE_EXPIRED = 112
    LICENSE_NOT_YET_VALID = 113
    LICENSE_SUSPENDED = 114
    LICENSE_REVOKED = 115
    FIRMWARE_MISMATCH = 116
    REFERENCE_MISSING = 117
    RANGE_VOID = 118
    COUNTER_ROLLBACK = 119
    PRESENCE_OVERDUE = 120
    SILENT = 121
    NEVER_ACTIVATED = 122
    FOREIGN_REPORT = 123
    QUANTITY_EXCEEDED = 124

    RECEIPT_MALFORMED = 201
    RECEIPT_SIGNATURE_INVALID = 202
    LANDMARK_UNKNOWN = 203
    SESSION_MISMATCH = 204
    TRANSCRIPT_NOT_LOGGED = 205
    MASK_INVALID = 206
    TOO_FEW_ROUNDS = 207
    FIRMWARE_CANNOT_RANGE = 208
    COMMITMENT_REUSED = 209
    LANDMARK_NOT_COUNTED = 210
    STATEMENT_INVALID = 211


class TrigpointError(Exception):
    """Root of every error that the core raises."""


class UsageError(TrigpointError, ValueError):
    """The caller passed what the API does not take; a fault of the program, not of the evidence."""


class BasisError(UsageError):
    """What a verification is said to have been given cannot be used."""


class RecordNotSignedError(UsageError):
    """The operator did not sign a landmark's record as it stands (docs/protocol.md LA8).

    Attributes:
        field: The first field that is wrong, as `trigpoint.v1.Landmark` calls it.
        message: What is wrong with it.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class EvidenceError(TrigpointError):
    """A piece of evidence is not authentic. Nothing in it may be used."""

    reason: ClassVar[Reason]


class ClaimsMalformedError(EvidenceError):
    """The claims-set is not the deterministic CBOR of docs/protocol.md §3."""

    reason = Reason.CLAIMS_MALFORMED


class ChallengeUnknownError(EvidenceError):
    """The claims answer another challenge than the one issued."""

    reason = Reason.CHALLENGE_UNKNOWN


class ChallengeExpiredError(EvidenceError):
    """The challenge's life was over."""

    reason = Reason.CHALLENGE_EXPIRED


class LimitExceededError(EvidenceError):
    """A budget of limits.py is exceeded."""

    reason = Reason.LIMIT_EXCEEDED


class DeviceListMismatchError(EvidenceError):
    """The claims list other devices than those that reported."""

    reason = Reason.DEVICE_LIST_MISMATCH


class DeviceRepeatedError(EvidenceError):
    """One device reports twice."""

    reason = Reason.DEVICE_REPEATED


class ChainMissingError(EvidenceError):
    """The chain was neither sent nor is known."""

    reason = Reason.CHAIN_MISSING


class ChainMalformedError(EvidenceError):
    """Not five P-384 X.509 certificates."""

    reason = Reason.CHAIN_MALFORMED


class ChainUntrustedRootError(EvidenceError):
    """The last certificate is not a pinned root."""

    reason = Reason.CHAIN_UNTRUSTED_ROOT


class ChainSignatureInvalidError(EvidenceError):
    """A certificate is not signed by the next one."""

    reason = Reason.CHAIN_SIGNATURE_INVALID


class ChainConstraintViolatedError(EvidenceError):
    """A certificate breaks a rule on names, CA flag, key usage, serial or extensions."""

    reason = Reason.CHAIN_CONSTRAINT_VIOLATED


class ChainExpiredError(EvidenceError):
    """A certificate is not valid at this time."""

    reason = Reason.CHAIN_EXPIRED


class ReportMalformedError(EvidenceError):
    """The report is not laid out as docs/protocol.md §4 says."""

    reason = Reason.REPORT_MALFORMED


class ReportSignatureInvalidError(EvidenceError):
    """The report's signature does not hold under the chain's leaf."""

    reason = Reason.REPORT_SIGNATURE_INVALID


class NonceMismatchError(EvidenceError):
    """The report was signed over another nonce."""

    reason = Reason.NONCE_MISMATCH


class FwidMismatchError(EvidenceError):
    """The firmware id in the report is not the one in its chain."""

    reason = Reason.FWID_MISMATCH


class PdiMismatchError(EvidenceError):
    """A switch reports another PDI than its chain."""

    reason = Reason.PDI_MISMATCH


class RangeError(TrigpointError):
    """One range must be dropped (RANGE_VOID); it never accuses."""

    reason: ClassVar[Reason]


class ReceiptMalformedError(RangeError):
    """Not the COSE and CBOR of docs/protocol.md §7."""

    reason = Reason.RECEIPT_MALFORMED


class ReceiptSignatureInvalidError(RangeError):
    """Not signed by the landmark that it names."""

    reason = Reason.RECEIPT_SIGNATURE_INVALID


class LandmarkUnknownError(RangeError):
    """No registered landmark has this key, or its record is not valid now."""

    reason = Reason.LANDMARK_UNKNOWN


class SessionMismatchError(RangeError):
    """Another challenge, or a session that is not the hash of its parts."""

    reason = Reason.SESSION_MISMATCH


class TranscriptNotLoggedError(RangeError):
    """The device's signed log does not hold this session, commitment and transcript."""

    reason = Reason.TRANSCRIPT_NOT_LOGGED


class MaskInvalidError(RangeError):
    """Rounds accepted that were not answered, or answered that were not sent."""

    reason = Reason.MASK_INVALID


class TooFewRoundsError(RangeError):
    """Fewer rounds were accepted than R5 asks for."""

    reason = Reason.TOO_FEW_ROUNDS


class FirmwareCannotRangeError(RangeError):
    """The firmware is not known to keep the ranging protocol."""

    reason = Reason.FIRMWARE_CANNOT_RANGE


class CommitmentReusedError(RangeError):
    """Two ranges of one attestation share a commitment or a session."""

    reason = Reason.COMMITMENT_REUSED


class LandmarkNotCountedError(RangeError):
    """The landmark's record does not let it count now."""

    reason = Reason.LANDMARK_NOT_COUNTED


class StatementInvalidError(RangeError):
    """The answering landmark's statement is not signed by it, or is about another session (docs/protocol.md LA2)."""

    reason = Reason.STATEMENT_INVALID

"""One host's evidence as a whole: the values before and after verification, and the checks that concern all of it."""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from verifier.errors import (
    ChallengeExpiredError,
    ChallengeUnknownError,
    DeviceListMismatchError,
    LimitExceededError,
    UsageError,
)
from verifier.evidence.chain import DeviceKind, VerifiedChain
from verifier.evidence.spdm import MeasurementReport
from verifier.limits import CHALLENGE_LIFE, MAX_CLAIMS_BYTES, MAX_REPORT_BYTES, MAX_REPORTS
from verifier.units import ChainId, Challenge, Pdi

_LABEL_CHALLENGE = b"trigpoint-challenge-v1\0"


@dataclass(frozen=True, slots=True)
class UnverifiedReport:
    """A device report as it came."""

    spdm: bytes
    chain_id: ChainId


@dataclass(frozen=True, slots=True)
class UnverifiedAttestation:
    """One host's evidence as it came. Nothing in it is true yet.

    Attributes:
        host_id: The host, as the sender says.
        challenge: What it says it answers, 32 bytes.
        claims: Claims-set, CBOR.
        reports: One a device.
    """

    host_id: str
    challenge: Challenge
    claims: bytes
    reports: tuple[UnverifiedReport, ...]

    def check_limits(self) -> None:
        """Check sizes before any cryptography.

        Raises:
            LimitExceededError: A budget of limits.py is exceeded.
        """
        if len(self.claims) > MAX_CLAIMS_BYTES:
            raise LimitExceededError(f"claims of {len(self.claims)} bytes; at most {MAX_CLAIMS_BYTES}")
        if not 1 <= len(self.reports) <= MAX_REPORTS:
            raise LimitExceededError(f"{len(self.reports)} reports; 1 to {MAX_REPORTS}")
        if any(len(r.spdm) > MAX_REPORT_BYTES for r in self.reports):
            raise LimitExceededError(f"a report of more than {MAX_REPORT_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class IssuedChallenge:
    """A challenge that this server issued and nobody has spent.

    Attributes:
        challenge: 32 bytes.
        host_id: The host that must answer.
        issued_at: When, aware.
        life: How long it may be answered.
    """

    challenge: Challenge
    host_id: str
    issued_at: datetime
    life: timedelta = CHALLENGE_LIFE


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """An authentic report: chain, signature, nonce and firmware id held. Made by the verifier alone.

    Attributes:
        index: Its place among the reports.
        chain: Its device's verified chain.
        report: What the device signed.
    """

    index: int
    chain: VerifiedChain
    report: MeasurementReport

    @property
    def pdi(self) -> Pdi:
        """The device that signed."""
        return self.chain.pdi

    @property
    def kind(self) -> DeviceKind:
        """GPU or switch."""
        return self.chain.kind


def derive_challenge(random: bytes, checkpoint: bytes) -> Challenge:
    """Derive a challenge from its preimage (docs/protocol.md §2).

    Args:
        random: 32 bytes of the operating system's generator.
        checkpoint: Hash of the newest journal checkpoint, 32 bytes; zeros while there is no journal.
    """
    if len(random) != 32 or len(checkpoint) != 32:
        raise UsageError("a challenge is derived from 32 random bytes and a checkpoint of 32 bytes")
    return Challenge(hashlib.sha256(_LABEL_CHALLENGE + random + checkpoint).digest())


def verify_challenge(attestation: UnverifiedAttestation, issued: IssuedChallenge, now: datetime) -> None:
    """Check that the attestation answers the challenge that was issued to its host, in time (docs/protocol.md CH2).

    Raises:
        ChallengeUnknownError: Another challenge or another host.
        ChallengeExpiredError: It came too late.
    """
    if attestation.challenge != issued.challenge or attestation.host_id != issued.host_id:
        raise ChallengeUnknownError(f"no such challenge was issued to host {attestation.host_id!r}")
    if not issued.issued_at <= now <= issued.issued_at + issued.life:
        raise ChallengeExpiredError(
            f"issued {issued.issued_at:%H:%M:%S}, valid for {issued.life.total_seconds():.0f} s, "
            f"answered {now:%H:%M:%S}"
        )


def verify_device_list(index: int, chain: VerifiedChain, stated: tuple[Pdi, ...]) -> None:
    """Check that report `index` comes from the device that the claims list there (docs/protocol.md CL2).

    Raises:
        DeviceListMismatchError: It comes from another one.
    """
    if stated[index] != chain.pdi:
        raise DeviceListMismatchError(f"the claims list {stated[index].hex()} where {chain.pdi.hex()} reports")

"""The checks that concern an attestation as a whole: budgets, challenge, device list."""

from datetime import timedelta

import pytest

from tests.verifier.helpers_evidence import GPU_PDI, NOW, make_chain, sha256
from verifier.errors import EvidenceError, Reason, UsageError
from verifier.evidence.attestation import (
    DeviceReport,
    IssuedChallenge,
    UnverifiedAttestation,
    UnverifiedReport,
    derive_challenge,
    verify_challenge,
    verify_device_list,
)
from verifier.evidence.chain import DeviceKind
from verifier.evidence.spdm import MeasurementReport
from verifier.limits import MAX_CLAIMS_BYTES, MAX_REPORT_BYTES, MAX_REPORTS
from verifier.units import ChainId, Challenge, Pdi

CHALLENGE = Challenge(sha256(b"challenge"))
ISSUED = IssuedChallenge(CHALLENGE, "host-1", NOW)


def attestation(
    claims: bytes = b"", reports: int = 1, report_bytes: int = 0, host_id: str = "host-1", challenge: bytes = CHALLENGE
) -> UnverifiedAttestation:
    report = UnverifiedReport(bytes(report_bytes), ChainId(bytes(32)))
    return UnverifiedAttestation(host_id, Challenge(challenge), claims, (report,) * reports)


def test_budgets() -> None:
    attestation(bytes(MAX_CLAIMS_BYTES), MAX_REPORTS, MAX_REPORT_BYTES).check_limits()
    attestation(reports=1).check_limits()
    for over in (
        attestation(bytes(MAX_CLAIMS_BYTES + 1)),
        attestation(reports=0),
        attestation(reports=MAX_REPORTS + 1),
        attestation(report_bytes=MAX_REPORT_BYTES + 1),
    ):
        with pytest.raises(EvidenceError) as caught:
            over.check_limits()
        assert caught.value.reason is Reason.LIMIT_EXCEEDED


def test_largest_honest_report_fits() -> None:
    assert MAX_REPORT_BYTES > 45 + 64 * 55 + 32 + 2 + 1024 + 128 * 96 + 96  # docs/protocol.md §4


def challenge_reason(given: UnverifiedAttestation, after: timedelta, issued: IssuedChallenge = ISSUED) -> Reason | None:
    try:
        verify_challenge(given, issued, NOW + after)
    except EvidenceError as error:
        return error.reason
    return None


def test_ch2_challenge() -> None:
    assert challenge_reason(attestation(), timedelta(0)) is None
    assert challenge_reason(attestation(), timedelta(seconds=60)) is None
    assert challenge_reason(attestation(), timedelta(seconds=60, microseconds=1)) is Reason.CHALLENGE_EXPIRED
    assert challenge_reason(attestation(), timedelta(microseconds=-1)) is Reason.CHALLENGE_EXPIRED
    assert challenge_reason(attestation(challenge=bytes(32)), timedelta(0)) is Reason.CHALLENGE_UNKNOWN
    assert challenge_reason(attestation(host_id="host-2"), timedelta(0)) is Reason.CHALLENGE_UNKNOWN


def test_ch2_life_is_that_of_the_challenge() -> None:
    short = IssuedChallenge(CHALLENGE, "host-1", NOW, timedelta(seconds=5))
    assert challenge_reason(attestation(), timedelta(seconds=5), short) is None
    assert challenge_reason(attestation(), timedelta(seconds=6), short) is Reason.CHALLENGE_EXPIRED


def test_challenge_names_its_checkpoint() -> None:
    random, checkpoint = bytes(range(32)), bytes(32)
    assert derive_challenge(random, checkpoint) == sha256(b"trigpoint-challenge-v1\0", random, checkpoint)
    assert derive_challenge(random, b"\x01" * 32) != derive_challenge(random, checkpoint)
    for pair in ((random[:31], checkpoint), (random, checkpoint[:31]), (random + checkpoint, b"")):
        with pytest.raises(UsageError):
            derive_challenge(*pair)


def test_cl2_device_list() -> None:
    chain = make_chain().verified()
    verify_device_list(1, chain, (Pdi(bytes(8)), Pdi(GPU_PDI)))
    with pytest.raises(EvidenceError) as caught:
        verify_device_list(0, chain, (Pdi(bytes(8)), Pdi(GPU_PDI)))
    assert caught.value.reason is Reason.DEVICE_LIST_MISMATCH


def test_report_is_of_its_chain() -> None:
    chain = make_chain(serial_prefix=0x50).verified()
    report = DeviceReport(0, chain, MeasurementReport(bytes(32), {}, "", "", frozenset(), (), None))
    assert (report.pdi, report.kind) == (GPU_PDI, DeviceKind.SWITCH)

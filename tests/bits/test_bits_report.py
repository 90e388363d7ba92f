"""Every bit counts: no single bit of a report or of its chain can be another one."""

import random
from pathlib import Path

import pytest
from cryptography import x509

from tests.bits.evidence import NOW, Evidence, _emulated, one_report
from tests.verifier.helpers_evidence import flip
from verifier.errors import EvidenceError, Reason
from verifier.evidence.chain import ChainVerifier, VerifiedChain, chain_id, verify_chain
from verifier.evidence.spdm import verify_report
from verifier.limits import CHAIN_LENGTH

CHAIN_FLIPS = 1_000
SEED = 20_260_101
NONCE_BYTES = range(4, 36)
CHAIN_REASONS = {
    Reason.CHAIN_MALFORMED,
    Reason.CHAIN_SIGNATURE_INVALID,
    Reason.CHAIN_CONSTRAINT_VIOLATED,
}


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return one_report(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def chain(evidence: Evidence) -> VerifiedChain:
    return evidence.chain


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_of_a_report_is_refused(evidence: Evidence, chain: VerifiedChain, bit: int) -> None:
    told = [_reason(flip(evidence.report, position, bit), chain) for position in range(len(evidence.report))]
    assert [p for p, reason in enumerate(told) if reason is None] == []
    assert set(told) == {Reason.REPORT_MALFORMED, Reason.REPORT_SIGNATURE_INVALID}


def _reason(report: bytes, chain: VerifiedChain) -> Reason | None:
    try:
        verify_report(report, chain, None)
    except EvidenceError as error:
        return error.reason
    return None


def test_every_cut_of_a_report_is_refused(evidence: Evidence, chain: VerifiedChain) -> None:
    for length in range(len(evidence.report)):
        with pytest.raises(EvidenceError) as caught:
            verify_report(evidence.report[:length], chain, None)
        assert caught.value.reason is Reason.REPORT_MALFORMED


def test_a_thousand_flipped_bits_of_a_chain_are_refused(evidence: Evidence) -> None:
    rng = random.Random(SEED)
    sizes = [len(der) for der in evidence.certificates]
    told: dict[int, set[Reason]] = {n: set() for n in range(CHAIN_LENGTH)}
    for _ in range(CHAIN_FLIPS):
        (which,) = rng.choices(range(CHAIN_LENGTH), sizes)
        bent = list(evidence.certificates)
        bent[which] = flip(bent[which], rng.randrange(sizes[which]), rng.randrange(8))
        with pytest.raises(EvidenceError) as caught:
            verify_chain(bent, evidence.roots)
        told[which].add(caught.value.reason)
    # The root is compared byte for byte; where it does not parse or fit any more, that may be told first.
    assert Reason.CHAIN_UNTRUSTED_ROOT in told[CHAIN_LENGTH - 1]
    assert told[CHAIN_LENGTH - 1] <= CHAIN_REASONS | {Reason.CHAIN_UNTRUSTED_ROOT}
    for which in range(CHAIN_LENGTH - 1):
        assert Reason.CHAIN_SIGNATURE_INVALID in told[which]
        assert told[which] <= CHAIN_REASONS


@pytest.mark.parametrize("which", range(CHAIN_LENGTH - 1))
@pytest.mark.parametrize("unused", range(1, 8))
def test_a_signature_has_no_unused_bits(evidence: Evidence, which: int, unused: int) -> None:
    """A BIT STRING may call its last zero bits unused: the same signature in other bytes, under another chain id."""
    bent = list(evidence.certificates)
    size = len(x509.load_der_x509_certificate(bent[which]).signature)
    bent[which] = bent[which][: -size - 1] + bytes([unused]) + bent[which][-size:]
    with pytest.raises(EvidenceError) as caught:
        verify_chain(bent, evidence.roots)
    assert caught.value.reason is Reason.CHAIN_MALFORMED


def test_a_flipped_bit_of_a_chain_changes_its_id(evidence: Evidence) -> None:
    """A chain that is remembered by its id cannot be bent afterwards (docs/protocol.md I8)."""
    chains = ChainVerifier(evidence.roots)
    named = chain_id(evidence.certificates)
    bent = [flip(evidence.certificates[0], 700), *evidence.certificates[1:]]
    assert chain_id(bent) != named
    with pytest.raises(EvidenceError) as caught:
        chains.verify(named, bent, NOW)
    assert caught.value.reason is Reason.CHAIN_MISSING
    assert chains.verify(named, evidence.certificates, NOW).chain_id == named


def test_every_flipped_bit_of_the_nonce_is_another_nonce(evidence: Evidence, chain: VerifiedChain) -> None:
    nonce = evidence.report[NONCE_BYTES.start : NONCE_BYTES.stop]
    assert verify_report(evidence.report, chain, nonce).nonce == nonce
    for position in range(len(nonce)):
        for bit in range(8):
            with pytest.raises(EvidenceError) as caught:
                verify_report(evidence.report, chain, flip(nonce, position, bit))
            assert caught.value.reason is Reason.NONCE_MISMATCH


def test_emulated_evidence_stands_in(tmp_path: Path) -> None:
    """Where neither real data nor the vendor's wheel can be had, the same tests run on this."""
    stand_in = _emulated(tmp_path)
    with pytest.raises(EvidenceError):
        verify_report(flip(stand_in.report, 100), stand_in.chain, None)

"""Budgets before cryptography: what is over a budget of verifier/limits.py costs no signature check."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from firmware_stubs.ca import DeviceCA
from tests.verifier.helpers_evidence import (
    CHALLENGE,
    PROHIBITED,
    Host,
    borders,
    dumps,
    hold_session,
    references_document,
)
from verifier import limits, signatures
from verifier.errors import Reason
from verifier.evidence.attestation import UnverifiedAttestation, UnverifiedReport
from verifier.evidence.chain import chain_id
from verifier.evidence.claims import requester_nonce
from verifier.evidence.measurements import ReferenceValues
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas
from verifier.units import Challenge
from verifier.verdict import Verdict
from verifier.verifier import Inputs, Verifier

POLICY = PlacePolicy(Atlas.parse(borders(), "squares"), PROHIBITED, "test", audited_within=None)
REFERENCES = ReferenceValues.parse([json.dumps(references_document()).encode()])
LINKS = limits.CHAIN_LENGTH - 1  # signatures of a chain; the root is pinned


@dataclass
class Checks:
    """How many signatures were checked."""

    p384: int = 0
    ed25519: int = 0


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    """Counts every check of either algorithm, by whichever library, and lets it happen."""
    counted = Checks()

    def counting(verifies: Callable[..., bool]) -> Callable[..., bool]:
        def checked(*arguments: Any) -> bool:
            counted.p384 += 1
            return verifies(*arguments)

        return checked

    for key in (signatures.AwsP384Key, signatures.CryptographyP384Key):
        monkeypatch.setattr(key, "verifies", counting(key.verifies))
    ed25519 = signatures.ed25519_verifies

    def checked(*arguments: Any) -> bool:
        counted.ed25519 += 1
        return ed25519(*arguments)

    monkeypatch.setattr("verifier.cose.ed25519_verifies", checked)
    return counted


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    return Host.build(tmp_path_factory.mktemp("host"), DeviceCA.generate())


@pytest.fixture
def verifier(host: Host) -> Verifier:
    """A new one for each test: none remembers a chain."""
    return Verifier(host.roots, REFERENCES, POLICY)


@pytest.fixture
def honest(host: Host) -> tuple[UnverifiedAttestation, Inputs]:
    """Three devices, and one range."""
    attestation, chains = host.attest(ranged={0: [hold_session(host.home[0], CHALLENGE, 500_000)]})
    return attestation, host.inputs(chains)


def rejection(verdict: Verdict) -> Reason | None:
    return None if verdict.rejection is None else verdict.rejection.reason


def refusals(verdict: Verdict) -> dict[int, Reason]:
    return {r.index: r.rejection.reason for r in verdict.report_rejections}


def test_an_honest_attestation_costs_what_it_must(
    verifier: Verifier, honest: tuple[UnverifiedAttestation, Inputs], checks: Checks
) -> None:
    """The counters count: each device's report and chain, and the receipt."""
    attestation, inputs = honest
    assert (rejection(verifier.verify(attestation, inputs)), checks) == (None, Checks(3 * (LINKS + 1), 1))
    verifier.verify(attestation, inputs)  # the chains are known now
    assert checks == Checks(3 * (LINKS + 1) + 3, 2)


def over_claims_bytes(attestation: UnverifiedAttestation) -> UnverifiedAttestation:
    return replace(attestation, claims=attestation.claims.ljust(limits.MAX_CLAIMS_BYTES + 1, b"\0"))


def over_reports(attestation: UnverifiedAttestation) -> UnverifiedAttestation:
    return replace(attestation, reports=attestation.reports[:1] * (limits.MAX_REPORTS + 1))


def no_reports(attestation: UnverifiedAttestation) -> UnverifiedAttestation:
    return replace(attestation, reports=())


def over_report_bytes(attestation: UnverifiedAttestation) -> UnverifiedAttestation:
    """The last report alone is too long; the others are good and are not looked at either."""
    *others, last = attestation.reports
    long = UnverifiedReport(last.spdm.ljust(limits.MAX_REPORT_BYTES + 1, b"\0"), last.chain_id)
    return replace(attestation, reports=(*others, long))


@pytest.mark.parametrize("bend", [over_claims_bytes, over_reports, no_reports, over_report_bytes])
def test_sizes(
    verifier: Verifier,
    honest: tuple[UnverifiedAttestation, Inputs],
    checks: Checks,
    bend: Callable[[UnverifiedAttestation], UnverifiedAttestation],
) -> None:
    attestation, inputs = honest
    assert rejection(verifier.verify(bend(attestation), inputs)) is Reason.LIMIT_EXCEEDED
    assert checks == Checks()


def devices_over(claims: dict[int, Any]) -> None:
    claims[-70003] = [n.to_bytes(8, "big") for n in range(limits.MAX_REPORTS + 1)]


def ranges_over(claims: dict[int, Any]) -> None:
    claims[-70004] = [[0, bytes(32), 1]] * (limits.MAX_RANGES + 1)


def receipt_over(claims: dict[int, Any]) -> None:
    claims[-70004] = [[0, bytes(32), bytes(8), bytes(limits.MAX_RECEIPT_BYTES + 1)]]


@pytest.mark.parametrize("bend", [devices_over, ranges_over, receipt_over])
def test_claims(verifier: Verifier, host: Host, checks: Checks, bend: Callable[[dict[int, Any]], None]) -> None:
    """Every report carries the right nonce, so that the budget alone stops them."""
    attestation, chains = host.attest(bend_claims=bend)
    assert rejection(verifier.verify(attestation, host.inputs(chains))) is Reason.LIMIT_EXCEEDED
    assert checks == Checks()


def test_challenge_life(verifier: Verifier, honest: tuple[UnverifiedAttestation, Inputs], checks: Checks) -> None:
    attestation, inputs = honest
    late = replace(inputs, now=inputs.challenge.issued_at + limits.CHALLENGE_LIFE + timedelta(microseconds=1))
    assert rejection(verifier.verify(attestation, late)) is Reason.CHALLENGE_EXPIRED
    other = replace(attestation, challenge=Challenge(bytes(32)))
    assert rejection(verifier.verify(other, inputs)) is Reason.CHALLENGE_UNKNOWN
    assert checks == Checks()


@pytest.mark.parametrize(
    "bend",
    [
        lambda claims: claims.pop(265),
        lambda claims: claims.update({-70003: claims[-70003][:1]}),
        lambda claims: claims.update({-70003: claims[-70003][:1] * 3}),
        lambda claims: claims.update({10: bytes(32)}),
    ],
)
def test_claims_that_do_not_hold(
    verifier: Verifier, host: Host, checks: Checks, bend: Callable[[dict[int, Any]], None]
) -> None:
    """Duplicates and other devices than those that report are found before any signature."""
    attestation, chains = host.attest(bend_claims=bend)
    assert rejection(verifier.verify(attestation, host.inputs(chains))) is not None
    assert checks == Checks()


def with_chain(
    honest: tuple[UnverifiedAttestation, Inputs], bend: Callable[[Sequence[bytes]], Sequence[bytes]]
) -> tuple[UnverifiedAttestation, Inputs]:
    """The first report's chain is bent, and the report names what came of it."""
    attestation, inputs = honest
    first, *others = attestation.reports
    bent = bend(inputs.chains[first.chain_id])
    named = replace(first, chain_id=chain_id(bent))
    chains = {**inputs.chains, named.chain_id: bent}
    return replace(attestation, reports=(named, *others)), replace(inputs, chains=chains)


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (lambda chain: [*chain, chain[-1]], Reason.CHAIN_MALFORMED),
        (lambda chain: chain[: limits.CHAIN_LENGTH - 1], Reason.CHAIN_MALFORMED),
        (
            lambda chain: [*chain[:3], chain[3].ljust(limits.MAX_CERTIFICATE_BYTES + 1, b"\0"), chain[4]],
            Reason.LIMIT_EXCEEDED,
        ),
        (lambda chain: [*chain[:4], chain[3]], Reason.CHAIN_UNTRUSTED_ROOT),
    ],
)
def test_chains(
    verifier: Verifier,
    honest: tuple[UnverifiedAttestation, Inputs],
    checks: Checks,
    bend: Callable[[Sequence[bytes]], Sequence[bytes]],
    reason: Reason,
) -> None:
    """Nothing is checked for the device whose chain is over; the other two and no range are paid for."""
    attestation, inputs = with_chain(honest, bend)
    assert refusals(verifier.verify(attestation, inputs)) == {0: reason}
    assert checks == Checks(2 * (LINKS + 1), 0)


def test_log_entries(verifier: Verifier, host: Host, checks: Checks) -> None:
    """A log stands in a signed field: its length is read once the report's signature held, and before any receipt's."""
    held = [hold_session(host.home[0], CHALLENGE, 500_000)]
    attestation, chains = host.attest(ranged={0: held})
    nonce, gpu = requester_nonce(attestation.claims), host.gpus[0]
    log = [n.to_bytes(32, "big") * 3 for n in range(limits.MAX_LOG_ENTRIES + 1)]
    report = UnverifiedReport(gpu.report(nonce, host.links(gpu), log), attestation.reports[0].chain_id)
    attestation = replace(attestation, reports=(report, *attestation.reports[1:]))
    assert len(report.spdm) < limits.MAX_REPORT_BYTES
    assert refusals(verifier.verify(attestation, host.inputs(chains))) == {0: Reason.REPORT_MALFORMED}
    assert checks == Checks(3 * (LINKS + 1), 0)


def test_receipts_of_a_refused_device_cost_nothing(
    verifier: Verifier, honest: tuple[UnverifiedAttestation, Inputs], checks: Checks
) -> None:
    attestation, inputs = honest
    first, *others = attestation.reports
    bent = replace(first, spdm=first.spdm[:-1] + bytes([first.spdm[-1] ^ 1]))
    assert refusals(verifier.verify(replace(attestation, reports=(bent, *others)), inputs)) == {
        0: Reason.REPORT_SIGNATURE_INVALID
    }
    assert checks.ed25519 == 0


def test_a_receipt_that_does_not_parse_costs_nothing(verifier: Verifier, host: Host, checks: Checks) -> None:
    def bend(claims: dict[int, Any]) -> None:
        claims[-70004] = [[0, host.home[0].record.key_id, b"\xff" * 8, dumps(n)] for n in range(limits.MAX_RANGES)]

    attestation, chains = host.attest(bend_claims=bend)
    verdict = verifier.verify(attestation, host.inputs(chains))
    assert len(verdict.devices[0].void_ranges) == limits.MAX_RANGES
    assert checks == Checks(3 * (LINKS + 1), 0)


def test_repeated_reports_cost_one_check_each(verifier: Verifier, host: Host, checks: Checks) -> None:
    """The dearest that a peer can send: as many reports as there may be, none of which carries the nonce."""
    attestation, chains = host.attest()
    reports = (attestation.reports * limits.MAX_REPORTS)[: limits.MAX_REPORTS]

    def bend(claims: dict[int, Any]) -> None:
        claims[-70003] = [n.to_bytes(8, "big") for n in range(limits.MAX_REPORTS)]

    listed, _ = host.attest(bend_claims=bend)
    verifier.verify(replace(listed, reports=reports), host.inputs(chains))
    assert checks.p384 == len(chains) * LINKS + limits.MAX_REPORTS  # a chain that held is not checked again
    assert checks.ed25519 == 0


BOUNDS_OF_SIGNED_VALUES = {
    "MIN_ACCEPTED_ROUNDS": "a rule on a value that a landmark signed (R5)",
    "MAX_ROUNDS": "a rule on a value that a landmark signed (R3)",
    "MAX_RESULT_BYTES": "of what a server signed; tests/verifier/test_verifier_jws.py",
    "MAX_JWKS_BYTES": "of what a server published; tests/verifier/test_verifier_jws.py",
    "MAX_CACHED_CHAINS": "bounds memory; tests/verifier/test_evidence_chain.py",
    "MAX_REFUSED_CHAINS": "bounds memory; tests/verifier/test_evidence_chain.py",
}


def test_every_budget_is_here() -> None:
    """A new number in limits.py needs a test above, or a line in the table."""
    source = Path(__file__).read_text(encoding="utf-8")
    budgets = [name for name in vars(limits) if name.isupper()]
    assert len(budgets) >= 12
    assert [n for n in budgets if f"limits.{n}" not in source and n not in BOUNDS_OF_SIGNED_VALUES] == []

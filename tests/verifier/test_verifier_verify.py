"""The verifier as a whole: an emulated host tells the truth, or lies in one way and is told the one reason for it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from firmware_stubs.ca import DeviceCA
from firmware_stubs.device import Device
from firmware_stubs.firmware import GPU_CURRENT, GPU_OLDER
from tests.verifier.helpers_evidence import (
    CHALLENGE,
    HOST,
    LICENSED,
    NEAR_NS,
    NOW,
    PROHIBITED,
    Host,
    Pillar,
    Ranged,
    borders,
    flip,
    hold_session,
    make_license,
    references_document,
)
from verifier.continuity import DeviceState, SignedCounters
from verifier.errors import Reason
from verifier.evidence.attestation import UnverifiedAttestation
from verifier.evidence.chain import DeviceKind, stated_device_key_id
from verifier.evidence.measurements import ReferenceValues
from verifier.evidence.spdm import Counters
from verifier.license import Adoption, BoardSwap, Deployment
from verifier.place.answers import PlaceAnswer
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas
from verifier.units import ChainId, Challenge, Pdi
from verifier.verdict import DeviceVerdict, Standing, Verdict
from verifier.verifier import Inputs, Verifier

POLICY = PlacePolicy(
    atlas=Atlas.parse(borders(), "squares"), prohibited=PROHIBITED, prohibited_version="test", audited_within=None
)
REFERENCES = ReferenceValues.parse([json.dumps(references_document()).encode()])


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Two GPUs and a switch on one board, and a vendor that endorsed them."""
    return Host.build(tmp_path_factory.mktemp("host"), DeviceCA.generate())


@pytest.fixture
def verifier(host: Host) -> Verifier:
    return Verifier(host.roots, REFERENCES, POLICY)


def ranges(pillars: Sequence[Pillar], rtt_ns: int = NEAR_NS, rounds: int = 16) -> list[Ranged]:
    return [hold_session(p, CHALLENGE, rtt_ns, rounds) for p in pillars]


def home(host: Host) -> dict[int, Sequence[Ranged]]:
    """Ranges of the first GPU with landmarks beside it, in the licensed country."""
    return {0: ranges(host.home)}


def judge(verifier: Verifier, host: Host, **bent: Any) -> Verdict:
    """Verify evidence that is honest but for what is bent (see `Host.attest`), and does not range unless told so."""
    attestation, chains = host.attest(**bent)
    return verifier.verify(attestation, host.inputs(chains))


def reasons(device: DeviceVerdict) -> list[Reason]:
    return [f.reason for f in device.findings]


def refusals(verdict: Verdict) -> dict[int, Reason]:
    assert verdict.rejection is None
    return {r.index: r.rejection.reason for r in verdict.report_rejections}


def test_honest_host(verifier: Verifier, host: Host) -> None:
    verdict = judge(verifier, host, ranged=home(host))
    assert (verdict.host_id, verdict.challenge, verdict.received_at) == (HOST, CHALLENGE, NOW)
    assert (verdict.rejection, verdict.report_rejections) == (None, ())
    assert [d.pdi for d in verdict.devices] == [d.pdi for d in host.devices]
    first, second, switch = verdict.devices
    for gpu in (first, second):
        assert (gpu.standing, gpu.findings, gpu.presence_proven) == (Standing.COMPLIANT, (), True)
        assert gpu.proven_edges == (host.switches[0].pdi,)
        assert gpu.state.board == {host.switches[0].pdi}
        assert gpu.firmware == GPU_CURRENT.name
        assert gpu.state.highest is not None
        assert gpu.fix is not None
        assert gpu.fix.ranged_by == host.gpus[0].pdi  # docs/protocol.md B2: it extends along proven edges
        assert (gpu.fix.in_licensed_region, gpu.fix.outside_prohibited) == (PlaceAnswer.PROVEN, PlaceAnswer.PROVEN)
    assert (switch.kind, switch.standing, switch.findings) == (DeviceKind.SWITCH, None, ())
    assert switch.proven_edges == tuple(sorted(g.pdi for g in host.gpus))
    assert switch.fix is None


def attested(host: Host, **bent: Any) -> tuple[UnverifiedAttestation, Inputs]:
    attestation, chains = host.attest(**bent)
    return attestation, host.inputs(chains)


def rejected(verifier: Verifier, attestation: UnverifiedAttestation, inputs: Inputs) -> Reason:
    verdict = verifier.verify(attestation, inputs)
    assert verdict.rejection is not None
    assert (verdict.devices, verdict.report_rejections) == ((), ())
    assert (verdict.host_id, verdict.challenge) == (attestation.host_id, attestation.challenge)
    return verdict.rejection.reason


def test_step_0_budgets(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host)
    assert rejected(verifier, replace(attestation, reports=()), inputs) is Reason.LIMIT_EXCEEDED


def test_step_1_challenge(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host)
    other = replace(attestation, challenge=Challenge(bytes(32)))
    assert rejected(verifier, other, inputs) is Reason.CHALLENGE_UNKNOWN
    assert rejected(verifier, replace(attestation, host_id="host-2"), inputs) is Reason.CHALLENGE_UNKNOWN
    late = replace(inputs, now=NOW + timedelta(seconds=51))
    assert rejected(verifier, attestation, late) is Reason.CHALLENGE_EXPIRED


def test_step_2_claims(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host)
    cut = replace(attestation, claims=attestation.claims[:-1])
    assert rejected(verifier, cut, inputs) is Reason.CLAIMS_MALFORMED
    fewer = replace(attestation, reports=attestation.reports[:2])
    assert rejected(verifier, fewer, inputs) is Reason.DEVICE_LIST_MISMATCH
    bent = attested(host, bend_claims=lambda c: c.update({10: bytes(32)}))
    assert rejected(verifier, *bent) is Reason.CHALLENGE_UNKNOWN
    bent = attested(host, bend_claims=lambda c: c.update({-70001: "host-2"}))
    assert rejected(verifier, *bent) is Reason.CHALLENGE_UNKNOWN
    pdi = host.gpus[0].pdi
    bent = attested(host, bend_claims=lambda c: c.update({-70003: [pdi, pdi, host.switches[0].pdi]}))
    assert rejected(verifier, *bent) is Reason.DEVICE_REPEATED


def test_one_report_is_signed_over_another_nonce(verifier: Verifier, host: Host) -> None:
    verdict = judge(verifier, host, bend_nonce=lambda i, nonce: flip(nonce, 0) if i == 1 else nonce)
    assert refusals(verdict) == {1: Reason.NONCE_MISMATCH}
    assert [d.pdi for d in verdict.devices] == [host.gpus[0].pdi, host.switches[0].pdi]  # the others are judged


def test_claims_changed_after_signing(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host)
    time = int(NOW.timestamp())
    claims = attestation.claims.replace(time.to_bytes(4, "big"), (time + 1).to_bytes(4, "big"))
    assert claims != attestation.claims
    verdict = verifier.verify(replace(attestation, claims=claims), inputs)
    assert refusals(verdict) == dict.fromkeys(range(3), Reason.NONCE_MISMATCH)
    assert verdict.devices == ()


def test_one_bit_of_a_report(verifier: Verifier, host: Host) -> None:
    verdict = judge(verifier, host, bend_report=lambda i, report: flip(report, 60) if i == 2 else report)
    assert refusals(verdict) == {2: Reason.REPORT_SIGNATURE_INVALID}


def test_truncated_report(verifier: Verifier, host: Host) -> None:
    verdict = judge(verifier, host, bend_report=lambda i, report: report[:-1] if i == 0 else report)
    assert refusals(verdict) == {0: Reason.REPORT_MALFORMED}


def test_another_switch_in_tlv_22(verifier: Verifier, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = host.switches[0]
    real = Device.report

    def lying(device: Device, *args: Any) -> bytes:
        return real(replace(device, pdi=flip(device.pdi, 7)) if device.pdi == switch.pdi else device, *args)

    monkeypatch.setattr(Device, "report", lying)
    assert refusals(judge(verifier, host)) == {2: Reason.PDI_MISMATCH}


def test_another_fwid_in_tlv_20(verifier: Verifier, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Device.report

    def lying(device: Device, *args: Any) -> bytes:
        return real(replace(device, image=GPU_OLDER) if device.pdi == host.gpus[1].pdi else device, *args)

    monkeypatch.setattr(Device, "report", lying)
    assert refusals(judge(verifier, host)) == {1: Reason.FWID_MISMATCH}


def test_chain_neither_sent_nor_known(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host)
    verdict = verifier.verify(attestation, replace(inputs, chains={}))
    assert refusals(verdict) == dict.fromkeys(range(3), Reason.CHAIN_MISSING)


def test_chain_verified_before_need_not_be_loaded(verifier: Verifier, host: Host) -> None:
    judge(verifier, host)
    attestation, inputs = attested(host)
    assert refusals(verifier.verify(attestation, replace(inputs, chains={}))) == {}


def test_report_under_the_chain_of_another_device(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host)
    first, second, switch = attestation.reports
    swapped = (replace(first, chain_id=second.chain_id), second, switch)
    verdict = verifier.verify(replace(attestation, reports=swapped), inputs)
    assert refusals(verdict) == {0: Reason.REPORT_SIGNATURE_INVALID}


def test_impostor_of_another_vendor(verifier: Verifier, host: Host) -> None:
    listed = host.gpus[0]
    impostor = Device.in_memory(listed.path, DeviceCA.generate(), GPU_CURRENT, listed.pdi).running_as(listed)
    assert refusals(judge(verifier, host, impostors={0: impostor})) == {0: Reason.CHAIN_UNTRUSTED_ROOT}


def test_other_device_than_listed(verifier: Verifier, host: Host, tmp_path: Path) -> None:
    other = Device.manufacture(tmp_path / "gpu-0", host.ca, GPU_CURRENT).powered_on()
    assert refusals(judge(verifier, host, impostors={0: other})) == {0: Reason.DEVICE_LIST_MISMATCH}


def test_devices_in_another_order_than_listed(verifier: Verifier, host: Host) -> None:
    order = [host.gpus[1].pdi, host.gpus[0].pdi, host.switches[0].pdi]
    verdict = judge(verifier, host, bend_claims=lambda c: c.update({-70003: order}))
    assert refusals(verdict) == {0: Reason.DEVICE_LIST_MISMATCH, 1: Reason.DEVICE_LIST_MISMATCH}


def test_no_edge_no_shared_fix(verifier: Verifier, host: Host) -> None:
    def alone(index: int, link: bytes | None) -> bytes | None:
        return None if index == 1 else link  # the second GPU names no switch, although the switch names it

    verdict = judge(verifier, host, ranged=home(host), bend_link=alone)
    first, second, switch = verdict.devices
    assert (first.standing, first.proven_edges) == (Standing.COMPLIANT, (host.switches[0].pdi,))
    assert (second.standing, second.proven_edges, second.fix) == (Standing.UNPROVEN, (), None)
    assert reasons(second) == [Reason.LOCATION_UNPROVEN]
    assert switch.proven_edges == (host.gpus[0].pdi,)


def test_firmware_changed(verifier: Verifier, host: Host) -> None:
    changed = {**host.gpus[0].digests(), 2: bytes(48)}
    verdict = judge(verifier, host, ranged=home(host), digests={0: changed})
    first, second, _ = verdict.devices
    # R8: changed firmware cannot range, so its ranges are void and there is no fix for the board.
    assert reasons(first) == [Reason.FIRMWARE_MISMATCH, Reason.LOCATION_UNPROVEN, Reason.RANGE_VOID]
    assert first.findings[-1].detail.startswith("FIRMWARE_CANNOT_RANGE")
    assert (first.standing, second.standing) == (Standing.VIOLATION, Standing.UNPROVEN)
    assert reasons(second) == [Reason.LOCATION_UNPROVEN]


def test_firmware_without_reference_values(host: Host) -> None:
    document = json.dumps(references_document(without=GPU_CURRENT.name)).encode()
    verifier = Verifier(host.roots, ReferenceValues.parse([document]), POLICY)
    first, second, switch = judge(verifier, host).devices
    for gpu in (first, second):
        assert reasons(gpu) == [Reason.LOCATION_UNPROVEN, Reason.REFERENCE_MISSING]
        assert (gpu.standing, gpu.firmware) == (Standing.UNPROVEN, "")
    assert reasons(switch) == []


def test_ranged_abroad(verifier: Verifier, host: Host) -> None:
    verdict = judge(verifier, host, ranged={0: ranges(host.abroad)})
    for gpu in verdict.devices[:2]:
        assert reasons(gpu) == [Reason.OUTSIDE_LICENSED_REGION, Reason.IN_PROHIBITED_DESTINATION]
        assert (gpu.standing, gpu.presence_proven) == (Standing.VIOLATION, False)


def test_own_ranges_go_before_those_of_the_board(verifier: Verifier, host: Host) -> None:
    verdict = judge(verifier, host, ranged={0: ranges(host.home), 1: ranges(host.abroad)})
    first, second, _ = verdict.devices
    assert first.fix is not None
    assert second.fix is not None
    assert (first.fix.ranged_by, second.fix.ranged_by) == (host.gpus[0].pdi, host.gpus[1].pdi)
    assert (first.standing, second.standing) == (Standing.COMPLIANT, Standing.VIOLATION)


def test_range_that_the_device_did_not_log(verifier: Verifier, host: Host) -> None:
    sessions = ranges(host.home)
    empty = replace(sessions[0], log_entry=flip(sessions[0].log_entry, 95))
    verdict = judge(verifier, host, ranged={0: [empty, *sessions[1:]]})
    first = verdict.devices[0]
    assert reasons(first) == [Reason.RANGE_VOID]
    assert first.findings[0].detail.startswith("TRANSCRIPT_NOT_LOGGED")
    assert first.standing is Standing.COMPLIANT  # the two others still prove it


def test_ranges_of_a_refused_device_go_with_it(verifier: Verifier, host: Host) -> None:
    verdict = judge(verifier, host, ranged=home(host), bend_nonce=lambda i, nonce: flip(nonce, 0) if i == 0 else nonce)
    assert refusals(verdict) == {0: Reason.NONCE_MISMATCH}
    assert reasons(verdict.devices[0]) == [Reason.LOCATION_UNPROVEN]


def test_landmark_of_the_licensee_does_not_count(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    own = {
        pdi: replace(d, license=make_license(licensee="Operator of home-0")) for pdi, d in inputs.deployments.items()
    }
    verdict = verifier.verify(attestation, replace(inputs, deployments=own, reporter_licensee="Operator of home-0"))
    for gpu in verdict.devices[:2]:
        assert reasons(gpu) == [Reason.RANGE_VOID]
        assert gpu.findings[0].detail.startswith("LANDMARK_NOT_COUNTED")
        assert gpu.fix is not None
        assert {d.landmark_id for d in gpu.fix.discs} == {"home-1", "home-2"}


def test_device_without_deployment(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    first, second, _ = verifier.verify(attestation, replace(inputs, deployments={})).devices
    for gpu in (first, second):
        assert (reasons(gpu), gpu.standing, gpu.fix) == ([Reason.UNKNOWN_DEVICE], Standing.UNLICENSED, None)


def adoption(selector: bytes, left: int) -> Adoption:
    return Adoption(selector, make_license(), LICENSED, left)


def test_deployed_by_board_as_many_as_it_names(verifier: Verifier, host: Host) -> None:
    """docs/protocol.md RC8: with a proven edge, in the order of the reports, until the count is used up."""
    switch = host.switches[0].pdi
    attestation, inputs = attested(host, ranged=home(host))
    bare = replace(inputs, deployments={})
    for left, standings in ((2, [Standing.COMPLIANT] * 2), (1, [Standing.COMPLIANT, Standing.UNLICENSED])):
        verdict = verifier.verify(attestation, replace(bare, adoptions={switch: adoption(switch, left)}))
        *gpus, witness = verdict.devices
        assert [gpu.standing for gpu in gpus] == standings
        assert [gpu.adopted is not None for gpu in gpus] == [standing is Standing.COMPLIANT for standing in standings]
        assert witness.adopted is None
    other = Pdi(b"another!")
    verdict = verifier.verify(attestation, replace(bare, adoptions={other: adoption(other, 8)}))
    assert [gpu.standing for gpu in verdict.devices[:2]] == [Standing.UNLICENSED] * 2


def test_deployed_by_board_needs_the_edge(verifier: Verifier, host: Host) -> None:
    switch = host.switches[0].pdi

    def alone(index: int, link: bytes | None) -> bytes | None:
        return None if index == 1 else link  # the second GPU names no switch, although the switch names it

    attestation, chains = host.attest(bend_link=alone)
    inputs = replace(host.inputs(chains), deployments={}, adoptions={switch: adoption(switch, 8)})
    verdict = verifier.verify(attestation, inputs)
    assert [gpu.standing for gpu in verdict.devices[:2]] == [Standing.UNPROVEN, Standing.UNLICENSED]


def test_deployed_by_key(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    key = verifier.verify(attestation, inputs).devices[0].device_key_id
    adopting = replace(inputs, deployments={}, adoptions={key: adoption(key, 1)})
    first, second, _ = verifier.verify(attestation, adopting).devices
    assert (first.standing, first.adopted) == (Standing.COMPLIANT, adoption(key, 1))
    assert (second.standing, second.adopted) == (Standing.UNLICENSED, None)
    # Its own deployment goes before.
    own = verifier.verify(attestation, replace(inputs, adoptions={key: adoption(key, 1)}))
    assert own.devices[0].adopted is None


def test_key_that_a_chain_states(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host)
    verdict = verifier.verify(attestation, inputs)
    for report, device in zip(attestation.reports, verdict.devices, strict=True):
        assert stated_device_key_id(inputs.chains[report.chain_id]) == device.device_key_id
    chain = list(inputs.chains[attestation.reports[0].chain_id])
    assert stated_device_key_id(chain[:4]) is None
    assert stated_device_key_id([chain[0], b"no certificate", *chain[2:]]) is None
    assert stated_device_key_id([chain[0], bytes(5_000), *chain[2:]]) is None


def test_swap_on_record_is_told(verifier: Verifier, host: Host) -> None:
    pdi, switch = Pdi(host.gpus[0].pdi), Pdi(host.switches[0].pdi)
    attestation, inputs = attested(host)
    past = {pdi: DeviceState(board=frozenset({Pdi(b"old-----")}))}
    swap = BoardSwap(frozenset({switch}), NOW)
    deployments = {**inputs.deployments, pdi: replace(inputs.deployments[pdi], swap=swap)}
    device = verifier.verify(attestation, replace(inputs, deployments=deployments, last=past)).devices[0]
    assert (device.swapped, set(device.state.board)) == (True, {switch})
    assert Reason.BOARD_CHANGED not in reasons(device)
    without = verifier.verify(attestation, replace(inputs, last=past)).devices[0]
    assert (without.swapped, Reason.BOARD_CHANGED in reasons(without)) == (False, True)


def test_f_of_the_license_goes_before_the_operators(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    pdi = Pdi(host.gpus[0].pdi)
    for tolerated, proven in ((2, True), (3, False), (None, True)):
        held = replace(make_license(), tolerated_domains=tolerated)
        deployments = {**inputs.deployments, pdi: Deployment(pdi, held, LICENSED)}
        device = verifier.verify(attestation, replace(inputs, deployments=deployments)).devices[0]
        assert device.fix is not None
        assert (device.fix.tolerated_domains, device.presence_proven) == (tolerated or 1, proven)
    assert POLICY.tolerating(2) is POLICY.tolerating(2)
    assert POLICY.tolerating(1) is POLICY


def test_license_of_each_device_is_its_own(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    second = Pdi(host.gpus[1].pdi)
    abroad = {**inputs.deployments, second: Deployment(second, make_license(), PROHIBITED)}
    verdict = verifier.verify(attestation, replace(inputs, deployments=abroad))
    assert verdict.devices[0].standing is Standing.COMPLIANT
    assert reasons(verdict.devices[1]) == [Reason.OUTSIDE_LICENSED_REGION]


def test_reported_by_another_licensee(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    verdict = verifier.verify(attestation, replace(inputs, reporter_licensee="somebody"))
    assert [reasons(d) for d in verdict.devices] == [[Reason.FOREIGN_REPORT], [Reason.FOREIGN_REPORT], []]


def test_license_over(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    over = replace(make_license(), valid_until=NOW)
    deployments = {pdi: Deployment(pdi, over, LICENSED) for pdi in inputs.deployments}
    verdict = verifier.verify(attestation, replace(inputs, deployments=deployments))
    assert reasons(verdict.devices[0]) == [Reason.LICENSE_EXPIRED]


def last(host: Host, state: DeviceState) -> Mapping[Pdi, DeviceState]:
    return {Pdi(host.gpus[0].pdi): state}


def test_counter_that_did_not_move(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    accepted = verifier.verify(attestation, inputs).devices[0].state
    assert accepted.highest is not None
    again = verifier.verify(attestation, replace(inputs, last=last(host, accepted)))
    assert reasons(again.devices[0]) == [Reason.IDENTITY_CLONED]
    counters = accepted.highest.counters
    earlier = replace(accepted.highest, counters=Counters(counters.boot, counters.attestation - 1))
    forward = verifier.verify(attestation, replace(inputs, last=last(host, replace(accepted, highest=earlier))))
    assert reasons(forward.devices[0]) == []
    day = timedelta(days=1)
    higher = Counters(counters.boot, counters.attestation + 1)
    long_ago = SignedCounters(higher, inputs.challenge.issued_at - day, inputs.now - day)
    back = verifier.verify(attestation, replace(inputs, last=last(host, replace(accepted, highest=long_ago))))
    assert reasons(back.devices[0]) == [Reason.COUNTER_ROLLBACK]


def test_too_far_a_way_since_the_last_fix(verifier: Verifier, host: Host) -> None:
    before = judge(verifier, host, ranged=home(host)).devices
    assert before[0].state.place is not None
    states = {d.pdi: d.state for d in before}
    attestation, inputs = attested(host, ranged={0: ranges(host.abroad)})
    at_once = verifier.verify(attestation, replace(inputs, last=states)).devices
    for gpu in at_once[:2]:  # the second one is where its board is (docs/protocol.md B2)
        assert Reason.IMPOSSIBLE_TRAVEL in reasons(gpu)
        assert gpu.fix is not None
        assert gpu.state.place is not None
        assert gpu.state.place.discs == tuple((d.position, d.radius_km) for d in gpu.fix.discs)
    assert reasons(at_once[2]) == []
    assert at_once[2].state.place is None
    stayed, again = attested(host, ranged=home(host))
    for gpu in verifier.verify(stayed, replace(again, last=states)).devices:
        assert reasons(gpu) == []
    # A device without a fix keeps what the one before allowed.
    silent, nothing = attested(host)
    kept = verifier.verify(silent, replace(nothing, last=states)).devices[0]
    assert reasons(kept) == [Reason.LOCATION_UNPROVEN]
    assert kept.state.place == before[0].state.place


def test_gpu_on_another_board(verifier: Verifier, host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    elsewhere = frozenset({Pdi(b"switch--")})
    verdict = verifier.verify(attestation, replace(inputs, last=last(host, DeviceState(board=elsewhere))))
    assert reasons(verdict.devices[0]) == [Reason.BOARD_CHANGED]
    assert verdict.devices[0].state.board == elsewhere
    assert reasons(verdict.devices[1]) == []


def test_location_that_the_host_tells_changes_nothing(verifier: Verifier, host: Host) -> None:
    verdict = judge(verifier, host, bend_claims=lambda c: c.update({264: {1: 10.0, 2: 10.0}}))
    assert [d.fix for d in verdict.devices] == [None, None, None]
    assert reasons(verdict.devices[0]) == [Reason.LOCATION_UNPROVEN]


def test_same_evidence_same_verdict(host: Host) -> None:
    attestation, inputs = attested(host, ranged=home(host))
    verifier = Verifier(host.roots, REFERENCES, POLICY)
    fresh, cached = (verifier.verify(attestation, inputs) for _ in range(2))
    assert fresh == cached


def test_chains_by_id(host: Host) -> None:
    """The helper's chains are those that the reports name."""
    attestation, chains = host.attest()
    assert {r.chain_id for r in attestation.reports} == set(chains)
    assert all(len(ChainId(i)) == 32 for i in chains)


def test_provisional_fix(verifier: Verifier, host: Host) -> None:
    _, inputs = attested(host)
    receipts = [r.receipt for r in ranges(host.home)]
    pdi = Pdi(host.gpus[0].pdi)

    def provisional(given: Sequence[bytes]) -> Any:
        return verifier.provisional_fix(given, LICENSED, inputs.challenge, host.registry, make_license(), NOW, pdi)

    fix = provisional(receipts)
    assert (fix.ranged_by, fix.in_licensed_region, len(fix.discs)) == (pdi, PlaceAnswer.PROVEN, 3)
    bad = [flip(receipts[0], len(receipts[0]) - 1), b"", *receipts[1:]]
    assert {d.landmark_id for d in provisional(bad).discs} == {"home-1", "home-2"}
    assert provisional([]) is None

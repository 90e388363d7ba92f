"""Chains: each rule of docs/protocol.md §5 by a chain that breaks it alone."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs.ca import DeviceCA
from firmware_stubs.certificates import Overrides
from firmware_stubs.device import Device
from firmware_stubs.firmware import GPU_CURRENT, SWITCH_CURRENT, FirmwareImage
from tests.verifier.helpers_evidence import (
    FWID,
    GPU_PDI,
    NOW,
    Chain,
    Change,
    Extensions,
    composite,
    flip,
    make_chain,
    name_of,
    p384_key,
    sha256,
    spki,
    usage,
)
from verifier.errors import EvidenceError, Reason, UsageError
from verifier.evidence import chain as chain_module
from verifier.evidence.chain import ChainVerifier, DeviceKind, TrustRoots, VerifiedChain, chain_id, verify_chain
from verifier.limits import MAX_CERTIFICATE_BYTES
from verifier.units import ChainId

HONEST = make_chain()
OID_TCB_INFO = x509.ObjectIdentifier("2.23.133.5.4.1.1")
OID_EXAMPLE = x509.ObjectIdentifier("1.3.6.1.4.1.32473.9")


def refused(certificates: Sequence[bytes], roots: TrustRoots = HONEST.roots) -> Reason:
    with pytest.raises(EvidenceError) as caught:
        verify_chain(certificates, roots)
    return caught.value.reason


def refused_with(position: int, change: Change) -> Reason:
    """The reason for a chain that differs from an honest one in one certificate, its own root pinned."""
    chain = make_chain({position: change})
    return refused(chain.certificates, chain.roots)


def der(tag: int, content: bytes) -> bytes:
    length = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return bytes([tag]) + length + content


SHA384_OID = bytes.fromhex("0609608648016503040202")


def fwid(digest: bytes = FWID, oid: bytes = SHA384_OID) -> bytes:
    return der(0x30, oid + der(0x04, digest))


def tcb_info(*fwids: bytes) -> Extensions:
    """DiceTcbInfo with vendor, svn and these FWIDs."""
    value = der(0x30, der(0x80, b"vendor") + der(0x83, b"\x07") + der(0xA6, b"".join(fwids)))
    return ((x509.UnrecognizedExtension(OID_TCB_INFO, value), False),)


def test_honest_chain() -> None:
    chain = HONEST.verified()
    assert chain.chain_id == sha256(*HONEST.certificates) == chain_id(HONEST.certificates)
    assert (chain.pdi, chain.kind, chain.fwid) == (GPU_PDI, DeviceKind.GPU, FWID)
    assert chain.device_key_id == sha256(spki(p384_key("certificate 1")))
    assert chain.model == "GH100"
    assert (chain.not_before, chain.not_after) == (datetime(2020, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC))
    message = b"a report"
    signature = p384_key("certificate 0").sign(message, ec.ECDSA(hashes.SHA384()))
    assert chain.report_key.verifies(signature, message)


def test_switch_is_told_by_its_serial() -> None:
    chain = make_chain(serial_prefix=0x50).verified()
    assert (chain.kind, chain.pdi) == (DeviceKind.SWITCH, GPU_PDI)


def test_device_key_outlives_firmware() -> None:
    other = make_chain({0: Change(public_key=p384_key("other firmware").public_key())})
    assert other.chain_id != HONEST.chain_id
    assert other.verified().device_key_id == HONEST.verified().device_key_id


@pytest.mark.parametrize("count", [0, 1, 4, 6])
def test_i1_other_length(count: int) -> None:
    certificates = (*HONEST.certificates, HONEST.certificates[-1])[:count]
    assert refused(certificates) is Reason.CHAIN_MALFORMED


def test_large_certificate_is_refused_before_it_is_parsed() -> None:
    junk = bytes(MAX_CERTIFICATE_BYTES + 1)
    assert refused((*HONEST.certificates[:4], junk)) is Reason.LIMIT_EXCEEDED
    assert refused((*HONEST.certificates[:4], junk[:-1])) is Reason.CHAIN_MALFORMED


@pytest.mark.parametrize("position", range(5))
def test_i1_junk_for_a_certificate(position: int) -> None:
    certificates = [*HONEST.certificates]
    certificates[position] = certificates[position][:-1]
    assert refused(certificates) is Reason.CHAIN_MALFORMED


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-256", "Ed25519", "RSA"],
)
@pytest.mark.parametrize("position", [0, 1])
def test_i1_other_key(
    position: int, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
) -> None:
    assert refused_with(position, Change(public_key=key.public_key())) is Reason.CHAIN_MALFORMED


@pytest.mark.parametrize("position", range(5))
def test_i1_other_hash(position: int) -> None:
    assert refused_with(position, Change(hash_algorithm="SHA256")) is Reason.CHAIN_MALFORMED


@pytest.mark.parametrize("position", range(5))
def test_i1_signature_whose_last_bit_is_called_unused(position: int) -> None:
    certificates = [*HONEST.certificates]
    while certificates[position][-1] & 1:  # such a bit must be 0
        certificates = [*make_chain().certificates]
    signature = x509.load_der_x509_certificate(certificates[position]).signature
    certificates[position] = flip(certificates[position], -len(signature) - 1)
    assert x509.load_der_x509_certificate(certificates[position]).signature == signature
    assert refused(certificates, TrustRoots(frozenset(certificates[4:]))) is Reason.CHAIN_MALFORMED


def test_i2_root_must_be_the_pinned_bytes() -> None:
    twin = make_chain()  # same names and keys, another signature
    assert twin.certificates[4] != HONEST.certificates[4]
    assert refused(twin.certificates) is Reason.CHAIN_UNTRUSTED_ROOT


def test_i2_pinned_root_elsewhere_is_no_root() -> None:
    other = make_chain({4: Change(public_key=p384_key("other root").public_key(), signer=p384_key("other root"))})
    assert refused((*HONEST.certificates[:3], HONEST.certificates[4], other.certificates[4])) is (
        Reason.CHAIN_UNTRUSTED_ROOT
    )


@pytest.mark.parametrize("position", range(4))
def test_i2_not_signed_by_the_next(position: int) -> None:
    assert refused_with(position, Change(signer=p384_key("stranger"))) is Reason.CHAIN_SIGNATURE_INVALID


@pytest.mark.parametrize("position", range(4))
def test_i2_issuer_is_not_the_next(position: int) -> None:
    assert refused_with(position, Change(issuer=name_of(9))) is Reason.CHAIN_CONSTRAINT_VIOLATED


@pytest.mark.parametrize("position", range(1, 4))
def test_i2_two_certificates_exchanged(position: int) -> None:
    certificates = [*HONEST.certificates]
    certificates[position - 1], certificates[position] = certificates[position], certificates[position - 1]
    assert refused(certificates) is Reason.CHAIN_CONSTRAINT_VIOLATED


def test_i3_leaf_must_not_be_a_ca() -> None:
    ca = x509.BasicConstraints(ca=True, path_length=None)
    assert refused_with(0, Change(constraints=ca)) is Reason.CHAIN_CONSTRAINT_VIOLATED
    no_ca = x509.BasicConstraints(ca=False, path_length=None)
    assert make_chain({0: Change(constraints=no_ca)}).verified().pdi == GPU_PDI


def test_i3_leaf_must_not_sign_certificates() -> None:
    both = usage(digital_signature=True, cert_sign=True)
    assert refused_with(0, Change(usage=both)) is Reason.CHAIN_CONSTRAINT_VIOLATED


def test_i3_leaf_must_sign_reports() -> None:
    assert refused_with(0, Change(usage=usage())) is Reason.CHAIN_CONSTRAINT_VIOLATED


@pytest.mark.parametrize("position", range(1, 5))
@pytest.mark.parametrize("constraints", [x509.BasicConstraints(ca=False, path_length=None), "absent"])
def test_i3_must_be_a_ca(position: int, constraints: x509.BasicConstraints) -> None:
    assert refused_with(position, Change(constraints=constraints)) is Reason.CHAIN_CONSTRAINT_VIOLATED


@pytest.mark.parametrize("position", range(1, 5))
def test_i3_must_sign_certificates(position: int) -> None:
    change = Change(usage=usage(digital_signature=True))
    assert refused_with(position, change) is Reason.CHAIN_CONSTRAINT_VIOLATED


@pytest.mark.parametrize("position", range(5))
def test_i3_no_key_usage(position: int) -> None:
    assert refused_with(position, Change(usage="absent")) is Reason.CHAIN_CONSTRAINT_VIOLATED


@pytest.mark.parametrize("position", range(5))
def test_i3_unknown_critical_extension(position: int) -> None:
    extension = x509.UnrecognizedExtension(OID_EXAMPLE, b"\x05\0")
    assert refused_with(position, Change(more=((extension, True),))) is Reason.CHAIN_CONSTRAINT_VIOLATED
    assert make_chain({position: Change(more=((extension, False),))}).verified().pdi == GPU_PDI


def test_i3_critical_extension_that_others_know() -> None:
    names = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example.invalid")], excluded_subtrees=None)
    assert refused_with(2, Change(more=((names, True),))) is Reason.CHAIN_CONSTRAINT_VIOLATED


@pytest.mark.parametrize("position", range(1, 5))
def test_path_length(position: int) -> None:
    def constrained(length: int) -> Change:
        return Change(constraints=x509.BasicConstraints(ca=True, path_length=length))

    assert make_chain({position: constrained(position - 1)}).verified().pdi == GPU_PDI
    if position > 1:
        assert refused_with(position, constrained(position - 2)) is Reason.CHAIN_CONSTRAINT_VIOLATED


@pytest.mark.parametrize(
    "serial",
    [
        pytest.param(bytes.fromhex("42") + GPU_PDI, id="another kind"),
        pytest.param(bytes.fromhex("41") + GPU_PDI[:-1], id="short"),
        pytest.param(bytes.fromhex("41") + GPU_PDI + b"\0", id="long"),
        pytest.param(b"\x01", id="one"),
    ],
)
def test_i5_serial(serial: bytes) -> None:
    assert refused_with(1, Change(serial=int.from_bytes(serial, "big"))) is Reason.CHAIN_CONSTRAINT_VIOLATED


@pytest.mark.parametrize(
    "firmware_id",
    [
        pytest.param((), id="none"),
        pytest.param(composite(device_spki=spki(p384_key("stranger"))), id="another device key"),
        pytest.param(composite(FWID[:47]), id="short"),
        pytest.param(composite(FWID + b"\0"), id="long"),
        pytest.param(
            ((x509.UnrecognizedExtension(x509.ObjectIdentifier("2.23.133.5.4.1"), b"\x30\x00"), False),), id="empty"
        ),
    ],
)
def test_i6_composite_device_id(firmware_id: Extensions) -> None:
    assert refused_with(0, Change(firmware_id=firmware_id)) is Reason.CHAIN_CONSTRAINT_VIOLATED


def composite_value(version: int = 1, oid: bytes = SHA384_OID, more: bytes = b"") -> Extensions:
    value = der(0x30, der(0x02, bytes([version])) + spki(p384_key("certificate 1")) + fwid(oid=oid) + more)
    return ((x509.UnrecognizedExtension(x509.ObjectIdentifier("2.23.133.5.4.1"), value), False),)


def test_i6_composite_of_another_version_hash_or_length() -> None:
    sha512 = bytes.fromhex("0609608648016503040203")
    assert make_chain({0: Change(firmware_id=composite_value())}).verified().fwid == FWID
    for other in (composite_value(version=2), composite_value(oid=sha512), composite_value(more=b"\x05\0")):
        assert refused_with(0, Change(firmware_id=other)) is Reason.CHAIN_CONSTRAINT_VIOLATED


def test_i6_dice_tcb_info() -> None:
    assert make_chain({0: Change(firmware_id=tcb_info(fwid()))}).verified().fwid == FWID


@pytest.mark.parametrize(
    "firmware_id",
    [
        pytest.param(tcb_info(), id="no FWID"),
        pytest.param(tcb_info(fwid(), fwid(bytes(48))), id="two FWIDs"),
        pytest.param(tcb_info(fwid(FWID[:32])), id="short"),
        pytest.param(tcb_info(fwid(oid=bytes.fromhex("0609608648016503040201"))), id="SHA-256"),
        pytest.param(((x509.UnrecognizedExtension(OID_TCB_INFO, b"\x30\x02\x83\x00"), False),), id="bad svn"),
        pytest.param(((x509.UnrecognizedExtension(OID_TCB_INFO, b"\x30\x00"), False),), id="empty"),
    ],
)
def test_i6_dice_tcb_info_that_binds_nothing(firmware_id: Extensions) -> None:
    assert refused_with(0, Change(firmware_id=firmware_id)) is Reason.CHAIN_CONSTRAINT_VIOLATED


def test_i6_composite_is_asked_first() -> None:
    both = (*composite(), *tcb_info(fwid(bytes(48))))
    assert make_chain({0: Change(firmware_id=both)}).verified().fwid == FWID


def test_leaf_without_a_name_has_no_model() -> None:
    attributes: list[x509.NameAttribute[str]] = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "nobody")]
    assert make_chain({0: Change(subject=x509.Name(attributes))}).verified().model == ""


LIE: dict[str, tuple[Overrides, Reason]] = {
    "serial": (Overrides(device_serial=7), Reason.CHAIN_CONSTRAINT_VIOLATED),
    "device is no CA": (Overrides(device_is_ca=False), Reason.CHAIN_CONSTRAINT_VIOLATED),
    "device may not sign": (Overrides(device_may_sign_certificates=False), Reason.CHAIN_CONSTRAINT_VIOLATED),
    "device expired": (Overrides(device_not_after=NOW - timedelta(days=1)), Reason.CHAIN_EXPIRED),
    "leaf is a CA": (Overrides(leaf_is_ca=True), Reason.CHAIN_CONSTRAINT_VIOLATED),
    "leaf not yet valid": (Overrides(leaf_not_before=NOW + timedelta(days=1)), Reason.CHAIN_EXPIRED),
    "leaf expired": (Overrides(leaf_not_after=NOW - timedelta(days=1)), Reason.CHAIN_EXPIRED),
    "leaf's issuer": (Overrides(leaf_issuer=name_of(3)), Reason.CHAIN_CONSTRAINT_VIOLATED),
    "leaf's signer": (Overrides(leaf_signer=p384_key("stranger")), Reason.CHAIN_SIGNATURE_INVALID),
    "leaf's critical extension": (Overrides(leaf_unknown_critical=True), Reason.CHAIN_CONSTRAINT_VIOLATED),
    "FWID of no length": (Overrides(fwid=FWID[:40]), Reason.CHAIN_CONSTRAINT_VIOLATED),
    "FWID of another key": (Overrides(fwid_public_key=spki(p384_key("stranger"))), Reason.CHAIN_CONSTRAINT_VIOLATED),
}


@pytest.fixture(scope="module")
def vendor() -> DeviceCA:
    return DeviceCA.generate()


def vendor_roots(vendor: DeviceCA) -> TrustRoots:
    return TrustRoots(frozenset({vendor.root.certificate.public_bytes(Encoding.DER)}))


@pytest.mark.parametrize("lie", LIE)
def test_one_lie_of_the_emulated_vendor(vendor: DeviceCA, lie: str) -> None:
    overrides, reason = LIE[lie]
    chain = Device.in_memory(Path(), vendor, GPU_CURRENT, GPU_PDI, overrides).chain_der()
    with pytest.raises(EvidenceError) as caught:
        ChainVerifier(vendor_roots(vendor)).verify(chain_id(chain), chain, NOW)
    assert caught.value.reason is reason


@pytest.mark.parametrize("firmware", [GPU_CURRENT, SWITCH_CURRENT])
def test_emulated_devices_have_good_chains(vendor: DeviceCA, firmware: FirmwareImage) -> None:
    chain = Device.in_memory(Path(), vendor, firmware, GPU_PDI).chain_der()
    verified = ChainVerifier(vendor_roots(vendor)).verify(chain_id(chain), chain, NOW)
    assert (verified.pdi, verified.fwid) == (GPU_PDI, firmware.fwid)
    assert verified.kind.name.lower() == firmware.kind.value


def test_foreign_vendor_of_the_same_names(vendor: DeviceCA) -> None:
    chain = Device.in_memory(Path(), DeviceCA.generate(), GPU_CURRENT, GPU_PDI).chain_der()
    assert refused(chain, vendor_roots(vendor)) is Reason.CHAIN_UNTRUSTED_ROOT
    chain[4] = vendor.root.certificate.public_bytes(Encoding.DER)
    assert refused(chain, vendor_roots(vendor)) is Reason.CHAIN_SIGNATURE_INVALID


def verify(verifier: ChainVerifier, chain: Chain, now: datetime = NOW) -> None:
    assert verifier.verify(chain.chain_id, chain.certificates, now).pdi == GPU_PDI


def reason_of(call: Callable[[], object]) -> Reason:
    with pytest.raises(EvidenceError) as caught:
        call()
    return caught.value.reason


def test_unknown_chain_is_missing() -> None:
    verifier = ChainVerifier(HONEST.roots)
    assert reason_of(lambda: verifier.verify(HONEST.chain_id, None, NOW)) is Reason.CHAIN_MISSING


def test_chain_under_another_id_is_missing() -> None:
    verifier = ChainVerifier(HONEST.roots)
    other = ChainId(bytes(32))
    assert reason_of(lambda: verifier.verify(other, HONEST.certificates, NOW)) is Reason.CHAIN_MISSING


def test_verified_chain_need_not_be_sent_again() -> None:
    verifier = ChainVerifier(HONEST.roots)
    verify(verifier, HONEST)
    assert verifier.verify(HONEST.chain_id, None, NOW).pdi == GPU_PDI


def test_refused_chain_is_not_remembered() -> None:
    verifier = ChainVerifier(HONEST.roots)
    bad = make_chain()
    assert reason_of(lambda: verify(verifier, bad)) is Reason.CHAIN_UNTRUSTED_ROOT
    assert reason_of(lambda: verifier.verify(bad.chain_id, None, NOW)) is Reason.CHAIN_MISSING


def test_chain_used_longest_ago_is_forgotten_first() -> None:
    a, b, c = (make_chain({0: Change(serial=n), 4: Change()}) for n in (1, 2, 3))
    verifier = ChainVerifier(TrustRoots(a.roots.certificates | b.roots.certificates | c.roots.certificates), capacity=2)
    verify(verifier, a)
    verify(verifier, b)
    verify(verifier, a)
    verify(verifier, c)
    assert verifier.verify(a.chain_id, None, NOW).pdi == GPU_PDI
    assert verifier.verify(c.chain_id, None, NOW).pdi == GPU_PDI
    assert reason_of(lambda: verifier.verify(b.chain_id, None, NOW)) is Reason.CHAIN_MISSING


@pytest.mark.parametrize("position", range(5))
def test_i3_validity_of_each_certificate(position: int) -> None:
    first, last = NOW - timedelta(days=1), NOW + timedelta(days=1)
    chain = make_chain({position: Change(not_before=first, not_after=last)})
    verifier = ChainVerifier(chain.roots)
    for moment in (first, NOW, last):
        verify(verifier, chain, moment)
    second = timedelta(seconds=1)
    for cached in (verifier, ChainVerifier(chain.roots)):  # a cached chain is asked again
        for moment in (first - second, last + second):
            assert reason_of(lambda c=cached, m=moment: verify(c, chain, m)) is Reason.CHAIN_EXPIRED  # type: ignore[misc]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3), st.integers(0, 10_000), st.integers(0, 7))
def test_any_flipped_bit_below_the_root_is_refused(position: int, offset: int, bit: int) -> None:
    certificates = [*HONEST.certificates]
    certificates[position] = flip(certificates[position], offset % len(certificates[position]), bit)
    assert Reason.CHAIN_MALFORMED <= refused(certificates) <= Reason.CHAIN_CONSTRAINT_VIOLATED


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=80), min_size=5, max_size=5))
def test_parsing_is_total(certificates: list[bytes]) -> None:
    assert refused(certificates) is Reason.CHAIN_MALFORMED


def pem(certificates: Sequence[bytes]) -> bytes:
    return b"".join(x509.load_der_x509_certificate(c).public_bytes(Encoding.PEM) for c in certificates)


def test_roots_from_pem() -> None:
    other = make_chain().certificates[4]
    roots = TrustRoots.parse([pem(HONEST.certificates[3:]), pem([other])])
    assert roots.certificates == {*HONEST.certificates[3:], other}


@pytest.mark.parametrize("pems", [[], [b""], [b"junk"], [pem(HONEST.certificates[4:]), b"-----BEGIN CERTIFICATE-----"]])
def test_roots_that_are_none(pems: list[bytes]) -> None:
    with pytest.raises(UsageError):
        TrustRoots.parse(pems)


@pytest.mark.filterwarnings("ignore:.*serial number.*")
def test_a_negative_serial_is_no_identity() -> None:
    certificates = list(make_chain().certificates)
    signed_part = x509.load_der_x509_certificate(certificates[1]).tbs_certificate_bytes
    at = signed_part.index(bytes.fromhex("020941"))
    signed_part = signed_part[: at + 2] + b"\xc1" + signed_part[at + 3 :]
    signature = p384_key("certificate 2").sign(signed_part, ec.ECDSA(hashes.SHA384()))
    algorithm = bytes.fromhex("300a06082a8648ce3d040303")
    body = signed_part + algorithm + b"\x03" + bytes([len(signature) + 1]) + b"\0" + signature
    certificates[1] = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    with pytest.raises(EvidenceError) as caught:
        verify_chain(certificates, TrustRoots(frozenset({certificates[4]})))
    assert caught.value.reason in {
        Reason.CHAIN_CONSTRAINT_VIOLATED,
        Reason.CHAIN_MALFORMED,
        Reason.CHAIN_SIGNATURE_INVALID,
    }


def test_a_bad_chain_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = make_chain()
    verifier = ChainVerifier(TrustRoots(frozenset({b"another vendor's"})))
    calls: list[Sequence[bytes]] = []

    def counted(certificates: Sequence[bytes], roots: TrustRoots) -> VerifiedChain:
        calls.append(certificates)
        return verify_chain(certificates, roots)

    monkeypatch.setattr(chain_module, "verify_chain", counted)
    for _ in range(3):
        with pytest.raises(EvidenceError) as caught:
            verifier.verify(chain_id(chain.certificates), chain.certificates, NOW)
        assert caught.value.reason is Reason.CHAIN_UNTRUSTED_ROOT
    assert len(calls) == 1
    # Bounded: the oldest refusal goes.
    monkeypatch.setattr(chain_module, "MAX_REFUSED_CHAINS", 1)
    for certificates in ([b"x"] * 5, chain.certificates, [b"y"] * 5, chain.certificates):
        with pytest.raises(EvidenceError):
            verifier.verify(chain_id(certificates), certificates, NOW)
    assert len(verifier._refused) == 1

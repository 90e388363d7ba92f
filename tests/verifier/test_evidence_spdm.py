"""Device reports: each rule of docs/protocol.md §4 by a report that breaks it alone, signed by the right key."""

from collections.abc import Callable
from contextlib import suppress
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verifier.helpers_evidence import (
    BLOCKS,
    FWID,
    GPU_PDI,
    NONCE,
    Change,
    composite,
    flip,
    make_chain,
    make_report,
    make_unsigned,
    p384_key,
    signed,
    spki,
)
from verifier.errors import EvidenceError, FwidMismatchError, Reason, ReportMalformedError
from verifier.evidence.spdm import Counters, LogEntry, MeasurementReport, parse_report, verify_report

GPU = make_chain().verified()
SWITCH = make_chain(serial_prefix=0x50).verified()
OWN = (22, GPU_PDI)
A, B = bytes.fromhex("a1a2a3a4a5a6a7a8"), bytes.fromhex("b1b2b3b4b5b6b7b8")
FREE, ZERO = b"\xff" * 8, bytes(8)


def good(report: bytes) -> MeasurementReport:
    return verify_report(report, GPU, NONCE)


def refused(report: bytes, nonce: bytes | None = NONCE) -> Reason:
    with pytest.raises(EvidenceError) as caught:
        verify_report(report, GPU, nonce)
    return caught.value.reason


def malformed(unsigned: bytes) -> None:
    """The report is refused for its form although its signature holds."""
    assert refused(signed(unsigned)) is Reason.REPORT_MALFORMED


def entry(number: int) -> bytes:
    return b"".join(bytes([part, number]) * 16 for part in (1, 2, 3))


def test_good_report() -> None:
    report = good(make_report([(99, b"unknown"), (3, b"570.1\0"), (6, bytes.fromhex("0100a5009600000000")[:8])]))
    assert report.nonce == NONCE
    assert report.measurements == BLOCKS
    assert report.driver_version == "570.1"
    assert report.vbios_version == "00.A5.00.01.96"
    assert (report.linked, report.log, report.counters) == (frozenset(), (), None)


def test_report_without_blocks_and_fields() -> None:
    report = good(make_report(blocks={}))
    assert (report.measurements, report.driver_version, report.vbios_version) == ({}, "", "")


@pytest.mark.parametrize("position", [0, 1, 2, 3, 37, 38, 39, 40])
def test_header(position: int) -> None:
    malformed(flip(make_unsigned(), position))


@pytest.mark.parametrize("length", [0, 1, 44, 45, 46])
def test_short(length: int) -> None:
    assert refused(make_report()[:length]) is Reason.REPORT_MALFORMED


def test_e1_nothing_follows() -> None:
    assert refused(make_report() + b"\0") is Reason.REPORT_MALFORMED
    assert refused(make_report()[:-1]) is Reason.REPORT_MALFORMED
    malformed(make_unsigned() + b"\0")


def test_e1_lengths_fill_the_report() -> None:
    unsigned = make_unsigned()
    malformed(unsigned[:41] + b"\x03" + unsigned[42:])  # three blocks said, two there
    malformed(unsigned[:42] + (3 * 55).to_bytes(3, "little") + unsigned[45:])
    malformed(unsigned[:-2] + b"\x01\x00")  # an opaque byte said, none there
    malformed(unsigned[:41] + b"\xff" + (255 * 55).to_bytes(3, "little") + unsigned[45:])


def test_e2_block_indices() -> None:
    malformed(make_unsigned(blocks={0: bytes(48), 1: bytes(48)}))
    twice = make_unsigned(blocks={7: bytes(48), 8: bytes(48)})
    malformed(twice[: 45 + 55] + b"\x07" + twice[45 + 56 :])
    assert good(make_report(blocks={1: bytes(48), 255: bytes(48)})).measurements.keys() == {1, 255}


@pytest.mark.parametrize("offset", range(1, 7))
def test_block_header(offset: int) -> None:
    malformed(flip(make_unsigned(), 45 + 55 + offset))


def test_e3_fields() -> None:
    malformed(make_unsigned([(36, b"a"), (36, b"a")]))
    unsigned = make_unsigned([(36, b"abc")])
    cut = len(make_unsigned()) - 2  # where the opaque length stands

    def opaque(data: bytes) -> bytes:
        return unsigned[:cut] + len(data).to_bytes(2, "little") + data

    assert good(signed(opaque(b"\x24\0\x03\0abc"))).measurements == BLOCKS
    for data in (b"\x24\0\x03\0ab", b"\x24\0\x03", b"\x24", b"\x24\0\x00\0\x25\0\x01\0"):
        malformed(opaque(data))


def test_e4_signature_of_another_key() -> None:
    assert refused(signed(make_unsigned(), "stranger")) is Reason.REPORT_SIGNATURE_INVALID


@pytest.mark.parametrize("signature", [bytes(96), b"\xff" * 96, bytes(48) + b"\x01" * 48])
def test_e4_no_signature(signature: bytes) -> None:
    assert refused(make_unsigned() + signature) is Reason.REPORT_SIGNATURE_INVALID


def test_signature_is_asked_before_anything_else() -> None:
    forged = signed(make_unsigned([(20, bytes(48)), (0x5402, b"")], nonce=bytes(32)), "stranger")
    assert refused(forged) is Reason.REPORT_SIGNATURE_INVALID


def test_cl1_nonce() -> None:
    assert refused(make_report(), flip(NONCE, 31)) is Reason.NONCE_MISMATCH
    assert refused(make_report(), b"") is Reason.NONCE_MISMATCH
    assert verify_report(make_report(), GPU, None).nonce == NONCE


def test_i6_fwid() -> None:
    assert good(make_report([(20, FWID)])).nonce == NONCE
    assert refused(make_report([(20, flip(FWID, 47))])) is Reason.FWID_MISMATCH
    assert refused(make_report([(20, b"")])) is Reason.FWID_MISMATCH
    other = make_chain({0: Change(firmware_id=composite(flip(FWID, 0)))}).verified()
    with pytest.raises(EvidenceError) as caught:
        verify_report(make_report([(20, FWID)]), other, NONCE)
    assert caught.value.reason is Reason.FWID_MISMATCH


@pytest.mark.parametrize("tlvs", [[], [(22, A)], [(22, GPU_PDI[::-1])], [(22, GPU_PDI * 2)]])
def test_i7_switch_pdi(tlvs: list[tuple[int, bytes]]) -> None:
    with pytest.raises(EvidenceError) as caught:
        verify_report(make_report(tlvs), SWITCH, NONCE)
    assert caught.value.reason is Reason.PDI_MISMATCH


def test_switch_report() -> None:
    slots = A + FREE + B + A + ZERO + FREE * 3 + bytes(64)
    report = verify_report(make_report([OWN, (26, slots), (6, b"96.10.73\0"), (3, b"1.0")]), SWITCH, NONCE)
    assert report.linked == {A, B}
    assert (report.vbios_version, report.driver_version) == ("96.10.73", "")
    bare = verify_report(make_report([OWN]), SWITCH, NONCE)
    assert (bare.linked, bare.vbios_version) == (frozenset(), "")


@pytest.mark.parametrize("length", [1, 64, 127, 129, 192])
def test_switch_slots_of_another_length(length: int) -> None:
    with pytest.raises(ReportMalformedError):
        verify_report(make_report([OWN, (26, bytes(length))]), SWITCH, NONCE)


def test_link_map_of_a_switch_names_nobody() -> None:
    report = verify_report(make_report([OWN, (26, FREE * 8 + A * 8)]), SWITCH, NONCE)
    assert report.linked == frozenset()


def test_gpu_links_are_reversed() -> None:
    links = A[::-1] + FREE + B[::-1] + A[::-1] + ZERO + FREE * 13
    assert good(make_report([(22, links)])).linked == {A, B}
    assert refused(make_report([(22, links + b"\0")])) is Reason.REPORT_MALFORMED
    assert good(make_report([(22, A[::-1] + B[::-1])])).linked == {A, B}
    assert refused(make_report([(22, bytes(9))])) is Reason.REPORT_MALFORMED


def test_gpu_does_not_speak_for_a_switch() -> None:
    assert good(make_report([(26, A * 8 + bytes(64))])).linked == frozenset()


def test_e6_log() -> None:
    entries = [entry(n) for n in range(128)]
    log = good(make_report([(0x5401, b"".join(entries))])).log
    assert log[5] == LogEntry(entries[5][:32], entries[5][32:64], entries[5][64:])
    assert len(log) == 128
    assert good(make_report([(0x5401, b"")])).log == ()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(entry(1)[:95], id="short"),
        pytest.param(entry(1) + b"\0", id="long"),
        pytest.param(b"".join(entry(n) for n in range(129)), id="129 entries"),
        pytest.param(entry(1) + entry(1)[:32] + entry(2)[32:], id="one session twice"),
        pytest.param(entry(1) + entry(2)[:32] + entry(1)[32:64] + entry(2)[64:], id="one commitment twice"),
    ],
)
def test_e6_log_that_is_none(data: bytes) -> None:
    assert refused(make_report([(0x5401, data)])) is Reason.REPORT_MALFORMED


def test_one_transcript_may_occur_twice() -> None:
    assert len(good(make_report([(0x5401, entry(1) + entry(2)[:64] + entry(1)[64:])])).log) == 2


def test_e5_counters() -> None:
    boot, attestation = 0x0102030405060708, 0x1112131415161718  # no byte of one may pass for the other's
    data = boot.to_bytes(8, "little") + attestation.to_bytes(8, "little")
    assert good(make_report([(0x5402, data)])).counters == Counters(boot, attestation)
    for other in (b"", data[:-1], data + b"\0"):
        assert refused(make_report([(0x5402, other)])) is Reason.REPORT_MALFORMED


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"550.90.07X\0\0", "550.90.07X"), (b"\x1b[31m\0", "?[31m"), (b"a\0b", "a?b"), (b"\xff~ \x7f", "?~ ?")],
)
def test_text_cannot_steer_a_terminal(data: bytes, text: str) -> None:
    assert good(make_report([(3, data)])).driver_version == text


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"", ""), (b"\x01\x02\x03\x04", ""), (bytes.fromhex("0100a5ff96"), "FF.A5.00.01.96")],
)
def test_vbios(data: bytes, text: str) -> None:
    assert good(make_report([(6, data)])).vbios_version == text


FULL = make_report([(3, b"1\0"), (20, FWID), (22, A), (0x5401, entry(1)), (0x5402, bytes(16))])


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(FULL) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_refused(position: int, bit: int) -> None:
    assert refused(flip(FULL, position, bit)) in {Reason.REPORT_MALFORMED, Reason.REPORT_SIGNATURE_INVALID}


def total(parse: Callable[[bytes], object], data: bytes) -> None:
    with suppress(ReportMalformedError):
        parse(data)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_parsing_is_total(tail: bytes) -> None:
    total(parse_report, tail)
    head = bytes.fromhex("11e001ff") + NONCE + bytes.fromhex("0011600000")
    total(parse_report, head + tail)
    total(parse_report, head + bytes(4 + 32) + len(tail).to_bytes(2, "little") + tail + bytes(96))


FIELDS = st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=130), max_size=8)
DIGESTS = st.dictionaries(st.integers(1, 255), st.binary(min_size=48, max_size=48), max_size=6)


@settings(deadline=None, max_examples=80)
@given(FIELDS, DIGESTS, st.binary(min_size=32, max_size=32))
def test_parsed_is_what_was_written(fields: dict[int, bytes], blocks: dict[int, bytes], nonce: bytes) -> None:
    unsigned = make_unsigned(list(fields.items()), nonce=nonce, blocks=blocks)
    parsed = parse_report(unsigned + bytes(range(96)))
    assert (parsed.fields, parsed.measurements) == (fields, blocks)
    assert (parsed.untrusted_nonce, parsed.signed_part, parsed.signature) == (nonce, unsigned, bytes(range(96)))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from([3, 6, 20, 22, 26, 0x5401, 0x5402]), st.binary(max_size=200), max_size=4))
def test_reading_signed_fields_is_total(fields: dict[int, bytes]) -> None:
    for chain, more in ((GPU, {}), (SWITCH, {22: GPU_PDI})):
        # Any other error than a named one ends the test.
        with suppress(ReportMalformedError, FwidMismatchError):
            verify_report(make_report(list({**fields, **more}.items())), chain, NONCE)


def test_leaf_key_is_the_report_key() -> None:
    other = make_chain({0: Change(public_key=p384_key("other leaf").public_key())}).verified()
    assert verify_report(signed(make_unsigned(), "other leaf"), other, NONCE).nonce == NONCE
    with pytest.raises(EvidenceError) as caught:
        verify_report(make_report(), other, NONCE)
    assert caught.value.reason is Reason.REPORT_SIGNATURE_INVALID
    assert spki(p384_key("other leaf")) != spki(p384_key("certificate 0"))


def test_responder_nonce_is_signed_too() -> None:
    report = make_report()
    start = next(i for i in count() if report[i : i + 32] == b"\x77" * 32)
    assert refused(flip(report, start)) is Reason.REPORT_SIGNATURE_INVALID


def test_slot_other_than_zero_is_refused() -> None:
    unsigned = make_unsigned()
    with pytest.raises(ReportMalformedError):
        parse_report(signed(unsigned[:36] + b"\x05" + unsigned[37:]))

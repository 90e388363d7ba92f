"""The second reader reads honest evidence, gives each lie its reason, and agrees with the vectors of tests/vectors."""

import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from tests.independent import build
from tests.independent.build import CHALLENGE, FWID, GPU, LANDMARK, NONCE, NOW, SERVER, SWITCH, Item, Plan
from tests.independent.identity import Device, LogEntry, edges, read_device
from tests.independent.reader import (
    Claims,
    Range,
    Ranged,
    Ranger,
    match_claims,
    read_claims,
    read_ranges,
    read_ticket,
    requester_nonce,
    transcript,
)
from tests.independent.wire import Reason, RefusedError, TicketFault, WireError, cbor, der

VECTORS = Path(__file__).parents[1] / "vectors"
CHAIN = build.chain_of(build.plans())
SWITCH_CHAIN = build.chain_of(build.plans(SWITCH, 0x50))
LANDMARK_ID = build.h(build.raw_key(LANDMARK))
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x33" * 32)
P256 = ec.derive_private_key(7, ec.SECP256R1())


def reason_of(call: Callable[[], object]) -> object:
    with pytest.raises(RefusedError) as caught:
        call()
    return caught.value.reason


def read_gpu(report: bytes, chain: Sequence[bytes] = CHAIN, root: bytes = CHAIN[4]) -> Device:
    return read_device([root], chain, report, NONCE, NOW)


def signed(unsigned: bytes) -> bytes:
    return build.sign_report(unsigned)


# §4, §5: what honest evidence shows


def test_gpu_report_shows_its_identity() -> None:
    log = build.session().entry
    device = read_gpu(signed(build.unsigned_report(build.gpu_values([log]))))
    assert (device.pdi, device.chain.kind, device.chain.fwid) == (GPU, "gpu", FWID)
    assert device.chain.device_key_id == build.h(build.spki(build.DEVICE_KEY))
    assert device.chain.chain_id == build.h(*CHAIN)
    assert (device.driver, device.vbios) == ("570.1", "00.96.A2.00.AB")
    assert device.linked == {SWITCH}
    assert device.counters == (3, 7)
    assert device.log == (LogEntry(log[:32], log[32:64], log[64:]),)
    assert device.blocks == {1: b"\x07" * 48, 255: b"\x07" * 48}


def test_switch_report_and_proven_edge() -> None:
    gpu = read_gpu(signed(build.unsigned_report(build.gpu_values())))
    values = build.switch_values(gpus=(GPU, GPU))  # a repeated entry is honest
    switch = read_gpu(signed(build.unsigned_report(values)), SWITCH_CHAIN)
    assert (switch.pdi, switch.chain.kind, switch.vbios) == (SWITCH, "switch", "96.10")
    assert (switch.log, switch.counters) == ((), None)
    assert switch.linked == {GPU}
    assert edges([gpu, switch]) == {(GPU, SWITCH)}


@pytest.mark.parametrize(
    ("gpu_names", "switch_names"),
    [((), (GPU,)), ((SWITCH,), ()), ((SWITCH[::-1],), (GPU,)), ((SWITCH,), (GPU[::-1],)), ((bytes(8),), (bytes(8),))],
)
def test_one_side_proves_no_edge(gpu_names: Sequence[bytes], switch_names: Sequence[bytes]) -> None:
    gpu = read_gpu(signed(build.unsigned_report(build.gpu_values(switches=gpu_names))))
    switch = read_gpu(signed(build.unsigned_report(build.switch_values(gpus=switch_names))), SWITCH_CHAIN)
    assert edges([gpu, switch]) == frozenset()


def test_fwid_may_stand_in_tcb_info() -> None:
    for extra in [(build.tcb_extension(FWID),), (build.device_extension(), build.tcb_extension(FWID))]:
        chain = build.plans()
        chain[0] = replace(chain[0], extra=extra)
        report = signed(build.unsigned_report(build.gpu_values()))
        assert read_gpu(report, build.chain_of(chain)).chain.fwid == FWID


# §5: one lie, one reason


def _other_root(chain: list[Plan]) -> None:
    chain[4] = replace(chain[4], serial=99)


def _lie(at: int, **fields: Any) -> Callable[[list[Plan]], None]:
    def tell(chain: list[Plan]) -> None:
        chain[at] = replace(chain[at], **fields)

    return tell


UNKNOWN = ("1.2.3.4", b"\x05\x00", True)
CHAIN_LIES: list[tuple[str, Callable[[list[Plan]], None], Reason]] = [
    ("I1 SHA-256", _lie(0, algorithm=SHA256()), Reason.CHAIN_MALFORMED),
    ("I1 P-256", _lie(0, key=P256), Reason.CHAIN_MALFORMED),
    ("I2 root", _other_root, Reason.CHAIN_UNTRUSTED_ROOT),
    ("I2 signer", _lie(1, signer=build.LEAF_KEY), Reason.CHAIN_SIGNATURE_INVALID),
    ("I2 names", _lie(2, issuer="someone"), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I3 intermediate is no CA", _lie(2, ca=False), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I3 intermediate is silent", _lie(2, ca=None), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I3 no keyCertSign", _lie(1, signs=False), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I3 leaf is CA", _lie(0, ca=True, signs=True), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I3 path length", _lie(3, path_length=1), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I3 critical extension", _lie(2, extra=(UNKNOWN,)), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I3 not yet", _lie(2, begin=NOW + timedelta(seconds=1)), Reason.CHAIN_EXPIRED),
    ("I3 over", _lie(0, end=NOW - timedelta(seconds=1)), Reason.CHAIN_EXPIRED),
    ("I5 prefix", _lie(1, serial=int.from_bytes(b"\x42" + GPU, "big")), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I5 size", _lie(1, serial=0x41), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I6 none", _lie(0, extra=()), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I6 key", _lie(0, extra=(build.device_extension(key=build.LEAF_KEY),)), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I6 two", _lie(0, extra=(build.tcb_extension(FWID, FWID[::-1]),)), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I6 size", _lie(0, extra=(build.device_extension(FWID[:32]),)), Reason.CHAIN_CONSTRAINT_VIOLATED),
    ("I6 another firmware", _lie(0, extra=(build.device_extension(FWID[::-1]),)), Reason.FWID_MISMATCH),
]


@pytest.mark.parametrize(("lie", "reason"), [pytest.param(lie, reason, id=name) for name, lie, reason in CHAIN_LIES])
def test_chain_lies(lie: Callable[[list[Plan]], None], reason: Reason) -> None:
    chain = build.plans()
    lie(chain)
    report = signed(build.unsigned_report(build.gpu_values()))
    root = CHAIN[4] if reason is Reason.CHAIN_UNTRUSTED_ROOT else build.certificate(chain[4])
    assert reason_of(lambda: read_gpu(report, build.chain_of(chain), root)) is reason


@pytest.mark.parametrize(
    "chain",
    [CHAIN[:4], [*CHAIN, CHAIN[4]], [CHAIN[0] + b"\0", *CHAIN[1:]], [b"", *CHAIN[1:]], [CHAIN[0][:-1], *CHAIN[1:]]],
)
def test_malformed_chains(chain: Sequence[bytes]) -> None:
    report = signed(build.unsigned_report(build.gpu_values()))
    assert reason_of(lambda: read_gpu(report, chain)) is Reason.CHAIN_MALFORMED


def _bare(certificate: bytes) -> bytes:
    tbs, *rest = der(certificate).children()
    fields = [node.raw for node in tbs.children()[:-1]]
    return build.tlv(0x30, build.tlv(0x30, *fields), *(node.raw for node in rest))


LIMITED = build.certificate(replace(build.plans()[0], ca=True, path_length=1))


@pytest.mark.parametrize(
    "leaf",
    [
        CHAIN[0].replace(bytes.fromhex("a003020102"), bytes.fromhex("a003020100")),  # version 1
        CHAIN[0].replace(bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d13")),  # an extension twice
        CHAIN[0].replace(b"200101000000Z", b"20 101000000Z"),
        CHAIN[0].replace(b"200101000000Z", b"201301000000Z"),
        LIMITED.replace(bytes.fromhex("0101ff020101"), bytes.fromhex("0101ff0201ff")),  # negative path length
        _bare(CHAIN[0]),
    ],
)
def test_certificates_that_do_not_parse(leaf: bytes) -> None:
    assert leaf not in {CHAIN[0], LIMITED}
    report = signed(build.unsigned_report(build.gpu_values()))
    assert reason_of(lambda: read_gpu(report, [leaf, *CHAIN[1:]])) is Reason.CHAIN_MALFORMED


def test_every_bit_of_a_chain_counts() -> None:
    report, root = signed(build.unsigned_report(build.gpu_values())), CHAIN[4]
    for at, honest in enumerate(CHAIN):
        for bit in range(at, 8 * len(honest), 61):
            flipped = bytearray(honest)
            flipped[bit // 8] ^= 1 << bit % 8
            chain = [*CHAIN[:at], bytes(flipped), *CHAIN[at + 1 :]]
            assert str(reason_of(partial(read_gpu, report, chain, root))).startswith("CHAIN_")


# §4: one lie, one reason


def _with(kind: int, value: bytes) -> bytes:
    return build.unsigned_report({**build.gpu_values(), kind: value})


def _patched(at: int, value: bytes) -> bytes:
    report = build.unsigned_report(build.gpu_values())
    return report[:at] + value + report[at + len(value) :]


def _twice() -> bytes:
    report = build.unsigned_report({})
    tail = build.opaque([(99, b"a"), (99, b"a")])
    return report[:-2] + struct.pack("<H", len(tail)) + tail


ENTRY, ENTRY_2 = build.session().entry, build.session(nonce=b"m" * 32).entry
REPORT_LIES: list[tuple[str, bytes, Reason]] = [
    ("E1 request", _patched(0, b"\x12"), Reason.REPORT_MALFORMED),
    ("E1 slot", _patched(36, b"\1"), Reason.REPORT_MALFORMED),
    ("E1 response", _patched(38, b"\x61"), Reason.REPORT_MALFORMED),
    ("E1 count", _patched(41, b"\1"), Reason.REPORT_MALFORMED),
    ("E1 record length", _patched(42, b"\x6f"), Reason.REPORT_MALFORMED),
    ("E1 trailing", build.unsigned_report(build.gpu_values()) + b"\0", Reason.REPORT_MALFORMED),
    ("E2 zero", build.unsigned_report(build.gpu_values(), [build.block(0)]), Reason.REPORT_MALFORMED),
    ("E2 twice", build.unsigned_report(build.gpu_values(), [build.block(4)] * 2), Reason.REPORT_MALFORMED),
    ("§4 block specification", _patched(46, b"\2"), Reason.REPORT_MALFORMED),
    ("§4 block size", _patched(47, b"\x32"), Reason.REPORT_MALFORMED),
    ("§4 block type", _patched(49, b"\x81"), Reason.REPORT_MALFORMED),
    ("§4 block length", _patched(50, b"\x20"), Reason.REPORT_MALFORMED),
    ("E3 twice", _twice(), Reason.REPORT_MALFORMED),
    ("E3 truncated", _patched(len(build.unsigned_report(build.gpu_values())) - 18, b"\xff"), Reason.REPORT_MALFORMED),
    ("§4 driver", _with(3, b"570.1"), Reason.REPORT_MALFORMED),
    ("§1 text", _with(3, b"\xff\0"), Reason.REPORT_MALFORMED),
    ("§4 vbios", _with(6, b"\1" * 5), Reason.REPORT_MALFORMED),
    ("§4 links", _with(22, b"\xff" * 136), Reason.REPORT_MALFORMED),
    ("§4 fwid size", _with(20, FWID[:32]), Reason.FWID_MISMATCH),
    ("E6 length", _with(0x5401, ENTRY[:95]), Reason.REPORT_MALFORMED),
    ("E6 session", _with(0x5401, ENTRY + ENTRY[:32] + ENTRY_2[32:]), Reason.REPORT_MALFORMED),
    ("E6 commitment", _with(0x5401, ENTRY + ENTRY_2[:32] + ENTRY[32:]), Reason.REPORT_MALFORMED),
    ("E6 many", _with(0x5401, b"".join(bytes([i]) * 96 for i in range(129))), Reason.REPORT_MALFORMED),
    ("E5 size", _with(0x5402, bytes(8)), Reason.REPORT_MALFORMED),
    ("CL1", build.unsigned_report(build.gpu_values(), nonce=b"m" * 32), Reason.NONCE_MISMATCH),
    ("I6", _with(20, FWID[::-1]), Reason.FWID_MISMATCH),
]


@pytest.mark.parametrize(("unsigned", "reason"), [pytest.param(*lie[1:], id=lie[0]) for lie in REPORT_LIES])
def test_report_lies(unsigned: bytes, reason: Reason) -> None:
    assert reason_of(lambda: read_gpu(signed(unsigned))) is reason


def test_switch_of_another_pdi() -> None:
    for values in [build.switch_values(own=SWITCH[::-1]), {26: build.switch_values()[26]}]:
        report = signed(build.unsigned_report(values))
        assert reason_of(partial(read_gpu, report, SWITCH_CHAIN)) is Reason.PDI_MISMATCH


def test_every_bit_of_a_report_counts() -> None:
    report = signed(build.unsigned_report(build.gpu_values()))
    refused: set[object] = {Reason.REPORT_MALFORMED, Reason.REPORT_SIGNATURE_INVALID}
    for bit in range(0, 8 * len(report), 23):
        flipped = bytearray(report)
        flipped[bit // 8] ^= 1 << bit % 8
        assert reason_of(partial(read_gpu, bytes(flipped))) in refused
    for size in (*range(200), len(report) - 1):
        assert reason_of(partial(read_gpu, report[:size])) is Reason.REPORT_MALFORMED
    assert reason_of(lambda: read_gpu(report + b"\0")) is Reason.REPORT_MALFORMED
    assert reason_of(lambda: read_gpu(report[:-96] + bytes(96))) is Reason.REPORT_SIGNATURE_INVALID


# §3: claims


def test_honest_claims() -> None:
    data = build.encode(build.claims_fields())
    claims = read_claims(data)
    assert claims == Claims(
        challenge=CHALLENGE,
        host="host-1",
        untrusted_time=1_780_000_000,
        untrusted_location=(52.5, 13.0),
        devices=(GPU, SWITCH),
        ranges=(Range(0, LANDMARK_ID, mask=bytes(8), receipt=b"receipt"), Range(1, LANDMARK_ID, why=5)),
    )
    match_claims(claims, CHALLENGE, "host-1", [GPU, SWITCH])
    assert requester_nonce(data) == build.h(b"trigpoint-attestation-v1\0", data)


CLAIMS_LIES: list[tuple[str, dict[int, Item]]] = [
    ("CL3 key", {-70005: 0}),
    ("nonce", {10: CHALLENGE[:31]}),
    ("profile", {265: "tag:trigpoint.dev,2026:attestation#2"}),
    ("host empty", {-70001: ""}),
    ("host long", {-70001: "é" * 65}),
    ("time", {-70002: 1.0}),
    ("no device", {-70003: [], -70004: []}),
    ("many devices", {-70003: [bytes([i]) * 8 for i in range(65)]}),
    ("short pdi", {-70003: [GPU, SWITCH[:7]]}),
    ("index", {-70004: [[2, LANDMARK_ID, 1]]}),
    ("negative index", {-70004: [[-1, LANDMARK_ID, 1]]}),
    ("why", {-70004: [[0, LANDMARK_ID, 7]]}),
    ("why zero", {-70004: [[0, LANDMARK_ID, 0]]}),
    ("landmark", {-70004: [[0, LANDMARK_ID[:31], 1]]}),
    ("mask", {-70004: [[0, LANDMARK_ID, bytes(7), b"r"]]}),
    ("empty receipt", {-70004: [[0, LANDMARK_ID, bytes(8), b""]]}),
    ("long receipt", {-70004: [[0, LANDMARK_ID, bytes(8), bytes(1025)]]}),
    ("long range", {-70004: [[0, LANDMARK_ID, bytes(8), b"r", 1]]}),
    ("location key", {264: {1: 1, 2: 1, 3: 1}}),
    ("location text", {264: {1: "1", 2: 1}}),
]


@pytest.mark.parametrize("change", [pytest.param(lie[1], id=lie[0]) for lie in CLAIMS_LIES])
def test_malformed_claims(change: dict[int, Item]) -> None:
    data = build.encode({**build.claims_fields(), **change})
    assert reason_of(lambda: read_claims(data)) is Reason.CLAIMS_MALFORMED


@pytest.mark.parametrize("key", sorted(build.claims_fields().keys() - {264}))
def test_claims_lack_a_key(key: int) -> None:
    fields = build.claims_fields()
    del fields[key]
    assert reason_of(lambda: read_claims(build.encode(fields))) is Reason.CLAIMS_MALFORMED


@pytest.mark.parametrize(
    ("challenge", "host", "listed", "reported", "reason"),
    [
        (b"x" * 32, "host-1", [GPU], [GPU], Reason.CHALLENGE_UNKNOWN),
        (CHALLENGE, "host-2", [GPU], [GPU], Reason.CHALLENGE_UNKNOWN),
        (CHALLENGE, "host-1", [GPU], [SWITCH], Reason.DEVICE_LIST_MISMATCH),
        (CHALLENGE, "host-1", [GPU, SWITCH], [SWITCH, GPU], Reason.DEVICE_LIST_MISMATCH),
        (CHALLENGE, "host-1", [GPU, SWITCH], [GPU], Reason.DEVICE_LIST_MISMATCH),
        (CHALLENGE, "host-1", [GPU, GPU], [GPU, GPU], Reason.DEVICE_REPEATED),
    ],
)
def test_claims_of_another_attestation(
    challenge: bytes, host: str, listed: list[Item], reported: list[bytes], reason: Reason
) -> None:
    claims = read_claims(build.encode({**build.claims_fields(), -70003: listed, -70004: []}))
    assert reason_of(lambda: match_claims(claims, challenge, host, reported)) is reason


# C2, I1: encodings


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1800",  # 0 in two bytes
        "190018",  # 24 in three
        "5f4101ff",  # indefinite
        "9fff",
        "1c" + "ff" * 16,  # reserved
        "0000",  # trailing
        "4201",  # cut short
        "61ff",  # no UTF-8
        "a201010101",  # key twice
        "a202010101",  # keys unsorted
        "a1f93c0001",  # float key
        "f4",  # false
        "f6",  # null
        "f820",  # simple value
        "fa3f800000",  # 1.0 in four bytes
        "fb3fb99999a0000000",  # fits binary32
        "fa7fc00000",  # NaN in four bytes
        "f97e01",  # NaN with a payload
        "81" * 12 + "00",  # deep
        "9bffffffffffffffff",  # an array that cannot be
    ],
)
def test_other_cbor_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        cbor(bytes.fromhex(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("f93c00", 1.0),
        ("fa47c35000", 100000.0),
        ("fb3fb999999999999a", 0.1),
        ("f97c00", float("inf")),
        ("3903e7", -1000),
    ],
)
def test_shortest_cbor_is_read(text: str, value: float) -> None:
    assert cbor(bytes.fromhex(text)) == value


@pytest.mark.parametrize(
    "text", ["", "30", "3080", "308100", "30810100", "3003", "1f0100", "050000", "3082000100", "3085000000000100"]
)
def test_other_der_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        der(bytes.fromhex(text))


@pytest.mark.parametrize("text", ["0200", "02020001", "0202ff80", "010101"])
def test_other_der_values_are_refused(text: str) -> None:
    node = der(bytes.fromhex(text))
    with pytest.raises(WireError):
        _ = node.integer() if node.tag == 0x02 else node.boolean()


# R7: ranges


def log_of(*entries: bytes) -> tuple[LogEntry, ...]:
    return tuple(LogEntry(entry[:32], entry[32:64], entry[64:]) for entry in entries)


def outcome(
    receipt: bytes,
    mask: bytes,
    entry: bytes,
    *,
    can_range: bool = True,
    landmark: bytes = LANDMARK_ID,
    registered: Sequence[Ed25519PrivateKey] = (LANDMARK,),
) -> object:
    ranges = [Range(0, landmark, mask=mask, receipt=receipt)]
    keys = [build.raw_key(key) for key in registered]
    return read_ranges(CHALLENGE, ranges, [Ranger(log_of(entry), can_range)], keys)[0]


@pytest.mark.parametrize("answered", [range(8), range(1, 64, 2), range(64), (0, 2, 3, 5, 7, 11, 13, 17, 63)])
def test_honest_range(answered: Sequence[int]) -> None:
    session = build.session(answered, sent=64)
    assert outcome(session.receipt(), session.mask, session.entry) == Ranged(LANDMARK_ID, 1_500_000)


def test_accepted_may_be_fewer_than_answered() -> None:
    session = build.session(range(12))
    receipt = session.receipt(f7=(0x0FF0).to_bytes(8, "big"), f8=0, f9=2)
    assert outcome(receipt, session.mask, session.entry) == Ranged(LANDMARK_ID, 0)


def test_transcript_by_hand() -> None:
    session = build.session([1, 4])
    ident, commitment, seed = session.entry[:32], session.entry[32:64], session.fields[5]
    assert isinstance(seed, bytes)
    assert transcript(ident, commitment, seed, 0b10010) == session.entry[64:]


S = build.session()
PROTECTED: dict[int, Item] = {1: -19, 4: LANDMARK_ID}
RECEIPT_LIES: list[tuple[str, bytes, Reason]] = [
    ("empty", b"\0", Reason.RECEIPT_MALFORMED),
    ("untagged", S.receipt()[1:], Reason.RECEIPT_MALFORMED),
    ("tag 17", b"\xd1" + S.receipt()[1:], Reason.RECEIPT_MALFORMED),
    ("trailing", S.receipt() + b"\0", Reason.RECEIPT_MALFORMED),
    ("field 12", S.receipt(f12=0), Reason.RECEIPT_MALFORMED),
    ("no rounds", S.receipt(f6=0), Reason.RECEIPT_MALFORMED),
    ("65 rounds", S.receipt(f6=65), Reason.RECEIPT_MALFORMED),
    ("clock", S.receipt(f9=3), Reason.RECEIPT_MALFORMED),
    ("rtt", S.receipt(f8=-1), Reason.RECEIPT_MALFORMED),
    ("mask size", S.receipt(f7=bytes(7)), Reason.RECEIPT_MALFORMED),
    ("signature", S.receipt()[:-1] + bytes([S.receipt()[-1] ^ 1]), Reason.RECEIPT_SIGNATURE_INVALID),
    ("other landmark", S.receipt(OTHER), Reason.RECEIPT_SIGNATURE_INVALID),
    ("challenge", S.receipt(f2=b"x" * 32), Reason.SESSION_MISMATCH),
    ("session", S.receipt(f1=b"x" * 32), Reason.SESSION_MISMATCH),
    ("landmark nonce", S.receipt(f3=b"x" * 32), Reason.SESSION_MISMATCH),
    ("commitment", S.receipt(f4=b"x" * 32), Reason.TRANSCRIPT_NOT_LOGGED),
    ("seed", S.receipt(f5=b"x" * 32), Reason.TRANSCRIPT_NOT_LOGGED),
    ("accepted unanswered", S.receipt(f7=(0x7FF).to_bytes(8, "big")), Reason.MASK_INVALID),
    ("unsent", S.receipt(f6=9), Reason.MASK_INVALID),
    ("seven", S.receipt(f7=(0x7F).to_bytes(8, "big")), Reason.TOO_FEW_ROUNDS),
]


@pytest.mark.parametrize(("receipt", "reason"), [pytest.param(*lie[1:], id=lie[0]) for lie in RECEIPT_LIES])
def test_receipt_lies(receipt: bytes, reason: Reason) -> None:
    assert outcome(receipt, S.mask, S.entry) is reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"protected": build.encode({1: -8, 4: LANDMARK_ID})}, Reason.RECEIPT_MALFORMED),
        ({"protected": build.encode({1: -19})}, Reason.RECEIPT_MALFORMED),
        ({"protected": build.encode({**PROTECTED, 3: 0})}, Reason.RECEIPT_MALFORMED),
        ({"protected": build.encode({1: -19, 4: LANDMARK_ID[:8]})}, Reason.RECEIPT_MALFORMED),
        ({"empty": b"\xa1\x05\x40"}, Reason.RECEIPT_MALFORMED),
        ({"protected": build.encode({1: -19, 4: LANDMARK_ID[::-1]})}, Reason.RECEIPT_SIGNATURE_INVALID),
    ],
)
def test_cose_headers(headers: dict[str, bytes], reason: Reason) -> None:
    receipt = build.cose(LANDMARK, b"trigpoint-receipt-v1\0", build.encode(S.fields), **headers)
    assert outcome(receipt, S.mask, S.entry) is reason


def test_range_lies_beside_the_receipt() -> None:
    receipt = S.receipt()
    as_ticket = build.cose(LANDMARK, b"trigpoint-ticket-v1\0", build.encode(S.fields))
    more = (int.from_bytes(S.mask, "big") | 1 << 11).to_bytes(8, "big")
    assert outcome(as_ticket, S.mask, S.entry) is Reason.RECEIPT_SIGNATURE_INVALID
    assert outcome(receipt, S.mask, S.entry, registered=[OTHER]) is Reason.LANDMARK_UNKNOWN
    assert outcome(receipt, S.mask, S.entry, can_range=False) is Reason.FIRMWARE_CANNOT_RANGE
    assert outcome(receipt, more, S.entry) is Reason.TRANSCRIPT_NOT_LOGGED
    assert outcome(receipt, S.mask, build.session(nonce=b"m" * 32).entry) is Reason.TRANSCRIPT_NOT_LOGGED


def test_parts_of_two_log_entries_make_no_third() -> None:
    other = build.session(nonce=b"m" * 32).entry
    for entry in (S.entry[:32] + other[32:], S.entry[:64] + other[64:], other[:32] + S.entry[32:]):
        assert outcome(S.receipt(), S.mask, entry) is Reason.TRANSCRIPT_NOT_LOGGED


def test_reused_commitment_voids_both() -> None:
    ranges = [Range(0, LANDMARK_ID, mask=S.mask, receipt=S.receipt())] * 2 + [Range(0, LANDMARK_ID, why=1)]
    outcomes = read_ranges(CHALLENGE, ranges, [Ranger(log_of(S.entry), can_range=True)], [build.raw_key(LANDMARK)])
    assert outcomes == [Reason.COMMITMENT_REUSED, Reason.COMMITMENT_REUSED, None]


def test_an_attestation_from_end_to_end() -> None:
    ranges: list[Item] = [[0, LANDMARK_ID, S.mask, S.receipt()], [1, LANDMARK_ID, 5]]
    data = build.encode({**build.claims_fields(), -70004: ranges})
    nonce = requester_nonce(data)
    reports = [
        (CHAIN, signed(build.unsigned_report(build.gpu_values([S.entry]), nonce=nonce))),
        (SWITCH_CHAIN, signed(build.unsigned_report(build.switch_values(), nonce=nonce))),
    ]
    devices = [read_device([CHAIN[4]], chain, report, nonce, NOW) for chain, report in reports]
    claims = read_claims(data)
    match_claims(claims, CHALLENGE, "host-1", [device.pdi for device in devices])
    rangers = [Ranger(device.log, can_range=device.chain.kind == "gpu") for device in devices]
    outcomes = read_ranges(CHALLENGE, claims.ranges, rangers, [build.raw_key(LANDMARK)])
    assert outcomes == [Ranged(LANDMARK_ID, 1_500_000), None]
    assert edges(devices) == {(GPU, SWITCH)}


# TK1: tickets


def test_honest_ticket() -> None:
    ticket = read_ticket(build.ticket(), build.raw_key(SERVER), LANDMARK_ID, now=700)
    assert (ticket.challenge, ticket.expires, ticket.ticket_id) == (CHALLENGE, 1000, b"t" * 16)
    assert read_ticket(build.ticket(), build.raw_key(SERVER), LANDMARK_ID, now=1004, skew_s=5) == ticket


@pytest.mark.parametrize(
    ("ticket", "now", "fault"),
    [
        (b"", 900, TicketFault.INVALID),
        (build.ticket(f5=0), 900, TicketFault.INVALID),
        (build.ticket(OTHER), 900, TicketFault.INVALID),
        (build.ticket(aad=b"trigpoint-receipt-v1\0"), 900, TicketFault.INVALID),
        (build.ticket(f2=b"x" * 32), 900, TicketFault.INVALID),
        (build.ticket(), 699, TicketFault.INVALID),
        (build.ticket(), 1000, TicketFault.EXPIRED),
    ],
)
def test_ticket_lies(ticket: bytes, now: int, fault: TicketFault) -> None:
    assert reason_of(lambda: read_ticket(ticket, build.raw_key(SERVER), LANDMARK_ID, now)) is fault


def test_labels_are_prefix_free() -> None:
    page = (
        (Path(__file__).parents[2] / "docs/protocol.md").read_text().split("| label | used for |")[1].split("\n\n")[0]
    )
    labels = sorted(line.split("`")[1] for line in page.splitlines() if "`" in line)
    assert len(labels) == 13
    assert all(label.endswith(r"\0") for label in labels)  # C1
    assert not any(longer.startswith(shorter) for shorter, longer in pairwise(labels))


# The vectors of tests/vectors, by the format of its README


def _vectors() -> list[Any]:
    found = sorted(path for kind in ("report", "claims", "range") for path in VECTORS.glob(f"{kind}/*.json"))
    return [pytest.param(json.loads(path.read_text()), id=f"{path.parent.name}/{path.stem}") for path in found]


def _answer(call: Callable[[], object]) -> str:
    try:
        answer = call()
    except RefusedError as error:
        return str(error.reason)
    return str(answer) if isinstance(answer, Reason) else "AUTHENTIC"


def _certificates(texts: Sequence[str]) -> list[bytes]:
    shared = json.loads((VECTORS / "certificates.json").read_text())
    return [bytes.fromhex(shared[text[1:]] if text.startswith("@") else text) for text in texts]


def _check_report(vector: dict[str, Any]) -> str:
    now = datetime.fromisoformat(vector["now"]).astimezone(UTC)
    roots, chain = _certificates(vector["roots"]), _certificates(vector["chain"])
    report, nonce = bytes.fromhex(vector["report"]), bytes.fromhex(vector["nonce"])
    answer = _answer(lambda: read_device(roots, chain, report, nonce, now))
    if answer == "AUTHENTIC":
        device = read_device(roots, chain, report, nonce, now)
        assert vector["shows"] == {
            "kind": device.chain.kind,
            "pdi": device.pdi.hex(),
            "device_key_id": device.chain.device_key_id.hex(),
            "chain_id": device.chain.chain_id.hex(),
            "fwid": device.chain.fwid.hex(),
            "linked": sorted(pdi.hex() for pdi in device.linked),
            "log": len(device.log),
            "counters": None if device.counters is None else list(device.counters),
        }
    return answer


def _check_claims(vector: dict[str, Any]) -> str:
    data, challenge = bytes.fromhex(vector["claims"]), bytes.fromhex(vector["challenge"])
    pdis = [bytes.fromhex(pdi) for pdi in vector["report_pdis"]]
    assert len(pdis) == vector["report_count"]
    answer = _answer(lambda: match_claims(read_claims(data), challenge, vector["host_id"], pdis))
    if answer == "AUTHENTIC":
        assert requester_nonce(data).hex() == vector["requester_nonce"]
    return answer


def _check_range(vector: dict[str, Any]) -> str:
    ranges = [
        Range(0, bytes.fromhex(r["landmark"]), mask=bytes.fromhex(r["mask"]), receipt=bytes.fromhex(r["receipt"]))
        for r in (vector, *vector["others"])
    ]
    log = [
        LogEntry(*(bytes.fromhex(e[part]) for part in ("session", "commitment", "transcript"))) for e in vector["log"]
    ]
    landmarks = [bytes.fromhex(key) for key in vector["landmarks"]]
    ranger = Ranger(tuple(log), can_range=vector["can_range"])
    first = read_ranges(bytes.fromhex(vector["challenge"]), ranges, [ranger], landmarks)[0]
    if isinstance(first, Ranged):
        assert first.rtt_ns == vector["rtt_ns"]
    return _answer(lambda: first)


CHECKS = {"report": _check_report, "claims": _check_claims, "range": _check_range}


@pytest.mark.parametrize("vector", _vectors())
def test_second_reader_agrees_with_the_vector(vector: dict[str, Any]) -> None:
    assert CHECKS[vector["kind"]](vector) == vector["expect"], vector["why"]


def test_there_are_vectors_of_each_kind() -> None:
    assert {vector.values[0]["kind"] for vector in _vectors()} == CHECKS.keys()

"""R7: one honest range, and every lie about it with the one reason that must follow (docs/protocol.md §7)."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_stubs.ranging import RangingFirmware
from tests.verifier.helpers_place import (
    AAD_TICKET,
    CHALLENGE,
    LANDMARKS,
    PDI,
    REGISTRY,
    UNKNOWN_FIRMWARE,
    RangeWorld,
    canonical,
    device_report,
    honest_world,
    mask_of,
    sign1,
    signing_key,
    verify_all,
)
from verifier.errors import RangeError, Reason
from verifier.evidence.spdm import LogEntry
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.ranging import Receipt, VerifiedRange, verify_receipt
from verifier.units import Challenge, Pdi

OTHER_CHALLENGE = Challenge(hashlib.sha256(b"another challenge").digest())
OTHER_PDI = Pdi(bytes.fromhex("8899aabbccddeeff"))


def refused(world: RangeWorld) -> Reason:
    with pytest.raises(RangeError) as caught:
        world.verify()
    return caught.value.reason


def test_an_honest_range_holds_with_all_that_the_landmark_signed() -> None:
    world = honest_world(sent=20, answered=[0, 2, 3, 5, 6, 8, 11, 12, 13, 19], accepted=[2, 3, 5, 6, 8, 11, 12, 19])
    receipt = world.verify()
    assert receipt == Receipt(
        landmark=LANDMARKS["lm-a"],
        session=world.payload[1],
        challenge=CHALLENGE,
        nonce=world.payload[3],
        commitment=world.payload[4],
        seed=world.payload[5],
        sent_rounds=20,
        accepted=mask_of([2, 3, 5, 6, 8, 11, 12, 19]),
        rtt_ns=receipt.rtt_ns,
        position_revision=3,
    )
    assert receipt.rtt_ns == 1_234_567


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (8, range(8)),
        (64, range(64)),
        (64, [0, *range(56, 63)]),
        (64, range(56, 64)),
        (33, range(1, 33, 2)),
    ],
)
def test_any_eight_rounds_or_more_of_those_sent_are_enough(sent: int, answered: range) -> None:
    assert honest_world(sent=sent, answered=list(answered)).verify().sent_rounds == sent


@pytest.mark.parametrize(
    ("key", "value"),
    [(8, 0), (8, 60_000_000_000), (9, 1), (9, 2), (10, 0), (10, 2**40), (11, -5), (11, 0), (11, 2**63)],
)
def test_numbers_at_their_bounds_hold(key: int, value: int) -> None:
    world = honest_world()
    world.payload[key] = value
    world.verify()


def test_a_session_holds_among_the_others_of_a_full_log() -> None:
    device = RangingFirmware()
    for n in range(100):
        honest_world("lm-b", device=device, salt=str(n))
    world = honest_world("lm-a", device=device)
    assert len(world.log) == 101
    world.verify()
    world.log = world.log[::-1]
    world.verify()


def set_field(key: object, value: object) -> Callable[[RangeWorld], None]:
    def change(world: RangeWorld) -> None:
        world.payload[key] = value

    return change


def set_part(name: str, value: object) -> Callable[[RangeWorld], None]:
    def change(world: RangeWorld) -> None:
        setattr(world, name, value)

    return change


def sent_as(function: Callable[[bytes], bytes]) -> Callable[[RangeWorld], None]:
    return set_part("change_receipt", function)


def drop_field(key: int) -> Callable[[RangeWorld], None]:
    def change(world: RangeWorld) -> None:
        del world.payload[key]

    return change


def signed_by(name: str) -> Callable[[RangeWorld], None]:
    return set_part("signer", signing_key(name))


def kid_of(kid: bytes) -> bytes:
    return canonical({1: -19, 4: kid})


KEY_A, KEY_B = bytes(LANDMARKS["lm-a"].key_id), bytes(LANDMARKS["lm-b"].key_id)


def other_session(world: RangeWorld) -> None:
    """All of a session under another challenge, replayed under this one's number."""
    old = honest_world(challenge=OTHER_CHALLENGE)
    world.payload, world.log = old.payload, old.log


def relabeled_session(world: RangeWorld) -> None:
    other_session(world)
    world.payload[2] = CHALLENGE


def session_for_another_landmark(world: RangeWorld) -> None:
    """The device ranged with lm-b; lm-a signs for that session."""
    other = honest_world("lm-b")
    world.payload, world.log = other.payload, other.log


def torn_entry(world: RangeWorld) -> None:
    """The three hashes are all in the log, in two entries."""
    (entry,) = world.log
    world.log = (replace(entry, transcript=bytes(32)), replace(entry, session=bytes(32)))


def log_change(**parts: bytes) -> Callable[[RangeWorld], None]:
    def change(world: RangeWorld) -> None:
        world.log = tuple(replace(e, **parts) for e in world.log)

    return change


def answered_mask(rounds: list[int]) -> Callable[[RangeWorld], None]:
    return set_part("answered", mask_of(rounds))


def one_round(world: RangeWorld) -> None:
    world.answered = 1
    world.payload.update({6: 1, 7: (1).to_bytes(8, "big")})


def accepted_mask(rounds: list[int]) -> Callable[[RangeWorld], None]:
    return set_field(7, mask_of(rounds).to_bytes(8, "big"))


def skipped_close(world: RangeWorld) -> None:
    """T without its last link: a device that was still open."""
    link = hashlib.sha256(b"trigpoint-log-v1\0" + world.payload[1] + world.payload[4]).digest()
    rounds = hashlib.shake_256(world.payload[5]).digest(16 * 64)
    for i in range(16):
        link = hashlib.sha256(link + i.to_bytes(2, "big") + rounds[16 * i : 16 * i + 16]).digest()
    world.log = (LogEntry(world.payload[1], world.payload[4], link),)


LIES: dict[str, tuple[Callable[[RangeWorld], None], Reason]] = {
    # R8
    "unknown firmware": (set_part("firmware", UNKNOWN_FIRMWARE), Reason.FIRMWARE_CANNOT_RANGE),
    # form (C2, C3, §7)
    "an empty receipt": (sent_as(lambda _: b""), Reason.RECEIPT_MALFORMED),
    "a truncated receipt": (sent_as(lambda r: r[:-1]), Reason.RECEIPT_MALFORMED),
    "a byte more": (sent_as(lambda r: r + b"\0"), Reason.RECEIPT_MALFORMED),
    "no tag": (sent_as(lambda r: r[1:]), Reason.RECEIPT_MALFORMED),
    "another tag": (sent_as(lambda r: b"\xd1" + r[1:]), Reason.RECEIPT_MALFORMED),
    "a long form of the tag": (sent_as(lambda r: b"\xd8\x12" + r[1:]), Reason.RECEIPT_MALFORMED),
    "a text": (sent_as(lambda _: canonical("receipt")), Reason.RECEIPT_MALFORMED),
    "an unprotected header": (set_part("unprotected", {4: KEY_A}), Reason.RECEIPT_MALFORMED),
    "EdDSA by its old number": (set_part("protected", canonical({1: -8, 4: KEY_A})), Reason.RECEIPT_MALFORMED),
    "no kid": (set_part("protected", canonical({1: -19})), Reason.RECEIPT_MALFORMED),
    "a third header": (set_part("protected", canonical({1: -19, 2: [7], 4: KEY_A})), Reason.RECEIPT_MALFORMED),
    "a short kid": (set_part("protected", kid_of(KEY_A[:31])), Reason.RECEIPT_MALFORMED),
    "an unknown field": (set_field(12, 0), Reason.RECEIPT_MALFORMED),
    "a field of text": (set_field("note", 0), Reason.RECEIPT_MALFORMED),
    "a payload that is a list": (set_part("payload", [1, 2]), Reason.RECEIPT_MALFORMED),
    "a payload that is a number": (set_part("payload", 7), Reason.RECEIPT_MALFORMED),
    **{f"no field {k}": (drop_field(k), Reason.RECEIPT_MALFORMED) for k in range(1, 12)},
    **{f"field {k} is short": (set_field(k, bytes(31)), Reason.RECEIPT_MALFORMED) for k in range(1, 6)},
    **{f"field {k} is long": (set_field(k, bytes(33)), Reason.RECEIPT_MALFORMED) for k in range(1, 6)},
    **{f"field {k} is text": (set_field(k, "x" * 32), Reason.RECEIPT_MALFORMED) for k in range(1, 6)},
    "a mask of 7 bytes": (set_field(7, bytes(7)), Reason.RECEIPT_MALFORMED),
    "a mask of 9 bytes": (set_field(7, bytes(9)), Reason.RECEIPT_MALFORMED),
    "a mask that is a number": (set_field(7, 0xFFFF), Reason.RECEIPT_MALFORMED),
    **{f"field {k} is true": (set_field(k, value=True), Reason.RECEIPT_MALFORMED) for k in (6, 8, 9, 10, 11)},
    **{f"field {k} is a float": (set_field(k, 8.0), Reason.RECEIPT_MALFORMED) for k in (6, 8, 9, 10, 11)},
    **{f"field {k} is null": (set_field(k, None), Reason.RECEIPT_MALFORMED) for k in (6, 8, 9, 10, 11)},
    "no round sent": (set_field(6, 0), Reason.RECEIPT_MALFORMED),
    "65 rounds sent": (set_field(6, 65), Reason.RECEIPT_MALFORMED),
    "an answer before the question": (set_field(8, -1), Reason.RECEIPT_MALFORMED),
    "longer than a challenge lives": (set_field(8, 60_000_000_001), Reason.RECEIPT_MALFORMED),
    "clock 0": (set_field(9, 0), Reason.RECEIPT_MALFORMED),
    "clock 3": (set_field(9, 3), Reason.RECEIPT_MALFORMED),
    "a negative revision": (set_field(10, -1), Reason.RECEIPT_MALFORMED),
    # the landmark
    "a landmark that nobody registered": (
        set_part("protected", kid_of(hashlib.sha256(b"nobody").digest())),
        Reason.LANDMARK_UNKNOWN,
    ),
    "an empty registry": (set_part("registry", LandmarkRegistry(())), Reason.LANDMARK_UNKNOWN),
    "signed by another landmark": (signed_by("lm-b"), Reason.RECEIPT_SIGNATURE_INVALID),
    "signed by a stranger": (signed_by("stranger"), Reason.RECEIPT_SIGNATURE_INVALID),
    "a ticket's label": (set_part("aad", AAD_TICKET), Reason.RECEIPT_SIGNATURE_INVALID),
    "no label": (set_part("aad", b""), Reason.RECEIPT_SIGNATURE_INVALID),
    "claims that name another landmark": (
        set_part("stated_landmark", LANDMARKS["lm-b"].key_id),
        Reason.RECEIPT_SIGNATURE_INVALID,
    ),
    # the session (R1)
    "another challenge in the receipt": (set_field(2, OTHER_CHALLENGE), Reason.SESSION_MISMATCH),
    "an older attestation's session": (other_session, Reason.SESSION_MISMATCH),
    "an older session under this challenge": (relabeled_session, Reason.SESSION_MISMATCH),
    "the verifier asked with another challenge": (set_part("challenge", OTHER_CHALLENGE), Reason.SESSION_MISMATCH),
    "another nonce": (set_field(3, bytes(32)), Reason.SESSION_MISMATCH),
    "another session": (set_field(1, bytes(32)), Reason.SESSION_MISMATCH),
    "another landmark's session": (session_for_another_landmark, Reason.SESSION_MISMATCH),
    # the masks
    "accepted, not answered": (answered_mask(list(range(1, 16))), Reason.MASK_INVALID),
    "answered, not sent": (answered_mask(list(range(17))), Reason.MASK_INVALID),
    "the last bit answered, not sent": (answered_mask([*range(16), 63]), Reason.MASK_INVALID),
    "accepted, neither answered nor sent": (accepted_mask(list(range(17))), Reason.MASK_INVALID),
    "fewer sent than answered": (set_field(6, 15), Reason.MASK_INVALID),
    "nothing answered": (answered_mask([]), Reason.MASK_INVALID),
    "seven accepted": (accepted_mask(list(range(7))), Reason.TOO_FEW_ROUNDS),
    "none accepted": (accepted_mask([]), Reason.TOO_FEW_ROUNDS),
    "one sent": (one_round, Reason.TOO_FEW_ROUNDS),
    # the device's signed log (P4)
    "an empty log": (set_part("log", ()), Reason.TRANSCRIPT_NOT_LOGGED),
    "another session logged": (log_change(session=bytes(32)), Reason.TRANSCRIPT_NOT_LOGGED),
    "another commitment logged": (log_change(commitment=bytes(32)), Reason.TRANSCRIPT_NOT_LOGGED),
    "another transcript logged": (log_change(transcript=bytes(32)), Reason.TRANSCRIPT_NOT_LOGGED),
    "the parts in two entries": (torn_entry, Reason.TRANSCRIPT_NOT_LOGGED),
    "a session that never closed": (skipped_close, Reason.TRANSCRIPT_NOT_LOGGED),
    "another seed": (set_field(5, bytes(32)), Reason.TRANSCRIPT_NOT_LOGGED),
    "another commitment in the receipt": (set_field(4, bytes(32)), Reason.TRANSCRIPT_NOT_LOGGED),
}


@pytest.mark.parametrize("lie", LIES)
def test_one_lie_has_one_reason(lie: str) -> None:
    change, reason = LIES[lie]
    world = honest_world()
    world.verify()
    change(world)
    assert refused(world) is reason


def test_a_host_that_hides_a_round_contradicts_the_log() -> None:
    world = honest_world(sent=16, answered=list(range(16)), accepted=list(range(8)))
    world.verify()
    world.answered = mask_of(list(range(15)))
    assert refused(world) is Reason.TRANSCRIPT_NOT_LOGGED


def test_a_host_that_invents_a_round_contradicts_the_log() -> None:
    world = honest_world(sent=16, answered=list(range(15)))
    world.verify()
    world.answered = mask_of(list(range(16)))
    assert refused(world) is Reason.TRANSCRIPT_NOT_LOGGED


def test_rounds_count_by_their_index_and_not_by_their_number() -> None:
    world = honest_world(sent=20, answered=list(range(10)), accepted=list(range(8)))
    world.answered = mask_of([*range(9), 10])
    assert refused(world) is Reason.TRANSCRIPT_NOT_LOGGED


def test_a_landmark_may_send_more_than_the_device_answered_but_not_other_rounds() -> None:
    world = honest_world(sent=16)
    world.payload[6] = 64  # the seed fixes the rounds; more of them sent changes none that was answered
    world.verify()


def test_ranges_of_two_devices_are_kept_apart() -> None:
    first, second = RangingFirmware(), RangingFirmware()
    worlds = [
        honest_world("lm-a", device=first),
        honest_world("lm-b", device=second, device_index=1, pdi=OTHER_PDI, rtt_ns=77),
    ]
    devices = [device_report(0, PDI, worlds[0].log), device_report(1, OTHER_PDI, worlds[1].log)]
    found = verify_all(worlds, devices)
    assert found.void == ()
    assert found.of(PDI) == (VerifiedRange(PDI, LANDMARKS["lm-a"], worlds[0].verify().rtt_ns),)
    assert [r.rtt_ns for r in found.of(OTHER_PDI)] == [77]
    assert found.voids_of(PDI) == ()


def test_a_range_does_not_count_for_another_device_than_the_one_that_logged_it() -> None:
    world = honest_world("lm-a")
    devices = [device_report(0, PDI, ()), device_report(1, OTHER_PDI, world.log)]
    found = verify_all([world], devices)
    assert found.verified == ()
    assert [(v.pdi, v.reason) for v in found.void] == [(PDI, Reason.TRANSCRIPT_NOT_LOGGED)]
    assert found.voids_of(OTHER_PDI) == ()


def test_a_void_range_is_dropped_with_its_landmark_and_reason_and_spoils_no_other() -> None:
    device = RangingFirmware()
    good, bad = honest_world("lm-a", device=device), honest_world("lm-b", device=device)
    bad.payload[8] = -1
    found = verify_all([good, bad], [device_report(0, PDI, bad.log)])
    assert [r.landmark.landmark_id for r in found.verified] == ["lm-a"]
    (void,) = found.voids_of(PDI)
    assert (void.landmark, void.reason) == (LANDMARKS["lm-b"].key_id, Reason.RECEIPT_MALFORMED)
    assert "out of range" in void.detail


def test_ranges_of_a_device_whose_report_was_refused_are_passed_over() -> None:
    refused, good = honest_world("lm-a", device_index=1), honest_world("lm-b")
    found = verify_all([refused, good], [device_report(0, PDI, good.log)])
    assert [r.landmark.landmark_id for r in found.verified] == ["lm-b"]
    assert found.void == ()


def test_all_ranges_of_unknown_firmware_are_void() -> None:
    world = honest_world("lm-a")
    found = verify_all([world], [device_report(0, PDI, world.log)], UNKNOWN_FIRMWARE)
    assert [v.reason for v in found.void] == [Reason.FIRMWARE_CANNOT_RANGE]


@pytest.mark.parametrize("times", [2, 3, 4])
def test_one_range_told_several_times_is_void_each_time(times: int) -> None:
    world = honest_world("lm-a")
    found = verify_all([world] * times, [device_report(0, PDI, world.log)])
    assert found.verified == ()
    assert [v.reason for v in found.void] == [Reason.COMMITMENT_REUSED] * times


def same_commitment(device: RangingFirmware) -> tuple[RangeWorld, RangeWorld]:
    """Two sessions that the logs of a broken firmware bind to one commitment."""
    a, b = honest_world("lm-a", device=device), honest_world("lm-b", device=device)
    b.payload[4] = a.payload[4]
    link = hashlib.sha256(b"trigpoint-log-v1\0" + b.payload[1] + b.payload[4]).digest()
    rounds = hashlib.shake_256(b.payload[5]).digest(16 * 64)
    for i in range(16):
        link = hashlib.sha256(link + i.to_bytes(2, "big") + rounds[16 * i : 16 * i + 16]).digest()
    end = hashlib.sha256(b"trigpoint-close-v1\0" + link + (16).to_bytes(2, "big")).digest()
    b.log = (*a.log, LogEntry(b.payload[1], b.payload[4], end))
    b.verify()
    return a, b


def test_two_ranges_with_one_commitment_are_both_void() -> None:
    a, b = same_commitment(RangingFirmware())
    c = honest_world("lm-c")
    found = verify_all([a, b, c], [device_report(0, PDI, (*b.log, *c.log))])
    assert [r.landmark.landmark_id for r in found.verified] == ["lm-c"]
    assert [(v.landmark, v.reason) for v in found.void] == [
        (LANDMARKS["lm-a"].key_id, Reason.COMMITMENT_REUSED),
        (LANDMARKS["lm-b"].key_id, Reason.COMMITMENT_REUSED),
    ]


def test_a_commitment_is_not_shared_between_devices_either() -> None:
    a, b = same_commitment(RangingFirmware())
    b.device_index = 1
    found = verify_all([a, b], [device_report(0, PDI, a.log), device_report(1, OTHER_PDI, b.log)])
    assert [(v.pdi, v.reason) for v in found.void] == [
        (PDI, Reason.COMMITMENT_REUSED),
        (OTHER_PDI, Reason.COMMITMENT_REUSED),
    ]


def test_two_ranges_with_one_session_are_both_void() -> None:
    first, second = RangingFirmware(), RangingFirmware()
    a, b = honest_world("lm-a", device=first), honest_world("lm-a", device=second, device_index=1)
    assert a.payload[1] == b.payload[1]
    assert a.payload[4] != b.payload[4]
    found = verify_all([a, b], [device_report(0, PDI, a.log), device_report(1, OTHER_PDI, b.log)])
    assert [v.reason for v in found.void] == [Reason.COMMITMENT_REUSED] * 2


def test_a_range_that_shares_with_a_void_one_is_void_too() -> None:
    # R7: no other range of this attestation names the same C, whatever else is wrong with that one.
    world, again = honest_world("lm-a"), honest_world("lm-a")
    again.payload = {**world.payload, 8: -1}
    found = verify_all([world, again], [device_report(0, PDI, world.log)])
    assert [v.reason for v in found.void] == [Reason.COMMITMENT_REUSED, Reason.RECEIPT_MALFORMED]


def test_garbage_before_them_does_not_hide_what_two_ranges_share() -> None:
    world, garbage, text = (honest_world(name) for name in LANDMARKS)
    garbage.change_receipt = lambda _: b"\xff"
    text.payload = "text"  # type: ignore[assignment]
    for first in (garbage, text):
        found = verify_all([first, world, world], [device_report(0, PDI, world.log)])
        assert found.verified == ()
        assert [v.reason for v in found.void] == [Reason.RECEIPT_MALFORMED, *[Reason.COMMITMENT_REUSED] * 2]


@pytest.mark.parametrize("payload", [[1, 2], "text", {}, {1: "text", 4: None}, {1: 5, 4: [b""]}])
def test_receipts_that_name_nothing_share_nothing(payload: object) -> None:
    world = honest_world("lm-a")
    others = [honest_world("lm-b"), honest_world("lm-b")]
    for other in others:
        other.payload = payload  # type: ignore[assignment]
    garbage = honest_world("lm-c")
    garbage.change_receipt = lambda _: b"\xff"
    found = verify_all([*others, garbage, garbage, world], [device_report(0, PDI, world.log)])
    assert [r.landmark.landmark_id for r in found.verified] == ["lm-a"]
    assert [v.reason for v in found.void] == [Reason.RECEIPT_MALFORMED] * 4


def holds(receipt: bytes) -> bool:
    world = honest_world()
    world.change_receipt = lambda _: receipt
    try:
        world.verify()
    except RangeError:
        return False
    return True


def test_any_flipped_bit_of_a_receipt_is_refused() -> None:
    receipt = honest_world().receipt()
    assert holds(receipt)
    for position in range(len(receipt)):
        for bit in range(8):
            flipped = bytearray(receipt)
            flipped[position] ^= 1 << bit
            with pytest.raises(RangeError):
                verify_receipt(bytes(flipped), CHALLENGE, REGISTRY)


def test_any_cut_or_grown_receipt_is_refused() -> None:
    receipt = honest_world().receipt()
    for length in range(len(receipt)):
        with pytest.raises(RangeError):
            verify_receipt(receipt[:length], CHALLENGE, REGISTRY)
    for more in (b"\0", b"\xf6", receipt):
        with pytest.raises(RangeError):
            verify_receipt(receipt + more, CHALLENGE, REGISTRY)


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_raise_nothing_but_a_range_error(data: bytes) -> None:
    with pytest.raises(RangeError) as caught:
        verify_receipt(data, CHALLENGE, REGISTRY)
    assert caught.value.reason is Reason.RECEIPT_MALFORMED


cbor_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.binary(max_size=40)
    | st.text(max_size=10)
    | st.builds(bytes, st.just(32)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.integers(-3, 12) | st.text(max_size=3), inner, max_size=4)
        | st.builds(cbor2.CBORTag, st.sampled_from([0, 1, 2, 18, 24, 30, 258, 999]), inner)
    ),
    max_leaves=8,
)


@given(cbor_values, st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_landmark_that_signs_anything_raises_nothing_but_a_range_error(value: object, framed: bool) -> None:  # noqa: FBT001
    world = honest_world()
    payload = cbor2.dumps(value, canonical=True)
    receipt = sign1(payload, world.signer, world.aad, world.protected) if framed else payload
    assert not holds(receipt)


@given(st.integers(1, 11), cbor_values)
@settings(max_examples=300, deadline=None)
def test_a_landmark_that_signs_any_value_in_one_field_raises_nothing_but_a_range_error(key: int, value: object) -> None:
    world = honest_world()
    before = dict(world.payload)
    world.payload[key] = value
    try:
        world.verify()
    except RangeError:
        return
    # Fields that no other check ties down may hold any value of their range.
    assert key in {6, 8, 9, 10, 11} or world.payload == before
    assert type(value) is int


def test_a_log_entry_of_the_firmware_is_what_the_verifier_recomputes() -> None:
    # A vector by hand, eight rounds, from docs/protocol.md R1 to R4 alone.
    world = honest_world(sent=8)
    at, nonce, seed = LANDMARKS["lm-a"], world.payload[3], world.payload[5]
    session = hashlib.sha256(b"trigpoint-session-v1\0" + CHALLENGE + at.key_id + nonce).digest()
    assert world.payload[1] == session
    link = hashlib.sha256(b"trigpoint-log-v1\0" + session + world.payload[4]).digest()
    stream = hashlib.shake_256(seed).digest(1024)
    for i in range(8):
        link = hashlib.sha256(link + bytes([0, i]) + stream[16 * i : 16 * i + 16]).digest()
    closed = hashlib.sha256(b"trigpoint-close-v1\0" + link + bytes([0, 8])).digest()
    assert world.log == (LogEntry(session, world.payload[4], closed),)
    world.verify()


def test_a_number_of_another_type_is_another_number() -> None:
    world = honest_world()
    world.protected = canonical({1: -19.0, 4: bytes(world.landmark.key_id)})
    with pytest.raises(RangeError):
        world.verify()
    for odd in (10.0, True):
        world = honest_world()
        world.payload = {odd if key == int(odd) else key: value for key, value in world.payload.items()}
        with pytest.raises(RangeError):
            world.verify()

"""What a host does to a session on the network, in virtual time; and that the device keeps R1 to R4 whatever comes."""

from typing import Any

import pytest

from firmware_stubs.faults import parse_fault
from firmware_stubs.ranging import RangingFirmware, answer_of
from firmware_stubs.session import Outgoing
from firmware_stubs.tricks import NO_TRICKS, Tricks
from tests.firmware.conftest import MakeBoard, ServeBoard, StartLandmark
from tests.firmware.helpers import transcript
from tests.firmware.test_firmware_session import TAG, Rig


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("early_reveal", {"early_reveal": True}),
        ("early_garbage", {"garbage_rounds": 64}),
        ("early_garbage:4", {"garbage_rounds": 4}),
        ("reordered_rounds:6", {"reordered_rounds": 6}),
        ("padded_answers", {"padded_answers": True}),
        ("answers_from_elsewhere:gpu-1", {"answers_from_elsewhere": True}),
        ("wrong_nonce", {}),
    ],
)
def test_which_fault_plays_which_trick(order: str, expected: dict[str, Any]) -> None:
    assert parse_fault(order).tricks(NO_TRICKS) == Tricks(**expected)


def rig_with_rounds(tricks: Tricks, count: int = 8) -> tuple[Rig, list[list[Outgoing]]]:
    rig = Rig(tricks=tricks)
    rig.send_nonce()
    return rig, [rig.send_round(index) for index in range(count)]


def closed_transcript(rig: Rig, rounds: list[int]) -> bool:
    """Whether the device logged these rounds, and answered those that it logged."""
    rig.stop()
    closed = rig.session.closed
    assert closed is not None
    entry = closed.entry
    for outgoing in rig.sent:
        data = outgoing.data
        if data[3] == 5 and not outgoing.elsewhere and len(data) == 64:
            index = int.from_bytes(data[20:22], "big")
            right = answer_of(closed.secret, entry.session, index, bytes([index]) * 16)
            assert index in rounds or data[48:] != right
    return entry.transcript == transcript(entry.session, entry.commitment, [(i, bytes([i]) * 16) for i in rounds])


def test_garbage_leaves_just_before_the_answer() -> None:
    rig, sent = rig_with_rounds(Tricks(garbage_rounds=3))
    assert [len(outgoing) for outgoing in sent] == [2, 2, 2, 1, 1, 1, 1, 1]
    for garbage, true in sent[:3]:
        assert (garbage.data[:48], garbage.due_ns) == (true.data[:48], true.due_ns)
        assert garbage.data[48:] != true.data[48:]
    assert closed_transcript(rig, list(range(8)))


def test_reordered_rounds_cost_the_first_of_each_two() -> None:
    rig, sent = rig_with_rounds(Tricks(reordered_rounds=4))
    assert [len(outgoing) for outgoing in sent] == [0, 1, 0, 1, 1, 1, 1, 1]
    assert closed_transcript(rig, [1, 3, 4, 5, 6, 7])
    rig.say(8, TAG + b"\x00\x01r", 23)
    assert rig.session.result is not None
    assert rig.session.result.answered_mask == 0b1111_1010


def test_padded_answers_are_one_byte_longer() -> None:
    rig, sent = rig_with_rounds(Tricks(padded_answers=True))
    assert {len(outgoing.data) for (outgoing,) in sent} == {65}
    assert closed_transcript(rig, list(range(8)))


def test_only_answers_leave_from_elsewhere() -> None:
    rig, sent = rig_with_rounds(Tricks(answers_from_elsewhere=True))
    assert all(outgoing.elsewhere for (outgoing,) in sent)
    assert closed_transcript(rig, list(range(8)))
    assert [outgoing.data[3] for outgoing in rig.sent if not outgoing.elsewhere] == [1, 3, 7]


async def test_answers_really_leave_from_another_address(
    new_board: MakeBoard, serve_board: ServeBoard, start_landmark: StartLandmark
) -> None:
    landmark = start_landmark(bytes(32))
    client = await serve_board(new_board(), faults=("answers_from_elsewhere",))
    (device,) = await client.devices()
    outcome = await client.range(device.pdi, bytes(32), landmark.key_id, [landmark.endpoint], b"ticket", 20)
    assert outcome.answered_mask == 0xFFFF
    kinds_by_source: dict[object, set[int]] = {}
    for kind, source in landmark.heard:
        kinds_by_source.setdefault(source, set()).add(kind)
    assert sorted(kinds_by_source.values(), key=len) == [{5}, {1, 3, 7}]


# Premises P2 and P3 of docs/protocol.md §7, from the device's side.


def test_a_round_is_in_the_log_as_soon_as_its_answer_is_known() -> None:
    """P2: whoever holds an answer cannot keep the round out of the transcript, whenever the session is closed."""
    session = bytes(32)
    for answered in range(1, 10):
        firmware = RangingFirmware()
        commitment = firmware.open(session, 0)
        assert commitment is not None
        for index in range(answered):
            assert firmware.answer(session, index, bytes([index]) * 16, 0) is not None
        closed = firmware.close(session, 0)
        assert closed is not None
        rounds = [(index, bytes([index]) * 16) for index in range(answered)]
        assert closed.entry.transcript == transcript(session, commitment, rounds)


def test_after_the_secret_is_out_no_round_is_answered_or_logged() -> None:
    """P3, over the session: a round that comes after STOP."""
    rig, _ = rig_with_rounds(NO_TRICKS, 8)
    (reveal,) = rig.stop()
    assert rig.session.closed is not None
    assert reveal.data[20:52] == rig.session.closed.secret
    before = rig.firmware.log
    assert rig.send_round(9) == []
    assert rig.firmware.log == before
    assert rig.firmware.answer(before[0].session, 9, bytes(16), rig.now) is None

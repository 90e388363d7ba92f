"""The device's rules of ranging, R1 to R4 of docs/protocol.md, without a socket or a clock."""

import hashlib
import hmac

import pytest

from firmware_stubs.ranging import RangingFirmware, session_of
from tests.firmware.helpers import transcript

SESSION = bytes(range(32))
SECOND = 1_000_000_000


def challenge(index: int) -> bytes:
    return bytes([index]) * 16


def test_session_is_the_hash_of_all_three() -> None:
    expected = hashlib.sha256(b"trigpoint-session-v1\0" + b"c" * 32 + b"k" * 32 + b"n" * 32).digest()
    assert session_of(b"c" * 32, b"k" * 32, b"n" * 32) == expected


def test_answers_and_transcript_follow_the_rules() -> None:
    secret = b"s" * 32
    firmware = RangingFirmware(draw_secret=lambda: secret)
    commitment = firmware.open(SESSION, 0)
    assert commitment == hashlib.sha256(b"trigpoint-commit-v1\0" + SESSION + secret).digest()
    for index in (0, 1, 5, 63):
        message = b"trigpoint-round-v1\0" + SESSION + index.to_bytes(2, "big") + challenge(index)
        expected = hmac.new(secret, message, hashlib.sha256).digest()[:16]
        assert firmware.answer(SESSION, index, challenge(index), 1) == expected
    closed = firmware.close(SESSION, 2)
    assert closed is not None
    assert closed.secret == secret
    rounds = [(index, challenge(index)) for index in (0, 1, 5, 63)]
    assert firmware.log == (closed.entry,)
    assert closed.entry.to_bytes() == SESSION + commitment + transcript(SESSION, commitment, rounds)


def test_only_strictly_increasing_rounds_are_answered_and_the_rest_is_not_logged() -> None:
    firmware = RangingFirmware()
    commitment = firmware.open(SESSION, 0)
    assert commitment is not None
    answered = [i for i in (3, 3, 2, 4, 4, 0, 64, 65535, 7) if firmware.answer(SESSION, i, challenge(1), 0)]
    assert answered == [3, 4, 7]
    assert firmware.answer(SESSION, 9, b"short", 0) is None
    closed = firmware.close(SESSION, 0)
    assert closed is not None
    assert closed.entry.transcript == transcript(SESSION, commitment, [(i, challenge(1)) for i in (3, 4, 7)])


def test_nothing_is_answered_or_given_away_after_close() -> None:
    firmware = RangingFirmware()
    firmware.open(SESSION, 0)
    first = firmware.close(SESSION, 0)
    assert first is not None
    assert firmware.answer(SESSION, 1, challenge(1), 0) is None
    assert firmware.close(SESSION, 0) is None
    assert first.secret not in repr(firmware).encode()


def test_a_session_is_held_once() -> None:
    firmware = RangingFirmware()
    assert firmware.open(SESSION, 0) is not None
    assert firmware.open(SESSION, 0) is None
    firmware.close(SESSION, 0)
    assert firmware.open(SESSION, 0) is None


def test_secrets_are_fresh() -> None:
    firmware = RangingFirmware()
    sessions = [bytes([n]) * 32 for n in range(50)]
    assert len({firmware.open(session, 0) for session in sessions}) == 50
    closed = [firmware.close(session, 0) for session in sessions]
    assert len({c.secret for c in closed if c is not None}) == 50


def test_secret_dies_after_60_seconds_and_the_session_is_not_logged() -> None:
    firmware = RangingFirmware()
    firmware.open(SESSION, 0)
    assert firmware.answer(SESSION, 0, challenge(0), 60 * SECOND - 1) is not None
    assert firmware.answer(SESSION, 1, challenge(0), 60 * SECOND) is None
    assert firmware.close(SESSION, 60 * SECOND) is None
    assert firmware.log == ()


def test_reset_erases_secrets_and_log() -> None:
    firmware = RangingFirmware()
    firmware.open(SESSION, 0)
    firmware.open(bytes(32), 0)
    firmware.close(bytes(32), 0)
    firmware.reset()
    assert firmware.close(SESSION, 0) is None
    assert firmware.log == ()


@pytest.mark.parametrize("count", [128, 130])
def test_the_last_128_are_kept(count: int) -> None:
    firmware = RangingFirmware()
    sessions = [number.to_bytes(32, "big") for number in range(count)]
    for session in sessions:
        firmware.open(session, 0)
        firmware.close(session, 0)
    assert [entry.session for entry in firmware.log] == sessions[-128:]

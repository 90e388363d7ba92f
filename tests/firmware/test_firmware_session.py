"""One session's datagrams in virtual time: docs/protocol.md §7, D3, D4 and `why` of §3."""

import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_stubs.ranging import RangingFirmware
from firmware_stubs.session import Address, Order, Outgoing, RangingSession, Why
from firmware_stubs.tricks import NO_TRICKS, Tricks
from tests.firmware.helpers import transcript

MS = 1_000_000
NEAR: Address = ("192.0.2.1", 7000)
FAR: Address = ("192.0.2.2", 7000)
DELAY_NS = 30 * MS
TAG = b"t" * 16


class Rig:
    """A session with a hand-moved clock."""

    def __init__(
        self, *, addresses: tuple[Address, ...] = (NEAR,), tricks: Tricks = NO_TRICKS, timeout_ms: int = 50_000
    ) -> None:
        self.firmware = RangingFirmware()
        self.challenge, self.key_id, self.nonce = (secrets.token_bytes(32) for _ in range(3))
        order = Order(self.challenge, self.key_id, addresses, b"ticket", timeout_ms * MS, tricks)
        self.now = 1_000_000 * MS
        self.session = RangingSession(order, self.firmware, lambda: DELAY_NS, self.now)
        self.sent: list[Outgoing] = []

    def take(self) -> list[Outgoing]:
        new = list(self.session.outbox)
        self.session.outbox.clear()
        self.sent += new
        return new

    def say(self, kind: int, content: bytes, size: int, source: Address = NEAR) -> list[Outgoing]:
        self.session.receive(source, (b"TP\x01" + bytes([kind]) + content).ljust(size, b"\0"), self.now)
        return self.take()

    def send_nonce(self, source: Address = NEAR) -> list[Outgoing]:
        hello_id = self.take()[-1].data[4:20] if self.session.outbox else self.sent[-1].data[4:20]
        return self.say(2, TAG + hello_id + self.nonce + b"c" * 24, 96, source)

    def send_round(self, index: int, source: Address = NEAR) -> list[Outgoing]:
        return self.say(4, TAG + index.to_bytes(2, "big") + bytes(26) + bytes([index]) * 16, 64, source)

    def stop(self) -> list[Outgoing]:
        return self.say(6, TAG + bytes(2), 64)

    def wait(self, ms: int) -> list[Outgoing]:
        for _ in range(ms // 10):
            self.now += 10 * MS
            self.session.tick(self.now)
        return self.take()


def kinds(sent: list[Outgoing]) -> list[int]:
    return [outgoing.data[3] for outgoing in sent]


def test_whole_session() -> None:
    rig = Rig()
    commit = rig.send_nonce()
    assert kinds(rig.sent) == [1, 3]
    assert commit[0].data[110:116] == b"ticket"
    answers = [rig.send_round(index)[0] for index in range(8)]
    assert all(answer.due_ns == rig.now + DELAY_NS for answer in answers)
    (reveal,) = rig.stop()
    assert reveal.data[3] == 7
    assert rig.session.closed is not None
    assert reveal.data[20:52] == rig.session.closed.secret
    rig.say(8, TAG + b"\x00\x03abc", 25)
    assert rig.session.result is not None
    assert rig.session.result.receipt == b"abc"
    assert rig.session.result.answered_mask == 0xFF
    assert rig.session.result.why is Why.NONE
    assert rig.firmware.log == (rig.session.closed.entry,)


def test_secret_is_in_no_datagram_before_stop() -> None:
    rig = Rig()
    rig.send_nonce()
    for index in range(20):
        rig.send_round(index)
    before = b"".join(outgoing.data for outgoing in rig.sent)
    rig.stop()
    assert rig.session.closed is not None
    assert rig.session.closed.secret not in before


def test_commit_is_repeated_with_the_same_bytes_until_a_round_comes() -> None:
    rig = Rig()
    (commit,) = rig.send_nonce()
    repeats = rig.wait(1600)
    assert len(repeats) >= 2
    assert {repeat.data for repeat in repeats} == {commit.data}
    rig.send_round(0)
    assert rig.wait(1600) == []


def test_nonce_after_the_first_changes_nothing() -> None:
    rig = Rig()
    rig.send_nonce()
    assert rig.say(2, b"u" * 16 + rig.sent[0].data[4:20] + rig.nonce + b"c" * 24, 96) == []


def test_next_endpoint_is_tried_and_may_answer() -> None:
    rig = Rig(addresses=(NEAR, FAR))
    rig.wait(3000)
    assert {outgoing.address for outgoing in rig.sent} == {NEAR, FAR}
    (commit,) = rig.send_nonce(FAR)
    assert commit.address == FAR
    assert rig.send_round(0, NEAR) == []
    assert kinds(rig.send_round(0, FAR)) == [5]


def test_device_closes_by_itself_after_five_silent_seconds() -> None:
    rig = Rig()
    rig.send_nonce()
    rig.send_round(0)
    assert rig.wait(4990) == []
    assert rig.session.closed is None
    assert kinds(rig.wait(10)) == [7]
    assert rig.send_round(1) == []
    assert rig.session.closed is not None


def test_stop_again_is_answered_with_the_same_reveal() -> None:
    rig = Rig()
    rig.send_nonce()
    rig.send_round(0)
    assert rig.stop()[0].data == rig.stop()[0].data
    assert len(rig.firmware.log) == 1


@pytest.mark.parametrize(
    ("rounds", "why"), [(0, Why.NO_REPLY), (7, Why.TOO_FEW_ROUNDS), (8, Why.NO_RECEIPT)], ids=["0", "7", "8"]
)
def test_why_when_nothing_more_comes(rounds: int, why: Why) -> None:
    rig = Rig()
    rig.send_nonce()
    for index in range(rounds):
        rig.send_round(index)
    rig.wait(12_000)
    assert rig.session.result is not None
    assert rig.session.result.why is why
    assert rig.session.result.answered_mask == (1 << rounds) - 1
    assert len(rig.firmware.log) == 1


def test_why_when_no_nonce_comes() -> None:
    rig = Rig()
    rig.wait(3000)
    assert rig.session.result is not None
    assert rig.session.result.why is Why.NO_REPLY
    assert rig.firmware.log == ()


@pytest.mark.parametrize(("code", "why"), [(1, Why.REFUSED), (4, Why.REFUSED), (5, Why.TOO_FEW_ROUNDS)])
def test_refusal(code: int, why: Why) -> None:
    rig = Rig()
    rig.send_nonce()
    rig.say(9, TAG + code.to_bytes(2, "big"), 64)
    assert rig.session.result is not None
    assert rig.session.result.why is why


def test_deadline_ends_a_session_and_closes_it() -> None:
    rig = Rig(timeout_ms=100)
    rig.send_nonce()
    rig.send_round(0)
    rig.wait(100)
    assert rig.session.result is not None
    assert rig.session.result.why is Why.TOO_FEW_ROUNDS
    assert len(rig.firmware.log) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"TP\x01",
        b"TP\x02\x04" + TAG + bytes(44),
        b"TP\x01\x04" + TAG + bytes(43),
        b"TP\x01\x04" + TAG + bytes(45),
        b"TP\x01\x04" + bytes(60),
        b"TP\x01\x05" + TAG + bytes(44),
        b"TP\x01\x08" + TAG + b"\x00\x05abc",
    ],
    ids=["empty", "header", "version", "short", "long", "tag", "type", "receipt"],
)
def test_odd_datagrams_are_dropped_silently(data: bytes) -> None:
    rig = Rig()
    rig.send_nonce()
    rig.session.receive(NEAR, data, rig.now)
    assert rig.take() == []
    assert rig.session.result is None


@given(st.binary(max_size=1300))
def test_no_bytes_break_a_session(data: bytes) -> None:
    rig = Rig()
    rig.send_nonce()
    for head in (b"", b"TP\x01", b"TP\x01\x04" + TAG, b"TP\x01\x08" + TAG):
        rig.session.receive(NEAR, head + data, rig.now)


def test_rounds_from_elsewhere_are_dropped() -> None:
    rig = Rig()
    rig.send_nonce()
    assert rig.send_round(0, FAR) == []


def test_early_reveal_answers_without_delay_and_the_device_logs_nothing() -> None:
    rig = Rig(tricks=Tricks(early_reveal=True))
    rig.send_nonce()
    answers = [rig.send_round(index)[0] for index in range(16)]
    assert all(answer.due_ns == rig.now for answer in answers)
    rig.stop()
    rig.say(8, TAG + b"\x00\x01r", 23)
    assert rig.session.result is not None
    assert rig.session.result.answered_mask == 0xFFFF
    (entry,) = rig.firmware.log
    assert entry.transcript == transcript(entry.session, entry.commitment, [])

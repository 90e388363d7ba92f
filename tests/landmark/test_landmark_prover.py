"""The answering side as a state machine, against a ranging landmark that keeps docs/protocol.md §7, or lies.

Every expected value is computed here, from the page, by hand.
"""

import os
import random
from dataclasses import dataclass, field

import pytest

from landmark.keys import LandmarkKey
from landmark.prover import Evidence, Failure, Prover, Target
from landmark.statements import Statement, sign_statement
from tests.landmark.helpers import (
    ANSWER,
    COMMIT,
    HELLO,
    NONCE,
    RECEIPT,
    REFUSED,
    REVEAL,
    ROUND,
    STOP,
    commitment_to,
    right_answer,
    session_id,
)
from tests.landmark.proving_helpers import read_statement, transcript

S = 1_000_000_000
BUSY, TOO_FEW, MISMATCH = 1, 5, 6


def datagram(kind: int, tag: bytes, rest: bytes, size: int = 64) -> bytes:
    return (b"TP\x01" + bytes([kind]) + tag + rest).ljust(size, b"\0")


@dataclass
class Ranging:
    """A ranging landmark, and all that it saw of one session, with time in its hands."""

    key: LandmarkKey = field(default_factory=lambda: LandmarkKey.from_seed(os.urandom(32)))
    landmark_key_id: bytes = field(default_factory=lambda: os.urandom(32))
    challenge: bytes = field(default_factory=lambda: os.urandom(32))
    ticket: bytes = b"a ticket"
    now_ns: int = 7 * S
    tag: bytes = field(default_factory=lambda: os.urandom(16))
    nonce: bytes = field(default_factory=lambda: os.urandom(32))
    cookie: bytes = field(default_factory=lambda: os.urandom(24))
    drawn: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    logged: list[tuple[int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        target = Target(self.landmark_key_id, self.challenge, self.ticket)
        self.prover = Prover(target, draw=self._draw, sign=self._sign, now_ns=self.now_ns)

    def _draw(self, size: int) -> bytes:
        self.drawn.append(os.urandom(size))
        return self.drawn[-1]

    def _sign(self, statement: Statement) -> bytes:
        return sign_statement(statement, self.key)

    @property
    def secret(self) -> bytes:
        return self.drawn[1]  # after the HELLO's id

    @property
    def session(self) -> bytes:
        return session_id(self.challenge, self.landmark_key_id, self.nonce)

    @property
    def commitment(self) -> bytes:
        return self.heard_of(COMMIT)[0][76:108]  # behind header, tag, nonce and cookie

    def ended(self) -> bool:
        return self.prover.outcome is not None

    def heard_of(self, kind: int) -> list[bytes]:
        return [data for data in self.heard if data[3] == kind]

    def say(self, data: bytes) -> bytes | None:
        reply = self.prover.receive(data, self.now_ns)
        if reply is not None:
            self.heard.append(reply)
        return reply

    def wait(self, ns: int) -> list[bytes]:
        """Let time pass, calling `step` whenever it is due; return what was sent."""
        before, ends_ns = len(self.heard), self.now_ns + ns
        while not self.ended() and self.prover.due_ns <= ends_ns:
            self.now_ns = max(self.now_ns, self.prover.due_ns)
            sent = self.prover.step(self.now_ns)
            if sent is not None:
                self.heard.append(sent)
            assert self.ended() or self.prover.due_ns > self.now_ns
        self.now_ns = ends_ns
        return self.heard[before:]

    def open(self) -> None:
        (hello,) = self.wait(0)
        self.hello_id = hello[4:20]
        assert self.say(self.nonce_datagram(self.hello_id)) is not None

    def nonce_datagram(self, hello_id: bytes) -> bytes:
        return datagram(NONCE, self.tag, hello_id + self.nonce + self.cookie, 96)

    def round(self, index: int, *, tag: bytes | None = None) -> bytes | None:
        """Send a round; what is answered counts as logged, and must be right."""
        challenge = os.urandom(16)
        head = b"TP\x01\x04" + (self.tag if tag is None else tag)
        reply = self.say(head + index.to_bytes(2, "big") + bytes(26) + challenge)
        if reply is not None:
            right = right_answer(self.session, self.secret, index, challenge)
            assert reply == b"TP\x01\x05" + self.tag + index.to_bytes(2, "big") + bytes(26) + right
            self.logged.append((index, challenge))
        return reply

    def rounds(self, indices: range) -> None:
        for index in indices:
            assert self.round(index) is not None

    def stop(self) -> bytes | None:
        return self.say(datagram(STOP, self.tag, (16).to_bytes(2, "big")))

    def refuse(self, code: int) -> bytes | None:
        return self.say(datagram(REFUSED, self.tag, code.to_bytes(2, "big")))

    def receipt(self, message: bytes = b"a receipt") -> None:
        assert self.say(b"TP\x01\x08" + self.tag + len(message).to_bytes(2, "big") + message) is None

    def check_evidence(self) -> None:
        evidence = self.prover.outcome
        assert isinstance(evidence, Evidence)
        assert evidence.receipt == b"a receipt"
        assert evidence.answered == sum(1 << index for index, _ in self.logged).to_bytes(8, "big")
        session, commitment, signed = read_statement(evidence.statement, self.key.public_key)
        assert session == self.session
        assert commitment == self.commitment == commitment_to(self.session, self.secret)
        assert signed == transcript(session, commitment, self.logged)

    def finish(self) -> None:
        """End an honest session from STOP on; check every byte of what came of it."""
        assert not self.heard_of(REVEAL)
        reveal = self.stop()
        assert reveal == (b"TP\x01\x07" + self.tag + self.secret).ljust(1200, b"\0")
        self.receipt()
        self.check_evidence()


def test_an_honest_session_byte_by_byte() -> None:
    ranging = Ranging()
    ranging.open()
    hello, commit = ranging.heard
    assert hello == (b"TP\x01\x01" + ranging.drawn[0] + ranging.landmark_key_id).ljust(96, b"\0")
    expected = ranging.tag + ranging.nonce + ranging.cookie + commitment_to(ranging.session, ranging.secret)
    assert commit == (b"TP\x01\x03" + expected + b"\0\x08a ticket").ljust(1200, b"\0")
    ranging.rounds(range(16))
    ranging.finish()
    assert [len(drawn) for drawn in ranging.drawn] == [16, 32]


def test_gaps_are_in_the_mask_and_the_count() -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(3, 64, 7))
    ranging.finish()


def test_each_session_has_a_fresh_secret_that_is_gone_after_close() -> None:
    first, second = Ranging(), Ranging()
    for ranging in (first, second):
        ranging.open()
        ranging.rounds(range(8))
        assert ranging.prover._secret == ranging.secret
        ranging.stop()
        assert ranging.prover._secret == b""
        ranging.receipt()
        assert ranging.prover._pending == b""
    assert first.secret != second.secret


@pytest.mark.parametrize("answered", range(8, 17))
def test_a_round_is_logged_before_its_answer_is_out(answered: int) -> None:
    # Whenever the landmark stops, right after an answer: that round is in T already.
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(answered))
    ranging.finish()


def test_a_round_that_comes_twice_is_answered_and_logged_once() -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(5))
    assert ranging.round(4) is None  # under a new challenge
    ranging.rounds(range(5, 9))
    assert ranging.round(8) is None
    ranging.finish()


def test_a_round_of_a_lower_index_is_dropped_unlogged() -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(2, 9))
    for index in (0, 1, 7):
        assert ranging.round(index) is None
    ranging.rounds(range(9, 12))
    ranging.finish()


@pytest.mark.parametrize("index", [64, 65, 0xFFFF])
def test_there_are_at_most_64_rounds(index: int) -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(10))
    assert ranging.round(index) is None
    ranging.rounds(range(63, 64))
    assert ranging.round(index) is None
    ranging.finish()


def test_rounds_of_another_tag_are_dropped_unlogged() -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(4))
    assert ranging.round(4, tag=os.urandom(16)) is None
    ranging.rounds(range(4, 8))
    ranging.finish()


def test_no_round_is_answered_before_the_commitment_or_after_close() -> None:
    ranging = Ranging()
    ranging.wait(0)
    assert ranging.round(0) is None
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(8))
    assert ranging.stop() is not None
    for index in range(8, 12):
        assert ranging.round(index) is None
    ranging.receipt()
    assert ranging.round(12) is None
    ranging.check_evidence()


def test_the_secret_is_never_out_before_close() -> None:
    ranging = Ranging()
    ranging.open()
    other = os.urandom(16)
    for index in range(20):
        ranging.round(index)
        ranging.wait(4 * S if index % 7 == 0 else S // 10)
        ranging.receipt()  # early
        ranging.say(ranging.nonce_datagram(ranging.hello_id))  # again
        ranging.say(datagram(STOP, other, b"\0\x10"))
        ranging.say(datagram(REFUSED, other, b"\0\x01"))
        ranging.say(datagram(STOP, ranging.tag, b"\0\x10", 65))
        ranging.say(datagram(REVEAL, ranging.tag, ranging.secret, 1200))
        ranging.say(datagram(HELLO, ranging.tag, b"", 96))
        assert ranging.prover.outcome is None
    assert not ranging.heard_of(REVEAL)
    assert not any(ranging.secret in data for data in ranging.heard)
    ranging.finish()


def test_a_second_nonce_changes_nothing() -> None:
    ranging = Ranging()
    ranging.open()
    again = datagram(NONCE, os.urandom(16), ranging.hello_id + os.urandom(56), 96)
    assert ranging.say(again) is None
    assert ranging.say(ranging.nonce_datagram(ranging.tag)) is None  # where the COMMIT has its tag, HELLO had its id
    ranging.rounds(range(8))
    assert ranging.say(again) is None
    ranging.finish()


def test_a_nonce_for_another_hello_is_dropped() -> None:
    ranging = Ranging()
    ranging.wait(0)
    assert ranging.say(ranging.nonce_datagram(os.urandom(16))) is None
    assert not ranging.prover.greeted
    assert len(ranging.drawn) == 1


def test_hello_is_repeated_and_given_up() -> None:
    ranging = Ranging()
    began_ns = ranging.now_ns
    sent = ranging.wait(2 * S)
    assert len(sent) >= 3
    assert len(set(sent)) == 1
    assert ranging.prover.outcome is None
    ranging.wait(S)
    assert ranging.prover.outcome is Failure.NO_REPLY
    assert not ranging.prover.greeted
    assert ranging.now_ns - began_ns <= 3 * S
    assert ranging.wait(60 * S) == []


def test_commit_is_repeated_with_the_same_bytes_until_a_round_comes() -> None:
    ranging = Ranging()
    ranging.open()
    ranging.wait(3 * S)
    commits = ranging.heard_of(COMMIT)
    assert len(commits) >= 4
    assert len(set(commits)) == 1
    ranging.rounds(range(1))
    ranging.wait(4 * S)
    assert ranging.heard_of(COMMIT) == commits
    ranging.rounds(range(1, 8))
    ranging.finish()


@pytest.mark.parametrize(
    ("answered", "outcome"),
    [(0, Failure.NO_REPLY), (1, Failure.TOO_FEW_ROUNDS), (7, Failure.TOO_FEW_ROUNDS), (8, None)],
)
def test_it_closes_by_itself_after_five_seconds_of_silence(answered: int, outcome: Failure | None) -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(answered))
    ranging.wait(5 * S - 1)
    assert ranging.prover.outcome is None
    assert not ranging.heard_of(REVEAL)
    sent = ranging.wait(1)
    assert ranging.prover.outcome is outcome
    assert [data[3] for data in sent] == ([REVEAL] if answered == 8 else [])
    assert ranging.round(answered) is None
    if answered == 8:
        ranging.receipt()
        ranging.check_evidence()


@pytest.mark.parametrize("answered", [0, 7])
def test_a_stop_before_eight_rounds_reveals_nothing(answered: int) -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(answered))
    assert ranging.stop() is None
    assert ranging.prover.outcome is Failure.TOO_FEW_ROUNDS
    assert ranging.wait(60 * S) == []
    assert not any(ranging.secret in data for data in ranging.heard)


@pytest.mark.parametrize(("code", "outcome"), [(BUSY, Failure.REFUSED), (TOO_FEW, Failure.TOO_FEW_ROUNDS)])
@pytest.mark.parametrize("answered", [0, 3, 12])
def test_refused_ends_the_session_and_reveals_nothing(code: int, outcome: Failure, answered: int) -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(answered))
    assert ranging.refuse(code) is None
    assert ranging.prover.outcome is outcome
    assert ranging.round(answered) is None
    assert not any(ranging.secret in data for data in ranging.heard)
    assert ranging.prover._secret == b""


@pytest.mark.parametrize(("code", "outcome"), [(MISMATCH, Failure.REFUSED), (TOO_FEW, Failure.TOO_FEW_ROUNDS)])
def test_refused_in_place_of_a_receipt(code: int, outcome: Failure) -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(8))
    ranging.stop()
    ranging.refuse(code)
    assert ranging.prover.outcome is outcome


def test_reveal_is_repeated_with_the_same_bytes_until_no_receipt_is_hoped_for() -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(8))
    ranging.stop()
    ranging.stop()  # repeated, docs/protocol.md D2
    ranging.wait(9 * S)
    assert ranging.prover.outcome is None
    ranging.receipt(b"")  # is none
    assert ranging.prover.outcome is None
    ranging.say(b"TP\x01\x08" + os.urandom(16) + b"\0\x01x")  # another session's
    ranging.wait(2 * S)
    assert ranging.prover.outcome is Failure.NO_RECEIPT
    reveals = ranging.heard_of(REVEAL)
    assert len(reveals) >= 8
    assert len(set(reveals)) == 1


def test_a_receipt_after_a_lost_one_is_taken() -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(8))
    ranging.stop()
    ranging.wait(3 * S)
    ranging.receipt()
    ranging.check_evidence()
    ranging.receipt(b"another")
    ranging.check_evidence()


def test_the_secret_dies_sixty_seconds_after_it_was_drawn_without_a_close() -> None:
    ranging = Ranging()
    ranging.open()
    for index in range(15):  # never 5 s of silence
        ranging.rounds(range(index, index + 1))
        ranging.wait(4 * S - 1)
    ranging.rounds(range(15, 16))
    assert ranging.prover.outcome is None
    ranging.wait(15)
    assert ranging.prover.outcome is Failure.NO_RECEIPT
    assert ranging.prover._secret == b""
    assert not ranging.heard_of(REVEAL)
    assert ranging.stop() is None


def test_a_reveal_is_not_repeated_after_sixty_seconds() -> None:
    ranging = Ranging()
    ranging.open()
    for index in range(14):
        ranging.rounds(range(index, index + 1))
        ranging.wait(4 * S)
    ranging.rounds(range(14, 15))
    assert ranging.stop() is not None
    ranging.wait(4 * S)  # 60 s after the secret was drawn, long before the 10 s of revealing are over
    assert ranging.prover.outcome is Failure.NO_RECEIPT
    assert ranging.prover._pending == b""


@pytest.mark.parametrize(
    ("answered", "outcome"), [(0, Failure.NO_REPLY), (7, Failure.TOO_FEW_ROUNDS), (8, Failure.NO_RECEIPT)]
)
def test_an_abandoned_session_is_neither_revealed_nor_signed(answered: int, outcome: Failure) -> None:
    ranging = Ranging()
    ranging.open()
    ranging.rounds(range(answered))
    ranging.prover.abandon()
    assert ranging.prover.outcome is outcome
    assert ranging.stop() is None
    assert ranging.prover._secret == b""
    assert ranging.wait(60 * S) == []


def test_nothing_that_comes_makes_it_raise_or_break_a_rule() -> None:
    # Datagrams of the right form in any order, with the right tag more often than not, and time that passes.
    rng = random.Random(20261124)
    ended = set()
    for _ in range(400):
        ranging = Ranging()
        (hello,) = ranging.wait(0)
        indices: list[int] = []
        for _ in range(60):
            tag = ranging.tag if rng.random() < 0.9 else rng.randbytes(16)
            index = max(0, (indices[-1] if indices else 0) + rng.randint(-2, 4))
            kind = rng.choices(range(1, 10), weights=[1, 8, 1, 90, 1, 1, 1, 1, 1])[0]
            data = {
                NONCE: ranging.nonce_datagram(hello[4:20]),
                ROUND: b"TP\x01\x04" + tag + index.to_bytes(2, "big") + rng.randbytes(42),
                RECEIPT: b"TP\x01\x08" + tag + b"\0\x01x",
            }.get(kind) or datagram(kind, tag, rng.randbytes(8), {HELLO: 96, COMMIT: 1200, REVEAL: 1200}.get(kind, 64))
            if rng.random() < 0.05:
                data = data[: rng.randrange(len(data))]
            closed = bool(ranging.heard_of(REVEAL)) or ranging.ended()
            reply = ranging.say(data)
            if reply is not None and reply[3] == ANSWER:
                assert not closed
                indices.append(int.from_bytes(reply[20:22], "big"))
            ranging.wait(rng.choice([0, 0, 0, S // 100, S]))
        assert indices == sorted(set(indices))
        assert len(set(ranging.heard_of(COMMIT))) <= 1
        assert len(set(ranging.heard_of(REVEAL))) <= 1
        assert not ranging.heard_of(REVEAL) or len(indices) >= 8
        ended.add(type(ranging.prover.outcome).__name__ + str(getattr(ranging.prover.outcome, "name", "")))
    assert "Evidence" in ended
    assert len(ended) >= 4

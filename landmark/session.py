"""One ranging session as a state machine without I/O. docs/protocol.md R1, R3, R6, D2, D4, D6.

A `Session` is made by `ranger` after cookie and ticket were found good, with its seed freshly drawn. It paces the
rounds, closes each at its first answer, stops, checks the revealed secret and only then has a receipt signed. Time,
sends and the signer are passed in. It does not know sockets, cookies, tickets or other sessions.
"""

import enum
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from landmark.clock import RoundTrip, Stamp, round_trip
from landmark.cookies import Peer
from landmark.datagrams import SIZE_BYTES, Answer, Kind, ReceiptDatagram, Refused, Reveal, Round, Stop
from landmark.derive import MIN_ACCEPTED_ROUNDS, answer_to, commitment_to, session_id_of
from landmark.errors import RefusalCode
from landmark.statements import Receipt

# An ended session is kept this long: repeats of REVEAL are answered, and its cookie, which lives 10 s, stays spent.
LINGER_NS: Final = 15_000_000_000
# After STOP. A device closes by itself 5 s after it last heard anything (D4), and then still repeats its REVEAL.
REVEAL_WAIT_NS: Final = 15_000_000_000
HOPELESS_WAIT_NS: Final = 2_000_000_000
_FIRST_STOP_REPEAT_NS: Final = 250_000_000
_STOP_BYTES: Final = SIZE_BYTES[Kind.STOP]
_ROUND_BYTES: Final = SIZE_BYTES[Kind.ROUND]


class Outlet(Protocol):
    """Where datagrams leave. Both calls send at once or lose the datagram; neither repeats it."""

    def send(self, peer: Peer, datagram: bytes) -> None:
        """Send a datagram."""

    def send_stamped(self, peer: Peer, datagram: bytes) -> Stamp:
        """Send a datagram and return when it left."""


class Phase(enum.Enum):
    """Where a session stands; it only ever moves down this list."""

    RAPID = enum.auto()
    STOPPED = enum.auto()
    ENDED = enum.auto()


class Outcome(enum.Enum):
    """How a session ended."""

    RECEIPT = enum.auto()
    TOO_FEW_ROUNDS = enum.auto()
    REVEAL_MISMATCH = enum.auto()
    ABANDONED = enum.auto()


class Drop(enum.Enum):
    """Why a datagram was dropped without a word."""

    MALFORMED = "malformed"
    UNEXPECTED_KIND = "unexpected_kind"
    OTHER_LANDMARK = "other_landmark"
    COOKIE_FORGED = "cookie_forged"
    COOKIE_EXPIRED = "cookie_expired"
    REPEATED_COMMIT = "repeated_commit"
    UNKNOWN_TAG = "unknown_tag"
    WRONG_SOURCE = "wrong_source"
    WRONG_INDEX = "wrong_index"
    ROUND_CLOSED = "round_closed"
    AFTER_STOP = "after_stop"
    REVEAL_BEFORE_STOP = "reveal_before_stop"
    REVEAL_CHANGED = "reveal_changed"
    NO_BUDGET = "no_budget"


@dataclass(frozen=True, slots=True)
class Plan:
    """How sessions run.

    `rounds` is 8 to 64. A round leaves `interval_ns` after the one before; `answer_wait_ns` is how long the last ones
    are waited for.
    """

    rounds: int
    interval_ns: int
    answer_wait_ns: int


@dataclass(frozen=True, slots=True)
class Opening:
    """What a session was opened with. All bytes are 32 long but `tag`, 16."""

    tag: bytes
    peer: Peer
    landmark_key_id: bytes
    landmark_nonce: bytes
    challenge: bytes
    commitment: bytes

    @property
    def session_id(self) -> bytes:
        """The session's id. docs/protocol.md R1."""
        return session_id_of(self.challenge, self.landmark_key_id, self.landmark_nonce)


@dataclass(frozen=True, slots=True)
class _Closed:
    """A closed round: what closed it, and when; `trip` is None for a datagram that came before its round left."""

    answer: bytes
    trip: RoundTrip | None


class Session:
    """One session with one device, from the first round to the receipt.

    `due_ns` is when `step` wants to be called next. `budget_bytes` is what has been received from the peer for this
    session less what was sent; a COMMIT pays for the opening.
    """

    __slots__ = (
        "_challenges", "_closed", "_last_round_ns", "_position_revision", "_reply", "_revealed", "_seed", "_sent",
        "_session_id", "_sign", "_starved", "_stop_by_ns", "_stop_repeat_ns", "budget_bytes", "due_ns", "opening",
        "outcome", "phase", "plan",
    )  # fmt: skip

    def __init__(
        self,
        opening: Opening,
        seed: bytes,
        plan: Plan,
        *,
        position_revision: int,
        sign: Callable[[Receipt], bytes],
        now_ns: int,
    ) -> None:
        self.opening = opening
        self.plan = plan
        self.phase = Phase.RAPID
        self.outcome: Outcome | None = None
        self.budget_bytes = SIZE_BYTES[Kind.COMMIT]
        self.due_ns = now_ns
        self._seed = seed
        self._challenges = hashlib.shake_256(seed).digest(16 * plan.rounds)  # docs/protocol.md R3
        self._session_id = opening.session_id
        self._position_revision = position_revision
        self._sign = sign
        self._sent: list[Stamp] = []
        self._closed: dict[int, _Closed] = {}
        self._last_round_ns = now_ns
        self._starved = False
        self._stop_by_ns = now_ns
        self._stop_repeat_ns = _FIRST_STOP_REPEAT_NS
        self._revealed: bytes | None = None
        self._reply: bytes | None = None

    @property
    def rounds_sent(self) -> int:
        """How many rounds left so far."""
        return len(self._sent)

    def credit(self, size: int) -> None:
        """Count a datagram of `size` bytes that came from the peer for this session. docs/protocol.md D2."""
        self.budget_bytes += size

    def step(self, now_ns: int, outlet: Outlet) -> bool:
        """Do what is due at `now_ns`: a round, the stop, a repeated stop, or giving up; say whether a round left."""
        if now_ns < self.due_ns:
            return False
        sent_before = self.rounds_sent
        match self.phase:
            case Phase.RAPID if self.rounds_sent == self.plan.rounds or (self._starved and now_ns >= self._stop_by_ns):
                self._stop(now_ns, outlet)
            case Phase.RAPID:
                self._send_round(now_ns, outlet)
            case Phase.STOPPED if now_ns >= self._stop_by_ns:
                self._end(Outcome.ABANDONED, None, now_ns)
            case Phase.STOPPED:
                self._repeat_stop(now_ns, outlet)
            case Phase.ENDED:
                pass
        return self.rounds_sent > sent_before

    def answer(self, answer: Answer, received: Stamp, now_ns: int, outlet: Outlet) -> Drop | None:
        """Take an answer of the right source; returns why it was dropped, if it was."""
        if self.phase is not Phase.RAPID:
            return Drop.AFTER_STOP
        if answer.index >= self.plan.rounds:
            return Drop.WRONG_INDEX
        # docs/protocol.md R3: the first datagram closes the round, whatever it holds. One that is there before its
        # round left closes it too, and can never be accepted.
        if answer.index in self._closed:
            return Drop.ROUND_CLOSED
        early = answer.index >= self.rounds_sent
        trip = None if early else round_trip(self._sent[answer.index], received)
        self._closed[answer.index] = _Closed(answer.answer, trip)
        if self.rounds_sent == self.plan.rounds and len(self._closed) == self.plan.rounds:
            self._stop(now_ns, outlet)
        elif self._starved and self._affords_round():
            self._starved = False
            self.due_ns = max(now_ns, self._last_round_ns + self.plan.interval_ns)
        return None

    def reveal(self, reveal: Reveal, now_ns: int, unix_s: int, outlet: Outlet) -> Drop | None:
        """Take a reveal of the right source; returns why it was dropped, if it was."""
        # docs/protocol.md R1: the secret is taken only after the stop.
        if self.phase is Phase.RAPID:
            return Drop.REVEAL_BEFORE_STOP
        if self.phase is Phase.STOPPED:
            self._revealed = reveal.secret
            self._judge(reveal.secret, now_ns, unix_s)
        elif self._revealed is None or not hmac.compare_digest(self._revealed, reveal.secret):
            return Drop.REVEAL_CHANGED  # D3: repeats are the same bytes
        if self._reply is None or not self._pay(len(self._reply)):
            return Drop.NO_BUDGET
        outlet.send(self.opening.peer, self._reply)
        return None

    def _send_round(self, now_ns: int, outlet: Outlet) -> None:
        if not self._affords_round():
            # Answers may still pay for the rest; else the session stops with the rounds that it has.
            self._starved = True
            self._stop_by_ns = self.due_ns = self._last_round_ns + self.plan.answer_wait_ns
            return
        self.budget_bytes -= _ROUND_BYTES
        index = self.rounds_sent
        datagram = Round(self.opening.tag, index, self._challenges[16 * index : 16 * index + 16]).encode()
        # docs/protocol.md R3: this is the one place where c_i leaves, and `index` never comes back.
        self._sent.append(outlet.send_stamped(self.opening.peer, datagram))
        self._last_round_ns = now_ns
        if self.rounds_sent < self.plan.rounds:
            self.due_ns = now_ns + self.plan.interval_ns
        elif len(self._closed) == self.plan.rounds:
            self._stop(now_ns, outlet)
        else:
            self.due_ns = now_ns + self.plan.answer_wait_ns

    def _affords_round(self) -> bool:
        # What STOP costs is kept back, so that every session can be stopped.
        return self.budget_bytes >= _ROUND_BYTES + _STOP_BYTES

    def _stop(self, now_ns: int, outlet: Outlet) -> None:
        self.phase = Phase.STOPPED
        # Whoever did not answer enough rounds can get no receipt, and must not hold a place for long.
        enough = len(self._closed) >= MIN_ACCEPTED_ROUNDS
        self._stop_by_ns = now_ns + (REVEAL_WAIT_NS if enough else HOPELESS_WAIT_NS)
        self._repeat_stop(now_ns, outlet)

    def _repeat_stop(self, now_ns: int, outlet: Outlet) -> None:
        if self._pay(_STOP_BYTES):
            outlet.send(self.opening.peer, Stop(self.opening.tag, self.rounds_sent).encode())
        self.due_ns = min(now_ns + self._stop_repeat_ns, self._stop_by_ns)
        self._stop_repeat_ns *= 2

    def _judge(self, secret: bytes, now_ns: int, unix_s: int) -> None:
        """Check the secret, then the answers, then sign. docs/protocol.md R6."""
        # 1. The secret opens the commitment.
        if not hmac.compare_digest(commitment_to(self._session_id, secret), self.opening.commitment):
            self._end(Outcome.REVEAL_MISMATCH, self._refusal(RefusalCode.REVEAL_MISMATCH), now_ns)
            return
        # 2. The rounds whose answer is right are accepted.
        accepted = {
            index: closed.trip
            for index, closed in self._closed.items()
            if closed.trip is not None and hmac.compare_digest(closed.answer, self._right_answer(secret, index))
        }
        # 3. There are enough of them. R5
        if len(accepted) < MIN_ACCEPTED_ROUNDS:
            self._end(Outcome.TOO_FEW_ROUNDS, self._refusal(RefusalCode.TOO_FEW_ROUNDS), now_ns)
            return
        # 4. Only now is anything else derived from the seed let out. R1
        least = min(accepted.values(), key=lambda trip: trip.nanoseconds)
        receipt = Receipt(
            session_id=self._session_id,
            challenge=self.opening.challenge,
            landmark_nonce=self.opening.landmark_nonce,
            commitment=self.opening.commitment,
            seed=self._seed,
            rounds_sent=self.rounds_sent,
            accepted_mask=sum(1 << index for index in accepted),
            least_round_trip_ns=least.nanoseconds,
            clock=least.clock,
            position_revision=self._position_revision,
            unix_s=unix_s,
        )
        self._end(Outcome.RECEIPT, ReceiptDatagram(self.opening.tag, self._sign(receipt)).encode(), now_ns)

    def _right_answer(self, secret: bytes, index: int) -> bytes:
        return answer_to(self._session_id, secret, index, self._challenges[16 * index : 16 * index + 16])

    def _refusal(self, code: RefusalCode) -> bytes:
        return Refused(self.opening.tag, code).encode()

    def _end(self, outcome: Outcome, reply: bytes | None, now_ns: int) -> None:
        self.phase = Phase.ENDED
        self.outcome = outcome
        self.due_ns = now_ns + LINGER_NS
        self._reply = reply
        self._sent.clear()
        self._closed.clear()
        self._seed = self._challenges = b""

    def _pay(self, size: int) -> bool:
        if self.budget_bytes < size:
            return False
        self.budget_bytes -= size
        return True

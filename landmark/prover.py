"""One session on the answering side as a state machine without I/O: a landmark that is ranged by another one.

docs/protocol.md R1 to R4, R9, D3, D4, LA1. It does what a device does: commits to a fresh secret, logs each round
before its answer leaves, closes, and only then reveals. Time, randomness and the signer are passed in; whoever holds
the socket sends what it is given and passes in only what came from the ranging landmark's address.
"""

import enum
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from landmark.datagrams import (
    Answer,
    Commit,
    Hello,
    Nonce,
    ReceiptDatagram,
    Refused,
    Reveal,
    Round,
    Stop,
    parse_datagram,
)
from landmark.derive import MAX_ROUNDS, MIN_ACCEPTED_ROUNDS, SECRET_BYTES, answer_to, commitment_to, session_id_of
from landmark.errors import MalformedDatagramError, RefusalCode
from landmark.statements import Statement

SILENCE_NS: Final = 5_000_000_000  # docs/protocol.md D4
SECRET_LIFE_NS: Final = 60_000_000_000  # docs/protocol.md R2
# A HELLO is repeated for so long. The longest way around Earth and back takes half a second, over satellites one.
GREETING_NS: Final = 2_500_000_000
# A REVEAL is repeated for so long: a landmark drops it until its own STOP, which is later when ours was forged (D4).
REVEALING_NS: Final = 10_000_000_000
FIRST_REPEAT_NS: Final = 300_000_000
LONGEST_REPEAT_NS: Final = 1_000_000_000

_LOG_LABEL: Final = b"trigpoint-log-v1\0"
_CLOSE_LABEL: Final = b"trigpoint-close-v1\0"


class Phase(enum.Enum):
    """Where a session stands; it only ever moves down this list."""

    GREETING = enum.auto()
    ANSWERING = enum.auto()
    REVEALING = enum.auto()
    ENDED = enum.auto()


class Failure(enum.IntEnum):
    """Why there is no evidence. The numbers of ProverFailure in proto/trigpoint/v1/landmark.proto."""

    NO_REPLY = 1
    REFUSED = 2
    TOO_FEW_ROUNDS = 3
    NO_RECEIPT = 4
    TOO_LATE = 6


@dataclass(frozen=True, slots=True)
class Evidence:
    """Both ends' accounts of one session: two COSE messages and the mask of the rounds that were answered, 8 bytes."""

    receipt: bytes
    statement: bytes
    answered: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """What one order opens: the ranging landmark's key id and the challenge, 32 bytes each, and the ticket."""

    landmark_key_id: bytes
    challenge: bytes
    ticket: bytes


class Prover:
    """One session with one ranging landmark, from HELLO to the receipt.

    `due_ns` is when `step` wants to be called next. `outcome` is None until the session has ended. `draw(n)` returns n
    fresh bytes of the operating system's generator; `sign` returns the signed statement (R9).
    """

    __slots__ = (
        "_answered_mask", "_commitment", "_deadline_ns", "_draw", "_last_index", "_pending", "_repeat_ns", "_rounds",
        "_secret", "_secret_dies_ns", "_session_id", "_sign", "_tag", "_target", "_transcript", "due_ns", "outcome",
        "phase",
    )  # fmt: skip

    def __init__(
        self, target: Target, *, draw: Callable[[int], bytes], sign: Callable[[Statement], bytes], now_ns: int
    ) -> None:
        self.phase = Phase.GREETING
        self.outcome: Evidence | Failure | None = None
        self._target = target
        self._draw = draw
        self._sign = sign
        # What is sent again until a reply comes, and when this phase is over without one.
        self._pending = Hello(draw(16), target.landmark_key_id).encode()
        self._deadline_ns = now_ns + GREETING_NS
        self._repeat_ns = FIRST_REPEAT_NS
        self.due_ns = now_ns
        self._tag = self._session_id = self._commitment = self._secret = self._transcript = b""
        self._secret_dies_ns = 0
        self._last_index = -1
        self._rounds = 0
        self._answered_mask = 0

    @property
    def greeted(self) -> bool:
        """The landmark has answered the HELLO, so the ticket may be spent."""
        return bool(self._tag)

    def step(self, now_ns: int) -> bytes | None:
        """Do what is due at `now_ns`; return the datagram to send, if there is one."""
        if self.phase is Phase.ENDED or now_ns < self.due_ns:
            return None
        if self.phase is not Phase.GREETING and now_ns >= self._secret_dies_ns:
            self.abandon()  # R2: erased without a close, or with its REVEAL
            return None
        if now_ns >= self._deadline_ns:
            if self.phase is Phase.ANSWERING:
                return self._close(now_ns)  # D4: nothing was heard for 5 s
            self.abandon()
            return None
        self._set_due(now_ns + self._repeat_ns)
        self._repeat_ns = min(2 * self._repeat_ns, LONGEST_REPEAT_NS)
        return self._pending

    def receive(self, data: bytes, now_ns: int) -> bytes | None:
        """Take one datagram that came from the landmark's address; return what to send in reply, at once."""
        try:
            datagram = parse_datagram(data)
        except MalformedDatagramError:
            return None
        match datagram:
            case Round() if self.phase is Phase.ANSWERING and datagram.tag == self._tag:
                return self._round(datagram, now_ns)
            case Nonce() if self.phase is Phase.GREETING:
                return self._nonce(datagram, now_ns)
            case Stop() if self.phase is Phase.ANSWERING and datagram.tag == self._tag:
                return self._close(now_ns, heard=True)
            case Refused() if self.phase in {Phase.ANSWERING, Phase.REVEALING} and datagram.tag == self._tag:
                few = datagram.code == RefusalCode.TOO_FEW_ROUNDS
                self._end(Failure.TOO_FEW_ROUNDS if few else Failure.REFUSED)
            case ReceiptDatagram() if self.phase is Phase.REVEALING and datagram.tag == self._tag:
                self._take_receipt(datagram.receipt)
            case _:
                pass  # of another session or of no use now: D3, R4 "After close the device MUST NOT answer"
        return None

    def abandon(self) -> None:
        """End without a close: the secret is erased, and neither logged nor revealed. docs/protocol.md R2."""
        if self.phase is Phase.REVEALING or self._rounds >= MIN_ACCEPTED_ROUNDS:
            self._end(Failure.NO_RECEIPT)
        else:
            self._end(Failure.TOO_FEW_ROUNDS if self._rounds else Failure.NO_REPLY)

    def _nonce(self, nonce: Nonce, now_ns: int) -> bytes | None:
        """Commit to a fresh secret. docs/protocol.md R1, R2."""
        # Bytes 4 to 20 of our HELLO: only the landmark and who reads along can know them.
        if nonce.hello_id != self._pending[4:20]:
            return None
        target = self._target
        self._tag = nonce.tag
        self._session_id = session_id_of(target.challenge, target.landmark_key_id, nonce.landmark_nonce)
        self._secret = self._draw(SECRET_BYTES)
        self._secret_dies_ns = now_ns + SECRET_LIFE_NS
        self._commitment = commitment_to(self._session_id, self._secret)
        self._transcript = hashlib.sha256(_LOG_LABEL + self._session_id + self._commitment).digest()  # R4: T_0
        commit = Commit(nonce.tag, nonce.landmark_nonce, nonce.cookie, self._commitment, target.ticket)
        return self._enter(Phase.ANSWERING, commit.encode(), now_ns, SILENCE_NS)

    def _round(self, round_: Round, now_ns: int) -> bytes | None:
        """Log a round, then answer it; None for one that R4 drops."""
        # The landmark is not silent, and has the COMMIT: that is not repeated, nothing is due now but the close.
        self._deadline_ns = now_ns + SILENCE_NS
        self._set_due(self._deadline_ns)
        # 1. Strictly increasing, each once, at most 64; the rest is dropped unlogged. R3, R4
        if not self._last_index < round_.index < MAX_ROUNDS:
            return None
        # 2. It is in the transcript before its answer leaves. R4, P2
        link = self._transcript + round_.index.to_bytes(2, "big") + round_.challenge
        self._transcript = hashlib.sha256(link).digest()
        self._last_index = round_.index
        self._rounds += 1
        self._answered_mask |= 1 << round_.index
        # 3. Now it may be answered. R3
        return Answer(
            self._tag, round_.index, answer_to(self._session_id, self._secret, round_.index, round_.challenge)
        ).encode()

    def _close(self, now_ns: int, *, heard: bool = False) -> bytes | None:
        """Close the transcript and erase the secret; return the REVEAL if a receipt can still come. R2, R4, D4."""
        # 1. Too few rounds can never be accepted (R5): nothing is revealed.
        if self._rounds < MIN_ACCEPTED_ROUNDS:
            self._end(Failure.TOO_FEW_ROUNDS if heard or self._rounds else Failure.NO_REPLY)
            return None
        # 2. T is fixed, and from here on no round is answered.
        last = _CLOSE_LABEL + self._transcript + self._rounds.to_bytes(2, "big")
        self._transcript = hashlib.sha256(last).digest()
        # 3. Only now does the secret leave. The datagram alone is kept, for repeating it.
        reveal = Reveal(self._tag, self._secret).encode()
        self._secret = b""
        return self._enter(Phase.REVEALING, reveal, now_ns, REVEALING_NS)

    def _take_receipt(self, receipt: bytes) -> None:
        """End with evidence. What the receipt says is the server's to judge (LA2); without bytes it is none."""
        if not receipt:
            return
        statement = self._sign(Statement(self._session_id, self._commitment, self._transcript))
        self._end(Evidence(receipt, statement, self._answered_mask.to_bytes(8, "big")))  # docs/protocol.md C4

    def _enter(self, phase: Phase, pending: bytes, now_ns: int, life_ns: int) -> bytes:
        """Go on to `phase` and return its datagram, which is repeated from now on. docs/protocol.md D3."""
        self.phase = phase
        self._pending = pending
        self._deadline_ns = now_ns + life_ns
        self._set_due(now_ns + FIRST_REPEAT_NS)
        self._repeat_ns = 2 * FIRST_REPEAT_NS
        return pending

    def _set_due(self, due_ns: int) -> None:
        ends_ns = self._deadline_ns
        if self.phase is not Phase.GREETING:
            ends_ns = min(ends_ns, self._secret_dies_ns)
        self.due_ns = min(due_ns, ends_ns)

    def _end(self, outcome: Evidence | Failure) -> None:
        self.phase = Phase.ENDED
        self.outcome = outcome
        self._secret = self._pending = b""

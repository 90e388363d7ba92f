"""The firmware side of ranging: secrets, answers and the transcript that a device signs.

Spec: docs/protocol.md R1 to R4. A pure state machine: no socket, no clock; time is an argument in nanoseconds of one
monotonic clock. The only randomness is the secret, which may be given for vectors.
"""

import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

LABEL_SESSION = b"trigpoint-session-v1\0"
LABEL_COMMIT = b"trigpoint-commit-v1\0"
LABEL_ROUND = b"trigpoint-round-v1\0"
LABEL_LOG = b"trigpoint-log-v1\0"
LABEL_CLOSE = b"trigpoint-close-v1\0"

ROUNDS_MAX = 64  # R3
ROUND_BYTES = 16  # R3
SECRET_BYTES = 32  # R2
SECRET_LIFE_NS = 60 * 1_000_000_000  # R2
LOG_ENTRIES_MAX = 128  # R4


def session_of(challenge: bytes, landmark_key_id: bytes, landmark_nonce: bytes) -> bytes:
    """R1: the session, 32 bytes, as the device computes it for itself."""
    return hashlib.sha256(LABEL_SESSION + challenge + landmark_key_id + landmark_nonce).digest()


def commitment_of(session: bytes, secret: bytes) -> bytes:
    """R2: C, 32 bytes."""
    return hashlib.sha256(LABEL_COMMIT + session + secret).digest()


def answer_of(secret: bytes, session: bytes, index: int, challenge: bytes) -> bytes:
    """R3: a_i, 16 bytes."""
    message = LABEL_ROUND + session + index.to_bytes(2, "big") + challenge
    return hmac.digest(secret, message, "sha256")[:ROUND_BYTES]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One closed session as TLV 0x5401 carries it (docs/protocol.md §4)."""

    session: bytes
    commitment: bytes
    transcript: bytes

    def to_bytes(self) -> bytes:
        """96 bytes."""
        return self.session + self.commitment + self.transcript


@dataclass(frozen=True, slots=True)
class Closed:
    """What closing a session gives: the secret, no longer in the device, and what was logged."""

    secret: bytes
    entry: LogEntry
    rounds: int


@dataclass(slots=True)
class _OpenSession:
    secret: bytes
    commitment: bytes
    drawn_at_ns: int
    transcript: bytes
    last_index: int = -1
    rounds: int = 0


@dataclass(slots=True)
class RangingFirmware:
    """All ranging sessions of one device, and its log."""

    draw_secret: Callable[[], bytes] = lambda: secrets.token_bytes(SECRET_BYTES)
    _open: dict[bytes, _OpenSession] = field(default_factory=dict)
    _log: deque[LogEntry] = field(default_factory=lambda: deque(maxlen=LOG_ENTRIES_MAX))

    @property
    def log(self) -> tuple[LogEntry, ...]:
        """The last 128 closed sessions, oldest first."""
        return tuple(self._log)

    def open(self, session: bytes, now_ns: int) -> bytes | None:
        """Draw a secret and commit to it: C, 32 bytes. None for a session that is open or in the log (E6)."""
        self.expire(now_ns)
        if session in self._open or any(entry.session == session for entry in self._log):
            return None
        secret = self.draw_secret()
        commitment = commitment_of(session, secret)
        transcript = hashlib.sha256(LABEL_LOG + session + commitment).digest()  # R4: T_0
        self._open[session] = _OpenSession(secret, commitment, now_ns, transcript)
        return commitment

    def answer(self, session: bytes, index: int, challenge: bytes, now_ns: int) -> bytes | None:
        """Log one round, then answer it: a_i, 16 bytes. None for a round that is dropped, unlogged."""
        self.expire(now_ns)
        state = self._open.get(session)
        if state is None or not state.last_index < index < ROUNDS_MAX or len(challenge) != ROUND_BYTES:  # R3, R4
            return None
        state.last_index = index
        state.rounds += 1
        state.transcript = hashlib.sha256(state.transcript + index.to_bytes(2, "big") + challenge).digest()  # R4: T_k
        return answer_of(state.secret, session, index, challenge)

    def close(self, session: bytes, now_ns: int) -> Closed | None:
        """End the rounds, log the session and give the secret away. None when it is not open (any more)."""
        self.expire(now_ns)
        state = self._open.pop(session, None)  # R2: with it goes the only copy of the secret
        if state is None:
            return None
        transcript = hashlib.sha256(LABEL_CLOSE + state.transcript + state.rounds.to_bytes(2, "big")).digest()  # R4: T
        entry = LogEntry(session, state.commitment, transcript)
        self._log.append(entry)
        return Closed(state.secret, entry, state.rounds)

    def expire(self, now_ns: int) -> None:
        """Erase every secret that is 60 s old (R2). Such a session never enters the log: it was not closed."""
        for session in [s for s, state in self._open.items() if now_ns - state.drawn_at_ns >= SECRET_LIFE_NS]:
            del self._open[session]

    def reset(self) -> None:
        """What losing power does: all secrets and the log are gone."""
        self._open.clear()
        self._log.clear()

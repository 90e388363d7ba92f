"""All sessions of one landmark as one state machine without I/O. docs/protocol.md §7.

The order of R1 is the order of the code: a HELLO leaves nothing behind but a cookie on the device's side; a COMMIT
opens a session only after its cookie and its ticket are good; the seed is drawn after both. Time, randomness and sends
are passed in. Toward every address the bytes sent never exceed the bytes received (D2): a reply without a session is
never larger than the datagram it answers, and every session pays for what it sends.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from nacl.signing import VerifyKey

from landmark.clock import Stamp
from landmark.cookies import COOKIE_KEY_BYTES, CookieJar, CookieState, Peer
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
from landmark.errors import BusyError, MalformedDatagramError, RefusalCode, RefusedError, TicketUsedError
from landmark.keys import LandmarkKey
from landmark.limits import Rate
from landmark.session import Drop, Opening, Outcome, Outlet, Phase, Plan, Session
from landmark.statements import TICKET_SKEW_S, Receipt, Ticket, sign_receipt, verify_ticket

# Ticket signatures checked a second, for each session that may open in it: bounds what forged tickets can cost.
_TICKET_CHECKS_PER_SESSION: Final = 4
# Used ticket ids are never forgotten before they expire; when so many are held, new sessions wait. About 100 MB.
_MAX_USED_TICKETS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Now:
    """One instant: the monotonic clock that paces sessions, and Unix time for tickets and receipts."""

    monotonic_ns: int
    unix_s: int


@dataclass(frozen=True, slots=True)
class Policy:
    """How a landmark serves.

    `sessions_at_once` counts sessions that have not ended (D5). `position_revision` goes into every receipt.
    """

    plan: Plan
    sessions_at_once: int
    sessions_per_second: int
    position_revision: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since start; `open_sessions` and `kept_sessions` are of now."""

    open_sessions: int
    kept_sessions: int
    hellos: int
    sessions: int
    rounds: int
    outcomes: Mapping[str, int]
    refused: Mapping[str, int]
    dropped: Mapping[str, int]


class Ranger:
    """Serves every session of the landmark that holds `key`.

    `ticket_keys` maps the key ids of the server's ticket keys to them; `draw(n)` returns n fresh bytes of the operating
    system's generator.
    """

    def __init__(
        self,
        key: LandmarkKey,
        ticket_keys: Mapping[bytes, VerifyKey],
        policy: Policy,
        draw: Callable[[int], bytes],
        outlet: Outlet,
    ) -> None:
        self._key = key
        self._ticket_keys = dict(ticket_keys)
        self._policy = policy
        self._draw = draw
        self._outlet = outlet
        self._cookies = CookieJar(draw(COOKIE_KEY_BYTES))
        self._sessions: dict[bytes, Session] = {}
        self._open_count = 0
        self._timers: list[tuple[int, int, Session]] = []
        self._timer_order = itertools.count()
        self._used_tickets: set[bytes] = set()
        self._used_by_expiry: list[tuple[int, bytes]] = []
        self._session_rate = Rate(policy.sessions_per_second)
        self._ticket_rate = Rate(policy.sessions_per_second * _TICKET_CHECKS_PER_SESSION)
        self._hellos = 0
        self._opened = 0
        self._rounds = 0
        self._outcomes: Counter[Outcome] = Counter()
        self._refused: Counter[RefusalCode] = Counter()
        self._dropped: Counter[Drop] = Counter()

    @property
    def idle(self) -> bool:
        """No session is open, so nothing is being timed."""
        return self._open_count == 0

    def stats(self) -> Stats:
        """Return the counters as they stand."""
        return Stats(
            open_sessions=self._open_count,
            kept_sessions=len(self._sessions),
            hellos=self._hellos,
            sessions=self._opened,
            rounds=self._rounds,
            outcomes={outcome.name.lower(): count for outcome, count in self._outcomes.items()},
            refused={code.name.lower(): count for code, count in self._refused.items()},
            dropped={drop.value: count for drop, count in self._dropped.items()},
        )

    def receive(self, data: bytes, peer: Peer, received: Stamp, now: Now) -> None:
        """Take one datagram that came from `peer`."""
        try:
            datagram = parse_datagram(data)
        except MalformedDatagramError:
            self._dropped[Drop.MALFORMED] += 1
            return
        match datagram:
            case Answer() | Reveal():
                drop = self._for_session(datagram, len(data), peer, received, now)
            case Hello():
                drop = self._hello(datagram, peer, now)
            case Commit():
                drop = self._commit(datagram, len(data), peer, now)
            case Nonce() | Round() | Stop() | ReceiptDatagram() | Refused():
                drop = Drop.UNEXPECTED_KIND
            case _:
                assert_never(datagram)
        if drop is not None:
            self._dropped[drop] += 1

    def next_due_ns(self) -> int | None:
        """Return when `advance` wants to be called next, or None while nothing is waited for."""
        while self._timers and self._timers[0][0] != self._timers[0][2].due_ns:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def advance(self, now: Now) -> None:
        """Do all that is due."""
        while (due_ns := self.next_due_ns()) is not None and due_ns <= now.monotonic_ns:
            session = heapq.heappop(self._timers)[2]
            if session.phase is Phase.ENDED:
                self._sessions.pop(session.opening.tag, None)
                continue
            if session.step(now.monotonic_ns, self._outlet):
                self._rounds += 1
            self._count_end(session, was_open=True)
            self._set_timer(session)

    def _hello(self, hello: Hello, peer: Peer, now: Now) -> Drop | None:
        """Answer with a nonce, as large as the HELLO; keep nothing. docs/protocol.md D1."""
        if hello.landmark_key_id != self._key.key_id:
            return Drop.OTHER_LANDMARK
        self._hellos += 1
        tag, nonce = self._draw(16), self._draw(32)
        cookie = self._cookies.make(peer, tag, nonce, now.monotonic_ns)
        self._outlet.send(peer, Nonce(tag, hello.hello_id, nonce, cookie).encode())
        return None

    def _commit(self, commit: Commit, size: int, peer: Peer, now: Now) -> Drop | None:
        # 1. The sender receives at its address. D1: no good cookie, no word.
        state = self._cookies.check(commit.cookie, peer, commit.tag, commit.landmark_nonce, now.monotonic_ns)
        if state is CookieState.FORGED:
            return Drop.COOKIE_FORGED
        # 2. The cookie has opened no session yet: one session has one rapid phase (R1), and a repeated COMMIT changes
        #    nothing (D3). Ended sessions are kept for longer than a cookie lives.
        session = self._sessions.get(commit.tag)
        if session is not None:
            session.credit(size)
            return Drop.REPEATED_COMMIT
        if state is CookieState.EXPIRED:
            return Drop.COOKIE_EXPIRED
        # 3. There is room, and the ticket is good. D5, TK1
        try:
            ticket = self._admit(commit.ticket, now)
        except RefusedError as error:
            self._refused[error.code] += 1
            self._outlet.send(peer, Refused(commit.tag, error.code).encode())
            return None
        # 4. The session opens.
        self._open(commit, ticket, peer, now)
        return None

    def _admit(self, message: bytes, now: Now) -> Ticket:
        """Return the ticket in `message` and count it as used; RefusedError when it opens no session."""
        self._forget_expired_tickets(now.unix_s)
        if self._open_count >= self._policy.sessions_at_once or len(self._used_tickets) >= _MAX_USED_TICKETS:
            raise BusyError("too many sessions at once")
        if not self._ticket_rate.take(now.monotonic_ns):
            raise BusyError("too many tickets a second")
        ticket = verify_ticket(message, self._key.key_id, self._ticket_keys, now.unix_s)
        if ticket.ticket_id in self._used_tickets:  # docs/protocol.md TK1
            raise TicketUsedError("opened its session already")
        if not self._session_rate.take(now.monotonic_ns):
            raise BusyError("too many sessions a second")
        self._used_tickets.add(ticket.ticket_id)
        heapq.heappush(self._used_by_expiry, (ticket.expires_unix_s, ticket.ticket_id))
        return ticket

    def _open(self, commit: Commit, ticket: Ticket, peer: Peer, now: Now) -> None:
        opening = Opening(
            tag=commit.tag,
            peer=peer,
            landmark_key_id=self._key.key_id,
            landmark_nonce=commit.landmark_nonce,
            challenge=ticket.challenge,
            commitment=commit.commitment,
        )
        # docs/protocol.md R1: the seed is drawn here, after nonce, commitment, cookie and ticket.
        seed = self._draw(32)
        session = Session(
            opening,
            seed,
            self._policy.plan,
            position_revision=self._policy.position_revision,
            sign=self._sign,
            now_ns=now.monotonic_ns,
        )
        self._sessions[commit.tag] = session
        self._open_count += 1
        self._opened += 1
        self._set_timer(session)

    def _for_session(self, datagram: Answer | Reveal, size: int, peer: Peer, received: Stamp, now: Now) -> Drop | None:
        session = self._sessions.get(datagram.tag)
        if session is None:
            return Drop.UNKNOWN_TAG
        if session.opening.peer != peer:
            return Drop.WRONG_SOURCE
        session.credit(size)
        was_open, was_due_ns = session.phase is not Phase.ENDED, session.due_ns
        if isinstance(datagram, Answer):
            drop = session.answer(datagram, received, now.monotonic_ns, self._outlet)
        else:
            drop = session.reveal(datagram, now.monotonic_ns, now.unix_s, self._outlet)
        self._count_end(session, was_open=was_open)
        if session.due_ns != was_due_ns:
            self._set_timer(session)
        return drop

    def _count_end(self, session: Session, *, was_open: bool) -> None:
        if not was_open or session.outcome is None:
            return
        self._open_count -= 1
        self._outcomes[session.outcome] += 1
        if session.outcome is Outcome.TOO_FEW_ROUNDS:
            self._refused[RefusalCode.TOO_FEW_ROUNDS] += 1
        elif session.outcome is Outcome.REVEAL_MISMATCH:
            self._refused[RefusalCode.REVEAL_MISMATCH] += 1

    def _set_timer(self, session: Session) -> None:
        heapq.heappush(self._timers, (session.due_ns, next(self._timer_order), session))

    def _sign(self, receipt: Receipt) -> bytes:
        return sign_receipt(receipt, self._key)

    def _forget_expired_tickets(self, unix_s: int) -> None:
        while self._used_by_expiry and self._used_by_expiry[0][0] + TICKET_SKEW_S < unix_s:
            self._used_tickets.discard(heapq.heappop(self._used_by_expiry)[1])

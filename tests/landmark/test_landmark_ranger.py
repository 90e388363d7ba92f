"""The state machine alone: with its own time, randomness and outlet. docs/protocol.md R1, R3, D1, D2, D5."""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from landmark.clock import ClockReading, Stamp
from landmark.cookies import COOKIE_LIFE_NS, CookieJar, CookieState, Peer
from landmark.keys import LandmarkKey
from landmark.ranger import Now, Policy, Ranger
from landmark.session import LINGER_NS, REVEAL_WAIT_NS, Plan
from tests.landmark.helpers import (
    ANSWER,
    NONCE,
    RECEIPT,
    REFUSED,
    ROUND,
    STOP,
    Issuer,
    answer,
    commit,
    commitment_to,
    hello,
    raw_public,
    read_receipt,
    reveal,
    right_answer,
    session_id,
    sha256,
)

KEY = LandmarkKey.from_seed(b"k" * 32)
ISSUER = Issuer(Ed25519PrivateKey.from_private_bytes(b"t" * 32))
START_UNIX_S = 1_800_000_000
MS = 1_000_000
S = 1_000 * MS
POLICY = Policy(Plan(16, 10 * MS, 1_000 * MS), sessions_at_once=4, sessions_per_second=100, position_revision=1)
PEER = Peer(0, "192.0.2.1", 4000)


@dataclass
class World:
    """A ranger with a clock that the test moves; everything that leaves is kept, and D2 is checked at every send."""

    policy: Policy = POLICY
    now_ns: int = 5 * S
    drawn: Iterator[int] = field(default_factory=itertools.count)
    draws: list[int] = field(default_factory=list)
    sent: list[tuple[Peer, bytes]] = field(default_factory=list)
    bytes_in: dict[Peer, int] = field(default_factory=lambda: defaultdict(int))
    bytes_out: dict[Peer, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        public = raw_public(ISSUER.key)
        self.ranger = Ranger(KEY, {sha256(public): VerifyKey(public)}, self.policy, self.draw, self)

    def draw(self, size: int) -> bytes:
        self.draws.append(size)
        return hashlib.shake_256(next(self.drawn).to_bytes(8, "big")).digest(size)

    def send(self, peer: Peer, datagram: bytes) -> None:
        self.sent.append((peer, datagram))
        self.bytes_out[peer] += len(datagram)
        assert self.bytes_out[peer] <= self.bytes_in[peer]  # docs/protocol.md D2
        assert len(datagram) <= 1200

    def send_stamped(self, peer: Peer, datagram: bytes) -> Stamp:
        self.send(peer, datagram)
        return self.stamp()

    def stamp(self) -> Stamp:
        return Stamp(ClockReading(self.now_ns, self.now_ns, self.now_ns), None)

    @property
    def now(self) -> Now:
        return Now(self.now_ns, START_UNIX_S + self.now_ns // S)

    def receive(self, data: bytes, peer: Peer = PEER) -> list[bytes]:
        before = len(self.sent)
        self.bytes_in[peer] += len(data)
        self.ranger.receive(data, peer, self.stamp(), self.now)
        self.ranger.advance(self.now)
        return [datagram for _, datagram in self.sent[before:]]

    def run(self, span_ns: int) -> list[bytes]:
        """Let time pass, doing what is due when it is due."""
        before = len(self.sent)
        end_ns = self.now_ns + span_ns
        while (due_ns := self.ranger.next_due_ns()) is not None and due_ns <= end_ns:
            self.now_ns = max(self.now_ns, due_ns)
            self.ranger.advance(self.now)
        self.now_ns = end_ns
        return [datagram for _, datagram in self.sent[before:]]

    def dropped(self) -> dict[str, int]:
        return dict(self.ranger.stats().dropped)

    def ticket(self, number: int, *, life_s: int = 60) -> bytes:
        expires = self.now.unix_s + life_s
        return ISSUER.ticket(KEY.key_id, challenge=bytes(32), expires=expires, ticket_id=number.to_bytes(16, "big"))


@dataclass
class Talk:
    """A device's side of one session with a `World`."""

    world: World
    peer: Peer = PEER
    secret: bytes = b"s" * 32

    def open(self) -> "Talk":
        (nonce,) = self.world.receive(hello(b"h" * 16, KEY.key_id), self.peer)
        assert nonce[3] == NONCE
        self.tag, self.nonce, self.cookie = nonce[4:20], nonce[36:68], nonce[68:92]
        self.session = session_id(bytes(32), KEY.key_id, self.nonce)
        return self

    def commit(self, ticket: bytes) -> list[bytes]:
        commitment = commitment_to(self.session, self.secret)
        datagram = commit(self.tag, self.nonce, self.cookie, commitment, ticket)
        return self.world.receive(datagram, self.peer)

    def answer_to(self, datagram: bytes) -> bytes:
        assert datagram[3] == ROUND
        index = int.from_bytes(datagram[20:22], "big")
        return answer(self.tag, index, right_answer(self.session, self.secret, index, datagram[48:64]))

    def answer_all(self, datagrams: list[bytes], delay_ns: int = MS) -> list[bytes]:
        """Answer every ROUND `delay_ns` after it came; return what is no ROUND."""
        rest = [datagram for datagram in datagrams if datagram[3] != ROUND]
        pending = [datagram for datagram in datagrams if datagram[3] == ROUND]
        while pending:
            came = self.world.run(delay_ns)
            for datagram in pending:
                came += self.world.receive(self.answer_to(datagram), self.peer)
            came += self.world.run(self.world.policy.plan.interval_ns - delay_ns)
            pending = [datagram for datagram in came if datagram[3] == ROUND]
            rest += [datagram for datagram in came if datagram[3] != ROUND]
        return rest

    def reveal(self) -> list[bytes]:
        return self.world.receive(reveal(self.tag, self.secret), self.peer)


def kinds(datagrams: list[bytes]) -> list[int]:
    return [datagram[3] for datagram in datagrams]


def test_a_whole_session_in_the_order_of_r1() -> None:
    world = World()
    talk = Talk(world).open()
    assert world.draws == [32, 16, 32]  # cookie key, tag, landmark nonce
    first = talk.commit(world.ticket(1))
    assert world.draws == [32, 16, 32, 32]  # the seed, only now
    assert kinds(first) == [ROUND]
    assert kinds(talk.answer_all(first)) == [STOP]
    (datagram,) = talk.reveal()
    assert datagram[3] == RECEIPT
    fields = read_receipt(datagram[22:], KEY.public_key)
    assert fields[8] == MS
    assert fields[7] == (0xFFFF).to_bytes(8, "big")
    assert fields[11] == world.now.unix_s


def test_rounds_are_paced() -> None:
    world = World()
    talk = Talk(world).open()
    assert kinds(talk.commit(world.ticket(1))) == [ROUND]
    for _ in range(15):
        assert world.run(10 * MS - 1) == []
        assert kinds(world.run(1)) == [ROUND]
    assert world.run(1_000 * MS - 1) == []
    assert kinds(world.run(1)) == [STOP]


def test_no_seed_is_drawn_for_a_refused_commit() -> None:
    world = World()
    talk = Talk(world).open()
    assert kinds(talk.commit(b"no ticket")) == [REFUSED]
    assert kinds(talk.commit(b"")) == [REFUSED]
    assert world.draws == [32, 16, 32]


def test_without_answers_a_session_of_64_rounds_stops_after_17() -> None:
    world = World(Policy(Plan(64, 10 * MS, 1_000 * MS), 4, 100, 1))
    talk = Talk(world).open()
    came = talk.commit(world.ticket(1)) + world.run(60 * S)
    assert kinds(came) == [ROUND] * 17 + [STOP]
    assert came[-1][20:22] == (17).to_bytes(2, "big")
    assert world.ranger.stats().outcomes == {"abandoned": 1}


def test_a_starved_session_goes_on_when_answers_come() -> None:
    world = World(Policy(Plan(64, 10 * MS, 1_000 * MS), 4, 100, 1))
    talk = Talk(world).open()
    came = talk.commit(world.ticket(1)) + world.run(500 * MS)
    assert kinds(came) == [ROUND] * 17
    assert kinds(talk.answer_all(came)) == [STOP]
    (datagram,) = talk.reveal()
    assert read_receipt(datagram[22:], KEY.public_key)[6] == 64


def test_a_cookie_is_refused_after_ten_seconds() -> None:
    world = World()
    early, late = Talk(world).open(), Talk(world).open()
    world.now_ns += COOKIE_LIFE_NS - 1
    assert kinds(early.commit(world.ticket(1))) == [ROUND]
    world.now_ns += 1
    assert ROUND not in kinds(late.commit(world.ticket(2)))
    assert world.dropped() == {"cookie_expired": 1}


def test_a_cookie_binds_everything() -> None:
    jar = CookieJar(b"c" * 32)
    cookie = jar.make(PEER, b"t" * 16, b"n" * 32, 7)
    assert jar.check(cookie, PEER, b"t" * 16, b"n" * 32, 7) is CookieState.GOOD
    assert jar.check(cookie, PEER, b"t" * 16, b"n" * 32, 6) is CookieState.EXPIRED
    others = [
        (PEER, b"u" * 16, b"n" * 32),
        (PEER, b"t" * 16, b"m" * 32),
        (Peer(1, PEER.host, PEER.port), b"t" * 16, b"n" * 32),
        (Peer(0, "192.0.2.2", PEER.port), b"t" * 16, b"n" * 32),
        (Peer(0, PEER.host, 4001), b"t" * 16, b"n" * 32),
        (Peer(0, PEER.host, PEER.port, 1), b"t" * 16, b"n" * 32),
    ]
    for other in others:
        assert jar.check(cookie, *other, 7) is CookieState.FORGED
    for at in range(24):
        forged = cookie[:at] + bytes([cookie[at] ^ 1]) + cookie[at + 1 :]
        assert jar.check(forged, PEER, b"t" * 16, b"n" * 32, 7) is CookieState.FORGED


def test_a_cookie_stays_spent_until_it_expires() -> None:
    world = World()
    talk = Talk(world).open()
    talk.answer_all(talk.commit(world.ticket(1)))
    talk.reveal()
    for _ in range(20):
        assert talk.commit(world.ticket(2)) == []
        world.run(S)
    assert world.ranger.stats().sessions == 1
    assert world.ranger.stats().kept_sessions == 0


def test_used_tickets_are_remembered_until_they_expire() -> None:
    world = World()
    ticket = world.ticket(1, life_s=60)
    Talk(world).open().commit(ticket)
    # 60 s of life and 5 s of skew.
    for _ in range(65):
        world.run(S)
        assert REFUSED in kinds(refused := Talk(world).open().commit(ticket))
        assert refused[-1][20:22] == b"\0\4"
    world.run(S)
    assert Talk(world).open().commit(ticket)[-1][20:22] == b"\0\3"
    Talk(world).open().commit(world.ticket(2))
    assert len(world.ranger._used_tickets) == 1


def test_ended_and_abandoned_sessions_are_forgotten() -> None:
    world = World()
    done, abandoned = Talk(world).open(), Talk(world, Peer(0, "192.0.2.9", 1)).open()
    first = done.commit(world.ticket(1))
    abandoned.commit(world.ticket(2))
    done.answer_all([datagram for datagram in first if datagram[4:20] == done.tag])
    done.reveal()
    assert not world.ranger.idle
    world.run(2 * S + REVEAL_WAIT_NS + LINGER_NS)
    stats = world.ranger.stats()
    assert (stats.kept_sessions, stats.open_sessions, stats.outcomes) == (0, 0, {"receipt": 1, "abandoned": 1})
    assert world.ranger.next_due_ns() is None
    assert world.ranger.idle
    assert done.reveal() == []


def test_sessions_a_second_are_bounded() -> None:
    world = World(
        Policy(Plan(16, 10 * MS, 1_000 * MS), sessions_at_once=100, sessions_per_second=5, position_revision=1)
    )
    for number in range(8):
        talk = Talk(world, Peer(0, "192.0.2.1", 5000 + number)).open()
        talk.commit(world.ticket(number))
    assert world.ranger.stats().sessions == 5
    assert world.ranger.stats().refused == {"busy": 3}
    world.run(200 * MS)
    Talk(world).open().commit(world.ticket(20))
    assert world.ranger.stats().sessions == 6


def test_forged_tickets_cost_a_bounded_number_of_checks() -> None:
    world = World(Policy(Plan(16, 10 * MS, 1_000 * MS), sessions_at_once=9, sessions_per_second=5, position_revision=1))
    for _ in range(30):
        Talk(world).open().commit(b"forged")
    assert world.ranger.stats().refused == {"ticket_invalid": 20, "busy": 10}


def test_an_answer_at_the_moment_of_its_round_never_beats_it() -> None:
    """Rounds that are answered ahead are not accepted, even if the answer is right: here the test knows the seed."""
    world = World()
    talk = Talk(world).open()
    first = talk.commit(world.ticket(1))
    seed = hashlib.shake_256((len(world.draws) - 1).to_bytes(8, "big")).digest(32)
    stream = hashlib.shake_256(seed).digest(256)
    assert first[0][48:64] == stream[:16]
    for index in range(1, 16):
        challenge = stream[16 * index : 16 * index + 16]
        world.receive(answer(talk.tag, index, right_answer(talk.session, talk.secret, index, challenge)))
    world.receive(talk.answer_to(first[0]))
    world.run(2 * S)
    assert talk.reveal()[-1][20:22] == b"\0\5"


def test_an_index_that_no_round_has_is_dropped() -> None:
    world = World()
    talk = Talk(world).open()
    talk.commit(world.ticket(1))
    assert world.receive(answer(talk.tag, 16, bytes(16))) == []
    assert world.receive(answer(talk.tag, 65535, bytes(16))) == []
    assert world.dropped() == {"wrong_index": 2}


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["hello", "commit", "answer", "wrong", "reveal", "lie", "garbage", "wait", "other"]),
        st.integers(0, 400),
    ),
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(ACTIONS, st.integers(8, 64))
def test_bytes_out_never_exceed_bytes_in_and_no_challenge_leaves_twice(
    actions: list[tuple[str, int]], rounds: int
) -> None:
    world = World(
        Policy(Plan(rounds, 10 * MS, 300 * MS), sessions_at_once=3, sessions_per_second=100, position_revision=1)
    )
    talks: list[Talk] = []
    for number, (action, size) in enumerate(actions):
        if action == "hello" or not talks:
            talks.append(Talk(world, Peer(0, "192.0.2.1", 1 + size % 3)).open())
            continue
        talk = talks[size % len(talks)]
        rounds_heard = [data for _, data in world.sent if data[3] == ROUND and data[4:20] == talk.tag]
        match action:
            case "commit":
                talk.commit(world.ticket(number))
            case "answer" if rounds_heard:
                world.receive(talk.answer_to(rounds_heard[size % len(rounds_heard)]), talk.peer)
            case "wrong":
                world.receive(answer(talk.tag, size % 70, bytes(16)), talk.peer)
            case "reveal":
                talk.reveal()
            case "lie":
                world.receive(reveal(talk.tag, bytes(32)), talk.peer)
            case "garbage":
                world.receive(b"TP\x01" + bytes([size % 12]) + bytes(size), talk.peer)
            case "other":
                world.receive(answer(talk.tag, 0, bytes(16)), Peer(0, "192.0.2.77", 1))
            case _:
                world.run(size * MS)
    world.run(100 * S)
    # D2 itself is asserted at every send.
    left = [datagram for _, datagram in world.sent if datagram[3] == ROUND]
    assert len({datagram[4:22] for datagram in left}) == len(left)
    assert len({datagram[48:64] for datagram in left}) == len(left)
    assert all(datagram[3] != ANSWER for _, datagram in world.sent)
    stats = world.ranger.stats()
    assert (stats.open_sessions, stats.kept_sessions) == (0, 0)
    assert sum(stats.outcomes.values()) == stats.sessions
    assert stats.rounds == len(left)


@pytest.mark.parametrize("kind", [RECEIPT, REFUSED])
@given(st.binary(max_size=1300))
def test_no_datagram_raises(kind: int, data: bytes) -> None:
    world = World()
    world.receive(data)
    world.receive(b"TP\x01" + bytes([kind]) + data)
    assert not world.sent

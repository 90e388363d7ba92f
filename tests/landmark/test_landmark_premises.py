"""What the proof of distance asks of a landmark: premises P1 and P5 of docs/protocol.md §7, and R2 and R6."""

import socket
from typing import Any

import pytest

from landmark.cookies import Peer
from landmark.stamped_socket import StampedSocket
from tests.landmark.helpers import (
    REFUSED,
    ROUND,
    STOP,
    commit,
    commitment_to,
    raw_clock_ns,
    reveal,
    run_landmark,
)


class WatchedSocket:
    """A socket that keeps when its calls began and ended, on the clock that landmarks measure with."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.send_began_ns = 0
        self.receive_ended_ns = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def sendmsg(self, *arguments: Any) -> int:
        self.send_began_ns = raw_clock_ns()
        return self._inner.sendmsg(*arguments)

    def recvmsg(self, *arguments: Any) -> Any:
        came = self._inner.recvmsg(*arguments)
        self.receive_ended_ns = raw_clock_ns()
        return came


@pytest.mark.parametrize("kernel_stamps", [True, False])
def test_the_clock_starts_before_a_round_leaves_and_stops_after_its_answer_came(*, kernel_stamps: bool) -> None:
    here = StampedSocket("127.0.0.1", 0, 0, kernel_stamps=kernel_stamps)
    watched = WatchedSocket(here._socket)
    here._socket = watched  # type: ignore[assignment]  # it quacks like the socket it wraps
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(("127.0.0.1", 0))
        there.settimeout(20)
        try:
            for number in range(20):
                sent = here.send_stamped(Peer(0, *there.getsockname()), b"%d" % number)
                assert sent.reading.raw_after_ns <= watched.send_began_ns  # P1
                there.recv(2048)
                there.sendto(b"pong", here.address)
                arrival = here.receive()
                while arrival is None:
                    arrival = here.receive()
                assert watched.receive_ended_ns <= arrival.stamp.reading.raw_before_ns  # P5
        finally:
            here.close()


async def test_challenges_are_drawn_for_each_session_and_cannot_be_told_from_one_another() -> None:
    seen: set[bytes] = set()
    async with run_landmark() as landmark:
        for _ in range(3):
            device = landmark.device()
            await device.range(landmark.ticket(device))
            assert len(device.rounds) == 16
            assert all(len(challenge) == 16 for challenge in device.rounds.values())  # 128 bits
            seen |= set(device.rounds.values())
    assert len(seen) == 3 * 16


async def test_nothing_that_leaves_before_the_receipt_tells_of_a_round_to_come() -> None:
    """The seed and every c_i are in the receipt and in their own rounds alone."""
    async with run_landmark() as landmark:
        device = landmark.device()
        heard: list[bytes] = []
        opened = await device.open()
        heard.append(opened.tag + opened.nonce + opened.cookie)
        device.send(device.commit_bytes(opened, landmark.ticket(device)))
        while (data := await device.receive())[3] != STOP:
            assert data[3] == ROUND
            heard.append(data)
        heard.append(data)
        # No answer was right, so no receipt and no seed ever leaves; the rounds are all that was said.
        device.send(reveal(opened.tag, device.secret))
        heard.append(await device.receive_kind(REFUSED))
    rounds = [data[48:64] for data in heard if len(data) == 64 and data[3] == ROUND]
    assert len(set(rounds)) == len(rounds)
    for challenge in rounds:
        assert b"".join(heard).count(challenge) == 1  # P1: exactly once


async def test_a_commitment_of_one_session_opens_in_no_other() -> None:
    """R2, R6: a secret whose session is over is known to the host; committed to again, it must give no receipt."""
    async with run_landmark() as landmark:
        first = landmark.device()
        opened = await first.open()
        first.send(first.commit_bytes(opened, landmark.ticket(first)))
        await first.answer_rounds(opened)
        await first.finish(opened)
        used = commitment_to(first.session(opened), first.secret)

        second = landmark.device()
        second.secret = first.secret
        opened = await second.open()
        second.send(commit(opened.tag, opened.nonce, opened.cookie, used, landmark.ticket(second)))
        await second.answer_rounds(opened)  # even with the right answers
        second.send(reveal(opened.tag, second.secret))
        assert await second.refusal() == 6
        assert landmark.daemon.stats().outcomes == {"receipt": 1, "reveal_mismatch": 1}

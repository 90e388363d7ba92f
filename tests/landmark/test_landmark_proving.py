"""A landmark that is ranged, over real UDP sockets: by real landmarks, and by some that a test writes."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from landmark.config import parse_endpoint
from landmark.prover import Evidence, Failure
from landmark.prover_client import Order
from tests.landmark.helpers import ANSWER, COMMIT, HELLO, LOOPBACKS, REVEAL, Issuer, run_landmark
from tests.landmark.proving_helpers import MS, Answering, S, check_evidence, order_for, silent_endpoint


@pytest.mark.parametrize("host", LOOPBACKS)
async def test_one_landmark_ranges_another(host: str) -> None:
    async with run_landmark() as landmark:
        answering = Answering(hosts=("192.0.2.1", host) if ":" in host else (host, "192.0.2.1"))
        endpoint = next(text for text in landmark.daemon.endpoints if parse_endpoint(text)[0] == host)
        orders = [order_for(landmark, answering.challenge, endpoint) for _ in range(3)]
        for evidence in await answering.hold(*orders):
            assert isinstance(evidence, Evidence)
            challenge = answering.challenge
            fields = check_evidence(evidence, landmark.key.public_key, answering.key.public_key, challenge)
            assert fields[6] == 16
            assert fields[8] < 20 * MS
        assert landmark.daemon.stats().outcomes == {"receipt": 3}
        assert not landmark.dropped()


async def test_sixty_four_rounds_are_answered() -> None:
    async with run_landmark(rounds=64, round_interval_ms=1) as landmark:
        answering = Answering()
        (evidence,) = await answering.hold(order_for(landmark, answering.challenge, landmark.daemon.endpoints[0]))
        assert isinstance(evidence, Evidence)
        fields = check_evidence(evidence, landmark.key.public_key, answering.key.public_key, answering.challenge)
        assert fields[6] == 64


@contextlib.asynccontextmanager
async def relay(
    target: tuple[str, int], delay_s: float, drop: Callable[[int, int], bool] = lambda _kind, _count: False
) -> AsyncIterator[str]:
    """Pass datagrams between one client and `target`, each `delay_s` later, but those that `drop`(kind, nth) names."""
    loop = asyncio.get_running_loop()
    client: list[tuple[str, int]] = []
    counts: dict[int, int] = {}

    class Side(asyncio.DatagramProtocol):
        def __init__(self, *, outer: bool) -> None:
            self.outer = outer

        def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
            counts[data[3]] = counts.get(data[3], 0) + 1
            if self.outer:
                client[:] = [sender]
            if not drop(data[3], counts[data[3]]):
                loop.call_later(delay_s, self.pass_on, data)

        def pass_on(self, data: bytes) -> None:
            if self.outer:
                inner.sendto(data, target)
            else:
                outer.sendto(data, client[0])

    outer, _ = await loop.create_datagram_endpoint(lambda: Side(outer=True), local_addr=("127.0.0.1", 0))
    inner, _ = await loop.create_datagram_endpoint(lambda: Side(outer=False), local_addr=("127.0.0.1", 0))
    try:
        yield "{}:{}".format(*outer.get_extra_info("sockname"))
    finally:
        outer.close()
        inner.close()


async def test_a_delayed_answer_shows() -> None:
    async with run_landmark() as landmark:
        answering = Answering()
        async with relay(parse_endpoint(landmark.daemon.endpoints[0]), 0.03) as endpoint:
            (evidence,) = await answering.hold(order_for(landmark, answering.challenge, endpoint))
        assert isinstance(evidence, Evidence)
        fields = check_evidence(evidence, landmark.key.public_key, answering.key.public_key, answering.challenge)
        assert 60 * MS <= fields[8] < 500 * MS


async def test_lost_datagrams_are_made_good() -> None:
    # The first HELLO, COMMIT and REVEAL are lost, and every third answer.
    def drop(kind: int, count: int) -> bool:
        return (kind in {HELLO, COMMIT, REVEAL} and count == 1) or (kind == ANSWER and count % 3 == 0)

    async with run_landmark() as landmark:
        answering = Answering()
        async with relay(parse_endpoint(landmark.daemon.endpoints[0]), 0.0, drop) as endpoint:
            (evidence,) = await answering.hold(order_for(landmark, answering.challenge, endpoint))
        assert isinstance(evidence, Evidence)
        fields = check_evidence(evidence, landmark.key.public_key, answering.key.public_key, answering.challenge)
        assert fields[7] != evidence.answered == (0xFFFF).to_bytes(8, "big")


async def test_too_many_lost_answers_are_too_few_rounds() -> None:
    async with run_landmark(answer_wait_ms=100) as landmark:
        answering = Answering()
        endpoint = landmark.daemon.endpoints[0]
        async with relay(parse_endpoint(endpoint), 0.0, lambda kind, count: kind == ANSWER and count > 5) as endpoint:
            outcomes = await answering.hold(order_for(landmark, answering.challenge, endpoint))
        assert outcomes == (Failure.TOO_FEW_ROUNDS,)


async def test_the_next_endpoint_is_tried_only_where_nobody_answers() -> None:
    async with run_landmark() as landmark:
        answering = Answering()
        good = landmark.daemon.endpoints[0]
        port = good.rpartition(":")[2]
        with silent_endpoint() as silent:
            orders = (
                order_for(landmark, answering.challenge, silent, good),
                order_for(landmark, answering.challenge, silent),
                order_for(
                    landmark, answering.challenge, "[2001:db8::1]:7", "nonsense", "127.0.0.1:0", f"localhost:{port}"
                ),
                order_for(landmark, answering.challenge, good, silent, expires=int(time.time()) - 60),
                order_for(landmark, answering.challenge),
            )
            outcomes = await answering.hold(*orders)
        assert isinstance(outcomes[0], Evidence)
        assert outcomes[1] is Failure.NO_REPLY
        assert isinstance(outcomes[2], Evidence)
        assert outcomes[3] is Failure.REFUSED
        assert isinstance(outcomes[4], Evidence)


async def test_a_name_service_that_hangs_holds_the_batch_up_for_two_seconds_a_landmark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ranging landmark's operator chooses its name, and who serves it."""
    resolve, test_is_over = socket.getaddrinfo, threading.Event()

    def hang(host: str, *arguments: Any, **options: Any) -> Any:
        if host.startswith("hangs"):
            test_is_over.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return resolve(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        async with run_landmark() as landmark:
            answering = Answering()
            good = order_for(landmark, answering.challenge)
            hanging = [order_for(landmark, answering.challenge, f"hangs-{k}.example:7000") for k in range(2)]
            began_s = time.monotonic()
            outcomes = await answering.hold(*hanging, good)
            assert 3.9 < time.monotonic() - began_s < 7
            assert outcomes[:2] == (Failure.NO_REPLY, Failure.NO_REPLY)
            assert isinstance(outcomes[2], Evidence)
    finally:
        test_is_over.set()  # their threads end before the process can


async def test_used_and_forged_tickets_are_refused() -> None:
    async with run_landmark() as landmark:
        answering = Answering()
        endpoint = landmark.daemon.endpoints[0]
        order = order_for(landmark, answering.challenge, endpoint)
        forged = Order(landmark.key.key_id, (endpoint,), Issuer().ticket(landmark.key.key_id))
        outcomes = await answering.hold(order, order, forged)
        assert isinstance(outcomes[0], Evidence)
        assert outcomes[1:] == (Failure.REFUSED, Failure.REFUSED)
        assert landmark.daemon.stats().refused == {"ticket_used": 1, "ticket_invalid": 1}


async def test_orders_that_come_too_late_spend_no_ticket() -> None:
    async with run_landmark() as landmark:
        answering = Answering()
        order = order_for(landmark, answering.challenge, landmark.daemon.endpoints[0])
        assert await answering.hold(order, order, life_ns=2 * S) == (Failure.TOO_LATE, Failure.TOO_LATE)
        assert await answering.hold(order, stopped=lambda: True) == (Failure.TOO_LATE,)
        assert landmark.daemon.stats().hellos == 0
        (evidence,) = await answering.hold(order, life_ns=4 * S)
        assert isinstance(evidence, Evidence)


class Scripted(asyncio.DatagramProtocol):
    """A ranging landmark that does what a test writes: `rounds` after each COMMIT, under a random tag."""

    transport: asyncio.DatagramTransport

    def __init__(self, after_commit: Callable[["Scripted", tuple[str, int]], None]) -> None:
        self.tag = os.urandom(16)
        self.heard: list[bytes] = []
        self.after_commit = after_commit

    def datagram_received(self, data: bytes, sender: tuple[str, int]) -> None:
        self.heard.append(data)
        if data[3] == HELLO:
            self.transport.sendto((b"TP\x01\x02" + self.tag + data[4:20] + bytes(56)).ljust(96, b"\0"), sender)
        elif data[3] == COMMIT:
            self.after_commit(self, sender)
        elif data[3] == REVEAL:
            self.transport.sendto(b"TP\x01\x08" + self.tag + b"\0\x07receipt", sender)

    def round(self, index: int) -> bytes:
        return b"TP\x01\x04" + self.tag + index.to_bytes(2, "big") + bytes(26) + os.urandom(16)

    def stop(self) -> bytes:
        return (b"TP\x01\x06" + self.tag + b"\0\x10").ljust(64, b"\0")

    def answered(self) -> list[int]:
        return [int.from_bytes(data[20:22], "big") for data in self.heard if data[3] == ANSWER]


@contextlib.asynccontextmanager
async def scripted(after_commit: Callable[[Scripted, tuple[str, int]], None]) -> AsyncIterator[tuple[Scripted, Order]]:
    loop = asyncio.get_running_loop()
    transport, landmark = await loop.create_datagram_endpoint(
        lambda: Scripted(after_commit), local_addr=("127.0.0.1", 0)
    )
    landmark.transport = transport
    try:
        yield landmark, Order(os.urandom(32), ("{}:{}".format(*transport.get_extra_info("sockname")),), b"ticket")
    finally:
        transport.close()


async def test_datagrams_from_another_address_are_dropped() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))

        def after_commit(landmark: Scripted, sender: tuple[str, int]) -> None:
            stranger.sendto(landmark.stop(), sender)
            stranger.sendto(landmark.round(0), sender)
            for index in range(1, 9):
                landmark.transport.sendto(landmark.round(index), sender)
            landmark.transport.sendto(landmark.stop(), sender)

        async with scripted(after_commit) as (landmark, order):
            (evidence,) = await Answering().hold(order)
        assert isinstance(evidence, Evidence)
        assert evidence.receipt == b"receipt"
        assert landmark.answered() == list(range(1, 9))
        stranger.settimeout(0)
        with pytest.raises(BlockingIOError):
            stranger.recv(1)


async def test_a_landmark_that_drags_its_feet_does_not_hold_the_batch_up() -> None:
    def after_commit(landmark: Scripted, sender: tuple[str, int]) -> None:
        for index in range(12):
            asyncio.get_running_loop().call_later(index, landmark.transport.sendto, landmark.round(index), sender)

    async with scripted(after_commit) as (landmark, order):
        began_s = time.monotonic()
        outcomes = await Answering().hold(order, order, life_ns=4 * S)
        assert 2.5 < time.monotonic() - began_s < 4
        assert outcomes == (Failure.TOO_FEW_ROUNDS, Failure.TOO_LATE)
        assert not [data for data in landmark.heard if data[3] == REVEAL]

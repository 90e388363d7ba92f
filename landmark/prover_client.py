"""Holds the sessions that this landmark is ranged in, one after the other, over real sockets. docs/protocol.md LA1.

A plain loop that blocks its thread: from the poll call that reports a round to the send call of its answer, nothing
else of this process runs. Time that is lost here makes a landmark look farther away than it is, never nearer.
"""

import contextlib
import gc
import ipaddress
import math
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import structlog

from landmark.config import parse_endpoint
from landmark.cookies import Peer
from landmark.keys import LandmarkKey
from landmark.prover import Evidence, Failure, Prover, Target
from landmark.stamped_socket import StampedSocket
from landmark.statements import Statement, sign_statement

# The longest honest session: 64 rounds 100 ms apart, 4 s of waiting for the last ones, and the receipt. A landmark that
# drags its feet must not take the time of the others.
LONGEST_SESSION_NS: Final = 20_000_000_000
# With less time left than this a session is not begun: it could hardly end, and would spend a ticket.
LEAST_SESSION_NS: Final = 2_000_000_000
# Results must be at the server before the batch's life is over.
RETURN_NS: Final = 1_000_000_000
# How often a session looks whether the process is to stop.
_LOOK_NS: Final = 200_000_000
# So many datagrams are taken before the session's timers get their turn.
_AT_ONCE: Final = 64
_NS_PER_MS: Final = 1_000_000
_MAX_PORT: Final = 65_535
# What a name service is given. A ranging landmark's name is its operator's, who may let it hang.
_RESOLVE_S: Final = 2.0
# Threads that a hanging name can hold at once; each is free again when the resolver gives up.
_RESOLVERS: Final = 16
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Order:
    """One session to hold: with whom, 32 bytes; where, `host:port` or `[host]:port`, best first; and the ticket."""

    landmark_key_id: bytes
    endpoints: tuple[str, ...]
    ticket: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Sessions under one challenge of 32 bytes; `ends_ns`, CLOCK_MONOTONIC, is when the server takes no results."""

    challenge: bytes
    orders: tuple[Order, ...]
    ends_ns: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the ranging landmark is, and the numeric address of ours to leave from."""

    address: tuple[str, int, int]
    our_host: str


class AnsweringSide:
    """Answers for the landmark that holds `key`.

    `hosts` are its own numeric addresses, of which the first one of the right family is bound to; `stopped` says that
    the process is to end, and is asked several times a second.
    """

    def __init__(self, key: LandmarkKey, hosts: tuple[str, ...], stopped: Callable[[], bool] = lambda: False) -> None:
        self._key = key
        self._stopped = stopped
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")
        self._our_hosts: dict[socket.AddressFamily, str] = {}
        for host in hosts:
            self._our_hosts.setdefault(socket.AF_INET6 if ":" in host else socket.AF_INET, host)

    def check_sockets(self) -> None:
        """Bind once to each address that sessions will leave from; OSError when one cannot be."""
        for host in self._our_hosts.values():
            StampedSocket(host, 0, 0, kernel_stamps=False).close()

    def hold_batch(self, batch: Batch) -> tuple[Evidence | Failure, ...]:
        """Hold all sessions of `batch`, blocking; return what came of each, in the order of the orders."""
        with _no_garbage_collection():
            return tuple(self._hold(order, batch) for order in batch.orders)

    def _hold(self, order: Order, batch: Batch) -> Evidence | Failure:
        outcome: Evidence | Failure = Failure.TOO_LATE
        target = Target(order.landmark_key_id, batch.challenge, order.ticket)
        for endpoint in order.endpoints:
            now_ns = time.monotonic_ns()
            ends_ns = min(batch.ends_ns - RETURN_NS, now_ns + LONGEST_SESSION_NS)
            if self._stopped() or ends_ns - now_ns < LEAST_SESSION_NS:
                break
            outcome = Failure.NO_REPLY
            try:
                place = self._locate(endpoint)
                with contextlib.closing(StampedSocket(place.our_host, 0, 0, kernel_stamps=False)) as bound:
                    prover = Prover(target, draw=secrets.token_bytes, sign=self._sign, now_ns=time.monotonic_ns())
                    outcome = self._drive(prover, bound, Peer(0, *place.address), ends_ns)
            except (OSError, ValueError) as error:
                _log.warning("endpoint unusable", endpoint=endpoint, error=str(error))
                continue
            # A ticket opens one session (TK1): the next address is tried only where nobody answered.
            if outcome is not Failure.NO_REPLY or prover.greeted:
                break
        return outcome

    def _drive(self, prover: Prover, bound: StampedSocket, peer: Peer, ends_ns: int) -> Evidence | Failure:
        poller = select.poll()
        poller.register(bound.fileno(), select.POLLIN)
        while prover.outcome is None:
            now_ns = time.monotonic_ns()
            if now_ns >= ends_ns or self._stopped():
                prover.abandon()
                continue
            datagram = prover.step(now_ns)
            if datagram is not None:
                bound.send(peer, datagram)
            wait_ns = min(prover.due_ns - now_ns, ends_ns - now_ns, _LOOK_NS)
            if poller.poll(math.ceil(max(wait_ns, 0) / _NS_PER_MS)):
                self._receive(prover, bound, peer)
        return prover.outcome

    @staticmethod
    def _receive(prover: Prover, bound: StampedSocket, peer: Peer) -> None:
        for _ in range(_AT_ONCE):
            arrival = bound.receive()
            if arrival is None:
                break
            if arrival.peer == peer:
                reply = prover.receive(arrival.data, time.monotonic_ns())
                if reply is not None:
                    bound.send(peer, reply)
        bound.drain_errors()

    def _locate(self, endpoint: str) -> _Place:
        """Find the address of an endpoint, by name service if it is a name, before any clock runs.

        OSError when it has none; ValueError when it is none.
        """
        try:
            host, number = parse_endpoint(endpoint)
        except ValueError:
            host, _, port = endpoint.rpartition(":")
            number = int(port)  # after a name
        if not host or not 1 <= number <= _MAX_PORT:
            raise ValueError("neither host:port nor [host]:port")
        for family, _, _, _, address in self._resolve(host, number):
            our_host = self._our_hosts.get(family)
            if our_host is not None:
                scope_id = int(address[3]) if len(address) == 4 else 0
                return _Place((str(address[0]), int(address[1]), scope_id), our_host)
        raise ValueError("no address of a family that this landmark has")

    def _resolve(self, host: str, port: int) -> list[tuple[Any, ...]]:
        if _is_numeric(host):  # it needs no name service, and must not wait behind one
            return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        # TimeoutError is an OSError.
        waiting = self._resolvers.submit(socket.getaddrinfo, host, port, type=socket.SOCK_DGRAM)
        return waiting.result(_RESOLVE_S)

    def _sign(self, statement: Statement) -> bytes:
        return sign_statement(statement, self._key)


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the garbage collector from pausing the process within a session."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()

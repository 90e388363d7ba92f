"""The ranging responder: a process of its own, so that nothing else holds the interpreter while answers are due.

Spec: docs/protocol.md §7. It holds the device's side of all sessions of one board, and the emulated distance: what
answers a datagram leaves at the kernel's receive stamp + D and never before. It talks to the board over the socket that
it inherits, and ends when that socket does, so that no death of the board leaves it behind.
"""

import argparse
import gc
import heapq
import select
import signal
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from firmware_stubs.framing import FrameReader, Message, encode
from firmware_stubs.geography import Place, World
from firmware_stubs.ranging import RangingFirmware
from firmware_stubs.session import Order, Outgoing, RangingSession, Result, Why
from firmware_stubs.tricks import Tricks

SPIN_NS = 200_000
TICK_NS = 10_000_000
SESSIONS_MAX = 256  # select() takes descriptors below 1,024; a session has two at most

# Linux numbers that Python 3.11 does not name (asm-generic/socket.h, linux/in.h, linux/in6.h).
_SO_TIMESTAMPNS_NEW = 64
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_DO = 10, 23, 2
_TIMESPEC = struct.Struct("@qq")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
_DATAGRAM_MAX = 2048


def clock_ns() -> int:
    """The landmark's kind of clock, so that no rate correction can make a hold shorter than it measures."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


@dataclass(slots=True)
class _Live:
    """A session with its sockets, by address family and whether it is the one of an accomplice elsewhere."""

    number: int
    pdi: bytes
    session: RangingSession
    sockets: dict[tuple[int, bool], socket.socket] = field(default_factory=dict)
    reported: bool = False


class Responder:
    """Everything that the process holds. `control` is a stream socket to the board."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._frames = FrameReader()
        self._world = World({})
        self._place = Place(0.0, 0.0)
        self._relayed: dict[bytes, Place] = {}
        self._firmware: dict[bytes, RangingFirmware] = {}
        self._live: dict[int, _Live] = {}
        self._by_socket: dict[socket.socket, _Live] = {}
        self._heap: list[tuple[int, int, _Live, Outgoing]] = []
        self._sequence = 0
        self._next_tick_ns = 0

    def run(self) -> None:
        """Serve until the board closes the control socket."""
        while True:
            self._send_due()
            readable, _, _ = select.select([self._control, *self._by_socket], [], [], self._wait_s())
            for ready in readable:
                if ready is not self._control:
                    self._read_datagrams(ready)
            if self._control in readable and not self._read_control():
                return
            if clock_ns() >= self._next_tick_ns:
                self._tick()

    def _wait_s(self) -> float | None:
        if not self._live and not self._heap:
            return None
        until_ns = self._next_tick_ns
        if self._heap:
            until_ns = min(until_ns, self._heap[0][0] - SPIN_NS)
        return max(0, until_ns - clock_ns()) / 1e9

    def _send_due(self) -> None:
        while self._heap and self._heap[0][0] - clock_ns() <= SPIN_NS:
            due_ns, _, live, outgoing = heapq.heappop(self._heap)
            transmitter = self._socket_for(live, outgoing)
            while clock_ns() < due_ns:
                pass  # a wake-up from sleep would be 50 to 200 µs late
            if transmitter is None:
                continue
            try:
                transmitter.sendto(outgoing.data, outgoing.address)
            except OSError:
                continue  # an unreachable landmark is a lost datagram; the session's retries deal with it

    def _socket_for(self, live: _Live, outgoing: Outgoing) -> socket.socket | None:
        family = socket.AF_INET6 if ":" in outgoing.address[0] else socket.AF_INET
        key = (family, outgoing.elsewhere)
        if live.session.result is not None and key not in live.sockets:
            return None
        if key not in live.sockets:
            try:
                opened = _datagram_socket(family)
            except OSError:
                return None  # this machine has no such family: the same as a landmark that does not answer
            live.sockets[key] = opened
            self._by_socket[opened] = live
        return live.sockets[key]

    def _read_datagrams(self, ready: socket.socket) -> None:
        live = self._by_socket.get(ready)
        while live is not None:
            try:
                data, ancillary, _, source = ready.recvmsg(_DATAGRAM_MAX, _ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                continue  # a queued ICMP error; reading it clears it
            live.session.receive((source[0], source[1]), data, _arrival_ns(ancillary))
        if live is not None:
            self._collect(live)

    def _tick(self) -> None:
        now_ns = clock_ns()
        self._next_tick_ns = now_ns + TICK_NS
        for live in list(self._live.values()):
            live.session.tick(now_ns)
            self._collect(live)
        for firmware in self._firmware.values():
            firmware.expire(now_ns)

    def _collect(self, live: _Live) -> None:
        """Take what a session has produced: datagrams, its log entry, its result."""
        session = live.session
        for outgoing in session.outbox:
            self._sequence += 1
            heapq.heappush(self._heap, (outgoing.due_ns, self._sequence, live, outgoing))
        session.outbox.clear()
        if session.closed is not None and not live.reported:
            # Before the REVEAL leaves: a report that is signed from now on holds the entry.
            live.reported = True
            self._tell({"event": "closed", "pdi": live.pdi, "entry": session.closed.entry.to_bytes()})
        if session.result is not None and live.number in self._live:
            del self._live[live.number]
            self._forget_sockets(live)
            self._tell_result(live.number, session.result)

    def _forget_sockets(self, live: _Live) -> None:
        for opened in live.sockets.values():
            del self._by_socket[opened]
            opened.close()
        live.sockets.clear()
        self._heap = [item for item in self._heap if item[2] is not live]
        heapq.heapify(self._heap)

    def _tell_result(self, number: int, result: Result) -> None:
        self._tell(
            {
                "event": "result",
                "number": number,
                "receipt": result.receipt,
                "mask": result.answered_mask,
                "why": int(result.why),
            },
        )

    def _tell(self, message: Message) -> None:
        self._control.sendall(encode(message))

    def _read_control(self) -> bool:
        """Do what the board asks; False once it is gone."""
        data = self._control.recv(1 << 16)
        for message in self._frames.feed(data):
            self._do(message)
        return bool(data)

    def _do(self, message: Message) -> None:
        match message["op"]:
            case "place":
                self._place = Place(message["latitude"], message["longitude"])
            case "relay" if message["place"] is None:
                self._relayed.pop(message["pdi"], None)
            case "relay":
                self._relayed[message["pdi"]] = Place(*message["place"])
            case "world":
                landmarks = {key_id: Place(*place) for key_id, place in message["landmarks"].items()}
                self._world = World(landmarks, message["path_factor"])
            case "reset":
                self._reset()
            case "range":
                self._range(message)
        self._tell({"event": "done", "op": message["op"]})

    def _reset(self) -> None:
        for firmware in self._firmware.values():
            firmware.reset()
        for live in list(self._live.values()):
            del self._live[live.number]
            self._forget_sockets(live)
            self._tell_result(live.number, Result(None, 0, Why.NO_REPLY))
        self._firmware.clear()

    def _range(self, message: Message) -> None:
        number, pdi = message["number"], message["pdi"]
        if len(self._live) >= SESSIONS_MAX:
            self._tell_result(number, Result(None, 0, Why.TOO_LATE))
            return
        order = Order(
            message["challenge"],
            message["landmark_key_id"],
            tuple((host, port) for host, port in message["addresses"]),
            message["ticket"],
            message["timeout_ns"],
            Tricks(**message["tricks"]),
        )
        firmware = self._firmware.setdefault(pdi, RangingFirmware())
        live = _Live(number, pdi, RangingSession(order, firmware, lambda: self._delay_ns(pdi, order), clock_ns()))
        self._live[number] = live
        self._collect(live)

    def _delay_ns(self, pdi: bytes, order: Order) -> int:
        return self._world.round_trip_ns(self._relayed.get(pdi, self._place), order.landmark_key_id)


def _datagram_socket(family: int) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.setblocking(False)  # noqa: FBT003 -- the standard library's signature
    opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS_NEW, 1)
    # docs/protocol.md §7: "do not fragment" where the system offers it.
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_DO)
    else:
        opened.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DO)
    return opened


def _arrival_ns(ancillary: Iterable[tuple[int, int, bytes]]) -> int:
    """When the kernel took the datagram in, on `clock_ns`; now, where it gave no stamp.

    The stamp is CLOCK_REALTIME. That clock is read before ours, so that the age is never taken for larger than it is
    and a hold never ends early.
    """
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS_NEW and len(data) == _TIMESPEC.size:
            stamp: tuple[int, int] = _TIMESPEC.unpack(data)
            age_ns = time.time_ns() - (stamp[0] * 1_000_000_000 + stamp[1])
            return clock_ns() - max(0, age_ns)
    return clock_ns()


def main(arguments: list[str] | None = None) -> None:
    """Run on the control socket whose descriptor is given."""
    parser = argparse.ArgumentParser(description="ranging responder of an emulated board; started by it")
    parser.add_argument("--control", type=int, required=True, help="descriptor of an inherited stream socket")
    options: Any = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the board decides when to end
    with socket.socket(fileno=options.control) as control:
        gc.freeze()
        try:
            Responder(control).run()
        except (BrokenPipeError, ConnectionResetError):
            return  # the board is gone


if __name__ == "__main__":
    main()

"""A network of namespaces whose packets are delayed: for a kernel without netem. Linux, IPv4, needs CAP_SYS_ADMIN.

Run as a process it makes one network namespace for each host, with one TUN device in it, and carries packets from
device to device. `DelayQueue` says when: no packet ever leaves before its due time. It imports the standard library
alone, so that it starts fast and little can pause it. `tests/network_delay/stage.py` starts it.

The namespaces have no names. They live while this process holds them open and while somebody runs in them, so the
kernel removes them with their devices even if everything is killed by -9. Enter one by the path that the ready line
tells: `nsenter --net=PATH`.
"""

import ctypes
import errno
import fcntl
import heapq
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType

# Linux numbers that Python 3.11 does not name (linux/sched.h, linux/if_tun.h, linux/sockios.h, linux/if.h).
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_IFF_UP = 0x1

# What a kernel, container or user that may not do this answers; any other error is a bug of ours and no reason to skip.
_NOT_HERE = {errno.EPERM, errno.EACCES, errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOSYS, errno.ENOSPC}

_SPIN_NS = 200_000  # a wake-up from sleep is 50 to 200 µs late
_PACKET_BYTES = 1 << 16
_IPV4 = 4  # version in the first byte of a header, RFC 791 §3.1; devices also say IPv6 things that nobody asked for
_DESTINATION = slice(16, 20)


@dataclass(frozen=True, slots=True)
class Link:
    """One direction between two hosts; where there is none, packets are dropped.

    Attributes:
        source: Host that sends.
        target: Host that receives.
        delay_ns: The least that each packet takes.
        jitter_ns: At most so much is added, evenly distributed, each packet for itself.
        loss: Share of packets that never arrive, 0 to 1.
    """

    source: str
    target: str
    delay_ns: int
    jitter_ns: int = 0
    loss: float = 0.0


@dataclass(slots=True)
class _Traffic:
    """A link with what it has seen. Each has its own random numbers, so that no other link's traffic changes them."""

    link: Link
    rng: random.Random
    carried: int = 0
    lost: int = 0


@dataclass(slots=True)
class DelayQueue:
    """Packets that are under way. Pure: no socket, no clock; times are nanoseconds of one monotonic clock.

    Args:
        links: At most one for each pair of source and target.
        seed: Of losses and jitter.
    """

    links: Sequence[Link]
    seed: int
    _traffic: dict[tuple[str, str], _Traffic] = field(init=False)
    _heap: list[tuple[int, int, str, bytes]] = field(default_factory=list)
    _sequence: int = 0

    def __post_init__(self) -> None:
        """Give each link its random numbers."""
        self._traffic = {
            (link.source, link.target): _Traffic(link, random.Random(f"{self.seed} {link.source} {link.target}"))
            for link in self.links
        }

    def accept(self, source: str, target: str, packet: bytes, arrived_ns: int) -> None:
        """Take a packet that was here at `arrived_ns`, or lose it."""
        traffic = self._traffic.get((source, target))
        if traffic is None:
            return
        link = traffic.link
        if traffic.rng.random() < link.loss:
            traffic.lost += 1
            return
        traffic.carried += 1
        due_ns = arrived_ns + link.delay_ns + traffic.rng.randint(0, link.jitter_ns)
        self._sequence += 1  # packets that are due together keep their order
        heapq.heappush(self._heap, (due_ns, self._sequence, target, packet))

    @property
    def next_due_ns(self) -> int | None:
        """When the next packet leaves; None when none is under way."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_ns: int) -> tuple[str, bytes] | None:
        """Return target and bytes of one packet that is due by `now_ns`, earliest first; None when none is."""
        if not self._heap or self._heap[0][0] > now_ns:
            return None
        _, _, target, packet = heapq.heappop(self._heap)
        return target, packet

    def told(self) -> list[dict[str, object]]:
        """Each link with how many packets it carried and lost."""
        return [{**asdict(t.link), "carried": t.carried, "lost": t.lost} for t in self._traffic.values()]


class NotHereError(Exception):
    """This machine does not let us make such a network; the message says which step failed and why."""


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace: its address, the descriptor that keeps it alive, and its TUN device, which does not block."""

    name: str
    address: bytes
    namespace: int
    tun: int


def clock_ns() -> int:
    """The landmark's and the emulated device's clock, so that no rate correction makes a delay shorter for them."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


def make_host(name: str, address: str) -> Host:
    """Make a namespace with loopback and a TUN device that are up, and stay in it.

    Raises:
        NotHereError: The machine does not allow it.
    """
    with _step("unshare(CLONE_NEWNET)"):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with _step("open /dev/net/tun"):
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    with _step("TUNSETIFF"):
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH22x", b"tun0", _IFF_TUN | _IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set_address(control, _SIOCSIFADDR, address)
        _set_address(control, _SIOCSIFNETMASK, "255.255.255.0")
        for device in (b"lo", b"tun0"):
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", device, _IFF_UP))
    return Host(name, socket.inet_aton(address), namespace, tun)


def carry(hosts: Sequence[Host], queue: DelayQueue) -> None:
    """Carry packets until an exception ends it."""
    by_address = {host.address: host.name for host in hosts}
    tuns = {host.name: host.tun for host in hosts}
    names = {host.tun: host.name for host in hosts}
    while True:
        while (packet := queue.pop_due(clock_ns())) is not None:
            os.write(tuns[packet[0]], packet[1])
        readable, _, _ = select.select(list(names), [], [], _wait_s(queue.next_due_ns))
        for tun in readable:
            for data in _packets(tun):
                arrived_ns = clock_ns()  # after the read, so never before it was sent
                target = by_address.get(data[_DESTINATION])
                if data[0] >> 4 == _IPV4 and target is not None:
                    queue.accept(names[tun], target, data, arrived_ns)


def _packets(tun: int) -> Iterator[bytes]:
    while True:
        try:
            yield os.read(tun, _PACKET_BYTES)
        except BlockingIOError:
            return


def _wait_s(due_ns: int | None) -> float | None:
    """How long to sleep: until shortly before the next packet is due. The last part is spent awake."""
    return None if due_ns is None else max(0, due_ns - _SPIN_NS - clock_ns()) / 1e9


@contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NOT_HERE:
            raise NotHereError(f"{name}: {error.strerror}") from error
        raise


def _set_address(control: socket.socket, request: int, address: str) -> None:
    where = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
    fcntl.ioctl(control, request, struct.pack("16s16s8x", b"tun0", where))


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _say(message: Mapping[str, object], write: Callable[[str], object]) -> None:
    write(json.dumps(message) + "\n")


def main(text: str) -> None:
    """Serve until SIGTERM; `text` is JSON: `seed`, `hosts` (name → IPv4 address), `links` (fields of Link).

    The first line on stdout says how to enter the namespaces, or why there are none. At the end stderr gets one line
    that says what each link carried.
    """
    signal.signal(signal.SIGTERM, _end)
    settings = json.loads(text)
    queue = DelayQueue([Link(**link) for link in settings["links"]], settings["seed"])
    try:
        hosts = [make_host(name, address) for name, address in settings["hosts"].items()]
    except NotHereError as error:
        _say({"ready": False, "not_here": str(error)}, sys.stdout.write)
        return
    namespaces = {host.name: f"/proc/{os.getpid()}/fd/{host.namespace}" for host in hosts}
    _say({"ready": True, "namespaces": namespaces}, sys.stdout.write)
    sys.stdout.flush()
    try:
        carry(hosts, queue)
    finally:
        _say({"links": queue.told()}, sys.stderr.write)


if __name__ == "__main__":
    main(sys.argv[1])

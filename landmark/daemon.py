"""The daemon: sockets and timers of asyncio around `ranger`.

Everything runs on one thread of the plain asyncio loop; nothing else may hold the interpreter in this process, so there
is no gRPC here, and the garbage collector runs only while no session is open.
"""

import asyncio
import contextlib
import dataclasses
import gc
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Final

import structlog

from landmark.clock import Stamp
from landmark.config import Config, format_endpoint, parse_endpoint
from landmark.cookies import Peer
from landmark.keys import LandmarkKey
from landmark.ranger import Now, Ranger, Stats
from landmark.stamped_socket import StampedSocket

# So many datagrams are taken before timers get their turn.
_BATCH: Final = 64
_NS_PER_S: Final = 1_000_000_000
_log = structlog.get_logger()


class _Sockets:
    """Sends by the socket that the peer was heard on."""

    def __init__(self) -> None:
        self.all: list[StampedSocket] = []

    def send(self, peer: Peer, datagram: bytes) -> None:
        self.all[peer.endpoint].send(peer, datagram)

    def send_stamped(self, peer: Peer, datagram: bytes) -> Stamp:
        return self.all[peer.endpoint].send_stamped(peer, datagram)


class Daemon:
    """Serves one landmark on its sockets, inside a running asyncio loop.

    `kernel_stamps=False` leaves the user-space clock alone, as where the kernel gives no stamps.
    """

    def __init__(self, config: Config, key: LandmarkKey, *, kernel_stamps: bool = True) -> None:
        """Bind all sockets; OSError when one of them cannot be."""
        self._sockets = _Sockets()
        with contextlib.ExitStack() as opened:
            for number, text in enumerate(config.listen):
                host, port = parse_endpoint(text)
                bound = StampedSocket(host, port, number, kernel_stamps=kernel_stamps)
                opened.callback(bound.close)
                self._sockets.all.append(bound)
            opened.pop_all()
        self._ranger = Ranger(key, config.verify_keys, config.policy, secrets.token_bytes, self._sockets)
        self._stats_interval_s = config.stats_interval_s
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ns: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where it listens, with the ports that were really bound, in the order of the configuration."""
        return tuple(format_endpoint(*bound.address) for bound in self._sockets.all)

    @property
    def kernel_stamps(self) -> bool:
        """Every socket has kernel stamps."""
        return all(bound.kernel_stamps for bound in self._sockets.all)

    def stats(self) -> Stats:
        """Return the counters."""
        return self._ranger.stats()

    @property
    def failed_sends(self) -> int:
        """Datagrams that the system would not take."""
        return sum(bound.failed_sends for bound in self._sockets.all)

    def start(self) -> None:
        """Begin to serve on the running loop."""
        self._loop = asyncio.get_running_loop()
        for bound in self._sockets.all:
            self._loop.add_reader(bound.fileno(), self._read, bound)

    def close(self) -> None:
        """Stop serving; every session is forgotten. docs/protocol.md R1. A second call does nothing."""
        loop, self._loop = self._loop, None
        if self._timer is not None:
            self._timer.cancel()
        for bound in self._sockets.all:
            if loop is not None:
                loop.remove_reader(bound.fileno())
            bound.close()

    async def log_stats(self) -> None:
        """Log the counters again and again, and let the garbage collector run where it stops no clock."""
        while True:
            await asyncio.sleep(self._stats_interval_s)
            if self._ranger.idle:
                gc.collect()
            self.log_stats_once("stats")

    def log_stats_once(self, event: str) -> None:
        """Log the counters as one event."""
        _log.info(event, **dataclasses.asdict(self.stats()), failed_sends=self.failed_sends)

    def _read(self, bound: StampedSocket) -> None:
        for _ in range(_BATCH):
            arrival = bound.receive()
            if arrival is None:
                break
            self._ranger.receive(arrival.data, arrival.peer, arrival.stamp, _now())
        bound.drain_errors()
        self._advance()

    def _advance(self) -> None:
        self._ranger.advance(_now())
        due_ns = self._ranger.next_due_ns()
        if due_ns == self._timer_due_ns:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_due_ns = due_ns
        if due_ns is not None and self._loop is not None:
            # The loop's time is the same monotonic clock, in seconds.
            self._timer = self._loop.call_at(due_ns / _NS_PER_S, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = self._timer_due_ns = None
        self._advance()


async def serve(
    config: Config,
    key: LandmarkKey,
    on_ready: Callable[[Daemon], None],
    beside: Callable[[], Coroutine[None, None, None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    `on_ready` is called once every socket is bound and read. OSError when one cannot be bound. `beside` runs meanwhile,
    and is cancelled and waited for at the end.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    daemon = Daemon(config, key)
    try:
        daemon.start()
        _log.info("serving", endpoints=daemon.endpoints, key_id=key.key_id.hex(), kernel_stamps=daemon.kernel_stamps)
        logging = asyncio.create_task(daemon.log_stats())
        on_ready(daemon)
        companion = None if beside is None else asyncio.create_task(beside())
        with _garbage_kept():
            await stop.wait()
        logging.cancel()
        if companion is not None:
            companion.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await companion
        daemon.log_stats_once("stopped")
    finally:
        daemon.close()


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """Keep the garbage collector from pausing the process: freeze what there is, and run it by hand alone."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def _now() -> Now:
    return Now(time.monotonic_ns(), int(time.time()))

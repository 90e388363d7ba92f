"""The process that answers: `trigpoint-landmark prove`, from its sockets to its end by a signal.

It holds gRPC, so it is never the serving process, which starts it and ends it (`supervisor`).
"""

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Final

import structlog

from landmark.backoff import Backoff
from landmark.config import Audit, Config, parse_endpoint
from landmark.keys import LandmarkKey
from landmark.prover_client import AnsweringSide
from landmark.prover_stream import ProverStream

_PR_SET_PDEATHSIG: Final = 1  # include/uapi/linux/prctl.h
_log = structlog.get_logger()


def prove(config: Config, audit: Audit, key: LandmarkKey, on_ready: Callable[[], None]) -> None:
    """Answer until SIGTERM or SIGINT; `on_ready` is called once the loop runs. OSError when no socket can be bound."""
    stop = _Stop()
    # The landmark's own addresses, with a free port each: so answers come from where the record says it stands.
    hosts = tuple(parse_endpoint(text)[0] for text in config.listen)
    side = AnsweringSide(key, hosts, stop.requested)
    side.check_sockets()
    asyncio.run(_run(audit, side, stop, on_ready))


def end_with(parent: int) -> None:
    """Have the kernel end this process by SIGTERM when the process `parent` is gone, however it went."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it went before that call
        sys.exit(0)


async def _run(audit: Audit, side: AnsweringSide, stop: "_Stop", on_ready: Callable[[], None]) -> None:
    stream = ProverStream(audit, side, Backoff(random.SystemRandom()))
    task = asyncio.create_task(stream.run())
    stop.install(asyncio.get_running_loop(), task)
    _log.info("proving", server=audit.server)
    on_ready()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    _log.info("stopped", **stream.counters.fields())


class _Stop:
    """SIGTERM and SIGINT, seen by the loop and, while that is blocked, by the session that is held."""

    def __init__(self) -> None:
        self._requested = False

    def requested(self) -> bool:
        return self._requested

    def install(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self._requested = True
            # Wakes the loop where it waits; a handler of the loop's own would not run while a batch is held.
            loop.call_soon_threadsafe(task.cancel)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)

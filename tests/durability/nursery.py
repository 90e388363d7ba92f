"""Starts servers fast: a process that has imported the server and forks for each one that is asked for.

Most of the second or two that `trigpoint-server serve` takes to start are imports. What is left is the same code in a
process of its own, which can be killed like any other. Orders come as JSON over a socket, standard output and error of
the new process as descriptors beside it. Run as `python -m tests.durability.nursery FD`.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any, Never

from server.main import main as serve
from tests.durability.writes import wait_for_writes

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Take orders until the other end of the socket is closed; what still runs then is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests end us in order
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        orders.send(b"{}")
        while True:
            line, descriptors, _, _ = socket.recv_fds(orders, 65536, 2)
            if not line:
                return
            orders.send(json.dumps(_obey(json.loads(line), descriptors)).encode())


def _obey(order: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    match order:
        case {"start": arguments}:
            pid = os.fork()
            if not pid:
                _be_server(arguments, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            return {"pid": pid}
        case {"kill": pid, "after_writes": count, "to": path}:
            with _at_once():
                wait_for_writes(path, count)
                os.kill(pid, signal.SIGKILL)
            return {}
        case {"wait": pid}:
            return {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}
    raise ValueError(order)


@contextlib.contextmanager
def _at_once() -> Iterator[None]:
    """Go before all others, where that is allowed: a transaction is written within a millisecond."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    yield
    os.setpriority(os.PRIO_PROCESS, 0, 0)


def _be_server(arguments: list[str], descriptors: list[int]) -> Never:
    code = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for standard, descriptor in enumerate(descriptors, start=1):
            os.dup2(descriptor, standard)
        os.closerange(3, 256)
        sys.argv = ["trigpoint-server", *arguments]
        serve()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

"""Child processes of the demonstration.

Each says on its standard output, in one line of JSON, when it is ready; none outlives us.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_READY_S = 60
_STOP_S = 10
_BIN = Path(sys.executable).parent
_TIED_TO_US = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()


class DemoError(Exception):
    """The demonstration could not go on; the message says what failed and where its log is."""


class Child:
    """A process that was started and said that it is ready.

    Attributes:
        name: For messages and the log's name.
        ready: What its ready line said.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process, ready: dict[str, Any]) -> None:
        self.name = name
        self.ready = ready
        self._process = process

    async def stop(self) -> None:
        """End it by SIGTERM, and by SIGKILL when it does not listen."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Processes:
    """All children, with their logs in one folder."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    async def start(self, name: str, *arguments: str | Path) -> Child:
        """Start one of our commands and wait for its ready line.

        Raises:
            DemoError: It ended or said nothing in time.
        """
        log = self._logs / f"{name}.log"
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *_command(arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C reaches us alone; we end the children in order
            )
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), _READY_S)
            ready = json.loads(line)
        except (TimeoutError, ValueError) as error:
            if process.returncode is None:
                process.kill()
            await process.wait()
            raise DemoError(f"{name} did not start: {_tail(log)}") from error
        child = Child(name, process, ready)
        self._children.append(child)
        return child

    async def stop_all(self) -> None:
        """End every child, the last started first."""
        for child in reversed(self._children):
            await child.stop()


async def run(*arguments: str | Path) -> str:
    """Run one of our commands to its end and return its standard output.

    Raises:
        DemoError: It failed.
    """
    process = await asyncio.create_subprocess_exec(
        *_command(arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise DemoError(f"{' '.join(map(str, arguments))}: {err.decode(errors='replace').strip()}")
    return out.decode()


def _command(arguments: Sequence[str | Path]) -> list[str]:
    # Even when we are killed with -9, the kernel ends the children. A hook between fork and exec would do the same, but
    # gRPC's threads do not survive a fork.
    return [*_TIED_TO_US, str(_BIN / arguments[0]), *map(str, arguments[1:])]


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()[-5:]
    return f"{' / '.join(lines) or 'it said nothing'} (log: {log})"

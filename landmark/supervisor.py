"""Keeps the answering side running beside the serving process, as a child that ends with it.

The serving process itself stays without gRPC and without the answers' work; it only starts a process, and waits.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from landmark.backoff import Backoff

# A child that has lived for so long was well; what ended it is new.
_WELL_S: Final = 60.0
# What a child is given to end by itself. It looks several times a second whether it is to stop.
_PATIENCE_S: Final = 3.0
_log = structlog.get_logger()


def prover_command(config: Path) -> tuple[str, ...]:
    """Return the command of the answering side: this interpreter, this package, this configuration.

    `-P` keeps the working directory from being searched for modules. The parent's id ends the child with it, even when
    it is killed.
    """
    options = ("--config", str(config.absolute()), "--parent", str(os.getpid()))
    return (sys.executable, "-P", "-m", "landmark.main", "prove", *options)


async def keep_running(
    command: tuple[str, ...],
    *,
    backoff: Backoff | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Run `command` until cancelled, again and again, waiting longer each time it ends soon; then end it.

    Its log goes where this process's log goes; its standard output goes nowhere.
    """
    backoff = Backoff(random.SystemRandom()) if backoff is None else backoff
    while True:
        started_s = time.monotonic()
        try:
            code = await _run_once(command)
            _log.error("prover ended", exit_code=code)
        except OSError as error:
            _log.error("prover not started", error=error.strerror)
        if time.monotonic() - started_s >= _WELL_S:
            backoff.reset()
        await sleep(backoff.next_s())


async def _run_once(command: tuple[str, ...]) -> int:
    """Return the exit code, negative for a signal; when cancelled, end the process first."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        # Its own group: Ctrl-C at a terminal reaches this process alone, which then ends it.
        process_group=0,
    )
    _log.info("prover started", pid=process.pid)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _PATIENCE_S)
    except TimeoutError:
        _log.warning("prover killed", pid=process.pid)
        process.kill()
        await process.wait()

"""The sweep: marks that this node is up, then asks the store who has fallen silent.

The rule itself (cadence + grace of uptime since the last verified report) stands in server/store/silence.py. The sweep
opens findings and closes none; a verified report does that, in its commit. Two processes may sweep one store.
"""

import asyncio
import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from server.store.errors import StoreError
from verifier.units import Pdi

MARKS_MISSED = 5
"""A pause of this many marks is downtime."""

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class SilenceStore(Protocol):
    """What the sweep needs of `server.store.Store`."""

    async def mark_alive(self, node: str, now: datetime, *, longest_pause: timedelta) -> None:
        """Record that the service of this node is up now, and was since the mark before."""

    async def sweep_silent(self, now: datetime) -> tuple[Pdi, ...]:
        """Open SILENT for devices that are due, and return them."""


class Sweep:
    """One node's sweep.

    Args:
        store: Where states and service intervals are kept.
        node: This node's name, the same after a restart.
        sweep_every: Pause between two sweeps.
        alive_every: Pause between two marks; uptime is known to this precision.
        clock: Returns the current time, aware.
        found: Called with the devices that a round found silent.
    """

    def __init__(
        self,
        store: SilenceStore,
        node: str,
        sweep_every: timedelta,
        alive_every: timedelta,
        clock: Callable[[], datetime],
        found: Callable[[tuple[Pdi, ...]], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._node = node
        self._sweep_every = sweep_every
        self._alive_every = min(alive_every, sweep_every)
        self._clock = clock
        self._found = found

    async def run(self) -> None:
        """Mark and sweep until cancelled. A store fault makes a round late, no more: that time counts as downtime."""
        marks_per_sweep = max(1, round(self._sweep_every / self._alive_every))
        for round_number in itertools.count():
            try:
                if round_number % marks_per_sweep == 0:
                    await self.sweep_once()
                else:
                    await self._mark(self._clock())
            except StoreError as error:
                _LOG.warning("sweep_failed", error=str(error))
            await asyncio.sleep(self._alive_every.total_seconds())

    async def sweep_once(self) -> tuple[Pdi, ...]:
        """Mark, sweep, and return who is newly silent; raises `StoreError`."""
        now = self._clock()
        await self._mark(now)
        silent = await self._store.sweep_silent(now)
        if silent:
            _LOG.info("devices_silent", count=len(silent), first=silent[0].hex())
            self._found(silent)
        return silent

    async def _mark(self, now: datetime) -> None:
        # A mark may come late on a busy machine; a process that was stopped for longer was not up.
        await self._store.mark_alive(self._node, now, longest_pause=MARKS_MISSED * self._alive_every)

"""The sweep: marks that this node is up, then lets the store open and close what time and the records bring.

The rules stand in docs/protocol.md §15 and server/store/watch.py. What a verified report ends, it ends in its commit.
Two processes may sweep one store.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from server.store.errors import StoreError
from server.store.watch_types import Able, SweepOutcome

MARKS_MISSED = 5
"""A pause of this many marks is downtime."""

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class SweptStore(Protocol):
    """What the sweep needs of the store."""

    async def mark_alive(self, node: str, now: datetime, *, longest_pause: timedelta) -> None:
        """Record that the service of this node is up now, and was since the mark before."""

    async def sweep(self, now: datetime, able: Able) -> SweepOutcome:
        """Open and close what is due, and return what changed."""


class AbleSource(Protocol):
    """Says who could prove presence where; `server.desk.able.AbleDomains` is one."""

    async def at(self, now: datetime) -> Able:
        """Return who could prove what under the records in force now."""


class Sweep:
    """One node's sweep.

    Args:
        store: Where states and service intervals are kept.
        able: Who could prove presence where.
        node: This node's name, the same after a restart.
        sweep_every: Pause between two sweeps.
        alive_every: Pause between two marks; uptime is known to this precision.
        clock: Returns the current time, aware.
        swept: Called with what each sweep did and saw, before the next one.
    """

    def __init__(
        self,
        store: SweptStore,
        able: AbleSource,
        node: str,
        sweep_every: timedelta,
        alive_every: timedelta,
        clock: Callable[[], datetime],
        swept: Callable[[SweepOutcome], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._able = able
        self._node = node
        self._sweep_every = sweep_every
        self._alive_every = min(alive_every, sweep_every)
        self._clock = clock
        self._swept = swept

    async def run(self) -> None:
        """Mark and sweep until cancelled. A store fault makes a round late, no more: that time counts as downtime."""
        async with asyncio.TaskGroup() as tasks:
            # Marks go on while a long sweep runs, which would look like an outage of ours.
            tasks.create_task(self._always(self._alive_every, lambda: self._mark(self._clock())))
            tasks.create_task(self._always(self._sweep_every, self.sweep_once))

    async def _always(self, pause: timedelta, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await work()
            except StoreError as error:
                _LOG.warning("sweep_failed", error=str(error))
            await asyncio.sleep(pause.total_seconds())

    async def sweep_once(self) -> SweepOutcome:
        """Mark, sweep, and return what it did; raises `StoreError`."""
        now = self._clock()
        await self._mark(now)
        able = await self._able.at(now)
        outcome = await self._store.sweep(now, able)
        counts = Counter((turn.reason, turn.opens) for turn in outcome.turns)
        for (reason, opens), count in sorted(counts.items()):
            _LOG.info("findings_opened" if opens else "findings_ended", reason=reason.name, count=count)
        self._swept(outcome)
        return outcome

    async def _mark(self, now: datetime) -> None:
        # A mark may come late on a busy machine; a process that was stopped for longer was not up.
        await self._store.mark_alive(self._node, now, longest_pause=MARKS_MISSED * self._alive_every)

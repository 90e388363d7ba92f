"""The change feed behind WatchDevices: one reader of the store's change counter, any number of watchers.

The counter is read after each commit of this process, and now and then besides, since another process may write the
same store. Which devices a watcher wants, and what it was sent before, is the watcher's business
(server/rpc/licensing.py).
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import timedelta

import structlog

from server.store import Changes, Store, StoreError

POLL_EVERY = timedelta(milliseconds=500)
"""How late a change made by another process may be seen. One indexed row is read."""

LEAST_PAUSE_SECONDS = 0.02
"""Between two reads of the counter: under load one read serves many commits."""

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class DeviceWatch:
    """Wakes watchers when devices change. `run` must be running for anyone to be woken."""

    def __init__(self, store: Store, poll_every: timedelta = POLL_EVERY) -> None:
        self._store = store
        self._poll_seconds = poll_every.total_seconds()
        self._nudged = asyncio.Event()
        self._moved = asyncio.Condition()
        self._number = 0
        store.on_change(self._nudged.set)

    async def run(self) -> None:
        """Follow the counter until cancelled. A store fault makes watchers wait."""
        while True:
            self._nudged.clear()
            try:
                number = await self._store.change_number()
            except StoreError as error:
                _LOG.warning("watch_failed", error=str(error))
            else:
                if number > self._number:
                    async with self._moved:
                        self._number = number
                        self._moved.notify_all()
            await asyncio.sleep(LEAST_PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._nudged.wait()

    async def changes(self, after: int) -> AsyncGenerator[Changes, None]:
        """Yield what changes after this change number, for ever; raises `StoreError`."""
        while True:
            async with self._moved:
                await self._moved.wait_for(lambda: self._number > after)  # noqa: B023 - waited for before `after` moves
            changes = await self._store.changes_after(after)
            after = changes.change_number
            yield changes

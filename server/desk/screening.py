"""Screens parties against the list in force: after each write of one, on each new list, and whoever was left over.

Who is alike is decided in server/records/names_alike.py, what a hit does in server/store/screening.py. A party that is
not screened blocks its licenses (docs/protocol.md RC5), so coming late lets nobody through.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from server.records.names_alike import ListedNames, NameIndex
from server.store.errors import StoreError
from server.store.screening_types import (
    HitCounts,
    ListEntry,
    ListVersion,
    NewList,
    PartyNames,
    ScreenedParty,
)

AT_ONCE = 1_000
"""Parties in one transaction: half a minute of comparing, and a few thousand rows at most."""

LOOK_EVERY = timedelta(seconds=2)
"""Another process may have written parties; the look is one query."""

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class ScreeningStore(Protocol):
    """What screening needs of `server.store.Store.screening`."""

    async def list_in_force(self) -> ListVersion | None:
        """Return the list in force, or None before the first."""

    async def load_list(self) -> tuple[ListVersion, list[ListedNames]] | None:
        """Return the list in force with all its names, or None before the first."""

    async def load_parties(self, *, after: str = "", limit: int = 1_000) -> list[PartyNames]:
        """Return parties behind `after`, in the order of ids."""

    async def load_unscreened(self, listed: ListVersion, *, limit: int = 1_000) -> list[PartyNames]:
        """Return parties that are not screened as they stand against this list."""

    async def replace_list(
        self, new: NewList, entries: Iterable[ListEntry], screened: Sequence[ScreenedParty], now: datetime
    ) -> HitCounts:
        """Put a list in force, and the hits on it."""

    async def try_list(self, new: NewList, screened: Sequence[ScreenedParty]) -> HitCounts:
        """Return what `replace_list` would change."""

    async def keep_hits(self, listed: ListVersion, screened: Sequence[ScreenedParty], now: datetime) -> HitCounts:
        """Make what was found the hits of these parties."""


class ScreeningTask:
    """One process's screening. It holds the names of the list in force in memory, ready to be compared with.

    Args:
        store: Where parties, lists and hits are kept.
        clock: Returns the current time, aware.
        look_every: Pause between two looks for parties that are not screened.
    """

    def __init__(
        self, store: ScreeningStore, clock: Callable[[], datetime], look_every: timedelta = LOOK_EVERY
    ) -> None:
        self._store = store
        self._clock = clock
        self._look_every = look_every
        self._held: tuple[ListVersion, NameIndex] | None = None
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Screen who is not screened, until cancelled. A store fault makes it late, no more."""
        while True:
            try:
                await self.screen()
            except StoreError as error:
                _LOG.warning("screening_failed", error=str(error))
            await asyncio.sleep(self._look_every.total_seconds())

    async def screen(self) -> HitCounts:
        """Screen every party that is not screened as it stands, and return what that changed; raises `StoreError`.

        To be called after each write of parties. Without a list it does nothing.
        """
        counts = HitCounts()
        async with self._turn:
            while (listed := await self._store.list_in_force()) is not None:
                waiting = await self._store.load_unscreened(listed, limit=AT_ONCE)
                if not waiting:
                    break
                index = await self._index(listed)
                if index is None:
                    continue  # another list came; who is waiting for it is asked again
                screened = await asyncio.to_thread(_screen, index, waiting)
                counts += await self._store.keep_hits(listed, screened, self._clock())
        if counts != HitCounts():
            _LOG.info("parties_screened", new_hits=counts.new, gone_hits=counts.gone)
        return counts

    async def import_list(
        self,
        new: NewList,
        names: Iterable[ListedNames],
        entries: Iterable[ListEntry],
        *,
        validate_only: bool,
    ) -> HitCounts:
        """Put a list in force, whole or not at all, with all parties screened against it.

        Args:
            new: What it is called, and by whom it comes.
            names: The names of its entries; consumed in a thread.
            entries: Its entries; consumed in a store thread, or not at all.
            validate_only: Tell what it would change, and change nothing.

        Raises:
            RecordConflictError: A list of that version was another file.
            StoreUnavailableError: Nothing was written.
        """
        # Not in a turn: comparing all parties may take a minute, in which others are written and screened.
        index = await asyncio.to_thread(NameIndex, names)
        screened = [each async for each in self._all(index)]
        if validate_only:
            return await self._store.try_list(new, screened)
        counts = await self._store.replace_list(new, entries, screened, self._clock())
        _LOG.info(
            "screening_list_imported",
            version=new.version,
            entries=new.entry_count,
            by=new.by,
            new_hits=counts.new,
            gone_hits=counts.gone,
        )
        return counts + await self.screen()  # who was written in the meantime

    async def _all(self, index: NameIndex) -> AsyncIterator[ScreenedParty]:
        after = ""
        while parties := await self._store.load_parties(after=after, limit=AT_ONCE):
            after = parties[-1].party_id
            for screened in await asyncio.to_thread(_screen, index, parties):
                yield screened

    async def _index(self, listed: ListVersion) -> NameIndex | None:
        """Return the names of this list, or None when it is no longer in force."""
        if self._held is None or self._held[0] != listed:
            loaded = await self._store.load_list()
            if loaded is None or loaded[0] != listed:
                return None
            self._held = listed, await asyncio.to_thread(NameIndex, loaded[1])
        return self._held[1]


def _screen(index: NameIndex, parties: Sequence[PartyNames]) -> list[ScreenedParty]:
    found = index.find([party.names for party in parties])
    return [ScreenedParty(party, tuple(likes)) for party, likes in zip(parties, found, strict=True)]

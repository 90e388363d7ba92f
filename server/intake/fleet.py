"""A hot snapshot of the records that every challenge needs: the landmarks, with their endpoints.

It is read again when the store's records number has grown, by whichever process, and now and then when landmarks have
ranged each other. A challenge keeps the snapshot that was in force when it was issued, and its verdict is made under
that one. Streams learn here that records changed, since
then the next challenge of a host may be due earlier than it was.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from server.store.errors import StoreError
from server.store.types import LandmarkRecord
from verifier.limits import MAX_CACHED_CHAINS
from verifier.place.landmarks import LandmarkRegistry
from verifier.units import ChainId, LandmarkKeyId

POLL_EVERY_S = 1.0
"""Between two looks at the records number, which another process may have raised."""

REFRESH_EVERY_S = 10.0
"""Between two readings because of new ranges between landmarks, which come all the time."""

REFRESH_SHARE = 0.05
"""The most of its time that a process spends with such readings: of 800 landmarks they take seconds."""


class RecordSource(Protocol):
    """What the fleet reads; `server.store.store.Store` is one."""

    async def records_number(self) -> int:
        """Return a number that grows with each change of a record."""

    async def audits_number(self) -> int:
        """Return a number that grows with each range between landmarks."""

    async def load_landmark_records(self) -> list[LandmarkRecord]:
        """Return the current revision of every landmark."""

    async def load_chains(self, chain_ids: Sequence[ChainId]) -> dict[ChainId, tuple[bytes, ...]]:
        """Return the chains that are kept."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Records as of one records number."""

    number: int
    registry: LandmarkRegistry
    endpoints: Mapping[LandmarkKeyId, tuple[str, ...]] = field(repr=False)


class Fleet:
    """Holds the newest snapshot, and the chains that agents need not send again.

    Args:
        source: What is read.
        refresh_every_s: How late a new range between landmarks may be seen.

    Attributes:
        rereading: Held by a stream that reads deployments because records changed: one at a time, so that an import
            does not keep the readers from those who are due.
    """

    def __init__(self, source: RecordSource, refresh_every_s: float = REFRESH_EVERY_S) -> None:
        self._source = source
        self._refresh_every_s = refresh_every_s
        self._audits = 0
        self._refresh_at_s = 0.0  # loop time
        self._snapshot: Snapshot | None = None
        self._loading = asyncio.Lock()
        self._chains: OrderedDict[ChainId, tuple[bytes, ...]] = OrderedDict()
        self._number = 0
        self._grown = asyncio.Condition()
        self.rereading = asyncio.Lock()

    async def follow_records(self) -> None:
        """Follow the records number until cancelled, for those who wait. A store fault makes them wait longer."""
        while True:
            try:
                number = await self._source.records_number()
            except StoreError as error:
                structlog.get_logger().warning("records_not_followed", error=str(error))
            else:
                if number > self._number:
                    async with self._grown:
                        self._number = number
                        self._grown.notify_all()
            await asyncio.sleep(POLL_EVERY_S)

    async def wait_for_records(self, beyond: int) -> int:
        """Return the records number once it is greater than `beyond`; `follow_records` must be running."""
        async with self._grown:
            await self._grown.wait_for(lambda: self._number > beyond)
            return self._number

    async def records_number(self) -> int:
        """Return the number of the newest write of records; raises `StoreUnavailableError`."""
        return await self._source.records_number()

    async def current(self) -> Snapshot:
        """Return the records in force now; raises `StoreUnavailableError`."""
        number = await self._source.records_number()
        if self._snapshot is not None and self._snapshot.number >= number and not await self._has_new_ranges():
            return self._snapshot
        async with self._loading:
            if self._snapshot is None or self._snapshot.number < number or await self._has_new_ranges():
                # The numbers are read first: a change in between only makes the next call load again.
                number = await self._source.records_number()
                self._audits = await self._source.audits_number()
                began_s = asyncio.get_running_loop().time()
                records = await self._source.load_landmark_records()
                registry = LandmarkRegistry.build(record.landmark for record in records)
                self._snapshot = Snapshot(
                    number, registry, {record.landmark.key_id: record.endpoints for record in records}
                )
                now_s = asyncio.get_running_loop().time()
                self._refresh_at_s = now_s + max(self._refresh_every_s, (now_s - began_s) / REFRESH_SHARE)
            return self._snapshot

    async def _has_new_ranges(self) -> bool:
        """Whether landmarks have ranged each other since the last reading; asked once in a while."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._refresh_at_s:
            return False
        if await self._source.audits_number() > self._audits:
            return True
        self._refresh_at_s = now_s + self._refresh_every_s
        return False

    async def find_chains(self, chain_ids: Sequence[ChainId]) -> dict[ChainId, tuple[bytes, ...]]:
        """Return those of these chains that were verified and stored before; raises `StoreUnavailableError`."""
        missing = [chain_id for chain_id in chain_ids if chain_id not in self._chains]
        found = await self._source.load_chains(missing) if missing else {}
        self.keep_chains(found)
        result = {}
        for chain_id in chain_ids:
            # `found` first: the cache may be smaller than one host's list.
            if (chain := found.get(chain_id) or self._chains.get(chain_id)) is not None:
                result[chain_id] = chain
        return result

    def keep_chains(self, chains: Mapping[ChainId, tuple[bytes, ...]]) -> None:
        """Remember chains that are in the store."""
        for chain_id, chain in chains.items():
            self._chains[chain_id] = chain
            self._chains.move_to_end(chain_id)
        while len(self._chains) > MAX_CACHED_CHAINS:
            self._chains.popitem(last=False)

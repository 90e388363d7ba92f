"""The store's door for screening (docs/screening.md). Every call raises only `StoreError`s."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import Connection

from server.records.names_alike import ListedNames
from server.store import screening
from server.store.doors import Reads, Writes
from server.store.screening_types import (
    HitCounts,
    HitCursor,
    HitFilter,
    HitKey,
    HitPage,
    HitRecord,
    HitState,
    ListEntry,
    ListVersion,
    NewList,
    PartyNames,
    ScreenedParty,
)


class ScreeningDoor:
    """Lists and hits.

    Args:
        read: Runs a query.
        write: Runs a change.
    """

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write

    async def list_in_force(self) -> ListVersion | None:
        """Return the list in force, or None before the first."""
        return await self._read(screening.list_in_force)

    async def load_list(self) -> tuple[ListVersion, list[ListedNames]] | None:
        """Return the list in force with all its names, or None before the first."""

        def load(connection: Connection) -> tuple[ListVersion, list[ListedNames]] | None:
            listed = screening.list_in_force(connection)
            return None if listed is None else (listed, screening.load_names(connection))

        return await self._read(load)

    async def load_parties(self, *, after: str = "", limit: int = 1_000) -> list[PartyNames]:
        """Return up to `limit` parties behind `after`, in the order of ids."""
        return await self._read(lambda connection: screening.load_parties(connection, after, limit))

    async def load_unscreened(self, listed: ListVersion, *, limit: int = 1_000) -> list[PartyNames]:
        """Return up to `limit` parties that are not screened as they stand against this list."""
        return await self._read(lambda connection: screening.load_unscreened(connection, listed, limit))

    async def blocked_parties(self, party_ids: Iterable[str]) -> tuple[str, ...]:
        """Return those with which a license must not become ACTIVE (docs/protocol.md RC5), sorted."""
        asked = tuple(party_ids)
        return await self._read(lambda connection: screening.blocked_parties(connection, asked))

    async def replace_list(
        self, new: NewList, entries: Iterable[ListEntry], screened: Sequence[ScreenedParty], now: datetime
    ) -> HitCounts:
        """Put a list in force, and the hits on it, in one transaction. `entries` is consumed in a store thread.

        Raises:
            RecordConflictError: A list of that version was another file.
        """
        return await self._write(
            lambda connection: screening.replace_list(connection, new, entries, screened, now), changes_devices=False
        )

    async def try_list(self, new: NewList, screened: Sequence[ScreenedParty]) -> HitCounts:
        """Return what `replace_list` would change; raises what it would."""
        return await self._read(lambda connection: screening.try_list(connection, new, screened))

    async def keep_hits(self, listed: ListVersion, screened: Sequence[ScreenedParty], now: datetime) -> HitCounts:
        """Make what was found the hits of these parties, unless they or the list have changed since."""
        return await self._write(
            lambda connection: screening.keep_hits(connection, listed, screened, now), changes_devices=False
        )

    async def list_hits(self, chosen: HitFilter, *, after: HitCursor | None = None, limit: int = 100) -> HitPage:
        """Return one page of hits, open ones first, then by score."""
        return await self._read(lambda connection: screening.list_hits(connection, chosen, after, limit))

    async def decide_hits(
        self, keys: Sequence[HitKey], state: HitState, by: str, reason: str, now: datetime
    ) -> tuple[HitRecord, ...]:
        """Decide on hits, all or none, and return them in the order asked.

        Raises:
            RecordNotFoundError: There is no such hit.
        """
        return await self._write(
            lambda connection: screening.decide_hits(connection, keys, state, by, reason, now), changes_devices=False
        )

"""The store's door for cases (docs/protocol.md §15). Every call raises only `StoreError`s."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from server.store import bundle_rows, case_queries, case_work, cases
from server.store.bundle_types import CaseRows
from server.store.case_types import (
    CaseCursor,
    CaseDeviceCursor,
    CaseDevicePage,
    CaseEvent,
    CaseFilter,
    CaseNews,
    CasePage,
    CaseRecord,
    CaseRef,
    CaseStory,
    CaseWork,
)
from server.store.doors import Reads, Writes
from server.store.watch_types import EndingLicense, SiteKey
from verifier.verdict import Severity


class CaseDoor:
    """Cases: opened and ended by rule, read and worked by people.

    Args:
        read: Runs a query.
        write: Runs a change.
    """

    def __init__(self, read: Reads, write: Writes) -> None:
        self._read = read
        self._write = write

    # What the desk needs.

    async def take_findings(self, now: datetime, short: Collection[SiteKey] = ()) -> CaseNews:
        """Work all findings that changed into cases, and do what time brings; return what somebody should hear of.

        Any number of processes may do so on one store: each change is taken in once.

        Args:
            now: The time.
            short: Sites whose presence too few domains could prove now (docs/protocol.md CS2).
        """
        rounds: list[CaseNews] = []
        # The look needs no lock; only work takes the writer's turn, and looks again there.
        more = await self._read(lambda connection: cases.is_due(connection, now))
        while more:
            news, more = await self._write(
                lambda connection: cases.run_round(connection, now, short), changes_devices=False
            )
            rounds.append(news)
        return CaseNews.of(rounds)

    async def tell_endings(self, endings: Sequence[EndingLicense], now: datetime) -> CaseNews:
        """Tell of licenses that end soon, each once; `endings` are all of them (docs/protocol.md W5)."""
        if not await self._read(lambda connection: cases.has_ending_news(connection, endings)):
            return CaseNews()
        return await self._write(lambda connection: cases.tell_endings(connection, endings, now), changes_devices=False)

    async def count_open(self) -> Mapping[tuple[CaseEvent, Severity], int]:
        """Return how many cases are not resolved, by event and severity; those that none has are missing."""
        return await self._read(case_queries.count_open)

    # What people need. `jurisdiction`: the only one whose cases they may see; None: all (docs/protocol.md RC11).

    async def get(self, number: int, *, jurisdiction: str | None = None) -> CaseStory | None:
        """Return a case with the newest entries of its story, or None when there is none to be seen."""
        return await self._read(lambda connection: case_queries.get_case(connection, number, jurisdiction))

    async def list(self, chosen: CaseFilter, *, after: CaseCursor | None = None, limit: int = 100) -> CasePage:
        """Return up to `limit` matching cases behind `after`, the gravest first, then the oldest."""
        return await self._read(lambda connection: case_queries.list_cases(connection, chosen, after, limit))

    async def list_devices(
        self,
        number: int,
        *,
        jurisdiction: str | None = None,
        after: CaseDeviceCursor | None = None,
        limit: int = 100,
    ) -> CaseDevicePage | None:
        """Return up to `limit` findings of a case behind `after`, in the order of PDIs; None as `get`."""
        return await self._read(
            lambda connection: case_queries.list_case_devices(connection, number, jurisdiction, after, limit)
        )

    async def bundle_rows(self, number: int, jurisdiction: str | None) -> CaseRows | None:
        """Return what belongs to a case's bundle, as a reader of this jurisdiction is shown it; None as `get`."""
        return await self._read(lambda connection: bundle_rows.case_rows(connection, number, jurisdiction))

    async def work(
        self, refs: Sequence[CaseRef], work: CaseWork, by: str, now: datetime, *, jurisdiction: str | None = None
    ) -> tuple[CaseRecord, ...]:
        """Do one thing to cases, to all or to none; return them as they stand then, in the order of `refs`.

        Raises:
            RecordNotFoundError: A case does not exist, or is not the caller's to see.
            StaleRevisionError: Another revision of a case stands than the caller saw.
            CaseStateError: That cannot be done as a case stands.
        """
        return await self._write(
            lambda connection: case_work.work_cases(connection, refs, work, by, now, jurisdiction),
            changes_devices=False,
        )

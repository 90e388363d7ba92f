"""Casework: works findings into cases, and tells of what somebody should look at.

It follows the store's count of findings, so that a restart forgets nothing; several nodes may do so on one store. The
rules stand in docs/protocol.md §15 (CS1 to CS5) and in server/store/cases.py. Which sites are short of landmarks, and
which licenses end, it hears from the sweep.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from server.store.case_types import CaseEvent, CaseNews
from server.store.errors import StoreError
from server.store.watch_types import EndingLicense, SiteKey, SweepOutcome
from server.telemetry import Telemetry
from verifier.verdict import Severity

RUN_EVERY = timedelta(seconds=1)
"""How late a case may be. While nothing has changed, two indexed rows are read."""

_LOG: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class CaseStore(Protocol):
    """What casework needs; `server.store.case_door.CaseDoor` is one."""

    async def take_findings(self, now: datetime, short: Collection[SiteKey]) -> CaseNews:
        """Work findings that changed into cases, and do what time brings."""

    async def tell_endings(self, endings: Sequence[EndingLicense], now: datetime) -> CaseNews:
        """Tell of licenses that end soon, each once."""

    async def count_open(self) -> Mapping[tuple[CaseEvent, Severity], int]:
        """Return how many cases are not resolved."""


class Casework:
    """One node's casework.

    Args:
        store: Where findings and cases are kept.
        clock: Returns the current time, aware.
        telemetry: Counts cases.
        run_every: Pause between two rounds.
    """

    def __init__(
        self,
        store: CaseStore,
        clock: Callable[[], datetime],
        telemetry: Telemetry,
        run_every: timedelta = RUN_EVERY,
    ) -> None:
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._run_every = run_every
        self._short: frozenset[SiteKey] = frozenset()
        self._endings: tuple[EndingLicense, ...] | None = None

    def swept(self, outcome: SweepOutcome) -> None:
        """Hear what a sweep saw."""
        self._short = outcome.short
        self._endings = outcome.ending

    async def run(self) -> None:
        """Work until cancelled. A store fault makes a round late, no more."""
        while True:
            try:
                await self.run_once()
            except StoreError as error:
                _LOG.warning("casework_failed", error=str(error))
            await asyncio.sleep(self._run_every.total_seconds())

    async def run_once(self) -> CaseNews:
        """Do one round, and return what somebody should hear of; raises `StoreError`."""
        now = self._clock()
        news = [await self._store.take_findings(now, self._short)]
        if (endings := self._endings) is not None:
            # Told after each sweep, and not before the first: until then nobody knows which licenses end.
            news.append(await self._store.tell_endings(endings, now))
            self._endings = None
        told = CaseNews.of(news)
        self._tell(told)
        await self._count()
        return told

    def _tell(self, news: CaseNews) -> None:
        for event, some in (("case_opened", news.opened), ("case_reopened", news.reopened)):
            for case in some:
                self._telemetry.cases_told.labels(case.event.name, case.severity.name).inc()
                _LOG.warning(
                    event,
                    case=case.number,
                    about=case.event.name,
                    severity=case.severity.name,
                    title=case.title,
                    devices=case.devices_open,
                )
        for case in news.resolved:
            _LOG.info("case_resolved_by_rule", case=case.number, about=case.event.name)

    async def _count(self) -> None:
        counts = await self._store.count_open()
        for event in CaseEvent:
            for severity in Severity:
                self._telemetry.cases_open.labels(event.name, severity.name).set(counts.get((event, severity), 0))

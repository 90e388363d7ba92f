"""The sweep's own part: it marks, asks who could prove what, sweeps, and goes on after faults."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from server.desk.able import AbleDomains
from server.desk.sweep import Sweep
from server.store import Store, StoreUnavailableError
from server.store.watch_types import Able, AbleSite, SiteKey, SweepOutcome, Turn
from tests.server.audit_world import Clock
from verifier.errors import Reason
from verifier.place.policy import PlacePolicy
from verifier.units import Pdi

NOW = datetime(2026, 7, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
ABLE: Able = {SiteKey("D1", "s"): AbleSite(2, {})}
OUTCOME = SweepOutcome((Turn(Pdi(bytes(8)), Reason.SILENT, "since noon"),))


class Known:
    """Knows at once who could prove what."""

    async def at(self, now: datetime) -> Able:
        assert now == NOW
        return ABLE


class Scripted:
    """A store that fails when the test says so."""

    def __init__(self, *, failing_marks: int = 0, failing_sweeps: int = 0) -> None:
        self.marks: list[tuple[str, datetime, timedelta]] = []
        self.sweeps = 0
        self.failing_marks = failing_marks
        self.failing_sweeps = failing_sweeps
        self.hold: asyncio.Event | None = None
        self.on_mark: Callable[[], None] = lambda: None

    async def mark_alive(self, node: str, now: datetime, *, longest_pause: timedelta) -> None:
        self.marks.append((node, now, longest_pause))
        self.on_mark()
        if len(self.marks) <= self.failing_marks:
            raise StoreUnavailableError("down")

    async def sweep(self, now: datetime, able: Able) -> SweepOutcome:
        assert (now, able) == (NOW, ABLE)
        self.sweeps += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.sweeps <= self.failing_sweeps:
            raise StoreUnavailableError("down")
        return OUTCOME


async def test_sweep_marks_then_sweeps_and_tells() -> None:
    store, told = Scripted(), list[SweepOutcome]()
    sweep = Sweep(store, Known(), "node-1", 30 * MILLISECOND, 10 * MILLISECOND, lambda: NOW, told.append)
    assert await sweep.sweep_once() is OUTCOME
    assert told == [OUTCOME]
    # A pause of five marks is downtime.
    assert store.marks == [("node-1", NOW, 50 * MILLISECOND)]


async def test_sweep_outlives_store_faults() -> None:
    store, done = Scripted(failing_marks=2, failing_sweeps=1), asyncio.Event()
    sweep = Sweep(store, Known(), "node-1", MILLISECOND, MILLISECOND, lambda: NOW, lambda _: done.set())
    running = asyncio.create_task(sweep.run())
    async with asyncio.timeout(10):
        await done.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert store.sweeps == 2
    assert len(store.marks) > 2


async def test_marks_go_on_while_a_sweep_takes_long() -> None:
    """Else a long look over a large store would look like an outage of ours."""
    store = Scripted()
    store.hold = asyncio.Event()
    enough = asyncio.Event()
    store.on_mark = lambda: enough.set() if len(store.marks) >= 10 else None
    sweep = Sweep(store, Known(), "node-1", MILLISECOND, MILLISECOND, lambda: NOW)
    running = asyncio.create_task(sweep.run())
    async with asyncio.timeout(10):
        await enough.wait()
    assert store.sweeps == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_empty_store_is_swept(store: Store, policy: PlacePolicy, clock: Clock) -> None:
    sweep = Sweep(_Door(store), AbleDomains(store.watch, policy), "node-1", MILLISECOND, MILLISECOND, clock)
    assert await sweep.sweep_once() == SweepOutcome()


class _Door:
    """The store as the sweep sees it."""

    def __init__(self, store: Store) -> None:
        self.mark_alive = store.mark_alive
        self.sweep = store.watch.sweep

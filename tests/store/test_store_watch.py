import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest

from server.desk.watch import DeviceWatch
from server.store import Store, StoreUnavailableError
from tests.store.store_world import HOUR, START, device, pdi, record


@asynccontextmanager
async def running(watch: DeviceWatch) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_commit_of_this_process_wakes_watchers(store: Store) -> None:
    watch = DeviceWatch(store, poll_every=timedelta(hours=1))
    async with running(watch), aclosing(watch.changes(0)) as feed:
        waiting = asyncio.create_task(anext(feed))
        await asyncio.sleep(0)
        await store.commit([record(START, [device(1)])])
        changes = await waiting
        assert [change.pdi for change in changes.devices] == [pdi(1)]
        waiting = asyncio.create_task(anext(feed))
        await asyncio.sleep(0)
        assert not waiting.done()
        await store.commit([record(START + HOUR, [device(2)])])
        assert [change.pdi for change in (await waiting).devices] == [pdi(2)]


async def test_commit_of_another_process_is_seen_by_polling(store: Store, store_path: Path) -> None:
    other = await Store.open(store_path)
    watch = DeviceWatch(store, poll_every=timedelta(milliseconds=5))
    async with running(watch), aclosing(watch.changes(0)) as feed:
        await other.commit([record(START, [device(1)])])
        assert [change.pdi for change in (await anext(feed)).devices] == [pdi(1)]
    await other.close()


async def test_watcher_that_starts_late_gets_what_it_missed(store: Store) -> None:
    await store.commit([record(START, [device(1), device(2)])])
    watch = DeviceWatch(store)
    async with running(watch), aclosing(watch.changes(1)) as feed:
        changes = await anext(feed)
        assert ([change.pdi for change in changes.devices], changes.change_number) == ([pdi(2)], 2)


async def test_watch_outlives_a_store_fault(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read = store.change_number
    answers = 0

    async def failing_once() -> int:
        nonlocal answers
        answers += 1
        if answers == 1:
            raise StoreUnavailableError("down")
        return await read()

    monkeypatch.setattr(store, "change_number", failing_once)
    await store.commit([record(START, [device(1)])])
    watch = DeviceWatch(store, poll_every=timedelta(milliseconds=5))
    async with running(watch), aclosing(watch.changes(0)) as feed:
        assert [change.pdi for change in (await anext(feed)).devices] == [pdi(1)]
    assert answers >= 2

"""Who was shown where devices are: written down for good, before anything is shown (docs/protocol.md K2)."""

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from server.store import Store
from server.store.errors import StoreUnavailableError
from server.store.reads import PositionRead, ReadDoor, ReadFilter
from server.store.schema import READS
from tests.store.store_world import HOUR, START, Gate

ANN = PositionRead(1, START, "officer/ann", "", "GetDevice", "devices/00000000000000ab", 1)
EVA = PositionRead(2, START + HOUR, "viewer/DE/eva", "DE", "ListDevices", 'license = "D1"', 40)


async def note(store: Store, read: PositionRead) -> None:
    await store.reads.note(read.by, read.jurisdiction, read.call, read.subject, read.devices, read.at)


async def listed(store: Store, **chosen: str) -> list[int]:
    return [read.number for read in (await store.reads.list(ReadFilter(**chosen))).reads]


async def test_a_read_is_kept_as_it_was_and_outlives_the_process(store: Store, store_path: Path) -> None:
    await note(store, ANN)
    await note(store, EVA)
    await store.close()
    again = await Store.open(store_path)
    page = await again.reads.list(ReadFilter())
    await again.close()
    assert page.reads == (EVA, ANN)
    assert not page.more


async def test_reads_are_found_by_who_of_what_and_for_whom(store: Store) -> None:
    for read in (ANN, EVA, replace(ANN, subject="cases/7", call="GetCase")):
        await note(store, read)
    assert await listed(store, by="officer/ann") == [3, 1]
    assert await listed(store, subject=ANN.subject) == [1]
    assert await listed(store, jurisdiction="DE") == [2]
    assert await listed(store, jurisdiction="") == [3, 1]
    assert await listed(store, by="officer/ann", subject="cases/7") == [3]
    assert await listed(store, by="ann") == []


async def test_pages_join_to_the_whole_newest_first(store: Store) -> None:
    for _ in range(7):
        await note(store, ANN)
    found: list[int] = []
    after: int | None = None
    while True:
        page = await store.reads.list(ReadFilter(), after=after, limit=3)
        found += [read.number for read in page.reads]
        if not page.more:
            break
        after = page.reads[-1].number
    assert found == [7, 6, 5, 4, 3, 2, 1]


async def test_many_at_once_share_a_transaction_and_each_is_written_once(store: Store) -> None:
    written: list[int] = []
    inner = store.reads._write

    async def counting(change: object, /, *, changes_devices: bool = True) -> object:
        written.append(1)
        return await inner(change, changes_devices=changes_devices)  # type: ignore[arg-type]

    door = ReadDoor(store._read, counting)  # type: ignore[arg-type]
    gate = Gate(store)
    notes = [
        asyncio.create_task(door.note(f"viewer/v{number}", "", "WatchDevices", "", number, START))
        for number in range(50)
    ]
    await asyncio.sleep(0)
    await gate.open()
    await asyncio.gather(*notes)
    assert len(written) == 2, "the first by itself, all that came meanwhile together"
    page = await store.reads.list(ReadFilter(), limit=100)
    assert sorted(read.devices for read in page.reads) == list(range(50))
    assert sorted(read.number for read in page.reads) == list(range(1, 51))


async def test_what_could_not_be_written_is_refused_to_each_who_asked(store: Store) -> None:
    attempts = itertools.count(1)
    inner = store.reads._write

    async def fails(change: object, /, *, changes_devices: bool = True) -> object:
        await asyncio.sleep(0)
        if next(attempts) <= 2:
            raise StoreUnavailableError("no room")
        return await inner(change, changes_devices=changes_devices)  # type: ignore[arg-type]

    door = ReadDoor(store._read, fails)  # type: ignore[arg-type]
    calls = (door.note(f"viewer/v{number}", "", "GetDevice", "", 1, START) for number in range(4))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, StoreUnavailableError)]
    assert refused == [0, 1], "each failure refuses the one that wrote; the next writes for who is left"
    kept = [read.by for read in (await store.reads.list(ReadFilter())).reads]
    assert sorted(kept) == ["viewer/v2", "viewer/v3"], "what was refused is not said to have been shown"


async def test_who_leaves_while_waiting_is_not_said_to_have_been_shown(store: Store) -> None:
    gate = Gate(store)
    first = asyncio.create_task(store.reads.note("viewer/first", "", "GetDevice", "", 1, START))
    await asyncio.sleep(0)
    leaving = asyncio.create_task(store.reads.note("viewer/leaving", "", "GetDevice", "", 1, START))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    await gate.open()
    await first
    await note(store, ANN)
    assert [read.by for read in (await store.reads.list(ReadFilter())).reads] == ["officer/ann", "viewer/first"]


async def test_a_closed_store_shows_nothing(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await note(store, ANN)


async def test_reading_wakes_nobody_who_watches_devices(store: Store) -> None:
    woken: list[int] = []
    store.on_change(lambda: woken.append(1))
    await note(store, ANN)
    assert not woken
    assert len(await store._read(lambda connection: connection.execute(select(READS)).all())) == 1

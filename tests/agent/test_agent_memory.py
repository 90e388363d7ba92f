"""What an agent remembers of a server's journal, and that it says so (docs/protocol.md A8)."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.memory import MAX_NOTE_BYTES, Memory, MemoryFileError
from tests.agent.helpers import FakeService, FakeSource, Peer, Response, RunningService, challenge, gpu
from tests.agent.test_agent_stream import Harness, forever


def note(size: int, origin: str = "log.example", more: str = "") -> str:
    return f"{origin}\n{size}\n{'A' * 43}=\n\n— {origin} {'B' * 92}\n{more}"


async def test_the_largest_is_kept_through_restarts(tmp_path: Path) -> None:
    path = tmp_path / "state"
    memory = Memory.open(path)
    assert memory.largest == ""
    for size in (0, 5, 100, 7, 99, 100):
        await memory.take(note(size))
    assert memory.largest == note(100)
    again = Memory.open(path)
    assert again.largest == note(100)
    await again.take(note(9))
    await again.take(note(101, more=f"— w.example {'C' * 100}\n"))
    assert Memory.open(path).largest.startswith("log.example\n101\n")


async def test_another_journal_does_not_make_it_forget(tmp_path: Path) -> None:
    path = tmp_path / "state"
    memory = Memory.open(path)
    await memory.take(note(100))
    await memory.take(note(3, "new.example"))
    assert memory.largest == note(3, "new.example")
    # The server takes the old name again, with a past that is shorter.
    await Memory.open(path).take(note(50))
    assert Memory.open(path).largest == note(100)
    memory = Memory.open(path)
    for number in range(20):
        await memory.take(note(1, f"{number}.example"))
    assert len(Memory.open(path)._notes) == 8
    assert Memory.open(path).largest == note(1, "19.example")


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "log.example\n5\n",
        note(5).replace("\n5\n", "\n05\n"),
        note(5).replace("\n5\n", "\n-5\n"),
        note(5).replace("AAA=", "AA="),
        note(5, more="\0"),
        note(5, more="x" * MAX_NOTE_BYTES + "\n"),
        note(5)[:-1],
    ],
)
async def test_what_is_no_checkpoint_is_not_taken(sent: str) -> None:
    memory = Memory.open(None)
    await memory.take(note(1))
    await memory.take(sent)
    assert memory.largest == note(1)


async def test_a_file_that_is_another_is_refused_and_a_full_disk_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    path.write_text("[server]\n")
    with pytest.raises(MemoryFileError, match="holds no checkpoints"):
        Memory.open(path)
    with pytest.raises(MemoryFileError, match="directory"):
        Memory.open(tmp_path)
    path.unlink()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    memory = Memory.open(path)
    await memory.take(note(1))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MemoryFileError, match="No space"):
        await memory.take(note(2))
    assert memory.largest == note(2)
    monkeypatch.undo()
    assert Memory.open(path).largest == note(1)


async def test_every_inventory_shows_it_from_the_next_one_on() -> None:
    reconnected = asyncio.Event()

    async def first(peer: Peer) -> AsyncIterator[Response]:
        assert (await peer.expect("inventory")).inventory.checkpoint == ""
        for size in (7, 5):
            sent = challenge(size)
            sent.challenge.checkpoint = note(size)
            yield sent

    async def second(peer: Peer) -> AsyncIterator[Response]:
        assert (await peer.expect("inventory")).inventory.checkpoint == note(7)
        reconnected.set()
        await forever(peer)
        yield Response()

    server = RunningService(FakeService(first, second))
    await server.start()
    harness = Harness(FakeSource([gpu(1)]), server.target, 60.0)
    task = asyncio.create_task(harness.runner.run())
    await reconnected.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await server.stop()

"""Checkpoints signed, anchored and cosigned by witnesses: slow, dead and lying ones too (docs/protocol.md J5 to J8)."""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from server.desk.anchor import Anchor, AnchorError
from server.desk.past_check import RolledBackError
from server.store.journal_past import PastLostError
from server.store.journal_types import SignedCheckpoint
from tests.server.journal_world import JournalWorld, cosigners
from tests.witness.witness_world import MemoryLog, Witness, make_witness
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.merkle import Frontier, leaf_hash
from verifier.journal.notes import Note, NoteKey, cosign, sign


@pytest.fixture
def world(tmp_path: Path) -> JournalWorld:
    return JournalWorld(tmp_path)


@pytest.fixture
async def two(tmp_path: Path, world: JournalWorld) -> AsyncIterator[list[Witness]]:
    """Two witnesses that run."""
    made = [make_witness(tmp_path / name, world.public, name=f"{name}.example") for name in ("w1", "w2")]
    async with contextlib.AsyncExitStack() as stack:
        for witness in made:
            await stack.enter_async_context(witness.serving())
        yield made


class Scripted:
    """A witness of raw HTTP: answers each request with the next response, the last one for ever."""

    def __init__(self, name: str, *responses: tuple[int, str]) -> None:
        self.name = name
        self.responses = list(responses)
        self.requests: list[bytes] = []
        self.delay_s = 0.0
        log = MemoryLog()
        self.key_of_mine = log.key
        self.key = NoteKey.of(name, log.key, cosigns=True)
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Scripted"]:
        handlers: set[asyncio.Task[object]] = set()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            handlers.add(task)
            with contextlib.closing(writer):
                await answer_one(reader, writer)

        async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            self.requests.append(head + await reader.readexactly(length[0] if length else 0))
            await asyncio.sleep(self.delay_s)
            status, body = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
            data = body.encode()
            with contextlib.suppress(OSError):
                head_out = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
                writer.write(head_out.encode() + data)
                await writer.drain()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in handlers:
                task.cancel()
            await asyncio.gather(*handlers, return_exceptions=True)
            await asyncio.sleep(0.01)  # transports close a round later


async def test_a_checkpoint_is_cosigned_by_all_anchored_and_kept(world: JournalWorld, two: list[Witness]) -> None:
    async with world.desk(two) as desk:
        assert desk.sealer.newest is None
        sizes: list[int] = []
        for entries in (1, 5, 0, 30):
            await desk.grow(entries)
            sealed = await desk.seal()
            size, root = await desk.store.journal.state()
            checkpoint = Checkpoint.parse(Note.parse(sealed.note.encode()).text)
            assert checkpoint == Checkpoint(world.public.name, size, root)
            assert (sealed.size, sealed.hash) == (size, checkpoint.hash)
            assert Note.parse(sealed.note.encode()).signed_by(world.public)
            assert cosigners(sealed.note, *two) == [True, True]
            assert desk.sealer.newest == sealed == await desk.store.journal.newest()
            assert await world.anchor.read() == sealed.note.encode()
            sizes.append(size)
        assert sizes[2] == sizes[1]
        assert sizes[3] == sizes[2] + 30
        assert desk.metric("trigpoint_journal_size") == sizes[3]
        for witness in two:
            assert desk.metric("trigpoint_journal_cosigned_size", witness=witness.key.name) == sizes[3]
        assert abs((desk.metric("trigpoint_journal_checkpoint_timestamp") or 0) - time.time()) < 60
    async with world.desk(two) as again:  # after a restart the witnesses are ahead of what this process knows of them
        await again.grow(3)
        assert cosigners((await again.seal()).note, *two) == [True, True]


async def test_without_witnesses_it_is_signed_alone_and_run_goes_on(world: JournalWorld) -> None:
    async with world.desk() as desk:
        await desk.grow()
        running = asyncio.create_task(desk.sealer.run())
        seen: set[int] = set()
        while len(seen) < 3:
            await desk.grow()
            await asyncio.sleep(0.06)
            if desk.sealer.newest is not None:
                seen.add(desk.sealer.newest.size)
        running.cancel()
        assert sorted(seen) == sorted(seen, key=int)


async def test_two_processes_seal_one_journal(world: JournalWorld, two: list[Witness]) -> None:
    async with world.desk(two, node="a") as a, world.desk(two, node="b") as b:
        for _ in range(5):
            await a.grow()
            await b.grow(2)
            await asyncio.gather(a.seal(), b.seal())
        last = await a.seal()
        assert cosigners(last.note, *two) == [True, True]
        assert not a.lost
        assert not b.lost
        assert await world.anchor.read() == last.note.encode()


async def test_one_slow_witness_holds_up_nobody(world: JournalWorld, two: list[Witness]) -> None:
    async with Scripted("slow.example", (404, "")).running() as slow:
        slow_witness = Witness(world.folder, slow.key, slow.url.removeprefix("http://"))
        async with world.desk([two[0], slow_witness], timeout_s=0.6) as desk:
            slow.delay_s = 30.0
            await desk.grow()
            begun = time.monotonic()
            assert cosigners((await desk.seal()).note, two[0], slow_witness) == [True, False]
            assert time.monotonic() - begun < 3  # once, until its time is up
            for _ in range(3):
                await desk.grow()
                begun = time.monotonic()
                assert cosigners((await desk.seal()).note, two[0]) == [True]
                assert time.monotonic() - begun < 0.5
            failures = desk.metric("trigpoint_journal_witness_failures_total", witness="slow.example", reason="timeout")
            assert failures == 1.0


async def test_a_witness_that_comes_back_is_asked_again(world: JournalWorld, tmp_path: Path) -> None:
    witness = make_witness(tmp_path / "w", world.public)
    async with witness.serving():
        pass
    async with world.desk([witness]) as desk:
        await desk.grow(3)
        assert cosigners((await desk.seal()).note, witness) == [False]
        assert desk.metric("trigpoint_journal_witness_failures_total", witness=witness.key.name, reason="unreachable")
        async with witness.serving():
            assert cosigners((await desk.seal()).note, witness) == [False]  # nobody waits for it yet
            while not cosigners((await desk.seal()).note, witness)[0]:  # noqa: ASYNC110 - a witness sets no asyncio.Event
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ((404, ""), "unknown_log"),
        ((403, ""), "refused"),
        ((500, ""), "refused"),
        ((302, ""), "refused"),
        ((409, "no size"), "bad_reply"),
        ((409, "07\n"), "bad_reply"),
        ((409, "999999\n"), "conflict"),
        ((422, ""), "conflict"),
        ((200, ""), "bad_reply"),
        ((200, "— wrong.example AAAA\n"), "bad_reply"),
        ((200, "x" * 100_000), "bad_reply"),
    ],
)
async def test_what_a_witness_answers_wrongly_counts_for_nothing(
    world: JournalWorld, response: tuple[int, str], reason: str
) -> None:
    async with Scripted("bad.example", response).running() as bad:
        witness = Witness(world.folder, bad.key, bad.url.removeprefix("http://"))
        async with world.desk([witness], checks=False) as desk:
            await desk.grow()
            assert cosigners((await desk.seal()).note, witness) == [False]
            assert desk.metric("trigpoint_journal_witness_failures_total", witness="bad.example", reason=reason) == 1
            # Without a checkpoint of ours that shows it, nobody's word stops the server.
            assert not desk.lost
            assert (await desk.seal()).size > 0


async def test_a_cosignature_of_another_text_is_refused(world: JournalWorld) -> None:
    bad = Scripted("bad.example", (200, ""))
    other = Checkpoint(world.public.name, 1, bytes(32)).text
    bad.responses = [(200, cosign(other, bad.name, bad.key_of_mine, 1_790_000_000).line)]
    async with bad.running():
        witness = Witness(world.folder, bad.key, bad.url.removeprefix("http://"))
        async with world.desk([witness], checks=False) as desk:
            await desk.grow()
            assert cosigners((await desk.seal()).note, witness) == [False]


async def test_a_witness_ahead_of_what_we_thought_gets_the_proof_from_there(
    world: JournalWorld, two: list[Witness]
) -> None:
    async with world.desk(two[:1]) as desk:
        await desk.grow(20)
        await desk.seal()
    async with world.desk(two[:1], checks=False) as desk:  # this one believes it at 0
        await desk.grow(17)
        assert cosigners((await desk.seal()).note, two[0]) == [True]
        failed = desk.metric("trigpoint_journal_witness_failures_total", witness="w1.example", reason="conflict")
        assert failed is None


async def test_a_split_view_shown_to_one_of_two_witnesses_is_caught(
    world: JournalWorld, two: list[Witness], tmp_path: Path
) -> None:
    """A second store under the same key is shown to the first witness alone; the other has the first store's."""
    async with world.desk(two) as desk:
        await desk.grow(10)
        await desk.seal()
    kept = world.copy()
    async with world.desk(two[:1]) as desk:  # one view goes to the first witness
        await desk.grow(5)
        await desk.seal()
    other = JournalWorld(tmp_path / "other", world.key)
    other.folder.mkdir()
    other.restore(kept)
    async with other.desk(two[1:]) as desk:  # another one, from the same beginning, to the second
        await desk.grow(7)
        forked = await desk.seal()
        assert cosigners(forked.note, two[1]) == [True]
    # Whoever serves either store with both witnesses is caught, and at its start.
    for forking in (world, other):
        with pytest.raises(PastLostError, match=r"the witness w\d.example has a checkpoint of"):
            async with forking.desk(two):
                pass
    # And while it serves: the first seal that meets the other witness.
    async with other.desk(two[:1], checks=False) as desk:
        await desk.grow()
        await desk.seal()
        assert desk.lost == ["lost"]
        assert desk.metric("trigpoint_journal_past_lost") == 1
        await desk.grow()
        with pytest.raises(PastLostError, match=r"w1\.example"):
            await desk.seal()


async def test_the_anchor_never_shrinks_and_is_durable_before_anybody_sees_the_checkpoint(
    world: JournalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = (sign(Checkpoint("o", size, bytes(32)).text, "o", world.key) for size in (9, 8))
    anchor = Anchor(world.folder / "anchor")
    assert await anchor.read() is None
    for note in (small, large, small):
        await anchor.renew(bytes(note).decode())
    assert await anchor.read() == bytes(large)
    async with world.desk() as desk:
        await desk.grow()
        first = await desk.seal()
        await desk.grow()

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(AnchorError, match="No space"):
            await desk.seal()
        assert desk.sealer.newest == first == await desk.store.journal.newest()
        monkeypatch.undo()
        assert (await desk.seal()).size > first.size
    (world.folder / "anchor").write_text("no note")
    with pytest.raises(AnchorError, match="a note is"):
        await anchor.renew(bytes(large).decode())


@pytest.mark.parametrize("newest", [(404, ""), (405, ""), (200, "")])
@pytest.mark.parametrize(
    ("probed", "refused"), [((409, "999999\n"), True), ((409, "1\n"), False), ((200, "x"), False), ((403, ""), False)]
)
async def test_a_witness_that_keeps_to_the_specification_alone_is_asked_its_size(
    world: JournalWorld, newest: tuple[int, str], probed: tuple[int, str], *, refused: bool
) -> None:
    """At start: it does not say what it has, or says nonsense; a submission of an empty journal makes it tell."""
    async with Scripted("plain.example", newest, probed).running() as plain:
        witness = Witness(world.folder, plain.key, plain.url.removeprefix("http://"))
        if refused and newest[0] != 200:
            with pytest.raises(RolledBackError, match=r"plain\.example says that it cosigned 999999 entries"):
                async with world.desk([witness]):
                    pass
        else:
            async with world.desk([witness]) as desk:
                assert not desk.lost
    if newest[0] != 200:
        assert plain.requests[0].startswith(b"GET /checkpoint?origin=trigpoint.test%2Fjournal ")
        assert plain.requests[1].startswith(b"POST /add-checkpoint ")
        assert b"\r\n\r\nold 0\n\ntrigpoint.test/journal\n0\n" in plain.requests[1]


async def test_a_witness_shows_only_what_we_signed(world: JournalWorld) -> None:
    """A checkpoint that somebody else signed under our name stops nothing, at start nor later."""
    stranger = MemoryLog(origin=world.public.name)
    stranger.grow(1000)
    made_up = bytes(stranger.note()).decode()
    async with Scripted("bad.example", (200, made_up), (409, "1\n"), (422, ""), (200, made_up)).running() as bad:
        witness = Witness(world.folder, bad.key, bad.url.removeprefix("http://"))
        async with world.desk([witness]) as desk:
            await desk.grow(5)
            await desk.seal()
            assert [r.split(b" ")[0] for r in bad.requests] == [b"GET", b"POST", b"POST", b"GET"]
            assert not desk.lost


async def test_an_anchor_that_is_missing_or_cannot_be_read(world: JournalWorld) -> None:
    async with world.desk() as desk:
        await desk.grow()
    world.anchor.path.unlink()
    with capture_logs() as logs:
        async with world.desk() as desk:
            assert [entry["event"] for entry in logs] == ["anchor missing"]
    assert await world.anchor.read() is not None  # made anew when it was sealed at the end
    world.anchor.path.unlink()
    world.anchor.path.mkdir()
    with pytest.raises(RolledBackError, match="cannot be read"):
        async with world.desk():
            pass


async def test_a_store_swapped_under_a_running_server_is_noticed(world: JournalWorld) -> None:
    async with world.desk() as desk:
        await desk.grow(3)
        await desk.seal()
        large = desk.sealer.newest
        assert large is not None
        forged = sign(Checkpoint(world.public.name, large.size + 5, bytes(32)).text, world.public.name, world.key)
        desk.sealer.newest = SignedCheckpoint(large.size + 5, large.at, bytes(32), bytes(forged).decode())
        with pytest.raises(PastLostError, match="were signed by this process"):
            await desk.seal()
        assert desk.lost == ["lost"]
        with pytest.raises(PastLostError):
            await desk.past.until_lost()


async def test_a_log_rewritten_under_a_running_server_is_not_signed_once_it_has_grown(world: JournalWorld) -> None:
    """Its size alone tells nothing, and a checkpoint of it would take the place of the one in the anchor."""
    async with world.desk() as desk:
        await desk.grow(3)
        before = await desk.seal()
        last = before.size - 1
        with contextlib.closing(sqlite3.connect(world.path)) as database:
            frontier = Frontier(0, lambda _level, _number: b"")
            database.execute("UPDATE journal_entries SET leaf = zeroblob(32) WHERE entry = ?", (last,))
            leaves = database.execute("SELECT leaf FROM journal_entries ORDER BY entry").fetchall()
            nodes = [node for (leaf,) in leaves for node in frontier.append(leaf_hash(leaf))]
            database.executemany("INSERT OR REPLACE INTO journal_nodes VALUES (?, ?, ?)", nodes)
            database.commit()
        await desk.grow(2)
        with pytest.raises(PastLostError, match="were signed by this process"):
            await desk.seal()
        assert desk.lost == ["lost"]
        assert await world.anchor.read() == before.note.encode()

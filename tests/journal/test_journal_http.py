"""The journal as C2SP tlog-tiles, and the keys of results, on the port for who holds no certificate."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import pytest

from server.http import HttpServer, TileName, parse_tile
from server.store import Store
from server.store.errors import StoreUnavailableError
from server.store.journal_door import JournalDoor
from server.telemetry import Telemetry
from tests.store.journal_world import VKEY, by_hand, checkpoint, rows
from tests.store.store_world import START
from verifier.journal.checkpoints import Checkpoint
from verifier.journal.merkle import leaf_hash, root_of
from verifier.journal.notes import Note

JWKS = b'{"keys": []}'


@dataclass
class Site:
    """What a client that fetches over HTTP sees."""

    store: Store
    path: Path
    port: int

    async def get(self, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body

    async def body(self, path: str) -> bytes:
        status, _, body = await self.get(path)
        assert status == 200, path
        return body


@pytest.fixture
async def site(store_path: Path) -> AsyncIterator[Site]:
    store = await Store.open(store_path)
    server = HttpServer(Telemetry().registry, lambda: True, journal=store.journal, jwks=JWKS)
    yield Site(store, store_path, await server.start("127.0.0.1", 0))
    await server.stop()
    await store.close()


async def test_a_client_recomputes_the_checkpoint_from_tiles(site: Site) -> None:
    """Over a full tile: what a client computes from the tiles alone is the root that was signed."""
    for number in range(300):
        await site.store.mark_alive(f"node-{number}", START)
    await checkpoint(site.store)
    note = Note.parse(await site.body("/checkpoint"))
    assert note.signed_by(VKEY)
    told = Checkpoint.parse(note.text)
    full, rest = divmod(told.size, 256)
    assert (full, rest > 0) == (1, True)
    hashes = await site.body("/tile/0/000") + await site.body(f"/tile/0/001.p/{rest}")
    leaves = [hashes[at : at + 32] for at in range(0, len(hashes), 32)]
    assert len(leaves) == told.size
    assert root_of(leaves) == told.root
    assert await site.body("/tile/1/000.p/1") == root_of(leaves[:256])
    entries = await site.body("/tile/entries/000") + await site.body(f"/tile/entries/001.p/{rest}")
    assert len(entries) == told.size * 34
    for at, leaf in enumerate(leaves):
        length, data = entries[34 * at : 34 * at + 2], entries[34 * at + 2 : 34 * at + 34]
        assert length == (32).to_bytes(2, "big")
        assert leaf_hash(data) == leaf


async def test_types_and_caching(site: Site) -> None:
    size, _ = await site.store.journal.state()
    forever = "public, max-age=31536000, immutable"
    expected = {
        "/checkpoint": ("text/plain; charset=utf-8", "max-age=5"),
        f"/tile/0/000.p/{size}": ("application/octet-stream", forever),
        "/tile/entries/000.p/1": ("application/octet-stream", forever),
        "/.well-known/jwks.json": ("application/jwk-set+json", "max-age=300"),
        "/healthz": ("text/plain; charset=utf-8", "no-store"),
    }
    for path, (content_type, caching) in expected.items():
        status, head, body = await site.get(path)
        assert (status, head["Content-Type"], head["Cache-Control"]) == (200, content_type, caching)
        assert int(head["Content-Length"]) == len(body) > 0
        assert (await site.get(path, "HEAD"))[2] == b""
    assert json.loads(await site.body("/.well-known/jwks.json")) == {"keys": []}


@pytest.mark.parametrize(
    "path",
    [
        "/tile/0/000",
        "/tile/0/000.p/255",
        "/tile/0/001.p/1",
        "/tile/1/000.p/1",
        "/tile/8/x001/000",
        "/tile/63/000.p/1",
        "/tile/0/x999/x999/x999/x999/x999/999.p/1",
        "/tile/entries/000",
        "/tile/entries/x001/000.p/9",
        "/checkpoints",
    ],
)
async def test_what_the_log_does_not_have_yet(site: Site, path: str) -> None:
    status, head, _ = await site.get(path)
    assert (status, head["Cache-Control"]) == (404, "no-store")


async def test_before_the_first_checkpoint(site: Site) -> None:
    by_hand(site.path, "DELETE FROM journal_checkpoints")
    assert rows(site.path, "SELECT count(*) FROM journal_checkpoints") == [(0,)]
    assert (await site.get("/checkpoint"))[0] == 404


async def gone(*_: object, **__: object) -> Never:
    """A store that does not answer."""
    raise StoreUnavailableError("the disk is gone, says the test")


async def test_a_store_that_does_not_answer(site: Site) -> None:
    server = HttpServer(Telemetry().registry, lambda: True, journal=JournalDoor(gone, gone))
    broken = Site(site.store, site.path, await server.start("127.0.0.1", 0))
    assert [(await broken.get(path))[0] for path in ("/checkpoint", "/tile/0/000", "/healthz")] == [503, 503, 200]
    await server.stop()


async def test_a_server_that_tells_of_no_journal(site: Site) -> None:
    server = HttpServer(Telemetry().registry, lambda: True)
    bare = Site(site.store, site.path, await server.start("127.0.0.1", 0))
    for path in ("/checkpoint", "/tile/0/000", "/.well-known/jwks.json"):
        assert (await bare.get(path))[0] == 404
    await server.stop()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/tile/0/000", TileName(0, 0, 256)),
        ("/tile/0/x001/x234/067", TileName(0, 1_234_067, 256)),
        ("/tile/63/999.p/255", TileName(63, 999, 255)),
        ("/tile/entries/x001/000.p/7", TileName(None, 1_000, 7)),
    ],
)
def test_paths_of_tiles(path: str, name: TileName) -> None:
    assert parse_tile(path) == name


@pytest.mark.parametrize(
    "path",
    [
        "/tile/0/0",
        "/tile/0/1234",
        "/tile/00/000",
        "/tile/64/000",
        "/tile/-1/000",
        "/tile/0/001/234",
        "/tile/0/x001",
        "/tile/0/x000/067",
        "/tile/0/x000/x000/067",
        "/tile/0/x1/067",
        "/tile/0/000.p/0",
        "/tile/0/000.p/256",
        "/tile/0/000.p/01",
        "/tile/0/000.p/",
        "/tile/0/000/",
        "/tile/0/000?x",
        "/tile/entries",
        "/tile/entries/0/000",
        "/tile/0/\N{ARABIC-INDIC DIGIT ONE}00",
        "/tile/0/" + "x999/" * 6 + "999",
        "/tile/0/" + "x999/" * 40 + "999",
        "/tile/0/../../etc/passwd",
    ],
)
def test_paths_of_no_tile(path: str) -> None:
    assert parse_tile(path) is None

"""What verdicts are made with is kept once, by its hash."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from server.store import Store
from server.times import micros
from tests.store.store_world import HOUR, START, device, pdi, record
from verifier.basis import Basis
from verifier.setting import BORDERS, REGION, ROOT, Material


def kept(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as store:
        return store.execute("SELECT kind, name, data, since FROM materials ORDER BY kind, since, data").fetchall()


async def test_a_file_is_kept_once_and_since_when_it_was_first_used(store: Store, store_path: Path) -> None:
    borders, root = Material(BORDERS, "1", b"land"), Material(ROOT, "vendor.pem", b"root")
    await store.keep_materials([borders, root, root], START)
    await store.keep_materials(
        [borders, Material(ROOT, "renamed.pem", b"root"), Material(BORDERS, "2", b"sea")], START + HOUR
    )
    assert kept(store_path) == [
        (BORDERS, "1", b"land", micros(START)),
        (BORDERS, "2", b"sea", micros(START + HOUR)),
        (ROOT, "vendor.pem", b"root", micros(START)),
    ]
    with closing(sqlite3.connect(store_path)) as other:
        (digest,) = other.execute("SELECT sha256 FROM materials WHERE data = ?", (b"root",)).fetchone()
    assert digest == root.sha256


async def test_nothing_new_writes_nothing(store: Store) -> None:
    await store.keep_materials([Material(BORDERS, "1", b"land")], START)
    size, _ = await store.journal.state()
    await store.keep_materials([Material(BORDERS, "1", b"land")], START + HOUR)
    assert (await store.journal.state())[0] == size


async def test_long_regions_are_kept_with_the_first_verdict_that_names_them(store: Store, store_path: Path) -> None:
    yard, lot = (Material(REGION, "", name.encode() * 2_000) for name in ("y", "l"))
    for hour, regions in enumerate([(yard,), (lot, yard), (yard,)]):
        basis = Basis("common", {pdi(hour): f"of {hour}"}, regions)
        await store.commit([replace(record(START + hour * HOUR, [device(hour)]), basis=basis)])
    assert kept(store_path) == [
        (REGION, "", yard.data, micros(START)),
        (REGION, "", lot.data, micros(START + HOUR)),
    ]
    with closing(sqlite3.connect(store_path)) as other:
        assert other.execute("SELECT DISTINCT basis FROM evidence").fetchall() == [("common",)]
        bases = other.execute("SELECT basis FROM device_verdicts ORDER BY pdi").fetchall()
    assert bases == [("of 0",), ("of 1",), ("of 2",)]

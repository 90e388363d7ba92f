"""A case as a file: every hash, path and signature in it holds (docs/protocol.md CB1, CB2), and who is given which."""

import asyncio
import io
import json
from dataclasses import dataclass, replace
from hashlib import sha256

import pytest
from sqlalchemy import update

from server.desk import bundle_file
from server.desk.bundle import Bundle, CaseExporter, ExportOrder, OtherJurisdictionError
from server.desk.bundle_file import BundleTooLargeError
from server.store.errors import RecordNotFoundError, StoreUnavailableError
from server.store.journal_types import SignedCheckpoint
from server.store.schema import CASES
from server.times import micros
from tests.bundle_export.export_world import (
    BORDERS,
    FOREIGN,
    JWKS,
    KEY,
    ORIGIN,
    ExportWorld,
    Signer,
    add_exhibit,
    board,
)
from tests.bundle_export.reader import Opened, opened
from tests.store.store_world import HOUR, START, pdi

ORDER = ExportOrder(1, "officer/ann", None, None, "asked by the prosecutor")
NOW = START + 30 * HOUR


async def export(world: ExportWorld, order: ExportOrder = ORDER, signer: Signer | None = None) -> bytes:
    exporter = CaseExporter(world.store, signer or world.signer, KEY, ORIGIN, JWKS)
    async with exporter.exported(order, NOW) as bundle:
        return b"".join([piece async for piece in bundle.pieces()])


@pytest.fixture
async def whole(world: ExportWorld) -> Opened:
    await add_exhibit(world, b"a log, " * 100)
    return opened(await export(world))


async def test_every_proof_holds_and_every_row_is_as_it_stands(world: ExportWorld, whole: Opened) -> None:
    assert whole.case == "cases/1"
    assert whole.body["exported"] == {
        "at": micros(NOW),
        "by": "officer/ann",
        "jurisdiction": "",
        "reason": "asked by the prosecutor",
    }
    assert whole.body["results"] == {"keys": []}
    assert whole.body["left_out"] == whole.withheld == []
    expected = await world.rows()
    count = sum(len(rows) for rows in whole.rows.values())
    assert count == len(expected.rows)
    assert {row["challenge"] for row in whole.rows["attestations"]} == {
        world.reports[name] for name in ("proof", "before", "opened", "ended", "newest")
    }
    assert whole.rows["exhibits"][0]["data"] == b"a log, " * 100
    assert whole.rows["evidence"][0]["claims"][:1] == b"\xa6"  # a map of six
    assert b'"records"' in whole.rows["evidence"][0]["basis"]
    ((key, material),) = whole.body["materials"].items()
    assert (key, material["kind"]) == (sha256(BORDERS).hexdigest(), "borders")


async def test_numbers_keep_their_kind(whole: Opened) -> None:
    landmark = whole.rows["landmark_revisions"][0]
    assert isinstance(landmark["latitude"], float)
    assert landmark["virtual_machine"] == 0
    assert type(landmark["virtual_machine"]) is int
    assert landmark["valid_until"] is None
    packed = [row["presence_proven"] for row in whole.rows["device_verdicts"]]
    assert {type(each) for each in packed} == {int}


async def test_the_checkpoints_that_challenges_name_are_extended(world: ExportWorld, whole: Opened) -> None:
    named = {world.checkpoints[name] for name in ("proof", "before", "opened", "ended", "newest")}
    texts = [each["note"].partition("\n\n")[0] + "\n" for each in whole.body["journal"]["earlier"]]
    assert {sha256(text.encode()).digest() for text in texts} == named


async def test_of_others_nothing_is_readable(world: ExportWorld) -> None:
    file = await export(world, replace(ORDER, jurisdiction="DE"))
    found = opened(file)
    text = json.dumps(found.body)
    whole = opened(await export(world))
    assert len(found.withheld) + sum(map(len, found.rows.values())) == sum(map(len, whole.rows.values()))
    assert found.body["exported"]["jurisdiction"] == "DE"
    assert {each["withheld"] for each in found.withheld} == {"belongs to another jurisdiction"}
    for secret in ("Hall sin", "licenses/D2"):
        assert secret in json.dumps(whole.body)
        assert secret not in text
    assert {row["pdi"] for row in found.rows["device_verdicts"]} == {pdi(1), pdi(2), pdi(9)}
    # The results name devices of others: their rows are proven, and what they say is not given.
    assert [each["count"] for each in found.body["left_out"] if each["what"] == "values"] == [1]
    assert all(isinstance(row["result"], dict) for row in found.rows["attestations"])
    assert all(isinstance(row["result"], bytes) for row in whole.rows["attestations"])


async def test_a_value_that_is_hidden_in_one_row_and_given_in_another_is_given(world: ExportWorld) -> None:
    await world.attest("alone", START + 8 * HOUR, board(without=[FOREIGN]))
    found = opened(await export(world, replace(ORDER, jurisdiction="DE")))
    given = [row for row in found.rows["attestations"] if isinstance(row["result"], bytes)]
    assert [row["challenge"] for row in given] == [world.reports["alone"]]


async def test_one_case_is_one_file_and_the_same_file(world: ExportWorld) -> None:
    await world.signer.seal(patient=True)
    assert await export(world) == await export(world)


async def test_two_of_one_reader_of_another_are_refused(world: ExportWorld) -> None:
    with pytest.raises(RecordNotFoundError):
        await export(world, replace(ORDER, number=7))
    with pytest.raises(RecordNotFoundError):
        await export(world, replace(ORDER, sees="SG", jurisdiction="SG"))
    with pytest.raises(OtherJurisdictionError, match="of DE: nobody of SG"):
        await export(world, replace(ORDER, jurisdiction="SG"))


async def test_rows_that_change_meanwhile_are_sealed_again(world: ExportWorld) -> None:
    class Late(Signer):
        """The case changes behind the first two checkpoints."""

        async def seal(self, *, patient: bool = False) -> SignedCheckpoint:
            assert patient
            signed = await super().seal(patient=patient)
            if self.sealed <= limit:
                change = update(CASES).values(title=f"{limit} {self.sealed}")
                await self.store._write(lambda connection: connection.execute(change))
            return signed

    limit = 2
    late = Late(world.store)
    found = opened(await export(world, signer=late))
    assert late.sealed == 3
    assert found.rows["cases"][0]["title"] == "2 2"
    limit = 1_000
    with pytest.raises(StoreUnavailableError):
        await export(world, signer=Late(world.store))


async def test_what_is_too_large_is_refused(world: ExportWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_file, "MAX_BODY_BYTES", 10_000)
    with pytest.raises(BundleTooLargeError):
        await export(world)


async def test_pieces_join_to_the_file_whatever_its_size() -> None:
    for size in (0, 1, (1 << 20) - 7, (1 << 20) - 6, 3 << 20):
        bundle = Bundle(b"header", io.BytesIO(b"x" * size), 0)
        pieces = [piece async for piece in bundle.pieces()]
        assert b"".join(pieces) == b"header" + b"x" * size
        assert all(0 < len(piece) <= 1 << 20 for piece in pieces)


async def test_exports_at_once_are_bounded(world: ExportWorld) -> None:
    @dataclass
    class Counting(Signer):
        now: int = 0
        most: int = 0

        async def seal(self, *, patient: bool = False) -> SignedCheckpoint:
            assert patient
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.05)
            signed = await super().seal(patient=patient)
            self.now -= 1
            return signed

    counting = Counting(world.store)
    exporter = CaseExporter(world.store, counting, KEY, ORIGIN, JWKS)

    async def one() -> bytes:
        async with exporter.exported(ORDER, NOW) as bundle:
            return bundle.header

    assert len(set(await asyncio.gather(*(one() for _ in range(5))))) == 1
    assert counting.most == 2

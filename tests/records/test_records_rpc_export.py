"""An export is a file that an import takes back, and finds unchanged."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trigpoint.v1 import place_pb2, records_pb2

from server.records.values import ByBoard, ByKey, ByPdi, LicenseRecord
from server.rpc.destinations import Destinations
from server.rpc.export import row_values
from server.rpc.rows import COLUMNS, RowRules, read_row
from server.store.types import ImportRow, ImportShipment
from tests.licensing.licensing_world import policy
from tests.records.records_rpc_world import (
    NOW,
    World,
    Write,
    deployment_write,
    json_rows,
    license_write,
    party,
    serve,
    site_write,
)
from verifier.license import License, LicenseState, Presence
from verifier.place.geodesy import Position
from verifier.place.regions import AnyOf, Countries, Group, Polygon, Region, SiteDisc
from verifier.units import CountryCode, DeviceKeyId, Pdi

FRA1 = "licenses/D1/sites/fra1"
DRAWN = '{"type":"MultiPolygon","coordinates":[[[[8,50],[9,50],[8,51],[8,50]]],[[[1.5,1],[2,1],[2,2],[1.5,1]]]]}'
RULES = RowRules(frozenset({"DE", "A:5"}), Destinations(policy()))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with serve(tmp_path / "trigpoint.db") as opened:
        yield opened


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=12)
times = st.integers(0, 10**15).map(lambda us: NOW + timedelta(microseconds=us))
spans = st.lists(times, min_size=2, max_size=2, unique=True).map(sorted)
ids = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
selectors = st.one_of(
    st.binary(min_size=8, max_size=8).map(lambda raw: ByPdi(Pdi(raw))),
    st.binary(min_size=32, max_size=32).map(lambda raw: ByKey(DeviceKeyId(raw))),
    st.builds(lambda raw, count: ByBoard(Pdi(raw), count), st.binary(min_size=8, max_size=8), st.integers(1, 64)),
)
rings = st.lists(st.tuples(st.floats(-60, 60), st.floats(-80, 80)), min_size=3, max_size=5).map(tuple)


@st.composite
def rows(draw: st.DrawFn) -> ImportRow:
    title = draw(texts)
    disc = SiteDisc(title, Position(draw(st.floats(-90, 90)), draw(st.floats(-180, 180))), draw(st.floats(0.01, 1_000)))
    areas = draw(st.lists(st.builds(lambda ring: Polygon(title, (ring,)), rings), min_size=2, max_size=3))
    places: list[Region] = [disc, areas[0], AnyOf(tuple(areas))]
    whole: list[Region] = [Countries(frozenset({CountryCode("DE")})), Group("A:5")]
    presence = draw(st.sampled_from(Presence))
    region = draw(st.sampled_from(whole if presence is Presence.COUNTRY else places))
    start, end = draw(spans)
    terms = License(
        number=draw(texts),
        licensee=draw(texts),
        valid_from=start,
        valid_until=end,
        presence=presence,
        cadence=timedelta(seconds=draw(st.integers(1, 366 * 86_400))),
        grace=timedelta(seconds=draw(st.integers(0, 366 * 86_400))),
        revision=0,
        state=LicenseState.DRAFT,
    )
    held = LicenseRecord(terms, eccn=draw(st.just("") | texts), quantity=draw(st.none() | st.integers(1, 10**9)))
    shipped = draw(st.none() | st.tuples(ids, spans))
    shipment = None if shipped is None else ImportShipment(shipped[0], *shipped[1])
    return ImportRow(draw(selectors), held, title, region, RULES.destinations.jurisdiction(region), shipment)


@given(rows())
def test_a_row_reads_back_the_same(row: ImportRow) -> None:
    values = row_values(row)
    assert read_row(values, RULES) == row
    assert read_row({name: str(value) for name, value in values.items()}, RULES) == row  # as CSV has it


async def fill(world: World) -> None:
    """Records of every kind that a file tells of, and with everything that none tells."""
    first = license_write(quantity=9)
    first.record.license.eccn = "3A090.a"
    first.record.license.tolerated_domains = 3
    first.record.license.surprises_per_day = 0
    first.record.license.assurance = place_pb2.ASSURANCE_SIGNED_RANGE
    first.record.license.valid_from.nanos = 123_456_000
    second = license_write("D 2", parties=())
    second.record.name = "licenses/D_202"
    second.record.license.presence = place_pb2.PRESENCE_COUNTRY
    drawn = Write(
        record=records_pb2.Record(
            name="licenses/D1/sites/two", site=records_pb2.Site(title='"Hall", 2', polygon=DRAWN, address="Somewhere 1")
        )
    )
    germany = Write(
        record=records_pb2.Record(
            name="licenses/D_202/sites/anywhere", site=records_pb2.Site(title="Germany", country="DE")
        )
    )
    group = Write(
        record=records_pb2.Record(name="licenses/D_202/sites/a5", site=records_pb2.Site(title="A:5", country="A:5"))
    )
    brings = records_pb2.Shipment(site=FRA1, reference="waybill 7")
    brings.shipped_at.FromDatetime(NOW)
    brings.activation_by.FromDatetime(NOW + timedelta(days=20))
    shipment = Write(record=records_pb2.Record(name="shipments/s1", shipment=brings))
    swapped = deployment_write(2, "licenses/D1/sites/two")
    swapped.record.deployment.swap.switches.append("00000000000000aa")
    swapped.record.deployment.swap.until.FromDatetime(NOW + timedelta(days=1))
    key = Write(
        record=records_pb2.Record(
            name=f"deployments/key-{'ab' * 32}", deployment=records_pb2.Deployment(site="licenses/D_202/sites/anywhere")
        )
    )
    board = Write(
        record=records_pb2.Record(
            name="deployments/board-00000000000000ff", deployment=records_pb2.Deployment(site=FRA1, devices=4)
        )
    )
    await world.write(party(), first, second, site_write(), drawn, germany, group, shipment)
    await world.write(
        deployment_write(1, shipment="shipments/s1"),
        swapped,
        deployment_write(0xCC << 56, "licenses/D_202/sites/a5"),
        key,
        board,
    )


@pytest.mark.parametrize("json_array", [False, True])
@pytest.mark.parametrize("state", ["DRAFT", "ACTIVE"])
async def test_an_export_comes_back_unchanged_and_changes_nothing(
    world: World, state: str, *, json_array: bool
) -> None:
    await fill(world)
    if state == "ACTIVE":
        await world.set_state("ACTIVE")
    kinds = records_pb2.RecordKind.values()[1:]
    before = [await world.names(kind) for kind in kinds]
    content = await world.export(json_array=json_array)
    response = await world.import_back(content, json_array=json_array)
    assert not response.errors
    assert (response.created_count, response.updated_count, response.unchanged_count) == (0, 0, 5)
    assert not response.HasField("change")
    assert [await world.names(kind) for kind in kinds] == before
    assert await world.export(json_array=json_array) == content
    request = records_pb2.ListRevisionsRequest(page_size=1_000)
    revisions = await world.records.ListRevisions(request, metadata=(("trigpoint-dev-role", "auditor/eve"),))
    assert len(revisions.revisions) == 13 + (state == "ACTIVE")


async def test_an_export_has_the_columns_of_an_import_and_the_chosen_rows(world: World) -> None:
    await fill(world)
    table = list(csv.reader(io.StringIO((await world.export('license = "D1"')).decode(), newline="")))
    assert tuple(table[0]) == COLUMNS
    assert [row[0] for row in table[1:]] == ["0000000000000001", "0000000000000002", ""]
    first = dict(zip(COLUMNS, table[1], strict=True))
    assert first["valid_from"] == "2026-06-01T12:00:00.123456Z"
    assert (first["site_name"], first["shipment"], first["license_quantity"]) == ("Frankfurt 1", "s1", "9")
    rows = json_rows(await world.export('site = "two"', json_array=True))
    assert [row["site_name"] for row in rows] == ['"Hall", 2']
    assert isinstance(rows[0]["site_polygon"], dict)


async def test_an_export_of_nothing_is_a_file_too(world: World) -> None:
    assert (await world.export()).decode().strip().split(",") == list(COLUMNS)
    assert json_rows(await world.export(json_array=True)) == []
    for json_array in (False, True):
        assert not (await world.import_back(await world.export(json_array=json_array), json_array=json_array)).errors

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from trigpoint.v1 import licensing_pb2

from server.records.names import license_name, site_name
from server.records.values import DeploymentRecord, LicenseRecord, Site
from server.rpc.imports import FileFormat, read_file
from server.rpc.rows import COLUMNS, read_row
from server.store import StoreUnavailableError
from server.store.staging import Staging
from server.store.types import ImportRow
from tests.licensing.licensing_world import NOW, Row, World, country_row, problems, row_rules, site_row
from tests.store.store_world import Gate
from verifier.license import Deployment, Presence
from verifier.place.regions import Countries, Group, Polygon, SiteDisc
from verifier.units import Pdi

JSON = licensing_pb2.IMPORT_FORMAT_JSON
CSV = licensing_pb2.IMPORT_FORMAT_CSV
SITE_DISC = {"site_latitude", "site_longitude", "site_radius_km"}


async def deployed(world: World, number: int) -> Deployment | None:
    """What is on record of a device, in force or not."""
    stored = await world.store.records.get(f"deployments/{number:016x}")
    if stored is None:
        return None
    assert isinstance(stored.record, DeploymentRecord)
    held = await world.store.records.get(license_name(stored.record.license_number))
    site = await world.store.records.get(site_name(stored.record.license_number, stored.record.site_id))
    assert held is not None
    assert site is not None
    assert isinstance(held.record, LicenseRecord)
    assert isinstance(site.record, Site)
    return Deployment(Pdi(number.to_bytes(8, "big")), held.record.terms, site.record.region)


async def test_json_becomes_deployments(world: World) -> None:
    response = await world.send_rows([site_row(1), country_row(2)])
    assert (response.row_count, response.created_count, response.error_count) == (2, 2, 0)
    first, second = await deployed(world, 1), await deployed(world, 2)
    assert first is not None
    assert second is not None
    assert isinstance(first.region, SiteDisc)
    assert (first.region.name, first.region.radius_km) == ("Frankfurt 1", 25.0)
    assert second.region == Countries(frozenset({"DE"}))  # type: ignore[arg-type]
    assert (first.license.presence, second.license.presence) == (Presence.SITE, Presence.COUNTRY)
    assert first.license.cadence == timedelta(hours=1)
    # Valid from the first instant of the first day to the last one of the last day.
    assert first.license.valid_from == datetime(2026, 1, 1, tzinfo=UTC)
    assert first.license.valid_until == datetime(2027, 1, 1, tzinfo=UTC)


async def test_csv_says_the_same_as_json(world: World) -> None:
    site = '0000000000000001,D1,Example Cloud,2026-01-01,2026-12-31,site,"Frankfurt 1",50.11,8.68,25,,3600,600'
    country = "0000000000000002,D2,Example Cloud,2026-01-01,2026-12-31,country,,,,,DE,3600,600"
    response = await world.send_csv(site, ",,,,,,,,,,,,", country)
    assert (response.row_count, response.created_count, response.error_count) == (2, 2, 0)
    response = await world.send_rows([site_row(1), country_row(2)])
    assert (response.created_count, response.updated_count, response.unchanged_count) == (0, 0, 2)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"site_latitude": 91}, "must be 90 or less"),
        ({"site_latitude": "north"}, "is not a number"),
        ({"site_latitude": "nan"}, "is not a finite number"),
        ({"site_radius_km": 0}, "must be above 0"),
        ({"site_radius_km": "1001"}, "must be 1,000 or less"),
        ({"cadence_s": "1.5"}, "is not a whole number"),
        ({"cadence_s": 31_622_401}, "must be 31,622,400 or less"),
        ({"grace_s": -1}, "must be 0 or more"),
        ({"presence": "sight"}, "must be 'site', 'country' or 'outside_prohibited'"),
        ({"licensee": ""}, "is empty"),
        ({"licensee": "x" * 129}, "has more than 128 characters"),
    ],
)
async def test_row_problems_are_told_in_plain_words(world: World, change: Row, told: str) -> None:
    response = await world.send_rows([{**site_row(1), **change}])
    ((field, _),) = change.items()
    assert [(error.field, error.message) for error in response.errors] == [(field, told)]


async def test_a_drawn_site_that_is_none_is_told_without_a_name(world: World) -> None:
    geometry = {"type": "Polygon", "coordinates": [[[8, 95], *SQUARE[1:-1], [8, 95]]]}
    response = await world.send_rows([drawn_row(1, geometry)])
    assert [error.message for error in response.errors] == ["a position is not on Earth (longitude comes first)"]


SQUARE = [[8.0, 50.0], [9.0, 50.0], [9.0, 50.5], [8.0, 50.5], [8.0, 50.0]]


def drawn_row(number: int, geometry: object) -> Row:
    row = {name: value for name, value in site_row(number).items() if name not in SITE_DISC}
    return {**row, "site_polygon": geometry}


async def test_country_may_be_a_group(world: World) -> None:
    response = await world.send_rows([{**country_row(1), "country": "A:5"}])
    assert response.created_count == 1
    found = await deployed(world, 1)
    assert found is not None
    assert found.region == Group("A:5")
    response = await world.send_rows([{**country_row(1), "country": "A:7"}])
    assert problems(response) == [(1, "country")]
    assert "no country group of the list in force" in response.errors[0].message


async def test_site_may_be_drawn(world: World) -> None:
    geometry = {"type": "Polygon", "coordinates": [SQUARE]}
    response = await world.send_rows([drawn_row(1, geometry)])
    assert response.created_count == 1, response
    found = await deployed(world, 1)
    assert found is not None
    assert found.region == Polygon("Frankfurt 1", (tuple((x, y) for x, y in SQUARE[:-1]),))
    # The same as text, as a CSV field holds it, changes nothing.
    response = await world.send_rows([drawn_row(1, json.dumps(geometry))])
    assert response.unchanged_count == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"site_polygon": "not JSON"}, "site_polygon"),
        ({"site_polygon": {"type": "Point", "coordinates": [8, 50]}}, "site_polygon"),
        ({"site_polygon": {"type": "Polygon", "coordinates": [SQUARE[:-1]]}}, "site_polygon"),
        ({"site_polygon": {"type": "Polygon", "coordinates": [[[8, 95], *SQUARE[1:-1], [8, 95]]]}}, "site_polygon"),
        ({"site_polygon": "[" * 100_000}, "site_polygon"),
        ({"site_radius_km": 25}, "site_radius_km"),
        ({"site_name": None}, "site_name"),
        ({"country": "DE"}, "country"),
    ],
)
async def test_drawn_site_that_is_none(world: World, change: Row, field: str) -> None:
    row = {**drawn_row(1, {"type": "Polygon", "coordinates": [SQUARE]}), **change}
    assert (1, field) in problems(await world.send_rows([row]))


async def test_times_with_zones_are_exact(world: World) -> None:
    row = country_row(1, valid_from="2026-01-01T08:00:00.5+08:00", valid_until="2026-07-01t00:00:00z")
    assert not (await world.send_rows([row])).errors
    held = await deployed(world, 1)
    assert held is not None
    assert held.license.valid_from == datetime(2026, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)
    assert held.license.valid_until == datetime(2026, 7, 1, tzinfo=UTC)


async def test_dry_run_counts_and_changes_nothing(world: World) -> None:
    await world.send_rows([site_row(1), country_row(2)])
    rows = [site_row(1), country_row(2, country="SG"), site_row(3)]
    response = await world.send_rows(rows, validate_only=True)
    assert response.validate_only
    assert (response.created_count, response.updated_count, response.unchanged_count) == (1, 1, 1)
    assert await deployed(world, 3) is None


async def test_one_bad_row_imports_none(world: World) -> None:
    response = await world.send_rows([site_row(1), site_row(2, site_latitude=91), site_row(3)])
    assert problems(response) == [(2, "site_latitude")]
    assert response.errors[0].value == "91"
    assert (response.row_count, response.created_count, response.error_count) == (3, 0, 1)
    assert await deployed(world, 1) is None


BAD_ROWS: Sequence[tuple[Row, str]] = [
    (site_row(1, device_pdi="1"), "device_pdi"),
    (site_row(1, device_pdi="zzzzzzzzzzzzzzzz"), "device_pdi"),
    (site_row(1, device_pdi=None), "device_pdi"),
    (site_row(1, device_pdi=1), "device_pdi"),
    (site_row(1, license_number=""), "license_number"),
    (site_row(1, license_number=17), "license_number"),
    (site_row(1, licensee="x" * 129), "licensee"),
    (site_row(1, licensee="a\u0000b"), "licensee"),
    (site_row(1, licensee="a\ud800b"), "licensee"),
    (site_row(1, valid_from="01.01.2026"), "valid_from"),
    (site_row(1, valid_from="2026-02-30"), "valid_from"),
    (site_row(1, valid_from="2026-01-01T00:00:00"), "valid_from"),
    (site_row(1, valid_from="0001-01-01T00:00:00+23:59"), "valid_from"),
    (site_row(1, valid_until="9999-12-31"), "valid_until"),
    (site_row(1, valid_until="2025-12-30"), "valid_until"),
    (site_row(1, valid_until="2026-01-01T00:00:00Z"), "valid_until"),
    (site_row(1, presence="somewhere"), "presence"),
    (country_row(1, presence="site"), "presence"),
    (site_row(1, presence="country"), "presence"),
    (site_row(1, site_name=None), "site_name"),
    (site_row(1, site_radius_km=None), "site_radius_km"),
    (site_row(1, site_radius_km=0), "site_radius_km"),
    (site_row(1, site_radius_km=1_001), "site_radius_km"),
    (site_row(1, site_radius_km="wide"), "site_radius_km"),
    (site_row(1, site_longitude=True), "site_longitude"),
    (site_row(1, site_longitude="nan"), "site_longitude"),
    (site_row(1, site_longitude=-180.5), "site_longitude"),
    (site_row(1, country="DE"), "country"),
    (country_row(1, country="XX"), "country"),
    (country_row(1, country="de"), "country"),
    (country_row(1, country=None), ""),
    (site_row(1, cadence_s=0), "cadence_s"),
    (site_row(1, cadence_s=1.5), "cadence_s"),
    (site_row(1, cadence_s=True), "cadence_s"),
    (site_row(1, grace_s=-1), "grace_s"),
    (site_row(1, colour="red"), "colour"),
    (site_row(1, country=["DE"]), "country"),
    (site_row(1, device_key_id="ab" * 32), "device_key_id"),
    (site_row(1, board="4100000000000001", board_devices=8), "board"),
    (site_row(1, device_pdi=None, device_key_id="ab" * 31), "device_key_id"),
    (site_row(1, device_pdi=None, board="4100000000000001"), "board_devices"),
    (site_row(1, device_pdi=None, board="4100000000000001", board_devices=65), "board_devices"),
    (site_row(1, device_pdi=None, board="4100000000000001", board_devices=0), "board_devices"),
    (site_row(1, board_devices=8), "board_devices"),
    (site_row(1, eccn="x" * 33), "eccn"),
    (site_row(1, license_quantity=0), "license_quantity"),
    (site_row(1, license_quantity="many"), "license_quantity"),
    (site_row(1, shipment="s1"), "shipped_on"),
    (site_row(1, shipped_on="2026-02-01"), "shipment"),
    (site_row(1, shipment="S 1", shipped_on="2026-02-01", activation_by="2026-03-01"), "shipment"),
    (site_row(1, shipment="s1", shipped_on="2026-02-02", activation_by="2026-02-01"), "activation_by"),
    (site_row(1, shipment="s1", shipped_on="2026-02-02", activation_by="9999-12-31"), "activation_by"),
]


@pytest.mark.parametrize(("row", "field"), BAD_ROWS)
async def test_error_names_row_and_field(world: World, row: Row, field: str) -> None:
    response = await world.send_rows([site_row(9, license_number="D9"), row])
    assert (2, field) in problems(response)
    assert {error.row for error in response.errors} == {2}
    assert all(error.message for error in response.errors)
    assert await deployed(world, 9) is None


@pytest.mark.parametrize("presence", ["site", "outside_prohibited"])
async def test_presence_takes_what_it_can_be_shown_in(world: World, presence: str) -> None:
    assert not (await world.send_rows([site_row(1, presence=presence)])).errors


async def test_outside_prohibited_takes_a_country_too(world: World) -> None:
    assert not (await world.send_rows([country_row(1, presence="outside_prohibited")])).errors


async def test_device_twice_names_both_rows(world: World) -> None:
    response = await world.send_rows([site_row(1), site_row(2), site_row(1)])
    assert problems(response) == [(3, "device_pdi")]
    assert response.errors[0].value == f"{1:016x}"
    assert "rows 1 and 3" in response.errors[0].message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("licensee", "Other"),
        ("valid_from", "2026-01-02"),
        ("valid_until", "2026-12-30"),
        ("presence", "outside_prohibited"),
        ("cadence_s", 7200),
        ("grace_s", 0),
        ("eccn", "4A090.a"),
        ("license_quantity", 64),
    ],
)
async def test_rows_of_one_license_agree(world: World, field: str, value: object) -> None:
    first = site_row(1, eccn="3A090.a", license_quantity=8)
    response = await world.send_rows([first, country_row(7), site_row(2, **{field: value})])
    assert problems(response) == [(3, field)]
    assert "rows 1 and 3 of license D1" in response.errors[0].message


async def test_errors_are_listed_up_to_a_thousand_and_all_counted(world: World) -> None:
    response = await world.send_rows([site_row(number, cadence_s=0) for number in range(1, 1_206)])
    assert (len(response.errors), response.error_count, response.row_count) == (1_000, 1_205, 1_205)


async def test_long_values_are_cut(world: World) -> None:
    response = await world.send_rows([site_row(1, licensee="x" * 5_000)])
    assert response.errors[0].value == "x" * 200


@pytest.mark.parametrize(
    ("content", "row", "word"),
    [
        (b"", 0, "array"),
        (b"{}", 0, "array"),
        (b"[1]", 1, "object"),
        (b"[", 1, "object"),
        (b"[{}", 1, "expected"),
        (b"[{} {}]", 1, "expected"),
        (b"[] []", 0, "follows"),
        (b'[{"a": }]', 1, "not JSON"),
        (b'[{"a": 1, "a": 2}]', 1, "twice"),
        (b'[{"a": NaN}]', 1, "NaN"),
        (b'[{"a": "' + b"x" * 200_000, 1, "65536"),
        (b"\xff\xfe[]", 0, "UTF-8"),
        (b"[" + b"[" * 100_000, 1, "object"),
        (b'[{"a":' + b"[" * 60_000, 1, "row"),
    ],
)
async def test_file_that_is_no_json_of_rows(world: World, content: bytes, row: int, word: str) -> None:
    response = await world.send(content, JSON)
    last = response.errors[-1]
    assert last.row == row
    assert word in last.message
    assert response.created_count == 0


async def test_csv_header_is_checked_whole(world: World) -> None:
    assert problems(await world.send(b"", CSV)) == [(0, "")]
    assert problems(await world.send_csv(header="device_pdi,colour")) == [(0, "colour")]
    assert problems(await world.send_csv(header="device_pdi,device_pdi")) == [(0, "device_pdi")]
    assert problems(await world.send_csv(header="device_pdi")) == [(0, "license_number")]


async def test_csv_rows_are_checked_as_csv(world: World) -> None:
    row = "0000000000000001,D2,Example Cloud,2026-01-01,2026-12-31,country,,,,,DE,3600"
    response = await world.send_csv(row + ",600", row)
    assert problems(response) == [(2, "")]
    assert "12 fields" in response.errors[0].message
    assert problems(await world.send_csv(row + ",600", 'x"y,"z'))[-1] == (2, "")
    assert problems(await world.send_csv('"' + "x" * 70_000)) == [(0, "")]


async def test_csv_with_a_byte_order_mark_and_quoted_line_breaks(world: World) -> None:
    content = (
        "\ufeffgrace_s,device_pdi,license_number,licensee,valid_from,valid_until,presence,country,cadence_s\n"
        '600,0000000000000001,D2,"Example, Cloud",2026-01-01,2026-12-31,country,"DE",3600\n'
        '600,0000000000000002,D2,"Example,\nCloud",2026-01-01,2026-12-31,country,"DE",3600\n'
    )
    response = await world.send(content.encode(), CSV)
    assert problems(response) == [(2, "licensee")]


async def test_half_a_file_in_latin1_is_told(world: World) -> None:
    response = await world.send("device_pdi\nü".encode("latin-1"), CSV)
    assert problems(response) == [(0, "")]
    assert "UTF-8" in response.errors[0].message


async def call(world: World, *requests: licensing_pb2.ImportDeploymentsRequest) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.licensing.ImportDeployments(iter(requests))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return caught.value


async def test_stream_is_options_then_data(world: World) -> None:
    options = licensing_pb2.ImportDeploymentsRequest(options=licensing_pb2.ImportOptions(format=JSON))
    no_format = licensing_pb2.ImportDeploymentsRequest(options=licensing_pb2.ImportOptions())
    data = licensing_pb2.ImportDeploymentsRequest(data=b"[]")
    large = licensing_pb2.ImportDeploymentsRequest(data=bytes((1 << 20) + 1))
    assert "options" in str((await call(world)).details())
    assert "options" in str((await call(world, data)).details())
    assert "options.format" in str((await call(world, no_format)).details())
    assert "data" in str((await call(world, options, options)).details())
    assert "data" in str((await call(world, options, large)).details())


async def test_large_file_keeps_to_the_disk(world: World) -> None:
    rows = [country_row(number) for number in range(20_000, 0, -1)]
    response = await world.send_rows(rows)
    assert (response.row_count, response.created_count) == (20_000, 20_000)
    response = await world.send_rows(rows)
    assert response.unchanged_count == 20_000


VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["2026-01-01"])
)


@given(st.dictionaries(st.sampled_from(COLUMNS) | st.text(max_size=5), VALUES))
def test_any_row_is_a_record_or_problems(changes: Row) -> None:
    read = read_row({**country_row(1), **changes}, row_rules())
    assert isinstance(read, ImportRow) or read


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(content=st.binary(max_size=200), good=st.booleans(), file_format=st.sampled_from(["json", "csv"]))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    good: bool,  # noqa: FBT001 - hypothesis passes it by name
    file_format: FileFormat,
) -> None:
    path = tmp_path_factory.mktemp("file") / "file"
    path.write_bytes((json.dumps([country_row(1)])[:-1].encode() if good else b"") + content)
    with path.open("rb") as file, Staging() as staging:
        reading = read_file(file, file_format, row_rules(), staging)
        assert reading.error_count >= len(reading.errors)
        assert len(list(staging.rows())) <= reading.row_count


def blocks(language: str) -> list[str]:
    text = Path("docs/import.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


async def test_examples_of_the_page_are_imported(world: World) -> None:
    (csv_text,), (json_text,) = blocks("csv"), blocks("json")
    response = await world.send(csv_text.encode(), CSV)
    assert (response.created_count, response.error_count) == (3, 0)
    response = await world.send(json_text.encode(), JSON)
    assert (response.unchanged_count, response.error_count) == (1, 0)


def test_page_lists_every_column() -> None:
    page = Path("docs/import.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE) == list(COLUMNS)


async def test_caller_that_goes_away_imports_nothing(world: World) -> None:
    gate = Gate(world.store)
    loop = asyncio.get_running_loop()
    waiting, given_up = asyncio.Event(), asyncio.Event()
    run = world.store._writer.run

    def noticing(work: Callable[[Connection], object]) -> Future[object]:
        done = run(work)
        done.add_done_callback(lambda _: loop.call_soon_threadsafe(given_up.set))
        waiting.set()
        return done

    world.store._writer.run = noticing  # type: ignore[assignment, method-assign]
    call = asyncio.ensure_future(world.send_rows([country_row(number) for number in range(1, 3_000)]))
    await waiting.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await given_up.wait()
    await gate.open()
    await world.store.mark_alive("node-1", NOW)  # behind the import, if it had stayed
    assert await world.store.records_number() == 0


def test_staging_may_be_closed_under_a_reader() -> None:
    read = read_row(country_row(1), row_rules())
    assert isinstance(read, ImportRow)
    with Staging() as staging:
        staging.add(1, read)
        rows = staging.rows()
    with pytest.raises(StoreUnavailableError):
        list(rows)
    with pytest.raises(StoreUnavailableError):
        staging.add(2, read)

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from trigpoint.v1 import device_pb2, licensing_pb2, place_pb2, reason_pb2

from server.rpc.errors import InvalidArgumentError
from server.rpc.filters import parse_filter
from server.rpc.pages import page_size, read_token, write_token
from server.store import DeviceFilter
from tests.licensing.licensing_world import NOW, World, country_row, names, serve, site_row
from tests.store.store_world import device, finding, fix, record
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.verdict import Standing

WATCH = licensing_pb2.WatchDevicesRequest


async def refused(call: object, code: grpc.StatusCode, word: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.code() is code
    assert word in str(caught.value.details())


async def test_device_shows_what_is_known(world: World) -> None:
    await world.license_rows([site_row(1), country_row(2)])
    found = finding(Reason.LOCATION_UNPROVEN, "why")
    reported = record(NOW, [device(1, found, standing=Standing.UNPROVEN, located=fix())])
    await world.store.commit([reported])
    response = await world.licensing.GetDevice(licensing_pb2.GetDeviceRequest(name=names([1])[0]))
    shown = response.device
    assert (shown.name, shown.kind) == (names([1])[0], device_pb2.DEVICE_KIND_GPU)
    assert (shown.license_number, shown.licensee) == ("D1", "Example Cloud")
    assert "Frankfurt 1" in shown.licensed_region
    assert shown.standing == device_pb2.STANDING_UNPROVEN
    assert [each.reason for each in shown.findings] == [reason_pb2.REASON_LOCATION_UNPROVEN]
    assert shown.findings[0].open_time.ToDatetime() == NOW.replace(tzinfo=None)
    assert (shown.host_id, shown.model, shown.firmware) == ("host-1", "GH100", "stub-1")
    assert shown.last_report_time == shown.last_proof_time == shown.findings[0].open_time
    assert shown.last_fix.in_licensed_region == place_pb2.PLACE_ANSWER_PROVEN
    assert shown.last_attestation == reported.verdict.challenge
    silent = (await world.licensing.GetDevice(licensing_pb2.GetDeviceRequest(name=names([2])[0]))).device
    assert (silent.kind, silent.standing) == (device_pb2.DEVICE_KIND_UNSPECIFIED, device_pb2.STANDING_UNPROVEN)
    assert silent.licensed_region == "DE"
    assert not silent.HasField("last_report_time")
    assert not silent.HasField("last_fix")


async def test_device_that_is_neither_deployed_nor_seen(world: World) -> None:
    get = world.licensing.GetDevice
    await refused(get(licensing_pb2.GetDeviceRequest(name=names([1])[0])), grpc.StatusCode.NOT_FOUND, names([1])[0])
    for name in ("", "devices/1", "devices/00000000000000AB", names([1])[0] + "\n", "landmarks/a"):
        await refused(get(licensing_pb2.GetDeviceRequest(name=name)), grpc.StatusCode.INVALID_ARGUMENT, "name")


async def test_pages_cover_the_list_once(world: World) -> None:
    await world.license_rows([country_row(number) for number in range(1, 8)])
    seen: list[str] = []
    token = ""
    sizes = [3, 1, 1000]  # the size may change from page to page
    for size in sizes:
        request = licensing_pb2.ListDevicesRequest(page_size=size, page_token=token, filter='license = "D2"')
        page = await world.licensing.ListDevices(request)
        seen += [each.name for each in page.devices]
        assert page.total_size == 7
        token = page.next_page_token
    assert seen == names(range(1, 8))
    assert token == ""


async def test_page_that_ends_the_list_has_no_token(world: World) -> None:
    await world.license_rows([country_row(number) for number in range(1, 4)])
    page = await world.licensing.ListDevices(licensing_pb2.ListDevicesRequest(page_size=3))
    assert (len(page.devices), page.next_page_token) == (3, "")


async def test_token_belongs_to_its_filter(world: World) -> None:
    await world.license_rows([country_row(number) for number in range(1, 4)])
    listing = world.licensing.ListDevices
    request = licensing_pb2.ListDevicesRequest(page_size=1, filter='license = "D2" AND standing = "UNPROVEN"')
    token = (await listing(request)).next_page_token
    # The same filter in other words.
    same = 'standing="STANDING_UNPROVEN"  AND license="D2"'
    page = await listing(licensing_pb2.ListDevicesRequest(filter=same, page_token=token))
    assert [each.name for each in page.devices] == names([2, 3])
    for filter_text, page_token in (("", token), ('license = "D2"', token), ("", "*"), ("", "AAAA"), ("", "é")):
        bad = licensing_pb2.ListDevicesRequest(filter=filter_text, page_token=page_token)
        await refused(listing(bad), grpc.StatusCode.INVALID_ARGUMENT, "page_token")
    bad = licensing_pb2.ListDevicesRequest(page_size=-1)
    await refused(listing(bad), grpc.StatusCode.INVALID_ARGUMENT, "page_size")


def test_page_sizes() -> None:
    assert [page_size(asked) for asked in (0, 1, 1_000, 5_000)] == [100, 1, 1_000, 1_000]


def test_token_says_where_to_go_on() -> None:
    assert read_token("list", "") is None
    assert read_token("list", write_token("list", b"\x00\xff")) == b"\x00\xff"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", DeviceFilter()),
        ("  ", DeviceFilter()),
        ('standing = "SILENT"', DeviceFilter(standing=Standing.SILENT)),
        (' standing="STANDING_SILENT" ', DeviceFilter(standing=Standing.SILENT)),
        ('finding = "REASON_SILENT" AND kind = "GPU"', DeviceFilter(finding=Reason.SILENT, kind=DeviceKind.GPU)),
        (r'licensee = "A \"B\" \\ AND C"', DeviceFilter(licensee='A "B" \\ AND C')),
        ('license = "" AND host = "h = 1"', DeviceFilter(license_number="", host_id="h = 1")),
    ],
)
def test_filter_is_read(text: str, expected: DeviceFilter) -> None:
    assert parse_filter(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "standing",
        "standing = SILENT",
        "standing = 'SILENT'",
        'standing = "LOUD"',
        'standing != "SILENT"',
        'finding = "CLAIMS_MALFORMED"',
        'colour = "red"',
        'host = "a" host = "b"',
        'host = "a" OR kind = "GPU"',
        'host = "a" AND host = "b"',
        'host = "a" AND',
        'host = "a" ANDkind = "GPU"',
        'AND host = "a"',
        'host = "a',
        'host = "a\\n"',
        'host = "' + "a" * 1_000 + '"',
    ],
)
def test_other_filters_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_filter(text)
    assert caught.value.field == "filter"


async def test_filter_error_is_a_status(world: World) -> None:
    bad = licensing_pb2.ListDevicesRequest(filter="?")
    await refused(world.licensing.ListDevices(bad), grpc.StatusCode.INVALID_ARGUMENT, "filter")


async def test_watch_shows_what_stands_then_what_changes(world: World) -> None:
    await world.license_rows([country_row(1), country_row(2)])
    stream = world.licensing.WatchDevices(WATCH(filter='standing = "UNPROVEN"'))
    first = await anext(aiter(stream))
    assert [each.name for each in first.devices] == names([1, 2])
    assert first.change_number == 2
    assert first.read_time.ToDatetime() == NOW.replace(tzinfo=None)
    # One leaves, one that does not match changes, one comes back.
    await world.store.commit([record(NOW, [device(1, standing=Standing.COMPLIANT)])])
    second = await anext(aiter(stream))
    assert (list(second.devices), list(second.left), second.change_number) == ([], names([1]), 3)
    await world.store.commit([record(NOW, [device(7, standing=Standing.UNLICENSED)])])
    await world.store.commit([record(NOW + timedelta(seconds=1), [device(1, standing=Standing.UNPROVEN)])])
    third = await anext(aiter(stream))
    assert ([each.name for each in third.devices], list(third.left)) == (names([1]), [])
    stream.cancel()


async def test_watch_begins_with_an_empty_message_where_nothing_matches(world: World) -> None:
    stream = world.licensing.WatchDevices(WATCH(filter='finding = "SILENT"'))
    first = await anext(aiter(stream))
    assert (list(first.devices), first.change_number) == ([], 0)
    stream.cancel()


async def test_watch_of_many_devices_gives_its_cursor_with_the_last_page(world: World) -> None:
    await world.license_rows([country_row(number) for number in range(1, 1_102)])
    stream = aiter(world.licensing.WatchDevices(WATCH()))
    pages = [await anext(stream) for _ in range(3)]
    assert [len(page.devices) for page in pages] == [500, 500, 101]
    assert [page.change_number for page in pages] == [0, 0, 1_101]


async def test_watch_goes_on_after_a_break(world: World) -> None:
    await world.license_rows([country_row(number) for number in range(1, 4)])
    cursor = await world.store.change_number()
    await world.store.commit(
        [record(NOW, [device(1, standing=Standing.COMPLIANT), device(2, standing=Standing.UNPROVEN)])]
    )
    request = WATCH(filter='standing = "UNPROVEN"', after_change_number=cursor)
    stream = world.licensing.WatchDevices(request)
    first = await anext(aiter(stream))
    # Device 1 may have been sent before the break, so that it left is told; 3 did not change.
    assert ([each.name for each in first.devices], list(first.left)) == (names([2]), names([1]))
    await world.store.commit([record(NOW + timedelta(seconds=1), [device(1), device(3)])])
    second = await anext(aiter(stream))
    assert list(second.left) == names([3])
    stream.cancel()


async def test_watch_refuses_what_it_cannot_serve(world: World) -> None:
    for request, word in ((WATCH(filter="?"), "filter"), (WATCH(after_change_number=-1), "after_change_number")):
        await refused(anext(aiter(world.licensing.WatchDevices(request))), grpc.StatusCode.INVALID_ARGUMENT, word)


async def test_two_servers_on_one_store_see_each_other(world: World, tmp_path: Path) -> None:
    async with serve(tmp_path / "trigpoint.db") as other:
        stream = aiter(other.licensing.WatchDevices(WATCH()))
        assert not (await anext(stream)).devices
        waiting = asyncio.ensure_future(anext(stream))
        await world.license_rows([country_row(1)])
        assert [each.name for each in (await waiting).devices] == names([1])


async def test_store_fault_is_unavailable(world: World) -> None:
    await world.store.close()
    call = world.licensing.ListDevices(licensing_pb2.ListDevicesRequest())
    await refused(call, grpc.StatusCode.UNAVAILABLE, "store")

"""Whoever is shown where devices are is written down before (docs/protocol.md K2); challenges that are ordered (K3)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from trigpoint.v1 import change_pb2, licensing_pb2

from server.store.errors import StoreUnavailableError
from server.store.reads import PositionRead, ReadFilter
from tests.licensing.licensing_world import NOW, World, country_row, names, site_row
from tests.server.helpers import error_info
from tests.store.store_world import device, record
from tests.two_people import ANN, BOB

EVA = (("trigpoint-dev-role", "viewer/DE/eva"),)
GET = licensing_pb2.GetDeviceRequest
LIST = licensing_pb2.ListDevicesRequest
WATCH = licensing_pb2.WatchDevicesRequest
ASK = licensing_pb2.ChallengeDevicesRequest
ONE, TWO, THREE = names([1, 2, 3])


async def reads(world: World) -> list[PositionRead]:
    """All of them, the oldest first."""
    return list(reversed((await world.store.reads.list(ReadFilter(), limit=1_000)).reads))


async def read(stream: Any) -> licensing_pb2.WatchDevicesResponse:
    """Take one message of a watch."""
    response = await stream.read()
    assert isinstance(response, licensing_pb2.WatchDevicesResponse)
    return response


async def told(world: World) -> list[tuple[str, str, str, int]]:
    """By whom, by which call, of what, how many."""
    return [(read.by, read.call, read.subject, read.devices) for read in await reads(world)]


async def test_a_device_and_a_list_each_leave_one(world: World) -> None:
    await world.license_rows([country_row(1), country_row(2), site_row(3)])
    await world.licensing.GetDevice(GET(name=ONE), metadata=ANN)
    await world.licensing.ListDevices(LIST(filter='license = "D2"'), metadata=EVA)
    await world.licensing.ListDevices(LIST(page_size=1), metadata=ANN)
    assert await told(world) == [
        ("officer/ann", "GetDevice", ONE, 1),
        ("viewer/DE/eva", "ListDevices", 'license = "D2"', 2),
        ("officer/ann", "ListDevices", "", 1),
    ]
    assert [(read.at, read.jurisdiction) for read in await reads(world)] == [(NOW, ""), (NOW, "DE"), (NOW, "")]


async def test_what_is_not_shown_leaves_none(world: World) -> None:
    await world.license_rows([country_row(1)])
    singapore = (("trigpoint-dev-role", "viewer/SG/lee"),)
    for name, metadata in ((TWO, ANN), (ONE, singapore)):
        with pytest.raises(grpc.aio.AioRpcError):
            await world.licensing.GetDevice(GET(name=name), metadata=metadata)
    assert await reads(world) == []


async def test_a_watch_leaves_one_at_its_start_and_one_for_each_message(world: World) -> None:
    await world.license_rows([country_row(1), country_row(2)])
    stream = world.licensing.WatchDevices(WATCH(filter='licensee = "Example Cloud"'), metadata=EVA)
    assert len((await read(stream)).devices) == 2
    whose = ("viewer/DE/eva", "WatchDevices", 'licensee = "Example Cloud"')
    assert await told(world) == [(*whose, 2)]
    await world.store.commit([record(NOW, [device(1)])])
    assert [each.name for each in (await read(stream)).devices] == [ONE]
    stream.cancel()
    assert await told(world) == [(*whose, 2), (*whose, 1)]


async def test_a_watch_of_nothing_leaves_its_start(world: World) -> None:
    stream = world.licensing.WatchDevices(WATCH(), metadata=ANN)
    assert not (await read(stream)).devices
    stream.cancel()
    assert await told(world) == [("officer/ann", "WatchDevices", "", 0)]


@pytest.mark.parametrize(
    "call",
    [
        lambda world: world.licensing.GetDevice(GET(name=ONE)),
        lambda world: world.licensing.ListDevices(LIST()),
        lambda world: world.licensing.WatchDevices(WATCH()).read(),
    ],
    ids=["get", "list", "watch"],
)
async def test_nothing_is_shown_before_it_is_written(
    world: World, call: Callable[[World], Awaitable[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.license_rows([country_row(1)])
    inner = world.store.reads.note
    held, asked = asyncio.Event(), asyncio.Event()

    async def note(*given: object) -> None:
        asked.set()
        await held.wait()
        await inner(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(world.store.reads, "note", note)
    shown = asyncio.ensure_future(call(world))
    await asked.wait()
    done, _ = await asyncio.wait([shown], timeout=0.1)
    assert not done, "it was shown before it was written down"
    held.set()
    await shown
    assert len(await reads(world)) == 1


async def test_when_it_cannot_be_written_nothing_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.license_rows([country_row(1)])

    async def no_room(*_: object) -> None:
        raise StoreUnavailableError("no room")

    monkeypatch.setattr(world.store.reads, "note", no_room)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.licensing.GetDevice(GET(name=ONE))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


# Challenges that two people order (docs/protocol.md K3).


async def test_a_challenge_is_proposed_by_one_and_ordered_by_another(world: World) -> None:
    await world.license_rows([country_row(1), country_row(2)])
    reply = await world.licensing.ChallengeDevices(ASK(devices=[ONE, TWO], reason="seen at a fair"), metadata=ANN)
    shown = (await world.changes.GetChange(change_pb2.GetChangeRequest(name=reply.change), metadata=BOB)).change
    assert (shown.state, shown.proposed_by, shown.reason) == (change_pb2.CHANGE_STATE_OPEN, "ann", "seen at a fair")
    assert list(shown.summary) == [
        f"{name}: ask at once, once (license D2 of Example Cloud, DE)" for name in (ONE, TWO)
    ]
    before = await world.store.records_number()
    for who in ("approver/ann", "approver/Ann"):
        request = change_pb2.ApproveChangesRequest(names=[reply.change])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await world.changes.ApproveChanges(request, metadata=(("trigpoint-dev-role", who),))
        assert error_info(caught.value).reason == "FOUR_EYES"
    assert await world.store.records_number() == before
    (applied,) = (
        await world.changes.ApproveChanges(change_pb2.ApproveChangesRequest(names=[reply.change]), metadata=BOB)
    ).changes
    assert applied.state == change_pb2.CHANGE_STATE_APPLIED
    assert await world.store.records_number() == before + 1


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (ASK(reason="x"), grpc.StatusCode.INVALID_ARGUMENT, "devices"),
        (ASK(devices=names(range(1, 1002)), reason="x"), grpc.StatusCode.INVALID_ARGUMENT, "devices"),
        (ASK(devices=[ONE, ONE], reason="x"), grpc.StatusCode.INVALID_ARGUMENT, "devices"),
        (ASK(devices=[ONE, "licenses/D2"], reason="x"), grpc.StatusCode.INVALID_ARGUMENT, "devices[1]"),
        (ASK(devices=[ONE]), grpc.StatusCode.INVALID_ARGUMENT, "reason"),
        (ASK(devices=[ONE], reason="x" * 2_001), grpc.StatusCode.INVALID_ARGUMENT, "reason"),
        (ASK(devices=[ONE, THREE], reason="x"), grpc.StatusCode.NOT_FOUND, THREE),
    ],
)
async def test_what_cannot_be_ordered(
    world: World, request_: licensing_pb2.ChallengeDevicesRequest, code: grpc.StatusCode, field: str
) -> None:
    await world.license_rows([country_row(1)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.licensing.ChallengeDevices(request_, metadata=ANN)
    told_of = error_info(caught.value).metadata
    assert (caught.value.code(), told_of.get("field", told_of.get("name"))) == (code, field)
    assert (await world.changes.ListChanges(change_pb2.ListChangesRequest(filter='state = "OPEN"'))).changes == []

"""Who is limited to a jurisdiction sees devices, records and cases of its sites, nothing else (docs/protocol.md RC11).

Over the whole server: an officer of DE and one of the home authority, licenses with sites in DE, in SG and in both.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from trigpoint.v1 import cases_pb2, cases_pb2_grpc, licensing_pb2, licensing_pb2_grpc, records_pb2, records_pb2_grpc

from server.spiffe import Peer, Role
from tests.server import helpers
from tests.store.store_world import START, device, finding, license_of, pdi, record
from verifier.errors import Reason
from verifier.license import Deployment, LicenseState
from verifier.place.regions import Countries
from verifier.units import CountryCode
from verifier.verdict import Standing

GERMAN = Peer(Role.OFFICER, "eva", jurisdiction="DE")
DE, SG = (Countries(frozenset({CountryCode(code)})) for code in ("DE", "SG"))
WATCH = licensing_pb2.WatchDevicesRequest
WITHIN_S = 20


def names(*numbers: int) -> list[str]:
    return [f"devices/{number:016x}" for number in numbers]


@dataclass
class Desk:
    """What one officer reaches."""

    channel: grpc.aio.Channel

    @property
    def devices(self) -> "licensing_pb2_grpc.LicensingServiceAsyncStub":
        return licensing_pb2_grpc.LicensingServiceStub(self.channel)

    @property
    def records(self) -> "records_pb2_grpc.RecordServiceAsyncStub":
        return records_pb2_grpc.RecordServiceStub(self.channel)

    @property
    def cases(self) -> "cases_pb2_grpc.CaseServiceAsyncStub":
        return cases_pb2_grpc.CaseServiceStub(self.channel)

    async def listed(self, kind: records_pb2.RecordKind.ValueType, text: str = "") -> list[str]:
        """Names of the records that the officer sees."""
        response = await self.records.ListRecords(records_pb2.ListRecordsRequest(kind=kind, filter=text))
        assert response.total_size == len(response.records)
        return [entry.name for entry in response.records]

    async def exported(self) -> str:
        """The file of deployments."""
        stream = self.records.ExportDeployments(records_pb2.ExportDeploymentsRequest())
        return b"".join([piece.data async for piece in stream]).decode()


@dataclass
class World:
    """Devices 1 (DE) and 2 (SG) under licenses of their own, 3 (DE) and 4 (SG) under one, 5 that no record names, and
    6 under a draft in DE; all but 6 have reported."""

    running: helpers.Running
    home: Desk
    german: Desk

    async def deploy(self, number: int, license_number: str, region: Countries, state: LicenseState) -> None:
        """Put one deployment on record, straight in the store."""
        row = Deployment(pdi(number), license_of(license_number), region)
        await self.running.store.import_deployments([row], START, state=state, by="ann", reason="test")

    async def report(self, *numbers: int, reason: Reason | None = None) -> None:
        """Have devices report together, with a finding."""
        found = () if reason is None else (finding(reason),)
        standing = Standing.COMPLIANT if reason is None else Standing.VIOLATION
        devices = [device(number, *found, standing=standing) for number in numbers]
        assert not (await self.running.store.commit([record(START, devices)])).stale


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with (
        helpers.running_server(tmp_path / "server") as running,
        running.channel(helpers.OFFICER) as home,
        running.channel(GERMAN) as german,
    ):
        made = World(running, Desk(home), Desk(german))
        for number, held, region in ((1, "L-DE", DE), (2, "L-SG", SG), (3, "L-BOTH", DE), (4, "L-BOTH", SG)):
            await made.deploy(number, held, region, LicenseState.ACTIVE)
        await made.deploy(6, "L-DRAFT", DE, LicenseState.DRAFT)
        await made.report(1, 2, 3, 4)
        await made.report(5, reason=Reason.UNKNOWN_DEVICE)
        yield made


async def test_devices_of_other_jurisdictions_do_not_exist(world: World) -> None:
    for desk, text, seen in (
        (world.home, "", (1, 2, 3, 4, 5)),
        (world.german, "", (1, 3)),
        (world.german, 'license = "L-BOTH"', (3,)),
        (world.german, 'license = "L-SG"', ()),
        (world.german, 'finding = "UNKNOWN_DEVICE"', ()),
    ):
        page = await desk.devices.ListDevices(licensing_pb2.ListDevicesRequest(filter=text))
        assert ([each.name for each in page.devices], page.total_size) == (names(*seen), len(seen)), text
    for number in (1, 3):
        got = await world.german.devices.GetDevice(licensing_pb2.GetDeviceRequest(name=names(number)[0]))
        assert got.device.name == names(number)[0]
    for number in (2, 4, 5, 6, 99):  # one that is elsewhere looks as one that is nowhere
        call = world.german.devices.GetDevice(licensing_pb2.GetDeviceRequest(name=names(number)[0]))
        error = await helpers.failure(call)
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, f"{names(number)[0]} does not exist")


async def test_pages_do_not_count_what_is_elsewhere(world: World) -> None:
    listing = world.german.devices.ListDevices
    first = await listing(licensing_pb2.ListDevicesRequest(page_size=1))
    assert ([each.name for each in first.devices], first.total_size) == (names(1), 2)
    rest = await listing(licensing_pb2.ListDevicesRequest(page_token=first.next_page_token))
    assert ([each.name for each in rest.devices], rest.next_page_token) == (names(3), "")
    # A token tells where a page begins and grants nothing: the home authority's is another list's.
    token = (await world.home.devices.ListDevices(licensing_pb2.ListDevicesRequest(page_size=1))).next_page_token
    error = await helpers.failure(listing(licensing_pb2.ListDevicesRequest(page_token=token)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_watch_tells_nothing_of_devices_elsewhere(world: World) -> None:
    stream = aiter(world.german.devices.WatchDevices(WATCH()))
    first = await anext(stream)
    assert [each.name for each in first.devices] == names(1, 3)
    await world.report(2, 4, 5)
    await world.report(1)
    told = await anext(stream)
    assert ([each.name for each in told.devices], list(told.left)) == (names(1), [])
    # One that is moved away is told once, as gone, and one that comes is told as it stands.
    await world.deploy(3, "L-BOTH", SG, LicenseState.ACTIVE)
    told = await anext(stream)
    assert (list(told.devices), list(told.left)) == ([], names(3))
    await world.deploy(2, "L-BOTH", DE, LicenseState.ACTIVE)
    told = await anext(stream)
    assert ([each.name for each in told.devices], list(told.left)) == (names(2), [])


async def test_who_goes_on_after_a_break_is_not_told_of_devices_elsewhere(world: World) -> None:
    cursor = await world.running.store.change_number()
    await world.report(2, 4, 5)
    resumed = await anext(
        aiter(world.home.devices.WatchDevices(WATCH(filter='kind = "SWITCH"', after_change_number=1)))
    )
    assert set(names(2, 4, 5)) <= set(resumed.left)  # the home authority may have been sent any device before
    answer = await anext(aiter(world.german.devices.WatchDevices(WATCH(after_change_number=cursor))))
    assert ([each.name for each in answer.devices], list(answer.left)) == (names(1, 3), [])


async def test_records_of_other_jurisdictions_do_not_exist(world: World) -> None:
    kinds = records_pb2
    both = f"licenses/{'L-BOTH'}"
    assert await world.german.listed(kinds.RECORD_KIND_LICENSE) == [both, "licenses/L-DE", "licenses/L-DRAFT"]
    assert await world.german.listed(kinds.RECORD_KIND_SITE) == [
        f"{number}/sites/de" for number in (both, "licenses/L-DE", "licenses/L-DRAFT")
    ]
    deployed = [f"deployments/{number:016x}" for number in (1, 3, 6)]
    assert await world.german.listed(kinds.RECORD_KIND_DEPLOYMENT) == deployed
    assert await world.german.listed(kinds.RECORD_KIND_DEPLOYMENT, 'jurisdiction = "SG"') == []
    assert len(await world.home.listed(kinds.RECORD_KIND_DEPLOYMENT)) == 5
    for name in ("licenses/L-SG", f"{both}/sites/sg", f"deployments/{2:016x}", f"deployments/{4:016x}"):
        assert (await world.home.records.GetRecord(records_pb2.GetRecordRequest(name=name))).record.name == name
        error = await helpers.failure(world.german.records.GetRecord(records_pb2.GetRecordRequest(name=name)))
        assert error.code() is grpc.StatusCode.NOT_FOUND, name


async def test_an_export_holds_the_jurisdictions_deployments_alone(world: World) -> None:
    text = await world.german.exported()
    for number, inside in ((1, True), (2, False), (3, True), (4, False), (6, True)):
        assert (f"{number:016x}" in text) is inside, number
    assert "L-SG" not in text
    assert f"{2:016x}" in await world.home.exported()


async def test_cases_of_other_jurisdictions_do_not_exist_and_ones_own_can_be_worked(world: World) -> None:
    await world.report(1, 2, reason=Reason.FIRMWARE_MISMATCH)
    async with asyncio.timeout(WITHIN_S):
        while True:  # the casework of the server opens them
            listed = await world.home.cases.ListCases(cases_pb2.ListCasesRequest())
            if listed.total_size == 3:
                break
            await asyncio.sleep(0.05)
    by_license = {case.license_number: case.name for case in listed.cases}
    assert by_license.keys() == {"", "L-DE", "L-SG"}  # the one without a license is that of device 5
    seen = await world.german.cases.ListCases(cases_pb2.ListCasesRequest())
    assert ([case.name for case in seen.cases], seen.total_size) == ([by_license["L-DE"]], 1)
    note = cases_pb2.CASE_ACTION_NOTE

    def work(name: str) -> cases_pb2.WorkCasesRequest:
        return cases_pb2.WorkCasesRequest(cases=[cases_pb2.CaseRef(name=name)], action=note, text="seen in Berlin")

    for other in (by_license["L-SG"], by_license[""]):
        for call in (
            world.german.cases.GetCase(cases_pb2.GetCaseRequest(name=other)),
            world.german.cases.ListCaseDevices(cases_pb2.ListCaseDevicesRequest(name=other)),
            world.german.cases.WorkCases(work(other)),
        ):
            assert (await helpers.failure(call)).code() is grpc.StatusCode.NOT_FOUND
    own = by_license["L-DE"]
    await world.german.cases.WorkCases(work(own))
    story = (await world.home.cases.GetCase(cases_pb2.GetCaseRequest(name=own))).story
    assert [(entry.by, entry.text) for entry in story if entry.by] == [("eva", "seen in Berlin")]
    devices = await world.german.cases.ListCaseDevices(cases_pb2.ListCaseDevicesRequest(name=own))
    assert [entry.device for entry in devices.devices] == names(1)

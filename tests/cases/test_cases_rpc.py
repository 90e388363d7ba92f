"""CaseService over gRPC: pages, filters, etags, and who sees which case."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

import grpc
import pytest
from trigpoint.v1 import cases_pb2, cases_pb2_grpc, device_pb2, reason_pb2

from server.rpc.access import DEV_ROLE_KEY, AccessInterceptor
from server.rpc.cases import CaseServicer
from server.rpc.status import StatusInterceptor
from server.store.reads import ReadDoor, ReadFilter
from server.telemetry import Telemetry
from tests.cases.case_world import HOUR, MINUTE, START, CaseWorld
from verifier.errors import Reason

HOME = ((DEV_ROLE_KEY, "officer/ann"),)
GERMAN = ((DEV_ROLE_KEY, "officer/DE/dora"),)
Metadata = tuple[tuple[str, str], ...]


async def _ignore() -> None:
    """Nobody watches this server's health."""


class NoExports:
    """Exports are tests/bundle_export's."""

    async def pieces(
        self, number: int, request: cases_pb2.ExportCaseRequest, now: datetime
    ) -> AsyncIterator[cases_pb2.ExportCaseResponse]:
        raise AssertionError(number, request, now)
        yield


@dataclass(frozen=True, slots=True)
class Served:
    world: CaseWorld
    stub: "cases_pb2_grpc.CaseServiceAsyncStub"
    reads: ReadDoor

    async def names(self, filter_text: str = "", metadata: Metadata = HOME) -> list[str]:
        response = await self.stub.ListCases(cases_pb2.ListCasesRequest(filter=filter_text), metadata=metadata)
        assert response.total_size == len(response.cases)
        return [case.name for case in response.cases]

    async def work(self, action: str, *names: str, metadata: Metadata = HOME, **given: object) -> list[cases_pb2.Case]:
        request = cases_pb2.WorkCasesRequest(
            cases=[cases_pb2.CaseRef(name=name) for name in names],
            action=cases_pb2.CaseAction.Value(f"CASE_ACTION_{action}"),
            **given,  # type: ignore[arg-type]
        )
        response = await self.stub.WorkCases(request, metadata=metadata)
        return list(response.cases)


@pytest.fixture
async def served(world: CaseWorld) -> AsyncIterator[Served]:
    """Case 1: silence in Germany; 2: a warning in Singapore; 3: elsewhere, in Germany; 4: unknown devices."""
    await world.license("D2", licensee="Other", sites=["ber"], country="DE")
    await world.license("D3", licensee="Lion", sites=["sin"], country="SG")
    await world.deploy([1, 2], license_number="D2", site="ber")
    await world.deploy([3], license_number="D3", site="sin")
    await world.find(Reason.SILENT, [1, 2], START, "no report")
    await world.cases.take_findings(START)
    await world.find(Reason.LOCATION_UNPROVEN, [3], START)
    await world.cases.take_findings(START + 10 * MINUTE)
    await world.find(Reason.OUTSIDE_LICENSED_REGION, [1], START + 11 * MINUTE)
    await world.cases.take_findings(START + 11 * MINUTE)
    await world.strangers([9], "Shady", START + 12 * MINUTE, Reason.UNKNOWN_DEVICE)
    await world.cases.take_findings(START + 12 * MINUTE)
    telemetry = Telemetry()
    server = grpc.aio.server(interceptors=[StatusInterceptor(telemetry, _ignore), AccessInterceptor(None, telemetry)])
    reads = ReadDoor(world.read, world.write)
    servicer = CaseServicer(world.cases, lambda: START + HOUR, NoExports(), reads=reads)
    cases_pb2_grpc.add_CaseServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(world, cases_pb2_grpc.CaseServiceStub(channel), reads)
    finally:
        await server.stop(None)


async def test_the_gravest_first_then_the_oldest(served: Served) -> None:
    assert await served.names() == ["cases/1", "cases/3", "cases/4", "cases/2"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('severity = "WARNING"', ["cases/2"]),
        ('event = "CASE_EVENT_SILENT_SITE"', ["cases/1"]),
        ('licensee = "Other"', ["cases/1", "cases/3"]),
        ('license = "D3"', ["cases/2"]),
        ('site = "ber" AND event = "ELSEWHERE"', ["cases/3"]),
        ('device = "0000000000000001"', ["cases/1", "cases/3"]),
        ('device = "devices/0000000000000002"', ["cases/1"]),
        ('state = "RESOLVED"', []),
        ('assignee = "bob"', []),
    ],
)
async def test_filters(served: Served, text: str, names: list[str]) -> None:
    assert await served.names(text) == names


@pytest.mark.parametrize(
    "text", ['event = "NOISE"', 'state = "WAITING"', 'device = "1"', 'color = "red"', 'severity = "3"']
)
async def test_filters_that_cannot_be_used(served: Served, text: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.names(text)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith("filter")


async def test_pages_join_to_the_whole(served: Served) -> None:
    names: list[str] = []
    token = ""
    while True:
        request = cases_pb2.ListCasesRequest(page_size=1, page_token=token)
        page = await served.stub.ListCases(request, metadata=HOME)
        names += [case.name for case in page.cases]
        assert (len(page.cases), page.total_size) == (1, 4)
        token = page.next_page_token
        if not token:
            break
    assert names == ["cases/1", "cases/3", "cases/4", "cases/2"]
    other = cases_pb2.ListCasesRequest(page_token="AAAA", filter='licensee = "Other"')
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.ListCases(other, metadata=HOME)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_case_and_its_story(served: Served) -> None:
    response = await served.stub.GetCase(cases_pb2.GetCaseRequest(name="cases/1"), metadata=HOME)
    case = response.case
    assert (case.name, case.site, case.license_number, case.licensee) == (
        "cases/1",
        "licenses/D2/sites/ber",
        "D2",
        "Other",
    )
    assert case.event == cases_pb2.CASE_EVENT_SILENT_SITE
    assert case.severity == device_pb2.SEVERITY_VIOLATION
    assert (case.device_count, case.open_device_count) == (2, 2)
    assert not case.HasField("quiet_since")
    assert not case.HasField("resolve_time")
    assert [entry.kind for entry in response.story] == [
        cases_pb2.CASE_ENTRY_KIND_LICENSED,
        cases_pb2.CASE_ENTRY_KIND_PROVEN,
        cases_pb2.CASE_ENTRY_KIND_BROKE,
    ]


async def test_devices_of_a_case_in_pages(served: Served) -> None:
    await served.world.end(Reason.SILENT, [1], START + HOUR)
    await served.world.cases.take_findings(START + HOUR)
    request = cases_pb2.ListCaseDevicesRequest(name="cases/1", page_size=1)
    first = await served.stub.ListCaseDevices(request, metadata=HOME)
    request.page_token = first.next_page_token
    second = await served.stub.ListCaseDevices(request, metadata=HOME)
    assert second.next_page_token == ""
    devices = [*first.devices, *second.devices]
    assert [(d.device, d.reason, d.detail) for d in devices] == [
        ("devices/0000000000000001", reason_pb2.REASON_SILENT, "no report"),
        ("devices/0000000000000002", reason_pb2.REASON_SILENT, "no report"),
    ]
    assert [d.HasField("end_time") for d in devices] == [True, False]


async def test_work_and_etags(served: Served) -> None:
    (case,) = await served.work("ACKNOWLEDGE", "cases/1")
    assert case.state == cases_pb2.CASE_STATE_ACKNOWLEDGED
    ref = cases_pb2.CaseRef(name="cases/1", etag=case.etag)
    request = cases_pb2.WorkCasesRequest(cases=[ref], action=cases_pb2.CASE_ACTION_ASSIGN, assignee="bob")
    (assigned,) = (await served.stub.WorkCases(request, metadata=HOME)).cases
    assert (assigned.assignee, assigned.etag == case.etag) == ("bob", False)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.stub.WorkCases(request, metadata=HOME)
    assert caught.value.code() is grpc.StatusCode.ABORTED
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.work("RESOLVE", "cases/1", text="done")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    (resolved,) = await served.work("RESOLVE", "cases/1", text="done", accept_risk=True)
    assert resolved.resolution == "Accepted risk, with findings open on 2 devices: done"
    assert resolved.resolve_time.ToDatetime(START.tzinfo) == START + HOUR
    assert await served.names('state = "RESOLVED"') == ["cases/1"]
    response = await served.stub.GetCase(cases_pb2.GetCaseRequest(name="cases/1"), metadata=HOME)
    assert response.story[-1].by == "ann"


@pytest.mark.parametrize(
    ("action", "names", "given", "field"),
    [
        ("UNSPECIFIED", ["cases/1"], {}, "action"),
        ("NOTE", ["cases/1"], {}, "text"),
        ("RESOLVE", ["cases/1"], {"text": " "}, "text"),
        ("NOTE", ["cases/1"], {"text": "x" * 2_001}, "text"),
        ("NOTE", [], {"text": "x"}, "cases"),
        ("NOTE", ["cases/1", "cases/1"], {"text": "x"}, "cases[1].name"),
        ("NOTE", ["cases/x"], {"text": "x"}, "cases[0].name"),
        ("NOTE", ["cases/1"], {"text": "x", "assignee": "bob"}, "assignee"),
        ("NOTE", ["cases/1"], {"text": "x", "accept_risk": True}, "accept_risk"),
    ],
)
async def test_work_that_cannot_be_read(
    served: Served, action: str, names: list[str], given: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.work(action, *names, **given)  # type: ignore[arg-type]
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (caught.value.details() or "").startswith(f"{field}:")


async def test_a_jurisdiction_sees_and_works_its_own(served: Served) -> None:
    """docs/protocol.md RC11."""
    assert await served.names(metadata=GERMAN) == ["cases/1", "cases/3"]
    assert await served.names('device = "0000000000000003"', metadata=GERMAN) == []
    (case,) = await served.work("NOTE", "cases/3", metadata=GERMAN, text="we look")
    assert case.name == "cases/3"
    for hidden in ("cases/2", "cases/4", "cases/99"):
        for call in (
            served.stub.GetCase(cases_pb2.GetCaseRequest(name=hidden), metadata=GERMAN),
            served.stub.ListCaseDevices(cases_pb2.ListCaseDevicesRequest(name=hidden), metadata=GERMAN),
            served.work("NOTE", "cases/1", hidden, metadata=GERMAN, text="x"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    # Nothing of what was refused was written.
    response = await served.stub.GetCase(cases_pb2.GetCaseRequest(name="cases/1"), metadata=GERMAN)
    assert len(response.story) == 3


async def test_whoever_reads_a_story_or_findings_is_written_down(served: Served) -> None:
    """docs/protocol.md K2: they tell where devices were; titles of cases do not."""
    await served.names()
    await served.stub.GetCase(cases_pb2.GetCaseRequest(name="cases/1"), metadata=HOME)
    await served.stub.ListCaseDevices(cases_pb2.ListCaseDevicesRequest(name="cases/1", page_size=1), metadata=GERMAN)
    with pytest.raises(grpc.aio.AioRpcError):
        await served.stub.GetCase(cases_pb2.GetCaseRequest(name="cases/2"), metadata=GERMAN)
    page = await served.reads.list(ReadFilter())
    assert [(read.by, read.call, read.subject, read.devices) for read in reversed(page.reads)] == [
        ("officer/ann", "GetCase", "cases/1", 2),
        ("officer/DE/dora", "ListCaseDevices", "cases/1", 1),
    ]

"""A licensing and a landmark service in memory, on a loopback port, in a thread with its own event loop."""
# ruff: noqa: ARG002, N802  # names and arguments of methods are gRPC's

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from trigpoint.v1 import (
    change_pb2,
    device_pb2,
    landmark_pb2,
    landmark_pb2_grpc,
    licensing_pb2,
    licensing_pb2_grpc,
    place_pb2,
    reason_pb2,
)

Context = grpc.aio.ServicerContext[Any, Any]


def stamp(ago: timedelta) -> Timestamp:
    value = Timestamp()
    value.FromDatetime(datetime.now(UTC) - ago)
    return value


def finding(
    reason: reason_pb2.Reason.ValueType,
    detail: str,
    severity: device_pb2.Severity.ValueType = device_pb2.SEVERITY_VIOLATION,
) -> device_pb2.Finding:
    return device_pb2.Finding(reason=reason, severity=severity, detail=detail, open_time=stamp(timedelta(minutes=7)))


def moved_device(number: int = 1) -> device_pb2.Device:
    """A GPU that was moved to Shenzhen, with all that an officer may see."""
    disc = place_pb2.Disc(
        landmark_id="shenzhen-a",
        domain="operator-with-a-rather-long-name",
        rtt_ns=812_345,
        radius_km=122.4,
        licensed_region_km=11_034.2,
        excludes_licensed_region=True,
        within_prohibited=True,
    )
    fix = place_pb2.Fix(
        ranged_by=bytes.fromhex("4100000000000009"),
        assurance=place_pb2.ASSURANCE_DEVICE_RANGED,
        in_licensed_region=place_pb2.PLACE_ANSWER_REFUTED,
        outside_prohibited=place_pb2.PLACE_ANSWER_REFUTED,
        discs=[disc],
        tolerated_domains=1,
        border_margin_km=5,
        borders_version="country-coder 5.6.0",
        prohibited_version="2026-01-15",
        explanation="2 failure domains each alone exclude the licensed region: shenzhen-a puts it within 122 km of "
        "itself, 11,034 km from the region.",
        demonstration=True,
    )
    return device_pb2.Device(
        name=f"devices/{0x4100000000000000 + number:016x}",
        kind=device_pb2.DEVICE_KIND_GPU,
        device_key_id=b"\xab" * 32,
        license_number="D-2026-000417-AMENDED",
        licensee="A Licensee With A Name That Is Longer Than One Would Like, Inc.",
        licensed_region="Fremont data center, 50 km around 37.5485, -121.9886",
        standing=device_pb2.STANDING_VIOLATION,
        findings=[
            finding(
                reason_pb2.REASON_OUTSIDE_LICENSED_REGION,
                "The landmarks shenzhen-a, shenzhen-b and hong-kong-a each put it more than 11,000 km from its region.",
            ),
            finding(reason_pb2.REASON_IN_PROHIBITED_DESTINATION, "Within 122 km of shenzhen-a, all of it China."),
        ],
        host_id="server-b\x1b[31m",
        model="GH100 A01 GSP BROM",
        firmware="emulated-gpu-96.00.74",
        last_report_time=stamp(timedelta(minutes=59)),
        last_proof_time=stamp(timedelta(days=3)),
        last_fix=fix,
        last_attestation=b"\xcd" * 32,
        change_number=number,
    )


def quiet_device(number: int) -> device_pb2.Device:
    return device_pb2.Device(
        name=f"devices/{0x4100000000000000 + number:016x}",
        license_number="D-1",
        licensee="Acme",
        licensed_region="SG",
        standing=device_pb2.STANDING_UNPROVEN,
        change_number=number,
    )


def a_landmark() -> landmark_pb2.Landmark:
    return landmark_pb2.Landmark(
        name="landmarks/shenzhen-a",
        public_key=b"\x01" * 32,
        operator="Operator One",
        hoster="Hoster With A Long Name Ltd",
        latitude=22.54,
        longitude=114.06,
        uncertainty_km=0.1,
        survey_method="GNSS",
        virtual_machine=True,
        endpoints=["landmark-a.example:7444", "[2001:db8::1]:7444"],
        revision=3,
        revise_time=stamp(timedelta(days=40)),
        domain="operator-one",
        country="CN",
    )


@dataclass
class FakeServices(licensing_pb2_grpc.LicensingServiceServicer, landmark_pb2_grpc.LandmarkServiceServicer):
    """Answers from its fields and keeps what it was asked."""

    devices: list[device_pb2.Device] = field(default_factory=list)
    landmarks: list[landmark_pb2.Landmark] = field(default_factory=list)
    import_response: licensing_pb2.ImportDeploymentsResponse = field(
        default_factory=licensing_pb2.ImportDeploymentsResponse
    )
    result: licensing_pb2.GetResultResponse = field(default_factory=licensing_pb2.GetResultResponse)
    result_requests: list[licensing_pb2.GetResultRequest] = field(default_factory=list)
    denial: tuple[grpc.StatusCode, str] | None = None
    watched: list[list[licensing_pb2.WatchDevicesResponse]] = field(default_factory=list)
    hold_watch: bool = False
    uploads: list[list[licensing_pb2.ImportDeploymentsRequest]] = field(default_factory=list)
    list_requests: list[licensing_pb2.ListDevicesRequest] = field(default_factory=list)
    watch_requests: list[licensing_pb2.WatchDevicesRequest] = field(default_factory=list)
    landmark_requests: list[landmark_pb2.ImportLandmarksRequest] = field(default_factory=list)
    audits: list[landmark_pb2.ListLandmarkAuditsResponse] = field(default_factory=list)
    audit_requests: list[landmark_pb2.ListLandmarkAuditsRequest] = field(default_factory=list)
    plan: landmark_pb2.PlanLandmarksResponse = field(default_factory=landmark_pb2.PlanLandmarksResponse)
    plan_requests: list[landmark_pb2.PlanLandmarksRequest] = field(default_factory=list)

    async def _deny(self, context: Context) -> None:
        if self.denial is not None:
            await context.abort(*self.denial)

    async def ListDevices(
        self, request: licensing_pb2.ListDevicesRequest, context: Context
    ) -> licensing_pb2.ListDevicesResponse:
        await self._deny(context)
        self.list_requests.append(request)
        start = int(request.page_token or 0)
        end = start + request.page_size
        return licensing_pb2.ListDevicesResponse(
            devices=self.devices[start:end],
            next_page_token=str(end) if end < len(self.devices) else "",
            total_size=len(self.devices),
        )

    async def GetDevice(
        self, request: licensing_pb2.GetDeviceRequest, context: Context
    ) -> licensing_pb2.GetDeviceResponse:
        await self._deny(context)
        found = [device for device in self.devices if device.name == request.name]
        if not found:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{request.name} is neither deployed nor seen")
        return licensing_pb2.GetDeviceResponse(device=found[0])

    async def GetResult(
        self, request: licensing_pb2.GetResultRequest, context: Context
    ) -> licensing_pb2.GetResultResponse:
        await self._deny(context)
        self.result_requests.append(request)
        return self.result

    async def ChallengeDevices(
        self, request: licensing_pb2.ChallengeDevicesRequest, context: Context
    ) -> licensing_pb2.ChallengeDevicesResponse:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this takes a second person, so a real server")

    async def WatchDevices(
        self, request: licensing_pb2.WatchDevicesRequest, context: Context
    ) -> AsyncIterator[licensing_pb2.WatchDevicesResponse]:
        await self._deny(context)
        self.watch_requests.append(request)
        for response in self.watched.pop(0) if self.watched else []:
            yield response
        if self.hold_watch:
            await asyncio.Event().wait()
        if not self.watched:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the script is over")

    async def ImportDeployments(
        self, request_iterator: AsyncIterator[licensing_pb2.ImportDeploymentsRequest], context: Context
    ) -> licensing_pb2.ImportDeploymentsResponse:
        await self._deny(context)
        self.uploads.append([request async for request in request_iterator])
        return self.import_response

    async def ListLandmarks(
        self, request: landmark_pb2.ListLandmarksRequest, context: Context
    ) -> landmark_pb2.ListLandmarksResponse:
        await self._deny(context)
        return landmark_pb2.ListLandmarksResponse(landmarks=self.landmarks)

    async def ImportLandmarks(
        self, request: landmark_pb2.ImportLandmarksRequest, context: Context
    ) -> landmark_pb2.ImportLandmarksResponse:
        await self._deny(context)
        self.landmark_requests.append(request)
        summary = [f"{landmark.name}: new" for landmark in request.landmarks]
        waits = change_pb2.Change(name="changes/7", state=change_pb2.CHANGE_STATE_OPEN, summary=summary)
        return landmark_pb2.ImportLandmarksResponse(created_count=len(request.landmarks), change=waits)

    async def Prove(
        self, request_iterator: AsyncIterator[landmark_pb2.ProveRequest], context: Context
    ) -> AsyncIterator[landmark_pb2.ProveResponse]:
        raise NotImplementedError
        yield

    async def ListLandmarkAudits(
        self, request: landmark_pb2.ListLandmarkAuditsRequest, context: Context
    ) -> landmark_pb2.ListLandmarkAuditsResponse:
        await self._deny(context)
        self.audit_requests.append(request)
        if not self.audits:
            return landmark_pb2.ListLandmarkAuditsResponse()
        return self.audits[len(self.audit_requests) - 1]

    async def PlanLandmarks(
        self, request: landmark_pb2.PlanLandmarksRequest, context: Context
    ) -> landmark_pb2.PlanLandmarksResponse:
        await self._deny(context)
        self.plan_requests.append(request)
        return self.plan

    async def GetLandmark(
        self, request: landmark_pb2.GetLandmarkRequest, context: Context
    ) -> landmark_pb2.GetLandmarkResponse:
        raise NotImplementedError

    async def GetTicketKey(
        self, request: landmark_pb2.GetTicketKeyRequest, context: Context
    ) -> landmark_pb2.GetTicketKeyResponse:
        raise NotImplementedError


class ServiceThread:
    """Runs FakeServices until the block ends."""

    def __init__(self, services: FakeServices, credentials: grpc.ServerCredentials | None = None) -> None:
        self._services = services
        self._credentials = credentials
        self._port: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main)
        self._over = asyncio.Event()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self._port.result()}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._port.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    def _main(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = grpc.aio.server()
        licensing_pb2_grpc.add_LicensingServiceServicer_to_server(self._services, server)
        landmark_pb2_grpc.add_LandmarkServiceServicer_to_server(self._services, server)
        if self._credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", self._credentials)
        await server.start()
        self._port.set_result(port)
        await self._over.wait()
        await server.stop(None)

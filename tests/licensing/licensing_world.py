"""A server with licensing, landmarks and changes on loopback, where metadata say who calls, and few words for it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import grpc
from trigpoint.v1 import change_pb2_grpc, landmark_pb2, landmark_pb2_grpc, licensing_pb2, licensing_pb2_grpc

import geodata
from server.desk.screening import ScreeningTask
from server.desk.watch import DeviceWatch
from server.rpc.access import AccessInterceptor
from server.rpc.changes import ChangeServicer
from server.rpc.destinations import Destinations
from server.rpc.landmarks import LandmarkServicer
from server.rpc.licensing import LicensingServicer
from server.rpc.rows import RowRules
from server.rpc.status import StatusInterceptor
from server.store import Store
from server.telemetry import Telemetry
from tests.two_people import activate, approve_all
from verifier.place.groups import parse_groups
from verifier.place.policy import PlacePolicy
from verifier.place.regions import Atlas

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
COUNTRIES = frozenset({"DE", "SG", "MY", "A:5"})
TICKET_KEY = bytes(range(32))
COLUMNS = (
    "device_pdi,license_number,licensee,valid_from,valid_until,presence,site_name,site_latitude,site_longitude,"
    "site_radius_km,country,cadence_s,grace_s"
)
Row = dict[str, object]


@cache
def policy() -> PlacePolicy:
    """The real borders and groups, read once."""
    groups = parse_groups(geodata.read_country_groups(), geodata.COUNTRY_GROUPS_VERSION)
    atlas = Atlas.parse(geodata.read_borders(), geodata.BORDERS_VERSION, groups.members)
    return PlacePolicy(atlas, groups.prohibited(), groups.version)


@cache
def row_rules() -> RowRules:
    """What rows are checked against, with few countries."""
    return RowRules(COUNTRIES, Destinations(policy()))


@dataclass(frozen=True, slots=True)
class World:
    store: Store
    channel: grpc.aio.Channel
    licensing: "licensing_pb2_grpc.LicensingServiceAsyncStub"
    landmarks: "landmark_pb2_grpc.LandmarkServiceAsyncStub"
    changes: "change_pb2_grpc.ChangeServiceAsyncStub"

    async def send(
        self, content: bytes, file_format: licensing_pb2.ImportFormat.ValueType, *, validate_only: bool = False
    ) -> licensing_pb2.ImportDeploymentsResponse:
        """Import a file in small pieces."""

        async def requests() -> AsyncIterator[licensing_pb2.ImportDeploymentsRequest]:
            options = licensing_pb2.ImportOptions(format=file_format, validate_only=validate_only)
            yield licensing_pb2.ImportDeploymentsRequest(options=options)
            for at in range(0, len(content), 1000):
                yield licensing_pb2.ImportDeploymentsRequest(data=content[at : at + 1000])

        return await self.licensing.ImportDeployments(requests())

    async def send_rows(
        self, rows: Sequence[Mapping[str, object]], *, validate_only: bool = False
    ) -> licensing_pb2.ImportDeploymentsResponse:
        """Import rows as JSON."""
        return await self.send(json.dumps(rows).encode(), licensing_pb2.IMPORT_FORMAT_JSON, validate_only=validate_only)

    async def license_rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Import rows of new licenses and put these in force."""
        response = await self.send_rows(rows)
        assert response.created_count == len(rows), response
        await activate(self.store, NOW)

    async def register(self, landmarks: Iterable[landmark_pb2.Landmark]) -> landmark_pb2.ImportLandmarksResponse:
        """Import landmarks, and have what they change approved."""
        response = await self.landmarks.ImportLandmarks(landmark_pb2.ImportLandmarksRequest(landmarks=landmarks))
        if response.created_count or response.updated_count:
            assert [change.name for change in await approve_all(self.channel)] == [response.change.name]
        return response

    async def send_csv(self, *lines: str, header: str = COLUMNS) -> licensing_pb2.ImportDeploymentsResponse:
        """Import lines as CSV."""
        text = "".join(f"{line}\r\n" for line in (header, *lines))
        return await self.send(text.encode(), licensing_pb2.IMPORT_FORMAT_CSV)


def site_row(number: int, **changes: object) -> Row:
    """A good row of a device that is licensed to a site; None takes a column away."""
    row: Row = {
        "device_pdi": f"{number:016x}",
        "license_number": "D1",
        "licensee": "Example Cloud",
        "valid_from": "2026-01-01",
        "valid_until": "2026-12-31",
        "presence": "site",
        "site_name": "Frankfurt 1",
        "site_latitude": 50.11,
        "site_longitude": 8.68,
        "site_radius_km": 25,
        "cadence_s": 3600,
        "grace_s": 600,
    }
    row.update(changes)
    return {name: value for name, value in row.items() if value is not None}


def country_row(number: int, **changes: object) -> Row:
    """A good row of a device that is licensed to a country."""
    without = dict.fromkeys(("site_name", "site_latitude", "site_longitude", "site_radius_km"))
    given: Row = {"presence": "country", "country": "DE", "license_number": "D2", **without, **changes}
    return site_row(number, **given)


def problems(response: licensing_pb2.ImportDeploymentsResponse) -> list[tuple[int, str]]:
    return [(error.row, error.field) for error in response.errors]


async def _ignore() -> None:
    """Nobody watches this server's health."""


@asynccontextmanager
async def serve(
    path: Path, clock: Callable[[], datetime] = lambda: NOW, rules: RowRules | None = None
) -> AsyncIterator[World]:
    store = await Store.open(path)
    watch = DeviceWatch(store, poll_every=timedelta(milliseconds=20))
    watching = asyncio.create_task(watch.run())
    telemetry, rules = Telemetry(), rules or row_rules()
    server = grpc.aio.server(interceptors=[StatusInterceptor(telemetry, _ignore), AccessInterceptor(None, telemetry)])
    screening = ScreeningTask(store.screening, clock)
    licensing_pb2_grpc.add_LicensingServiceServicer_to_server(
        LicensingServicer(store, watch, rules, screening, clock), server
    )
    change_pb2_grpc.add_ChangeServiceServicer_to_server(ChangeServicer(store, rules, screening, clock), server)
    landmark_pb2_grpc.add_LandmarkServiceServicer_to_server(
        LandmarkServicer(store, TICKET_KEY, COUNTRIES, clock), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield World(
                store,
                channel,
                licensing_pb2_grpc.LicensingServiceStub(channel),
                landmark_pb2_grpc.LandmarkServiceStub(channel),
                change_pb2_grpc.ChangeServiceStub(channel),
            )
    finally:
        await server.stop(None)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        await store.close()


def names(numbers: Iterable[int]) -> list[str]:
    return [f"devices/{number:016x}" for number in numbers]

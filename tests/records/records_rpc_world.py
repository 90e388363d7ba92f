"""A server with records, changes and imports on loopback, where metadata say who calls, and few words for it."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from trigpoint.v1 import (
    change_pb2_grpc,
    licensing_pb2,
    licensing_pb2_grpc,
    place_pb2,
    records_pb2,
    records_pb2_grpc,
    screening_pb2,
    screening_pb2_grpc,
)

from server.desk.screening import ScreeningTask
from server.desk.watch import DeviceWatch
from server.rpc.access import AccessInterceptor
from server.rpc.changes import ChangeServicer
from server.rpc.destinations import Destinations
from server.rpc.licensing import LicensingServicer
from server.rpc.plan import LandmarkPlanner
from server.rpc.records import RecordServicer
from server.rpc.rows import RowRules
from server.rpc.screening import ScreeningServicer
from server.rpc.status import StatusInterceptor
from server.store import Store
from server.telemetry import Telemetry
from tests.licensing.licensing_world import policy
from tests.two_people import ANN, approve_all

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
FRANKFURT = records_pb2.SiteCircle(latitude=50.11, longitude=8.68, radius_km=25)
KIND = records_pb2.RecordKind
Write = records_pb2.RecordWrite


@dataclass(slots=True)
class Clock:
    """What the server takes for the time."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True, slots=True)
class World:
    store: Store
    clock: Clock
    channel: grpc.aio.Channel
    records: "records_pb2_grpc.RecordServiceAsyncStub"
    changes: "change_pb2_grpc.ChangeServiceAsyncStub"
    licensing: "licensing_pb2_grpc.LicensingServiceAsyncStub"

    async def write(
        self, *writes: Write, who: str = "officer/ann", validate_only: bool = False
    ) -> records_pb2.WriteRecordsResponse:
        request = records_pb2.WriteRecordsRequest(writes=writes, reason="says the test", validate_only=validate_only)
        return await self.records.WriteRecords(request, metadata=as_peer(who))

    async def screen_against(self, content: bytes) -> int:
        """Put a screening list in force; return how many hits are new."""

        async def requests() -> AsyncIterator[screening_pb2.ImportScreeningListRequest]:
            options = screening_pb2.ScreeningListOptions(version="one")
            yield screening_pb2.ImportScreeningListRequest(options=options)
            yield screening_pb2.ImportScreeningListRequest(data=content)

        stub = screening_pb2_grpc.ScreeningServiceStub(self.channel)
        response = await stub.ImportScreeningList(requests(), metadata=ANN)
        assert not response.errors
        return response.new_hit_count

    async def set_state(self, state: str, number: str = "D1") -> records_pb2.WriteRecordsResponse:
        """Propose a state of a license, and approve it."""
        value = records_pb2.LicenseState.Value(f"LICENSE_STATE_{state}")
        record = records_pb2.Record(name=f"licenses/{number}", license=records_pb2.License(state=value))
        response = await self.write(Write(record=record, update_mask=FieldMask(paths=["state"])))
        await approve_all(self.channel)
        return response

    async def get(
        self, name: str, who: str = "officer/ann", as_of: datetime | None = None
    ) -> records_pb2.GetRecordResponse:
        request = records_pb2.GetRecordRequest(name=name)
        if as_of is not None:
            request.as_of.FromDatetime(as_of)
        return await self.records.GetRecord(request, metadata=as_peer(who))

    async def names(self, kind: KIND.ValueType, chosen: str = "", who: str = "officer/ann") -> list[str]:
        request = records_pb2.ListRecordsRequest(kind=kind, filter=chosen)
        response = await self.records.ListRecords(request, metadata=as_peer(who))
        assert response.total_size == len(response.records)
        return [record.name for record in response.records]

    async def export(self, chosen: str = "", *, json_array: bool = False, who: str = "officer/ann") -> bytes:
        request = records_pb2.ExportDeploymentsRequest(filter=chosen, json=json_array)
        stream = self.records.ExportDeployments(request, metadata=as_peer(who))
        return b"".join([piece.data async for piece in stream])

    async def import_back(self, content: bytes, *, json_array: bool) -> licensing_pb2.ImportDeploymentsResponse:
        form = licensing_pb2.IMPORT_FORMAT_JSON if json_array else licensing_pb2.IMPORT_FORMAT_CSV

        async def requests() -> AsyncIterator[licensing_pb2.ImportDeploymentsRequest]:
            options = licensing_pb2.ImportOptions(format=form, reason="back again")
            yield licensing_pb2.ImportDeploymentsRequest(options=options)
            yield licensing_pb2.ImportDeploymentsRequest(data=content)

        return await self.licensing.ImportDeployments(requests(), metadata=ANN)


def as_peer(who: str) -> Sequence[tuple[str, str]]:
    return (("trigpoint-dev-role", who),)


def party(party_id: str = "acme", title: str = "Acme Computing") -> Write:
    return Write(record=records_pb2.Record(name=f"parties/{party_id}", party=records_pb2.Party(title=title)))


def license_write(number: str = "D1", *, parties: Iterable[str] = ("acme",), quantity: int = 0) -> Write:
    message = records_pb2.License(
        licensee="Acme Computing",
        presence=place_pb2.PRESENCE_SITE,
        quantity=quantity,
        parties=[
            records_pb2.LicenseParty(party=f"parties/{each}", role=records_pb2.PARTY_ROLE_LICENSEE) for each in parties
        ],
    )
    message.valid_from.FromDatetime(NOW - timedelta(days=30))
    message.valid_until.FromDatetime(NOW + timedelta(days=300))
    message.cadence.FromTimedelta(timedelta(hours=1))
    message.grace.FromTimedelta(timedelta(minutes=10))
    return Write(record=records_pb2.Record(name=f"licenses/{number}", license=message))


def site_write(site_id: str = "fra1", number: str = "D1", title: str = "Frankfurt 1") -> Write:
    site = records_pb2.Site(title=title, circle=FRANKFURT)
    return Write(record=records_pb2.Record(name=f"licenses/{number}/sites/{site_id}", site=site))


def deployment_write(pdi: int, site: str = "licenses/D1/sites/fra1", **changes: str) -> Write:
    deployment = records_pb2.Deployment(site=site, **changes)  # type: ignore[arg-type]  # texts alone
    return Write(record=records_pb2.Record(name=f"deployments/{pdi:016x}", deployment=deployment))


def masked(record: records_pb2.Record, *paths: str) -> Write:
    return Write(record=record, update_mask=FieldMask(paths=paths))


def json_rows(content: bytes) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(content)
    return rows


async def _ignore() -> None:
    """Nobody watches this server's health."""


@asynccontextmanager
async def serve(path: Path) -> AsyncIterator[World]:
    clock, telemetry = Clock(), Telemetry()
    store = await Store.open(path)
    countries = policy().atlas.country_codes | policy().atlas.groups.keys()
    rules = RowRules(countries, Destinations(policy()))
    screening = ScreeningTask(store.screening, clock)
    planner = LandmarkPlanner(store, policy(), clock)
    server = grpc.aio.server(interceptors=[StatusInterceptor(telemetry, _ignore), AccessInterceptor(None, telemetry)])
    records_pb2_grpc.add_RecordServiceServicer_to_server(
        RecordServicer(store, policy(), planner, screening, clock), server
    )
    change_pb2_grpc.add_ChangeServiceServicer_to_server(ChangeServicer(store, rules, screening, clock), server)
    watch = DeviceWatch(store, poll_every=timedelta(milliseconds=20))
    licensing_pb2_grpc.add_LicensingServiceServicer_to_server(
        LicensingServicer(store, watch, rules, screening, clock), server
    )
    screening_pb2_grpc.add_ScreeningServiceServicer_to_server(
        ScreeningServicer(store.screening, screening, clock), server
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield World(
                store,
                clock,
                channel,
                records_pb2_grpc.RecordServiceStub(channel),
                change_pb2_grpc.ChangeServiceStub(channel),
                licensing_pb2_grpc.LicensingServiceStub(channel),
            )
    finally:
        await server.stop(None)
        await store.close()

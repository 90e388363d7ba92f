"""A server with the screening service on loopback, its store, and a desk's few words for both."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from trigpoint.v1 import screening_pb2, screening_pb2_grpc

from server.desk.screening import ScreeningTask
from server.records.values import Party, RecordWrite
from server.rpc.access import AccessInterceptor
from server.rpc.screening import ScreeningServicer
from server.rpc.status import StatusInterceptor
from server.store import Store
from server.telemetry import Telemetry
from tests.screening.list_file import ROWS, file_of

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
ANN = (("trigpoint-dev-role", "officer/ann"),)


@dataclass(frozen=True, slots=True)
class World:
    store: Store
    task: ScreeningTask
    stub: "screening_pb2_grpc.ScreeningServiceAsyncStub"

    async def write_party(self, party_id: str, title: str, *aliases: str) -> None:
        """Put a party on record, as it stands then; nobody screens it."""
        party = Party(party_id, title, aliases)
        await self.store.records.write([RecordWrite(f"parties/{party_id}", party, None)], "ann", "for a test", NOW)

    async def send(
        self, content: bytes, version: str, *, validate_only: bool = False
    ) -> screening_pb2.ImportScreeningListResponse:
        """Import a list in small pieces."""

        async def requests() -> AsyncIterator[screening_pb2.ImportScreeningListRequest]:
            options = screening_pb2.ScreeningListOptions(version=version, validate_only=validate_only)
            yield screening_pb2.ImportScreeningListRequest(options=options)
            for at in range(0, len(content), 1_000):
                yield screening_pb2.ImportScreeningListRequest(data=content[at : at + 1_000])

        return await self.stub.ImportScreeningList(requests(), metadata=ANN)

    async def send_rows(
        self, version: str, rows: Sequence[Mapping[str, str]] = ROWS, *, validate_only: bool = False
    ) -> tuple[int, int]:
        """Import a good list; return how many hits are new, and how many gone."""
        response = await self.send(file_of(rows), version, validate_only=validate_only)
        assert list(response.errors) == []
        return response.new_hit_count, response.gone_hit_count

    async def hits(self, filter_: str = "") -> list[screening_pb2.ScreeningHit]:
        """All hits that match, page by page."""
        found: list[screening_pb2.ScreeningHit] = []
        token = ""
        while True:
            request = screening_pb2.ListScreeningHitsRequest(page_size=2, page_token=token, filter=filter_)
            page = await self.stub.ListScreeningHits(request, metadata=ANN)
            found.extend(page.hits)
            token = page.next_page_token
            if not token:
                assert page.total_size == len(found)
                return found

    async def decide(self, state: "screening_pb2.HitState.ValueType", *names: str) -> list[screening_pb2.ScreeningHit]:
        """Decide on hits as ann."""
        request = screening_pb2.DecideScreeningHitsRequest(names=names, state=state, reason="looked at it")
        return list((await self.stub.DecideScreeningHits(request, metadata=ANN)).hits)


async def _ignore() -> None:
    """Nobody watches this server's health."""


@asynccontextmanager
async def serve(path: Path) -> AsyncIterator[World]:
    store = await Store.open(path)
    telemetry = Telemetry()
    server = grpc.aio.server(interceptors=[StatusInterceptor(telemetry, _ignore), AccessInterceptor(None, telemetry)])
    task = ScreeningTask(store.screening, lambda: NOW)
    servicer = ScreeningServicer(store.screening, task, lambda: NOW)
    screening_pb2_grpc.add_ScreeningServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield World(store, task, screening_pb2_grpc.ScreeningServiceStub(channel))
    finally:
        await server.stop(None)
        await store.close()

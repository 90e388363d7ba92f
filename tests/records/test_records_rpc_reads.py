"""Records tell where devices are deployed: whoever is shown them is written down (docs/protocol.md K2)."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from trigpoint.v1 import records_pb2

from server.store.errors import StoreUnavailableError
from server.store.reads import ReadFilter
from tests.records.records_rpc_world import (
    World,
    as_peer,
    deployment_write,
    license_write,
    party,
    serve,
    site_write,
)

DEPLOYMENT = "deployments/0000000000000001"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """License D1 with its site, two devices and a board of eight."""
    async with serve(tmp_path / "trigpoint.db") as opened:
        board = records_pb2.Deployment(site="licenses/D1/sites/fra1", devices=8)
        by_board = records_pb2.RecordWrite(
            record=records_pb2.Record(name="deployments/board-00000000000000aa", deployment=board)
        )
        await opened.write(party(), license_write(), site_write(), deployment_write(1), deployment_write(2), by_board)
        yield opened


async def told(world: World) -> list[tuple[str, str, str, int]]:
    page = await world.store.reads.list(ReadFilter())
    return [(read.by, read.call, read.subject, read.devices) for read in reversed(page.reads)]


async def test_deployments_leave_a_row_and_other_records_none(world: World) -> None:
    eve = as_peer("viewer/eve")
    for name in ("licenses/D1", "licenses/D1/sites/fra1", "parties/acme", DEPLOYMENT):
        await world.records.GetRecord(records_pb2.GetRecordRequest(name=name), metadata=eve)
    assert await told(world) == [("viewer/eve", "GetRecord", DEPLOYMENT, 1)]


async def test_a_list_counts_what_a_board_stands_for(world: World) -> None:
    request = records_pb2.ListRecordsRequest(kind=records_pb2.RECORD_KIND_DEPLOYMENT, filter='license = "D1"')
    await world.records.ListRecords(request, metadata=as_peer("viewer/eve"))
    sites = records_pb2.ListRecordsRequest(kind=records_pb2.RECORD_KIND_SITE)
    await world.records.ListRecords(sites, metadata=as_peer("viewer/eve"))
    assert await told(world) == [("viewer/eve", "ListRecords", 'license = "D1"', 10)]


async def test_revisions_of_deployments_leave_a_row(world: World) -> None:
    ask = records_pb2.ListRevisionsRequest
    await world.records.ListRevisions(ask(name=DEPLOYMENT), metadata=as_peer("auditor/kim"))
    await world.records.ListRevisions(ask(name="licenses/D1"), metadata=as_peer("auditor/kim"))
    await world.records.ListRevisions(ask(filter='by = "ann"'), metadata=as_peer("auditor/kim"))
    assert await told(world) == [
        ("auditor/kim", "ListRevisions", DEPLOYMENT, 1),
        ("auditor/kim", "ListRevisions", 'by = "ann"', 10),
    ]


async def test_an_export_leaves_one_before_its_first_piece(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await world.export('license = "D1"')
    assert await told(world) == [("officer/ann", "ExportDeployments", 'license = "D1"', 10)]

    async def no_room(*_: object) -> None:
        raise StoreUnavailableError("no room")

    monkeypatch.setattr(world.store.reads, "note", no_room)
    stream = world.records.ExportDeployments(records_pb2.ExportDeploymentsRequest(), metadata=as_peer("officer/ann"))
    pieces: list[bytes] = []
    with pytest.raises(grpc.aio.AioRpcError, match="the store does not answer"):
        pieces.extend([piece.data async for piece in stream])
    assert pieces == []

"""ExportCase over gRPC, and `trigpoint case export`: who gets which bundle, and that it is written down."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs
from trigpoint.v1 import cases_pb2, cases_pb2_grpc
from typer.testing import CliRunner

from console.cli import app
from server.desk import bundle_file
from server.desk.bundle import CaseExporter
from server.rpc.access import DEV_ROLE_KEY, AccessInterceptor
from server.rpc.case_export import CaseExport
from server.rpc.cases import CaseServicer
from server.rpc.status import StatusInterceptor
from server.store.reads import ReadFilter
from server.telemetry import Telemetry
from tests.bundle_export.export_world import JWKS, KEY, ORIGIN, ExportWorld
from tests.bundle_export.reader import opened
from tests.store.store_world import HOUR, START

NOW = START + 30 * HOUR


async def _ignore() -> None:
    """Nobody watches this server's health."""


@dataclass(frozen=True, slots=True)
class Served:
    world: ExportWorld
    address: str
    stub: "cases_pb2_grpc.CaseServiceAsyncStub"

    async def export(
        self, who: str, jurisdiction: str = "", *, name: str = "cases/1", reason: str = "asked by the prosecutor"
    ) -> bytes:
        request = cases_pb2.ExportCaseRequest(name=name, reason=reason, jurisdiction=jurisdiction)
        call = self.stub.ExportCase(request, metadata=((DEV_ROLE_KEY, who),))
        return b"".join([response.data async for response in call])

    async def says(self, *arguments: str, width: int = 80) -> tuple[int, str, str]:
        line = ["--server", self.address, "--plaintext", *arguments]
        environment = {"COLUMNS": str(width), "HOME": "/nonexistent"}
        with capture_logs():  # the server is in this process, and its log is not what people read
            result = await asyncio.to_thread(CliRunner().invoke, app, line, env=environment)
        return result.exit_code, result.stdout, result.stderr


@pytest.fixture
async def served(world: ExportWorld) -> AsyncIterator[Served]:
    telemetry = Telemetry()
    server = grpc.aio.server(interceptors=[StatusInterceptor(telemetry, _ignore), AccessInterceptor(None, telemetry)])
    exporter = CaseExporter(world.store, world.signer, KEY, ORIGIN, JWKS)
    export = CaseExport(exporter, world.store.reads)
    servicer = CaseServicer(world.store.cases, lambda: NOW, export, reads=world.store.reads)
    cases_pb2_grpc.add_CaseServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(world, f"127.0.0.1:{port}", cases_pb2_grpc.CaseServiceStub(channel))
    finally:
        await server.stop(None)


def files_in(folder: Path) -> list[str]:
    """All there is, but the store's own files."""
    return sorted(str(path) for path in folder.rglob("*") if not path.name.startswith("trigpoint.db"))


@pytest.mark.parametrize(
    ("who", "asked", "jurisdiction", "devices"),
    [
        ("officer/ann", "", "", 4),
        ("officer/ann", "DE", "DE", 3),
        ("auditor/DE/dora", "", "DE", 3),
        ("approver/DE/dora", "DE", "DE", 3),
    ],
)
async def test_everybody_gets_what_they_may_see_and_it_is_written_down(
    served: Served, who: str, asked: str, jurisdiction: str, devices: int
) -> None:
    found = opened(await served.export(who, asked))
    exported = found.body["exported"]
    assert (exported["by"], exported["jurisdiction"]) == (who, jurisdiction)
    assert bool(found.withheld) == bool(jurisdiction)
    (read,) = (await served.world.store.reads.list(ReadFilter())).reads
    assert (read.by, read.call, read.subject, read.devices, read.at) == (who, "ExportCase", "cases/1", devices, NOW)


@pytest.mark.parametrize(
    ("who", "asked", "code", "words"),
    [
        ("viewer/eve", "", grpc.StatusCode.PERMISSION_DENIED, "may not call"),
        ("admin/root", "", grpc.StatusCode.PERMISSION_DENIED, "may not call"),
        ("officer/SG/sue", "", grpc.StatusCode.NOT_FOUND, "cases/1"),
        ("officer/DE/dora", "SG", grpc.StatusCode.INVALID_ARGUMENT, "you see what is of DE alone"),
        ("officer/ann", "SG", grpc.StatusCode.INVALID_ARGUMENT, "nobody of SG"),
        ("officer/ann", "de", grpc.StatusCode.INVALID_ARGUMENT, "two capital letters"),
    ],
)
async def test_who_gets_none(served: Served, who: str, asked: str, code: grpc.StatusCode, words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.export(who, asked)
    assert caught.value.code() is code
    assert words in (caught.value.details() or "")
    assert (await served.world.store.reads.list(ReadFilter())).reads == ()


@pytest.mark.parametrize(
    ("name", "reason", "code", "words"),
    [
        ("cases/9", "why", grpc.StatusCode.NOT_FOUND, "cases/9"),
        ("cases/0", "why", grpc.StatusCode.INVALID_ARGUMENT, "name"),
        ("cases/1", "  ", grpc.StatusCode.INVALID_ARGUMENT, "reason"),
        ("cases/1", "x" * 2_001, grpc.StatusCode.INVALID_ARGUMENT, "reason"),
    ],
)
async def test_what_cannot_be_asked(served: Served, name: str, reason: str, code: grpc.StatusCode, words: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.export("officer/ann", name=name, reason=reason)
    assert caught.value.code() is code
    assert words in (caught.value.details() or "")


async def test_a_case_that_is_too_large_is_refused(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_file, "MAX_BODY_BYTES", 10_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.export("officer/ann")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_nothing_leaves_when_it_cannot_be_written_down(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("the disk is gone, says the test")

    monkeypatch.setattr(served.world.store.reads, "note", fails)
    call = served.stub.ExportCase(
        cases_pb2.ExportCaseRequest(name="cases/1", reason="why"), metadata=((DEV_ROLE_KEY, "officer/ann"),)
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await anext(aiter(call))


async def test_the_console_writes_a_file_once(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "case-1.tpb"
    line = "case", "export", "1", "-o", str(file), "--reason", "asked by the prosecutor"
    code, out, err = await served.says(*line)
    assert code == 0, err
    content = file.read_bytes()
    assert opened(content).case == "cases/1"
    lines = out.replace("\n", " ").split()
    assert sha256(content).hexdigest() in lines
    assert f"{len(content):,}" in lines
    assert "trigpoint verify" in err
    assert max(map(len, [line for line in err.splitlines() if str(file) not in line])) <= 80
    code, out, err = await served.says(*line)
    assert (code, out) == (2, "")
    assert "is there already" in err.replace("\n", " ")
    assert file.read_bytes() == content
    assert not [path for path in files_in(tmp_path) if path.endswith(".part")]


async def test_the_console_tells_json_and_asks_for_one_jurisdiction(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "case-1.tpb"
    line = "case", "export", "1", "-o", str(file), "--reason", "for Berlin", "--jurisdiction", "de", "--json"
    code, out, _ = await served.says(*line)
    assert code == 0
    told = json.loads(out)
    content = file.read_bytes()
    assert told == {"file": str(file), "size_bytes": len(content), "sha256": sha256(content).hexdigest()}
    assert opened(content).body["exported"]["jurisdiction"] == "DE"


@pytest.mark.parametrize("where", ["case.tpb", "file/case.tpb", "no/case.tpb"])
async def test_a_refused_export_leaves_no_file(served: Served, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    before = files_in(tmp_path)
    reason = "why" if "/" in where else " "
    code, _, err = await served.says("case", "export", "1", "-o", str(tmp_path / where), "--reason", reason)
    assert code == 2
    assert err.startswith("trigpoint: ")
    assert files_in(tmp_path) == before


async def test_what_somebody_edited_cannot_be_proven(served: Served, tmp_path: Path) -> None:
    """A row that another hand changed was never journaled: no bundle says that it stands."""
    with sqlite3.connect(tmp_path / "trigpoint.db") as database:
        database.execute("UPDATE findings SET detail = 'nothing'")
    database.close()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await served.export("officer/ann")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "never journaled" in (caught.value.details() or "")

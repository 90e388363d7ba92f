"""`trigpoint screening` against a server: what people and scripts see."""

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import grpc
import pytest
import structlog
import typer
from trigpoint.v1 import screening_pb2_grpc
from typer.testing import CliRunner, Result

from console import screening
from server.desk.screening import ScreeningTask
from server.records.values import Party, RecordWrite
from server.rpc.access import AccessInterceptor
from server.rpc.screening import ScreeningServicer
from server.rpc.status import StatusInterceptor
from server.store import Store
from server.telemetry import Telemetry
from tests.screening.list_file import ROWS, entry, file_of
from tests.screening.screening_world import NOW

Trigpoint = Callable[..., Result]


async def _ignore() -> None:
    """Nobody watches this server's health."""


async def _serve(path: Path, port: "Future[int]", over: "Future[None]") -> None:
    store = await Store.open(path)
    for party_id, title in (("zarvelin", "Zarvelin Dynamics Frankfurt GmbH"), ("petrak", "Petrak Olegovin")):
        write = RecordWrite(f"parties/{party_id}", Party(party_id, title), None)
        await store.records.write([write], "ann", "for a test", NOW)
    telemetry = Telemetry()
    server = grpc.aio.server(interceptors=[StatusInterceptor(telemetry, _ignore), AccessInterceptor(None, telemetry)])
    servicer = ScreeningServicer(store.screening, ScreeningTask(store.screening, lambda: NOW), lambda: NOW)
    screening_pb2_grpc.add_ScreeningServiceServicer_to_server(servicer, server)
    bound = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    port.set_result(bound)
    await asyncio.wrap_future(over)
    await server.stop(None)
    await store.close()


@pytest.fixture
def trigpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trigpoint]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    port: Future[int] = Future()
    over: Future[None] = Future()
    settings = structlog.get_config()
    # The server runs in this process, and its log would stand among what the command prints.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(io.StringIO()))
    thread = threading.Thread(target=lambda: asyncio.run(_serve(tmp_path / "trigpoint.db", port, over)))
    thread.start()
    app = typer.Typer()
    app.add_typer(screening.app, name="screening")

    def run(*arguments: str) -> Result:
        target = f"127.0.0.1:{port.result(30)}"
        return CliRunner().invoke(app, ["screening", *arguments, "--server", target, "--plaintext"])

    yield run
    over.set_result(None)
    thread.join()
    structlog.configure(**settings)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "consolidated.csv"
    path.write_bytes(file_of(ROWS))
    return path


def test_a_list_is_imported_after_a_dry_run(trigpoint: Trigpoint, file: Path) -> None:
    result = trigpoint("import", str(file), "--version", "2026-07-01", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "3 entries, 5 names: 2 hits would be new, 0 would be gone\n")
    result = trigpoint("list")
    assert (result.stdout, result.stderr) == ("", "0 hits, no list is in force\n")
    result = trigpoint("import", str(file), "--version", "2026-07-01")
    assert (result.exit_code, result.stdout) == (0, "3 entries, 5 names: 2 hits new, 0 gone\n")
    told = json.loads(trigpoint("import", str(file), "--version", "2026-07-01", "--json").stdout)
    assert (told["new_hit_count"], told["error_count"], told["validate_only"]) == (0, 0, False)


def test_hits_read_well_in_80_columns(trigpoint: Trigpoint, file: Path) -> None:
    trigpoint("import", str(file), "--version", "2026-07-01")
    result = trigpoint("list")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert [line.rstrip() for line in result.stdout.splitlines()][:3] == [
        "OPEN  88  petrak.e2",
        "    party petrak: Petrak Olegovin",
        "    listed: OLEGOVIN, Petrak Maximovin",
    ]
    assert result.stderr == "2 hits, list 2026-07-01\n"
    assert trigpoint("list", "--limit", "1").stderr == "1 of 2, list 2026-07-01; --all shows the rest\n"
    told = json.loads(trigpoint("list", "--party", "zarvelin", "--all", "--json").stdout)
    assert [hit["name"] for hit in told["hits"]] == ["screeningHits/zarvelin.e1"]
    assert (told["total_size"], told["list_version"], told["hits"][0]["state"]) == (1, "2026-07-01", "OPEN")


def test_hits_are_cleared_and_confirmed_with_a_reason(trigpoint: Trigpoint, file: Path) -> None:
    trigpoint("import", str(file), "--version", "1")
    result = trigpoint("clear", "zarvelin.e1", "screeningHits/petrak.e2", "--reason", "others: passports seen")
    assert result.exit_code == 0
    assert "cleared by plaintext, 2026-07-01 12:00:00 UTC: others: passports seen" in " ".join(result.stdout.split())
    assert trigpoint("list", "--state", "open").stderr == "0 hits, list 1\n"
    told = json.loads(trigpoint("confirm", "petrak.e2", "--reason", "the same", "--json").stdout)
    assert [hit["state"] for hit in told["hits"]] == ["CONFIRMED"]
    assert trigpoint("list", "--state", "confirmed").stderr == "1 hit, list 1\n"


def test_what_cannot_be_decided_is_told(trigpoint: Trigpoint, file: Path) -> None:
    trigpoint("import", str(file), "--version", "1")
    assert trigpoint("clear", "zarvelin.e1", "--reason", " ").exit_code == 2
    assert trigpoint("clear", *(f"p.{n}" for n in range(1_001)), "--reason", "x").exit_code == 2
    assert trigpoint("clear", "nonsense", "--reason", "x").exit_code == 2
    result = trigpoint("clear", "zarvelin.e9", "--reason", "x")
    assert result.exit_code == 1
    assert "screeningHits/zarvelin.e9" in result.stderr


def test_rows_that_are_wrong_are_a_numbered_table(trigpoint: Trigpoint, file: Path) -> None:
    file.write_bytes(file_of([*ROWS, entry("e1", "Zarvelin Again"), entry("e5", "")]))
    result = trigpoint("import", str(file), "--version", "1")
    assert result.exit_code == 1
    assert "  4  _id    e1     rows 1 and 4 have the same id" in result.stdout
    assert "2 errors; the list in force stays" in " ".join(result.stderr.split())
    result = trigpoint("import", str(file), "--version", "1", "--json")
    assert (result.exit_code, json.loads(result.stdout)["error_count"]) == (1, 2)
    assert trigpoint("import", str(file.parent / "missing.csv"), "--version", "1").exit_code == 2
    assert trigpoint("list").stderr == "0 hits, no list is in force\n"

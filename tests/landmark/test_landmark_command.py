"""The command line, as processes: keygen, show, serve, check."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

from landmark.config import parse_endpoint
from landmark.keys import create_key, load_key
from tests.landmark.grpc_helpers import make_certificates, server_credentials
from tests.landmark.helpers import HAS_IPV6, Device, Issuer, read_receipt

COMMAND = (sys.executable, "-m", "landmark.main")


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@dataclass
class Serving:
    process: asyncio.subprocess.Process
    endpoints: list[str]
    key_id: bytes


@contextlib.asynccontextmanager
async def serving(*arguments: str, command: tuple[str, ...] = (*COMMAND, "serve")) -> AsyncIterator[Serving]:
    process = await asyncio.create_subprocess_exec(
        *command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        assert ready["ready"] is True
        yield Serving(process, ready["endpoints"], bytes.fromhex(ready["key_id"]))
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_keygen_and_show_print_the_same(tmp_path: Path) -> None:
    path = tmp_path / "key"
    code, made, _ = await run("keygen", str(path))
    assert code == 0
    key = load_key(path)
    assert made == f"key id {key.key_id.hex()}\npublic key {key.public_key.hex()}\n"
    assert await run("show", "--key", str(path)) == (0, made, "")
    code, out, err = await run("keygen", str(path))
    assert (code, out) == (2, "")
    assert "exists" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_with_options_ranges_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    key, issuer = create_key(tmp_path / "key"), Issuer()
    listen = ["--listen", "127.0.0.1:0"] + (["--listen", "[::1]:0"] if HAS_IPV6 else [])
    options = ("--key", str(tmp_path / "key"), "--ticket-key", issuer.public_hex)
    async with serving(*listen, *options) as served:
        assert served.key_id == key.key_id
        for endpoint in served.endpoints:
            device = Device(parse_endpoint(endpoint), key.key_id, hold_ns=1_000_000)
            receipt = await device.range(issuer.ticket(key.key_id, challenge=device.challenge))
            fields = read_receipt(receipt, key.public_key)
            assert fields[8] >= 1_000_000
            assert fields[10] == 1
            device.close()
        served.process.send_signal(number)
        out, err = await served.process.communicate()
        assert served.process.returncode == 0
        assert out == b""
        events = [json.loads(line) for line in err.splitlines()]
        assert [event["event"] for event in events] == ["serving", "stopped"]
        assert events[1]["outcomes"] == {"receipt": len(served.endpoints)}
        assert events[1]["rounds"] == 16 * len(served.endpoints)


async def test_serve_with_a_file_logs_its_counters(tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    config = tmp_path / "landmark.toml"
    config.write_text(
        f'listen = ["127.0.0.1:0"]\nkey_file = "key"\nticket_keys = ["{Issuer().public_hex}"]\n'
        "position_revision = 3\nvirtual_machine = true\nstats_interval_s = 1\n"
    )
    async with serving("--config", str(config)) as served:
        assert served.process.stderr is not None
        await served.process.stderr.readline()
        stats = json.loads(await served.process.stderr.readline())
        assert stats["event"] == "stats"
        assert stats["sessions"] == stats["failed_sends"] == 0


async def test_the_serving_process_never_imports_grpc(tmp_path: Path) -> None:
    create_key(tmp_path / "key")
    # The same entry point; when it has stopped, it looks at what was imported.
    program = (
        "import sys\nfrom landmark import main\n"
        "try:\n    main.app()\nfinally:\n"
        "    bad = [name for name in sys.modules if name.partition('.')[0] in "
        "{'grpc', 'google', 'trigpoint', 'uvloop', 'verifier', 'server', 'agent', 'firmware_stubs'}]\n"
        "    print(bad)\n"
    )
    command = (sys.executable, "-c", program, "serve")
    options = ("--listen", "127.0.0.1:0", "--key", str(tmp_path / "key"), "--ticket-key", Issuer().public_hex)
    async with serving(*options, command=command) as served:
        served.process.terminate()
        out, _ = await served.process.communicate()
        assert out.decode() == "[]\n"


async def test_unusable_input_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    key = tmp_path / "key"
    create_key(key)
    ticket_key = ("--ticket-key", Issuer().public_hex)
    cases: list[tuple[tuple[str, ...], str]] = [
        (("--listen", "127.0.0.1:0", "--key", str(tmp_path / "absent"), *ticket_key), "absent: No such file"),
        (("--listen", "nowhere", "--key", str(key), *ticket_key), "options: listen"),
        (("--listen", "192.0.2.1:7000", "--key", str(key), *ticket_key), "192.0.2.1:7000: Cannot assign"),
        (("--config", str(tmp_path / "absent.toml")), "absent.toml: No such file"),
    ]
    for arguments, words in cases:
        code, out, err = await run("serve", *arguments)
        assert (code, out) == (2, "")
        assert words in err
        assert "Traceback" not in err
    assert (await run("serve"))[0] == 2
    assert (await run("serve", "--config", "x", "--listen", "127.0.0.1:0"))[0] == 2


class Registry(landmark_pb2_grpc.LandmarkServiceServicer):
    """A registry of one landmark, for reading."""

    def __init__(self, record: landmark_pb2.Landmark, ticket_key: bytes) -> None:
        self.record = record
        self.ticket_key = ticket_key

    def GetLandmark(  # noqa: N802 - the name is the schema's
        self, request: landmark_pb2.GetLandmarkRequest, context: grpc.ServicerContext
    ) -> landmark_pb2.GetLandmarkResponse:
        if request.name != self.record.name:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such landmark")
        return landmark_pb2.GetLandmarkResponse(landmark=self.record)

    def GetTicketKey(  # noqa: N802 - the name is the schema's
        self, request: landmark_pb2.GetTicketKeyRequest, context: grpc.ServicerContext
    ) -> landmark_pb2.GetTicketKeyResponse:
        del request, context
        return landmark_pb2.GetTicketKeyResponse(public_key=self.ticket_key)


@contextlib.contextmanager
def registry_at(folder: Path, registry: Registry) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2))
    landmark_pb2_grpc.add_LandmarkServiceServicer_to_server(registry, server)
    port = server.add_secure_port("localhost:0", server_credentials(folder))
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


async def test_check_says_whether_the_registry_agrees(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    key = create_key(tmp_path / "key")
    config = tmp_path / "landmark.toml"
    old, new = Issuer().public_hex, Issuer().public_hex
    config.write_text(
        f'listen = ["127.0.0.1:0"]\nkey_file = "key"\nticket_keys = ["{old}", "{new}"]\n'
        "position_revision = 3\nvirtual_machine = false\n"
    )
    record = landmark_pb2.Landmark(name="landmarks/a", public_key=key.public_key, revision=3)
    client = ["--cert", str(tmp_path / "landmark.pem"), "--key", str(tmp_path / "landmark.key")]
    # The stubs call methods abstract that gRPC answers with UNIMPLEMENTED.
    registry = Registry(record, bytes.fromhex(new))  # type: ignore[abstract]
    with registry_at(tmp_path, registry) as server:

        async def check(name: str, ca: str = "ca.pem") -> tuple[int, str, str]:
            where = ["--config", str(config), "--name", name, "--server", server, "--ca", str(tmp_path / ca)]
            return await run("check", *where, *client)

        code, out, _ = await check("landmarks/a")
        assert code == 0
        assert out.count("agrees") == 4
        registry.record = landmark_pb2.Landmark(name="landmarks/a", public_key=os.urandom(32), revision=4)
        registry.record.virtual_machine = True
        registry.ticket_key = os.urandom(32)
        code, out, _ = await check("landmarks/a")
        assert code == 1
        assert out.count("DIFFERS") == 4
        code, out, err = await check("landmarks/b")
        assert (code, out) == (2, "")
        assert "NOT_FOUND" in err
        code, out, err = await check("landmarks/a", "absent.pem")
        assert (code, out) == (2, "")
        assert "absent.pem: No such file" in err

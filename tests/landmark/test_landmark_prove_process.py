"""`prove` and `serve` with an [audit] table, as processes, and a server that gives orders over mutual TLS."""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from trigpoint.v1 import landmark_pb2

from landmark.backoff import Backoff
from landmark.keys import create_key, load_key
from landmark.prover_client import Order
from landmark.supervisor import keep_running
from tests.landmark.grpc_helpers import WAIT_S, ProveService, make_certificates, prove_server
from tests.landmark.helpers import Issuer, run_landmark, sha256
from tests.landmark.proving_helpers import check_evidence, order_for, silent_endpoint

COMMAND = (sys.executable, "-m", "landmark.main")


async def lines_of(stream: asyncio.StreamReader | None, event: str) -> dict[str, Any]:
    """Return the next log line of `event`; every line must be JSON."""
    assert stream is not None
    async with asyncio.timeout(WAIT_S):
        while True:
            line = await stream.readline()
            assert line, f"no {event}"
            fields: dict[str, Any] = json.loads(line)
            if fields["event"] == event:
                return fields


def is_running(pid: int) -> bool:
    try:
        # Somebody else's orphan stays a zombie where nobody reaps.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def wait_until_gone(pid: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while is_running(pid):  # noqa: ASYNC110 - another process ends
            await asyncio.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_certificates(tmp_path)
    create_key(tmp_path / "key")
    return tmp_path


def write_config(folder: Path, port: int) -> Path:
    path = folder / "landmark.toml"
    path.write_text(
        f'listen = ["127.0.0.1:0"]\nkey_file = "key"\nticket_keys = ["{Issuer().public_hex}"]\n'
        "position_revision = 3\nvirtual_machine = false\n"
        f'[audit]\nserver = "localhost:{port}"\nca = "ca.pem"\ncert = "landmark.pem"\nkey = "landmark.key"\n'
    )
    return path


@contextlib.asynccontextmanager
async def running(*command: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """Run a command; yield it and its ready line."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = await process.stdout.readline()
        assert line, (await process.communicate())[1]
        yield process, json.loads(line)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def wire_order(order: Order) -> landmark_pb2.ProverOrder:
    return landmark_pb2.ProverOrder(
        landmark_key_id=order.landmark_key_id, endpoints=order.endpoints, ticket=order.ticket
    )


async def test_prove_carries_out_orders_and_stops_cleanly(folder: Path) -> None:
    async with (
        prove_server(folder) as (service, port),
        run_landmark() as one,
        run_landmark() as two,
        running(*COMMAND, "prove", "--config", str(write_config(folder, port))) as (process, ready),
    ):
        connection = await service.connection()
        assert connection.peer_name == "landmark"
        answering = bytes.fromhex(ready["key_id"])
        for number in (1, 2):
            challenge = os.urandom(32)
            with silent_endpoint() as silent:
                orders = [
                    order_for(one, challenge),
                    order_for(two, challenge, expires=1),
                    order_for(two, challenge, silent),
                    order_for(two, challenge),
                ]
                results = await connection.order(challenge, [wire_order(order) for order in orders])
            assert [result.landmark_key_id for result in results.results] == [o.landmark_key_id for o in orders]
            outcomes = [result.WhichOneof("outcome") for result in results.results]
            assert outcomes == ["evidence", "failure", "failure", "evidence"]
            assert results.results[1].failure == landmark_pb2.PROVER_FAILURE_REFUSED
            assert results.results[2].failure == landmark_pb2.PROVER_FAILURE_NO_REPLY
            public_key = load_key(folder / "key").public_key
            assert sha256(public_key) == answering
            for result, landmark in ((results.results[0], one), (results.results[3], two)):
                check_evidence(result.evidence, landmark.key.public_key, public_key, challenge)
            held = await lines_of(process.stderr, "batch held")
            assert held["process"] == "prover"
            assert (held["batches"], held["sessions"], held["evidence"]) == (number, 4 * number, 2 * number)
            assert held["failures"] == {"refused": number, "no_reply": number}
        process.send_signal(signal.SIGTERM)
        out, err = await process.communicate()
        assert (process.returncode, out) == (0, b"")
        assert [json.loads(line)["event"] for line in err.splitlines()] == ["stopped"]


async def test_prove_comes_back_after_every_end_of_its_stream(folder: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = contextlib.AsyncExitStack()
        service, port = await server.enter_async_context(prove_server(folder))
        process, _ = await stack.enter_async_context(
            running(*COMMAND, "prove", "--config", str(write_config(folder, port)))
        )
        # 1. The server ends the stream, well and badly.
        connection = await service.connection()
        connection.to_send.put_nowait(grpc.StatusCode.OK)
        await lines_of(process.stderr, "prove stream ended by the server")
        connection = await service.connection()
        connection.to_send.put_nowait(grpc.StatusCode.UNAVAILABLE)
        assert (await lines_of(process.stderr, "prove stream broke"))["status"] == "UNAVAILABLE"
        # 2. It sends what the schema does not allow.
        connection = await service.connection()
        bad = landmark_pb2.ProverOrders(challenge=bytes(31), orders=[landmark_pb2.ProverOrder()])
        connection.to_send.put_nowait(landmark_pb2.ProveResponse(orders=bad))
        await lines_of(process.stderr, "server sent impossible orders")
        # 3. It goes away, and another one comes.
        await server.aclose()
        await lines_of(process.stderr, "prove stream broke")
        service, _ = await stack.enter_async_context(prove_server(folder, port))
        connection = await service.connection()
        # 4. A message of a kind that is not known is passed over; the stream works.
        connection.to_send.put_nowait(landmark_pb2.ProveResponse())
        challenge = os.urandom(32)
        with silent_endpoint() as silent:
            order = landmark_pb2.ProverOrder(landmark_key_id=bytes(32), endpoints=[silent])
            results = await connection.order(challenge, [order])
        assert results.results[0].failure == landmark_pb2.PROVER_FAILURE_NO_REPLY
        # 5. Credentials that cannot be read now may be there later.
        (folder / "landmark.pem").rename(folder / "aside.pem")
        connection.to_send.put_nowait(grpc.StatusCode.OK)
        assert "landmark.pem" in (await lines_of(process.stderr, "credentials unreadable"))["error"]
        (folder / "aside.pem").rename(folder / "landmark.pem")
        await service.connection()


async def test_a_stream_that_ends_while_a_batch_is_held_is_opened_again(folder: Path) -> None:
    async with (
        prove_server(folder) as (service, port),
        running(*COMMAND, "prove", "--config", str(write_config(folder, port))) as (process, _),
    ):
        connection = await service.connection()
        with silent_endpoint() as silent:
            order = landmark_pb2.ProverOrder(landmark_key_id=bytes(32), endpoints=[silent])
            batch = landmark_pb2.ProverOrders(challenge=bytes(32), orders=[order])
            batch.life.FromSeconds(60)
            connection.to_send.put_nowait(landmark_pb2.ProveResponse(orders=batch))
            connection.to_send.put_nowait(grpc.StatusCode.ABORTED)
            await lines_of(process.stderr, "batch held")
            await lines_of(process.stderr, "prove stream broke")
            await service.connection()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_prove_stops_in_the_middle_of_a_batch(folder: Path, number: signal.Signals) -> None:
    async with (
        prove_server(folder) as (service, port),
        running(*COMMAND, "prove", "--config", str(write_config(folder, port))) as (process, _),
    ):
        connection = await service.connection()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            silent.settimeout(0)
            endpoint = "{}:{}".format(*silent.getsockname())
            order = landmark_pb2.ProverOrder(landmark_key_id=bytes(32), endpoints=[endpoint])
            batch = landmark_pb2.ProverOrders(challenge=bytes(32), orders=[order] * 20)
            batch.life.FromSeconds(60)
            connection.to_send.put_nowait(landmark_pb2.ProveResponse(orders=batch))
            async with asyncio.timeout(WAIT_S):
                await asyncio.get_running_loop().sock_recv(silent, 2048)
            process.send_signal(number)
            async with asyncio.timeout(3):
                await process.communicate()
        assert process.returncode == 0


async def test_prove_without_an_audit_table_is_unusable(folder: Path) -> None:
    path = write_config(folder, 7)
    path.write_text(path.read_text().partition("[audit]")[0])
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "prove", "--config", str(path), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert b"landmark.toml: audit" in err
    assert b"Traceback" not in err


@contextlib.asynccontextmanager
async def serving(
    folder: Path, *command: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, ProveService, int, dict[str, Any]]]:
    """Run `serve` with an [audit] table; yield it, the server that it proves to, its child's id and its ready line."""
    async with prove_server(folder) as (service, port):
        command = command or (*COMMAND, "serve")
        async with running(*command, "--config", str(write_config(folder, port))) as (process, ready):
            pid = (await lines_of(process.stderr, "prover started"))["pid"]
            await service.connection()
            assert is_running(pid)
            yield process, service, pid, ready


async def test_serve_runs_the_answering_side_and_ends_it(folder: Path) -> None:
    # The same entry point; when it has stopped, it looks at what was imported.
    program = (
        "import sys\nfrom landmark import main\n"
        "try:\n    main.app()\nfinally:\n"
        "    print([name for name in sys.modules if name.partition('.')[0] in {'grpc', 'google', 'trigpoint'}])\n"
    )
    async with serving(folder, sys.executable, "-c", program, "serve") as (process, _, pid, ready):
        assert ready["endpoints"]
        process.send_signal(signal.SIGTERM)
        out, err = await process.communicate()
        assert (process.returncode, out) == (0, b"[]\n")
        assert not is_running(pid)
        events = [json.loads(line) for line in err.splitlines()]
        stopped = [event.get("process") for event in events if event["event"] == "stopped"]
        assert stopped == ["prover", None]


async def test_serve_starts_a_prover_that_died_again(folder: Path) -> None:
    async with serving(folder) as (process, service, pid, _):
        os.kill(pid, signal.SIGKILL)
        assert (await lines_of(process.stderr, "prover ended"))["exit_code"] == -signal.SIGKILL
        second = (await lines_of(process.stderr, "prover started"))["pid"]
        assert second != pid
        await service.connection()
        process.send_signal(signal.SIGINT)
        await process.communicate()
        assert process.returncode == 0
        assert not is_running(second)


async def test_a_serve_that_is_killed_leaves_nothing_running(folder: Path) -> None:
    async with serving(folder) as (process, _, pid, _):
        process.kill()
        await process.wait()
        await wait_until_gone(pid)


async def test_a_child_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("landmark.supervisor._PATIENCE_S", 0.2)
    said = tmp_path / "pid"
    program = (
        "import os, signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "open(sys.argv[1] + '.new', 'w').write(str(os.getpid()))\nos.rename(sys.argv[1] + '.new', sys.argv[1])\n"
        "time.sleep(600)\n"
    )
    keeping = asyncio.create_task(keep_running((sys.executable, "-c", program, str(said))))
    async with asyncio.timeout(WAIT_S):
        while not said.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.05)
    pid = int(said.read_text())
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert not is_running(pid)


class Halves:
    """The middle of every range, in place of chance."""

    def uniform(self, low: float, high: float) -> float:
        return (low + high) / 2


async def test_a_child_that_ends_again_and_again_is_waited_for_longer_each_time() -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 9:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await keep_running((sys.executable, "-c", "exit(3)"), backoff=Backoff(Halves()), sleep=sleep)  # type: ignore[arg-type]
    assert waited == [0.75, 1.5, 3, 6, 12, 24, 45, 45, 45]
    waited.clear()
    with pytest.raises(asyncio.CancelledError):
        await keep_running(("/nowhere/at/all",), backoff=Backoff(Halves()), sleep=sleep)  # type: ignore[arg-type]
    assert waited[:2] == [0.75, 1.5]


def test_backoff_is_drawn_and_begins_anew() -> None:
    backoff = Backoff(random.Random(1))
    delays = [backoff.next_s() for _ in range(20)]
    assert len(set(delays)) == 20
    assert all(0.5 <= delay <= 60 for delay in delays)
    assert all(30 <= delay <= 60 for delay in delays[6:])
    backoff.reset()
    assert 0.5 <= backoff.next_s() <= 1

"""The command as operators run it: over real sockets, killed, without its state."""

import asyncio
import json
import shutil
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from server import pki
from tests.witness.witness_world import ORIGIN, MemoryLog, Witness, command, make_witness
from verifier.journal.notes import Note, parse_lines
from witness.main import app
from witness.request import MAX_BODY_BYTES
from witness.service import bind


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog()
    made.grow(100)
    return made


@pytest.fixture
def witness(tmp_path: Path, log: MemoryLog) -> Witness:
    return make_witness(tmp_path / "witness", log.public)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


async def test_a_log_is_cosigned_over_http(witness: Witness, log: MemoryLog, http: httpx.AsyncClient) -> None:
    async with witness.running() as process:
        url = witness.url
        before = time.time()
        answer = await http.post(f"{url}/add-checkpoint", content=log.request(0, 40))
        assert answer.status_code == 200
        cosigned = log.note(40).plus(parse_lines(answer.content)).cosigned_by(witness.key)
        assert cosigned is not None
        assert int(before) <= cosigned <= time.time()
        conflict = await http.post(f"{url}/add-checkpoint", content=log.request(0, 50))
        assert (conflict.status_code, conflict.text) == (409, "40\n")
        assert conflict.headers["content-type"] == "text/x.tlog.size"
        assert (await http.post(f"{url}/add-checkpoint", content=b"old")).status_code == 400
        assert (await http.post(f"{url}/add-checkpoint", content=bytes(MAX_BODY_BYTES + 1))).status_code == 413
        assert (await http.get(f"{url}/add-checkpoint")).status_code == 405
        newest = await http.get(f"{url}/checkpoint", params={"origin": ORIGIN})
        assert Note.parse(newest.content).signed_by(log.public)
        assert Note.parse(newest.content).cosigned_by(witness.key) is not None
        assert (await http.get(f"{url}/checkpoint")).status_code == 404
        assert (await http.get(f"{url}/")).status_code == 404
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    show = await command("show", "--config", str(witness.config))
    shown = json.loads((await show.communicate())[0])
    root = log.checkpoint(40).root.hex()
    assert shown == {"key": witness.key.vkey, "logs": {ORIGIN: {"size": 40, "root": root}}}


async def test_a_killed_witness_keeps_its_promise(witness: Witness, log: MemoryLog, http: httpx.AsyncClient) -> None:
    """Killed while it signs: whatever it answered before, no fork of it is signed after."""
    promised = 0
    for _ in range(2):
        async with witness.running() as process:

            async def submit() -> None:
                nonlocal promised
                while promised < len(log.leaves):
                    body = log.request(promised, promised + 1)
                    answer = await http.post(f"{witness.url}/add-checkpoint", content=body)
                    if answer.status_code == 409:
                        promised = int(answer.text)  # kept before the kill, answered never
                    else:
                        assert answer.status_code == 200
                        promised += 1

            submitting = asyncio.create_task(submit())
            begun = promised
            while promised < begun + 5:  # noqa: ASYNC110 - a count, which sets no asyncio.Event
                await asyncio.sleep(0.001)
            process.kill()
            await process.wait()
            with pytest.raises((httpx.TransportError, AssertionError)):
                await submitting
        fork = log.fork(promised - 1, 50)
        async with witness.running():
            answer = await http.post(f"{witness.url}/add-checkpoint", content=fork.request(promised))
            assert answer.status_code in {409, 422}
            if answer.status_code == 409:
                assert int(answer.text) > promised  # the one that it had kept and not answered
            again = await http.get(f"{witness.url}/checkpoint", params={"origin": ORIGIN})
            assert Note.parse(again.content).cosigned_by(witness.key) is not None


async def test_one_process_and_no_witness_without_state(witness: Witness) -> None:
    async with witness.running():
        for words in (("serve",), ("show",)):
            second = await command(*words, "--config", str(witness.config))
            _, err = await second.communicate()
            assert second.returncode == 2
            assert b"another process" in err
    await asyncio.to_thread(shutil.rmtree, witness.folder / "state")
    lost = await command("serve", "--config", str(witness.config))
    _, err = await lost.communicate()
    assert lost.returncode == 2
    assert b"make a new witness" in err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("name = ", "nam = "), "nam"),
        (('listen = "127.0.0.1:0"', 'listen = "127.0.0.1"'), "no address"),
        (("[[logs]]", "[logs]"), "logs"),
        (("witness.example", "witness example"), "no key name"),
        (('keys = ["', 'keys = ["x'), "hash"),
        (("witness.key", "other.key"), "No such file"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_said(witness: Witness, change: tuple[str, str], said: str) -> None:
    witness.config.write_text(witness.config.read_text().replace(*change))
    shown = CliRunner().invoke(app, ["show", "--config", str(witness.config)])
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_init_overwrites_nothing(witness: Witness) -> None:
    before = (witness.folder / "witness.key").read_bytes()
    again = CliRunner().invoke(app, ["init", str(witness.folder), "--name", "other.example"])
    assert again.exit_code == 2
    assert "already" in again.stderr
    assert (witness.folder / "witness.key").read_bytes() == before
    bad = CliRunner().invoke(app, ["init", str(witness.folder / "x"), "--name", "with space"])
    assert bad.stderr.endswith("without spaces and +\n")


async def test_slow_requests_are_ended(witness: Witness, log: MemoryLog, http: httpx.AsyncClient) -> None:
    with witness.config.open("a", encoding="utf-8") as file:
        file.write("\n[limits]\nrequest_s = 0.3\nconnections = 4\n")
    async with witness.running():
        host, _, port = witness.address.rpartition(":")
        for sent in (b"", b"POST /add-ch", b"GET /checkpoint HTTP/1.1\r\nHost: x\r\n\r\nGET /"):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            begun = time.monotonic()
            await reader.read()  # to its end
            assert 0.2 < time.monotonic() - begun < 5
            writer.close()
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nold ")
        assert b" 408 " in await reader.readline()
        writer.close()
        held = [await asyncio.open_connection(host, int(port)) for _ in range(4)]
        assert (await http.post(f"{witness.url}/add-checkpoint", content=log.request(0))).status_code == 503
        for _, each in held:
            each.close()
        await asyncio.sleep(0.5)
        assert (await http.post(f"{witness.url}/add-checkpoint", content=log.request(0))).status_code == 200


def test_answers_do_not_wait_for_acknowledgments() -> None:
    """asyncio sets TCP_NODELAY only on sockets that say they are TCP; without it an answer takes 40 ms."""
    with bind("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


async def test_it_speaks_tls(witness: Witness, log: MemoryLog, tmp_path: Path) -> None:
    pki.init(tmp_path / "pki", pki.DEFAULT_HOSTS, "trigpoint.test", "127.0.0.1:0")
    text = witness.config.read_text()
    tls = f'\n[tls]\ncert = "{tmp_path}/pki/server.pem"\nkey = "{tmp_path}/pki/server.key"\n'
    witness.config.write_text(text.replace("\n[[logs]]", f"{tls}\n[[logs]]", 1))
    context = ssl.create_default_context(cafile=tmp_path / "pki" / "ca.pem")
    async with witness.running(), httpx.AsyncClient(verify=context, trust_env=False) as client:
        answer = await client.post(f"https://{witness.address}/add-checkpoint", content=log.request(0))
        assert answer.status_code == 200
        cosigned = log.note().plus(parse_lines(answer.content)).cosigned_by(witness.key)
        assert cosigned is not None
        assert datetime.fromtimestamp(cosigned, UTC).year >= 2026

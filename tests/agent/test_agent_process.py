"""The command as it is run: beside an emulated board, until a signal comes."""

import asyncio
import hashlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from trigpoint.v1 import attestation_pb2

from agent.claims import bound_nonce
from tests.agent.helpers import (
    FakeService,
    Peer,
    Request,
    Response,
    RunningService,
    challenge,
    claims_of,
    orders,
    verdict,
)


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[Process]:
    started = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, stdout=PIPE, stderr=PIPE)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def ready(started: Process) -> dict[str, object]:
    assert started.stdout is not None
    line: dict[str, object] = json.loads(await started.stdout.readline())
    return line


@asynccontextmanager
async def emulated_board(folder: Path) -> AsyncIterator[Path]:
    """Serve a board of two GPUs and a switch; yield its socket."""
    world, socket = folder / "world.json", folder / "board.sock"
    world.write_text(json.dumps({"landmarks": {}}))
    for command in (
        ("init", str(folder / "ca")),
        ("make-board", str(folder / "ca"), str(folder / "board-a"), "--gpus", "2", "--switches", "1"),
    ):
        async with process("firmware_stubs.main", *command) as done:
            assert await done.wait() == 0
    serve = ("serve", str(folder / "board-a"), "--socket", str(socket), "--place", "1.3,103.8", "--world", str(world))
    async with process("firmware_stubs.main", *serve) as board:
        assert (await ready(board))["ready"] is True
        yield socket


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_attests_an_emulated_board_and_stops_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    done = asyncio.Event()
    batches: list[Request] = []

    async def script(peer: Peer) -> AsyncIterator[Response]:
        inventory = (await peer.expect("inventory")).inventory
        first = inventory.devices[0].pdi
        yield challenge(1)
        yield orders(1, 1, first, final=True)  # nobody answers at this landmark's address
        (result,) = (await peer.expect("range_results")).range_results.results
        assert result.failure == attestation_pb2.RANGE_FAILURE_NO_REPLY
        batches.append(await peer.expect("attestations"))
        yield verdict(1, first)
        done.set()
        async for _ in peer.requests:
            pass

    server = RunningService(FakeService(script))
    await server.start()
    async with emulated_board(tmp_path) as socket:
        flags = ["--server", server.target, "--plaintext", "--host-id", "host-1"]
        async with process("agent.main", "run", *flags, "--source", "emulator", "--socket", str(socket)) as agent:
            assert await ready(agent) == {"ready": True}
            await done.wait()
            assert agent.stderr is not None
            event: dict[str, object] = {}
            while event.get("event") != "attested":
                event = json.loads(await agent.stderr.readline())
            assert event["host_id"] == "host-1"
            assert event["standings"] == {"COMPLIANT": 1}
            agent.send_signal(number)
            out, err = await agent.communicate()
            assert agent.returncode == 0
            assert out == b""
            assert json.loads(err.splitlines()[-1])["event"] == "stopped"
    await server.stop()

    (batch,) = batches
    (attestation,) = batch.attestations.attestations
    nonce = bound_nonce(attestation.claims)
    chains = {
        hashlib.sha256(b"".join(chain.certificates)).digest(): chain.certificates for chain in batch.attestations.chains
    }
    assert [len(chain) for chain in chains.values()] == [5, 5, 5]
    assert len(attestation.reports) == 3
    for report, pdi in zip(attestation.reports, claims_of(batch)[-70003], strict=True):  # type: ignore[call-overload]
        assert report.spdm[4:36] == nonce  # docs/protocol.md §4
        assert pdi in chains[report.chain_id][1]  # the PDI stands in the serial number, docs/protocol.md I5

"""Clients that die in mid-batch: the server stays well, and what they had sent is stored whole or not at all."""

import asyncio
import random
import sys
import time
from pathlib import Path

import pytest
from trigpoint.v1 import attestation_pb2, reason_pb2

from tests.durability import ledger, load
from tests.durability.load import Account
from tests.durability.servers import Nursery, ServerProcess, make_materials, write_config

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEATHS = 4
SEED = 20260702
HOSTS = 12
MOST_SENT = 5 * HOSTS


async def test_a_client_that_dies_in_mid_batch_leaves_nothing_half_done(tmp_path: Path, nursery: Nursery) -> None:
    moments = random.Random(SEED)
    store = tmp_path / "trigpoint.db"
    hosts = load.make_hosts(make_materials(tmp_path), tmp_path / "hosts", HOSTS)
    server = await nursery.start(write_config(tmp_path, store))
    account = Account()
    for number in range(DEATHS):
        sent = await _die(server, tmp_path / "hosts", 1000 * (number + 1), moments.randrange(1, MOST_SENT))
        account.leave(sent)
        await _settled(server)
        stored = ledger.check_store(store, account)
        for verdict in await load.replay(server, sent):  # docs/protocol.md CH2
            assert verdict.rejection.reason == reason_pb2.REASON_CHALLENGE_UNKNOWN
        assert ledger.check_store(store, account) == stored
    assert await server.is_serving()
    for gpu in (gpu for host in hosts for gpu in host.gpus):
        gpu.count = 1000 * (DEATHS + 1)
    account.at(HOSTS, server.terminate)
    await load.run_load(server, hosts, 2, account)
    assert await nursery.ended(server) == 0
    assert not [event for event in server.log if event["level"] == "error"]
    ledger.check_store(store, account)


async def _die(server: ServerProcess, hosts: Path, first_count: int, count: int) -> list[attestation_pb2.Attestation]:
    """Run a client and kill it as soon as it has sent `count` attestations; returns all that it sent."""
    command = [sys.executable, "-m", "tests.durability.dying_client", server.address, str(hosts), str(first_count)]
    client = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=1 << 20)
    assert client.stdout is not None
    lines = [await client.stdout.readline() for _ in range(count)]
    client.kill()
    lines += [line async for line in client.stdout]
    await client.wait()
    # A line without an end was never followed by its message.
    whole = (line for line in lines if line.endswith(b"\n"))
    return [attestation_pb2.Attestation.FromString(bytes.fromhex(line.decode())) for line in whole]


async def _settled(server: ServerProcess) -> None:
    """Return once the dead streams are gone and all that they had put before the store is done."""
    await server.wait_for_metric("trigpoint_streams", below=1)
    await server.wait_for_metric("trigpoint_bytes_in_flight", below=1)
    # The store writes in the order in which it is asked.
    await server.wait_for_metric("trigpoint_alive_timestamp_seconds", above=time.time())

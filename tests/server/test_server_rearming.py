"""When records change while hosts are connected: their next challenges come as the new records ask for them.

The only waits are for messages. Without the change at hand the next one would come in an hour.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from trigpoint.v1 import attestation_pb2

from server.store.store import Store
from tests.server import helpers
from tests.server.helpers import Stream, attest, attestation, deployment, open_challenge, read
from tests.two_people import deploy

OFTEN = timedelta(seconds=2)
RARELY = timedelta(hours=6)


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[helpers.Running]:
    # Refused evidence and lapsed challenges bring new ones within this time, whatever the records say.
    monkeypatch.setattr("server.intake.stream.CHALLENGE_LIFE", timedelta(hours=1))
    monkeypatch.setattr("server.intake.fleet.POLL_EVERY_S", 0.05)
    monkeypatch.setattr("server.intake.stream.SPREAD_S", 0.5)
    async with helpers.running_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
async def channel(server: helpers.Running) -> AsyncIterator[grpc.aio.Channel]:
    async with server.channel(helpers.AGENT) as opened:
        yield opened


async def answer(stream: Stream, host_id: str, challenge: bytes) -> None:
    """Answer a challenge and see its verdict."""
    await stream.write(attestation(host_id, challenge))
    (verdict,) = (await without_orders(stream)).verdicts.verdicts
    assert verdict.challenge == challenge


async def next_challenge(stream: Stream) -> tuple[str, bytes]:
    """Take the next challenge."""
    challenge = (await without_orders(stream)).challenge
    assert challenge.host_id
    return challenge.host_id, challenge.challenge


async def without_orders(stream: Stream) -> attestation_pb2.AttestResponse:
    """Take the next message that is no range orders: hosts that are asked at once get theirs in any order."""
    while True:
        response = await read(stream)
        if not response.HasField("range_orders"):
            return response


async def test_hosts_that_come_under_a_license_are_asked(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    hosts = {f"host-{number}": helpers.pdi(number) for number in (1, 2, 3)}
    for host_id, device in hosts.items():
        await answer(stream, host_id, await open_challenge(stream, host_id, device))
    # Another process imports into the same store; host 3 stays without a license.
    other = await Store.open(server.folder / "trigpoint.sqlite")
    rows = [deployment(hosts[host_id], RARELY) for host_id in ("host-1", "host-2")]
    await deploy(other, rows, datetime.now(UTC))
    await other.close()
    asked = [await next_challenge(stream) for _ in range(2)]
    assert sorted(host_id for host_id, _ in asked) == ["host-1", "host-2"]


async def test_a_shorter_cadence_brings_the_next_challenge_forward(
    server: helpers.Running, channel: grpc.aio.Channel
) -> None:
    device = helpers.pdi(1)
    await deploy(server.store, [deployment(device, RARELY)], datetime.now(UTC))
    stream = attest(channel)
    challenge = await open_challenge(stream, "host-1", device)
    await answer(stream, "host-1", challenge)
    await deploy(server.store, [deployment(device, OFTEN)], datetime.now(UTC))
    host_id, brought_forward = await next_challenge(stream)
    assert (host_id, brought_forward != challenge) == ("host-1", True)
    # It is the interval from now on.
    await answer(stream, "host-1", brought_forward)
    assert (await next_challenge(stream))[0] == "host-1"


async def test_an_open_challenge_may_be_answered_first(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    device, witness = helpers.pdi(1), helpers.pdi(2)
    stream = attest(channel)
    open_ = await open_challenge(stream, "host-1", device)
    await answer(stream, "witness", await open_challenge(stream, "witness", witness))
    rows = [deployment(device, RARELY), deployment(witness, RARELY)]
    await deploy(server.store, rows, datetime.now(UTC))
    # Records were read again, and the challenge of the first host still stands.
    assert (await next_challenge(stream))[0] == "witness"
    await answer(stream, "host-1", open_)
    assert (await next_challenge(stream))[0] == "host-1"


async def test_other_records_bring_nothing_forward(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    device, marker = helpers.pdi(1), helpers.pdi(2)
    await deploy(server.store, [deployment(device, RARELY)], datetime.now(UTC))
    stream = attest(channel)
    await answer(stream, "host-1", await open_challenge(stream, "host-1", device))
    await answer(stream, "marker", await open_challenge(stream, "marker", marker))
    await server.store.import_landmarks([helpers.landmark_record(1)], datetime.now(UTC))
    await deploy(server.store, [deployment(marker, RARELY)], datetime.now(UTC))
    assert (await next_challenge(stream))[0] == "marker"

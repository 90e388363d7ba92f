"""A challenge that two people ordered comes at once, once, whatever the license asks (docs/protocol.md K3).

The only waits are for messages. Without the order at hand the next challenge would come in hours.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from server.store.store import Store
from tests.server import helpers
from tests.server.helpers import attest, attestation, deployment, open_challenge
from tests.server.test_server_rearming import RARELY, answer, next_challenge, without_orders
from tests.two_people import deploy
from verifier.units import Pdi

ONE, TWO = helpers.pdi(1), helpers.pdi(2)


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[helpers.Running]:
    """Two devices are deployed. Refused evidence and lapsed challenges bring new ones within the hour alone."""
    monkeypatch.setattr("server.intake.stream.CHALLENGE_LIFE", timedelta(hours=1))
    monkeypatch.setattr("server.intake.fleet.POLL_EVERY_S", 0.05)
    async with helpers.running_server(tmp_path / "server") as running:
        await deploy(running.store, [deployment(ONE, RARELY), deployment(TWO, RARELY)], datetime.now(UTC))
        yield running


@pytest.fixture
async def channel(server: helpers.Running) -> AsyncIterator[grpc.aio.Channel]:
    async with server.channel(helpers.AGENT) as opened:
        yield opened


async def order(store: Store, *pdis: Pdi) -> None:
    """Ann proposes it, bob approves."""
    change = await store.records.propose_challenges(pdis, "ann", "seen at a fair", datetime.now(UTC))
    await store.records.approve(change.change_id, "bob", "agreed", datetime.now(UTC))


async def test_the_ordered_device_is_asked_at_once_and_no_other(
    server: helpers.Running, channel: grpc.aio.Channel
) -> None:
    stream = attest(channel)
    first = await open_challenge(stream, "host-1", ONE)
    await answer(stream, "host-1", first)
    await answer(stream, "host-2", await open_challenge(stream, "host-2", TWO))
    await order(server.store, ONE)
    host_id, ordered = await next_challenge(stream)
    assert (host_id, ordered != first) == ("host-1", True)
    await answer(stream, "host-1", ordered)
    # Once: other news of the records bring nothing, and the next order is the next challenge.
    await server.store.import_landmarks([helpers.landmark_record(1)], datetime.now(UTC))
    await order(server.store, TWO)
    assert (await next_challenge(stream))[0] == "host-2"


async def test_another_process_may_have_taken_the_approval(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    await answer(stream, "host-1", await open_challenge(stream, "host-1", ONE))
    other = await Store.open(server.folder / "trigpoint.sqlite")
    await order(other, ONE)
    await other.close()
    assert (await next_challenge(stream))[0] == "host-1"


async def test_a_proposal_alone_asks_nobody(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    await answer(stream, "host-1", await open_challenge(stream, "host-1", ONE))
    await answer(stream, "host-2", await open_challenge(stream, "host-2", TWO))
    await server.store.records.propose_challenges([ONE], "ann", "seen at a fair", datetime.now(UTC))
    await server.store.import_landmarks([helpers.landmark_record(1)], datetime.now(UTC))
    await order(server.store, TWO)
    assert (await next_challenge(stream))[0] == "host-2"


async def test_a_challenge_from_before_the_order_may_be_answered_and_does_not_fulfill_it(
    server: helpers.Running, channel: grpc.aio.Channel
) -> None:
    stream = attest(channel)
    open_ = await open_challenge(stream, "host-1", ONE)
    await answer(stream, "host-2", await open_challenge(stream, "host-2", TWO))
    await order(server.store, ONE, TWO)
    assert (await next_challenge(stream))[0] == "host-2"  # so the order was read
    await stream.write(attestation("host-1", open_))
    verdicts, challenge = await without_orders(stream), await next_challenge(stream)
    assert verdicts.verdicts.verdicts[0].challenge == open_
    assert (challenge[0], challenge[1] != open_) == ("host-1", True)

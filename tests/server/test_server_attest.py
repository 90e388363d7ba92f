"""The Attest stream: order of messages, challenges, commits before replies, faults."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cbor2
import grpc
import pytest
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs
from trigpoint.v1 import attestation_pb2, reason_pb2

from server.app import App
from server.config import load_config
from server.store.types import Unwritten
from tests.server import helpers
from tests.server.helpers import attest, attestation, failure, open_challenge, read
from tests.two_people import deploy
from verifier.units import Challenge


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[helpers.Running]:
    async with helpers.running_server(tmp_path / "server") as running:
        yield running


@pytest.fixture
async def channel(server: helpers.Running) -> AsyncIterator[grpc.aio.Channel]:
    async with server.channel(helpers.AGENT) as opened:
        yield opened


def reason_of(message: attestation_pb2.AttestResponse) -> int:
    (verdict,) = message.verdicts.verdicts
    return verdict.rejection.reason


async def test_evidence_that_does_not_parse_is_a_verdict(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    challenge = await open_challenge(stream, "host-1", helpers.pdi(1))
    with capture_logs() as events:
        await stream.write(attestation("host-1", challenge))
        answer = await read(stream)
    (verdict,) = answer.verdicts.verdicts
    assert (verdict.host_id, verdict.challenge) == ("host-1", challenge)
    assert verdict.rejection.reason == reason_pb2.REASON_CLAIMS_MALFORMED
    assert abs(verdict.receive_time.ToDatetime(UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    (record,) = server.store.committed
    assert (record.agent, record.licensee) == (helpers.AGENT.name, helpers.AGENT.licensee)
    (event,) = [event for event in events if event["event"] == "attestation"]
    assert (event["result"], event["reason"]) == ("rejected", "CLAIMS_MALFORMED")
    assert server.app.telemetry.rejections.labels("CLAIMS_MALFORMED")._value.get() == 1


async def test_a_challenge_is_good_once(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    challenge = await open_challenge(stream, "host-1", helpers.pdi(1))
    await stream.write(attestation("host-1", challenge))
    assert reason_of(await read(stream)) == reason_pb2.REASON_CLAIMS_MALFORMED
    await stream.write(attestation("host-1", challenge))
    assert reason_of(await read(stream)) == reason_pb2.REASON_CHALLENGE_UNKNOWN
    assert len(server.store.committed) == 1


async def test_two_attestations_of_one_batch_cannot_share_a_challenge(channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    challenge = await open_challenge(stream, "host-1", helpers.pdi(1))
    batch = attestation("host-1", challenge)
    batch.attestations.attestations.append(batch.attestations.attestations[0])
    await stream.write(batch)
    first, second = (await read(stream)).verdicts.verdicts
    assert first.rejection.reason == reason_pb2.REASON_CLAIMS_MALFORMED
    assert second.rejection.reason == reason_pb2.REASON_CHALLENGE_UNKNOWN


async def test_a_challenge_belongs_to_its_host(channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    challenge = await open_challenge(stream, "host-1", helpers.pdi(1))
    await open_challenge(stream, "host-2", helpers.pdi(2))
    await stream.write(attestation("host-2", challenge))
    assert reason_of(await read(stream)) == reason_pb2.REASON_CHALLENGE_UNKNOWN


async def test_a_challenge_dies_with_its_stream(channel: grpc.aio.Channel) -> None:
    first = attest(channel)
    challenge = await open_challenge(first, "host-1", helpers.pdi(1))
    await first.done_writing()
    assert await first.read() is grpc.aio.EOF
    second = attest(channel)
    await open_challenge(second, "host-1", helpers.pdi(1))
    await second.write(attestation("host-1", challenge))
    assert reason_of(await read(second)) == reason_pb2.REASON_CHALLENGE_UNKNOWN


async def test_a_new_inventory_brings_a_new_challenge(channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    old = await open_challenge(stream, "host-1", helpers.pdi(1))
    new = await open_challenge(stream, "host-1", helpers.pdi(1), helpers.pdi(2))
    await stream.write(attestation("host-1", old))
    assert reason_of(await read(stream)) == reason_pb2.REASON_CHALLENGE_UNKNOWN
    await stream.write(attestation("host-1", new))
    assert reason_of(await read(stream)) == reason_pb2.REASON_CLAIMS_MALFORMED


async def test_no_verdict_before_its_commit(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    challenge = await open_challenge(stream, "host-1", helpers.pdi(1))
    server.store.go.clear()
    server.store.reached.clear()
    await stream.write(attestation("host-1", challenge))
    await server.store.reached.wait()
    reading = asyncio.create_task(read(stream))
    # The stream is alive meanwhile: another host gets its challenge, as the next message.
    await stream.write(helpers.inventory("host-2", helpers.pdi(2)))
    message = await reading
    assert message.challenge.host_id == "host-2"
    assert (await read(stream)).range_orders.host_id == "host-2"
    assert not server.store.committed
    server.store.go.set()
    assert reason_of(await read(stream)) == reason_pb2.REASON_CLAIMS_MALFORMED
    assert server.store.committed


async def test_a_store_fault_is_unavailable_and_never_a_verdict(server: helpers.Running) -> None:
    async with server.channel(helpers.AGENT) as channel:
        stream = attest(channel)
        challenge = await open_challenge(stream, "host-1", helpers.pdi(1))
        watch = helpers.health(channel).Watch(health_pb2.HealthCheckRequest(service="trigpoint.v1.AttestationService"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        server.store.fails = True
        await stream.write(attestation("host-1", challenge))
        error = await failure(stream.read())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert helpers.error_info(error).reason == "STORE_UNAVAILABLE"
        assert "disk" not in (error.details() or "")
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.store.fails = False  # the next mark shows it
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


async def test_ranging_goes_in_steps_until_final(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    device, unknown = helpers.pdi(1), helpers.pdi(2)
    await deploy(server.store, [helpers.deployment(device)], datetime.now(UTC))
    records = [helpers.landmark_record(number) for number in range(1, 8)]
    await server.store.import_landmarks(records, datetime.now(UTC))
    stream = attest(channel)
    await stream.write(helpers.inventory("host-1", device, unknown))
    challenge = (await read(stream)).challenge.challenge
    asked: list[bytes] = []
    step = 0
    while True:
        orders = (await read(stream)).range_orders
        step += 1
        assert (orders.host_id, orders.challenge, orders.step) == ("host-1", challenge, step)
        assert {order.pdi for order in orders.orders} <= {device}  # no deployment, no orders
        for order in orders.orders:
            ticket = cbor2.loads(cbor2.loads(order.ticket).value[2])
            assert (ticket[1], ticket[2]) == (challenge, order.landmark_key_id)
            assert order.endpoints
        asked += [order.landmark_key_id for order in orders.orders]
        if orders.final:
            break
        results = [
            attestation_pb2.RangeResult(
                pdi=order.pdi,
                landmark_key_id=order.landmark_key_id,
                failure=attestation_pb2.RANGE_FAILURE_NO_REPLY,
            )
            for order in orders.orders
        ]
        answer = attestation_pb2.RangeResults(host_id="host-1", challenge=challenge, step=step, results=results)
        await stream.write(attestation_pb2.AttestRequest(range_results=answer))
    assert step > 1
    assert sorted(asked) == sorted(record.landmark.key_id for record in records)


async def test_late_and_repeated_results_are_dropped(channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    challenge = await open_challenge(stream, "host-1", helpers.pdi(1))  # unknown device: its first step is final
    for stale in (os.urandom(32), challenge):
        answer = attestation_pb2.RangeResults(host_id="host-1", challenge=stale, step=1)
        await stream.write(attestation_pb2.AttestRequest(range_results=answer))
    await stream.write(attestation("host-1", challenge))
    assert reason_of(await read(stream)) == reason_pb2.REASON_CLAIMS_MALFORMED


async def test_the_next_challenge_comes_by_itself(tmp_path: Path) -> None:
    path = helpers.init_folder(tmp_path / "server")
    path.write_text(path.read_text().replace("[attestation]", "[attestation]\ninterval_s = 1"))
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(helpers.running_server(tmp_path / "server", load_config(path)))
        channel = await stack.enter_async_context(server.channel(helpers.AGENT))
        stream = attest(channel)
        first = await open_challenge(stream, "host-1", helpers.pdi(1))
        await stream.write(attestation("host-1", first))
        assert reason_of(await read(stream)) == reason_pb2.REASON_CLAIMS_MALFORMED
        second = (await read(stream)).challenge
        assert second.host_id == "host-1"
        assert second.challenge != first


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (attestation_pb2.AttestRequest(), "message"),
        (helpers.inventory("", helpers.pdi(1)), "inventory.host_id"),
        (helpers.inventory("host"), "inventory.devices"),
        (helpers.inventory("host", helpers.pdi(1), helpers.pdi(1)), "inventory.devices"),
        (
            attestation_pb2.AttestRequest(range_results=attestation_pb2.RangeResults(host_id="host")),
            "range_results.step",
        ),
        (attestation("host", b"short"), "attestations.attestations[0].challenge"),
        (
            attestation_pb2.AttestRequest(attestations=attestation_pb2.AttestationBatch()),
            "attestations.attestations",
        ),
    ],
)
async def test_a_broken_frame_names_its_field(
    channel: grpc.aio.Channel, request_: attestation_pb2.AttestRequest, field: str
) -> None:
    stream = attest(channel)
    await stream.write(request_)
    error = await failure(stream.read())
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert helpers.error_info(error).metadata["field"] == field


async def test_more_than_fits_is_told_when_to_come_back(tmp_path: Path) -> None:
    path = helpers.init_folder(tmp_path / "server")
    path.write_text(path.read_text() + "\n[limits]\nbytes_in_flight = 1048576\n")
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(helpers.running_server(tmp_path / "server", load_config(path)))
        channel = await stack.enter_async_context(server.channel(helpers.AGENT))
        stream = attest(channel)
        challenges = [await open_challenge(stream, f"host-{n}", helpers.pdi(n)) for n in (1, 2)]
        server.store.go.clear()
        await stream.write(attestation("host-1", challenges[0], bytes(700_000)))
        await server.store.reached.wait()
        await stream.write(attestation("host-2", challenges[1], bytes(700_000)))
        error = await failure(stream.read())
        server.store.go.set()
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert helpers.error_info(error).reason == "TOO_MUCH_AT_ONCE"


async def test_a_stopping_server_answers_what_is_in_flight(tmp_path: Path) -> None:
    async with helpers.running_server(tmp_path / "server") as server:
        channel = server.channel(helpers.AGENT)
        stream = attest(channel)
        challenge = await open_challenge(stream, "host-1", helpers.pdi(1))
        server.store.go.clear()
        server.store.reached.clear()
        await stream.write(attestation("host-1", challenge))
        await server.store.reached.wait()
        asyncio.get_running_loop().call_soon(server.store.go.set)
    assert reason_of(await read(stream)) == reason_pb2.REASON_CLAIMS_MALFORMED
    error = await failure(stream.read())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    await channel.close()


async def test_what_another_node_spent_is_unknown_here(server: helpers.Running, channel: grpc.aio.Channel) -> None:
    stream = attest(channel)
    challenge = await open_challenge(stream, "host-1", helpers.pdi(1))
    server.store.unwritten = [Unwritten(spent=frozenset({Challenge(challenge)}))]
    await stream.write(attestation("host-1", challenge))
    assert reason_of(await read(stream)) == reason_pb2.REASON_CHALLENGE_UNKNOWN


async def test_nothing_of_an_unforeseen_error_leaves_the_server(
    server: helpers.Running, channel: grpc.aio.Channel
) -> None:
    stream = attest(channel)
    challenge = await open_challenge(stream, "host-1", helpers.pdi(1))
    server.store.raises = RuntimeError("a secret path")
    with capture_logs() as events:
        await stream.write(attestation("host-1", challenge))
        error = await failure(stream.read())
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error)
    assert [event["event"] for event in events if event["log_level"] == "error"] == ["unforeseen error"]


async def test_a_failing_background_task_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.app._RETRY_TASK_AFTER_S", 0.0)
    path = helpers.init_folder(tmp_path / "server")
    app = App.build(load_config(path))
    runs = 0
    again = asyncio.Event()

    async def fail() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            again.set()
            await asyncio.Event().wait()
        raise RuntimeError

    task = asyncio.create_task(app._supervise("sweep", fail))
    await again.wait()
    task.cancel()
    assert app.telemetry.task_failures.labels("sweep")._value.get() == 2

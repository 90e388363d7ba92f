"""The Prove stream: orders, results, and what is taken of them (docs/protocol.md LA1 to LA3)."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from trigpoint.v1 import landmark_pb2

from server.config import Audit, load_config
from server.intake import audit_stream
from server.intake.audit_stream import STREAMS_PER_LANDMARK
from server.store.errors import StoreUnavailableError
from server.store.types import ProvenRange
from tests.server import helpers
from tests.server.audit_world import (
    READY,
    ProveCall,
    Station,
    next_orders,
    prove,
    read_ticket,
    results,
    session,
)
from verifier.place.audit import PairRange
from verifier.units import Challenge, LandmarkId, Nanoseconds

STATIONS = [Station(number, latitude=1.0 + number / 100) for number in range(1, 5)]
ONE, TWO, THREE, FOUR = STATIONS


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[helpers.Running]:
    """A server that knows four landmarks and looks for due pairs every few tenths of a second."""
    config = load_config(helpers.init_folder(tmp_path / "server"))
    audit = Audit(interval_h=4 / 3600, batch=2, run_interval_s=0.2, refresh_s=0.1)
    config = config.model_copy(update={"audit": audit})
    async with helpers.running_server(tmp_path / "server", config) as running:
        await running.store.import_landmarks([station.record for station in STATIONS], helpers.NOW)
        yield running


def counted(server: helpers.Running, result: str) -> float:
    return server.app.telemetry.registry.get_sample_value("trigpoint_landmark_ranges_total", {"result": result}) or 0.0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a metric tells nobody that it changed
            await asyncio.sleep(0.01)


async def stored(server: helpers.Running) -> dict[tuple[str, str], int]:
    ranges = (await server.store.load_audit_inputs()).ranges
    return {(ranged.pair.by, ranged.pair.of): ranged.pair.rtt_ns for ranged in ranges}


def by_key(order: landmark_pb2.ProverOrder, stations: Iterable[Station] = STATIONS) -> Station:
    return next(station for station in stations if station.key_id == order.landmark_key_id)


async def first_orders(call: ProveCall) -> landmark_pb2.ProverOrders:
    await call.write(READY)
    return await next_orders(call)


async def test_a_landmark_is_ordered_to_be_ranged_by_the_others(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        orders = await first_orders(call)
        assert len(orders.challenge) == 32
        assert orders.life.ToTimedelta() == timedelta(seconds=60)
        assert len(orders.orders) == 2
        ticket_key = server.app.materials.ticket_key.public_key().public_bytes_raw()
        for order in orders.orders:
            ranging = by_key(order, STATIONS[1:])
            assert tuple(order.endpoints) == ranging.record.endpoints
            ticket = read_ticket(order.ticket, ticket_key)
            assert ticket[1] == orders.challenge
            assert ticket[2] == ranging.key_id
            assert 55 < ticket[3] - time.time() < 70
        call.cancel()


async def test_what_comes_back_is_stored_and_the_next_orders_follow(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        seen: set[bytes] = set()
        orders = await first_orders(call)
        async with asyncio.timeout(20):
            while len(await stored(server)) < 3:
                assert orders.challenge not in seen
                seen.add(orders.challenge)
                held = [session(by_key(o), ONE, orders.challenge, 1_000_000) for o in orders.orders]
                await call.write(results(orders, *held))
                orders = await next_orders(call)
        assert await stored(server) == {(station.name, "sg-1"): 1_000_000 for station in STATIONS[1:]}
        assert counted(server, "taken") >= 3
        assert counted(server, "lapsed") == 0
        call.cancel()


async def test_evidence_is_kept_as_it_came(server: helpers.Running, monkeypatch: pytest.MonkeyPatch) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        orders = await first_orders(call)
        held = session(by_key(orders.orders[0]), ONE, orders.challenge, 777)
        kept: list[ProvenRange] = []
        record_ranges = server.store.record_ranges

        async def record(ranges: Any) -> None:
            kept.extend(ranges)
            await record_ranges(ranges)

        monkeypatch.setattr(server.store, "record_ranges", record)
        await call.write(results(orders, held))
        await until(lambda: counted(server, "taken") == 1)
        assert [(each.challenge, each.receipt, each.statement, each.answered) for each in kept] == [
            (orders.challenge, held.evidence.receipt, held.evidence.statement, held.evidence.answered)
        ]
        assert counted(server, "lapsed") == 1  # nothing was said of the other order
        call.cancel()


async def test_a_server_that_stops_says_so(tmp_path: Path) -> None:
    config = load_config(helpers.init_folder(tmp_path / "server"))
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(helpers.running_server(tmp_path / "server", config))
        await running.store.import_landmarks([station.record for station in STATIONS], helpers.NOW)
        async with running.channel(ONE.peer) as channel:
            call = prove(channel)
            await call.write(READY)
            await until(lambda: running.app.telemetry.registry.get_sample_value("trigpoint_prove_streams") == 1)
            reading = asyncio.create_task(helpers.failure(_read_to_end(call)))
            await stack.aclose()
            error = await reading
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert helpers.error_info(error).reason == "STOPPING"


async def _read_to_end(call: ProveCall) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_a_landmark_that_is_not_registered_is_told_so(server: helpers.Running) -> None:
    stranger = Station(9)
    async with server.channel(stranger.peer) as channel:
        call = prove(channel)
        await call.write(READY)
        error = await helpers.failure(_read_to_end(call))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    info = helpers.error_info(error)
    assert info.reason == "LANDMARK_NOT_REGISTERED"
    assert dict(info.metadata) == {"name": "landmarks/sg-9"}
    assert "sg-9 is not registered" in (error.details() or "")


@pytest.mark.parametrize("peer", [helpers.OFFICER, helpers.AGENT])
async def test_only_landmarks_prove(server: helpers.Running, peer: Any) -> None:
    async with server.channel(peer) as channel:
        error = await helpers.failure(_read_to_end(prove(channel)))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_streams_of_one_landmark_are_bounded(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        calls = [prove(channel) for _ in range(STREAMS_PER_LANDMARK)]
        for call in calls:
            await call.write(READY)
        streams = "trigpoint_prove_streams"
        registry = server.app.telemetry.registry
        await until(lambda: registry.get_sample_value(streams) == STREAMS_PER_LANDMARK)
        error = await helpers.failure(_read_to_end(prove(channel)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        calls[0].cancel()
        await until(lambda: registry.get_sample_value(streams) == STREAMS_PER_LANDMARK - 1)
        again = prove(channel)
        await again.write(READY)
        await until(lambda: registry.get_sample_value(streams) == STREAMS_PER_LANDMARK)
        for call in [*calls[1:], again]:
            call.cancel()


Lie = Callable[[landmark_pb2.ProverOrders], list[landmark_pb2.ProverResult]]


def told(orders: landmark_pb2.ProverOrders, of: Station = ONE, **changes: bytes) -> landmark_pb2.ProverResult:
    held = session(by_key(orders.orders[0]), of, orders.challenge, 1000)
    for name, value in changes.items():
        setattr(held.evidence, name, value)
    return held


def under_another_challenge(orders: landmark_pb2.ProverOrders) -> list[landmark_pb2.ProverResult]:
    return [session(by_key(orders.orders[0]), ONE, bytes(32), 1000)]


def of_one_that_was_not_ordered(orders: landmark_pb2.ProverOrders) -> list[landmark_pb2.ProverResult]:
    ordered = {order.landmark_key_id for order in orders.orders}
    other = next(station for station in STATIONS[1:] if station.key_id not in ordered)
    return [session(other, ONE, orders.challenge, 1000)]


def said_to_be_anothers(orders: landmark_pb2.ProverOrders) -> list[landmark_pb2.ProverResult]:
    held = of_one_that_was_not_ordered(orders)[0]
    held.landmark_key_id = orders.orders[0].landmark_key_id
    return [held]


def of_itself(orders: landmark_pb2.ProverOrders) -> list[landmark_pb2.ProverResult]:
    held = session(ONE, ONE, orders.challenge, 1000)
    held.landmark_key_id = orders.orders[0].landmark_key_id
    return [held]


def failing(failure: landmark_pb2.ProverFailure.ValueType) -> Lie:
    return lambda orders: [landmark_pb2.ProverResult(landmark_key_id=orders.orders[0].landmark_key_id, failure=failure)]


@pytest.mark.parametrize(
    ("lie", "result"),
    [
        (lambda orders: [told(orders, of=TWO)], "STATEMENT_INVALID"),
        (lambda orders: [told(orders, answered=bytes(8))], "MASK_INVALID"),
        (lambda orders: [told(orders, receipt=b"")], "RECEIPT_MALFORMED"),
        (under_another_challenge, "SESSION_MISMATCH"),
        (of_one_that_was_not_ordered, "not_ordered"),
        (said_to_be_anothers, "not_ordered"),
        (of_itself, "RECEIPT_SIGNATURE_INVALID"),
        (failing(landmark_pb2.PROVER_FAILURE_NO_REPLY), "no_reply"),
        (failing(landmark_pb2.PROVER_FAILURE_REFUSED), "refused"),
        (failing(landmark_pb2.PROVER_FAILURE_TOO_FEW_ROUNDS), "too_few_rounds"),
        (failing(landmark_pb2.PROVER_FAILURE_NO_RECEIPT), "no_receipt"),
        (failing(landmark_pb2.PROVER_FAILURE_TOO_LATE), "too_late"),
        (failing(landmark_pb2.ProverFailure.ValueType(99)), "failed"),
    ],
)
async def test_what_does_not_hold_is_dropped_and_counted(server: helpers.Running, lie: Lie, result: str) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        orders = await first_orders(call)
        await call.write(results(orders, *lie(orders)))
        await until(lambda: counted(server, result) == 1)
        assert await stored(server) == {}
        assert counted(server, "taken") == 0
        call.cancel()


async def test_one_landmark_is_taken_once_in_a_batch(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        orders = await first_orders(call)
        ranging = by_key(orders.orders[0])
        held = [session(ranging, ONE, orders.challenge, rtt) for rtt in (2000, 1000)]
        await call.write(results(orders, *held))
        await until(lambda: counted(server, "taken") == 1)
        assert counted(server, "not_ordered") == 1
        assert await stored(server) == {(ranging.name, "sg-1"): 2000}
        call.cancel()


async def test_a_batch_is_answered_once(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        orders = await first_orders(call)
        ranging = by_key(orders.orders[0])
        await call.write(results(orders, session(ranging, ONE, orders.challenge, 2000)))
        await call.write(results(orders, session(ranging, ONE, orders.challenge, 1000)))
        await until(lambda: counted(server, "late") == 1)
        assert (await stored(server))[ranging.name, "sg-1"] == 2000
        call.cancel()


async def test_results_without_orders_and_of_another_batch_are_late(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        nothing = landmark_pb2.ProverOrders(challenge=bytes(32))
        await call.write(results(nothing, session(TWO, ONE, bytes(32), 1000)))
        await until(lambda: counted(server, "late") == 1)
        orders = await first_orders(call)
        held = session(by_key(orders.orders[0]), ONE, orders.challenge, 1000)
        await call.write(results(orders, held, challenge=bytes(32)))
        await until(lambda: counted(server, "late") == 2)
        # The batch is still open.
        await call.write(results(orders, held))
        await until(lambda: counted(server, "taken") == 1)
        call.cancel()


async def test_what_was_ranged_of_a_record_that_is_replaced_meanwhile_is_not_stored(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        orders = await first_orders(call)
        replaced, other = (by_key(order) for order in orders.orders)
        elsewhere = Station(replaced.number, latitude=48.9, longitude=2.3, key=replaced.key)
        await server.store.import_landmarks([elsewhere.record], helpers.NOW + timedelta(seconds=1))
        held = [session(station, ONE, orders.challenge, 1000) for station in (replaced, other)]
        await call.write(results(orders, *held))
        await until(lambda: counted(server, "taken") == 1)
        assert await stored(server) == {(other.name, "sg-1"): 1000}
        # Nor is what others ranged of this one.
        orders = await next_orders(call)
        moved = Station(ONE.number, latitude=48.9, longitude=2.3, key=ONE.key)
        await server.store.import_landmarks([moved.record], helpers.NOW + timedelta(seconds=2))
        held = [session(by_key(order), ONE, orders.challenge, 1000) for order in orders.orders]
        await call.write(results(orders, *held))
        await next_orders(call)  # they were dealt with
        assert await stored(server) == {}
        assert counted(server, "taken") == 1
        call.cancel()


async def test_orders_lapse_with_their_challenge(server: helpers.Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_stream, "CHALLENGE_LIFE", timedelta(seconds=0.3))
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        orders = await first_orders(call)
        await until(lambda: counted(server, "lapsed") == 2)
        await call.write(results(orders, session(by_key(orders.orders[0]), ONE, orders.challenge, 1000)))
        await until(lambda: counted(server, "late") == 1)
        assert await stored(server) == {}
        call.cancel()


async def test_orders_lapse_with_their_stream(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        await first_orders(call)
        await call.done_writing()
        await _read_to_end(call)
    assert counted(server, "lapsed") == 2


def framed(challenge: bytes, *found: landmark_pb2.ProverResult) -> landmark_pb2.ProveRequest:
    return landmark_pb2.ProveRequest(results=landmark_pb2.ProverResults(challenge=challenge, results=found))


FAILED = landmark_pb2.ProverResult(landmark_key_id=bytes(32), failure=landmark_pb2.PROVER_FAILURE_NO_REPLY)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (landmark_pb2.ProveRequest(), "message"),
        (framed(bytes(31)), "results.challenge"),
        (framed(bytes(32), landmark_pb2.ProverResult(landmark_key_id=b"")), "results.results[0].landmark_key_id"),
        (framed(bytes(32), FAILED, landmark_pb2.ProverResult(landmark_key_id=bytes(32))), "results.results[1].outcome"),
        (framed(bytes(32), *[FAILED] * 65), "results.results"),
    ],
)
async def test_a_broken_frame_names_its_field(
    server: helpers.Running, request_: landmark_pb2.ProveRequest, field: str
) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        await call.write(READY)
        await call.write(request_)
        error = await helpers.failure(_read_to_end(call))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(helpers.error_info(error).metadata) == {"field": field}


async def test_a_stream_that_is_not_ready_gets_no_orders(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await call.read()
        call.cancel()


async def test_ready_twice_is_ready_once(server: helpers.Running) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        await call.write(READY)
        orders = await first_orders(call)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):  # the first batch is open
                await call.read()
        assert len(orders.orders) == 2
        call.cancel()


async def test_a_landmark_that_comes_again_is_not_ranged_again_at_once(server: helpers.Running) -> None:
    ranges = [
        ProvenRange(
            PairRange(LandmarkId(station.name), LandmarkId("sg-1"), Nanoseconds(1)),
            datetime.now(UTC),
            Challenge(bytes(32)),
            b"",
            b"",
            bytes(8),
        )
        for station in STATIONS[1:]
    ]
    await server.store.record_ranges(ranges)
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        began = time.monotonic()
        await first_orders(call)
        assert time.monotonic() - began > 1.0  # half of the interval is two seconds
        call.cancel()


async def test_a_store_fault_ends_the_stream_and_the_landmark_comes_again(
    server: helpers.Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with server.channel(ONE.peer) as channel:
        call = prove(channel)
        orders = await first_orders(call)

        async def fails(_: Any) -> None:
            raise StoreUnavailableError("the disk is gone, says the test")

        monkeypatch.setattr(server.store, "record_ranges", fails)
        await call.write(results(orders, session(by_key(orders.orders[0]), ONE, orders.challenge, 1000)))
        error = await helpers.failure(_read_to_end(call))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert counted(server, "taken") == 0

"""The agent against a fake server over loopback gRPC."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from structlog.testing import LogCapture
from structlog.typing import FilteringBoundLogger
from trigpoint.v1 import attestation_pb2

from agent.backoff import Backoff
from agent.claims import bound_nonce
from agent.config import AgentConfig
from agent.memory import Memory
from agent.runner import Runner
from agent.sources.base import Answered, Why
from tests.agent.helpers import (
    LANDMARK,
    FakeService,
    FakeSource,
    Peer,
    Request,
    Response,
    RunningService,
    Script,
    chain_id_of,
    challenge,
    claims_of,
    gpu,
    orders,
    switch,
    until,
    verdict,
)

G0, G1, S0 = gpu(0), gpu(1), switch(0)


class Harness:
    """A runner with its log and the delays it waited."""

    def __init__(self, source: FakeSource, target: str, device_poll_s: float) -> None:
        self.capture = LogCapture()
        log: FilteringBoundLogger = structlog.wrap_logger(
            None, processors=[self.capture], wrapper_class=structlog.make_filtering_bound_logger(0)
        )
        self.delays_s: list[float] = []
        self.ups = 0
        self.config = AgentConfig.model_validate(
            {
                "host_id": "host-1",
                "source": "emulator",
                "server": {"target": target, "plaintext": True},
                "emulator": {"socket": "/unused"},
                "device_poll_s": device_poll_s,
            }
        )
        self.runner = Runner(
            self.config,
            source,
            Backoff(1.0, 8.0, random.Random(1)),
            log,
            Memory.open(self.config.state),
            on_up=self._up,
            sleep=self._sleep,
        )

    def events(self, name: str) -> list[dict[str, object]]:
        return [dict(entry) for entry in self.capture.entries if entry["event"] == name]

    def _up(self) -> None:
        self.ups += 1

    async def _sleep(self, delay_s: float) -> None:
        self.delays_s.append(delay_s)
        await asyncio.sleep(0.01)


@asynccontextmanager
async def running(
    source: FakeSource, *scripts: Script, device_poll_s: float = 60.0
) -> AsyncIterator[tuple[Harness, FakeService, RunningService]]:
    service = FakeService(*scripts)
    server = RunningService(service)
    await server.start()
    harness = Harness(source, server.target, device_poll_s)
    task = asyncio.create_task(harness.runner.run())
    try:
        yield harness, service, server
    finally:
        assert not task.done(), "the agent ended by itself"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.stop()


async def forever(peer: Peer) -> None:
    """Keep the stream open; the agent says nothing more."""
    async for request in peer.requests:
        peer.seen.append(request)


async def test_one_attestation_in_two_steps() -> None:
    source = FakeSource([G0, G1, S0])
    done = asyncio.Event()
    batches: list[Request] = []

    async def script(peer: Peer) -> AsyncIterator[Response]:
        inventory = (await peer.expect("inventory")).inventory
        assert inventory.host_id == "host-1"
        assert [(d.pdi, d.kind, d.board, d.chain_id) for d in inventory.devices] == [
            (G0.pdi, 1, "board-0", chain_id_of(G0.pdi)),
            (G1.pdi, 1, "board-0", chain_id_of(G1.pdi)),
            (S0.pdi, 2, "board-0", chain_id_of(S0.pdi)),
        ]
        yield challenge(1)
        yield orders(1, 1, G0.pdi, S0.pdi)
        results = (await peer.expect("range_results")).range_results
        assert (results.step, results.challenge) == (1, b"\x01" * 32)
        assert results.results[0].receipt == b"receipt"
        assert results.results[1].failure == attestation_pb2.RANGE_FAILURE_CANNOT_RANGE
        yield orders(1, 2, G1.pdi, b"\x41" + b"\x99" * 7)
        results = (await peer.expect("range_results")).range_results
        assert results.step == 2
        assert [r.WhichOneof("outcome") for r in results.results] == ["receipt", "failure"]
        yield orders(1, 3, final=True)
        batches.append(await peer.expect("attestations"))
        yield verdict(1, G0.pdi, G1.pdi)
        done.set()
        await forever(peer)

    async with running(source, script) as (harness, _, _):
        await done.wait()
        await until(lambda: bool(harness.events("attested")))
        assert harness.ups == 1
        (event,) = harness.events("attested")
        assert event["standings"] == {"COMPLIANT": 2}
    (batch,) = batches
    (attestation,) = batch.attestations.attestations
    nonce = bound_nonce(attestation.claims)
    assert [r.spdm for r in attestation.reports] == [b"report of " + d.pdi + nonce for d in (G0, G1, S0)]
    claims = claims_of(batch)
    assert claims[10] == attestation.challenge == b"\x01" * 32
    assert claims[-70003] == [G0.pdi, G1.pdi, S0.pdi]
    mask = (0xFFFF).to_bytes(8, "big")
    # The order for a device that is not there has no index in the claims; its result went with the step.
    assert claims[-70004] == [[0, LANDMARK, mask, b"receipt"], [2, LANDMARK, 5], [1, LANDMARK, mask, b"receipt"]]
    assert [pdi for pdi, _ in source.commands] == [G0.pdi, G1.pdi]


async def test_a_chain_is_sent_until_the_server_knows_it() -> None:
    done = asyncio.Event()
    sent: list[int] = []

    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        for number, challenge_names, verdict_names in (
            (1, (), ()),
            (2, (), (chain_id_of(G0.pdi),)),
            (3, (), ()),
            (4, (chain_id_of(G1.pdi),), ()),
        ):
            yield challenge(number, *challenge_names)
            yield orders(number, 1, final=True)
            sent.append(len((await peer.expect("attestations")).attestations.chains))
            yield verdict(number, G0.pdi, known=verdict_names)
        done.set()
        await forever(peer)

    async with running(FakeSource([G0, G1]), script):
        await done.wait()
    assert sent == [2, 2, 1, 0]


async def test_inventory_comes_again_before_a_challenge_is_answered_with_other_devices() -> None:
    source = FakeSource([G0, G1])
    done = asyncio.Event()

    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        source.present = [G0]
        yield challenge(1)
        inventory = (await peer.expect("inventory")).inventory
        assert [d.pdi for d in inventory.devices] == [G0.pdi]
        yield orders(1, 1, G1.pdi, final=True)
        results = (await peer.expect("range_results")).range_results.results
        assert [r.failure for r in results] == [attestation_pb2.RANGE_FAILURE_CANNOT_RANGE]
        assert claims_of(await peer.expect("attestations"))[-70003] == [G0.pdi]
        done.set()
        await forever(peer)

    async with running(source, script):
        await done.wait()


async def test_inventory_comes_again_while_nothing_is_asked() -> None:
    source = FakeSource([G0])
    done = asyncio.Event()

    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        yield challenge(1)
        yield orders(1, 1, final=True)
        await peer.expect("attestations")
        source.failures = 1  # the first look fails and is tried again
        source.present = [G0, G1]
        inventory = (await peer.expect("inventory")).inventory
        assert [d.pdi for d in inventory.devices] == [G0.pdi, G1.pdi]
        done.set()
        await forever(peer)

    async with running(source, script, device_poll_s=0.02) as (harness, _, _):
        await done.wait()
        assert harness.events("devices unreadable")


async def test_a_new_challenge_replaces_an_open_one() -> None:
    done = asyncio.Event()

    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        yield challenge(1)
        yield orders(1, 1, G0.pdi)
        await peer.expect("range_results")
        yield challenge(2)
        yield orders(1, 2, final=True)  # for the one that is gone: not answered
        yield orders(2, 1, final=True)
        assert claims_of(await peer.expect("attestations"))[10] == b"\x02" * 32
        done.set()
        await forever(peer)

    async with running(FakeSource([G0]), script):
        await done.wait()


async def test_a_challenge_that_ran_out_is_not_answered() -> None:
    source = FakeSource([G0])
    done = asyncio.Event()

    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        yield challenge(1, life_s=1)
        yield orders(1, 1, G0.pdi)  # too late from the start: signing keeps a reserve of the life
        results = (await peer.expect("range_results")).range_results.results
        assert [r.failure for r in results] == [attestation_pb2.RANGE_FAILURE_TOO_LATE]
        await done.wait()
        yield challenge(2)
        yield orders(2, 1, final=True)
        assert claims_of(await peer.expect("attestations"))[10] == b"\x02" * 32
        peer.seen.clear()
        await forever(peer)

    async with running(source, script) as (harness, service, _):
        await until(lambda: bool(harness.events("challenge ran out")))
        done.set()
        await until(lambda: service.seen[0] == [])
    assert source.commands == []


@pytest.mark.parametrize("outcome", [Why.NO_REPLY, Answered(b"r" * 1025, 1)])
async def test_a_range_without_a_usable_receipt_has_a_reason(outcome: Answered | Why) -> None:
    done = asyncio.Event()

    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        yield challenge(1)
        yield orders(1, 1, G0.pdi, final=True)
        (result,) = (await peer.expect("range_results")).range_results.results
        assert int(result.failure) == (outcome if isinstance(outcome, Why) else Why.NO_RECEIPT)
        assert claims_of(await peer.expect("attestations"))[-70004] == [[0, LANDMARK, result.failure]]
        done.set()
        await forever(peer)

    async with running(FakeSource([G0], outcome=outcome), script):
        await done.wait()


async def test_a_device_that_does_not_report_is_left_out_and_the_others_sign_again() -> None:
    source = FakeSource([G0, G1, S0], broken={G1.pdi})
    done = asyncio.Event()

    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        yield challenge(1)
        yield orders(1, 1, G1.pdi, S0.pdi, final=True)
        await peer.expect("range_results")
        batch = await peer.expect("attestations")
        assert claims_of(batch)[-70003] == [G0.pdi, S0.pdi]
        assert claims_of(batch)[-70004] == [[1, LANDMARK, 5]]
        (attestation,) = batch.attestations.attestations
        nonce = bound_nonce(attestation.claims)
        assert [r.spdm for r in attestation.reports] == [b"report of " + d.pdi + nonce for d in (G0, S0)]
        done.set()
        await forever(peer)

    async with running(source, script):
        await done.wait()


async def test_a_source_that_fails_is_tried_again() -> None:
    source = FakeSource([G0], failures=3)
    done = asyncio.Event()

    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        yield challenge(1)
        yield orders(1, 1, final=True)
        await peer.expect("attestations")
        done.set()
        await forever(peer)

    async with running(source, script) as (harness, _, _):
        await done.wait()
        assert len(harness.events("source failed")) == 3
        assert len(harness.delays_s) == 3


async def test_no_report_at_all_gives_the_stream_up_for_a_new_challenge() -> None:
    source = FakeSource([G0], broken={G0.pdi})
    done = asyncio.Event()

    async def first(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        yield challenge(1)
        yield orders(1, 1, final=True)
        await forever(peer)

    async def second(peer: Peer) -> AsyncIterator[Response]:
        source.broken.clear()
        await peer.expect("inventory")
        yield challenge(2)
        yield orders(2, 1, final=True)
        assert claims_of(await peer.expect("attestations"))[10] == b"\x02" * 32
        done.set()
        await forever(peer)

    async with running(source, first, second) as (harness, _, _):
        await done.wait()
        assert [e["error"] for e in harness.events("source failed")] == ["no device reports"]


def _broken(build: Callable[[], Response]) -> Script:
    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        yield challenge(1)
        yield build()
        await forever(peer)

    return script


@pytest.mark.parametrize(
    "build",
    [lambda: challenge(2, host_id="another"), lambda: orders(1, 1, b"\x41")],
    ids=["another host", "wrong sizes"],
)
async def test_a_server_that_breaks_the_protocol_is_left(build: Callable[[], Response]) -> None:
    done = asyncio.Event()

    async def second(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        done.set()
        yield challenge(3)
        await forever(peer)

    async with running(FakeSource([G0]), _broken(build), second) as (harness, _, _):
        await done.wait()
        assert len(harness.events("server broke the protocol")) == 1


async def test_it_waits_as_long_as_the_server_asks() -> None:
    done = asyncio.Event()

    async def busy(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=30)))
        status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="busy", details=[detail])
        sent = rpc_status.to_status(status)
        peer.context.set_trailing_metadata(sent.trailing_metadata)
        await peer.context.abort(sent.code, sent.details)
        yield Response()

    async def well(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        done.set()
        yield challenge(1)
        await forever(peer)

    async with running(FakeSource([G0]), busy, busy, well) as (harness, _, _):
        await done.wait()
        assert len(harness.delays_s) == 2
        assert all(30.0 <= delay_s <= 32.0 for delay_s in harness.delays_s)
        assert [e["status"] for e in harness.events("stream broke")] == ["UNAVAILABLE"] * 2
        await until(lambda: harness.ups == 1)


async def test_it_comes_back_after_the_server_restarts() -> None:
    async def script(peer: Peer) -> AsyncIterator[Response]:
        await peer.expect("inventory")
        yield challenge(len(streams()))
        yield orders(len(streams()), 1, final=True)
        await peer.expect("attestations")
        yield verdict(len(streams()), G0.pdi)
        await forever(peer)

    async with running(FakeSource([G0]), script) as (harness, service, server):

        def streams() -> list[list[Request]]:
            return service.seen

        await until(lambda: len(harness.events("attested")) == 1)
        await server.stop()
        await until(lambda: len(harness.events("stream broke")) >= 2)  # it broke, and could not connect
        await server.start()
        await until(lambda: len(harness.events("attested")) == 2)
        assert harness.ups == 2
    # Chains are sent again: what a server knows is said on each stream (docs/protocol.md A4).
    assert [len(seen[-1].attestations.chains) for seen in service.seen] == [1, 1]

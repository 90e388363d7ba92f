"""One Attest stream, from Inventory to the stream's end.

Spec: docs/protocol.md §9 and proto/trigpoint/v1/attestation.proto. Three things run side by side: a reader that never
waits for the devices (A2), one answer to the open challenge, and a look at the devices every few seconds (A1).
Reconnecting is the runner's business; verdicts are logged, never judged.
"""

import asyncio
import time
from collections.abc import Callable
from typing import NewType

import grpc
from structlog.typing import FilteringBoundLogger
from trigpoint.v1 import attestation_pb2

from agent import messages
from agent.claims import Ranged
from agent.collect import Collector, Roster
from agent.memory import Memory, MemoryFileError
from agent.sources.base import SourceError

MonotonicSeconds = NewType("MonotonicSeconds", float)

AttestCall = grpc.aio.StreamStreamCall[attestation_pb2.AttestRequest, attestation_pb2.AttestResponse]


class ProtocolError(Exception):
    """The server sent what docs/protocol.md §9 does not allow; the stream is given up."""


class HostStream:
    """The agent's side of one stream for one host.

    Args:
        call: The open call.
        collector: Gathers evidence.
        host_id: As in the configuration.
        roster: The devices now.
        log: Bound logger.
        memory: The largest checkpoint that the server sent.
        on_up: Called once the server has accepted the stream.
        on_verdict: Called for every verdict; the stream is working.
        device_poll_s: How often the devices are looked at while no challenge is open.
    """

    def __init__(
        self,
        call: AttestCall,
        collector: Collector,
        host_id: str,
        roster: Roster,
        log: FilteringBoundLogger,
        memory: Memory,
        *,
        on_up: Callable[[], None],
        on_verdict: Callable[[], None],
        device_poll_s: float,
    ) -> None:
        self._call = call
        self._collector = collector
        self._host_id = host_id
        self._roster = roster
        self._log = log
        self._memory = memory
        self._on_up = on_up
        self._on_verdict = on_verdict
        self._device_poll_s = device_poll_s
        self._outgoing: asyncio.Queue[attestation_pb2.AttestRequest] = asyncio.Queue()
        self._steps: asyncio.Queue[attestation_pb2.RangeOrders] = asyncio.Queue()
        self._known_chains: set[bytes] = set()
        self._challenge = b""  # the newest one; orders for another are dropped
        self._answer: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve until the server ends the stream.

        Raises:
            grpc.aio.AioRpcError: The stream broke or the server could not decide (docs/protocol.md A5).
            SourceError: The devices did not answer a challenge at all.
            ProtocolError: The server broke the protocol.
        """
        self._send_inventory()
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(self._write())
                poller = group.create_task(self._poll_devices())
                await self._read(group)
                for task in (writer, poller, self._answer):
                    if task is not None:
                        task.cancel()
        except BaseExceptionGroup as failures:
            raise _first(failures) from failures
        finally:
            self._call.cancel()

    async def _read(self, group: asyncio.TaskGroup) -> None:
        await self._call.initial_metadata()  # from the server: it has taken the stream, or refused it
        if not self._call.done():
            self._on_up()
        async for response in self._call:
            kind = response.WhichOneof("message")
            if kind == "challenge":
                self._open(group, response.challenge)
                await self._remember(response.challenge.checkpoint)
            elif kind == "range_orders":
                self._take_step(response.range_orders)
            elif kind == "verdicts":
                self._take_verdicts(response.verdicts)
            else:
                self._log.warning("unknown message")  # a newer server; docs/protocol.md A7

    async def _write(self) -> None:
        # One task writes: a write that is cancelled halfway would cancel the whole call.
        while True:
            request = await self._outgoing.get()
            try:
                await self._call.write(request)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # the stream is over; the reader knows why

    def _open(self, group: asyncio.TaskGroup, challenge: attestation_pb2.Challenge) -> None:
        if challenge.host_id != self._host_id:
            raise ProtocolError("a challenge for another host")
        if len(challenge.challenge) != 32:
            raise ProtocolError("a challenge that has not 32 bytes")
        if self._answer is not None and not self._answer.done():
            self._log.info("challenge replaced", challenge=self._challenge.hex())
            self._answer.cancel()
        self._known_chains.update(challenge.known_chains)
        self._challenge = challenge.challenge
        self._steps = asyncio.Queue()
        deadline = MonotonicSeconds(time.monotonic() + challenge.life.ToNanoseconds() / 1e9)
        self._answer = group.create_task(self._answer_challenge(challenge.challenge, self._steps, deadline))

    async def _remember(self, checkpoint: str) -> None:
        try:
            await self._memory.take(checkpoint)
        except MemoryFileError as error:
            # It is a defense against the server's past, and no reason to leave its present.
            self._log.warning("checkpoint not kept", error=str(error))

    def _take_step(self, step: attestation_pb2.RangeOrders) -> None:
        if step.challenge != self._challenge:
            self._log.info("orders for a challenge that is not open", challenge=step.challenge.hex())
            return
        if any(len(order.pdi) != 8 or len(order.landmark_key_id) != 32 for order in step.orders):
            raise ProtocolError("a range order of wrong sizes")
        self._steps.put_nowait(step)

    def _take_verdicts(self, batch: attestation_pb2.VerdictBatch) -> None:
        self._known_chains.update(batch.known_chains)
        for verdict in batch.verdicts:
            self._log.info("attested", **messages.summary(verdict))
            self._on_verdict()

    async def _answer_challenge(
        self, challenge: bytes, steps: asyncio.Queue[attestation_pb2.RangeOrders], deadline: MonotonicSeconds
    ) -> None:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._refresh_roster()
                roster = self._roster
                ranges: list[Ranged] = []
                final = False
                while not final:
                    step = await steps.get()
                    final = step.final
                    if step.orders:
                        held = await self._collector.hold_sessions(messages.orders(step), challenge, roster, deadline)
                        ranges.extend(held)
                        self._outgoing.put_nowait(messages.range_results(step, held))
                evidence = await self._collector.attest(challenge, roster, ranges)
        except TimeoutError:
            self._log.warning("challenge ran out", challenge=challenge.hex())  # docs/protocol.md CH2
            return
        self._outgoing.put_nowait(messages.attestation(self._host_id, challenge, evidence, self._known_chains))

    async def _poll_devices(self) -> None:
        while True:
            await asyncio.sleep(self._device_poll_s)
            if self._answer is not None and not self._answer.done():
                continue
            try:
                await self._refresh_roster()
            except SourceError as error:
                self._log.warning("devices unreadable", error=str(error))

    async def _refresh_roster(self) -> None:
        roster = await self._collector.roster()
        if roster != self._roster:
            self._roster = roster
            self._log.info("devices changed", devices=len(roster.devices))
            self._send_inventory()

    def _send_inventory(self) -> None:
        # docs/protocol.md A1, A8
        self._outgoing.put_nowait(messages.inventory(self._host_id, self._roster, self._memory.largest))


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first leaf: one task fails, the others are cancelled because of it."""
    failure: BaseException = failures
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    return failure

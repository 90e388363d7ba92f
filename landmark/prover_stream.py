"""The Prove stream: takes orders from the server, has them held, returns what came of them. docs/protocol.md LA1.

Run by `trigpoint-landmark prove`, in a process of its own: never by the serving one. The stream is read and written
between batches alone; while a batch is held this thread is in `prover_client`, and gRPC's own threads, which hold no
interpreter, keep the connection alive. No failure of network or server ends the process; each is logged and tried
again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import grpc
import structlog
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

from landmark.backoff import Backoff
from landmark.config import Audit
from landmark.datagrams import MAX_TICKET_BYTES
from landmark.derive import CHALLENGE_BYTES, KEY_ID_BYTES
from landmark.errors import LandmarkError
from landmark.prover import Evidence, Failure
from landmark.prover_client import AnsweringSide, Batch, Order

MAX_ORDERS: Final = 64
_CHANNEL_OPTIONS: Final = [
    # A dead path is noticed within 80 s. The server allows a ping each 10 s.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
]
_log = structlog.get_logger()

ProveCall = grpc.aio.StreamStreamCall[landmark_pb2.ProveRequest, landmark_pb2.ProveResponse]


class OrdersInvalidError(LandmarkError):
    """The server sent orders that docs/protocol.md LA1 and the schema do not allow; the stream is given up."""


@dataclass(slots=True)
class Counters:
    """What came of the sessions since the process started; failures by their names in lower case."""

    batches: int = 0
    sessions: int = 0
    evidence: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def count(self, outcomes: tuple[Evidence | Failure, ...]) -> None:
        """Add one batch."""
        self.batches += 1
        self.sessions += len(outcomes)
        self.evidence += sum(isinstance(outcome, Evidence) for outcome in outcomes)
        self.failures.update(outcome.name.lower() for outcome in outcomes if isinstance(outcome, Failure))

    def fields(self) -> dict[str, object]:
        """Return them for one log line."""
        return {
            "batches": self.batches,
            "sessions": self.sessions,
            "evidence": self.evidence,
            "failures": dict(self.failures),
        }


class ProverStream:
    """Keeps one Prove stream open and carries out its orders.

    `sleep` waits for seconds between tries; a test passes its own.
    """

    def __init__(
        self,
        audit: Audit,
        side: AnsweringSide,
        backoff: Backoff,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.counters = Counters()
        self._audit = audit
        self._side = side
        self._backoff = backoff
        self._sleep = sleep

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                await self._stream_once()
                _log.info("prove stream ended by the server")
            except grpc.aio.AioRpcError as error:
                _log.warning("prove stream broke", status=error.code().name, detail=error.details())
            except OrdersInvalidError as error:
                _log.error("server sent impossible orders", error=str(error))
            except OSError as error:
                _log.error("credentials unreadable", error=f"{error.filename}: {error.strerror}")
            delay_s = self._backoff.next_s()
            _log.info("waiting", delay_s=round(delay_s, 3))
            await self._sleep(delay_s)

    async def _stream_once(self) -> None:
        async with _open_channel(self._audit) as channel:
            call: ProveCall = landmark_pb2_grpc.LandmarkServiceStub(channel).Prove()
            try:
                await self._answer(call)
            except asyncio.InvalidStateError:  # the stream was over before a write
                await call.read()  # raises what it ended with
            finally:
                call.cancel()

    async def _answer(self, call: ProveCall) -> None:
        """Say that we are ready, then answer each batch of orders until the server ends the stream.

        Raises:
            grpc.aio.AioRpcError: the stream broke.
            OrdersInvalidError: the server broke the protocol.
        """
        await call.write(landmark_pb2.ProveRequest(ready=landmark_pb2.ProverReady()))
        while isinstance(response := await call.read(), landmark_pb2.ProveResponse):  # else EOF, and all is well
            if response.WhichOneof("message") != "orders":
                _log.warning("unknown message")  # a newer server
                continue
            batch = batch_of(response.orders, time.monotonic_ns())
            outcomes = self._side.hold_batch(batch)
            self.counters.count(outcomes)
            _log.info("batch held", challenge=batch.challenge.hex(), orders=len(batch.orders), **self.counters.fields())
            await call.write(landmark_pb2.ProveRequest(results=results_of(batch, outcomes)))
            self._backoff.reset()


def batch_of(orders: landmark_pb2.ProverOrders, now_ns: int) -> Batch:
    """Return the orders that came at `now_ns` of CLOCK_MONOTONIC.

    Raises:
        OrdersInvalidError: a field of wrong size, or too many orders.
    """
    if len(orders.challenge) != CHALLENGE_BYTES:
        raise OrdersInvalidError(f"a challenge of {len(orders.challenge)} bytes")
    if not 1 <= len(orders.orders) <= MAX_ORDERS:
        raise OrdersInvalidError(f"{len(orders.orders)} orders")
    for order in orders.orders:
        if len(order.landmark_key_id) != KEY_ID_BYTES or len(order.ticket) > MAX_TICKET_BYTES:
            raise OrdersInvalidError("an order of wrong sizes")
    return Batch(
        orders.challenge,
        tuple(Order(order.landmark_key_id, tuple(order.endpoints), order.ticket) for order in orders.orders),
        now_ns + orders.life.ToNanoseconds(),
    )


def results_of(batch: Batch, outcomes: tuple[Evidence | Failure, ...]) -> landmark_pb2.ProverResults:
    """Return the message that answers `batch`: one result for each order, in their order."""
    results = landmark_pb2.ProverResults(challenge=batch.challenge)
    for order, outcome in zip(batch.orders, outcomes, strict=True):
        result = results.results.add(landmark_key_id=order.landmark_key_id)
        if isinstance(outcome, Evidence):
            result.evidence.receipt = outcome.receipt
            result.evidence.statement = outcome.statement
            result.evidence.answered = outcome.answered
        else:
            result.failure = landmark_pb2.ProverFailure.ValueType(outcome)
    return results


def _open_channel(audit: Audit) -> grpc.aio.Channel:
    """Return a channel with mutual TLS; files are read anew, so that a renewed certificate is taken up."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=audit.ca.read_bytes(),
        private_key=audit.key.read_bytes(),
        certificate_chain=audit.cert.read_bytes(),
    )
    return grpc.aio.secure_channel(audit.server, credentials, options=_CHANNEL_OPTIONS)

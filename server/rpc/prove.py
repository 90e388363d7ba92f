"""A Prove stream's messages in and out; what they mean is in server/intake/audit_stream.py.

What is checked here is the frame: sizes of ids, counts, fields that must be set.
"""

from collections.abc import AsyncIterator, Mapping

from grpc.aio import ServicerContext
from trigpoint.v1 import landmark_pb2

from server.intake.audit_stream import (
    AuditIntake,
    Incoming,
    ProverEvidence,
    ProverFailed,
    ProverOrders,
    ProverResults,
    ProveStream,
    Ready,
)
from server.rpc.access import current_peer
from server.rpc.errors import InvalidArgumentError
from verifier.units import Challenge, LandmarkId, LandmarkKeyId

Context = ServicerContext[landmark_pb2.ProveRequest, landmark_pb2.ProveResponse]

MAX_RESULTS = 64
"""A batch holds no more orders."""

_ID_BYTES = 32
_CAUSES: Mapping[int, str] = {
    landmark_pb2.PROVER_FAILURE_NO_REPLY: "no_reply",
    landmark_pb2.PROVER_FAILURE_REFUSED: "refused",
    landmark_pb2.PROVER_FAILURE_TOO_FEW_ROUNDS: "too_few_rounds",
    landmark_pb2.PROVER_FAILURE_NO_RECEIPT: "no_receipt",
    landmark_pb2.PROVER_FAILURE_TOO_LATE: "too_late",
}


async def prove(intake: AuditIntake, requests: AsyncIterator[landmark_pb2.ProveRequest], context: Context) -> None:
    """Run one stream of the landmark that the peer's certificate names, until it ends it."""

    async def send(batch: ProverOrders) -> None:
        await context.write(orders_to_proto(batch))

    await ProveStream(intake, LandmarkId(current_peer().name), send).run(_messages(requests))


async def _messages(requests: AsyncIterator[landmark_pb2.ProveRequest]) -> AsyncIterator[Incoming]:
    async for request in requests:
        yield request_from_proto(request)


def request_from_proto(request: landmark_pb2.ProveRequest) -> Incoming:
    """Take one message of a landmark; raises `InvalidArgumentError`."""
    match request.WhichOneof("message"):
        case "ready":
            return Ready()
        case "results":
            return _results(request.results)
        case _:
            raise InvalidArgumentError("message", "exactly one message must be set")


def orders_to_proto(batch: ProverOrders) -> landmark_pb2.ProveResponse:
    """Make the message of a batch of orders."""
    orders = landmark_pb2.ProverOrders(
        challenge=batch.issued.challenge,
        orders=[
            landmark_pb2.ProverOrder(landmark_key_id=order.landmark, endpoints=order.endpoints, ticket=order.ticket)
            for order in batch.orders
        ],
    )
    orders.life.FromTimedelta(batch.issued.life)
    return landmark_pb2.ProveResponse(orders=orders)


def _results(message: landmark_pb2.ProverResults) -> ProverResults:
    if len(message.results) > MAX_RESULTS:
        raise InvalidArgumentError("results.results", f"at most {MAX_RESULTS}")
    challenge = Challenge(_sized(message.challenge, _ID_BYTES, "results.challenge"))
    return ProverResults(
        challenge, tuple(_result(result, f"results.results[{i}]") for i, result in enumerate(message.results))
    )


def _result(message: landmark_pb2.ProverResult, field: str) -> ProverEvidence | ProverFailed:
    landmark = LandmarkKeyId(_sized(message.landmark_key_id, _ID_BYTES, f"{field}.landmark_key_id"))
    match message.WhichOneof("outcome"):
        case "evidence":
            evidence = message.evidence
            return ProverEvidence(landmark, evidence.receipt, evidence.statement, evidence.answered)
        case "failure":
            # A newer landmark may know more causes than this server.
            return ProverFailed(landmark, _CAUSES.get(message.failure, "failed"))
        case _:
            raise InvalidArgumentError(f"{field}.outcome", "exactly one outcome must be set")


def _sized(value: bytes, size: int, field: str) -> bytes:
    if len(value) != size:
        raise InvalidArgumentError(field, f"{size} bytes, not {len(value)}")
    return value

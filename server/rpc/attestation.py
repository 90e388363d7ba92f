"""`trigpoint.v1.AttestationService`: a stream's messages in and out. What they mean is in server/intake/stream.py.

The role was checked by server/rpc/access.py; errors become status in server/rpc/status.py.
"""

import asyncio
from collections.abc import AsyncIterator

from grpc.aio import ServicerContext
from trigpoint.v1 import attestation_pb2, attestation_pb2_grpc

from server.intake.pipeline import Reporter
from server.intake.stream import AttestStream, Incoming, Intake, Outgoing
from server.rpc.access import current_peer
from server.rpc.convert import request_from_proto, response_to_proto

Context = ServicerContext[attestation_pb2.AttestRequest, attestation_pb2.AttestResponse]


class AttestationServicer(attestation_pb2_grpc.AttestationServiceServicer):
    """Answers Attest."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def Attest(  # type: ignore[override]  # noqa: N802 - the schema's name; the stub describes the synchronous API
        self, request_iterator: AsyncIterator[attestation_pb2.AttestRequest], context: Context
    ) -> None:
        """Run one stream until the agent ends it."""
        peer = current_peer()
        writing = asyncio.Lock()  # gRPC takes one write at a time

        async def send(event: Outgoing) -> None:
            async with writing:
                await context.write(response_to_proto(event))

        await AttestStream(self._intake, Reporter(peer.name, peer.licensee), send).run(_messages(request_iterator))


async def _messages(requests: AsyncIterator[attestation_pb2.AttestRequest]) -> AsyncIterator[Incoming]:
    async for request in requests:
        yield request_from_proto(request)

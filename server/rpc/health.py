"""`grpc.health.v1.Health`: NOT_SERVING from a fault of the store until a write succeeds again."""

from collections.abc import Sequence
from typing import Any

import structlog
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio

from server.rpc.handlers import Context
from server.telemetry import Telemetry

_LIST_RESPONSE: Any = health_pb2.HealthListResponse  # type: ignore[attr-defined]
"""Newer than the types that we have."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class _Servicer(aio.HealthServicer):
    """The library's, which answers List on synchronous servers alone."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names

    async def List(  # noqa: N802 - the schema's name
        self, _request: Message, context: Context
    ) -> Message:
        """Return the health of every service."""
        checks = {name: await self.Check(health_pb2.HealthCheckRequest(service=name), context) for name in self._names}
        response: Message = _LIST_RESPONSE(statuses=checks)
        return response


class Health:
    """The health of all services, which is one: they share the store.

    Args:
        services: Full names; the empty one, the server as a whole, comes besides.
        telemetry: Shows the store's health too.
    """

    def __init__(self, services: Sequence[str], telemetry: Telemetry) -> None:
        self._names = ("", *services)
        self.servicer = _Servicer(self._names)
        self._telemetry = telemetry
        self._serving = False
        self._lost = False
        self._stopped = False

    def is_serving(self) -> bool:
        """Whether callers should come here."""
        return self._serving and not self._stopped

    async def store_answered(self) -> None:
        """Note that a write succeeded."""
        await self._set(serving=True)

    async def store_failed(self) -> None:
        """Note that the store failed."""
        await self._set(serving=False)

    async def past_lost(self) -> None:
        """Say NOT_SERVING for good: the store is not the one that it was (docs/protocol.md A8)."""
        self._lost = True
        await self._set(serving=False)

    async def stop(self) -> None:
        """Say NOT_SERVING from now on."""
        self._stopped = True
        await self.servicer.enter_graceful_shutdown()

    async def _set(self, *, serving: bool) -> None:
        self._telemetry.store_up.set(serving)
        serving = serving and not self._lost
        changed, self._serving = serving != self._serving, serving
        if changed:
            structlog.get_logger().info("health", serving=serving)
        for name in self._names:
            await self.servicer.set(name, _SERVING if serving else _NOT_SERVING)

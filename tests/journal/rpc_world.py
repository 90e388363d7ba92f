"""JournalService over a store whose every table holds rows, for calls and for the console."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
from trigpoint.v1 import journal_pb2_grpc

from server.desk.journal_audits import JournalAuditor
from server.rpc import access
from server.rpc.access import DEV_ROLE_KEY, AccessInterceptor
from server.rpc.handlers import Context, Continuation, Handler, surround
from server.rpc.journal import JournalServicer
from server.rpc.status import StatusInterceptor
from server.spiffe import Peer, Role
from server.store import Store
from server.store.journal_types import SignedCheckpoint
from server.telemetry import Telemetry
from tests.store.journal_world import VKEY, checkpoint
from tests.store.store_world import START

DAY = timedelta(days=1)
RAW_DAYS = 90.0
Metadata = tuple[tuple[str, str], ...]


def someone(path: str) -> Metadata:
    """Metadata of a call by somebody, as `auditor/eve`."""
    return ((DEV_ROLE_KEY, path),)


OFFICER, AUDITOR, ADMIN = someone("officer/ann"), someone("auditor/eve"), someone("admin/root")


class Seals:
    """Signs when asked, and counts it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.count = 0
        self.newest: SignedCheckpoint | None = None
        self.after: Callable[[], Awaitable[None]] | None = None

    async def __call__(self) -> SignedCheckpoint:
        self.count += 1
        self.newest = signed = await checkpoint(self._store)
        if self.after is not None:
            await self.after()
        return signed


class EverybodyIs(grpc.aio.ServerInterceptor):
    """Whoever calls is this peer: a console shows no role without TLS."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        return None if handler is None else surround(handler, self._as)

    @contextlib.asynccontextmanager
    async def _as(self, _context: Context) -> AsyncIterator[None]:
        token = access._peer.set(self.peer)
        try:
            yield
        finally:
            access._peer.reset(token)


@dataclass(frozen=True, slots=True)
class Served:
    """A journal that is served.

    Attributes:
        path: The store's file.
        store: Its store.
        seals: Signs checkpoints.
        target: Where it listens.
        stub: Of the service.
    """

    path: Path
    store: Store
    seals: Seals
    target: str
    stub: "journal_pb2_grpc.JournalServiceAsyncStub"


@contextlib.asynccontextmanager
async def served_journal(path: Path, *, everybody: Role | None = None) -> AsyncIterator[Served]:
    """Serve a store's journal; with `everybody`, all callers have this role."""
    store = await Store.open(path)
    seals = Seals(store)
    telemetry = Telemetry()

    async def ignore() -> None:
        """Nobody watches this server's health."""

    who = AccessInterceptor(None, telemetry) if everybody is None else EverybodyIs(Peer(everybody, "eve"))
    server = grpc.aio.server(interceptors=[StatusInterceptor(telemetry, ignore), who])
    auditor = JournalAuditor(path, VKEY.vkey, lambda: seals.newest)
    servicer = JournalServicer(store, seals, auditor, RAW_DAYS, lambda: START + 200 * DAY)
    journal_pb2_grpc.add_JournalServiceServicer_to_server(servicer, server)
    target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        async with grpc.aio.insecure_channel(target) as channel:
            yield Served(path, store, seals, target, journal_pb2_grpc.JournalServiceStub(channel))
    finally:
        await server.stop(None)
        await store.close()

"""Every RPC against every kind of caller, over mutual TLS: nobody, expired, wrong role, wrong jurisdiction, right.

The table stands here a second time on purpose: a slip in server/rpc/access.py must not be its own proof.
"""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import pytest_asyncio
import trigpoint.v1
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from server import pki
from server.rpc.access import JURISDICTIONAL, ROLES
from server.spiffe import LIMITABLE, Peer, Role
from tests.server import helpers

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOME, ABROAD = True, False
EVERYBODY = "viewer officer approver auditor admin agent landmark"
READERS = "viewer officer approver auditor"
OFFICERS = "officer approver"


@dataclass(frozen=True)
class Row:
    """Who may call (docs/protocol.md RC10), and whether only the home authority's people may (RC11)."""

    roles: frozenset[Role]
    home: bool


def row(roles: str, home: bool) -> Row:  # noqa: FBT001 - a table's column
    return Row(frozenset(map(Role, roles.split())), home)


MATRIX = {
    "/trigpoint.v1.AttestationService/Attest": row("agent", HOME),
    "/trigpoint.v1.LicensingService/ImportDeployments": row(OFFICERS, HOME),
    "/trigpoint.v1.LicensingService/GetDevice": row(READERS, ABROAD),
    "/trigpoint.v1.LicensingService/ListDevices": row(READERS, ABROAD),
    "/trigpoint.v1.LicensingService/WatchDevices": row(READERS, ABROAD),
    "/trigpoint.v1.LicensingService/GetResult": row(READERS, ABROAD),
    "/trigpoint.v1.LicensingService/ChallengeDevices": row(OFFICERS, HOME),
    "/trigpoint.v1.LandmarkService/ImportLandmarks": row("officer approver admin", HOME),
    "/trigpoint.v1.LandmarkService/GetLandmark": row("viewer officer approver auditor admin landmark", HOME),
    "/trigpoint.v1.LandmarkService/ListLandmarks": row("viewer officer approver auditor admin landmark", HOME),
    "/trigpoint.v1.LandmarkService/GetTicketKey": row("viewer officer approver auditor admin landmark", HOME),
    "/trigpoint.v1.LandmarkService/Prove": row("landmark", HOME),
    "/trigpoint.v1.LandmarkService/ListLandmarkAudits": row("viewer officer approver auditor admin landmark", HOME),
    "/trigpoint.v1.LandmarkService/PlanLandmarks": row(OFFICERS, HOME),
    "/trigpoint.v1.RecordService/GetRecord": row(READERS, ABROAD),
    "/trigpoint.v1.RecordService/ListRecords": row(READERS, ABROAD),
    "/trigpoint.v1.RecordService/WriteRecords": row(OFFICERS, HOME),
    "/trigpoint.v1.RecordService/ListRevisions": row("officer approver auditor", HOME),
    "/trigpoint.v1.RecordService/ExportDeployments": row(READERS, ABROAD),
    "/trigpoint.v1.ChangeService/GetChange": row("officer approver auditor admin", HOME),
    "/trigpoint.v1.ChangeService/ListChanges": row("officer approver auditor admin", HOME),
    "/trigpoint.v1.ChangeService/ApproveChanges": row("approver", HOME),
    "/trigpoint.v1.ChangeService/RejectChanges": row("approver", HOME),
    "/trigpoint.v1.ChangeService/WithdrawChanges": row("officer approver admin", HOME),
    "/trigpoint.v1.CaseService/GetCase": row(READERS, ABROAD),
    "/trigpoint.v1.CaseService/ListCases": row(READERS, ABROAD),
    "/trigpoint.v1.CaseService/ListCaseDevices": row(READERS, ABROAD),
    "/trigpoint.v1.CaseService/WorkCases": row(OFFICERS, ABROAD),
    "/trigpoint.v1.CaseService/ExportCase": row("officer approver auditor", ABROAD),
    "/trigpoint.v1.JournalService/GetCheckpoint": row("viewer officer approver auditor admin", ABROAD),
    "/trigpoint.v1.JournalService/GetConsistencyProof": row("viewer officer approver auditor admin", ABROAD),
    "/trigpoint.v1.JournalService/ProveRows": row("officer approver auditor", HOME),
    "/trigpoint.v1.JournalService/AuditJournal": row("approver auditor admin", HOME),
    "/trigpoint.v1.JournalService/ListReads": row("approver auditor", HOME),
    "/trigpoint.v1.JournalService/ApplyRetention": row("admin", HOME),
    "/trigpoint.v1.ExhibitService/AddExhibit": row(OFFICERS, ABROAD),
    "/trigpoint.v1.ExhibitService/ListExhibits": row(READERS, ABROAD),
    "/trigpoint.v1.ExhibitService/GetExhibit": row(READERS, ABROAD),
    "/trigpoint.v1.ExhibitService/AnswerExhibit": row(OFFICERS, ABROAD),
    "/trigpoint.v1.ScreeningService/ImportScreeningList": row("officer approver admin", HOME),
    "/trigpoint.v1.ScreeningService/ListScreeningHits": row(READERS, HOME),
    "/trigpoint.v1.ScreeningService/DecideScreeningHits": row(OFFICERS, HOME),
    "/grpc.health.v1.Health/Check": row(EVERYBODY, ABROAD),
    "/grpc.health.v1.Health/Watch": row(EVERYBODY, ABROAD),
    "/grpc.health.v1.Health/List": row(EVERYBODY, ABROAD),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": row(EVERYBODY, ABROAD),
}
REFUSALS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED}


def described() -> Iterator[Any]:
    """Every file of the schema, found and not listed, and what the server serves besides."""
    for module in pkgutil.iter_modules(trigpoint.v1.__path__):
        if module.name.endswith("_pb2"):
            yield importlib.import_module(f"trigpoint.v1.{module.name}").DESCRIPTOR
    yield from (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)


METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for file in described()
    for service in file.services_by_name.values()
    for method in service.methods
}


def a_peer(role: Role, jurisdiction: str = "") -> Peer:
    """Somebody of this role. The landmark is registered nowhere."""
    return Peer(role, f"{role}-1", "Example Cloud" if role is Role.AGENT else "", jurisdiction)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[helpers.Running]:
    async with helpers.running_server(tmp_path_factory.mktemp("matrix") / "server") as running:
        yield running


async def call(channel: grpc.aio.Channel, name: str) -> tuple[grpc.StatusCode, str]:
    """Send one empty message and take the first answer; returns the status, OK for an answer, and its reason."""
    method = METHODS[name]
    requests, responses = method.client_streaming, method.server_streaming
    shapes: dict[tuple[bool, bool], Any] = {
        (False, False): channel.unary_unary,
        (True, False): channel.stream_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }
    started = shapes[requests, responses](name)(iter([b""]) if requests else b"")
    try:
        await (started.read() if responses else started)
        code = grpc.StatusCode.OK if not started.done() else await started.code()
    except grpc.aio.AioRpcError as error:
        reason = helpers.error_info(error).reason if "grpc-status-details-bin" in _keys(error) else ""
        return error.code(), reason
    finally:
        started.cancel()
    return code, ""


def _keys(error: grpc.aio.AioRpcError) -> set[str]:
    return {key for key, _ in error.trailing_metadata() or ()}


async def test_every_rpc_has_a_row_and_every_row_an_rpc() -> None:
    assert MATRIX.keys() == METHODS.keys()
    assert {name: wanted.roles for name, wanted in MATRIX.items()} == ROLES
    assert {name for name, wanted in MATRIX.items() if not wanted.home} == JURISDICTIONAL


@pytest.mark.parametrize("name", METHODS)
async def test_without_a_certificate_nobody_is_served(server: helpers.Running, name: str) -> None:
    async with server.channel(None) as channel:
        assert await call(channel, name) == (grpc.StatusCode.UNAVAILABLE, "")  # the handshake fails


@pytest.mark.parametrize("name", METHODS)
async def test_an_expired_certificate_serves_nobody(server: helpers.Running, name: str) -> None:
    peer = a_peer(min(MATRIX[name].roles))
    expired = Peer(peer.role, "late", peer.licensee)
    if expired not in server.issued:
        long_ago = datetime.now(UTC) - pki.CERTIFICATE_LIFE - timedelta(seconds=1)
        server.issued[expired] = pki.issue(server.folder, expired, f"late-{expired.role}", long_ago)
    async with server.channel(expired) as channel:
        assert await call(channel, name) == (grpc.StatusCode.UNAVAILABLE, "")  # the handshake fails
    async with server.channel(peer) as channel:  # and that was the reason
        code, _ = await call(channel, name)
    assert code is not grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("name", METHODS)
async def test_every_other_role_is_refused(server: helpers.Running, name: str) -> None:
    for role in set(Role) - MATRIX[name].roles:
        for jurisdiction in ("", "DE") if role in LIMITABLE else ("",):
            async with server.channel(a_peer(role, jurisdiction)) as channel:
                assert await call(channel, name) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"), role


@pytest.mark.parametrize("name", METHODS)
async def test_who_is_limited_to_a_jurisdiction_may_call_what_shows_its_part(
    server: helpers.Running, name: str
) -> None:
    for role in MATRIX[name].roles & LIMITABLE:
        async with server.channel(a_peer(role, "DE")) as channel:
            code, reason = await call(channel, name)
        if MATRIX[name].home:
            assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "JURISDICTION_LIMITED"), role
        else:
            assert code not in REFUSALS, role


@pytest.mark.parametrize("name", METHODS)
async def test_the_right_roles_get_in(server: helpers.Running, name: str) -> None:
    for role in MATRIX[name].roles:
        async with server.channel(a_peer(role)) as channel:
            code, _ = await call(channel, name)
        assert code not in REFUSALS | {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}, role

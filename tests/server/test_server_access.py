"""Who may call what: the table, the certificate, the refusals."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc, licensing_pb2, licensing_pb2_grpc

from server import pki
from server.config import load_config
from server.spiffe import Peer, Role, SpiffeError, format_id, parse_id, parse_path
from tests.server import helpers


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[helpers.Running]:
    async with helpers.running_server(tmp_path / "server") as running:
        yield running


async def test_without_a_certificate_nobody_gets_in(server: helpers.Running) -> None:
    async with server.channel(None) as channel:
        error = await helpers.failure(helpers.check_health(channel))
    assert error.code() is grpc.StatusCode.UNAVAILABLE  # the handshake fails


async def test_a_certificate_of_another_authority_is_refused(server: helpers.Running, tmp_path: Path) -> None:
    other = tmp_path / "other"
    pki.init(other, pki.DEFAULT_HOSTS, helpers.TRUST_DOMAIN, "127.0.0.1:0")
    certificate, key = pki.issue(other, helpers.OFFICER, "ann")
    credentials = grpc.ssl_channel_credentials(
        (server.folder / "ca.pem").read_bytes(), key.read_bytes(), certificate.read_bytes()
    )
    async with grpc.aio.secure_channel(server.bound.address, credentials) as channel:
        error = await helpers.failure(helpers.check_health(channel))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_without_a_spiffe_id_of_ours_is_unauthenticated(server: helpers.Running) -> None:
    folder = server.folder
    credentials = grpc.ssl_channel_credentials(
        (folder / "ca.pem").read_bytes(), (folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes()
    )
    async with grpc.aio.secure_channel(server.bound.address, credentials) as channel:
        error = await helpers.failure(helpers.check_health(channel))
    # OpenSSL refuses a certificate that is not for clients; a TLS library that does not must find our own check.
    assert error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}


@pytest.mark.parametrize("peer", [helpers.AGENT, helpers.LANDMARK], ids=["agent", "landmark"])
async def test_the_wrong_role_is_refused(server: helpers.Running, peer: Peer) -> None:
    async with server.channel(peer) as channel:
        stub = licensing_pb2_grpc.LicensingServiceStub(channel)
        error = await helpers.failure(stub.ListDevices(licensing_pb2.ListDevicesRequest()))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    info = helpers.error_info(error)
    assert (info.domain, info.reason, info.metadata["role"]) == ("trigpoint.dev", "ROLE_NOT_ALLOWED", peer.role.value)
    refused = server.app.telemetry.refusals.labels("/trigpoint.v1.LicensingService/ListDevices", "role")
    assert refused._value.get() == 1


async def test_an_officer_may_not_attest(server: helpers.Running) -> None:
    async with server.channel(helpers.OFFICER) as channel:
        stream = helpers.attest(channel)
        error = await helpers.failure(stream.read())
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_the_right_role_gets_in(server: helpers.Running) -> None:
    async with server.channel(helpers.OFFICER) as channel:
        devices = await licensing_pb2_grpc.LicensingServiceStub(channel).ListDevices(licensing_pb2.ListDevicesRequest())
        assert devices.total_size == 0
    async with server.channel(helpers.LANDMARK) as channel:
        answer = await landmark_pb2_grpc.LandmarkServiceStub(channel).GetTicketKey(landmark_pb2.GetTicketKeyRequest())
    assert answer.public_key == pki.public_bytes(pki.load_ed25519_key(server.folder / "ticket.key"))


@pytest.mark.parametrize("peer", [helpers.OFFICER, helpers.AGENT, helpers.LANDMARK], ids=lambda peer: peer.role.value)
async def test_health_and_reflection_are_for_every_role(server: helpers.Running, peer: Peer) -> None:
    async with server.channel(peer) as channel:
        health = await helpers.check_health(channel)
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        stub: Any = reflection_pb2_grpc.ServerReflectionStub
        stream = stub(channel).ServerReflectionInfo()
        await stream.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await stream.read()
        await stream.done_writing()
    names = {service.name for service in answer.list_services_response.service}
    assert "trigpoint.v1.AttestationService" in names


async def test_an_unknown_device_name_names_the_field_or_is_not_found(server: helpers.Running) -> None:
    async with server.channel(helpers.OFFICER) as channel:
        stub = licensing_pb2_grpc.LicensingServiceStub(channel)
        malformed = await helpers.failure(stub.GetDevice(licensing_pb2.GetDeviceRequest(name="nonsense")))
        absent = await helpers.failure(stub.GetDevice(licensing_pb2.GetDeviceRequest(name=f"devices/{'0' * 16}")))
    assert malformed.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert helpers.error_info(malformed).metadata["field"] == "name"
    assert absent.code() is grpc.StatusCode.NOT_FOUND


async def test_with_plaintext_the_role_comes_from_metadata(tmp_path: Path) -> None:
    path = helpers.init_folder(tmp_path / "server")
    before, rest = path.read_text().split("[tls]")
    path.write_text("plaintext_on_loopback = true\n" + before + "[store]" + rest.split("[store]")[1])
    request = licensing_pb2.ListDevicesRequest()
    async with contextlib.AsyncExitStack() as stack:
        running = await stack.enter_async_context(helpers.running_server(tmp_path, load_config(path)))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.bound.address))
        stub = licensing_pb2_grpc.LicensingServiceStub(channel)
        error = await helpers.failure(stub.ListDevices(request, metadata=(("trigpoint-dev-role", "king/arthur"),)))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert helpers.error_info(error).reason == "PEER_UNIDENTIFIED"
        agent = (("trigpoint-dev-role", helpers.AGENT.path),)
        error = await helpers.failure(stub.ListDevices(request, metadata=agent))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        for said in ((("trigpoint-dev-role", "officer/ann"),), ()):
            answer = await stub.ListDevices(request, metadata=said)
            assert answer.total_size == 0


async def test_with_tls_that_metadata_means_nothing(server: helpers.Running) -> None:
    async with server.channel(helpers.AGENT) as channel:
        stub = licensing_pb2_grpc.LicensingServiceStub(channel)
        officer = (("trigpoint-dev-role", "officer/ann"),)
        error = await helpers.failure(stub.ListDevices(licensing_pb2.ListDevicesRequest(), metadata=officer))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "peer",
    [
        Peer(Role.OFFICER, "ann"),
        Peer(Role.LANDMARK, "sg-1"),
        Peer(Role.VIEWER, "vic", jurisdiction="DE"),
        Peer(Role.OFFICER, "DE"),
        Peer(Role.AUDITOR, "a/b", jurisdiction="SG"),
        Peer(Role.ADMIN, "ada"),
        Peer(Role.AGENT, "rack_7/left", "Ünïted Chips & Söhne, Ltd."),
        Peer(Role.AGENT, "..", "."),
        Peer(Role.AGENT, "%41", "_41"),
    ],
    ids=str,
)
def test_names_survive_the_spiffe_id(peer: Peer) -> None:
    uri = format_id(helpers.TRUST_DOMAIN, peer)
    assert parse_id(uri, helpers.TRUST_DOMAIN) == peer
    assert all(character.isascii() and (character.isalnum() or character in "/.-_:") for character in uri)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "officer",
        "officer/",
        "officer/ann/extra",
        "officer/DE/ann/extra",
        "officer/de/ann",
        "officer/DE/",
        "officer//ann",
        "admin/DE/ada",
        "landmark/DE/sg-1",
        "agent/DE/Example/rack",
        "agent/only-a-name",
        "agent//name",
        "king/arthur",
        "officer/a_62",  # another spelling of "ab"
        "officer/a%62",
        "officer/_ff",  # no UTF-8
        "officer/..",
        "Officer/ann",
        "/officer/ann",
    ],
)
def test_paths_that_name_nobody(path: str) -> None:
    with pytest.raises(SpiffeError):
        parse_path(path)


def test_an_id_of_another_trust_domain_names_nobody() -> None:
    with pytest.raises(SpiffeError):
        parse_id("spiffe://elsewhere.test/officer/ann", helpers.TRUST_DOMAIN)

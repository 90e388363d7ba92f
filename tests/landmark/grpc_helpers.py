"""The gRPC side of a landmark's tests: certificates, and a server that gives orders and takes results."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from google.protobuf.duration_pb2 import Duration
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

WAIT_S = 30.0


def make_certificates(folder: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    issuer_key = generate_private_key(SECP256R1())
    issuer_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test root")])
    for name in ("ca", "server", "landmark"):
        key = issuer_key if name == "ca" else generate_private_key(SECP256R1())
        subject = issuer_name if name == "ca" else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "ca", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(issuer_key, SHA256())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def server_credentials(folder: Path) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [((folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes())],
        (folder / "ca.pem").read_bytes(),
        require_client_auth=True,
    )


@dataclass
class Connection:
    """One Prove stream as the server has it: what came, and what is to be sent."""

    received: "asyncio.Queue[landmark_pb2.ProveRequest]" = field(default_factory=asyncio.Queue)
    to_send: "asyncio.Queue[landmark_pb2.ProveResponse | grpc.StatusCode]" = field(default_factory=asyncio.Queue)
    peer_name: str = ""

    async def hear(self) -> landmark_pb2.ProveRequest:
        async with asyncio.timeout(WAIT_S):
            return await self.received.get()

    async def order(
        self, challenge: bytes, orders: Sequence[landmark_pb2.ProverOrder], *, life_s: int = 60
    ) -> landmark_pb2.ProverResults:
        """Give one batch of orders, and return what came of it."""
        batch = landmark_pb2.ProverOrders(challenge=challenge, life=Duration(seconds=life_s), orders=orders)
        self.to_send.put_nowait(landmark_pb2.ProveResponse(orders=batch))
        request = await self.hear()
        assert request.WhichOneof("message") == "results"
        assert request.results.challenge == challenge
        return request.results


class ProveService(landmark_pb2_grpc.LandmarkServiceServicer):
    """Takes Prove streams, of which a test takes hold one by one."""

    def __init__(self) -> None:
        self._connections: asyncio.Queue[Connection] = asyncio.Queue()

    async def connection(self) -> Connection:
        """Return the next stream, once its first message has come, which must be `ready`."""
        async with asyncio.timeout(WAIT_S):
            connection = await self._connections.get()
        assert (await connection.hear()).WhichOneof("message") == "ready"
        return connection

    async def Prove(  # noqa: N802 - the name is the schema's
        self,
        request_iterator: AsyncIterator[landmark_pb2.ProveRequest],
        context: grpc.aio.ServicerContext[landmark_pb2.ProveRequest, landmark_pb2.ProveResponse],
    ) -> AsyncIterator[landmark_pb2.ProveResponse]:
        (name,) = context.auth_context()["x509_common_name"]
        connection = Connection(peer_name=name.decode())
        self._connections.put_nowait(connection)

        async def read() -> None:
            async for request in request_iterator:
                connection.received.put_nowait(request)

        reading = asyncio.create_task(read())
        try:
            while True:
                response = await connection.to_send.get()
                if response is grpc.StatusCode.OK:
                    return
                if isinstance(response, grpc.StatusCode):
                    await context.abort(response, "on purpose")
                assert isinstance(response, landmark_pb2.ProveResponse)
                yield response
        finally:
            reading.cancel()


@contextlib.asynccontextmanager
async def prove_server(folder: Path, port: int = 0) -> AsyncIterator[tuple[ProveService, int]]:
    """Serve with the certificates in `folder`; yield the service and its port."""
    # The stubs call methods abstract that gRPC answers with UNIMPLEMENTED.
    service = ProveService()  # type: ignore[abstract]
    server = grpc.aio.server()
    landmark_pb2_grpc.add_LandmarkServiceServicer_to_server(service, server)
    bound = server.add_secure_port(f"localhost:{port}", server_credentials(folder))
    await server.start()
    try:
        yield service, bound
    finally:
        await server.stop(None)

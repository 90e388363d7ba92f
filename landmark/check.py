"""Asks the registry what it holds of this landmark and compares it with the daemon's configuration.

Run by `trigpoint-landmark check`, never by the serving process: gRPC keeps threads that would disturb its clock.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

from landmark.config import Config
from landmark.errors import LandmarkError
from landmark.keys import LandmarkKey

_DEADLINE_S: Final = 10.0


class RegistryUnreachableError(LandmarkError):
    """The registry gave no answer to compare with."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One point of comparison: what it is, and both sides in text."""

    what: str
    here: str
    registry: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Registry:
    """Where the registry is, `host:port`, and the PEM files of the mutual TLS."""

    server: str
    ca: Path
    certificate: Path
    private_key: Path


def compare_with_registry(registry: Registry, name: str, config: Config, key: LandmarkKey) -> tuple[Comparison, ...]:
    """Compare key, position revision, machine and ticket key with the record `name`, `landmarks/{id}`.

    Raises:
        RegistryUnreachableError: a file cannot be read, or a call failed.
    """
    try:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=registry.ca.read_bytes(),
            private_key=registry.private_key.read_bytes(),
            certificate_chain=registry.certificate.read_bytes(),
        )
    except OSError as error:
        raise RegistryUnreachableError(f"{error.filename}: {error.strerror}") from error
    with grpc.secure_channel(registry.server, credentials) as channel:
        return _compare(landmark_pb2_grpc.LandmarkServiceStub(channel), name, config, key)


def _compare(
    stub: landmark_pb2_grpc.LandmarkServiceStub, name: str, config: Config, key: LandmarkKey
) -> tuple[Comparison, ...]:
    try:
        record = stub.GetLandmark(landmark_pb2.GetLandmarkRequest(name=name), timeout=_DEADLINE_S).landmark
        ticket_key = stub.GetTicketKey(landmark_pb2.GetTicketKeyRequest(), timeout=_DEADLINE_S).public_key.hex()
    except grpc.RpcError as error:
        raise RegistryUnreachableError(f"{name}: {error.code().name}: {error.details()}") from error
    return (
        _same("public key", key.public_key.hex(), record.public_key.hex()),
        _same("position revision", str(config.position_revision), str(record.revision)),
        _same("virtual machine", str(config.virtual_machine).lower(), str(record.virtual_machine).lower()),
        # Several ticket keys are known here while the server's is rotated; the one in use must be among them.
        Comparison("ticket key", " ".join(config.ticket_keys), ticket_key, ticket_key in config.ticket_keys),
    )


def _same(what: str, here: str, registry: str) -> Comparison:
    return Comparison(what, here, registry, here == registry)

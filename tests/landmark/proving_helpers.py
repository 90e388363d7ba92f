"""Evidence of ranges between landmarks, verified from docs/protocol.md with other libraries than the landmark's."""

import asyncio
import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from trigpoint.v1 import landmark_pb2

from landmark.keys import LandmarkKey
from landmark.prover import Evidence, Failure
from landmark.prover_client import AnsweringSide, Batch, Order
from tests.landmark.helpers import Landmark, dumps, read_receipt, session_id, sha256

S = 1_000_000_000
MS = 1_000_000


def read_statement(message: bytes, public_key: bytes) -> tuple[bytes, bytes, bytes]:
    """Verify a statement (R9, C3) with another library than the landmark's; return session, C and T."""
    tag = cbor2.loads(message)
    assert dumps(tag) == message
    assert tag.tag == 18
    protected, unprotected, payload, signature = tag.value
    assert protected == dumps({1: -19, 4: sha256(public_key)})
    assert unprotected == {}
    signed = dumps(["Signature1", protected, b"trigpoint-prover-v1\0", payload])
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    assert len(payload) == 96
    return payload[:32], payload[32:64], payload[64:]


def transcript(session: bytes, commitment: bytes, rounds: list[tuple[int, bytes]]) -> bytes:
    link = sha256(b"trigpoint-log-v1\0", session, commitment)
    for index, challenge in rounds:
        link = sha256(link, index.to_bytes(2, "big"), challenge)
    return sha256(b"trigpoint-close-v1\0", link, len(rounds).to_bytes(2, "big"))


def check_evidence(
    evidence: Evidence | landmark_pb2.ProverEvidence, ranging: bytes, answering: bytes, challenge: bytes
) -> dict[int, Any]:
    """Verify both ends' accounts as LA2 says, given both public keys; return the receipt's fields."""
    fields = read_receipt(evidence.receipt, ranging)
    assert fields[2] == challenge
    assert fields[1] == session_id(challenge, sha256(ranging), fields[3])
    session, commitment, signed = read_statement(evidence.statement, answering)
    assert (session, commitment) == (fields[1], fields[4])
    sent, accepted = fields[6], int.from_bytes(fields[7], "big")
    answered = int.from_bytes(evidence.answered, "big")
    assert len(evidence.answered) == 8
    assert accepted & ~answered == 0
    assert answered >> sent == 0
    assert accepted.bit_count() >= 8
    stream = hashlib.shake_256(fields[5]).digest(16 * 64)
    rounds = [(index, stream[16 * index : 16 * index + 16]) for index in range(sent) if answered >> index & 1]
    assert signed == transcript(session, commitment, rounds)
    return fields


def order_for(landmark: Landmark, challenge: bytes, *endpoints: str, **fields: Any) -> Order:
    ticket = landmark.issuer.ticket(landmark.key.key_id, challenge=challenge, **fields)
    return Order(landmark.key.key_id, endpoints or landmark.daemon.endpoints, ticket)


@dataclass
class Answering:
    """This process's answering side; sessions are held on a thread, since they block it."""

    key: LandmarkKey = field(default_factory=lambda: LandmarkKey.from_seed(os.urandom(32)))
    hosts: tuple[str, ...] = ("127.0.0.1",)
    challenge: bytes = field(default_factory=lambda: os.urandom(32))

    async def hold(
        self, *orders: Order, life_ns: int = 60 * S, stopped: Callable[[], bool] = lambda: False
    ) -> tuple[Evidence | Failure, ...]:
        batch = Batch(self.challenge, orders, time.monotonic_ns() + life_ns)
        return await asyncio.to_thread(AnsweringSide(self.key, self.hosts, stopped).hold_batch, batch)


@contextlib.contextmanager
def silent_endpoint() -> Iterator[str]:
    """An address that nobody answers at."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        yield "{}:{}".format(*bound.getsockname())

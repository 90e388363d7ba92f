"""Landmarks that answer orders without a network: what both ends sign of a session is written here from R1 to R9."""

import hashlib
import os
from dataclasses import dataclass, field, replace
from typing import Any

import cbor2
import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

from server.spiffe import Peer, Role
from server.store.types import LandmarkRecord
from tests.server.helpers import landmark_record
from verifier.place.geodesy import Position

ROUNDS = 12

ProveCall = grpc.aio.StreamStreamCall[landmark_pb2.ProveRequest, landmark_pb2.ProveResponse]


@dataclass
class Station:
    """A landmark with its key."""

    number: int
    latitude: float = 1.3
    longitude: float = 103.8
    operator: str = ""
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def name(self) -> str:
        return f"sg-{self.number}"

    @property
    def public_key(self) -> bytes:
        return self.key.public_key().public_bytes_raw()

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.public_key).digest()

    @property
    def peer(self) -> Peer:
        return Peer(Role.LANDMARK, self.name)

    @property
    def record(self) -> LandmarkRecord:
        made = landmark_record(self.number)
        changed = replace(
            made.landmark,
            public_key=self.public_key,
            position=Position(self.latitude, self.longitude),
            operator=self.operator or made.landmark.operator,
        )
        return replace(made, landmark=changed)

    def sign(self, payload: bytes, label: bytes) -> bytes:
        protected = _dumps({1: -19, 4: self.key_id})
        signature = self.key.sign(_dumps(["Signature1", protected, label, payload]))
        return _dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


def _dumps(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


def read_ticket(ticket: bytes, public_key: bytes) -> dict[int, Any]:
    """Verify a ticket (docs/protocol.md §7) and return its payload."""
    protected, _, payload, signature = cbor2.loads(ticket).value
    signed = _dumps(["Signature1", protected, b"trigpoint-ticket-v1\0", payload])
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    fields: dict[int, Any] = cbor2.loads(payload)
    return fields


def session(by: Station, of: Station, challenge: bytes, rtt_ns: int) -> landmark_pb2.ProverResult:
    """Hold a session between two landmarks, and return what the answering one has of it."""
    nonce, seed, commitment = os.urandom(32), os.urandom(32), os.urandom(32)
    session_id = hashlib.sha256(b"trigpoint-session-v1\0" + challenge + by.key_id + nonce).digest()
    rounds = hashlib.shake_256(seed).digest(16 * ROUNDS)
    link = hashlib.sha256(b"trigpoint-log-v1\0" + session_id + commitment).digest()
    for index in range(ROUNDS):
        link = hashlib.sha256(link + index.to_bytes(2, "big") + rounds[16 * index : 16 * index + 16]).digest()
    transcript = hashlib.sha256(b"trigpoint-close-v1\0" + link + ROUNDS.to_bytes(2, "big")).digest()
    mask = ((1 << ROUNDS) - 1).to_bytes(8, "big")
    receipt = {
        1: session_id,
        2: challenge,
        3: nonce,
        4: commitment,
        5: seed,
        6: ROUNDS,
        7: mask,
        8: rtt_ns,
        9: 1,
        10: 1,
        11: 1_780_000_000,
    }
    evidence = landmark_pb2.ProverEvidence(
        receipt=by.sign(_dumps(receipt), b"trigpoint-receipt-v1\0"),
        statement=of.sign(session_id + commitment + transcript, b"trigpoint-prover-v1\0"),
        answered=mask,
    )
    return landmark_pb2.ProverResult(landmark_key_id=by.key_id, evidence=evidence)


def results(
    orders: landmark_pb2.ProverOrders, *outcomes: landmark_pb2.ProverResult, challenge: bytes = b""
) -> landmark_pb2.ProveRequest:
    """The message that answers a batch."""
    message = landmark_pb2.ProverResults(challenge=challenge or orders.challenge, results=outcomes)
    return landmark_pb2.ProveRequest(results=message)


READY = landmark_pb2.ProveRequest(ready=landmark_pb2.ProverReady())


def prove(channel: grpc.aio.Channel) -> ProveCall:
    """Open a stream."""
    call: ProveCall = landmark_pb2_grpc.LandmarkServiceStub(channel).Prove()
    return call


async def next_orders(call: ProveCall) -> landmark_pb2.ProverOrders:
    """The next orders; fails when the stream ends."""
    message = await call.read()
    assert isinstance(message, landmark_pb2.ProveResponse), "the stream ended"
    return message.orders

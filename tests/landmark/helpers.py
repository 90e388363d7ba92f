"""A small device, a ticket issuer and a receipt reader, written from docs/protocol.md §7 and not from `landmark`.

The device speaks real UDP. It can be told to misbehave; what it heard and did is kept for the test to look at.
"""

import asyncio
import contextlib
import hashlib
import hmac
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from landmark.config import build_config, parse_endpoint
from landmark.daemon import Daemon
from landmark.keys import LandmarkKey

HELLO, NONCE, COMMIT, ROUND, ANSWER, STOP, REVEAL, RECEIPT, REFUSED = range(1, 10)
REPLY_WAIT_S = 20.0


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


HAS_IPV6 = _has_ipv6()
LOOPBACKS = ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here"))]


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def raw_public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def dumps(value: object) -> bytes:
    return cbor2.dumps(value, canonical=True)


def raw_clock_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)


async def wait_until(raw_ns: int) -> None:
    """Return no earlier than `raw_ns` of the clock that landmarks measure with; a timer alone may come early."""
    while (left_ns := raw_ns - raw_clock_ns()) > 0:  # noqa: ASYNC110 - no event marks a point in time
        await asyncio.sleep(left_ns / 1e9)


@dataclass
class Issuer:
    """The server's ticket key."""

    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public_hex(self) -> str:
        return raw_public(self.key).hex()

    def ticket(
        self,
        landmark_key_id: bytes,
        *,
        challenge: bytes | None = None,
        expires: int | None = None,
        ticket_id: bytes | None = None,
    ) -> bytes:
        payload = {
            1: os.urandom(32) if challenge is None else challenge,
            2: landmark_key_id,
            3: int(time.time()) + 60 if expires is None else expires,
            4: os.urandom(16) if ticket_id is None else ticket_id,
        }
        return self.sign(dumps(payload))

    def sign(self, payload: bytes, *, label: bytes = b"trigpoint-ticket-v1\0", protected: bytes | None = None) -> bytes:
        if protected is None:
            protected = dumps({1: -19, 4: sha256(raw_public(self.key))})
        signature = self.key.sign(dumps(["Signature1", protected, label, payload]))
        return dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))


def read_receipt(message: bytes, public_key: bytes) -> dict[int, Any]:
    """Verify a receipt with another library than the landmark's, and return its payload."""
    tag = cbor2.loads(message)
    assert isinstance(tag, cbor2.CBORTag)
    assert tag.tag == 18
    protected, unprotected, payload, signature = tag.value
    assert cbor2.loads(protected) == {1: -19, 4: sha256(public_key)}
    assert unprotected == {}
    signed = dumps(["Signature1", protected, b"trigpoint-receipt-v1\0", payload])
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    assert dumps(tag) == message
    fields = cbor2.loads(payload)
    assert dumps(fields) == payload
    assert isinstance(fields, dict)
    return fields


def hello(hello_id: bytes, landmark_key_id: bytes) -> bytes:
    return (b"TP\x01\x01" + hello_id + landmark_key_id).ljust(96, b"\0")


def commit(tag: bytes, nonce: bytes, cookie: bytes, commitment: bytes, ticket: bytes) -> bytes:
    head = b"TP\x01\x03" + tag + nonce + cookie + commitment
    return (head + len(ticket).to_bytes(2, "big") + ticket).ljust(1200, b"\0")


def answer(tag: bytes, index: int, value: bytes) -> bytes:
    return b"TP\x01\x05" + tag + index.to_bytes(2, "big") + bytes(26) + value


def reveal(tag: bytes, secret: bytes) -> bytes:
    return (b"TP\x01\x07" + tag + secret).ljust(1200, b"\0")


def session_id(challenge: bytes, landmark_key_id: bytes, nonce: bytes) -> bytes:
    return sha256(b"trigpoint-session-v1\0", challenge, landmark_key_id, nonce)


def commitment_to(session: bytes, secret: bytes) -> bytes:
    return sha256(b"trigpoint-commit-v1\0", session, secret)


def right_answer(session: bytes, secret: bytes, index: int, challenge: bytes) -> bytes:
    message = b"trigpoint-round-v1\0" + session + index.to_bytes(2, "big") + challenge
    return hmac.new(secret, message, hashlib.sha256).digest()[:16]


@dataclass
class Opened:
    """What a NONCE gave the device."""

    tag: bytes
    nonce: bytes
    cookie: bytes


@dataclass
class Device:
    """A device at its own socket, ranging with the landmark at `address`."""

    address: tuple[str, int]
    landmark_key_id: bytes
    hold_ns: int = 0
    secret: bytes = field(default_factory=lambda: os.urandom(32))
    challenge: bytes = field(default_factory=lambda: os.urandom(32))
    rounds: dict[int, bytes] = field(default_factory=dict)
    answered: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.settimeout(0)
        self.socket.bind((self.address[0], 0))

    def close(self) -> None:
        self.socket.close()

    def send(self, datagram: bytes) -> None:
        self.socket.sendto(datagram, self.address)

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(REPLY_WAIT_S):
            data, sender = await loop.sock_recvfrom(self.socket, 2048)
        assert sender[:2] == self.address
        assert data[:3] == b"TP\x01"
        return data

    async def receive_kind(self, kind: int) -> bytes:
        """Return the next datagram that is no ROUND and no STOP, which must be of `kind`; or the next one of `kind`."""
        while True:
            data = await self.receive()
            if data[3] == kind:
                return data
            assert data[3] in {ROUND, STOP}, data

    async def open(self) -> Opened:
        hello_id = os.urandom(16)
        self.send(hello(hello_id, self.landmark_key_id))
        data = await self.receive_kind(NONCE)
        assert len(data) == 96
        assert data[20:36] == hello_id
        return Opened(data[4:20], data[36:68], data[68:92])

    def session(self, opened: Opened) -> bytes:
        return session_id(self.challenge, self.landmark_key_id, opened.nonce)

    def commit_bytes(self, opened: Opened, ticket: bytes) -> bytes:
        commitment = commitment_to(self.session(opened), self.secret)
        return commit(opened.tag, opened.nonce, opened.cookie, commitment, ticket)

    async def answer_rounds(self, opened: Opened, *, answers: Callable[[int, bytes], list[bytes]] | None = None) -> int:
        """Answer until STOP; return the number of rounds that it names. `answers` gives what is sent for a round."""
        while True:
            data = await self.receive()
            if data[3] == STOP:
                assert len(data) == 64
                assert data[4:20] == opened.tag
                return int.from_bytes(data[20:22], "big")
            assert data[3] == ROUND, data
            received_ns = raw_clock_ns()
            assert len(data) == 64
            assert data[4:20] == opened.tag
            index, challenge = int.from_bytes(data[20:22], "big"), data[48:64]
            assert index not in self.rounds
            self.rounds[index] = challenge
            right = answer(opened.tag, index, right_answer(self.session(opened), self.secret, index, challenge))
            await wait_until(received_ns + self.hold_ns)
            for datagram in [right] if answers is None else answers(index, right):
                self.send(datagram)
            self.answered.append(index)

    async def finish(self, opened: Opened) -> bytes:
        """Reveal, and return the receipt."""
        self.send(reveal(opened.tag, self.secret))
        data = await self.receive_kind(RECEIPT)
        assert data[4:20] == opened.tag
        assert len(data) == 22 + int.from_bytes(data[20:22], "big")
        return data[22:]

    async def range(self, ticket: bytes) -> bytes:
        """Hold one honest session; return the receipt."""
        opened = await self.open()
        self.send(self.commit_bytes(opened, ticket))
        await self.answer_rounds(opened)
        return await self.finish(opened)

    async def refusal(self) -> int:
        data = await self.receive_kind(REFUSED)
        assert len(data) == 64
        return int.from_bytes(data[20:22], "big")

    async def fence(self) -> None:
        """Return once the landmark has handled all that was sent so far, and has said nothing about it."""
        hello_id = os.urandom(16)
        self.send(hello(hello_id, self.landmark_key_id))
        data = await self.receive()
        assert data[3] == NONCE
        assert data[20:36] == hello_id


@dataclass
class Landmark:
    """A daemon in this process, with all that a test needs to talk to it."""

    daemon: Daemon
    key: LandmarkKey
    issuer: Issuer
    devices: list[Device] = field(default_factory=list)

    def device(self, host: str = "127.0.0.1", *, hold_ns: int = 0) -> Device:
        address = next(address for address in map(parse_endpoint, self.daemon.endpoints) if address[0] == host)
        device = Device(address, self.key.key_id, hold_ns)
        self.devices.append(device)
        return device

    def ticket(self, device: Device, **fields: Any) -> bytes:
        return self.issuer.ticket(self.key.key_id, challenge=device.challenge, **fields)

    def dropped(self) -> dict[str, int]:
        return dict(self.daemon.stats().dropped)


@contextlib.asynccontextmanager
async def run_landmark(
    *, key: LandmarkKey | None = None, issuer: Issuer | None = None, kernel_stamps: bool = True, **settings: Any
) -> AsyncIterator[Landmark]:
    key = LandmarkKey.from_seed(os.urandom(32)) if key is None else key
    issuer = Issuer() if issuer is None else issuer
    content = {
        "listen": ["127.0.0.1:0", "[::1]:0"] if HAS_IPV6 else ["127.0.0.1:0"],
        "key_file": Path("unused"),
        "ticket_keys": [issuer.public_hex],
        "position_revision": 7,
        "virtual_machine": False,
        "round_interval_ms": 2,
    }
    daemon = Daemon(build_config(content | settings, "test"), key, kernel_stamps=kernel_stamps)
    landmark = Landmark(daemon, key, issuer)
    daemon.start()
    try:
        yield landmark
    finally:
        daemon.close()
        for device in landmark.devices:
            device.close()

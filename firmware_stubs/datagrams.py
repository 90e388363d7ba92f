"""The device's half of the ranging datagrams: builds 1, 3, 5, 7 and reads 2, 4, 6, 8, 9.

Spec: docs/protocol.md §7, "Datagrams". Integers are big-endian.
"""

from dataclasses import dataclass

_HEADER = b"TP\x01"
HELLO, NONCE, COMMIT, ROUND, ANSWER, STOP, REVEAL, RECEIPT, REFUSED = range(1, 10)

TAG_BYTES = 16
HELLO_ID_BYTES = 16
NONCE_SIZE = HELLO_SIZE = 96
ROUND_SIZE = ANSWER_SIZE = STOP_SIZE = REFUSED_SIZE = 64
LONG_SIZE = 1200  # COMMIT and REVEAL
RECEIPT_HEAD = 22
TICKET_MAX_BYTES = LONG_SIZE - 110

_FIXED_SIZES = {NONCE: NONCE_SIZE, ROUND: ROUND_SIZE, STOP: STOP_SIZE, REFUSED: REFUSED_SIZE}


@dataclass(frozen=True, slots=True)
class Nonce:
    """Type 2."""

    tag: bytes
    hello_id: bytes
    landmark_nonce: bytes
    cookie: bytes


@dataclass(frozen=True, slots=True)
class Round:
    """Type 4."""

    tag: bytes
    index: int
    challenge: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """Type 6."""

    tag: bytes
    rounds_sent: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """Type 8."""

    tag: bytes
    receipt: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Type 9; codes are D6."""

    tag: bytes
    code: int


def hello(hello_id: bytes, landmark_key_id: bytes) -> bytes:
    """Type 1."""
    return _datagram(HELLO, hello_id + landmark_key_id, HELLO_SIZE)


def commit(nonce: Nonce, commitment: bytes, ticket: bytes) -> bytes:
    """Type 3. The ticket has at most TICKET_MAX_BYTES bytes."""
    size = len(ticket).to_bytes(2, "big")
    return _datagram(COMMIT, nonce.tag + nonce.landmark_nonce + nonce.cookie + commitment + size + ticket, LONG_SIZE)


def answer(tag: bytes, index: int, value: bytes) -> bytes:
    """Type 5; ends in a_i."""
    return _datagram(ANSWER, tag + index.to_bytes(2, "big"), ANSWER_SIZE - len(value)) + value


def reveal(tag: bytes, secret: bytes) -> bytes:
    """Type 7."""
    return _datagram(REVEAL, tag + secret, LONG_SIZE)


def parse(data: bytes) -> Nonce | Round | Stop | Receipt | Refused | None:
    """A landmark's datagram; None for any other header or a wrong size, which is dropped silently."""
    if len(data) < RECEIPT_HEAD or data[:3] != _HEADER:
        return None
    kind, tag, number = data[3], data[4:20], int.from_bytes(data[20:22], "big")
    expected = RECEIPT_HEAD + number if kind == RECEIPT else _FIXED_SIZES.get(kind)
    if len(data) != expected:
        return None
    if kind == NONCE:
        return Nonce(tag, data[20:36], data[36:68], data[68:92])
    if kind == ROUND:
        return Round(tag, number, data[48:64])
    if kind == STOP:
        return Stop(tag, number)
    return Receipt(tag, data[22:]) if kind == RECEIPT else Refused(tag, number)


def _datagram(kind: int, content: bytes, size: int) -> bytes:
    return (_HEADER + bytes([kind]) + content).ljust(size, b"\x00")

"""The nine datagrams of a ranging session, byte by byte. docs/protocol.md §7, Datagrams.

Each class holds one kind, encodes itself, and cannot hold a value that does not fit its layout. `parse_datagram` reads
any of them. Whether a datagram is welcome is decided in `ranger` and `session`.
"""

import enum
import struct
from dataclasses import dataclass
from typing import Final

from landmark.errors import MalformedDatagramError

MAX_DATAGRAM_BYTES: Final = 1200
HEADER_BYTES: Final = 4
_MAGIC: Final = b"TP\x01"
# What is left of a COMMIT for the ticket, and of the largest datagram for a receipt.
MAX_TICKET_BYTES: Final = MAX_DATAGRAM_BYTES - (HEADER_BYTES + 16 + 32 + 24 + 32 + 2)
MAX_RECEIPT_BYTES: Final = MAX_DATAGRAM_BYTES - 22


class Kind(enum.IntEnum):
    """The type byte."""

    HELLO = 1
    NONCE = 2
    COMMIT = 3
    ROUND = 4
    ANSWER = 5
    STOP = 6
    REVEAL = 7
    RECEIPT = 8
    REFUSED = 9


# RECEIPT is not here: its size follows from its length field.
SIZE_BYTES: Final = {
    Kind.HELLO: 96,
    Kind.NONCE: 96,
    Kind.COMMIT: 1200,
    Kind.ROUND: 64,
    Kind.ANSWER: 64,
    Kind.STOP: 64,
    Kind.REVEAL: 1200,
    Kind.REFUSED: 64,
}

_HELLO = struct.Struct(">4s16s32s44x")
_NONCE = struct.Struct(">4s16s16s32s24s4x")
_COMMIT = struct.Struct(f">4s16s32s24s32sH{MAX_TICKET_BYTES}s")
_ROUND = struct.Struct(">4s16sH26x16s")  # ANSWER has the same layout
_STOP = struct.Struct(">4s16sH42x")  # REFUSED has the same layout
_REVEAL = struct.Struct(">4s16s32s1148x")
_RECEIPT = struct.Struct(">4s16sH")
_HEADERS: Final = {kind: _MAGIC + bytes([kind]) for kind in Kind}
_KINDS: Final = {header: kind for kind, header in _HEADERS.items()}


def _check_sizes(*fields: tuple[bytes, int]) -> None:
    for value, size in fields:
        if len(value) != size:
            raise ValueError(f"a field of {size} bytes has {len(value)}")


def _check_u16(value: int) -> None:
    if not 0 <= value <= 0xFFFF:
        raise ValueError(f"{value} is no u16")


@dataclass(frozen=True, slots=True)
class Hello:
    """Device: I want to range with this landmark. `hello_id` 16 random bytes."""

    hello_id: bytes
    landmark_key_id: bytes

    def __post_init__(self) -> None:
        _check_sizes((self.hello_id, 16), (self.landmark_key_id, 32))

    def encode(self) -> bytes:
        """Return the 96 bytes of the datagram."""
        return _HELLO.pack(_HEADERS[Kind.HELLO], self.hello_id, self.landmark_key_id)


@dataclass(frozen=True, slots=True)
class Nonce:
    """Landmark: show that you receive at your address. `tag` 16 bytes, `landmark_nonce` 32, `cookie` 24."""

    tag: bytes
    hello_id: bytes
    landmark_nonce: bytes
    cookie: bytes

    def __post_init__(self) -> None:
        _check_sizes((self.tag, 16), (self.hello_id, 16), (self.landmark_nonce, 32), (self.cookie, 24))

    def encode(self) -> bytes:
        """Return the 96 bytes of the datagram."""
        return _NONCE.pack(_HEADERS[Kind.NONCE], self.tag, self.hello_id, self.landmark_nonce, self.cookie)


@dataclass(frozen=True, slots=True)
class Commit:
    """Device: cookie, commitment (32 bytes) and ticket (up to 1,090 bytes of COSE)."""

    tag: bytes
    landmark_nonce: bytes
    cookie: bytes
    commitment: bytes
    ticket: bytes

    def __post_init__(self) -> None:
        _check_sizes((self.tag, 16), (self.landmark_nonce, 32), (self.cookie, 24), (self.commitment, 32))
        if len(self.ticket) > MAX_TICKET_BYTES:
            raise ValueError(f"a ticket of {len(self.ticket)} bytes does not fit")

    def encode(self) -> bytes:
        """Return the 1,200 bytes of the datagram."""
        length = len(self.ticket)
        header = _HEADERS[Kind.COMMIT]
        return _COMMIT.pack(header, self.tag, self.landmark_nonce, self.cookie, self.commitment, length, self.ticket)


@dataclass(frozen=True, slots=True)
class Round:
    """Landmark: round `index` with its challenge `c_i`, 16 bytes."""

    tag: bytes
    index: int
    challenge: bytes

    def __post_init__(self) -> None:
        _check_sizes((self.tag, 16), (self.challenge, 16))
        _check_u16(self.index)

    def encode(self) -> bytes:
        """Return the 64 bytes of the datagram."""
        return _ROUND.pack(_HEADERS[Kind.ROUND], self.tag, self.index, self.challenge)


@dataclass(frozen=True, slots=True)
class Answer:
    """Device: its answer `a_i` to round `index`, 16 bytes."""

    tag: bytes
    index: int
    answer: bytes

    def __post_init__(self) -> None:
        _check_sizes((self.tag, 16), (self.answer, 16))
        _check_u16(self.index)

    def encode(self) -> bytes:
        """Return the 64 bytes of the datagram."""
        return _ROUND.pack(_HEADERS[Kind.ANSWER], self.tag, self.index, self.answer)


@dataclass(frozen=True, slots=True)
class Stop:
    """Landmark: no more rounds come; `rounds_sent` went out."""

    tag: bytes
    rounds_sent: int

    def __post_init__(self) -> None:
        _check_sizes((self.tag, 16))
        _check_u16(self.rounds_sent)

    def encode(self) -> bytes:
        """Return the 64 bytes of the datagram."""
        return _STOP.pack(_HEADERS[Kind.STOP], self.tag, self.rounds_sent)


@dataclass(frozen=True, slots=True)
class Reveal:
    """Device: the secret `s`, 32 bytes, after it closed."""

    tag: bytes
    secret: bytes

    def __post_init__(self) -> None:
        _check_sizes((self.tag, 16), (self.secret, 32))

    def encode(self) -> bytes:
        """Return the 1,200 bytes of the datagram."""
        return _REVEAL.pack(_HEADERS[Kind.REVEAL], self.tag, self.secret)


@dataclass(frozen=True, slots=True)
class ReceiptDatagram:
    """Landmark: the signed receipt, COSE."""

    tag: bytes
    receipt: bytes

    def __post_init__(self) -> None:
        _check_sizes((self.tag, 16))
        if len(self.receipt) > MAX_RECEIPT_BYTES:
            raise ValueError(f"a receipt of {len(self.receipt)} bytes does not fit")

    def encode(self) -> bytes:
        """Return the datagram, 22 bytes and the receipt."""
        return _RECEIPT.pack(_HEADERS[Kind.RECEIPT], self.tag, len(self.receipt)) + self.receipt


@dataclass(frozen=True, slots=True)
class Refused:
    """Landmark: no session, or no receipt. `code` is one of D6 when it comes from a landmark of this version."""

    tag: bytes
    code: int

    def __post_init__(self) -> None:
        _check_sizes((self.tag, 16))
        _check_u16(self.code)

    def encode(self) -> bytes:
        """Return the 64 bytes of the datagram."""
        return _STOP.pack(_HEADERS[Kind.REFUSED], self.tag, self.code)


Datagram = Hello | Nonce | Commit | Round | Answer | Stop | Reveal | ReceiptDatagram | Refused


def parse_datagram(data: bytes) -> Datagram:  # noqa: C901, PLR0911 - one flat case a kind
    """Read one datagram.

    Raises:
        MalformedDatagramError: another header, or the wrong size for its type.
    """
    kind = _KINDS.get(data[:HEADER_BYTES])
    if kind is None:
        raise MalformedDatagramError("not a datagram of version 1")
    if kind is not Kind.RECEIPT and len(data) != SIZE_BYTES[kind]:
        raise MalformedDatagramError(f"{kind.name} of {len(data)} bytes")
    match kind:
        case Kind.ANSWER:
            return Answer(*_ROUND.unpack(data)[1:])
        case Kind.ROUND:
            return Round(*_ROUND.unpack(data)[1:])
        case Kind.HELLO:
            return Hello(*_HELLO.unpack(data)[1:])
        case Kind.NONCE:
            return Nonce(*_NONCE.unpack(data)[1:])
        case Kind.COMMIT:
            return _parse_commit(data)
        case Kind.STOP:
            return Stop(*_STOP.unpack(data)[1:])
        case Kind.REVEAL:
            return Reveal(*_REVEAL.unpack(data)[1:])
        case Kind.REFUSED:
            return Refused(*_STOP.unpack(data)[1:])
        case Kind.RECEIPT:
            return _parse_receipt(data)


def _parse_commit(data: bytes) -> Commit:
    _, tag, landmark_nonce, cookie, commitment, length, rest = _COMMIT.unpack(data)
    if length > MAX_TICKET_BYTES:
        raise MalformedDatagramError(f"a ticket of {length} bytes does not fit")
    return Commit(tag, landmark_nonce, cookie, commitment, rest[:length])


def _parse_receipt(data: bytes) -> ReceiptDatagram:
    if len(data) < _RECEIPT.size:
        raise MalformedDatagramError(f"RECEIPT of {len(data)} bytes")
    _, tag, length = _RECEIPT.unpack_from(data)
    if len(data) != _RECEIPT.size + length or length > MAX_RECEIPT_BYTES:
        raise MalformedDatagramError(f"RECEIPT of {len(data)} bytes")
    return ReceiptDatagram(tag, data[_RECEIPT.size :])

"""Frames of the local protocols: u32be length, then one CBOR item.

Used between a client and the board, and between the board and its responder. Both ends are on one machine and trust
each other; the limit only keeps a wrong peer from filling memory.
"""

from collections.abc import Iterator
from typing import Any

import cbor2

FRAME_MAX_BYTES = 1 << 20  # a report has 17 kB at most, a chain 5 kB
LENGTH_BYTES = 4

Message = dict[str, Any]


class FramingError(Exception):
    """The peer sent something that is no frame."""


def encode(message: Message) -> bytes:
    """One frame."""
    body = cbor2.dumps(message)
    if len(body) > FRAME_MAX_BYTES:
        raise FramingError(f"a message of {len(body)} bytes is over the limit of {FRAME_MAX_BYTES}")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def body_length(head: bytes) -> int:
    """How many bytes follow the 4 of `head`."""
    length = int.from_bytes(head, "big")
    if length > FRAME_MAX_BYTES:
        raise FramingError(f"a frame of {length} bytes is over the limit of {FRAME_MAX_BYTES}")
    return length


def decode(body: bytes) -> Message:
    """The message of one frame's body."""
    try:
        message = cbor2.loads(body)
    except (cbor2.CBORDecodeError, ValueError) as error:
        raise FramingError(f"a frame holds no CBOR: {error}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise FramingError("a frame holds no map with text keys")
    return message


class FrameReader:
    """Cuts a stream into messages, for readers that get bytes in any portions."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """Every message that is whole once `data` is there."""
        self._buffer += data
        while len(self._buffer) >= LENGTH_BYTES:
            end = LENGTH_BYTES + body_length(bytes(self._buffer[:LENGTH_BYTES]))
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[LENGTH_BYTES:end])
            del self._buffer[:end]
            yield decode(body)

"""A client of an emulated board's control socket, for agents and tests.

Imports nothing of the emulator but its framing, so that an agent that uses it stays light. Safe for concurrent calls:
each has a connection of its own.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from firmware_stubs.framing import LENGTH_BYTES, FramingError, Message, body_length, decode, encode


class BoardError(Exception):
    """The board refused a request, or is not there (`code` UNREACHABLE). Codes are in `firmware_stubs.errors`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One device as its board tells it. `pdi` is 8 bytes, `slot` counts from 0 within the kind."""

    pdi: bytes
    kind: Literal["gpu", "switch"]
    board: str
    slot: int
    can_range: bool


@dataclass(frozen=True, slots=True)
class RangeOutcome:
    """How a ranging session ended.

    `receipt` is the landmark's COSE_Sign1 or None. Bit i of `answered_mask`: round i was answered. `why` has the
    numbers of docs/protocol.md §3, and is 0 with a receipt.
    """

    receipt: bytes | None
    answered_mask: int
    why: int


@dataclass(frozen=True, slots=True)
class BoardClient:
    """Talks to the board that serves the socket at `path`. Every method raises BoardError."""

    path: Path | str

    async def devices(self) -> list[DeviceInfo]:
        """GPUs by slot, then switches."""
        return [DeviceInfo(**item) for item in await self._call("devices")]

    async def chain(self, pdi: bytes) -> list[bytes]:
        """The device's certificates, DER, leaf first."""
        return list(await self._call("chain", pdi=pdi))

    async def report(self, pdi: bytes, nonce: bytes) -> bytes:
        """A signed report over a nonce of 32 bytes (docs/protocol.md §4)."""
        return bytes(await self._call("report", pdi=pdi, nonce=nonce))

    async def range(
        self,
        pdi: bytes,
        challenge: bytes,
        landmark_key_id: bytes,
        endpoints: Sequence[str],
        ticket: bytes,
        timeout_s: float,
    ) -> RangeOutcome:
        """Hold one ranging session (docs/protocol.md §7); sessions may run at once. `timeout_s` is at most 55."""
        result = await self._call(
            "range",
            pdi=pdi,
            challenge=challenge,
            landmark_key_id=landmark_key_id,
            endpoints=list(endpoints),
            ticket=ticket,
            timeout_s=timeout_s,
        )
        return RangeOutcome(**result)

    async def move(self, latitude: float, longitude: float) -> None:
        """Put the board elsewhere; degrees."""
        await self._call("move", latitude=latitude, longitude=longitude)

    async def power_cycle(self) -> None:
        """Switch the board off and on; it looks at its slots again."""
        await self._call("power_cycle")

    async def faults(self, *orders: str) -> list[str]:
        """Tell exactly these lies from now on (`firmware_stubs.faults`); none: the truth. Returns those in force."""
        return list(await self._call("faults", orders=list(orders)))

    async def _call(self, op: str, **arguments: object) -> Any:
        try:
            reader, writer = await asyncio.open_unix_connection(self.path)
        except OSError as error:
            raise BoardError("UNREACHABLE", f"no board serves {self.path}: {error}") from error
        try:
            writer.write(encode({"op": op, **arguments}))
            head = await reader.readexactly(LENGTH_BYTES)
            reply: Message = decode(await reader.readexactly(body_length(head)))
        except (OSError, asyncio.IncompleteReadError, FramingError) as error:
            raise BoardError("UNREACHABLE", f"the board at {self.path} broke off: {error}") from error
        finally:
            writer.close()
        if not reply["ok"]:
            raise BoardError(reply["code"], reply["message"])
        return reply["result"]

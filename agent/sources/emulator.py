"""The emulated board as a source: the one place in the agent that knows `firmware_stubs`.

Each call has a connection of its own, so calls may run at once and a cancelled one leaves nothing behind.
"""

from pathlib import Path

from agent.sources.base import Answered, Kind, RangeCommand, SourceDevice, SourceError, Why
from firmware_stubs.client import BoardClient, BoardError


class EmulatorSource:
    """A `Source` over the Unix socket that `trigpoint-emulator` serves."""

    def __init__(self, socket: Path) -> None:
        self._board = BoardClient(socket)

    async def devices(self) -> tuple[SourceDevice, ...]:
        """List what sits in the slots now."""
        try:
            listed = await self._board.devices()
        except BoardError as error:
            raise SourceError(str(error)) from error
        return tuple(
            SourceDevice(entry.pdi, Kind(entry.kind), entry.board, entry.slot, entry.can_range) for entry in listed
        )

    async def chain(self, pdi: bytes) -> tuple[bytes, ...]:
        """Return the certificates, DER, leaf first."""
        try:
            return tuple(await self._board.chain(pdi))
        except BoardError as error:
            raise SourceError(str(error)) from error

    async def report(self, pdi: bytes, nonce: bytes) -> bytes:
        """Have the emulated device sign."""
        try:
            return await self._board.report(pdi, nonce)
        except BoardError as error:
            raise SourceError(str(error)) from error

    async def range(self, pdi: bytes, command: RangeCommand) -> Answered | Why:
        """Hold one session in the board's ranging responder."""
        try:
            outcome = await self._board.range(
                pdi, command.challenge, command.landmark_key_id, command.endpoints, command.ticket, command.timeout_s
            )
        except BoardError as error:
            raise SourceError(str(error)) from error
        if outcome.receipt is None:
            return Why(outcome.why)
        return Answered(outcome.receipt, outcome.answered_mask)

    async def close(self) -> None:
        """Nothing is held open."""

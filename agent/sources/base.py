"""What the agent asks of the machine it runs on: its devices, their chains, their reports, their ranges.

One implementation for each kind of hardware. A source only carries bytes: it verifies nothing, and nothing that it says
is evidence before the server has checked it.
"""

import enum
from dataclasses import dataclass
from typing import Protocol


class SourceError(Exception):
    """The source could not do what it was asked now; the agent logs it and tries again."""


@enum.unique
class Kind(enum.Enum):
    """What a device is."""

    GPU = "gpu"
    SWITCH = "switch"


@enum.unique
class Why(enum.IntEnum):
    """Why a range order gave no receipt (docs/protocol.md §3). Values equal `trigpoint.v1.RangeFailure`."""

    NO_REPLY = 1
    REFUSED = 2
    TOO_FEW_ROUNDS = 3
    NO_RECEIPT = 4
    CANNOT_RANGE = 5
    TOO_LATE = 6


@dataclass(frozen=True, slots=True)
class SourceDevice:
    """One device as the host sees it.

    Attributes:
        pdi: Physical device identity, 8 bytes.
        kind: GPU or switch.
        board: The host's name for the board it sits on; empty for a card without one.
        slot: Its place on the board.
        can_range: It runs firmware that ranges.
    """

    pdi: bytes
    kind: Kind
    board: str
    slot: int
    can_range: bool


@dataclass(frozen=True, slots=True)
class RangeCommand:
    """One ranging session to hold, as the server ordered it.

    Attributes:
        challenge: The open challenge, 32 bytes.
        landmark_key_id: The landmark, 32 bytes.
        endpoints: Its UDP endpoints as host:port or [host]:port, best first.
        ticket: One-session ticket, COSE_Sign1.
        timeout_s: How long the whole session may take.
    """

    challenge: bytes
    landmark_key_id: bytes
    endpoints: tuple[str, ...]
    ticket: bytes
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Answered:
    """A session that ended in a receipt: COSE_Sign1 bytes, and the mask of the rounds that the device answered."""

    receipt: bytes
    answered_mask: int


class Source(Protocol):
    """The machine's devices. Every method raises SourceError when the machine cannot answer now."""

    async def devices(self) -> tuple[SourceDevice, ...]:
        """List the devices that are there now, in the order in which they report."""
        ...

    async def chain(self, pdi: bytes) -> tuple[bytes, ...]:
        """Return the device's certificates, DER, leaf first."""
        ...

    async def report(self, pdi: bytes, nonce: bytes) -> bytes:
        """Have the device sign a report over the 32-byte nonce; return it as docs/protocol.md §4 lays it out."""
        ...

    async def range(self, pdi: bytes, command: RangeCommand) -> Answered | Why:
        """Hold one ranging session. A source or device that cannot range returns Why.CANNOT_RANGE."""
        ...

    async def close(self) -> None:
        """Let go of what the source holds open. It may be used again afterwards."""
        ...

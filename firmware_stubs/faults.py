"""The lies that an emulated board can tell, one named lie each.

A lie overrides one of the honest steps of `Lie`; everything else stays true, so that a verifier that answers with
anything but the one reason for it is wrong. To add a lie: name it in `Fault`, write its class, enter it in `_LIES`.

A fault order is text: `NAME` or `NAME:ARGUMENT`. The argument of a lie that devices tell is a slot such as `gpu-3`;
without it all devices of the board tell it.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from firmware_stubs.ca import DeviceCA
from firmware_stubs.device import Device
from firmware_stubs.errors import BadRequestError
from firmware_stubs.firmware import GPU_CURRENT, GPU_OLDER, FirmwareImage
from firmware_stubs.geography import Place


class Fault(StrEnum):
    """The names of all lies; what each does stands at its class."""

    MOVED = "moved"
    PULLED_GPU = "pulled_gpu"
    WRONG_NONCE = "wrong_nonce"
    REPLAYED_REPORT = "replayed_report"
    FOREIGN_CHAIN = "foreign_chain"
    EARLY_REVEAL = "early_reveal"
    FLIPPED_MEASUREMENT = "flipped_measurement"
    FIRMWARE_CANNOT_RANGE = "firmware_cannot_range"


class Stage(Protocol):
    """What a lie may do to the board itself."""

    @property
    def place(self) -> Place:
        """Where the board is."""
        ...

    async def move(self, place: Place) -> None:
        """Put the board elsewhere."""

    async def pull(self, slot: str, target: Path) -> None:
        """Switch the board off, take one device out and put it where `target` says, switch the board on again."""

    async def flash(self, slots: Callable[[str], bool], image: FirmwareImage) -> None:
        """Write firmware to the GPUs whose slot is meant, and switch the board off and on."""


class Lie:
    """Tells the truth. Subclasses lie in one step."""

    early_reveal = False
    """The host gets the secret of a session before the rounds."""

    def __init__(self, argument: str) -> None:
        self._slot = argument

    def meant(self, slot: str) -> bool:
        """Whether the device in that slot tells this lie."""
        return self._slot in ("", slot)

    async def begin(self, stage: Stage) -> None:
        """Do what has to be done once."""

    async def end(self, stage: Stage) -> None:
        """Undo what `begin` did, where that can be undone."""

    def nonce(self, nonce: bytes) -> bytes:
        """Which nonce is signed."""
        return nonce

    def identity(self, device: Device) -> Device:
        """Which device signs, and whose chain is shown."""
        return device

    def digests(self, digests: Mapping[int, bytes]) -> Mapping[int, bytes]:
        """What is measured."""
        return digests

    def report(self, fresh: bytes, earlier: Callable[[], bytes]) -> bytes:
        """Which report is handed out; `earlier()` gives one that was made before, over another nonce."""
        del earlier
        return fresh


class _Moved(Lie):
    """MOVED:LAT,LON -- the board stands there and says nothing of it."""

    def __init__(self, argument: str) -> None:
        super().__init__("")
        self._target = Place.parse(argument)
        self._origin = self._target

    async def begin(self, stage: Stage) -> None:
        self._origin = stage.place
        await stage.move(self._target)

    async def end(self, stage: Stage) -> None:
        await stage.move(self._origin)


class _PulledGpu(Lie):
    """PULLED_GPU:gpu-3=PATH -- that GPU's directory is moved to PATH, a free slot of another board. It stays there."""

    def __init__(self, argument: str) -> None:
        slot, equals, target = argument.partition("=")
        if not (slot and equals and target):
            raise BadRequestError(f"{argument!r} is no SLOT=PATH")
        super().__init__(slot)
        self._target = Path(target)

    async def begin(self, stage: Stage) -> None:
        await stage.pull(self._slot, self._target)


class _WrongNonce(Lie):
    """WRONG_NONCE[:SLOT] -- reports are signed over another nonce than the one asked for."""

    def nonce(self, nonce: bytes) -> bytes:
        return bytes([nonce[0] ^ 1]) + nonce[1:]


class _ReplayedReport(Lie):
    """REPLAYED_REPORT[:SLOT] -- the report made before is handed out again."""

    def report(self, fresh: bytes, earlier: Callable[[], bytes]) -> bytes:
        del fresh
        return earlier()


class _ForeignChain(Lie):
    """FOREIGN_CHAIN[:SLOT] -- another CA with the same names has endorsed another key for the same PDI."""

    def __init__(self, argument: str) -> None:
        super().__init__(argument)
        self._ca = DeviceCA.generate()
        self._forged: dict[bytes, Device] = {}

    def identity(self, device: Device) -> Device:
        forged = self._forged.get(device.pdi)
        if forged is None or forged.image != device.image:
            forged = Device.in_memory(device.path, self._ca, device.image, device.pdi)
            self._forged[device.pdi] = forged
        return forged.running_as(device)


class _EarlyReveal(Lie):
    """EARLY_REVEAL[:SLOT] -- the host has the secret before the rounds; an accomplice beside the landmark answers them.

    The host forges a STOP, so the device closes and reveals after no round at all. Its log shows none; the host claims
    the mask of the rounds that the accomplice answered.
    """

    early_reveal = True


class _FlippedMeasurement(Lie):
    """FLIPPED_MEASUREMENT[:SLOT] -- the firmware was changed: one bit of one measured digest differs."""

    def digests(self, digests: Mapping[int, bytes]) -> Mapping[int, bytes]:
        return {**digests, 2: bytes([digests[2][0] ^ 1]) + digests[2][1:]}


class _FirmwareCannotRange(Lie):
    """FIRMWARE_CANNOT_RANGE[:SLOT] -- GPUs run the older firmware, which is known and cannot range."""

    async def begin(self, stage: Stage) -> None:
        await stage.flash(self.meant, GPU_OLDER)

    async def end(self, stage: Stage) -> None:
        await stage.flash(self.meant, GPU_CURRENT)


_LIES: Mapping[Fault, Callable[[str], Lie]] = {
    Fault.MOVED: _Moved,
    Fault.PULLED_GPU: _PulledGpu,
    Fault.WRONG_NONCE: _WrongNonce,
    Fault.REPLAYED_REPORT: _ReplayedReport,
    Fault.FOREIGN_CHAIN: _ForeignChain,
    Fault.EARLY_REVEAL: _EarlyReveal,
    Fault.FLIPPED_MEASUREMENT: _FlippedMeasurement,
    Fault.FIRMWARE_CANNOT_RANGE: _FirmwareCannotRange,
}


def parse_fault(order: str) -> Lie:
    """The lie of one fault order; BadRequestError if there is no such lie or its argument makes no sense."""
    name, _, argument = order.partition(":")
    try:
        fault = Fault(name.lower())
    except ValueError as error:
        raise BadRequestError(f"no fault is called {name!r}; there are {', '.join(Fault)}") from error
    return _LIES[fault](argument)

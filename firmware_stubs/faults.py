"""The lies that an emulated board can tell, one named lie each.

A lie overrides one of the honest steps of `Lie`; everything else stays true, so that a verifier that answers with
anything but the one reason for it is wrong. To add a lie: name it in `Fault`, write its class, enter it in `_LIES`.

A fault order is text: `NAME` or `NAME:ARGUMENT`. The argument of a lie that devices tell is a slot such as `gpu-3`;
without it all devices of the board tell it. Some lies must be told of one slot. What a lie does to a ranging session it
says in `tricks`, and `session` does it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from firmware_stubs import links
from firmware_stubs.ca import DeviceCA
from firmware_stubs.counters import Counters
from firmware_stubs.device import Device
from firmware_stubs.errors import BadRequestError
from firmware_stubs.firmware import GPU_CURRENT, GPU_OLDER, FirmwareImage
from firmware_stubs.geography import Place
from firmware_stubs.ranging import ROUNDS_MAX
from firmware_stubs.tricks import Tricks


class Fault(StrEnum):
    """The names of all lies; what each does stands at its class."""

    MOVED = "moved"
    RELAYED_GPU = "relayed_gpu"
    PULLED_GPU = "pulled_gpu"
    SWAPPED_GPU = "swapped_gpu"
    NAMES_NO_SWITCH = "names_no_switch"
    NAMED_BY_NO_SWITCH = "named_by_no_switch"
    GPU_IN_NO_SLOT = "gpu_in_no_slot"
    REPEATED_PDI = "repeated_pdi"
    WRONG_NONCE = "wrong_nonce"
    REPLAYED_REPORT = "replayed_report"
    FOREIGN_CHAIN = "foreign_chain"
    FOREIGN_LEAF = "foreign_leaf"
    ROLLED_BACK_COUNTER = "rolled_back_counter"
    FLIPPED_MEASUREMENT = "flipped_measurement"
    FIRMWARE_CANNOT_RANGE = "firmware_cannot_range"
    EARLY_REVEAL = "early_reveal"
    EARLY_GARBAGE = "early_garbage"
    REORDERED_ROUNDS = "reordered_rounds"
    PADDED_ANSWERS = "padded_answers"
    ANSWERS_FROM_ELSEWHERE = "answers_from_elsewhere"


class Stage(Protocol):
    """What a lie may do to the board itself."""

    @property
    def place(self) -> Place:
        """Where the board is."""
        ...

    async def move(self, place: Place) -> None:
        """Put the board elsewhere."""

    async def relay(self, slot: str, place: Place | None) -> None:
        """Have one device answer from elsewhere than the board; None: from the board again."""

    async def pull(self, slot: str, target: Path) -> None:
        """Switch the board off, take one device out and put it where `target` says, switch the board on again."""

    async def swap(self, slot: str, other: Path) -> None:
        """Switch the board off, exchange one device with that at `other`, switch the board on again."""

    async def flash(self, slots: Callable[[str], bool], image: FirmwareImage) -> None:
        """Write firmware to the GPUs whose slot is meant, and switch the board off and on."""


class Lie:
    """Tells the truth. Subclasses lie in one step."""

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

    def links(self, slot: str, ends: bytes) -> bytes:
        """What the device in `slot` says of its links: TLV 22 of a GPU, TLV 26 of a switch. Asked of every lie."""
        del slot
        return ends

    def counters(self, counted: Counters) -> Counters:
        """Which counters the report tells."""
        return counted

    def tricks(self, tricks: Tricks) -> Tricks:
        """What is done to ranging sessions."""
        return tricks

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


class _RelayedGpu(Lie):
    """RELAYED_GPU:gpu-1=LAT,LON -- that GPU stands there alone, and the host carries its bytes to and fro."""

    def __init__(self, argument: str) -> None:
        slot, target = _slot_and(argument)
        super().__init__(slot)
        self._target = Place.parse(target)

    async def begin(self, stage: Stage) -> None:
        await stage.relay(self._slot, self._target)

    async def end(self, stage: Stage) -> None:
        await stage.relay(self._slot, None)


class _PulledGpu(Lie):
    """PULLED_GPU:gpu-3=PATH -- that GPU's directory is moved to PATH, a free slot of another board. It stays there."""

    def __init__(self, argument: str) -> None:
        slot, target = _slot_and(argument)
        super().__init__(slot)
        self._target = Path(target)

    async def begin(self, stage: Stage) -> None:
        await stage.pull(self._slot, self._target)


class _SwappedGpu(Lie):
    """SWAPPED_GPU:gpu-1=PATH -- that GPU and the one at PATH, on another board, change places."""

    def __init__(self, argument: str) -> None:
        slot, other = _slot_and(argument)
        super().__init__(slot)
        self._other = Path(other)

    async def begin(self, stage: Stage) -> None:
        await stage.swap(self._slot, self._other)

    async def end(self, stage: Stage) -> None:
        await stage.swap(self._slot, self._other)


class _NamesNoSwitch(Lie):
    """NAMES_NO_SWITCH:gpu-1 -- that GPU says that no link of it is in use, while switches name it."""

    def __init__(self, argument: str) -> None:
        super().__init__(argument)
        self._number = _gpu_number(argument)

    def links(self, slot: str, ends: bytes) -> bytes:
        return b"\xff" * len(ends) if slot == self._slot else ends


class _NamedByNoSwitch(_NamesNoSwitch):
    """NAMED_BY_NO_SWITCH:gpu-1 -- the switches say that this slot is empty, while the GPU in it names them."""

    def links(self, slot: str, ends: bytes) -> bytes:
        return links.with_slot(ends, self._number, None) if slot.startswith("switch-") else ends


class _GpuInNoSlot(_NamedByNoSwitch):
    """GPU_IN_NO_SLOT:gpu-1 -- neither does that GPU name a switch nor any switch the GPU: it hangs on no NVLink."""

    def links(self, slot: str, ends: bytes) -> bytes:
        return b"\xff" * len(ends) if slot == self._slot else super().links(slot, ends)


class _RepeatedPdi(Lie):
    """REPEATED_PDI[:SLOT] -- a switch names one GPU twice, as real ones do. It is no lie, and must pass."""

    def links(self, slot: str, ends: bytes) -> bytes:
        return links.with_repeated_pdi(ends) if slot.startswith("switch-") and self.meant(slot) else ends


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


class _ForeignLeaf(Lie):
    """FOREIGN_LEAF[:SLOT] -- the leaf is one that the device has made for other firmware than it reports."""

    def identity(self, device: Device) -> Device:
        return device.with_leaf_of(GPU_OLDER) if device.kind is GPU_OLDER.kind else device


class _RolledBackCounter(Lie):
    """ROLLED_BACK_COUNTER[:SLOT] -- the device says that this is the first report it ever signed."""

    def counters(self, counted: Counters) -> Counters:
        return Counters(counted.boot, 1)


class _EarlyReveal(Lie):
    """EARLY_REVEAL[:SLOT] -- the host has the secret before the rounds; an accomplice beside the landmark answers them.

    The host forges a STOP, so the device closes and reveals after no round at all. Its log shows none; the host claims
    the mask of the rounds that the accomplice answered.
    """

    def tricks(self, tricks: Tricks) -> Tricks:
        return replace(tricks, early_reveal=True)


class _EarlyGarbage(Lie):
    """EARLY_GARBAGE[:N] -- in the first N rounds (all) somebody answers nonsense before the device does."""

    def __init__(self, argument: str) -> None:
        super().__init__("")
        self._rounds = _round_count(argument)

    def tricks(self, tricks: Tricks) -> Tricks:
        return replace(tricks, garbage_rounds=self._rounds)


class _ReorderedRounds(_EarlyGarbage):
    """REORDERED_ROUNDS[:N] -- of the first N rounds (all) each two reach the device in the wrong order."""

    def tricks(self, tricks: Tricks) -> Tricks:
        return replace(tricks, reordered_rounds=self._rounds)


class _PaddedAnswers(Lie):
    """PADDED_ANSWERS[:SLOT] -- answers are one byte longer than they may be."""

    def tricks(self, tricks: Tricks) -> Tricks:
        return replace(tricks, padded_answers=True)


class _AnswersFromElsewhere(Lie):
    """ANSWERS_FROM_ELSEWHERE[:SLOT] -- an accomplice sends the answers, from an address of its own."""

    def tricks(self, tricks: Tricks) -> Tricks:
        return replace(tricks, answers_from_elsewhere=True)


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
    Fault.RELAYED_GPU: _RelayedGpu,
    Fault.PULLED_GPU: _PulledGpu,
    Fault.SWAPPED_GPU: _SwappedGpu,
    Fault.NAMES_NO_SWITCH: _NamesNoSwitch,
    Fault.NAMED_BY_NO_SWITCH: _NamedByNoSwitch,
    Fault.GPU_IN_NO_SLOT: _GpuInNoSlot,
    Fault.REPEATED_PDI: _RepeatedPdi,
    Fault.WRONG_NONCE: _WrongNonce,
    Fault.REPLAYED_REPORT: _ReplayedReport,
    Fault.FOREIGN_CHAIN: _ForeignChain,
    Fault.FOREIGN_LEAF: _ForeignLeaf,
    Fault.ROLLED_BACK_COUNTER: _RolledBackCounter,
    Fault.FLIPPED_MEASUREMENT: _FlippedMeasurement,
    Fault.FIRMWARE_CANNOT_RANGE: _FirmwareCannotRange,
    Fault.EARLY_REVEAL: _EarlyReveal,
    Fault.EARLY_GARBAGE: _EarlyGarbage,
    Fault.REORDERED_ROUNDS: _ReorderedRounds,
    Fault.PADDED_ANSWERS: _PaddedAnswers,
    Fault.ANSWERS_FROM_ELSEWHERE: _AnswersFromElsewhere,
}


def parse_fault(order: str) -> Lie:
    """The lie of one fault order; BadRequestError if there is no such lie or its argument makes no sense."""
    name, _, argument = order.partition(":")
    try:
        fault = Fault(name.lower())
    except ValueError as error:
        raise BadRequestError(f"no fault is called {name!r}; there are {', '.join(Fault)}") from error
    return _LIES[fault](argument)


def _slot_and(argument: str) -> tuple[str, str]:
    slot, _, rest = argument.partition("=")
    if not (slot and rest):
        raise BadRequestError(f"{argument!r} is no SLOT=VALUE")
    return slot, rest


def _gpu_number(slot: str) -> int:
    kind, _, number = slot.partition("-")
    if kind != "gpu" or number not in map(str, range(links.GPU_SLOTS)):
        raise BadRequestError(f"{slot!r} is no slot such as gpu-3")
    return int(number)


def _round_count(argument: str) -> int:
    if not argument:
        return ROUNDS_MAX
    if not (argument.isascii() and argument.isdigit() and int(argument) <= ROUNDS_MAX):
        raise BadRequestError(f"{argument!r} is no number of rounds up to {ROUNDS_MAX}")
    return int(argument)

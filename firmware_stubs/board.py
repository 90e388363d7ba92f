"""One emulated HGX board: the devices in its slots, their links, their logs, and the lies they tell.

Spec: docs/protocol.md §4, §6, §7. A board is a directory with slots `gpu-0` to `gpu-7` and `switch-0` to `switch-3`;
links are filled in from what is there at power-on. The wire between board and client is `control`'s.
"""

import asyncio
import os
import re
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from firmware_stubs import links
from firmware_stubs.ca import DeviceCA
from firmware_stubs.counters import Counters
from firmware_stubs.datagrams import TICKET_MAX_BYTES
from firmware_stubs.device import Device
from firmware_stubs.errors import BadRequestError, DeviceGoneError, StateError, UnknownDeviceError
from firmware_stubs.faults import Lie, parse_fault
from firmware_stubs.firmware import FirmwareImage, Kind, current_image
from firmware_stubs.geography import Place, World
from firmware_stubs.ranging import LOG_ENTRIES_MAX
from firmware_stubs.report import NONCE_LENGTH
from firmware_stubs.responder_link import ResponderLink
from firmware_stubs.session import Address, Order, Result, Why
from firmware_stubs.tricks import NO_TRICKS

_SLOT = re.compile(r"(gpu-[0-7]|switch-[0-3])\Z")
TIMEOUT_MAX_S = 55.0  # the secret is erased after 60 s (R2)


def make_board(
    directory: Path,
    ca: DeviceCA,
    *,
    gpus: int,
    switches: int,
    empty_slots: Sequence[int] = (),
    gpu_image: FirmwareImage | None = None,
) -> None:
    """Manufacture devices into the slots of a new board; `empty_slots` are the GPU slots to leave free."""
    free = [slot for slot in range(links.GPU_SLOTS) if slot not in empty_slots]
    if not 0 <= gpus <= len(free) or not 0 <= switches <= links.SWITCH_SLOTS or not gpus + switches:
        raise BadRequestError(f"this board takes up to {len(free)} GPUs, {links.SWITCH_SLOTS} switches, and not none")
    if slots_of(directory):
        raise StateError(f"{directory} already holds devices")
    directory.mkdir(parents=True, exist_ok=True)
    for slot in free[:gpus]:
        Device.manufacture(directory / f"gpu-{slot}", ca, gpu_image or current_image(Kind.GPU))
    for slot in range(switches):
        Device.manufacture(directory / f"switch-{slot}", ca, current_image(Kind.SWITCH))


def slots_of(directory: Path) -> list[str]:
    """The taken slots of a board directory: GPUs by number, then switches."""
    return sorted(path.name for path in directory.glob("*-*") if _SLOT.match(path.name))


@dataclass(slots=True)
class _Powered:
    """A device in its slot while the board has power."""

    slot: str
    device: Device
    links: bytes | None
    log: deque[bytes] = field(default_factory=lambda: deque(maxlen=LOG_ENTRIES_MAX))
    earlier_report: bytes = b""

    @property
    def number(self) -> int:
        return int(self.slot.partition("-")[2])


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a board tells about one of its devices."""

    pdi: bytes
    kind: Kind
    slot: int
    can_range: bool


class Board:
    """A board with power. Make it with `start`."""

    def __init__(self, directory: Path, place: Place) -> None:
        self._directory = directory
        self._place = place
        self._powered: dict[bytes, _Powered] = {}
        self._lies: tuple[Lie, ...] = ()
        self._orders: tuple[str, ...] = ()
        self._responder: ResponderLink | None = None
        self._changing = asyncio.Lock()

    @classmethod
    async def start(cls, directory: Path, place: Place, world: World, fault_orders: Iterable[str] = ()) -> Self:
        """Switch the board on, start its responder and tell it to lie as ordered."""
        board = cls(directory, place)
        board._power_on()
        board._responder = await ResponderLink.start(world, place, board._log)
        try:
            await board.set_faults(tuple(fault_orders))
        except BaseException:
            await board.close()
            raise
        return board

    @property
    def name(self) -> str:
        """The board's name: that of its directory."""
        return self._directory.resolve().name

    @property
    def place(self) -> Place:
        """Where it is."""
        return self._place

    @property
    def responder(self) -> ResponderLink:
        """The running responder."""
        if self._responder is None:
            raise StateError("the board is not started")
        return self._responder

    async def close(self) -> None:
        """Switch off."""
        await self.responder.close()

    def devices(self) -> list[Inventory]:
        """GPUs by slot, then switches. A device whose directory has left the board is not there."""
        return [
            Inventory(p.device.pdi, p.device.kind, p.number, p.device.image.ranges)
            for p in self._powered.values()
            if p.device.path.exists()
        ]

    def chain(self, pdi: bytes) -> list[bytes]:
        """DER, leaf first."""
        powered = self._find(pdi)
        return self._identity(powered).chain_der()

    def report(self, pdi: bytes, nonce: bytes) -> bytes:
        """A signed report over `nonce`, 32 bytes."""
        if len(nonce) != NONCE_LENGTH:
            raise BadRequestError(f"a nonce has {NONCE_LENGTH} bytes, not {len(nonce)}")
        powered = self._find(pdi)

        def sign(signed_nonce: bytes) -> bytes:
            digests = device.digests()
            for lie in lies:
                digests = dict(lie.digests(digests))
            return device.report(signed_nonce, self._links(powered), list(powered.log), digests, told)

        def told(counted: Counters) -> Counters:
            for lie in lies:
                counted = lie.counters(counted)
            return counted

        def earlier() -> bytes:
            return powered.earlier_report or sign(secrets.token_bytes(NONCE_LENGTH))

        device, lies = self._identity(powered), self._lies_of(powered)
        for lie in lies:
            nonce = lie.nonce(nonce)
        report = sign(nonce)
        for lie in lies:
            report = lie.report(report, earlier)
        powered.earlier_report = report
        return report

    async def range(
        self,
        pdi: bytes,
        *,
        challenge: bytes,
        landmark_key_id: bytes,
        endpoints: Sequence[str],
        ticket: bytes,
        timeout_s: float,
    ) -> Result:
        """Hold one ranging session. The result says why there is no receipt; it is no error."""
        powered = self._find(pdi)
        if len(challenge) != 32 or len(landmark_key_id) != 32 or len(ticket) > TICKET_MAX_BYTES:
            raise BadRequestError("challenge and landmark key id have 32 bytes, a ticket fits into COMMIT")
        if not endpoints or not 0 < timeout_s <= TIMEOUT_MAX_S:
            raise BadRequestError(f"an order names endpoints and a timeout of at most {TIMEOUT_MAX_S} s")
        if not powered.device.image.ranges:
            return Result(None, 0, Why.CANNOT_RANGE)
        addresses = await _resolve(endpoints)
        if not addresses:
            return Result(None, 0, Why.NO_REPLY)
        tricks = NO_TRICKS
        for lie in self._lies_of(powered):
            tricks = lie.tricks(tricks)
        order = Order(challenge, landmark_key_id, addresses, ticket, round(timeout_s * 1e9), tricks)
        return await self.responder.range(pdi, order)

    async def move(self, place: Place) -> None:
        """Put the board elsewhere."""
        await self.responder.move(place)
        self._place = place

    async def power_cycle(self) -> None:
        """Switch off and on: secrets and logs are gone, boot counters are raised, the slots are looked at again."""
        await self.responder.reset()
        self._power_on()

    async def pull(self, slot: str, target: Path) -> None:
        """Switch off, move the device of a slot to `target`, a free slot of another board, and switch on again."""
        move_device(self._directory / slot, target)
        await self.power_cycle()

    async def swap(self, slot: str, other: Path) -> None:
        """Switch off, exchange the device of a slot with the one at `other`, on another board, and switch on again."""
        swap_devices(self._directory / slot, other)
        await self.power_cycle()

    async def relay(self, slot: str, place: Place | None) -> None:
        """Have one device answer from elsewhere than its board; None: from its board again."""
        pdi = next((pdi for pdi, powered in self._powered.items() if powered.slot == slot), None)
        if pdi is None:
            raise BadRequestError(f"board {self.name} has nothing in {slot!r}")
        await self.responder.relay(pdi, place)

    async def flash(self, slots: Callable[[str], bool], image: FirmwareImage) -> None:
        """Write firmware to the GPUs whose slot is meant, and switch off and on."""
        for powered in self._powered.values():
            if powered.device.kind is image.kind and slots(powered.slot):
                powered.device.flashed(image).save()
        await self.power_cycle()

    async def set_faults(self, orders: tuple[str, ...]) -> tuple[str, ...]:
        """Tell exactly these lies from now on. All orders are understood before the first changes anything."""
        async with self._changing:
            new = [(order, parse_fault(order)) for order in orders if order not in self._orders]
            kept = dict(zip(self._orders, self._lies, strict=True))
            try:
                for order in [order for order in kept if order not in orders]:
                    await kept.pop(order).end(self)
                for order, lie in new:
                    await lie.begin(self)
                    kept[order] = lie
            finally:  # one that could not begin does not undo the others
                self._orders, self._lies = tuple(kept), tuple(kept.values())
            return self._orders

    def _power_on(self) -> None:
        devices = {slot: Device.load(self._directory / slot) for slot in slots_of(self._directory)}
        if not devices:
            raise StateError(f"{self._directory} holds no device")
        for slot, device in devices.items():
            if not slot.startswith(device.kind.value):
                raise StateError(f"{self._directory / slot} holds a {device.kind.value}")
        gpus = {int(slot[4:]): device.pdi for slot, device in devices.items() if device.kind is Kind.GPU}
        switches = [device.pdi for device in devices.values() if device.kind is Kind.SWITCH]
        self._powered = {}
        for slot, device in devices.items():
            if device.kind is Kind.GPU:
                ends = links.gpu_links(switches)
            else:
                ends = links.switch_links(switches.index(device.pdi), len(switches), gpus)
            self._powered[device.pdi] = _Powered(slot, device.powered_on(), ends)

    def _log(self, pdi: bytes, entry: bytes) -> None:
        powered = self._powered.get(pdi)
        if powered is not None:
            powered.log.append(entry)

    def _find(self, pdi: bytes) -> _Powered:
        powered = self._powered.get(pdi)
        if powered is None:
            raise UnknownDeviceError(f"board {self.name} has no device {pdi.hex()}")
        if not powered.device.path.exists():
            raise DeviceGoneError(f"{powered.slot} of board {self.name} has been pulled")
        return powered

    def _lies_of(self, powered: _Powered) -> list[Lie]:
        return [lie for lie in self._lies if lie.meant(powered.slot)]

    def _links(self, powered: _Powered) -> bytes | None:
        ends = powered.links
        if ends is not None:
            for lie in self._lies:  # what a switch says of a GPU may be a lie about that GPU
                ends = lie.links(powered.slot, ends)
        return ends

    def _identity(self, powered: _Powered) -> Device:
        device = powered.device
        for lie in self._lies_of(powered):
            device = lie.identity(device)
        return device


def move_device(source: Path, target: Path) -> None:
    """Pull a device out of one slot and put it into another; StateError if the one is empty or the other is not."""
    if not _SLOT.match(source.name) or not _SLOT.match(target.name):
        raise BadRequestError(f"{source.name} and {target.name} must be slots such as gpu-3")
    if not (source / "device.json").exists():
        raise StateError(f"{source} holds no device")
    if target.exists():
        raise StateError(f"{target} is taken")
    try:
        os.rename(source, target)  # noqa: PTH104 -- the plain system call: it moves whole or not at all
    except OSError as error:
        raise StateError(f"{source} cannot be moved to {target}: {error}") from error


def swap_devices(one: Path, other: Path) -> None:
    """Exchange the devices of two slots; StateError if one of them is empty."""
    for slot in (one, other):
        if not _SLOT.match(slot.name) or not (slot / "device.json").exists():
            raise StateError(f"{slot} holds no device")
    hand = one.with_name(f"in-hand-{one.name}")  # no slot is called so
    try:
        one.rename(hand)
        other.rename(one)
        hand.rename(other)
    except OSError as error:
        raise StateError(f"{one} cannot be exchanged with {other}: {error}") from error


async def _resolve(endpoints: Sequence[str]) -> tuple[Address, ...]:
    """Numeric addresses of `host:port` and `[host]:port`, in their order; a name that has none is left out."""
    loop = asyncio.get_running_loop()
    addresses: list[Address] = []
    for endpoint in endpoints:
        host, _, port = endpoint.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not bare or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise BadRequestError(f"{endpoint!r} is no host:port")
        try:
            found = await loop.getaddrinfo(bare, int(port), type=2)
        except OSError:
            continue
        addresses += [(str(info[4][0]), int(info[4][1])) for info in found]
    return tuple(dict.fromkeys(addresses))

"""The firmware images that exist in the emulated world, and what they measure to.

Spec: docs/protocol.md §4 (blocks), §8 (reference values). An image has no code: its FWID and its digests are hashes of
its name and version, which is all that a verifier ever sees of real firmware.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from firmware_stubs.errors import StateError

VENDOR = "Emulated Accelerators"
REFERENCE_SCHEMA = "trigpoint-reference-values/1"
DIGEST_LENGTH = 48

# Blocks that real hardware reports as 48 zero bytes, so that the emulated report has the same holes.
_UNUSED_BLOCKS = {
    "gpu": frozenset({1, 9, 11, *range(14, 22), 24, 25, 29, *range(43, 65)}),
    "switch": frozenset({8, 10, 13, 14, 16, 17, 18, 28, 29, 30, 31}),
}
# Blocks that depend on how the part was fused: two digests are good there.
_VARIANT_BLOCKS = {"gpu": frozenset({23, 36}), "switch": frozenset({12})}


class Kind(StrEnum):
    """What a device is. The value names its directory and its reference values."""

    GPU = "gpu"
    SWITCH = "switch"

    @property
    def block_count(self) -> int:
        """Measurement blocks in a report (docs/protocol.md §4)."""
        return 64 if self is Kind.GPU else 31

    @property
    def family(self) -> str:
        """Chip name in certificates."""
        return "EM100" if self is Kind.GPU else "ES_10"

    @property
    def core(self) -> str:
        """Name of the security core in certificates."""
        return "GSP" if self is Kind.GPU else "FSP"

    @property
    def serial_prefix(self) -> int:
        """First byte of the serial of certificate [1] (docs/protocol.md I5)."""
        return 0x41 if self is Kind.GPU else 0x50


@dataclass(frozen=True, slots=True)
class FirmwareImage:
    """One firmware; `ranges` says that it keeps R2 to R4. `vbios` is five hex bytes with dots, as it is printed."""

    name: str
    kind: Kind
    version: str
    vbios: str
    driver: str
    ranges: bool

    @property
    def fwid(self) -> bytes:
        """SHA-384 that the leaf binds (docs/protocol.md I6), 48 bytes."""
        return self._digest("fwid")

    @property
    def measurements(self) -> Mapping[int, tuple[bytes, ...]]:
        """Block index to the digests that this image may measure to, 48 bytes each."""
        return {index: self._block(index) for index in range(1, self.kind.block_count + 1)}

    def _block(self, index: int) -> tuple[bytes, ...]:
        if index in _UNUSED_BLOCKS[self.kind]:
            return (bytes(DIGEST_LENGTH),)
        variants = "ab" if index in _VARIANT_BLOCKS[self.kind] else "a"
        return tuple(self._digest(f"block {index} {variant}") for variant in variants)

    def _digest(self, part: str) -> bytes:
        return hashlib.sha384(f"{VENDOR}|{self.name}|{self.version}|{part}".encode()).digest()


GPU_CURRENT = FirmwareImage("em100-2.1.0", Kind.GPU, "2.1.0", "E1.00.21.00.01", "610.21", ranges=True)
GPU_OLDER = FirmwareImage("em100-1.4.0", Kind.GPU, "1.4.0", "E1.00.14.00.01", "590.12", ranges=False)
SWITCH_CURRENT = FirmwareImage("es10-1.2.0", Kind.SWITCH, "1.2.0", "E1.10.12.00.01", "", ranges=False)
IMAGES = (GPU_CURRENT, GPU_OLDER, SWITCH_CURRENT)


def image_named(name: str) -> FirmwareImage:
    """The image of that name; StateError when there is none."""
    for image in IMAGES:
        if image.name == name:
            return image
    raise StateError(f"no firmware image is called {name!r}; there are {', '.join(i.name for i in IMAGES)}")


def current_image(kind: Kind) -> FirmwareImage:
    """What a new device of that kind leaves the factory with."""
    return GPU_CURRENT if kind is Kind.GPU else SWITCH_CURRENT


def reference_values(images: Iterable[FirmwareImage] = IMAGES) -> dict[str, object]:
    """The vendor's document of docs/protocol.md §8, ready for json.dumps."""
    return {
        "schema": REFERENCE_SCHEMA,
        "vendor": VENDOR,
        "firmware": [
            {
                "name": image.name,
                "kind": image.kind.value,
                "fwid": image.fwid.hex(),
                "ranging": image.ranges,
                "measurements": {
                    str(index): [digest.hex() for digest in digests] for index, digests in image.measurements.items()
                },
            }
            for image in images
        ],
    }

"""One GPU or switch: a directory that holds its fuses, firmware, chain and counters, and what signs its reports.

Spec: docs/protocol.md §4, §5. The directory is the device: moving it moves the device. The ranging log and the links
are given to `report`, since the board knows them.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from firmware_stubs import certificates, report
from firmware_stubs.ca import DeviceCA, write_private
from firmware_stubs.certificates import TRUTH, Overrides
from firmware_stubs.counters import CounterFile, Counters
from firmware_stubs.errors import StateError
from firmware_stubs.firmware import FirmwareImage, Kind, image_named

PDI_LENGTH = 8
_SCHEMA = "trigpoint-emulated-device/1"
_SEED_LENGTH = 48
_CHAIN_LENGTH = 5  # docs/protocol.md I1


@dataclass(frozen=True, slots=True)
class Device:
    """A device that has power since reset number `boot`; `boot` 0 is a device that was never switched on."""

    path: Path
    kind: Kind
    pdi: bytes
    seed: bytes
    image: FirmwareImage
    chain: tuple[x509.Certificate, ...]
    leaf_key: ec.EllipticCurvePrivateKey
    boot: int = 0

    @classmethod
    def manufacture(
        cls,
        path: Path,
        ca: DeviceCA,
        image: FirmwareImage,
        pdi: bytes | None = None,
        overrides: Overrides = TRUTH,
    ) -> Self:
        """Make a new device in a directory that does not exist yet. The PDI is random unless it is given."""
        path.mkdir(parents=True)
        device = cls.in_memory(path, ca, image, pdi or _new_pdi(), overrides)
        write_private(path / "seed", device.seed)
        CounterFile.create(path / "counters")
        device.save()
        return device

    @classmethod
    def in_memory(
        cls, path: Path, ca: DeviceCA, image: FirmwareImage, pdi: bytes, overrides: Overrides = TRUTH
    ) -> Self:
        """A device that uses the directory `path` for its counters alone."""
        seed = secrets.token_bytes(_SEED_LENGTH)
        endorsements = ca.endorse(image.kind, pdi, _device_key(seed).public_key(), overrides)
        leaf, leaf_key = _start_firmware(seed, pdi, image, endorsements[0], overrides)
        return cls(path, image.kind, pdi, seed, image, (leaf, *endorsements), leaf_key)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The device of a directory; StateError if it holds none."""
        try:
            facts = json.loads((path / "device.json").read_text(encoding="utf-8"))
            seed = (path / "seed").read_bytes()
            chain = tuple(x509.load_pem_x509_certificates((path / "chain.pem").read_bytes()))
            pdi, image = bytes.fromhex(facts["pdi"]), image_named(facts["firmware"])
            good = facts["schema"] == _SCHEMA and len(pdi) == PDI_LENGTH and len(seed) == _SEED_LENGTH
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StateError(f"{path} holds no device: {error}") from error
        if not good or len(chain) != _CHAIN_LENGTH:
            raise StateError(f"{path} holds no device of this version")
        return cls(path, image.kind, pdi, seed, image, chain, _leaf_key(seed, image))

    def save(self) -> None:
        """Write what is not secret: identity, firmware and chain."""
        facts = {"schema": _SCHEMA, "kind": self.kind.value, "pdi": self.pdi.hex(), "firmware": self.image.name}
        (self.path / "chain.pem").write_bytes(certificates.chain_pem(self.chain))
        (self.path / "device.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")

    def flashed(self, image: FirmwareImage) -> Self:
        """This device with other firmware: a new leaf and leaf key under the same device key (docs/protocol.md I4)."""
        if image.kind is not self.kind:
            raise StateError(f"{image.name} is no firmware for a {self.kind.value}")
        leaf, leaf_key = _start_firmware(self.seed, self.pdi, image, self.chain[1], TRUTH)
        return replace(self, image=image, chain=(leaf, *self.chain[1:]), leaf_key=leaf_key)

    def with_leaf_of(self, image: FirmwareImage) -> Self:
        """This device, its firmware unchanged, with the leaf and leaf key that other firmware would give it."""
        return replace(self.flashed(image), image=self.image)

    def powered_on(self) -> Self:
        """This device after a reset, which it has counted."""
        return replace(self, boot=self._counters.raise_boot().boot)

    def running_as(self, other: "Device") -> Self:
        """This device with the power-on of `other`, whose counters it uses; for forgers."""
        return replace(self, boot=other.boot)

    def chain_der(self) -> list[bytes]:
        """DER, leaf first."""
        return [certificate.public_bytes(Encoding.DER) for certificate in self.chain]

    def digests(self) -> dict[int, bytes]:
        """What this device measures: block index to digest."""
        return report.block_digests(self.image, self.pdi)

    def report(
        self,
        nonce: bytes,
        links: bytes | None,
        log: Sequence[bytes] = (),
        digests: Mapping[int, bytes] | None = None,
        tell: Callable[[Counters], Counters] = lambda counted: counted,
    ) -> bytes:
        """Count one report, then sign it.

        Args:
            nonce: the requester's, 32 bytes.
            links: TLV 22 of a GPU (None: absent), TLV 26 of a switch.
            log: entries of TLV 0x5401, oldest first, 96 bytes each; ignored by firmware that cannot range.
            digests: measured digests by block index; None for those of the firmware.
            tell: which counters the report tells of those that were counted.
        """
        counters = tell(self._counters.raise_attestation(self.boot))
        if self.kind is Kind.GPU:
            tlvs = report.gpu_tlvs(self.image, links, log, (counters.boot, counters.attestation))
        else:
            tlvs = report.switch_tlvs(self.image, self.pdi, links or b"")
        blocks = self.digests() if digests is None else digests
        unsigned = report.unsigned_report(nonce, blocks, secrets.token_bytes(report.NONCE_LENGTH), tlvs)
        return report.signed_report(self.leaf_key, unsigned)

    @property
    def _counters(self) -> CounterFile:
        return CounterFile(self.path / "counters")


def _new_pdi() -> bytes:
    # The top bit is left out so that no PDI is all ones, which TLV 22 and 26 take for an empty slot.
    return bytes([secrets.randbelow(0x7F) + 1]) + secrets.token_bytes(PDI_LENGTH - 1)


def _device_key(seed: bytes) -> ec.EllipticCurvePrivateKey:
    return certificates.derive_key(seed, b"device")


def _leaf_key(seed: bytes, image: FirmwareImage) -> ec.EllipticCurvePrivateKey:
    # DICE: the key of the next layer follows from the layer below and the measurement of the next.
    return certificates.derive_key(seed, b"leaf" + image.fwid)


def _start_firmware(
    seed: bytes, pdi: bytes, image: FirmwareImage, device: x509.Certificate, overrides: Overrides
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    leaf_key = _leaf_key(seed, image)
    leaf = certificates.leaf_certificate(
        image.kind,
        pdi,
        image.fwid,
        leaf_key.public_key(),
        device=device,
        device_key=_device_key(seed),
        overrides=overrides,
    )
    return leaf, leaf_key

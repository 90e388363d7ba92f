"""The two counters of a device, kept through power loss.

Spec: docs/protocol.md E5. A raised counter is on the disk before it is used. The file has two slots that are written in
turn, so that a torn write loses the new value and never the old one; a counter that was not used may be skipped, one
that was used never comes again.
"""

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from firmware_stubs.errors import DeviceGoneError, StateError

_SLOT = struct.Struct(">QQ32s")
_SLOT_COUNT = 2


@dataclass(frozen=True, slots=True, order=True)
class Counters:
    """Resets so far, reports so far."""

    boot: int
    attestation: int

    def to_slot(self) -> bytes:
        """The 48 bytes on the disk."""
        return _SLOT.pack(self.boot, self.attestation, self._check())

    def _check(self) -> bytes:
        return hashlib.sha256(struct.pack(">QQ", self.boot, self.attestation)).digest()


@dataclass(frozen=True, slots=True)
class CounterFile:
    """Counters in one file. Safe against other processes that hold the same device."""

    path: Path

    @classmethod
    def create(cls, path: Path) -> "CounterFile":
        """A file whose counters stand at nought; StateError if there is one: counters never go back."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise StateError(f"{path} exists") from error
        try:
            os.write(descriptor, Counters(0, 0).to_slot() * _SLOT_COUNT)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return cls(path)

    def raise_boot(self) -> Counters:
        """Count one reset."""
        with self._locked() as descriptor:
            old = self._read(descriptor)[0]
            return self._advance(descriptor, Counters(old.boot + 1, old.attestation))

    def raise_attestation(self, boot: int) -> Counters:
        """Count one report of the power-on `boot`; DeviceGoneError if the device has been reset elsewhere since."""
        with self._locked() as descriptor:
            old = self._read(descriptor)[0]
            if old.boot != boot:
                raise DeviceGoneError(f"{self.path.parent} was switched on elsewhere (boot {old.boot}, not {boot})")
            return self._advance(descriptor, Counters(boot, old.attestation + 1))

    def _advance(self, descriptor: int, new: Counters) -> Counters:
        # docs/protocol.md E5: durable first, used afterwards. The older slot is the one that may be lost.
        os.pwrite(descriptor, new.to_slot(), self._read(descriptor)[1] * _SLOT.size)
        os.fdatasync(descriptor)
        return new

    def _read(self, descriptor: int) -> tuple[Counters, int]:
        """The newest good slot, and the index of the other one."""
        good: list[tuple[Counters, int]] = []
        for index in range(_SLOT_COUNT):
            raw = os.pread(descriptor, _SLOT.size, index * _SLOT.size)
            if len(raw) == _SLOT.size:
                boot, attestation, _ = _SLOT.unpack(raw)
                counters = Counters(boot, attestation)
                if counters.to_slot() == raw:
                    good.append((counters, index))
        if not good:
            raise StateError(f"{self.path} holds no counters")  # starting again from nought would repeat them
        newest, index = max(good)
        return newest, 1 - index

    @contextmanager
    def _locked(self) -> Iterator[int]:
        try:
            descriptor = os.open(self.path, os.O_RDWR)
        except FileNotFoundError as error:
            raise DeviceGoneError(f"{self.path.parent} has left its slot") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)

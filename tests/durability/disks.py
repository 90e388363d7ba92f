"""Disks that fail: one that is full, and one that takes no writes."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.durability.servers import ServerProcess

DISK_MIB = 96


class Trouble(Protocol):
    """A fault of a server's disk, which can be ended."""

    def begin(self, server: ServerProcess, disk: Path) -> None:
        """From now on the disk fails."""

    def end(self, server: ServerProcess, disk: Path) -> None:
        """From now on it works."""


class Full:
    """Nothing is left, or so little that a mark of the sweep fits and a group of attestations does not."""

    def __init__(self, left_bytes: int = 0) -> None:
        self._left_bytes = left_bytes

    def begin(self, _server: ServerProcess, disk: Path) -> None:
        """Fill it."""
        with (disk / "filler").open("wb") as filler:
            size, step = 0, 1 << 20
            while step:
                try:
                    os.posix_fallocate(filler.fileno(), size, step)
                    size += step
                except OSError:
                    step >>= 1
            filler.truncate(size - self._left_bytes)

    def end(self, _server: ServerProcess, disk: Path) -> None:
        """Free what was filled."""
        (disk / "filler").unlink()


class NoWrites:
    """Every write to a file fails, as on a file system that the kernel has made read-only after a fault.

    No mount can be made read-only while somebody holds a file open for writing, so the fault is made where the process
    meets the file system: a file size limit of nought.
    """

    def begin(self, server: ServerProcess, _disk: Path) -> None:
        """Refuse writes."""
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def end(self, server: ServerProcess, _disk: Path) -> None:
        """Take writes."""
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """Mount a disk of `DISK_MIB` at `path`; skips the test where that is not allowed."""
    path.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def make_read_only(path: Path) -> None:
    """Mount it again without leave to write; nobody may hold a file of it open for writing."""
    _mount("-o", "remount,ro", str(path))


def make_writable(path: Path) -> None:
    """Undo `make_read_only`."""
    _mount("-o", "remount,rw", str(path))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)

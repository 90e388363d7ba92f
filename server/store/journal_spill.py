"""Items of an audit on the disk, cut by tag so that one part fits into memory, whatever the journal's size."""

from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from verifier.journal.items import ITEM_BYTES

PART_ITEMS = 250_000
"""Of one part, some 60 MB while it is compared."""

RECORD = np.dtype([("high", ">u8"), ("low", ">u8"), ("commitment", "<u8", 4), ("where", "<i8"), ("which", "<i8")])
"""An item, its tag as two numbers, and where it comes from."""

_ITEM = np.dtype([("high", ">u8"), ("low", ">u8"), ("commitment", "<u8", 4)])
GATHERED = 65_536

Records = NDArray[np.void]


class Spill:
    """Takes items in any number, and gives them back part by part, each part in the order in which they came.

    Args:
        parts: How many; two spills that are compared have as many.
    """

    def __init__(self, parts: int) -> None:
        self._closing = ExitStack()
        self._files: list[IO[bytes]] = [
            self._closing.enter_context(TemporaryFile())  # noqa: SIM115 - the stack closes it
            for _ in range(parts)
        ]
        self._items: list[bytes] = []
        self._where: list[int] = []
        self._which: list[int] = []
        self._gathered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def add(self, items: bytes, where: int, which: range | list[int]) -> None:
        """Take joined items of one place."""
        self._items.append(items)
        self._where.extend([where] * len(which))
        self._which.extend(which)
        self._gathered += len(which)
        if self._gathered >= GATHERED:
            self._flush()

    def parts(self) -> Iterator[Records]:
        """Yield all that was taken."""
        self._flush()
        for file in self._files:
            file.seek(0)
            yield np.frombuffer(file.read(), RECORD)

    def _flush(self) -> None:
        records = np.empty(self._gathered, RECORD)
        items = np.frombuffer(b"".join(self._items), _ITEM)
        for name in ("high", "low", "commitment"):
            records[name] = items[name]
        records["where"], records["which"] = self._where, self._which
        part = records["low"] % np.uint64(len(self._files))
        for number, file in enumerate(self._files):
            file.write(records[part == number].tobytes())
        self._items, self._where, self._which, self._gathered = [], [], [], 0


def parts_for(item_bytes: int) -> int:
    """Return how many parts items of so many bytes need."""
    return 1 + item_bytes // ITEM_BYTES // PART_ITEMS


def last_of_each(records: Records) -> Records:
    """Return of each tag the record that came last, in the order of tags."""
    order = np.lexsort((records["low"], records["high"]))
    held = records[order]
    if len(held) == 0:
        return held
    last: Records = held[np.append(~_same_as_next(held), True)]
    return last


def compare(said: Records, stands: Records) -> tuple[Records, Records, Records]:
    """Compare what is said of each tag with what stands; tags come once in each.

    Returns:
        What is said of tags of which nothing stands, what stands of tags of which nothing is said, and what stands of
        those of which something else is said.
    """
    both = np.concatenate((said, stands))
    is_row = np.arange(len(both)) >= len(said)
    order = np.lexsort((is_row, both["low"], both["high"]))
    both, is_row = both[order], is_row[order]
    if len(both) == 0:
        return both, both, both
    paired = _same_as_next(both)
    first, second = np.append(paired, False), np.append(False, paired)
    alone = ~(first | second)
    differs = (both["commitment"][first] != both["commitment"][second]).any(axis=1)
    return both[alone & ~is_row], both[alone & is_row], both[second][differs]


def _same_as_next(records: Records) -> NDArray[np.bool_]:
    high, low = records["high"], records["low"]
    same: NDArray[np.bool_] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    return same

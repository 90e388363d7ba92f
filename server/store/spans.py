"""Stretches of time in which a clock runs, and how far it ran. Pure values; times are integer microseconds."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

Interval = tuple[int, int]
"""Start and end; the end is the first instant after it."""


class Spans:
    """Times as a set of disjoint intervals, in order."""

    __slots__ = ("_ends", "_starts", "_sums")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        merged: list[Interval] = []
        for start, end in sorted(intervals):
            if end <= start:
                continue
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        self._starts = [start for start, _ in merged]
        self._ends = [end for _, end in merged]
        self._sums = list(accumulate((end - start for start, end in merged), initial=0))

    def __iter__(self) -> Iterator[Interval]:
        """Yield the intervals in order."""
        return zip(self._starts, self._ends, strict=True)

    def __bool__(self) -> bool:
        """Whether there is any time in it."""
        return bool(self._starts)

    @property
    def total(self) -> int:
        """How long it is altogether."""
        return self._sums[-1]

    def between(self, since: int, until: int) -> int:
        """Return how much of it lies between two times."""
        return max(0, self._before(until) - self._before(since))

    def latest_start(self, until: int, length: int) -> int | None:
        """Return the latest time from which on at least `length`, above 0, of it lies before `until`.

        None when there is less altogether. So a clock that began at `since` has run for `length` when
        `since <= latest_start(until, length)`.
        """
        left = self._before(until) - length
        if left < 0:
            return None
        # The interval in which the sum passes `left`; where it only reaches it, the later one.
        index = bisect_right(self._sums, left) - 1
        return self._starts[index] + left - self._sums[index]

    def last_start(self, until: int) -> int | None:
        """Return the start of the last interval that begins before `until`; None when there is none."""
        index = bisect_left(self._starts, until)
        return self._starts[index - 1] if index else None

    def both(self, other: "Spans") -> "Spans":
        """Return the times that are in both."""
        return at_least(2, (self, other))

    def without(self, other: "Spans") -> "Spans":
        """Return the times that are not in the other."""
        if not other or not self:
            return self
        lowest, highest = self._starts[0], self._ends[-1]
        edges = [lowest, *(edge for interval in other for edge in interval), highest]
        gaps = Spans((start, end) for start, end in zip(edges[::2], edges[1::2], strict=True))
        return self.both(gaps)

    def clipped(self, since: int) -> "Spans":
        """Return what lies at or after a time."""
        return Spans((max(start, since), end) for start, end in self)

    def _before(self, when: int) -> int:
        index = bisect_right(self._starts, when)
        if index == 0:
            return 0
        return self._sums[index] - max(0, self._ends[index - 1] - when)


def at_least(count: int, several: Sequence[Spans]) -> Spans:
    """Return the times that are in at least `count`, above 0, of several."""
    if len(several) < count:
        return Spans()
    # Ends before starts: what ends when another begins does not overlap it, and the pieces are joined again.
    edges = sorted(edge for spans in several for start, end in spans for edge in ((start, 1), (end, -1)))
    found: list[Interval] = []
    depth, since = 0, 0
    for when, step in edges:
        before, depth = depth, depth + step
        if before < count <= depth:
            since = when
        elif depth < count <= before:
            found.append((since, when))
    return Spans(found)

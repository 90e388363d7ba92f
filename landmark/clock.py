"""How long a round took: readings of the clocks, and rule R5 as one pure function.

The bound is CLOCK_MONOTONIC_RAW in user space, read before the send call and after the receive call. Kernel software
stamps, which Linux takes from CLOCK_REALTIME on both ways, may only tighten it, and only while that clock can be shown
not to have moved against CLOCK_MONOTONIC_RAW over the round. Reading stamps off a socket is `stamped_socket`'s part.
"""

import enum
import time
from dataclasses import dataclass
from typing import Final

# docs/protocol.md R5: 1 µs and 50 ppm of the round.
_MAX_DRIFT_NS: Final = 1_000
_MAX_DRIFT_PPM: Final = 50


class ClockSource(enum.IntEnum):
    """Which clock a round trip was read off; the receipt's key 9."""

    USER_MONOTONIC_RAW = 1
    KERNEL_SOFTWARE = 2


@dataclass(frozen=True, slots=True)
class ClockReading:
    """CLOCK_REALTIME between two readings of CLOCK_MONOTONIC_RAW, nanoseconds, in the order they were taken."""

    raw_before_ns: int
    realtime_ns: int
    raw_after_ns: int


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a datagram left or came.

    `reading` was taken before the send call, or after the receive call. `kernel_ns` is the kernel's software stamp of
    this very datagram, CLOCK_REALTIME, or None where the kernel gave none.
    """

    reading: ClockReading
    kernel_ns: int | None


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """How long a round took at most, and by which clock."""

    nanoseconds: int
    clock: ClockSource


def read_clocks() -> ClockReading:
    """Read both clocks now."""
    raw_before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW)
    realtime_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    return ClockReading(raw_before_ns, realtime_ns, time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW))


def round_trip(sent: Stamp, received: Stamp) -> RoundTrip:
    """Return the bound on a round. docs/protocol.md R5.

    The user-space bound runs from the last reading before the send call to the first one after the receive call. The
    kernel's takes its place if every condition below holds; any doubt leaves the user-space bound.
    """
    user_ns = received.reading.raw_before_ns - sent.reading.raw_after_ns
    kernel_ns = _kernel_round_trip(sent, received)
    if kernel_ns is None or kernel_ns > user_ns:  # R5: the result is not larger
        return RoundTrip(user_ns, ClockSource.USER_MONOTONIC_RAW)
    return RoundTrip(kernel_ns, ClockSource.KERNEL_SOFTWARE)


def _kernel_round_trip(sent: Stamp, received: Stamp) -> int | None:
    # 1. Both stamps are there. Linux takes software stamps of both ways from one clock, CLOCK_REALTIME.
    if sent.kernel_ns is None or received.kernel_ns is None:
        return None
    # 2. The datagram left after the reading before the send call, and came before the reading after the receive call.
    #    A stamp of another datagram, or a clock that was set in between, fails here.
    if not sent.reading.realtime_ns <= sent.kernel_ns < received.kernel_ns <= received.reading.realtime_ns:
        return None
    # 3. The clock did not move against CLOCK_MONOTONIC_RAW over the round. Each realtime reading lies somewhere between
    #    its two raw ones, so the movement is an interval; its far end must be within the allowance.
    realtime_ns = received.reading.realtime_ns - sent.reading.realtime_ns
    shortest_raw_ns = received.reading.raw_before_ns - sent.reading.raw_after_ns
    longest_raw_ns = received.reading.raw_after_ns - sent.reading.raw_before_ns
    allowed_ns = _MAX_DRIFT_NS + shortest_raw_ns * _MAX_DRIFT_PPM // 1_000_000
    if max(realtime_ns - shortest_raw_ns, longest_raw_ns - realtime_ns) > allowed_ns:
        return None
    return received.kernel_ns - sent.kernel_ns

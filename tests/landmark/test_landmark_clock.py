"""Rule R5: each condition that refuses the kernel's stamps, and the stamps that Linux really gives."""

import socket
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from landmark import stamped_socket
from landmark.clock import ClockReading, ClockSource, RoundTrip, Stamp, read_clocks, round_trip
from landmark.cookies import Peer
from landmark.stamped_socket import Arrival, StampedSocket
from tests.landmark.helpers import LOOPBACKS

BOOT_NS = 1_700_000_000_000_000_000
ROUND_NS = 2_000_000


def reading(raw_ns: int, *, shift_ns: int = 0, width_ns: int = 100) -> ClockReading:
    return ClockReading(raw_ns, BOOT_NS + shift_ns + raw_ns + width_ns // 2, raw_ns + width_ns)


SENT = Stamp(reading(1_000), BOOT_NS + 6_000)
RECEIVED = Stamp(reading(1_000 + ROUND_NS), BOOT_NS + ROUND_NS - 4_000)
USER = RoundTrip(ROUND_NS - 100, ClockSource.USER_MONOTONIC_RAW)


def test_kernel_stamps_tighten_the_bound() -> None:
    assert round_trip(SENT, RECEIVED) == RoundTrip(ROUND_NS - 10_000, ClockSource.KERNEL_SOFTWARE)


def test_without_kernel_stamps_the_user_clock_counts() -> None:
    assert round_trip(replace(SENT, kernel_ns=None), RECEIVED) == USER
    assert round_trip(SENT, replace(RECEIVED, kernel_ns=None)) == USER
    assert round_trip(replace(SENT, kernel_ns=None), replace(RECEIVED, kernel_ns=None)) == USER


@pytest.mark.parametrize("shift_ns", [1_100, -1_100, 10**9, -(10**9)])
def test_a_clock_that_moved_does_not_count(shift_ns: int) -> None:
    # The allowance is 1 µs and 50 ppm of 2 ms, 1,100 ns, less what reading the clocks leaves open.
    kernel_ns = BOOT_NS + ROUND_NS - 4_000 + min(shift_ns, 0)
    assert round_trip(SENT, Stamp(reading(1_000 + ROUND_NS, shift_ns=shift_ns), kernel_ns)) == USER


@pytest.mark.parametrize("shift_ns", [950, -950])
def test_a_clock_that_moved_little_counts(shift_ns: int) -> None:
    moved = Stamp(reading(1_000 + ROUND_NS, shift_ns=shift_ns), RECEIVED.kernel_ns)
    assert round_trip(SENT, moved).clock is ClockSource.KERNEL_SOFTWARE


def test_a_reading_that_was_interrupted_does_not_count() -> None:
    assert round_trip(replace(SENT, reading=reading(1_000, width_ns=3_000)), RECEIVED) == (
        RoundTrip(ROUND_NS - 3_000, ClockSource.USER_MONOTONIC_RAW)
    )


def test_a_send_stamp_before_the_send_call_does_not_count() -> None:
    assert round_trip(replace(SENT, kernel_ns=SENT.reading.realtime_ns - 1), RECEIVED) == USER


def test_a_receive_stamp_after_the_receive_call_does_not_count() -> None:
    assert round_trip(SENT, replace(RECEIVED, kernel_ns=RECEIVED.reading.realtime_ns + 1)) == USER


def test_a_round_that_took_no_time_does_not_count() -> None:
    assert round_trip(SENT, replace(RECEIVED, kernel_ns=SENT.kernel_ns)) == USER


def test_a_result_that_is_larger_does_not_count() -> None:
    sent = replace(SENT, kernel_ns=SENT.reading.realtime_ns)
    received = replace(RECEIVED, kernel_ns=RECEIVED.reading.realtime_ns)
    assert round_trip(sent, received) == USER


@given(
    st.integers(0, 10**9),
    st.integers(-5_000, 5_000),
    st.integers(0, 5_000),
    st.integers(0, 5_000),
    st.integers(-10_000, 10**9),
    st.integers(-10_000, 10**9),
)
def test_no_stamp_makes_the_bound_larger_and_none_is_taken_while_the_clock_moves(
    length_ns: int, shift_ns: int, width_ns: int, end_width_ns: int, left_ns: int, came_ns: int
) -> None:
    end = reading(1_000 + length_ns + width_ns, shift_ns=shift_ns, width_ns=end_width_ns)
    sent = Stamp(reading(1_000, width_ns=width_ns), BOOT_NS + 1_000 + left_ns)
    got = round_trip(sent, Stamp(end, BOOT_NS + 1_000 + came_ns))
    assert got.nanoseconds <= length_ns
    if got.clock is ClockSource.KERNEL_SOFTWARE:
        assert abs(shift_ns) <= 1_000 + length_ns * 50 // 1_000_000
        assert got.nanoseconds == came_ns - left_ns > 0


def receive(bound: StampedSocket) -> Arrival:
    while (arrival := bound.receive()) is None:
        time.sleep(0)
    return arrival


@pytest.mark.parametrize("host", LOOPBACKS)
@pytest.mark.parametrize("kernel_stamps", [True, False])
def test_real_stamps_of_a_real_round_trip(host: str, *, kernel_stamps: bool) -> None:
    here = StampedSocket(host, 0, 0, kernel_stamps=kernel_stamps)
    there = StampedSocket(host, 0, 1, kernel_stamps=kernel_stamps)
    try:
        assert here.kernel_stamps is kernel_stamps
        to_there, to_here = Peer(0, *there.address), Peer(1, *here.address)
        with_kernel = 0
        for number in range(20):
            before = read_clocks()
            sent = here.send_stamped(to_there, b"ping %d" % number)
            ping = receive(there)
            assert (ping.data, ping.peer.port) == (b"ping %d" % number, here.address[1])
            there.send(to_here, b"pong")
            pong = receive(here)
            assert pong.peer == to_there
            after = read_clocks()
            trip = round_trip(sent, pong.stamp)
            assert 0 < trip.nanoseconds < after.raw_after_ns - before.raw_before_ns
            with_kernel += trip.clock is ClockSource.KERNEL_SOFTWARE
            if not kernel_stamps:
                assert sent.kernel_ns is None
                assert pong.stamp.kernel_ns is None
        assert with_kernel > 0 if kernel_stamps else with_kernel == 0
    finally:
        here.close()
        there.close()


@pytest.mark.parametrize("host", LOOPBACKS)
def test_a_failed_send_is_counted_and_later_stamps_still_belong_to_their_datagram(host: str) -> None:
    here, there = StampedSocket(host, 0, 0), StampedSocket(host, 0, 1)
    try:
        peer = Peer(0, *there.address)
        assert here.send_stamped(peer, b"before").kernel_ns is not None
        assert here.send_stamped(peer, bytes(70_000)).kernel_ns is None
        here.send(peer, bytes(70_000))
        assert here.failed_sends == 2
        for _ in range(3):
            stamp = here.send_stamped(peer, b"after")
            assert stamp.kernel_ns is not None
            assert stamp.reading.realtime_ns <= stamp.kernel_ns <= read_clocks().realtime_ns
        # Only ROUND asks for stamps, so nothing is left for the selector to report.
        here.send(peer, b"no stamp")
        with pytest.raises(BlockingIOError):
            here._socket.recvmsg(0, 256, socket.MSG_ERRQUEUE)
    finally:
        here.close()
        there.close()


@pytest.mark.parametrize("host", LOOPBACKS)
def test_a_stamp_that_came_late_is_not_taken_for_the_next_datagrams(host: str) -> None:
    here, there = StampedSocket(host, 0, 0), StampedSocket(host, 0, 1)
    try:
        # As if the kernel had stamped this datagram only after its own call had looked.
        here._socket.sendmsg([b"late"], stamped_socket._ASK_FOR_STAMP, 0, there.address)
        here._next_stamp_id += 1
        stamp = here.send_stamped(Peer(0, *there.address), b"next")
        assert stamp.kernel_ns is not None
        assert stamp.kernel_ns >= stamp.reading.realtime_ns
    finally:
        here.close()
        there.close()

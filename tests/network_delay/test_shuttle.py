"""The shuttle's queue: never early, losses by seed; and what it says where it cannot work."""

import asyncio
import errno
import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.network_delay.shuttle import DelayQueue, Link, NotHereError, _step
from tests.network_delay.stage import NoNetworkError, PlacedProcesses

PACKETS = 10_000
LINKS = (
    Link("a", "b", 5_000),
    Link("b", "a", 9_000),
    Link("a", "c", 3_000, jitter_ns=4_000, loss=0.1),
    Link("c", "a", 0, jitter_ns=1, loss=0.5),
)
WAYS = {(link.source, link.target): link for link in LINKS}


def _drain(queue: DelayQueue, now_ns: int) -> list[bytes]:
    packets = []
    while (popped := queue.pop_due(now_ns)) is not None:
        packets.append(popped[1])
    return packets


def _survivors(seed: int, *, disturbed: bool = False) -> set[int]:
    queue = DelayQueue(LINKS, seed)
    for number in range(PACKETS):
        queue.accept("a", "c", number.to_bytes(4, "big"), number)
        if disturbed:
            queue.accept("c", "a", b"", number)
    return {int.from_bytes(packet, "big") for packet in _drain(queue, PACKETS + 10_000) if packet}


@pytest.mark.parametrize("seed", range(20))
def test_no_packet_leaves_before_its_delay(seed: int) -> None:
    rng = random.Random(seed)
    queue, now_ns, arrived = DelayQueue(LINKS, seed), 0, {}
    left = set()
    for number in range(2_000):
        now_ns += rng.randrange(2_000)
        way = rng.choice(list(WAYS))
        arrived[number] = (way, now_ns)
        queue.accept(*way, number.to_bytes(4, "big"), now_ns)
        now_ns += rng.randrange(2_000)
        while (popped := queue.pop_due(now_ns)) is not None:
            target, packet = popped
            (source, expected), accepted_ns = arrived[int.from_bytes(packet, "big")]
            assert target == expected
            assert now_ns - accepted_ns >= WAYS[source, target].delay_ns
            left.add(int.from_bytes(packet, "big"))
    assert len(left) > 1_000


def test_a_packet_leaves_at_its_due_time_and_not_a_nanosecond_earlier() -> None:
    queue = DelayQueue(LINKS, 1)
    queue.accept("a", "b", b"slow", 1_000)
    assert queue.next_due_ns == 6_000
    assert queue.pop_due(5_999) is None
    assert queue.pop_due(6_000) == ("b", b"slow")
    assert queue.next_due_ns is None


def test_each_direction_has_its_own_delay_and_the_earliest_leaves_first() -> None:
    queue = DelayQueue(LINKS, 1)
    queue.accept("b", "a", b"9 us", 0)
    queue.accept("a", "b", b"5 us", 0)
    queue.accept("a", "b", b"5 us again", 0)
    assert _drain(queue, 5_000) == [b"5 us", b"5 us again"]
    assert _drain(queue, 9_000) == [b"9 us"]


def test_jitter_only_adds() -> None:
    queue, delays_ns = DelayQueue([Link("a", "c", 3_000, jitter_ns=4_000)], 1), []
    for _ in range(PACKETS):
        queue.accept("a", "c", b"", 0)
        assert queue.next_due_ns is not None
        delays_ns.append(queue.next_due_ns)
        assert queue.pop_due(7_000) is not None
    assert min(delays_ns) >= 3_000
    assert max(delays_ns) <= 7_000
    assert max(delays_ns) - min(delays_ns) > 3_900


def test_the_seed_decides_what_is_lost() -> None:
    assert _survivors(1) == _survivors(1)
    assert _survivors(1) != _survivors(2)
    assert 0.88 * PACKETS < len(_survivors(1)) < 0.92 * PACKETS


def test_traffic_of_another_link_does_not_change_what_is_lost() -> None:
    assert _survivors(1, disturbed=True) == _survivors(1)


def test_what_was_carried_and_lost_is_counted() -> None:
    queue = DelayQueue(LINKS, 1)
    for _ in range(PACKETS):
        queue.accept("a", "c", b"", 0)
    told = {(link["source"], link["target"]): link for link in queue.told()}
    survived = len(_drain(queue, 7_000))
    assert 0 < survived < PACKETS
    assert told["a", "c"]["carried"] == survived
    assert told["a", "c"]["lost"] == PACKETS - survived
    assert (told["a", "b"]["carried"], told["a", "b"]["lost"]) == (0, 0)


def test_hosts_without_a_link_do_not_reach_each_other() -> None:
    queue = DelayQueue(LINKS, 1)
    queue.accept("b", "c", b"lost", 0)
    assert queue.next_due_ns is None


def test_only_a_refusal_by_the_machine_is_a_reason_to_skip() -> None:
    with (
        pytest.raises(NotHereError, match=r"^open /dev/net/tun: No such file or directory$"),
        _step("open /dev/net/tun"),
    ):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    with pytest.raises(OSError, match="Invalid argument"), _step("TUNSETIFF"):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def test_without_the_capability_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop = ("setpriv", "--bounding-set=-sys_admin")
    tried = subprocess.run([*drop, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"CAP_SYS_ADMIN cannot be dropped here: {tried.stderr.strip()}")
    monkeypatch.setattr("demo.processes._TIED_TO_US", drop)
    processes = PlacedProcesses(tmp_path, ["a"], [])

    async def try_it() -> None:
        try:
            await processes.start_network()
        finally:
            await processes.stop_all()

    with pytest.raises(NoNetworkError, match=r"^unshare\(CLONE_NEWNET\): Operation not permitted$"):
        asyncio.run(try_it())

"""Who ranges whom, and when (docs/protocol.md LA3)."""

import random
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from server.intake.audit_schedule import LOOK_AGAIN_S, AuditSchedule
from tests.server.helpers import NOW, landmark_record
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.units import LandmarkId

INTERVAL = timedelta(hours=6)


def registry_of(count: int) -> LandmarkRegistry:
    return LandmarkRegistry.build(landmark_record(number).landmark for number in range(1, count + 1))


def schedule_of(batch: int = 8, interval: timedelta = INTERVAL, seed: int = 1) -> AuditSchedule:
    return AuditSchedule(interval, batch, random.Random(seed))


def ids(landmarks: tuple[Landmark, ...]) -> list[str]:
    return [str(r.landmark_id) for r in landmarks]


def ages(registry: LandmarkRegistry, hours: float) -> dict[LandmarkId, datetime]:
    return {r.landmark_id: NOW - timedelta(hours=hours) for r in registry.landmarks}


def test_pairs_that_never_ranged_come_at_once_and_in_random_order() -> None:
    registry = registry_of(9)
    prover = registry.landmarks[0]
    first = [schedule_of(seed=seed).next_batch(prover, registry, {}, NOW).landmarks for seed in range(20)]
    assert all(set(ids(batch)) == {f"sg-{n}" for n in range(2, 10)} for batch in first)
    assert len({tuple(ids(batch)) for batch in first}) > 15


def test_a_batch_holds_no_more_than_it_may() -> None:
    registry = registry_of(9)
    schedule = schedule_of(batch=3)
    asked = [ids(schedule.next_batch(registry.landmarks[0], registry, {}, NOW).landmarks) for _ in range(4)]
    assert [len(batch) for batch in asked] == [3, 3, 2, 0]
    assert len({name for batch in asked for name in batch}) == 8


def test_a_landmark_is_not_ranged_by_its_own_domain_nor_by_itself() -> None:
    registry = registry_of(4)
    related = replace(registry.landmarks[1], hoster=registry.landmarks[0].operator)
    registry = LandmarkRegistry.build([registry.landmarks[0], related, *registry.landmarks[2:]])
    batch = schedule_of().next_batch(registry.landmarks[0], registry, {}, NOW)
    assert set(ids(batch.landmarks)) == {"sg-3", "sg-4"}


def test_records_that_are_not_valid_now_are_left_out() -> None:
    registry = registry_of(3)
    ended = replace(registry.landmarks[1], valid_until=NOW)
    registry = LandmarkRegistry.build([registry.landmarks[0], ended, registry.landmarks[2]])
    assert ids(schedule_of().next_batch(registry.landmarks[0], registry, {}, NOW).landmarks) == ["sg-3"]
    assert schedule_of().next_batch(ended, registry, {}, NOW).landmarks == ()


def test_a_distrusted_landmark_ranges_and_is_ranged() -> None:
    registry = registry_of(2)
    distrusted = replace(registry.landmarks[0], distrusted="it is elsewhere")
    registry = LandmarkRegistry.build([distrusted, registry.landmarks[1]])
    assert ids(schedule_of().next_batch(distrusted, registry, {}, NOW).landmarks) == ["sg-2"]
    assert ids(schedule_of().next_batch(registry.landmarks[1], registry, {}, NOW).landmarks) == ["sg-1"]


@pytest.mark.parametrize(("hours", "due"), [(2.9, False), (3.0, True), (7.0, True)])
def test_what_the_store_knows_of_a_pair_says_when_it_is_due(hours: float, *, due: bool) -> None:
    registry = registry_of(2)
    batch = schedule_of().next_batch(registry.landmarks[0], registry, ages(registry, hours), NOW)
    assert bool(batch.landmarks) is due


def test_new_pairs_come_before_overdue_ones_and_these_before_those_that_are_due() -> None:
    registry = registry_of(10)
    ranged_at = {
        LandmarkId(f"sg-{n}"): NOW - timedelta(hours=age)
        for n, age in {2: 3.5, 3: 3.5, 4: 3.5, 5: 5, 6: 5, 7: 5, 8: 1}.items()
    }
    for seed in range(10):
        order = ids(schedule_of(seed=seed).next_batch(registry.landmarks[0], registry, ranged_at, NOW).landmarks)
        assert set(order[:2]) == {"sg-9", "sg-10"}
        assert set(order[2:5]) == {"sg-5", "sg-6", "sg-7"}
        assert set(order[5:]) == {"sg-2", "sg-3", "sg-4"}


def test_a_session_that_failed_is_not_ordered_again_at_once_on_whichever_stream() -> None:
    registry = registry_of(3)
    schedule = schedule_of()
    assert len(schedule.next_batch(registry.landmarks[0], registry, {}, NOW).landmarks) == 2
    # Nothing was stored; the landmark comes again with another stream.
    assert schedule.next_batch(registry.landmarks[0], registry, {}, NOW + timedelta(seconds=40)).landmarks == ()
    assert len(schedule.next_batch(registry.landmarks[0], registry, {}, NOW + timedelta(seconds=60)).landmarks) == 2
    # It says nothing about the pair's other direction.
    assert len(schedule.next_batch(registry.landmarks[1], registry, {}, NOW).landmarks) == 2


def orders_of(schedule: AuditSchedule, registry: LandmarkRegistry, ranged_at: dict[LandmarkId, datetime]) -> list[int]:
    """Return when the first landmark is ordered to be ranged in six hours, seconds, if nothing ever comes of it."""
    prover = registry.landmarks[0]
    return [
        second
        for second in range(6 * 3600)
        if schedule.next_batch(prover, registry, ranged_at, NOW + timedelta(seconds=second)).landmarks
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_pair_that_never_ranged_is_tried_again_less_and_less_often(seed: int) -> None:
    given = orders_of(schedule_of(seed=seed), registry_of(2), {})
    gaps = [after - before for before, after in pairwise(given)]
    assert given[0] == 0
    for gap, longest in zip(gaps, [60, 120, 240, 480, *[900] * (len(gaps) - 4)], strict=True):
        assert 0.75 * longest <= gap <= longest + 1
    assert len(set(gaps[4:])) > 10, "times are nobody's to know"
    assert gaps[-1] < 902


def test_a_pair_that_ranged_begins_anew_when_its_range_is_gone() -> None:
    registry = registry_of(2)
    schedule = schedule_of()
    assert len(orders_of(schedule, registry, {})) > 20
    later = NOW + timedelta(hours=7)
    prover = registry.landmarks[0]
    assert schedule.next_batch(prover, registry, {LandmarkId("sg-2"): later}, later).landmarks == ()
    # A new revision of a record makes older ranges void.
    assert schedule.next_batch(prover, registry, {}, later).landmarks
    assert schedule.next_batch(prover, registry, {}, later + timedelta(seconds=61)).landmarks


def test_a_pair_that_ranged_once_and_then_fails_rests_as_before() -> None:
    ranged_at = {LandmarkId("sg-2"): NOW - timedelta(hours=4)}
    assert orders_of(schedule_of(), registry_of(2), ranged_at)[:2] == [0, 3 * 3600]


def test_landmarks_that_never_answer_do_not_crowd_out_those_that_are_overdue() -> None:
    registry = registry_of(30)
    schedule = schedule_of(batch=4)
    prover = registry.landmarks[0]
    answering = {LandmarkId("sg-2"), LandmarkId("sg-3")}
    ranged_at = dict.fromkeys(answering, NOW)
    latest = dict(ranged_at)
    for minute in range(36 * 60):
        now = NOW + timedelta(minutes=minute)
        for landmark in schedule.next_batch(prover, registry, ranged_at, now).landmarks:
            if landmark.landmark_id in answering:
                assert now - latest[landmark.landmark_id] <= INTERVAL
                ranged_at[landmark.landmark_id] = latest[landmark.landmark_id] = now
    assert all(NOW + timedelta(hours=36) - when <= INTERVAL for when in latest.values())


def test_while_a_landmark_rests_only_new_pairs_are_ordered() -> None:
    registry = registry_of(30)
    schedule = schedule_of()
    prover, old = registry.landmarks[0], ages(registry, 7)
    first = schedule.next_batch(prover, registry, old, NOW)
    assert len(first.landmarks) == 8
    soon = NOW + timedelta(seconds=first.pause_s)
    assert schedule.next_batch(prover, registry, old, soon).landmarks == ()
    new = {name: when for name, when in old.items() if name not in {"sg-7", "sg-8"}} | {
        r.landmark_id: NOW for r in first.landmarks
    }
    following = schedule.next_batch(prover, registry, new, soon)
    assert set(ids(following.landmarks)) <= {"sg-7", "sg-8"}


def test_pauses_are_drawn_and_never_so_long_that_a_new_landmark_waits() -> None:
    registry = registry_of(3)
    pauses = [schedule_of(seed=seed).next_batch(registry.landmarks[0], registry, {}, NOW).pause_s for seed in range(50)]
    assert len(set(pauses)) == 50
    assert all(0.75 * LOOK_AGAIN_S <= pause <= LOOK_AGAIN_S for pause in pauses)
    alone = schedule_of().next_batch(registry.landmarks[0], LandmarkRegistry.build(registry.landmarks[:1]), {}, NOW)
    assert alone.landmarks == ()
    assert 0 < alone.pause_s <= LOOK_AGAIN_S
    firsts = [schedule_of(seed=seed).first_pause_s() for seed in range(50)]
    assert len(set(firsts)) == 50
    assert all(0 <= pause <= LOOK_AGAIN_S / 10 for pause in firsts)


@pytest.mark.parametrize("count", [4, 40])
@pytest.mark.parametrize("interval", [INTERVAL, timedelta(seconds=30)])
def test_every_pair_is_ordered_in_each_interval_and_not_much_more_often(count: int, interval: timedelta) -> None:
    """Three days of one landmark whose every session succeeds, on two streams of one process at once."""
    registry = registry_of(count)
    prover = registry.landmarks[0]
    schedule = schedule_of(interval=interval)
    ranged_at: dict[LandmarkId, datetime] = {}
    ordered: Counter[LandmarkId] = Counter()
    gaps: list[timedelta] = []
    end = NOW + 12 * interval
    streams = [NOW, NOW]
    while min(streams) < end:
        which = streams.index(min(streams))
        now = streams[which]
        following = schedule.next_batch(prover, registry, ranged_at, now)
        for landmark in following.landmarks:
            if landmark.landmark_id in ranged_at:
                gaps.append(now - ranged_at[landmark.landmark_id])
            ranged_at[landmark.landmark_id] = now
            ordered[landmark.landmark_id] += 1
        assert following.pause_s > 0
        streams[which] = now + timedelta(seconds=following.pause_s)
    assert len(ordered) == count - 1
    assert max(gaps) <= interval
    assert max(ordered.values()) <= 12 / 0.5 + 1
    assert min(ordered.values()) >= 12


def test_another_process_that_ranges_the_pair_makes_it_rest_here() -> None:
    registry = registry_of(2)
    schedule, other = schedule_of(), schedule_of(seed=2)
    prover = registry.landmarks[0]
    assert other.next_batch(prover, registry, {}, NOW).landmarks
    ranged_at = {LandmarkId("sg-2"): NOW}
    assert schedule.next_batch(prover, registry, ranged_at, NOW + timedelta(minutes=1)).landmarks == ()

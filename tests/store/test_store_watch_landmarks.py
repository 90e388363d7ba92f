"""When landmarks were up, and which sites lack them (docs/protocol.md W4)."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import pytest
from sqlalchemy import insert

from server.store import Store
from server.store.landmark_uptime import load_landmark_uptime, load_landmarks_up, mark_landmarks
from server.store.schema import LANDMARK_DISTRUST
from server.store.watch_types import AbleLandmark, AbleSite, SiteKey
from server.times import micros
from tests.store.store_world import HOUR, START, pdi
from tests.store.watch_world import BEGAN, DAY, SECOND, Desk, able
from verifier.errors import Reason
from verifier.units import Domain, LandmarkId

A, B = LandmarkId("a"), LandmarkId("b")


async def mark(store: Store, seen: Mapping[LandmarkId, datetime]) -> None:
    given = {name: micros(at) for name, at in seen.items()}
    await store._write(lambda connection: mark_landmarks(connection, given))


async def uptime(store: Store, since: datetime = BEGAN, until: datetime = START + 9 * DAY) -> dict[str, list[float]]:
    """Hours after START at which runs begin and end, in turn."""
    found = await store._read(lambda connection: load_landmark_uptime(connection, micros(since), micros(until)))
    hour = HOUR // timedelta(microseconds=1)
    return {
        name: [round((edge - micros(START)) / hour, 6) for run in runs for edge in run]
        for name, runs in found.items()
        if runs
    }


async def test_marks_three_hours_apart_are_one_run(store: Store) -> None:
    """docs/protocol.md W4"""
    for hours in (0, 3, 6):
        await mark(store, {A: START + hours * HOUR})
    await mark(store, {A: START + 9 * HOUR + SECOND, B: START + 9 * HOUR})
    await mark(store, {A: START + 10 * HOUR})
    assert await uptime(store) == {"a": [0, 6, round(9 + 1 / 3600, 6), 10]}
    await mark(store, {B: START + 9.5 * HOUR})
    assert (await uptime(store))["b"] == [9, 9.5]


async def test_marks_within_a_minute_are_not_written(store: Store) -> None:
    await mark(store, {A: START})
    await mark(store, {A: START + 59 * SECOND})
    assert await uptime(store) == {}
    await mark(store, {A: START + 60 * SECOND})
    assert await uptime(store) == {"a": [0, round(1 / 60, 6)]}


async def test_late_and_old_marks_change_nothing(store: Store) -> None:
    for hours in (5, 5.5, 5.25, 1):
        await mark(store, {A: START + hours * HOUR})
    await mark(store, {A: START + 6 * HOUR})
    assert await uptime(store) == {"a": [5, 6]}


async def test_two_nodes_extend_one_run(store: Store, store_path: object) -> None:
    other = await Store.open(store_path)  # type: ignore[arg-type]
    await mark(store, {A: START})
    await mark(other, {A: START + HOUR / 2})
    await mark(store, {A: START + HOUR / 4})
    await mark(store, {A: START + HOUR})
    assert await uptime(store) == {"a": [0, 1]}
    await other.close()


async def test_distrusted_landmarks_are_not_up(store: Store) -> None:
    desk = Desk(store)
    await desk.landmark_up("a", START, START + 10 * HOUR)
    told = {"landmark_id": "a", "rule": 1, "explanation": "", "contradictions": "[]"}
    rows = [
        {**told, "since": micros(START + since * HOUR), "ended_at": ended_at}
        for since, ended_at in ((2, micros(START + 3 * HOUR)), (8, None))
    ]
    await store._write(lambda connection: connection.execute(insert(LANDMARK_DISTRUST), rows))
    assert await uptime(store) == {"a": [0, 2, 3, 8]}
    assert await uptime(store, START + HOUR, START + 2.5 * HOUR) == {"a": [1, 2]}


async def test_landmarks_are_up_for_three_hours_after_they_were_heard_of(store: Store) -> None:
    desk = Desk(store)
    await desk.landmark_up("a", START, START + HOUR)
    await desk.landmark_up("b", START, START + 2 * HOUR)

    async def up(now: datetime) -> frozenset[LandmarkId]:
        return await store._read(lambda connection: load_landmarks_up(connection, micros(now)))

    assert await up(START + 4 * HOUR) == {A, B}
    assert await up(START + 4 * HOUR + SECOND) == {B}
    assert await up(START + 5 * HOUR + SECOND) == frozenset()


async def test_sites_are_short_of_domains(store: Store) -> None:
    desk = Desk(store)
    await desk.landmark_up("a", START, START + HOUR)
    await desk.landmark_up("b", START, START + 3 * HOUR)
    who = {**able("a", "b"), **able("b", needed=1, site_id="muc"), **able("b", "z", site_id="ham")}
    assert (await desk.sweep(START + 4 * HOUR, who)).short == {SiteKey("D1", "ham")}
    assert await store.watch.short(START + 5 * HOUR, who) == {SiteKey("D1", "ham"), SiteKey("D1", "fra")}


@pytest.mark.parametrize(("joined", "due"), [(True, True), (False, False)])
async def test_one_landmark_stands_in_for_another_of_its_domain(store: Store, *, joined: bool, due: bool) -> None:
    desk = Desk(store)
    await desk.license()
    await desk.up(BEGAN, START + DAY)
    await desk.landmark_up("a", BEGAN, START + DAY)
    await desk.landmark_up("b1", BEGAN, START + HOUR)
    await desk.landmark_up("b2", START + HOUR / 2, START + DAY)
    await desk.deploy(1, reported=START + DAY, activated=BEGAN, proven=START, found=[Reason.LOCATION_UNPROVEN])
    of_b = [AbleLandmark(LandmarkId(name), 0) for name in (("b1", "b2") if joined else ("b1",))]
    domains = {Domain("a"): (AbleLandmark(A, 0),), Domain("b"): tuple(of_b)}
    found = await desk.sweep(START + 3 * HOUR, {SiteKey("D1", "fra"): AbleSite(2, domains)})
    assert (found.opened(Reason.PRESENCE_OVERDUE) == (pdi(1),)) is due


async def test_what_a_landmark_did_before_its_record_counts_for_nothing(store: Store) -> None:
    desk = Desk(store)
    await desk.license()
    await desk.up(BEGAN, START + DAY)
    for name in ("a", "b"):
        await desk.landmark_up(name, BEGAN, START + DAY)
    await desk.deploy(1, reported=START + DAY, activated=BEGAN, proven=START, found=[Reason.LOCATION_UNPROVEN])
    moved = AbleLandmark(B, micros(START + 2 * HOUR))
    domains = {Domain("a"): (AbleLandmark(A, 0),), Domain("b"): (moved,)}
    who = {SiteKey("D1", "fra"): AbleSite(2, domains)}
    assert (await desk.sweep(START + 3.5 * HOUR, who)).turns == ()
    assert (await desk.sweep(START + 3.5 * HOUR + SECOND, who)).opened(Reason.PRESENCE_OVERDUE) == (pdi(1),)

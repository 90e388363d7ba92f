"""Ways to have a device acquitted or accused wrongly by way of the audit's records, its clock or its order."""

import random
from dataclasses import replace
from datetime import timedelta

from server.desk.audit import IN_FLIGHT, LandmarkAudit
from server.intake.audit_schedule import AuditSchedule
from server.store import Store
from server.store.types import Reappraisal
from server.telemetry import Telemetry
from tests.server.audit_world import (
    NOW,
    PARIS,
    PROVEN_BY_SG,
    PROVEN_BY_THREE,
    SECOND,
    SINGAPORE,
    TOKYO,
    WORLD,
    Clock,
    all_pairs,
    deployed,
    distrusted,
    proven,
    record_of,
    registered,
    reported,
    said_to_be_in,
    stands,
    states,
)
from tests.two_people import deploy
from verifier.appraise import finding
from verifier.continuity import DeviceState
from verifier.errors import Reason
from verifier.place.geodesy import Position
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.units import CountryCode, LandmarkId
from verifier.verdict import Standing


async def test_a_second_distrust_counts_the_first(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy, clock: Clock
) -> None:
    """Two of three domains are bought, and found hours apart: the one that is left proves nothing at f = 1."""
    site = deployed(1)
    await deploy(store, [site], NOW)
    await store.commit([reported(policy, site, PROVEN_BY_THREE)])
    await registered(store, [], **{"sg-1": said_to_be_in(PARIS, "sg-1")})
    await desk.run_once()
    clock.now += IN_FLIGHT + SECOND
    await desk.run_once()  # settled
    assert (await stands(store, 1)).standing is Standing.COMPLIANT
    clock.now += timedelta(hours=2)
    await store.import_landmarks([said_to_be_in(PARIS, "sg-2")], clock.now)
    await desk.run_once()
    assert set(await distrusted(store)) == {"sg-1", "sg-2"}
    found = await stands(store, 1)
    assert found.standing is Standing.UNPROVEN
    assert found.last_fix is not None
    assert [disc.landmark_id for disc in found.last_fix.discs] == ["my-1"]


async def test_a_fix_says_nothing_of_a_region_that_came_later(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy
) -> None:
    """A device that has not reported since its license was amended to Tokyo is accused of yesterday's place."""
    site = deployed(1)
    await deploy(store, [site], NOW)
    await store.commit([reported(policy, site, PROVEN_BY_THREE)])
    await deploy(store, [deployed(1, TOKYO)], NOW + SECOND)
    before = await stands(store, 1)
    await registered(store, [], **{"sg-1": said_to_be_in(PARIS, "sg-1")})
    await desk.run_once()
    assert set(await distrusted(store)) == {"sg-1"}
    assert await stands(store, 1) == before
    assert before.standing is not Standing.VIOLATION


async def test_a_license_that_is_amended_while_a_device_is_appraised_again_wins(
    store: Store, policy: PlacePolicy
) -> None:
    """The audit has read a device when its deployment moves to Tokyo, and writes what holds for the old region."""
    site = deployed(1)
    await deploy(store, [site], NOW)
    await store.commit([reported(policy, site, PROVEN_BY_SG)])
    unproven = finding(Reason.LOCATION_UNPROVEN, "says the audit")
    (read,) = await store.load_located(after=None, limit=10)
    await deploy(store, [deployed(1, TOKYO)], NOW + SECOND)
    assert await store.reappraise([Reappraisal(read, None, (unproven,), proven=False)], NOW + SECOND) == ()
    (again,) = await store.load_located(after=None, limit=10)
    changed = await store.reappraise([Reappraisal(again, None, (unproven,), proven=False)], NOW + SECOND)
    assert changed == (site.pdi,)


async def test_ranges_of_another_key_and_place_say_nothing_of_a_new_record(
    store: Store, desk: LandmarkAudit, clock: Clock, telemetry: Telemetry
) -> None:
    """A record that counts is replaced by another party's, elsewhere, which would count before anybody ranged it."""
    await registered(store, all_pairs())
    bought = said_to_be_in(
        Position(35.0, 135.0), "jp-1", public_key=bytes(32), operator="Mallory", hoster="Mallory", revision=2
    )
    await store.import_landmarks([bought], NOW + SECOND)
    clock.now += 2 * SECOND
    await desk.run_once()
    (landmark,) = [r for r in await store.load_landmarks() if r.landmark_id == "jp-1"]
    assert landmark.ranged_by == ()
    assert states(telemetry) == {"counted": 3, "uncounted": 1, "distrusted": 0}


async def test_an_honest_move_is_no_lie(store: Store, desk: LandmarkAudit, clock: Clock) -> None:
    """A landmark that moves and says so is held to what was ranged at its old place."""
    await registered(store, all_pairs())
    await store.import_landmarks([said_to_be_in(TOKYO, "sg-2", country=CountryCode("JP"))], NOW + SECOND)
    clock.now += 2 * SECOND
    await desk.run_once()
    assert await distrusted(store) == {}


async def test_a_clock_that_was_ahead_for_a_minute_stops_nothing(
    store: Store, desk: LandmarkAudit, clock: Clock, telemetry: Telemetry
) -> None:
    """One process took ranges by a clock that was years ahead: no pair is due, and none counts, until then."""
    await registered(store, all_pairs(NOW + timedelta(days=1400)))
    clock.now = NOW + timedelta(hours=1)
    registry = LandmarkRegistry.build(await store.load_landmarks())
    prover = registry.landmarks[0]
    schedule = AuditSchedule(timedelta(hours=24), 8, random.Random(1))
    ranged_at = await store.load_range_times(prover.landmark_id)
    assert len(schedule.next_batch(prover, registry, ranged_at, clock.now).landmarks) == len(WORLD) - 1
    await store.record_ranges(all_pairs(clock.now))
    assert set((await store.load_range_times(prover.landmark_id)).values()) == {clock.now}
    await desk.run_once()
    assert states(telemetry)["counted"] == len(WORLD)


async def test_two_parties_that_an_expired_record_joins_have_one_vote(store: Store, desk: LandmarkAudit) -> None:
    """A party whose joint record has expired outvotes an honest landmark with its two names (PL2)."""
    records = [
        replace(record, landmark=replace(record.landmark, operator=operator, hoster=hoster))
        for record, operator, hoster in (
            (record_of("zz-joint", SINGAPORE, "SG"), "a", "b"),
            (record_of("za", SINGAPORE, "SG"), "a", "a"),
            (record_of("zb", SINGAPORE, "SG"), "b", "b"),
        )
    ]
    expired = replace(records[0], landmark=replace(records[0].landmark, valid_until=NOW))
    await store.import_landmarks([expired, *records[1:], record_of("zz-tokyo", TOKYO, "JP")], NOW)
    await store.record_ranges([proven("za", "zz-tokyo", 40.0), proven("zb", "zz-tokyo", 42.0)])  # over 5,300 km
    registry = LandmarkRegistry.build(await store.load_landmarks())
    assert registry.domain_of(LandmarkId("za")) == registry.domain_of(LandmarkId("zb"))
    await desk.run_once()
    # One vote against one is a tie, and the larger contradiction is za's.
    assert set(await distrusted(store)) == {"za", "zb"}


async def test_impossible_travel_outlasts_the_order_of_commits(store: Store, policy: PlacePolicy) -> None:
    """One key answers in two places on two servers; the report that shows it is committed after a newer one."""
    site = deployed(1)
    await deploy(store, [site], NOW)
    await store.commit([reported(policy, site, PROVEN_BY_SG, NOW + SECOND, "newer")])
    older = reported(policy, site, PROVEN_BY_SG, NOW, "older")
    (device,) = older.verdict.devices
    accused = replace(device, findings=(finding(Reason.IMPOSSIBLE_TRAVEL, "9,000 km apart"),))
    verdict = replace(older.verdict, devices=(accused,))
    committed = await store.commit([replace(older, verdict=verdict, based_on={site.pdi: DeviceState()})])
    assert not committed.stale
    assert [found.finding.reason for found in (await stands(store, 1)).findings] == [Reason.IMPOSSIBLE_TRAVEL]

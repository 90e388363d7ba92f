"""The audit task: who is distrusted, what that does to devices, what officers are told (docs/protocol.md §12)."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import grpc
import pytest
import structlog
from trigpoint.v1 import landmark_pb2, landmark_pb2_grpc

from server.config import Audit, load_config
from server.desk.audit import DAY, IN_FLIGHT, LOOK_AGAIN, LandmarkAudit
from server.intake.fleet import Fleet
from server.rpc.audits import AuditLister
from server.rpc.errors import InvalidArgumentError
from server.spiffe import Peer
from server.store import LandmarkRecord, Store, StoreUnavailableError
from server.store.types import AuditInputs, LandmarkPage
from server.telemetry import Telemetry
from tests.licensing.licensing_world import serve
from tests.server import helpers
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
from verifier.errors import Reason
from verifier.place.answers import PlaceAnswer
from verifier.place.audit import AuditRule
from verifier.place.policy import PlacePolicy
from verifier.units import CountryCode, LandmarkId
from verifier.verdict import Standing

# who is distrusted


async def test_landmarks_that_agree_are_not_distrusted(store: Store, desk: LandmarkAudit, telemetry: Telemetry) -> None:
    await registered(store, all_pairs())
    await desk.run_once()
    assert await distrusted(store) == {}
    assert states(telemetry) == {"counted": 4, "uncounted": 0, "distrusted": 0}
    assert telemetry.registry.get_sample_value("trigpoint_landmark_audit_timestamp_seconds") == NOW.timestamp()


async def test_a_landmark_that_is_elsewhere_is_distrusted_and_told_so(
    store: Store, desk: LandmarkAudit, telemetry: Telemetry
) -> None:
    await registered(store, all_pairs(jp_1=SINGAPORE))
    with structlog.testing.capture_logs() as logs:
        await desk.run_once()
    assert await distrusted(store) == {"jp-1": AuditRule.LIGHT}
    assert states(telemetry) == {"counted": 3, "uncounted": 0, "distrusted": 1}
    (event,) = [entry for entry in logs if entry["event"] == "landmark_distrusted"]
    assert event["landmark"] == "jp-1"
    assert event["rule"] == "LIGHT"
    assert event["contradictions"] == 3
    assert event["explanation"].startswith("It and 3 other landmarks answer each other faster than light")
    with structlog.testing.capture_logs() as logs:
        await desk.run_once()
    assert [entry["event"] for entry in logs] == []


async def test_a_landmark_out_of_its_country_is_distrusted_without_any_range(store: Store, desk: LandmarkAudit) -> None:
    elsewhere = said_to_be_in(PARIS, "my-1")
    await registered(store, [], **{"my-1": elsewhere})
    await desk.run_once()
    assert await distrusted(store) == {"my-1": AuditRule.COUNTRY}


async def test_too_few_witnesses_are_no_distrust(store: Store, desk: LandmarkAudit, telemetry: Telemetry) -> None:
    await registered(store, [proven("sg-1", "sg-2", 1.0), proven("my-1", "sg-2", 1.0), proven("sg-1", "my-1", 1.0)])
    await desk.run_once()
    assert states(telemetry) == {"counted": 1, "uncounted": 3, "distrusted": 0}


async def test_distrust_ends_when_the_ranges_no_longer_bring_it(
    store: Store, desk: LandmarkAudit, clock: Clock
) -> None:
    await registered(store, all_pairs(jp_1=SINGAPORE))
    await desk.run_once()
    right = said_to_be_in(SINGAPORE, "jp-1", country=CountryCode("SG"))
    await store.import_landmarks([right], NOW)
    clock.now += SECOND
    with structlog.testing.capture_logs() as logs:
        await desk.run_once()
    assert await distrusted(store) == {}
    assert [entry["landmark"] for entry in logs if entry["event"] == "landmark_trusted_again"] == ["jp-1"]


async def test_ranges_of_yesterday_say_nothing_any_more(store: Store, desk: LandmarkAudit, clock: Clock) -> None:
    await registered(store, all_pairs(jp_1=SINGAPORE))
    await desk.run_once()
    clock.now = NOW + DAY
    await desk.run_once()
    assert await distrusted(store) == {"jp-1": AuditRule.LIGHT}
    clock.now = NOW + DAY + LOOK_AGAIN
    await desk.run_once()
    assert await distrusted(store) == {}


async def test_a_record_that_is_not_valid_now_is_not_judged(store: Store, desk: LandmarkAudit) -> None:
    ended = replace(WORLD["jp-1"], landmark=replace(WORLD["jp-1"].landmark, valid_until=NOW))
    await registered(store, all_pairs(jp_1=SINGAPORE), **{"jp-1": ended})
    await desk.run_once()
    assert await distrusted(store) == {}


class Counting(Store):
    """A store that counts how often all of the audit's inputs are read."""

    looked = 0
    fails = False

    async def load_audit_inputs(self, page: LandmarkPage | None = None) -> AuditInputs:
        if self.fails:
            raise StoreUnavailableError("the disk is gone, says the test")
        self.looked += 1
        return await super().load_audit_inputs(page)


@pytest.fixture
async def counting(tmp_path: Path) -> AsyncIterator[Counting]:
    opened = await Counting.open(tmp_path / "counting.sqlite")
    yield opened
    await opened.close()


async def test_it_looks_when_something_came_or_an_hour_went_by(
    counting: Counting, policy: PlacePolicy, clock: Clock, telemetry: Telemetry
) -> None:
    desk = LandmarkAudit(counting, policy, SECOND, clock, telemetry)
    await registered(counting, all_pairs())
    looks = []
    for step in ("first", "nothing", "range", "nothing", "an hour", "nothing"):
        if step == "range":
            await counting.record_ranges([proven("sg-1", "sg-2", 1.0)])
        if step == "an hour":
            clock.now += LOOK_AGAIN
        before = counting.looked
        await desk.run_once()
        looks.append(counting.looked - before)
    assert looks == [1, 0, 1, 0, 1, 0]
    clock.now += SECOND
    await desk.run_once()
    stamp = telemetry.registry.get_sample_value("trigpoint_landmark_audit_timestamp_seconds")
    assert stamp == clock.now.timestamp()


async def test_a_store_fault_makes_it_late(
    counting: Counting, policy: PlacePolicy, clock: Clock, telemetry: Telemetry
) -> None:
    await registered(counting, all_pairs(jp_1=SINGAPORE))
    counting.fails = True
    running = asyncio.create_task(LandmarkAudit(counting, policy, 0.02 * SECOND, clock, telemetry).run())
    await asyncio.sleep(0.1)
    assert not running.done()
    counting.fails = False
    async with asyncio.timeout(10):
        while not await distrusted(counting):  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.02)
    running.cancel()


async def test_every_process_learns_of_it_with_the_next_challenge(
    store: Store, desk: LandmarkAudit, tmp_path: Path
) -> None:
    await registered(store, all_pairs(jp_1=SINGAPORE))
    other = await Store.open(tmp_path / "trigpoint.sqlite")
    try:
        fleet = Fleet(other)
        assert not any(r.distrusted for r in (await fleet.current()).registry.landmarks)
        await desk.run_once()
        assert [r.landmark_id for r in (await fleet.current()).registry.landmarks if r.distrusted] == ["jp-1"]
    finally:
        await other.close()


async def test_challenges_see_new_ranges_after_a_while_and_streams_need_not_reread(store: Store) -> None:
    await registered(store, [])
    fleet = Fleet(store, refresh_every_s=0.3)
    before = await fleet.current()
    await store.record_ranges([proven("sg-1", "sg-2", 1.0)])
    assert await fleet.current() is before  # they were read a moment ago
    await asyncio.sleep(0.35)
    after = await fleet.current()
    assert after.number == before.number  # whoever waits for records sleeps on
    assert after.registry.landmarks[3].ranged_by == (("operator of sg-1", NOW),)
    await asyncio.sleep(0.35)
    assert await fleet.current() is after  # nothing came
    await store.record_ranges([proven("my-1", "sg-2", 1.0)])
    assert await fleet.current() is after
    await asyncio.sleep(0.35)
    assert (await fleet.current()) is not after


class Slow(Store):
    """A store whose landmarks take a while to read."""

    async def load_landmark_records(self) -> list[LandmarkRecord]:
        await asyncio.sleep(0.05)
        return await super().load_landmark_records()


async def test_reading_new_ranges_takes_no_great_share_of_the_time(tmp_path: Path) -> None:
    store = await Slow.open(tmp_path / "slow.sqlite")
    try:
        await registered(store, [])
        fleet = Fleet(store, refresh_every_s=0.1)
        before = await fleet.current()
        await store.record_ranges([proven("sg-1", "sg-2", 1.0)])
        await asyncio.sleep(0.4)
        assert await fleet.current() is before
        await store.import_landmarks([said_to_be_in(PARIS, "sg-1")], NOW)
        assert await fleet.current() is not before  # a change of records does not wait
    finally:
        await store.close()


# devices that rested on a landmark


async def test_a_proof_that_rests_on_a_distrusted_domain_falls_and_no_other(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy
) -> None:
    cases = {1: PROVEN_BY_SG, 2: PROVEN_BY_THREE, 3: {"sg-2": 30.0, "my-1": 50.0}, 4: {"sg-1": 20.0}}
    await deploy(store, [deployed(number) for number in cases], NOW)
    for number, radii in cases.items():
        await store.commit([reported(policy, deployed(number), radii)])
    assert [(await stands(store, number)).standing for number in cases] == [
        Standing.COMPLIANT,
        Standing.COMPLIANT,
        Standing.COMPLIANT,
        Standing.UNPROVEN,
    ]
    before = {number: await stands(store, number) for number in cases}
    # sg-1 is in truth in Paris, so that everybody hears it too late and it hears everybody too soon.
    elsewhere = said_to_be_in(PARIS, "sg-1")
    await registered(store, all_pairs(), **{"sg-1": elsewhere})
    change = await store.change_number()
    await desk.run_once()
    assert await distrusted(store) == {"sg-1": AuditRule.COUNTRY}

    fallen = await stands(store, 1)
    assert fallen.standing is Standing.UNPROVEN
    assert [finding.finding.reason for finding in fallen.findings] == [Reason.LOCATION_UNPROVEN]
    assert fallen.last_fix is not None
    assert [disc.landmark_id for disc in fallen.last_fix.discs] == ["sg-2"]
    assert fallen.last_fix.in_licensed_region is not PlaceAnswer.PROVEN
    assert fallen.last_proof_at is None
    # Two are left for the second; the third never used it.
    assert await stands(store, 2) == before[2]
    assert await stands(store, 3) == before[3]
    # The fourth has no disc left; it was unproven and is so still.
    assert await stands(store, 4) == before[4]
    assert [device.pdi for device in (await store.changes_after(change)).devices] == [helpers.pdi(1)]


async def test_an_accusation_that_rests_on_a_distrusted_domain_falls(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy
) -> None:
    site = deployed(1, TOKYO)
    await deploy(store, [site], NOW)
    await store.commit([reported(policy, site, PROVEN_BY_SG)])
    accused = await stands(store, 1)
    assert accused.standing is Standing.VIOLATION
    elsewhere = said_to_be_in(PARIS, "sg-1")
    await registered(store, [], **{"sg-1": elsewhere})
    with structlog.testing.capture_logs() as logs:
        await desk.run_once()
    cleared = await stands(store, 1)
    assert cleared.standing is Standing.UNPROVEN
    assert [finding.finding.reason for finding in cleared.findings] == [Reason.LOCATION_UNPROVEN]
    (event,) = [entry for entry in logs if entry["event"] == "devices_appraised_again"]
    assert (event["count"], event["first"]) == (1, helpers.pdi(1).hex())


async def test_an_answer_that_a_wrong_landmark_kept_from_being_given_is_given(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy
) -> None:
    """Its disc leaves no place on Earth inside of enough others, so nothing was said (docs/protocol.md PL6)."""
    site = deployed(1)
    radii = {**PROVEN_BY_SG, "jp-1": 10.0}
    await deploy(store, [site], NOW)
    zero = replace(policy, tolerated_domains=0)
    await store.commit([reported(zero, site, radii)])
    assert (await stands(store, 1)).standing is Standing.UNPROVEN
    await registered(store, all_pairs(jp_1=SINGAPORE))
    await desk.run_once()
    assert (await stands(store, 1)).standing is Standing.COMPLIANT
    assert (await stands(store, 1)).last_proof_at == NOW


async def test_a_verdict_in_flight_is_appraised_again_too(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy, clock: Clock
) -> None:
    site = deployed(1)
    await deploy(store, [site], NOW)
    elsewhere = said_to_be_in(PARIS, "sg-1")
    await registered(store, [], **{"sg-1": elsewhere})
    await desk.run_once()
    clock.now += IN_FLIGHT - SECOND
    # Its challenge was issued before the distrust, under the records of then.
    await store.commit([reported(policy, site, PROVEN_BY_SG, clock.now)])
    assert (await stands(store, 1)).standing is Standing.COMPLIANT
    await desk.run_once()
    assert (await stands(store, 1)).standing is Standing.UNPROVEN
    assert not (await store.load_audit_inputs()).distrust[LandmarkId("sg-1")].settled
    clock.now += SECOND
    await desk.run_once()
    assert (await store.load_audit_inputs()).distrust[LandmarkId("sg-1")].settled
    # From then on no verdict can have used it, and devices are not looked at any more.
    await store.commit([reported(policy, site, PROVEN_BY_SG, clock.now, "later")])
    clock.now += SECOND
    await desk.run_once()
    assert (await stands(store, 1)).standing is Standing.COMPLIANT


async def test_what_a_process_left_undone_another_does(
    store: Store, policy: PlacePolicy, clock: Clock, telemetry: Telemetry
) -> None:
    site = deployed(1)
    await deploy(store, [site], NOW)
    await store.commit([reported(policy, site, PROVEN_BY_SG)])
    elsewhere = said_to_be_in(PARIS, "sg-1")
    await registered(store, [], **{"sg-1": elsewhere})

    class Dying(LandmarkAudit):
        async def _settle(self, *_: object) -> None:
            raise StoreUnavailableError("the process ends here, says the test")

    with pytest.raises(StoreUnavailableError):
        await Dying(store, policy, SECOND, clock, telemetry).run_once()
    assert (await stands(store, 1)).standing is Standing.COMPLIANT
    await LandmarkAudit(store, policy, SECOND, clock, telemetry).run_once()
    assert (await stands(store, 1)).standing is Standing.UNPROVEN


async def test_a_domain_is_found_in_a_fix_by_the_name_that_it_had(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy
) -> None:
    """Two domains merged since: their common name is neither of the fix's."""
    site = deployed(1)
    await deploy(store, [site], NOW)
    await store.commit([reported(policy, site, PROVEN_BY_SG)])
    joined = said_to_be_in(PARIS, "sg-1", hoster="a hoster of both")
    other = replace(WORLD["sg-2"], landmark=replace(WORLD["sg-2"].landmark, hoster="a hoster of both"))
    await registered(store, [], **{"sg-1": joined, "sg-2": other})
    await desk.run_once()
    assert (await stands(store, 1)).last_fix is None


async def test_more_devices_than_one_look_takes(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.desk.audit.LOCATED_AT_ONCE", 2)
    await deploy(store, [deployed(number) for number in range(1, 6)], NOW)
    await store.commit([reported(policy, deployed(number), PROVEN_BY_SG) for number in range(1, 6)])
    elsewhere = said_to_be_in(PARIS, "sg-1")
    await registered(store, [], **{"sg-1": elsewhere})
    await desk.run_once()
    assert {(await stands(store, number)).standing for number in range(1, 6)} == {Standing.UNPROVEN}


# what officers are told


async def listed(
    store: Store, policy: PlacePolicy, clock: Clock, size: int = 0, token: str = ""
) -> landmark_pb2.ListLandmarkAuditsResponse:
    request = landmark_pb2.ListLandmarkAuditsRequest(page_size=size, page_token=token)
    return await AuditLister(store, policy, clock).list(request)


async def test_an_audit_says_of_each_landmark_whether_it_counts_and_why_not(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy, clock: Clock
) -> None:
    await registered(store, all_pairs(jp_1=SINGAPORE))
    assert not (await listed(store, policy, clock)).HasField("audit_time")
    await desk.run_once()
    clock.now += SECOND
    response = await listed(store, policy, clock)
    assert response.audit_time.ToDatetime(tzinfo=NOW.tzinfo) == NOW
    assert [audit.name for audit in response.audits] == [f"landmarks/{name}" for name in sorted(WORLD)]
    wrong, right = response.audits[0], response.audits[2]
    assert not wrong.counts
    assert wrong.why_not.startswith("jp-1 is distrusted: It and 3 other landmarks")
    assert wrong.rule == landmark_pb2.AUDIT_RULE_LIGHT
    assert wrong.explanation.startswith("It and 3 other landmarks")
    assert wrong.distrust_time.ToDatetime(tzinfo=NOW.tzinfo) == NOW
    assert len(wrong.contradictions) == 3
    excess = [told.apart_km - told.reach_km for told in wrong.contradictions]
    assert excess == sorted(excess, reverse=True)
    assert {wrong.contradictions[0].by_landmark_id, wrong.contradictions[0].of_landmark_id} >= {"jp-1"}
    assert right.counts
    assert right.why_not == right.explanation == ""
    assert right.rule == landmark_pb2.AUDIT_RULE_UNSPECIFIED
    assert not right.HasField("distrust_time")
    assert right.ranged_by_domains == 2  # the distrusted one witnesses nothing
    assert right.domain == "operator of sg-1"
    assert right.last_range_time.ToDatetime(tzinfo=NOW.tzinfo) == NOW
    # sg-2 and my-1 hear it within 0.5 ms and a little: the second of them bounds it.
    assert 75 < right.position_bound_km < 150


async def test_audits_are_put_together_beside_the_loop_and_one_list_at_a_time(
    store: Store, policy: PlacePolicy, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(store, all_pairs())
    loop_went_on = threading.Event()
    lists: Counter[int] = Counter()  # of landmarks that were looked at, by thread

    def counts(*_: object) -> None:
        lists[threading.get_ident()] += 1
        assert loop_went_on.wait(5), "the loop stood still meanwhile"

    monkeypatch.setattr("server.rpc.audits.check_landmark_counts", counts)
    lister = AuditLister(store, policy, clock)
    listing = [asyncio.create_task(lister.list(landmark_pb2.ListLandmarkAuditsRequest())) for _ in range(3)]
    async with asyncio.timeout(4):
        while not lists:  # noqa: ASYNC110 - a thread tells nobody
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # time enough for the others to begin as well, if they may
    assert list(lists.values()) == [1]
    loop_went_on.set()
    assert [len((await each).audits) for each in listing] == [len(WORLD)] * 3
    assert sum(lists.values()) == 3 * len(WORLD)


async def test_a_landmark_that_nobody_ranged(store: Store, policy: PlacePolicy, clock: Clock) -> None:
    await registered(store, [])
    audit = (await listed(store, policy, clock)).audits[0]
    assert not audit.counts
    assert audit.why_not == "jp-1 was ranged by 0 other domains lately; 2 are needed"
    assert audit.ranged_by_domains == 0
    assert not audit.HasField("last_range_time")
    assert audit.position_bound_km == 0


async def test_old_ranges_bound_nothing_and_are_told_with_their_time(
    store: Store, policy: PlacePolicy, clock: Clock
) -> None:
    await registered(store, all_pairs(NOW - DAY - SECOND))
    audit = (await listed(store, policy, clock)).audits[0]
    assert audit.ranged_by_domains == 0
    assert audit.position_bound_km == 0
    assert audit.last_range_time.ToDatetime(tzinfo=NOW.tzinfo) == NOW - DAY - SECOND
    # A demonstration asks for no ranges, and they are counted for a day all the same.
    await store.record_ranges(all_pairs())
    trusting = replace(policy, audited_within=None)
    assert (await listed(store, trusting, clock)).audits[0].ranged_by_domains == 3


async def test_audits_come_in_pages(store: Store, policy: PlacePolicy, clock: Clock) -> None:
    await registered(store, all_pairs())
    names: list[str] = []
    token = ""
    for expected in (3, 1):
        page = await listed(store, policy, clock, 3, token)
        assert len(page.audits) == expected
        assert all(audit.ranged_by_domains == 3 for audit in page.audits)
        names += [audit.name for audit in page.audits]
        token = page.next_page_token
    assert token == ""
    assert names == [f"landmarks/{name}" for name in sorted(WORLD)]
    assert not (await listed(store, policy, clock, 4)).next_page_token
    with pytest.raises(InvalidArgumentError):
        await listed(store, policy, clock, -1)
    with pytest.raises(InvalidArgumentError):
        await listed(store, policy, clock, 1, "nonsense")


async def test_no_more_contradictions_are_told_than_say_enough(
    store: Store, desk: LandmarkAudit, policy: PlacePolicy, clock: Clock
) -> None:
    names = [f"sg-{number:03}" for number in range(105)]
    await store.import_landmarks([record_of(name, SINGAPORE, "SG") for name in names] + [WORLD["jp-1"]], NOW)
    await store.record_ranges([proven(name, "jp-1", 1.0) for name in names])
    await desk.run_once()
    audit = (await listed(store, policy, clock)).audits[0]
    assert audit.name == "landmarks/jp-1"
    assert len(audit.contradictions) == 100


async def test_a_servicer_without_an_audit_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path / "bare.sqlite") as bare:
        error = await helpers.failure(bare.landmarks.ListLandmarkAudits(landmark_pb2.ListLandmarkAuditsRequest()))
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        call = bare.landmarks.Prove(metadata=(("trigpoint-dev-role", helpers.LANDMARK.path),))
        error = await helpers.failure(call.read())
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("peer", [helpers.OFFICER, helpers.LANDMARK])
async def test_a_server_audits_and_lists(tmp_path: Path, peer: Peer) -> None:
    config = load_config(helpers.init_folder(tmp_path / "server"))
    config = config.model_copy(update={"audit": Audit(run_interval_s=0.1)})
    async with helpers.running_server(tmp_path / "server", config) as running:
        await registered(running.store, all_pairs(datetime.now(NOW.tzinfo), jp_1=SINGAPORE))
        async with running.channel(peer) as channel:
            stub = landmark_pb2_grpc.LandmarkServiceStub(channel)
            async with asyncio.timeout(10):
                while True:
                    response = await stub.ListLandmarkAudits(landmark_pb2.ListLandmarkAuditsRequest())
                    if any(audit.rule for audit in response.audits):
                        break
                    await asyncio.sleep(0.05)
        assert [audit.name for audit in response.audits if audit.rule] == ["landmarks/jp-1"]
        async with running.channel(helpers.AGENT) as channel:
            stub = landmark_pb2_grpc.LandmarkServiceStub(channel)
            error = await helpers.failure(stub.ListLandmarkAudits(landmark_pb2.ListLandmarkAuditsRequest()))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED

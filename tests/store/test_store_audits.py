"""Ranges between landmarks, who is distrusted, and devices that are appraised again."""

import asyncio
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from server.store import AttestationRecord, DeviceRecord, Store, audits
from server.store.types import LandmarkPage, LocatedDevice, ProvenRange, Reappraisal
from tests.store.store_world import GERMANY, HOUR, START, deployment, device, finding, fix, landmark, load, pdi, record
from tests.two_people import deploy
from verifier.errors import Reason
from verifier.evidence.chain import DeviceKind
from verifier.license import Presence
from verifier.place.answers import DiscUse, PlaceAnswer, Told
from verifier.place.audit import AuditRule, Contradiction, Distrust, PairRange
from verifier.place.fix import Fix
from verifier.place.travel import SeenPlace
from verifier.units import Challenge, Kilometers, LandmarkId, Nanoseconds
from verifier.verdict import Finding, Standing

DAY = timedelta(hours=24)


def proven(by: str, of: str, rtt_ns: int, at: datetime = START) -> ProvenRange:
    """A range whose evidence says which it is."""
    name = f"{by} {of} {rtt_ns}".encode()
    pair = PairRange(LandmarkId(by), LandmarkId(of), Nanoseconds(rtt_ns))
    return ProvenRange(pair, at, Challenge(bytes(32)), b"receipt " + name, b"statement " + name, bytes(8))


def distrust(name: str, explanation: str = "It is elsewhere.", others: Iterable[str] = ()) -> Distrust:
    told = tuple(
        Contradiction(LandmarkId(name), LandmarkId(other), Nanoseconds(12), Kilometers(1000.1 + 0.2), Kilometers(30.5))
        for other in others
    )
    return Distrust(LandmarkId(name), AuditRule.LIGHT if told else AuditRule.COUNTRY, told, explanation)


async def with_landmarks(store: Store, *names: str) -> None:
    await store.import_landmarks([landmark(name, operator=f"operator of {name}") for name in names], START - HOUR)


async def stored(store: Store) -> dict[tuple[str, str], tuple[int, datetime]]:
    inputs = await store.load_audit_inputs()
    return {(r.pair.by, r.pair.of): (r.pair.rtt_ns, r.latest_at) for r in inputs.ranges}


def evidence(path: Path, by: str, of: str) -> tuple[bytes, bytes]:
    with closing(sqlite3.connect(path)) as database:
        query = "SELECT receipt, statement FROM landmark_ranges WHERE by_id = ? AND of_id = ?"
        receipt, statement = database.execute(query, (by, of)).fetchone()
    return receipt, statement


# ranges


async def test_of_the_ranges_of_a_pair_in_a_day_the_least_counts_with_its_evidence(
    store: Store, store_path: Path
) -> None:
    await with_landmarks(store, "a", "b")
    await store.record_ranges([proven("a", "b", 500), proven("b", "a", 700)])
    await store.record_ranges([proven("a", "b", 600, START + HOUR)])
    assert await stored(store) == {("a", "b"): (500, START + HOUR), ("b", "a"): (700, START)}
    assert evidence(store_path, "a", "b") == (b"receipt a b 500", b"statement a b 500")
    await store.record_ranges([proven("a", "b", 400, START + 2 * HOUR)])
    assert await stored(store) == {("a", "b"): (400, START + 2 * HOUR), ("b", "a"): (700, START)}
    assert evidence(store_path, "a", "b") == (b"receipt a b 400", b"statement a b 400")


async def test_after_a_day_the_least_gives_way_to_any_other(store: Store, store_path: Path) -> None:
    await with_landmarks(store, "a", "b")
    await store.record_ranges([proven("a", "b", 500)])
    await store.record_ranges([proven("a", "b", 600, START + DAY)])
    assert (await stored(store))["a", "b"] == (500, START + DAY)
    await store.record_ranges([proven("a", "b", 600, START + DAY + timedelta(microseconds=1))])
    assert (await stored(store))["a", "b"][0] == 600
    assert evidence(store_path, "a", "b") == (b"receipt a b 600", b"statement a b 600")


async def test_an_equal_range_makes_the_least_young_again(store: Store) -> None:
    await with_landmarks(store, "a", "b")
    await store.record_ranges([proven("a", "b", 500)])
    await store.record_ranges([proven("a", "b", 500, START + DAY - HOUR)])
    await store.record_ranges([proven("a", "b", 600, START + DAY + HOUR)])
    assert (await stored(store))["a", "b"][0] == 500


async def test_a_range_that_comes_late_does_not_set_the_latest_back(store: Store) -> None:
    await with_landmarks(store, "a", "b")
    await store.record_ranges([proven("a", "b", 500, START + HOUR), proven("a", "b", 300)])
    assert (await stored(store))["a", "b"] == (300, START + HOUR)


async def test_range_times_are_those_of_one_landmark(store: Store) -> None:
    await with_landmarks(store, "a", "b", "c")
    await store.record_ranges([proven("a", "b", 500), proven("c", "b", 1, START + HOUR), proven("b", "a", 2)])
    assert await store.load_range_times(LandmarkId("b")) == {"a": START, "c": START + HOUR}
    assert await store.load_range_times(LandmarkId("c")) == {}


async def test_ranges_raise_the_audits_number_and_no_other(store: Store) -> None:
    await with_landmarks(store, "a", "b")
    before = await store.records_number(), await store.change_number(), await store.audits_number()
    await store.record_ranges([proven("a", "b", 500)])
    await store.record_ranges([])
    after = await store.records_number(), await store.change_number(), await store.audits_number()
    assert after == (before[0], before[1], before[2] + 1)


# landmarks as they count


async def test_a_landmark_shows_which_domains_ranged_it_and_when(store: Store) -> None:
    names = ("a", "b", "c", "d")
    records = [landmark(name, operator=f"Operator of {'a' if name == 'b' else name}") for name in names]
    await store.import_landmarks(records, START)
    await store.record_ranges([proven("a", "d", 1), proven("b", "d", 2, START + HOUR), proven("c", "d", 3)])
    await store.record_ranges([proven("gone", "d", 3)])
    ranged_by = {str(r.landmark.landmark_id): r.landmark.ranged_by for r in await store.load_landmark_records()}
    # A domain is named after the least of its parties (docs/protocol.md PL2).
    assert ranged_by["d"] == (("hoster of a", START + HOUR), ("hoster of c", START))
    assert ranged_by["a"] == ()


async def test_who_is_distrusted_witnesses_nothing_and_says_why(store: Store) -> None:
    await with_landmarks(store, "a", "b", "c")
    await store.record_ranges([proven("a", "c", 1), proven("b", "c", 2)])
    await store.set_distrust([distrust("a")], 10**6, START)
    landmarks = {record.landmark.landmark_id: record.landmark for record in await store.load_landmark_records()}
    assert [domain for domain, _ in landmarks[LandmarkId("c")].ranged_by] == ["hoster of b"]
    assert landmarks[LandmarkId("a")].distrusted == "It is elsewhere."
    assert landmarks[LandmarkId("b")].distrusted == ""


async def test_the_import_knows_a_record_again_that_audits_say_something_of(store: Store) -> None:
    await with_landmarks(store, "a", "b")
    await store.record_ranges([proven("a", "b", 1)])
    await store.set_distrust([distrust("a")], 10**6, START)
    counts = await store.import_landmarks(await store.load_landmark_records(), START + HOUR)
    assert (counts.created, counts.updated, counts.unchanged) == (0, 0, 2)


# distrust


async def test_distrust_begins_changes_and_ends(store: Store) -> None:
    await with_landmarks(store, "a", "b", "c")
    basis = (await store.load_audit_inputs()).basis
    outcome = await store.set_distrust([distrust("a"), distrust("b", others=["a", "c"])], basis, START)
    assert [d.landmark_id for d in outcome.begun] == ["a", "b"]
    assert outcome.ended == ()
    inputs = await store.load_audit_inputs()
    assert inputs.audited_at == START
    assert inputs.distrust[LandmarkId("b")].distrust == distrust("b", others=["a", "c"])
    assert inputs.distrust[LandmarkId("b")].since == START

    basis = inputs.basis
    outcome = await store.set_distrust([distrust("b", "Still.", others=["c"])], basis, START + HOUR)
    assert outcome.begun == ()
    assert outcome.ended == ("a",)
    inputs = await store.load_audit_inputs()
    assert set(inputs.distrust) == {"b"}
    assert inputs.distrust[LandmarkId("b")].distrust == distrust("b", "Still.", others=["c"])
    assert inputs.distrust[LandmarkId("b")].since == START  # it is the same distrust

    # It can begin again.
    outcome = await store.set_distrust([distrust("a")], inputs.basis, START + 2 * HOUR)
    assert [d.landmark_id for d in outcome.begun] == ["a"]
    assert (await store.load_audit_inputs()).distrust[LandmarkId("a")].since == START + 2 * HOUR


async def test_begin_and_end_of_distrust_raise_the_records_number_and_nothing_else_does(store: Store) -> None:
    await with_landmarks(store, "a", "b")
    numbers = [await store.records_number()]
    for found in ([distrust("a")], [distrust("a", "Another.")], [distrust("a", "Another.")], []):
        await store.set_distrust(found, (await store.load_audit_inputs()).basis, START)
        numbers.append(await store.records_number())
    assert [after - before for before, after in pairwise(numbers)] == [1, 0, 0, 1]


async def test_an_audit_of_an_older_state_writes_nothing(store: Store) -> None:
    await with_landmarks(store, "a", "b")
    old = (await store.load_audit_inputs()).basis
    await store.record_ranges([proven("a", "b", 1)])
    await store.set_distrust([distrust("a")], (await store.load_audit_inputs()).basis, START)
    outcome = await store.set_distrust([], old, START + HOUR)
    assert outcome.ended == ()
    inputs = await store.load_audit_inputs()
    assert set(inputs.distrust) == {"a"}
    assert inputs.audited_at == START


async def test_two_processes_that_find_the_same_write_it_once(store: Store, store_path: Path) -> None:
    await with_landmarks(store, "a", "b")
    other = await Store.open(store_path)
    try:
        basis = (await store.load_audit_inputs()).basis
        outcomes = await asyncio.gather(
            *(each.set_distrust([distrust("a")], basis, START) for each in (store, other, store, other))
        )
        assert sum(len(outcome.begun) for outcome in outcomes) == 1
        assert await other.records_number() == await store.records_number()
        assert set((await other.load_audit_inputs()).distrust) == {"a"}
    finally:
        await other.close()


async def test_there_is_news_for_an_audit_until_one_has_looked(store: Store) -> None:
    await with_landmarks(store, "a", "b")
    assert await store.has_audit_news()
    inputs = await store.load_audit_inputs()
    await store.record_ranges([proven("a", "b", 1)])  # after the look
    await store.set_distrust([distrust("a")], inputs.basis, START)
    assert await store.has_audit_news()
    await store.set_distrust([distrust("a")], (await store.load_audit_inputs()).basis, START)
    assert not await store.has_audit_news()
    await deploy(store, [deployment(1)], START)
    assert await store.has_audit_news()


async def test_settled_distrust_is_noted(store: Store) -> None:
    await with_landmarks(store, "a", "b")
    await store.set_distrust([distrust("a"), distrust("b")], (await store.load_audit_inputs()).basis, START)
    await store.settle_distrust([LandmarkId("b")])
    settled = {name: stands.settled for name, stands in (await store.load_audit_inputs()).distrust.items()}
    assert settled == {"a": False, "b": True}


async def test_a_page_reads_the_ranges_of_its_landmarks_alone(store: Store) -> None:
    await with_landmarks(store, "a", "b", "c", "d")
    await store.record_ranges([proven("a", of, 1) for of in ("b", "c", "d")])
    inputs = await store.load_audit_inputs(LandmarkPage(LandmarkId("a"), 2))
    assert inputs.chosen == ("b", "c")
    assert {ranged.pair.of for ranged in inputs.ranges} == {"b", "c"}
    assert len(inputs.records) == 4
    assert (await store.load_audit_inputs(LandmarkPage(None, 1))).chosen == ("a",)
    assert inputs.audited_at is None


def test_a_day_in_microseconds() -> None:
    assert audits.micros_of(DAY) == 86_400_000_000


# devices that are appraised again

PROVEN, UNPROVEN, REFUTED = PlaceAnswer.PROVEN, PlaceAnswer.UNPROVEN, PlaceAnswer.REFUTED
OUTSIDE = finding(Reason.OUTSIDE_LICENSED_REGION)
NOWHERE = finding(Reason.LOCATION_UNPROVEN, "too few domains")


async def located(
    store: Store, *findings: Finding, licensed: PlaceAnswer = PROVEN, number: int = 1
) -> AttestationRecord:
    """Device 1 is deployed and has reported at START."""
    await deploy(store, [deployment(number)], START - HOUR)
    standing = Standing.VIOLATION if findings else Standing.COMPLIANT
    located = device(number, *findings, standing=standing, located=fix(licensed=licensed))
    reported = record(START, [located])
    await store.commit([reported])
    return reported


async def the_device(store: Store, number: int = 1) -> LocatedDevice:
    return next(each for each in await store.load_located() if each.pdi == pdi(number))


async def stands(store: Store, number: int = 1) -> DeviceRecord:
    found = await store.get_device(pdi(number))
    assert found is not None
    return found


async def test_what_is_located_is_every_deployed_gpu_with_a_fix(store: Store) -> None:
    await deploy(store, [deployment(1), deployment(2), deployment(5)], START)
    whole = fix()
    await store.commit(
        [
            record(START, [device(1, located=whole), device(2)]),
            record(START, [device(3, located=whole, standing=Standing.UNLICENSED)]),
            record(START, [device(4, kind=DeviceKind.SWITCH, located=whole)]),
            record(START, [device(5, located=whole)]),
        ]
    )
    found = await store.load_located()
    assert [each.pdi for each in found] == [pdi(1), pdi(5)]
    assert found[0].fix == whole
    assert found[0].presence is Presence.COUNTRY
    assert found[0].region == GERMANY
    assert [each.pdi for each in await store.load_located(limit=1)] == [pdi(1)]
    assert [each.pdi for each in await store.load_located(after=pdi(1))] == [pdi(5)]
    assert await store.load_located(after=pdi(5)) == []


async def test_a_device_is_appraised_again(store: Store) -> None:
    reported = await located(store)
    before = await store.change_number()
    told: list[None] = []
    store.on_change(lambda: told.append(None))
    again = Reappraisal(await the_device(store), None, (NOWHERE,), proven=False)
    assert await store.reappraise([again], START + HOUR) == (pdi(1),)
    shown = await stands(store)
    assert shown.standing is Standing.UNPROVEN
    assert [(each.finding, each.opened_at) for each in shown.findings] == [(NOWHERE, START + HOUR)]
    assert shown.last_fix is None
    assert shown.last_proof_at is None
    assert shown.last_report_at == START
    assert shown.last_attestation == reported.verdict.challenge
    assert [each.pdi for each in (await store.changes_after(before)).devices] == [pdi(1)]
    assert told == [None]


async def test_an_accusation_falls_with_the_landmark_and_other_findings_stand(store: Store) -> None:
    odd = finding(Reason.COUNTER_ROLLBACK)
    await located(store, OUTSIDE, odd, licensed=REFUTED)
    assert (await stands(store)).standing is Standing.VIOLATION
    left = fix(licensed=UNPROVEN)
    again = Reappraisal(await the_device(store), left, (NOWHERE,), proven=False)
    await store.reappraise([again], START + HOUR)
    shown = await stands(store)
    assert shown.standing is Standing.UNPROVEN
    assert shown.last_fix == left
    assert [(each.finding, each.opened_at) for each in shown.findings] == [
        (NOWHERE, START + HOUR),
        (odd, START),
    ]


async def test_a_finding_of_place_that_stays_stays_open_since_it_was(store: Store) -> None:
    await located(store, NOWHERE, licensed=UNPROVEN)
    other = finding(Reason.LOCATION_UNPROVEN, "no disc is left")
    await store.reappraise([Reappraisal(await the_device(store), None, (other,), proven=False)], START + HOUR)
    assert [(each.finding, each.opened_at) for each in (await stands(store)).findings] == [(other, START)]


async def test_presence_that_is_proven_without_the_landmark_is_a_proof(store: Store) -> None:
    await located(store, NOWHERE, licensed=UNPROVEN)
    assert (await stands(store)).last_proof_at is None
    await store.reappraise([Reappraisal(await the_device(store), fix(), (), proven=True)], START + HOUR)
    shown = await stands(store)
    assert shown.last_proof_at == START
    assert shown.standing is Standing.COMPLIANT
    assert shown.findings == ()


async def test_a_proof_that_falls_leaves_the_one_before(store: Store) -> None:
    await located(store)
    first = await store.get_device(pdi(1))
    assert first is not None
    states = (await load(store, pdi(1))).last
    await store.commit([record(START + HOUR, [device(1, located=fix())], based_on=states)])
    await store.reappraise([Reappraisal(await the_device(store), None, (NOWHERE,), proven=False)], START + 2 * HOUR)
    assert (await stands(store)).last_proof_at == START


async def test_a_proof_of_an_earlier_report_is_left_alone(store: Store) -> None:
    await located(store)
    states = (await load(store, pdi(1))).last
    unproven = device(1, NOWHERE, standing=Standing.UNPROVEN, located=fix(licensed=UNPROVEN))
    await store.commit([record(START + HOUR, [unproven], based_on=states)])
    await store.reappraise([Reappraisal(await the_device(store), None, (NOWHERE,), proven=False)], START + 2 * HOUR)
    assert (await stands(store)).last_proof_at == START


async def test_a_newer_verdict_is_not_overwritten(store: Store) -> None:
    await located(store, OUTSIDE, licensed=REFUTED)
    again = Reappraisal(await the_device(store), None, (NOWHERE,), proven=False)
    states = (await load(store, pdi(1))).last
    # The same fix, from another attestation.
    newer = device(1, OUTSIDE, standing=Standing.VIOLATION, located=fix(licensed=REFUTED))
    await store.commit([record(START + HOUR, [newer], based_on=states)])
    number = await store.change_number()
    assert await store.reappraise([again], START + 2 * HOUR) == ()
    assert (await stands(store)).standing is Standing.VIOLATION
    assert await store.change_number() == number


async def test_a_newer_verdict_without_a_fix_is_not_overwritten(store: Store) -> None:
    await located(store, OUTSIDE, licensed=REFUTED)
    again = Reappraisal(await the_device(store), None, (NOWHERE,), proven=False)
    states = (await load(store, pdi(1))).last
    await store.commit([record(START + HOUR, [device(1, OUTSIDE, standing=Standing.VIOLATION)], based_on=states)])
    assert await store.reappraise([again], START + 2 * HOUR) == ()


async def test_two_processes_appraise_a_device_again_once(store: Store, store_path: Path) -> None:
    await located(store)
    other = await Store.open(store_path)
    try:
        again = Reappraisal(await the_device(store), fix(licensed=UNPROVEN), (NOWHERE,), proven=False)
        changed = await asyncio.gather(*(each.reappraise([again], START + HOUR) for each in (store, other, other)))
        assert sorted(changed) == [(), (), (pdi(1),)]
    finally:
        await other.close()


async def test_a_silent_device_stays_silent(store: Store) -> None:
    await located(store)
    for minutes in range(0, 121, 1):
        await store.mark_alive("node-1", START + timedelta(minutes=minutes))
    assert (await store.watch.sweep(START + 2 * HOUR, {})).opened(Reason.SILENT) == (pdi(1),)
    await store.reappraise([Reappraisal(await the_device(store), None, (NOWHERE,), proven=False)], START + 3 * HOUR)
    shown = await stands(store)
    assert shown.standing is Standing.SILENT
    # docs/protocol.md AP5: it hides that the place is unproven.
    assert [each.finding.reason for each in shown.findings] == [Reason.SILENT]


async def test_a_finding_that_was_opened_later_than_now_does_not_end_before_it_began(store: Store) -> None:
    await located(store, OUTSIDE, licensed=REFUTED)
    await store.reappraise([Reappraisal(await the_device(store), None, (NOWHERE,), proven=False)], START - HOUR)
    assert [each.finding.reason for each in (await stands(store)).findings] == [Reason.LOCATION_UNPROVEN]


def seen(allowed: Fix, received_at: datetime = START) -> SeenPlace:
    discs = tuple((disc.position, disc.radius_km) for disc in allowed.discs)
    return SeenPlace(received_at - timedelta(seconds=5), received_at, discs)


async def place_after(store: Store, place: SeenPlace, left: Fix | None) -> SeenPlace | None:
    """Where device 1 is taken to have been once its fix, of START, is appraised again."""
    await deploy(store, [deployment(1)], START - HOUR)
    reported = device(1, located=fix())
    await store.commit([record(START, [replace(reported, state=replace(reported.state, place=place))])])
    await store.reappraise([Reappraisal(await the_device(store), left, (NOWHERE,), proven=False)], START + HOUR)
    return (await load(store, pdi(1))).last[pdi(1)].place


def with_discs(told: Fix, *discs: DiscUse) -> Fix:
    return told._replace(told=Told.of(discs, told.explanation))


TWO_DISCS = fix(licensed=UNPROVEN)
TWO_DISCS = with_discs(TWO_DISCS, TWO_DISCS.discs[0], TWO_DISCS.discs[0]._replace(radius_km=90.0))


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (TWO_DISCS, seen(TWO_DISCS)),
        (with_discs(TWO_DISCS, TWO_DISCS.discs[0]), None),
        (TWO_DISCS._replace(least_violations=2), None),
        (None, None),
    ],
)
async def test_the_next_place_is_compared_with_what_stands_now(
    store: Store, left: Fix | None, kept: SeenPlace | None
) -> None:
    """Nothing is impossible travel against a place that a distrusted landmark showed (docs/protocol.md PL10)."""
    assert await place_after(store, seen(fix()), left) == kept


async def test_a_place_of_an_earlier_fix_stays(store: Store) -> None:
    earlier = seen(fix(), START - HOUR)
    assert await place_after(store, earlier, None) == earlier

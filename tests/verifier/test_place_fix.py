"""The rule of docs/protocol.md §11: which discs settle a question, how many it takes, and what speaks against it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from tests.verifier.helpers_place import (
    LONG_AGO,
    NOW,
    PDI,
    SINGAPORE,
    WIDENING,
    atlas,
    countries,
    landmark,
    policy,
    ranged,
    rtt_for,
    travel,
)
from verifier.errors import LandmarkNotCountedError, LandmarkUnknownError, RangeError, Reason, UsageError
from verifier.place.answers import Assurance, Depths, DiscUse, PlaceAnswer, Told
from verifier.place.discs import Grade, check_landmark_counts, radius_km
from verifier.place.fix import Fix, locate
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import Region, SiteDisc
from verifier.units import Domain, Nanoseconds

PROVEN, INDICATED, REFUTED, UNPROVEN = PlaceAnswer
SITE = SiteDisc("Tuas", SINGAPORE, 500.0)
FRANKFURT = Position(50.11, 8.68)
BEIJING = Position(39.90, 116.40)
LICENSEE = "Licensee Ltd"


def near(center: Position, count: int, prefix: str, make: Callable[..., Landmark] = landmark) -> list[Landmark]:
    """Landmarks within 40 km of a place, each of its own domain."""
    return [make(f"{prefix}{k}", travel(center, 70.0 * k, 40.0)) for k in range(count)]


def find(
    ranges: Sequence[VerifiedRange],
    region: Region = SITE,
    how: PlacePolicy | None = None,
    others: Sequence[Landmark] = (),
    lifetime: timedelta = timedelta(0),
) -> tuple[Fix | None, tuple[tuple[VerifiedRange, RangeError], ...]]:
    known = {r.landmark.landmark_id: r.landmark for r in ranges} | {r.landmark_id: r for r in others}
    registry = LandmarkRegistry.build(known.values())
    return locate(ranges, region, registry, how or policy(), LICENSEE, NOW - lifetime, NOW)


def fix_of(
    ranges: Sequence[VerifiedRange],
    region: Region = SITE,
    how: PlacePolicy | None = None,
    others: Sequence[Landmark] = (),
) -> Fix:
    fix, dropped = find(ranges, region, how, others)
    assert fix is not None
    assert dropped == ()
    return fix


def licensed(ranges: Sequence[VerifiedRange], region: Region = SITE, how: PlacePolicy | None = None) -> PlaceAnswer:
    return fix_of(ranges, region, how).in_licensed_region


def outside(ranges: Sequence[VerifiedRange], how: PlacePolicy | None = None) -> PlaceAnswer:
    return fix_of(ranges, SITE, how).outside_prohibited


def discs(landmarks: Sequence[Landmark], radius_km: float) -> list[VerifiedRange]:
    return [ranged(r, radius_km) for r in landmarks]


@pytest.mark.parametrize(
    ("rtt_ns", "lifetime_s", "uncertainty_km", "km"),
    [
        (0, 0, 0, 0.0),
        (1_000_000, 0, 0, 149.896229 * 1.0002 * WIDENING),
        (10_000_000, 0, 0, 1498.96229 * 1.0002 * WIDENING),
        (0, 60, 0, 1.8 * WIDENING),
        (0, 0, 7, 7 * WIDENING),
        (2_000_000, 10, 3, (299.792458 * 1.0002 + 0.3 + 3) * WIDENING),
    ],
)
def test_the_radius_by_hand(rtt_ns: int, lifetime_s: int, uncertainty_km: float, km: float) -> None:
    assert radius_km(rtt_ns, timedelta(seconds=lifetime_s), uncertainty_km) == pytest.approx(km, rel=1e-12)


def test_a_disc_is_widened_by_the_challenges_life_and_the_landmarks_uncertainty() -> None:
    at = landmark("a", SINGAPORE, uncertainty_km=5)
    fix, _ = find([VerifiedRange(PDI, at, Nanoseconds(1_000_000))], lifetime=timedelta(seconds=50))
    assert fix is not None
    assert fix.discs[0].radius_km == pytest.approx((149.896229 * 1.0002 + 1.5 + 5) * WIDENING)


def test_two_domains_prove_presence_and_one_does_not() -> None:
    a, b, _ = near(SINGAPORE, 3, "s")
    assert licensed(discs([a], 100)) is UNPROVEN
    assert licensed(discs([a, b], 100)) is PROVEN


@pytest.mark.parametrize(("tolerated", "needed"), [(1, 2), (2, 3), (3, 4)])
def test_a_proof_needs_one_domain_more_than_may_be_wrong(tolerated: int, needed: int) -> None:
    how = policy(tolerated)
    found = near(SINGAPORE, needed, "s")
    assert licensed(discs(found[:-1], 100), how=how) is UNPROVEN
    assert licensed(discs(found, 100), how=how) is PROVEN
    assert outside(discs(found[:-1], 100), how) is UNPROVEN
    assert outside(discs(found, 100), how) is PROVEN


def test_without_tolerance_a_place_is_only_indicated() -> None:
    found = near(SINGAPORE, 3, "s")
    for count in (1, 2, 3):
        fix = fix_of(discs(found[:count], 100), how=policy(0))
        assert fix.in_licensed_region is INDICATED
        assert fix.outside_prohibited is INDICATED
        assert not fix.settled


def test_two_landmarks_of_one_domain_count_once() -> None:
    a, b, c = near(SINGAPORE, 3, "s")
    a, b = replace(a, operator="Acme Net"), replace(b, hoster="ACME  net")
    fix = fix_of(discs([a, b], 100))
    assert (fix.in_licensed_region, fix.outside_prohibited) == (UNPROVEN, UNPROVEN)
    assert len(fix.discs) == 1
    assert licensed(discs([a, b, c], 100)) is PROVEN


def test_domains_that_merge_through_a_landmark_that_was_not_asked_count_once() -> None:
    a, b, between = near(SINGAPORE, 3, "s")
    between = replace(between, operator=a.operator, hoster=b.hoster)
    assert fix_of(discs([a, b], 100)).in_licensed_region is PROVEN
    assert fix_of(discs([a, b], 100), others=[between]).in_licensed_region is UNPROVEN


def test_two_landmarks_of_one_domain_accuse_once() -> None:
    a, b, c = near(FRANKFURT, 3, "e")
    a, b = replace(a, operator="Acme"), replace(b, operator="Acme")
    assert licensed(discs([a, b], 100)) is UNPROVEN
    assert licensed(discs([a, b, c], 100)) is REFUTED


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_a_domain_is_its_smallest_disc(order: tuple[int, ...]) -> None:
    a, b = (replace(r, operator="Acme") for r in near(SINGAPORE, 2, "s"))
    told = [ranged(a, 900), ranged(b, 120), ranged(b, 300)]
    fix = fix_of([told[k] for k in order])
    assert [(d.landmark_id, d.rtt_ns) for d in fix.discs] == [("s1", rtt_for(120))]
    assert fix.discs[0].domain == "acme"


def test_a_disc_that_reaches_over_the_sites_rim_proves_nothing() -> None:
    a, b = near(SINGAPORE, 2, "s")
    reach = 500 / WIDENING - 40
    assert licensed([ranged(a, reach - 0.1), ranged(b, reach - 0.1)]) is PROVEN
    assert licensed([ranged(a, reach + 0.1), ranged(b, reach - 0.1)]) is INDICATED  # light in fibre is slower


def test_a_landmark_outside_proves_no_presence_however_small_its_disc() -> None:
    assert licensed(discs(near(FRANKFURT, 4, "e"), 60)) is REFUTED
    assert licensed(discs(near(travel(SINGAPORE, 90, 580), 4, "w"), 130)) is UNPROVEN


def test_virtual_machines_do_not_prove_a_site_but_a_country() -> None:
    a, b, c = near(SINGAPORE, 3, "s")
    a = replace(a, virtual_machine=True)
    assert licensed(discs([a, b], 100)) is UNPROVEN
    assert licensed(discs([a, b, c], 100)) is PROVEN
    heart = near(Position(-25, 134), 2, "au")
    machines = [replace(r, virtual_machine=True) for r in heart]
    assert licensed(discs(machines, 100), countries("AU")) is PROVEN
    assert outside(discs([a, b], 100)) is PROVEN


def test_virtual_machines_accuse_like_others() -> None:
    machines = [replace(r, virtual_machine=True) for r in near(FRANKFURT, 2, "e")]
    fix = fix_of(discs(machines, 100))
    assert fix.in_licensed_region is REFUTED
    assert not any(d.may_prove_site for d in fix.discs)


def test_a_young_record_proves() -> None:
    young = [replace(r, revised_at=NOW) for r in near(SINGAPORE, 2, "s")]
    fix = fix_of(discs(young, 100))
    assert (fix.in_licensed_region, fix.outside_prohibited) == (PROVEN, PROVEN)
    assert not any(d.may_accuse for d in fix.discs)


@pytest.mark.parametrize(("tolerated", "needed"), [(0, 1), (1, 2), (2, 3)])
def test_a_refutation_needs_one_domain_more_than_may_be_wrong(tolerated: int, needed: int) -> None:
    found = near(FRANKFURT, needed, "e")
    assert licensed(discs(found, 100), how=policy(tolerated)) is REFUTED
    if tolerated:
        assert licensed(discs(found[:-1], 100), how=policy(tolerated)) is UNPROVEN


def test_a_device_in_beijing_is_not_outside_prohibited_destinations() -> None:
    found = near(BEIJING, 2, "c")
    fix = fix_of(discs(found, 100))
    assert (fix.in_licensed_region, fix.outside_prohibited) == (REFUTED, REFUTED)
    assert all(d.within_prohibited and not d.excludes_prohibited for d in fix.discs)
    assert outside(discs(found[:1], 100)) is UNPROVEN
    assert outside(discs(found, 3000)) is UNPROVEN


def test_an_accusation_waits_until_the_landmarks_record_has_stood() -> None:
    a, b = near(FRANKFURT, 2, "e")
    c, d = near(BEIJING, 2, "c")
    stood, young = NOW - timedelta(days=30), NOW - timedelta(days=30) + timedelta(microseconds=1)
    for one, other, answer in ((stood, stood, REFUTED), (stood, young, UNPROVEN), (young, young, UNPROVEN)):
        e, f = replace(a, revised_at=one), replace(b, revised_at=other)
        assert licensed(discs([e, f], 100)) is answer
        g, h = replace(c, revised_at=one), replace(d, revised_at=other)
        assert outside(discs([g, h], 100)) is answer
    today = [replace(a, revised_at=NOW), replace(b, revised_at=NOW)]
    assert licensed(discs(today, 100), how=policy(standing_for=timedelta(0))) is REFUTED


def test_a_disc_that_touches_the_region_refutes_nothing() -> None:
    a, b = (landmark(f"w{k}", travel(SINGAPORE, 180 * k, 2000)) for k in range(2))
    gap = 2000 - 500 * WIDENING
    assert licensed([ranged(a, gap + 0.1), ranged(b, 100)]) is UNPROVEN
    assert fix_of([ranged(a, gap - 0.1)]).discs[0].excludes_licensed_region
    assert not fix_of([ranged(a, gap + 0.1)]).discs[0].excludes_licensed_region


def test_a_proof_survives_one_domain_that_contradicts_it() -> None:
    fix = fix_of([*discs(near(SINGAPORE, 2, "s"), 100), *discs(near(FRANKFURT, 1, "e"), 100)])
    assert fix.least_violations == 1
    assert fix.contradicting == tuple(d.domain for d in fix.discs if d.landmark_id == "e0")
    assert fix_of(discs(near(SINGAPORE, 2, "s"), 100)).contradicting == ()
    assert (fix.in_licensed_region, fix.outside_prohibited) == (PROVEN, PROVEN)


def test_an_accusation_needs_one_domain_more_for_each_violation() -> None:
    liar = discs(near(SINGAPORE, 1, "s"), 100)
    fix = fix_of([*discs(near(FRANKFURT, 2, "e"), 100), *liar])
    assert (fix.least_violations, fix.in_licensed_region) == (1, UNPROVEN)
    fix = fix_of([*discs(near(FRANKFURT, 3, "e"), 100), *liar])
    assert (fix.least_violations, fix.in_licensed_region) == (1, REFUTED)
    liar = discs(near(SINGAPORE, 2, "s"), 100)
    fix = fix_of([*discs(near(FRANKFURT, 4, "e"), 100), *liar], how=policy(2))
    assert (fix.least_violations, fix.in_licensed_region) == (2, UNPROVEN)
    fix = fix_of([*discs(near(FRANKFURT, 5, "e"), 100), *liar], how=policy(2))
    assert (fix.least_violations, fix.in_licensed_region) == (2, REFUTED)


def test_nothing_is_said_when_more_is_wrong_than_is_allowed_for() -> None:
    both = [*discs(near(SINGAPORE, 2, "s"), 100), *discs(near(FRANKFURT, 2, "e"), 100)]
    fix = fix_of(both)
    assert fix.least_violations == 2
    assert (fix.in_licensed_region, fix.outside_prohibited) == (UNPROVEN, UNPROVEN)
    assert "contradict each other" in fix.explanation
    assert "at least 2 of 4 discs" in fix.explanation
    assert "at most 1 may be wrong" in fix.explanation
    accusing = [*discs(near(FRANKFURT, 8, "e"), 100), *discs(near(BEIJING, 2, "c"), 100)]
    fix = fix_of(accusing)  # ten domains exclude the site, yet two of them cannot be right
    assert (fix.least_violations, fix.in_licensed_region, fix.outside_prohibited) == (2, UNPROVEN, UNPROVEN)
    single = [*discs(near(SINGAPORE, 1, "s"), 100), *discs(near(FRANKFURT, 1, "e"), 100)]
    fix = fix_of(single, how=policy(0))
    assert (fix.least_violations, fix.in_licensed_region, fix.outside_prohibited) == (1, UNPROVEN, UNPROVEN)


def test_borders_are_taken_nearer_than_drawn_and_sites_are_not() -> None:
    australia, center = countries("AU"), Position(-25, 134)
    a, b = near(center, 2, "au")
    least = min(atlas().distances(australia, r.position).to_complement_km for r in (a, b))
    assert licensed(discs([a, b], least - 0.1), australia, policy(margin_km=0)) is PROVEN
    assert licensed(discs([a, b], least - 0.1), australia, policy(margin_km=5)) is INDICATED
    assert licensed(discs([a, b], least - 5.1), australia, policy(margin_km=5)) is PROVEN
    assert licensed(discs(near(SINGAPORE, 2, "s"), 450), how=policy(margin_km=100)) is PROVEN
    away = [landmark(f"w{k}", travel(SINGAPORE, 5.0 * k, 2000)) for k in range(2)]
    gap = 2000 - 500 * WIDENING
    assert licensed(discs(away, gap - 0.1), how=policy(margin_km=300)) is REFUTED


def test_the_margin_guards_accusations_and_prohibited_destinations_too() -> None:
    a, b = near(FRANKFURT, 2, "e")
    least = min(atlas().distances(countries("SG"), r.position).to_region_km for r in (a, b))
    for radius, margin, answer in ((-0.1, 0, REFUTED), (-0.1, 5, UNPROVEN), (-5.1, 5, REFUTED)):
        assert licensed(discs([a, b], least + radius), countries("SG"), policy(margin_km=margin)) is answer
    s = near(SINGAPORE, 2, "s")
    least = min(atlas().distances(policy().prohibited, r.position).to_region_km for r in s)
    for radius, margin, answer in ((-0.1, 0, PROVEN), (-0.1, 5, INDICATED), (-5.1, 5, PROVEN)):
        assert outside(discs(s, least + radius), policy(margin_km=margin)) is answer
    c = near(BEIJING, 2, "c")
    least = min(atlas().distances(policy().prohibited, r.position).to_complement_km for r in c)
    for radius, margin, answer in ((-0.1, 0, REFUTED), (-0.1, 5, UNPROVEN), (-5.1, 5, REFUTED)):
        assert outside(discs(c, least + radius), policy(margin_km=margin)) is answer


def counts(at: Landmark, how: PlacePolicy, others: Sequence[Landmark] = (), licensee: str = LICENSEE) -> None:
    check_landmark_counts(at, LandmarkRegistry.build([at, *others]), how, licensee, NOW)


DAY = timedelta(hours=24)
AUDITED = policy(audited_within=DAY)


@pytest.mark.parametrize(
    ("ranged_by", "counting"),
    [
        ((), False),
        ([("x", NOW)], False),
        ([("x", NOW), ("y", NOW)], True),
        ([("x", NOW - DAY), ("y", NOW - DAY)], True),
        ([("x", NOW), ("y", NOW - DAY - timedelta(microseconds=1))], False),
        ([("x", NOW), ("own", NOW)], False),
        ([("x", NOW), ("own", NOW), ("y", NOW)], True),
        ([("x", NOW), ("x", NOW - timedelta(hours=1))], False),
    ],
)
def test_a_landmark_counts_while_enough_other_domains_have_ranged_it_lately(
    ranged_by: Sequence[tuple[str, datetime]],
    counting: bool,  # noqa: FBT001  (a column of the table)
) -> None:
    at = landmark("a", SINGAPORE, operator="own", hoster="own", ranged_by=ranged_by)
    if counting:
        counts(at, AUDITED)
        return
    with pytest.raises(LandmarkNotCountedError) as caught:
        counts(at, AUDITED)
    assert caught.value.reason is Reason.LANDMARK_NOT_COUNTED
    counts(at, policy(audited_within=None))


@pytest.mark.parametrize(
    ("tolerated", "witnesses", "told"),
    [
        (0, 0, "a was ranged by 0 other domains lately; 1 is needed"),
        (1, 1, "a was ranged by 1 other domain lately; 2 are needed"),
        (2, 2, "a was ranged by 2 other domains lately; 3 are needed"),
    ],
)
def test_how_many_have_ranged_a_landmark_is_told_in_words_that_agree(tolerated: int, witnesses: int, told: str) -> None:
    at = landmark("a", SINGAPORE, ranged_by=[(f"w{k}", NOW) for k in range(witnesses)])
    with pytest.raises(LandmarkNotCountedError) as caught:
        counts(at, policy(tolerated, audited_within=DAY))
    assert str(caught.value) == told


@pytest.mark.parametrize("tolerated", [0, 1, 2, 3])
def test_as_many_domains_must_have_ranged_a_landmark_as_a_proof_needs(tolerated: int) -> None:
    how = policy(tolerated, audited_within=DAY)
    witnesses = [(f"w{k}", NOW) for k in range(tolerated + 1)]
    counts(landmark("a", SINGAPORE, ranged_by=witnesses), how)
    with pytest.raises(LandmarkNotCountedError):
        counts(landmark("a", SINGAPORE, ranged_by=witnesses[:-1]), how)


def test_an_audit_gates_proof_and_accusation() -> None:
    for center, answer in ((SINGAPORE, PROVEN), (FRANKFURT, REFUTED)):
        audited = [
            replace(r, ranged_by=landmark("x", r.position, ranged_by=_two()).ranged_by) for r in near(center, 2, "s")
        ]
        assert licensed(discs(audited, 100), how=AUDITED) is answer
        fix, dropped = find(discs([audited[0], replace(audited[1], ranged_by=())], 100), how=AUDITED)
        assert fix is not None
        assert fix.in_licensed_region is UNPROVEN
        assert [(v.landmark.landmark_id, e.reason) for v, e in dropped] == [("s1", Reason.LANDMARK_NOT_COUNTED)]


def test_a_record_that_its_operator_did_not_sign_proves_and_accuses_nobody() -> None:
    for center, signed_answer, answer in ((SINGAPORE, PROVEN, PROVEN), (FRANKFURT, REFUTED, UNPROVEN)):
        a, b = (
            replace(r, ranged_by=landmark("x", r.position, ranged_by=_two()).ranged_by) for r in near(center, 2, "s")
        )
        assert licensed(discs([a, b], 100), how=AUDITED) is signed_answer
        for some in ([replace(a, signed=False), b], [a, replace(b, signed=False)]):
            assert licensed(discs(some, 100), how=AUDITED) is answer
            fix = fix_of(discs(some, 100), how=AUDITED)
            assert {str(d.landmark_id) for d in fix.discs if d.may_accuse} == {
                str(r.landmark_id) for r in some if r.signed
            }
            # A demonstration asks for no signature.
            assert (
                licensed(discs(some, 100), how=policy(audited_within=DAY, standing_for=timedelta(0))) is signed_answer
            )
            assert licensed(discs(some, 100), how=policy(audited_within=None)) is signed_answer


def _two() -> list[tuple[str, datetime]]:
    return [("x", NOW), ("y", NOW)]


@pytest.mark.parametrize("party", ["operator", "hoster"])
def test_the_licensees_own_landmarks_count_neither_for_nor_against_it(party: str) -> None:
    for center in (SINGAPORE, FRANKFURT):
        a, b = near(center, 2, "s")
        own = replace(b, operator="LICENSEE  ltd") if party == "operator" else replace(b, hoster="LICENSEE  ltd")
        fix, dropped = find(discs([a, own], 100))
        assert fix is not None
        assert fix.in_licensed_region is UNPROVEN
        assert [d.landmark_id for d in fix.discs] == ["s0"]
        assert [(v.landmark.landmark_id, e.reason) for v, e in dropped] == [("s1", Reason.LANDMARK_NOT_COUNTED)]


def test_landmarks_of_the_licensees_domain_do_not_count_either() -> None:
    a, b, own = near(SINGAPORE, 3, "s")
    own = replace(own, operator=LICENSEE, hoster=b.hoster)
    counts(b, policy())
    with pytest.raises(LandmarkNotCountedError):
        counts(b, policy(), [own])
    fix, dropped = find(discs([a, b], 100), others=[own])
    assert fix is not None
    assert fix.in_licensed_region is UNPROVEN
    assert len(dropped) == 1


@pytest.mark.parametrize(
    "validity", [{"valid_until": NOW}, {"valid_from": NOW + timedelta(seconds=1)}, {"valid_until": LONG_AGO}]
)
def test_a_landmark_whose_record_is_not_valid_now_is_unknown(validity: dict[str, object]) -> None:
    a, b = near(SINGAPORE, 2, "s")
    expired = replace(b, **validity)  # type: ignore[arg-type]
    with pytest.raises(LandmarkUnknownError) as caught:
        counts(expired, policy())
    assert caught.value.reason is Reason.LANDMARK_UNKNOWN
    fix, dropped = find(discs([a, expired], 100))
    assert fix is not None
    assert fix.in_licensed_region is UNPROVEN
    assert [e.reason for _, e in dropped] == [Reason.LANDMARK_UNKNOWN]


def test_without_a_range_that_counts_there_is_no_fix() -> None:
    assert find([]) == (None, ())
    told = discs([replace(r, operator=LICENSEE) for r in near(SINGAPORE, 2, "s")], 100)
    fix, dropped = find(told)
    assert fix is None
    assert [v for v, _ in dropped] == told


def test_the_defaults_of_a_policy_are_those_of_the_design() -> None:
    given_ = policy()
    plain = PlacePolicy(given_.atlas, given_.prohibited, "v")
    assert plain.tolerated_domains == 1
    assert plain.audited_within == timedelta(hours=24)
    assert plain.standing_for == timedelta(days=30)
    assert plain.border_margin_km == 5
    assert not plain.demonstration


@pytest.mark.parametrize(
    ("audited_within", "standing_for", "demonstration"),
    [
        (DAY, timedelta(days=30), False),
        (DAY, timedelta(days=1), False),
        (DAY, timedelta(days=1) - timedelta(microseconds=1), True),
        (DAY, timedelta(0), True),
        (None, timedelta(days=30), True),
        (None, timedelta(0), True),
    ],
)
def test_a_policy_without_audit_or_standing_is_a_demonstration(
    audited_within: timedelta | None,
    standing_for: timedelta,
    demonstration: bool,  # noqa: FBT001
) -> None:
    how = policy(audited_within=audited_within, standing_for=standing_for)
    assert how.demonstration is demonstration
    audited = [
        replace(r, ranged_by=landmark("x", r.position, ranged_by=_two()).ranged_by) for r in near(SINGAPORE, 2, "s")
    ]
    assert fix_of(discs(audited, 100), how=how).demonstration is demonstration


@pytest.mark.parametrize("bad", [{"tolerated": -1}, {"margin_km": -0.1}, {"standing_for": timedelta(microseconds=-1)}])
def test_a_policy_has_no_negative_numbers(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="negative"):
        policy(**bad)  # type: ignore[arg-type]


def test_a_fix_carries_what_it_was_worked_out_from() -> None:
    a, b = near(SINGAPORE, 2, "s")
    fix = fix_of([ranged(a, 300), ranged(b, 100)], how=policy(1, margin_km=3))
    assert fix.ranged_by == PDI
    assert fix.assurance is Assurance.DEVICE_RANGED
    assert [d.landmark_id for d in fix.discs] == ["s1", "s0"]  # smallest first
    assert (fix.tolerated_domains, fix.least_violations, fix.border_margin_km) == (1, 0, 3)
    assert (fix.borders_version, fix.prohibited_version) == ("country-coder-5.6.1", "groups of today")
    disc = fix.discs[0]
    assert disc == DiscUse(
        landmark_id=b.landmark_id,
        domain=disc.domain,
        rtt_ns=rtt_for(100, b.position.latitude),
        radius_km=radius_km(disc.rtt_ns, timedelta(0), 0, latitude=b.position.latitude),
        licensed_region_km=atlas().distances(SITE, b.position).to_region_km,
        prohibited_km=atlas().distances(policy().prohibited, b.position).to_region_km,
        excludes_licensed_region=False,
        within_licensed_region=True,
        excludes_prohibited=True,
        within_prohibited=False,
        may_accuse=True,
        may_prove_site=True,
        position=b.position,
        landmark_revision=1,
        fibre_radius_km=disc.fibre_radius_km,
    )
    fibre_km = radius_km(disc.rtt_ns, timedelta(0), 0, Grade.FIBRE, b.position.latitude)
    # The way at the fibre grade is shorter, so that it cannot reach quite as far to the equator.
    assert disc.fibre_radius_km == pytest.approx(fibre_km, rel=1e-4)
    assert disc.fibre_radius_km >= fibre_km
    assert disc.prohibited_km > 1000
    assert fix.licensed_depths == Depths(0, 2, 0, by_several=False)
    assert fix.outside_depths == Depths(0, 2, 0, by_several=False)


@pytest.mark.parametrize("first", list(PlaceAnswer))
@pytest.mark.parametrize("second", list(PlaceAnswer))
def test_a_fix_is_settled_when_both_questions_are_proven_or_refuted(first: PlaceAnswer, second: PlaceAnswer) -> None:
    fix = fix_of(discs(near(SINGAPORE, 1, "s"), 100))._replace(in_licensed_region=first, outside_prohibited=second)
    assert fix.settled is ({first, second} <= {PROVEN, REFUTED})


def test_the_numbers_of_answers_are_those_of_the_schema() -> None:
    assert [(a.name, a.value) for a in PlaceAnswer] == [
        ("PROVEN", 1),
        ("INDICATED", 2),
        ("REFUTED", 3),
        ("UNPROVEN", 4),
    ]
    assert int(Assurance.DEVICE_RANGED) == 1


def test_a_proof_is_explained_by_landmarks_milliseconds_and_kilometers() -> None:
    fix = fix_of(discs(near(SINGAPORE, 2, "s"), 150))
    for name, heard in ((d.landmark_id, d.rtt_ns) for d in fix.discs):
        ms = f"{heard / 1e6:.2f} ms"
        assert f"{name} heard the device in {ms}, so it is within 150 km of it" in fix.explanation
    assert "All of that lies in the licensed region, site Tuas (500 km around 1.29, 103.85)." in fix.explanation
    s0, s1 = (math.floor(d.prohibited_km) for d in fix.discs)
    names = " and ".join(d.landmark_id for d in fix.discs)
    assert f"The nearest prohibited destination is {s0:,} and {s1:,} km away from {names}: out of" in fix.explanation
    indicated = fix_of(discs(near(SINGAPORE, 2, "s"), 150), how=policy(0))
    assert "All of that lies in the licensed region" in indicated.explanation
    assert "out of reach" in indicated.explanation


def test_a_refutation_is_explained_by_those_that_may_accuse() -> None:
    a, b, c = near(FRANKFURT, 3, "e")
    fix = fix_of([ranged(replace(a, revised_at=NOW), 90), ranged(b, 120), ranged(c, 140)])
    assert fix.in_licensed_region is REFUTED
    first = fix.explanation.split(" The nearest prohibited")[0]
    assert "e0" not in first
    assert f"e1 heard the device in {rtt_for(120) / 1e6:.2f} ms, so it is within 120 km of it;" in fix.explanation
    distances = [math.floor(d.licensed_region_km) for d in fix.discs[1:]]
    assert all(9000 < d < 11000 for d in distances)
    expected = f"The licensed region, {SITE}, is {distances[0]:,} and {distances[1]:,} km away from them."
    assert expected in fix.explanation
    young = replace(near(BEIJING, 1, "c")[0], revised_at=NOW)
    beijing = [replace(r, landmark_id=f"d{k}") for k, r in enumerate(near(BEIJING, 3, "c")) if k]  # type: ignore[arg-type]
    fix = fix_of([ranged(young, 80), *discs(beijing, 100)])
    assert fix.outside_prohibited is REFUTED
    assert fix.explanation.endswith(" All of that lies in prohibited destinations.")
    assert "c0" not in fix.explanation


def test_an_answer_is_explained_by_those_alone_that_show_it() -> None:
    a, b, c = near(FRANKFURT, 3, "e")
    fix = fix_of([*discs([a, b], 100), ranged(c, 15_000)])
    assert fix.in_licensed_region is REFUTED
    assert "e2" not in fix.explanation.split(" The nearest prohibited")[0]
    a, b, c = near(SINGAPORE, 3, "s")
    fix = fix_of([*discs([a, b], 100), ranged(c, 3000)])
    assert fix.in_licensed_region is PROVEN
    assert "s2" not in fix.explanation
    a, b, c = near(BEIJING, 3, "c")
    fix = fix_of([*discs([a, b], 100), ranged(c, 3000)])
    assert fix.outside_prohibited is REFUTED
    assert "c2" not in fix.explanation.split(" away from them. ")[1]
    a, b = near(Position(-25, 134), 2, "au")
    fix = fix_of([ranged(replace(a, virtual_machine=True), 90), ranged(b, 100)], countries("AU"))
    assert fix.in_licensed_region is PROVEN
    assert "au0 heard" in fix.explanation  # a virtual machine may prove a country


def test_an_open_question_is_explained_by_the_two_smallest_discs() -> None:
    a, b, c = near(SINGAPORE, 3, "s")
    fix = fix_of([ranged(c, 5000), ranged(a, 3000), ranged(b, 4000)])
    assert (fix.in_licensed_region, fix.outside_prohibited) == (UNPROVEN, UNPROVEN)
    assert f"s0 heard the device in {rtt_for(3000) / 1e6:.2f} ms, so it is within 3,000 km of it; s1" in fix.explanation
    assert "s2" not in fix.explanation
    assert "it takes 2 independent landmark domains." in fix.explanation
    assert fix.explanation.endswith(" Whether it is outside prohibited destinations is not proven either way.")


def test_an_explanation_names_at_most_three_landmarks() -> None:
    fix = fix_of([ranged(at, 150 + k) for k, at in enumerate(near(SINGAPORE, 5, "s"))])
    assert "away from s0, s1 and s2: out of reach." in fix.explanation
    assert "s3" not in fix.explanation


def test_a_witness_of_the_future_does_not_count() -> None:
    seen = tuple((Domain(name), NOW + timedelta(days=1)) for name in ("x", "y", "z"))
    dated = replace(landmark("a", SINGAPORE), ranged_by=seen)
    with pytest.raises(LandmarkNotCountedError):
        check_landmark_counts(dated, LandmarkRegistry.build([dated]), policy(audited_within=DAY), LICENSEE, NOW)


def test_witnesses_of_one_merged_domain_count_once() -> None:
    joint = replace(landmark("joint", BEIJING), operator="Acme", hoster="Beta")
    seen = tuple((Domain(name), NOW) for name in ("acme", "beta"))
    audited = replace(landmark("a", SINGAPORE), ranged_by=seen)
    for others, counts in (([], True), ([joint], False)):
        registry = LandmarkRegistry.build([audited, *others])
        if counts:
            check_landmark_counts(audited, registry, policy(audited_within=DAY), LICENSEE, NOW)
            continue
        with pytest.raises(LandmarkNotCountedError):
            check_landmark_counts(audited, registry, policy(audited_within=DAY), LICENSEE, NOW)


def test_prohibited_destinations_need_a_shape() -> None:
    with pytest.raises(UsageError, match="XX"):
        PlacePolicy(atlas(), countries("CN", "XX"), "test")


def test_a_site_proof_does_not_name_virtual_machines() -> None:
    a, b, c = near(SINGAPORE, 3, "s")
    fix = fix_of([ranged(replace(a, virtual_machine=True), 60), ranged(b, 100), ranged(c, 100)])
    assert fix.in_licensed_region is PROVEN
    assert "s0" not in fix.explanation.split(" All of that")[0]


def test_what_is_told_is_worked_out_once_and_compared_by_what_it_says() -> None:
    asked: list[int] = []

    def tell() -> tuple[tuple[DiscUse, ...], str]:
        asked.append(1)
        return (), "because"

    told = Told(tell)
    assert not asked
    assert told == Told.of((), "because") != Told.of((), "for another reason")
    assert told.both() == ((), "because")
    assert hash(told) == hash(Told.of((), "because"))
    assert repr(told) == "Told((), 'because')"
    assert told != "because"
    assert asked == [1]

"""Several discs together, light in fibre, and who may say what (docs/protocol.md PL3 to PL6)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest

from tests.verifier.helpers_place import (
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
from verifier.errors import LandmarkNotCountedError, RangeError, Reason
from verifier.place import discs as discs_module
from verifier.place.answers import Depths, PlaceAnswer
from verifier.place.depth import depth_reaches
from verifier.place.discs import FIBRE_SHARE, Grade, discs_of, may_accuse, radius_km
from verifier.place.fix import Fix, discs_of_fix, fix_without, locate
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.question import Settled, settle
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import AnyOf, Atlas, Complement, Group, Polygon, Region, SiteDisc
from verifier.place.shapes import BEND_KM
from verifier.units import Domain

PROVEN, INDICATED, REFUTED, UNPROVEN = PlaceAnswer
SITE = SiteDisc("Tuas", SINGAPORE, 500.0)
FRANKFURT = Position(50.11, 8.68)
LICENSEE = "Licensee Ltd"
DAY = timedelta(hours=24)


def located(
    ranges: Sequence[VerifiedRange], region: Region = SITE, how: PlacePolicy | None = None, now: datetime = NOW
) -> tuple[Fix | None, tuple[tuple[VerifiedRange, RangeError], ...]]:
    registry = LandmarkRegistry.build({r.landmark.landmark_id: r.landmark for r in ranges}.values())
    return locate(ranges, region, registry, how or policy(), LICENSEE, now, now)


def fix_of(ranges: Sequence[VerifiedRange], region: Region = SITE, how: PlacePolicy | None = None) -> Fix:
    fix, dropped = located(ranges, region, how)
    assert fix is not None
    assert dropped == ()
    return fix


def licensed(ranges: Sequence[VerifiedRange], region: Region = SITE, how: PlacePolicy | None = None) -> PlaceAnswer:
    return fix_of(ranges, region, how).in_licensed_region


def at(name: str, bearing: float, away_km: float, radius_km: float, center: Position = SINGAPORE) -> VerifiedRange:
    """A range of a landmark that stands so far away in this direction."""
    return ranged(landmark(name, travel(center, bearing, away_km)), radius_km)


def three(center: Position = SINGAPORE, away_km: float = 800.0, radius_km: float = 850.0) -> list[VerifiedRange]:
    """Three discs around a place: each reaches 1,650 km far, two of them together less than 900 km."""
    return [at(f"t{k}", 120.0 * k, away_km, radius_km, center) for k in range(3)]


def bent(verified: VerifiedRange, **change: Any) -> VerifiedRange:
    """The range of a landmark whose record says something else."""
    return replace(verified, landmark=replace(verified.landmark, **change))


def machine(verified: VerifiedRange) -> VerifiedRange:
    return bent(verified, virtual_machine=True)


def young(verified: VerifiedRange) -> VerifiedRange:
    return bent(verified, revised_at=NOW)


# a small world of squares


MIDDLE = Position(0, 0)


@cache
def squares() -> PlacePolicy:
    """AA is a square of 20 degrees; BB lies in three parts beyond, where one disc of `three` reaches, and no two."""
    parts = [travel(MIDDLE, 120.0 * k, 1450) for k in range(3)]
    shapes = {
        "AA": [_box(MIDDLE, 10)],
        "BB": [_box(p, 0.5) for p in parts],
        "CC": [_box(Position(60, 60), 1)],
        "HK": [_box(Position(-60, 60), 1)],
    }
    features = [
        {"properties": {"iso1A2": code}, "geometry": {"type": "MultiPolygon", "coordinates": polygons}}
        for code, polygons in shapes.items()
    ]
    own = Atlas.parse(json.dumps({"features": features}).encode(), "squares", {"A:5": countries("AA").codes})
    return PlacePolicy(own, countries("BB"), "test", audited_within=None)


def _box(center: Position, half_deg: float) -> list[list[list[float]]]:
    x, y, h = center.longitude, center.latitude, half_deg
    return [[[x - h, y - h], [x + h, y - h], [x + h, y + h], [x - h, y + h], [x - h, y - h]]]


# several discs prove


@pytest.mark.parametrize("region", [countries("AA"), Group("A:5"), AnyOf((countries("AA"), countries("CC")))], ids=str)
def test_three_discs_prove_a_country_though_none_of_them_alone_does(region: Region) -> None:
    fix = fix_of(three(MIDDLE), region, squares())
    assert fix.in_licensed_region is PROVEN
    assert fix.licensed_depths == Depths(0, 2, 0, by_several=True)
    assert not any(d.within_licensed_region for d in fix.discs)
    told = "Together they leave no place outside the licensed region"
    assert told in fix.explanation
    for few in (three(MIDDLE)[:2], three(MIDDLE)[:1]):
        assert fix_of(few, region, squares()).in_licensed_region is not PROVEN


def test_three_discs_show_that_no_prohibited_destination_is_in_reach_of_two() -> None:
    fix = fix_of(three(MIDDLE), countries("AA"), squares())
    assert fix.outside_prohibited is PROVEN
    assert fix.outside_depths == Depths(0, 2, 0, by_several=True)
    assert not any(d.excludes_prohibited for d in fix.discs)
    assert "No prohibited destination is within reach of all of t0, t1 and t2 but 1." in fix.explanation


def test_three_discs_prove_a_site() -> None:
    wide = SiteDisc("wide", SINGAPORE, 1200.0)
    fix = fix_of(three(), wide)
    assert (fix.in_licensed_region, fix.licensed_depths.by_several) == (PROVEN, True)
    assert licensed(three(), SiteDisc("narrow", SINGAPORE, 850.0)) is not PROVEN
    assert licensed(three(), wide, policy(2)) is not PROVEN  # f + 1 = 3 would be needed
    assert "t0 heard" in fix.explanation


AREA = Polygon("yard", (((93.0, -9.5), (114.5, -9.5), (114.5, 12.0), (93.0, 12.0)),))


@pytest.mark.parametrize("region", [SiteDisc("wide", SINGAPORE, 1200.0), AREA, AnyOf((AREA, countries("AU")))], ids=str)
def test_a_virtual_machine_has_no_say_in_the_proof_of_a_site_or_a_drawn_area(region: Region) -> None:
    told = three()
    assert fix_of(told, region).licensed_depths == Depths(0, 2, 0, by_several=True)
    for k in range(3):
        mixed = [machine(r) if j == k else r for j, r in enumerate(told)]
        fix = fix_of(mixed, region)
        assert fix.in_licensed_region is not PROVEN
        assert fix.licensed_depths.in_complement < 2
    assert licensed([*map(machine, told)], region) is UNPROVEN
    # One that stands by does no harm, and is not named.
    with_one = fix_of([*told, machine(at("vm", 0, 10, 100))], region)
    assert with_one.in_licensed_region is PROVEN
    assert "vm heard" not in with_one.explanation
    alone = [machine(at(f"m{k}", 90.0 * k, 20, 100)) for k in range(3)]
    assert licensed(alone, region) is UNPROVEN
    assert licensed([bent(r, virtual_machine=False) for r in alone], region) is PROVEN


def test_a_virtual_machine_proves_a_country_and_what_is_outside_a_site() -> None:
    assert licensed([*map(machine, three(MIDDLE))], countries("AA"), squares()) is PROVEN
    away = [machine(at(f"m{k}", 90.0 * k, 20, 100, FRANKFURT)) for k in range(2)]
    assert licensed(away, Complement(SITE)) is PROVEN


def test_a_wrong_disc_among_four_leaves_the_proof_of_three() -> None:
    wide = SiteDisc("wide", SINGAPORE, 1200.0)
    fix = fix_of([*three(), at("liar", 0, 9000, 100)], wide)
    assert (fix.least_violations, fix.in_licensed_region) == (1, PROVEN)


def test_several_discs_without_tolerance_only_indicate() -> None:
    # Two discs, each over another rim of the site, meet within it.
    lens = [at("e", 90, 700, 750), at("w", 270, 700, 750)]
    site = SiteDisc("lens", SINGAPORE, 500.0)
    fix = fix_of(lens, site, policy(0))
    assert fix.in_licensed_region is INDICATED
    assert fix.licensed_depths.by_several
    assert licensed(lens[:1], site, policy(0)) is not INDICATED


# several discs refute


def slivers() -> dict[str, VerifiedRange]:
    """One disc that excludes the site, and three that reach into it, each at another side and no two of them.

    Without `east` they have a place in common; with it one of them is certainly wrong.
    """
    return {
        "alone": at("alone", 315, 1600, 100),
        "west": at("west", 290, 1600, 1150),
        "north": at("north", 340, 1600, 1150),
        "east": at("east", 135, 1600, 1150),
    }


def test_an_accusation_needs_single_exclusions_even_where_several_discs_together_show_it() -> None:
    discs = slivers()
    fix = fix_of([*discs.values()])
    # Every place of the site is outside of three discs, as many as it takes; but only one excludes it by itself.
    everyone, _ = discs_of([*discs.values()], _registry(discs.values()), policy(), LICENSEE, NOW, NOW)
    assert everyone is not None
    assert depth_reaches(policy().atlas.ground(SITE).inside, everyone.disc_set(Grade.PHYSICAL, 0.0), 3)
    assert fix.least_violations == 1
    assert [d.landmark_id for d in fix.discs if d.excludes_licensed_region] == ["alone"]
    assert fix.in_licensed_region is UNPROVEN
    second = at("second", 315, 1605, 100)
    fix = fix_of([*discs.values(), second])
    assert (fix.least_violations, fix.in_licensed_region) == (1, REFUTED)
    assert fix.licensed_depths == Depths(3, 0, 0, by_several=True)
    assert "alone heard" in fix.explanation
    assert "west heard" not in fix.explanation


def test_no_single_exclusion_is_no_accusation() -> None:
    # No place of BB lies in two of the discs, so two domains would have to be wrong; yet each of them allows BB.
    fix = fix_of(three(MIDDLE), countries("BB"), squares())
    assert (fix.least_violations, fix.in_licensed_region) == (0, UNPROVEN)
    assert licensed([*three(MIDDLE), at("one", 0, 50, 100, MIDDLE)], countries("BB"), squares()) is UNPROVEN
    two = [at(f"s{k}", 90.0 * k, 50, 100, MIDDLE) for k in range(2)]
    assert licensed([*three(MIDDLE), *two], countries("BB"), squares()) is REFUTED


@pytest.mark.parametrize(
    ("names", "answer"),
    [
        ((), REFUTED),  # of five discs every place of the site is outside of four; three are needed
        (("west",), REFUTED),
        (("east",), REFUTED),
        (("west", "north"), UNPROVEN),
        (("west", "east"), UNPROVEN),
        (("north", "east"), UNPROVEN),
        (("alone",), UNPROVEN),  # one single exclusion is left
        (("second",), UNPROVEN),
    ],
)
def test_only_discs_that_may_accuse_take_part_in_an_accusation_of_several(
    names: Sequence[str], answer: PlaceAnswer
) -> None:
    discs = slivers() | {"second": at("second", 315, 1605, 100)}
    assert licensed([young(r) if name in names else r for name, r in discs.items()]) is answer


def test_a_young_disc_still_counts_against_an_accusation() -> None:
    liar = young(at("liar", 0, 0, 100))
    two = [at(f"e{k}", 90.0 * k, 30, 100, FRANKFURT) for k in range(2)]
    assert licensed(two) is REFUTED
    assert licensed([*two, liar]) is UNPROVEN  # v* is taken over all discs


def _registry(ranges: Iterable[VerifiedRange]) -> LandmarkRegistry:
    return LandmarkRegistry.build(r.landmark for r in ranges)


def test_more_than_f_contradictions_say_nothing_whatever_several_discs_show() -> None:
    wide = SiteDisc("wide", SINGAPORE, 1200.0)
    liars = [at("l0", 0, 9000, 100), at("l1", 180, 9000, 100)]
    fix = fix_of([*three(), *liars], wide)
    assert fix.least_violations == 2
    assert (fix.in_licensed_region, fix.outside_prohibited) == (UNPROVEN, UNPROVEN)
    assert fix.licensed_depths.in_complement_fibre == 0
    assert licensed([*three(), *liars], wide, policy(2)) is not REFUTED
    # What single discs show is told all the same, and fibre is not asked.
    both = [at(f"{n}{k}", 90.0 * k, 30, 100, c) for n, c in (("s", SINGAPORE), ("e", FRANKFURT)) for k in range(2)]
    fix = fix_of(both)
    assert (fix.least_violations, fix.in_licensed_region) == (2, UNPROVEN)
    assert fix.licensed_depths == Depths(2, 2, 0, by_several=False)


# light in fibre


def test_light_in_fibre_is_two_thirds_as_fast() -> None:
    physical, fibre = (radius_km(10_000_000, timedelta(0), 0, grade) for grade in (Grade.PHYSICAL, Grade.FIBRE))
    assert fibre == pytest.approx(physical * 2 / 3, rel=1e-12)
    assert FIBRE_SHARE == 2 / 3
    # What the truck and the landmark's position add is no matter of light.
    physical, fibre = (radius_km(0, timedelta(seconds=60), 7, grade) for grade in (Grade.PHYSICAL, Grade.FIBRE))
    assert fibre == physical == pytest.approx((1.8 + 7) * WIDENING)


def test_fibre_indicates_and_never_proves() -> None:
    two = [at("a", 0, 40, 600), at("b", 90, 40, 600)]  # 400 km at the fibre grade
    fix = fix_of(two)
    assert fix.in_licensed_region is INDICATED
    assert fix.licensed_depths == Depths(0, 0, 2, by_several=False)
    assert [round(d.fibre_radius_km / d.radius_km, 3) for d in fix.discs] == [0.667, 0.667]
    assert "at the speed of light in fibre, which is an assumption, it would be inside" in fix.explanation
    assert "neither proves nor excludes" in fix.explanation
    assert not fix.settled
    assert licensed(two[:1]) is UNPROVEN  # f + 1 domains here too
    assert "fibre" not in fix_of(two[:1]).explanation
    assert licensed([at("a", 0, 40, 800), at("b", 90, 40, 800)]) is UNPROVEN
    assert licensed([*two, at("c", 45, 40, 800)]) is INDICATED
    assert licensed([machine(two[0]), two[1]]) is UNPROVEN
    assert licensed([at(f"n{k}", 90.0 * k, 40, 600) for k in range(9)]) is INDICATED


def test_fibre_indicates_that_prohibited_destinations_are_out_of_reach() -> None:
    two = [at("a", 0, 40, 1400), at("b", 90, 40, 1400)]
    fix = fix_of(two, Complement(countries("BR")))
    assert fix.outside_prohibited is INDICATED
    assert fix.outside_depths == Depths(0, 0, 2, by_several=False)
    assert "At the speed of light in fibre, which is an assumption, prohibited destinations would be out" in (
        fix.explanation
    )
    assert fix.explanation.endswith("that is advice and no proof.")


def test_fibre_never_refutes() -> None:
    gap = 3000 - 500 * WIDENING
    two = [at("a", 0, 3000, gap * 1.2), at("b", 5, 3000, gap * 1.2)]
    assert gap * 1.2 * 2 / 3 < gap
    assert licensed(two) is UNPROVEN
    assert licensed([at("a", 0, 3000, gap - 1), at("b", 5, 3000, gap - 1)]) is REFUTED


def test_fibre_says_nothing_where_it_contradicts_itself() -> None:
    # At the physical grade all meet; at the fibre grade no two of them do.
    apart = [at(f"t{k}", 120.0 * k, 577, 700) for k in range(3)]
    fix = fix_of(apart, SiteDisc("x", SINGAPORE, 700.0))
    assert (fix.least_violations, fix.in_licensed_region) == (0, UNPROVEN)
    discs = discs_of_fix(fix)
    assert (discs.least_violations(), discs.least_violations(Grade.FIBRE)) == (0, 2)
    # With one more domain allowed to be wrong they may be heard again, and show too little.
    assert licensed(apart, SiteDisc("x", SINGAPORE, 700.0), policy(2)) is UNPROVEN


# margins


def test_a_drawn_areas_edge_has_ten_meters_and_no_border_margin() -> None:
    yard = Polygon("yard", (((100.0, -5.0), (108.0, -5.0), (108.0, 7.0), (100.0, 7.0)),))
    a, b = (landmark(f"p{k}", travel(SINGAPORE, 180.0 * k, 1)) for k in range(2))
    for margin in (0.0, 5.0):
        how = policy(margin_km=margin)
        least = min(how.atlas.distances(yard, r.position).to_complement_km for r in (a, b))
        for within, answer in ((BEND_KM + 0.002, PROVEN), (BEND_KM - 0.002, INDICATED)):
            assert licensed([ranged(a, least - within), ranged(b, least - within)], yard, how) is answer
        away = [landmark(f"w{k}", travel(SINGAPORE, 90 + k, 2000)) for k in range(2)]
        least = min(how.atlas.distances(yard, r.position).to_region_km for r in away)
        for within, answer in ((BEND_KM + 0.002, REFUTED), (BEND_KM - 0.002, UNPROVEN)):
            assert licensed([ranged(r, least - within) for r in away], yard, how) is answer


def test_the_margin_makes_several_discs_err_to_unproven_too() -> None:
    def answer(margin_km: float) -> PlaceAnswer:
        how = replace(squares(), border_margin_km=margin_km)
        return licensed(three(MIDDLE, 1000, 1020), countries("AA"), how)

    assert answer(5) is PROVEN
    assert answer(200) is not PROVEN


def test_contradictions_are_counted_without_the_margin() -> None:
    apart = [at("a", 0, 60, 50), at("b", 180, 60, 50), at("c", 0, 60.5, 50)]
    for margin in (0, 100):
        assert fix_of(apart, countries("SG"), policy(margin_km=margin)).least_violations == 1


# which landmarks count


def audited(name: str, bearing: float, *witnesses: str, operator: str | None = None) -> Landmark:
    seen = [(w, NOW) for w in witnesses]
    return landmark(name, travel(SINGAPORE, bearing, 30), ranged_by=seen, operator=operator, hoster=operator)


def test_a_distrusted_landmark_does_not_count() -> None:
    a, b = ranged(audited("a", 0), 100), ranged(audited("b", 90), 100)
    assert fix_of([a, b]).in_licensed_region is PROVEN
    doubted = bent(a, distrusted="it is not where it says")
    fix, dropped = located([doubted, b])
    assert fix is not None
    assert (fix.in_licensed_region, [d.landmark_id for d in fix.discs]) == (UNPROVEN, ["b"])
    assert [(v, e.reason) for v, e in dropped] == [(doubted, Reason.LANDMARK_NOT_COUNTED)]
    assert isinstance(dropped[0][1], LandmarkNotCountedError)
    assert "it is not where it says" in str(dropped[0][1])
    far = [at(f"e{k}", 90.0 * k, 30, 100, FRANKFURT) for k in range(2)]
    assert licensed(far) is REFUTED
    far[0] = bent(far[0], distrusted="why")
    again, _ = located(far)
    assert again is not None
    assert again.in_licensed_region is UNPROVEN


def test_an_accusation_needs_a_witness_that_the_operator_does_not_run() -> None:
    def accuses(operator: str, *witnesses: str, others: Sequence[Landmark] = ()) -> bool:
        one = audited("a", 0, *witnesses, operator="own")
        how = policy(0, audited_within=DAY, operator=operator)
        return may_accuse(one, LandmarkRegistry.build([one, *others]), how, NOW)

    assert accuses("", "op")
    assert not accuses("Op", "op")
    assert not accuses("  OP ", "op")
    assert accuses("Op", "op", "x")
    assert accuses("Other", "op")
    assert not accuses("Op", "own")  # its own domain is no witness at all
    joint = landmark("j", FRANKFURT, operator="Op", hoster="House")
    assert accuses("Op", "house")
    assert not accuses("Op", "house", others=[joint])  # the operator's domain is all that it is joined with


def test_without_a_witness_of_others_a_landmark_proves_and_does_not_accuse() -> None:
    how = policy(0, audited_within=DAY, operator="op")
    one = ranged(replace(audited("a", 0, "op"), position=FRANKFURT), 100)
    fix = fix_of([one], SITE, how)
    assert [(d.may_accuse, d.excludes_licensed_region) for d in fix.discs] == [(False, True)]
    assert fix.in_licensed_region is UNPROVEN
    assert fix.outside_prohibited is INDICATED
    seen = bent(one, ranged_by=((Domain("x"), NOW),))
    assert licensed([seen], SITE, how) is REFUTED


def test_who_counts_is_asked_again_as_time_goes_by() -> None:
    """What is kept between attestations ends with the first thing that changes it: audit, standing, or validity."""
    how = policy(audited_within=DAY, standing_for=timedelta(days=30))
    hours = timedelta(hours=1)
    seen = ((Domain("x"), NOW), (Domain("y"), NOW + 2 * hours), (Domain("z"), NOW + 4 * hours))
    base = landmark("a", FRANKFURT, valid_until=NOW + 27 * hours)
    one = replace(base, ranged_by=seen, revised_at=NOW + 3 * hours - timedelta(days=30))
    registry = LandmarkRegistry.build([one])
    told = [VerifiedRange(PDI, one, rtt_for(100))]

    def state(after: timedelta) -> tuple[bool, bool]:
        fix, dropped = locate(told, SITE, registry, how, LICENSEE, NOW + after, NOW + after)
        assert (fix is None) is bool(dropped)
        return (False, False) if fix is None else (True, fix.discs[0].may_accuse)

    expected = [
        (timedelta(0), (False, False)),  # one witness; the others have yet to come
        (2 * hours, (True, False)),
        (3 * hours - timedelta(microseconds=1), (True, False)),
        (3 * hours, (True, True)),  # its record has stood
        (24 * hours, (True, True)),
        (24 * hours + timedelta(microseconds=1), (True, True)),  # y and z are left
        (26 * hours, (True, True)),
        (26 * hours + timedelta(microseconds=1), (False, False)),
        (27 * hours, (False, False)),
    ]
    for after, answer in [*expected, *reversed(expected), expected[4], expected[0], expected[3]]:
        assert state(after) == answer, after


def test_who_counts_is_asked_again_for_another_licensee_policy_or_registry() -> None:
    one = audited("a", 0, "x", "y")
    registry = LandmarkRegistry.build([one])
    told = [ranged(one, 100)]
    strict, lax = policy(2, audited_within=DAY), policy(1, audited_within=DAY)

    def counts(how: PlacePolicy, licensee: str, known: LandmarkRegistry = registry) -> bool:
        return locate(told, SITE, known, how, licensee, NOW, NOW)[0] is not None

    for _ in range(2):
        assert counts(lax, LICENSEE)
        assert not counts(strict, LICENSEE)
        assert not counts(lax, "operator of a")
        assert counts(lax, LICENSEE)
    joint = LandmarkRegistry.build([one, landmark("b", FRANKFURT, operator="x", hoster="y")])
    assert not counts(lax, LICENSEE, joint)


def test_what_is_kept_of_who_counts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discs_module, "_MAX_KEPT_ROLLS", 2)
    one = audited("a", 0, "x", "y")
    registry = LandmarkRegistry.build([one])
    for k in range(5):
        assert locate([ranged(one, 100)], SITE, registry, policy(), f"licensee {k}", NOW, NOW)[0] is not None
        assert len(registry.kept) <= 2
    assert locate([ranged(one, 100)], SITE, registry, policy(), "hoster of a", NOW, NOW)[0] is None


# a fix again


def test_a_fix_without_some_domains_is_the_fix_that_the_others_make() -> None:
    ranges = [*three(), at("near", 10, 30, 200)]
    wide = SiteDisc("wide", SINGAPORE, 1200.0)
    fix = fix_of(ranges, wide)
    domains = {d.landmark_id: d.domain for d in fix.discs}
    for name, domain in domains.items():
        left = fix_without(fix, {domain}, wide, policy())
        assert left == fix_of([r for r in ranges if r.landmark.landmark_id != name], wide)
    assert fix_without(fix, set(), wide, policy()) == fix
    assert fix_without(fix, {Domain("nobody")}, wide, policy()) == fix
    assert fix_without(fix, set(domains.values()), wide, policy()) is None


def test_the_discs_of_a_fix_are_those_that_made_it() -> None:
    ranges = [*three(), machine(at("near", 10, 30, 200))]
    made, _ = discs_of(ranges, _registry(ranges), policy(), LICENSEE, NOW, NOW)
    assert made is not None
    again = discs_of_fix(fix_of(ranges))
    assert again.discs == made.discs
    assert again.ranged_by == made.ranged_by == PDI


def test_a_question_is_settled_as_a_fix_answers_it() -> None:
    wide = SiteDisc("wide", SINGAPORE, 1200.0)
    for ranges, region in ((three(), wide), ([*slivers().values()], SITE), ([at("a", 0, 30, 100)], SITE)):
        fix = fix_of(ranges, region)
        discs = discs_of_fix(fix)
        settled = settle(region, discs, policy())
        assert (settled.proven, settled.refuted) == (
            fix.in_licensed_region is PROVEN,
            fix.in_licensed_region is REFUTED,
        )
        assert (settled.depth_in, settled.depth_out) == fix.licensed_depths[:2]
    alone = discs_of_fix(fix_of([at("a", 0, 30, 100)]))
    assert settle(SITE, alone, policy(), tolerated=0) == Settled(proven=True, refuted=False, depth_in=0, depth_out=1)
    assert settle(SITE, alone, policy(), tolerated=0).fast
    assert not settle(wide, discs_of_fix(fix_of(three(), wide)), policy()).fast


def test_countries_have_the_margin_of_the_policy_in_the_atlas() -> None:
    assert atlas().ground(countries("SG")).margin_km(policy(margin_km=7).border_margin_km) == 7 + BEND_KM

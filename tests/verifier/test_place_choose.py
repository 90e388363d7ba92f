"""Which landmarks are asked next: the license's region and the caller's randomness decide, within the budget."""

import random
from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from tests.verifier.helpers_place import (
    NOW,
    SINGAPORE,
    countries,
    landmark,
    policy,
    position,
    ranged,
    sphere_km,
    spread_over_earth,
    travel,
)
from verifier.place.answers import PlaceAnswer
from verifier.place.choose import CLOSING, NEAREST, SPREAD, choose_landmarks
from verifier.place.fix import Fix, locate
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.regions import AnyOf, Complement, Region, SiteDisc
from verifier.units import LandmarkKeyId

SITE = SiteDisc("Tuas", SINGAPORE, 100.0)
LICENSEE = "Licensee"
BUDGET = 20


@cache
def registry() -> LandmarkRegistry:
    """Eight at growing distances from the site, thirty over the Earth."""
    close = [landmark(f"near{k}", travel(SINGAPORE, 40.0 * k, 150.0 + 60 * k)) for k in range(8)]
    return LandmarkRegistry.build(
        [*close, *(landmark(f"far{k}", position(v)) for k, v in enumerate(spread_over_earth(30)))]
    )


def choose(
    step: int,
    *,
    used: AbstractSet[LandmarkKeyId] = frozenset(),
    fix: Fix | None = None,
    seed: int = 0,
    region: Region = SITE,
    known: LandmarkRegistry | None = None,
    how: PlacePolicy | None = None,
    budget: int = BUDGET,
) -> list[Landmark]:
    rng = random.Random(seed)
    return list(
        choose_landmarks(known or registry(), region, used, fix, step, rng, NOW, how or policy(), budget, LICENSEE)
    )


def names(chosen: list[Landmark]) -> list[str]:
    return [str(r.landmark_id) for r in chosen]


def keys(chosen: list[Landmark]) -> frozenset[LandmarkKeyId]:
    return frozenset(r.key_id for r in chosen)


def open_fix(at: Landmark, radius_km: float = 3000, known: LandmarkRegistry | None = None) -> Fix:
    fix, _ = locate([ranged(at, radius_km)], SITE, known or registry(), policy(), LICENSEE, NOW, NOW)
    assert fix is not None
    assert not fix.settled
    return fix


def named(name: str) -> Landmark:
    return next(r for r in registry().landmarks if r.landmark_id == name)


def test_the_first_step_asks_the_five_nearest_the_region() -> None:
    assert NEAREST == 5
    for seed in range(5):
        assert names(choose(1, seed=seed)) == [f"near{k}" for k in range(5)]


def test_the_first_step_measures_to_the_region_and_not_to_a_point_of_it() -> None:
    russia = choose(1, region=countries("RU"))
    by_hand = sorted(
        registry().landmarks, key=lambda r: policy().atlas.distances(countries("RU"), r.position).to_region_km
    )
    distances = [policy().atlas.distances(countries("RU"), r.position).to_region_km for r in russia]
    assert distances == [policy().atlas.distances(countries("RU"), r.position).to_region_km for r in by_hand[:5]]


@pytest.mark.parametrize(
    "region",
    [
        countries("US"),
        countries("KI"),
        countries("DE", "FR", "PL"),
        SiteDisc("x", Position(50, 8), 800.0),
        Complement(countries("RU")),
        AnyOf((countries("JP"), SiteDisc("y", Position(-35, 150), 100.0))),
    ],
    ids=str,
)
def test_those_of_the_first_step_are_nearer_than_all_others(region: Region) -> None:
    def away(r: Landmark) -> float:
        return policy().atlas.distances(region, r.position).to_region_km

    chosen = choose(1, region=region)
    farthest = max(away(r) for r in chosen)
    assert len(set(names(chosen))) == 5
    assert all(away(r) >= farthest for r in registry().landmarks if r not in chosen)


def test_a_landmark_just_outside_the_region_does_not_stand_before_one_in_it() -> None:
    inside = [landmark(f"in{k}", travel(SINGAPORE, 70.0 * k, 90)) for k in range(5)]
    outside = [landmark(f"out{k}", travel(SINGAPORE, 70.0 * k, 101)) for k in range(9)]
    known = LandmarkRegistry.build([*inside, *outside])
    assert sorted(names(choose(1, known=known))) == [f"in{k}" for k in range(5)]


def test_landmarks_within_the_region_are_drawn_at_random() -> None:
    inside = [landmark(f"in{k}", travel(SINGAPORE, 30.0 * k, 40)) for k in range(12)]
    known = LandmarkRegistry.build([*inside, *registry().landmarks])
    drawn = Counter(n for seed in range(60) for n in names(choose(1, seed=seed, known=known)))
    assert set(drawn) == {f"in{k}" for k in range(12)}
    assert names(choose(1, seed=3, known=known)) == names(choose(1, seed=3, known=known))


def test_the_first_step_asks_none_again() -> None:
    used = keys(choose(1))
    assert names(choose(1, used=used)) == ["near5", "near6", "near7", *names(choose(1, used=used))[3:]]
    assert not keys(choose(1, used=used)) & used


def test_the_second_step_is_spread_over_the_world() -> None:
    assert SPREAD == 7
    drawn: Counter[str] = Counter()
    for seed in range(40):
        chosen = choose(2, seed=seed)
        assert len(set(names(chosen))) == 7
        apart = min(sphere_km(a.position, b.position) for a in chosen for b in chosen if a is not b)
        assert apart > 3500
        # One of them is near wherever the device may be.
        assert max(min(sphere_km(position(v), r.position) for r in chosen) for v in spread_over_earth(200)) < 9_000
        drawn.update(names(chosen))
    assert len(drawn) > 15  # who is asked cannot be foreseen


def test_the_spread_is_the_callers_randomness_and_nothing_else() -> None:
    assert names(choose(2, seed=1)) == names(choose(2, seed=1))
    assert len({tuple(names(choose(2, seed=seed))) for seed in range(20)}) > 10


def test_each_place_of_the_spread_is_one_of_the_three_farthest_from_those_before() -> None:
    for seed in range(10):
        chosen = choose(2, seed=seed)
        for k in range(1, len(chosen)):
            picked = chosen[:k]
            rest = [r for r in registry().landmarks if r not in picked]
            rest.sort(key=lambda r: -min(sphere_km(r.position, p.position) for p in picked))
            assert chosen[k] in rest[:3]


def test_the_first_place_of_the_spread_does_not_tell_the_second() -> None:
    seconds: dict[str, set[str]] = {}
    for seed in range(150):
        first, second, *_ = names(choose(2, seed=seed))
        seconds.setdefault(first, set()).add(second)
    assert max(len(found) for found in seconds.values()) == 3


def test_the_spread_asks_none_again() -> None:
    used = keys([r for r in registry().landmarks if str(r.landmark_id).startswith("near")])
    for seed in range(10):
        assert not keys(choose(2, seed=seed, used=used, fix=open_fix(named("near0")))) & used


def test_a_spread_over_fewer_landmarks_than_places_asks_them_all() -> None:
    few = LandmarkRegistry.build(list(registry().landmarks)[:3])
    assert sorted(names(choose(2, known=few))) == names(list(few.landmarks))
    assert choose(2, known=LandmarkRegistry(())) == []
    assert choose(1, known=LandmarkRegistry(())) == []


def test_the_second_step_is_spread_whatever_the_first_one_found() -> None:
    assert names(choose(2, seed=5, fix=open_fix(named("near0")))) == names(choose(2, seed=5))


def test_steps_grow_so_that_few_of_them_spend_the_budget() -> None:
    assert CLOSING == (8, 12, 16)
    fix = open_fix(named("far12"))
    assert [len(choose(step, fix=fix, budget=64)) for step in (3, 4, 5, 6, 9)] == [8, 12, 16, 16, 16]


def test_later_steps_ask_around_the_smallest_disc() -> None:
    at = named("far12")
    fix = open_fix(at)
    used = keys([at, named("near0")])
    rest = [r for r in registry().landmarks if r.key_id not in used]
    rest.sort(key=lambda r: sphere_km(at.position, r.position))
    for step, count in ((3, 8), (4, 12), (9, 16)):
        chosen = choose(step, fix=fix, used=used, budget=60)
        # Three quarters of them; all around one disc, the nearest to it are the nearest to its center.
        assert names(chosen)[: count - count // 4] == names(rest[: count - count // 4])


def test_a_quarter_of_a_later_step_is_drawn_from_the_nearer_half() -> None:
    at = named("far12")
    fix, used = open_fix(at), keys([at])
    rest = [r for r in registry().landmarks if r.key_id not in used]
    rest.sort(key=lambda r: sphere_km(at.position, r.position))
    drawn = Counter(n for seed in range(100) for n in names(choose(3, fix=fix, used=used, seed=seed))[6:])
    assert set(drawn) == set(names(rest[6 : len(rest) // 2]))


def test_the_place_that_all_discs_allow_leads_and_not_the_smallest_disc_alone() -> None:
    # Two discs of one size, 4,000 km apart: only between them both hold.
    middle = Position(0.0, 0.0)
    west, east = landmark("west", travel(middle, 270, 2000)), landmark("east", travel(middle, 90, 2000))
    ring = [landmark(f"ring{k}", travel(middle, 30.0 * k + 5, 2500)) for k in range(12)]
    known = LandmarkRegistry.build([west, east, landmark("between", middle), *ring])
    fix = open_fix(west, 2100, known)
    both, _ = locate([ranged(west, 2150), ranged(east, 2100)], SITE, known, policy(), LICENSEE, NOW, NOW)
    assert both is not None
    used = keys([west, east])
    west_first = names(choose(3, known=known, fix=fix, used=used))
    assert names(choose(3, known=known, fix=both, used=used))[0] == "between"
    assert west_first[0] != "between"


def test_one_liar_does_not_lead_the_choice_away() -> None:
    # Four honest discs around Singapore; one liar claims to be 150 km from the device, in the Andes.
    honest = [landmark(f"honest{k}", travel(SINGAPORE, 90.0 * k, 900)) for k in range(4)]
    near_truth = [landmark(f"near{k}", travel(SINGAPORE, 45.0 * k, 250)) for k in range(8)]
    liar = landmark("liar", Position(-10, -75))
    near_lie = [landmark(f"lie{k}", travel(liar.position, 45.0 * k, 100)) for k in range(8)]
    known = LandmarkRegistry.build([*honest, *near_truth, liar, *near_lie])
    ranges = [*(ranged(r, 1000) for r in honest), ranged(liar, 150)]
    fix, _ = locate(ranges, SITE, known, policy(), LICENSEE, NOW, NOW)
    assert fix is not None
    assert fix.discs[0].landmark_id == "liar"
    for seed in range(5):
        chosen = names(choose(3, known=known, fix=fix, used=keys([*honest, liar]), seed=seed))
        assert all(name.startswith("near") for name in chosen[:6])


def test_one_landmark_of_each_domain_is_asked_before_a_second_one() -> None:
    at = landmark("at", SINGAPORE)
    crowd = [landmark(f"crowd{k}", travel(SINGAPORE, 36.0 * k, 300), operator="one", hoster="one") for k in range(10)]
    alone = [landmark(f"alone{k}", travel(SINGAPORE, 36.0 * k, 3000 + 10 * k)) for k in range(10)]
    known = LandmarkRegistry.build([at, *crowd, *alone])
    fix = open_fix(at, 2000, known)
    chosen = names(choose(3, known=known, fix=fix, used=keys([at])))
    assert [n.rstrip("0123456789") for n in chosen[:6]] == ["crowd", *["alone"] * 5]
    # A domain that was asked already, nearer by, has nothing to add.
    asked = names(choose(3, known=known, fix=fix, used=keys([at, crowd[int(chosen[0][5:])]])))
    assert all(n.startswith("alone") for n in asked[:6])
    # But when no other is left, it is asked.
    few = names(choose(3, known=LandmarkRegistry.build([at, *crowd]), fix=fix, used=keys([at])))
    assert len(few) == 8


def test_without_any_fix_later_steps_spread_again() -> None:
    assert names(choose(3, seed=5)) == names(choose(2, seed=5))
    assert names(choose(7, seed=5)) == names(choose(2, seed=5))


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize(
    ("budget", "spent", "left"), [(3, 0, 3), (6, 4, 2), (5, 4, 1), (4, 4, 0), (3, 4, 0), (0, 0, 0)]
)
def test_no_step_asks_more_than_the_budget_leaves(step: int, budget: int, spent: int, left: int) -> None:
    used = keys([named(f"far{k}") for k in range(spent)])
    assert len(choose(step, used=used, fix=open_fix(named("far0")), budget=budget)) == left


@pytest.mark.parametrize("step", [1, 2, 3])
def test_nothing_is_asked_once_both_questions_are_settled(step: int) -> None:
    fix = open_fix(named("near0"))
    settled = fix._replace(in_licensed_region=PlaceAnswer.PROVEN, outside_prohibited=PlaceAnswer.PROVEN)
    assert settled.settled
    assert choose(step, fix=settled) == []
    half = settled._replace(outside_prohibited=PlaceAnswer.UNPROVEN)
    assert len(choose(step, fix=half)) == {1: 5, 2: 7, 3: 8}[step]


@pytest.mark.parametrize("step", [1, 2, 3])
def test_landmarks_that_do_not_count_are_never_asked(step: int) -> None:
    def spoil(k: int, r: Landmark) -> Landmark:
        return [
            replace(r, operator=LICENSEE),
            replace(r, valid_until=NOW),
            replace(r, ranged_by=()),
            r,
        ][k % 4]

    audited = [
        replace(r, ranged_by=landmark("x", r.position, ranged_by=[("x", NOW), ("y", NOW)]).ranged_by)
        for r in registry().landmarks
    ]
    known = LandmarkRegistry.build(spoil(k, r) for k, r in enumerate(audited))
    sound = {str(r.landmark_id) for k, r in enumerate(audited) if k % 4 == 3}
    how = policy(audited_within=timedelta(hours=24))
    fix = open_fix(named("far0"), known=registry())
    for seed in range(10):
        chosen = names(choose(step, known=known, how=how, fix=fix, seed=seed))
        assert set(chosen) <= sound
        assert len(chosen) == {1: 5, 2: 7, 3: 8}[step]


def test_steps_in_a_row_ask_every_landmark_once_until_the_budget_is_spent() -> None:
    used: frozenset[LandmarkKeyId] = frozenset()
    fix, step, asked = open_fix(named("near0")), 1, list[Landmark]()
    while chosen := choose(step, used=used, fix=fix, budget=37):
        assert not keys(chosen) & used
        asked += chosen
        used |= keys(chosen)
        step += 1
    assert len(asked) == len(set(names(asked))) == 37
    assert step == 6  # 5, 7, 8, 12, 5 and nothing


def test_steps_in_a_row_ask_everybody_when_the_budget_allows_it() -> None:
    used: frozenset[LandmarkKeyId] = frozenset()
    fix, step = open_fix(named("near0")), 1
    while chosen := choose(step, used=used, fix=fix, budget=100):
        used |= keys(chosen)
        step += 1
    assert used == keys(list(registry().landmarks))


def test_where_the_host_says_it_is_has_no_say() -> None:
    # The only place that enters is the region's and, later, the disc's: there is no argument for another one.
    at_home, elsewhere = choose(1), choose(1, region=SiteDisc("x", Position(50, 8), 100.0))
    assert not keys(at_home) & keys(elsewhere)

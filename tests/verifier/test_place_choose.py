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
from verifier.place.choose import CLOSING, NEAREST, SPREAD, choose_landmarks
from verifier.place.fix import Fix, PlaceAnswer, PlacePolicy, locate
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.regions import Region, SiteDisc
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
    assert SPREAD == 4
    drawn: Counter[str] = Counter()
    for seed in range(40):
        chosen = choose(2, seed=seed)
        assert len(set(names(chosen))) == 4
        apart = min(sphere_km(a.position, b.position) for a in chosen for b in chosen if a is not b)
        assert apart > 5000
        # One of them is near wherever the device may be.
        assert max(min(sphere_km(position(v), r.position) for r in chosen) for v in spread_over_earth(200)) < 14_000
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


def test_later_steps_ask_around_the_smallest_disc() -> None:
    assert CLOSING == 4
    at = named("far12")
    fix = open_fix(at)
    used = keys([at, named("near0")])
    for step in (3, 4, 9):
        chosen = choose(step, fix=fix, used=used)
        rest = [r for r in registry().landmarks if r.key_id not in used]
        rest.sort(key=lambda r: sphere_km(at.position, r.position))
        assert names(chosen) == names(rest[:4])


def test_the_smallest_of_several_discs_leads() -> None:
    a, b = named("far3"), named("near2")
    fix, _ = locate([ranged(b, 6000), ranged(a, 2500)], SITE, registry(), policy(), LICENSEE, NOW, NOW)
    assert fix is not None
    chosen = choose(3, fix=fix, used=keys([a, b]))
    assert sphere_km(chosen[0].position, a.position) < sphere_km(chosen[0].position, b.position)


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
    settled = replace(fix, in_licensed_region=PlaceAnswer.PROVEN, outside_prohibited=PlaceAnswer.PROVEN)
    assert settled.settled
    assert choose(step, fix=settled) == []
    half = replace(settled, outside_prohibited=PlaceAnswer.UNPROVEN)
    assert len(choose(step, fix=half)) == (5 if step == 1 else 4)


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
        assert len(chosen) == (5 if step == 1 else 4)


def test_steps_in_a_row_ask_every_landmark_once_until_the_budget_is_spent() -> None:
    used: frozenset[LandmarkKeyId] = frozenset()
    fix, step, asked = open_fix(named("near0")), 1, list[Landmark]()
    while chosen := choose(step, used=used, fix=fix, budget=17):
        assert not keys(chosen) & used
        asked += chosen
        used |= keys(chosen)
        step += 1
    assert len(asked) == len(set(names(asked))) == 17
    assert step == 5  # 5, 4, 4, 4 and nothing


def test_where_the_host_says_it_is_has_no_say() -> None:
    # The only place that enters is the region's and, later, the disc's: there is no argument for another one.
    at_home, elsewhere = choose(1), choose(1, region=SiteDisc("x", Position(50, 8), 100.0))
    assert not keys(at_home) & keys(elsewhere)

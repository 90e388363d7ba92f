"""Planning: needed and expected round trips, who reaches what, and what the greedy choice comes to."""

import itertools
import math
import random
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from tests.verifier.helpers_place import (
    NOW,
    SINGAPORE,
    atlas,
    countries,
    landmark,
    policy,
    sphere_km,
    travel,
)
from verifier.errors import UsageError
from verifier.license import Presence
from verifier.place import plan as plan_module
from verifier.place.cover import Cover, choose
from verifier.place.discs import radius_km
from verifier.place.geodesy import Position
from verifier.place.landmarks import Landmark, LandmarkRegistry
from verifier.place.plan import Candidate, LandmarkPlan, SitePlan, innermost_place, plan_landmarks
from verifier.place.policy import PlacePolicy
from verifier.place.reach import Assumptions, PlanSite, needed_rtt_ms
from verifier.place.regions import Complement, SiteDisc

KUALA_LUMPUR = Position(3.14, 101.69)
SHENZHEN = Position(22.54, 114.06)
FRANKFURT = Position(50.11, 8.68)
LIFE = timedelta(seconds=5)
LIGHT = 299.792458  # km/ms
QUICK = Assumptions(path_factor=1.0, access_ms=0.0)


def site(name: str = "site", where: Position = SINGAPORE, radius: float = 50.0) -> PlanSite:
    return PlanSite(name, Presence.SITE, SiteDisc(name, where, radius), where)


def in_country(code: str, where: Position) -> PlanSite:
    return PlanSite(code, Presence.COUNTRY, countries(code), where)


def outside(where: Position) -> PlanSite:
    return PlanSite("outside", Presence.OUTSIDE_PROHIBITED, None, where)


def candidate(name: str, where: Position, operator: str = "") -> Candidate:
    return Candidate(name, operator, where)


def plan(
    sites: Sequence[PlanSite],
    landmarks: Sequence[Landmark] = (),
    candidates: Sequence[Candidate] = (),
    *,
    rules: PlacePolicy | None = None,
    assumptions: Assumptions | None = None,
    most: int = 10,
) -> LandmarkPlan:
    return plan_landmarks(
        sites,
        candidates,
        LandmarkRegistry.build(landmarks),
        rules or policy(margin_km=5.0),
        assumptions or Assumptions(),
        most,
        NOW,
    )


def only(*args: object, **kwargs: object) -> SitePlan:
    (entry,) = plan(*args, **kwargs).sites  # type: ignore[arg-type]
    return entry


# what is needed and what is expected


def test_needed_round_trip_is_the_longest_whose_disc_stays_within() -> None:
    for clearance, uncertainty in ((50.0, 0.0), (3.0, 0.4), (8_000.0, 12.0)):
        needed = float(needed_rtt_ms(np.array(clearance), np.array(uncertainty)))
        whole = math.floor(needed * 1e6)
        assert radius_km(whole, LIFE, uncertainty) <= clearance
        assert radius_km(whole + 2, LIFE, uncertainty) > clearance
    assert float(needed_rtt_ms(np.array(0.1), np.array(0.0))) < 0  # a truck goes further than that


def test_needed_round_trip_of_a_landmark_in_a_site() -> None:
    near = travel(SINGAPORE, 30, 10)
    (reach,) = only([site(radius=50)], [landmark("a", near, uncertainty_km=0.5)]).reaches
    room = 50 / 1.00562 - 10
    assert reach.needed_rtt_ms == pytest.approx((room / 1.00562 - 0.15 - 0.5) * 2 / LIGHT / 1.0002, abs=1e-5)
    assert reach.expected_rtt_ms == pytest.approx(2 * 10 * 1.5 / (LIGHT * 2 / 3) + 0.1, abs=1e-5)
    assert (reach.name, reach.candidate) == ("a", False)
    assert reach.distance_km == pytest.approx(10, abs=0.001)


def test_margin_is_taken_off_borders_and_not_off_a_disc() -> None:
    at = [landmark("a", KUALA_LUMPUR)]
    kl = in_country("MY", KUALA_LUMPUR)
    bare, wide = (only([kl], at, rules=policy(margin_km=km)).reaches[0].needed_rtt_ms for km in (0.0, 20.0))
    assert bare - wide == pytest.approx(20 / 1.00562 * 2 / LIGHT / 1.0002, rel=1e-6)
    bare, wide = (only([site()], at, rules=policy(margin_km=km)).reaches[0].needed_rtt_ms for km in (0.0, 20.0))
    assert bare == wide


@pytest.mark.parametrize(
    "asked", [in_country("MY", KUALA_LUMPUR), outside(KUALA_LUMPUR), site("kl", KUALA_LUMPUR, 60)], ids=str
)
def test_a_round_trip_as_needed_lets_the_disc_settle_the_question_alone(asked: PlanSite) -> None:
    at = landmark("a", travel(KUALA_LUMPUR, 100, 12), uncertainty_km=0.3)
    rules = policy(margin_km=5.0)
    (reach,) = only([asked], [at], rules=rules).reaches
    region = rules.outside_prohibited if asked.region is None else asked.region
    edge = atlas().distances(region, at.position).to_complement_km
    margin = atlas().ground(region).margin_km(5.0)
    whole = math.floor(reach.needed_rtt_ms * 1e6)
    assert edge > radius_km(whole - 10, LIFE, 0.3) + margin
    assert not edge > radius_km(whole + 100, LIFE, 0.3) + margin


# who counts


def test_two_domains_near_a_site_prove_it_and_two_landmarks_of_one_do_not() -> None:
    a, b = landmark("a", travel(SINGAPORE, 0, 3)), landmark("b", travel(SINGAPORE, 90, 4))
    entry = only([site()], [a, b])
    assert entry.provable_now
    assert entry.provable_then
    assert entry.missing == ""
    assert [reach.name for reach in entry.reaches] == ["a", "b"]
    kin = landmark("b", travel(SINGAPORE, 90, 4), hoster="hoster of a")
    entry = only([site()], [a, kin])
    assert not entry.provable_now
    assert [reach.name for reach in entry.reaches] == ["a"]
    assert entry.missing == "needs 1 more failure domain on bare metal within 10 km at most"


@pytest.mark.parametrize(
    "changes",
    [{"valid_until": NOW}, {"valid_from": NOW + timedelta(days=1)}, {"distrusted": "it is not where it says"}],
)
def test_landmarks_that_do_not_count_are_left_out(changes: dict[str, object]) -> None:
    good = landmark("a", SINGAPORE)
    bad = landmark("b", SINGAPORE)
    for name, value in changes.items():
        object.__setattr__(bad, name, value)
    entry = only([site()], [good, bad])
    assert not entry.provable_now
    assert [reach.name for reach in entry.reaches] == ["a"]


def test_virtual_machines_prove_a_country_and_no_site() -> None:
    both = [landmark("a", KUALA_LUMPUR, virtual_machine=True), landmark("b", KUALA_LUMPUR)]
    in_site, in_land, out = plan(
        [site(where=KUALA_LUMPUR), in_country("MY", KUALA_LUMPUR), outside(KUALA_LUMPUR)], both
    ).sites
    assert (in_site.provable_now, in_land.provable_now, out.provable_now) == (False, True, True)
    assert [reach.name for reach in in_site.reaches] == ["b"]


def test_f_settles_how_many_domains() -> None:
    three = [landmark(name, SINGAPORE) for name in "abc"]
    assert only([site()], three, rules=policy(2)).provable_now
    lacking = only([site()], three[:1], rules=policy(2))
    assert lacking.missing.startswith("needs 2 more failure domains on bare metal")
    assert plan([site()], rules=policy(2)).tolerated_domains == 2


def test_with_f_0_nothing_is_provable() -> None:
    found = plan([site()], [landmark("a", SINGAPORE)], [candidate("c", SINGAPORE)], rules=policy(0))
    (entry,) = found.sites
    assert not entry.provable_now
    assert not entry.provable_then
    assert "f = 0" in entry.missing
    assert found.chosen == ()


# candidates


def test_candidates_are_chosen_and_tell_what_they_gain() -> None:
    far = site("frankfurt", FRANKFURT)
    given = [
        candidate("useless", Position(0, 0)),
        candidate("c1", travel(FRANKFURT, 0, 2)),
        candidate("c2", travel(SINGAPORE, 0, 2)),
        candidate("c3", travel(FRANKFURT, 0, 3)),
    ]
    found = plan([site(), far], [landmark("a", SINGAPORE)], given)
    assert [(entry.candidate.name, [s.name for s in entry.gained]) for entry in found.chosen] == [
        ("c2", ["site"]),
        ("c1", []),
        ("c3", ["frankfurt"]),
    ]
    near, away = found.sites
    assert (near.provable_now, near.provable_then, away.provable_now, away.provable_then) == (False, True, False, True)
    assert [(reach.name, reach.candidate) for reach in near.reaches] == [("a", False), ("c2", True)]
    assert [(reach.name, reach.candidate) for reach in away.reaches] == [("c1", True), ("c3", True)]
    assert near.missing == away.missing == ""


def test_a_site_that_is_provable_names_landmarks_even_where_candidates_are_nearer() -> None:
    two = [landmark("a", travel(SINGAPORE, 0, 3)), landmark("b", travel(SINGAPORE, 0, 4))]
    given = [candidate("c", SINGAPORE), candidate("d", FRANKFURT), candidate("e", FRANKFURT)]
    found = plan([site(), site("f", FRANKFURT), site("g", SINGAPORE, 40)], two, given)
    assert [reach.name for reach in found.sites[0].reaches] == ["a", "b"]
    assert {entry.candidate.name for entry in found.chosen} == {"d", "e"}


def test_candidates_and_landmarks_of_one_operator_are_one_domain() -> None:
    at = [landmark("a", SINGAPORE, operator="Straits Fibre", hoster="Loyang DC")]
    for operator in ("straits  fibre", "Loyang DC"):
        found = plan([site()], at, [candidate("c", SINGAPORE, operator)])
        assert found.chosen == ()
    twice = [candidate("c", SINGAPORE, "Kin"), candidate("d", SINGAPORE, "kin")]
    entry = only([site()], (), twice)
    assert not entry.provable_then
    assert entry.missing.endswith("within 10 km at most (candidates would give 1)")
    assert only([site()], (), [*twice, candidate("e", SINGAPORE)]).provable_then
    # Without an operator each is its own, whatever its name is.
    alone = [candidate("Kin", SINGAPORE), candidate("c", SINGAPORE, "Kin")]
    assert only([site()], (), alone).provable_then


def test_most_chosen_is_kept_and_what_is_left_over_is_told() -> None:
    given = [candidate(name, SINGAPORE) for name in "abc"]
    assert len(plan([site()], (), given, most=2).chosen) == 2
    found = plan([site()], (), given, most=1)
    assert found.chosen == ()  # one alone proves nothing
    assert "raise how many may be chosen" in found.sites[0].missing


def test_the_same_name_twice_is_refused() -> None:
    with pytest.raises(UsageError):
        plan([site()], (), [candidate("a", SINGAPORE), candidate("a", FRANKFURT)])


def test_a_plan_of_nothing() -> None:
    found = plan([])
    assert (found.sites, found.chosen) == ((), ())
    assert only([site()]).reaches == ()


# what is missing


def test_weaker_conditions_are_named() -> None:
    # 15 km away two landmarks prove the country, and none the site.
    two = [landmark(name, travel(KUALA_LUMPUR, 40, 15)) for name in "ab"]
    for each in two:
        object.__setattr__(each, "country", "MY")
    in_site = only([site(where=KUALA_LUMPUR, radius=20)], two)
    assert in_site.missing.endswith("; provable there instead: country MY and outside_prohibited")
    # In Singapore the border is too near, prohibited destinations are far.
    in_land = only([in_country("SG", SINGAPORE)], [landmark(name, SINGAPORE) for name in "ab"])
    assert not in_land.provable_now
    assert in_land.missing.endswith("; provable there instead: outside_prohibited")


def test_the_country_of_a_chosen_candidate_counts_too() -> None:
    given = [candidate(name, travel(KUALA_LUMPUR, 40, 15)) for name in "ab"]
    small, land = plan([site(where=KUALA_LUMPUR, radius=20), in_country("MY", KUALA_LUMPUR)], (), given).sites
    assert land.provable_then
    assert small.missing.endswith("; provable there instead: country MY and outside_prohibited")


def test_a_site_that_no_landmark_can_prove() -> None:
    assert only([site(radius=5)]).missing.startswith(
        "the edge is too near: a landmark beside the device would need 0.03"
    )
    assert only([site(radius=20)]).missing == "needs 2 more failure domains on bare metal within 1.4 km at most"


def test_a_place_that_is_not_where_it_says() -> None:
    assert "not in MY, or within 5 km of its edge" in only([in_country("MY", SINGAPORE)]).missing
    assert "in a prohibited destination" in only([outside(SHENZHEN)], [landmark("a", SHENZHEN)]).missing


def test_no_landmark_beyond_the_distance_told_reaches() -> None:
    asked = in_country("MY", KUALA_LUMPUR)
    told = float(only([asked], rules=policy(margin_km=5.0)).missing.split("within ")[1].split(" km")[0])
    for bearing in range(0, 360, 30):
        (reach,) = only([asked], [landmark("a", travel(KUALA_LUMPUR, bearing, told + 1.0))]).reaches
        assert reach.needed_rtt_ms < reach.expected_rtt_ms


# everything at once, against brute force


def brute_reaches(asked: PlanSite, at: Position, uncertainty: float, assumed: Assumptions, rules: PlacePolicy) -> float:
    """Time to spare, by the definition alone."""
    away = sphere_km(asked.place, at)
    if isinstance(asked.region, SiteDisc):
        room = asked.region.radius_km / 1.00562 - away
    else:
        region = rules.outside_prohibited if asked.region is None else asked.region
        room = atlas().distances(region, at).to_complement_km - atlas().ground(region).margin_km(5.0)
    needed = (room / 1.00562 - 0.15 - uncertainty) * 2 / LIGHT / 1.0002
    return needed - (3 * assumed.path_factor * away / LIGHT + assumed.access_ms)


@pytest.mark.parametrize("assumed", [Assumptions(), QUICK])
def test_plan_is_what_brute_force_finds(assumed: Assumptions) -> None:
    rng = random.Random(5)
    rules = policy(margin_km=5.0)
    towns = {"MY": KUALA_LUMPUR, "DE": FRANKFURT, "SG": SINGAPORE}

    def somewhere(spread: float) -> Position:
        return travel(rng.choice(list(towns.values())), rng.uniform(0, 360), rng.uniform(0, spread))

    def some_landmark(k: int) -> Landmark:
        return landmark(
            f"l{k:02}",
            somewhere(60),
            operator=f"o{rng.randrange(12)}",
            hoster=f"h{k}",
            uncertainty_km=rng.uniform(0, 2),
            virtual_machine=rng.random() < 0.2,
        )

    landmarks = [some_landmark(k) for k in range(40)]
    sites = [site(f"s{k}", somewhere(20), rng.uniform(10, 90)) for k in range(150)]
    sites += [in_country(code, travel(where, 30 * k, 15 * k)) for k in range(5) for code, where in towns.items()]
    sites += [outside(somewhere(300)) for _ in range(5)]
    rng.shuffle(sites)
    registry = LandmarkRegistry.build(landmarks)
    provable = 0
    for entry, asked in zip(plan(sites, landmarks, assumptions=assumed, rules=rules).sites, sites, strict=True):
        assert entry.site is asked
        best: dict[str, float] = {}
        for each in landmarks:
            if asked.presence is Presence.SITE and each.virtual_machine:
                continue
            spare = brute_reaches(asked, each.position, each.uncertainty_km, assumed, rules)
            domain = registry.domain_of(each.landmark_id)
            best[domain] = max(spare, best.get(domain, -math.inf))
        ranked = sorted(best.values(), reverse=True)
        assert entry.provable_now == (ranked[1] >= 0), (asked, ranked[:2])
        shown = [reach.needed_rtt_ms - reach.expected_rtt_ms for reach in entry.reaches]
        assert shown == pytest.approx(ranked[:2], abs=1e-5)
        provable += entry.provable_now
    assert 30 < provable < len(sites) - 20


def test_a_landmark_further_away_is_named_when_it_has_more_time_to_spare() -> None:
    crowd = [landmark(f"a{k:02}", travel(SINGAPORE, 0, 1), operator="one") for k in range(20)]
    vague = landmark("b", travel(SINGAPORE, 0, 0.5), uncertainty_km=20)
    entry = only([site()], [*crowd, vague, landmark("c", travel(SINGAPORE, 0, 3))])
    assert [reach.name for reach in entry.reaches] == ["a00", "c"]


# the greedy choice


def completed(reaches: np.ndarray, domains: Sequence[int], needs: Sequence[int], chosen: Sequence[int]) -> set[int]:
    return {
        row
        for row in range(len(needs))
        if 0 < needs[row] <= len({domains[column] for column in chosen if reaches[row, column]})
    }


def checked(reaches: np.ndarray, domains: Sequence[int], needs: Sequence[int], most: int) -> Cover:
    before = reaches.copy()
    cover = choose(reaches, np.array(domains, dtype=np.intp), np.array(needs, dtype=np.int64), most)
    assert (reaches == before).all()
    assert len(set(cover.chosen)) == len(cover.chosen) <= most
    done: set[int] = set()
    for count, gained in enumerate(cover.gained, start=1):
        now = completed(reaches, domains, needs, cover.chosen[:count])
        assert set(gained) == now - done
        done = now
    assert cover.complete == len(done)
    for column in cover.chosen:  # each is needed
        assert completed(reaches, domains, needs, [c for c in cover.chosen if c != column]) < done
    return cover


def test_greedy_choice_against_all_choices() -> None:
    rng = np.random.default_rng(3)
    best_total = greedy_total = 0
    for _ in range(150):
        rows, columns, most = int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(1, 5))
        reaches = rng.random((rows, columns)) < 0.4
        domains = rng.integers(0, 5, columns).tolist()
        needs = rng.integers(0, 4, rows).tolist()
        cover = checked(reaches, domains, needs, most)
        best = max(
            len(completed(reaches, domains, needs, some))
            for size in range(most + 1)
            for some in itertools.combinations(range(columns), size)
        )
        assert cover.complete <= best
        assert (cover.complete > 0) == (best > 0) or best <= 2
        best_total += best
        greedy_total += cover.complete
    assert greedy_total >= 0.93 * best_total


def test_the_better_of_both_greedy_choices_is_taken() -> None:
    # Three sites need two domains each; one needs one. Progress alone would spend both picks on the three.
    reaches = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=np.bool_)
    cover = checked(reaches, [0, 1, 2, 3], [2, 2, 2, 1], 2)
    assert cover.complete == 1
    # Completing first would take one small site at a time; progress finds the pair that completes three.
    reaches = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]], dtype=np.bool_)
    cover = checked(reaches, [0, 1, 2, 3], [2, 2, 2, 1], 2)
    assert (cover.chosen, cover.complete) == ((0, 1), 3)


def test_a_choice_that_nothing_came_of_is_taken_back() -> None:
    # The first helps two sites half the way; then the second and third complete two others, and nothing is left.
    reaches = np.array([[1, 0, 0, 1, 0], [1, 0, 0, 0, 1], [0, 1, 1, 0, 0], [0, 1, 1, 0, 0]], dtype=np.bool_)
    cover = checked(reaches, list(range(5)), [2, 2, 2, 2], 3)
    assert (cover.chosen, cover.complete) == ((1, 2), 2)


def test_sites_that_need_more_than_may_still_be_chosen_do_not_count() -> None:
    many = [[1, 1, 1, 0, 0]] * 5
    reaches = np.array([*many, [0, 0, 0, 1, 1]], dtype=np.bool_)
    assert checked(reaches, list(range(5)), [3] * 5 + [2], 2).chosen == (3, 4)


def test_a_second_candidate_of_a_domain_counts_for_nothing() -> None:
    reaches = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 0, 1]], dtype=np.bool_)
    cover = checked(reaches, [0, 0, 1, 2, 3], [2, 2, 2], 2)
    assert (cover.chosen, cover.complete) == ((0, 2), 1)


def test_what_cannot_be_completed_costs_nothing() -> None:
    reaches = np.array([[1, 1, 0], [0, 0, 1]], dtype=np.bool_)
    assert checked(reaches, [0, 0, 1], [2, 1], 3).chosen == (2,)
    assert checked(np.zeros((2, 0), dtype=np.bool_), [], [1, 2], 3).chosen == ()


def test_bound_of_the_greedy_cover_holds_when_it_may_go_on() -> None:
    rng = np.random.default_rng(8)
    for _ in range(40):
        rows, columns = 8, 8
        reaches = rng.random((rows, columns)) < 0.35
        reaches[:, 0] = True
        domains = list(range(columns))
        needs = [1 + int(reaches[row].sum() > 2) for row in range(rows)]
        cover = checked(reaches, domains, needs, columns)
        fewest = next(
            size
            for size in range(columns + 1)
            for some in itertools.combinations(range(columns), size)
            if len(completed(reaches, domains, needs, some)) == cover.complete
        )
        assert len(cover.chosen) <= (1 + math.log(rows)) * fewest


def test_many_rows_and_columns() -> None:
    rng = np.random.default_rng(1)
    reaches = rng.random((9_000, 60)) < 0.1
    needs = rng.integers(0, 3, 9_000).tolist()
    cover = checked(reaches, rng.integers(0, 50, 60).tolist(), needs, 25)
    assert cover.complete > 3_000


# the place that stands for a region


@pytest.mark.parametrize("code", ["SG", "MY", "DE", "CL"])
def test_innermost_place_is_in_the_region_and_nearly_deepest(code: str) -> None:
    region = countries(code)
    place = innermost_place(region, atlas())
    depth = atlas().distances(region, place).to_complement_km
    assert depth > 0
    rng = random.Random(2)
    for _ in range(150):
        other = travel(place, rng.uniform(0, 360), rng.expovariate(1 / 400))
        assert atlas().distances(region, other).to_complement_km <= depth * 1.1 + 1e-6


def test_innermost_place_of_a_disc_is_its_center() -> None:
    assert innermost_place(SiteDisc("x", FRANKFURT, 3), atlas()) == FRANKFURT


def test_the_search_for_the_innermost_place_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "_MOST_CELLS", 3)
    place = innermost_place(countries("SG"), atlas())
    assert sphere_km(place, SINGAPORE) < 3_000


def test_innermost_place_of_all_that_is_not_a_country() -> None:
    assert not atlas().contains(countries("SG"), innermost_place(Complement(countries("SG")), atlas()))


# what cannot be asked


@pytest.mark.parametrize(
    ("presence", "region", "place"),
    [
        (Presence.COUNTRY, None, SINGAPORE),
        (Presence.OUTSIDE_PROHIBITED, countries("SG"), SINGAPORE),
        (Presence.SITE, SiteDisc("x", FRANKFURT, 3), SINGAPORE),
    ],
)
def test_a_site_that_makes_no_sense_is_refused(presence: Presence, region: SiteDisc | None, place: Position) -> None:
    with pytest.raises(UsageError):
        PlanSite("x", presence, region, place)


@pytest.mark.parametrize(
    ("factor", "access"), [(0.9, 0.1), (math.inf, 0.1), (math.nan, 0.1), (1.5, -1), (1.5, math.inf)]
)
def test_assumptions_that_make_no_sense_are_refused(factor: float, access: float) -> None:
    with pytest.raises(UsageError):
        Assumptions(factor, access)

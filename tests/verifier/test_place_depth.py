"""Depth: how many discs every place lies outside of, on the whole Earth and in regions, against brute force."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.verifier.helpers_place import (
    RADIUS_KM,
    SINGAPORE,
    WIDENING,
    angle,
    atlas,
    countries,
    crossings,
    position,
    spread_over_earth,
    travel,
    vector,
    violations_at,
)
from verifier.place.depth import DiscSet, depth_reaches, least_explanation, least_violations
from verifier.place.geodesy import HALF_CIRCUMFERENCE_KM, Position
from verifier.place.regions import AnyOf, Complement, Polygon, Region, SiteDisc

FRANKFURT = Position(50.11, 8.68)
BEIJING = Position(39.90, 116.40)


KM_A_DEGREE = math.radians(1) * RADIUS_KM


def disc_set(places: Sequence[Position], radii_km: Sequence[float]) -> DiscSet:
    return DiscSet(np.stack([p.vector() for p in places]), np.array(radii_km, dtype=np.float64))


def least(places: Sequence[Position], radii_km: Sequence[float]) -> int:
    return least_violations(disc_set(places, radii_km))


# on the whole Earth


def test_least_violations_of_simple_discs() -> None:
    assert least([SINGAPORE], [1]) == 0
    assert least([SINGAPORE, SINGAPORE], [1, 500]) == 0  # one within the other, one center
    assert least([SINGAPORE, FRANKFURT], [100, 100]) == 1
    assert least([SINGAPORE, FRANKFURT, BEIJING], [100, 100, 100]) == 2
    assert least([SINGAPORE, FRANKFURT, BEIJING], [100, 100, 30000]) == 1  # more than the Earth: everywhere
    assert least([SINGAPORE, FRANKFURT, BEIJING], [21000, 21000, 21000]) == 0


def test_three_discs_that_meet_in_pairs_only_have_one_violation() -> None:
    corners = [travel(SINGAPORE, 120.0 * k, 1000) for k in range(3)]
    # An equilateral triangle of 1,732 km: the discs meet in pairs from 866 km on, all three from 1,000 km on.
    assert least(corners, [840.0] * 3) == 2
    assert least(corners, [950.0] * 3) == 1
    assert least(corners, [999.9] * 3) == 1
    assert least(corners, [1000.1] * 3) == 0


def test_the_fewest_discs_that_explain_a_contradiction() -> None:
    near = [travel(SINGAPORE, 120.0 * k, 10) for k in range(3)]
    assert least_explanation(disc_set(near, [100, 110, 120])) == []
    # One disc far from three: it is the odd one, however small.
    assert least_explanation(disc_set([FRANKFURT, *near], [50, 100, 110, 120])) == [0]
    assert least_explanation(disc_set([FRANKFURT, *near], [500, 100, 110, 120])) == [3]  # by size
    # Two against two: of equal explanations the one that loses the larger discs.
    assert least_explanation(disc_set([FRANKFURT, FRANKFURT, *near[:2]], [50, 60, 100, 110])) == [2, 3]
    assert least_explanation(disc_set([FRANKFURT, BEIJING, *near], [300, 200, 100, 110, 120])) == [3, 4]


def test_areas_bounded_by_whole_circles_are_found() -> None:
    # Both discs cover all but a cap around their antipodes; a third lies within one cap's rim.
    assert least([Position(0, 0), Position(0, 180)], [19000, 19000]) == 0
    assert least([Position(0, 0), Position(0, 180)], [9000, 11100]) == 0
    assert least([Position(0, 0), Position(0, 180)], [9000, 11000]) == 1
    assert least([Position(0, 0), Position(0, 175)], [19900, 300]) == 0
    assert least([Position(0, 0), Position(0, 178)], [19000, 300]) == 1


place_strategy = st.builds(Position, st.floats(-1, 1).map(lambda z: math.degrees(math.asin(z))), st.floats(-180, 180))


@given(st.lists(st.tuples(place_strategy, st.floats(300, 15000)), min_size=1, max_size=7))
@settings(max_examples=80, deadline=None)
def test_least_violations_are_the_least_over_all_places(circles: list[tuple[Position, float]]) -> None:
    centers = np.stack([p.vector() for p, _ in circles])
    radii = np.array([km for _, km in circles]) / 6371
    apart = angle(centers[:, None], centers[None])[np.triu_indices(len(centers), k=1)]
    assume(bool(((apart > 0.03) & (apart < math.pi - 0.03)).all()))
    exact = least([p for p, _ in circles], [km for _, km in circles])
    everywhere = np.concatenate([EARTH, centers])
    assert violations_at(everywhere, centers, radii).min() >= exact
    # A place where it is reached: corners of the discs, moved a little inward by slack, or anywhere.
    witnesses = np.concatenate([crossings(centers, radii), everywhere])
    assert violations_at(witnesses, centers, radii, slack=1e-6).min() <= exact


EARTH = spread_over_earth(4000)


@given(st.lists(st.tuples(place_strategy, st.floats(300, 9000)), min_size=2, max_size=6))
@settings(max_examples=80, deadline=None)
def test_discs_apart_in_pairs_are_so_many_violations(circles: list[tuple[Position, float]]) -> None:
    centers = np.stack([p.vector() for p, _ in circles])
    radii = np.array([km for _, km in circles]) / 6371
    exact = least([p for p, _ in circles], [km for _, km in circles])
    apart = angle(centers[:, None], centers[None]) > radii[:, None] + radii[None] + 1e-6
    if apart.any():
        assert exact >= 1
    # A set of discs each apart from each other: all but one are violated.
    alone: list[int] = []
    for k in np.argsort(radii):
        if all(apart[k, j] for j in alone):
            alone.append(int(k))
    assert exact >= len(alone) - 1
    assert exact <= len(circles) - 1


@given(st.lists(st.tuples(place_strategy, st.floats(0, 2000)), min_size=1, max_size=8), place_strategy)
@settings(max_examples=80, deadline=None)
def test_honest_discs_are_never_violated(circles: list[tuple[Position, float]], device: Position) -> None:
    centers = np.stack([p.vector() for p, _ in circles])
    apart = angle(centers[:, None], centers[None])[np.triu_indices(len(centers), k=1)]
    assume(bool(((apart > 0.03) & (apart < math.pi - 0.03)).all()))
    here = device.vector()
    radii = [float(angle(c, here)) * 6371 + extra + 0.01 for c, (_, extra) in zip(centers, circles, strict=True)]
    assert least([p for p, _ in circles], radii) == 0


def test_more_discs_never_lower_and_larger_discs_never_raise_the_least() -> None:
    rng = np.random.default_rng(3)
    for _ in range(150):
        places = [
            Position(float(a), float(b))
            for a, b in zip(rng.uniform(-80, 80, 6), rng.uniform(-179, 179, 6), strict=True)
        ]
        radii = rng.uniform(500, 9000, 6)
        steps = [least(places[:n], list(radii[:n])) for n in range(1, 7)]
        assert steps == sorted(steps)
        assert all(b - a <= 1 for a, b in pairwise(steps))
        assert least(places, list(radii * 1.5)) <= steps[-1]


@pytest.mark.parametrize("within_km", [0.3, 1, 10, 100])
def test_honest_near_discs_are_never_violated(within_km: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        truth = Position(float(rng.uniform(-60, 60)), float(rng.uniform(-170, 170)))
        bearings, shares = rng.uniform(0, 360, 6), rng.uniform(0.3, 1, 6)
        places = [travel(truth, float(bearings[k]), within_km * float(shares[k])) for k in range(6)]
        radii = [float(angle(p.vector(), truth.vector())) * 6371 + 0.05 * float(rng.random()) for p in places]
        assert least(places, radii) == 0


# in regions


def depth(region: Region | None, discs: DiscSet, *, inside: bool = True) -> int:
    """The fewest discs that any place of a region, or of all that is not in it, lies outside of."""
    shape = None
    if region is not None:
        ground = atlas().ground(region)
        shape = ground.inside if inside else ground.outside
    count = 0
    while depth_reaches(shape, discs, count + 1):
        count += 1
    return count


SITE = SiteDisc("x", SINGAPORE, 500.0)
BLOCK = Polygon("block", (((95.0, -8.0), (112.0, -8.0), (112.0, 9.0), (95.0, 9.0)),))
EAST = Polygon("east", (((106.0, -2.0), (114.0, -2.0), (114.0, 3.0), (106.0, 3.0)),))
"""It begins within the site and ends far outside of it."""
RINGED = Polygon("ringed", (BLOCK.rings[0], ((100.0, -2.0), (108.0, -2.0), (108.0, 5.0), (100.0, 5.0))))


def _apart(a: Position, b: Position) -> float:
    return float(angle(vector(a), vector(b))) * RADIUS_KM


def _in_either(place: Position) -> bool:
    return _apart(SINGAPORE, place) <= 500 or _apart(travel(SINGAPORE, 60, 700), place) <= 400


REGIONS: list[tuple[Region, Callable[[Position], bool]]] = [
    (SITE, lambda p: _apart(SINGAPORE, p) <= 500),
    (BLOCK, lambda p: 95 <= p.longitude <= 112 and -8 <= p.latitude <= 9),
    (
        RINGED,
        lambda p: (
            95 <= p.longitude <= 112
            and -8 <= p.latitude <= 9
            and not (100 <= p.longitude <= 108 and -2 <= p.latitude <= 5)
        ),
    ),
    (Complement(BLOCK), lambda p: not (95 <= p.longitude <= 112 and -8 <= p.latitude <= 9)),
    (
        AnyOf((SITE, EAST)),
        lambda p: _apart(SINGAPORE, p) <= 500 or (106 <= p.longitude <= 114 and -2 <= p.latitude <= 3),
    ),
    (AnyOf((SITE, SiteDisc("y", travel(SINGAPORE, 60, 700), 400.0))), _in_either),
]


def test_no_disc_and_fewer_discs_than_asked_for() -> None:
    one = disc_set([SINGAPORE], [100])
    assert depth_reaches(None, one, 0)
    assert depth_reaches(None, one, -1)
    assert not depth_reaches(None, one, 1)
    away = atlas().ground(SiteDisc("z", FRANKFURT, 100)).inside
    assert depth_reaches(away, one, 1)
    assert not depth_reaches(away, one, 2)
    assert len(one) == 1


def test_a_disc_knows_a_place_by_its_own_edge() -> None:
    one = disc_set([SINGAPORE], [1000])
    places = np.stack([travel(SINGAPORE, 77, km).vector() for km in (999.9, 1000.0, 1000.1)])
    assert one.violations(places).tolist() == [0, 0, 1]
    whole = disc_set([SINGAPORE], [HALF_CIRCUMFERENCE_KM + 5])
    assert whole.violations(-SINGAPORE.vector()[None]).tolist() == [0]
    assert disc_set([SINGAPORE], [HALF_CIRCUMFERENCE_KM - 1]).violations(-SINGAPORE.vector()[None]).tolist() == [1]


def test_discs_stand_smallest_first() -> None:
    found = disc_set([SINGAPORE, FRANKFURT, BEIJING], [300, 100, 200])
    assert (found.radii * RADIUS_KM).tolist() == pytest.approx([100, 200, 300])
    assert found.centers[0] == pytest.approx(FRANKFURT.vector())
    assert found.holds(np.stack([SINGAPORE.vector(), BEIJING.vector()]), 2).tolist() == [False, True]


@pytest.mark.parametrize(
    ("region", "place", "radius_km", "inside", "outside"),
    [
        # One disc, at each of the places that an answer can hang on.
        (SITE, SINGAPORE, 100, 0, 1),  # within: the disc's own edge
        (SITE, SINGAPORE, 900, 0, 0),  # around the whole site: the site's edge
        (SITE, travel(SINGAPORE, 10, 550), 100, 0, 0),  # over the rim: where the circles cross
        (SITE, travel(SINGAPORE, 10, 700), 100, 1, 0),
        (SITE, SINGAPORE, 0, 0, 1),  # a point: its center
        (BLOCK, SINGAPORE, 100, 0, 1),
        (BLOCK, SINGAPORE, 3000, 0, 0),  # around the whole block: its corners
        (BLOCK, Position(0, 90), 600, 0, 0),  # over one edge, between its corners: where it crosses the edge
        (BLOCK, Position(0, 90), 500, 1, 0),
        # A kilometer over the edge, between two of the pieces that it is cut into: no corner of a piece shows it.
        (BLOCK, Position(0.125, 95 - 49 / KM_A_DEGREE), 50, 0, 0),
        (BLOCK, Position(0.125, 95 + 49 / KM_A_DEGREE), 50, 0, 0),
        (BLOCK, Position(0.125, 95 - 51 / KM_A_DEGREE), 50, 1, 0),
        (BLOCK, Position(0.125, 95 + 51 / KM_A_DEGREE), 50, 0, 1),
        (RINGED, Position(1.5, 104), 200, 1, 0),  # in the hole
        (RINGED, Position(1.5, 104), 500, 0, 0),
        (RINGED, Position(7, 104), 100, 0, 1),
        (RINGED, Position(1.5, 104), 2000, 0, 0),
        (AnyOf((SITE, EAST)), Position(0, 114.3), 10, 1, 0),  # beside the area's edge, and not on it
        (AnyOf((SITE, EAST)), Position(0, 114.3), 40, 0, 0),
        (AnyOf((SITE, EAST)), Position(1, 112), 30, 0, 1),
        (AnyOf((SITE, EAST)), Position(1, 108.3), 30, 0, 0),  # an edge within the union counts too: it errs to unproven
        (AnyOf((SITE, EAST)), Position(3.2, 108.2), 30, 0, 0),  # at the corner between both
        (Complement(SITE), SINGAPORE, 100, 1, 0),
        (Complement(SITE), FRANKFURT, 100, 0, 1),
        (Complement(SITE), travel(SINGAPORE, 10, 550), 100, 0, 0),
    ],
)
def test_one_disc_and_one_region(region: Region, place: Position, radius_km: float, inside: int, outside: int) -> None:
    disc = disc_set([place], [radius_km])
    assert (depth(region, disc), depth(region, disc, inside=False)) == (inside, outside)


def test_three_discs_that_meet_in_a_region_alone_leave_no_place_elsewhere() -> None:
    # Each reaches 1,600 km far from 1,500 km away; all three meet within 600 km of Singapore, two of them farther out.
    centers = [travel(SINGAPORE, 120.0 * k, 1500) for k in range(3)]
    discs = disc_set(centers, [1600.0] * 3)
    wide = SiteDisc("wide", SINGAPORE, 600.0)
    assert [depth(wide, disc_set([c], [1600.0]), inside=False) for c in centers] == [0, 0, 0]
    assert depth(wide, discs, inside=False) == 1
    assert depth(wide, discs) == 0
    assert depth(None, discs) == 0
    assert depth(SiteDisc("small", SINGAPORE, 50.0), discs, inside=False) == 0
    # Three pairs meet within 2,500 km.
    assert depth(SiteDisc("wider", SINGAPORE, 2500.0), discs, inside=False) == 2


def test_two_discs_that_meet_outside_a_region_alone_leave_no_place_within() -> None:
    # Both overlap the site, from opposite sides, and do not meet there.
    centers = [travel(SINGAPORE, bearing, 700) for bearing in (0.0, 180.0)]
    discs = disc_set(centers, [400.0, 400.0])
    assert depth(SITE, discs) == 1
    assert depth(SITE, disc_set(centers[:1], [400.0])) == 0
    assert depth(None, discs) == 1


@cache
def sample_holds(number: int) -> NDArray[np.bool_]:
    """Which places of the sample lie in a region, by its own rule."""
    return np.array([REGIONS[number][1](position(v)) for v in SAMPLE])


def sampled(number: int, discs: DiscSet) -> tuple[int, int]:
    """The least by brute force over both sides of a region, from many places near all that matters."""
    corners = np.concatenate([discs.centers, crossings(discs.centers, discs.radii)])
    inside = np.concatenate([sample_holds(number), [REGIONS[number][1](position(v)) for v in corners]])
    found = violations_at(np.concatenate([SAMPLE, corners]), discs.centers, discs.radii)
    return int(found[inside].min()), int(found[~inside].min())


def _near_singapore() -> NDArray[np.float64]:
    golden = 180 * (3 - 5**0.5)
    near = [travel(SINGAPORE, (golden * k) % 360, 2600 * math.sqrt((k + 0.5) / 6000)).vector() for k in range(6000)]
    return np.concatenate([np.stack(near), spread_over_earth(1500)])


SAMPLE = _near_singapore()

near_singapore = st.builds(lambda bearing, km: travel(SINGAPORE, bearing, km), st.floats(0, 360), st.floats(5, 2500))


@pytest.mark.parametrize("number", range(len(REGIONS)))
@given(circles=st.lists(st.tuples(near_singapore, st.floats(20, 2500)), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_depth_is_what_the_places_of_a_region_show(number: int, circles: list[tuple[Position, float]]) -> None:
    region = REGIONS[number][0]
    discs = disc_set([p for p, _ in circles], [km for _, km in circles])
    inside, outside = sampled(number, discs)
    # Never more: a place that shows fewer would be a false proof or a false accusation.
    assert depth(region, discs) <= inside
    assert depth(region, discs, inside=False) <= outside
    # And exact: with discs a little smaller and the sample's gaps closed, the sample finds no more than is said.
    wider = DiscSet(discs.centers, discs.radii * RADIUS_KM + 80.0)
    inside, outside = sampled(number, wider)
    assert depth(region, discs) >= inside
    # An edge of one member within another one counts as an edge, which errs to unproven.
    assert isinstance(region, AnyOf) or depth(region, discs, inside=False) >= outside


@given(
    st.lists(st.tuples(near_singapore, st.floats(20, 2500)), min_size=1, max_size=6),
    st.sampled_from(["MY", "ID", "TH"]),
)
@settings(max_examples=60, deadline=None)
def test_depth_in_a_country_is_never_more_than_any_place_shows(
    circles: list[tuple[Position, float]], code: str
) -> None:
    discs = disc_set([p for p, _ in circles], [km for _, km in circles])
    shape = atlas().ground(countries(code)).inside
    places = np.concatenate([SAMPLE, discs.centers, crossings(discs.centers, discs.radii)])
    inside, found = shape.contains(places), violations_at(places, discs.centers, discs.radii)
    assert depth(countries(code), discs) <= found[inside].min()
    assert depth(countries(code), discs, inside=False) <= found[~inside].min()


def test_what_single_discs_show_several_show_too() -> None:
    rng = np.random.default_rng(9)
    for _ in range(60):
        region = REGIONS[rng.integers(len(REGIONS))][0]
        places = [travel(SINGAPORE, float(rng.uniform(0, 360)), float(rng.uniform(0, 3000))) for _ in range(5)]
        radii = rng.uniform(20, 1500, 5)
        ground = atlas().ground(region)
        single = [ground.distances(p.triple()) for p in places]
        apart = sum(d.to_region_km > r + 1e-3 for d, r in zip(single, radii, strict=True))
        within = sum(d.to_complement_km > r + 1e-3 for d, r in zip(single, radii, strict=True))
        discs = disc_set(places, list(radii))
        assert depth(region, discs) >= apart
        assert depth(region, discs, inside=False) >= within


def test_wider_discs_never_show_more() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        region = REGIONS[rng.integers(len(REGIONS))][0]
        places = [travel(SINGAPORE, float(rng.uniform(0, 360)), float(rng.uniform(0, 2000))) for _ in range(5)]
        radii = rng.uniform(20, 1500, 5)
        narrow, wide = disc_set(places, list(radii)), disc_set(places, list(radii + 30))
        for inside in (True, False):
            assert depth(region, wide, inside=inside) <= depth(region, narrow, inside=inside)
        more = disc_set([*places, FRANKFURT], [*radii, 5000])
        for inside in (True, False):
            assert depth(region, narrow, inside=inside) <= depth(region, more, inside=inside)


def test_a_site_is_taken_as_large_from_outside_and_as_small_from_inside_as_it_may_be() -> None:
    """The seam of the ellipsoid belongs to both sides: a disc that touches it from either side shows nothing."""
    for share, shows in ((0.999, 1), (1.001, 0)):
        within = disc_set([SINGAPORE], [500 / WIDENING * share])
        assert depth(SITE, within, inside=False) == shows
        away = disc_set([travel(SINGAPORE, 5, 2000)], [(2000 - 500 * WIDENING) * share])
        assert depth(SITE, away) == shows

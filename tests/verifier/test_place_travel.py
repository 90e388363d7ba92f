"""Impossible travel: how far apart two fixes are at least, and what can be flown meanwhile (docs/protocol.md PL10)."""

import math
import time
import tracemalloc
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.verifier.helpers_place import (
    NOW,
    RADIUS_KM,
    SINGAPORE,
    WIDENING,
    angle,
    around,
    crossings,
    sphere_km,
    spread_over_earth,
    travel,
    vector,
    violations_at,
)
from verifier.place.depth import DiscSet
from verifier.place.geodesy import Position
from verifier.place.travel import SeenPlace, allows_less, find_impossible_travel, least_distance_km
from verifier.units import Kilometers

FRANKFURT = Position(50.11, 8.68)
TOKYO = Position(35.68, 139.69)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

Circles = Sequence[tuple[Position, float]]


def seen(circles: Circles, issued_at: datetime = NOW, life: timedelta = MINUTE) -> SeenPlace:
    return SeenPlace(issued_at, issued_at + life, tuple((p, Kilometers(km)) for p, km in circles))


def disc_set(circles: Circles) -> DiscSet:
    return DiscSet(np.stack([p.vector() for p, _ in circles]), np.array([km for _, km in circles]))


def least(first: Circles, second: Circles, tolerated: int) -> float:
    found = least_distance_km(disc_set(first), disc_set(second), tolerated)
    assert least_distance_km(disc_set(second), disc_set(first), tolerated) == pytest.approx(found, abs=1e-6)
    return found


def beside(center: Position, count: int = 3, radius_km: float = 200.0) -> list[tuple[Position, float]]:
    return [(travel(center, 70.0 * k, 40), radius_km) for k in range(count)]


def test_a_device_that_stays_does_not_travel() -> None:
    for tolerated in (0, 1):
        for after in (timedelta(0), MINUTE, HOUR, timedelta(days=30)):
            before, now = seen(beside(SINGAPORE)), seen(beside(travel(SINGAPORE, 33, 100)), NOW + after)
            assert find_impossible_travel(before, now, tolerated) is None


@pytest.mark.parametrize("tolerated", [0, 1])
def test_what_cannot_be_flown_is_told_with_its_numbers(tolerated: int) -> None:
    before = seen(beside(SINGAPORE))
    now = seen(beside(FRANKFURT), NOW + HOUR)
    found = find_impossible_travel(before, now, tolerated)
    assert found is not None
    assert found.within == HOUR + MINUTE
    assert found.reach_km == pytest.approx(1200 * (1 + 1 / 60 + 0.1))
    whole = sphere_km(SINGAPORE, FRANKFURT)
    assert (whole - 500) / WIDENING < found.apart_km < (whole - 350) / WIDENING


def test_what_can_be_flown_is_no_finding() -> None:
    before = seen(beside(SINGAPORE))
    for after, impossible in ((2 * HOUR, True), (7 * HOUR, True), (9 * HOUR, False), (24 * HOUR, False)):
        found = find_impossible_travel(before, seen(beside(FRANKFURT), NOW + after), 1)
        assert (found is not None) is impossible


def test_the_bound_is_twelve_hundred_kilometers_an_hour_and_six_minutes_between_issue_and_arrival() -> None:
    here, there = [(SINGAPORE, 0.0)], [(travel(SINGAPORE, 50, 3000), 0.0)]
    needed = timedelta(hours=3000 / WIDENING / 1200 - 0.1)
    for change, impossible in ((-1, True), (1, False)):
        # From the issue of the first challenge to the arrival of the second report.
        second = NOW + needed - 2 * MINUTE + change * timedelta(seconds=1)
        found = find_impossible_travel(seen(here, life=5 * MINUTE), seen(there, second, 2 * MINUTE), 0)
        assert (found is not None) is impossible
        # A report that was under way for long counts with all of it.
        found = find_impossible_travel(seen(here), seen(there, NOW + MINUTE, second + MINUTE - NOW), 0)
        assert (found is not None) is impossible


def test_which_report_was_first_does_not_matter() -> None:
    """Two servers may finish in any order, and a challenge may be issued before another one and answered after it."""
    early, late = seen(beside(SINGAPORE)), seen(beside(FRANKFURT), NOW + HOUR)
    assert find_impossible_travel(early, late, 1) == find_impossible_travel(late, early, 1) is not None
    around_it = seen(beside(FRANKFURT), NOW - HOUR, 3 * HOUR)
    found = find_impossible_travel(early, around_it, 1)
    assert found is not None
    assert found.within == 3 * HOUR


def test_half_a_days_flight_reaches_everywhere() -> None:
    here, there = [(Position(0, 0), 0.0)], [(Position(0, 179), 0.0)]
    assert find_impossible_travel(seen(here), seen(there, NOW + 16 * HOUR), 0) is not None
    assert find_impossible_travel(seen(here), seen(there, NOW + 17 * HOUR), 0) is None


def test_the_ellipsoid_may_bring_places_nearer() -> None:
    here, there = [(SINGAPORE, 0.0)], [(travel(SINGAPORE, 50, 3000), 0.0)]
    found = find_impossible_travel(seen(here), seen(there), 0)
    assert found is not None
    assert found.apart_km == pytest.approx(3000 / WIDENING)


def test_one_disc_alone_tells_no_place_while_one_may_be_wrong() -> None:
    one, other = [(SINGAPORE, 100.0)], [(FRANKFURT, 100.0)]
    assert find_impossible_travel(seen(one), seen(other), 0) is not None
    assert find_impossible_travel(seen(one), seen(other), 1) is None
    assert find_impossible_travel(seen(beside(SINGAPORE)), seen(other), 1) is None
    assert find_impossible_travel(seen(one), seen(beside(FRANKFURT)), 1) is None
    assert find_impossible_travel(seen(beside(SINGAPORE)), seen(beside(FRANKFURT, 2)), 2) is None


def test_discs_that_contradict_each_other_too_much_allow_no_place() -> None:
    torn = [(SINGAPORE, 100.0), (TOKYO, 100.0), (travel(TOKYO, 180, 8000), 100.0)]
    assert least(torn, beside(FRANKFURT), 1) == 0
    assert find_impossible_travel(seen(torn), seen(beside(FRANKFURT)), 1) is None
    assert find_impossible_travel(seen(torn), seen(beside(FRANKFURT)), 0) is None


def test_a_wrong_disc_neither_makes_travel_nor_hides_it() -> None:
    liar = (FRANKFURT, 100.0)
    honest = beside(SINGAPORE, 3)
    assert find_impossible_travel(seen([*honest, liar]), seen(honest, NOW + HOUR), 1) is None
    assert find_impossible_travel(seen([*honest, liar]), seen(beside(TOKYO), NOW + HOUR), 1) is not None
    # With two discs either may be the wrong one, so the device may be in either.
    assert find_impossible_travel(seen([honest[0], liar]), seen(beside(FRANKFURT), NOW + HOUR), 1) is None


def test_two_whole_discs_are_apart_along_the_line_of_their_centers() -> None:
    assert least([(SINGAPORE, 300.0)], [(travel(SINGAPORE, 77, 4000), 500.0)], 0) == pytest.approx(3200, abs=1e-3)
    assert least([(SINGAPORE, 300.0)], [(travel(SINGAPORE, 77, 4000), 0.0)], 0) == pytest.approx(3700, abs=1e-3)
    assert least([(SINGAPORE, 0.0)], [(travel(SINGAPORE, 77, 4000), 0.0)], 0) == pytest.approx(4000, abs=1e-3)
    assert least([(SINGAPORE, 300.0)], [(travel(SINGAPORE, 77, 400), 99.0)], 0) == pytest.approx(1, abs=1e-3)
    assert least([(SINGAPORE, 300.0)], [(travel(SINGAPORE, 77, 400), 101.0)], 0) == 0


def test_of_many_discs_the_sixteen_smallest_are_compared() -> None:
    """64 domains are as many as a report may name; all of them would take seconds and gigabytes."""
    small = [(travel(SINGAPORE, 22.5 * k, 40), 300.0 + k) for k in range(16)]
    # The larger ones cut off what is nearest to Frankfurt, so that with them the way would be longer.
    east = [(travel(SINGAPORE, 130 + k / 10, 390), 400.0 + k / 10) for k in range(48)]
    assert least([*small, *east], beside(FRANKFURT), 1) > least(small, beside(FRANKFURT), 1) + 100
    there = [(travel(FRANKFURT, 22.5 * k, 40), 300.0 + k) for k in range(16)]
    few = find_impossible_travel(seen(small), seen(there, NOW + HOUR), 1)
    assert few is not None
    mixed = [*east[:20], *small[::-1], *east[20:]]
    many_there = [(place, km + 1000) for place, km in there * 3] + there
    for before, now in ((mixed, there), (small, many_there), (mixed, many_there)):
        began_s = time.monotonic()
        found = find_impossible_travel(seen(before), seen(now, NOW + HOUR), 1)
        assert time.monotonic() - began_s < 1.0
        assert found is not None
        assert (found.within, found.reach_km) == (few.within, few.reach_km)
        assert found.apart_km == pytest.approx(few.apart_km, abs=1e-6)


def test_the_nearest_pair_is_found_in_little_memory() -> None:
    """Sixteen discs on either side leave a thousand places each; all angles between them would take over 50 MB."""
    first = [(travel(SINGAPORE, 22.5 * k, 200), 300.0 + k) for k in range(16)]
    second = [(travel(FRANKFURT, 22.5 * k, 200), 300.0 + k) for k in range(16)]
    tracemalloc.start()
    try:
        least_distance_km(disc_set(first), disc_set(second), 1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 25e6


def test_a_later_fix_allows_more_once_it_is_wider_than_what_could_be_flown() -> None:
    before = seen(beside(SINGAPORE, radius_km=200.0))
    flown_km = 1200 * (1 + 1 / 60 + 0.1)  # from the issue of the first to the arrival of the second, and 0.1 h
    for km, stands in ((199.0, False), (200 + flown_km - 0.1, False), (200 + flown_km + 0.1, True), (15_000.0, True)):
        assert allows_less(before, seen(beside(TOKYO, radius_km=km), NOW + HOUR), 1) is stands
    # After a while nothing is left to hold on to.
    assert not allows_less(before, seen(beside(TOKYO, radius_km=15_000.0), NOW + 13 * HOUR), 1)


@pytest.mark.parametrize(
    ("tolerated", "old_km", "new_km"), [(0, 50, 60), (1, 200, 300), (2, 5000, 7000), (3, 5000, 7000)]
)
def test_how_much_a_fix_allows_is_told_by_the_smallest_disc_that_may_not_be_wrong(
    tolerated: int, old_km: float, new_km: float
) -> None:
    old, new = [(SINGAPORE, km) for km in (5000.0, 50.0, 200.0)], [(TOKYO, km) for km in (300.0, 7000.0, 60.0)]
    flown_km = 1200 * (1 / 60 + 0.1)
    assert allows_less(seen(old), seen([(TOKYO, old_km + flown_km + 0.1)] * 4), tolerated)
    assert not allows_less(seen(old), seen([(TOKYO, old_km + flown_km - 0.1)] * 4), tolerated)
    assert allows_less(seen([(SINGAPORE, new_km - flown_km - 0.1)] * 4), seen(new), tolerated)
    assert not allows_less(seen([(SINGAPORE, new_km - flown_km + 0.1)] * 4), seen(new), tolerated)


def test_a_whole_disc_within_another_is_no_way() -> None:
    inner, outer = [(travel(SINGAPORE, 5, 100), 50.0)], [(SINGAPORE, 1000.0)]
    assert least(inner, outer, 0) == 0
    # Even where neither center lies in the other area.
    lens = [(travel(SINGAPORE, 90, 700), 750.0), (travel(SINGAPORE, 270, 700), 750.0)]
    assert least(lens, [(SINGAPORE, 1.0)], 0) == 0
    assert least([(travel(SINGAPORE, 0, 30), 40.0), (travel(SINGAPORE, 180, 30), 40.0)], lens, 0) == 0


def test_discs_of_more_than_a_quarter_of_the_earth_are_measured_too() -> None:
    # What the great disc leaves out is a cap of 5,015 km around the antipode; the small one lies in it.
    radius = 15_000.0
    antipode = Position(-SINGAPORE.latitude, SINGAPORE.longitude - 180)
    found = least([(SINGAPORE, radius)], [(travel(antipode, 20, 1000), 100.0)], 0)
    assert found == pytest.approx(math.pi * RADIUS_KM - radius - 1100, abs=1e-3)


def test_a_lens_is_nearest_at_its_corner_or_at_its_side() -> None:
    lens = [(travel(SINGAPORE, 90, 700), 750.0), (travel(SINGAPORE, 270, 700), 750.0)]
    tips = crossings(np.stack([vector(p) for p, _ in lens]), np.array([750.0, 750.0]) / RADIUS_KM)
    north = travel(SINGAPORE, 0, 3000)
    corner = min(float(angle(t, vector(north))) for t in tips) * RADIUS_KM
    assert least(lens, [(north, 100.0)], 0) == pytest.approx(corner - 100, abs=1e-3)
    east = travel(SINGAPORE, 90, 3000)
    assert least(lens, [(east, 100.0)], 0) == pytest.approx(3000 - 50 - 100, abs=1e-3)  # the side of the western disc


def test_of_circles_around_antipodes_every_place_is_equally_near() -> None:
    whole = math.pi * RADIUS_KM
    for place in (SINGAPORE, Position(0, 0), Position(90, 0), Position(20, -30)):
        antipode = Position(-place.latitude, place.longitude - math.copysign(180, place.longitude))
        assert least([(place, 300.0)], [(antipode, 500.0)], 0) == pytest.approx(whole - 800, abs=1e-3)
        assert least([(place, 12_000.0)], [(antipode, 500.0)], 0) == pytest.approx(whole - 12_500, abs=1e-3)


near = st.builds(lambda bearing, km: travel(SINGAPORE, bearing, km), st.floats(0, 360), st.floats(5, 1500))
far = st.builds(lambda bearing, km: travel(FRANKFURT, bearing, km), st.floats(0, 360), st.floats(5, 1500))
DENSE = np.concatenate(
    [np.stack([vector(p) for c in (SINGAPORE, FRANKFURT) for p in around(c, 4000, 4000)]), spread_over_earth(3000)]
)
GAP_KM = 100.0


@given(
    st.lists(st.tuples(near, st.floats(100, 2500)), min_size=1, max_size=4),
    st.lists(st.tuples(st.one_of(far, near), st.floats(100, 2500)), min_size=1, max_size=4),
    st.sampled_from([0, 1]),
)
@settings(max_examples=60, deadline=None)
def test_the_least_distance_is_that_of_the_nearest_places(first: Circles, second: Circles, tolerated: int) -> None:
    exact = least(first, second, tolerated)
    sides = []
    for circles in (first, second):
        centers = np.stack([vector(p) for p, _ in circles])
        radii = np.array([km for _, km in circles]) / RADIUS_KM
        places = np.concatenate([DENSE, centers, crossings(centers, radii)])
        wide = violations_at(places, centers, radii, slack=GAP_KM / RADIUS_KM) <= tolerated
        within = violations_at(places, centers, radii) <= tolerated
        sides.append((places[wide], places[within]))
    if len(first) <= tolerated or len(second) <= tolerated:
        assert exact == 0
        return
    (wide_a, in_a), (wide_b, in_b) = sides
    if len(in_a) and len(in_b):
        # No two places are nearer than is said: a longer way would accuse falsely.
        assert exact <= _nearest_km(in_a, in_b) + 1e-6
    if exact > 0:
        # And it is no shorter than the sample's gaps and the widening can explain.
        assert exact >= _nearest_km(wide_a, wide_b) - 4 * GAP_KM


def _nearest_km(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.arccos(np.clip(a @ b.T, -1, 1)).min()) * RADIUS_KM


def test_an_honest_device_that_flies_is_never_found() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        start, hours = travel(SINGAPORE, rng.uniform(0, 360), rng.uniform(0, 5000)), float(rng.uniform(0, 10))
        goal = travel(start, rng.uniform(0, 360), hours * 1190)
        tolerated = int(rng.integers(2))
        fixes = []
        for truth, when in ((start, NOW), (goal, NOW + timedelta(hours=hours))):
            circles = []
            for _ in range(int(rng.integers(2, 6))):
                at = travel(truth, rng.uniform(0, 360), rng.uniform(5, 3000))
                circles.append((at, sphere_km(at, truth) * float(rng.uniform(1.0001, 1.5))))
            if tolerated:
                circles.append((travel(truth, rng.uniform(0, 360), rng.uniform(0, 15000)), float(rng.uniform(0, 500))))
            fixes.append(seen(circles, when))
        assert find_impossible_travel(fixes[0], fixes[1], tolerated) is None

"""Distances on the sphere, against S2 (spherely), hand-computed values and brute force."""

import math

import numpy as np
import pytest
import spherely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.verifier.helpers_place import RADIUS_KM, WIDENING, angle, crossings, position, spread_over_earth
from tests.verifier.helpers_place import widening_at as expected_widening
from verifier.errors import UsageError
from verifier.place.geodesy import (
    EARTH_RADIUS_KM,
    ELLIPSOID_WIDENING,
    HALF_CIRCUMFERENCE_KM,
    Position,
    angles,
    circle_crossings,
    distance_km,
    nearest_on_arcs,
    places_on_circles,
    unit_vectors,
    widening_at,
)

QUARTER_KM = math.pi / 2 * 6371
places = st.builds(Position, st.floats(-90, 90), st.floats(-180, 180))


def distance_to_arcs_km(point: NDArray[np.float64], starts: NDArray[np.float64], ends: NDArray[np.float64]) -> float:
    return nearest_on_arcs(point, starts, ends)[0] * RADIUS_KM


def s2_km(a: Position, b: Position) -> float:
    return float(
        spherely.distance(
            spherely.create_point(a.longitude, a.latitude), spherely.create_point(b.longitude, b.latitude), RADIUS_KM
        )
    )


def test_the_constants_are_those_of_the_design() -> None:
    assert EARTH_RADIUS_KM == 6371.0
    assert pytest.approx(20015.0868, abs=1e-3) == HALF_CIRCUMFERENCE_KM
    assert ELLIPSOID_WIDENING == WIDENING


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        (Position(0, 0), Position(0, 0), 0.0),
        (Position(0, 0), Position(0, 1), 6371 * math.pi / 180),
        (Position(0, 0), Position(90, 123), QUARTER_KM),
        (Position(90, 0), Position(90, 90), 0.0),
        (Position(90, 0), Position(-90, 17), 2 * QUARTER_KM),
        (Position(0, 0), Position(0, 180), 2 * QUARTER_KM),
        (Position(0, 0), Position(0, -180), 2 * QUARTER_KM),
        (Position(30, 40), Position(-30, -140), 2 * QUARTER_KM),
        (Position(10, 180), Position(10, -180), 0.0),
        (Position(0, 179.5), Position(0, -179.5), 6371 * math.pi / 180),
        (Position(60, 0), Position(60, 180), 6371 * math.pi / 3),  # over the pole, not along the parallel
        (Position(60, 0), Position(60, 90), 6371 * math.acos(0.75)),
    ],
)
def test_hand_computed_distances(a: Position, b: Position, km: float) -> None:
    assert distance_km(a, b) == pytest.approx(km, abs=1e-6)
    assert distance_km(b, a) == pytest.approx(km, abs=1e-6)


@given(places, places)
@settings(max_examples=200, deadline=None)
def test_distances_are_those_of_s2(a: Position, b: Position) -> None:
    assert distance_km(a, b) == pytest.approx(s2_km(a, b), abs=1e-3)
    assert float(angles(a.vector(), b.vector())) * 6371 == pytest.approx(s2_km(a, b), abs=1e-3)


def test_a_distance_is_never_more_than_half_the_circumference() -> None:
    rng = np.random.default_rng(5)
    for latitude, longitude in zip(rng.uniform(-90, 90, 500), rng.uniform(-180, 0, 500), strict=True):
        there = Position(-float(latitude), float(longitude) + 180)
        assert 20015.08 < distance_km(Position(float(latitude), float(longitude)), there) <= HALF_CIRCUMFERENCE_KM


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [(90.001, 0), (-90.001, 0), (0, 180.001), (0, -180.001), (math.nan, 0), (0, math.nan), (0, math.inf)],
)
def test_what_is_not_on_earth_is_refused(latitude: float, longitude: float) -> None:
    with pytest.raises(UsageError, match="no such place"):
        Position(latitude, longitude)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Position(0, 0), (1, 0, 0)),
        (Position(0, 90), (0, 1, 0)),
        (Position(90, 55), (0, 0, 1)),
        (Position(-90, 0), (0, 0, -1)),
        (Position(0, -180), (-1, 0, 0)),
        (Position(45, 0), (math.sqrt(0.5), 0, math.sqrt(0.5))),
    ],
)
def test_unit_vectors(place: Position, expected: tuple[float, float, float]) -> None:
    assert place.vector() == pytest.approx(expected, abs=1e-15)
    assert unit_vectors(np.array([place.latitude]), np.array([place.longitude]))[0] == pytest.approx(expected)


def test_angles_are_exact_near_zero_and_near_pi() -> None:
    a = np.array([1.0, 0.0, 0.0])
    for tiny in (1e-3, 1e-6, 1e-9, 1e-12):
        b = np.array([math.cos(tiny), math.sin(tiny), 0.0])
        assert float(angles(a, b)) == pytest.approx(tiny, rel=1e-6)
        assert math.pi - float(angles(a, -b)) == pytest.approx(tiny, abs=1e-15)


def sampled_arc_km(
    point: NDArray[np.float64], start: NDArray[np.float64], end: NDArray[np.float64], count: int = 4001
) -> float:
    share = np.linspace(0, 1, count)[:, None]
    chord = start * (1 - share) + end * share
    on_arc = chord / np.linalg.norm(chord, axis=1, keepdims=True)
    return float(angle(on_arc, point).min()) * RADIUS_KM


@given(places, places, st.floats(0.001, 80), st.floats(0, 360))
@settings(max_examples=150, deadline=None)
def test_distance_to_an_arc_is_the_least_over_its_points(
    place: Position, start: Position, length_deg: float, bearing_deg: float
) -> None:
    here, s = place.vector(), start.vector()
    aside = np.cross(s, np.eye(3)[np.abs(s).argmin()])
    aside /= np.linalg.norm(aside)
    heading = aside * math.cos(math.radians(bearing_deg)) + np.cross(s, aside) * math.sin(math.radians(bearing_deg))
    e = s * math.cos(math.radians(length_deg)) + heading * math.sin(math.radians(length_deg))
    exact = distance_to_arcs_km(here, s[None], e[None])
    sampled = sampled_arc_km(here, s, e)
    step = math.radians(length_deg) * RADIUS_KM / 4000
    assert exact <= sampled + 1e-6
    assert sampled <= exact + 2 * step + 1e-6
    assert distance_to_arcs_km(here, e[None], s[None]) == pytest.approx(exact, abs=1e-6)  # no direction


@pytest.mark.parametrize(
    ("place", "km"),
    [
        (Position(1, 5), math.radians(1)),  # foot inside the arc
        (Position(-1, 5), math.radians(1)),
        (Position(0, 7), 0.0),
        (Position(0, -3), math.radians(3)),  # beyond the start: the start is nearest
        (Position(0, 14), math.radians(4)),  # beyond the end
        (Position(90, 0), math.pi / 2),
        (Position(0, -175), math.pi - math.radians(5)),  # behind the Earth, where the foot is not on the arc
        (Position(1, -175), math.acos(-math.cos(math.radians(1)) * math.cos(math.radians(5)))),
    ],
)
def test_hand_computed_distances_to_an_arc_of_the_equator(place: Position, km: float) -> None:
    starts, ends = Position(0, 0).vector()[None], Position(0, 10).vector()[None]
    assert distance_to_arcs_km(place.vector(), starts, ends) == pytest.approx(km * 6371, abs=1e-6)


def test_an_arc_without_length_is_a_point() -> None:
    start = Position(3, 4).vector()[None]
    assert distance_to_arcs_km(Position(3, 5).vector(), start, start) == pytest.approx(
        distance_km(Position(3, 4), Position(3, 5)), abs=1e-6
    )


def test_the_pole_of_an_arc_is_a_quarter_of_the_circle_away_however_sines_are_rounded() -> None:
    for latitude in range(-89, 90):
        pole = Position(latitude, 70).vector()
        start = np.cross(pole, np.array([0.3, 0.2, 0.9]))
        start /= np.linalg.norm(start)
        end = start * math.cos(0.2) + np.cross(pole, start) * math.sin(0.2)
        assert distance_to_arcs_km(pole, start[None], end[None]) == pytest.approx(math.pi / 2 * RADIUS_KM)


def test_the_nearest_of_several_arcs_counts() -> None:
    starts = unit_vectors(np.array([0.0, 20.0]), np.array([0.0, 0.0]))
    ends = unit_vectors(np.array([0.0, 20.0]), np.array([10.0, 10.0]))
    assert distance_to_arcs_km(Position(2, 5).vector(), starts, ends) == pytest.approx(math.radians(2) * 6371)
    assert distance_to_arcs_km(Position(20, -1).vector(), starts, ends) == pytest.approx(
        distance_km(Position(20, -1), Position(20, 0)), abs=1e-6
    )


@given(st.lists(st.tuples(places, st.floats(0.01, math.pi - 0.01)), min_size=2, max_size=5))
@settings(max_examples=150, deadline=None)
def test_crossings_lie_on_both_circles_and_none_is_missing(circles: list[tuple[Position, float]]) -> None:
    centers = np.stack([p.vector() for p, _ in circles])
    radii = np.array([r for _, r in circles])
    apart = angle(centers[:, None], centers[None])
    pairs = apart[np.triu_indices(len(centers), k=1)]
    assume(bool(((pairs > 0.05) & (pairs < math.pi - 0.05)).all()))
    found = circle_crossings(centers, radii)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0)
    on = np.abs(angles(found[:, None], centers[None]) - radii[None]) < 1e-6
    assert (on.sum(axis=1) >= 2).all()
    mine = crossings(centers, radii)
    tangent = np.abs(np.stack([pairs - s for s in _sums(radii)] + [2 * math.pi - pairs - _sums(radii)[0]])).min()
    assume(float(tangent) > 1e-6)
    assert len(found) == len(mine)
    for place in mine:
        assert float(angle(found, place).min()) < 1e-6


def _sums(radii: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.triu_indices(len(radii), k=1)
    return radii[first] + radii[second], np.abs(radii[first] - radii[second])


def test_hand_computed_crossings() -> None:
    centers = unit_vectors(np.array([0.0, 0.0]), np.array([0.0, 90.0]))
    found = circle_crossings(centers, np.radians([90.0, 90.0]))  # two great circles cross at the poles
    assert sorted(round(float(z)) for z in found[:, 2]) == [-1, 1]
    found = circle_crossings(centers, np.radians([60.0, 60.0]))  # cos 60 = x = y
    assert np.abs(found) == pytest.approx(np.array([[0.5, 0.5, math.sqrt(0.5)]] * 2))


def test_circles_that_touch_meet_in_the_one_place() -> None:
    centers = unit_vectors(np.array([0.0, 0.0]), np.array([0.0, 90.0]))
    found = circle_crossings(centers, np.array([math.pi / 4, math.pi / 4]))
    assert found == pytest.approx(np.array([Position(0, 45).vector()] * 2))


@pytest.mark.parametrize(
    ("second", "radii_deg"),
    [
        (Position(0, 40), (10, 20)),  # apart
        (Position(0, 10), (40, 20)),  # one within the other
        (Position(0, 0), (30, 30)),  # one circle
        (Position(0, 180), (90, 90)),  # one circle, from both sides
        (Position(0, 170), (175, 175)),  # together they cover the Earth
    ],
)
def test_circles_that_do_not_cross_have_no_crossing(second: Position, radii_deg: tuple[float, float]) -> None:
    centers = np.stack([Position(0, 0).vector(), second.vector()])
    assert circle_crossings(centers, np.radians(radii_deg)).shape == (0, 3)


def test_one_circle_crosses_nothing() -> None:
    assert circle_crossings(Position(5, 5).vector()[None], np.array([0.3])).shape == (0, 3)


def test_places_on_circles_are_on_them() -> None:
    centers = np.concatenate([spread_over_earth(50), np.eye(3), -np.eye(3)])
    radii = np.random.default_rng(2).uniform(0, math.pi, len(centers))
    found = places_on_circles(centers, radii)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1.0)
    assert angles(found, centers) == pytest.approx(radii, abs=1e-12)


def test_helpers_agree_with_themselves() -> None:
    for v in spread_over_earth(200):
        assert position(v).vector() == pytest.approx(v, abs=1e-12)


@pytest.mark.parametrize(("latitude", "km"), [(0, 0), (0, 5000), (10, 100), (10, 3000), (-47, 20), (60, 6000), (90, 1)])
def test_widening_is_the_curvature_of_the_meridian_nearest_the_equator(latitude: float, km: float) -> None:
    assert widening_at(latitude, km) == pytest.approx(expected_widening(latitude, km), rel=1e-12)
    assert widening_at(-latitude, km) == widening_at(latitude, km)
    nearest = max(0.0, math.radians(abs(latitude)) - km / 6335.4)
    meridian = 6378.137 * (1 - 0.00669437999014) / (1 - 0.00669437999014 * math.sin(nearest) ** 2) ** 1.5
    assert 6371 / meridian <= widening_at(latitude, km) <= 6371 / meridian * 1.00002  # safe, and not by much

"""Distances to countries against S2, on borders cut so fine that its geodesics are the straight lines drawn."""

import math
from functools import cache

import numpy as np
import pytest
import spherely

from tests.verifier.geometry.helpers_geometry import (
    RADIUS_KM,
    Floats,
    Oracle,
    apart,
    degrees_of,
    discs,
    jittered,
    polygons_of,
    position_of,
    unit,
)
from tests.verifier.helpers_place import atlas, countries, policy
from verifier.place.geodesy import Position
from verifier.place.question import settle
from verifier.place.regions import Polygon, Region
from verifier.place.shapes import BEND_KM

CODES = ("SG", "HK", "LS", "ZA", "FJ", "RU", "US", "AQ", "NO", "NL", "BE", "CA", "KI", "IT", "CH", "UA-43", "NZ", "ES")
_FINE_DEGREES = 0.04
"""So long an edge leaves its geodesic by less than a meter."""


def true_edges(code: str) -> Floats:
    """The drawn edges without those that two polygons of the country share, along 180 degrees too, and the pole's."""
    edges = np.concatenate(polygons_of(code))
    seen: dict[tuple[tuple[float, float], ...], int] = {}
    names = []
    for x1, y1, x2, y2 in edges.tolist():
        ends = sorted(((180.0 if abs(x) == 180 else x, y) for x, y in ((x1, y1), (x2, y2))))
        names.append(tuple(ends))
        seen[names[-1]] = seen.get(names[-1], 0) + 1
    kept = [seen[name] == 1 and not all(abs(y) == 90 for _, y in name) for name in names]
    outer: Floats = edges[np.array(kept)]
    return outer


def fine(edges: Floats) -> list[list[tuple[float, float]]]:
    lines = []
    for x1, y1, x2, y2 in edges.tolist():
        count = max(2, math.ceil((abs(x2 - x1) + abs(y2 - y1)) / _FINE_DEGREES) + 1)
        lines.append(list(zip(np.linspace(x1, x2, count).tolist(), np.linspace(y1, y2, count).tolist(), strict=True)))
    return lines


@cache
def border(code: str) -> "spherely.Geography":
    return spherely.create_multilinestring(fine(true_edges(code)))


def border_km(code: str, places: Floats) -> Floats:
    latitude, longitude = degrees_of(places)
    found: Floats = spherely.distance(spherely.points(longitude, latitude), border(code), RADIUS_KM)
    return found


def places_for(code: str, rng: np.random.Generator, count: int) -> Floats:
    """Near the border, a few hundred kilometers around it, and anywhere."""
    corners = np.concatenate(polygons_of(code))[:, :2]
    chosen = corners[rng.integers(len(corners), size=count)]
    near = unit(np.clip(chosen[:, 1], -89.99, 89.99), chosen[:, 0])
    size = 10 ** rng.uniform(-5, -0.5, size=(count, 1))
    moved = near + rng.normal(size=(count, 3)) * size
    anywhere = rng.normal(size=(count // 3, 3))
    found = np.concatenate([moved, anywhere])
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


@pytest.mark.parametrize("code", CODES)
def test_distances_and_nearest_places_are_those_of_s2(code: str) -> None:
    rng = np.random.default_rng(sum(map(ord, code)))
    oracle, ground = Oracle(countries(code), {}), atlas().ground(countries(code))
    places = places_for(code, rng, 24)
    expected = border_km(code, places)
    edges = []
    for place, inside, km in zip(places, oracle.holds(places), expected, strict=True):
        x, y, z = place.tolist()
        found = ground.distances((x, y, z))
        near, far = (found.to_complement_km, found.to_region_km)[:: 1 if inside else -1]
        assert far == 0.0 or km < BEND_KM, (code, place)
        if far:  # the place is so near to the border that the code's arc may pass on its other side
            continue
        assert near == pytest.approx(km, abs=BEND_KM), (code, position_of(place))
        nearest = np.array(found.in_complement if inside else found.in_region)
        assert (found.in_region if inside else found.in_complement) == (x, y, z)
        # The nearest place is at that distance, and on the border:
        assert float(apart(place, nearest)) * RADIUS_KM == pytest.approx(near, abs=1e-4)
        edges.append(nearest)
    assert (border_km(code, np.array(edges)) < BEND_KM).all()
    # both sides are there within some meters, but for corners that are too sharp to be hit.
    around = oracle.holds(jittered(np.array(edges), (12.0, 30.0))).reshape(-1, len(edges))
    both = around.any(axis=0) & ~around.all(axis=0)
    assert both.mean() > 0.8, (code, both.mean())


@pytest.mark.parametrize("code", CODES)
def test_no_place_on_the_other_side_is_nearer_than_said(code: str) -> None:
    """By membership alone, and not by borders: discs of the distance said, filled with places."""
    rng = np.random.default_rng(sum(map(ord, code)) + 1)
    oracle, ground = Oracle(countries(code), {}), atlas().ground(countries(code))
    for place in places_for(code, rng, 6):
        inside = bool(oracle.holds(place[None])[0])
        x, y, z = place.tolist()
        found = ground.distances((x, y, z))
        reach = (found.to_complement_km if inside else found.to_region_km) - BEND_KM
        if reach <= 0:
            continue
        k = np.arange(400) + 0.5
        aside = np.cross(place, np.eye(3)[int(np.abs(place).argmin())])
        aside /= np.linalg.norm(aside)
        turn = (math.pi * (3 - 5**0.5) * k)[:, None]
        half = np.sin(reach / RADIUS_KM / 2) * np.sqrt(k / 400)[:, None]
        angle = 2 * np.arcsin(half)
        direction = np.cos(turn) * aside + np.sin(turn) * np.cross(place, aside)
        filled = np.cos(angle) * place + np.sin(angle) * direction
        assert (oracle.holds(filled) == inside).all(), (code, position_of(place), reach)


def test_slanted_edges_stay_as_near_to_their_arcs_as_is_said() -> None:
    """An edge that crosses latitudes and longitudes bends most of all, above all near a pole."""
    for latitude in (10.0, 45.0, 70.0, 88.0):
        for east, north in ((0.25, 0.25), (0.2, -0.25), (0.25, 0.1), (3.0, 1.5), (40.0, 1.9), (0.1, 1.9)):
            corners = ((0.0, latitude), (east, latitude + north), (east, latitude - 3.0))
            own = Polygon("p", (corners,))
            share = np.linspace(0, 1, 997)
            on_edge = unit(latitude + share * north, share * east)
            ground = atlas().ground(own)
            for x, y, z in on_edge[::4].tolist():
                found = ground.distances((x, y, z))
                assert max(found.to_region_km, found.to_complement_km) <= BEND_KM, (latitude, east, north)


def test_an_edge_that_is_drawn_three_times_is_still_an_edge() -> None:
    """By the even-odd rule a ring that is drawn twice is not there, so the square's eastern edge is its border."""
    left, right = ((0, 0), (1, 0), (1, 1), (0, 1)), ((1, 0), (2, 0), (2, 1), (1, 1))
    region: Region = Polygon("p", (left, right, right))
    assert not atlas().contains(region, Position(0.5, 1.5))
    found = atlas().distances(region, Position(0.5, 0.9))
    assert found.to_complement_km == pytest.approx(math.radians(0.1) * RADIUS_KM, abs=BEND_KM)
    assert atlas().distances(region, Position(0.5, 1.1)).to_region_km == pytest.approx(found.to_complement_km, rel=1e-3)


SHARED = [
    ("CA", "PM", Position(46.6727889, -56.7025284)),  # Saint-Pierre-et-Miquelon is drawn 2.4 km into Canada's sea
    ("CU", "US", Position(24.229, -82.022)),
    ("AZ", "TM", Position(39.4354, 52.396)),
]


@pytest.mark.parametrize(("one", "other", "place"), SHARED)
def test_a_place_of_two_countries_is_in_the_two_together(one: str, other: str, place: Position) -> None:
    """Without a margin the two discs around such a place accuse whoever is there of being in neither country."""
    both = countries(one, other)
    assert Oracle(both, {}).holds(unit(place.latitude, place.longitude)[None])[0]
    assert all(atlas().contains(countries(code), place) for code in (one, other))
    reach = max(atlas().distances(countries(code), place).to_complement_km for code in (one, other)) / 2
    answer = settle(both, discs((place, reach), (place, reach)), policy(1, margin_km=0.0))
    assert not answer.refuted
    assert atlas().contains(both, place)
    assert atlas().distances(both, place).to_region_km == 0.0

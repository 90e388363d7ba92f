"""The least distance between what two fixes allow, against a search along every circle."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.verifier.geometry.helpers_geometry import RADIUS_KM, Floats, apart, frame, meetings, outside_of, ring, unit
from verifier.place.depth import DiscSet
from verifier.place.geodesy import Position
from verifier.place.travel import least_distance_km

CLOSE_KM = 1e-5
SLACK_KM = 1e-3
FOUND_KM = 0.05
"""The search ends so near to the least distance."""


def brute_km(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats], tolerated: int, slack_km: float
) -> float | None:
    """Least distance between places on circles that each side allows, ever finer; None when one side allows none."""
    sides = []
    for centers, radii in (first, second):
        circles = list(zip(centers, radii.tolist(), strict=True))
        bearings = []
        for i, (center, radius) in enumerate(circles):
            # The places of both sides' crossings and middles, seen from this circle, are worth a look.
            u, v = frame(center)
            others = np.concatenate([first[0], second[0]])
            toward = np.arctan2(others @ v, others @ u)
            meet = [meetings(center, radius, *other) for j, other in enumerate(circles) if j != i]
            bearings.append(np.concatenate([np.linspace(-np.pi, np.pi, 120), toward, toward + np.pi, *meet]))
        which = np.repeat(np.arange(len(circles)), [len(b) for b in bearings])
        sides.append(_allowed(centers, radii, which, np.concatenate(bearings), tolerated, slack_km))
    if not len(sides[0][0]) or not len(sides[1][0]):
        return None
    for (_, _, places), other in zip(sides, (second, first), strict=True):
        if (outside_of(places, *other, slack_km) <= tolerated).any():  # in common
            return 0.0
    step, least = 2 * np.pi / 120, math.inf
    for _ in range(9):
        near = sides[0][2] @ sides[1][2].T  # the order of cosines is that of distances
        best = np.argpartition(-near, min(40, near.size - 1), axis=None)[:40]
        pairs = np.unravel_index(best, near.shape)
        least = min(least, float(apart(sides[0][2][pairs[0]], sides[1][2][pairs[1]]).min()))
        finer = []
        for (centers, radii), (which, bearing, _), picked in zip((first, second), sides, pairs, strict=True):
            chosen = np.unique(picked)
            turns = bearing[chosen, None] + np.linspace(-step, step, 15)[None]
            finer.append(_allowed(centers, radii, np.repeat(which[chosen], 15), turns.ravel(), tolerated, slack_km))
        sides, step = finer, step / 5
    return least * RADIUS_KM


def _allowed(
    centers: Floats,
    radii: Floats,
    which: "np.typing.NDArray[np.int64]",
    bearings: Floats,
    tolerated: int,
    slack_km: float,
) -> tuple["np.typing.NDArray[np.int64]", Floats, Floats]:
    places = np.empty((len(bearings), 3))
    for k, (center, radius) in enumerate(zip(centers, radii, strict=True)):
        places[which == k] = ring(center, float(radius), bearings[which == k])
    kept = outside_of(places, centers, radii, slack_km) <= tolerated
    return which[kept], bearings[kept], places[kept]


def inner_places(centers: Floats, radii: Floats, tolerated: int) -> Floats:
    """Places that one side allows, its middles and rings of all sizes."""
    rings = [
        ring(c, r * share, np.linspace(0, 2 * np.pi, 24))
        for c, r in zip(centers, radii.tolist(), strict=True)
        for share in (0.0, 0.3, 0.7, 0.95, 1.0)
    ]
    places = np.concatenate(rings)
    return places[outside_of(places, centers, radii, CLOSE_KM) <= tolerated]


@st.composite
def sides(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Discs around one place that most of them hold, barely or amply."""
    place = unit(draw(st.floats(-90, 90)), draw(st.floats(-180, 180)))
    centers, radii = [], []
    for _ in range(draw(st.integers(2, 7))):
        radius = draw(st.one_of(st.floats(10, 300), st.floats(300, 4000), st.floats(4000, 12_000))) / RADIUS_KM
        away = radius * draw(st.sampled_from([0.2, 0.8, 0.95, 1.0, 1.0, 1.05]))
        centers.append(ring(place, min(away, 3.0), np.array([draw(st.floats(0, 2 * math.pi))]))[0])
        radii.append(min(radius, math.pi))
    return np.array(centers), np.array(radii)


@settings(max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(sides(), sides(), st.integers(0, 2))
def test_the_least_distance_is_what_a_search_finds(
    first: tuple[Floats, Floats], second: tuple[Floats, Floats], tolerated: int
) -> None:
    before, after = (DiscSet(c, r * RADIUS_KM) for c, r in (first, second))
    said = least_distance_km(before, after, tolerated)
    assert said == pytest.approx(least_distance_km(after, before, tolerated), abs=1e-6)
    one, two = (inner_places(c, r, tolerated) for c, r in (first, second))
    if said > 0:
        assert not (outside_of(one, *second, CLOSE_KM) <= tolerated).any()
        assert not (outside_of(two, *first, CLOSE_KM) <= tolerated).any()
        if len(one) and len(two):
            assert said <= float(apart(one[:, None], two[None]).min()) * RADIUS_KM + 1e-4
    # A centimeter's slack lets a thin lens grow by decimeters: two searches hold the least distance between them.
    exact, nearly = (brute_km(first, second, tolerated, slack) for slack in (1e-9, CLOSE_KM))
    if said > 0:
        assert nearly is not None
        assert exact is None or said <= exact + 1e-4  # never more than some pair of places,
        assert nearly <= said + FOUND_KM  # and some pair is as near
    elif exact is not None:
        # A place in common, or one side that allows the whole Earth.
        common = [
            (outside_of(one, *second, SLACK_KM) <= tolerated).any(),
            (outside_of(two, *first, SLACK_KM) <= tolerated).any(),
        ]
        assert any(common) or exact <= FOUND_KM


@pytest.mark.parametrize(
    ("first", "second", "km"),
    [
        (((0, 0), 1000), ((0, 90), 2000), math.pi / 2 * RADIUS_KM - 3000),
        (((0, 0), 1000), ((0, 180), 2000), math.pi * RADIUS_KM - 3000),  # antipodes: the whole circle is as near
        (((90, 0), 1000), ((-90, 0), 2000), math.pi * RADIUS_KM - 3000),
        (((0, 0), 1000), ((0, 180), math.pi * RADIUS_KM - 1200), 200),  # a disc that is all but a cap around the first
        (((0, 0), 1000), ((0, 0), 10), 0),
        (((0, 179), 50), ((0, -179), 60), math.radians(2) * RADIUS_KM - 110),
        (((89, 0), 50), ((89, 180), 60), math.radians(2) * RADIUS_KM - 110),
    ],
)
def test_hand_computed_least_distances(
    first: tuple[tuple[float, float], float], second: tuple[tuple[float, float], float], km: float
) -> None:
    one, two = (DiscSet(unit(*at)[None], np.array([radius])) for at, radius in (first, second))
    assert least_distance_km(one, two, 0) == pytest.approx(km, abs=1e-6)
    assert least_distance_km(two, one, 0) == pytest.approx(km, abs=1e-6)
    assert least_distance_km(one, two, 1) == 0.0  # one wrong domain each, and every place is allowed


def test_one_wrong_disc_of_three_opens_the_nearer_lens() -> None:
    """With f = 1 a fix allows what two of its three discs share; the nearest of these counts."""
    equator = [Position(0, x) for x in (0, 20, 40)]
    centers = np.array([unit(p.latitude, p.longitude) for p in equator])
    first = DiscSet(centers, np.array([15.0, 15.0, 15.0]) * math.radians(1) * RADIUS_KM)
    second = DiscSet(unit(0, 80)[None].repeat(2, axis=0), np.array([5.0, 6.0]) * math.radians(1) * RADIUS_KM)
    # All three share nothing; discs 2 and 3 share longitudes 25 to 35 on the equator. With one of its two discs wrong
    # the second allows what either holds: longitudes 74 to 86.
    assert least_distance_km(first, second, 0) == 0.0
    assert least_distance_km(first, second, 1) == pytest.approx(math.radians(74 - 35) * RADIUS_KM, abs=1e-6)

"""Depth is exact: a search by force never finds a place that lies outside of fewer discs, and finds one of as few."""

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.verifier.geometry.helpers_geometry import (
    RADIUS_KM,
    WIDENING,
    Floats,
    Oracle,
    apart,
    outside_of,
    places_to_try,
    position_of,
    ring,
    unit,
)
from tests.verifier.helpers_place import atlas, countries
from verifier.place.depth import DiscSet, depth_reaches, least_violations
from verifier.place.geodesy import Position
from verifier.place.regions import AnyOf, Atlas, Complement, Group, Polygon, Region, SiteDisc
from verifier.place.shapes import Shape

EXACT = settings(
    max_examples=80, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

CLOSE_KM = 1e-5
"""A place so near to a disc's edge counts as in it: the code promises 6 cm."""

SEARCH_KM = 1e-3
"""Discs are so much wider when the place that the code must have seen is looked for."""

BENT_KM = 0.02
"""The same where borders are drawn: the code's arcs leave them by up to 8 m."""

GROUPS = {"G:1": frozenset({"SG", "JP", "TW", "KR"}), "G:2": frozenset({"ZA", "LS", "SZ"})}
SPOTS = (
    Position(1.35, 103.82),
    Position(22.54, 114.06),
    Position(-29.5, 28.2),
    Position(50.0, 6.0),
    Position(-17.0, 180.0),
    Position(66.0, -179.9),
    Position(89.9, 10.0),
    Position(-89.99, -120.0),
    Position(0.0, 0.0),
)

latitudes = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 0.0, 90.0, 89.999]))
longitudes = st.one_of(st.floats(-180, 180), st.sampled_from([-180.0, 0.0, 179.9999, 180.0]))
positions = st.builds(Position, latitudes, longitudes)
radii_km = st.one_of(st.floats(10, 300), st.floats(300, 3000), st.floats(3000, 15_000))


@st.composite
def disc_sets(draw: st.DrawFn, spot: Position | None = None) -> tuple[Floats, Floats]:
    """Centers and radii, radians: clustered or spread, many of them made to touch, to hold or to equal another."""
    count = draw(st.integers(2, 12 if spot is None else 7))
    middle = spot or draw(positions)
    hub = unit(middle.latitude, middle.longitude)
    centers: list[Floats] = []
    radii: list[float] = []
    for _ in range(count):
        kind = draw(st.sampled_from(["free", "about", "about", "same", "tangent", "within", "opposite", "through"]))
        bearing = np.array([draw(st.floats(0, 2 * math.pi))])
        radius = draw(radii_km) / RADIUS_KM
        if kind == "free" or (not centers and kind != "about"):
            where = draw(positions)
            center = unit(where.latitude, where.longitude)
        elif kind == "about":  # the edge passes near the middle of the cluster
            away = min(radius * draw(st.sampled_from([0.5, 0.97, 1.0, 1.003, 1.2])), 3.1)
            center = ring(hub, away, bearing)[0]
        else:
            old = draw(st.integers(0, len(centers) - 1))
            base, reach = centers[old], radii[old]
            if kind == "same":
                center, radius = base, reach
            elif kind == "opposite":
                center, radius = -base, math.pi - reach * draw(st.sampled_from([0.9, 1.0, 1.1]))
            elif kind == "tangent":
                center = ring(base, min(reach + radius, math.pi - 0.01), bearing)[0]
                radius = float(apart(base, center)) - reach
            elif kind == "within":
                radius = reach * draw(st.floats(0.1, 0.9))
                center = ring(base, reach - radius, bearing)[0]
            else:  # its edge passes where another one's does
                center = ring(ring(base, reach, bearing)[0], radius, bearing * 2)[0]
        centers.append(center / np.linalg.norm(center))
        radii.append(max(radius, 1.0 / RADIUS_KM))
    return np.array(centers), np.minimum(np.array(radii), math.pi)


def depth_of(shape: Shape | None, found: DiscSet) -> int:
    """The most that `depth_reaches` says yes to; it must never say yes to more after a no."""
    said = [depth_reaches(shape, found, k) for k in range(len(found) + 2)]
    assert said == sorted(said, reverse=True)
    assert said[0]
    assert not said[-1]
    return said.index(False) - 1


def check_depth(
    shape: Shape | None, oracle: Oracle | None, centers: Floats, radii: Floats, margin_km: float = 0.0
) -> int:
    """Compare with the search; returns the depth."""
    depth = depth_of(shape, DiscSet(centers, radii * RADIUS_KM + margin_km))
    wide_km = SEARCH_KM if oracle is None or not len(oracle.edges()) else BENT_KM
    tried = places_to_try(oracle, centers, radii)
    if margin_km > 1:
        tried = np.concatenate([tried, places_to_try(oracle, centers, radii + margin_km / RADIUS_KM)])
    held = oracle.holds(tried) if oracle else np.ones(len(tried), dtype=np.bool_)
    # Sound: no place of the region lies outside of fewer discs.
    counts = outside_of(tried[held], centers, radii, CLOSE_KM)
    if counts.size and counts.min() < depth:
        worst = position_of(tried[held][counts.argmin()])
        pytest.fail(f"{worst} is outside {counts.min()} discs, depth {depth}: {centers.tolist()} {radii.tolist()}")
    # Exact: some place in or on the region lies outside of no more.
    counts = outside_of(tried, centers, radii, margin_km + wide_km)
    nearly = tried[counts <= depth]
    assert len(nearly), (depth, int(counts.min()), centers.tolist(), radii.tolist())
    if oracle:
        assert oracle.nearly_holds(nearly, BENT_KM * 1e3).any(), (depth, centers.tolist(), radii.tolist())
    return depth


@EXACT
@given(disc_sets())
def test_v_star_is_what_a_search_finds(given_discs: tuple[Floats, Floats]) -> None:
    depth = check_depth(None, None, *given_discs)
    assert least_violations(DiscSet(given_discs[0], given_discs[1] * RADIUS_KM)) == depth


@pytest.mark.parametrize("seed", [1, 2])
def test_discs_that_only_touch_have_a_place_in_common(seed: int) -> None:
    """A disc holds its own edge (docs/protocol.md PL4), also where rounding sets two edges apart by a hair."""
    rng = np.random.default_rng(seed)
    for _ in range(500):
        a = rng.normal(size=3)
        a /= np.linalg.norm(a)
        b = a + rng.normal(size=3) * 10 ** rng.uniform(-4, 1)
        b /= np.linalg.norm(b)
        away, share = float(apart(a, b)), float(rng.uniform(0.05, 0.95))
        pair = np.stack([a, b])
        touching = DiscSet(pair, np.array([away * share, away * (1 - share)]) * RADIUS_KM)
        assert least_violations(touching) == 0
        assert least_violations(DiscSet(pair, touching.radii * RADIUS_KM - 1e-3)) == 1  # two meters apart
        if 1 < (radius := away * share * RADIUS_KM / WIDENING) < 9000:
            site = SiteDisc("s", position_of(a), radius)
            inside = atlas().ground(site).inside
            reach = float(apart(unit(site.center.latitude, site.center.longitude), b)) * RADIUS_KM - radius * WIDENING
            assert not depth_reaches(inside, DiscSet(b[None], np.array([reach])), 1)
            assert depth_reaches(inside, DiscSet(b[None], np.array([reach - 1e-3])), 1)


def _sites(near: bool) -> tuple[Region, ...]:  # noqa: FBT001
    radius = 40.0 if near else 2500.0
    return (
        SiteDisc("a", SPOTS[1], radius),
        SiteDisc("pole", Position(90, 0), radius),
        SiteDisc("cut", Position(-17, 180), radius),
        Complement(SiteDisc("a", SPOTS[0], radius)),
        AnyOf((SiteDisc("a", SPOTS[1], radius), SiteDisc("b", Position(40, -100), 3 * radius))),
        Complement(AnyOf((SiteDisc("a", SPOTS[1], radius), SiteDisc("b", Position(40, -100), 700)))),
    )


def ring_of(*points: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    return points


POLYGONS: tuple[Region, ...] = (
    Polygon("slanted", (ring_of((5, 45), (11, 48), (9, 54), (3, 52)),)),
    Polygon("with a hole", (ring_of((0, -5), (12, -5), (12, 5), (0, 5)), ring_of((4, -1), (8, -1), (8, 2), (4, 2)))),
    Polygon("along a parallel", (ring_of((-60, 55), (60, 55), (60, 62), (-60, 62)),)),
    Polygon("cap", (ring_of((-180, 70), (0, 70), (180, 70), (180, 90), (0, 90), (-180, 90)),)),
    Polygon(
        "cut",
        (
            ring_of((178, -19), (180, -19), (180, -15), (178, -15)),
            ring_of((-180, -19), (-178, -19), (-178, -15), (-180, -15)),
        ),
    ),
    Polygon("spike", (ring_of((103, 1), (104.5, 1.30), (104.5, 1.31)),)),
    Polygon(
        "twice",
        (
            ring_of((0, 0), (3, 0), (3, 3), (0, 3)),
            ring_of((3, 0), (6, 0), (6, 3), (3, 3)),
            ring_of((3, 0), (6, 0), (6, 3), (3, 3)),
        ),
    ),
)
"""The last one's second ring is drawn twice, so that by the even-odd rule it is not there."""

DRAWN: tuple[Region, ...] = (
    countries("SG"),
    countries("HK"),
    countries("LS"),
    countries("ZA"),
    countries("FJ"),
    countries("AQ"),
    countries("CH"),
    countries("CN", "HK", "MO"),
    Group("G:1"),
    Group("G:2"),
)


def check_both_sides(region: Region, drawn: tuple[Floats, Floats], *, border_margin: float = 0.0) -> None:
    own = grouped()
    ground = own.ground(region)
    margin = ground.margin_km(border_margin)
    check_depth(ground.inside, Oracle(region, GROUPS), *drawn, margin)
    check_depth(ground.outside, Oracle(Complement(region), GROUPS), *drawn, margin)


def grouped() -> Atlas:
    return Atlas(atlas()._shapes, "grouped", GROUPS)  # type: ignore[arg-type]


@pytest.mark.parametrize("near", [True, False], ids=["small", "large"])
@EXACT
@given(st.data())
def test_the_depth_of_sites_is_what_a_search_finds(near: bool, data: st.DataObject) -> None:  # noqa: FBT001
    region = data.draw(st.sampled_from(_sites(near)))
    spot = data.draw(st.sampled_from([*SPOTS, None]))
    check_both_sides(region, data.draw(disc_sets(spot)))


HOME = {
    "slanted": Position(50, 7),
    "with a hole": Position(0, 6),
    "along a parallel": Position(56, 10),
    "cap": Position(71, 100),
    "cut": Position(-17, 180),
    "spike": Position(1.29, 103.9),
    "twice": Position(1.5, 3.0),
}


@EXACT
@given(st.data())
def test_the_depth_of_polygons_is_what_a_search_finds(data: st.DataObject) -> None:
    region = data.draw(st.sampled_from(POLYGONS))
    assert isinstance(region, Polygon)
    check_both_sides(region, data.draw(disc_sets(data.draw(st.sampled_from([HOME[region.name], None])))))


COUNTRY_SPOTS = (*SPOTS[:7], Position(-60.0, 100.0), Position(47.2, 8.5), Position(22.3, 113.6), Position(-30, 27.1))


@EXACT
@given(st.data())
def test_the_depth_of_countries_is_what_a_search_finds(data: st.DataObject) -> None:
    region = data.draw(st.sampled_from(DRAWN))
    found = data.draw(disc_sets(data.draw(st.sampled_from(COUNTRY_SPOTS))))
    check_both_sides(region, found, border_margin=data.draw(st.sampled_from([0.0, 5.0])))


def near_border(data: st.DataObject, region: Region) -> tuple[Floats, Floats]:
    """Small discs around one place of the border, which they barely reach or barely miss."""
    edges = Oracle(region, GROUPS).edges()
    edge = edges[data.draw(st.integers(0, len(edges) - 1))]
    share = data.draw(st.floats(0, 1))
    longitude, latitude = edge[:2] + (edge[2:] - edge[:2]) * share
    middle = unit(float(latitude), float(longitude))
    centers, radii = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        radius = data.draw(st.floats(0.5, 9)) / RADIUS_KM
        away = radius * data.draw(st.sampled_from([0.3, 0.9, 0.99, 1.01, 1.1]))
        centers.append(ring(middle, away, np.array([data.draw(st.floats(0, 2 * math.pi))]))[0])
        radii.append(radius)
    return np.array(centers), np.array(radii)


@EXACT
@given(st.data())
def test_small_discs_that_barely_reach_a_border_are_seen_to_reach_it(data: st.DataObject) -> None:
    region = data.draw(st.sampled_from([*POLYGONS, *DRAWN]))
    check_both_sides(region, near_border(data, region))

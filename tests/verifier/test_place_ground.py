"""Regions of docs/protocol.md PL9 other than a site or countries: drawn areas, groups, unions, all that is not."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.verifier.helpers_place import (
    RADIUS_KM,
    SINGAPORE,
    WIDENING,
    atlas,
    countries,
    groups,
    position,
    prohibited,
    spread_over_earth,
    travel,
)
from verifier.errors import UsageError
from verifier.place import shapes
from verifier.place.geodesy import Position
from verifier.place.regions import (
    MAX_POLYGON_POINTS,
    AnyOf,
    Atlas,
    Complement,
    Countries,
    Group,
    Polygon,
    Region,
    SiteDisc,
    polygon_of,
)
from verifier.place.shapes import BEND_KM, RegionDistances

PIECE_ERROR_KM = 0.010
MARGIN_KM = 5.0
SITE = SiteDisc("Tuas", SINGAPORE, 500.0)
FRANKFURT = Position(50.11, 8.68)
OTHER = SiteDisc("Frankfurt", FRANKFURT, 300.0)

Points = Sequence[tuple[float, float]]


def drawn(*rings: Points, name: str = "yard") -> Polygon:
    return Polygon(name, tuple(tuple(ring) for ring in rings))


def box(west: float, south: float, east: float, north: float) -> Points:
    return ((west, south), (east, south), (east, north), (west, north))


YARD = drawn(box(-10, -10, 10, 10))


def km(degrees: float) -> float:
    return math.radians(degrees) * RADIUS_KM


def pair(found: RegionDistances) -> list[float]:
    return [found.to_region_km, found.to_complement_km]


# polygons


def test_a_polygon_has_the_distances_that_one_reckons() -> None:
    assert pair(atlas().distances(YARD, Position(0, 7))) == pytest.approx([0, km(3)], abs=PIECE_ERROR_KM)
    assert pair(atlas().distances(YARD, Position(0, 12))) == pytest.approx([km(2), 0], abs=PIECE_ERROR_KM)
    assert atlas().contains(YARD, Position(9.9, -9.9))
    assert not atlas().contains(YARD, Position(10.1, 0))


def test_longitude_comes_first() -> None:
    tall = drawn(box(10, 20, 12, 60))
    assert atlas().contains(tall, Position(latitude=50, longitude=11))
    assert not atlas().contains(tall, Position(latitude=11, longitude=50))


def test_a_polygon_with_a_hole_holds_what_is_around_it() -> None:
    ring = drawn(box(-10, -10, 10, 10), box(-1, -1, 1, 1))
    middle = atlas().distances(ring, Position(0, 0))
    assert pair(middle) == pytest.approx([km(1), 0], abs=PIECE_ERROR_KM)
    assert pair(atlas().distances(ring, Position(0, 3))) == pytest.approx([0, km(2)], abs=PIECE_ERROR_KM)


def test_an_edge_that_is_drawn_three_times_bounds_and_one_that_is_drawn_twice_does_not() -> None:
    west, east = box(0, 0, 10, 10), box(10, 0, 20, 10)
    pin = ((10.0, 0.0), (10.0, 10.0), (10.0, 5.0))  # over the edge between the two, and back
    both = drawn(west, east)
    assert atlas().distances(both, Position(5, 9)).to_complement_km > km(4)
    # Three copies: by the even-odd rule there is a border again, though it encloses nothing.
    thrice = drawn(west, east, ((10.0, 0.0), (10.0, 10.0), (12.0, 5.0)))
    assert atlas().contains(thrice, Position(5, 9))
    assert not atlas().contains(thrice, Position(5, 10.5))
    assert atlas().distances(thrice, Position(5, 9)).to_complement_km == pytest.approx(km(1), rel=0.01)
    assert atlas().contains(drawn(west, east, pin), Position(5, 9))


def test_an_edge_of_a_polygon_is_straight_in_longitude_and_latitude() -> None:
    wide = drawn(box(-50, 50, 50, 80))
    assert atlas().contains(wide, Position(50.01, 0))
    assert not atlas().contains(wide, Position(49.99, 0))
    assert atlas().distances(wide, Position(52, 0)).to_complement_km == pytest.approx(km(2), abs=PIECE_ERROR_KM)


def test_a_polygon_may_be_cut_at_180_degrees_and_is_one() -> None:
    halves = drawn(box(170, -10, 180, 10), box(-180, -10, -170, 10))
    for longitude in (179.9, 180.0, -180.0, -179.9):
        assert atlas().distances(halves, Position(0, longitude)).to_complement_km > km(9)


@pytest.mark.parametrize(
    ("rings", "message"),
    [
        ((), "three points"),
        ((((0.0, 0.0), (1.0, 0.0)),), "three points"),
        ((box(0, 0, 1, 1), ()), "three points"),
        ((box(0, 0, 180.001, 1),), "not on Earth"),
        ((box(-180.001, 0, 0, 1),), "not on Earth"),
        ((box(0, 0, 1, 90.001),), "not on Earth"),
        ((box(0, math.nan, 1, 1),), "not on Earth"),
        ((box(0, 0, math.inf, 1),), "not on Earth"),
        # The shape that somebody draws over the 180th meridian without cutting it there.
        ((((179.0, 0.0), (-179.0, 0.0), (-179.0, 1.0), (179.0, 1.0)),), "more than 180 degrees"),
        ((((-100.0, 0.0), (0.0, 0.0), (100.0, 1.0)),), "more than 180 degrees"),  # the edge that closes it
    ],
)
def test_a_polygon_that_is_none_is_refused(rings: tuple[Points, ...], message: str) -> None:
    with pytest.raises(UsageError, match=f"polygon 'yard'.*{message}"):
        drawn(*rings)


def test_an_edge_of_half_the_earth_is_the_longest() -> None:
    assert atlas().contains(drawn(((-90.0, 0.0), (90.0, 0.0), (0.0, 60.0))), Position(1, 0))


def test_a_polygon_has_a_budget_of_points() -> None:
    turns = [2 * math.pi * k / MAX_POLYGON_POINTS for k in range(MAX_POLYGON_POINTS)]
    ring = [(math.cos(t), math.sin(t)) for t in turns]
    assert len(drawn(ring).rings[0]) == MAX_POLYGON_POINTS == 10_000
    with pytest.raises(UsageError, match="more than 10,000 points"):
        drawn([*ring, (2.0, 0.0)])
    with pytest.raises(UsageError, match="more than 10,000 points"):
        drawn(ring, box(3, 3, 4, 4))  # over all rings


# GeoJSON

RING: Any = [[0.0, 0.0], [10, 0], [10, 10], [0, 0]]
HOLE: Any = [[2, 1], [9, 1], [9, 8], [2, 1]]


def test_geojson_gives_rings_without_their_last_point() -> None:
    found = polygon_of("yard", {"type": "Polygon", "coordinates": [RING, HOLE]})
    assert found == drawn(((0, 0), (10, 0), (10, 10)), ((2, 1), (9, 1), (9, 8)))
    multi = polygon_of(
        "yard", {"type": "MultiPolygon", "coordinates": [[RING, HOLE], [[[p[0] - 20, p[1]] for p in RING]]]}
    )
    assert multi == AnyOf((found, drawn(((-20, 0), (-10, 0), (-10, 10)))))
    assert polygon_of("yard", {"type": "MultiPolygon", "coordinates": [[RING, HOLE]]}) == found


def test_parts_that_overlap_are_joined() -> None:
    """By the even-odd rule over all rings, what two parts share would be outside."""
    shifted = [[x + 1, y] for x, y in RING]
    region = polygon_of("yard", {"type": "MultiPolygon", "coordinates": [[RING], [shifted]]})
    assert atlas().contains(region, Position(2.0, 6.0))


def test_polygons_have_budgets() -> None:
    many = [[x / 1000, 0.5] for x in range(6_000)]
    closed = [*many, [0, 1], many[0]]
    assert polygon_of("yard", {"type": "Polygon", "coordinates": [closed]}) != YARD
    with pytest.raises(UsageError, match="more than 10,000 points"):
        polygon_of("yard", {"type": "Polygon", "coordinates": [closed, closed]})
    with pytest.raises(UsageError, match="more than 10,000 points"):
        polygon_of("yard", {"type": "MultiPolygon", "coordinates": [[closed], [closed]]})
    long = [[x % 2 * 170, 0.5] for x in range(60)]
    with pytest.raises(UsageError, match="longer than 10,000 degrees"):
        polygon_of("yard", {"type": "Polygon", "coordinates": [[*long, [0, 1], long[0]]]})


def test_geojson_may_tell_a_height_and_other_members() -> None:
    high = [[x, y, 12.5] for x, y in RING]
    assert polygon_of("yard", {"type": "Polygon", "bbox": [], "coordinates": [high]}) == drawn(
        ((0, 0), (10, 0), (10, 10))
    )


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        [],
        "Polygon",
        {},
        {"type": "Polygon"},
        {"coordinates": [RING]},
        {"type": "Point", "coordinates": [0, 0]},
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [RING]}},
        {"type": "polygon", "coordinates": [RING]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": {}},
        {"type": "Polygon", "coordinates": "ring"},
        {"type": "Polygon", "coordinates": [None]},
        {"type": "Polygon", "coordinates": [{}]},
        {"type": "Polygon", "coordinates": [[]]},
        {"type": "Polygon", "coordinates": [RING[:-1]]},  # not closed
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]},  # nothing inside
        {"type": "Polygon", "coordinates": [RING, []]},
        {"type": "Polygon", "coordinates": [[[0], [1, 0], [1, 1], [0]]]},
        {"type": "Polygon", "coordinates": [[["0", 0], [1, 0], [1, 1], ["0", 0]]]},
        {"type": "Polygon", "coordinates": [[[None, 0], [1, 0], [1, 1], [None, 0]]]},
        {"type": "Polygon", "coordinates": [[[True, 0], [1, 0], [1, 1], [True, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, False], [1, 0], [1, 1], [0, False]]]},
        {"type": "Polygon", "coordinates": [[3, 4, 5, 3]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [math.nan, 0], [1, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [math.inf, 0], [1, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [10**400, 0], [1, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, -(10**400)], [1, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [200, 0], [1, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[0, 0], [0, 100], [1, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[RING]]},
        {"type": "MultiPolygon", "coordinates": []},
        {"type": "MultiPolygon", "coordinates": [None]},
        {"type": "MultiPolygon", "coordinates": [RING]},
        {"type": "MultiPolygon", "coordinates": [[RING], 5]},
        {"type": "MultiPolygon", "coordinates": [[]]},
    ],
    ids=repr,
)
def test_geojson_that_is_no_polygon_is_a_misuse(geometry: object) -> None:
    with pytest.raises(UsageError, match="polygon 'yard'"):
        polygon_of("yard", geometry)


@pytest.mark.parametrize(
    ("ring", "told"),
    [
        ([[8, 95], [1, 0], [1, 1], [8, 95]], "a position is not on Earth (longitude comes first)"),
        ([["8", 5], [1, 0], [1, 1], ["8", 5]], "a position is not [longitude, latitude]"),
        (RING[:-1], "a ring needs four positions at least, the last one equal to the first"),
        ([[-100, 0], [0, 0], [100, 1], [-100, 0]], "an edge spans more than 180 degrees of longitude"),
    ],
)
def test_a_polygon_without_a_name_yet_is_called_nothing(ring: Any, told: str) -> None:
    geometry = {"type": "Polygon", "coordinates": [ring]}
    for name, expected in (("", told), ("yard", f"polygon 'yard': {told}")):
        with pytest.raises(UsageError) as caught:
            polygon_of(name, geometry)
        assert str(caught.value) == expected


def test_geojson_from_text_is_read_back() -> None:
    text = json.dumps({"type": "Polygon", "coordinates": [[list(p) for p in (*YARD.rings[0], YARD.rings[0][0])]]})
    assert polygon_of("yard", json.loads(text)) == YARD


# groups


def test_a_group_is_its_countries() -> None:
    found, members = Group("A:5"), Countries(groups().members["A:5"])
    for place in (SINGAPORE, FRANKFURT, Position(35.68, 139.69)):
        assert atlas().distances(found, place) == atlas().distances(members, place)
        assert atlas().contains(found, place) is atlas().contains(members, place)
    assert atlas().countries(found) == members.codes
    assert atlas().countries(members) == members.codes
    assert atlas().countries(SITE) == frozenset()


def test_a_group_that_no_list_has_is_a_misuse() -> None:
    for asked in (atlas().ground, atlas().countries):
        with pytest.raises(UsageError, match="no group 'Z:9'"):
            asked(Group("Z:9"))
    with pytest.raises(UsageError, match="no group 'Z:9'"):
        atlas().distances(AnyOf((SITE, Group("Z:9"))), SINGAPORE)
    without = Atlas.parse(_square("AA"), "none")
    with pytest.raises(UsageError, match="no group 'A:5'"):
        without.contains(Group("A:5"), SINGAPORE)


def test_a_member_of_a_group_without_a_shape_is_a_misuse() -> None:
    listed = Atlas.parse(_square("AA"), "squares", {"A:5": countries("AA", "QQ").codes})
    with pytest.raises(UsageError, match="no country 'QQ'"):
        listed.ground(Group("A:5"))


def _square(code: str) -> bytes:
    coordinates = [[[[0, 0], [0, 1], [1, 1], [0, 0]]]]
    geometry: dict[str, Any] = {"type": "MultiPolygon", "coordinates": coordinates}
    return json.dumps({"features": [{"properties": {"iso1A2": code}, "geometry": geometry}]}).encode()


# unions and complements


def test_the_union_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="union of no region"):
        AnyOf(())


def test_a_union_is_as_near_as_its_nearest_member() -> None:
    union = AnyOf((SITE, OTHER, countries("AU")))
    for place in (Position(20, 60), Position(48, 2), Position(-40, 120)):
        members = [atlas().distances(m, place).to_region_km for m in union.members]
        found = atlas().distances(union, place)
        assert found.to_region_km == pytest.approx(min(members), abs=1e-6)
        assert found.to_complement_km == 0.0
    at = travel(FRANKFURT, 10, 100)
    assert pair(atlas().distances(union, at)) == pytest.approx([0, 300 / WIDENING - 100], abs=1e-6)


def test_a_site_and_a_country_join_where_they_overlap() -> None:
    near_border = SiteDisc("Changi", Position(1.36, 103.99), 30.0)
    alone = atlas().distances(countries("SG"), near_border.center).to_complement_km
    both = atlas().distances(AnyOf((countries("SG"), near_border)), near_border.center)
    assert both.to_region_km == 0.0
    # The border within the disc may make the other side look nearer, and never farther.
    assert both.to_complement_km <= max(alone, 30 / WIDENING) + 1e-6
    assert atlas().contains(AnyOf((countries("SG"), near_border)), travel(near_border.center, 0, 25))
    assert not atlas().contains(countries("SG"), travel(near_border.center, 0, 25))


@pytest.mark.parametrize("region", [SITE, YARD, countries("DE", "FR"), AnyOf((SITE, countries("DE")))], ids=str)
def test_what_is_not_in_a_region_has_its_distances_the_other_way_round(region: Region) -> None:
    for place in (SINGAPORE, FRANKFURT, Position(0, 9), travel(SINGAPORE, 40, 500), Position(-60, -60)):
        inner, outer = atlas().distances(region, place), atlas().distances(Complement(region), place)
        assert pair(outer) == pair(inner)[::-1]
        assert pair(atlas().distances(Complement(Complement(region)), place)) == pair(inner)
        assert atlas().contains(Complement(region), place) is not atlas().contains(region, place)


def test_the_seam_of_a_site_belongs_to_both_sides_of_every_region_that_has_it() -> None:
    """A true kilometer is longer or shorter on the sphere: within 0.562 % of the rim nothing is sure, both ways."""
    seam = [
        travel(SINGAPORE, 80.0 * k, 500 * share) for k, share in enumerate((1 / WIDENING, 0.996, 1.0, 1.004, WIDENING))
    ]
    apart = SiteDisc("far", FRANKFURT, 10.0)
    for region in (SITE, AnyOf((SITE, apart)), Complement(SITE), Complement(AnyOf((SITE, apart)))):
        for place in seam:
            assert pair(atlas().distances(region, place)) == pytest.approx([0, 0], abs=1e-4), (region, place)
        for share, inside in ((0.99, True), (1.01, False)):
            place = travel(SINGAPORE, 33, 500 * share)
            found = atlas().distances(region, place)
            held = found.to_region_km == 0.0
            assert held is (inside is not isinstance(region, Complement))
            assert max(pair(found)) > 1


def test_the_nearest_places_are_where_they_are_said_to_be() -> None:
    for region in (SITE, YARD, countries("DE"), AnyOf((SITE, countries("MY")))):
        for place in (Position(3, 101), FRANKFURT, Position(30, 10), SINGAPORE):
            found = atlas().distances(region, place)
            here = np.array(place.triple())
            for nearest, away in (
                (found.in_region, found.to_region_km),
                (found.in_complement, found.to_complement_km),
            ):
                there = np.array(nearest)
                assert np.linalg.norm(there) == pytest.approx(1.0)
                cross = np.linalg.norm(np.cross(here, there))
                assert math.atan2(cross, here @ there) * RADIUS_KM == pytest.approx(away, abs=1e-3)


def test_the_margin_is_that_of_what_is_drawn() -> None:
    expected: list[tuple[Region, float]] = [
        (SITE, 0.0),  # its seam is the ellipsoid's, and it is exact
        (AnyOf((SITE, OTHER)), 0.0),
        (Complement(SITE), 0.0),
        (YARD, BEND_KM),  # an area of the license is no border, yet its edges are no great circles
        (AnyOf((SITE, YARD)), BEND_KM),
        (countries("DE"), MARGIN_KM + BEND_KM),
        (Group("A:5"), MARGIN_KM + BEND_KM),
        (Complement(prohibited()), MARGIN_KM + BEND_KM),
        (AnyOf((SITE, countries("DE"))), MARGIN_KM + BEND_KM),
        (Complement(AnyOf((SITE, countries("DE")))), MARGIN_KM + BEND_KM),
    ]
    for region, margin in expected:
        assert atlas().ground(region).margin_km(MARGIN_KM) == pytest.approx(margin), region
    assert BEND_KM == PIECE_ERROR_KM


@pytest.mark.parametrize(
    ("region", "site"),
    [
        (SITE, True),
        (YARD, True),
        (AnyOf((SITE, OTHER)), True),
        (AnyOf((countries("DE"), AnyOf((YARD,)))), True),
        (countries("DE"), False),
        (Group("A:5"), False),
        (AnyOf((countries("DE"), Group("A:5"))), False),
        (Complement(SITE), False),
    ],
    ids=str,
)
def test_a_union_with_a_site_is_a_site(region: Region, site: bool) -> None:  # noqa: FBT001  (a column of the table)
    assert atlas().ground(region).site is site


def test_regions_print_as_an_officer_would_write_them() -> None:
    assert str(YARD) == "site yard (a drawn area of 4 points)"
    assert str(Group("A:5")) == "country group A:5"
    assert str(AnyOf((YARD, countries("SG", "MY")))) == "site yard (a drawn area of 4 points) or MY, SG"
    assert str(Complement(countries("CN"))) == "outside CN"
    # A MultiPolygon is one site.
    triangle = Polygon("yard", (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)),))
    elsewhere = Polygon("works", triangle.rings)
    assert str(AnyOf((YARD, triangle))) == "site yard (2 drawn areas, 7 points)"
    assert str(AnyOf((triangle,))) == "site yard (a drawn area of 3 points)"
    assert str(AnyOf((YARD, elsewhere))) == f"{YARD} or {elsewhere}"
    assert str(AnyOf((triangle, YARD, countries("SG")))) == f"{triangle} or {YARD} or SG"


def test_membership_does_not_depend_on_how_many_places_are_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = atlas().ground(countries("DE", "FR")).inside
    places = np.concatenate(
        [spread_over_earth(300), [travel(FRANKFURT, 9.0 * k, 20.0 * k).vector() for k in range(60)]]
    )
    at_once = shape.contains(places)
    assert at_once.any()
    monkeypatch.setattr(shapes, "_CHUNK", 7)
    assert (shape.contains(places) == at_once).all()
    assert [atlas().contains(countries("DE", "FR"), position(v)) for v in places] == at_once.tolist()


def test_a_cap_that_is_drawn_up_to_the_pole_holds_the_pole() -> None:
    halves = drawn(box(-180, 60, 0, 90), box(0, 60, 180, 90))
    ring = drawn(((-180, 60), (0, 60), (180, 60), (180, 90), (0, 90), (-180, 90)))
    # The edges from the cut to Greenwich and on to the cut are two, though both ends of each look alike.
    beside = drawn(*ring.rings, box(0, -20, 10, -10))
    for cap in (halves, ring, beside):
        assert atlas().ground(cap).inside.contains(np.array([[0.0, 0.0, 1.0]])).all()
        assert atlas().distances(cap, Position(89, 20)).to_complement_km == pytest.approx(km(29), abs=0.1)
        assert atlas().distances(cap, Position(50, -90)).to_region_km == pytest.approx(km(10), abs=0.1)

"""Countries and sites: which places they hold, and how far the nearest place inside and outside is."""

import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import spherely
from numpy.typing import NDArray

import geodata
from tests.verifier.helpers_place import (
    RADIUS_KM,
    SINGAPORE,
    WIDENING,
    angle,
    around,
    atlas,
    countries,
    prohibited,
    sphere_km,
    travel,
    vector,
    wgs84_km,
)
from verifier.errors import UsageError
from verifier.place import regions, shapes
from verifier.place.borders import CRIMEA
from verifier.place.geodesy import HALF_CIRCUMFERENCE_KM, Position, distance_km, nearest_on_arcs
from verifier.place.regions import Atlas, Countries, Polygon, SiteDisc, polygon_of
from verifier.place.shapes import RegionDistances
from verifier.units import CountryCode

PIECE_ERROR_KM = 0.010  # verifier/place/shapes.py: great-circle arcs stay within 10 m of edges as drawn

HARD_POINTS = [
    ("Shenzhen", 22.543, 114.058, "CN"),
    ("Futian port, at the river", 22.5230, 114.0560, "CN"),
    ("Sheung Shui", 22.501, 114.128, "HK"),
    ("Hong Kong", 22.3193, 114.1694, "HK"),
    ("Macau", 22.1987, 113.5439, "MO"),
    ("Cotai", 22.145, 113.560, "MO"),
    ("Gongbei, Zhuhai", 22.2200, 113.5520, "CN"),
    ("Hengqin", 22.12, 113.53, "CN"),
    ("Taipei", 25.03, 121.56, "TW"),
    ("Kinmen", 24.43, 118.32, "TW"),
    ("Xiamen", 24.48, 118.09, "CN"),
    ("Singapore", 1.29, 103.85, "SG"),
    ("Johor Bahru", 1.4927, 103.7414, "MY"),
    ("Batam", 1.1301, 104.0529, "ID"),
    ("Kuala Lumpur", 3.139, 101.6869, "MY"),
    ("Labuan", 5.28, 115.24, "MY"),
    ("Maseru, in the enclave", -29.31, 27.48, "LS"),
    ("Ladybrand, around it", -29.19, 27.46, "ZA"),
    ("Vatican", 41.9022, 12.4533, "VA"),
    ("Rome", 41.8902, 12.4922, "IT"),
    ("San Marino", 43.9367, 12.4464, "SM"),
    ("Campione, an exclave", 45.97, 8.97, "IT"),
    ("Kaliningrad, an exclave", 54.71, 20.51, "RU"),
    ("Vilnius", 54.687, 25.28, "LT"),
    ("Anadyr, west of 180", 64.73, 177.5, "RU"),
    ("Chukotka, east of 180", 66.0, -172.0, "RU"),
    ("Suva", -18.14, 178.44, "FJ"),
    ("Taveuni, west of 180", -16.9, 179.95, "FJ"),
    ("Taveuni, east of 180", -16.82, -179.99, "FJ"),
    ("Simferopol", 44.95, 34.10, "UA-43"),
    ("Sevastopol", 44.60, 33.52, "UA-43"),
    ("Kherson", 46.63, 32.60, "UA"),
    ("Busingen, in Switzerland", 47.697, 8.690, "DE"),
    ("Schaffhausen", 47.696, 8.634, "CH"),
    ("Baarle-Hertog", 51.4415, 4.9317, "BE"),
    ("Baarle-Nassau", 51.4465, 4.9290, "NL"),
    ("Ceuta", 35.89, -5.32, "ES"),
    ("Llivia", 42.464, 1.980, "ES"),
    ("Musandam", 26.18, 56.25, "OM"),
    ("Dubai", 25.20, 55.27, "AE"),
    ("Kaesong", 37.97, 126.55, "KP"),
    ("Seoul", 37.57, 126.98, "KR"),
    ("the south pole", -90, 0, "AQ"),
    ("the north pole", 90, 0, None),
    ("the mid Pacific", 0, -140, None),
]


def owner(place: Position) -> list[str]:
    return sorted(c for c in atlas().country_codes if atlas().contains(countries(c), place))


@pytest.mark.parametrize(
    ("latitude", "longitude", "code"), [p[1:] for p in HARD_POINTS], ids=[p[0] for p in HARD_POINTS]
)
def test_each_hard_point_is_in_its_country_and_in_no_other(latitude: float, longitude: float, code: str | None) -> None:
    place = Position(latitude, longitude)
    assert owner(place) == ([] if code is None else [code])
    if code is not None:
        found = atlas().distances(countries(code), place)
        assert found.to_region_km == 0.0
        assert found.to_complement_km > 0


@cache
def drawn() -> dict[str, list[NDArray[np.float64]]]:
    shapes: dict[str, list[NDArray[np.float64]]] = {}
    for feature in json.loads(geodata.read_borders())["features"]:
        properties = feature["properties"]
        reserved = properties.get("isoStatus") == "excRes"  # FX is not a country: France is
        code = (None if reserved else properties.get("iso1A2")) or properties.get("country")
        if properties.get("wikidata") == "Q7835":
            code = "UA-43"
        if feature["geometry"] is None or not code:
            continue
        for polygon in feature["geometry"]["coordinates"]:
            shapes.setdefault(code, []).append(np.concatenate([_closed(ring) for ring in polygon]))
    return shapes


def _closed(ring: list[list[float]]) -> NDArray[np.float64]:
    points = np.array(ring)
    if (points[0] != points[-1]).any():
        points = np.vstack([points, points[:1]])
    return np.concatenate([points[:-1], points[1:]], axis=1)  # edges (x1, y1, x2, y2)


def drawn_contains(codes: Iterable[str], places: Sequence[Position]) -> NDArray[np.bool_]:
    """Whether any polygon of any country holds a place; each polygon by itself, rays to the north."""
    inside = np.zeros(len(places), dtype=bool)
    x = np.array([p.longitude for p in places])[:, None]
    y = np.array([p.latitude for p in places])[:, None]
    for code in codes:
        for edges in drawn()[code]:
            x1, y1, x2, y2 = edges.T
            spans = (x1 > x) != (x2 > x)
            with np.errstate(divide="ignore", invalid="ignore"):
                at = y1 + (x - x1) * (y2 - y1) / (x2 - x1)
            inside |= (spans & (at > y)).sum(axis=1) % 2 == 1
    return inside


def boundary_km(code: str, place: Position) -> float:
    """Distance to a country's drawn outline by S2, its edges cut far finer than the code cuts them."""
    here = spherely.create_point(place.longitude, place.latitude)
    least = math.inf
    for edges in drawn()[code]:
        for x1, y1, x2, y2 in edges:
            n = max(2, math.ceil(max(abs(x2 - x1), abs(y2 - y1)) / 0.05) + 1)
            line = spherely.create_linestring(np.stack([np.linspace(x1, x2, n), np.linspace(y1, y2, n)], axis=1))
            least = min(least, float(spherely.distance(here, line, RADIUS_KM)))
    return least


CHECKED = [
    (("SG",), SINGAPORE),
    (("SG",), Position(1.4927, 103.7414)),
    (("SG",), Position(35.68, 139.69)),
    (("MY",), Position(3.139, 101.6869)),
    (("LS",), Position(-29.31, 27.48)),
    (("ZA",), Position(-29.31, 27.48)),  # in its hole
    (("HK",), Position(22.543, 114.058)),
    (("CN",), Position(30.0, 110.0)),
    (("CA",), Position(60.0, -100.0)),  # edges along parallels, hundreds of kilometers from their great circles
    (("US",), Position(47.0, -100.0)),
    (("IS",), Position(51.5, 0.0)),
    (("VA",), Position(41.9022, 12.4533)),
    (("UA-43",), Position(46.63, 32.6)),
]


@pytest.mark.parametrize(("codes", "place"), CHECKED, ids=[f"{c[0]} from {p.latitude}" for c, p in CHECKED])
def test_distances_to_one_country_are_those_of_s2(codes: tuple[str, ...], place: Position) -> None:
    found = atlas().distances(countries(*codes), place)
    inside = bool(drawn_contains(codes, [place])[0])
    expected = boundary_km(codes[0], place)
    # Outlines of parts of one country may stand inside it; none does in these countries.
    measured = found.to_complement_km if inside else found.to_region_km
    assert (found.to_region_km == 0.0) is inside
    assert (found.to_complement_km == 0.0) is not inside
    assert measured == pytest.approx(expected, abs=PIECE_ERROR_KM)


LOOSELY_DRAWN = {"RU", "FJ", "MO"}
"""The halves of Russia and Fiji leave a gap at 180 degrees, Macau and China one of two meters at Gongbei. Such a gap is
of no country, so the nearest place outside is there: too small to be sampled, and on the safe side."""

BRUTE = [
    *CHECKED,
    (("CN", "HK"), Position(22.5, 114.13)),
    (("CN", "HK", "MO"), Position(22.3193, 114.1694)),
    (("ZA", "LS"), Position(-29.31, 27.48)),
    (("IT", "VA"), Position(41.9022, 12.4533)),
    (("DE", "FR", "BE", "NL", "LU"), Position(50.0, 6.0)),
    (("SG", "MY"), SINGAPORE),
    (("GB",), Position(54.0, -2.0)),
    (("UA", "UA-43"), Position(45.5, 34.0)),
    (("FJ",), Position(-17.0, 179.0)),
    (("RU",), Position(66.0, -176.0)),
    (("RU",), Position(64.5, 178.5)),
]


@pytest.mark.parametrize(("codes", "place"), BRUTE, ids=[f"{'+'.join(c)} from {p.latitude}" for c, p in BRUTE])
def test_no_place_of_the_region_or_its_complement_is_nearer_than_said(codes: tuple[str, ...], place: Position) -> None:
    found = atlas().distances(countries(*codes), place)
    inside = found.to_region_km == 0.0
    least = float(found.to_complement_km if inside else found.to_region_km)
    assert bool(drawn_contains(codes, [place])[0]) is inside
    within = drawn_contains(codes, around(place, least * 0.9995, 6000))
    assert (within == inside).all()  # the safe direction: the far side is nowhere nearer than said
    if LOOSELY_DRAWN & set(codes):
        return
    rim = [travel(place, bearing, least * 1.01 + 0.05) for bearing in np.linspace(0, 360, 3000)]
    assert (drawn_contains(codes, rim) != inside).any()  # and it is where said


@pytest.mark.parametrize(
    ("code", "place"),
    [
        ("FR", Position(48.8566, 2.3522)),  # Paris, in the feature FX
        ("FR", Position(10.30, -109.22)),  # Clipperton, CP
        ("ES", Position(28.10, -15.41)),  # Las Palmas, IC
        ("GB", Position(-7.95, -14.36)),  # Ascension, AC
        ("GB", Position(51.5, -0.12)),
        ("XK", Position(42.66, 21.16)),  # assigned by its users, and in use
    ],
)
def test_codes_that_are_only_reserved_are_no_countries(code: str, place: Position) -> None:
    assert atlas().contains(countries(code), place)
    assert {"FX", "CP", "IC", "AC", "TA", "DG", "CQ"}.isdisjoint(atlas().country_codes)


def test_every_country_holds_what_any_of_its_parts_holds() -> None:
    rng = np.random.default_rng(7)
    for code, polygons in drawn().items():
        for edges in polygons:
            corners = edges[:, :2]
            share = rng.random((12, 2))
            low, high = corners.min(axis=0), corners.max(axis=0)
            tried = [Position(float(y), float(x)) for x, y in low + share * (high - low)]
            held = [atlas().contains(countries(code), p) for p in tried]
            assert held == drawn_contains([code], tried).tolist(), code


def test_a_border_between_two_members_is_no_border_of_their_union() -> None:
    at_the_river = Position(22.50, 114.13)  # Hong Kong, 2 km from Shenzhen
    assert atlas().distances(countries("HK"), at_the_river).to_complement_km < 5
    union = atlas().distances(countries("CN", "HK"), at_the_river)
    assert union.to_region_km == 0.0
    # The nearest place of neither is in the waters of Macau or at sea.
    outer = min(boundary_km("MO", at_the_river), 200.0)
    assert 20 < union.to_complement_km <= outer
    assert atlas().distances(countries("CN", "HK", "MO"), at_the_river).to_complement_km >= union.to_complement_km


def test_an_enclave_disappears_in_the_union_with_what_is_around_it() -> None:
    maseru = Position(-29.31, 27.48)
    assert atlas().distances(countries("LS"), maseru).to_complement_km < 10
    assert atlas().distances(countries("ZA"), maseru).to_region_km < 10
    both = atlas().distances(countries("ZA", "LS"), maseru)
    assert both.to_region_km == 0.0
    assert 250 < both.to_complement_km < 500  # the sea, or Eswatini
    vatican = Position(41.9022, 12.4533)
    assert atlas().distances(countries("VA"), vatican).to_complement_km < 1
    assert atlas().distances(countries("IT", "VA"), vatican).to_complement_km > 20


def test_crimea_is_no_part_of_ukraine_here_and_one_region_with_it() -> None:
    simferopol = Position(44.95, 34.10)
    assert atlas().distances(countries("UA"), simferopol).to_region_km > 50
    assert atlas().distances(countries("UA", "UA-43"), simferopol).to_region_km == 0.0
    at_the_isthmus = Position(46.08, 33.9)
    alone = [atlas().distances(countries(c), at_the_isthmus).to_complement_km for c in ("UA", "UA-43")]
    assert atlas().distances(countries("UA", "UA-43"), at_the_isthmus).to_complement_km > 5 * max(alone)


def test_the_order_of_members_does_not_matter() -> None:
    for place in (SINGAPORE, Position(22.5, 114.13)):
        assert atlas().distances(countries("CN", "HK"), place) == atlas().distances(countries("HK", "CN"), place)


def test_antarctica_ends_at_its_parallel_and_neither_at_the_cut_nor_at_the_pole() -> None:
    expected = 15 / 180 * math.pi * 6371
    for longitude in (-180, -179.9, -10, 0, 120, 179.9):
        found = atlas().distances(countries("AQ"), Position(-75, longitude))
        assert found.to_region_km == 0.0
        assert found.to_complement_km == pytest.approx(expected, abs=PIECE_ERROR_KM)
    pole = atlas().distances(countries("AQ"), Position(-90, 0))
    assert pole.to_complement_km == pytest.approx(2 * expected, abs=PIECE_ERROR_KM)
    north = atlas().distances(countries("AQ"), Position(90, 0))
    assert north.to_region_km == pytest.approx(150 / 180 * math.pi * 6371, abs=PIECE_ERROR_KM)


def test_fiji_and_russia_are_near_from_both_sides_of_the_cut() -> None:
    for code, latitude in (("FJ", -17.0), ("RU", 66.0)):
        for longitude in (179.5, 179.9, -179.9, -179.5):
            found = atlas().distances(countries(code), Position(latitude, longitude))
            assert found.to_region_km == 0.0
            # Their two halves are drawn up to 0.016 degrees apart, so the cut may count as a border, which only makes
            # the complement look nearer.
            assert 0 < found.to_complement_km <= boundary_km(code, Position(latitude, longitude)) + PIECE_ERROR_KM


def square(west: float, south: float, east: float, north: float) -> list[list[list[float]]]:
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def draw(*features: tuple[dict[str, Any], Any]) -> bytes:
    return json.dumps(
        {
            "type": "FeatureCollection",
            "features": [{"type": "Feature", "properties": p, "geometry": g} for p, g in features],
        }
    ).encode()


def shape(*polygons: list[list[list[float]]]) -> dict[str, Any]:
    return {"type": "MultiPolygon", "coordinates": list(polygons)}


def parse(*features: tuple[dict[str, Any], Any]) -> Atlas:
    return Atlas.parse(draw(*features), "drawn")


def pair(found: RegionDistances) -> list[float]:
    return [found.to_region_km, found.to_complement_km]


def km(degrees: float) -> float:
    return math.radians(degrees) * RADIUS_KM


def test_a_square_at_the_equator_has_the_distances_that_one_reckons() -> None:
    own = parse(({"iso1A2": "AA"}, shape(square(-10, -10, 10, 10))))
    assert own.version == "drawn"
    assert own.country_codes == {"AA"}
    inside = own.distances(countries("AA"), Position(0, 7))
    assert pair(inside) == pytest.approx([0, km(3)], abs=PIECE_ERROR_KM)
    outside = own.distances(countries("AA"), Position(0, 12))
    assert pair(outside) == pytest.approx([km(2), 0], abs=PIECE_ERROR_KM)
    corner = own.distances(countries("AA"), Position(11, 11))
    assert corner.to_region_km == pytest.approx(sphere_km(Position(11, 11), Position(10, 10)), abs=PIECE_ERROR_KM)


def test_a_place_as_far_north_as_a_corner_is_inside_or_outside_once() -> None:
    diamond = [[[0.0, -1.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]]
    own = parse(({"iso1A2": "AA"}, shape(diamond)))
    for longitude, inside in ((-2, False), (-0.5, True), (0.0, True), (0.5, True), (2, False)):
        assert own.contains(countries("AA"), Position(0, longitude)) is inside
    assert not own.contains(countries("AA"), Position(1, -0.5))
    assert not own.contains(countries("AA"), Position(-1, -0.5))


def test_an_edge_is_straight_in_longitude_and_latitude_and_no_great_circle() -> None:
    own = parse(({"iso1A2": "AA"}, shape(square(-50, 50, 50, 80))))
    # The great circle between (50, -50) and (50, 50) passes 61.6 N: 1,300 km north of the edge as drawn.
    assert own.contains(countries("AA"), Position(50.01, 0))
    assert not own.contains(countries("AA"), Position(49.99, 0))
    assert own.distances(countries("AA"), Position(52, 0)).to_complement_km == pytest.approx(km(2), abs=PIECE_ERROR_KM)
    assert own.distances(countries("AA"), Position(48, 0)).to_region_km == pytest.approx(km(2), abs=PIECE_ERROR_KM)


def test_an_open_ring_is_closed() -> None:
    ring = square(-10, -10, 10, 10)[0][:-1]
    closed = parse(({"iso1A2": "AA"}, shape(square(-10, -10, 10, 10))))
    opened = parse(({"iso1A2": "AA"}, shape([ring])))
    for place in (Position(0, -9), Position(0, 0), Position(0, -30)):
        assert opened.distances(countries("AA"), place) == closed.distances(countries("AA"), place)


def test_a_hole_is_not_of_the_country_until_its_filling_joins() -> None:
    hole = [[-1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
    own = parse(
        ({"iso1A2": "AA"}, shape([square(-10, -10, 10, 10)[0], hole])), ({"iso1A2": "BB"}, shape(square(-1, -1, 1, 1)))
    )
    middle = Position(0, 0)
    assert own.distances(countries("AA"), middle).to_region_km == pytest.approx(km(1), abs=PIECE_ERROR_KM)
    assert own.distances(countries("AA", "BB"), middle).to_complement_km == pytest.approx(km(10), abs=0.1)
    assert own.distances(countries("AA"), Position(0, 3)).to_complement_km == pytest.approx(km(2), abs=PIECE_ERROR_KM)
    assert own.distances(countries("BB"), Position(0, 3)).to_region_km == pytest.approx(km(2), abs=PIECE_ERROR_KM)


def test_the_cut_at_180_degrees_is_no_border_of_a_country_that_lies_on_both_sides() -> None:
    own = parse(
        ({"iso1A2": "AA"}, shape(square(170, -10, 180, 10), square(-180, -10, -170, 10))),
        ({"iso1A2": "BB"}, shape(square(170, 20, 180, 40))),
        ({"iso1A2": "CC"}, shape(square(-180, 20, -170, 40))),
    )
    for longitude in (179.9, -179.9):
        assert own.distances(countries("AA"), Position(0, longitude)).to_complement_km > km(9)
        assert own.distances(countries("BB", "CC"), Position(30, longitude)).to_complement_km > km(8)
    # For a country on one side alone it is one.
    assert own.distances(countries("BB"), Position(30, 179.9)).to_complement_km < km(0.1)
    assert 0 < own.distances(countries("BB"), Position(30, -179.9)).to_region_km < km(0.1)


def test_an_edge_along_a_pole_is_no_border() -> None:
    own = parse(
        ({"iso1A2": "AA"}, shape(square(-180, 60, 180, 90))), ({"iso1A2": "BB"}, shape(square(-180, -90, 0, -60)))
    )
    assert own.distances(countries("AA"), Position(89, 20)).to_complement_km == pytest.approx(km(29), abs=0.1)
    assert own.distances(countries("BB"), Position(-89, -90)).to_complement_km == pytest.approx(km(1), abs=0.1)


def test_members_that_cover_the_earth_keep_their_borders() -> None:
    own = parse(
        ({"iso1A2": "AA"}, shape(square(-180, -90, 0, 90))),
        ({"iso1A2": "BB"}, shape(square(0, -90, 180, 90))),
    )
    found = own.distances(countries("AA", "BB"), Position(0, 30))
    assert found.to_region_km == 0.0
    # Nothing is outside; that the old borders stay errs to UNPROVEN.
    assert found.to_complement_km == pytest.approx(km(30), abs=PIECE_ERROR_KM)


def test_a_feature_is_named_by_its_own_code_and_else_by_its_country() -> None:
    own = parse(
        ({"iso1A2": "AA", "country": "ZZ"}, shape(square(0, 0, 1, 1))),
        ({"country": "AA"}, shape(square(5, 0, 6, 1))),
        ({"country": "UA", "wikidata": "Q7835"}, shape(square(10, 0, 11, 1))),
        ({"country": "UA", "wikidata": "Q1"}, shape(square(20, 0, 21, 1))),
        ({"wikidata": "Q5"}, shape(square(30, 0, 31, 1))),
        ({"iso1A2": "", "country": ""}, shape(square(30, 0, 31, 1))),
        ({"iso1A2": "NN"}, None),
        ({"iso1A2": "LL"}, shape(square(40, 0, 41, 1))),
    )
    assert own.country_codes == {"AA", "UA", "UA-43", "LL"}
    assert CRIMEA == "UA-43"
    for place, code in ((Position(0.5, 0.5), "AA"), (Position(0.5, 5.5), "AA"), (Position(0.5, 10.5), "UA-43")):
        assert own.contains(countries(code), place)
    assert not own.contains(countries("UA"), Position(0.5, 10.5))
    assert own.contains(countries("AA", "UA"), Position(0.5, 20.5))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a GeoJSON"),
        (b"{", "not a GeoJSON"),
        (b"\xff", "not a GeoJSON"),
        (b"[]", "not a GeoJSON"),
        (b"{}", "not a GeoJSON"),
        (b'{"features": 3}', "not a GeoJSON"),
        (b'{"features": [{}]}', "not a GeoJSON"),
        (b'{"features": []}', "name no country"),
        (draw(({"iso1A2": "AA"}, None)), "name no country"),
        (draw(({}, shape(square(0, 0, 1, 1)))), "name no country"),
        (draw(({"iso1A2": "AA"}, {"type": "Polygon", "coordinates": square(0, 0, 1, 1)})), "have a Polygon"),
        (draw(({"iso1A2": "AA"}, {"type": "MultiPolygon"})), "not a GeoJSON"),
        (draw(({"iso1A2": "AA"}, shape([[[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]]))), "fewer than four points"),
        (draw(({"iso1A2": "AA"}, shape([[[0.0, 0.0, 5.0]] * 5]))), "fewer than four points"),
        (draw(({"iso1A2": "AA"}, shape([[]]))), "fewer than four points"),
        (draw(({"iso1A2": "AA"}, {"type": "MultiPolygon", "coordinates": [[["x"]]]})), "not a GeoJSON"),
        (draw(({"iso1A2": "AA"}, {"type": "MultiPolygon", "coordinates": [[[[0, 0], [1]]]]})), "not a GeoJSON"),
    ],
)
def test_other_data_than_country_shapes_are_a_misuse(data: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Atlas.parse(data, "v")


def test_a_country_without_a_shape_is_a_misuse() -> None:
    with pytest.raises(UsageError, match="no country 'QQ'"):
        atlas().distances(countries("SG", "QQ"), SINGAPORE)
    with pytest.raises(UsageError, match="no country 'QQ'"):
        atlas().contains(countries("QQ"), SINGAPORE)


def test_the_empty_region_is_refused() -> None:
    with pytest.raises(UsageError, match="no country"):
        Countries(frozenset())


def test_distances_are_reckoned_once_for_each_place(monkeypatch: pytest.MonkeyPatch) -> None:
    own = parse(({"iso1A2": "AA"}, shape(square(-10, -10, 10, 10))))
    calls: list[int] = []
    honest = nearest_on_arcs

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return honest(*arguments)

    monkeypatch.setattr(shapes, "nearest_on_arcs", counted)
    first = own.distances(countries("AA"), Position(0, 0))
    assert own.distances(countries("AA"), Position(0, 0)) is first
    assert len(calls) == 1
    assert own.distances(countries("AA"), Position(1, 0)) != first
    assert len(calls) == 2


def test_regions_print_as_an_officer_would_write_them() -> None:
    assert str(countries("SG", "MY")) == "MY, SG"
    assert str(SiteDisc("Tuas", SINGAPORE, 50)) == "site Tuas (50 km around 1.29, 103.85)"


@pytest.mark.parametrize("radius_km", [0, -1, HALF_CIRCUMFERENCE_KM / 2, 10007.6, 20000, math.nan, math.inf])
def test_a_site_that_is_nothing_or_half_the_earth_is_refused(radius_km: float) -> None:
    with pytest.raises(UsageError, match="site 'x': a radius"):
        SiteDisc("x", SINGAPORE, radius_km)


def test_a_site_may_be_one_building() -> None:
    assert SiteDisc("x", SINGAPORE, 0.2).radius_km == 0.2


def test_the_largest_site_is_just_under_half_the_earth() -> None:
    assert SiteDisc("x", SINGAPORE, 10007.5).radius_km == 10007.5


def test_a_site_is_reckoned_smaller_from_inside_and_larger_from_outside() -> None:
    site = SiteDisc("x", Position(0, 0), 1000)
    center = atlas().distances(site, Position(0, 0))
    assert pair(center) == pytest.approx([0, 1000 / WIDENING], abs=1e-6)
    near = atlas().distances(site, travel(Position(0, 0), 33, 900))
    assert pair(near) == pytest.approx([0, 1000 / WIDENING - 900], abs=1e-6)
    far = atlas().distances(site, travel(Position(0, 0), 33, 1100))
    assert pair(far) == pytest.approx([1100 - 1000 * WIDENING, 0], abs=1e-6)
    rim = atlas().distances(site, travel(Position(0, 0), 33, 1000))
    assert pair(rim) == [0, 0]  # on the rim nothing is sure


def test_a_site_errs_to_unproven_on_the_real_earth() -> None:
    rng = np.random.default_rng(11)
    for _ in range(2000):
        center = Position(float(rng.uniform(-89, 89)), float(rng.uniform(-179, 179)))
        radius = float(rng.uniform(1, 5000))
        there = travel(center, float(rng.uniform(0, 360)), radius * float(rng.uniform(0.98, 1.02)))
        found = atlas().distances(SiteDisc("x", center, radius), there)
        true = wgs84_km(center, there)
        if true <= radius:
            assert found.to_region_km == 0.0
        else:
            assert found.to_complement_km == 0.0


def test_a_site_holds_the_places_within_its_radius() -> None:
    site = SiteDisc("x", SINGAPORE, 50)
    assert atlas().contains(site, SINGAPORE)
    assert atlas().contains(site, travel(SINGAPORE, 90, 49.999))
    assert not atlas().contains(site, travel(SINGAPORE, 90, 50.001))
    rim = travel(SINGAPORE, 90, 50)
    assert atlas().contains(SiteDisc("x", SINGAPORE, distance_km(SINGAPORE, rim)), rim)


def test_the_prohibited_destinations_are_those_of_the_design() -> None:
    assert prohibited().codes >= {"HK", "MO", "UA-43", "CN", "RU", "IR", "KP", "CU", "SY"}
    assert not prohibited().codes & {"SG", "MY", "TW", "JP", "US", "UA", "AE", "IN"}
    assert prohibited().codes <= atlas().country_codes


def test_the_nearest_prohibited_destination_of_singapore_is_a_thousand_kilometers_away() -> None:
    found = atlas().distances(prohibited(), SINGAPORE)
    assert 1000 < found.to_region_km < 1200
    assert found.to_complement_km == 0.0
    near = min((boundary_km(c, SINGAPORE), c) for c in ("MM", "CN", "HK"))
    assert found.to_region_km == pytest.approx(near[0], abs=PIECE_ERROR_KM)


def test_the_pieces_of_an_edge_stay_within_ten_meters_of_it() -> None:
    starts, ends = shapes._arcs(np.array([[-180.0, 65.0, 180.0, 65.0], [10.0, 80.0, 11.0, 60.0]]))
    middle = (starts + ends) / 2
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    latitude = np.degrees(np.arcsin(middle[:1440, 2]))
    assert (np.abs(latitude - 65) * 111.2 < PIECE_ERROR_KM).all()
    assert len(starts) == 1440 + 80
    assert float(angle(starts, ends).max()) <= math.radians(0.25) * 1.01
    assert float(angle(ends[:-1], starts[1:])[:1439].max()) < 1e-12  # each piece begins where the last one ends
    assert float(angle(starts[1440], vector(Position(80, 10)))) < 1e-9
    assert float(angle(ends[-1], vector(Position(60, 11)))) < 1e-9


def test_a_country_code_is_a_text() -> None:
    assert isinstance(CRIMEA, str)
    assert CountryCode("SG") in atlas().country_codes


def test_a_place_on_the_maps_cut_is_the_same_from_both_sides() -> None:
    west, east = (atlas().distances(countries("AQ"), Position(-75, x)) for x in (-180.0, 180.0))
    assert west == east
    assert west.to_region_km == pytest.approx(0)


def _feature(properties: object, coordinates: object) -> bytes:
    geometry = {"type": "MultiPolygon", "coordinates": coordinates}
    return json.dumps({"features": [{"properties": properties, "geometry": geometry}]}).encode()


SQUARE = [[[[0, 0], [0, 1], [1, 1], [0, 0]]]]


@pytest.mark.parametrize(
    "borders",
    [
        _feature(None, SQUARE),
        _feature({"iso1A2": 5}, SQUARE),
        _feature({"iso1A2": "XX"}, []),
        _feature({"iso1A2": "XX"}, [[[[0, 0], [0, 1], [500, 1], [0, 0]]]]),
        _feature({"iso1A2": "XX"}, [[[[0, 0], [0, 1], [math.nan, 1], [0, 0]]]]),
        _feature({"iso1A2": "XX"}, [[[[0, 0], [0, 1], [180.5, 1], [0, 0]]]]),
        _feature({"iso1A2": "XX"}, [[[[0, 0], [0, 1], [1, 90.5], [0, 0]]]]),
        _feature({"iso1A2": "XX"}, [[[[0, 0], [0, 1], [10**400, 1], [0, 0]]]]),
        _feature({"iso1A2": "XX"}, [[[0, 1, 2, 3]]]),
        _feature({"iso1A2": "XX"}, [[[[[0, 0], [0, 1]], [[0, 0], [0, 1]], [[0, 0], [0, 1]], [[0, 0], [0, 1]]]]]),
    ],
)
def test_border_data_that_make_no_sense_are_refused(borders: bytes) -> None:
    with pytest.raises(UsageError):
        Atlas.parse(borders, "test")


def test_kept_distances_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Atlas.parse(_feature({"iso1A2": "XX"}, SQUARE), "test")
    monkeypatch.setattr(regions, "MAX_KEPT_DISTANCES", 2)
    places = [Position(10, float(x)) for x in range(5)]
    first = [own.distances(countries("XX"), place) for place in places]
    assert len(own.ground(countries("XX"))._distances) == 1
    assert [own.distances(countries("XX"), place) for place in places] == first


def test_kept_arcs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Atlas.parse(_feature({"iso1A2": "XX"}, SQUARE), "test")
    drawn_sites = [
        polygon_of("yard", {"type": "Polygon", "coordinates": square(10.0 + k, 10.0, 11.0 + k, 11.0)[:1]})
        for k in range(7)
    ]
    arcs = len(own.ground(drawn_sites[0]).inside.arcs[0])
    monkeypatch.setattr(regions, "MAX_KEPT_ARCS", 3 * arcs)
    kept = []
    for site in drawn_sites:
        ground = own.ground(site)
        assert own.ground(site) is ground
        kept.append(len(own._grounds))
    assert kept == [1, 2, 3, 1, 2, 3, 1]
    # Both bounds empty it, and either way what is counted is what is kept.
    monkeypatch.setattr(regions, "MAX_KEPT_GROUNDS", 2)
    for site, count in zip(drawn_sites, [2, 1, 2, 1, 2, 1, 2], strict=True):
        own.ground(site)
        assert len(own._grounds) == count
        assert own._kept_arcs == sum(len(ground.inside.arcs[0]) for ground in own._grounds.values())


def test_the_parts_of_a_multipolygon_share_one_budget_of_degrees() -> None:
    ring = [[x % 2 * 170, 0.5] for x in range(40)]
    closed = [*ring, [0, 1], ring[0]]
    one = polygon_of("yard", {"type": "Polygon", "coordinates": [closed]})
    assert isinstance(one, Polygon)
    assert 5_000 < one.edge_degrees < 10_000
    with pytest.raises(UsageError, match="polygon 'yard': its edges are longer than 10,000 degrees together"):
        polygon_of("yard", {"type": "MultiPolygon", "coordinates": [[closed], [closed]]})


def test_kept_grounds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Atlas.parse(_feature({"iso1A2": "XX"}, SQUARE), "test")
    monkeypatch.setattr(regions, "MAX_KEPT_GROUNDS", 2)
    sites = [SiteDisc("x", SINGAPORE, 10.0 + k) for k in range(5)]
    first = [own.ground(site) for site in sites]
    assert len(own._grounds) == 1
    assert own.ground(sites[4]) is first[4]
    assert [own.distances(site, Position(0, 0)) for site in sites] == [
        ground.distances(Position(0, 0).triple()) for ground in first
    ]

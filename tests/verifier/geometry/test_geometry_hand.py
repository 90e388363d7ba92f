"""Hard corners of the map, each with an answer that one can reckon from an atlas of the world."""

import pytest

from tests.verifier.geometry.helpers_geometry import discs
from tests.verifier.helpers_place import atlas, countries, policy, prohibited
from verifier.place.geodesy import Position
from verifier.place.question import settle
from verifier.place.regions import AnyOf, Complement, Region, SiteDisc

OUTSIDE = "outside prohibited"

# Place, its latitude and longitude, the country that holds it, whether that is a prohibited destination.
PLACES = {
    "Singapore": (1.352, 103.82, "SG", False),
    "Johor Bahru": (1.4927, 103.7414, "MY", False),
    "Batam": (1.1301, 104.0529, "ID", False),
    "Futian, Shenzhen": (22.543, 114.058, "CN", True),
    "Longgang, Shenzhen": (22.72, 114.25, "CN", True),
    "Sheung Shui": (22.501, 114.128, "HK", True),
    "Lantau": (22.26, 113.95, "HK", True),
    "Macau": (22.1987, 113.5439, "MO", True),
    "Suva": (-18.14, 178.44, "FJ", False),
    "Taveuni, west of 180": (-16.90, 179.95, "FJ", False),
    "Taveuni, east of 180": (-16.82, -179.99, "FJ", False),
    "Tarawa": (1.42, 173.0, "KI", False),
    "Kiritimati": (1.87, -157.40, "KI", False),
    "Anadyr": (64.73, 177.5, "RU", True),
    "Chukotka, east of 180": (66.5, -176.0, "RU", True),
    "Nome, across the strait": (64.50, -165.41, "US", False),
    "the south pole": (-90.0, 0.0, "AQ", False),
    "Antarctica, on the cut": (-80.0, 180.0, "AQ", False),
    "the north pole": (90.0, 0.0, None, False),
    "amid Lesotho": (-29.6, 28.3, "LS", False),
    "Bloemfontein": (-29.12, 26.22, "ZA", False),
    "the Vatican": (41.9029, 12.4534, "VA", False),
    "Rome": (41.8902, 12.4922, "IT", False),
    "San Marino": (43.9367, 12.4464, "SM", False),
    "Kaliningrad": (54.71, 20.51, "RU", True),
    "Ceuta": (35.89, -5.32, "ES", False),
    "Tetouan": (35.57, -5.37, "MA", False),
    "Buesingen": (47.697, 8.690, "DE", False),
    "Schaffhausen": (47.696, 8.634, "CH", False),
    "Baarle-Hertog": (51.4415, 4.9317, "BE", False),
    "Baarle-Nassau": (51.4465, 4.9290, "NL", False),
    "Simferopol": (44.95, 34.10, "UA-43", True),
    "Kherson": (46.63, 32.60, "UA", False),
    "Kaesong": (37.97, 126.55, "KP", True),
    "Seoul": (37.57, 126.98, "KR", False),
}

# Place, radius of both discs and margin of borders in kilometers, and what then is so with f = 1: "+" proven,
# "-" refuted, "?" open.
CASES = [
    # The island is 25 km from north to south, and Malaysia's water begins 13 km north of its middle.
    ("Singapore", 60, 5, {OUTSIDE: "+", "SG": "?", "MY": "?", "ID": "?", "TH": "-"}),
    ("Singapore", 3, 5, {OUTSIDE: "+", "SG": "+", "MY": "-", "ID": "-"}),
    ("Johor Bahru", 40, 5, {OUTSIDE: "+", "SG": "?", "MY": "?", "ID": "?"}),
    ("Batam", 15, 5, {OUTSIDE: "+", "ID": "?", "SG": "?"}),
    ("Singapore", 900, 5, {OUTSIDE: "+", "AU": "-"}),  # the Paracels and Hainan are 1,700 km away or more
    # From Futian to the river it is 2 km, and to the end of Hong Kong's waters 40.
    ("Futian, Shenzhen", 20, 5, {OUTSIDE: "-", "CN": "?", "HK": "?", "MO": "-", "TW": "-"}),
    ("Futian, Shenzhen", 20, 5, {"CN HK MO": "+", "CN HK": "+"}),
    ("Futian, Shenzhen", 1, 0, {"CN": "+", "HK": "-", OUTSIDE: "-"}),
    ("Longgang, Shenzhen", 10, 5, {"CN": "+", "HK": "-", OUTSIDE: "-"}),
    ("Sheung Shui", 1, 0, {"HK": "+", "CN": "-", OUTSIDE: "-"}),
    ("Sheung Shui", 1, 5, {"HK": "?", "CN": "?", OUTSIDE: "-"}),
    ("Macau", 1, 5, {"MO": "?", "CN": "?", "HK": "-"}),
    ("Suva", 50, 5, {OUTSIDE: "+", "US": "-", "NZ": "-"}),
    ("Taveuni, west of 180", 20, 5, {OUTSIDE: "+", "FJ": "?", "TO": "-"}),
    ("Tarawa", 5, 5, {OUTSIDE: "+", "KI": "+", "US": "-"}),
    ("Kiritimati", 5, 5, {OUTSIDE: "+", "KI": "+", "US": "-"}),
    ("Anadyr", 30, 5, {OUTSIDE: "-", "RU": "+", "US": "-"}),
    ("Chukotka, east of 180", 50, 5, {OUTSIDE: "-", "RU": "+", "US": "-"}),
    # The data draw Alaska's sea as far as the line that the treaty of 1867 draws through the strait.
    ("Nome, across the strait", 50, 5, {OUTSIDE: "+", "RU": "-", "US": "+"}),
    ("Nome, across the strait", 300, 5, {OUTSIDE: "?", "RU": "?"}),
    # 60 S is 3,336 km from the pole, and Cape Horn 3,790.
    ("the south pole", 3300, 5, {OUTSIDE: "+", "AQ": "+", "AR": "-", "CL": "-"}),
    ("the south pole", 3340, 5, {OUTSIDE: "+", "AQ": "?"}),
    ("Antarctica, on the cut", 1000, 5, {OUTSIDE: "+", "AQ": "+", "NZ": "-"}),
    # Greenland's water begins 690 km from the pole, and Russia's 880.
    ("the north pole", 500, 5, {OUTSIDE: "+", "RU": "-", "GL": "-", "CA": "-"}),
    ("the north pole", 1200, 5, {OUTSIDE: "?", "RU": "?", "GL": "?", "CA": "?"}),
    ("amid Lesotho", 30, 5, {"LS": "+", "ZA": "-", OUTSIDE: "+"}),
    ("amid Lesotho", 150, 5, {"LS": "?", "ZA": "?", "LS ZA": "+", OUTSIDE: "+"}),
    ("the Vatican", 0.1, 0, {"VA": "+", "IT": "-"}),
    ("the Vatican", 10, 5, {"VA": "?", "IT": "?", "IT VA": "+"}),
    ("San Marino", 1, 0, {"SM": "+", "IT": "-"}),
    ("San Marino", 10, 5, {"SM": "?", "IT": "?", "IT SM": "+"}),
    ("Kaliningrad", 10, 5, {"RU": "+", "PL": "-", "LT": "-", OUTSIDE: "-"}),
    ("Kaliningrad", 60, 5, {"RU": "?", "PL": "?", OUTSIDE: "?"}),
    ("Ceuta", 1, 0, {"ES": "+", "MA": "-"}),
    ("Ceuta", 10, 5, {"ES": "?", "MA": "?", OUTSIDE: "+"}),
    ("Buesingen", 0.1, 0, {"DE": "+", "CH": "-"}),
    ("Buesingen", 3, 5, {"DE": "?", "CH": "?", "CH DE": "+"}),
    ("Baarle-Hertog", 5, 5, {"BE": "?", "NL": "?", "BE NL": "+"}),
    # From Simferopol the isthmus and the Strait of Kerch are 110 km and more away.
    ("Simferopol", 30, 5, {"UA": "-", "UA-43": "+", "RU": "-", OUTSIDE: "-"}),
    ("Kherson", 20, 5, {"UA": "+", "UA-43": "-", OUTSIDE: "+"}),
    ("Kherson", 100, 5, {"UA": "?", "UA-43": "?", OUTSIDE: "?", "UA UA-43": "+"}),
    ("Kaesong", 2, 0, {"KP": "+", "KR": "-", OUTSIDE: "-"}),
    ("Seoul", 15, 5, {"KR": "+", "KP": "-", OUTSIDE: "+"}),
    ("Seoul", 60, 5, {"KR": "?", "KP": "?", OUTSIDE: "?"}),
]


def place(name: str) -> Position:
    return Position(*PLACES[name][:2])


@pytest.mark.parametrize("name", PLACES)
def test_each_place_is_in_its_country_and_on_its_side_of_the_list(name: str) -> None:
    _, _, code, banned = PLACES[name]
    for other in sorted({c for *_, c, _ in PLACES.values() if c}):
        assert atlas().contains(countries(other), place(name)) is (other == code)
    assert atlas().contains(prohibited(), place(name)) is banned
    assert atlas().contains(Complement(prohibited()), place(name)) is not banned
    assert (atlas().distances(prohibited(), place(name)).to_region_km == 0.0) is banned


@pytest.mark.parametrize(
    ("name", "radius_km", "margin_km", "question", "expected"),
    [(*case[:3], question, sign) for case in CASES for question, sign in case[3].items()],
    ids=[f"{case[0]}, {case[1]} km: {question}" for case in CASES for question in case[3]],
)
def test_a_disc_says_what_the_map_says(
    name: str, radius_km: float, margin_km: float, question: str, expected: str
) -> None:
    rules = policy(1, margin_km=margin_km)
    region: Region = rules.outside_prohibited if question == OUTSIDE else countries(*question.split())
    both = discs((place(name), radius_km), (place(name), radius_km))
    answer = settle(region, both, rules)
    assert (answer.proven, answer.refuted) == (expected == "+", expected == "-"), answer
    # The same question from its other side.
    turned = settle(Complement(region), both, rules)
    assert (turned.proven, turned.refuted) == (expected == "-", expected == "+"), turned
    # A single disc says nothing when one may be wrong, and everything when none may be.
    alone = settle(region, discs((place(name), radius_km)), rules)
    assert (alone.proven, alone.refuted) == (False, False)
    trusted = settle(region, discs((place(name), radius_km)), rules, tolerated=0)
    assert (trusted.proven, trusted.refuted) == (expected == "+", expected == "-"), trusted


def test_a_lens_proves_what_no_disc_does() -> None:
    """Discs around Taipei and Manila reach China each, their lens in the strait of Luzon does not."""
    told = ((Position(25.03, 121.56), 420.0), (Position(14.6, 121.0), 900.0))
    rules = policy(0)
    alone = [settle(rules.outside_prohibited, discs(one), rules) for one in told]
    assert not any(a.proven or a.refuted for a in alone)
    together = settle(rules.outside_prohibited, discs(*told), rules)
    assert together.proven
    assert together.by_several
    assert settle(countries("CN"), discs(*told), rules)[:2] == (False, False)  # neither disc alone accuses


def test_a_union_of_two_sites_is_proven_by_either_and_refuted_only_by_both() -> None:
    one, other = (SiteDisc(name, at, 50) for name, at in (("a", Position(50, 8)), ("b", Position(40, -75))))
    for middle in (one.center, other.center):
        near = discs((middle, 20), (middle, 20))
        assert settle(AnyOf((one, other)), near, policy(1)).proven
        assert settle(AnyOf((one, other)), discs((middle, 70), (middle, 70)), policy(1))[:2] == (False, False)
    away = Position(-30, 20)
    assert settle(AnyOf((one, other)), discs((away, 500), (away, 500)), policy(1)).refuted

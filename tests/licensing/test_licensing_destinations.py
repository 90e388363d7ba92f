import pytest

from server.rpc.destinations import Destinations
from tests.licensing.licensing_world import policy
from verifier.place.geodesy import Position
from verifier.place.regions import AnyOf, Countries, Group, Polygon, Region, SiteDisc
from verifier.units import CountryCode


def countries(*codes: str) -> Countries:
    return Countries(frozenset(map(CountryCode, codes)))


def square(latitude: float, longitude: float) -> Polygon:
    return Polygon("hall", (((longitude, latitude), (longitude + 1, latitude), (longitude, latitude + 1)),))


@pytest.mark.parametrize(
    ("region", "jurisdiction", "prohibited"),
    [
        (countries("DE"), "DE", None),
        (countries("CN"), "CN", "names the prohibited destination CN"),
        (countries("DE", "SG"), "", None),
        (countries("DE", "IR", "KP"), "", "names the prohibited destination IR, KP"),
        (Group("A:5"), "", None),
        (SiteDisc("hall", Position(50.11, 8.68), 25), "DE", None),
        (SiteDisc("hall", Position(22.54, 114.06), 25), "CN", "lies in a prohibited destination"),
        (SiteDisc("hall", Position(10.0, -40.0), 25), "", None),  # in the Atlantic
        (square(48.0, 11.0), "DE", None),
        (AnyOf((square(35.0, 114.0), square(48.0, 11.0))), "CN", "lies in a prohibited destination"),
    ],
    ids=str,
)
def test_what_a_region_says_by_itself(region: Region, jurisdiction: str, prohibited: str | None) -> None:
    destinations = Destinations(policy())
    assert destinations.jurisdiction(region) == jurisdiction
    told = destinations.prohibited(region)
    assert told == (prohibited and f"{prohibited} (list {policy().prohibited_version})")

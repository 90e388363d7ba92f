"""Every region that a license may name is kept exactly, and one region has one text."""

import pytest

from verifier.place.geodesy import Position
from verifier.place.region_json import region_from_json, region_to_json
from verifier.place.regions import AnyOf, Complement, Countries, Group, Polygon, Region, SiteDisc
from verifier.units import CountryCode

DISC = SiteDisc("Hall 7, «north»", Position(-33.123456789012345, 180.0), 0.1 + 0.2)
DRAWN = Polygon("Yard", (((8.1, 50.0), (9.0, 50.0), (9.0, 50.3)), ((0.1, 0.2), (0.3, 0.2), (0.3, 0.7))))
LANDS = Countries(frozenset({CountryCode("SG"), CountryCode("MY"), CountryCode("UA-43")}))


@pytest.mark.parametrize(
    "region", [DISC, DRAWN, LANDS, Group("D:5"), AnyOf((DISC, Group("A:6"))), Complement(AnyOf((LANDS, DRAWN)))]
)
def test_reads_back_exactly(region: Region) -> None:
    assert region_from_json(region_to_json(region)) == region


def test_one_region_has_one_text() -> None:
    same = Countries(frozenset({CountryCode("UA-43"), CountryCode("MY"), CountryCode("SG")}))
    assert region_to_json(same) == region_to_json(LANDS)

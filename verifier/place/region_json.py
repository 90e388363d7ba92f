"""Regions as JSON text, as revisions and columns keep them. One region has one text, so texts can be compared."""

import json
from typing import Any

from verifier.errors import UsageError
from verifier.place.geodesy import Position
from verifier.place.regions import AnyOf, Complement, Countries, Group, Polygon, Region, SiteDisc
from verifier.units import CountryCode


def region_to_json(region: Region) -> str:
    """Write a region; floats read back exactly."""
    return json.dumps(_plain(region), separators=(",", ":"), ensure_ascii=False)


def region_from_json(text: str) -> Region:
    """Read what `region_to_json` wrote."""
    return region_of_plain(json.loads(text))


def _plain(region: Region) -> dict[str, Any]:
    match region:
        case SiteDisc(name, center, radius_km):
            return {"site": name, "latitude": center.latitude, "longitude": center.longitude, "radius_km": radius_km}
        case Polygon(name, rings):
            return {"polygon": name, "rings": rings}
        case Countries(codes):
            return {"countries": sorted(codes)}
        case Group(name):
            return {"group": name}
        case AnyOf(members):
            return {"any_of": [_plain(member) for member in members]}
        case _:
            return {"outside": _plain(region.of)}


def region_of_plain(plain: dict[str, Any]) -> Region:
    """Read the object of such a text. What is not one raises KeyError, TypeError or a ValueError."""
    match plain:
        case {"site": str(name)}:
            return SiteDisc(name, Position(plain["latitude"], plain["longitude"]), plain["radius_km"])
        case {"polygon": str(name), "rings": rings}:
            return Polygon(name, tuple(tuple((x, y) for x, y in ring) for ring in rings))
        case {"countries": codes}:
            return Countries(frozenset(map(_code, codes)))
        case {"group": str(name)}:
            return Group(name)
        case {"any_of": members}:
            return AnyOf(tuple(map(region_of_plain, members)))
        case _:
            return Complement(region_of_plain(plain["outside"]))


def _code(code: object) -> CountryCode:
    if not isinstance(code, str):
        raise UsageError(f"{code!r} is no code of a country")
    return CountryCode(code)

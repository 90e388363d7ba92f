"""Regions of the Earth, and the two numbers that settle a single disc.

They are the distance to the region, and the distance to all that is not the region. Regions are a site's disc or a set
of countries. Country shapes come as GeoJSON whose edges are straight in longitude and latitude; they are cut into
pieces short enough for great-circle arcs to stay within 10 m of them. Results are kept by (region, place): geometry
never changes within one version of the data.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from verifier.errors import UsageError
from verifier.place.geodesy import (
    ELLIPSOID_WIDENING,
    HALF_CIRCUMFERENCE_KM,
    Position,
    Vector,
    distance_km,
    distance_to_arcs_km,
    unit_vectors,
)
from verifier.units import CountryCode, Kilometers

_PIECE_DEGREES = 0.25
"""An edge of this length bends at most 8 m away from its great circle: sagitta = R (0.25 deg)^2 / 8 * sin(2 phi) /
2."""

_CRIMEA_WIKIDATA = "Q7835"
CRIMEA = CountryCode("UA-43")
MAX_KEPT_DISTANCES = 200_000
"""About 60 MB: 250 sets of countries by 800 landmarks."""
_ALWAYS_PROHIBITED = frozenset({CountryCode("HK"), CountryCode("MO"), CRIMEA})  # docs/protocol.md PL7
_PROHIBITED_GROUPS = frozenset({"D:5", "E:1", "E:2"})

_Ring = NDArray[np.float64]  # (n, 2) longitude, latitude, degrees; first point not repeated


@dataclass(frozen=True, slots=True)
class RegionDistances:
    """What a single disc around one place needs to know about a region.

    Attributes:
        to_region_km: From the place to the nearest point of the region; 0 inside it.
        to_complement_km: From the place to the nearest point that is not of the region; 0 outside it.
    """

    to_region_km: Kilometers
    to_complement_km: Kilometers


@dataclass(frozen=True, slots=True)
class SiteDisc:
    """A licensed site: all places within `radius_km` of `center`, true kilometers."""

    name: str
    center: Position
    radius_km: float

    def __post_init__(self) -> None:
        """Refuse a disc that is nothing or everything."""
        if not 0 < self.radius_km < HALF_CIRCUMFERENCE_KM / 2:
            raise UsageError(f"site {self.name!r}: a radius of {self.radius_km} km")

    def __str__(self) -> str:
        place = f"{self.center.latitude:.2f}, {self.center.longitude:.2f}"
        return f"site {self.name} ({self.radius_km:,g} km around {place})"


@dataclass(frozen=True, slots=True)
class Countries:
    """All places in any of these countries, their territorial seas included as the border data draw them."""

    codes: frozenset[CountryCode]

    def __post_init__(self) -> None:
        """Refuse the empty region: it excludes everything and would accuse everybody."""
        if not self.codes:
            raise UsageError("a region of no country")

    def __str__(self) -> str:
        return ", ".join(sorted(self.codes))


Region = SiteDisc | Countries


class _Shape:
    """One country's rings, ready for point tests and boundary distances."""

    def __init__(self, rings: tuple[_Ring, ...]) -> None:
        starts = np.concatenate(rings)
        ends = np.concatenate([np.roll(r, -1, axis=0) for r in rings])
        self.edges = np.concatenate([starts, ends], axis=1)  # (n, 4)

    def contains(self, place: Position) -> bool:
        """Even-odd rule on edges that are straight in longitude and latitude."""
        # The map is cut at 180 degrees: a place on the cut is asked for at its western end.
        x, y = -180.0 if place.longitude == 180 else place.longitude, place.latitude
        x1, y1, x2, y2 = self.edges.T
        crosses = (y1 > y) != (y2 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x1 + (y - y1) / (y2 - y1) * (x2 - x1)
        return bool(np.count_nonzero(crosses & (x < at)) % 2)


class Atlas:
    """The countries of one version of the border data, and distances to regions."""

    def __init__(self, shapes: Mapping[CountryCode, _Shape], version: str) -> None:
        self.version = version
        self._shapes = shapes
        self._boundaries: dict[frozenset[CountryCode], tuple[Vector, Vector]] = {}
        self._distances: dict[tuple[Countries, Position], RegionDistances] = {}

    @classmethod
    def parse(cls, borders: bytes, version: str) -> Self:
        """Read a GeoJSON FeatureCollection of country shapes as country-coder publishes it.

        A feature's own `iso1A2` names it; without one, its `country` does, so a country may be the union of parts.
        Crimea is a shape of its own.

        Raises:
            UsageError: It is not such a collection.
        """
        rings: dict[CountryCode, list[_Ring]] = {}
        try:
            for feature in json.loads(borders)["features"]:
                geometry, code = feature["geometry"], _code_of(feature["properties"])
                if geometry is None or code is None:
                    continue
                if geometry["type"] != "MultiPolygon":
                    raise UsageError(f"the border data have a {geometry['type']}")
                rings.setdefault(code, []).extend(_ring(r) for polygon in geometry["coordinates"] for r in polygon)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError("the border data are not a GeoJSON FeatureCollection of countries") from error
        if not rings or not all(rings.values()):
            raise UsageError("the border data name no country, or one without a shape")
        return cls({code: _Shape(tuple(r)) for code, r in rings.items()}, version)

    @cached_property
    def country_codes(self) -> frozenset[CountryCode]:
        """Codes that have a shape."""
        return frozenset(self._shapes)

    def contains(self, region: Region, place: Position) -> bool:
        """Return whether a place lies in a region, borders taken as drawn."""
        if isinstance(region, SiteDisc):
            return distance_km(region.center, place) <= region.radius_km
        return any(self._shape(code).contains(place) for code in region.codes)

    def distances(self, region: Region, place: Position) -> RegionDistances:
        """Return the two distances from a place to a region, kilometers on the sphere.

        Raises:
            UsageError: The region names a country without a shape.
        """
        if isinstance(region, SiteDisc):  # a few microseconds; there is nothing to keep
            return self._measure(region, place)
        key = (region, place)
        found = self._distances.get(key)
        if found is None:
            if len(self._distances) >= MAX_KEPT_DISTANCES:
                self._distances.clear()
            found = self._distances[key] = self._measure(region, place)
        return found

    def _measure(self, region: Region, place: Position) -> RegionDistances:
        if isinstance(region, SiteDisc):
            # The site's radius is in true kilometers, the distance on the sphere: err away from an answer both ways.
            from_center = distance_km(region.center, place)
            return RegionDistances(
                Kilometers(max(0.0, from_center - region.radius_km * ELLIPSOID_WIDENING)),
                Kilometers(max(0.0, region.radius_km / ELLIPSOID_WIDENING - from_center)),
            )
        starts, ends = self._boundary(region.codes)
        to_boundary = distance_to_arcs_km(place.vector(), starts, ends)
        inside = self.contains(region, place)
        return RegionDistances(Kilometers(0.0) if inside else to_boundary, to_boundary if inside else Kilometers(0.0))

    def _boundary(self, codes: frozenset[CountryCode]) -> tuple[Vector, Vector]:
        boundary = self._boundaries.get(codes)
        if boundary is None:
            edges = np.concatenate([self._shape(code).edges for code in sorted(codes)])
            boundary = self._boundaries[codes] = _arcs(_outer_edges(edges))
        return boundary

    def _shape(self, code: CountryCode) -> _Shape:
        try:
            return self._shapes[code]
        except KeyError:
            raise UsageError(f"the border data have no country {code!r}") from None


def parse_prohibited(country_groups: bytes) -> Countries:
    """Return the prohibited destinations (docs/protocol.md PL7) from a CSV of country groups.

    Columns: group, iso2, as_of, source, sureness.

    Raises:
        UsageError: It has other columns.
    """
    try:
        rows = csv.DictReader(io.StringIO(country_groups.decode()))
        if rows.fieldnames is None or not {"group", "iso2"} <= set(rows.fieldnames):
            raise UsageError("country groups need the columns group and iso2")
        prohibited = [row["iso2"] for row in rows if row["group"] in _PROHIBITED_GROUPS]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError("country groups are not CSV in UTF-8") from error
    if not all(prohibited):
        raise UsageError("a row of the country groups names no country")
    return Countries(_ALWAYS_PROHIBITED | {CountryCode(code) for code in prohibited})


def _code_of(properties: Mapping[str, Any]) -> CountryCode | None:
    if properties.get("wikidata") == _CRIMEA_WIKIDATA:
        return CRIMEA
    code = properties.get("iso1A2") or properties.get("country")
    if code is not None and not isinstance(code, str):
        raise UsageError(f"the border data name a country {code!r}")
    return CountryCode(code) if code else None


def _ring(points: Iterable[tuple[float, float]]) -> _Ring:
    ring = np.array(points, dtype=np.float64)
    if ring.ndim != 2 or ring.shape[0] < 4 or ring.shape[1] != 2:
        raise UsageError("a ring of the border data has fewer than four points")
    if not (np.abs(ring) <= (180.0, 90.0)).all():
        raise UsageError("a point of the border data is not on Earth")
    return ring[:-1] if np.array_equal(ring[0], ring[-1]) else ring


def _outer_edges(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Drop edges that two members share, the map's cut at 180 degrees where both sides meet, and edges along a pole.

    An edge that should cancel and does not (the two sides are cut differently) stays, which only makes the complement
    look nearer.
    """
    on_meridian = np.where(edges == -180.0, 180.0, edges)
    x1, y1, x2, y2 = on_meridian.T
    at_pole = (np.abs(y1) == 90) & (np.abs(y2) == 90)
    swap = (x1 > x2) | ((x1 == x2) & (y1 > y2))
    keys = np.round(np.where(swap[:, None], on_meridian[:, [2, 3, 0, 1]], on_meridian), 7)
    _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    outer = edges[(counts[inverse.reshape(-1)] == 1) & ~at_pole]
    return outer if len(outer) else edges


def _arcs(edges: NDArray[np.float64]) -> tuple[Vector, Vector]:
    """Cut edges into short great-circle arcs: their starts and ends, unit vectors, shape (n, 3) each."""
    spans = np.abs(edges[:, 2:] - edges[:, :2]).max(axis=1)
    pieces = np.maximum(1, np.ceil(spans / _PIECE_DEGREES).astype(int))
    which = np.repeat(np.arange(len(edges)), pieces)
    step = np.concatenate([np.arange(n) for n in pieces])
    first, last = edges[which, :2], edges[which, 2:]
    count = pieces[which][:, None]
    starts = first + (last - first) * (step[:, None] / count)
    ends = first + (last - first) * ((step[:, None] + 1) / count)
    return unit_vectors(starts[:, 1], starts[:, 0]), unit_vectors(ends[:, 1], ends[:, 0])

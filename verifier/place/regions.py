"""Regions of the Earth (docs/protocol.md PL9), and the atlas that gives them shape.

A region is what a license or a question names; a shape (shapes.py) is where that lies. Shapes and distances are kept:
geometry never changes within one version of the data.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self, TypeAlias, Union

import numpy as np

from verifier.errors import UsageError
from verifier.place.borders import parse_borders
from verifier.place.geodesy import ELLIPSOID_WIDENING, HALF_CIRCUMFERENCE_KM, Position, Triple, Vector
from verifier.place.shapes import BEND_KM, Cap, Drawn, Joined, Outside, RegionDistances, Shape, United, edges_of
from verifier.units import CountryCode, Kilometers

MAX_KEPT_DISTANCES = 10_000
"""Distances from one region to places: more than there are landmarks in one registry."""

MAX_KEPT_GROUNDS = 20_000
"""Regions whose geometry is kept. A site's is small; the outer edges of a set of countries are up to 1 MB."""

MAX_KEPT_ARCS = 4_000_000
"""Of the boundaries of all of them, from one side: 400 MB."""

MAX_POLYGON_POINTS = 10_000
"""Of one licensed polygon. The longest country has 2,000."""


MAX_POLYGON_DEGREES = 10_000
"""Of its edges together: they are cut into pieces of a quarter of a degree (shapes.py), 40,000 at most."""


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
class Polygon:
    """A licensed site that is drawn: rings of (longitude, latitude), degrees, WGS 84; even-odd rule.

    Edges are straight in longitude and latitude; a ring that crosses the 180th meridian must be cut there (RFC 7946
    §3.1.9). The first point of a ring is not repeated.
    """

    name: str
    rings: tuple[tuple[tuple[float, float], ...], ...]

    def __post_init__(self) -> None:
        """Refuse what encloses nothing or is not on Earth."""
        if not self.rings or any(len(ring) < 3 for ring in self.rings):
            raise UsageError(f"{_of(self.name)}a ring needs three points at least")
        if self.point_count > MAX_POLYGON_POINTS:
            raise UsageError(f"{_of(self.name)}more than {MAX_POLYGON_POINTS:,} points")
        if not all(abs(x) <= 180 and abs(y) <= 90 for ring in self.rings for x, y in ring):
            raise UsageError(f"{_of(self.name)}a point is not on Earth")
        if any(abs(x - before) > 180 for (before, _), (x, _) in self._edges()):
            raise UsageError(f"{_of(self.name)}an edge spans more than 180 degrees of longitude")
        if self.edge_degrees > MAX_POLYGON_DEGREES:
            raise UsageError(f"{_of(self.name)}its edges are longer than {MAX_POLYGON_DEGREES:,} degrees together")

    @property
    def point_count(self) -> int:
        """Of all rings."""
        return sum(map(len, self.rings))

    @property
    def edge_degrees(self) -> float:
        """Length of all edges together, along and across."""
        return sum(abs(x - a) + abs(y - b) for (a, b), (x, y) in self._edges())

    def _edges(self) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
        for ring in self.rings:
            yield from pairwise((*ring, ring[0]))

    def __str__(self) -> str:
        return f"site {self.name} (a drawn area of {self.point_count} points)"


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


@dataclass(frozen=True, slots=True)
class Group:
    """All countries of an export-control group, such as A:5, as the list in force has them."""

    name: str

    def __str__(self) -> str:
        return f"country group {self.name}"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """All places in any of these regions."""

    members: tuple["Region", ...]

    def __post_init__(self) -> None:
        """Refuse the empty region: it excludes everything and would accuse everybody."""
        if not self.members:
            raise UsageError("a union of no region")

    def __str__(self) -> str:
        drawn = [member for member in self.members if isinstance(member, Polygon)]
        if len(drawn) == len(self.members) > 1 and len({part.name for part in drawn}) == 1:
            points = sum(part.point_count for part in drawn)
            return f"site {drawn[0].name} ({len(drawn)} drawn areas, {points} points)"
        return " or ".join(map(str, self.members))


@dataclass(frozen=True, slots=True)
class Complement:
    """All places that are not in a region."""

    of: "Region"

    def __str__(self) -> str:
        return f"outside {self.of}"


Region: TypeAlias = Union[SiteDisc, Polygon, Countries, Group, AnyOf, Complement]  # noqa: UP007 - it names itself


def _names_site(region: Region) -> bool:
    if isinstance(region, AnyOf):
        return any(map(_names_site, region.members))
    return isinstance(region, SiteDisc | Polygon)


class Ground:
    """One region with its shape from both sides, and the distances that were asked for.

    Attributes:
        region: Which.
        inside: The region, never too small.
        outside: All that is not of the region, never too small either: a site's radius is in true kilometers and the
            sphere's differ, so between the two lies a seam that belongs to both.
        site: A licensed site, or a union with one, for whose proof a landmark on a virtual machine does not count.
    """

    def __init__(self, region: Region, inside: Shape, outside: Shape) -> None:
        self.region = region
        self.inside = inside
        self.outside = outside
        self.site = _names_site(region)
        self._bordered = inside.bordered
        self._bend_km = BEND_KM if len(inside.arcs[0]) else 0.0
        self._distances: dict[Triple, RegionDistances] = {}

    def margin_km(self, border_margin_km: float) -> float:
        """Return how much wider discs are taken against this region (docs/protocol.md PL5)."""
        return border_margin_km + self._bend_km if self._bordered else self._bend_km

    def distances_of(self, centers: Sequence[Triple]) -> list[RegionDistances]:
        """Return the two distances from each place, unit vectors; one look at what is kept, most often."""
        try:
            return list(map(self._distances.__getitem__, centers))
        except KeyError:
            return list(map(self.distances, centers))

    def distances(self, center: Triple) -> RegionDistances:
        """Return the two distances from a place, a unit vector, kilometers on the sphere."""
        found = self._distances.get(center)
        if found is None:
            if len(self._distances) >= MAX_KEPT_DISTANCES:
                self._distances.clear()
            found = self._distances[center] = self._measure(np.array(center))
        return found

    def _measure(self, place: Vector) -> RegionDistances:
        inner = self.inside.distances(place)
        if not len(self.inside.circles[1]):
            return inner
        outer = self.outside.distances(place)  # circles differ between the two sides
        return RegionDistances(inner.to_region_km, outer.to_region_km, inner.in_region, outer.in_region)


class Atlas:
    """The countries of one version of the border data, groups of them, and the shapes of regions.

    Args:
        shapes: Shape of each country.
        version: Names the border data.
        groups: Members of each country group.
    """

    def __init__(
        self,
        shapes: Mapping[CountryCode, Drawn],
        version: str,
        groups: Mapping[str, frozenset[CountryCode]] | None = None,
    ) -> None:
        self.version = version
        self.country_codes = frozenset(shapes)
        self.groups = dict(groups or {})
        self._shapes = dict(shapes)
        self._grounds: dict[Region, Ground] = {}
        self._kept_arcs = 0

    @classmethod
    def parse(cls, borders: bytes, version: str, groups: Mapping[str, frozenset[CountryCode]] | None = None) -> Self:
        """Read a GeoJSON FeatureCollection of country shapes (borders.py).

        Raises:
            UsageError: It is not such a collection.
        """
        return cls(
            {code: Drawn(edges_of(rings), bordered=True) for code, rings in parse_borders(borders).items()},
            version,
            groups,
        )

    def contains(self, region: Region, place: Position) -> bool:
        """Return whether a place lies in a region, borders taken as drawn, a site's disc on the sphere."""
        if isinstance(region, Complement):
            return not self.contains(region.of, place)
        if isinstance(region, AnyOf):
            return any(self.contains(member, place) for member in region.members)
        shape = self._shape(region, 1.0)
        if isinstance(shape, Drawn):  # from degrees, so that a place on the cut of the map is exactly there
            return bool(shape.contains_degrees(np.array([place.longitude]), np.array([place.latitude]))[0])
        return bool(shape.contains(place.vector()[None])[0])

    def distances(self, region: Region, place: Position) -> RegionDistances:
        """Return the two distances from a place to a region, kilometers on the sphere.

        Raises:
            UsageError: The region names a country or a group that is not known.
        """
        return self.ground(region).distances(place.triple())

    def ground(self, region: Region) -> Ground:
        """Return a region's geometry; it is kept.

        Raises:
            UsageError: The region names a country or a group that is not known.
        """
        found = self._grounds.get(region)
        if found is None:
            # A site's radius is in true kilometers, the distance on the sphere: err away from an answer both ways.
            inside = self._shape(region, ELLIPSOID_WIDENING)
            outside = Outside(self._shape(region, 1 / ELLIPSOID_WIDENING))
            self._kept_arcs += len(inside.arcs[0])
            if len(self._grounds) >= MAX_KEPT_GROUNDS or self._kept_arcs > MAX_KEPT_ARCS:
                self._grounds.clear()
                self._kept_arcs = len(inside.arcs[0])
            found = self._grounds[region] = Ground(region, inside, outside)
        return found

    def countries(self, region: Region) -> frozenset[CountryCode]:
        """Return the countries of a group or a set of countries; no others for any other region.

        Raises:
            UsageError: It names a country or a group that is not known.
        """
        if isinstance(region, Group):
            try:
                return self.groups[region.name]
            except KeyError:
                raise UsageError(f"the list of country groups has no group {region.name!r}") from None
        return region.codes if isinstance(region, Countries) else frozenset()

    def _shape(self, region: Region, widening: float) -> Shape:
        """Return a shape; discs of sites are wider by this factor, those that are taken away are narrower."""
        if isinstance(region, SiteDisc):
            return Cap(region.center, Kilometers(region.radius_km * widening))
        if isinstance(region, Polygon):
            return Drawn(edges_of([np.array(ring, dtype=np.float64) for ring in region.rings]), bordered=False)
        if isinstance(region, AnyOf):
            return Joined([self._shape(member, widening) for member in region.members])
        if isinstance(region, Complement):
            return Outside(self._shape(region.of, 1 / widening))
        shapes = [self._country(code) for code in sorted(self.countries(region))]
        return shapes[0] if len(shapes) == 1 else United(shapes)

    def _country(self, code: CountryCode) -> Drawn:
        try:
            return self._shapes[code]
        except KeyError:
            raise UsageError(f"the border data have no country {code!r}") from None


def polygon_of(name: str, geometry: object) -> "Polygon | AnyOf":
    """Make a drawn site of a GeoJSON geometry (RFC 7946 §3.1.6, §3.1.7), as `json.loads` returns it.

    The parts of a MultiPolygon are joined, so they may touch or overlap.

    Raises:
        UsageError: It is no Polygon or MultiPolygon, or a ring of it is no closed line of numbers on Earth.
    """
    match geometry:
        case {"type": "Polygon", "coordinates": [*rings]}:
            parts = [rings]
        case {"type": "MultiPolygon", "coordinates": [_, *_] as polygons} if all(isinstance(p, list) for p in polygons):
            parts = polygons
        case _:
            raise UsageError(f"{_of(name)}not a GeoJSON Polygon or MultiPolygon")
    found = tuple(Polygon(name, tuple(_closed(name, ring) for ring in rings)) for rings in parts)
    if sum(p.point_count for p in found) > MAX_POLYGON_POINTS:
        raise UsageError(f"{_of(name)}more than {MAX_POLYGON_POINTS:,} points")
    if sum(p.edge_degrees for p in found) > MAX_POLYGON_DEGREES:
        raise UsageError(f"{_of(name)}its edges are longer than {MAX_POLYGON_DEGREES:,} degrees together")
    return found[0] if len(found) == 1 else AnyOf(found)


def _of(name: str) -> str:
    """Begin a complaint about a polygon with its name, if it has one yet."""
    return f"polygon {name!r}: " if name else ""


def _closed(name: str, ring: object) -> tuple[tuple[float, float], ...]:
    points: list[tuple[float, float]] = []
    for point in ring if isinstance(ring, list) else ():
        match point:
            case [int() | float() as x, int() | float() as y, *_] if not isinstance(x, bool) and not isinstance(
                y, bool
            ):
                if not (abs(x) <= 180 and abs(y) <= 90):  # before `float`, which takes no integer of any size
                    raise UsageError(f"{_of(name)}a position is not on Earth (longitude comes first)")
                points.append((float(x), float(y)))
            case _:
                raise UsageError(f"{_of(name)}a position is not [longitude, latitude]")
    if len(points) < 4 or points[0] != points[-1]:
        raise UsageError(f"{_of(name)}a ring needs four positions at least, the last one equal to the first")
    return tuple(points[:-1])

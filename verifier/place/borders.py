"""Border data: a GeoJSON FeatureCollection of country shapes, as country-coder publishes it."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from verifier.errors import UsageError
from verifier.place.shapes import Ring
from verifier.units import CountryCode

_RESERVED = "excRes"
"""Exceptionally reserved in ISO 3166-1 (AC, CP, CQ, DG, FX, IC, TA)."""

_CRIMEA_WIKIDATA = "Q7835"
CRIMEA = CountryCode("UA-43")
"""It has a shape of its own, since sanctions name it."""


def parse_borders(borders: bytes) -> dict[CountryCode, list[Ring]]:
    """Return the rings of every country.

    A feature's own `iso1A2` names it; without one, its `country` does, so a country may be the union of parts. A code
    that ISO 3166 only reserves for somebody's wish names no country: metropolitan France is FR and not FX. Crimea is a
    shape of its own. Edges are straight in longitude and latitude.

    Raises:
        UsageError: It is not such a collection.
    """
    rings: dict[CountryCode, list[Ring]] = {}
    try:
        for feature in json.loads(borders)["features"]:
            geometry, code = feature["geometry"], _code_of(feature["properties"])
            if geometry is None or code is None:
                continue
            if geometry["type"] != "MultiPolygon":
                raise UsageError(f"the border data have a {geometry['type']}")
            rings.setdefault(code, []).extend(_ring(r) for polygon in geometry["coordinates"] for r in polygon)
    except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError("the border data are not a GeoJSON FeatureCollection of countries") from error
    if not rings or not all(rings.values()):
        raise UsageError("the border data name no country, or one without a shape")
    return rings


def _code_of(properties: Mapping[str, Any]) -> CountryCode | None:
    if properties.get("wikidata") == _CRIMEA_WIKIDATA:
        return CRIMEA
    own = None if properties.get("isoStatus") == _RESERVED else properties.get("iso1A2")
    code = own or properties.get("country")
    if code is not None and not isinstance(code, str):
        raise UsageError(f"the border data name a country {code!r}")
    return CountryCode(code) if code else None


def _ring(points: Iterable[tuple[float, float]]) -> Ring:
    ring = np.array(points, dtype=np.float64)
    if ring.ndim != 2 or ring.shape[0] < 4 or ring.shape[1] != 2:
        raise UsageError("a ring of the border data has fewer than four points")
    if not (np.abs(ring) <= (180.0, 90.0)).all():
        raise UsageError("a point of the border data is not on Earth")
    return ring[:-1] if np.array_equal(ring[0], ring[-1]) else ring

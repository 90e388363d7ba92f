"""Places, and how long light and its detours take between them.

The emulated network is a straight line times a path factor. It uses the sphere of 6,371 km, as docs/protocol.md's
verifier does with a bound for the ellipsoid; this module needs no such bound, since it makes delays and proves nothing.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from firmware_stubs.errors import BadRequestError

LIGHT_KM_PER_S = 299_792.458
EARTH_RADIUS_KM = 6_371.0
DEFAULT_PATH_FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class Place:
    """A point in degrees, north and east positive."""

    latitude: float
    longitude: float

    def __post_init__(self) -> None:
        """Refuse what is not on earth."""
        if not (-90 <= self.latitude <= 90 and -180 <= self.longitude <= 180):
            raise BadRequestError(f"{self.latitude},{self.longitude} is no latitude and longitude in degrees")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `LAT,LON`; BadRequestError for anything else."""
        try:
            latitude, longitude = (float(part) for part in text.split(","))
        except ValueError as error:
            raise BadRequestError(f"{text!r} is no LAT,LON") from error
        return cls(latitude, longitude)


@dataclass(frozen=True, slots=True)
class World:
    """Where the landmarks stand, by key id, and how much longer than the straight line a path is."""

    landmarks: Mapping[bytes, Place]
    path_factor: float = DEFAULT_PATH_FACTOR

    @classmethod
    def load(cls, path: Path) -> Self:
        """From a JSON file `{"landmarks": {key id hex: {"latitude", "longitude"}}, "path_factor"}`."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadRequestError(f"{path}: {error.strerror}") from error
        except ValueError as error:
            raise BadRequestError(f"{path} is not JSON: {error}") from error
        try:
            landmarks = {
                bytes.fromhex(key_id): Place(float(place["latitude"]), float(place["longitude"]))
                for key_id, place in document["landmarks"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadRequestError(
                f"{path} is no world file: it needs a table landmarks: key id → latitude, longitude"
            ) from error
        path_factor = document.get("path_factor", DEFAULT_PATH_FACTOR)
        if not isinstance(path_factor, int | float) or not 0 <= path_factor < 1000:
            raise BadRequestError(f"{path}: path_factor {path_factor!r} is no number from 0 to below 1000")
        return cls(landmarks, float(path_factor))

    def round_trip_ns(self, place: Place, landmark_key_id: bytes) -> int:
        """How long a datagram and its answer are under way; 0 for a landmark that this world does not know."""
        landmark = self.landmarks.get(landmark_key_id)
        if landmark is None:
            return 0
        seconds = 2 * great_circle_km(place, landmark) / LIGHT_KM_PER_S * self.path_factor
        return math.ceil(seconds * 1e9)


def great_circle_km(a: Place, b: Place) -> float:
    """Distance on the sphere, by the haversine formula."""
    lat_a, lat_b = math.radians(a.latitude), math.radians(b.latitude)
    half_lat = math.sin((lat_b - lat_a) / 2)
    half_lon = math.sin(math.radians(b.longitude - a.longitude) / 2)
    h = half_lat**2 + math.cos(lat_a) * math.cos(lat_b) * half_lon**2
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(h)))

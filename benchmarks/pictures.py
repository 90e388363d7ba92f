"""`python -m benchmarks.pictures FOLDER`: draws the pictures of docs/location.md that need no measurements.

`singapore.svg`, a hard case on the map: what two landmarks show about a device in Singapore. `needed.svg`, the round
trip that a proof needs, by distance. The other pictures come from `make study`.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np

import geodata
from benchmarks.svg import page, text
from demo.world import DEMO, PATH_FACTOR, LandmarkSpec
from verifier.place.borders import parse_borders
from verifier.place.discs import LIGHT_KM_PER_MS, Grade, radius_km
from verifier.place.geodesy import EARTH_RADIUS_KM, Position, Vector, distance_km, toward, unit_vectors
from verifier.place.groups import parse_groups
from verifier.place.shapes import Ring
from verifier.units import CountryCode

_SIZE = 760
_HALF_KM = 1_500.0
_SCALE = _SIZE / 2 / _HALF_KM
_SERVER = DEMO.server("D")
_HEARD_BY = ("singapore", "kuala-lumpur")
_NAMES = (
    ("Myanmar", 13.2, 97.6),
    ("Thailand", 10.8, 100.4),
    ("Cambodia", 12.4, 104.9),
    ("Malaysia", 4.9, 102.4),
    ("Indonesia", -2.2, 102.6),
)
_COLORS = ("#1f5f9f", "#c26a10")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(arguments).folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "singapore.svg").write_text(_map(), encoding="utf-8")
    (folder / "needed.svg").write_text(_needed(), encoding="utf-8")


def _map() -> str:
    """Draw around the device, every place at its true distance and direction from it."""
    here = Position(_SERVER.spot.latitude, _SERVER.spot.longitude)
    view = _View(here)
    prohibited = parse_groups(geodata.read_country_groups(), geodata.COUNTRY_GROUPS_VERSION).prohibited().codes
    parts = [f'<rect width="{_SIZE}" height="{_SIZE}" fill="#eef3f7"/>']
    parts += _lands(view, parse_borders(geodata.read_borders()), prohibited)
    for name, latitude, longitude in _NAMES:
        x, y = view.point(Position(latitude, longitude))
        parts.append(_text(x, y, name, "#777", anchor="middle"))
    parts.append(view.disc(here, _SERVER.radius_km, 'fill="none" stroke="#333" stroke-dasharray="4 3"'))
    for name, color in zip(_HEARD_BY, _COLORS, strict=True):
        spec = next(s for s in DEMO.landmarks if s.name == name)
        rtt_ms, reach = _heard(here, spec)
        at = Position(spec.spot.latitude, spec.spot.longitude)
        parts.append(view.disc(at, reach, f'fill="{color}" fill-opacity="0.12" stroke="{color}" stroke-width="2"'))
        x, y = view.point(at)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>')
        drop = 34 if name == _HEARD_BY[0] else -12
        parts.append(_text(x + 8, y + drop, f"{name}: {rtt_ms:.2f} ms, within {math.ceil(reach):,} km", color))
    parts.append(_text(12, _SIZE - 14, "dashed: the licensed site, 50 km; red: prohibited destinations", "#333"))
    return page(_SIZE, _SIZE, parts)


def _heard(device: Position, spec: LandmarkSpec) -> tuple[float, float]:
    """Return the round trip of the emulated world, milliseconds, and what it allows, kilometers."""
    away = distance_km(device, Position(spec.spot.latitude, spec.spot.longitude))
    rtt_ms = 2 * away * PATH_FACTOR / LIGHT_KM_PER_MS
    return rtt_ms, _reach_km(rtt_ms, Grade.PHYSICAL)


def _reach_km(rtt_ms: float, grade: Grade) -> float:
    return radius_km(round(rtt_ms * 1e6), timedelta(0), 0.0, grade)


class _View:
    """The azimuthal equidistant projection around a place."""

    def __init__(self, center: Position) -> None:
        self._center = center.vector()
        east = np.cross([0.0, 0.0, 1.0], self._center)
        self._east = east / np.linalg.norm(east)
        self._north = np.cross(self._center, self._east)

    def points(self, places: Vector) -> Vector:
        """Return picture coordinates, shape (n, 2)."""
        x, y = places @ self._east, places @ self._north
        away = np.arctan2(np.hypot(x, y), places @ self._center) * EARTH_RADIUS_KM
        scale = away / np.maximum(np.hypot(x, y), 1e-12) * _SCALE
        return np.stack([_SIZE / 2 + x * scale, _SIZE / 2 - y * scale], axis=1)

    def point(self, place: Position) -> tuple[float, float]:
        """Return where one place is."""
        x, y = self.points(place.vector()[None])[0].tolist()
        return x, y

    def disc(self, center: Position, reach_km: float, style: str) -> str:
        """Return a true disc on the sphere as a closed line."""
        middle = center.vector()
        first = toward(middle, np.array([0.0, 0.0, 1.0]), reach_km / EARTH_RADIUS_KM)
        turns = np.linspace(0, 2 * math.pi, 120, endpoint=False)[:, None]
        along = middle * (middle @ first)
        edge = along + (first - along) * np.cos(turns) + np.cross(middle, first) * np.sin(turns)
        return f'<polygon points="{_line(self.points(edge))}" {style}/>'


def _lands(view: _View, borders: dict[CountryCode, list[Ring]], prohibited: frozenset[CountryCode]) -> Iterable[str]:
    """Return the countries that are near enough to be seen."""
    for code, rings in sorted(borders.items()):
        shown = []
        for ring in rings:
            points = view.points(unit_vectors(ring[:, 1], ring[:, 0]))
            if (np.abs(points - _SIZE / 2) < _SIZE).all(axis=1).any():
                shown.append("M" + _line(points) + "Z")
        if shown:
            fill = "#e6b3ad" if code in prohibited else "#d9d9d0"
            yield f'<path d="{"".join(shown)}" fill="{fill}" stroke="#fff" stroke-width="0.7"/>'


def _needed() -> str:
    """Draw how long the round trip to a landmark may be for a proof, by what it must keep within."""
    width, height, left, bottom = 790, 360, 70, 60
    most_km, most_ms = 1_000.0, 7.0
    across, up = (width - left - 50) / most_km, (height - bottom - 50) / most_ms
    parts = [_text(left, 28, "Round trip that keeps a disc within a distance, milliseconds", "#333", size=16)]
    marks = range(0, 1_001, 200)
    parts += [_text(left + km * across, height - bottom + 18, f"{km:,} km", "#333", anchor="middle") for km in marks]
    for ms in range(8):
        y = height - bottom - ms * up
        parts.append(f'<line x1="{left}" x2="{width - 50}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(_text(left - 10, y + 4, str(ms), "#333", anchor="end"))
    for grade, color in zip(Grade, _COLORS, strict=True):
        per_ms = _reach_km(1.0, grade)
        reached = min(most_ms, most_km / per_ms)
        ends = [(left + ms * per_ms * across, height - bottom - ms * up) for ms in (0.0, reached)]
        parts.append(f'<polyline points="{_line(np.array(ends))}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(
            _text(
                ends[1][0] - 130,
                ends[1][1] + (24 if grade is Grade.FIBRE else 64),
                f"{grade.name.lower()} grade",
                color,
            )
        )
    parts.append(_text(width / 2, height - 14, "from the landmark to the nearest edge", "#333", anchor="middle"))
    return page(width, height, parts)


def _text(x: float, y: float, words: str, color: str, *, anchor: str = "start", size: int = 13) -> str:
    return text(x, y, words, color=color, anchor=anchor, size=size)


def _line(points: Vector) -> str:
    """Return points as text, without those that lie within half a pixel of the one before."""
    kept: list[tuple[float, float]] = []
    for x, y in points.tolist():
        if not kept or abs(x - kept[-1][0]) + abs(y - kept[-1][1]) > 0.5:
            kept.append((x, y))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in kept)


if __name__ == "__main__":
    main()

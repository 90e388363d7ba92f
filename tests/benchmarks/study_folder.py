"""Folders for the study whose truth is known: cities, and round trips that light needs, times a factor."""

import csv
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.verifier.helpers_place import sphere_km
from verifier.place.geodesy import Position

KM_PER_MS = 299.792458
SLOWNESS = 1.6
"""Real networks are about so much slower than light in vacuum."""

CITIES: Mapping[str, tuple[str, Position]] = {
    "singapore": ("SG", Position(1.300, 103.850)),
    "jurong": ("SG", Position(1.325, 103.850)),
    "changi": ("SG", Position(1.300, 103.875)),
    "tokyo": ("JP", Position(35.69, 139.69)),
    "osaka": ("JP", Position(34.69, 135.50)),
    "frankfurt": ("DE", Position(50.11, 8.68)),
    "berlin": ("DE", Position(52.52, 13.40)),
    "london": ("GB", Position(51.51, -0.13)),
    "dallas": ("US", Position(32.78, -96.80)),
    "chicago": ("US", Position(41.88, -87.63)),
    "beijing": ("CN", Position(39.90, 116.40)),
    "shanghai": ("CN", Position(31.23, 121.47)),
    "johannesburg": ("ZA", Position(-26.20, 28.05)),
}


def write(
    folder: Path,
    *,
    stated: Mapping[str, Position] | None = None,
    countries: Mapping[str, str] | None = None,
    known_bad: Iterable[str] | None = None,
    rtt_ms: Callable[[str, str], float | None] | None = None,
) -> Path:
    """Write a folder.

    Args:
        folder: Exists.
        stated: Positions that landmarks claim instead of their true ones.
        countries: Countries that they claim.
        known_bad: Written only when given.
        rtt_ms: Round trip of a pair instead of the usual one; None: not measured.
    """
    moved, renamed = stated or {}, countries or {}
    rows(
        folder / "landmarks.csv",
        ["id", "city", "country", "lat", "lon"],
        [
            [name, name.title(), renamed.get(name, country), place.latitude, place.longitude]
            for name, (country, true) in CITIES.items()
            for place in [moved.get(name, true)]
        ],
    )
    measure = rtt_ms or usual_rtt_ms
    pairs = [(by, of, measure(by, of)) for by in CITIES for of in CITIES if by != of]
    rows(
        folder / "rtt.csv",
        ["from_id", "to_id", "min_ms", "avg_ms", "max_ms"],
        [[by, of, "" if ms is None else f"{ms:.6f}", "", ""] for by, of, ms in pairs],
    )
    if known_bad is not None:
        (folder / "known_bad_ids.txt").write_text("\n".join(known_bad))
    return folder


def usual_rtt_ms(by: str, of: str) -> float:
    """Return the round trip between the true places."""
    return 2 * sphere_km(CITIES[by][1], CITIES[of][1]) / KM_PER_MS * SLOWNESS


def rows(path: Path, header: list[str], lines: Iterable[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(lines)

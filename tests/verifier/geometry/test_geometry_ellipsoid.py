"""On WGS 84 as light travels it: the device is in every disc, so no answer about it is false."""

import math
from collections import Counter
from datetime import timedelta
from functools import cache

import numpy as np
import pytest

from tests.verifier.geometry.helpers_geometry import (
    RADIUS_KM,
    WIDENING,
    Floats,
    Oracle,
    apart,
    disc,
    polygons_of,
    unit,
)
from tests.verifier.helpers_place import countries, policy, prohibited
from verifier.place.discs import Discs, Grade, radius_km
from verifier.place.geodesy import ELLIPSOID_WIDENING, Position, distance_km
from verifier.place.question import settle
from verifier.place.regions import Complement, Region, SiteDisc
from verifier.units import Pdi

EQUATORIAL_KM, FLATTENING = 6378.137, 1 / 298.257223563
POLAR_KM = EQUATORIAL_KM * (1 - FLATTENING)
LIGHT_KM_PER_NS = 299_792.458 / 1e9


def go(start: Position, azimuth: float, km: float) -> Position:
    """Walk a geodesic of WGS 84: Vincenty's direct formula, to a millimeter, for any length."""
    u1 = math.atan((1 - FLATTENING) * math.tan(math.radians(start.latitude)))
    sigma1 = math.atan2(math.tan(u1), math.cos(azimuth))
    sin_alpha = math.cos(u1) * math.sin(azimuth)
    cos2 = 1 - sin_alpha**2
    usq = cos2 * (EQUATORIAL_KM**2 - POLAR_KM**2) / POLAR_KM**2
    big_a = 1 + usq / 16384 * (4096 + usq * (-768 + usq * (320 - 175 * usq)))
    big_b = usq / 1024 * (256 + usq * (-128 + usq * (74 - 47 * usq)))
    sigma = first = km / (POLAR_KM * big_a)
    mid = 0.0
    for _ in range(60):
        mid = math.cos(2 * sigma1 + sigma)
        inner = math.cos(sigma) * (-1 + 2 * mid**2)
        inner -= big_b / 6 * mid * (-3 + 4 * math.sin(sigma) ** 2) * (-3 + 4 * mid**2)
        sigma = first + big_b * math.sin(sigma) * (mid + big_b / 4 * inner)
    mid = math.cos(2 * sigma1 + sigma)
    away = math.sin(u1) * math.sin(sigma) - math.cos(u1) * math.cos(sigma) * math.cos(azimuth)
    phi = math.atan2(
        math.sin(u1) * math.cos(sigma) + math.cos(u1) * math.sin(sigma) * math.cos(azimuth),
        (1 - FLATTENING) * math.hypot(sin_alpha, away),
    )
    lam = math.atan2(
        math.sin(sigma) * math.sin(azimuth),
        math.cos(u1) * math.cos(sigma) - math.sin(u1) * math.sin(sigma) * math.cos(azimuth),
    )
    c = FLATTENING / 16 * cos2 * (4 + FLATTENING * (4 - 3 * cos2))
    lam -= (
        (1 - c)
        * FLATTENING
        * sin_alpha
        * (sigma + c * math.sin(sigma) * (mid + c * math.cos(sigma) * (-1 + 2 * mid**2)))
    )
    longitude = (start.longitude + math.degrees(lam) + 180) % 360 - 180
    return Position(math.degrees(phi), longitude)


def straight_km(a: Position, b: Position) -> float:
    """Through the Earth, on WGS 84: a lower bound of any way over it."""
    ends = []
    for place in (a, b):
        phi, lam = math.radians(place.latitude), math.radians(place.longitude)
        squared = FLATTENING * (2 - FLATTENING)
        normal = EQUATORIAL_KM / math.sqrt(1 - squared * math.sin(phi) ** 2)
        ends.append(
            np.array(
                [
                    normal * math.cos(phi) * math.cos(lam),
                    normal * math.cos(phi) * math.sin(lam),
                    normal * (1 - squared) * math.sin(phi),
                ]
            )
        )
    return float(np.linalg.norm(ends[0] - ends[1]))


def test_the_walk_is_a_geodesic() -> None:
    """Against what is known by hand, and against the chord of short ways."""
    quarter = go(Position(0, 30), 0.0, 10_001.965729)  # from the equator to the pole
    assert quarter.latitude == pytest.approx(90, abs=1e-7)
    assert go(Position(0, 0), math.pi / 2, math.radians(10) * EQUATORIAL_KM).longitude == pytest.approx(10, abs=1e-9)
    rng = np.random.default_rng(3)
    for _ in range(300):
        start = Position(float(rng.uniform(-89, 89)), float(rng.uniform(-180, 180)))
        km = float(rng.uniform(1, 20))
        end = go(start, float(rng.uniform(0, 2 * math.pi)), km)
        assert straight_km(start, end) == pytest.approx(km, abs=2e-5)


def test_the_widening_holds_at_every_place_and_in_every_direction() -> None:
    """Any way over the one Earth is at most so much longer on the other, since each step of it is; and it is tight."""
    phi = np.radians(np.linspace(-90, 90, 20_001))
    squared = FLATTENING * (2 - FLATTENING)
    root = np.sqrt(1 - squared * np.sin(phi) ** 2)
    normal = EQUATORIAL_KM / root  # of east and west
    meridian = EQUATORIAL_KM * (1 - squared) / root**3  # of north and south
    longest, shortest = max(normal.max(), meridian.max()), min(normal.min(), meridian.min())
    assert longest / RADIUS_KM <= ELLIPSOID_WIDENING
    assert RADIUS_KM / shortest <= ELLIPSOID_WIDENING
    assert RADIUS_KM / shortest >= ELLIPSOID_WIDENING - 1e-5


def test_distances_differ_by_no_more_than_the_widening() -> None:
    rng = np.random.default_rng(4)
    worst = 1.0
    for trial in range(4000):
        start = Position(float(rng.choice([rng.uniform(-90, 90), 0.0, 89.99])), float(rng.uniform(-180, 180)))
        azimuth = float(rng.choice([0, math.pi / 2, rng.uniform(0, 2 * math.pi)]))
        km = 10 ** float(rng.uniform(-2, 4.17))  # 15,000 km: before any geodesic of WGS 84 stops being the shortest
        on_sphere = distance_km(start, go(start, azimuth, km))
        assert on_sphere <= km * ELLIPSOID_WIDENING + 2e-6, (trial, start, azimuth, km)
        assert km <= on_sphere * ELLIPSOID_WIDENING + 2e-6, (trial, start, azimuth, km)
        worst = max(worst, on_sphere / km if km > 1 else 1.0)
    assert worst > 1.0055  # north and south at the equator


CODES = ("CN", "HK", "SG", "MY", "LS", "ZA", "RU", "US", "FJ", "DE", "CH", "UA", "UA-43", "KP", "KR", "IN", "AE", "NL")
NEIGHBORS = {
    "CN": "HK", "HK": "CN", "SG": "MY", "MY": "SG", "LS": "ZA", "ZA": "LS", "RU": "UA", "US": "CA", "FJ": "TV",
    "DE": "CH", "CH": "DE", "UA": "UA-43", "UA-43": "UA", "KP": "KR", "KR": "KP", "IN": "CN", "AE": "OM", "NL": "BE",
}  # fmt: skip


@cache
def corners() -> dict[str, Floats]:
    return {code: np.concatenate(polygons_of(code))[:, :2] for code in CODES}


def device_near_a_border(rng: np.random.Generator) -> tuple[str, Position]:
    code = CODES[rng.integers(len(CODES))]
    longitude, latitude = corners()[code][rng.integers(len(corners()[code]))]
    middle = Position(float(np.clip(latitude, -89.9, 89.9)), float(longitude))
    return code, go(middle, float(rng.uniform(0, 2 * math.pi)), 10 ** float(rng.uniform(-1.5, 2.5)))


def discs_of_device(rng: np.random.Generator, device: Position) -> Discs:
    """Landmarks all around, each timed at the very speed of light: `rtt = 2 d / c`, whole nanoseconds, never more.

    A landmark is a kilometer away at least: there the clock's widening is more than the nanosecond that is cut off.
    """
    made = []
    for k in range(int(rng.integers(2, 7))):
        km = float(10 ** rng.uniform(0, rng.choice([1.5, 2.5, 3.5, 4.28])))
        at = go(device, float(rng.uniform(0, 2 * math.pi)), km)
        rtt = math.floor(2 * km / LIGHT_KM_PER_NS)
        reach = radius_km(rtt, timedelta(0), 0.0)
        assert distance_km(at, device) <= reach, (device, at, km)
        made.append(disc(f"d{k}", at, reach))
    return Discs(sorted(made, key=lambda d: d.radius_km), Pdi(bytes(8)))


def questions(rng: np.random.Generator, code: str, device: Position) -> list[Region]:
    radius = float(rng.choice([3, 30, 300, 3000]))
    # A site whose rim is near the device on either side, in true kilometers.
    away = radius * float(rng.choice([0.2, 0.999, 1.001, 2.0]))
    site = SiteDisc("x", go(device, float(rng.uniform(0, 2 * math.pi)), away), radius)
    both = countries(code, NEIGHBORS[code])
    asked: list[Region] = [countries(code), countries(NEIGHBORS[code]), both, site]
    return [*asked, prohibited()] if rng.random() < 0.2 else asked


def truth(region: Region, device: Position) -> bool | None:
    """Whether the device is in it; None where a site's rim is too near to tell on the sphere alone."""
    if isinstance(region, SiteDisc):
        on_sphere = (
            float(apart(unit(device.latitude, device.longitude), unit(region.center.latitude, region.center.longitude)))
            * RADIUS_KM
        )
        if on_sphere <= region.radius_km / WIDENING:
            return True
        return False if on_sphere > region.radius_km * WIDENING else None
    return bool(Oracle(region, {}).holds(unit(device.latitude, device.longitude)[None])[0])


@pytest.mark.parametrize("seed", [1, 2])
def test_no_answer_about_a_device_is_false(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said: Counter[str] = Counter()
    for _ in range(250):
        code, device = device_near_a_border(rng)
        found = discs_of_device(rng, device)
        assert found.least_violations(Grade.PHYSICAL) == 0
        tolerated = int(rng.choice([0, 1]))
        rules = policy(tolerated, margin_km=float(rng.choice([0.0, 5.0])))
        for region in questions(rng, code, device):
            inside = truth(region, device)
            for asked, expected in ((region, inside), (Complement(region), None if inside is None else not inside)):
                answer = settle(asked, found, rules)
                said["proven" if answer.proven else "refuted" if answer.refuted else "open"] += 1
                said["by several"] += answer.by_several
                assert not (answer.proven and expected is False), (device, asked, found.discs, tolerated)
                assert not (answer.refuted and expected is True), (device, asked, found.discs, tolerated)
    assert min(said["proven"], said["refuted"], said["open"]) > 200, said
    assert said["by several"] > 5, said


@pytest.mark.parametrize("seed", [3])
def test_a_site_that_holds_the_device_in_true_kilometers_is_never_refuted(seed: int) -> None:
    """And one that does not hold it is never proven: the seam between sphere and ellipsoid belongs to both sides."""
    rng = np.random.default_rng(seed)
    said: Counter[str] = Counter()
    for _ in range(2000):
        device = Position(float(rng.uniform(-85, 85)), float(rng.uniform(-180, 180)))
        away = 10 ** float(rng.uniform(0, 3.9))
        azimuth = float(rng.choice([0, math.pi / 2, math.pi, rng.uniform(0, 2 * math.pi)]))
        # The landmark is at the site's middle or at the device; the rim is a hair beyond the device, or short of it.
        center = go(device, azimuth, away)
        radius = away * (1 + float(rng.choice([-1, 1])) * 10 ** float(rng.uniform(-7, -0.3)))
        site = SiteDisc("x", center, radius)
        further = 10 ** float(rng.uniform(0, 3))
        at, km = ((center, away), (device, 1.0), (go(device, azimuth + math.pi, further), further))[rng.integers(3)]
        reach = radius_km(math.ceil(2 * km / LIGHT_KM_PER_NS), timedelta(0), 0.0)
        found = Discs([disc("a", at, reach), disc("b", at, reach)], Pdi(bytes(8)))
        answer = settle(site, found, policy(1))
        said["proven" if answer.proven else "refuted" if answer.refuted else "open"] += 1
        assert not (answer.proven if radius < away else answer.refuted), (device, site, at)
    assert min(said.values()) > 100, said

"""Discs of one device: what is worked out once, against the plain definition; who counts, as time goes by."""

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from tests.verifier.helpers_place import (
    NOW,
    SINGAPORE,
    angle,
    atlas,
    countries,
    landmark,
    policy,
    position,
    ranged,
    spread_over_earth,
    travel,
)
from verifier.errors import LandmarkUnknownError, RangeError
from verifier.place.answers import PlaceAnswer
from verifier.place.discs import Discs, Grade, discs_of, radius_km
from verifier.place.fix import Fix, locate
from verifier.place.geodesy import Position
from verifier.place.landmarks import LandmarkRegistry
from verifier.place.policy import PlacePolicy
from verifier.place.question import settle
from verifier.place.ranging import VerifiedRange
from verifier.place.regions import Region, SiteDisc

SITE = SiteDisc("Tuas", SINGAPORE, 500)
LICENSEE = "Example Cloud"
FRANKFURT = Position(50.11, 8.68)


def discs_at(
    ranges: Sequence[VerifiedRange], now_h: float = 0.0, registry: LandmarkRegistry | None = None
) -> tuple[Discs | None, list[RangeError]]:
    known = LandmarkRegistry.build(r.landmark for r in ranges) if registry is None else registry
    now = NOW + timedelta(hours=now_h)
    discs, dropped = discs_of(ranges, known, policy(), LICENSEE, now, now)
    return discs, [error for _, error in dropped]


def fix_of(ranges: Sequence[VerifiedRange], region: Region, how: PlacePolicy) -> Fix:
    registry = LandmarkRegistry.build(r.landmark for r in ranges)
    fix, _ = locate(ranges, region, registry, how, LICENSEE, NOW, NOW)
    assert fix is not None
    return fix


@pytest.mark.parametrize("grade", list(Grade))
def test_fewer_violate_is_a_count_of_discs(grade: Grade) -> None:
    rng = np.random.default_rng(5)
    centers = [position(v) for v in spread_over_earth(7)]
    radii = rng.uniform(2_000, 12_000, 7)
    discs, _ = discs_at([ranged(landmark(f"l{k}", c), r) for k, (c, r) in enumerate(zip(centers, radii, strict=True))])
    assert discs is not None
    for vector in spread_over_earth(300):
        x, y, z = vector.tolist()
        outside = sum(
            angle(vector, d.position.vector()) * 6371 > radius + 1e-3
            for d, radius in zip(discs.discs, discs.radii_km(grade), strict=True)
        )
        for count in range(1, 8):
            assert discs.fewer_violate((x, y, z), count, grade) == (outside < count)


def test_discs_that_miss_each_other_by_little_contradict_each_other() -> None:
    near, far = landmark("near", SINGAPORE), landmark("far", travel(SINGAPORE, 40, 1_000))
    for reach, violations in ((499.8, 1), (500.2, 0)):
        discs, _ = discs_at([ranged(near, reach), ranged(far, 500)])
        assert discs is not None
        assert discs.least_violations() == violations


def test_a_landmark_stops_counting_when_its_record_ends_though_it_was_looked_up_before() -> None:
    ends = landmark("ends", FRANKFURT, valid_until=NOW + timedelta(hours=2))
    registry = LandmarkRegistry.build([ends])
    for hours in (0.0, 1.0, 1.999):
        assert discs_at([ranged(ends, 100)], hours, registry)[1] == []
    _, dropped = discs_at([ranged(ends, 100)], 2.0, registry)
    assert [type(error) for error in dropped] == [LandmarkUnknownError]


def test_the_fibre_radius_is_widened_as_the_other_is() -> None:
    unsure = landmark("unsure", SINGAPORE, uncertainty_km=40)
    verified = ranged(unsure, 300)
    registry = LandmarkRegistry.build([unsure])
    later = NOW + timedelta(seconds=50)
    discs, _ = discs_of([verified], registry, policy(), LICENSEE, NOW, later)
    assert discs is not None
    life, latitude = timedelta(seconds=50), SINGAPORE.latitude
    for radius, grade in zip(discs.discs[0][5:7], Grade, strict=True):
        assert radius == pytest.approx(radius_km(verified.rtt_ns, life, 40, grade, latitude), rel=1e-4)


def test_virtual_machines_count_for_countries_beside_others() -> None:
    """When not all landmarks are alike each is asked for itself; only a site's proof wants bare metal."""
    at = travel(SINGAPORE, 250, 700)  # Sumatra
    machines = [landmark(f"v{k}", travel(at, 90 * k, 5), virtual_machine=True) for k in range(2)]
    bare = landmark("b0", travel(SINGAPORE, 10, 3_000))
    ranges = [*(ranged(r, 60) for r in machines), ranged(bare, 4_000)]
    assert fix_of(ranges, countries("ID"), policy(margin_km=5)).in_licensed_region is PlaceAnswer.PROVEN
    assert fix_of(ranges, SiteDisc("x", at, 900), policy()).in_licensed_region is not PlaceAnswer.PROVEN


@pytest.mark.parametrize("mixed", [False, True])
def test_the_margin_counts_and_is_told(*, mixed: bool) -> None:
    """A disc that stays 20 km short of a border shows nothing when borders may be 30 km nearer than drawn."""
    region = countries("SG")
    ranges = []
    for k in range(2):
        at = travel(SINGAPORE, 20 + 5 * k, 900)
        short = atlas().distances(region, at).to_region_km - 20
        ranges.append(ranged(landmark(f"m{k}", at, virtual_machine=mixed and k == 0), short))
    for margin, answer in ((5.0, PlaceAnswer.REFUTED), (30.0, PlaceAnswer.UNPROVEN)):
        fix = fix_of(ranges, region, policy(margin_km=margin))
        assert fix.in_licensed_region is answer
        assert [d.excludes_licensed_region for d in fix.discs] == [answer is PlaceAnswer.REFUTED] * 2


@pytest.mark.parametrize("mixed", [False, True])
def test_the_margin_counts_for_proofs_too(*, mixed: bool) -> None:
    region, at = countries("ID"), travel(SINGAPORE, 250, 700)
    ranges = []
    for k in range(2):
        place = travel(at, 180 * k, 3)
        short = atlas().distances(region, place).to_complement_km - 20
        ranges.append(ranged(landmark(f"m{k}", place, virtual_machine=mixed and k == 0), short))
    for margin, answer in ((5.0, PlaceAnswer.PROVEN), (30.0, PlaceAnswer.INDICATED)):
        fix = fix_of(ranges, region, policy(margin_km=margin))
        assert fix.in_licensed_region is answer
        assert [d.within_licensed_region for d in fix.discs] == [answer is PlaceAnswer.PROVEN] * 2


def test_a_contradiction_that_f_allows_leaves_the_advice_at_the_fibre_grade() -> None:
    near = [landmark(f"s{k}", travel(SINGAPORE, 5 * k, 100)) for k in range(2)]
    # From where they stand 520 km reach out of the site of 500 km, and 347 km do not.
    ranges = [*(ranged(r, 520) for r in near), ranged(landmark("liar", FRANKFURT), 5)]
    fix = fix_of(ranges, SITE, policy())
    assert fix.least_violations == 1
    assert fix.in_licensed_region is PlaceAnswer.INDICATED
    discs, _ = discs_at(ranges)
    assert discs is not None
    assert settle(SITE, discs, policy(), Grade.FIBRE).proven

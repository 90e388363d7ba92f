"""What must not change, or may change one way only, when the discs of a question are changed (docs/protocol.md PL6)."""

import math
from collections import Counter

import numpy as np
import pytest

from tests.verifier.geometry.helpers_geometry import RADIUS_KM, Floats, disc, position_of, ring, unit
from tests.verifier.helpers_place import atlas, countries, policy, prohibited
from verifier.place.discs import Disc, Discs, Grade
from verifier.place.geodesy import HALF_CIRCUMFERENCE_KM, Position
from verifier.place.question import Settled, settle
from verifier.place.regions import AnyOf, Complement, Polygon, Region, SiteDisc
from verifier.units import Domain, Kilometers, LandmarkId, Pdi

TRIALS = 350
SPOTS = (
    Position(1.35, 103.82),
    Position(22.54, 114.06),
    Position(-29.5, 28.2),
    Position(50.0, 6.0),
    Position(-17.0, 179.9),
    Position(66.5, -179.0),
    Position(89.0, 10.0),
)
DRAWN: tuple[Region, ...] = (
    countries("SG"),
    countries("CN", "HK", "MO"),
    countries("LS"),
    countries("DE", "NL", "BE", "LU"),
    countries("FJ"),
    Polygon("slanted", (((5, 45), (11, 48), (9, 54), (3, 52)),)),
)


def made(told: list[Disc]) -> Discs:
    return Discs(sorted(told, key=lambda d: d.radius_km), Pdi(bytes(8)))


def random_region(rng: np.random.Generator, spot: Position) -> Region:
    if rng.random() < 0.4:
        return DRAWN[rng.integers(len(DRAWN))]
    return random_site(rng, spot)


def random_site(rng: np.random.Generator, spot: Position) -> SiteDisc:
    radius = float(10 ** rng.uniform(1, 3.5))
    return SiteDisc("s", position_of(near(rng, spot, radius * float(rng.choice([0.3, 0.9, 1.1, 2])))), radius)


def near(rng: np.random.Generator, spot: Position, km: float) -> Floats:
    found: Floats = ring(unit(spot.latitude, spot.longitude), min(km / RADIUS_KM, 3.1), rng.uniform(0, 2 * math.pi, 1))[
        0
    ]
    return found


def random_discs(rng: np.random.Generator, spot: Position, *, rights: bool = False) -> list[Disc]:
    """Most of them hold the spot, some do not."""
    found = []
    for k in range(int(rng.integers(1, 7))):
        radius = float(10 ** rng.uniform(0.7, 3.8))
        away = radius * float(rng.choice([0.1, 0.5, 0.9, 0.99, 1.05, 1.5]))
        may = [bool(rng.random() < 0.8) if rights else True for _ in range(2)]
        found.append(
            disc(f"d{k}", position_of(near(rng, spot, away)), radius, may_accuse=may[0], may_prove_site=may[1])
        )
    return found


def ask(region: Region, told: list[Disc], tolerated: int, margin_km: float = 0.0) -> tuple[Settled, int]:
    found = made(told)
    return settle(region, found, policy(tolerated, margin_km=margin_km)), found.least_violations(Grade.PHYSICAL)


def sign(answer: Settled) -> str:
    assert not (answer.proven and answer.refuted)
    return "+" if answer.proven else "-" if answer.refuted else "?"


def trials(seed: int, *, rights: bool = False) -> "list[tuple[np.random.Generator, Region, list[Disc], int, float]]":
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(TRIALS):
        spot = SPOTS[rng.integers(len(SPOTS))]
        region = random_region(rng, spot)
        found.append(
            (
                rng,
                region,
                random_discs(rng, spot, rights=rights),
                int(rng.integers(0, 3)),
                float(rng.choice([0.0, 5.0])),
            )
        )
    return found


def test_one_more_disc_never_turns_an_answer_around() -> None:
    """It keeps every answer too, unless more is certainly wrong with it than without."""
    seen: Counter[str] = Counter()
    for rng, region, told, tolerated, margin in trials(11, rights=True):
        before, wrong = ask(region, told, tolerated, margin)
        more = random_discs(rng, told[0].position)[0]._replace(domain=Domain("new"), landmark_id=LandmarkId("new"))
        after, wrong_then = ask(region, [*told, more], tolerated, margin)
        seen[sign(before) + sign(after)] += 1
        assert wrong <= wrong_then <= wrong + 1
        assert {sign(before), sign(after)} != {"+", "-"}, (region, told, more)
        if wrong_then == wrong and sign(before) != "?":
            assert sign(after) == sign(before), (region, told, more)
        if before.proven and wrong_then <= tolerated:
            assert after.proven, (region, told, more)
    assert min(seen[pair] for pair in ("++", "--", "??", "?+", "?-")) >= 5, seen


def test_wider_discs_never_prove_more() -> None:
    """With f wrong at most, what wider discs show the narrower ones have shown.

    Not so where nothing was said because the discs contradict each other: wider ones may agree. And a refutation needs
    as many more discs as are certainly wrong, so wider discs may refute more only if fewer are wrong then.
    """
    seen: Counter[str] = Counter()
    for rng, region, told, tolerated, margin in trials(12, rights=True):
        before, wrong = ask(region, told, tolerated, margin)
        by = float(rng.choice([1.0, 1.01, 1.3, 3.0]))
        wide = [d._replace(radius_km=Kilometers(d.radius_km * by + float(rng.choice([0, 2])))) for d in told]
        after, wrong_then = ask(region, wide, tolerated, margin)
        assert wrong_then <= wrong
        if wrong > tolerated:
            assert sign(before) == "?"
            continue
        seen[sign(before) + sign(after)] += 1
        assert before.proven or not after.proven, (region, told, by)
        if wrong_then == wrong:
            assert before.refuted or not after.refuted, (region, told, by)
        assert {sign(before), sign(after)} != {"+", "-"}, (region, told, by)
    assert min(seen[pair] for pair in ("++", "--", "??", "+?", "-?")) >= 3, seen


def test_a_wider_margin_never_says_more() -> None:
    for _, region, told, tolerated, _ in trials(13):
        answers = [sign(ask(region, told, tolerated, margin)[0]) for margin in (0.0, 1.0, 5.0, 50.0)]
        for less, more in zip(answers[1:], answers[:-1], strict=True):
            assert less in {"?", more}, (region, told, answers)


def test_more_tolerance_never_proves_more() -> None:
    """Where a lower f leaves anything said at all: as many discs as are certainly wrong must be tolerated."""
    seen: Counter[str] = Counter()
    for _, region, told, _, margin in trials(14, rights=True):
        answers = [ask(region, told, f, margin) for f in range(5)]
        wrong = answers[0][1]
        assert all(sign(a) == "?" for a, _ in answers[:wrong])
        signs = [sign(a) for a, _ in answers[wrong:]]
        for less, more in zip(signs[1:], signs[:-1], strict=True):
            assert less in {"?", more}, (region, told, signs)
        seen.update(signs)
    assert min(seen.values()) > 30, seen


def test_a_region_and_its_complement_are_never_both_or_neither() -> None:
    """Who is refuted of a region is proven of the rest; not the other way round, for an accusation needs more."""
    seen: Counter[str] = Counter()
    for _, region, told, tolerated, margin in trials(15):
        here, wrong = ask(region, told, tolerated, margin)
        there, _ = ask(Complement(region), told, tolerated, margin)
        seen[sign(here) + sign(there)] += 1
        assert sign(here) + sign(there) not in {"++", "--"}, (region, told)
        assert there.proven or not here.refuted, (region, told)
        assert here.proven or not there.refuted, (region, told)
        again, _ = ask(Complement(Complement(region)), told, tolerated, margin)
        assert sign(again) == sign(here)
        if wrong > tolerated:
            assert sign(here) + sign(there) == "??"
    assert min(seen["+-"], seen["-+"]) > 20, seen


def test_what_holds_of_a_part_holds_of_the_whole() -> None:
    """Who is refuted of a union is refuted of each part, and who is proven in a part is not refuted of the union."""
    seen: Counter[str] = Counter()
    for rng, region, told, tolerated, margin in trials(16):
        other = random_site(rng, told[0].position)
        part, _ = ask(region, told, tolerated, margin)
        whole, _ = ask(AnyOf((region, other)), told, tolerated, margin)
        seen[sign(part) + sign(whole)] += 1
        # The whole keeps the margin of the part; a site's own border inside the union may only hide a proof.
        assert not (part.proven and whole.refuted)
        assert not (whole.refuted and not part.refuted), (region, other, told)
        assert not (whole.proven and part.refuted and ask(other, told, tolerated, margin)[0].refuted)
    assert seen["--"] > 20, seen


def test_order_and_idle_discs_do_not_matter() -> None:
    for rng, region, told, tolerated, margin in trials(17):
        before, wrong = ask(region, told, tolerated, margin)
        shuffled = [told[k] for k in rng.permutation(len(told))]
        again = settle(region, Discs(shuffled, Pdi(bytes(8))), policy(tolerated, margin_km=margin))
        assert sign(again) == sign(before), (region, told)
        idle = disc("idle", position_of(near(rng, told[0].position, 9000)), HALF_CIRCUMFERENCE_KM + 1)
        after, wrong_then = ask(region, [*told, idle], tolerated, margin)
        assert (sign(after), wrong_then) == (sign(before), wrong), (region, told)


@pytest.mark.parametrize("turn", [0.001, 33.3, 90.0, 180.0, 271.25])
def test_sites_and_discs_turn_together_about_the_pole(turn: float) -> None:
    rng = np.random.default_rng(int(turn * 1000))
    seen: Counter[str] = Counter()

    def turned(at: Position) -> Position:
        return Position(at.latitude, (at.longitude + turn + 180) % 360 - 180)

    for _ in range(80):
        spot = SPOTS[rng.integers(len(SPOTS))]
        site = random_site(rng, spot)
        told = random_discs(rng, spot, rights=True)
        tolerated = int(rng.integers(0, 3))
        before, wrong = ask(site, told, tolerated)
        around = [
            disc(d.domain, turned(d.position), d.radius_km, may_accuse=d.may_accuse, may_prove_site=d.may_prove_site)
            for d in told
        ]
        after, wrong_then = ask(SiteDisc("s", turned(site.center), site.radius_km), around, tolerated)
        assert (sign(after), wrong_then) == (sign(before), wrong), (site, told)
        seen[sign(before)] += 1
    assert len(seen) == 3, seen


def test_without_rights_a_disc_neither_accuses_nor_proves_a_site() -> None:
    seen: Counter[str] = Counter()
    for rng, region, told, tolerated, margin in trials(18):
        mute = [d._replace(may_accuse=False, may_prove_site=False) for d in told]
        answer, _ = ask(region, mute, tolerated, margin)
        full, _ = ask(region, told, tolerated, margin)
        assert not answer.refuted
        site = isinstance(region, SiteDisc | Polygon)
        assert answer.proven == (full.proven and not site), (region, told)
        some = [d._replace(may_accuse=bool(rng.random() < 0.5)) for d in told]
        fewer, _ = ask(region, some, tolerated, margin)
        assert full.refuted or not fewer.refuted, (region, told)
        seen[sign(full)] += 1
    assert len(seen) == 3, seen


def test_prohibited_destinations_are_one_region() -> None:
    """Every country of the list is proven only together with the list, and the list's outside is the policy's."""
    rules = policy(1)
    assert rules.outside_prohibited == Complement(prohibited())
    assert prohibited().codes <= atlas().country_codes
    rng = np.random.default_rng(19)
    seen: Counter[str] = Counter()
    for _ in range(60):
        code = sorted(prohibited().codes)[rng.integers(len(prohibited().codes))]
        edges = atlas()._shapes[code].edges
        longitude, latitude = edges[rng.integers(len(edges)), :2]
        spot = Position(float(latitude), float(longitude))
        told = random_discs(rng, spot)
        one, whole = (ask(region, told, 1, 5.0)[0] for region in (countries(code), prohibited()))
        outside = ask(rules.outside_prohibited, told, 1, 5.0)[0]
        assert whole.proven or not one.proven, (code, told)
        assert not (one.proven and outside.proven)
        assert not (whole.proven and outside.proven)
        seen[sign(outside)] += 1
    assert seen["?"] > 10, seen


def test_virtual_machines_prove_no_site_in_a_union_either() -> None:
    site = SiteDisc("s", Position(50, 8), 100)
    told = [disc(f"d{k}", site.center, 10, may_prove_site=False) for k in range(2)]
    assert not ask(site, told, 1)[0].proven
    for region in (AnyOf((site,)), AnyOf((countries("SG"), AnyOf((site,))))):
        assert not ask(region, told, 1)[0].proven, region

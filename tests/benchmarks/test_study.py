"""The study of measured round trips: its figures where the truth is known, its JSON, and what it refuses."""

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.study.__main__ import main
from benchmarks.study.data import load
from benchmarks.study.target import is_in_prohibited
from benchmarks.study.world import DISPLACEMENTS, World, displace, landmarks_of, make_policy, set_stage, shifted
from tests.benchmarks.study_folder import CITIES, SLOWNESS, rows, usual_rtt_ms, write
from tests.verifier.helpers_place import sphere_km
from verifier.place.audit import PairRange, audit
from verifier.place.geodesy import Position
from verifier.place.regions import Countries
from verifier.units import CountryCode, LandmarkId, Nanoseconds

REPOSITORY = Path(__file__).parents[2]
MEASURED = REPOSITORY.parent / "shared" / "data" / "rtt"

WIDENING = 1.0002 * 1.00562  # clock and ellipsoid
MARGIN_KM = 5.01  # of borders, and of how they are drawn
CLAIMED = ["US", "MY", "SG", "JP", "AE", "DE", "IN"]
MIDST_OF_PACIFIC = Position(-20.0, -120.0)


def study(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main([str(folder), "--workers", "1", *options]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) > 20
    assert not any(line.startswith("{") for line in out[:-1])
    figures: dict[str, Any] = json.loads(out[-1])
    return figures


def single_discs_excluding(target: str, code: str, slowness: float = SLOWNESS) -> int:
    """How many landmarks alone show that a target is not in a country, by hand."""
    policy, country = make_policy(), Countries(frozenset({CountryCode(code)}))
    count = 0
    for name, (_, place) in CITIES.items():
        if name != target:
            radius = sphere_km(place, CITIES[target][1]) * slowness * WIDENING + MARGIN_KM
            count += policy.atlas.distances(country, place).to_region_km > radius
    return count


def share(flags: list[bool]) -> float:
    return round(sum(flags) / len(flags), 4)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="module")
def with_liars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chicago says that it is in the Pacific; Osaka's country says Brazil, while its place is told rightly."""
    return write(
        tmp_path_factory.mktemp("liars"),
        stated={"chicago": MIDST_OF_PACIFIC},
        countries={"osaka": "BR"},
        known_bad=["chicago", "osaka"],
    )


def test_figures_where_everybody_is_honest(honest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = study(honest, capsys)
    for tolerated in (0, 1):
        found = figures["physical"][f"f{tolerated}"]
        assert (found["targets"], found["targets_in_d"]) == (13, 2)
        assert (found["false_accusations"], found["wrongly_not_prohibited"]) == (0, 0)
        for code in CLAIMED:
            elsewhere = [name for name, (country, _) in CITIES.items() if country != code]
            # All discs hold the truth, so v* = 0, and f + 1 discs that exclude a country alone are what it takes.
            by_hand = share([single_discs_excluding(name, code) > tolerated for name in elsewhere])
            expected = by_hand if code in {"US", "SG", "JP", "DE"} else None  # nobody is in the others
            assert found["detection"][code] == expected
            assert expected is None or 0 < expected <= 1
        # Three landmarks stand within 4 km of each other in Singapore, so each of them has two discs of 5 km or so.
        assert found["site_inside"] == {"50": share([k < 3 for k in range(13)])} | {
            km: pytest.approx(3 / 13, abs=1e-4) for km in ("100", "200")
        }
        assert all(found["site_outside"][km] >= round(3 / 13, 4) for km in ("500", "1000", "1500", "2000"))
        assert found["not_prohibited_proven"] >= round(3 / 11, 4)
    assert figures["good_dropped"] == 0


def test_a_lying_landmark_is_found_and_blinds_nobody(with_liars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = study(with_liars, capsys)
    assert (figures["audit_precision"], figures["audit_recall"], figures["good_dropped"]) == (1.0, 1.0, 0)
    found = figures["physical"]["f1"]
    assert (found["targets"], found["targets_in_d"], found["false_accusations"]) == (11, 2, 0)
    # Osaka's round trips show that it is not in Brazil; Chicago is where its country says.
    assert found["accusations_of_known_bad"] == 1
    assert found["detection"]["DE"] is not None


def test_whoever_is_in_a_prohibited_destination_says_so_or_is_there(tmp_path: Path) -> None:
    policy = make_policy()
    nodes = load(write(tmp_path, stated={"dallas": Position(31.0, 120.0)}, countries={"tokyo": "KP"})).nodes
    there = {node.name for node in nodes if is_in_prohibited(node, policy)}
    assert there == {"beijing", "shanghai", "dallas", "tokyo"}


def test_json_has_every_key_and_null_for_what_is_not_known(
    honest: Path, with_liars: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown, known = study(honest, capsys), study(with_liars, capsys)
    for figures in (unknown, known):
        assert set(figures) == {
            "physical",
            "fibre",
            "audit_precision",
            "audit_recall",
            "good_dropped",
            "adaptive_share",
            "adaptive_sessions",
            "displaced_false_accusations",
            "fast_path_share",
            "location_us",
        }
        for grade in ("physical", "fibre"):
            assert set(figures[grade]) == {"f0", "f1"}
            for found in figures[grade].values():
                assert list(found["detection"]) == CLAIMED
                assert list(found["site_inside"]) == ["50", "100", "200"]
                assert list(found["site_outside"]) == ["500", "1000", "1500", "2000"]
                assert type(found["false_accusations"]) is type(found["wrongly_not_prohibited"]) is int
        assert type(figures["displaced_false_accusations"]) is int
        assert 0 <= figures["fast_path_share"] <= 1
        assert figures["location_us"] > 0
    assert unknown["audit_precision"] is unknown["audit_recall"] is None
    assert unknown["physical"]["f0"]["accusations_of_known_bad"] is None
    assert known["physical"]["f0"]["accusations_of_known_bad"] is not None


def test_fibre_shows_more_and_no_less(honest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = study(honest, capsys)
    for tolerated in ("f0", "f1"):
        physical, fibre = figures["physical"][tolerated], figures["fibre"][tolerated]
        # Round trips of 1.6 times light's are still slower than fibre's 1.5.
        assert fibre["false_accusations"] == 0
        for code in ("US", "SG", "JP", "DE"):
            assert fibre["detection"][code] >= physical["detection"][code]
        elsewhere = [name for name, (country, _) in CITIES.items() if country != "DE"]
        needed = int(tolerated[1])
        by_hand = [single_discs_excluding(name, "DE", SLOWNESS * 2 / 3) > needed for name in elsewhere]
        assert fibre["detection"]["DE"] == share(by_hand)


def test_the_stepwise_choice_stays_within_its_budget(honest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    every = study(honest, capsys, "--sessions", "64")
    assert every["adaptive_share"] == 1.0  # twelve landmarks, all asked if need be
    assert 5 <= every["adaptive_sessions"] <= 12
    few = study(honest, capsys, "--sessions", "5")
    assert few["adaptive_share"] < 0.9
    assert few["adaptive_sessions"] == 5


def test_figures_depend_on_the_folder_and_the_seed_alone(honest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (study(honest, capsys, "--seed", seed) for seed in ("7", "7", "8"))
    for figures in (first, again, other):
        del figures["location_us"]
    assert first == again
    assert first["physical"]["f1"]["detection"] == other["physical"]["f1"]["detection"]  # nothing in it is drawn
    assert first != other


def test_several_processes_find_the_same(honest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = study(honest, capsys, "--seed", "3")
    command = [sys.executable, "-m", "benchmarks.study", str(honest), "--seed", "3", "--workers", "2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=100)
    together = json.loads(done.stdout.splitlines()[-1])
    assert "each is left out in turn" in done.stderr
    del alone["location_us"], together["location_us"]
    assert together == alone


def test_drawings_are_written_on_demand(honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(honest, capsys, "--figures", str(tmp_path / "new" / "folder"))
    for name in ("detection.svg", "sites.svg", "sessions.svg"):
        text = (tmp_path / "new" / "folder" / name).read_text()
        assert text.startswith("<svg")
        assert "nan" not in text


# what is measured


def test_the_least_of_a_pair_counts_and_avg_stands_in_for_min(tmp_path: Path) -> None:
    write(tmp_path)
    lines: list[list[Any]] = [
        ["singapore", "tokyo", 80.5, 90, 100],
        ["singapore", "tokyo", 79.25, 90, 100],
        ["tokyo", "singapore", "", 81.125, ""],
        ["tokyo", "tokyo", 0.1, 0.1, 0.1],
        ["tokyo", "osaka", "", "", ""],
    ]
    rows(tmp_path / "rtt.csv", ["from_id", "to_id", "min_ms", "avg_ms", "max_ms"], lines)
    found = load(tmp_path)
    names = [node.name for node in found.nodes]
    pairs = zip(found.by.tolist(), found.of.tolist(), found.rtt_ns.tolist(), strict=True)
    assert [(names[by], names[of], ns) for by, of, ns in pairs] == [
        ("singapore", "tokyo", 79_250_000),
        ("tokyo", "singapore", 81_125_000),
    ]


def test_targets_are_those_that_anybody_ranged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, rtt_ms=lambda by, of: usual_rtt_ms(by, of) if of.endswith("o") else None)
    figures = study(tmp_path, capsys)
    assert figures["physical"]["f1"]["targets"] == len({"tokyo", "chicago"})


def test_a_target_that_only_distrusted_landmarks_ranged_is_shown_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        tmp_path,
        stated={"chicago": MIDST_OF_PACIFIC},
        rtt_ms=lambda by, of: usual_rtt_ms(by, of) if by == "chicago" or of == "tokyo" else None,
    )
    figures = study(tmp_path, capsys)
    assert figures["physical"]["f1"]["targets"] == 12
    assert figures["good_dropped"] == 1  # nothing is known of who is bad
    assert figures["location_us"] is not None  # Tokyo has twelve


def test_with_too_few_landmarks_everything_is_null_or_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = {"singapore", "tokyo"}
    write(tmp_path, rtt_ms=lambda by, of: usual_rtt_ms(by, of) if {by, of} == pair else None)
    figures = study(tmp_path, capsys)
    assert figures["location_us"] is None
    assert figures["adaptive_share"] is figures["adaptive_sessions"] is None
    assert figures["physical"]["f1"]["not_prohibited_proven"] == 0.0


def test_a_country_that_the_borders_lack_is_told_and_accuses_nobody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, countries={"dallas": "ZZ", "osaka": ""})
    assert main([str(tmp_path), "--workers", "1"]) == 0
    told = capsys.readouterr()
    assert "(none), ZZ" in told.err
    figures = json.loads(told.out.splitlines()[-1])
    assert figures["physical"]["f1"]["false_accusations"] == 0
    assert figures["physical"]["f1"]["targets"] == 13


# leaving one out


def pairs_of(folder: Path, without: str | None = None) -> list[PairRange]:
    found = load(folder)
    names = [LandmarkId(node.name) for node in found.nodes]
    pairs = zip(found.by.tolist(), found.of.tolist(), found.rtt_ns.tolist(), strict=True)
    return [
        PairRange(names[by], names[of], Nanoseconds(ns))
        for by, of, ns in pairs
        if without not in {names[by], names[of]}
    ]


@pytest.mark.parametrize("seed", range(4))
def test_the_audit_leaves_the_target_out_as_if_it_had_been_run_without_it(seed: int, tmp_path: Path) -> None:
    policy = make_policy()
    measurements = load(write(tmp_path))
    displaced = displace(measurements.nodes, DISPLACEMENTS[-1], seed) | displace(
        measurements.nodes, DISPLACEMENTS[1], seed
    )
    world = World(measurements, set_stage(measurements, displaced, policy.atlas), policy.atlas)
    everybody = landmarks_of(measurements.nodes, displaced)
    for target, node in enumerate(measurements.nodes):
        others = [r for k, r in enumerate(everybody) if k != target]
        expected = {d.landmark_id for d in audit(others, pairs_of(tmp_path, node.name), policy.atlas)}
        registry = world.without(target)
        assert {r.landmark_id for r in registry.landmarks if r.distrusted and r.landmark_id != node.name} == expected
        assert node.name not in {r.landmark_id for r in registry.landmarks if r.distrusted}
        asked = {v.landmark.landmark_id for v in world.ranges(target, registry)}
        assert asked == set(CITIES) - {node.name}


@pytest.mark.parametrize("how", DISPLACEMENTS, ids=str)
def test_displaced_landmarks_state_another_place_and_the_same_country(how: Any, tmp_path: Path) -> None:
    nodes = load(write(tmp_path)).nodes
    drawn = set()
    for seed in range(20):
        displaced = displace(nodes, how, seed)
        assert len(displaced) == 1  # of 13 even a tenth
        for k, place in displaced.items():
            assert sphere_km(place, nodes[k].position) == pytest.approx(how.km, abs=0.01)
            lying = landmarks_of(nodes, displaced)[k]
            assert (lying.position, lying.country) == (place, nodes[k].country)
            drawn.add(k)
    assert len(drawn) > 5


def test_a_tenth_of_many_is_a_tenth(tmp_path: Path) -> None:
    nodes = load(write(tmp_path)).nodes * 10
    assert [len(displace(nodes, how, 1)) for how in DISPLACEMENTS] == [3, 3, 3, 13, 13, 13]


@pytest.mark.parametrize("start", [Position(0, 0), Position(89.5, 10), Position(-45, 179.9)])
def test_a_place_shifted_lies_so_far_away(start: Position) -> None:
    for k in range(12):
        for km in (1.0, 300.0, 3000.0, 12_000.0):
            assert sphere_km(start, shifted(start, k * math.pi / 6, km)) == pytest.approx(km, abs=1e-3)
    assert shifted(Position(0, 0), 0.0, 1000).latitude == pytest.approx(8.993, abs=0.001)
    assert shifted(Position(0, 0), math.pi / 2, 1000).longitude == pytest.approx(8.993, abs=0.001)


# what is refused

LANDMARKS = "id,city,country,lat,lon\na,A,US,40,-100\nb,B,US,41,-100\n"
RTT = "from_id,to_id,min_ms,avg_ms,max_ms\na,b,3,,\n"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"landmarks.csv": None}, "landmarks.csv"),
        ({"rtt.csv": None}, "rtt.csv"),
        ({"landmarks.csv": "id,country,lat\na,US,40\n"}, "no column lon"),
        ({"landmarks.csv": ""}, "no column id, country, lat, lon"),
        ({"rtt.csv": "from_id,to_id,max_ms\na,b,3\n"}, "no column min_ms, avg_ms"),
        ({"rtt.csv": RTT + "a,c,3,,\n"}, "line 3: id 'c' is not in landmarks.csv"),
        ({"rtt.csv": RTT + "a,b,fast,,\n"}, "line 3: 'fast' is not a number"),
        ({"rtt.csv": RTT + "a,b,nan,,\n"}, "line 3: 'nan' is not a number"),
        ({"rtt.csv": RTT + "a,b,-1,,\n"}, "line 3: a round trip of -1 ms"),
        ({"rtt.csv": RTT + "a,b,1e9,,\n"}, "line 3: a round trip of 1e9 ms"),
        ({"rtt.csv": "from_id,to_id,min_ms,avg_ms\na,b,,\n"}, "no round trip"),
        ({"rtt.csv": "from_id,to_id,min_ms,avg_ms\na,a,3,\n"}, "no round trip"),
        ({"rtt.csv": "from_id,to_id,min_ms,avg_ms\n"}, "no round trip"),
        ({"landmarks.csv": LANDMARKS + "a,A,US,40,-100\n"}, "'a' occurs twice"),
        ({"landmarks.csv": LANDMARKS + ",A,US,40,-100\n"}, "line 4: no id"),
        ({"landmarks.csv": LANDMARKS + "c,C,US,91,-100\n"}, "line 4: no such place"),
        ({"landmarks.csv": LANDMARKS + "c,C,US,,-100\n"}, "line 4: '' is not a number"),
        ({"landmarks.csv": LANDMARKS + "c,C\n"}, "line 4: '' is not a number"),
        ({"landmarks.csv": b"id,country,lat,lon\n\xff,US,1,1\n"}, "not CSV in UTF-8"),
        ({"known_bad_ids.txt": "a\nnobody\n"}, "id 'nobody' is not in landmarks.csv"),
        ({"known_bad_ids.txt": b"\xff"}, "not a text of ids"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    files: Mapping[str, str | bytes | None], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in ({"landmarks.csv": LANDMARKS, "rtt.csv": RTT} | dict(files)).items():
        if content is not None:
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert told in said.err


def test_a_folder_for_drawings_that_cannot_be_is_refused_first(
    honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([str(honest), "--figures", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["x", "--seed", "y"], ["x", "--sessions", "0"], ["x", "--workers", "0"]])
def test_wrong_usage_is_exit_code_2(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


# real round trips


@pytest.mark.skipif(
    not (MEASURED / "aws-cloudping-2025").exists(), reason="the measured round trips are not on this machine"
)
def test_figures_of_a_real_set(capsys: pytest.CaptureFixture[str]) -> None:
    figures = study(MEASURED / "aws-cloudping-2025", capsys, "--sessions", "64")
    found = figures["physical"]["f1"]
    assert (found["targets"], found["targets_in_d"]) == (32, 1)
    assert (found["false_accusations"], found["wrongly_not_prohibited"]) == (0, 0)
    assert figures["displaced_false_accusations"] == 0
    assert figures["good_dropped"] == 0
    assert found["detection"]["US"] == pytest.approx(0.607, abs=0.02)
    assert figures["adaptive_share"] == 1.0  # 31 landmarks, all of them asked if need be

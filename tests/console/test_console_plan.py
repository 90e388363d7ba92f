"""`trigpoint landmark plan` against a fake server."""

import io
import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from rich.console import Console
from trigpoint.v1 import landmark_pb2, place_pb2
from typer.testing import Result

from console import plan_files, plan_render
from tests.console.helpers import FakeServices, a_landmark, stamp

Trigpoint = Callable[..., Result]

SITES = """name,presence,latitude,longitude,radius_km,country
Singapore,site,1.30,103.85,50,
Kuala Lumpur,country,3.14,101.69,,MY

Singapore again,outside_prohibited,1.30,103.85,,
"""
CANDIDATES = """name,operator,latitude,longitude
sg-tuas,,1.30,103.64
kl-1,Klang Transit,3.13,101.67
"""


def a_plan() -> landmark_pb2.PlanLandmarksResponse:
    reach, site = landmark_pb2.PlanReach, landmark_pb2.PlanSite
    candidate = landmark_pb2.PlanCandidate(name="sg-tuas\x1b[2J", latitude=1.30, longitude=103.64)
    second = landmark_pb2.PlanCandidate(name="kl-1", operator="Klang Transit", latitude=3.13, longitude=101.67)
    return landmark_pb2.PlanLandmarksResponse(
        sites=[
            landmark_pb2.PlannedSite(
                site=site(
                    name="A site with a rather long name of 48 characters.",
                    presence=place_pb2.PRESENCE_SITE,
                    latitude=1.3,
                    longitude=103.85,
                    radius_km=50,
                ),
                provable_then=True,
                reaches=[
                    reach(name="shenzhen-a", distance_km=1_234.4, needed_rtt_ms=0.31299, expected_rtt_ms=0.12301),
                    reach(
                        name="sg-tuas",
                        candidate=True,
                        distance_km=3,
                        needed_rtt_ms=-2.5,
                        expected_rtt_ms=0.2,
                    ),
                ],
            ),
            landmark_pb2.PlannedSite(
                site=site(name="KL", presence=place_pb2.PRESENCE_COUNTRY, latitude=3, longitude=101, country="MY"),
                missing="needs 2 more failure domains within 38 km at most; provable there instead: outside_prohibited",
            ),
            landmark_pb2.PlannedSite(
                site=site(name="Out", presence=place_pb2.PRESENCE_OUTSIDE_PROHIBITED, latitude=3, longitude=101),
                provable_now=True,
                provable_then=True,
                reaches=[reach(name=name, needed_rtt_ms=7, expected_rtt_ms=0.1) for name in ("a", "b", "c")],
            ),
        ],
        chosen=[
            landmark_pb2.ChosenCandidate(candidate=candidate, gained=[f"site {k}" for k in range(8)]),
            landmark_pb2.ChosenCandidate(candidate=second),
        ],
        tolerated_domains=1,
    )


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "sites.csv").write_text(SITES)
    (tmp_path / "candidates.csv").write_text(CANDIDATES)
    return str(tmp_path / "sites.csv"), str(tmp_path / "candidates.csv")


def test_files_and_options_go_to_the_server(
    services: FakeServices, trigpoint: Trigpoint, files: tuple[str, str]
) -> None:
    sites, candidates = files
    arguments = ("--sites", sites, "--candidates", candidates, "--max", "3", "--path-factor", "2", "--access-ms", "0.4")
    result = trigpoint("landmark", "plan", *arguments)
    assert result.exit_code == 0, result.stderr
    (request,) = services.plan_requests
    site, candidate = landmark_pb2.PlanSite, landmark_pb2.PlanCandidate
    assert list(request.sites) == [
        site(name="Singapore", presence=place_pb2.PRESENCE_SITE, latitude=1.3, longitude=103.85, radius_km=50),
        site(name="Kuala Lumpur", presence=place_pb2.PRESENCE_COUNTRY, latitude=3.14, longitude=101.69, country="MY"),
        site(name="Singapore again", presence=place_pb2.PRESENCE_OUTSIDE_PROHIBITED, latitude=1.3, longitude=103.85),
    ]
    assert list(request.candidates) == [
        candidate(name="sg-tuas", latitude=1.3, longitude=103.64),
        candidate(name="kl-1", operator="Klang Transit", latitude=3.13, longitude=101.67),
    ]
    assert (request.max_chosen, request.path_factor, request.access_ms) == (3, 2.0, 0.4)


def test_without_files_the_server_plans_for_what_is_on_record(services: FakeServices, trigpoint: Trigpoint) -> None:
    result = trigpoint("landmark", "plan")
    assert result.exit_code == 0
    (request,) = services.plan_requests
    assert (len(request.sites), len(request.candidates), request.max_chosen) == (0, 0, 10)
    assert (request.path_factor, request.access_ms) == (1.5, 0.1)
    assert result.stdout == "No deployments on record; give --sites FILE.\n"


def told(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return " ".join(result.stdout.split())


def test_trusting_everybody_proves_nothing(
    services: FakeServices, trigpoint: Trigpoint, files: tuple[str, str]
) -> None:
    services.plan = a_plan()
    services.plan.tolerated_domains = 0
    services.plan.ClearField("chosen")
    words = told(trigpoint("landmark", "plan", "--candidates", files[1]))
    assert "trusts every landmark (f = 0), which proves nothing" in words
    assert "No set of" not in words


@pytest.mark.parametrize(("most", "said"), [("1", "at most 1 of the 2"), ("10", "at most 2 of the 2")])
def test_candidates_that_do_not_help(
    services: FakeServices, trigpoint: Trigpoint, files: tuple[str, str], most: str, said: str
) -> None:
    services.plan = a_plan()
    arguments = ("landmark", "plan", "--candidates", files[1], "--max", most)
    assert "No set of" not in told(trigpoint(*arguments))
    services.plan.ClearField("chosen")
    assert f"No set of {said} candidates makes another site provable." in told(trigpoint(*arguments))
    assert "No set of" not in told(trigpoint("landmark", "plan"))
    del services.plan.sites[:2]  # the one that is left is provable now
    assert "No set of" not in told(trigpoint(*arguments))


AUDIT = landmark_pb2.LandmarkAudit


def waiting(*names: str) -> list[landmark_pb2.LandmarkAudit]:
    return [AUDIT(name=f"landmarks/{name}", why_not=f"{name} was ranged by 0 other domains lately") for name in names]


def landmark(name: str, **ago: timedelta) -> landmark_pb2.Landmark:
    entry = a_landmark()
    entry.name = f"landmarks/{name}"
    for field, age in ago.items():
        getattr(entry, field).CopyFrom(stamp(age))
    return entry


@pytest.mark.parametrize(
    ("audits", "landmarks", "said"),
    [
        (
            [AUDIT(name="landmarks/a", counts=True), *waiting("b", "c")],
            [landmark("a"), landmark("b"), landmark("c", valid_from=timedelta(1), valid_until=timedelta(-1))],
            (
                "2 of 3 registered landmarks do not count today (trigpoint landmark audit); "
                "the plan takes them as if they did."
            ),
        ),
        (
            # The plan leaves out who is distrusted and whose record is not valid.
            [AUDIT(name="landmarks/a", rule=landmark_pb2.AUDIT_RULE_LIGHT), *waiting("b", "c", "d")],
            [
                landmark("a"),
                landmark("b", valid_until=timedelta(1)),
                landmark("c", valid_from=timedelta(-1)),
                landmark("d"),
            ],
            (
                "1 of 4 registered landmarks does not count today (trigpoint landmark audit); "
                "the plan takes it as if it did."
            ),
        ),
        ([AUDIT(name="landmarks/a", counts=True)], [landmark("a")], ""),
    ],
    ids=["two", "one", "none"],
)
def test_landmarks_that_do_not_count_today_are_told(
    services: FakeServices,
    trigpoint: Trigpoint,
    audits: list[landmark_pb2.LandmarkAudit],
    landmarks: list[landmark_pb2.Landmark],
    said: str,
) -> None:
    services.plan, services.landmarks = a_plan(), landmarks
    first, rest = audits[:1], audits[1:]
    pages = [
        landmark_pb2.ListLandmarkAuditsResponse(audits=first, next_page_token="next"),
        landmark_pb2.ListLandmarkAuditsResponse(audits=rest),
    ]
    services.audits = [*pages, *pages]
    words = told(trigpoint("landmark", "plan"))
    assert words.startswith(f"1 of 3 sites provable now, 2 with 2 more landmarks {said}".rstrip() + " Assumed:")
    printed = json.loads(trigpoint("landmark", "plan", "--json").stdout)
    assert printed["registered_landmarks"] == len(audits)
    assert printed["uncounted_landmarks"] == (int(said[0]) if said else 0)


def letters(text: str) -> Counter[str]:
    return Counter(character for character in text if not character.isspace())


@pytest.mark.parametrize("width", range(60, 121))
def test_no_letter_is_lost_at_any_width(width: int) -> None:
    plan = a_plan()
    plan.chosen[0].candidate.name = "sg-tuas"
    plan.chosen[0].gained[:] = ["A site with a rather long name of 48 characters.", "Kuala-Lumpur-Bangsar-South"]
    output = io.StringIO()
    console = Console(file=output, width=width, markup=False, emoji=False, highlight=False)
    console.print(plan_render.page(plan, plan_render.Asked(2, 10, 1.5, 0.1), plan_render.Standing(3, 2)))
    printed = output.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    table = printed.partition("Set up\n")[2].partition("\nSites\n")[0]
    shown = "CANDIDATE RUN BY AT THEN PROVABLE 1 2 sg-tuas itself 1.30, 103.64 kl-1 Klang Transit 3.13, 101.67"
    assert letters(table) == letters(f"{shown} {', '.join(plan.chosen[0].gained)} with one further down")
    sites = printed.partition("\nSites\n")[2].partition("\nNot provable")[0]
    for entry in plan.sites:
        for text in (entry.site.name, *(reach.name for reach in entry.reaches)):
            assert not letters(text) - letters(sites)


def test_page_fits_80_columns(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.plan = a_plan()
    lines = trigpoint("landmark", "plan").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "1 of 3 sites provable now, 2 with 2 more landmarks"
    text = "\n".join(lines)
    assert "\x1b" not in text
    words = " ".join(text.split())
    assert "fibre runs 1.5 times the great circle, and 0.1 ms besides. A proof takes 2 failure domains" in words
    # What is needed is rounded down, what is expected up; no round trip is short enough for the other.
    (near,) = [line for line in lines if "shenzhen-a" in line]
    assert near.split()[-4:] == ["shenzhen-a", "1,234", "0.312", "0.124"]
    (new,) = [line for line in lines if "(new)" in line]
    assert new.split()[-3:] == ["3", "never", "0.200"]
    assert "and 2 more" in text
    assert "with one further down" in words
    assert "KL (country MY): needs 2 more failure domains within 38 km at most" in words
    assert words.endswith("provable there instead: outside_prohibited.")
    assert [line.split()[-4] for line in lines if line.endswith("0.100")] == ["a", "b", "c"]


def test_json(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.plan = a_plan()
    printed = json.loads(trigpoint("landmark", "plan", "--json").stdout)
    assert printed["tolerated_domains"] == 1
    first, second, _ = printed["sites"]
    assert (first["presence"], first["radius_km"], first["country"], first["missing"]) == ("site", 50, None, None)
    assert (first["provable_now"], first["provable_then"]) == (False, True)
    assert first["reaches"][0] == {
        "name": "shenzhen-a",
        "candidate": False,
        "distance_km": 1_234.4,
        "needed_rtt_ms": 0.31299,
        "expected_rtt_ms": 0.12301,
    }
    assert (second["country"], second["latitude"]) == ("MY", 3)
    assert second["missing"].startswith("needs 2 more")
    assert [chosen["operator"] for chosen in printed["chosen"]] == [None, "Klang Transit"]
    assert printed["chosen"][1]["gained"] == []


def test_geojson_is_rfc_7946(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.plan = a_plan()
    other = a_landmark()
    other.name = "landmarks/not-used"
    services.landmarks = [a_landmark(), other]
    printed = json.loads(trigpoint("landmark", "plan", "--geojson").stdout)
    assert set(printed) == {"type", "features"}
    assert printed["type"] == "FeatureCollection"
    kinds = [feature["properties"]["kind"] for feature in printed["features"]]
    assert kinds == ["site"] * 3 + ["landmark"] + ["candidate"] * 2
    for feature in printed["features"]:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Point"
        longitude, latitude = feature["geometry"]["coordinates"]  # longitude first, §3.1.1
        assert abs(latitude) < 30 < abs(longitude)
    landmark = printed["features"][3]["properties"]
    assert (landmark["name"], landmark["domain"], landmark["virtual_machine"]) == ("shenzhen-a", "operator-one", True)
    assert [feature["properties"]["order"] for feature in printed["features"][4:]] == [1, 2]


def test_json_and_geojson_exclude_each_other(services: FakeServices, trigpoint: Trigpoint) -> None:
    result = trigpoint("landmark", "plan", "--geojson", "--json")
    assert (result.exit_code, services.plan_requests) == (2, [])


TRUE = True


def feature(longitude: object, latitude: object, **properties: object) -> dict[str, Any]:
    geometry = {"type": "Point", "coordinates": [longitude, latitude, 12.0]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def collection(*features: object) -> str:
    return json.dumps({"type": "FeatureCollection", "features": features})


def test_geojson_files_give_the_same(
    services: FakeServices, trigpoint: Trigpoint, files: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "sites.geojson").write_text(
        collection(
            feature(103.85, 1.3, name="Singapore", presence="site", radius_km=50, **{"marker-color": "red"}),
            feature(101.69, 3.14, name="Kuala Lumpur", presence="country", country="MY"),
            feature(103.85, 1.3, name="Singapore again", presence="outside_prohibited", radius_km=None),
        )
    )
    (tmp_path / "candidates.geojson").write_text(
        "\ufeff"
        + collection(
            feature(103.64, 1.3, name="sg-tuas"), feature(101.67, 3.13, name="kl-1", operator="Klang Transit")
        ),
        encoding="utf-8",
    )
    trigpoint("landmark", "plan", "--sites", files[0], "--candidates", files[1])
    given = [str(tmp_path / name) for name in ("sites.geojson", "candidates.geojson")]
    result = trigpoint("landmark", "plan", "--sites", given[0], "--candidates", given[1])
    assert result.exit_code == 0, result.stderr
    assert services.plan_requests[0] == services.plan_requests[1]


def refused(trigpoint: Trigpoint, services: FakeServices, option: str, path: Path, content: str) -> str:
    path.write_text(content)
    result = trigpoint("landmark", "plan", option, str(path))
    assert (result.exit_code, result.stdout, services.plan_requests) == (2, "", [])
    assert str(path) in result.stderr
    return result.stderr


def test_every_problem_of_a_file_is_told(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path) -> None:
    content = (
        "name,presence,latitude,longitude,radius_km,country\n"
        "a,site,91,103,50,\n"
        "b,sight,1,x,50,\n"
        ",site,1,2,0,\n"
        "d,site,1,2,,MY\n"
        "e,country,1,2,3,\n"
        "f,outside_prohibited,1,2,3,SG\n"
        "g,country,1,2,,malaysia\n"
        "h,site,1,nan,5,\n"
        "i,country,1,2,,MY\n"
    )
    told = refused(trigpoint, services, "--sites", tmp_path / "x.csv", content).splitlines()
    assert "13 problems" in told[0]
    starts = [line.strip().rsplit(":", 1)[0] for line in told[1:]]
    assert starts == [
        "row 1: latitude '91'",
        "row 2: longitude 'x'",
        "row 2: presence 'sight'",
        "row 3: name",
        "row 3: radius_km '0'",
        "row 4: radius_km",
        "row 4: country 'MY'",
        "row 5: radius_km '3.0'",
        "row 5: country",
        "row 6: radius_km '3.0'",
        "row 6: country 'SG'",
        "row 7: country 'malaysia'",
        "row 8: longitude 'nan'",
    ]


def test_problems_are_told_in_plain_words(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path) -> None:
    content = (
        "name,presence,latitude,longitude,radius_km,country\n"
        "a,site,91,-181,0,\n"
        "b,country,x,nan,,my\n"
        "c,country,1,2,,A:5\n"
        f"{'x' * 129},sight,1,2,,\n"
    )
    lines = refused(trigpoint, services, "--sites", tmp_path / "x.csv", content).splitlines()
    no_country = "is no ISO 3166-1 alpha-2 code, upper case; a plan takes no groups"
    assert [line.strip() for line in lines[1:-2]] == [
        "row 1: latitude '91': must be 90 or less",
        "row 1: longitude '-181': must be -180 or more",
        "row 1: radius_km '0': must be above 0",
        "row 2: latitude 'x': is not a number",
        "row 2: longitude 'nan': is not a finite number",
        f"row 2: country 'my': {no_country}",
        f"row 3: country 'A:5': {no_country}",
    ]
    assert lines[-2].endswith("...': has more than 128 characters")
    assert lines[-1] == "  row 4: presence 'sight': must be 'site', 'country' or 'outside_prohibited'"
    given = collection(feature(TRUE, "x", name=""), feature([], 2, name=7))
    lines = refused(trigpoint, services, "--candidates", tmp_path / "x.geojson", given).splitlines()
    assert [line.strip() for line in lines[1:]] == [
        "row 1: name '': is empty",
        "row 1: latitude 'x': is not a number",
        "row 1: longitude 'true': must be a number",
        "row 2: name '7': is not text",
        "row 2: longitude '[]': is not a number",
    ]


def test_candidates_must_have_names_of_their_own(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path) -> None:
    content = CANDIDATES + "sg-tuas,Other,1,2\n"
    told = refused(trigpoint, services, "--candidates", tmp_path / "x.csv", content)
    assert "row 3: name 'sg-tuas': stands in the file twice" in told


def test_many_problems_are_cut(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path) -> None:
    content = "name,latitude,longitude\n" + f"{'x' * 200},1,2\n" * 150
    told = refused(trigpoint, services, "--candidates", tmp_path / "x.csv", content).splitlines()
    assert "150 problems, the first 100 shown" in told[0]
    assert len(told) == 101
    assert "x...'" in told[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the header has no name, no latitude, no longitude, no presence;"),
        ("name,presence,latitude,longitude\n", "no rows"),
        ("name,presence,lat,longitude\na,site,1,2\n", "no latitude, unknown 'lat'"),
        ("name,name,presence,latitude,longitude\n", "a column twice"),
        ("name,presence,latitude,longitude\na,site,1\n", "row 1 has 3 values, the header 4"),
        ('name,presence,latitude,longitude\n"a,site,1,2\n', "line 2"),
        ("{", "not JSON"),
        ("[]", "not a GeoJSON FeatureCollection"),
        (collection(), "no rows"),
        (collection({"type": "Feature"}), "row 1 is not a GeoJSON Feature with a Point"),
        (collection(feature(TRUE, 2, name="a", presence="site", radius_km=1)), "row 1: longitude 'true': must be"),
        (collection({**feature(1, 2), "properties": None}), "row 1: name: is missing"),
        (collection(feature([], 2, name="a", presence="site", radius_km=1)), "row 1: longitude '[]'"),
    ],
)
def test_a_file_that_cannot_be_read(
    services: FakeServices, trigpoint: Trigpoint, tmp_path: Path, content: str, said: str
) -> None:
    assert said in refused(trigpoint, services, "--sites", tmp_path / "x", content)


def test_files_that_are_no_text_or_too_long(
    services: FakeServices, trigpoint: Trigpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.csv"
    for content, said in ((None, "No such file"), (b"\xff\xfe", "not UTF-8")):
        if content is not None:
            path.write_bytes(content)
        result = trigpoint("landmark", "plan", "--sites", str(path))
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr
    monkeypatch.setattr(plan_files, "MAX_ROWS", 2)
    assert "3 rows; 2 at most" in refused(trigpoint, services, "--sites", path, SITES)
    monkeypatch.setattr(plan_files, "MAX_FILE_BYTES", 1 << 20)
    assert "larger than 1 MiB" in refused(trigpoint, services, "--sites", path, "x" * (1 << 20) + "x")


def test_what_the_server_cannot_use_is_told_with_its_row(
    services: FakeServices, trigpoint: Trigpoint, files: tuple[str, str]
) -> None:
    services.denial = grpc.StatusCode.INVALID_ARGUMENT, "sites[1].country: no country of this code is known"
    result = trigpoint("landmark", "plan", "--sites", files[0])
    assert result.exit_code == 2
    assert result.stderr == f"trigpoint: {files[0]}: row 2: country: no country of this code is known\n"
    services.denial = grpc.StatusCode.INVALID_ARGUMENT, "sites: 10,001 regions are on record"
    result = trigpoint("landmark", "plan")
    assert (result.exit_code, result.stderr) == (2, "trigpoint: sites: 10,001 regions are on record\n")
    services.denial = grpc.StatusCode.PERMISSION_DENIED, "role landmark may not"
    assert trigpoint("landmark", "plan").exit_code == 4


@pytest.mark.parametrize("arguments", [("--max", "0"), ("--path-factor", "0.9"), ("--access-ms", "0")])
def test_options_out_of_range(services: FakeServices, trigpoint: Trigpoint, arguments: tuple[str, str]) -> None:
    assert trigpoint("landmark", "plan", *arguments).exit_code == 2
    assert services.plan_requests == []

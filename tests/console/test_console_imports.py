"""`trigpoint deployment import` and `trigpoint landmark` against a fake server."""

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from rich.console import Console
from trigpoint.v1 import change_pb2, licensing_pb2
from typer.testing import Result

from console import render
from tests.console.helpers import FakeServices, a_landmark

Trigpoint = Callable[..., Result]


def test_a_file_goes_in_pieces_after_its_options(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path) -> None:
    content = b"pdi,license\n" + b"x" * 600_000
    (tmp_path / "rows.csv").write_bytes(content)
    services.import_response = licensing_pb2.ImportDeploymentsResponse(
        row_count=5, created_count=3, updated_count=1, unchanged_count=1, validate_only=True
    )
    result = trigpoint("deployment", "import", str(tmp_path / "rows.csv"), "--dry-run")
    assert result.exit_code == 0
    assert result.stdout == "5 rows: 3 would be created, 1 would be updated, 1 unchanged\n"
    ((options, *pieces),) = services.uploads
    assert options.options.format == licensing_pb2.IMPORT_FORMAT_CSV
    assert options.options.validate_only
    assert [len(piece.data) for piece in pieces] == [262_144, 262_144, len(content) - 524_288]
    assert b"".join(piece.data for piece in pieces) == content


def _refused() -> licensing_pb2.ImportDeploymentsResponse:
    errors = [
        licensing_pb2.ImportRowError(
            row=2, field="valid_until", value="2026-13-01", message="a date such as 2026-12-01 is asked for here"
        ),
        licensing_pb2.ImportRowError(row=0, message="the file has no rows"),
    ]
    return licensing_pb2.ImportDeploymentsResponse(row_count=3, errors=errors, error_count=1_200)


def test_row_errors_are_a_numbered_table(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("[]")
    services.import_response = _refused()
    result = trigpoint("deployment", "import", str(tmp_path / "rows.json"))
    assert result.exit_code == 1
    assert "   2  valid_until  2026-13-01" in result.stdout
    assert "file" in result.stdout.splitlines()[-1]
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "1,200 errors, the first 2 shown; nothing was imported" in " ".join(result.stderr.split())
    assert services.uploads[0][0].options.format == licensing_pb2.IMPORT_FORMAT_JSON


def test_an_import_that_waits_for_a_second_person_says_so_and_warns(
    services: FakeServices, trigpoint: Trigpoint, tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text("[]")
    services.import_response = licensing_pb2.ImportDeploymentsResponse(
        row_count=3,
        created_count=2,
        unchanged_count=1,
        change=change_pb2.Change(name="changes/12", state=change_pb2.CHANGE_STATE_OPEN, summary=["licenses/D1: 2 new"]),
        warnings=[licensing_pb2.ImportRowError(row=2, field="country", value="CN", message="is a prohibited one")],
    )
    result = trigpoint("deployment", "import", str(tmp_path / "rows.json"), "--reason", "phase two")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "3 rows: 2 would be created, 0 would be updated, 1 unchanged",
        "  licenses/D1: 2 new",
        "Change 12 waits for a second person: trigpoint change approve 12",
    ]
    assert result.stderr == "note: row 2: country CN: is a prohibited one\n"
    assert services.uploads[0][0].options.reason == "phase two"


def letters(text: str) -> Counter[str]:
    return Counter(character for character in text if not character.isspace())


@pytest.mark.parametrize("width", range(60, 121))
def test_no_letter_of_a_row_error_is_lost_at_any_width(width: int) -> None:
    errors = [
        licensing_pb2.ImportRowError(
            row=1_000_000,
            field="site_longitude",
            value="Frankfurt am Main, Hanauer Landstrasse 302",
            message="stands beside site_polygon; a site is a disc or drawn, not both",
        ),
        licensing_pb2.ImportRowError(row=2, field="country", value="x" * 200, message=f"unknown column {'y' * 70}"),
        licensing_pb2.ImportRowError(row=0, message="the file has no rows"),
    ]
    output = io.StringIO()
    Console(file=output, width=width, markup=False, emoji=False, highlight=False).print(render.import_errors(errors))
    printed = output.getvalue()
    assert max(map(len, printed.splitlines())) <= width
    told = [text for entry in errors for text in (entry.field, entry.value, entry.message)]
    assert letters(printed) == letters("".join(["ROW FIELD VALUE WHAT IS WRONG 1000000 2 file", *told]))


def test_row_errors_as_json(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("")
    services.import_response = _refused()
    result = trigpoint("deployment", "import", str(tmp_path / "rows.txt"), "--format", "csv", "--json")
    assert result.exit_code == 1
    printed = json.loads(result.stdout)
    assert printed["error_count"] == 1_200
    assert printed["errors"][0]["row"] == 2


@pytest.mark.parametrize("name", ["absent.csv", "rows.txt", "folder.csv"])
def test_a_file_that_cannot_be_used(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.txt").write_text("")
    (tmp_path / "folder.csv").mkdir()
    result = trigpoint("deployment", "import", str(tmp_path / name))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("trigpoint: ")
    assert services.uploads == []


def test_landmarks_go_out_as_json_and_come_back_in(
    services: FakeServices, trigpoint: Trigpoint, tmp_path: Path
) -> None:
    services.landmarks = [a_landmark()]
    printed = trigpoint("landmark", "list", "--json").stdout
    (tmp_path / "landmarks.json").write_text(printed)
    result = trigpoint("landmark", "import", str(tmp_path / "landmarks.json"), "--dry-run")
    assert result.exit_code == 0, result.stderr
    (request,) = services.landmark_requests
    assert request.validate_only
    sent = request.landmarks[0]
    expected = a_landmark()
    for output_only in ("revision", "revise_time", "domain"):
        expected.ClearField(output_only)
    assert sent == expected


def test_landmark_table_fits_80_columns(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.landmarks = [a_landmark()]
    result = trigpoint("landmark", "list")
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "22.5400, 114.0600" in result.stdout
    assert "\nnot signed " in result.stdout
    assert result.stderr == "1 landmark\n"


def test_landmark_list_says_which_records_are_signed(
    services: FakeServices, trigpoint: Trigpoint, tmp_path: Path
) -> None:
    services.landmarks = [a_landmark()]
    services.landmarks[0].operator_key, services.landmarks[0].operator_signature = b"\x05" * 32, b"\xd2\x84"
    shown = trigpoint("landmark", "list").stdout
    assert "\nsigned " in shown
    assert "not signed" not in shown
    printed = trigpoint("landmark", "list", "--json").stdout
    (tmp_path / "landmarks.json").write_text(printed)
    assert trigpoint("landmark", "import", str(tmp_path / "landmarks.json")).exit_code == 0
    (sent,) = services.landmark_requests[0].landmarks
    assert (sent.operator_key, sent.operator_signature) == (b"\x05" * 32, b"\xd2\x84")


def test_landmarks_of_several_files_go_out_together(
    services: FakeServices, trigpoint: Trigpoint, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps([GOOD, GOOD | {"id": "sg-2"}]))
    two.write_text(json.dumps([GOOD | {"id": "sg-3"}, GOOD | {"id": "sg-4"}]))
    result = trigpoint("landmark", "import", str(one), str(two))
    assert (result.exit_code, result.stderr) == (0, "")
    said, *summary, waits = result.stdout.splitlines()
    assert said == "4 landmarks: 4 would be created, 0 would be updated, 0 unchanged"
    assert summary == [f"  landmarks/sg-{number}: new" for number in (1, 2, 3, 4)]
    assert waits == "Change 7 waits for a second person: trigpoint change approve 7"
    (request,) = services.landmark_requests
    assert [sent.name[-1] for sent in request.landmarks] == list("1234")
    for index, told in (
        (0, f"{one}: landmark 1, operator_signature: bad; nothing was imported"),
        (3, f"{two}: landmark 2, operator_signature: bad; nothing was imported"),
        (4, "landmarks[4].operator_signature: bad"),
    ):
        services.denial = (grpc.StatusCode.INVALID_ARGUMENT, f"landmarks[{index}].operator_signature: bad")
        result = trigpoint("landmark", "import", str(one), str(two))
        assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"trigpoint: {told}\n")


GOOD = {
    "id": "sg-1",
    "public_key": "ab" * 32,
    "operator": "One",
    "hoster": "Two",
    "latitude": 1.3,
    "longitude": 103.8,
    "uncertainty_km": 0.1,
    "endpoints": ["127.0.0.1:7444"],
    "country": "SG",
}


def test_a_landmark_by_id(services: FakeServices, trigpoint: Trigpoint, tmp_path: Path) -> None:
    path = tmp_path / "landmarks.json"
    path.write_text(json.dumps([GOOD | {"valid_from": "2026-01-01T00:00:00Z"}]))
    result = trigpoint("landmark", "import", str(path), "--json")
    assert json.loads(result.stdout)["created_count"] == 1
    assert services.landmark_requests[0].landmarks[0].name == "landmarks/sg-1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("{}", "file"),
        (json.dumps([GOOD, GOOD | {"public_key": "ab"}]), "landmark 2, public_key"),
        (json.dumps([GOOD | {"surprise": 1}]), "landmark 1, surprise: unknown key"),
        (json.dumps([{"id": "sg-1"}]), "landmark 1, operator: is missing"),
        (json.dumps([GOOD | {"name": "landmarks/sg-1"}]), "one of id and name"),
        (json.dumps([GOOD | {"valid_from": "2026-01-01T00:00:00"}]), "valid_from: is no RFC 3339 time with its zone"),
        (json.dumps([GOOD | {"latitude": 91}]), "latitude: must be 90 or less"),
        (json.dumps([GOOD | {"operator_key": "ab"}]), "landmark 1, operator_key: must be 64 hex digits"),
        (
            json.dumps([GOOD | {"operator_signature": "abc"}]),
            "landmark 1, operator_signature: must be pairs of hex digits",
        ),
        (json.dumps([GOOD | {"id": "SG_1"}]), "landmark 1, id: must be 1 to 63 of a-z, 0-9 and -"),
        (json.dumps([GOOD | {"country": "sg"}]), "landmark 1, country: is no ISO 3166-1 alpha-2 code, upper case"),
        (json.dumps([GOOD | {"country": "SG\n"}]), "landmark 1, country: is no ISO 3166-1 alpha-2 code, upper case"),
        (json.dumps([GOOD | {"endpoints": []}]), "landmark 1, endpoints: has 0 entries; 1 at least"),
        (json.dumps([GOOD | {"endpoints": ["a:1"] * 5}]), "landmark 1, endpoints: has 5 entries; 4 at most"),
        (json.dumps([GOOD | {"virtual_machine": "perhaps"}]), "landmark 1, virtual_machine: is neither true nor false"),
        (json.dumps([7]), "landmark 1: is not an object"),
    ],
)
def test_a_landmark_file_that_cannot_be_used(
    services: FakeServices, trigpoint: Trigpoint, tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "landmarks.json"
    path.write_text(content)
    result = trigpoint("landmark", "import", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert services.landmark_requests == []

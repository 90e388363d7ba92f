"""The conformance run: `trigpoint verify` passes it, and a verifier that answers wrongly does not."""

import shlex
import sys
from pathlib import Path

import pytest

from tests.conformance.__main__ import main
from tests.conformance.runner import Checked, check, table
from tests.conformance.vectors import AUTHENTIC, UnusableVectorError, load

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
TRIGPOINT = shlex.join([sys.executable, "-c", "from console.cli import main; main()", "verify"])


def command(tmp_path: Path, source: str) -> str:
    """A verifier of a few lines, which finds its evidence in `entries`."""
    path = tmp_path / "verifier.py"
    head = "import json, sys\nentries = json.load(open(sys.argv[1], encoding='ascii'))\n"
    path.write_text(head + source, encoding="ascii")
    return shlex.join([sys.executable, "-I", str(path)])


def test_trigpoint_verify_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(VECTORS), "--command", TRIGPOINT]) == 0, capsys.readouterr().out
    count = len(load(VECTORS, "report"))
    assert f"{count} of {count} vectors agree" in capsys.readouterr().out


def test_one_by_one_gives_the_same_answers() -> None:
    vectors = load(VECTORS, "report")
    few = [next(v for v in vectors if v["expect"] == reason) for reason in (AUTHENTIC, "NONCE_MISMATCH")]
    assert all(r.agrees for r in check(few, TRIGPOINT, one_by_one=True))


def test_a_verifier_that_believes_everything_differs_at_every_lie(tmp_path: Path) -> None:
    everything = command(tmp_path, "print(json.dumps({'reports': [{'authentic': True} for _ in entries]}))")
    vectors = _few()
    results = check(vectors, everything)
    assert {r.name for r in results if r.agrees} == {v["name"] for v in vectors if v["expect"] == AUTHENTIC}
    assert {r.answer for r in results} == {AUTHENTIC}


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("print('yes')", "no answer in JSON"),
        ("print(json.dumps({'reports': []}))", "no answer in JSON"),
        ("print(json.dumps({'reports': [7]}))", "no answer in JSON"),
        ("raise SystemExit(2)", "no answer in JSON"),
        (
            "print(json.dumps({'reports': [{'authentic': True}] * len(entries)})); raise SystemExit(1)",
            "AUTHENTIC with exit code 1",
        ),
        (
            "print(json.dumps({'reports': [{'authentic': False, 'reason': 'NONCE_MISMATCH'}] * len(entries)}))",
            "NONCE_MISMATCH with exit code 0",
        ),
    ],
)
def test_answers_of_another_form_differ(tmp_path: Path, source: str, answer: str) -> None:
    results = check(_few(), command(tmp_path, source))
    assert {r.answer for r in results} == {answer}
    assert not any(r.agrees for r in results)


def _few() -> list[dict[str, object]]:
    vectors = load(VECTORS, "report")
    return [next(v for v in vectors if v["expect"] == reason) for reason in (AUTHENTIC, "NONCE_MISMATCH")]


def test_table_shows_differences_last() -> None:
    shown = table([Checked("one", AUTHENTIC, "PDI_MISMATCH"), Checked("two", AUTHENTIC, AUTHENTIC)])
    assert shown.splitlines()[1] == "one  DIFFERS  expected AUTHENTIC, answered PDI_MISMATCH"
    assert shown.endswith("1 of 2 vectors agree")


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report").mkdir()
    for name in ("certificates.json", "report/E1-lie-empty.json"):
        (tmp_path / name).write_bytes((VECTORS / name).read_bytes())
    assert main([str(tmp_path), "--command", command(tmp_path, "print('yes')")]) == 1
    assert "0 of 1 vectors agree" in capsys.readouterr().out
    assert main([str(tmp_path), "--command", str(tmp_path / "no such verifier")]) == 2
    assert main([str(tmp_path / "nothing"), "--command", "true"]) == 2
    (tmp_path / "report" / "broken.json").write_text("{", encoding="ascii")
    with pytest.raises(UnusableVectorError):
        load(tmp_path, "report")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnusableVectorError):
        load(tmp_path, "empty")

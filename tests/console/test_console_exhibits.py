"""`trigpoint case rebuttal` and its kin, and `trigpoint device challenge`, against a real server."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.console.real_desk import LICENSE, ONE, TWO, deployed, real_desk
from tests.console.test_console_cases import case_until
from tests.people import People

PDF = b"%PDF-1.7\n" + bytes(range(256))
METER = "The hall was without power from 3 to 9 o'clock; the meter of the grid operator shows it.\nWe ask for a visit."


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[People]:
    """Case 1 is about a suspended license with two devices."""
    async with real_desk(tmp_path) as opened:
        await deployed(opened)
        await opened.done_by_two("license", "suspend", LICENSE, "--reason", "inquiry")
        await case_until(opened, "OPEN")
        yield opened
        assert opened.too_wide() == []


async def test_the_accused_are_heard_and_answered(people: People, tmp_path: Path) -> None:
    (tmp_path / "meter.pdf").write_bytes(PDF)
    rebut = "case", "rebuttal", "1", "--on-behalf-of", "Example Cloud", "--statement", METER
    said = await people.does("ann", *rebut, tmp_path / "meter.pdf")
    assert "waits for an answer" in said
    assert "file: meter.pdf, application/pdf, 265 bytes" in said
    bare = await people.told("ann", "case", "rebuttal", "cases/1", "--on-behalf-of", "A neighbor", "--statement", "So!")
    assert (bare["name"], bare["file_name"], bare["answer_time"]) == ("cases/1/exhibits/2", "", None)

    resolve = "case", "resolve", "1", "--reason", "done", "--accept-risk"
    early = await people.says("ann", *resolve)
    assert (early.code, early.out) == (1, "")
    assert "2 exhibits that are not answered" in early.err

    shown = await people.says("eve", "case", "exhibits", "1")
    assert shown.err == "2 exhibits, 2 not answered\n"
    assert [line for line in shown.out.splitlines() if "says, added by" in line] == [
        "  Example Cloud says, added by ann:",
        "  A neighbor says, added by ann:",
    ]
    assert "    We ask for a visit." in shown.out.splitlines()
    assert "answered" in await people.does("bob", "case", "answer", "1/1", "--answer", "We asked the grid operator.")
    await people.does("bob", "case", "answer", "cases/1/exhibits/2", "--answer", "Noted.")
    again = await people.says("bob", "case", "answer", "1/2", "--answer", "Noted again.")
    assert (again.code, "bob answered it already" in again.err) == (1, True)
    assert (await people.says("eve", "case", "exhibits", "1")).err == "2 exhibits\n"
    assert "RESOLVED" in await people.does("ann", *resolve)

    story = (await people.told("eve", "case", "get", "1"))["story"]
    assert [entry["by"] for entry in story if entry["kind"] == "EXHIBIT"] == ["ann", "ann", "bob", "bob"]


async def test_a_file_comes_back_and_overwrites_nothing(people: People, tmp_path: Path) -> None:
    (tmp_path / "meter.pdf").write_bytes(PDF)
    rebut = "case", "rebuttal", "1", "--on-behalf-of", "Example Cloud", "--statement", "See."
    await people.does("ann", *rebut, tmp_path / "meter.pdf")
    await people.does("ann", *rebut)
    back = tmp_path / "back.pdf"
    get = "case", "exhibits", "1", "--file-of", "1", "-o", back
    told = await people.told("eve", *get)
    assert back.read_bytes() == PDF
    assert told == {"file": str(back), "size_bytes": len(PDF), "sha256": hashlib.sha256(PDF).hexdigest()}
    again = await people.says("eve", *get)
    assert (again.code, again.err) == (2, f"trigpoint: {back} is there already\n")
    none = await people.says("eve", "case", "exhibits", "1", "--file-of", "2", "-o", tmp_path / "none")
    assert (none.code, none.err) == (1, "trigpoint: cases/1/exhibits/2 has no file\n")
    for half in (("--file-of", "1"), ("-o", str(tmp_path / "none"))):
        assert (await people.says("eve", "case", "exhibits", "1", *half)).code == 2
    assert not (tmp_path / "none").exists()


async def test_what_cannot_be_sent_is_said_before(people: People, tmp_path: Path) -> None:
    rebut = "case", "rebuttal", "1", "--on-behalf-of", "Example Cloud", "--statement", "See."
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(bytes((4 << 20) + 1))
    for name in ("empty", "large", "absent"):
        said = await people.says("ann", *rebut, tmp_path / name)
        assert said.code == 2, said
    for exhibit in ("1", "1/0", "x/1", "1/1/1"):
        assert (await people.says("bob", "case", "answer", exhibit, "--answer", "x")).code == 2
    assert (await people.says("eve", *rebut)).code == 4, "a viewer reads"
    assert (await people.says("eve", "case", "exhibits", "1")).err == "0 exhibits\n"


async def test_an_appeal_needs_a_distrust(people: People) -> None:
    appeal = "landmark", "appeal", "nowhere", "--on-behalf-of", "Lone Star Timing", "--statement", "It was moved."
    said = await people.says("ann", *appeal)
    assert (said.code, "landmarks/nowhere is not on record" in said.err) == (1, True)
    assert (await people.says("ann", "landmark", "appeals", "nowhere")).code == 1
    assert (await people.says("bob", "landmark", "answer", "nowhere/1", "--answer", "x")).code == 1


async def test_two_people_order_a_challenge(people: People) -> None:
    ask = "device", "challenge", ONE, f"devices/{TWO}", "--reason", "seen at a fair"
    said = " ".join((await people.does("ann", *ask)).split())
    assert f"devices/{ONE}: ask at once, once (license {LICENSE} of Example Cloud, Singapore 1)" in said
    assert "Change 3 waits for a second person: trigpoint change approve 3" in said
    number = await people.done_by_two(*ask)
    assert number == "4"
    unknown = await people.says("ann", "device", "challenge", "00000000000000ff", "--reason", "x")
    assert (unknown.code, "devices/00000000000000ff is not on record" in unknown.err) == (1, True)
    assert (await people.says("ann", "device", "challenge", "xyz", "--reason", "x")).code == 2

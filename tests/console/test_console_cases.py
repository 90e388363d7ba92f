"""`trigpoint case` against a real server. The event: a license is suspended, so its two devices are flagged."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from trigpoint.v1 import cases_pb2, device_pb2, reason_pb2

from console import case_render
from tests.console.real_desk import LICENSE, ONE, SITE, TWO, deployed, real_desk
from tests.people import WIDTH, People

WAIT_S = 20.0
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[People]:
    async with real_desk(tmp_path) as opened:
        await deployed(opened)
        await opened.done_by_two("license", "suspend", LICENSE, "--reason", "inquiry")
        await case_until(opened, "OPEN")
        yield opened
        assert opened.too_wide() == []


async def case_until(people: People, state: str, *, quiet: bool = False) -> Any:
    """Wait for the one case to be so, and return it."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = (await people.told("eve", "case", "list", "--state", state.lower()))["cases"]
        if len(found) == 1 and found[0]["device_count"] == 2 and (found[0]["quiet_since"] is not None) == quiet:
            return found[0]
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)  # the server takes findings by itself


def lines(text: str) -> list[str]:
    """Lines without the spaces at their ends."""
    return [line.rstrip() for line in text.splitlines()]


async def test_one_event_is_one_case(people: People) -> None:
    said = await people.says("eve", "case", "list")
    assert said.err == "1 case\n"
    head, first, _ = lines(said.out)
    assert head.split() == ["CASE", "SEVERITY", "STATE", "AGE", "WHAT"]
    assert first.split()[:3] == ["1", "VIOLATION", "OPEN"]
    assert "The license does not cover its devices: Example" in first
    page = lines(await people.does("eve", "case", "get", "1"))
    assert page[0] == "Case 1  VIOLATION  OPEN"
    assert f"license     {SITE}" in page
    assert "devices     2 devices, 2 with open findings" in page
    story = page[page.index("Story") + 1 :]
    assert [line.split()[3] for line in story if line.endswith(("licensed", "proven", "broke"))] == [
        "licensed",
        "proven",
        "broke",
    ]
    devices = lines(await people.does("eve", "case", "devices", "1"))
    assert [line.split()[:2] for line in devices if line.startswith("4a1f")] == [
        [ONE, "LICENSE_SUSPENDED"],
        [TWO, "LICENSE_SUSPENDED"],
    ]


async def test_a_case_is_worked(people: People) -> None:
    assert "ACKNOWLEDGED" in await people.does("ann", "case", "acknowledge", "1", "--note", "seen")
    assert "(bob)" in (await people.does("ann", "case", "assign", "1", "--to", "bob")).replace("\n", " ")
    await people.does("bob", "case", "note", "cases/1", "--note", "called the licensee")
    assert "INVESTIGATING" in await people.does("bob", "case", "investigate", "1")
    early = await people.says("bob", "case", "resolve", "1", "--reason", "done")
    assert (early.code, early.out) == (1, "")
    assert early.err.startswith("trigpoint: cases/1: it has findings open on 2 devices")

    await people.done_by_two("license", "activate", LICENSE, "--reason", "the inquiry is over")
    await case_until(people, "INVESTIGATING", quiet=True)
    assert "RESOLVED" in await people.does("bob", "case", "resolve", "1", "--reason", "the inquiry is over")
    assert (await people.told("eve", "case", "list"))["cases"] == []
    told = await people.told("eve", "case", "get", "1")
    assert (told["case"]["assignee"], told["case"]["resolution"]) == ("bob", "the inquiry is over")
    worked = [(entry["kind"], entry["by"]) for entry in told["story"] if entry["by"]]
    assert worked == [("WORK", "ann"), ("WORK", "ann"), ("NOTE", "bob"), ("WORK", "bob"), ("WORK", "bob")]

    assert "OPEN" in await people.does("ann", "case", "reopen", "1", "--reason", "a second look")
    again = await people.says("ann", "case", "reopen", "1", "--reason", "a second look")
    assert again.code == 1


async def test_open_findings_can_be_accepted_as_a_risk(people: People) -> None:
    said = await people.does("ann", "case", "resolve", "1", "--reason", "agreed with the licensee", "--accept-risk")
    assert "RESOLVED" in said
    told = await people.told("eve", "case", "get", "1")
    assert (told["case"]["state"], told["case"]["open_device_count"]) == ("RESOLVED", 2)


async def test_cases_are_found(people: People) -> None:
    for options, count in (
        (("--licensee", "Example Cloud"), 1),
        (("--licensee", "Another"), 0),
        (("--device", ONE), 1),
        (("--device", "4a1f0c22d85e9b09"), 0),
        (("--state", "resolved"), 0),
        (("--filter", f'license = "{LICENSE}" AND severity = "VIOLATION"'), 1),
        (("--all",), 1),
    ):
        assert (await people.told("eve", "case", "list", *options))["total_size"] == count, options


async def test_what_is_no_case(people: People) -> None:
    for arguments, code in (
        (("get", "99"), 1),
        (("devices", "99"), 1),
        (("acknowledge", "99"), 1),
        (("get", "first"), 2),
        (("list", "--state", "odd"), 2),
        (("note", "1", "--note", ""), 2),
        (("resolve", "1", "99", "--reason", "all or none"), 1),
    ):
        said = await people.says("ann", "case", *arguments)
        assert (said.code, said.out) == (code, ""), arguments
        assert said.err.startswith("trigpoint: ")
    assert (await case_until(people, "OPEN"))["state"] == "OPEN"
    assert (await people.says("eve", "case", "acknowledge", "1")).code == 4


def _stamp(when: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(when)
    return stamp


def test_findings_as_a_table() -> None:
    hour = timedelta(hours=1)
    devices = [
        cases_pb2.CaseDevice(
            device="devices/4a1f0c22d85e9b01",
            reason=reason_pb2.REASON_SILENT,
            open_time=_stamp(NOW - 3 * hour),
            detail="no verified report since then\x1b[31m",
        ),
        cases_pb2.CaseDevice(
            device="devices/4a1f0c22d85e9b02",
            reason=reason_pb2.REASON_PRESENCE_OVERDUE,
            open_time=_stamp(NOW - 3 * hour),
            end_time=_stamp(NOW - hour),
            detail="it reports, but presence is not proven",
        ),
    ]
    assert printed(case_render.device_table(devices, NOW)) == [
        "PDI               FINDING           OPEN       WHY",
        "4a1f0c22d85e9b01  SILENT            for 3 h    no verified report since",
        "                                               then\ufffd[31m",
        "4a1f0c22d85e9b02  PRESENCE_OVERDUE  2 h, over  it reports, but presence is not",
        "                                               proven",
    ]


def test_a_case_as_a_page() -> None:
    case = cases_pb2.Case(
        name="cases/7",
        state=cases_pb2.CASE_STATE_OPEN,
        severity=device_pb2.SEVERITY_WARNING,
        title="Landmarks are down",
        open_time=_stamp(NOW - timedelta(minutes=10)),
        device_count=2_000,
        open_device_count=1,
    )
    entry = cases_pb2.CaseEntry(
        time=_stamp(NOW), kind=cases_pb2.CASE_ENTRY_KIND_NOTE, by="ann\x07", text="a word " * 30
    )
    page = printed(case_render.page(cases_pb2.GetCaseResponse(case=case, story=[entry]), NOW))
    assert page[:4] == [
        "Case 7  WARNING  OPEN",
        "Landmarks are down",
        "devices     2,000 devices, 1 with open findings",
        "open since  2026-11-24 11:50:00 UTC (10 min)",
    ]
    assert page[6] == "2026-11-24 12:00:00 UTC  note by ann\ufffd"
    assert all(line.startswith("    a word") for line in page[7:])


def printed(what: Any) -> list[str]:
    """Return what comes out on a terminal of 80 columns, without the spaces at the ends of lines."""
    console = Console(width=WIDTH, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        console.print(what)
    return lines(captured.get())

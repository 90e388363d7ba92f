"""The commands for records against a real server: what they write, what they print on 80 columns, how they fail."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from console import asked
from tests.console.real_desk import CLOCKS, LICENSE, ONE, SITE, TERMS, TWO, WHY, deployed, draft_license, real_desk
from tests.people import People


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[People]:
    async with real_desk(tmp_path) as opened:
        yield opened
        assert opened.too_wide() == []


def lines(text: str) -> list[str]:
    """Lines without the spaces at their ends."""
    return [line.rstrip() for line in text.splitlines()]


async def test_a_draft_is_written_by_one(people: People) -> None:
    named = "--name", "Example Cloud Pte. Ltd.", "--alias", "ExCloud", "--address", "1 Example Road", "--country", "SG"
    assert await people.does("ann", "party", "create", "example-cloud", *named, *WHY) == "example-cloud: revision 1\n"
    await draft_license(people, LICENSE, "--party", "example-cloud:licensee", "--quantity", "64", "--eccn", "4A090")
    assert lines(await people.does("eve", "license", "get", LICENSE))[:-1] == [
        "License D1234567",
        "licensee           Example Cloud",
        "parties            example-cloud:licensee",
        "eccn               4A090",
        "quantity           64",
        "valid from         2026-01-01",
        "valid until        2035-11-30, that day included",
        "state              DRAFT",
        "presence           site",
        "assurance          device_ranged",
        "cadence            24 h",
        "grace              6 h",
        "surprises per day  1",
        "deployed           0 devices",
    ]
    told = await people.told("eve", "license", "get", LICENSE)
    assert (told["license"]["valid_until"], told["license"]["cadence"]) == ("2035-12-01T00:00:00Z", 86_400)
    assert lines(await people.does("eve", "license", "list")) == [
        "LICENSE   STATE  UNTIL       PRESENCE  LICENSEE",
        "D1234567  DRAFT  2035-11-30  site      Example Cloud",
    ]
    assert lines(await people.does("eve", "party", "list")) == [
        "PARTY          NAME                     COUNTRY  ALIASES",
        "example-cloud  Example Cloud Pte. Ltd.  SG       ExCloud",
    ]


async def test_what_is_there_is_not_created_again(people: People) -> None:
    await people.does("ann", "party", "create", "example", "--name", "Example", *WHY)
    said = await people.says("ann", "party", "create", "example", "--name", "Another", *WHY)
    assert said.code == 1
    assert "parties/example stands at revision 1" in said.err


async def test_a_site_says_what_landmarks_can_prove(people: People) -> None:
    await draft_license(people)
    said = await people.does("ann", "site", "create", SITE, "--name", "One", "--disc", "1.3521,103.8198,25", *WHY)
    printed = lines(said)
    assert printed[:2] == [f"{SITE}: revision 1", f"{SITE}, site: not provable today"]
    assert printed[2].startswith("  Landmarks cannot prove presence at the site: needs 2 more failure domains")
    # and what the license could ask instead
    assert f"{SITE}, outside_prohibited: not provable today" in printed
    assert lines(await people.does("eve", "site", "list", "--license", LICENSE)) == [
        "SITE                  NAME  REGION                         JURISDICTION",
        f"{SITE}  One   25 km around 1.3521, 103.8198  SG",
    ]


async def test_what_is_in_force_waits_for_a_second_person(people: People) -> None:
    await deployed(people)
    said = await people.does("ann", "license", "update", LICENSE, "--cadence", "12h", "--reason", "amendment 1")
    assert "Change 2 waits for a second person: trigpoint change approve 2" in lines(said)
    assert (await people.told("eve", "license", "get", LICENSE))["license"]["cadence"] == 86_400
    await people.does("ann", "license", "update", LICENSE, "--grace", "1h", "--reason", "amendment 2")

    listed = lines(await people.does("bob", "change", "list"))
    assert [line.split()[:4:3] for line in listed[1:]] == [["3", "s"], ["2", "s"]]
    page = lines(await people.does("bob", "change", "get", "2"))
    assert page[0] == "Change 2  OPEN"
    assert page[1].endswith("UTC): amendment 1")

    # Both were based on one revision: the second comes too late, and nothing of it is written.
    approved = await people.says("bob", "change", "approve", "2", "3", "--reason", "seen")
    assert approved.code == 1
    assert [line for line in lines(approved.out) if line.startswith("Change")] == [
        "Change 2  APPLIED",
        "Change 3  STALE",
    ]
    held = (await people.told("eve", "license", "get", LICENSE))["license"]
    assert (held["cadence"], held["grace"]) == (43_200, 21_600)
    assert (await people.told("bob", "change", "list"))["changes"] == []
    assert len((await people.told("bob", "change", "list", "--all"))["changes"]) == 3


async def test_changes_end_without_being_done(people: People) -> None:
    await deployed(people)
    numbers = [await people.proposed("ann", "license", "suspend", LICENSE, "--reason", "inquiry") for _ in range(2)]
    assert numbers == ["2", "3"]
    assert (await people.says("bob", "change", "withdraw", "2")).code == 4  # it is not his
    assert "WITHDRAWN" in await people.does("ann", "change", "withdraw", "2", "--reason", "a typo")
    assert (await people.says("ann", "change", "reject", "3", "--reason", "no")).code == 4
    assert "REJECTED" in await people.does("bob", "change", "reject", "3", "--reason", "no ground")
    again = await people.says("bob", "change", "approve", "3")
    assert (again.code, again.err) == (1, "trigpoint: changes/3 is REJECTED already\n")
    assert (await people.told("eve", "license", "get", LICENSE))["license"]["state"] == "ACTIVE"


async def test_a_license_is_suspended_revoked_and_never_active_again(people: People) -> None:
    await deployed(people)
    for command, state in (("suspend", "SUSPENDED"), ("activate", "ACTIVE"), ("revoke", "REVOKED")):
        await people.done_by_two("license", command, LICENSE, "--reason", command)
        assert (await people.told("eve", "license", "get", LICENSE))["license"]["state"] == state
        devices = (await people.told("eve", "device", "list"))["devices"]
        found = [finding["reason"] for device in devices for finding in device["findings"]]
        assert found == ([] if state == "ACTIVE" else [f"LICENSE_{state}"] * 2)
    said = await people.says("ann", "license", "activate", LICENSE, "--reason", "again")
    assert said.code == 2
    assert said.err.startswith(f"trigpoint: {LICENSE}: state: ")


async def test_devices_are_shipped_moved_swapped_and_returned(people: People) -> None:
    await deployed(people)
    other = f"{LICENSE}/singapore-2"
    await people.done_by_two(
        "site", "create", other, "--name", "Two", "--disc", "1.3,103.9,25", "--reason", "more room"
    )
    dates = "--shipped-on", "2026-12-03", "--activation-by", "2026-12-20"
    await people.done_by_two("shipment", "create", "s-77", ONE, TWO, "--to", SITE, *dates, "--reason", "waybill")
    assert lines(await people.does("eve", "shipment", "list"))[1].split() == ["s-77", SITE, "2026-12-03", "2026-12-20"]
    assert "activation by  2026-12-20, that day included" in lines(await people.does("eve", "shipment", "get", "s-77"))

    boards = "--switch", "7700c1d2e3f40516", "--switch", "0x7700C1D2E3F40517"
    await people.done_by_two("deployment", "swap", ONE, *boards, "--until", "2035-12-31", "--reason", "RMA 4711")
    await people.done_by_two("deployment", "move", TWO, "--to", other, "--reason", "more room")
    assert lines(await people.does("eve", "deployment", "list")) == [
        "DEVICE            SITE                  SHIPMENT  NOTE",
        f"{ONE}  {SITE}  s-77      swap",
        f"{TWO}  {other}",
    ]
    assert lines(await people.does("eve", "deployment", "get", ONE))[3:5] == [
        "swap      to 7700c1d2e3f40516, 7700c1d2e3f40517 until 2035-12-31, that day",
        "          included",
    ]
    await people.done_by_two("deployment", "return", TWO, "--reason", "scrapped")
    gone = await people.says("eve", "deployment", "get", TWO)
    assert gone.code == 1
    told = await people.does("ann", "history", f"deployments/{TWO}")
    assert [line.strip() for line in lines(told) if line.startswith("  ")] == [
        "why: scrapped",
        "ended",
        "why: more room",
        f"site: {SITE} -> {other}",
        "shipment: s-77 -> nothing",
        "why: waybill",
        "shipment: nothing -> s-77",
        "why: application 2026/118",
        f"site: {SITE}",
    ]
    assert " ".join(told.split()).count(", ann, approved by bob") == 3


async def test_maintenance(people: People) -> None:
    await deployed(people)
    span = "--from", "2035-01-08T08:00:00+08:00", "--until", "2035-01-09"
    await people.done_by_two("maintenance", "plan", "ups", "--where", SITE, *span, "--reason", "UPS")
    assert lines(await people.does("eve", "maintenance", "list", "--license", LICENSE)) == [
        "WINDOW  WHERE                 FROM, UTC         UNTIL             WHY",
        f"ups     {SITE}  2035-01-08 00:00  2035-01-10 00:00  UPS",
    ]
    for begins, ends, field in (("2026-01-08", "2026-01-09", "starts_at"), ("2035-01-08", "2035-01-22", "ends_at")):
        span = "--from", begins, "--until", ends
        said = await people.says("ann", "maintenance", "plan", "no", "--where", LICENSE, *span, "--reason", "UPS")
        assert said.code == 2
        assert said.err.startswith(f"trigpoint: no: {field}: ")
    await people.done_by_two("maintenance", "update", "ups", "--until", "2035-01-08", "--reason", "one day is enough")
    assert "ends at    2035-01-09" in lines(await people.does("eve", "maintenance", "get", "ups"))
    await people.done_by_two("maintenance", "cancel", "ups", "--reason", "called off")
    assert (await people.told("eve", "maintenance", "list"))["records"] == []


async def test_a_window_that_has_begun_ends_when_it_is_canceled(people: People) -> None:
    await deployed(people)
    now = datetime.now(UTC)
    span = "--from", now.isoformat(), "--until", (now + timedelta(hours=1)).isoformat()
    await people.done_by_two("maintenance", "plan", "ups", "--where", LICENSE, *span, "--reason", "UPS")
    await people.done_by_two("maintenance", "cancel", "ups", "--reason", "called off")
    window = (await people.told("eve", "maintenance", "get", "ups"))["window"]
    assert datetime.fromisoformat(window["starts_at"]) == now
    assert now < datetime.fromisoformat(window["ends_at"]) < now + timedelta(minutes=1)


async def test_many_at_once(people: People, tmp_path: Path) -> None:
    for number in ("D-1", "D-2", "D-3"):
        await draft_license(people, number)
    await people.done_by_two("license", "activate", "--drafts", "--reason", "granted")
    states = await people.told("eve", "license", "list", "--state", "active", "--licensee", "Example Cloud")
    assert [entry["name"] for entry in states["records"]] == ["licenses/D-1", "licenses/D-2", "licenses/D-3"]
    said = await people.says("ann", "license", "activate", "--drafts", "--reason", "granted")
    assert (said.code, said.err) == (1, "trigpoint: no license is a draft\n")
    names = tmp_path / "names"
    names.write_text("D-1\n\n D-3 \n")
    await people.done_by_two("license", "suspend", "--file", str(names), "--reason", "inquiry")
    suspended = await people.told("eve", "license", "list", "--state", "suspended")
    assert [entry["name"] for entry in suspended["records"]] == ["licenses/D-1", "licenses/D-3"]
    page = await people.says("eve", "license", "list", "--limit", "2")
    assert page.err == "2 of 3 licenses; --all shows the rest\n"
    names.write_text("".join(f"{n:016x}\n" for n in range(1_001)))
    said = await people.says("ann", "deployment", "return", "--file", str(names), "--reason", "scrapped")
    assert (said.code, said.err) == (2, "trigpoint: 1,001 records; at most 1,000 at once\n")


async def test_boards_and_keys_fit_the_terminal(people: People) -> None:
    await draft_license(people)
    await people.does("ann", "site", "create", SITE, "--name", "One", "--disc", "1.3521,103.8198,25", *WHY)
    key = "3e1f0c22d85e9b01" * 4
    await people.does("ann", "deployment", "create", f"key-{key}", "board-7700c1d2e3f40516", "--to", SITE, *WHY)
    printed = lines(await people.does("eve", "deployment", "list"))
    assert printed[1:] == [
        f"board-7700c1d2e3f40516              {SITE}            0/8 seen",
        f"key-{key[:30]}  {SITE}            0/1 seen",
        key[30:],
    ]
    assert (await people.told("eve", "license", "get", LICENSE))["deployed_count"] == 9


async def test_expiring_licenses(people: People) -> None:
    await draft_license(people)
    assert (await people.told("eve", "license", "list", "--expiring", "30d"))["records"] == []
    # The console's clock is the machine's, so the license ends when it ends; 100 years hold any of them.
    assert len((await people.told("eve", "license", "list", "--expiring", "36500d"))["records"]) == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("license", "update", LICENSE), "nothing to change: give at least one option"),
        (("license", "update", LICENSE, "--presence", "here"), "--presence: no 'here'; there are site, country, "),
        (("license", "update", LICENSE, "--cadence", "24"), "--cadence must be a span such as 90s, 30min, 24h or 7d"),
        (("license", "update", LICENSE, "--valid-until", "2026-13-01"), "--valid-until must be a date (2026-07-01) or"),
        (("license", "update", LICENSE, "--party", "x:owner"), "--party: no 'owner'; there are licensee, consignee, "),
        (("license", "update", LICENSE, "--party", "nobody"), f"{LICENSE}: parties: parties/nobody is not on record"),
        (
            (
                "license",
                "activate",
            ),
            "name the licenses, or give --file",
        ),
        (("license", "activate", LICENSE, "--drafts"), "name the licenses, or give --file"),
        (("site", "create", SITE, "--name", "One"), "give --disc, --polygon or --country"),
        (
            ("site", "create", SITE, "--name", "One", "--disc", "1,2"),
            "--disc is LATITUDE,LONGITUDE,RADIUS_KM, not '1,2'",
        ),
        (
            ("site", "create", SITE, "--name", "1", "--country", "SG", "--disc", "1,2,3"),
            "--disc, --polygon and --country",
        ),
        (("site", "create", "singapore-1", "--name", "One", "--country", "SG"), "a site is named LICENSE/SITE, as "),
        (("deployment", "create", "xyz", "--to", SITE), "a deployment is named by a PDI (16 hex digits), key-KEYID or"),
        (("deployment", "create", "--to", SITE), "name the devices, or give --file"),
        (("deployment", "create", ONE, "--to", SITE), f"{ONE}: site: {asked.site_of(SITE)} is not on record"),
        (("change", "reject", "one"), "'one' is not a number of changes"),
    ],
)
async def test_what_cannot_be_used(people: People, arguments: Sequence[str], told: str) -> None:
    await draft_license(people)
    said = await people.says("ann", *arguments, "--reason", "why")
    assert said.code == 2
    assert said.err.startswith(f"trigpoint: {told}")
    assert said.err.count("\n") == 1


async def test_a_reason_is_asked_for(people: People) -> None:
    said = await people.says("ann", "party", "create", "example", "--name", "Example", "--reason", " ")
    assert (said.code, said.err) == (2, "trigpoint: --reason is needed: it stands in the record's history\n")
    assert (await people.told("eve", "party", "list"))["records"] == []


async def test_a_dry_run_writes_nothing(people: People) -> None:
    said = await people.does("ann", "party", "create", "example", "--name", "Example", *WHY, "--dry-run")
    assert said == "1 record would be written; nothing was\n"
    assert (await people.told("eve", "party", "list"))["records"] == []


async def test_a_record_stands_as_it_stood(people: People) -> None:
    await draft_license(people)
    drafted = (await people.told("eve", "license", "get", LICENSE))["revise_time"]
    await people.does("ann", "license", "update", LICENSE, "--quantity", "3", "--etag", "1", *WHY)
    stale = await people.says("ann", "license", "update", LICENSE, "--quantity", "4", "--etag", "1", *WHY)
    assert stale.code == 1
    then = await people.told("eve", "license", "get", LICENSE, "--as-of", drafted)
    assert (then["etag"], then["license"]["quantity"]) == ("1", 0)
    assert (await people.told("eve", "license", "get", LICENSE))["license"]["quantity"] == 3
    before = await people.says("eve", "license", "get", LICENSE, "--as-of", "2026-01-01")
    assert before.code == 1
    newest = (await people.told("ann", "history", "--limit", "1"))["revisions"]
    assert (newest[0]["before"]["license"]["quantity"], newest[0]["after"]["license"]["quantity"]) == (0, 3)
    some = await people.says("ann", "history", "--limit", "1")
    assert some.err == "1 revision; there are more, --limit shows them\n"


async def test_what_is_exported_can_be_imported(people: People, tmp_path: Path) -> None:
    await deployed(people)
    for name in ("all.csv", "all.json"):
        file = str(tmp_path / name)
        await people.does("eve", "deployment", "export", file)
        assert await people.does("ann", "deployment", "import", file, "--reason", "round trip") == (
            "2 rows: 0 created, 0 updated, 2 unchanged\n"
        )
        there = await people.says("eve", "deployment", "export", file)
        assert (there.code, there.err) == (2, f"trigpoint: {file} is there already\n")
    assert [row["device_pdi"] for row in json.loads((tmp_path / "all.json").read_text())] == [ONE, TWO]
    refused = await people.says("eve", "deployment", "export", str(tmp_path / "all.xml"))
    assert refused.code == 2
    unusable = await people.says("eve", "deployment", "export", str(tmp_path / "x.csv"), "--filter", 'colour = "red"')
    assert unusable.code == 2
    left = await asyncio.to_thread(lambda: [path.name for path in tmp_path.glob("*.csv*")])
    assert left == ["all.csv"]


async def test_a_file_that_touches_what_is_in_force_waits_as_a_whole(people: People, tmp_path: Path) -> None:
    await deployed(people)
    file = tmp_path / "all.csv"
    await people.does("eve", "deployment", "export", str(file))
    file.write_text(file.read_text().replace("86400", "43200"))
    said = lines(await people.does("ann", "deployment", "import", str(file), "--reason", "amendment 1"))
    assert said[0] == "2 rows: 0 would be created, 2 would be updated, 0 unchanged"
    assert said[-1] == "Change 2 waits for a second person: trigpoint change approve 2"
    await people.does("bob", "change", "approve", "2")
    assert (await people.told("eve", "license", "get", LICENSE))["license"]["cadence"] == 43_200


async def test_who_may_only_look(people: People) -> None:
    await deployed(people)
    for arguments in (
        ("party", "create", "x", "--name", "X", *WHY),
        ("license", "create", "D-9", *TERMS, *CLOCKS, "--presence", "site", *WHY),
        ("license", "suspend", LICENSE, *WHY),
        ("deployment", "return", ONE, *WHY),
        ("change", "list"),
        ("history",),
    ):
        said = await people.says("eve", *arguments)
        assert (said.code, said.out) == (4, "")
        assert said.err.startswith("trigpoint: not permitted: role viewer may not call ")

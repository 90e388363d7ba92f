"""One day at the desk, with real boards and agents: what docs/officers.md tells, done.

Officer ann proposes, approver bob approves, viewer eve looks. Every step is a command that people type, or a call that
a desk's own software makes. Two boards stand in Dallas: A under license D1234567, B under D7654321.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from trigpoint.v1 import (
    cases_pb2,
    cases_pb2_grpc,
    change_pb2,
    change_pb2_grpc,
    device_pb2,
    records_pb2,
    records_pb2_grpc,
)

from demo.world import LICENSEE, SHENZHEN
from firmware_stubs.client import BoardClient
from tests.scenarios.desk_proof import (
    audit_the_journal,
    come_back_from_an_old_copy,
    export_and_verify,
    hear_the_accused,
    split_the_view,
)
from tests.scenarios.desk_world import CADENCE_S, GRACE_S, HOME, Desk, desk_in, evidence_of, reasons
from tests.server.helpers import error_info, failure

LICENSE, OTHER, SITE = "D1234567", "D7654321", "D1234567/dallas-1"
PARTY = "zarvelin-hosting"
TERMS = {
    "licensee": LICENSEE,
    "valid_from": "2026-01-01",
    "valid_until": "2036-01-01",
    "cadence_s": str(CADENCE_S),
    "grace_s": str(GRACE_S),
}
APPLICATION = "--reason", "application 2026/118"

_LIST = """\
_id,source,type,name,alt_names
e1,Invented List,Entity,"Zarvelin Dynamics Co., Ltd.",Zarvelin Hosting LLC; ZD Optronics
e2,Invented List,Individual,"OLEGOVIN, Petrak",
"""


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_in(tmp_path) as built:
        yield built


@pytest.mark.timeout(400)
async def test_one_day_at_the_desk(desk: Desk) -> None:
    await register_landmarks(desk)
    await draft_a_license(desk)
    await import_what_is_packed(desk)
    await clear_the_hit(desk)
    drafted = datetime.now(UTC)
    await activate_with_two(desk)
    await ship_and_activate(desk)
    await maintain_without_alarm(desk)
    await fall_silent_and_come_back(desk)
    await move_a_gpu_to_another_board(desk)
    case = await carry_a_board_abroad(desk)
    await work_the_case(desk, case)
    await export_and_verify(desk, case)
    await tell_who_did_what(desk, drafted)
    await export_and_import(desk)
    await look_at_everything(desk)
    await audit_the_journal(desk)
    await come_back_from_an_old_copy(desk)
    await split_the_view(desk)
    assert desk.too_wide() == []


async def register_landmarks(desk: Desk) -> None:
    """Landmarks too take two people, and a viewer writes nothing."""
    file = desk.folder / "landmarks.json"
    assert (await desk.says("eve", "landmark", "import", file)).code == 4
    number = await desk.proposed("ann", "landmark", "import", file, "--reason", "surveyed")
    assert (await desk.told("ann", "landmark", "list"))["landmarks"] == []
    assert "OPEN" in await desk.does("ann", "change", "get", number)
    await desk.does("bob", "change", "approve", number)
    assert len((await desk.told("eve", "landmark", "list"))["landmarks"]) == 4


async def draft_a_license(desk: Desk) -> None:
    """A screening list comes in, a party that is called like somebody on it, and a draft that names the party."""
    (desk.folder / "list.csv").write_text(_LIST)
    said = await desk.does("ann", "screening", "import", desk.folder / "list.csv", "--version", "invented 1")
    assert said == "2 entries, 4 names: 0 hits new, 0 gone\n"
    refused = await desk.says("eve", "party", "create", PARTY, "--name", "Zarvelin Hosting", *APPLICATION)
    assert (refused.code, refused.out) == (4, "")
    await desk.does("ann", "party", "create", PARTY, "--name", "Zarvelin Hosting", "--country", "SG", *APPLICATION)
    await desk.does("ann", "party", "create", "holder", "--name", LICENSEE, *APPLICATION)
    validity = "--valid-from", TERMS["valid_from"], "--valid-until", TERMS["valid_until"]
    clocks = "--cadence", f"{CADENCE_S}s", "--grace", f"{GRACE_S}s"
    named = (
        "--licensee",
        LICENSEE,
        "--party",
        f"{PARTY}:end_user",
        "--party",
        "holder:licensee",
        "--quantity",
        "2",
        "--eccn",
        "4A090",
    )
    created = await desk.says(
        "ann", "license", "create", LICENSE, *named, *validity, *clocks, "--presence", "site", *APPLICATION
    )
    assert created.code == 0, created
    assert PARTY in created.err  # a note tells of the open hit
    region = f"{HOME},1000"
    said = await desk.does("ann", "site", "create", SITE, "--name", "Dallas 1", "--disc", region, *APPLICATION)
    assert f"{SITE}, site: provable" in said


async def import_what_is_packed(desk: Desk) -> None:
    """The exporter's rows are drafted from what the boards sign: board A's GPUs by PDI, board B as a board."""
    disc = {"site_latitude": str(HOME.latitude), "site_longitude": str(HOME.longitude), "site_radius_km": "1000"}
    for key, by, columns in (
        ("A", "pdi", {"license_number": LICENSE, "presence": "site", "site_name": "Dallas 1", **disc}),
        ("B", "board", {"license_number": OTHER, "presence": "country", "country": "US"}),
    ):
        evidence, rows = desk.folder / f"evidence-{key}.json", desk.folder / f"rows-{key}.csv"
        evidence.write_text(await evidence_of(BoardClient(desk.stage.socket(key))))
        given = [part for entry in {**columns, **TERMS}.items() for part in ("--set", "=".join(entry))]
        root = desk.folder / "vendor" / "root.pem"
        await desk.does("ann", "deployment", "draft", evidence, "--root", root, "--by", by, *given, "-o", rows)
        count = len(gpus(desk, key)) if by == "pdi" else 1
        tried = await desk.told("ann", "deployment", "import", rows, "--dry-run")
        done = await desk.told("ann", "deployment", "import", rows, "--reason", "packing list 77")
        assert (tried["created_count"], done["created_count"], done["change"]) == (count, count, None)
    assert (await desk.told("eve", "license", "list", "--state", "draft"))["total_size"] == 2
    assert (await desk.told("eve", "license", "get", LICENSE))["deployed_count"] == 2
    assert desk.devices == {}  # a draft licenses nothing


async def clear_the_hit(desk: Desk) -> None:
    """No license comes into force while a hit is open; an officer clears it, with a reason."""
    refused = await desk.says("ann", "license", "activate", LICENSE, "--reason", "granted")
    assert refused.code == 1
    assert PARTY in refused.err
    async with desk.channel("ann") as channel:
        active = records_pb2.License(state=records_pb2.LICENSE_STATE_ACTIVE)
        record = records_pb2.Record(name=f"licenses/{LICENSE}", license=active)
        write = records_pb2.RecordWrite(record=record, update_mask=FieldMask(paths=["state"]))
        request = records_pb2.WriteRecordsRequest(writes=[write], reason="granted")
        denied = await failure(records_pb2_grpc.RecordServiceStub(channel).WriteRecords(request))
    assert denied.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error_info(denied).reason == "SCREENING_HITS_OPEN"

    (hit,) = (await desk.told("eve", "screening", "list", "--party", PARTY))["hits"]
    assert (hit["state"], hit["matched"]) == ("OPEN", "Zarvelin Hosting LLC")
    name = hit["name"].removeprefix("screeningHits/")
    assert name in await desk.does("eve", "screening", "list")
    other_firm = "--reason", "another firm: founded 2019 in Singapore"
    assert (await desk.says("eve", "screening", "clear", name, *other_firm)).code == 4
    assert (await desk.says("ann", "screening", "clear", name)).code == 2  # without a reason
    assert "CLEARED" in await desk.does("ann", "screening", "clear", name, *other_firm)


async def activate_with_two(desk: Desk) -> None:
    """Ann proposes; she cannot approve under another role, and bob can."""
    number = await desk.proposed("ann", "license", "activate", LICENSE, OTHER, "--reason", "granted")
    assert (await desk.says("ann", "change", "approve", number)).code == 4  # an officer approves nothing
    refused = await desk.says("Ann", "change", "approve", number)
    assert (refused.code, refused.out) == (4, "")
    async with desk.channel("Ann") as channel:
        request = change_pb2.ApproveChangesRequest(names=[f"changes/{number}"])
        denied = await failure(change_pb2_grpc.ChangeServiceStub(channel).ApproveChanges(request))
    assert denied.code() is grpc.StatusCode.PERMISSION_DENIED
    assert error_info(denied).reason == "FOUR_EYES"
    assert (await desk.told("eve", "license", "get", LICENSE))["license"]["state"] == "DRAFT"
    assert number in await desk.does("bob", "change", "list")
    assert "APPLIED" in await desk.does("bob", "change", "approve", number, "--reason", "checked against the file")
    assert (await desk.told("eve", "license", "get", LICENSE))["license"]["state"] == "ACTIVE"
    await desk.until(lambda devices: devices.keys() == set(gpus(desk, "A")))  # B's GPU is unknown until it reports


async def ship_and_activate(desk: Desk) -> None:
    """A shipment brings the GPUs of board A; their first report, and board B's, activates them."""
    today = datetime.now(UTC).date()
    tomorrow = today + timedelta(days=1)
    dates = "--shipped-on", str(today), "--activation-by", str(tomorrow)
    await desk.done_by_two(
        "shipment", "create", "s-77", *gpus(desk, "A"), "--to", SITE, *dates, "--reason", "waybill 618-1234"
    )
    shipped = await desk.told("eve", "deployment", "list", "--license", LICENSE)
    assert [entry["deployment"]["shipment"] for entry in shipped["records"]] == ["shipments/s-77"] * 2
    for pdi in gpus(desk, "A"):
        assert desk.devices[pdi].standing == device_pb2.STANDING_UNPROVEN
        assert not desk.devices[pdi].HasField("last_report_time")

    await desk.stage.start_agents()
    everybody = {*gpus(desk, "A"), *gpus(desk, "B")}
    await desk.until(lambda devices: devices.keys() == everybody and all(map(is_compliant, devices.values())))
    (adopted,) = gpus(desk, "B")
    assert desk.devices[adopted].license_number == OTHER
    boards = await desk.told("eve", "deployment", "list", "--license", OTHER)
    assert sorted(entry["deployment"]["adopted"] for entry in boards["records"]) == [0, 1]


async def maintain_without_alarm(desk: Desk) -> None:
    """Board A is switched off in a planned window. Board B, off at the same time without one, is flagged."""
    await plan_maintenance(desk, "ups", SITE)
    (control,) = gpus(desk, "B")
    await desk.stage.stop_agent("A")
    last = max(reported(desk, pdi) for pdi in gpus(desk, "A"))
    await desk.until(lambda _: reported(desk, control) > last)
    await desk.stage.stop_agent("B")
    # B's clock began to run after A's, under the same cadence and grace: when B is silent, A would have been.
    await desk.until(lambda devices: reasons(devices[control]) == {"SILENT"})
    for pdi in gpus(desk, "A"):
        assert is_compliant(desk.devices[pdi])
    (case,) = await desk.until_told(lambda: cases(desk), bool)
    assert (case["event"], case["license_number"], case["device_count"]) == ("SILENT_SITE", OTHER, 1)


async def fall_silent_and_come_back(desk: Desk) -> None:
    """The window is cut short, so board A's clock runs, until its GPUs are silent: one case. Then all return."""
    await desk.done_by_two("maintenance", "cancel", "ups", "--reason", "the work is called off")
    await desk.until(lambda devices: all(reasons(devices[pdi]) == {"SILENT"} for pdi in gpus(desk, "A")))
    found = await desk.until_told(lambda: cases(desk), lambda found: [c["device_count"] for c in found] == [1, 2])
    assert [(case["event"], case["severity"], case["state"]) for case in found] == [
        ("SILENT_SITE", "VIOLATION", "OPEN"),
        ("SILENT_SITE", "VIOLATION", "OPEN"),
    ]
    assert found[1]["site"] == "licenses/D1234567/sites/dallas-1"
    await desk.stage.start_agents()
    await desk.until(lambda devices: all(map(is_compliant, devices.values())))
    await desk.until_told(lambda: cases(desk), lambda found: all(case["quiet_since"] for case in found))
    numbers = [case["name"].removeprefix("cases/") for case in found]
    assert (await desk.does("ann", "case", "resolve", *numbers, "--reason", "UPS work")).count("RESOLVED") == 2


async def move_a_gpu_to_another_board(desk: Desk) -> None:
    """A GPU of board A is repaired and comes back on board B. The swap is on record, so nobody is accused."""
    for window, where in (("rma-a", LICENSE), ("rma-b", OTHER)):
        await plan_maintenance(desk, window, where)
    moved = gpus(desk, "A")[1]
    switches = await switches_of(desk, "B")
    named = [part for pdi in switches for part in ("--switch", pdi)]
    until = str(datetime.now(UTC).date() + timedelta(days=2))
    await desk.done_by_two("deployment", "swap", moved, *named, "--until", until, "--reason", "RMA 4711")
    assert (await desk.told("eve", "deployment", "get", moved))["deployment"]["swap"]["switches"] == switches

    for key in "AB":
        await desk.stage.stop_agent(key)
        await desk.stage.switch_off(key)
    off = datetime.now(UTC)
    desk.stage.pull("a/gpu-1", "b/gpu-7")
    for key in "AB":
        await desk.stage.switch_on(key, HOME)
    await desk.stage.start_agents()
    await desk.until(
        lambda devices: all(reported(desk, pdi) > off and is_compliant(device) for pdi, device in devices.items())
    )
    assert desk.devices[moved].host_id == "server-b"
    assert (await desk.told("eve", "deployment", "get", moved))["deployment"]["swap"] is None  # it is done
    assert await cases(desk) == []


async def carry_a_board_abroad(desk: Desk) -> str:
    """Board A is carried to Shenzhen: its GPU breaks its license at once, and a case opens."""
    stays, moved = gpus(desk, "A")
    await desk.stage.move("A", SHENZHEN)
    await desk.until(lambda devices: "OUTSIDE_LICENSED_REGION" in reasons(devices[stays]))
    assert desk.devices[stays].standing == device_pb2.STANDING_VIOLATION
    assert is_compliant(desk.devices[moved])
    found = await desk.until_told(lambda: cases(desk, "--device", stays), bool)
    (case,) = [entry for entry in found if entry["event"] == "ELSEWHERE"]
    assert (case["severity"], case["state"], case["device_count"]) == ("VIOLATION", "OPEN", 1)
    return str(case["name"]).removeprefix("cases/")


async def work_the_case(desk: Desk, number: str) -> None:
    """Ann works it. While the finding is open she cannot resolve it; when the board is back, she says what it was."""
    assert (await desk.says("eve", "case", "acknowledge", number)).code == 4
    assert "ACKNOWLEDGED" in await desk.does("ann", "case", "acknowledge", number)
    await desk.does("ann", "case", "assign", number, "--to", "ann")
    await desk.does("ann", "case", "note", number, "--note", "called the site: a truck took it")
    assert "INVESTIGATING" in await desk.does("ann", "case", "investigate", number)
    too_early = await desk.says("ann", "case", "resolve", number, "--reason", "a mistake")
    assert too_early.code == 1
    devices = (await desk.told("ann", "case", "devices", number))["devices"]
    assert [(entry["device"], entry["reason"]) for entry in devices] == [
        (f"devices/{gpus(desk, 'A')[0]}", "OUTSIDE_LICENSED_REGION")
    ]

    await desk.stage.move("A", HOME)
    await desk.until_told(lambda: case_of(desk, number), lambda told: told["case"]["quiet_since"] is not None)
    await desk.until(lambda devices: is_compliant(devices[gpus(desk, "A")[0]]))
    await hear_the_accused(desk, number)
    resolved = await desk.does("ann", "case", "resolve", number, "--reason", "carried off by mistake, and back")
    assert "RESOLVED" in resolved
    told = await case_of(desk, number)
    assert (told["case"]["state"], told["case"]["assignee"]) == ("RESOLVED", "ann")
    assert told["case"]["resolution"] == "carried off by mistake, and back"
    kinds = [entry["kind"] for entry in told["story"]]
    assert kinds[:3] == ["LICENSED", "PROVEN", "BROKE"]
    assert [entry["by"] for entry in told["story"] if entry["kind"] in {"WORK", "NOTE"}] == ["ann"] * 5
    assert "ENDED" in kinds
    page = await desk.does("eve", "case", "get", number)
    assert "called the site: a truck took it" in page
    async with desk.channel("ann") as channel:
        request = cases_pb2.ListCasesRequest(filter='state = "RESOLVED"')
        listed = await cases_pb2_grpc.CaseServiceStub(channel).ListCases(request)
    assert f"cases/{number}" in [case.name for case in listed.cases]


async def tell_who_did_what(desk: Desk, drafted: datetime) -> None:
    """History names who, when and why; the license stands as it stood at any time."""
    assert (await desk.says("eve", "history")).code == 4  # viewers see no histories
    revisions = (await desk.told("ann", "history", f"licenses/{LICENSE}"))["revisions"]
    assert [(entry["by"], entry["approved_by"], entry["reason"]) for entry in revisions] == [
        ("ann", "bob", "granted"),
        ("ann", "", "application 2026/118"),
    ]
    assert revisions[0]["before"]["license"]["state"] == "DRAFT"
    assert revisions[0]["after"]["license"]["state"] == "ACTIVE"
    told = await desk.does("ann", "history", f"licenses/{LICENSE}")
    assert "approved by bob" in told
    assert "state: DRAFT -> ACTIVE" in told
    then = await desk.told("eve", "license", "get", LICENSE, "--as-of", drafted.isoformat())
    assert then["license"]["state"] == "DRAFT"
    everything = (await desk.told("ann", "history"))["revisions"]
    (adoption,) = [entry for entry in everything if entry["by"] == "trigpoint" and not entry["before"]]
    assert adoption["name"] == f"deployments/{gpus(desk, 'B')[0]}"


async def export_and_import(desk: Desk) -> None:
    """What is exported can be imported, and changes nothing."""
    for suffix in ("csv", "json"):
        file = desk.folder / f"all.{suffix}"
        await desk.does("eve", "deployment", "export", file)
        done = await desk.told("ann", "deployment", "import", file, "--reason", "round trip")
        counts = [done[f"{what}_count"] for what in ("row", "created", "updated", "unchanged", "error")]
        assert counts == [4, 0, 0, 4, 0]
        assert done["change"] is None
    assert (await desk.told("bob", "change", "list"))["changes"] == []


async def look_at_everything(desk: Desk) -> None:
    """Every list has what the day left, and fits the terminal."""
    for collection, count in (
        ("party", 2),
        ("license", 2),
        ("site", 2),
        ("deployment", 4),
        ("shipment", 1),
        ("maintenance", 3),
        ("device", 7),
        ("landmark", 4),
    ):
        said = await desk.says("eve", collection, "list")
        assert said.code == 0
        assert said.err.startswith(f"{count} "), said
    resolved = await desk.does("eve", "case", "list", "--state", "resolved")
    assert resolved.count("RESOLVED") == 3, resolved
    found = [*(await cases(desk)), *(await cases(desk, "--state", "resolved"))]
    listed = [await desk.told("eve", "case", "devices", case["name"]) for case in found]
    accused = {(entry["device"], entry["reason"]) for each in listed for entry in each["devices"]}
    # The GPU on another board was never accused of anything but silence.
    assert {reason for device, reason in accused if device.endswith(gpus(desk, "A")[1])} == {"SILENT"}


async def plan_maintenance(desk: Desk, window: str, where: str) -> None:
    """Plan a window that begins in a moment."""
    begins = datetime.now(UTC) + timedelta(seconds=1)
    span = "--from", begins.isoformat(), "--until", (begins + timedelta(hours=1)).isoformat()
    await desk.done_by_two("maintenance", "plan", window, "--where", where, *span, "--reason", "planned work")


async def cases(desk: Desk, *options: str) -> list[Mapping[str, Any]]:
    """Return the cases that are not resolved, the oldest first."""
    found: list[Mapping[str, Any]] = (await desk.told("eve", "case", "list", *options))["cases"]
    return sorted(found, key=lambda case: int(case["name"].removeprefix("cases/")))


async def case_of(desk: Desk, number: str) -> Mapping[str, Any]:
    """Return a case and its story."""
    told: Mapping[str, Any] = await desk.told("eve", "case", "get", number)
    return told


async def switches_of(desk: Desk, key: str) -> list[str]:
    """Return the PDIs of a board's switches."""
    devices = await BoardClient(desk.stage.socket(key)).devices()
    return sorted(device.pdi.hex() for device in devices if device.kind == "switch")


def gpus(desk: Desk, key: str) -> list[str]:
    """Return the PDIs of the GPUs that a board had at first, by slot."""
    return [device.pdi for device in desk.stage.devices.values() if device.server == key]


def reported(desk: Desk, pdi: str) -> datetime:
    """Return when a device reported last, as far as the server has told."""
    return desk.devices[pdi].last_report_time.ToDatetime(tzinfo=UTC)


def is_compliant(device: device_pb2.Device) -> bool:
    """Return whether nothing is found about a device."""
    return device.standing == device_pb2.STANDING_COMPLIANT and reasons(device) == set()

"""`trigpoint device` against a fake server."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable

import grpc
import pytest
from trigpoint.v1 import device_pb2, licensing_pb2, reason_pb2
from typer.testing import Result

from tests.console.helpers import FakeServices, finding, moved_device, quiet_device

Trigpoint = Callable[..., Result]


def test_list_is_readable_in_80_columns_and_cuts_no_pdi_or_reason(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.devices = [moved_device(1), quiet_device(2)]
    result = trigpoint("device", "list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in result.stdout
    assert lines[1].startswith("4100000000000001  VIOLATION   59 min  OUTSIDE_LICENSED_REGION ")
    assert "IN_PROHIBITED_DESTINATION" in lines[2]
    assert lines[3].startswith("4100000000000002  UNPROVEN    never")
    # The license folds, so its pieces make the whole number.
    assert "D-2026-000417-AMENDED" in "".join(line[65:].strip() for line in lines[1:3])
    assert result.stderr == "2 devices\n"


def test_list_shows_licensee_and_region_where_there_is_room(
    services: FakeServices, trigpoint: Trigpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    services.devices = [quiet_device(2)]
    assert re.search(r"never +D-1 +Acme +SG", trigpoint("device", "list").stdout)


def test_list_json_is_alone_on_stdout(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.devices = [moved_device(1), quiet_device(2)]
    listed = json.loads(trigpoint("device", "list", "--json").stdout)
    assert listed["total_size"] == 2
    first, second = listed["devices"]
    assert first["pdi"] == "4100000000000001"
    assert first["standing"] == "VIOLATION"
    assert first["device_key_id"] == "ab" * 32
    assert [entry["reason"] for entry in first["findings"]] == ["OUTSIDE_LICENSED_REGION", "IN_PROHIBITED_DESTINATION"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", first["last_report_time"])
    assert first["last_fix"]["discs"][0]["rtt_ns"] == 812_345
    assert second["last_report_time"] is None
    assert second["last_fix"] is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ""),
        (["--standing", "violation"], 'standing = "VIOLATION"'),
        (["--filter", 'license = "D-1"', "--standing", "SILENT"], 'license = "D-1" AND standing = "SILENT"'),
    ],
)
def test_filters(services: FakeServices, trigpoint: Trigpoint, arguments: list[str], expected: str) -> None:
    assert trigpoint("device", "list", *arguments).exit_code == 0
    assert services.list_requests[0].filter == expected


def test_an_unknown_standing_is_a_usage_error(services: FakeServices, trigpoint: Trigpoint) -> None:
    result = trigpoint("device", "list", "--standing", "lost")
    assert (result.exit_code, result.stdout) == (2, "")
    assert services.list_requests == []


def test_limit_and_all(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.devices = [quiet_device(number) for number in range(1_500)]
    result = trigpoint("device", "list", "--limit", "20")
    assert "20 of 1,500 devices; --all shows the rest" in result.stderr
    result = trigpoint("device", "list", "--all", "--json")
    assert len(json.loads(result.stdout)["devices"]) == 1_500


def test_get_tells_the_story(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.devices = [moved_device(1)]
    result = trigpoint("device", "get", "devices/4100000000000001")
    assert result.exit_code == 0
    assert max(map(len, result.stdout.splitlines())) <= 80
    story = " ".join(result.stdout.split())
    for part in (
        "GH100 A01 GSP BROM",
        "D-2026-000417-AMENDED, held by A Licensee",
        "Fremont data center, 50 km around",
        "OUTSIDE_LICENSED_REGION VIOLATION, for 7 min",
        "each put it more than 11,000 km from its region.",
        "shenzhen-a puts it within 122 km of itself",
        "shenzhen-a 0.812 123 11,034 not in licensed region",
        "device-ranged, by 4100000000000009 on its board",
        "not for accusation",
    ):
        assert part in story
    assert "\x1b" not in result.stdout, "a host id must not steer the terminal"


def test_firmware_is_not_known_until_a_device_has_reported(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.devices = [quiet_device(2), moved_device(3), moved_device(4)]
    services.devices[1].firmware = ""
    for number, told in ((2, "not known"), (3, "no reference values"), (4, "emulated-gpu-96.00.74")):
        story = trigpoint("device", "get", f"410000000000000{number}").stdout
        (line,) = [line for line in story.splitlines() if line.startswith("Firmware")]
        assert line.removeprefix("Firmware").strip() == told


def test_get_json(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.devices = [quiet_device(2)]
    assert json.loads(trigpoint("device", "get", "4100000000000002", "--json").stdout)["licensed_region"] == "SG"


@pytest.mark.parametrize(("pdi", "exit_code"), [("4100000000000077", 1), ("zz", 2), ("41", 2)])
def test_get_what_is_not_there(services: FakeServices, trigpoint: Trigpoint, pdi: str, exit_code: int) -> None:
    services.devices = [quiet_device(2)]
    result = trigpoint("device", "get", pdi)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, 4),
        (grpc.StatusCode.UNAUTHENTICATED, 4),
        (grpc.StatusCode.INVALID_ARGUMENT, 2),
        (grpc.StatusCode.FAILED_PRECONDITION, 1),
        (grpc.StatusCode.UNAVAILABLE, 3),
        (grpc.StatusCode.INTERNAL, 3),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 3),
    ],
)
def test_each_denial_is_one_line_and_a_code(
    services: FakeServices, trigpoint: Trigpoint, status: grpc.StatusCode, exit_code: int
) -> None:
    services.denial = (status, "said so")
    for command in (["device", "list"], ["device", "watch"], ["landmark", "list"]):
        result = trigpoint(*command)
        assert (result.exit_code, result.stdout) == (exit_code, "")
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith("trigpoint: ")


def _change(number: int, *devices: device_pb2.Device, left: tuple[str, ...] = ()) -> licensing_pb2.WatchDevicesResponse:
    return licensing_pb2.WatchDevicesResponse(devices=devices, left=left, change_number=number)


def test_watch_shows_changes_and_goes_on_after_a_break(
    services: FakeServices, trigpoint: Trigpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("console.devices.time.sleep", waits.append)
    good = quiet_device(1)
    good.standing = device_pb2.STANDING_COMPLIANT
    again = quiet_device(1)
    again.standing = device_pb2.STANDING_COMPLIANT
    again.change_number = 8  # it only reported again
    services.watched = [
        [_change(7, good)],
        [_change(8, again), _change(9, moved_device(1)), _change(10, left=("devices/4100000000000001",))],
    ]
    result = trigpoint("device", "watch", "--standing", "violation")
    assert result.exit_code == 4  # how the fake's script ends
    lines = [line[10:].strip() for line in result.stdout.splitlines()]  # the time aside
    assert lines == [
        "4100000000000001  COMPLIANT",
        "4100000000000001  VIOLATION   was COMPLIANT  OUTSIDE_LICENSED_REGION,",
        "IN_PROHIBITED_DESTINATION",
        "4100000000000001  matches no longer",
    ]
    assert [request.after_change_number for request in services.watch_requests] == [0, 7]
    assert services.watch_requests[0].filter == 'standing = "VIOLATION"'
    assert "trying again in 1 s" in result.stderr
    assert waits == [1.0]


def test_watch_ends_well_at_ctrl_c(services: FakeServices, target: str) -> None:
    services.hold_watch = True
    services.watched = [[_change(7, moved_device(1))]]
    command = [sys.executable, "-m", "console.cli", "device", "watch", "--json", "--server", target, "--plaintext"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["change_number"] == 7
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "", "")


def test_watch_json_is_one_object_a_line(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.watched = [[_change(7, moved_device(1)), _change(8, left=("devices/4100000000000001",))]]
    result = trigpoint("device", "watch", "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["devices"][0]["pdi"] == "4100000000000001"
    assert second == {"devices": [], "left": ["4100000000000001"], "change_number": 8, "read_time": None}


def test_json_gives_null_for_what_is_not_set(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.devices = [device_pb2.Device(name="devices/5000000000000001", kind=device_pb2.DEVICE_KIND_SWITCH)]
    printed = json.loads(trigpoint("device", "get", "5000000000000001", "--json").stdout)
    assert {name for name, value in printed.items() if value is not None} == {
        "pdi",
        "kind",
        "findings",
        "change_number",
    }


def test_a_switch_has_no_proof_to_show(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.devices = [device_pb2.Device(name="devices/5000000000000001", kind=device_pb2.DEVICE_KIND_SWITCH)]
    assert "Last proof" not in trigpoint("device", "get", "5000000000000001").stdout


def test_get_tells_each_sentence_once(services: FakeServices, trigpoint: Trigpoint) -> None:
    device = moved_device(1)
    device.licensed_region = "DE"
    for entry in device.findings:
        entry.detail = device.last_fix.explanation
    services.devices = [device]
    story = " ".join(trigpoint("device", "get", "4100000000000001").stdout.split())
    assert story.count("each alone exclude the licensed region") == 1
    assert story.count("(see above)") == 2
    assert "Licensed to be country DE" in story
    assert "Where it is" in story


def test_get_of_a_silent_device_tells_where_it_was(services: FakeServices, trigpoint: Trigpoint) -> None:
    device = moved_device(1)
    device.findings.append(finding(reason_pb2.REASON_SILENT, "no report for 59 min"))
    services.devices = [device]
    story = trigpoint("device", "get", "4100000000000001").stdout
    assert "Where it was, 59 min ago" in story
    assert "Where it is" not in story


def test_watch_says_when_nothing_matches(services: FakeServices, trigpoint: Trigpoint) -> None:
    services.watched = [[_change(7), _change(8)]]
    result = trigpoint("device", "watch")
    assert result.stderr.splitlines()[0] == "0 devices match; watching"
    assert result.stderr.count("watching") == 1

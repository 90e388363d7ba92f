"""`trigpoint device`: list, get, result, challenge, watch."""

import re
import time
from collections.abc import Iterator
from typing import Annotated

import grpc
import typer
from trigpoint.v1 import change_pb2, device_pb2, licensing_pb2

from console import as_json, render
from console.desk import CALL_TIMEOUT_S, Desk, with_desk
from console.device_result import DecodeOption, JwksOption, show_result
from console.exits import CommandError, ExitCode, from_rpc
from console.plain import plain
from console.record_render import waiting
from console.text import instant, plural

PAGE_SIZE = 1000
RECONNECT_FIRST_S = 1.0
RECONNECT_LONGEST_S = 30.0

_PDI = re.compile(r"(?:devices/)?(?:0x)?([0-9a-f]{16})", re.IGNORECASE)
_BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED, grpc.StatusCode.UNKNOWN)

app = typer.Typer(no_args_is_help=True, help="Licensed devices and how they stand.")

FilterOption = Annotated[
    str, typer.Option("--filter", help='For example: license = "X-1" AND finding = "SILENT".', show_default=False)
]
StandingOption = Annotated[
    str, typer.Option(help="Only these: compliant, unproven, silent, violation, unlicensed.", show_default=False)
]


@app.command("list")
@with_desk
def list_devices(
    desk: Desk,
    *,
    filter_: FilterOption = "",
    standing: StandingOption = "",
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 100,
    all_: Annotated[bool, typer.Option("--all", help="No limit.")] = False,
) -> None:
    """List devices in the order of their PDIs."""
    devices, total = _fetch(desk, _filter(filter_, standing), None if all_ else limit)
    if desk.json:
        desk.print_json({"devices": [as_json.device(device) for device in devices], "total_size": total})
        return
    if devices:
        desk.out.print(render.device_list(devices, desk.now, desk.out.width))
    shown = plural(total, "device") if len(devices) >= total else f"{len(devices):,} of {plural(total, 'device')}"
    desk.err.print(shown + ("" if len(devices) >= total else "; --all shows the rest"))


@app.command("get")
@with_desk
def get_device(desk: Desk, *, pdi: Annotated[str, typer.Argument(metavar="PDI", help="16 hex digits.")]) -> None:
    """Tell all about one device: identity, license, standing, findings with why, and what shows where it is."""
    request = licensing_pb2.GetDeviceRequest(name=_device_name(pdi))
    device = desk.licensing.GetDevice(request, timeout=CALL_TIMEOUT_S).device
    if desk.json:
        desk.print_json(as_json.device(device))
    else:
        desk.out.print(render.device_page(device, desk.now))


@app.command("result")
@with_desk
def result_of_device(
    desk: Desk,
    *,
    pdi: Annotated[str, typer.Argument(metavar="PDI", help="16 hex digits, or attestations/ and a challenge.")],
    decode: DecodeOption = False,
    jwks: JwksOption = None,
) -> None:
    """Print the newest attestation result that tells of a device: a signed JWT, for whoever relies on it."""
    name = pdi.strip().lower() if pdi.strip().startswith("attestations/") else _device_name(pdi)
    show_result(desk, name, jwks, decode=decode)


@app.command("challenge")
@with_desk
def challenge_devices(
    desk: Desk,
    *,
    pdis: Annotated[list[str], typer.Argument(metavar="PDI...", help="16 hex digits each.")],
    reason: Annotated[str, typer.Option(help="Why they must tell where they are now.", show_default=False)],
) -> None:
    """Propose to ask devices at once, beyond what their licenses ask. A second person approves."""
    request = licensing_pb2.ChallengeDevicesRequest(devices=map(_device_name, pdis), reason=reason)
    name = desk.licensing.ChallengeDevices(request, timeout=CALL_TIMEOUT_S).change
    change = desk.changes.GetChange(change_pb2.GetChangeRequest(name=name), timeout=CALL_TIMEOUT_S).change
    if desk.json:
        desk.print_json({"change": plain(change)})
    else:
        desk.out.print(waiting(change))


@app.command("watch")
@with_desk
def watch_devices(desk: Desk, *, filter_: FilterOption = "", standing: StandingOption = "") -> None:
    """Show devices as they stand, then each change of standing or findings, until Ctrl-C.

    With --json: one JSON object a line for everything that the server sends.
    """
    known: dict[str, device_pb2.Device] = {}
    first = True
    try:
        for response in _changes(desk, _filter(filter_, standing)):
            if first and not response.devices:
                desk.err.print("0 devices match; watching")
            first = False
            _show(desk, response, known)
    except KeyboardInterrupt:
        return


def _device_name(pdi: str) -> str:
    match = _PDI.fullmatch(pdi.strip())
    if match is None:
        raise CommandError(ExitCode.UNUSABLE, f"a PDI is 16 hex digits, not {pdi!r}")
    return f"devices/{match[1].lower()}"


def _filter(expression: str, standing: str) -> str:
    if not standing:
        return expression
    name = standing.upper()
    if f"STANDING_{name}" not in device_pb2.Standing.keys() or name == "UNSPECIFIED":  # noqa: SIM118  # no mapping
        raise CommandError(ExitCode.UNUSABLE, f"no standing is called {standing!r}")
    clause = f'standing = "{name}"'
    return f"{expression} AND {clause}" if expression.strip() else clause


def _fetch(desk: Desk, expression: str, limit: int | None) -> tuple[list[device_pb2.Device], int]:
    """Return devices page by page up to the limit, and how many match in all."""
    devices: list[device_pb2.Device] = []
    token = ""
    while True:
        wanted = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - len(devices))
        request = licensing_pb2.ListDevicesRequest(page_size=wanted, page_token=token, filter=expression)
        page = desk.licensing.ListDevices(request, timeout=CALL_TIMEOUT_S)
        devices.extend(page.devices)
        token = page.next_page_token
        if not token or (limit is not None and len(devices) >= limit):
            return devices, page.total_size


def _changes(desk: Desk, expression: str) -> Iterator[licensing_pb2.WatchDevicesResponse]:
    """Yield what the server sends; after a break go on from the last change. Only the first connection may fail."""
    cursor = 0
    delay_s = RECONNECT_FIRST_S
    connected = False
    while True:
        request = licensing_pb2.WatchDevicesRequest(filter=expression, after_change_number=cursor)
        call = desk.licensing.WatchDevices(request)
        try:
            for response in call:
                connected = True
                delay_s = RECONNECT_FIRST_S
                cursor = max(cursor, response.change_number)
                yield response
        except grpc.RpcError as error:
            if not connected or not isinstance(error, grpc.Call) or error.code() not in _BROKEN:
                raise
            reason = from_rpc(error, desk.target).message
        else:
            reason = f"{desk.target}: the server ended the stream"
        finally:
            call.cancel()
        desk.err.print(f"trigpoint: {reason}; trying again in {delay_s:g} s")
        time.sleep(delay_s)
        delay_s = min(delay_s * 2, RECONNECT_LONGEST_S)


def _show(desk: Desk, response: licensing_pb2.WatchDevicesResponse, known: dict[str, device_pb2.Device]) -> None:
    if desk.json:
        desk.print_json(
            {
                "devices": [as_json.device(device) for device in response.devices],
                "left": [as_json.pdi_of(name) for name in response.left],
                "change_number": response.change_number,
                "read_time": as_json.time_of(response, "read_time"),
            },
            one_line=True,
        )
        return
    read_at = instant(response.read_time)
    for device in response.devices:
        before = known.get(device.name)
        known[device.name] = device
        if before is None or _stands(before) != _stands(device):
            desk.out.print(render.change_line(device, before, read_at))
    for name in response.left:
        known.pop(name, None)
        desk.out.print(f"{read_at:%H:%M:%S}  {as_json.pdi_of(name)}  matches no longer")


def _stands(device: device_pb2.Device) -> tuple[int, frozenset[int]]:
    return device.standing, frozenset(finding.reason for finding in device.findings)

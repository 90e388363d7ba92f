"""`trigpoint deployment`: which devices are where, their moves, returns and swaps. Import stands in deployments.py."""

from pathlib import Path
from typing import Annotated

import typer
from trigpoint.v1 import records_pb2

from console import asked, records
from console.deployments import import_deployments
from console.desk import UPLOAD_TIMEOUT_S, Desk, with_desk
from console.draft import draft
from console.exits import CommandError, ExitCode
from console.records import AllOption, AsOfOption, DryRunOption, FilterOption, LimitOption, ReasonOption
from console.text import plural

DevicesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[DEVICE]...", help="PDIs; or key-KEYID, board-PDI.")
]
FileOption = Annotated[Path | None, typer.Option("--file", help="Devices, one a line, instead.")]
WhereOption = Annotated[str, typer.Option("--to", help="LICENSE/SITE.", show_default=False)]

app = typer.Typer(no_args_is_help=True, help="Deployments: which devices are licensed to which site.")
app.command("import")(import_deployments)
app.command("draft")(draft)


@app.command("list")
@with_desk
def list_(
    desk: Desk,
    *,
    license_: Annotated[str, typer.Option("--license", help="Of this license.", show_default=False)] = "",
    site: Annotated[str, typer.Option("--site", help="At the site of this id.", show_default=False)] = "",
    filter_: FilterOption = "",
    limit: LimitOption = 100,
    all_: AllOption = False,
) -> None:
    """List deployments, drafts included."""
    expression = asked.joined(("license", license_), ("site", site), extra=filter_)
    records.show_list(desk, records_pb2.RECORD_KIND_DEPLOYMENT, "deployment", expression, None if all_ else limit)


@app.command("get")
@with_desk
def get(desk: Desk, *, device: Annotated[str, typer.Argument(metavar="DEVICE")], as_of: AsOfOption = "") -> None:
    """Tell all about one deployment."""
    records.show(desk, records.fetch(desk, asked.deployment_of(device), as_of))


@app.command("create")
@with_desk
def create(
    desk: Desk,
    *,
    devices: DevicesArgument = None,
    file: FileOption = None,
    to: WhereOption,
    reason: ReasonOption,
    board_devices: Annotated[int, typer.Option(min=1, max=64, help="With board-...: GPUs on it.")] = 8,
    dry_run: DryRunOption = False,
) -> None:
    """Deploy devices to a site of a license."""
    writes = []
    for name in _names(devices, file):
        count = board_devices if name.startswith("deployments/board-") else 0
        held = records_pb2.Deployment(site=asked.site_of(to), devices=count)
        writes.append(records.created(name, "deployment", held))
    records.write(desk, writes, reason, dry_run=dry_run)


@app.command("move")
@with_desk
def move(
    desk: Desk,
    *,
    devices: DevicesArgument = None,
    file: FileOption = None,
    to: WhereOption,
    shipment: Annotated[str, typer.Option(help="That brings them.", show_default=False)] = "",
    reason: ReasonOption,
    dry_run: DryRunOption = False,
) -> None:
    """Transfer devices to another site or license. Their history stays, their clocks start again."""
    held = records_pb2.Deployment(site=asked.site_of(to), shipment=f"shipments/{shipment}" if shipment else "")
    writes = [records.updated(name, "deployment", held, ["site", "shipment"]) for name in _names(devices, file)]
    records.write(desk, writes, reason, dry_run=dry_run)


@app.command("return")
@with_desk
def return_(
    desk: Desk,
    *,
    devices: DevicesArgument = None,
    file: FileOption = None,
    reason: ReasonOption,
    dry_run: DryRunOption = False,
) -> None:
    """End deployments: devices that went back or were scrapped. If they report again, they are unknown."""
    records.write(desk, [records.ended(name) for name in _names(devices, file)], reason, dry_run=dry_run)


@app.command("swap")
@with_desk
def swap(
    desk: Desk,
    *,
    devices: DevicesArgument = None,
    file: FileOption = None,
    switches: Annotated[list[str], typer.Option("--switch", help="PDI of a switch of the new board. Repeatable.")],
    until: Annotated[str, typer.Option(help="By when: a date or time.", show_default=False)],
    reason: ReasonOption,
    dry_run: DryRunOption = False,
) -> None:
    """Record that devices will be joined to another board (RMA), so that it is no BOARD_CHANGED."""
    pdis = [asked.deployment_of(switch).removeprefix("deployments/") for switch in switches]
    held = records_pb2.Deployment(swap=records_pb2.BoardSwap(switches=pdis))
    held.swap.until.CopyFrom(asked.moment(until, "--until", end_of_day=True))
    writes = [records.updated(name, "deployment", held, ["swap"]) for name in _names(devices, file)]
    records.write(desk, writes, reason, dry_run=dry_run)


@app.command("export")
@with_desk
def export(
    desk: Desk,
    *,
    file: Annotated[Path, typer.Argument(help=".csv or .json; it must not exist.")],
    license_: Annotated[str, typer.Option("--license", help="Of this license.", show_default=False)] = "",
    filter_: FilterOption = "",
) -> None:
    """Write deployments as a file that `deployment import` takes back."""
    if file.suffix.lower() not in {".csv", ".json"}:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: neither .csv nor .json")
    expression = asked.joined(("license", license_), extra=filter_)
    request = records_pb2.ExportDeploymentsRequest(filter=expression, json=file.suffix.lower() == ".json")
    part = file.with_name(f"{file.name}.part")
    size = 0
    try:
        with file.open("xb"), part.open("wb") as written:
            for response in desk.records.ExportDeployments(request, timeout=UPLOAD_TIMEOUT_S):
                size += written.write(response.data)
        part.replace(file)
    except FileExistsError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file} is there already") from error
    except OSError as error:
        raise CommandError(ExitCode.UNUSABLE, f"{file}: {error.strerror}") from error
    except BaseException:
        file.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
        raise
    desk.err.print(f"{file}: {plural(size, 'byte')}")


def _names(devices: list[str] | None, file: Path | None) -> list[str]:
    if bool(devices) == (file is not None):
        raise CommandError(ExitCode.UNUSABLE, "name the devices, or give --file")
    return [asked.deployment_of(device) for device in (records.lines_of(file) if file else devices or ())]

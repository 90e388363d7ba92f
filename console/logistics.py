"""`trigpoint shipment` and `trigpoint maintenance`: what is under way, and when nobody need report."""

from typing import Annotated

import typer
from trigpoint.v1 import records_pb2

from console import asked, records
from console.desk import Desk, with_desk
from console.records import AllOption, AsOfOption, DryRunOption, FilterOption, LimitOption, ReasonOption
from console.text import instant

shipments = typer.Typer(no_args_is_help=True, help="Shipments: devices under way, and by when they must report.")
maintenance = typer.Typer(no_args_is_help=True, help="Planned time in which devices need neither report nor be proven.")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="1 to 63 of a-z, 0-9 and -.")]
LicenseOption = Annotated[str, typer.Option("--license", help="Of this license.", show_default=False)]


@shipments.command("create")
@with_desk
def ship(
    desk: Desk,
    *,
    shipment: IdArgument,
    devices: Annotated[
        list[str] | None, typer.Argument(metavar="[DEVICE]...", help="Deployed devices that it brings.")
    ] = None,
    to: Annotated[str, typer.Option("--to", help="LICENSE/SITE.", show_default=False)],
    shipped_on: Annotated[str, typer.Option(help="Date or time.", show_default=False)],
    activation_by: Annotated[str, typer.Option(help="When they must have reported.", show_default=False)],
    reason: ReasonOption,
    reference: Annotated[str, typer.Option(help="Waybill or the like.", show_default=False)] = "",
    dry_run: DryRunOption = False,
) -> None:
    """Record a shipment, and the deployments that it brings."""
    site, name = asked.site_of(to), f"shipments/{shipment}"
    held = records_pb2.Shipment(site=site, reference=reference)
    held.shipped_at.CopyFrom(asked.moment(shipped_on, "--shipped-on"))
    held.activation_by.CopyFrom(asked.moment(activation_by, "--activation-by", end_of_day=True))
    brought = records_pb2.Deployment(site=site, shipment=name)
    writes = [records.created(name, "shipment", held)]
    writes += [
        records.updated(asked.deployment_of(device), "deployment", brought, ["site", "shipment"])
        for device in devices or ()
    ]
    records.write(desk, writes, reason, dry_run=dry_run)


@shipments.command("get")
@with_desk
def get_shipment(desk: Desk, *, shipment: IdArgument, as_of: AsOfOption = "") -> None:
    """Tell all about one shipment."""
    records.show(desk, records.fetch(desk, f"shipments/{shipment.removeprefix('shipments/')}", as_of))


@shipments.command("list")
@with_desk
def list_shipments(
    desk: Desk,
    *,
    license_: LicenseOption = "",
    filter_: FilterOption = "",
    limit: LimitOption = 100,
    all_: AllOption = False,
) -> None:
    """List shipments."""
    expression = asked.joined(("license", license_), extra=filter_)
    records.show_list(desk, records_pb2.RECORD_KIND_SHIPMENT, "shipment", expression, None if all_ else limit)


@maintenance.command("plan")
@with_desk
def plan(
    desk: Desk,
    *,
    window: IdArgument,
    where: Annotated[
        str,
        typer.Option(
            "--where",
            help="LICENSE/SITE, or LICENSE (with / in its number, its name) for all its sites.",
            show_default=False,
        ),
    ],
    starts_at: Annotated[str, typer.Option("--from", help="Date or time.", show_default=False)],
    ends_at: Annotated[str, typer.Option("--until", help="Last day, or time; at most 14 days.", show_default=False)],
    reason: ReasonOption,
    dry_run: DryRunOption = False,
) -> None:
    """Plan maintenance: clocks stand still in it. Of a license in force a second person approves."""
    scope = asked.site_of(where) if "/" in where.removeprefix("licenses/") else asked.license_of(where)
    held = records_pb2.MaintenanceWindow(scope=scope, reason=reason)
    held.starts_at.CopyFrom(asked.moment(starts_at, "--from"))
    held.ends_at.CopyFrom(asked.moment(ends_at, "--until", end_of_day=True))
    name = f"maintenanceWindows/{window}"
    records.write(desk, [records.created(name, "window", held)], reason, dry_run=dry_run)


@maintenance.command("update")
@with_desk
def update(
    desk: Desk,
    *,
    window: IdArgument,
    starts_at: Annotated[str, typer.Option("--from", help="Date or time.", show_default=False)] = "",
    ends_at: Annotated[
        str, typer.Option("--until", help="Last day, or time; at most 14 days.", show_default=False)
    ] = "",
    reason: ReasonOption,
    dry_run: DryRunOption = False,
) -> None:
    """Change when maintenance begins or ends. What has passed cannot be changed."""
    held, paths = records_pb2.MaintenanceWindow(), []
    if starts_at:
        held.starts_at.CopyFrom(asked.moment(starts_at, "--from"))
        paths.append("starts_at")
    if ends_at:
        held.ends_at.CopyFrom(asked.moment(ends_at, "--until", end_of_day=True))
        paths.append("ends_at")
    records.write(desk, [records.updated(_window(window), "window", held, paths)], reason, dry_run=dry_run)


@maintenance.command("cancel")
@with_desk
def cancel(desk: Desk, *, window: IdArgument, reason: ReasonOption, dry_run: DryRunOption = False) -> None:
    """Cancel a window. One that has begun ends now: the time that has passed in it stays quiet."""
    name = _window(window)
    stands = records.fetch(desk, name).record
    if instant(stands.window.starts_at) > desk.now:
        change = records.ended(name, stands.etag)
    else:
        held = records_pb2.MaintenanceWindow()
        held.ends_at.FromDatetime(desk.now)
        change = records.updated(name, "window", held, ["ends_at"], stands.etag)
    records.write(desk, [change], reason, dry_run=dry_run)


@maintenance.command("get")
@with_desk
def get_window(desk: Desk, *, window: IdArgument, as_of: AsOfOption = "") -> None:
    """Tell all about one window."""
    records.show(desk, records.fetch(desk, _window(window), as_of))


@maintenance.command("list")
@with_desk
def list_windows(
    desk: Desk,
    *,
    license_: LicenseOption = "",
    filter_: FilterOption = "",
    limit: LimitOption = 100,
    all_: AllOption = False,
) -> None:
    """List maintenance windows."""
    expression = asked.joined(("license", license_), extra=filter_)
    records.show_list(desk, records_pb2.RECORD_KIND_WINDOW, "window", expression, None if all_ else limit)


def _window(text: str) -> str:
    return f"maintenanceWindows/{text.removeprefix('maintenanceWindows/')}"

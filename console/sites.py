"""`trigpoint site`: where devices under a license may be."""

from pathlib import Path
from typing import Annotated

import typer
from trigpoint.v1 import records_pb2

from console import asked, records
from console.desk import Desk, with_desk
from console.exits import CommandError, ExitCode
from console.records import AllOption, AsOfOption, DryRunOption, FilterOption, LimitOption, ReasonOption

app = typer.Typer(no_args_is_help=True, help="Sites: where devices under a license may be.")

SiteArgument = Annotated[str, typer.Argument(metavar="LICENSE/SITE", help="As D1234567/frankfurt-1.")]
TitleOption = Annotated[str, typer.Option("--name", help="Its name, for people.", show_default=False)]
DiscOption = Annotated[str, typer.Option("--disc", help="LATITUDE,LONGITUDE,RADIUS_KM.", show_default=False)]
PolygonOption = Annotated[Path | None, typer.Option("--polygon", help="GeoJSON geometry.", show_default=False)]
CountryOption = Annotated[str, typer.Option("--country", help="Code, or a group such as A:5.", show_default=False)]
AddressOption = Annotated[str, typer.Option(help="Free text.", show_default=False)]
JurisdictionOption = Annotated[
    str, typer.Option(help="Country whose officers may see it; else that of the region.", show_default=False)
]
LicenseOption = Annotated[str, typer.Option("--license", help="Of this license.", show_default=False)]


@app.command("create")
@with_desk
def create(
    desk: Desk,
    *,
    site: SiteArgument,
    name: TitleOption,
    reason: ReasonOption,
    disc: DiscOption = "",
    polygon: PolygonOption = None,
    country: CountryOption = "",
    address: AddressOption = "",
    jurisdiction: JurisdictionOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Add a site to a license, and say what landmarks can prove of it."""
    held, _ = _site(name, disc, polygon, country, address, jurisdiction)
    if held.WhichOneof("region") is None:
        raise CommandError(ExitCode.UNUSABLE, "give --disc, --polygon or --country")
    records.write(desk, [records.created(asked.site_of(site), "site", held)], reason, dry_run=dry_run)


@app.command("update")
@with_desk
def update(
    desk: Desk,
    *,
    site: SiteArgument,
    reason: ReasonOption,
    name: TitleOption = "",
    disc: DiscOption = "",
    polygon: PolygonOption = None,
    country: CountryOption = "",
    address: AddressOption = "",
    jurisdiction: JurisdictionOption = "",
    dry_run: DryRunOption = False,
) -> None:
    """Change a site. Of a license in force it changes once a second person approves."""
    held, paths = _site(name, disc, polygon, country, address, jurisdiction)
    records.write(desk, [records.updated(asked.site_of(site), "site", held, paths)], reason, dry_run=dry_run)


@app.command("get")
@with_desk
def get(desk: Desk, *, site: SiteArgument, as_of: AsOfOption = "") -> None:
    """Tell all about one site."""
    records.show(desk, records.fetch(desk, asked.site_of(site), as_of))


@app.command("list")
@with_desk
def list_(
    desk: Desk,
    *,
    license_: LicenseOption = "",
    filter_: FilterOption = "",
    limit: LimitOption = 100,
    all_: AllOption = False,
) -> None:
    """List sites."""
    expression = asked.joined(("license", license_), extra=filter_)
    records.show_list(desk, records_pb2.RECORD_KIND_SITE, "site", expression, None if all_ else limit)


def _site(
    name: str, disc: str, polygon: Path | None, country: str, address: str, jurisdiction: str
) -> tuple[records_pb2.Site, list[str]]:
    if sum((bool(disc), polygon is not None, bool(country))) > 1:
        raise CommandError(ExitCode.UNUSABLE, "--disc, --polygon and --country exclude each other")
    held = records_pb2.Site(title=name, address=address, jurisdiction=jurisdiction)
    given = {"title": name, "address": address, "jurisdiction": jurisdiction}
    paths = [path for path, value in given.items() if value]
    if disc:
        held.circle.CopyFrom(_circle(disc))
    if polygon is not None:
        try:
            held.polygon = polygon.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(ExitCode.UNUSABLE, f"{polygon}: {error}") from error
    if country:
        held.country = country
    region = held.WhichOneof("region")
    return held, [*paths, region] if region else paths


def _circle(text: str) -> records_pb2.SiteCircle:
    try:
        latitude, longitude, radius = map(float, text.split(","))
    except ValueError as error:
        raise CommandError(ExitCode.UNUSABLE, f"--disc is LATITUDE,LONGITUDE,RADIUS_KM, not {text!r}") from error
    return records_pb2.SiteCircle(latitude=latitude, longitude=longitude, radius_km=radius)
